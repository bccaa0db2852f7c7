/** A new study: which recordings, of whom, in which condition. */
import { useSignal } from "@preact/signals";
import { type Member, type Recording, api } from "../api";
import { attempt, go, recordings } from "../state";
import { words } from "../strings";
import { Field, valueOf } from "../parts/parts";

const text = words.study;

interface Draft extends Member {
  chosen: boolean;
  name: string;
}

const KEYS = ["participant", "condition", "session"] as const;
type BaselineKind = keyof typeof text.baselines;

/** What file names such as sub-01_ses-1_task-rest say about who is seen when. */
export function guessed(name: string): Omit<Member, "id"> {
  const stem = name.replace(/\.[^.]+$/, "");
  const labelled = (key: string) => new RegExp(`(?:^|[_/\\s])${key}-([^_/\\s]+)`, "i").exec(stem)?.[1];
  const parts = stem.split(/[_/\s]+/).filter(Boolean);
  return {
    participant: labelled("sub") ?? parts[0] ?? stem,
    condition: labelled("task") ?? labelled("cond") ?? (parts.length > 1 && !labelled("sub") ? (parts[1] ?? "") : ""),
    session: labelled("ses") ?? "",
  };
}

function Row({ draft, onChange }: { draft: Draft; onChange: (values: Partial<Draft>) => void }) {
  return (
    <tr>
      <th scope="row" class="wide">
        <label class="check">
          <input
            type="checkbox"
            checked={draft.chosen}
            aria-label={text.include(draft.name)}
            onChange={(event) => onChange({ chosen: event.currentTarget.checked })}
          />
          <span class="name">{draft.name}</span>
        </label>
      </th>
      {KEYS.map((key) => (
        <td key={key}>
          <input
            type="text"
            value={draft[key]}
            disabled={!draft.chosen}
            maxLength={60}
            aria-label={text.of(text[key], draft.name)}
            onInput={(event) => onChange({ [key]: valueOf(event) })}
          />
        </td>
      ))}
    </tr>
  );
}

function Form({ all, onClose }: { all: Recording[]; onClose: () => void }) {
  const name = useSignal("");
  const drafts = useSignal<Draft[]>(
    all.map((item) => ({ id: item.id, name: item.name, chosen: item.kind === "film", ...guessed(item.name) })),
  );
  const kind = useSignal<BaselineKind>("none");
  const seconds = useSignal(5);
  const condition = useSignal("");
  const busy = useSignal(false);
  const chosen = drafts.value.filter((draft) => draft.chosen);
  const conditions = [...new Set(chosen.map((draft) => draft.condition).filter(Boolean))];
  const named = chosen.filter((draft) => draft.participant.trim()).length;
  const complete = chosen.length > 0 && (named === 0 || named === chosen.length);
  const baseline = () => {
    if (kind.value === "span") return { of: "span", span: [0, seconds.value] };
    if (kind.value === "condition") return { of: "condition", condition: condition.value || conditions[0] };
    if (kind.value === "quantile") return { of: "quantile" };
    return null;
  };
  const create = async () => {
    busy.value = true;
    const members = chosen.map(({ id, participant, condition: at, session }) => ({
      id, participant: participant.trim(), condition: at.trim(), session: session.trim(),
    }));
    const study = await attempt(api.addStudy(name.value.trim(), members, baseline()));
    busy.value = false;
    if (study) go("study", study.id);
  };
  return (
    <form
      class="card"
      onSubmit={(event) => {
        event.preventDefault();
        void create();
      }}
    >
      <h2>{text.new}</h2>
      <Field label={text.name} hint={text.nameHint}>
        <input type="text" required maxLength={60} value={name.value} onInput={(event) => (name.value = valueOf(event))} />
      </Field>
      <div class="scroll">
        <table class="list edit">
          <thead>
            <tr>{[text.recording, ...KEYS.map((key) => text[key])].map((title) => <th key={title} scope="col" class="wide">{title}</th>)}</tr>
          </thead>
          <tbody>
            {drafts.value.map((draft, index) => (
              <Row
                key={draft.id}
                draft={draft}
                onChange={(values) => {
                  drafts.value = drafts.value.map((other, at) => (at === index ? { ...other, ...values } : other));
                }}
              />
            ))}
          </tbody>
        </table>
      </div>
      <div class="fields">
        <Field label={text.baseline}>
          <select value={kind.value} onChange={(event) => (kind.value = valueOf(event) as BaselineKind)}>
            {Object.entries(text.baselines).map(([value, title]) => <option key={value} value={value}>{title}</option>)}
          </select>
        </Field>
        {kind.value === "span" && (
          <Field label={text.baselineSeconds}>
            <input type="number" min={1} max={600} value={seconds.value} onInput={(event) => (seconds.value = event.currentTarget.valueAsNumber || 1)} />
          </Field>
        )}
        {kind.value === "condition" && (
          <Field label={text.baselineCondition}>
            <select value={condition.value || conditions[0]} onChange={(event) => (condition.value = valueOf(event))}>
              {conditions.map((one) => <option key={one} value={one}>{one}</option>)}
            </select>
          </Field>
        )}
      </div>
      {!complete && <p class="soft">{text.missing}</p>}
      <div class="answers">
        <button type="button" onClick={onClose}>{words.cancel}</button>
        <button class="primary" disabled={!complete || !name.value.trim() || busy.value}>{text.create}</button>
      </div>
    </form>
  );
}

export function Editor({ onClose }: { onClose: () => void }) {
  const all = recordings.value.state === "there" ? recordings.value.value : [];
  return <Form all={all} onClose={onClose} />;
}
