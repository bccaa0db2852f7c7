/** Pictures, and how they are resized: the arithmetic of OpenCV, which mien uses in Python. */

import { MienError } from "./errors.js";
import type { Matrix } from "./geometry.js";

/** RGBA rows, as `getImageData` of a canvas gives them; alpha is not looked at. */
export interface Picture {
  readonly data: Uint8ClampedArray | Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Whole numbers 0..255 in rows, `channels` of them per pixel. */
export interface Raster {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** What `toPicture` accepts: anything a canvas can draw, or pixels. */
export type FrameSource =
  | Picture
  | HTMLVideoElement
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | ImageBitmap
  | VideoFrame;

/** A rectangle of a picture, whole pixels: from left, top to before right, bottom. */
export interface Span {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** The nearest whole number, of two the even one: how Python and OpenCV round. */
export function rint(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Bounds `value` to low..high. */
export function clip(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** Gives pictures of frames; it keeps one canvas, since making one takes longer than a frame. */
export class FrameReader {
  #context: OffscreenCanvasRenderingContext2D | undefined;

  /**
   * The pixels of a frame.
   *
   * @param source - Pixels, or anything that a canvas can draw.
   * @returns The frame at its own size, upright as the browser shows it.
   * @throws MienError - There are no pixels yet, or the page may not read them.
   */
  read(source: FrameSource): Picture {
    if ("data" in source) return checked(source);
    const [width, height] = sizeOf(source);
    if (!width || !height) {
      throw new MienError("the frame has no pixels yet; wait until the picture or film is loaded");
    }
    const context = this.#contextFor(width, height);
    context.drawImage(source, 0, 0, width, height);
    try {
      return context.getImageData(0, 0, width, height);
    } catch (error) {
      throw new MienError(
        `the page may not read this picture (${(error as Error).message}); ` +
          "serve it from the page's own address, or with CORS headers",
      );
    }
  }

  #contextFor(width: number, height: number): OffscreenCanvasRenderingContext2D {
    const canvas = this.#context?.canvas;
    if (this.#context && canvas?.width === width && canvas.height === height) return this.#context;
    const made = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!made) throw new MienError("this browser gives no 2D canvas; close other pages, or reload");
    this.#context = made;
    return made;
  }
}

function checked(picture: Picture): Picture {
  const { data, width, height } = picture;
  if (!(width > 0 && height > 0 && data.length === 4 * width * height)) {
    throw new MienError(
      `a picture of ${width} x ${height} needs ${4 * width * height} numbers (RGBA), ` +
        `got ${data.length}`,
    );
  }
  return picture;
}

function sizeOf(source: Exclude<FrameSource, Picture>): [number, number] {
  if ("videoWidth" in source) return [source.videoWidth, source.videoHeight];
  if ("displayWidth" in source) return [source.displayWidth, source.displayHeight];
  if ("naturalWidth" in source) return [source.naturalWidth, source.naturalHeight];
  return [source.width, source.height];
}

/** The whole of a picture as a raster, without a copy. */
export function rasterOf({ data, width, height }: Picture): Raster {
  return { data, width, height, channels: 4 };
}

/** Luma of a part of a picture, as OpenCV weighs it: whole numbers of 15 bits. */
export function lumaOf(source: Raster, span: Span = wholeOf(source)): Raster {
  const { data, channels } = source;
  const width = span.right - span.left;
  const height = span.bottom - span.top;
  const luma = new Uint8Array(width * height);
  let to = 0;
  for (let y = span.top; y < span.bottom; y++) {
    let from = (y * source.width + span.left) * channels;
    for (let x = 0; x < width; x++, from += channels) {
      const sum = 9798 * data[from]! + 19235 * data[from + 1]! + 3735 * data[from + 2]!;
      luma[to++] = (sum + 16384) >> 15;
    }
  }
  return { data: luma, width, height, channels: 1 };
}

/** The span of a whole raster. */
export function wholeOf({ width, height }: Raster): Span {
  return { left: 0, top: 0, right: width, bottom: height };
}

/** A part of a raster, of its first channels alone. */
export function partOf(source: Raster, span: Span, channels: number): Raster {
  const width = span.right - span.left;
  const height = span.bottom - span.top;
  const data = new Uint8Array(width * height * channels);
  let to = 0;
  for (let y = span.top; y < span.bottom; y++) {
    let from = (y * source.width + span.left) * source.channels;
    for (let x = 0; x < width; x++, from += source.channels) {
      for (let k = 0; k < channels; k++) data[to++] = source.data[from + k]!;
    }
  }
  return { data, width, height, channels };
}

/** Averages a raster down to cols x rows; neither side may grow. */
export function resizeArea(source: Raster, cols: number, rows: number): Raster {
  const across = source.width / cols;
  const down = source.height / rows;
  if (Number.isInteger(across) && Number.isInteger(down)) {
    return averageBlocks(source, across, down);
  }
  return averageShares(source, cols, rows);
}

/** Means of whole blocks. Blocks of 2 x 2 round halves up, others to even: so does OpenCV. */
function averageBlocks(source: Raster, across: number, down: number): Raster {
  const { data, channels } = source;
  const [width, height] = [source.width / across, source.height / down];
  const out = new Uint8Array(width * height * channels);
  const sums = new Uint32Array(width * channels);
  const share = Math.fround(1 / (across * down));
  const pairs = across === 2 && down === 2;
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let line = 0; line < down; line++) {
      let from = (y * down + line) * source.width * channels;
      for (let x = 0; x < width; x++) {
        for (let block = 0; block < across; block++, from += channels) {
          for (let k = 0; k < channels; k++) sums[x * channels + k]! += data[from + k]!;
        }
      }
    }
    const to = y * width * channels;
    for (let i = 0; i < sums.length; i++) {
      out[to + i] = pairs ? (sums[i]! + 2) >> 2 : rint(Math.fround(sums[i]! * share));
    }
  }
  return { data: out, width, height, channels };
}

/** Which pixels an averaged one covers, and which share of it each makes up. */
interface Shares {
  readonly starts: Int32Array;
  readonly weights: Float32Array[];
}

/** Shares smaller than this are left out, as in OpenCV. */
const LEAST_SHARE = 1e-3;

function sharesOf(from: number, to: number): Shares {
  const scale = from / to;
  const starts = new Int32Array(to);
  const weights: Float32Array[] = [];
  for (let i = 0; i < to; i++) {
    const [begin, end] = [i * scale, i * scale + scale];
    const covered = Math.min(scale, from - begin);
    const last = Math.min(Math.floor(end), from - 1);
    const first = Math.min(Math.ceil(begin), last);
    const row: number[] = [];
    const partly = first - begin > LEAST_SHARE;
    if (partly) row.push((first - begin) / covered);
    for (let at = first; at < last; at++) row.push(1 / covered);
    if (end - last > LEAST_SHARE) row.push(Math.min(end - last, 1, covered) / covered);
    starts[i] = partly ? first - 1 : first;
    weights.push(Float32Array.from(row));
  }
  return { starts, weights };
}

function averageShares(source: Raster, cols: number, rows: number): Raster {
  const { channels } = source;
  const across = sharesOf(source.width, cols);
  const down = sharesOf(source.height, rows);
  const out = new Uint8Array(cols * rows * channels);
  const length = cols * channels;
  // In single precision, so that halves fall to the same side as in OpenCV.
  const sum = new Float32Array(length);
  for (let y = 0; y < rows; y++) {
    sum.fill(0);
    down.weights[y]!.forEach((weight, line) => {
      const row = averageRow(source, down.starts[y]! + line, across, cols);
      for (let i = 0; i < length; i++) sum[i]! += row[i]! * weight;
    });
    for (let i = 0; i < length; i++) out[y * length + i] = rint(sum[i]!);
  }
  return { data: out, width: cols, height: rows, channels };
}

function averageRow(source: Raster, line: number, across: Shares, cols: number): Float32Array {
  const { data, channels, width } = source;
  const row = new Float32Array(cols * channels);
  for (let x = 0; x < cols; x++) {
    const weights = across.weights[x]!;
    let from = (line * width + across.starts[x]!) * channels;
    for (let i = 0; i < weights.length; i++) {
      for (let k = 0; k < channels; k++) row[x * channels + k]! += data[from++]! * weights[i]!;
    }
  }
  return row;
}

/** Where the pixels of a stretched row come from, and the shares of the two in 2048ths. */
function neighbours(from: number, to: number): [Int32Array, Int32Array, Int32Array] {
  const [starts, near, far] = [new Int32Array(to), new Int32Array(to), new Int32Array(to)];
  for (let i = 0; i < to; i++) {
    const place = Math.fround((i + 0.5) * (from / to) - 0.5);
    const start = Math.floor(place);
    const inside = start >= 0 && start < from - 1;
    const share = inside ? place - start : 0;
    starts[i] = clip(start, 0, from - 1);
    near[i] = rint((1 - share) * 2048);
    far[i] = rint(share * 2048);
  }
  return [starts, near, far];
}

/** Resizes a raster to cols x rows, between pixels by their distance, in OpenCV's whole numbers. */
export function resizeLinear(source: Raster, cols: number, rows: number): Raster {
  const { data, channels, width, height } = source;
  const [x0, xNear, xFar] = neighbours(width, cols);
  const [y0, yNear, yFar] = neighbours(height, rows);
  const out = new Uint8Array(cols * rows * channels);
  const stretched = (line: number, x: number, k: number): number => {
    const at = (line * width + x0[x]!) * channels + k;
    const next = x0[x]! < width - 1 ? at + channels : at;
    return (data[at]! * xNear[x]! + data[next]! * xFar[x]!) >> 4;
  };
  let to = 0;
  for (let y = 0; y < rows; y++) {
    const below = Math.min(y0[y]! + 1, height - 1);
    for (let x = 0; x < cols; x++) {
      for (let k = 0; k < channels; k++) {
        const upper = (yNear[y]! * stretched(y0[y]!, x, k)) >> 16;
        const lower = (yFar[y]! * stretched(below, x, k)) >> 16;
        out[to++] = (upper + lower + 2) >> 2;
      }
    }
  }
  return { data: out, width: cols, height: rows, channels };
}

/**
 * Cuts a square out of a raster, between pixels by their distance.
 *
 * @param source - The raster; beyond its edge the nearest pixel is repeated.
 * @param toSource - The map from pixels of the square to pixels of the raster.
 * @param size - Side of the square, px.
 * @returns RGB, or luma where the raster has one channel.
 */
export function warp(source: Raster, toSource: Matrix, size: number): Raster {
  const { data, width, height, channels } = source;
  const depth = Math.min(channels, 3);
  const out = new Uint8Array(size * size * depth);
  // In single precision, with the roundings of OpenCV's fused multiplications and additions.
  const [a, b, c, d, e, f] = toSource.map(Math.fround) as unknown as Matrix;
  const { fround, floor } = Math;
  let to = 0;
  for (let y = 0; y < size; y++) {
    const startX = fround(fround(b * y) + c);
    const startY = fround(fround(e * y) + f);
    for (let x = 0; x < size; x++) {
      const placeX = fround(a * x + startX);
      const placeY = fround(d * x + startY);
      const [left, top] = [floor(placeX), floor(placeY)];
      const [right, down] = [placeX - left, placeY - top];
      const x0 = clip(left, 0, width - 1) * channels;
      const x1 = clip(left + 1, 0, width - 1) * channels;
      const y0 = clip(top, 0, height - 1) * width * channels;
      const y1 = clip(top + 1, 0, height - 1) * width * channels;
      for (let k = 0; k < depth; k++) {
        const [upperLeft, lowerLeft] = [data[y0 + x0 + k]!, data[y1 + x0 + k]!];
        const upper = fround(upperLeft + right * (data[y0 + x1 + k]! - upperLeft));
        const lower = fround(lowerLeft + right * (data[y1 + x1 + k]! - lowerLeft));
        out[to++] = rint(fround(upper + down * fround(lower - upper)));
      }
    }
  }
  return { data: out, width: size, height: size, channels: depth };
}
