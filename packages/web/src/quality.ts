/** How far readings can be trusted: a network beside the one that reads affect, and measures. */

import type { CropCard } from "./card.js";
import { columnsOf, familyOf } from "./card.js";
import { signed } from "./geometry.js";
import type { Model, Scores } from "./model.js";
import { logistic } from "./model.js";
import type { Raster } from "./picture.js";
import { clip, lumaOf } from "./picture.js";
import type { Face, Pixels } from "./prepare.js";
import { cropMatrix, prepare } from "./prepare.js";

/** The columns of what is measured of each face, after those of the network's tasks. */
export const MEASURED = ["face_size", "sharpness", "light"] as const;

/** From this share on, a region counts as covered. */
const COVERED = 0.5;
/** Certainty would be infinite odds. */
const CERTAIN = 1e-6;
/** What rounding to whole numbers adds to the variance of a Laplacian. */
const ROUNDING = 20 / 12;
/** The ratio at which the sharpness is .5. */
const MIDDLE = 0.2;

/** The crop in which faces are measured: 40 px between the eyes. */
const MEASURED_PIXELS: Pixels = {
  size: 112,
  colour: "grey",
  alignment: "similarity5",
  template: [
    [0.321, 0.379],
    [0.679, 0.379],
    [0.5, 0.611],
    [0.352, 0.768],
    [0.648, 0.768],
  ],
  margin: 0,
  mean: [0],
  std: [1],
  resize: "area",
};

/** Where the regions of an action unit are: how much each counts, of the card's five regions. */
const REGIONS: readonly [readonly string[], readonly number[]][] = [
  [
    ["AU01", "AU02", "AU04"],
    [0, 0, 1, 0, 0],
  ],
  [
    ["AU05", "AU06", "AU07", "AU43", "AU45"],
    [0.5, 0.5, 0, 0, 0],
  ],
  [["AU09"], [0, 0, 0, 1, 0]],
  [
    ["AU10", "AU12", "AU14", "AU15", "AU16", "AU17", "AU18"].concat([
      "AU20",
      "AU22",
      "AU23",
      "AU24",
      "AU25",
      "AU26",
      "AU28",
    ]),
    [0, 0, 0, 0, 1],
  ],
];

/** What is judged and measured of a face, by column; null where it cannot be told. */
export type Quality = Readonly<Record<string, number | null>>;

/** Says how far readings can be trusted. */
export class Judge {
  /** @param model - A network of quality tasks. */
  constructor(readonly model: Model) {}

  /** The columns of its judgements, in the order of mien's tables. */
  get columns(): string[] {
    return [...qualityColumns(this.model.card), ...MEASURED];
  }

  /**
   * Judges the faces of a frame.
   *
   * @param frame - The frame.
   * @param faces - Its faces.
   * @param read - What was read of each.
   */
  async judge(frame: Raster, faces: readonly Face[], read: readonly Scores[]): Promise<Quality[]> {
    const { pixels } = this.model.card;
    const crops = faces.map((face) => prepare(frame, face, pixels));
    const scores = await this.model.score(crops);
    return faces.map((face, i) => ({
      ...this.#judged(scores[i]!, read[i]!, face),
      ...measured(frame, face),
    }));
  }

  /** Whether a reading of that quality is doubtful. */
  isDoubtful(quality: Quality): boolean {
    const least = this.model.card.doubtful_below ?? null;
    return least !== null && (quality.quality ?? 1) < least;
  }

  #judged(scores: Scores, read: Scores, face: Face): Quality {
    const { card } = this.model;
    const judged: Record<string, number | null> = {};
    for (const task of card.tasks) {
      const values = scores[familyOf(task)]!;
      columnsOf(task).forEach((column, i) => (judged[column] = values[i]!));
    }
    const { occlusion } = scores;
    if (card.trust && read.expr && judged.quality !== undefined) {
      const { offset, network, probability } = card.trust;
      const odds =
        network * logOdds(judged.quality!) + probability * logOdds(Math.max(...read.expr));
      judged.quality = logistic(offset + odds);
    }
    if (occlusion)
      judged.occlusion = occlusion.reduce((sum, share) => sum + share / occlusion.length, 0);
    if (typeof judged.pose_roll === "number") {
      const [a, , , d] = cropMatrix(face, card.pixels);
      judged.pose_roll = signed(judged.pose_roll - (Math.atan2(d, a) * 180) / Math.PI);
    }
    // The first two regions are the eyes; where both are covered, where they look is not known.
    if (occlusion && Math.min(occlusion[0]!, occlusion[1]!) >= COVERED) {
      for (const column of ["gaze_x", "gaze_y"]) if (column in judged) judged[column] = null;
    }
    return judged;
  }
}

/** Whether the region of an action unit is covered by half or more. */
export function isCovered(unit: string, quality: Quality): boolean {
  const weights = REGIONS.find(([units]) => units.includes(unit))?.[1];
  const regions = ["left_eye", "right_eye", "brows", "nose", "mouth"];
  const shares = regions.map((region) => quality[`occlusion_${region}`] ?? 0);
  const covered = weights?.reduce((sum, weight, i) => sum + weight * shares[i]!, 0) ?? 0;
  return covered >= COVERED;
}

function qualityColumns(card: CropCard): string[] {
  const columns: string[] = [];
  for (const family of ["quality", "occlusion", "pose", "gaze"]) {
    const task = card.tasks.find((task) => familyOf(task) === family);
    if (!task) continue;
    if (family === "occlusion") columns.push("occlusion");
    columns.push(...columnsOf(task));
  }
  return columns;
}

function logOdds(share: number): number {
  const bounded = clip(share, CERTAIN, 1 - CERTAIN);
  return Math.log(bounded / (1 - bounded));
}

function measured(frame: Raster, face: Face): Quality {
  const luma = lumaOf(prepare(frame, face, MEASURED_PIXELS));
  const [left, right] = face.points as [Face["points"][0], Face["points"][0]];
  let sum = 0;
  for (const value of luma.data) sum += value;
  return {
    face_size: Math.hypot(right[0] - left[0], right[1] - left[1]),
    sharpness: sharpness(luma),
    light: sum / luma.data.length / 255,
  };
}

/** The variance of the Laplacian (Pech-Pacheco et al. 2000), by contrast: 0..1. */
function sharpness(luma: Raster): number {
  const contrast = variance(luma.data);
  if (contrast === 0) return 0;
  const edges = Math.max(variance(laplacian(luma)) - ROUNDING, 0);
  const ratio = Math.sqrt(edges / contrast);
  return ratio / (ratio + MIDDLE);
}

/** The sum of a pixel's four neighbours less four times itself; mirrored at the edge. */
function laplacian({ data, width, height }: Raster): Int16Array {
  const out = new Int16Array(data.length);
  for (let y = 0; y < height; y++) {
    const above = (y ? y - 1 : 1) * width;
    const below = (y < height - 1 ? y + 1 : height - 2) * width;
    for (let x = 0; x < width; x++) {
      const left = x ? x - 1 : 1;
      const right = x < width - 1 ? x + 1 : width - 2;
      const around =
        data[above + x]! + data[below + x]! + data[y * width + left]! + data[y * width + right]!;
      out[y * width + x] = around - 4 * data[y * width + x]!;
    }
  }
  return out;
}

function variance(values: ArrayLike<number>): number {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    sum += values[i]!;
    squares += values[i]! ** 2;
  }
  const mean = sum / values.length;
  return squares / values.length - mean ** 2;
}
