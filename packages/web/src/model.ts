/** A network that reads crops of faces, with its card. */

import type { CropCard, Task } from "./card.js";
import { familyOf } from "./card.js";
import type { Engine } from "./engine.js";
import { MienError } from "./errors.js";
import { clip } from "./picture.js";
import type { Raster } from "./picture.js";
import { normalise } from "./prepare.js";

/** Scores by task family, in the order of the task's names. */
export type Scores = Readonly<Record<string, readonly number[]>>;

/** Reads crops. */
export class Model {
  readonly #engine: Engine;

  /**
   * @param card - The network's card.
   * @param engine - The network, ready to run.
   */
  constructor(
    readonly card: CropCard,
    engine: Engine,
  ) {
    this.#engine = engine;
  }

  /** What it runs on. */
  get device() {
    return this.#engine.device;
  }

  /**
   * Reads crops in one run.
   *
   * @param crops - RGB of the card's size, as `prepare` gives them.
   * @returns Scores of each crop.
   * @throws MienError - The network gives NaN or infinity, which are no scores.
   */
  async score(crops: readonly Raster[]): Promise<Scores[]> {
    if (!crops.length) return [];
    const { pixels, tasks, temperature } = this.card;
    const channels = pixels.colour === "grey" ? 1 : 3;
    const length = channels * pixels.size * pixels.size;
    const input = new Float32Array(crops.length * length);
    crops.forEach((crop, i) => {
      normalise(crop, pixels, input.subarray(i * length, (i + 1) * length));
    });
    const shape = [crops.length, channels, pixels.size, pixels.size];
    const raw = await this.#engine.run(input, shape);
    return crops.map((_, i) => {
      const rows = tasks.map((task): [string, number[]] => {
        const family = familyOf(task);
        const width = task.names.length;
        const numbers = raw[family]?.subarray(i * width, (i + 1) * width);
        if (numbers?.length !== width || !numbers.every(Number.isFinite)) {
          throw new MienError(
            `${this.card.name}: the network gives no numbers for ${task.key}; do not use it`,
          );
        }
        return [family, decode([...numbers], task, temperature[family] ?? 1)];
      });
      return Object.fromEntries(rows);
    });
  }

  /** Frees the network's memory. */
  async close(): Promise<void> {
    await this.#engine.close();
  }
}

/**
 * Turns raw numbers of a network into scores.
 *
 * @param raw - One number per name of the task.
 * @param task - The task.
 * @param temperature - By what the numbers are divided first.
 */
export function decode(raw: readonly number[], task: Task, temperature: number): number[] {
  const numbers = raw.map((number) => number / temperature);
  if (task.kind === "scalar") return numbers.map((number) => clip(number, task.low, task.high));
  if (task.kind === "any_of") return numbers.map(logistic);
  const most = Math.max(...numbers);
  const odds = numbers.map((number) => Math.exp(number - most));
  const sum = odds.reduce((total, odd) => total + odd, 0);
  return odds.map((odd) => odd / sum);
}

/** The logistic function, written so that it never overflows. */
export function logistic(number: number): number {
  return 0.5 * (1 + Math.tanh(number / 2));
}
