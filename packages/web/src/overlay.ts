/** Readings drawn over a picture. */

import type { Box } from "./geometry.js";
import { overlap } from "./geometry.js";
import type { Reading } from "./reader.js";

/** After Okabe & Ito (2008): distinguishable with every kind of colour vision. */
const PALETTE = ["#56b4e9", "#f0b232", "#3cbe96", "#ec96c4", "#f0e442", "#eb783c", "#c8c8ff"];
const DARK = "rgba(14, 17, 22, 0.82)";
const WHITE = "#f6f8fa";

/** The colour of a face, the same for as long as it is tracked. */
export function colourOf(face: number): string {
  return PALETTE[face % PALETTE.length]!;
}

/** What a label says of a face, such as "0 happiness 97 %". */
export function labelOf({ face, expression, status, scores }: Reading): string {
  const share = expression === undefined ? undefined : scores[`expr_${expression}`];
  const percent = typeof share === "number" ? ` ${Math.round(100 * share)} %` : "";
  const doubt = status === "doubtful" ? " (doubtful)" : "";
  return `${face}${expression === undefined ? "" : ` ${expression}`}${percent}${doubt}`;
}

/**
 * Draws box, points and label of each face; doubtful ones with a broken line.
 *
 * @param context - Of a canvas over, or with, the frame.
 * @param readings - Of the frame.
 * @param scale - Pixels of the canvas per pixel of the frame.
 */
export function drawReadings(
  context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D,
  readings: readonly Reading[],
  scale = 1,
): void {
  const { width, height } = context.canvas;
  const size = Math.max(12, Math.min(width, height) / 32);
  context.save();
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineWidth = Math.max(2, size / 7);
  const labels: Box[] = [];
  for (const reading of readings) {
    const colour = colourOf(reading.face);
    const [x, y, w, h] = reading.box.map((side) => side * scale) as [
      number,
      number,
      number,
      number,
    ];
    context.setLineDash(reading.status === "doubtful" ? [size / 2, size / 3] : []);
    context.strokeStyle = colour;
    context.strokeRect(x, y, w, h);
    context.fillStyle = colour;
    for (const [px, py] of reading.points) {
      context.beginPath();
      // Whole numbers lie at the centres of pixels.
      context.arc((px + 0.5) * scale, (py + 0.5) * scale, size / 9, 0, 2 * Math.PI);
      context.fill();
    }
    labels.push(drawLabel(context, labelOf(reading), colour, size, [x, y, w, h], labels));
  }
  context.restore();
}

/** Above the box, else below it, within the picture and beside labels that are there already. */
function drawLabel(
  context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D,
  text: string,
  colour: string,
  size: number,
  [x, top, , boxHeight]: Box,
  others: readonly Box[],
): Box {
  const width = context.measureText(text).width + size;
  const height = 1.5 * size;
  const left = Math.max(0, Math.min(x, context.canvas.width - width));
  const lowest = context.canvas.height - height;
  const places = [top - height - 2, top + boxHeight + 2, top + boxHeight - height]
    .filter((y) => y >= 0 && y <= lowest)
    .map((y): Box => [left, y, width, height]);
  const free = places.find((place) => others.every((other) => overlap(place, other) === 0));
  const label = free ?? places[0] ?? [left, Math.min(Math.max(top, 0), lowest), width, height];
  context.fillStyle = DARK;
  context.fillRect(left, label[1], width, height);
  context.fillStyle = colour;
  context.fillRect(left, label[1], size / 4, height);
  context.fillStyle = WHITE;
  context.fillText(text, left + size / 1.6, label[1] + height / 2);
  return label;
}
