/** Lists of spans: excluded ones, codes, and segments in view; each can be gone to by keyboard. */
import type { ComponentChildren } from "preact";
import { clock } from "../format";
import { words } from "../strings";
import { Bin } from "../parts/icons";
import { openDialog } from "./dialogs";
import type { Session } from "./session";
import type { Span } from "./spans";

const text = words.watch;
const MOST = 200;

function Line(props: { session: Session; span: Span; remove?: { name: string; act: () => void }; children: ComponentChildren }) {
  const { session, span, remove, children } = props;
  return (
    <li>
      <button class="when num" title={text.goTo(clock(span.start, 2))} onClick={() => session.seek(span.start)}>
        {clock(span.start, 1)}–{clock(span.end, 1)}
      </button>
      <span class="name">{children}</span>
      {remove && (
        <button class="bare" aria-label={remove.name} title={remove.name} onClick={remove.act}>
          <Bin />
        </button>
      )}
    </li>
  );
}

function Marked({ session }: { session: Session }) {
  const mark = session.mark.value;
  const ready = mark !== null && mark.end > mark.start;
  return (
    <div class="marked">
      <p class="small">
        {mark ? (
          <span class="num">{text.marked(clock(mark.start, 2), clock(mark.end, 2))}</span>
        ) : (
          <span class="soft">{text.markHint}</span>
        )}
      </p>
      <div class="tools">
        <button onClick={() => session.markIn()}>{text.markIn}</button>
        <button onClick={() => session.markOut()}>{text.markOut}</button>
        <button disabled={!ready} onClick={() => openDialog({ kind: "exclude" })}>{text.exclude}</button>
        <button disabled={!ready} onClick={() => openDialog({ kind: "code" })}>{text.code}</button>
        <button disabled={!mark} onClick={() => (session.mark.value = null)}>{text.unmark}</button>
      </div>
    </div>
  );
}

export function Marks({ session }: { session: Session }) {
  const { excluded, codes } = session.edits.value;
  const { start, end } = session.view.value;
  const inView = session.segments.value.filter((segment) => segment.offset >= start && segment.onset <= end);
  return (
    <div class="marks">
      <Marked session={session} />
      <h2>{text.excludedTitle}</h2>
      {excluded.length === 0 && <p class="soft small">{text.noExcluded}</p>}
      <ul>
        {excluded.map((span, index) => (
          <Line
            key={`${span.start} ${span.end} ${span.track}`}
            session={session}
            span={span}
            remove={{ name: text.include(clock(span.start)), act: () => void session.apply({ op: "include", index }) }}
          >
            {session.nameOf(span.track)}
            {span.note && <span class="soft"> · {span.note}</span>}
          </Line>
        ))}
      </ul>
      <h2>{text.codes}</h2>
      {codes.length === 0 && <p class="soft small">{text.noCodes}</p>}
      <ul>
        {codes.map((code, index) => (
          <Line
            key={`${code.start} ${code.end} ${code.code} ${code.track}`}
            session={session}
            span={code}
            remove={{ name: text.uncode(code.code), act: () => void session.apply({ op: "uncode", index }) }}
          >
            <b>{code.code}</b> <span class="soft">· {session.nameOf(code.track)}</span>
          </Line>
        ))}
      </ul>
      <h2>{text.segmentsInView}</h2>
      {inView.length === 0 && <p class="soft small">{text.noSegments}</p>}
      <ul>
        {inView.slice(0, MOST).map((segment) => (
          <Line
            key={`${segment.track} ${segment.kind} ${segment.label} ${segment.onset}`}
            session={session}
            span={{ start: segment.onset, end: segment.offset }}
          >
            {words.expressions[segment.label] ?? segment.label}
            <span class="soft"> · {session.nameOf(segment.track)}</span>
          </Line>
        ))}
      </ul>
      {inView.length > MOST && <p class="soft small">{text.more(inView.length - MOST)}</p>}
    </div>
  );
}
