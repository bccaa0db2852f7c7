/** A camera, its pictures on their way to mien, and what mien reads in them. */
import { signal } from "@preact/signals";
import { api } from "../api";
import { say } from "../state";
import { words } from "../strings";

const text = words.live;

export interface LiveFace {
  track: number;
  box: [number, number, number, number];
  points: [number, number][] | null;
  expression: string | null;
  probability: number | null;
  valence: number | null;
  arousal: number | null;
  status: string;
  scores: Record<string, number | null>;
  /** Scores minus those of the baseline; empty until there is one. */
  corrected: Record<string, number | null>;
}

/** Valence or arousal of a face, relative to the baseline once there is one. */
export function affectOf(face: LiveFace, name: "valence" | "arousal"): number | null {
  return face.corrected[name] ?? face[name];
}

export interface Answer {
  time: number;
  lag_ms: number;
  faces: LiveFace[];
  dropped: number;
}

export interface Saved {
  saved: string | null;
  frames: number;
  dropped: number;
  lag_p50_ms: number | null;
  lag_p99_ms: number | null;
  /** Why it ended by itself; null where it did not. */
  problem: string | null;
}

type Message = Partial<Answer & Saved> & { error?: { message: string }; note?: string };

export interface Settings {
  device: string | null;
  table: boolean;
  record: boolean;
  smoothing: boolean;
}

export type State = "idle" | "starting" | "running" | "stopping";

/** Why no camera could be opened: what it is, and what to do. */
export interface Trouble {
  title: string;
  hint: string;
}

export function troubleOf(problem: unknown): Trouble {
  const name = problem instanceof DOMException ? problem.name : "";
  if (name === "NotFoundError" || name === "OverconstrainedError") return { title: text.noCameras, hint: text.noCamerasHint };
  if (name === "NotAllowedError" || name === "SecurityError") return { title: text.denied, hint: text.deniedHint };
  if (name === "NotReadableError" || name === "AbortError") return { title: text.taken, hint: text.takenHint };
  return { title: words.failed, hint: problem instanceof Error ? problem.message : String(problem) };
}

/**
 * Seconds since 1970 of a moment of the page, or of now.
 *
 * By this clock mien, on the same computer, knows how long a picture was on its way.
 */
const wall = (moment = performance.now()) => (performance.timeOrigin + moment) / 1000;

/** Frames that are on their way at most: more would only wait, and what waits is late. */
const UNDER_WAY = 3;
const QUALITY = 0.85;
const WIDEST = 1280;

export class Live {
  readonly state = signal<State>("idle");
  readonly answer = signal<Answer | null>(null);
  readonly trouble = signal<Trouble | null>(null);
  readonly saved = signal<Saved | null>(null);
  readonly rate = signal<number | null>(null);
  /** Frames that mien left out, and those that this page did not even send. */
  readonly dropped = signal(0);
  readonly size = signal({ width: 640, height: 480 });
  readonly markers = signal<{ time: number; name: string }[]>([]);
  onAnswer: ((answer: Answer) => void) | null = null;

  private stream: MediaStream | null = null;
  private socket: WebSocket | null = null;
  private video: HTMLVideoElement | null = null;
  private readonly canvas = document.createElement("canvas");
  private underWay = 0;
  private unsent = 0;
  private times: number[] = [];
  private from = 0;
  private callback = 0;
  /** The page was left, perhaps while the browser still asked for the camera. */
  private closed = false;

  async start(video: HTMLVideoElement, settings: Settings) {
    if (!navigator.mediaDevices) {
      this.trouble.value = { title: words.failed, hint: text.unsupported };
      return;
    }
    this.state.value = "starting";
    this.trouble.value = this.saved.value = this.answer.value = null;
    this.markers.value = [];
    this.dropped.value = this.unsent = this.underWay = 0;
    try {
      const wanted = settings.device ? { deviceId: { exact: settings.device } } : {};
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { ...wanted, width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } },
      });
      if (this.closed) {
        this.release();
        return;
      }
      video.srcObject = this.stream;
      await video.play();
    } catch (problem) {
      this.release();
      if (this.closed) return;
      this.trouble.value = troubleOf(problem);
      this.state.value = "idle";
      return;
    }
    if (this.closed) return;
    this.video = video;
    const scale = Math.min(1, WIDEST / Math.max(1, video.videoWidth));
    this.size.value = { width: Math.round(video.videoWidth * scale), height: Math.round(video.videoHeight * scale) };
    this.canvas.width = this.size.value.width;
    this.canvas.height = this.size.value.height;
    this.stream.getVideoTracks()[0]?.addEventListener("ended", () => {
      this.trouble.value = { title: text.unplugged, hint: "" };
      this.stop();
    });
    this.connect(settings);
  }

  private connect(settings: Settings) {
    const start = {
      table: settings.table,
      record: settings.table && settings.record,
      smoothing: settings.smoothing ? "one_euro" : null,
    };
    const socket = new WebSocket(api.liveUrl());
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (this.closed) {
        socket.close();
        return;
      }
      socket.send(JSON.stringify({ start }));
      this.from = wall();
      this.state.value = "running";
      this.send();
    };
    socket.onmessage = (event) => this.take(JSON.parse(event.data as string) as Message);
    socket.onclose = () => {
      if (this.state.value !== "stopping" && this.state.value !== "idle" && !this.trouble.value) {
        this.trouble.value = { title: text.lost, hint: "" };
      }
      this.release();
      this.state.value = "idle";
    };
  }

  private take(message: Message) {
    if (message.error) {
      this.trouble.value = { title: words.failed, hint: message.error.message };
      this.socket?.close();
    } else if (message.note) {
      say(message.note, "problem");
    } else if (message.frames !== undefined) {
      this.saved.value = message as Saved;
      this.socket?.close();
    } else if (message.faces) {
      const answer = message as Answer;
      answer.time -= this.from;
      // What mien left out gets no answer of its own; the count tells that its way is free again.
      const left = Math.max(0, answer.dropped - (this.answer.value?.dropped ?? 0));
      this.underWay = Math.max(0, this.underWay - 1 - left);
      this.answer.value = answer;
      this.dropped.value = answer.dropped + this.unsent;
      this.count();
      this.onAnswer?.(answer);
    }
  }

  private count() {
    const now = performance.now();
    this.times = [...this.times.filter((time) => now - time < 2000), now];
    const first = this.times[0] as number;
    if (this.times.length > 3) this.rate.value = ((this.times.length - 1) * 1000) / Math.max(1, now - first);
  }

  /** Seconds since the start. */
  now(): number {
    return wall() - this.from;
  }

  /** Send the newest picture, then the next that the camera gives. */
  private send(capturedAt?: number) {
    const { video, socket, canvas } = this;
    if (!video || this.state.value !== "running") return;
    this.callback = video.requestVideoFrameCallback((_now, frame) => this.send(frame.captureTime));
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (this.underWay >= UNDER_WAY) {
      this.unsent += 1;
      return;
    }
    const time = wall(capturedAt);
    canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
    this.underWay += 1;
    canvas.toBlob((blob) => void this.pack(blob, time), "image/jpeg", QUALITY);
  }

  private async pack(blob: Blob | null, time: number) {
    if (!blob || this.socket?.readyState !== WebSocket.OPEN) return;
    const stamp = new DataView(new ArrayBuffer(8));
    stamp.setFloat64(0, time, true);
    const picture = await blob.arrayBuffer();
    this.socket.send(new Blob([stamp.buffer, picture]));
  }

  private tell(message: unknown) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  mark(name: string) {
    this.tell({ marker: name });
    this.markers.value = [{ time: this.now(), name }, ...this.markers.value];
  }

  baseline(seconds: number) {
    this.tell({ baseline: seconds });
  }

  stop() {
    if (this.state.value !== "running") return;
    this.state.value = "stopping";
    this.tell({ stop: true });
  }

  private release() {
    if (this.video) {
      this.video.cancelVideoFrameCallback(this.callback);
      this.video.srcObject = null;
    }
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = this.video = this.socket = null;
    this.rate.value = null;
  }

  /** The page is left: what was read is kept as if it had been stopped. */
  close() {
    this.closed = true;
    this.stop();
    const { socket } = this;
    this.release();
    setTimeout(() => socket?.close(), 3000);
  }
}
