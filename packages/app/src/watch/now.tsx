/** What the face that is selected shows at this moment. */
import { useComputed } from "@preact/signals";
import type { Column } from "../api";
import { score } from "../format";
import { css, ofExpression } from "../palette";
import { words } from "../strings";
import type { Session } from "./session";

const text = words.watch;
type Values = Record<string, number | null>;

export function Bar(props: { name: string; value: number | null | undefined; colour: string; high?: number }) {
  const share = Math.max(0, Math.min(1, (props.value ?? 0) / (props.high ?? 1)));
  return (
    <div class="bar">
      <span class="name">{props.name}</span>
      <div><div style={{ width: `${share * 100}%`, background: props.colour }} /></div>
      <span class="num">{score(props.value)}</span>
    </div>
  );
}

/** Valence to the right, arousal upwards. */
export function Plane({ valence, arousal }: { valence: number | null | undefined; arousal: number | null | undefined }) {
  const there = typeof valence === "number" && typeof arousal === "number";
  const label = there ? text.planeAt(score(valence), score(arousal)) : text.planeEmpty;
  return (
    <svg class="plane" viewBox="-1.12 -1.12 2.24 2.24" role="img" aria-label={label}>
      <circle cx="0" cy="0" r="1" class="rim" />
      <path d="M-1 0H1M0-1V1" class="rim" />
      <text x=".98" y="-.05" text-anchor="end">{text.pleasant}</text>
      <text x="-.98" y="-.05">{text.unpleasant}</text>
      <text x=".05" y="-.88">{text.active}</text>
      <text x=".05" y=".96">{text.calm}</text>
      {there && <circle cx={valence} cy={-arousal} r=".085" class="dot" />}
    </svg>
  );
}

function Bars({ columns, values, title }: { columns: Column[]; values: Values | null; title: string }) {
  if (!columns.length) return null;
  return (
    <>
      <h2>{title}</h2>
      {columns.map((column) => (
        <Bar
          key={column.name}
          name={column.title}
          value={values?.[column.name]}
          high={column.high ?? 1}
          colour={css(column.group === "expression" ? ofExpression(column.name) : "accent")}
        />
      ))}
    </>
  );
}

function Facts({ columns, values }: { columns: Column[]; values: Values | null }) {
  if (!columns.length) return null;
  return (
    <>
      <h2>{text.picture}</h2>
      <dl class="facts">
        {columns.map((column) => (
          <div key={column.name} title={column.description}>
            <dt>{column.title}</dt>
            <dd class="num">
              {score(values?.[column.name], Math.abs(column.high ?? 1) > 2 ? 0 : 2)}
              {column.unit === "degrees" ? "°" : ""}
            </dd>
          </div>
        ))}
      </dl>
    </>
  );
}

export function Now({ session }: { session: Session }) {
  const track = session.selected.value;
  // Ten times a second is enough to read numbers by, and leaves time to draw.
  const time = useComputed(() => Math.round(session.player.time.value * 10) / 10);
  const playing = session.player.playing.value;
  const values = useComputed(() => {
    void session.values.arrived.value;
    const selected = session.selected.value;
    const at = session.player.playing.value ? time.value : session.player.time.value;
    return selected === null ? null : session.valuesAt(selected, at);
  });
  void playing;
  if (track === null) return <p class="soft">{text.noFaces}</p>;
  const all = session.detail.value.columns;
  const of = (...groups: Column["group"][]) => all.filter((column) => groups.includes(column.group));
  return (
    <div class="now">
      <p class="who">
        <i style={{ background: `var(--${session.colourOf(track)})` }} />
        <b>{session.nameOf(track)}</b>
        {!values.value && <span class="soft"> {text.notHere}</span>}
      </p>
      {all.some((column) => column.name === "valence") && (
        <Plane valence={values.value?.["valence"]} arousal={values.value?.["arousal"]} />
      )}
      <Bars title={words.groups.expression} columns={of("expression")} values={values.value} />
      <Bars title={words.groups["action unit"]} columns={of("action unit")} values={values.value} />
      <Facts columns={of("quality", "pose")} values={values.value} />
    </div>
  );
}
