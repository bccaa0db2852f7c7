/** Face detection: a network's output at every anchor point becomes boxes and five points. */

import type { SearchCard } from "./card.js";
import type { Box, Point } from "./geometry.js";
import { overlap, radians, turnBack } from "./geometry.js";
import type { Raster } from "./picture.js";
import { lumaOf, resizeArea, rint } from "./picture.js";
import type { Face } from "./prepare.js";
import { turnRaster, Window } from "./window.js";

const STRIDES = [8, 16, 32] as const;
/** Sides of the network's input are multiples of this, px. */
const MULTIPLE = 32;
/** Numbers per anchor point: score, middle, log size, five points. */
const NUMBERS = 15;
/** Faces narrower than this, px of the input, are dropped from smaller views of the frame. */
const LARGE = 150;
/** Candidates that overlap this much (IoU) are views of one face and are averaged. */
const VOTE = 0.6;
/** Pictures without anything brighter are dark, and shown brighter: to `LIGHT`, by `MOST_GAIN`. */
const DARK = 100;
const LIGHT = 200;
const MOST_GAIN = 8;
/** Large frames are searched at this share of their size, up to `FRAME_SIDE` px. */
const FRAME_SHARE = 1 / 3;
const FRAME_SIDE = 1280;

/** Luma (N, 1, height, width), 0..255, to N rows of anchor points. */
export type Network = (input: Float32Array, shape: readonly number[]) => Promise<Float32Array>;

/** Finds faces in frames, and finds known faces again near where they were. */
export class Detector {
  readonly #network: Network;
  readonly #search: SearchCard;

  /**
   * @param network - The detector's network.
   * @param search - The numbers of its card.
   */
  constructor(network: Network, search: SearchCard) {
    this.#network = network;
    this.#search = search;
  }

  /** Smallest score of a new face. */
  get least(): number {
    return this.#search.least;
  }

  /** The share of a frame's size at which it is searched where time counts. */
  quickScale({ width, height }: Raster): number {
    return Math.min(1, this.#search.side / Math.max(width, height));
  }

  /** The share of a frame's size at which it is searched where faces count. */
  scaleFor(frame: Raster): number {
    const longer = Math.max(frame.width, frame.height);
    return Math.max(this.quickScale(frame), Math.min(FRAME_SHARE, FRAME_SIDE / longer));
  }

  /**
   * Searches a whole frame.
   *
   * @param frame - The frame.
   * @param scale - Share of its size at which it is searched.
   * @param turns - Degrees clockwise, quarter turns, after each of which it is searched.
   * @returns All faces, most confident first.
   */
  async find(frame: Raster, scale: number, turns: readonly number[] = [0]): Promise<Face[]> {
    const luma = lumaOf(frame);
    const pictures = this.#scales(frame, scale).map((share) => shrunk(luma, share));
    const gain = gainOf(pictures.at(-1)!.data, pictures.at(-1)!.width);
    const faces: Face[] = [];
    for (const turn of turns) {
      const candidates: Face[] = [];
      for (const [level, picture] of pictures.entries()) {
        const found = await this.#candidates(picture, turn, gain);
        const wide = level ? found.filter((face) => face.box[2] >= LARGE) : found;
        const [across, down] = [luma.width / picture.width, luma.height / picture.height];
        candidates.push(...wide.map((face) => moved(face, across, down, [0, 0])));
      }
      // Views of several turns have other points, so they are never averaged.
      faces.push(...merge(candidates, this.#search.overlap));
    }
    return turns.length > 1 ? distinct(faces, this.#search.overlap) : faces;
  }

  /** Scales of the search, largest first: a face that fills the frame is too large at full size. */
  #scales({ width, height }: Raster, scale: number): number[] {
    const scales = [scale, scale / 2];
    // A pixel more, so that rounding adds no level.
    while (Math.max(width, height) * scales.at(-1)! > this.#search.side / 2 + 1) {
      scales.push(scales.at(-1)! / 2);
    }
    return scales;
  }

  /** Candidates in pixels of the picture, upright. */
  async #candidates(picture: Raster, turn: number, gain: number): Promise<Face[]> {
    const { data, width, height } = turn
      ? turnRaster(picture, turn, new Uint8Array(picture.data.length))
      : picture;
    const [cols, rows] = [padded(width), padded(height)];
    const input = new Float32Array(cols * rows);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) input[y * cols + x] = data[y * width + x]! * gain;
    }
    const grid = await this.#network(input, [1, 1, rows, cols]);
    const found = decode(grid, cols, rows, this.#search.least);
    return found.map((face) => turnedBack(face, turn, picture.width, picture.height));
  }

  /**
   * Looks for known faces near their last boxes only, all in one call of the network.
   *
   * @param frame - The frame.
   * @param boxes - Where the faces were.
   * @param turns - By which turn of the frame each comes upright, degrees clockwise.
   * @returns For each box the face nearest to its middle, or null.
   */
  async follow(
    frame: Raster,
    boxes: readonly Box[],
    turns: readonly number[],
  ): Promise<(Face | null)[]> {
    if (!boxes.length) return [];
    const size = this.#search.window;
    const windows = boxes.map((box) => Window.around(box, size));
    const input = new Float32Array(boxes.length * size * size);
    windows.forEach((window, i) => {
      const { data } = window.cutTurned(frame, turns[i]!);
      const gain = gainOf(data, size);
      for (let at = 0; at < data.length; at++) input[i * size * size + at] = data[at]! * gain;
    });
    const grids = await this.#network(input, [boxes.length, 1, size, size]);
    const length = grids.length / boxes.length;
    return windows.map((window, i) => {
      const grid = grids.subarray(i * length, (i + 1) * length);
      const faces = merge(decode(grid, size, size, this.#search.keep), this.#search.overlap);
      // Near a box without area, chance alone would decide what is found.
      if (!faces.length || Math.min(boxes[i]![2], boxes[i]![3]) <= 0) return null;
      const nearest = faces.reduce((best, face) =>
        fromMiddle(face, size) < fromMiddle(best, size) ? face : best,
      );
      const upright = turnedBack(nearest, turns[i]!, size, size);
      return moved(upright, window.scale, window.scale, window.corner);
    });
  }
}

/** The faces, most confident first, of those that overlap more than `most` the surest alone. */
export function distinct(faces: readonly Face[], most: number): Face[] {
  const kept: Face[] = [];
  for (const face of [...faces].sort((a, b) => b.confidence - a.confidence)) {
    if (isApart(face, kept, most)) kept.push(face);
  }
  return kept;
}

/** Whether a face's box overlaps less than `iou` with those of others. */
export function isApart(face: Face, others: readonly Face[], iou: number): boolean {
  return others.every((other) => overlap(face.box, other.box) < iou);
}

/** The network's output for one picture as candidate faces in its pixels. */
function decode(grid: Float32Array, width: number, height: number, least: number): Face[] {
  const faces: Face[] = [];
  let at = 0;
  // Row by row, finest grid first: the order of the network's output.
  for (const stride of STRIDES) {
    for (let y = 0; y < height; y += stride) {
      for (let x = 0; x < width; x += stride, at += NUMBERS) {
        if (grid[at]! >= least) faces.push(faceAt(grid.subarray(at, at + NUMBERS), x, y, stride));
      }
    }
  }
  return faces;
}

function faceAt(numbers: Float32Array, x: number, y: number, stride: number): Face {
  const [confidence, right, down, logWidth, logHeight] = numbers as unknown as number[];
  const [width, height] = [Math.exp(logWidth!) * stride, Math.exp(logHeight!) * stride];
  const points: Point[] = [];
  for (let i = 5; i < NUMBERS; i += 2) {
    points.push([x + numbers[i]! * stride, y + numbers[i + 1]! * stride]);
  }
  const corner = [x + right! * stride - width / 2, y + down! * stride - height / 2] as const;
  return { box: [...corner, width, height], points, confidence: confidence! };
}

/**
 * Non-maximum suppression that averages: the strongest candidate stands for its face, and its box
 * and points are the mean of those that agree closely with it, weighted by squared score.
 */
function merge(candidates: readonly Face[], most: number): Face[] {
  const faces: Face[] = [];
  let rest = [...candidates].sort((a, b) => b.confidence - a.confidence);
  while (rest.length) {
    const best = rest[0]!;
    // Also for a box without an area: it must go, or this would never end.
    const shares = rest.map((face, i) => (i ? overlap(best.box, face.box) : 1));
    faces.push(mean(rest.filter((_, i) => shares[i]! >= VOTE)));
    rest = rest.filter((_, i) => shares[i]! <= most);
  }
  return faces;
}

function mean(votes: readonly Face[]): Face {
  let total = 0;
  const box = [0, 0, 0, 0];
  const points = votes[0]!.points.map((): [number, number] => [0, 0]);
  for (const face of votes) {
    const weight = face.confidence ** 2;
    total += weight;
    face.box.forEach((number, i) => (box[i]! += weight * number));
    for (const [i, [x, y]] of face.points.entries()) {
      points[i]![0] += weight * x;
      points[i]![1] += weight * y;
    }
  }
  return {
    box: box.map((number) => number / total) as unknown as Box,
    points: points.map(([x, y]): Point => [x / total, y / total]),
    confidence: votes[0]!.confidence,
  };
}

/** A face of a turned picture in pixels of the picture before, of that width and height. */
function turnedBack(face: Face, turn: number, width: number, height: number): Face {
  if (!turn) return face;
  const [x, y, w, h] = face.box;
  const [middleX, middleY] = turnBack([x + w / 2, y + h / 2], turn, width, height);
  const [cosine, sine] = [Math.cos(radians(turn)), Math.sin(radians(turn))];
  // The box is the one around an ellipse with its axes: about the same at any angle.
  const across = Math.hypot(w * cosine, h * sine);
  const down = Math.hypot(h * cosine, w * sine);
  return {
    box: [middleX - across / 2, middleY - down / 2, across, down],
    points: face.points.map((point) => turnBack(point, turn, width, height)),
    confidence: face.confidence,
  };
}

function moved(face: Face, across: number, down: number, [x0, y0]: Point): Face {
  const [x, y, width, height] = face.box;
  return {
    box: [x * across + x0, y * down + y0, width * across, height * down],
    points: face.points.map(([px, py]): Point => [px * across + x0, py * down + y0]),
    confidence: face.confidence,
  };
}

function fromMiddle({ box: [x, y, width, height] }: Face, size: number): number {
  return Math.hypot(x + width / 2 - size / 2, y + height / 2 - size / 2);
}

function padded(length: number): number {
  return Math.ceil(length / MULTIPLE) * MULTIPLE;
}

function shrunk(luma: Raster, scale: number): Raster {
  if (scale >= 1) return luma;
  const cols = Math.max(rint(luma.width * scale), 1);
  return resizeArea(luma, cols, Math.max(rint(luma.height * scale), 1));
}

/** By how much luma in rows of that width is made brighter; by 1 if it is not dark. */
function gainOf(luma: ArrayLike<number>, width: number): number {
  const height = luma.length / width;
  const across = Math.ceil(width / 4);
  // A sample is enough, and its few brightest pixels may be a lamp.
  const sample = new Float32Array(across * Math.ceil(height / 4));
  for (let y = 0, at = 0; y < height; y += 4) {
    for (let x = 0; x < width; x += 4) sample[at++] = luma[y * width + x]!;
  }
  sample.sort();
  const brightest = sample[Math.floor((sample.length * 99) / 100)]!;
  return brightest >= DARK ? 1 : Math.min(LIGHT / Math.max(brightest, 1), MOST_GAIN);
}
