/** Keys of Watch, as in video tools. */
import { dialog, openDialog } from "./dialogs";
import type { Session } from "./session";
import { step } from "./stage";

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

/** Space and arrows belong to what has the focus, if that uses them. */
function usesKey(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (key === " ") return target.matches("button, a, input, summary, [role=button]");
  return false;
}

type Action = (session: Session, event: KeyboardEvent) => void;

const LEAP = 5;

function arrow(direction: 1 | -1): Action {
  return (session, event) => {
    if (event.shiftKey) session.seek(session.player.time.value + direction * LEAP);
    else step(session, direction);
  };
}

function nextPerson(session: Session, direction: 1 | -1) {
  const tracks = session.shownTracks.value;
  const at = tracks.findIndex((track) => track.track === session.selected.value);
  const next = tracks[(at + direction + tracks.length) % tracks.length];
  if (!next) return;
  session.selected.value = next.track;
  document.querySelector(`[data-track="${next.track}"]`)?.scrollIntoView({ block: "nearest" });
}

function withMark(kind: "exclude" | "code"): Action {
  return (session) => {
    if (session.markedSpan()) openDialog({ kind });
  };
}

const KEYS: Record<string, Action> = {
  " ": (session) => session.player.toggle(),
  ArrowLeft: arrow(-1),
  ArrowRight: arrow(1),
  ArrowUp: (session) => nextPerson(session, -1),
  ArrowDown: (session) => nextPerson(session, 1),
  Home: (session) => session.seek(0),
  End: (session) => session.seek(session.end),
  j: (session) => session.player.shuttle(-1),
  k: (session) => session.player.pause(),
  l: (session) => session.player.shuttle(1),
  i: (session) => session.markIn(),
  o: (session) => session.markOut(),
  x: withMark("exclude"),
  c: withMark("code"),
  n: (session) => {
    if (session.selected.value !== null) openDialog({ kind: "name", track: session.selected.value });
  },
  "+": (session) => session.zoom(0.5),
  "=": (session) => session.zoom(0.5),
  "-": (session) => session.zoom(2),
  "0": (session) => session.whole(),
  "?": () => openDialog({ kind: "help" }),
  Escape: (session) => {
    session.mark.value = null;
  },
};

/** Listen for keys; what this returns stops it. */
export function listenToKeys(session: Session): () => void {
  const onKey = (event: KeyboardEvent) => {
    if (dialog.value || event.defaultPrevented || isTyping(event.target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      void (key === "y" || event.shiftKey ? session.redo() : session.undo());
      return;
    }
    const action = event.altKey ? undefined : KEYS[key];
    if (!action || usesKey(event.target, key)) return;
    event.preventDefault();
    action(session, event);
  };
  document.addEventListener("keydown", onKey);
  return () => document.removeEventListener("keydown", onKey);
}
