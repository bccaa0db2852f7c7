/** Points, boxes, turns, and maps between pictures. Angles are degrees clockwise on the screen. */

import { rint } from "./picture.js";

/** x and y, px; whole numbers lie at the centres of pixels. */
export type Point = readonly [number, number];
/** x, y, width and height, px. */
export type Box = readonly [number, number, number, number];
/** x' = a x + b y + c, y' = d x + e y + f. */
export type Matrix = readonly [number, number, number, number, number, number];

/** A face that leans less, degrees, is looked at as it is. */
const UPRIGHT = 10;

/**
 * The least-squares turn, scale and shift that takes one set of points to another (Umeyama 1991,
 * without reflection).
 */
export function similarity(source: readonly Point[], target: readonly Point[]): Matrix {
  const [x, y] = meanOf(source);
  const [u, v] = meanOf(target);
  let [dot, cross, spread] = [0, 0, 0];
  source.forEach(([sourceX, sourceY], i) => {
    const [dx, dy] = [sourceX - x, sourceY - y];
    const [du, dv] = [target[i]![0] - u, target[i]![1] - v];
    dot += dx * du + dy * dv;
    cross += dx * dv - dy * du;
    spread += dx * dx + dy * dy;
  });
  const [a, b] = spread > 0 ? [dot / spread, cross / spread] : [1, 0];
  return [a, -b, u - a * x + b * y, b, a, v - b * x - a * y];
}

function meanOf(points: readonly Point[]): Point {
  let [x, y] = [0, 0];
  for (const point of points) {
    x += point[0] / points.length;
    y += point[1] / points.length;
  }
  return [x, y];
}

/** The map that undoes another. */
export function inverse([a, b, c, d, e, f]: Matrix): Matrix {
  const area = 1 / (a * e - b * d);
  const [p, q, r, s] = [e * area, -b * area, -d * area, a * area];
  return [p, q, -p * c - q * f, r, s, -r * c - s * f];
}

/** The map that does `inner`, then `outer`. */
export function chained(outer: Matrix, inner: Matrix): Matrix {
  const [a, b, c, d, e, f] = outer;
  const [p, q, r, s, t, u] = inner;
  return [
    a * p + b * s,
    a * q + b * t,
    a * r + b * u + c,
    d * p + e * s,
    d * q + e * t,
    d * r + e * u + f,
  ];
}

/** A turn clockwise about a point, and a change of size. */
export function turnAbout([x, y]: Point, turn: number, scale = 1): Matrix {
  const [cosine, sine] = [scale * Math.cos(radians(turn)), scale * Math.sin(radians(turn))];
  return [cosine, -sine, (1 - cosine) * x + sine * y, sine, cosine, (1 - cosine) * y - sine * x];
}

/** Where a map takes a point. */
export function mapped([a, b, c, d, e, f]: Matrix, [x, y]: Point): Point {
  return [a * x + b * y + c, d * x + e * y + f];
}

/** Degrees as radians. */
export function radians(degrees: number): number {
  return (degrees * Math.PI) / 180;
}

/** Degrees as 0..360. */
export function wrapped(degrees: number): number {
  return ((degrees % 360) + 360) % 360;
}

/** Degrees as -180..180. */
export function signed(degrees: number): number {
  return wrapped(degrees + 180) - 180;
}

/** Intersection over union of two boxes, 0..1. */
export function overlap(one: Box, other: Box): number {
  const width = Math.min(one[0] + one[2], other[0] + other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[1] + one[3], other[1] + other[3]) - Math.max(one[1], other[1]);
  if (width <= 0 || height <= 0) return 0;
  const intersection = width * height;
  return intersection / (one[2] * one[3] + other[2] * other[3] - intersection);
}

/** The middle of a box. */
export function middleOf([x, y, width, height]: Box): Point {
  return [x + width / 2, y + height / 2];
}

/** Direction from mouth to eyes, from straight up, -180..180. */
export function leanOf(points: readonly Point[]): number {
  const [leftEye, rightEye, , leftCorner, rightCorner] = points as [
    Point,
    Point,
    Point,
    Point,
    Point,
  ];
  const right = leftEye[0] + rightEye[0] - leftCorner[0] - rightCorner[0];
  const down = leftEye[1] + rightEye[1] - leftCorner[1] - rightCorner[1];
  return (Math.atan2(right, -down) * 180) / Math.PI;
}

/** The quarter turn of the picture after which a face stands most nearly upright. */
export function quarterTurn(points: readonly Point[]): number {
  return wrapped(rint(-leanOf(points) / 90) * 90);
}

/** The turn of the picture after which a face stands upright; a quarter turn where that is near. */
export function rightingTurn(points: readonly Point[]): number {
  const lean = leanOf(points);
  const quarter = quarterTurn(points);
  const rest = signed(lean + quarter);
  return Math.abs(rest) < UPRIGHT ? quarter : wrapped(quarter - rest);
}

/**
 * Where a point of a turned picture lies in the picture before its turn.
 *
 * @param point - px of the turned picture.
 * @param turn - By which the picture was turned about its middle.
 * @param width - Width of the picture before, px.
 * @param height - Height of the picture before; after quarter turns width and height change places,
 *   after other turns the picture keeps its size.
 */
export function turnBack(point: Point, turn: number, width: number, height: number): Point {
  const middle: Point = [width / 2, height / 2];
  const [x, y] = turn === 90 || turn === 270 ? [middle[1], middle[0]] : middle;
  const [cosine, sine] = [Math.cos(radians(turn)), Math.sin(radians(turn))];
  const [right, down] = [point[0] - x, point[1] - y];
  return [right * cosine + down * sine + middle[0], down * cosine - right * sine + middle[1]];
}
