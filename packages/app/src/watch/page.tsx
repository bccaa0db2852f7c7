/** Watch: the film with its readings, timelines per person, and what is changed about them. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Detail, api } from "../api";
import { count, duration, percent } from "../format";
import { LOADING, type Loaded, go, href, load, recordings, route } from "../state";
import { words } from "../strings";
import { Redo, Undo } from "../parts/icons";
import { Await, Empty, Segmented, valueOf } from "../parts/parts";
import { RecordingTable } from "../analyse/results";
import { ExportMenu } from "../parts/exporting";
import { Dialogs, openDialog } from "./dialogs";
import { listenToKeys } from "./keys";
import { Marks } from "./marks";
import { Now } from "./now";
import { People } from "./people";
import { PhotoFaces } from "./photos";
import { Session } from "./session";
import { Stage } from "./stage";
import { Timelines } from "./timelines";

const text = words.watch;

function Chooser({ id }: { id: string }) {
  const all = recordings.value.state === "there" ? recordings.value.value : [];
  return (
    <select class="title" aria-label={text.recording} value={id} onChange={(event) => go("watch", valueOf(event))}>
      {all.map((item) => <option key={item.id} value={item.id}>{item.name}</option>)}
    </select>
  );
}

function Bar({ session }: { session: Session }) {
  const detail = session.detail.value;
  const { can_undo: canUndo, can_redo: canRedo } = session.edits.value;
  const facts = [
    detail.kind === "photos" ? null : duration(detail.seconds),
    text.facesCount(detail.kind === "photos" ? detail.faces : detail.tracks.length),
    words.rows(count(detail.rows)),
    detail.doubtful ? text.doubtfulShare(percent(detail.doubtful)) : null,
  ];
  return (
    <div class="bar-top">
      <h1 class="hidden">{detail.name}</h1>
      <Chooser id={detail.id} />
      <span class="soft num facts-line">{facts.filter(Boolean).join(" · ")}</span>
      <span class="grow" />
      <span class="soft small saved" role="status">{session.busy.value ? text.saving : detail.has_edits ? text.saved : ""}</span>
      <button class="bare" disabled={!canUndo} title={text.undo} aria-label={text.undo} onClick={() => void session.undo()}><Undo /></button>
      <button class="bare" disabled={!canRedo} title={text.redo} aria-label={text.redo} onClick={() => void session.redo()}><Redo /></button>
      <a class="button" href={api.reportUrl(detail.id)} target="_blank" rel="noopener">{text.report}</a>
      <ExportMenu formats={detail.formats} run={(format) => api.export(detail.id, format)} />
      <button class="bare key" title={text.keysTitle} aria-label={text.keysTitle} onClick={() => openDialog({ kind: "help" })}>?</button>
    </div>
  );
}

type Tab = "people" | "now" | "marks";

function Side({ session }: { session: Session }) {
  const tab = useSignal<Tab>("people");
  const { excluded, codes } = session.edits.value;
  const choices = [
    { value: "people" as const, text: text.people, count: session.tracks.value.length },
    { value: "now" as const, text: text.now },
    { value: "marks" as const, text: text.marks, count: excluded.length + codes.length },
  ];
  return (
    <aside class="side" aria-label={text.side}>
      <Segmented label={text.side} value={tab.value} choices={choices} onChange={(next) => (tab.value = next)} />
      <div class="body" tabIndex={0} role="region" aria-label={text[tab.value]}>
        {tab.value === "people" && <People session={session} />}
        {tab.value === "now" && <Now session={session} />}
        {tab.value === "marks" && <Marks session={session} />}
      </div>
    </aside>
  );
}

function Workbench({ session }: { session: Session }) {
  useEffect(() => listenToKeys(session), [session]);
  return (
    <main class={session.photos ? "watch photos" : "watch"}>
      <Bar session={session} />
      {session.edits.value.problem && <p class="problem edits" role="alert">{session.edits.value.problem}</p>}
      <div class="upper">
        <Stage session={session} />
        {session.photos ? <PhotoFaces session={session} /> : <Side session={session} />}
      </div>
      {!session.photos && <Timelines session={session} />}
      <Dialogs session={session} />
    </main>
  );
}

function Opened({ id }: { id: string }) {
  const session = useSignal<Loaded<Session>>(LOADING);
  useEffect(() => {
    let gone = false;
    let opened: Session | null = null;
    session.value = LOADING;
    const open = async () => {
      const detail: Loaded<Detail> = await load(api.recording(id));
      if (gone) return;
      if (detail.state !== "there") {
        session.value = detail;
        return;
      }
      const photos = detail.value.kind === "photos" ? await load(api.boxes(id)) : null;
      if (gone) return;
      if (photos && photos.state !== "there") {
        session.value = photos;
        return;
      }
      opened = new Session(detail.value, photos?.value ?? null);
      session.value = { state: "there", value: opened };
      if (!photos) void opened.loadSegments();
    };
    void open();
    return () => {
      gone = true;
      opened?.close();
    };
  }, [id]);
  if (session.value.state === "there") return <Workbench key={id} session={session.value.value} />;
  return (
    <main class="page">
      <Await data={session.value}>{() => null}</Await>
      {session.value.state === "problem" && <p><a href={href("watch")}>{text.others}</a></p>}
    </main>
  );
}

function Choice() {
  return (
    <main class="page">
      <h1>{words.pages.watch}</h1>
      <p class="lead">{text.lead}</p>
      <Await data={recordings.value}>
        {(all) =>
          all.length ? (
            <RecordingTable all={all} />
          ) : (
            <Empty title={text.nothing}>
              <p>{text.nothingHint}</p>
              <a class="button primary" href={href("analyse")}>{words.pages.analyse}</a>
            </Empty>
          )
        }
      </Await>
    </main>
  );
}

export function WatchPage() {
  const { id } = route.value;
  return id === null ? <Choice /> : <Opened key={id} id={id} />;
}
