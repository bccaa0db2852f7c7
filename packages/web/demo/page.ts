/** The demo page: a camera, a photo or a film in; readings over the picture, over time, as CSV. */

import type { Reading } from "../src/index.js";
import { drawReadings, Table } from "../src/index.js";
import type { Answer, FrameRead, Request, Settings } from "./messages.js";
import { showFaces } from "./panel.js";
import { TEXT } from "./text.js";
import { Timeline } from "./timeline.js";

/** The plot is drawn at most once in so many ms. */
const PLOT_EVERY = 250;
/** Frames over which the rate of the camera is taken. */
const RATE_FRAMES = 50;

const at = <E extends HTMLElement = HTMLElement>(id: string): E => document.getElementById(id) as E;
const canvas = at<HTMLCanvasElement>("picture");
const context = canvas.getContext("2d")!;
const worker = new Worker(new URL("worker.js", document.baseURI), { type: "module" });

type Mode = "idle" | "camera" | "photo" | "film";

let mode: Mode = "idle";
let columns: readonly string[] = [];
let source = "";
let frames: FrameRead[] = [];
let camera: MediaStream | undefined;
let film: HTMLVideoElement | undefined;
let plotted = 0;
let arrived: number[] = [];
let wake: (() => void) | undefined;
let opened: Promise<void>;
let openedWith = "";
let failOpen: ((error: Error) => void) | undefined;
let nowOpen: (() => void) | undefined;

const timeline = new Timeline(at("timeline"), (time) => seek(time));

function say(text: string, failed = false): void {
  at("status").textContent = text;
  at("status").classList.toggle("failed", failed);
}

function send(request: Request, transfer: Transferable[] = []): void {
  worker.postMessage(request, transfer);
}

/** Makes the networks ready; they stay so while the settings are the same. */
function open(live: boolean): Promise<void> {
  const settings: Settings = {
    bundle: at<HTMLSelectElement>("bundle").value,
    quality: at<HTMLInputElement>("quality").checked ? "mien-quality" : "none",
    device: at<HTMLSelectElement>("device").value as Settings["device"],
    faces: at<HTMLSelectElement>("faces").value as Settings["faces"],
  };
  const asked = JSON.stringify([settings, live]);
  if (asked === openedWith) return opened;
  openedWith = asked;
  say(TEXT.loading);
  opened = new Promise((resolve, reject) => ([nowOpen, failOpen] = [resolve, reject]));
  send({ kind: "open", settings, live });
  return opened;
}

/** Forgets what was read before. */
function begin(next: Mode, name: string): void {
  film?.pause();
  if (film) URL.revokeObjectURL(film.src);
  [mode, source, frames, film, arrived] = [next, name, [], undefined, []];
  document.body.dataset.mode = next;
  at("empty").hidden = true;
  at("over-time").hidden = true;
  at("play").hidden = true;
  at("progress").hidden = next !== "film";
  // A photo is at one time.
  at("timeline").hidden = at("shows").hidden = next === "photo";
  at("stop").hidden = next === "photo";
  at<HTMLButtonElement>("camera").disabled = next !== "photo";
}

/** What was read stays; new things can be started. */
function end(): void {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = undefined;
  mode = "idle";
  document.body.dataset.mode = "idle";
  wake?.();
  at("stop").hidden = true;
  at("progress").hidden = true;
  at<HTMLButtonElement>("camera").disabled = false;
}

function draw(
  image: CanvasImageSource,
  width: number,
  height: number,
  readings: readonly Reading[],
): void {
  if (canvas.width !== width || canvas.height !== height)
    [canvas.width, canvas.height] = [width, height];
  context.drawImage(image, 0, 0, width, height);
  drawReadings(context, readings);
  showFaces(at("faces-now"), readings);
}

function plot(force = false): void {
  const now = performance.now();
  if (!frames.length || (now - plotted < PLOT_EVERY && !force)) return;
  plotted = now;
  at("over-time").hidden = false;
  if (at("timeline").hidden) return;
  timeline.show(frames, at<HTMLSelectElement>("column").value, camera !== undefined);
}

function showRead(read: FrameRead): void {
  frames.push({ ...read, bitmap: null });
  at("stage").dataset.frames = `${frames.length}`;
  if (read.bitmap) {
    draw(read.bitmap, read.width, read.height, read.readings);
    read.bitmap.close();
  }
  if (mode === "camera") {
    arrived = [...arrived, performance.now()].slice(-RATE_FRAMES);
    const rate = (1000 * (arrived.length - 1)) / Math.max(arrived.at(-1)! - arrived[0]!, 1);
    say(TEXT.live(rate, read.ms, read.frame + 1 - frames.length));
    wake?.();
  } else if (mode === "film") {
    at<HTMLProgressElement>("progress").value = read.share;
    say(TEXT.reading(source, frames.length));
  }
  plot();
}

function finished(problem: string): void {
  const faces = new Set(frames.flatMap(({ readings }) => readings.map(({ face }) => face)));
  const wasFilm = mode === "film";
  end();
  say(problem || TEXT.done(source, frames.length, faces.size), Boolean(problem));
  plot(true);
  if (wasFilm && frames.length) at("play").hidden = film === undefined;
}

worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
  switch (data.kind) {
    case "ready":
      columns = data.columns;
      say(TEXT.ready(data.device));
      fillColumns();
      nowOpen?.();
      break;
    case "read":
      showRead(data);
      break;
    case "done":
      finished(data.undecoded);
      break;
    case "failed":
      openedWith = "";
      failOpen?.(new Error(data.message));
      end();
      say(data.message, true);
  }
});
worker.addEventListener("error", (event) => say(event.message, true));

function fillColumns(): void {
  const select = at<HTMLSelectElement>("column");
  const names = columns.filter((name) => /^(valence|arousal|expr_|AU|quality)/.test(name));
  const ordered = [
    "valence",
    "arousal",
    ...names.filter((name) => !/^(valence|arousal)$/.test(name)),
  ];
  const chosen = select.value || "valence";
  select.replaceChildren(
    ...ordered.map((name) => new Option(name, name, name === chosen, name === chosen)),
  );
}

async function startCamera(): Promise<void> {
  begin("camera", "camera");
  try {
    camera = await navigator.mediaDevices.getUserMedia({
      video: { width: 640, height: 360 },
      audio: false,
    });
  } catch (error) {
    const { name, message } = error as DOMException;
    end();
    return say(TEXT.camera[name] ?? TEXT.noCamera(message), true);
  }
  await open(true);
  camera.getVideoTracks()[0]!.addEventListener("ended", () => {
    end();
    say(TEXT.unplugged, true);
  });
  const video = document.createElement("video");
  [video.srcObject, video.muted, video.playsInline] = [camera, true, true];
  await video.play();
  await followCamera(video);
}

/** Hands the newest frame to the worker whenever it is free; those between are counted. */
async function followCamera(video: HTMLVideoElement): Promise<void> {
  let [first, start] = [-1, 0];
  while (mode === "camera") {
    const { presentedFrames, now } = await nextFrame(video);
    if (first < 0) [first, start] = [presentedFrames, now];
    const bitmap = await createImageBitmap(video);
    const read = new Promise<void>((resolve) => (wake = resolve));
    send({ kind: "frame", bitmap, frame: presentedFrames - first, time: (now - start) / 1000 }, [
      bitmap,
    ]);
    await read;
  }
}

function nextFrame(video: HTMLVideoElement): Promise<{ presentedFrames: number; now: number }> {
  return new Promise((resolve) => {
    video.requestVideoFrameCallback((now, { presentedFrames }) =>
      resolve({ presentedFrames, now }),
    );
  });
}

async function readFile(file: File): Promise<void> {
  if (mode !== "idle") return;
  const bitmap = file.type.startsWith("video/")
    ? null
    : await createImageBitmap(file).catch(() => null);
  if (!bitmap && file.type.startsWith("image/")) return say(TEXT.unreadable(file.name), true);
  begin(bitmap ? "photo" : "film", file.name);
  await open(false);
  if (bitmap) return send({ kind: "picture", bitmap }, [bitmap]);
  send({ kind: "film", file });
  film = await playable(file);
}

/** The film as the browser plays it, or undefined where it cannot. */
async function playable(file: File): Promise<HTMLVideoElement | undefined> {
  const video = document.createElement("video");
  [video.muted, video.playsInline, video.preload] = [true, true, "auto"];
  video.src = URL.createObjectURL(file);
  const isLoaded = await new Promise<boolean>((resolve) => {
    video.addEventListener("loadeddata", () => resolve(true));
    video.addEventListener("error", () => resolve(false));
  });
  if (!isLoaded) return undefined;
  video.addEventListener("seeked", () => drawFilm(video, video.currentTime));
  video.addEventListener("pause", () => (at("play").textContent = "Play"));
  return video;
}

/** The frame that is shown at a time: the last one that began before it. */
function frameAt(time: number): FrameRead | undefined {
  let [low, high] = [0, frames.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (frames[middle]!.time <= time + 1e-3) low = middle;
    else high = middle;
  }
  return frames[low];
}

function drawFilm(video: HTMLVideoElement, time: number): void {
  const read = frameAt(time);
  if (!read || mode !== "idle") return;
  draw(video, read.width, read.height, read.readings);
  timeline.mark(read.time);
}

function seek(time: number): void {
  const start = frames[0]?.time ?? 0;
  const bounded = Math.min(Math.max(time, start), frames.at(-1)?.time ?? 0);
  if (film && mode === "idle") film.currentTime = bounded;
}

async function play(): Promise<void> {
  if (!film || !film.paused) return film?.pause();
  const video = film;
  await video.play();
  at("play").textContent = "Pause";
  const step = (_: number, { mediaTime }: VideoFrameCallbackMetadata): void => {
    drawFilm(video, mediaTime);
    if (!video.paused) video.requestVideoFrameCallback(step);
  };
  video.requestVideoFrameCallback(step);
}

function download(): void {
  const table = new Table(source, columns);
  for (const { frame, time, readings } of frames) table.add(frame, time, readings);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table.csv()], { type: "text/csv" }));
  link.download = `${source.replace(/\.[^.]*$/, "") || "mien"}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}

function onKey(event: KeyboardEvent): void {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !film) return;
  event.preventDefault();
  const index = frames.indexOf(frameAt(film.currentTime)!);
  seek(frames[Math.min(Math.max(index + step, 0), frames.length - 1)]!.time);
}

/** Tells the user of whatever goes wrong, wherever. */
function guarded(action: () => Promise<unknown>): void {
  action().catch((error: unknown) => {
    end();
    say(error instanceof Error ? error.message : String(error), true);
  });
}

at("camera").addEventListener("click", () => guarded(startCamera));
at("play").addEventListener("click", () => guarded(play));
at("csv").addEventListener("click", download);
at("column").addEventListener("change", () => plot(true));
at("timeline").addEventListener("keydown", onKey);
at("stop").addEventListener("click", () => {
  if (mode === "film") send({ kind: "stop" });
  else finished("");
});
at("choose").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") at("file").click();
});
at<HTMLInputElement>("file").addEventListener("change", ({ target }) => {
  const input = target as HTMLInputElement;
  const [file] = input.files ?? [];
  if (file) guarded(() => readFile(file));
  input.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"] as const) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("stage").classList.toggle("over", kind === "dragover");
    const [file] = kind === "drop" ? (event.dataTransfer?.files ?? []) : [];
    if (file) guarded(() => readFile(file));
  });
}

async function keepForOffline(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("offline.js");
  await navigator.serviceWorker.ready;
  at("offline").textContent = TEXT.offline;
}

document.body.dataset.mode = mode;
guarded(() => open(false));
keepForOffline().catch(() => (at("offline").textContent = ""));
