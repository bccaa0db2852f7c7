/** Analyse: choose films and photos, watch the queue, open results. */
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { type Info, api } from "../api";
import { bytes, percent } from "../format";
import { attempt, info, putJob, refreshJobs } from "../state";
import { words } from "../strings";
import { Bin, Drop, Film, Folder } from "../parts/icons";
import { Await, Field, Progress, valueOf } from "../parts/parts";
import { Browser } from "./browser";
import { Queue } from "./queue";
import { Results } from "./results";
import { type Staged, clearStaged, stageDropped, stageFiles, staged, unstage } from "./staged";

const text = words.analyse;

function StagedRow({ item }: { item: Staged }) {
  return (
    <li>
      {item.folder ? <Folder /> : <Film />}
      <span class="name">{item.name}</span>
      {item.problem ? (
        <span class="problem">{item.problem}</span>
      ) : item.path === null ? (
        <Progress share={item.share} label={text.sending(item.name)} />
      ) : (
        <span class="soft num">{item.size === null ? "" : bytes(item.size)}</span>
      )}
      <button class="bare" aria-label={text.unstage(item.name)} title={text.unstage(item.name)} onClick={() => unstage(item.key)}>
        <Bin />
      </button>
    </li>
  );
}

function DropArea({ onBrowse }: { onBrowse: () => void }) {
  const over = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  return (
    <div
      class={`drop ${over.value ? "over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        over.value = true;
      }}
      onDragLeave={() => (over.value = false)}
      onDrop={(event) => {
        event.preventDefault();
        over.value = false;
        if (event.dataTransfer) void attempt(stageDropped(event.dataTransfer));
      }}
    >
      <Drop />
      <p><b>{text.drop}</b></p>
      <p class="soft">{text.dropHint}</p>
      <div class="tools">
        <button onClick={() => input.current?.click()}>{text.chooseFiles}</button>
        <button onClick={onBrowse}>{text.browse}</button>
      </div>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label={text.chooseFiles}
        onChange={(event) => {
          stageFiles([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}

interface Options {
  faces?: string;
  compounds?: true;
  abstain?: true;
}

function More({ options, onChange }: { options: Options; onChange: (options: Options) => void }) {
  const check = (name: "compounds" | "abstain") => (
    <label class="check">
      <input
        type="checkbox"
        checked={options[name] ?? false}
        onChange={(event) => {
          const { [name]: _, ...rest } = options;
          onChange(event.currentTarget.checked ? { ...rest, [name]: true } : rest);
        }}
      />
      {text[name]}
    </label>
  );
  return (
    <details>
      <summary>{text.more}</summary>
      <Field label={text.faces}>
        <select
          value={options.faces ?? ""}
          onChange={(event) => {
            const { faces: _, ...rest } = options;
            onChange(valueOf(event) ? { ...rest, faces: valueOf(event) } : rest);
          }}
        >
          {Object.entries(text.facesChoices).map(([value, title]) => <option key={value} value={value}>{title}</option>)}
        </select>
      </Field>
      {check("compounds")}
      {check("abstain")}
    </details>
  );
}

function Start({ presets }: { presets: Info["presets"] }) {
  const chosen = useSignal(presets[0]?.name ?? "");
  const options = useSignal<Options>({});
  const busy = useSignal(false);
  const ready = staged.value.filter((item) => item.path !== null && !item.problem);
  const sending = staged.value.filter((item) => item.path === null && !item.problem);
  const start = async () => {
    busy.value = true;
    const inputs = ready.flatMap((item) => (item.path === null ? [] : [item.path]));
    const job = await attempt(api.addJob(inputs, chosen.value, { ...options.value }));
    busy.value = false;
    if (!job) return;
    clearStaged();
    putJob(job);
    void refreshJobs();
  };
  const sent = sending.reduce((sum, item) => sum + item.share, 0) / Math.max(1, sending.length);
  return (
    <>
      <fieldset class="presets">
        <legend>{text.preset}</legend>
        {presets.map((preset) => (
          <label key={preset.name} class="choice">
            <input
              type="radio"
              name="preset"
              checked={preset.name === chosen.value}
              onChange={() => (chosen.value = preset.name)}
            />
            <span>
              <b>{preset.title}</b>
              <small class="soft">{preset.description}</small>
            </span>
          </label>
        ))}
      </fieldset>
      <More options={options.value} onChange={(next) => (options.value = next)} />
      <button
        class="primary large"
        disabled={!ready.length || sending.length > 0 || busy.value}
        onClick={() => void start()}
      >
        {sending.length ? text.sendingAll(percent(sent)) : text.start(ready.length)}
      </button>
    </>
  );
}

export function AnalysePage() {
  const browsing = useSignal(false);
  return (
    <main class="page">
      <h1>{words.pages.analyse}</h1>
      <p class="lead">{text.lead}</p>
      <div class="begin">
        <section class="card" aria-label={text.inputs}>
          <DropArea onBrowse={() => (browsing.value = true)} />
          {staged.value.length > 0 && (
            <ul class="staged">
              {staged.value.map((item) => <StagedRow key={item.key} item={item} />)}
            </ul>
          )}
        </section>
        <section class="card" aria-label={text.preset}>
          <Await data={info.value}>{(value) => <Start presets={value.presets} />}</Await>
        </section>
      </div>
      <Queue />
      <Results />
      {browsing.value && <Browser onClose={() => (browsing.value = false)} />}
    </main>
  );
}
