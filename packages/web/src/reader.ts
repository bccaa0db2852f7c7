/** Reads affect from faces in frames: finds them, follows them, reads each. */

import type { Bundle } from "./bundle.js";
import { loadBundle } from "./bundle.js";
import type { CropCard, DetectorCard } from "./card.js";
import { columnsOf, cropCard, detectorCard, familyOf } from "./card.js";
import { Detector } from "./detect.js";
import type { Device, Engine, EngineOptions } from "./engine.js";
import { openEngine } from "./engine.js";
import { MienError } from "./errors.js";
import type { Box, Point } from "./geometry.js";
import type { Scores } from "./model.js";
import { Model } from "./model.js";
import type { FrameSource, Raster } from "./picture.js";
import { FrameReader, rasterOf } from "./picture.js";
import { checkPoints, prepare, prepareCrop } from "./prepare.js";
import type { Quality } from "./quality.js";
import { isCovered, Judge } from "./quality.js";
import type { TrackedFace } from "./track.js";
import { Tracker } from "./track.js";

/** The expression of a face whose label is left open. */
export const UNCERTAIN = "uncertain";

/** The options of a reader; every one has a default. */
export interface ReaderOptions {
  /** The bundle that reads affect: a name in `bundles`, or the address of a folder. */
  readonly bundle?: string | URL;
  /** The bundle that finds faces. */
  readonly detector?: string | URL;
  /** The bundle that says how far readings can be trusted; `none` reads without, and faster. */
  readonly quality?: string | URL;
  /** The folder that names of bundles are looked up in; by default that of this package. */
  readonly bundles?: string | URL;
  /** The folder of ONNX Runtime's .wasm and .mjs files; by default beside its own script. */
  readonly runtime?: string | URL;
  /** Where networks run; `auto`: on WebGPU where it is there, agrees and is faster. */
  readonly device?: Device | "auto";
  /** Threads of WebAssembly; more than 1 need a page that is cross-origin isolated. */
  readonly threads?: number;
  /** Which faces of each frame to read: all, the largest, or how many of the largest. */
  readonly faces?: "all" | "largest" | number;
  /** Whether frames come as they happen: searches then take at most a fifth of the time. */
  readonly live?: boolean;
  /** Whether unsure labels, and action units of covered regions, are left out. */
  readonly abstain?: boolean;
}

/** What was read of one face in one frame. */
export interface Reading {
  /** The same number for the same face through one source, from 0. */
  readonly face: number;
  /** `doubtful`: its picture is so poor, covered or turned that the scores are doubtful. */
  readonly status: "ok" | "doubtful";
  /** x, y, width and height, px of the frame; may lie beyond it. */
  readonly box: Box;
  /** Eyes, tip of the nose, corners of the mouth, from left to right in the picture; px. */
  readonly points: readonly Point[];
  /** How sure the detector is that this is a face, 0..1. */
  readonly confidence: number;
  /** The likeliest expression, or `uncertain`; undefined where the bundle reads none. */
  readonly expression: string | undefined;
  /**
   * Scores by column: `expr_happiness` …, `valence`, `arousal`, `AU12` …; null where the region of
   * an action unit is covered.
   */
  readonly scores: Readonly<Record<string, number | null>>;
  /** By column: `quality`, `occlusion` …, `pose_yaw` …, `sharpness` …; undefined if not judged. */
  readonly quality: Quality | undefined;
}

/** A face that is cropped already. */
export interface Crop {
  readonly picture: FrameSource;
  /** Five points in px of the crop; without them the whole picture is taken as the face. */
  readonly points?: readonly Point[];
}

interface Parts {
  readonly detector: Engine;
  readonly search: DetectorCard["search"];
  readonly model: Model;
  readonly judge: Judge | undefined;
  readonly options: Required<Pick<ReaderOptions, "faces" | "live" | "abstain">>;
}

/**
 * Reads affect from pictures, films and cameras, in the browser or in Node. Nothing leaves the
 * device.
 *
 * @example
 * ```ts
 * const reader = await Reader.open({ bundle: "mien-xs" });
 * for (const { face, expression, scores } of await reader.read(video, video.currentTime)) {
 *   console.log(face, expression, scores.valence);
 * }
 * ```
 */
export class Reader {
  readonly #parts: Parts;
  readonly #frames = new FrameReader();
  #tracker: Tracker;
  #last = -Infinity;
  #busy = false;

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.#tracker = this.#newTracker();
  }

  /**
   * Loads the networks, verifies them, and makes them ready.
   *
   * @throws MienError - An option makes no sense, a bundle is missing or damaged, or cannot be run.
   */
  static async open(options: ReaderOptions = {}): Promise<Reader> {
    const { bundle = "mien-xs", detector = "mien-face", quality = "mien-quality" } = options;
    const { faces = "all", live = false, abstain = true } = options;
    const isCount = Number.isInteger(faces) && Number(faces) >= 1;
    if (faces !== "all" && faces !== "largest" && !isCount) {
      throw new MienError(`faces must be all, largest or a number from 1 up, got ${faces}`);
    }
    const base = folderOf(options.bundles ?? new URL("./bundles/", import.meta.url));
    const [finds, reads, judges] = await Promise.all([
      loadBundle(bundleFolder(detector, base), detectorCard),
      loadBundle(bundleFolder(bundle, base), (card, where) => cropCard(card, where, "affect")),
      quality === "none"
        ? undefined
        : loadBundle(bundleFolder(quality, base), (card, where) =>
            cropCard(card, where, "quality"),
          ),
    ]);
    const how = engineOptions(options);
    const { window } = finds.card.search;
    // A point that is a hundredth of a stride off changes no reading.
    const network = await openEngine(finds.network, [1, 1, window, window], 0.01, how);
    const model = await openModel(reads, how);
    const judge = judges && new Judge(await openModel(judges, how));
    return new Reader({
      detector: network,
      search: finds.card.search,
      model,
      judge,
      options: { faces, live, abstain },
    });
  }

  /** The card of the bundle that reads affect. */
  get card(): CropCard {
    return this.#parts.model.card;
  }

  /** Where each network runs. */
  get devices(): { readonly detector: Device; readonly bundle: Device; readonly quality?: Device } {
    const { detector, model, judge } = this.#parts;
    const devices = { detector: detector.device, bundle: model.device };
    return judge ? { ...devices, quality: judge.model.device } : devices;
  }

  /** The columns of its readings, in the order of mien's tables. */
  get columns(): readonly string[] {
    const plain = ["source", "frame", "time_s", "status", "face"];
    const box = ["box_x", "box_y", "box_w", "box_h", "confidence"];
    return [...plain, ...box, ...(this.#parts.judge?.columns ?? []), ...scoreColumns(this.card)];
  }

  /**
   * Reads the faces of a frame.
   *
   * @param source - The frame.
   * @param time - When it was, s, from any start; must not decrease. Left out, the frame is a
   *   picture by itself, and faces are numbered anew.
   * @returns One reading per face, lowest number first.
   * @throws MienError - The frame before is still being read, or this one has no pixels.
   */
  async read(source: FrameSource, time?: number): Promise<Reading[]> {
    if (this.#busy) throw new MienError("the frame before is still being read; await it first");
    if (time !== undefined && !(time >= this.#last)) {
      throw new MienError(
        `time ${time} comes before ${this.#last}, the last one; call restart() for another source`,
      );
    }
    this.#busy = true;
    try {
      const frame = rasterOf(this.#frames.read(source));
      if (time === undefined) this.restart();
      else this.#last = time;
      const faces = await this.#tracker.update(frame, time ?? 0);
      const readings = await this.#readings(frame, this.#chosen(faces));
      if (time === undefined) this.restart();
      return readings;
    } finally {
      this.#busy = false;
    }
  }

  /** Forgets all faces: what comes next is another source, and its numbers begin at 0. */
  restart(): void {
    this.#tracker = this.#newTracker();
    this.#last = -Infinity;
  }

  /**
   * Reads faces that are cropped already.
   *
   * @param crops - Pictures of one face each.
   * @returns Scores of each by task family, in the order of the card's names.
   */
  async score(crops: readonly Crop[]): Promise<Scores[]> {
    const { model } = this.#parts;
    const { pixels } = model.card;
    const prepared = crops.map(({ picture, points }) => {
      const frame = rasterOf(this.#frames.read(picture));
      if (!points) return prepareCrop(frame, pixels);
      checkPoints(points);
      if (!pixels.template) {
        throw new MienError(`${model.card.name} aligns by a box; leave the points out`);
      }
      return prepare(
        frame,
        { box: [0, 0, frame.width, frame.height], points, confidence: 1 },
        pixels,
      );
    });
    return model.score(prepared);
  }

  /** Frees the networks' memory; the reader cannot be used after. */
  async close(): Promise<void> {
    const { detector, model, judge } = this.#parts;
    await Promise.all([detector.close(), model.close(), judge?.model.close()]);
  }

  #newTracker(): Tracker {
    const { detector, search, options } = this.#parts;
    const network = async (input: Float32Array, shape: readonly number[]) =>
      (await detector.run(input, shape)).grid!;
    return new Tracker(new Detector(network, search), options.live);
  }

  /** The faces asked for, still in the order of their numbers. */
  #chosen(faces: readonly TrackedFace[]): TrackedFace[] {
    const { faces: choice } = this.#parts.options;
    if (choice === "all") return [...faces];
    const area = ({ box }: TrackedFace): number => box[2] * box[3];
    const largest = [...faces].sort((a, b) => area(b) - area(a));
    const kept = largest.slice(0, choice === "largest" ? 1 : choice);
    return faces.filter((face) => kept.includes(face));
  }

  async #readings(frame: Raster, faces: readonly TrackedFace[]): Promise<Reading[]> {
    const { model, judge } = this.#parts;
    if (!faces.length) return [];
    const scores = await model.score(faces.map((face) => prepare(frame, face, model.card.pixels)));
    const judged = await judge?.judge(frame, faces, scores);
    return faces.map((face, i) => this.#reading(face, scores[i]!, judged?.[i]));
  }

  #reading(face: TrackedFace, scores: Scores, quality: Quality | undefined): Reading {
    const { judge, options } = this.#parts;
    const doubtful = quality !== undefined && judge!.isDoubtful(quality);
    const byColumn: Record<string, number | null> = {};
    for (const task of this.card.tasks) {
      const family = familyOf(task);
      columnsOf(task).forEach((column, i) => {
        const hidden = options.abstain && family === "au" && quality && isCovered(column, quality);
        byColumn[column] = hidden ? null : scores[family]![i]!;
      });
    }
    const { track, box, points, confidence } = face;
    return {
      face: track,
      status: doubtful ? "doubtful" : "ok",
      box,
      points,
      confidence,
      expression: this.#expression(scores, doubtful),
      scores: byColumn,
      quality,
    };
  }

  #expression(scores: Scores, doubtful: boolean): string | undefined {
    const task = this.card.tasks.find((task) => familyOf(task) === "expr");
    if (!task) return undefined;
    const most = Math.max(...scores.expr!);
    const isOpen = doubtful || most < (this.card.uncertain_below ?? 0);
    return this.#parts.options.abstain && isOpen
      ? UNCERTAIN
      : task.names[scores.expr!.indexOf(most)];
  }
}

/** The columns of a bundle's scores, in the order of mien's tables. */
function scoreColumns(card: CropCard): string[] {
  const families = ["expr", "va", "au", "ce", "emi", "ah"];
  const tasks = families.flatMap((family) =>
    card.tasks.filter((task) => familyOf(task) === family),
  );
  return tasks.flatMap((task) => {
    const columns = columnsOf(task);
    return familyOf(task) === "expr" ? ["expression", ...columns] : columns;
  });
}

function engineOptions({ device = "auto", threads = 1, runtime }: ReaderOptions): EngineOptions {
  return { device, threads, runtime: runtime === undefined ? undefined : folderOf(runtime) };
}

async function openModel({ card, network }: Bundle<CropCard>, options: EngineOptions) {
  const { size, colour } = card.pixels;
  const shape = [1, colour === "grey" ? 1 : 3, size, size];
  return new Model(card, await openEngine(network, shape, card.tolerance, options));
}

/** A folder's address, which ends with a slash. */
function folderOf(folder: string | URL): URL {
  const base = globalThis.location?.href ?? import.meta.url;
  const url = new URL(folder, base);
  return url.pathname.endsWith("/") ? url : new URL(`${url.href}/`);
}

/** The folder of a bundle: names hold no slash and no colon, addresses do. */
function bundleFolder(bundle: string | URL, base: URL): URL {
  const isName = typeof bundle === "string" && !/[/:]/.test(bundle);
  return isName ? new URL(`${encodeURIComponent(bundle)}/`, base) : folderOf(bundle);
}
