/** Which way up: faces that are seen better turned. */

import type { Detector } from "./detect.js";
import { leanOf, overlap, quarterTurn, signed, wrapped } from "./geometry.js";
import type { Raster } from "./picture.js";
import type { Face } from "./prepare.js";

/** Faces with this score are not checked. */
const SURE = 0.9;
/** Turns after which an unsure face is looked at once more, degrees clockwise. */
const VIEWS = [45, 90, 135, 180, 225, 270, 315] as const;
/** Two views whose directions from mouth to eyes differ by more, degrees, cannot both be right. */
const CONTRADICTION = 10;
/** A turned view is believed if its score, once it is straightened, is higher by more. */
const BETTER_BY = 0.05;
/** What a turned window shows is the same face if it overlaps this much with it. */
const SAME_FACE = 0.3;

/**
 * Sees each face the right way up: a network trained on upright faces also finds some that are
 * upside down, with eyes where the mouth is.
 *
 * @returns The faces in the same order, each as it was given or as it is seen after a turn.
 */
export async function bestViews(
  detector: Detector,
  frame: Raster,
  faces: readonly Face[],
): Promise<Face[]> {
  const best = [...faces];
  const unsure = faces.flatMap((face, i) => (face.confidence < SURE ? [i] : []));
  const boxes = unsure.map((i) => faces[i]!.box);
  for (const extra of VIEWS) {
    const turns = unsure.map((i) => wrapped(quarterTurn(faces[i]!.points) + extra));
    const views = await detector.follow(frame, boxes, turns);
    for (const [k, i] of unsure.entries()) {
      const view = views[k];
      if (!view || !contradicts(view, faces[i]!)) continue;
      const turned = await straightened(detector, frame, view);
      const straight = await straightened(detector, frame, best[i]!);
      const margin = best[i] === faces[i] ? BETTER_BY : 0;
      if (turned.confidence > straight.confidence + margin) best[i] = turned;
    }
  }
  return best;
}

function contradicts(view: Face, face: Face): boolean {
  if (view.confidence <= face.confidence || overlap(view.box, face.box) < SAME_FACE) return false;
  return Math.abs(signed(leanOf(view.points) - leanOf(face.points))) > CONTRADICTION;
}

/** The face as it is seen when the frame is turned until its points stand upright. */
async function straightened(detector: Detector, frame: Raster, face: Face): Promise<Face> {
  const [view] = await detector.follow(frame, [face.box], [wrapped(-leanOf(face.points))]);
  return !view || view.confidence < face.confidence ? face : view;
}
