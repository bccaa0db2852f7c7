/** Live: a camera with its readings, baseline, markers, and what is kept. */
import { effect, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { clock, count, percent } from "../format";
import { css, nth, ofExpression } from "../palette";
import { href, kept, refreshRecordings, say } from "../state";
import { words } from "../strings";
import { Field, useSize, valueOf } from "../parts/parts";
import { Bar, Plane } from "../watch/now";
import { drawFaces, fit, prepare } from "../watch/overlay";
import { Live, type Settings, affectOf } from "./camera";
import { Recent } from "./recent";

const text = words.live;

const isSettings = (value: unknown): value is Settings => typeof value === "object" && value !== null && "table" in value;
const settings = kept<Settings>(
  "live",
  { device: null, table: true, record: false, smoothing: true },
  isSettings,
);

function View({ live, video }: { live: Live; video: { current: HTMLVideoElement | null } }) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const room = useSize(frame);
  useEffect(
    () =>
      effect(() => {
        const ink = canvas.current && prepare(canvas.current, room.width, room.height);
        const faces = live.answer.value?.faces ?? [];
        if (!ink || live.state.value === "idle") return;
        const size = live.size.value;
        const drawn = faces.map((face, index) => ({
          face: { ...face, name: "", roll: null, excluded: false },
          name: words.watch.face(face.track),
          colour: nth(face.track),
          selected: index === 0,
        }));
        drawFaces(ink, drawn, size, fit(size.width, size.height, room), {
          boxes: true, names: faces.length > 1, readings: true, points: false,
        });
      }),
    [live, room.width, room.height],
  );
  const state = live.state.value;
  return (
    <div class="frame" ref={frame}>
      <video ref={video} class="picture" muted playsInline aria-label={text.camera} />
      <canvas ref={canvas} class="overlay" aria-hidden="true" />
      {state === "idle" && (
        <div class="instead">
          <h2>{live.trouble.value?.title ?? text.idle}</h2>
          <p>{live.trouble.value ? live.trouble.value.hint : text.idleHint}</p>
        </div>
      )}
    </div>
  );
}

function Cameras() {
  const found = useSignal<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const look = async () => {
      const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
      found.value = all.filter((device) => device.kind === "videoinput" && device.deviceId);
    };
    void look();
    navigator.mediaDevices?.addEventListener("devicechange", look);
    return () => navigator.mediaDevices?.removeEventListener("devicechange", look);
  }, []);
  if (found.value.length < 2) return null;
  return (
    <Field label={text.camera}>
      <select
        value={settings.value.device ?? ""}
        onChange={(event) => (settings.value = { ...settings.value, device: valueOf(event) || null })}
      >
        {found.value.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>{device.label || text.cameraNumber(index + 1)}</option>
        ))}
      </select>
    </Field>
  );
}

function Check(props: { name: "table" | "record" | "smoothing"; label: string; hint?: string; disabled: boolean }) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={settings.value[props.name]}
        disabled={props.disabled}
        onChange={(event) => (settings.value = { ...settings.value, [props.name]: event.currentTarget.checked })}
      />
      <span>
        {props.label}
        {props.hint && <small class="soft">{props.hint}</small>}
      </span>
    </label>
  );
}

function Meters({ live }: { live: Live }) {
  const { answer, rate, dropped } = live;
  const facts: [string, string][] = [
    [text.time, answer.value ? clock(answer.value.time, 0) : "–"],
    [text.rate, rate.value === null ? "–" : rate.value.toFixed(0)],
    [text.lag, answer.value ? text.ms(answer.value.lag_ms) : "–"],
    [text.dropped, count(dropped.value)],
  ];
  return (
    <dl class="meters">
      {facts.map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd class="num">{value}</dd></div>
      ))}
    </dl>
  );
}

function Reading({ live }: { live: Live }) {
  const face = live.answer.value?.faces[0];
  const names = Object.keys(face?.scores ?? {}).filter((name) => name.startsWith("expr_"));
  if (!face) return <p class="soft">{text.nobody}</p>;
  return (
    <div class="now">
      <Plane valence={affectOf(face, "valence")} arousal={affectOf(face, "arousal")} />
      {Object.keys(face.corrected).length > 0 && <p class="soft small">{text.relative}</p>}
      <div>
        {names.map((name) => {
          const plain = name.replace("expr_", "");
          return (
            <Bar key={name} name={words.expressions[plain] ?? plain} value={face.scores[name]} colour={css(ofExpression(name))} />
          );
        })}
      </div>
      {face.expression && names.length === 0 && (
        <p>{words.expressions[face.expression] ?? face.expression} {face.probability === null ? "" : percent(face.probability)}</p>
      )}
    </div>
  );
}

function Markers({ live }: { live: Live }) {
  const name = useSignal("");
  const ready = live.state.value === "running" && name.value.trim().length > 0;
  return (
    <section class="card">
      <h2>{text.markers}</h2>
      <form
        class="inline"
        onSubmit={(event) => {
          event.preventDefault();
          if (ready) live.mark(name.value.trim());
        }}
      >
        <input
          type="text"
          aria-label={text.marker}
          placeholder={text.markerHint}
          maxLength={100}
          value={name.value}
          onInput={(event) => (name.value = valueOf(event))}
        />
        <button disabled={!ready}>{text.setMarker}</button>
      </form>
      {live.markers.value.length === 0 && <p class="soft small">{text.noMarkers}</p>}
      <ul class="plain">
        {live.markers.value.map((marker) => (
          <li key={marker.time}><span class="num soft">{clock(marker.time, 1)}</span> {marker.name}</li>
        ))}
      </ul>
    </section>
  );
}

function Ended({ live }: { live: Live }) {
  const saved = live.saved.value;
  if (!saved) return null;
  const lags = saved.lag_p50_ms !== null && saved.lag_p99_ms !== null;
  return (
    <section class="card" role="status">
      <h2>{text.done}</h2>
      {saved.problem && <p class="problem">{saved.problem}</p>}
      <p>{text.frames(count(saved.frames), count(saved.dropped))}</p>
      {lags && <p class="soft">{text.lags(text.ms(saved.lag_p50_ms ?? 0), text.ms(saved.lag_p99_ms ?? 0))}</p>}
      {saved.saved && <a class="button primary" href={href("watch", saved.saved)}>{text.open}</a>}
    </section>
  );
}

function Controls({ live, onStart }: { live: Live; onStart: () => void }) {
  const state = live.state.value;
  const seconds = useSignal(5);
  return (
    <div class="tools live-tools">
      {state === "running" || state === "stopping" ? (
        <button class="primary" disabled={state === "stopping"} onClick={() => live.stop()}>{text.stop}</button>
      ) : (
        <button class="primary" disabled={state === "starting"} onClick={onStart}>
          {state === "starting" ? text.starting : text.start}
        </button>
      )}
      <button
        disabled={state !== "running"}
        title={text.baselineHint}
        onClick={() => {
          live.baseline(seconds.value);
          say(text.baselineTaken(seconds.value));
        }}
      >
        {text.baseline}
      </button>
      <input
        type="number"
        min={1}
        max={60}
        value={seconds.value}
        aria-label={text.baselineHint}
        title={text.baselineHint}
        onInput={(event) => (seconds.value = Math.min(60, Math.max(1, event.currentTarget.valueAsNumber || 1)))}
      />
      <span class="soft small">{words.secondsUnit}</span>
      <span class="grow" />
      <Meters live={live} />
    </div>
  );
}

export function LivePage() {
  const live = useMemo(() => new Live(), []);
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => () => live.close(), [live]);
  useEffect(() => effect(() => void (live.saved.value?.saved && refreshRecordings())), [live]);
  const busy = live.state.value !== "idle";
  return (
    <main class="page live">
      <h1>{words.pages.live}</h1>
      <p class="lead">{text.lead}</p>
      <div class="columns">
        <div>
          <View live={live} video={video} />
          <Controls live={live} onStart={() => video.current && void live.start(video.current, settings.value)} />
          {live.trouble.value && busy && <p class="problem" role="alert">{live.trouble.value.title}</p>}
          <Recent live={live} />
        </div>
        <div>
          <Ended live={live} />
          <section class="card" aria-label={text.settings}>
            <h2>{text.settings}</h2>
            <Cameras />
            <Check name="table" label={text.table} hint={text.tableHint} disabled={busy} />
            <Check name="record" label={text.record} hint={text.recordHint} disabled={busy || !settings.value.table} />
            <Check name="smoothing" label={text.smoothing} disabled={busy} />
          </section>
          {busy && <section class="card"><Reading live={live} /></section>}
          <Markers live={live} />
        </div>
      </div>
    </main>
  );
}
