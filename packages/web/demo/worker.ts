/** Reads frames beside the page, so that the page answers while a network computes. */

import { ALL_FORMATS, BlobSource, Input, VideoSampleSink } from "mediabunny";

import { MienError, Reader } from "../src/index.js";
import type { Answer, Request, Settings } from "./messages.js";

/** Pictures of a film shown while it is read, at most one in so many ms. */
const SHOWN_EVERY = 80;

let reader: Reader | undefined;
let stopped = false;

function answer(message: Answer, transfer: Transferable[] = []): void {
  (self as unknown as Worker).postMessage(message, transfer);
}

async function open({ bundle, quality, device, faces }: Settings, live: boolean): Promise<void> {
  await reader?.close();
  reader = undefined;
  const [bundles, runtime] = [
    new URL("bundles/", self.location.href),
    new URL("runtime/", self.location.href),
  ];
  reader = await Reader.open({ bundle, quality, device, faces, live, bundles, runtime });
  const devices = [...new Set(Object.values(reader.devices))].join(" and ");
  answer({ kind: "ready", columns: reader.columns, device: devices });
}

function opened(): Reader {
  if (!reader) throw new MienError("the networks are not loaded yet; wait, or reload the page");
  return reader;
}

/** Reads one frame; a time of null is a picture by itself. */
async function read(bitmap: ImageBitmap, frame: number, time: number | null): Promise<void> {
  const began = performance.now();
  const readings = await opened().read(bitmap, time ?? undefined);
  const ms = performance.now() - began;
  const { width, height } = bitmap;
  answer({ kind: "read", frame, time: time ?? 0, readings, bitmap, width, height, ms, share: 1 }, [
    bitmap,
  ]);
}

/** Reads every frame of a film, each with the time that the file gives it. */
async function readFilm(file: File): Promise<void> {
  const input = new Input({ formats: ALL_FORMATS, source: new BlobSource(file) });
  try {
    await readTrack(input, file.name);
  } finally {
    input.dispose();
  }
}

async function readTrack(input: Input, name: string): Promise<void> {
  const track = await input.getPrimaryVideoTrack().catch(() => null);
  if (!track || !(await track.canDecode())) {
    throw new MienError(
      `this browser cannot decode ${name}; read it with mien analyze, or convert it to MP4 (H.264)`,
    );
  }
  const end = await track.computeDuration();
  let [frame, shown, first] = [0, -Infinity, 0];
  for await (const sample of new VideoSampleSink(track).samples()) {
    if (!frame) first = sample.timestamp;
    const picture = sample.toVideoFrame();
    const time = sample.timestamp;
    sample.close();
    const bitmap = await createImageBitmap(picture);
    picture.close();
    const began = performance.now();
    const readings = await opened().read(bitmap, time);
    const ended = performance.now();
    const isShown = ended - shown >= SHOWN_EVERY;
    if (isShown) shown = ended;
    const share = (time - first) / Math.max(end - first, 1e-3);
    const { width, height } = bitmap;
    const sent = isShown ? bitmap : null;
    answer(
      {
        kind: "read",
        frame,
        time,
        readings,
        bitmap: sent,
        width,
        height,
        ms: ended - began,
        share,
      },
      sent ? [sent] : [],
    );
    if (!isShown) bitmap.close();
    frame += 1;
    if (stopped) break;
  }
  answer({ kind: "done", undecoded: frame ? "" : `${name} holds no pictures` });
}

async function handle(request: Request): Promise<void> {
  switch (request.kind) {
    case "open":
      return open(request.settings, request.live);
    case "picture":
      await read(request.bitmap, 0, null);
      return answer({ kind: "done", undecoded: "" });
    case "frame":
      if (request.frame === 0) opened().restart();
      return read(request.bitmap, request.frame, request.time);
    case "film":
      stopped = false;
      opened().restart();
      return readFilm(request.file);
    case "stop":
      stopped = true;
  }
}

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  handle(data).catch((error: unknown) => {
    answer({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  });
});
