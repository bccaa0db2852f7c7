/** From a face in a frame to a network's input: what `mien.faces.prepare` does in Python. */

import { MienError } from "./errors.js";
import type { Box, Matrix, Point } from "./geometry.js";
import {
  chained,
  inverse,
  mapped,
  middleOf,
  quarterTurn,
  similarity,
  turnAbout,
} from "./geometry.js";
import type { Raster, Span } from "./picture.js";
import { clip, partOf, resizeArea, resizeLinear, warp } from "./picture.js";

/** How a face becomes a network's input; part of every card of a network that reads crops. */
export interface Pixels {
  /** Side of the square crop, px. */
  readonly size: number;
  readonly colour: "grey" | "rgb" | "bgr";
  /** `similarity5` takes the five points onto `template`, `box` cuts the square around the box. */
  readonly alignment: "similarity5" | "box";
  /** Where the five points go, in fractions of the crop. */
  readonly template: readonly Point[] | null;
  /** Added on each side of the box, in fractions of its longer side. */
  readonly margin: number;
  /** One number per channel: input = (value - mean) / std. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly resize: "area" | "linear";
}

/** A face in a frame. */
export interface Face {
  /** x, y, width and height in px of the frame; may lie beyond it. */
  readonly box: Box;
  /**
   * Image-left eye, image-right eye, nose tip, image-left and image-right corner of the mouth, px.
   */
  readonly points: readonly Point[];
  /** How sure the detector is that this is a face, 0..1. */
  readonly confidence: number;
}

/** The map from pixels of a frame to pixels of the crop. */
export function cropMatrix(face: Face, pixels: Pixels): Matrix {
  const { size, template, margin } = pixels;
  if (template) {
    const target = template.map(([x, y]): Point => [x * size - 0.5, y * size - 0.5]);
    return similarity(face.points, target);
  }
  const scale = size / Math.max(Math.max(face.box[2], face.box[3]) * (1 + 2 * margin), 1e-6);
  const [x, y] = middleOf(face.box);
  const middle = size / 2 - 0.5;
  const shifts = [middle - scale * (x - 0.5), middle - scale * (y - 0.5)] as const;
  const matrix: Matrix = [scale, 0, shifts[0], 0, scale, shifts[1]];
  const quarter = quarterTurn(face.points);
  return quarter ? chained(turnAbout([middle, middle], quarter), matrix) : matrix;
}

/** Cuts a face out of a frame: RGB (size, size). */
export function prepare(frame: Raster, face: Face, pixels: Pixels): Raster {
  const matrix = cropMatrix(face, pixels);
  const scale = Math.hypot(matrix[0], matrix[3]);
  if (pixels.resize !== "area" || scale >= 0.5) return warp(frame, inverse(matrix), pixels.size);
  return warpBlocks(frame, matrix, pixels.size, Math.floor(1 / scale));
}

/** Averages blocks of the part that the crop covers first, as sampling alone would alias. */
function warpBlocks(frame: Raster, matrix: Matrix, size: number, factor: number): Raster {
  const toFrame = inverse(matrix);
  const corners = (
    [
      [-1, -1],
      [size, -1],
      [-1, size],
      [size, size],
    ] as Point[]
  ).map((corner) => mapped(toFrame, corner));
  const x = blockSpan(
    corners.map((corner) => corner[0]),
    frame.width,
    factor,
  );
  const y = blockSpan(
    corners.map((corner) => corner[1]),
    frame.height,
    factor,
  );
  const span: Span = { left: x.start, top: y.start, right: x.stop, bottom: y.stop };
  const blocks = resizeArea(partOf(frame, span, 3), x.count, y.count);
  const [stepX, stepY] = [(x.stop - x.start) / x.count, (y.stop - y.start) / y.count];
  // The centre of a pixel lies half a pixel from its corner, in both pictures.
  const shiftX = x.start + stepX / 2 - 0.5;
  const shiftY = y.start + stepY / 2 - 0.5;
  const fromBlocks = chained(matrix, [stepX, 0, shiftX, 0, stepY, shiftY]);
  return warp(blocks, inverse(fromBlocks), size);
}

/** Start and end of the places that occur, in whole blocks where they fit, and how many blocks. */
function blockSpan(places: number[], limit: number, factor: number) {
  const start = Math.floor(clip(Math.min(...places), 0, limit - 1));
  const stop = Math.ceil(Math.min(Math.max(Math.max(...places) + 1, start + 1), limit));
  let count = Math.ceil((stop - start) / factor);
  if (start + count * factor > limit) count -= 1;
  return count ? { start, stop: start + count * factor, count } : { start, stop, count: 1 };
}

/** Resizes a picture that already is one face; its aspect is not kept: RGB (size, size). */
export function prepareCrop(picture: Raster, pixels: Pixels): Raster {
  const { size } = pixels;
  const whole = { left: 0, top: 0, right: picture.width, bottom: picture.height };
  let crop = partOf(picture, whole, 3);
  const averages = pixels.resize === "area";
  // OpenCV averages only where both sides shrink, so the one that does goes first.
  if (averages && crop.width > size !== crop.height > size) {
    crop = resizeArea(crop, Math.min(crop.width, size), Math.min(crop.height, size));
  }
  const shrinks = Math.min(crop.width, crop.height) > size;
  return averages && shrinks ? resizeArea(crop, size, size) : resizeLinear(crop, size, size);
}

const { fround } = Math;
/** ITU-R BT.601. */
const [RED, GREEN, BLUE] = [fround(0.299), fround(0.587), fround(0.114)];
const ORDER = { grey: [0], rgb: [0, 1, 2], bgr: [2, 1, 0] } as const;

/**
 * Writes a crop as a network's input.
 *
 * @param crop - RGB (size, size), as `prepare` gives it.
 * @param pixels - Colour, mean and standard deviation of the input.
 * @param input - Where channels x size x size numbers go.
 */
export function normalise(crop: Raster, pixels: Pixels, input: Float32Array): void {
  const { data } = crop;
  const count = pixels.size * pixels.size;
  ORDER[pixels.colour].forEach((from, channel) => {
    const [mean, std] = [fround(pixels.mean[channel]!), fround(pixels.std[channel]!)];
    for (let i = 0, at = 0; i < count; i++, at += 3) {
      // In single precision, as NumPy does it: a network of whole numbers rounds what it is given.
      const value =
        pixels.colour === "grey"
          ? fround(BLUE * data[at + 2]! + fround(GREEN * data[at + 1]! + fround(RED * data[at]!)))
          : data[at + from]!;
      input[channel * count + i] = fround(value - mean) / std;
    }
  });
}

/** Refuses points that are not five pairs of numbers. */
export function checkPoints(points: readonly Point[]): void {
  const numbers = points.flat();
  if (points.length !== 5 || numbers.length !== 10 || !numbers.every(Number.isFinite)) {
    throw new MienError(
      "a face needs five points [x, y] with numbers: eyes, nose tip, corners of the mouth; " +
        "leave them out for a picture that is a cropped face",
    );
  }
}
