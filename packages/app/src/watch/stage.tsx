/** The picture with faces drawn over it, and the controls beneath. */
import { effect, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api } from "../api";
import { clock, fileName, percent } from "../format";
import { colours } from "../palette";
import { kept, problemText } from "../state";
import { words } from "../strings";
import { Pause, Play, StepBack, StepOn } from "../parts/icons";
import { Popover, useSize } from "../parts/parts";
import { type Drawn, type Layers, drawFaces, fit, placed, prepare } from "./overlay";
import type { Session } from "./session";

const text = words.watch;

const isLayers = (value: unknown): value is Layers =>
  typeof value === "object" && value !== null && ["boxes", "names", "readings", "points"].every((key) => key in value);
const layers = kept<Layers>("layers", { boxes: true, names: true, readings: true, points: false }, isLayers);

function facesAt(session: Session, time: number): Drawn[] {
  const frame = session.frameAt(time);
  // A frame further off than this is another one: the film has none that was read here.
  if (!frame || Math.abs(frame.time - time) > Math.max(0.12, 1.5 / session.player.fps)) return [];
  return frame.faces
    .filter((face) => !session.hidden.value.has(face.track))
    .map((face) => ({
      face,
      name: session.nameOf(face.track),
      colour: session.colourOf(face.track),
      selected: face.track === session.selected.value,
    }));
}

function Overlay({ session, size }: { session: Session; size: { width: number; height: number } }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const room = useSize(canvas);
  const picture = session.picture.value;
  const area = fit(picture.width, picture.height, size);
  useEffect(
    () =>
      effect(() => {
        void session.boxes.arrived.value;
        void colours.value;
        if (!canvas.current) return;
        const ink = prepare(canvas.current, size.width, size.height);
        const faces = facesAt(session, session.player.time.value);
        if (ink) drawFaces(ink, faces, picture, area, layers.value);
      }),
    [session, size.width, size.height, room.width, picture],
  );
  const onClick = (event: MouseEvent) => {
    const { offsetX: x, offsetY: y } = event;
    const hit = facesAt(session, session.player.time.value).find(({ face }) => {
      const box = placed(face, picture, area);
      return x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
    });
    if (hit) session.selected.value = hit.face.track;
    else session.player.toggle();
  };
  return <canvas ref={canvas} class="overlay" aria-hidden="true" onClick={onClick} />;
}

function Photo({ session }: { session: Session }) {
  const index = Math.round(session.player.time.value);
  return (
    <img
      class="picture"
      src={api.photoUrl(session.id, index)}
      alt={text.photo(index + 1)}
      onLoad={(event) => {
        const { naturalWidth: width, naturalHeight: height } = event.currentTarget;
        session.picture.value = { width, height };
      }}
    />
  );
}

function Film({ session, url, onError }: { session: Session; url: string; onError: () => void }) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => (video.current ? session.player.attach(video.current) : undefined), [session]);
  return (
    <video
      ref={video}
      class="picture"
      preload="auto"
      playsInline
      tabIndex={-1}
      aria-label={text.film}
      src={url}
      onError={onError}
    />
  );
}

type Source = "film" | "proxy" | "none" | "offered" | "making" | "failed";

/** Ask how the copy is getting on until there is one, or it is known that there will be none. */
async function untilMade(session: Session, onShare: (share: number) => void): Promise<string | null> {
  for (;;) {
    const { state, share, problem } = await api.proxyState(session.id);
    if (state === "ready") return null;
    if (state === "failed") return problem ?? text.noProxy;
    onShare(share);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** The film, or its copy that browsers can play, or what to do if there is neither. */
function FilmOrWhatToDo({ session }: { session: Session }) {
  const { film, playable } = session.detail.value;
  const source = useSignal<Source>(film === null ? "none" : playable ? "film" : "offered");
  const share = useSignal(0);
  const problem = useSignal("");
  const make = async () => {
    source.value = "making";
    const failed = await untilMade(session, (next) => (share.value = next)).catch(problemText);
    problem.value = failed ?? "";
    // The copy's clock starts at the first frame.
    if (failed === null) session.player.offset = 0;
    source.value = failed === null ? "proxy" : "failed";
  };
  const url = { film: api.filmUrl(session.id), proxy: api.proxyUrl(session.id) };
  if (source.value === "film") return <Film key="film" session={session} url={url.film} onError={() => (source.value = "offered")} />;
  if (source.value === "proxy") return <Film key="proxy" session={session} url={url.proxy} onError={() => (source.value = "failed")} />;
  const what = {
    none: { title: text.noFilm, hint: text.noFilmHint },
    offered: { title: text.cannotPlay, hint: text.cannotPlayHint },
    making: { title: text.makingProxy(percent(share.value)), hint: "" },
    failed: { title: text.noProxy, hint: problem.value },
  }[source.value];
  return (
    <div class="instead" role="status">
      <h2>{what.title}</h2>
      <p>{what.hint}</p>
      {film && <p class="path">{fileName(film)}</p>}
      {source.value === "offered" && <button class="primary" onClick={() => void make()}>{text.makeProxy}</button>}
    </div>
  );
}

function LayerMenu() {
  const names = Object.keys(text.layers) as (keyof Layers)[];
  return (
    <Popover label={text.overlay} right>
      {() =>
        names.map((name) => (
          <label key={name} class="check">
            <input
              type="checkbox"
              checked={layers.value[name]}
              onChange={(event) => (layers.value = { ...layers.value, [name]: event.currentTarget.checked })}
            />
            {text.layers[name]}
          </label>
        ))
      }
    </Popover>
  );
}

/** Times that tick live in components of their own, so that nothing else is drawn again with them. */
function Clock({ session }: { session: Session }) {
  if (session.detail.value.kind === "photos") {
    return <span class="num clock">{text.photoOf(Math.round(session.player.time.value) + 1, Math.round(session.end) + 1)}</span>;
  }
  return (
    <span class="num clock">
      {clock(session.player.time.value, 2)} <span class="soft">/ {clock(session.end, 2)}</span>
    </span>
  );
}

function Scrubber({ session }: { session: Session }) {
  const now = session.player.time.value;
  return (
    <input
      class="scrubber"
      type="range"
      min={0}
      max={session.end}
      step={session.detail.value.kind === "photos" ? 1 : 0.01}
      value={now}
      aria-label={text.position}
      aria-valuetext={clock(now)}
      style={{ "--share": `${(100 * now) / session.end}%` }}
      onInput={(event) => session.seek(event.currentTarget.valueAsNumber)}
    />
  );
}

function Rate({ session }: { session: Session }) {
  const { rate, playing } = session.player;
  if (!playing.value || rate.value === 1) return null;
  return <span class="num rate">{text.rate(rate.value)}</span>;
}

/** To the frame before or after. */
export function step(session: Session, direction: 1 | -1) {
  session.player.pause();
  session.seek(session.player.time.value + direction * (session.photos ? 1 : 1 / session.player.fps));
}

function Transport({ session }: { session: Session }) {
  const { player } = session;
  const playing = player.playing.value;
  return (
    <div class="transport" role="toolbar" aria-label={text.controls}>
      <button class="bare" title={text.back} aria-label={text.back} onClick={() => step(session, -1)}><StepBack /></button>
      {session.detail.value.kind === "film" && (
        <button class="bare play" title={playing ? text.pause : text.play} aria-label={playing ? text.pause : text.play} onClick={() => player.toggle()}>
          {playing ? <Pause /> : <Play />}
        </button>
      )}
      <button class="bare" title={text.on} aria-label={text.on} onClick={() => step(session, 1)}><StepOn /></button>
      <Clock session={session} />
      <Rate session={session} />
      {session.end > 0 ? <Scrubber session={session} /> : <span class="grow" />}
      <LayerMenu />
    </div>
  );
}

export function Stage({ session }: { session: Session }) {
  const frame = useRef<HTMLDivElement>(null);
  const size = useSize(frame);
  return (
    <section class="stage" aria-label={text.film}>
      <div class="frame" ref={frame}>
        {session.photos ? <Photo session={session} /> : <FilmOrWhatToDo session={session} />}
        <Overlay session={session} size={size} />
      </div>
      <Transport session={session} />
    </section>
  );
}
