/**
 * Tracks faces by their place: the same number for the same face, a new one for another face.
 *
 * Between full searches a known face is only looked for near where it was. Unlike mien in Python,
 * this compares no pictures of faces: after a cut all faces get new numbers, and two faces that
 * change places between two frames keep each other's.
 */

import type { Detector } from "./detect.js";
import { distinct, isApart } from "./detect.js";
import type { Box } from "./geometry.js";
import { middleOf, overlap, quarterTurn, rightingTurn } from "./geometry.js";
import { bestViews } from "./orientation.js";
import type { Raster } from "./picture.js";
import type { Face } from "./prepare.js";

/** A face and the number of its track. */
export interface TrackedFace extends Face {
  readonly track: number;
}

/** Time between full searches, s. */
const SEARCH = 0.5;
/** Live, searches take at most one part in so many of the time. */
const SEARCH_PARTS = 5;
/** A face that comes back within this time keeps its number, s; or within frames: */
const GAP = 0.5;
const GAP_FRAMES = 2.5;
/** Frame intervals of which the median is the typical one. */
const RECENT = 5;
/** A face's motion is extrapolated for this time, s. */
const TRUSTED_MOTION = 0.1;
/** A lost face may have moved on by so many of its widths a second. */
const ROAM = 1;

// What counts as the same place (IoU of two boxes).
/** What overlaps less with the place where a face should be is another face, or none. */
const SAME_PLACE = 0.1;
/** A lost face is expected where a new one overlaps this much with its place. */
const EXPECTED = 0.2;
/** A face that overlaps this much with its last window is looked for in the same pixels. */
const STILL = 0.8;
/** Boxes that overlap this much are one face. */
const DUPLICATE = 0.5;
/** What a search finds is a face already followed if it overlaps this much with it. */
const KNOWN = 0.3;
/** A second look must find a face that overlaps this much with the first. */
const CONFIRMED = 0.3;

/** Mean absolute change of sampled pixels, camera motion aside, that counts as a cut. */
const CUT_CHANGE = 24;
/** Longest time between two frames, s, in which such a change cannot be motion. */
const CUT_TIME = 0.25;
/** Pixels sampled along the frame's shorter side, and how far the camera may pan, in these. */
const THUMBNAIL = 24;
const PAN = 4;

/** A face that is followed, or was lost a moment ago. */
interface Track {
  readonly face: TrackedFace;
  readonly seen: number;
  /** Of the box's corner, px/s. */
  readonly velocity: readonly [number, number];
  /** Where it was looked for last. */
  readonly window: Box;
}

interface Thumbnail {
  readonly data: Float32Array;
  readonly cols: number;
  readonly rows: number;
}

/** Follows the faces of one source, frame by frame. */
export class Tracker {
  readonly #detector: Detector;
  readonly #live: boolean;
  #tracks: Track[] = [];
  #times: number[] = [];
  #next = 0;
  #searched = -Infinity;
  #thorough = -Infinity;
  #thumbnail: Thumbnail | undefined;
  /** By the wall clock, from when on a search may be made, ms. */
  #nextSearch = 0;

  /**
   * @param detector - Finds faces.
   * @param live - Frames come as they happen: searches are spaced out where they take long.
   */
  constructor(detector: Detector, live: boolean) {
    this.#detector = detector;
    this.#live = live;
  }

  /**
   * Finds and follows the faces of the next frame.
   *
   * @param frame - The frame.
   * @param time - When it was, s; must not decrease.
   * @returns All faces in view, lowest number first; found together, they are numbered from left to
   *   right.
   */
  async update(frame: Raster, time: number): Promise<TrackedFace[]> {
    const before = this.#times.at(-1) ?? -Infinity;
    const cut = this.#isCut(frame) && time - before <= CUT_TIME;
    if (time > before) this.#times = [...this.#times, time].slice(-RECENT - 1);
    if (cut) this.#tracks = [];
    const gap = Math.max(GAP, GAP_FRAMES * this.#interval());
    this.#tracks = this.#tracks.filter(({ seen }) => seen >= before || time - seen <= gap);
    const inView = await this.#follow(frame, time);
    if (this.#isSearchDue(time, cut, inView)) {
      const began = performance.now();
      // A thorough search looks closer at large frames, and turns those without a face.
      const thorough = cut || time - this.#thorough >= SEARCH;
      if (thorough) this.#thorough = time;
      this.#searched = time;
      await this.#search(frame, time, inView, thorough);
      const ended = performance.now();
      this.#nextSearch = ended + (SEARCH_PARTS - 1) * (ended - began);
    }
    const lost = this.#tracks.filter(({ face }) => !inView.has(face.track));
    const seen = [...inView.values()].sort((a, b) => a.face.track - b.face.track);
    this.#tracks = [...seen, ...lost];
    return seen.map(({ face }) => face);
  }

  /** The typical recent time between frames, s; 0 before the second one. */
  #interval(): number {
    const steps = this.#times.slice(1).map((time, i) => time - this.#times[i]!);
    steps.sort((a, b) => a - b);
    const middle = steps.length >> 1;
    if (!steps.length) return 0;
    return steps.length % 2 ? steps[middle]! : (steps[middle - 1]! + steps[middle]!) / 2;
  }

  #isSearchDue(time: number, cut: boolean, inView: Map<number, Track>): boolean {
    if (this.#live && performance.now() < this.#nextSearch) return false;
    const lost = this.#tracks.some(({ face }) => !inView.has(face.track));
    return cut || lost || !this.#tracks.length || time - this.#searched >= SEARCH;
  }

  /** The tracks, by number, whose faces are found near where they should be. */
  async #follow(frame: Raster, time: number): Promise<Map<number, Track>> {
    const windows = this.#tracks.map((track) => windowAt(track, time));
    const turns = this.#tracks.map(({ face }) => rightingTurn(face.points));
    const faces = await this.#detector.follow(frame, windows, turns);
    const matches = this.#tracks.flatMap((track, i) => {
      const face = faces[i];
      const fit = face ? overlap(boxAt(track, time), face.box) : 0;
      return face && fit >= SAME_PLACE ? [{ track, face, fit }] : [];
    });
    const inView = new Map<number, Track>();
    // Of two tracks on one face, the one seen last keeps it, of equal ones the better fit.
    for (const { track, face } of bestFirst(matches)) {
      const others = [...inView.values()].map((other) => other.face);
      if (isApart(face, others, DUPLICATE)) inView.set(track.face.track, moved(track, face, time));
    }
    return inView;
  }

  /** Adds faces that no track follows: they resume a lost track, or begin one. */
  async #search(
    frame: Raster,
    time: number,
    inView: Map<number, Track>,
    thorough: boolean,
  ): Promise<void> {
    const known = [...inView.values()].map(({ face }) => face);
    const unknown = await this.#unknownFaces(frame, known, thorough);
    const lost = this.#tracks.filter(({ face }) => !inView.has(face.track));
    const resumed = new Map<Face, Track>();
    const pairs = lost.flatMap((track) =>
      unknown
        .filter((face) => expects(track, face, time))
        .map((face) => ({ track, face, fit: overlap(boxAt(track, time), face.box) })),
    );
    for (const { track, face } of bestFirst(pairs)) {
      if (!resumed.has(face) && ![...resumed.values()].includes(track)) resumed.set(face, track);
    }
    // Left to right, so that the numbers of new faces do not depend on their scores.
    for (const face of [...unknown].sort((a, b) => middleOf(a.box)[0] - middleOf(b.box)[0])) {
      const track = resumed.get(face);
      const next = track ? moved(track, face, time) : this.#begin(face, time);
      inView.set(next.face.track, next);
    }
  }

  #begin(face: Face, time: number): Track {
    const tracked = { ...face, track: this.#next++ };
    return { face: tracked, seen: time, velocity: [0, 0], window: face.box };
  }

  async #unknownFaces(frame: Raster, known: readonly Face[], thorough: boolean): Promise<Face[]> {
    const scale = thorough ? this.#detector.scaleFor(frame) : this.#detector.quickScale(frame);
    // Where one face lies on its side, so may others.
    const turns = new Set([0, ...this.#tracks.map(({ face }) => quarterTurn(face.points))]);
    const faces = await this.#detector.find(
      frame,
      scale,
      [...turns].sort((a, b) => a - b),
    );
    const unknown = faces.filter((face) => isApart(face, known, KNOWN));
    const confirmed = await this.#confirmed(frame, unknown);
    if (!thorough || known.length || confirmed.length) return confirmed;
    return this.#foundTurned(frame, scale);
  }

  /** The faces of a frame that are found only when it is turned. */
  async #foundTurned(frame: Raster, scale: number): Promise<Face[]> {
    const scales = [scale / 2];
    const quick = this.#detector.quickScale(frame);
    // Of a film there are other frames; a picture by itself deserves a second look.
    if (!this.#interval() && quick > scale / 2) scales.push(quick);
    for (const share of scales) {
      const found = await this.#detector.find(frame, share, [90, 180, 270]);
      const faces = await this.#confirmed(frame, found);
      if (faces.length) return faces;
    }
    return [];
  }

  /** The faces that a closer look finds as well, as it finds them, the right way up. */
  async #confirmed(frame: Raster, faces: readonly Face[]): Promise<Face[]> {
    const boxes = faces.map((face) => face.box);
    const turns = faces.map((face) => rightingTurn(face.points));
    const views = await this.#detector.follow(frame, boxes, turns);
    const confirmed: Face[] = [];
    for (const [i, view] of views.entries()) {
      if (!view || view.confidence < this.#detector.least) continue;
      const agrees = overlap(faces[i]!.box, view.box) >= CONFIRMED;
      if (agrees && isApart(view, confirmed, DUPLICATE)) confirmed.push(view);
    }
    return distinct(await bestViews(this.#detector, frame, confirmed), DUPLICATE);
  }

  /** Whether a frame shows something else than the one before; keeps its thumbnail. */
  #isCut(frame: Raster): boolean {
    const before = this.#thumbnail;
    const after = thumbnailOf(frame);
    this.#thumbnail = after;
    if (!before) return false;
    if (before.cols !== after.cols || before.rows !== after.rows) return true;
    // The plain difference is cheap and settles most frames.
    if (change(before, after, 0, 0) <= CUT_CHANGE) return false;
    return changeUnderPan(before, after) > CUT_CHANGE;
  }
}

interface Match {
  readonly track: Track;
  readonly face: Face;
  readonly fit: number;
}

function bestFirst(matches: readonly Match[]): Match[] {
  return [...matches].sort((a, b) => b.track.seen - a.track.seen || b.fit - a.fit);
}

/** Where the box of a track should be by now. */
function boxAt({ face, seen, velocity }: Track, time: number): Box {
  const elapsed = Math.min(time - seen, TRUSTED_MOTION);
  const [x, y, width, height] = face.box;
  return [x + velocity[0] * elapsed, y + velocity[1] * elapsed, width, height];
}

/** Where to look for the face now. */
function windowAt(track: Track, time: number): Box {
  const box = boxAt(track, time);
  // The very same pixels for a face that keeps still, so that its points do not tremble.
  return overlap(box, track.window) >= STILL ? track.window : box;
}

/** Whether a face is where a lost one may have gone since it was seen. */
function expects(track: Track, face: Face, time: number): boolean {
  const box = boxAt(track, time);
  if (overlap(box, face.box) >= EXPECTED) return true;
  const [x, y] = middleOf(box);
  const [faceX, faceY] = middleOf(face.box);
  return Math.hypot(x - faceX, y - faceY) <= ROAM * box[2] * (time - track.seen);
}

function moved(track: Track, face: Face, time: number): Track {
  const elapsed = Math.max(time - track.seen, 1e-3);
  // The mean of the old and the latest velocity: single boxes are noisy.
  const faster = (axis: 0 | 1): number =>
    0.5 * track.velocity[axis] + (0.5 * (face.box[axis] - track.face.box[axis])) / elapsed;
  return {
    face: { ...face, track: track.face.track },
    seen: time,
    velocity: [faster(0), faster(1)],
    window: windowAt(track, time),
  };
}

function thumbnailOf(frame: Raster): Thumbnail {
  const step = Math.max(Math.floor(Math.min(frame.width, frame.height) / THUMBNAIL), 1);
  const start = step >> 1;
  const cols = Math.ceil((frame.width - start) / step);
  const rows = Math.ceil((frame.height - start) / step);
  const data = new Float32Array(cols * rows * 3);
  let to = 0;
  for (let y = start; y < frame.height; y += step) {
    for (let x = start; x < frame.width; x += step) {
      const from = (y * frame.width + x) * frame.channels;
      for (let k = 0; k < 3; k++) data[to++] = frame.data[from + k]!;
    }
  }
  return { data, cols, rows };
}

/** Mean absolute change where one thumbnail is shifted against the other. */
function change(before: Thumbnail, after: Thumbnail, right: number, down: number): number {
  const { cols, rows } = before;
  let [sum, count] = [0, 0];
  for (let y = Math.max(down, 0); y < rows + Math.min(down, 0); y++) {
    for (let x = Math.max(right, 0); x < cols + Math.min(right, 0); x++) {
      const old = (y * cols + x) * 3;
      const now = ((y - down) * cols + x - right) * 3;
      for (let k = 0; k < 3; k++) sum += Math.abs(after.data[now + k]! - before.data[old + k]!);
      count += 3;
    }
  }
  return sum / count;
}

/** Mean absolute change under the best shift: a pan is no cut. */
function changeUnderPan(before: Thumbnail, after: Thumbnail): number {
  const reach = Math.min(PAN, before.cols - 1, before.rows - 1);
  let least = Infinity;
  for (let down = -reach; down <= reach; down++) {
    for (let right = -reach; right <= reach; right++) {
      least = Math.min(least, change(before, after, right, down));
    }
  }
  return least;
}
