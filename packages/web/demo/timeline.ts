/** A column of the table over time, one line per face. */

import uPlot from "uplot";

import { colourOf } from "../src/index.js";
import type { FrameRead } from "./messages.js";

/** Of a camera, the last seconds are shown. */
const LIVE_WINDOW = 30;
const HEIGHT = 190;

/** The plot under the picture. */
export class Timeline {
  #plot: uPlot | undefined;
  #faces: number[] = [];

  /**
   * @param place - Where it is drawn.
   * @param seek - Called with a time, s, that the user points at.
   */
  constructor(
    private readonly place: HTMLElement,
    private readonly seek: (time: number) => void,
  ) {
    new ResizeObserver(() =>
      this.#plot?.setSize({ width: place.clientWidth, height: HEIGHT }),
    ).observe(place);
    // Its colours are drawn, not styled.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#remove());
  }

  /** Draws a column of the frames so far. */
  show(frames: readonly FrameRead[], column: string, live: boolean): void {
    const end = frames.at(-1)?.time ?? 0;
    const shown = live ? frames.filter(({ time }) => time >= end - LIVE_WINDOW) : frames;
    const faces = [...new Set(shown.flatMap(({ readings }) => readings.map(({ face }) => face)))];
    faces.sort((a, b) => a - b);
    const values = faces.map((face) =>
      shown.map(({ readings }) => {
        const reading = readings.find((reading) => reading.face === face);
        return reading?.scores[column] ?? reading?.quality?.[column] ?? null;
      }),
    );
    if (!this.#plot || faces.join() !== this.#faces.join()) this.#make(faces);
    const [low, high] = /^(valence|arousal)$/.test(column) ? [-1, 1] : [0, 1];
    this.#plot!.setData([shown.map(({ time }) => time), ...values], false);
    const start = shown[0]?.time ?? 0;
    this.#plot!.setScale("x", { min: start, max: Math.max(end, start + 1) });
    this.#plot!.setScale("y", { min: low!, max: high! });
  }

  /** Moves the line to a time. */
  mark(time: number): void {
    const plot = this.#plot;
    if (plot) plot.setCursor({ left: plot.valToPos(time, "x"), top: HEIGHT / 3 });
  }

  #remove(): void {
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  #make(faces: number[]): void {
    this.#remove();
    this.#faces = faces;
    const colour = (name: string): string => getComputedStyle(this.place).getPropertyValue(name);
    const probe = getComputedStyle(document.body);
    const axis = {
      stroke: probe.color,
      grid: { stroke: "#8883", width: 1 },
      ticks: { stroke: "#8883" },
    };
    this.#plot = new uPlot(
      {
        width: this.place.clientWidth,
        height: HEIGHT,
        legend: { show: true, live: false },
        scales: { x: { time: false }, y: { auto: false } },
        axes: [
          { ...axis, label: "s", labelSize: 18, size: 34 },
          { ...axis, size: 44 },
        ],
        series: [
          { label: "s" },
          ...faces.map((face) => ({
            label: `face ${face}`,
            stroke: colourOf(face),
            width: 2,
            spanGaps: false,
          })),
        ],
        cursor: { y: false, points: { fill: colour("--surface") } },
        hooks: { init: [(plot) => this.#listen(plot)] },
      },
      [[], ...faces.map(() => [])],
      this.place,
    );
  }

  #listen(plot: uPlot): void {
    plot.over.addEventListener("click", () => {
      if (plot.cursor.left !== undefined && plot.cursor.left >= 0)
        this.seek(plot.posToVal(plot.cursor.left, "x"));
    });
  }
}
