/** What a study computed: means per condition as plots, and the table of summaries. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Cell, type Mean, type Measure, type Table, api } from "../api";
import { score } from "../format";
import { css, nth } from "../palette";
import { LOADING, type Loaded, load } from "../state";
import { words } from "../strings";
import { Await, Field, Popover, valueOf } from "../parts/parts";

const text = words.study;

/** Round numbers about `least` to `most`, for the marks of an axis. */
export function marksOf(least: number, most: number): number[] {
  const span = most - least || 1;
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= 5) ?? 10 * power;
  const first = Math.floor(least / step);
  const last = Math.ceil(most / step);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

const [WIDTH, ROW, LABELS, TOP] = [640, 40, 150, 8];

const isNumber = (value: number | null): value is number => value !== null && Number.isFinite(value);

interface Group extends Mean {
  title: string;
  points: number[];
}

/** The conditions of a measure with the values of their participants. */
function groupsOf(measure: Measure): Group[] {
  return measure.means.map((mean) => {
    const mine = measure.values.filter((one) => one.condition === mean.condition && one.session === mean.session);
    const title = text.group(mean.condition, mean.session) || text.one;
    return { ...mean, title, points: mine.map((one) => one.value).filter(isNumber) };
  });
}

function GroupLine({ group, y, x }: { group: Group; y: number; x: (value: number) => number }) {
  return (
    <>
      <text x={LABELS - 12} y={y + 4} text-anchor="end">{group.title}</text>
      {group.points.map((value, index) => (
        <circle key={index} cx={x(value)} cy={y + ((index % 5) - 2) * 3} r="3" class="point" />
      ))}
      {isNumber(group.low) && isNumber(group.high) && (
        <path d={`M${x(group.low)} ${y}H${x(group.high)}M${x(group.low)} ${y - 6}v12M${x(group.high)} ${y - 6}v12`} class="interval" />
      )}
      {isNumber(group.mean) && <circle cx={x(group.mean)} cy={y} r="5.5" class="mean" />}
    </>
  );
}

/** Each condition's mean with its interval, and its participants as points. */
function Dots({ measure }: { measure: Measure }) {
  const groups = groupsOf(measure);
  const numbers = groups.flatMap((group) => [group.low, group.high, group.mean, ...group.points]).filter(isNumber);
  if (!numbers.length) return <p class="soft">{text.noPlots}</p>;
  const marks = marksOf(Math.min(...numbers), Math.max(...numbers));
  const [first, last] = [marks[0] ?? 0, marks[marks.length - 1] ?? 1];
  const x = (value: number) => LABELS + ((value - first) / (last - first || 1)) * (WIDTH - LABELS - 24);
  const height = TOP + groups.length * ROW + 26;
  const digits = Math.max(0, Math.min(4, -Math.floor(Math.log10((last - first) / 5 || 1))));
  const label = groups
    .map((group) => text.meanOf(group.title, score(group.mean), score(group.low), score(group.high)))
    .join("; ");
  return (
    <svg class="dots" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`${measure.name}. ${label}`}>
      {marks.map((mark) => (
        <g key={mark}>
          <path d={`M${x(mark)} ${TOP}V${height - 22}`} class="grid" />
          <text x={x(mark)} y={height - 6} text-anchor="middle" class="soft">{score(mark, digits)}</text>
        </g>
      ))}
      {groups.map((group, row) => (
        <g key={group.title} style={{ color: css(nth(row)) }}>
          <GroupLine group={group} y={TOP + (row + 0.5) * ROW} x={x} />
        </g>
      ))}
    </svg>
  );
}

function Plots({ measures }: { measures: Measure[] }) {
  const name = useSignal(measures.find((one) => one.name === "valence_mean")?.name ?? measures[0]?.name ?? "");
  const measure = measures.find((other) => other.name === name.value);
  if (!measure) return <p class="soft">{text.noPlots}</p>;
  return (
    <section class="card">
      <h2>{text.plots}</h2>
      <Field label={text.measure}>
        <select value={measure.name} onChange={(event) => (name.value = valueOf(event))}>
          {measures.map((other) => <option key={other.name} value={other.name}>{other.name}</option>)}
        </select>
      </Field>
      <p class="soft small">{measure.description}</p>
      <Dots measure={measure} />
      <p class="soft small">{text.plotsHint}</p>
    </section>
  );
}

/** Decimals of a column: none where all of its numbers are whole. */
function digitsOf(rows: readonly Cell[][], index: number): number {
  return rows.every((row) => typeof row[index] !== "number" || Number.isInteger(row[index])) ? 0 : 3;
}

const written = (cell: Cell | undefined, digits: number): string =>
  typeof cell === "number" ? score(cell, digits) : String(cell ?? "–");

const MOST = 200;
/** Of the dozens of columns of summaries, those that are shown first. */
const FIRST = /^(participant|person|condition|session|seconds|usable_share|valence_mean|arousal_mean|smiles?_per_min|blinks?_per_min|expr_happiness_share|expr_sadness_share|expr_surprise_share)$/;

function Columns(props: { all: string[]; shown: ReadonlySet<string>; onChange: (shown: Set<string>) => void }) {
  const toggle = (name: string, on: boolean) => {
    const next = new Set(props.shown);
    if (on) next.add(name);
    else next.delete(name);
    props.onChange(next);
  };
  return (
    <Popover label={text.columns}>
      {() => (
        <div class="signals">
          {props.all.map((name) => (
            <label key={name} class="check">
              <input type="checkbox" checked={props.shown.has(name)} onChange={(event) => toggle(name, event.currentTarget.checked)} />
              {name}
            </label>
          ))}
        </div>
      )}
    </Popover>
  );
}

function Summary({ table }: { table: Table }) {
  const shown = useSignal<ReadonlySet<string>>(new Set(table.columns.filter((name) => FIRST.test(name))));
  const columns = table.columns.flatMap((name, index) =>
    shown.value.has(name) ? [{ name, index, digits: digitsOf(table.rows, index) }] : [],
  );
  return (
    <section>
      <div class="tools">
        <h2>{text.summary}</h2>
        <span class="grow" />
        <Columns all={table.columns} shown={shown.value} onChange={(next) => (shown.value = next)} />
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label={text.summary}>
        <table class="list">
          <thead><tr>{columns.map(({ name }) => <th key={name} scope="col">{name}</th>)}</tr></thead>
          <tbody>
            {table.rows.slice(0, MOST).map((row, at) => (
              <tr key={at}>{columns.map(({ name, index, digits }) => <td key={name}>{written(row[index], digits)}</td>)}</tr>
            ))}
          </tbody>
        </table>
      </div>
      {table.rows.length > MOST && <p class="soft small">{text.rowsShown(MOST, table.rows.length)}</p>}
    </section>
  );
}

interface Computed {
  table: Table;
  measures: Measure[];
}

async function computedOf(id: string): Promise<Computed> {
  return { table: await api.studySummary(id), measures: (await api.studyPlots(id)).measures };
}

export function Results({ id }: { id: string }) {
  const data = useSignal<Loaded<Computed>>(LOADING);
  const reload = async () => {
    data.value = await load(computedOf(id));
  };
  useEffect(() => void reload(), [id]);
  return (
    <Await data={data.value} retry={() => void reload()}>
      {(computed) => (
        <>
          <Plots measures={computed.measures} />
          <Summary table={computed.table} />
        </>
      )}
    </Await>
  );
}
