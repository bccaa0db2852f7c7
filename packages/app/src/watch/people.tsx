/** The people of a recording: names, what is shown, merging and splitting of tracks. */
import type { Track } from "../api";
import { clock, duration, percent } from "../format";
import { words } from "../strings";
import { Popover } from "../parts/parts";
import { openDialog } from "./dialogs";
import type { Session } from "./session";

const text = words.watch;

function Merging({ session, track, close }: { session: Session; track: Track; close: () => void }) {
  const others = session.tracks.value.filter((other) => other.track !== track.track);
  if (!others.length) return <p class="soft">{text.nobodyElse}</p>;
  return (
    <>
      <p class="soft small">{text.mergeHint(session.nameOf(track.track))}</p>
      {others.map((other) => (
        <button
          key={other.track}
          class="item"
          onClick={() => {
            close();
            session.selected.value = other.track;
            void session.apply({ op: "merge", track: track.track, into: other.track });
          }}
        >
          <i style={{ background: `var(--${session.colourOf(other.track)})` }} />
          {session.nameOf(other.track)}
        </button>
      ))}
    </>
  );
}

function Actions({ session, track }: { session: Session; track: Track }) {
  const now = session.player.time.value;
  const inside = now > track.first && now < track.last;
  return (
    <div class="tools">
      <button onClick={() => openDialog({ kind: "name", track: track.track })}>{text.rename}</button>
      <Popover label={text.merge}>
        {(close) => <Merging session={session} track={track} close={close} />}
      </Popover>
      <button
        disabled={!inside}
        title={inside ? text.splitAt(clock(now, 2)) : text.splitWhere}
        onClick={() => void session.apply({ op: "split", track: track.track, at: now })}
      >
        {text.split}
      </button>
      <button onClick={() => session.seek(track.first)}>{text.firstSeen}</button>
    </div>
  );
}

function Person({ session, track }: { session: Session; track: Track }) {
  const selected = session.selected.value === track.track;
  const hidden = session.hidden.value.has(track.track);
  const name = session.nameOf(track.track);
  const show = (on: boolean) => {
    const next = new Set(session.hidden.value);
    if (on) next.delete(track.track);
    else next.add(track.track);
    session.hidden.value = next;
  };
  return (
    <li class={selected ? "selected" : ""}>
      <div class="row">
        <input
          type="checkbox"
          checked={!hidden}
          aria-label={text.showPerson(name)}
          title={text.showPerson(name)}
          onChange={(event) => show(event.currentTarget.checked)}
        />
        <button class="who" aria-pressed={selected} onClick={() => (session.selected.value = track.track)}>
          <i style={{ background: `var(--${session.colourOf(track.track)})` }} />
          <span class="name">{name}</span>
        </button>
        <span class="soft small num">
          {duration(track.seconds)}
          {track.doubtful ? ` · ${text.doubtfulShare(percent(track.doubtful))}` : ""}
        </span>
      </div>
      {selected && <Actions session={session} track={track} />}
    </li>
  );
}

export function People({ session }: { session: Session }) {
  const tracks = session.tracks.value;
  if (!tracks.length) return <p class="soft">{text.noFaces}</p>;
  return (
    <ul class="people">
      {tracks.map((track) => <Person key={track.track} session={session} track={track} />)}
    </ul>
  );
}
