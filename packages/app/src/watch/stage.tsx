/** The picture with faces drawn over it, and the controls beneath. */
import { effect, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api } from "../api";
import { clock, fileName } from "../format";
import { colours } from "../palette";
import { kept } from "../state";
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
  const picture = { width: session.detail.value.width ?? 16, height: session.detail.value.height ?? 9 };
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
    [session, size.width, size.height, room.width],
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

/** The film, or its copy that browsers can play, or what to do if there is neither. */
function Picture({ session }: { session: Session }) {
  const { film, playable, kind } = session.detail.value;
  const source = useSignal<"film" | "proxy" | "asked" | "none">(film === null ? "none" : playable ? "film" : "asked");
  const waiting = useSignal(false);
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (!video.current || kind !== "film") return undefined;
    return session.player.attach(video.current);
  }, [session, source.value]);
  if (kind === "photos") {
    const index = Math.round(session.player.time.value);
    return <img class="picture" src={api.photoUrl(session.id, index)} alt={text.photo(index + 1)} />;
  }
  if (source.value === "none" || source.value === "asked") {
    const lost = source.value === "none";
    return (
      <div class="instead">
        <h2>{lost ? text.noFilm : text.cannotPlay}</h2>
        <p>{lost ? text.noFilmHint : text.cannotPlayHint}</p>
        {film && <p class="path">{fileName(film)}</p>}
        {!lost && <button class="primary" onClick={() => (source.value = "proxy")}>{text.makeProxy}</button>}
      </div>
    );
  }
  return (
    <>
      <video
        key={source.value}
        ref={video}
        class="picture"
        preload="auto"
        playsInline
        tabIndex={-1}
        aria-label={text.film}
        src={source.value === "film" ? api.filmUrl(session.id) : api.proxyUrl(session.id)}
        onLoadStart={() => (waiting.value = source.value === "proxy")}
        onLoadedData={() => (waiting.value = false)}
        onError={() => (source.value = source.value === "film" ? "asked" : "none")}
      />
      {waiting.value && <p class="proxying" role="status">{text.makingProxy}</p>}
    </>
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
  const photos = session.detail.value.kind === "photos";
  session.seek(session.player.time.value + direction * (photos ? 1 : 1 / session.player.fps));
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
      <Scrubber session={session} />
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
        <Picture session={session} />
        <Overlay session={session} size={size} />
      </div>
      <Transport session={session} />
    </section>
  );
}
