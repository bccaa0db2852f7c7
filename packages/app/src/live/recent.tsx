/** The last half minute of valence and arousal of one face, as it happens. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colours } from "../palette";
import { words } from "../strings";
import { useSize } from "../parts/parts";
import { FONT } from "../watch/overlay";
import { type Answer, type Live, affectOf } from "./camera";

const SPAN = 30;

function options(width: number, now: () => number): uPlot.Options {
  const line = (name: "valence" | "arousal"): uPlot.Series => ({
    label: name,
    stroke: () => colours.value[name],
    width: 1.5,
    points: { show: false },
  });
  return {
    width,
    height: 120,
    padding: [6, 10, 6, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: () => [Math.max(0, now() - SPAN), Math.max(SPAN, now())] }, y: { range: [-1, 1] } },
    axes: [
      { show: false },
      {
        size: 36,
        font: `10.5px ${FONT}`,
        stroke: () => colours.value.soft,
        grid: { stroke: () => colours.value.line, width: 1 },
        ticks: { show: false },
        splits: [-1, 0, 1],
        values: (_plot, splits) => splits.map((value) => String(value).replace("-", "−")),
      },
    ],
    series: [{}, line("valence"), line("arousal")],
  };
}

export function Recent({ live }: { live: Live }) {
  const host = useRef<HTMLDivElement>(null);
  const { width } = useSize(host);
  useEffect(() => {
    if (!host.current || width < 60) return undefined;
    const data: [number[], (number | null)[], (number | null)[]] = [[], [], []];
    const plot = new uPlot(options(width, () => data[0][data[0].length - 1] ?? 0), data, host.current);
    live.onAnswer = (answer: Answer) => {
      // Times run backwards where the reading was started anew.
      if (answer.time < (data[0][data[0].length - 1] ?? 0)) for (const column of data) column.length = 0;
      const face = answer.faces[0];
      data[0].push(answer.time);
      data[1].push(face ? affectOf(face, "valence") : null);
      data[2].push(face ? affectOf(face, "arousal") : null);
      while ((data[0][0] ?? 0) < answer.time - SPAN) for (const column of data) column.shift();
      plot.setData(data);
    };
    return () => {
      live.onAnswer = null;
      plot.destroy();
    };
  }, [live, width]);
  return (
    <section aria-label={words.live.recent}>
      <h2>{words.live.recent}</h2>
      <ul class="legend across">
        <li><i style={{ borderColor: "var(--valence)" }} />{words.affect.valence}</li>
        <li><i style={{ borderColor: "var(--arousal)" }} />{words.affect.arousal}</li>
      </ul>
      <div ref={host} class="plot" role="img" aria-label={words.live.recent} style={{ height: "120px" }} />
    </section>
  );
}
