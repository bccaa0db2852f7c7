/** Timelines under the film: one block per person, all with one axis of time. */
import { useComputed, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Code, Segment, Track } from "../api";
import { colours, nth } from "../palette";
import { words } from "../strings";
import { Minus, Plus, Whole } from "../parts/icons";
import { useSize } from "../parts/parts";
import { ITEM, type Item, Lane, Overview, itemAt, itemsOfSegments, paintExpressions, paintItems, paintRuler } from "./lanes";
import { LEFT, Legend, Plot, RIGHT, rowsOf } from "./plot";
import type { Session } from "./session";
import { SignalMenu } from "./signals";
import { rowsOfSpans } from "./spans";

const text = words.watch;

/** The labels' column, left of the plots. */
const LABELS = 172;

function slackOf(session: Session, width: number): number {
  const { start, end } = session.view.value;
  return ((end - start) / Math.max(1, width)) * 3;
}

function useItems(session: Session, make: () => Item[]) {
  const items = useComputed(make);
  const paint = useMemo(
    () => (ink: CanvasRenderingContext2D, x: (time: number) => number) => paintItems(ink, x, items.value),
    [session],
  );
  return { paint, items };
}

function ItemLane(props: { session: Session; width: number; label: string; make: () => Item[] }) {
  const { session, width, label, make } = props;
  const { paint, items } = useItems(session, make);
  const rows = items.value.reduce((most, item) => Math.max(most, item.row), 0) + 1;
  return (
    <Lane
      session={session}
      width={width}
      height={rows * ITEM + 2}
      label={label}
      paint={paint}
      hit={(time, y) => itemAt(items.value, time, Math.floor(y / ITEM), slackOf(session, width))}
    />
  );
}

function codeItems(codes: readonly Code[], track: number | null): Item[] {
  const names = [...new Set(codes.map((code) => code.code))];
  const mine = codes.filter((code) => code.track === track);
  const rows = rowsOfSpans(mine, 6);
  return mine.map(({ start, end, code }, index) => ({
    start, end, label: code, colour: colours.value[nth(names.indexOf(code))], row: rows[index] ?? 0,
  }));
}

/** What holds for everyone: spans that are excluded, and codes. */
function CommonLane({ session, width }: { session: Session; width: number }) {
  const make = () => {
    const { excluded, codes } = session.edits.value;
    const spans = excluded.filter((span) => span.track === null);
    const shaded = spans.map(({ start, end, note }) => ({
      start, end, label: note ? `${text.excluded}: ${note}` : text.excluded, colour: "", excluded: true, row: 0,
    }));
    return [...shaded, ...codeItems(codes, null)];
  };
  const { excluded, codes } = session.edits.value;
  if (![...excluded, ...codes].some((span) => span.track === null)) return null;
  return (
    <div class="line">
      <div class="label soft small">{text.everyone}</div>
      <ItemLane session={session} width={width} label={text.commonLane} make={make} />
    </div>
  );
}

function SegmentLanes({ session, track, width }: { session: Session; track: number; width: number }) {
  const mine = session.segments.value.filter((segment) => segment.track === track);
  const kinds = [...new Set(mine.map((segment) => segment.kind))].sort();
  const order = [...new Set(session.segments.value.map((segment) => segment.kind))].sort();
  const ofKind = (kind: string) => (segment: Segment) => segment.track === track && segment.kind === kind;
  const codes = session.edits.value.codes.some((code) => code.track === track);
  return (
    <>
      {kinds.map((kind) => (
        <div class="line" key={kind}>
          <div class="label soft small">{words.segments[kind] ?? kind}</div>
          <ItemLane
            session={session}
            width={width}
            label={`${words.segments[kind] ?? kind}, ${session.nameOf(track)}`}
            make={() => itemsOfSegments(session.segments.value.filter(ofKind(kind)), order)}
          />
        </div>
      ))}
      {codes && (
        <div class="line">
          <div class="label soft small">{text.codes}</div>
          <ItemLane
            session={session}
            width={width}
            label={text.codesOf(session.nameOf(track))}
            make={() => codeItems(session.edits.value.codes, track)}
          />
        </div>
      )}
    </>
  );
}

function Block({ session, track, width }: { session: Session; track: Track; width: number }) {
  const rows = rowsOf(session.columns.value);
  const selected = session.selected.value === track.track;
  const strip = useMemo(() => paintExpressions(session, track.track), [session, track.track]);
  const name = session.nameOf(track.track);
  // One or two people have room to be looked at closely.
  const height = session.shownTracks.value.length <= 2 ? 112 : selected ? 84 : 56;
  return (
    <section class={`block ${selected ? "selected" : ""}`} aria-label={name} data-track={track.track}>
      <div class="line">
        <button class="label person" aria-pressed={selected} onClick={() => (session.selected.value = track.track)}>
          <i style={{ background: `var(--${session.colourOf(track.track)})` }} />
          <span class="name">{name}</span>
        </button>
        <Lane session={session} width={width} height={14} label={text.expressionsOf(name)} paint={strip} class="strip" />
      </div>
      {rows.map((row) => (
        <div class="line" key={row.key}>
          <div class="label">
            <Legend session={session} track={track.track} row={row} />
          </div>
          <Plot
            session={session}
            track={track.track}
            row={row}
            width={width}
            height={Math.max(height, row.columns.length * 16 + 8)}
            label={text.plotOf(name, row.columns.map((column) => column.title).join(", "))}
          />
        </div>
      ))}
      <SegmentLanes session={session} track={track.track} width={width} />
    </section>
  );
}

/** The line at the present time, over all plots; a component of its own since it moves with each frame. */
function Playhead({ session, width }: { session: Session; width: number }) {
  const { start, end } = session.view.value;
  const share = (session.player.time.value - start) / (end - start);
  if (share < -1e-6 || share > 1 + 1e-6) return null;
  const x = LABELS + LEFT + share * (width - LEFT - RIGHT);
  return <div class="playhead" style={{ transform: `translateX(${x}px)` }} aria-hidden="true" />;
}

function Tools({ session }: { session: Session }) {
  return (
    <div class="tools" role="toolbar" aria-label={text.timelineTools}>
      <SignalMenu session={session} />
      <span class="key soft small"><i class="doubtful" />{text.doubtful}</span>
      <span class="key soft small"><i class="excluded" />{text.excluded}</span>
      <span class="grow" />
      <span class="soft small hint">{text.timelineHint}</span>
      <button class="bare" title={text.zoomOut} aria-label={text.zoomOut} onClick={() => session.zoom(2)}><Minus /></button>
      <button class="bare" title={text.zoomIn} aria-label={text.zoomIn} onClick={() => session.zoom(0.5)}><Plus /></button>
      <button class="bare" title={text.zoomWhole} aria-label={text.zoomWhole} onClick={() => session.whole()}><Whole /></button>
    </div>
  );
}

function useWheel(session: Session, width: number) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    // Not by JSX: the browser must be told that this may stop the page's own zoom.
    const onWheel = (event: WheelEvent) => {
      const { start, end } = session.view.value;
      const inner = width - LEFT - RIGHT;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        const x = event.clientX - element.getBoundingClientRect().left - LABELS - LEFT;
        session.zoom(1.0015 ** event.deltaY, start + (x / inner) * (end - start));
      } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        const by = (event.deltaX / inner) * (end - start);
        session.look({ start: start + by, end: end + by });
      }
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [session, width]);
  return ref;
}

export function Timelines({ session }: { session: Session }) {
  const frame = useRef<HTMLDivElement>(null);
  const { width: whole } = useSize(frame);
  const width = Math.max(0, whole - LABELS);
  const wheel = useWheel(session, width);
  const timer = useRef(0);
  useSignalEffect(() => {
    void session.view.value;
    void session.columns.value;
    clearTimeout(timer.current);
    // Not for every step of a zoom.
    timer.current = window.setTimeout(() => void session.loadSeries(), session.series.peek() ? 120 : 0);
  });
  useSignalEffect(() => {
    // The page of time turns with the film.
    if (session.player.playing.value) session.seekView(session.player.time.value);
  });
  const tracks = session.shownTracks.value;
  return (
    <section class="timelines" aria-label={text.timelines}>
      <Tools session={session} />
      {session.problem.value && <p class="problem" role="alert">{session.problem.value}</p>}
      <div class="tracks" ref={wheel}>
        <div class="measure" ref={frame}>
          <div class="head">
            <div class="line">
              <div class="label soft small">{text.wholeRecording}</div>
              <Overview session={session} width={width} />
            </div>
            <div class="line">
              <div class="label" />
              <Lane session={session} width={width} height={20} label={text.ruler} paint={paintRuler} />
            </div>
            <CommonLane session={session} width={width} />
          </div>
          {tracks.length === 0 && <p class="soft none">{session.tracks.value.length ? text.allHidden : text.noFaces}</p>}
          {tracks.map((track) => <Block key={track.track} session={session} track={track} width={width} />)}
          <Playhead session={session} width={width} />
        </div>
      </div>
    </section>
  );
}
