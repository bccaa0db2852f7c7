/** Lanes over time, drawn on canvases: the ruler, the whole recording, expressions, segments and codes. */
import { effect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Segment } from "../api";
import { clock } from "../format";
import { colours, nth, ofExpression } from "../palette";
import { words } from "../strings";
import { FONT, prepare } from "./overlay";
import { LEFT, RIGHT, bandsOfTrack, hatching, paintBand } from "./plot";
import type { Session } from "./session";
import { type Span, rowsOfSpans, rulerStep } from "./spans";

const text = words.watch;

/** Something on a lane that can be clicked. */
export interface Item extends Span {
  label: string;
  colour: string;
  /** The row in its lane, from 0. */
  row: number;
  excluded?: boolean;
}

type Paint = (ink: CanvasRenderingContext2D, x: (time: number) => number, view: Span, width: number) => void;

interface LaneProps {
  session: Session;
  width: number;
  height: number;
  label: string;
  paint: Paint;
  /** What is under a time; its label is shown, and a click goes to its start. */
  hit?: (time: number, y: number) => Item | undefined;
  class?: string;
}

export function Lane({ session, width, height, label, paint, hit, class: name }: LaneProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const inner = Math.max(1, width - LEFT - RIGHT);
  useEffect(
    () =>
      effect(() => {
        const view = session.view.value;
        const ink = canvas.current && prepare(canvas.current, width, height);
        if (!ink) return;
        const scale = inner / (view.end - view.start);
        ink.save();
        ink.beginPath();
        ink.rect(LEFT, 0, inner, height);
        ink.clip();
        paint(ink, (time) => LEFT + (time - view.start) * scale, view, inner);
        ink.restore();
      }),
    [session, width, height, paint],
  );
  const timeAt = (event: MouseEvent) => {
    const { start, end } = session.view.value;
    return start + ((event.offsetX - LEFT) / inner) * (end - start);
  };
  return (
    <canvas
      ref={canvas}
      class={`lane ${name ?? ""}`}
      role="img"
      aria-label={label}
      style={{ width: `${width}px`, height: `${height}px` }}
      onClick={(event) => {
        const time = timeAt(event);
        session.seek(hit?.(time, event.offsetY)?.start ?? time);
      }}
      onMouseMove={(event) => {
        const item = hit?.(timeAt(event), event.offsetY);
        event.currentTarget.title = item ? `${item.label}, ${clock(item.start)}–${clock(item.end)}` : "";
      }}
    />
  );
}

export const paintRuler: Paint = (ink, x, view, width) => {
  const step = rulerStep(view, width, 76);
  const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  ink.font = `11px ${FONT}`;
  ink.fillStyle = colours.value.soft;
  ink.strokeStyle = colours.value.line;
  ink.beginPath();
  for (let mark = Math.ceil(view.start / step); mark * step <= view.end; mark += 1) {
    const at = x(mark * step);
    ink.moveTo(Math.round(at) + 0.5, 13);
    ink.lineTo(Math.round(at) + 0.5, 20);
    const label = clock(mark * step, digits);
    const room = ink.measureText(label).width;
    ink.fillText(label, Math.min(Math.max(LEFT, at - room / 2), LEFT + width - room), 11);
  }
  ink.stroke();
};

export const ITEM = 16;

export function paintItems(ink: CanvasRenderingContext2D, x: (time: number) => number, items: readonly Item[]) {
  ink.font = `11px ${FONT}`;
  for (const item of items) {
    const [from, to] = [x(item.start), Math.max(x(item.end), x(item.start) + 2)];
    const top = item.row * ITEM + 1;
    ink.fillStyle = item.excluded ? colours.value.shade : item.colour;
    ink.fillRect(from, top, to - from, ITEM - 2);
    if (item.excluded) {
      ink.fillStyle = hatching(ink);
      ink.fillRect(from, top, to - from, ITEM - 2);
    }
    if (item.excluded || to - from < ink.measureText(item.label).width + 8) continue;
    ink.fillStyle = readableOn(item.colour);
    ink.fillText(item.label, Math.max(from, LEFT) + 4, top + ITEM / 2 + 3);
  }
}

/** Black or white, whichever is easier to read on a colour. */
export function readableOn(colour: string): string {
  const parts = /^#(..)(..)(..)$/.exec(colour);
  if (!parts) return "#000";
  const [red, green, blue] = parts.slice(1).map((part) => {
    const value = Number.parseInt(part, 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.19 ? "#000" : "#fff";
}

/** The last of the items of a row that hold a time: later ones are drawn over earlier ones. */
export function itemAt(items: readonly Item[], time: number, row: number, slack: number): Item | undefined {
  return items.findLast((item) => item.row === row && time >= item.start - slack && time <= item.end + slack);
}

export function itemsOfSegments(segments: readonly Segment[], order: readonly string[]): Item[] {
  const spans = segments.map(({ onset: start, offset: end }) => ({ start, end }));
  const rows = rowsOfSpans(spans, 6);
  return segments.map((segment, index) => ({
    start: segment.onset,
    end: segment.offset,
    row: rows[index] ?? 0,
    label: words.expressions[segment.label] ?? segment.label,
    colour: colours.value[segment.kind === "expression" ? ofExpression(segment.label) : nth(order.indexOf(segment.kind) + 2)],
  }));
}

/** The likeliest expression over time, as a strip of colours. */
export function paintExpressions(session: Session, track: number): Paint {
  return (ink, x, view) => {
    const mine = session.series.value?.tracks.find((other) => other.track === track);
    const columns = session.detail.value.columns.filter((column) => column.group === "expression");
    if (!mine || !columns.length) return;
    const limit = Math.max(0.25, (view.end - view.start) / 100);
    for (let row = 0; row < mine.time.length; row += 1) {
      const start = mine.time[row] as number;
      const next = mine.time[row + 1] ?? start + 0.04;
      if (next < view.start || start > view.end) continue;
      let best = -1;
      let name = "";
      for (const column of columns) {
        const value = mine.columns[column.name]?.[row] ?? -1;
        if (value > best) [best, name] = [value, column.name];
      }
      if (!name || best < 0) continue;
      ink.fillStyle = colours.value[ofExpression(name)];
      const from = x(start);
      ink.fillRect(from, 0, Math.max(1, x(Math.min(next, start + limit)) - from + 0.5), 14);
    }
    for (const band of bandsOfTrack(session, track)) {
      if (band.kind === "excluded") paintBand(ink, band, x(band.start), 0, x(band.end) - x(band.start), 14);
    }
  };
}

/** The whole recording, small: who is there when, and a window that can be moved. */
export function Overview({ session, width }: { session: Session; width: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const inner = Math.max(1, width - LEFT - RIGHT);
  const tracks = session.shownTracks.value;
  const height = Math.min(34, Math.max(16, tracks.length * 4 + 6));
  const scale = inner / session.end;
  useEffect(
    () =>
      effect(() => {
        const ink = canvas.current && prepare(canvas.current, width, height);
        if (!ink) return;
        const room = (height - 6) / Math.max(1, tracks.length);
        ink.fillStyle = colours.value.panel;
        ink.fillRect(LEFT, 0, inner, height);
        tracks.forEach((track, row) => {
          ink.fillStyle = colours.value[session.colourOf(track.track)];
          const from = LEFT + track.first * scale;
          ink.fillRect(from, 3 + row * room, Math.max(1, (track.last - track.first) * scale), Math.max(1, Math.min(3, room - 0.5)));
        });
        for (const span of session.edits.value.excluded) {
          ink.fillStyle = hatching(ink);
          ink.fillRect(LEFT + span.start * scale, 0, Math.max(1, (span.end - span.start) * scale), height);
        }
        const view = session.view.value;
        const [from, to] = [LEFT + view.start * scale, LEFT + view.end * scale];
        ink.fillStyle = colours.value.shade;
        ink.fillRect(LEFT, 0, from - LEFT, height);
        ink.fillRect(to, 0, LEFT + inner - to, height);
        ink.strokeStyle = colours.value.accent;
        ink.lineWidth = 1.5;
        ink.strokeRect(from + 0.75, 0.75, Math.max(2, to - from - 1.5), height - 1.5);
        ink.fillStyle = colours.value.ink;
        ink.fillRect(LEFT + session.player.time.value * scale - 0.5, 0, 1.5, height);
      }),
    [session, width, height, tracks],
  );
  const move = (event: PointerEvent) => {
    const at = (event.offsetX - LEFT) / scale;
    const { start, end } = session.view.value;
    session.look({ start: at - (end - start) / 2, end: at + (end - start) / 2 });
  };
  return (
    <canvas
      ref={canvas}
      class="lane overview"
      role="img"
      aria-label={text.overview}
      style={{ width: `${width}px`, height: `${height}px` }}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        move(event);
      }}
      onPointerMove={(event) => event.buttons && move(event)}
    />
  );
}
