/** The faces of a photo. */
import { percent } from "../format";
import { words } from "../strings";
import type { Session } from "./session";

const text = words.watch;

export function PhotoFaces({ session }: { session: Session }) {
  const faces = session.frameAt(session.player.time.value)?.faces ?? [];
  return (
    <aside class="side" aria-label={text.people}>
      <div class="body" tabIndex={0} role="region" aria-label={text.people}>
        <h2>{text.facesCount(faces.length)}</h2>
        {faces.length === 0 && <p class="soft">{text.noFacesHere}</p>}
        <ul class="people">
          {faces.map((face) => (
            <li key={face.track} class={session.selected.value === face.track ? "selected" : ""}>
              <div class="row">
                <button
                  class="who"
                  aria-pressed={session.selected.value === face.track}
                  onClick={() => (session.selected.value = face.track)}
                >
                  <i style={{ background: `var(--${session.colourOf(face.track)})` }} />
                  <span class="name">{session.nameOf(face.track)}</span>
                </button>
                <span class="num">
                  {face.expression ? (words.expressions[face.expression] ?? face.expression) : ""}
                  {face.probability === null ? "" : ` ${percent(face.probability)}`}
                </span>
                {face.status !== "ok" && <span class="badge">{words.statuses[face.status] ?? face.status}</span>}
              </div>
            </li>
          ))}
        </ul>
      </div>
    </aside>
  );
}
