/** One row of a timeline: lines over time, by uPlot. */
import { effect, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { Column, TrackSeries } from "../api";
import { score } from "../format";
import { type ColourName, colours, isColour, nth } from "../palette";
import { closest } from "./chunks";
import { FONT } from "./overlay";
import type { Session } from "./session";
import { type Band, bandsOf, excludedBands } from "./spans";

/** Pixels left of the plotted area, for the axis, and right of it; the ruler and the lanes keep them free, too. */
export const LEFT = 36;
export const RIGHT = 10;

/** Columns of one row: they share a range, so that one axis holds for all. */
export interface Row {
  key: string;
  low: number;
  high: number;
  unit: string;
  columns: Column[];
}

/** The rows that show these columns: one per group and range. */
export function rowsOf(columns: readonly Column[]): Row[] {
  const rows = new Map<string, Row>();
  for (const column of columns) {
    const [low, high] = [column.low ?? 0, column.high ?? 1];
    const key = `${column.group} ${low} ${high}`;
    const row = rows.get(key) ?? { key, low, high, unit: column.unit, columns: [] };
    row.columns.push(column);
    rows.set(key, row);
  }
  return [...rows.values()];
}

export function colourOfColumn(column: Column, index: number): ColourName {
  const plain = column.name.replace(/^expr_/, "");
  return isColour(plain) ? plain : nth(index);
}

/** Lines beyond the number of colours are dashed. */
const dashOf = (column: Column, index: number) =>
  isColour(column.name.replace(/^expr_/, "")) || index < 7 ? undefined : [4, 3];

let hatch: { colour: string; pattern: CanvasPattern | null } | null = null;

/** Slanted lines, for what is excluded: told from what is doubtful without colour. */
export function hatching(ink: CanvasRenderingContext2D): CanvasPattern | string {
  const colour = colours.value.excluded;
  if (hatch?.colour !== colour) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    if (pen) {
      pen.strokeStyle = colour;
      pen.lineWidth = 1.6;
      pen.beginPath();
      pen.moveTo(-2, 10);
      pen.lineTo(10, -2);
      pen.moveTo(-2, 2);
      pen.lineTo(2, -2);
      pen.moveTo(6, 10);
      pen.lineTo(10, 6);
      pen.stroke();
    }
    hatch = { colour, pattern: ink.createPattern(tile, "repeat") };
  }
  return hatch?.pattern ?? colour;
}

export function paintBand(ink: CanvasRenderingContext2D, band: Band, x: number, y: number, w: number, h: number) {
  const width = Math.max(w, 1);
  ink.fillStyle = colours.value.shade;
  ink.fillRect(x, y, width, h);
  if (band.kind === "excluded") {
    ink.fillStyle = hatching(ink);
    ink.fillRect(x, y, width, h);
  }
}

function paintBands(plot: uPlot, session: Session, bands: readonly Band[]) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const band of bands) {
    const x = plot.valToPos(band.start, "x", true);
    paintBand(ctx, band, x, bbox.top, plot.valToPos(band.end, "x", true) - x, bbox.height);
  }
  const mark = session.mark.peek();
  if (mark) {
    const x = plot.valToPos(mark.start, "x", true);
    ctx.fillStyle = colours.value.mark;
    ctx.fillRect(x, bbox.top, Math.max(2, plot.valToPos(mark.end, "x", true) - x), bbox.height);
  }
  ctx.restore();
}

/** Shaded spans of a track: what its rows say, and what was excluded by hand. */
export function bandsOfTrack(session: Session, track: number): Band[] {
  const series = session.series.value;
  const mine = series?.tracks.find((other) => other.track === track);
  const longest = mine && mine.time.length > 1500 ? (session.view.peek().end - session.view.peek().start) / 200 : 0.1;
  const rows = mine && series ? bandsOf(mine, series.status_names, Math.max(0.1, longest)) : [];
  const excluded = excludedBands(session.edits.value.excluded, track);
  return [...rows.filter((band) => band.kind !== "excluded"), ...excluded];
}

function seriesOf(row: Row): uPlot.Series[] {
  return row.columns.map((column, index) => {
    const dash = dashOf(column, index);
    return {
      label: column.title,
      stroke: () => colours.value[colourOfColumn(column, index)],
      width: 1.25,
      spanGaps: false,
      points: { show: false },
      ...(dash ? { dash } : {}),
    };
  });
}

interface Handlers {
  onSeek: (time: number) => void;
  onZoom: (start: number, end: number) => void;
  onMark: (start: number, end: number) => void;
  onHover: (time: number | null) => void;
}

function listenTo(plot: uPlot, on: Handlers) {
  let from = 0;
  plot.over.addEventListener("mousedown", (event) => {
    from = event.clientX;
  });
  plot.over.addEventListener("click", (event) => {
    if (Math.abs(event.clientX - from) < 5) on.onSeek(plot.posToVal(event.offsetX, "x"));
  });
  plot.over.addEventListener("mouseleave", () => on.onHover(null));
}

function optionsOf(row: Row, size: { width: number; height: number }, session: Session, bands: () => Band[], on: Handlers): uPlot.Options {
  let shift = false;
  const middle = (row.low + row.high) / 2;
  return {
    ...size,
    padding: [7, RIGHT, 7, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 5 },
      drag: { x: true, y: false, setScale: false, dist: 5 },
      sync: { key: "time", scales: ["x", null] },
      bind: {
        mousedown: (_plot, _target, handler) => (event) => {
          shift = event.shiftKey;
          handler(event);
          return null;
        },
        dblclick: () => () => {
          session.whole();
          return null;
        },
      },
    },
    scales: {
      x: { time: false, range: () => [session.view.peek().start, session.view.peek().end] },
      y: { range: [row.low, row.high] },
    },
    axes: [
      { show: false },
      {
        size: LEFT,
        gap: 4,
        font: `10.5px ${FONT}`,
        stroke: () => colours.value.soft,
        grid: { stroke: () => colours.value.line, width: 1 },
        ticks: { show: false },
        splits: [row.low, middle, row.high],
        values: (_plot, splits) => splits.map((value) => score(value, 1).replace(/\.0$/, "")),
      },
    ],
    series: [{}, ...seriesOf(row)],
    hooks: {
      ready: [(plot) => listenTo(plot, on)],
      drawClear: [(plot) => paintBands(plot, session, bands())],
      setCursor: [
        (plot) => {
          const { left } = plot.cursor;
          // Others follow through uPlot; only the one under the pointer tells the time.
          if (left !== undefined && left !== null && left >= 0 && plot.over.matches(":hover")) {
            on.onHover(plot.posToVal(left, "x"));
          }
        },
      ],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < 4) return;
          const [start, end] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          if (shift) on.onMark(start, end);
          else on.onZoom(start, end);
        },
      ],
    },
  };
}

const dataOf = (row: Row, series: TrackSeries | undefined): uPlot.AlignedData => [
  series?.time ?? [],
  ...row.columns.map((column) => series?.columns[column.name] ?? []),
];

export function Plot(props: { session: Session; track: number; row: Row; width: number; height: number; label: string }) {
  const { session, track, row, width, height, label } = props;
  const host = useRef<HTMLDivElement>(null);
  const names = row.columns.map((column) => column.name).join();
  useEffect(() => {
    if (!host.current || width < 60) return undefined;
    const bands = signal<Band[]>([]);
    const plot = new uPlot(
      optionsOf(row, { width, height }, session, () => bands.peek(), {
        onSeek: (time) => {
          session.selected.value = track;
          session.seek(time);
        },
        onZoom: (start, end) => session.look({ start, end }),
        onMark: (start, end) => (session.mark.value = { start, end }),
        onHover: (time) => (session.hover.value = time),
      }),
      dataOf(row, undefined),
      host.current,
    );
    const stops = [
      effect(() => {
        bands.value = bandsOfTrack(session, track);
        const mine = session.series.value?.tracks.find((other) => other.track === track);
        plot.setData(dataOf(row, mine), false);
        plot.setScale("x", { min: session.view.peek().start, max: session.view.peek().end });
      }),
      effect(() => {
        const { start, end } = session.view.value;
        plot.setScale("x", { min: start, max: end });
      }),
      effect(() => {
        void session.mark.value;
        void colours.value;
        plot.redraw(false, true);
      }),
    ];
    return () => {
      for (const stop of stops) stop();
      plot.destroy();
    };
  }, [session, track, row.key, names, width, height]);
  return <div class="plot" ref={host} role="img" aria-label={label} style={{ height: `${height}px` }} />;
}

/** What the lines of a row are, and their values under the pointer or else at the playhead. */
export function Legend({ session, track, row }: { session: Session; track: number; row: Row }) {
  const time = session.hover.value ?? session.player.time.value;
  const mine = session.series.value?.tracks.find((other) => other.track === track);
  const index = mine ? closest(mine.time, time) : -1;
  const near = mine && index >= 0 && Math.abs((mine.time[index] as number) - time) < 0.5;
  return (
    <ul class="legend">
      {row.columns.map((column, number) => (
        <li key={column.name} title={column.description}>
          <i class={dashOf(column, number) ? "dash" : ""} style={{ borderColor: `var(--${colourOfColumn(column, number)})` }} />
          <span class="name">{column.title}</span>
          <span class="num">{near ? score(mine.columns[column.name]?.[index], Math.abs(row.high) > 2 ? 0 : 2) : "–"}</span>
        </li>
      ))}
    </ul>
  );
}
