/** Spans of time: which are shaded, and how a view of time moves and zooms. */
import type { Excluded, TrackSeries } from "../api";

export interface Span {
  start: number;
  end: number;
}

export interface Band extends Span {
  kind: "doubtful" | "missing" | "excluded";
}

const KIND_OF_STATUS: Record<string, Band["kind"]> = {
  doubtful: "doubtful",
  gap: "doubtful",
  unreadable: "missing",
  excluded: "excluded",
};

/**
 * What of a track is shaded, by its statuses.
 *
 * A span reaches from its first row to the row after it, but no further than `longest` seconds, since a track that is
 * away has no rows.
 */
export function bandsOf(series: TrackSeries, names: readonly string[], longest: number): Band[] {
  const bands: Band[] = [];
  const { time, status } = series;
  for (let row = 0; row < time.length; row += 1) {
    const kind = KIND_OF_STATUS[names[status[row] ?? -1] ?? ""];
    if (!kind) continue;
    const start = time[row] as number;
    const end = Math.min(time[row + 1] ?? start + longest, start + longest);
    const last = bands[bands.length - 1];
    if (last?.kind === kind && last.end >= start) last.end = end;
    else bands.push({ kind, start, end });
  }
  return bands;
}

export function excludedBands(excluded: readonly Excluded[], track: number | null): Band[] {
  const mine = excluded.filter((span) => span.track === null || span.track === track);
  return mine.map(({ start, end }) => ({ start, end, kind: "excluded" as const }));
}

/** A view that lies within 0 and `end`, and is at least `least` seconds long. */
export function clampView(view: Span, end: number, least = 0.2): Span {
  const length = Math.min(Math.max(view.end - view.start, Math.min(least, end)), end);
  const start = Math.min(Math.max(0, view.start), end - length);
  return { start, end: start + length };
}

/** Zoom by a factor (below 1: closer) about a time that stays where it is. */
export function zoomView(view: Span, about: number, factor: number, end: number): Span {
  const start = about - (about - view.start) * factor;
  return clampView({ start, end: start + (view.end - view.start) * factor }, end);
}

/** The view that shows `time`: the same if it does already, else the page of time that it begins. */
export function turnTo(view: Span, time: number, end: number): Span {
  if (time >= view.start && time <= view.end) return view;
  const length = view.end - view.start;
  const start = time > view.end ? time - length * 0.05 : time - length * 0.5;
  return clampView({ start, end: start + length }, end);
}

/** In which row each span is drawn, so that none covers another; in the last row those that have no room do. */
export function rowsOfSpans(spans: readonly Span[], most: number): number[] {
  const ends: number[] = [];
  const order = spans.map((_, index) => index).sort((one, other) => (spans[one] as Span).start - (spans[other] as Span).start);
  const rows = new Array<number>(spans.length).fill(0);
  for (const index of order) {
    const { start, end } = spans[index] as Span;
    const free = ends.findIndex((last) => last <= start);
    const row = free >= 0 ? free : Math.min(ends.length, most - 1);
    ends[row] = Math.max(ends[row] ?? 0, end);
    rows[index] = row;
  }
  return rows;
}

const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/** The distance of marks on a ruler of time, so that they are at least `room` pixels apart. */
export function rulerStep(view: Span, width: number, room: number): number {
  const least = ((view.end - view.start) / Math.max(1, width)) * room;
  return STEPS.find((step) => step >= least) ?? Math.ceil(least / 3600) * 3600;
}
