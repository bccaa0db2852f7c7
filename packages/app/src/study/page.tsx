/** Study: participants and conditions of several recordings, their summaries, plots, report and exports. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Study, api } from "../api";
import { LOADING, type Loaded, attempt, go, href, load, recordings, route, say } from "../state";
import { words } from "../strings";
import { ExportMenu } from "../parts/exporting";
import { Await, Confirm, Empty } from "../parts/parts";
import { Editor } from "./editor";
import { Results } from "./results";
import { RunProgress, useRun } from "./run";

const text = words.study;

function membersOf(study: Study): string {
  const people = new Set(study.recordings.map((member) => member.participant));
  return text.members(study.recordings.length, people.size);
}

function All() {
  const studies = useSignal<Loaded<Study[]>>(LOADING);
  const adding = useSignal(false);
  const reload = async () => {
    studies.value = await load(api.studies());
  };
  useEffect(() => void reload(), []);
  const some = recordings.value.state === "there" && recordings.value.value.length > 0;
  const begin = (
    <button class="primary" disabled={!some} onClick={() => (adding.value = true)}>{text.new}</button>
  );
  return (
    <main class="page">
      <h1>{words.pages.study}</h1>
      <p class="lead">{text.lead}</p>
      {adding.value && <Editor onClose={() => (adding.value = false)} />}
      {!adding.value && (
        <Await data={studies.value} retry={() => void reload()}>
          {(all) =>
            all.length === 0 ? (
              <Empty title={text.none}>
                <p>{some ? text.noneHint : text.noRecordings}</p>
                {some ? begin : <a class="button primary" href={href("analyse")}>{words.pages.analyse}</a>}
              </Empty>
            ) : (
              <>
                <div class="tools">{begin}</div>
                <ul class="tiles">
                  {all.map((study) => (
                    <li key={study.id} class="card">
                      <h2><a href={href("study", study.id)}>{study.name}</a></h2>
                      <p class="soft">{membersOf(study)}</p>
                    </li>
                  ))}
                </ul>
              </>
            )
          }
        </Await>
      )}
    </main>
  );
}

function Setup({ study }: { study: Study }) {
  const names = new Map(
    recordings.value.state === "there" ? recordings.value.value.map((item) => [item.id, item.name] as const) : [],
  );
  return (
    <section>
      <h2>{text.setup}</h2>
      <div class="scroll">
        <table class="list">
          <thead>
            <tr>{[text.recording, text.participant, text.condition, text.session].map((name) => <th key={name} scope="col" class="wide">{name}</th>)}</tr>
          </thead>
          <tbody>
            {study.recordings.map((member) => (
              <tr key={member.id}>
                <th scope="row" class="wide"><a href={href("watch", member.id)}>{names.get(member.id) ?? member.id}</a></th>
                <td class="wide">{member.participant}</td>
                <td class="wide">{member.condition}</td>
                <td class="wide">{member.session}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function One({ study, onChange }: { study: Study; onChange: (study: Study) => void }) {
  const runs = useSignal(0);
  const removing = useSignal(false);
  const computed = study.state === "done";
  const { busy, progress, start } = useRun(study, (after) => {
    runs.value += 1;
    onChange(after);
  });
  const remove = async () => {
    const done = await attempt(api.removeStudy(study.id).then(() => true));
    if (!done) return;
    say(text.removed(study.name));
    go("study");
  };
  return (
    <>
      <p class="crumb"><a href={href("study")}>{text.all}</a></p>
      <h1>{study.name}</h1>
      <p class="lead">{membersOf(study)}</p>
      <div class="tools">
        <button class={computed ? "" : "primary"} disabled={busy} onClick={() => void start()}>
          {busy ? text.running : computed ? text.runAgain : text.run}
        </button>
        {computed && (
          <>
            <a class="button" href={api.studyReportUrl(study.id)} target="_blank" rel="noopener">{text.report}</a>
            <ExportMenu formats={study.formats} run={(format) => api.exportStudy(study.id, format)} />
          </>
        )}
        <span class="grow" />
        <button disabled={busy} onClick={() => (removing.value = true)}>{text.remove}</button>
      </div>
      {progress && <RunProgress name={study.name} progress={progress} />}
      {study.state === "failed" && (
        <Empty title={text.failed} tone="problem"><p>{study.problem}</p></Empty>
      )}
      {study.notes.length > 0 && (
        <details class="notes">
          <summary>{text.notes}</summary>
          <ul>{study.notes.map((note) => <li key={note}>{note}</li>)}</ul>
        </details>
      )}
      {computed && <Results key={runs.value} id={study.id} />}
      {study.state === "new" && !busy && <Empty title={text.notRun}><p>{text.notRunHint}</p></Empty>}
      <Setup study={study} />
      {removing.value && (
        <Confirm
          title={text.removeTitle(study.name)}
          text={text.removeText}
          action={text.remove}
          onYes={() => void remove()}
          onClose={() => (removing.value = false)}
        />
      )}
    </>
  );
}

function Opened({ id }: { id: string }) {
  const study = useSignal<Loaded<Study>>(LOADING);
  useEffect(() => void load(api.study(id)).then((next) => (study.value = next)), [id]);
  return (
    <main class="page">
      <Await data={study.value}>
        {(value) => <One study={value} onChange={(next) => (study.value = { state: "there", value: next })} />}
      </Await>
    </main>
  );
}

export function StudyPage() {
  const { id } = route.value;
  return id === null ? <All /> : <Opened key={id} id={id} />;
}
