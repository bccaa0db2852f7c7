/** Draw faces over the picture. */
import type { FaceBox } from "../api";
import { type ColourName, colours } from "../palette";
import { percent } from "../format";
import { words } from "../strings";

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Layers {
  boxes: boolean;
  names: boolean;
  readings: boolean;
  points: boolean;
}

/** Where a picture of a size lies within a box that it fits into, in the middle. */
export function fit(width: number, height: number, into: { width: number; height: number }): Rect {
  const scale = Math.min(into.width / width, into.height / height) || 0;
  const size = { width: width * scale, height: height * scale };
  return { x: (into.width - size.width) / 2, y: (into.height - size.height) / 2, ...size };
}

/** Make a canvas as sharp as the screen is, and clear it. */
export function prepare(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const ratio = devicePixelRatio || 1;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const ink = canvas.getContext("2d");
  ink?.setTransform(ratio, 0, 0, ratio, 0, 0);
  ink?.clearRect(0, 0, width, height);
  return ink;
}

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

const overlap = (one: Rect, other: Rect) =>
  one.x < other.x + other.width && other.x < one.x + one.width && one.y < other.y + other.height && other.y < one.y + one.height;

/** Where a label goes: above its face, or else beneath, or else inside, wherever it covers no other label. */
function placeOf(size: { width: number; height: number }, box: Rect, area: Rect, taken: readonly Rect[]): Rect {
  const x = Math.min(Math.max(box.x, area.x), Math.max(area.x, area.x + area.width - size.width));
  const rows = [box.y - size.height - 3, box.y + box.height + 3, box.y + 3, box.y + box.height - size.height - 3];
  const places = rows.map((y) => ({ x, y, ...size }));
  const inside = places.filter((place) => place.y >= area.y && place.y + size.height <= area.y + area.height);
  const free = inside.find((place) => !taken.some((other) => overlap(place, other)));
  return free ?? inside[0] ?? { x, y: box.y + 3, ...size };
}

function drawLabel(ink: CanvasRenderingContext2D, lines: string[], box: Rect, colour: string, area: Rect, taken: Rect[]) {
  ink.font = `600 12px ${FONT}`;
  const widths = lines.map((line) => ink.measureText(line).width);
  const width = Math.max(...widths) + 14;
  const height = lines.length * 16 + 4;
  const place = placeOf({ width, height }, box, area, taken);
  const { x: left, y: top } = place;
  taken.push(place);
  ink.fillStyle = "rgba(12, 14, 17, .78)";
  ink.beginPath();
  ink.roundRect(left, top, width, height, 3);
  ink.fill();
  ink.fillStyle = colour;
  ink.fillRect(left, top, 3, height);
  ink.fillStyle = "#fff";
  lines.forEach((line, row) => {
    ink.font = `${row ? 400 : 600} 12px ${FONT}`;
    ink.fillText(line, left + 9, top + 14 + row * 16);
  });
}

export interface Drawn {
  face: FaceBox;
  name: string;
  colour: ColourName;
  selected: boolean;
}

/** A box on the picture, in pixels of the canvas. */
export function placed(face: FaceBox, size: { width: number; height: number }, area: Rect): Rect {
  const [sx, sy] = [area.width / size.width, area.height / size.height];
  const [x, y, width, height] = face.box;
  return { x: area.x + x * sx, y: area.y + y * sy, width: width * sx, height: height * sy };
}

function reading(face: FaceBox): string {
  if (face.expression === null) return words.statuses[face.status] ?? face.status;
  const name = words.expressions[face.expression] ?? face.expression;
  const sure = face.probability === null ? "" : ` ${percent(face.probability)}`;
  const doubt = face.status === "ok" ? "" : ` · ${words.statuses[face.status] ?? face.status}`;
  return `${name}${sure}${doubt}`;
}

function drawPoints(ink: CanvasRenderingContext2D, face: FaceBox, size: { width: number; height: number }, area: Rect) {
  for (const [x, y] of face.points ?? []) {
    ink.beginPath();
    ink.arc(area.x + (x * area.width) / size.width, area.y + (y * area.height) / size.height, 2, 0, 7);
    ink.fill();
  }
}

export function drawFaces(
  ink: CanvasRenderingContext2D,
  faces: readonly Drawn[],
  size: { width: number; height: number },
  area: Rect,
  layers: Layers,
) {
  const taken: Rect[] = [];
  // The selected face last, so that nothing lies on it.
  const ordered = [...faces].sort((one, other) => Number(one.selected) - Number(other.selected));
  for (const { face, name, colour, selected } of ordered) {
    const box = placed(face, size, area);
    const stroke = colours.value[colour];
    if (layers.boxes) {
      ink.setLineDash(face.status === "ok" ? [] : [5, 4]);
      // A dark rim keeps the line visible on light pictures.
      for (const [width, style] of [[selected ? 5 : 3.5, "rgba(0, 0, 0, .45)"], [selected ? 2.5 : 1.5, stroke]] as const) {
        ink.lineWidth = width;
        ink.strokeStyle = style;
        ink.beginPath();
        ink.roundRect(box.x, box.y, box.width, box.height, 3);
        ink.stroke();
      }
      ink.setLineDash([]);
    }
    ink.fillStyle = stroke;
    if (layers.points) drawPoints(ink, face, size, area);
    const lines = [layers.names ? name : "", layers.readings ? reading(face) : ""].filter(Boolean);
    if (lines.length) drawLabel(ink, lines, box, stroke, area, taken);
  }
}
