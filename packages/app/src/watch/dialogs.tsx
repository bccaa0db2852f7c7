/** The small windows of Watch: a name, a span to exclude, a code, the keys. */
import { signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { clock } from "../format";
import { words } from "../strings";
import { Dialog, Field, valueOf } from "../parts/parts";
import type { Session } from "./session";

const text = words.watch;

type Open = { kind: "name"; track: number } | { kind: "exclude" } | { kind: "code" } | { kind: "help" };

export const dialog = signal<Open | null>(null);

export function openDialog(next: Open) {
  dialog.value = next;
}

const close = () => (dialog.value = null);

function Form(props: { title: string; action: string; onSubmit: () => void; ready: boolean; children: ComponentChildren }) {
  return (
    <Dialog title={props.title} onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!props.ready) return;
          close();
          props.onSubmit();
        }}
      >
        {props.children}
        <div class="answers">
          <button type="button" onClick={close}>{words.cancel}</button>
          <button class="primary" disabled={!props.ready}>{props.action}</button>
        </div>
      </form>
    </Dialog>
  );
}

function NameForm({ session, track }: { session: Session; track: number }) {
  const name = useSignal(session.edits.value.names[track] ?? "");
  return (
    <Form
      title={text.renameTitle(session.nameOf(track))}
      action={text.rename}
      ready
      onSubmit={() => void session.apply({ op: "name", track, name: name.value.trim() })}
    >
      <Field label={text.name} hint={text.nameHint}>
        <input
          type="text"
          data-focus
          maxLength={100}
          value={name.value}
          onInput={(event) => (name.value = valueOf(event))}
          onFocus={(event) => event.currentTarget.select()}
        />
      </Field>
    </Form>
  );
}

/** Whom a span or a code is about. */
function Whom({ session, track, onChange }: { session: Session; track: number | null; onChange: (track: number | null) => void }) {
  return (
    <Field label={text.whom}>
      <select
        value={track === null ? "" : String(track)}
        onChange={(event) => onChange(valueOf(event) === "" ? null : Number(valueOf(event)))}
      >
        <option value="">{text.everyone}</option>
        {session.tracks.value.map((other) => (
          <option key={other.track} value={String(other.track)}>{session.nameOf(other.track)}</option>
        ))}
      </select>
    </Field>
  );
}

function ExcludeForm({ session }: { session: Session }) {
  const span = session.mark.value;
  const track = useSignal<number | null>(null);
  const note = useSignal("");
  if (!span) return null;
  const exclude = async () => {
    const made = await session.apply({ op: "exclude", ...span, track: track.value, note: note.value.trim() });
    // Unless it was refused, or another span was marked meanwhile.
    if (made && session.mark.value === span) session.mark.value = null;
  };
  return (
    <Form
      title={text.excludeTitle(clock(span.start, 2), clock(span.end, 2))}
      action={text.exclude}
      ready
      onSubmit={() => void exclude()}
    >
      <p class="soft">{text.excludeHint}</p>
      <Whom session={session} track={track.value} onChange={(next) => (track.value = next)} />
      <Field label={text.note}>
        <input type="text" data-focus maxLength={100} value={note.value} onInput={(event) => (note.value = valueOf(event))} />
      </Field>
    </Form>
  );
}

function CodeForm({ session }: { session: Session }) {
  const span = session.mark.value;
  const track = useSignal<number | null>(null);
  const code = useSignal("");
  const list = useId();
  if (!span) return null;
  const known = [...new Set(session.edits.value.codes.map((other) => other.code))];
  const add = async () => {
    const made = await session.apply({ op: "code", ...span, code: code.value.trim(), track: track.value });
    // Unless it was refused, or another span was marked meanwhile.
    if (made && session.mark.value === span) session.mark.value = null;
  };
  return (
    <Form
      title={text.codeTitle(clock(span.start, 2), clock(span.end, 2))}
      action={text.code}
      ready={code.value.trim().length > 0}
      onSubmit={() => void add()}
    >
      <Field label={text.codeName} hint={text.codeHint}>
        <input
          type="text"
          data-focus
          maxLength={100}
          list={list}
          value={code.value}
          onInput={(event) => (code.value = valueOf(event))}
        />
      </Field>
      <datalist id={list}>{known.map((name) => <option key={name} value={name} />)}</datalist>
      <Whom session={session} track={track.value} onChange={(next) => (track.value = next)} />
    </Form>
  );
}

function Help() {
  return (
    <Dialog title={text.keysTitle} onClose={close} wide>
      <div class="keys">
        {text.keys.map((group) => (
          <section key={group.title}>
            <h3>{group.title}</h3>
            <dl>
              {group.keys.map(([keys, what]) => (
                <div key={what}>
                  <dt>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}

export function Dialogs({ session }: { session: Session }) {
  const open = dialog.value;
  if (open?.kind === "name") return <NameForm key={open.track} session={session} track={open.track} />;
  if (open?.kind === "exclude") return <ExcludeForm session={session} />;
  if (open?.kind === "code") return <CodeForm session={session} />;
  if (open?.kind === "help") return <Help />;
  return null;
}
