/** Recordings that were read: a table from which each opens. */
import { useSignal } from "@preact/signals";
import { type Recording, api } from "../api";
import { count, day, duration, percent } from "../format";
import { attempt, href, recordings, refreshJobs, refreshRecordings, say } from "../state";
import { words } from "../strings";
import { Bin, Film, Photo } from "../parts/icons";
import { Await, Confirm } from "../parts/parts";

const text = words.results;

function Row({ item, onRemove }: { item: Recording; onRemove: () => void }) {
  return (
    <tr data-recording={item.id}>
      <th scope="row" class="wide">
        <a href={href("watch", item.id)}>
          {item.kind === "photos" ? <Photo /> : <Film />}
          <span class="name">{item.name}</span>
        </a>
        {item.has_edits && <span class="badge">{text.edited}</span>}
      </th>
      <td>{item.kind === "photos" ? "–" : duration(item.seconds)}</td>
      <td>{count(item.rows)}</td>
      <td>{count(item.faces)}</td>
      <td>{percent(item.doubtful)}</td>
      <td class="soft">{day(item.created)}</td>
      <td>
        <a href={api.reportUrl(item.id)} target="_blank" rel="noopener">{text.report}</a>
      </td>
      <td>
        <button class="bare" aria-label={text.remove(item.name)} title={text.remove(item.name)} onClick={onRemove}>
          <Bin />
        </button>
      </td>
    </tr>
  );
}

export function RecordingTable({ all }: { all: Recording[] }) {
  const removing = useSignal<Recording | null>(null);
  const remove = async (item: Recording) => {
    await attempt(api.removeRecording(item.id).then(() => say(text.removed(item.name))));
    await Promise.all([refreshRecordings(), refreshJobs()]);
  };
  const asked = removing.value;
  return (
    <div class="scroll">
      <table class="list">
        <thead>
          <tr>
            {text.columns.map((name) => <th key={name} scope="col">{name}</th>)}
            <th scope="col"><span class="hidden">{text.reportColumn}</span></th>
            <th scope="col"><span class="hidden">{text.removeColumn}</span></th>
          </tr>
        </thead>
        <tbody>
          {all.map((item) => <Row key={item.id} item={item} onRemove={() => (removing.value = item)} />)}
        </tbody>
      </table>
      {asked && (
        <Confirm
          title={text.removeTitle(asked.name)}
          text={asked.owns_film ? text.removeFilmText : text.removeText}
          action={text.removeAction}
          onYes={() => void remove(asked)}
          onClose={() => (removing.value = null)}
        />
      )}
    </div>
  );
}

export function Results() {
  return (
    <section aria-labelledby="results">
      <h2 id="results">{text.title}</h2>
      <Await data={recordings.value} retry={() => void refreshRecordings()}>
        {(all) => (all.length === 0 ? <p class="soft">{text.empty}</p> : <RecordingTable all={all} />)}
      </Await>
    </section>
  );
}
