/** Data of a recording by time, fetched a few seconds at a time around what is looked at. */
import { signal } from "@preact/signals";

const KEPT = 90;

export class Chunks<T> {
  private readonly chunks = new Map<number, T>();
  private readonly asked = new Map<number, number>();
  private generation = 0;
  /** Counts arrivals, so that what was drawn without data can be drawn again. */
  readonly arrived = signal(0);

  constructor(
    private readonly seconds: number,
    private readonly end: number,
    private readonly fetch: (start: number, end: number) => Promise<T>,
  ) {}

  /** What holds `time`, if it is there yet. It and the next are asked for. */
  at(time: number): T | undefined {
    const number = Math.max(0, Math.floor(time / this.seconds));
    this.want(number);
    this.want(number + 1);
    return this.chunks.get(number);
  }

  /** Ask for everything again; until it comes, the former is shown. */
  renew() {
    this.generation += 1;
    this.arrived.value += 1;
  }

  private want(number: number) {
    if (number * this.seconds > this.end || this.asked.get(number) === this.generation) return;
    const { generation } = this;
    this.asked.set(number, generation);
    this.fetch(number * this.seconds, (number + 1) * this.seconds).then(
      (chunk) => this.put(number, generation, chunk),
      // Asked for again a little later; that the server is away is told elsewhere.
      () => setTimeout(() => this.asked.get(number) === generation && this.asked.delete(number), 2000),
    );
  }

  private put(number: number, generation: number, chunk: T) {
    if (generation !== this.generation) return;
    this.chunks.delete(number);
    this.chunks.set(number, chunk);
    for (const oldest of this.chunks.keys()) {
      if (this.chunks.size <= KEPT) break;
      this.chunks.delete(oldest);
      this.asked.delete(oldest);
    }
    this.arrived.value += 1;
  }
}

/** The index of the last time that is not after `time`; −1 if there is none. Times ascend. */
export function lastUpTo(times: readonly number[], time: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The index of the time that is closest to `time`; −1 if there are none. */
export function closest(times: readonly number[], time: number): number {
  const before = lastUpTo(times, time);
  const after = before + 1;
  if (after >= times.length) return before;
  if (before < 0) return after;
  return (times[after] as number) - time < time - (times[before] as number) ? after : before;
}
