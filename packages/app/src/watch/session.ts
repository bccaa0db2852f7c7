/** One recording that is looked at: its data, where we are in it, and what is changed about it. */
import { type Signal, computed, signal } from "@preact/signals";
import {
  ApiError, type Boxes, type Column, type Detail, type Edits, type FaceBox, type Operation, type Segment, type Series,
  type Track, api,
} from "../api";
import { attempt, kept, problemText, refreshRecordings, say } from "../state";
import { words } from "../strings";
import { type ColourName, nth } from "../palette";
import { Chunks, closest } from "./chunks";
import { Player } from "./player";
import { type Span, clampView, turnTo, zoomView } from "./spans";

const text = words.watch;
const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((name) => typeof name === "string");

/** Signals that are drawn, for all recordings alike; a recording draws those that it has. */
export const shownColumns = kept<string[]>("columns", ["valence", "arousal"], isNames);

export class Session {
  readonly detail = signal<Detail>(null as unknown as Detail);
  readonly edits = computed<Edits>(() => this.detail.value.edits);
  readonly series = signal<Series | null>(null);
  readonly segments = signal<Segment[]>([]);
  readonly problem = signal<string | null>(null);
  /** The span of time that the timelines show. */
  readonly view = signal<Span>({ start: 0, end: 1 });
  /** Where the pointer is in the timelines. */
  readonly hover = signal<number | null>(null);
  /** The span between I and O. */
  readonly mark = signal<Span | null>(null);
  private markFrom: number | null = null;
  readonly selected = signal<number | null>(null);
  readonly hidden = signal<ReadonlySet<number>>(new Set());
  readonly busy = signal(false);
  readonly end: number;
  readonly player: Player;
  readonly boxes: Chunks<Boxes>;
  readonly values: Chunks<Series>;

  readonly columns = computed<Column[]>(() => {
    const known = new Map(this.detail.value.columns.map((column) => [column.name, column]));
    return shownColumns.value.flatMap((name) => known.get(name) ?? []);
  });
  readonly tracks = computed<Track[]>(() => this.detail.value.tracks);
  readonly shownTracks = computed<Track[]>(() =>
    this.tracks.value.filter((track) => !this.hidden.value.has(track.track)),
  );

  /** Size of the picture that boxes are measured in. */
  readonly picture: Signal<{ width: number; height: number }>;

  /**
   * Open a recording.
   *
   * Photos have no time: the time is the number of the photo then, and all of their faces are given.
   */
  constructor(
    detail: Detail,
    readonly photos: Boxes | null = null,
  ) {
    this.detail.value = detail;
    this.picture = signal({ width: detail.width || 16, height: detail.height || 9 });
    const last = detail.tracks.reduce((most, track) => Math.max(most, track.last), 0);
    this.end = photos ? (photos.times[photos.times.length - 1] ?? 0) : Math.max(detail.seconds, last, 0.2);
    this.view.value = { start: 0, end: this.end };
    this.player = new Player(this.end, detail.fps || 25, detail.film_offset);
    this.boxes = new Chunks(10, this.end, (start, end) => api.boxes(detail.id, start, end));
    this.values = new Chunks(10, this.end, (start, end) => this.fetchValues(start, end));
    const longest = [...detail.tracks].sort((one, other) => other.seconds - one.seconds)[0];
    this.selected.value = longest?.track ?? null;
    // Dozens of passers-by would bury those who stay.
    const many = [...detail.tracks].sort((one, other) => other.seconds - one.seconds).slice(12);
    this.hidden.value = new Set(many.map((track) => track.track));
  }

  get id(): string {
    return this.detail.value.id;
  }

  private fetchValues(start: number, end: number) {
    const scores = this.detail.value.columns.filter((column) => column.group !== "other");
    return api.series(this.id, { columns: scores.map((column) => column.name), start, end, points: 100_000 });
  }

  // --- names and colours -----------------------------------------------------------------------------------------------

  trackOf(track: number | null): Track | undefined {
    return this.tracks.value.find((other) => other.track === track);
  }

  nameOf(track: number | null): string {
    if (track === null) return text.everyone;
    return this.trackOf(track)?.name || text.face(track);
  }

  colourOf(track: number): ColourName {
    return nth(this.photos ? track : Math.max(0, this.tracks.value.findIndex((other) => other.track === track)));
  }

  // --- time --------------------------------------------------------------------------------------------------------------

  /** The frame at a time: its own time, and its faces. */
  frameAt(time: number): { time: number; faces: FaceBox[] } | null {
    const chunk = this.photos ?? this.boxes.at(time);
    if (!chunk) return null;
    const index = closest(chunk.times, time);
    const found = chunk.times[index];
    return found === undefined ? null : { time: found, faces: chunk.faces[index] ?? [] };
  }

  /** All scores of a face at a time; null where it has none within a tenth of a second. */
  valuesAt(track: number, time: number): Record<string, number | null> | null {
    const mine = this.values.at(time)?.tracks.find((other) => other.track === track);
    const index = mine ? closest(mine.time, time) : -1;
    if (!mine || index < 0 || Math.abs((mine.time[index] as number) - time) > 0.1) return null;
    return Object.fromEntries(Object.entries(mine.columns).map(([name, values]) => [name, values[index] ?? null]));
  }

  seek(time: number) {
    this.player.seek(time);
    this.seekView(this.player.time.value);
  }

  /** Turn the page of time, if need be, so that it shows `time`. */
  seekView(time: number) {
    this.view.value = turnTo(this.view.peek(), time, this.end);
  }

  zoom(factor: number, about?: number) {
    const { start, end } = this.view.value;
    const now = this.player.time.value;
    const centre = about ?? (now >= start && now <= end ? now : (start + end) / 2);
    this.view.value = zoomView(this.view.value, centre, factor, this.end);
  }

  look(span: Span) {
    this.view.value = clampView(span, this.end);
  }

  whole() {
    this.look({ start: 0, end: this.end });
  }

  // --- the marked span ---------------------------------------------------------------------------------------------------

  markIn() {
    const now = this.player.time.value;
    const end = this.mark.value?.end;
    this.markFrom = now;
    this.mark.value = { start: now, end: end !== undefined && end > now ? end : now };
  }

  markOut() {
    const now = this.player.time.value;
    const start = this.mark.value?.start ?? this.markFrom ?? 0;
    this.mark.value = start <= now ? { start, end: now } : { start: now, end: start };
  }

  /** The marked span if it has a length; else it is said how to mark one. */
  markedSpan(): Span | null {
    const span = this.mark.value;
    if (span && span.end > span.start) return span;
    say(text.markFirst);
    return null;
  }

  // --- changes -----------------------------------------------------------------------------------------------------------

  /** Make an edit; whether it was made. */
  async apply(operation: Operation): Promise<boolean> {
    return this.change(api.edit(this.id, operation, this.edits.value.version));
  }

  async undo() {
    const { can_undo: can, version } = this.edits.value;
    if (can) await this.change(api.undo(this.id, version));
  }

  async redo() {
    const { can_redo: can, version } = this.edits.value;
    if (can) await this.change(api.redo(this.id, version));
  }

  private async change(work: Promise<Edits>): Promise<boolean> {
    this.busy.value = true;
    const edits = await attempt(work.catch((problem: unknown) => this.refused(problem)));
    if (edits) {
      this.detail.value = { ...this.detail.value, edits };
      await attempt(this.reload());
      void refreshRecordings();
    }
    this.busy.value = false;
    return edits !== undefined;
  }

  /** Another tab was quicker: what it did is shown before anything else is done. */
  private async refused(problem: unknown): Promise<never> {
    if (problem instanceof ApiError && problem.status === 409) await attempt(this.reload());
    throw problem;
  }

  /** Take up what an edit changed: tracks, values, segments, boxes. */
  async reload() {
    const detail = await api.recording(this.id);
    // What was asked for before the last edit may come after it, and is old then.
    if (detail.edits.version < this.edits.value.version) return;
    this.detail.value = detail;
    if (!this.trackOf(this.selected.value)) this.selected.value = detail.tracks[0]?.track ?? null;
    this.boxes.renew();
    this.values.renew();
    this.seriesOf = null;
    await Promise.all([this.loadSeries(), this.loadSegments()]);
  }

  async loadSegments() {
    try {
      // Codes are edits, which are here already, and newer.
      this.segments.value = (await api.segments(this.id)).filter((segment) => segment.kind !== "code");
    } catch (problem) {
      say(problemText(problem), "problem");
    }
  }

  /** What `series` was asked for. */
  private seriesOf: (Span & { columns: string }) | null = null;
  private asking: AbortController | null = null;

  /** Load what the view shows, with a margin, unless it is there as closely already. */
  async loadSeries() {
    const view = this.view.value;
    const expressions = this.detail.value.columns.filter((column) => column.group === "expression");
    const names = [...new Set([...this.columns.value, ...expressions].map((column) => column.name))];
    const columns = names.join();
    const length = view.end - view.start;
    const before = this.seriesOf;
    const within = before && before.start <= view.start && before.end >= view.end;
    if (within && before.columns === columns && before.end - before.start <= 2.2 * length) return;
    const start = Math.max(0, view.start - length / 2);
    const end = Math.min(this.end, view.end + length / 2);
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const points = this.tracks.value.length > 6 ? 1500 : 3000;
    try {
      const wanted = { columns: names, start, end: end + 1e-3, points };
      this.series.value = await api.series(this.id, wanted, asking.signal);
      this.seriesOf = { start, end, columns };
      this.problem.value = null;
    } catch (problem) {
      if (problem instanceof DOMException && problem.name === "AbortError") return;
      this.problem.value = problemText(problem);
    }
  }

  close() {
    this.asking?.abort();
    this.player.close();
  }
}
