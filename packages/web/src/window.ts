/** Windows: square parts of a frame in which one known face is looked for. */

import type { Box, Matrix, Point } from "./geometry.js";
import { inverse, turnAbout } from "./geometry.js";
import type { Raster } from "./picture.js";
import { lumaOf, resizeArea, resizeLinear, rint } from "./picture.js";

/** Luma 0..255 in rows of a square. */
export interface Patch {
  readonly data: Float32Array;
  readonly size: number;
}

/** A square that is turned reaches beyond its sides by up to this share of them. */
const CORNERS = 0.21;
/** Smallest window in which a known face is looked for, px of the frame. */
const SMALLEST = 16;

/** A square part of a frame around one face; that of a large face is whole multiples of `size`. */
export class Window {
  /**
   * @param corner - Upper left corner, px of the frame; may lie beyond it.
   * @param side - Width and height, px of the frame.
   * @param size - Width and height at which the network sees it, px.
   */
  constructor(
    readonly corner: Point,
    readonly side: number,
    readonly size: number,
  ) {}

  /** The window in whose middle a face was. */
  static around([x, y, width, height]: Box, size: number): Window {
    const face = Math.max(width, height);
    // Twice the face where it is small; otherwise the face fills between a third and two thirds.
    const side =
      2 * face < size
        ? Math.max(rint(2 * face), SMALLEST)
        : size * Math.max(Math.ceil((1.6 * face) / size), 1);
    const corner: Point = [rint(x + width / 2 - side / 2), rint(y + height / 2 - side / 2)];
    return new Window(corner, side, size);
  }

  /** Pixels of the frame per pixel of the input. */
  get scale(): number {
    return this.side / this.size;
  }

  /** Cuts the window out of a frame and turns it; black where it reaches beyond the frame. */
  cutTurned(frame: Raster, turn: number): Patch {
    if (turn % 90 === 0) return turned(this.cut(frame), turn);
    // Cut wider, so that there is something in the corners, and at the same scale.
    const margin = Math.ceil(this.side * CORNERS);
    const side = this.side + 2 * margin;
    const size = rint(side / this.scale);
    const wide = new Window([this.corner[0] - margin, this.corner[1] - margin], side, size);
    const middle = size / 2 - 0.5;
    const shift = (this.size - size) / 2;
    const [a, b, c, d, e, f] = turnAbout([middle, middle], turn, wide.scale / this.scale);
    return sampled(wide.cut(frame), inverse([a, b, c + shift, d, e, f + shift]), this.size);
  }

  /** Cuts the window out of a frame. */
  cut(frame: Raster): Patch {
    const window: Patch = { data: new Float32Array(this.size * this.size), size: this.size };
    const [left, right] = this.#visible(this.corner[0], frame.width);
    const [top, bottom] = this.#visible(this.corner[1], frame.height);
    const [cols, rows] = [this.#scaled(right - left), this.#scaled(bottom - top)];
    if (cols <= 0 || rows <= 0) return window;
    const luma = this.#resized(lumaOf(frame, { left, top, right, bottom }), cols, rows);
    const x = this.#scaled(left - this.corner[0]);
    const y = this.#scaled(top - this.corner[1]);
    // Rounding may put the last row or column outside.
    const [width, height] = [
      Math.min(luma.width, this.size - x),
      Math.min(luma.height, this.size - y),
    ];
    for (let row = 0; row < height; row++) {
      const line = luma.data.subarray(row * luma.width, row * luma.width + width);
      window.data.set(line, (y + row) * this.size + x);
    }
    return window;
  }

  #resized(luma: Raster, cols: number, rows: number): Raster {
    if (this.side >= 2 * this.size) return resizeArea(luma, cols, rows);
    return this.side < this.size ? resizeLinear(luma, cols, rows) : luma;
  }

  #scaled(length: number): number {
    return rint(length / this.scale);
  }

  /** The part of one side inside a frame of `length` px, in whole blocks from `start` on. */
  #visible(start: number, length: number): [number, number] {
    const block = Math.max(Math.floor(this.side / this.size), 1);
    // A window that begins outside is cut at its first block that lies wholly inside.
    const first = start < 0 ? ((start % block) + block) % block : start;
    const visible = Math.max(Math.min(length, start + this.side) - first, 0);
    return [first, first + Math.floor(visible / block) * block];
  }
}

/** A patch after a quarter turn clockwise. */
function turned({ data, size }: Patch, turn: number): Patch {
  if (!turn) return { data, size };
  const raster = turnRaster(
    { data, width: size, height: size },
    turn,
    new Float32Array(size * size),
  );
  return { data: raster.data, size };
}

/** Rows of numbers, of which pictures are made. */
interface Rows<T> {
  readonly data: T;
  readonly width: number;
  readonly height: number;
}

/** Turns rows of one channel by 90, 180 or 270 degrees clockwise, into `out`. */
export function turnRaster<T extends Uint8Array | Uint8ClampedArray | Float32Array>(
  { data, width, height }: Rows<T>,
  turn: number,
  out: T,
): Rows<T> {
  const [cols, rows] = turn === 180 ? [width, height] : [height, width];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < cols; x++) {
      const [fromX, fromY] =
        turn === 90
          ? [y, height - 1 - x]
          : turn === 180
            ? [width - 1 - x, height - 1 - y]
            : [width - 1 - y, x];
      out[y * cols + x] = data[fromY * width + fromX]!;
    }
  }
  return { data: out, width: cols, height: rows };
}

/** A square of a patch, between pixels by their distance; black beyond its edge. */
function sampled(patch: Patch, toPatch: Matrix, size: number): Patch {
  const out = new Float32Array(size * size);
  const [a, b, c, d, e, f] = toPatch.map(Math.fround) as unknown as Matrix;
  const at = (x: number, y: number): number =>
    x >= 0 && y >= 0 && x < patch.size && y < patch.size ? patch.data[y * patch.size + x]! : 0;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const placeX = Math.fround(a * x + Math.fround(Math.fround(b * y) + c));
      const placeY = Math.fround(d * x + Math.fround(Math.fround(e * y) + f));
      const [left, top] = [Math.floor(placeX), Math.floor(placeY)];
      const [right, down] = [placeX - left, placeY - top];
      const upper = at(left, top) * (1 - right) + at(left + 1, top) * right;
      const lower = at(left, top + 1) * (1 - right) + at(left + 1, top + 1) * right;
      out[y * size + x] = upper * (1 - down) + lower * down;
    }
  }
  return { data: out, size };
}
