/** The one typed client of the server's API. Times are seconds from the film's start; null is a missing value. */

export interface Preset {
  name: string;
  title: string;
  description: string;
  options: Record<string, unknown>;
}

export interface Info {
  version: string;
  workspace: string;
  home: string;
  presets: Preset[];
  formats: string[];
  limits: Record<string, number>;
}

export type EntryKind = "folder" | "film" | "photo" | "other";

export interface Entry {
  name: string;
  path: string;
  kind: EntryKind;
  size: number | null;
  modified: string | number | null;
}

export interface Listing {
  path: string;
  parent: string | null;
  entries: Entry[];
}

export interface Upload {
  path: string;
  name: string;
  size: number;
}

export type JobState = "waiting" | "running" | "paused" | "done" | "failed" | "cancelled";

export interface Job {
  id: string;
  name: string;
  inputs: string[];
  preset: string;
  options: Record<string, unknown>;
  state: JobState;
  done: number;
  total: number;
  seconds_done: number;
  seconds_total: number | null;
  rows: number;
  problem: string | null;
  recordings: string[];
  created: string | number;
  eta_s: number | null;
}

export type JobAction = "pause" | "resume" | "cancel" | "retry";

export interface Recording {
  id: string;
  name: string;
  film: string | null;
  /** Whether mien recorded the film, which then goes with the recording. */
  owns_film: boolean;
  kind: "film" | "photos";
  seconds: number;
  rows: number;
  faces: number;
  width: number;
  height: number;
  created: number;
  doubtful: number;
  has_edits: boolean;
}

export type ColumnGroup = "expression" | "affect" | "action unit" | "pose" | "quality" | "other";

export interface Column {
  name: string;
  title: string;
  unit: string;
  low: number | null;
  high: number | null;
  description: string;
  group: ColumnGroup;
}

export interface Track {
  track: number;
  name: string;
  first: number;
  last: number;
  seconds: number;
  doubtful: number;
}

export interface Excluded {
  start: number;
  end: number;
  track: number | null;
  note: string;
}

export interface Code {
  start: number;
  end: number;
  code: string;
  track: number | null;
}

export interface Edits {
  version: number;
  names: Record<string, string>;
  merged: [number, number][];
  splits: { track: number; at: number; into: number }[];
  excluded: Excluded[];
  codes: Code[];
  can_undo: boolean;
  can_redo: boolean;
  /** Why the edits beside the table do not apply; null where they do. */
  problem: string | null;
}

export interface Detail extends Recording {
  fps: number;
  playable: boolean;
  /** What to add to times for the film's own clock. */
  film_offset: number;
  columns: Column[];
  tracks: Track[];
  edits: Edits;
  expressions: string[];
  formats: string[];
}

export type Operation =
  | { op: "name"; track: number; name: string }
  | { op: "merge"; track: number; into: number }
  | { op: "split"; track: number; at: number }
  | { op: "exclude"; start: number; end: number; track?: number | null; note?: string }
  | { op: "include"; index: number }
  | { op: "code"; start: number; end: number; code: string; track?: number | null }
  | { op: "uncode"; index: number };

export interface TrackSeries {
  track: number;
  name: string;
  time: number[];
  columns: Record<string, (number | null)[]>;
  status: number[];
}

export interface Series {
  tracks: TrackSeries[];
  status_names: string[];
}

export interface FaceBox {
  track: number;
  name: string;
  box: [number, number, number, number];
  roll: number | null;
  points: [number, number][] | null;
  expression: string | null;
  probability: number | null;
  status: string;
  excluded: boolean;
}

export interface ProxyState {
  state: "making" | "ready" | "failed";
  share: number;
  problem: string | null;
}

export interface Boxes {
  times: number[];
  faces: FaceBox[][];
}

export interface Segment {
  track: number;
  kind: string;
  label: string;
  onset: number;
  apex: number | null;
  offset: number;
  peak: number | null;
}

export interface ExportedFile {
  name: string;
  size: number;
  url: string;
}

export type Cell = string | number | boolean | null;

export interface Table {
  columns: string[];
  rows: Cell[][];
}

export interface Member {
  id: string;
  participant: string;
  condition: string;
  session: string;
}

export interface Study {
  id: string;
  name: string;
  recordings: Member[];
  baseline: unknown;
  state: "new" | "done" | "failed";
  problem: string | null;
  notes: string[];
  formats: string[];
}

/** How far the run of a study is. */
export interface StudyProgress {
  id: string;
  read: number;
  summarised: number;
  total: number;
  has_ended: boolean;
}

export interface Mean {
  condition: string;
  session: string;
  people: number;
  mean: number | null;
  low: number | null;
  high: number | null;
}

export interface Measure {
  name: string;
  description: string;
  unit: string;
  means: Mean[];
  values: { participant: string; condition: string; session: string; value: number | null }[];
}

export interface Network {
  name: string;
  version: number | string | null;
  title: string;
  summary: string;
  tasks: string[];
  size_bytes: number | null;
  at_hand: boolean;
  in_use: boolean;
  limits: string[];
  terms: string;
  card: string;
}

/** What the server, or the way to it, says went wrong: what, where, next step. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const UNREACHABLE = "mien does not answer; see whether `mien app` is still running in its terminal, then try again";

function messageOf(status: number, text: string): string {
  try {
    const parsed: unknown = JSON.parse(text);
    const message = (parsed as { error?: { message?: unknown } } | null)?.error?.message;
    if (typeof message === "string") return message;
  } catch {
    // No JSON: the status alone is told.
  }
  return `the server answered ${status}; try again, or look at the terminal of mien app`;
}

async function request(method: string, path: string, body?: BodyInit, type?: string, signal?: AbortSignal) {
  const init: RequestInit = { method, credentials: "same-origin" };
  if (body !== undefined) init.body = body;
  if (type) init.headers = { "Content-Type": type };
  if (signal) init.signal = signal;
  let response: Response;
  try {
    response = await fetch(`/api${path}`, init);
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") throw problem;
    throw new ApiError(UNREACHABLE, 0);
  }
  if (!response.ok) throw new ApiError(messageOf(response.status, await response.text()), response.status);
  return response;
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await request("GET", path, undefined, undefined, signal)).json()) as T;
}

async function send<T>(method: "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
  const response =
    body === undefined
      ? await request(method, path)
      : await request(method, path, JSON.stringify(body), "application/json");
  const text = await response.text();
  return (text ? JSON.parse(text) : null) as T;
}

/** `?a=1&b=x`, without what is missing. */
export function query(values: Record<string, string | number | null | undefined>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text ? `?${text}` : "";
}

/**
 * Send a file as it is, with its progress.
 *
 * XMLHttpRequest, since fetch tells nothing about how much has been sent.
 */
function upload(name: string, file: Blob, onProgress: (share: number) => void, signal: AbortSignal): Promise<Upload> {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("PUT", `/api/uploads/${encodeURIComponent(name)}`);
    call.upload.onprogress = (event) => event.total && onProgress(event.loaded / event.total);
    call.onload = () => {
      if (call.status < 300) resolve(JSON.parse(call.responseText) as Upload);
      else reject(new ApiError(messageOf(call.status, call.responseText), call.status));
    };
    call.onerror = () => reject(new ApiError(UNREACHABLE, 0));
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => call.abort());
    call.send(file);
  });
}

const recording = (id: string) => `/recordings/${encodeURIComponent(id)}`;
const study = (id: string) => `/studies/${encodeURIComponent(id)}`;

export const api = {
  info: () => get<Info>("/info"),
  files: (path: string | null) => get<Listing>(`/files${query({ path })}`),
  upload,

  jobs: () => get<Job[]>("/jobs"),
  addJob: (inputs: string[], preset: string, options: Record<string, unknown>) =>
    send<Job>("POST", "/jobs", { inputs, preset, options }),
  jobAction: (id: string, action: JobAction) => send<Job>("POST", `/jobs/${encodeURIComponent(id)}/${action}`),
  removeJob: (id: string) => send<null>("DELETE", `/jobs/${encodeURIComponent(id)}`),

  recordings: () => get<Recording[]>("/recordings"),
  recording: (id: string) => get<Detail>(recording(id)),
  removeRecording: (id: string) => send<null>("DELETE", recording(id)),
  series: (
    id: string,
    wanted: { columns: string[]; tracks?: number[]; points?: number; start?: number; end?: number },
    signal?: AbortSignal,
  ) => {
    const { columns, tracks, ...rest } = wanted;
    const parameters = query({ columns: columns.join(","), tracks: tracks?.join(","), ...rest });
    return get<Series>(`${recording(id)}/series${parameters}`, signal);
  },
  boxes: (id: string, start?: number, end?: number) => get<Boxes>(`${recording(id)}/boxes${query({ start, end })}`),
  segments: async (id: string) => (await get<{ segments: Segment[] }>(`${recording(id)}/segments`)).segments,
  filmUrl: (id: string) => `/api${recording(id)}/film`,
  proxyUrl: (id: string) => `/api${recording(id)}/proxy`,
  proxyState: (id: string) => get<ProxyState>(`${recording(id)}/proxy/state`),
  photoUrl: (id: string, index: number) => `/api${recording(id)}/photo/${index}`,
  reportUrl: (id: string) => `/api${recording(id)}/report`,
  edit: (id: string, operation: Operation, version: number) =>
    send<Edits>("POST", `${recording(id)}/edits`, { ...operation, version }),
  undo: (id: string, version: number) => send<Edits>("POST", `${recording(id)}/undo`, { version }),
  redo: (id: string, version: number) => send<Edits>("POST", `${recording(id)}/redo`, { version }),
  export: async (id: string, format: string) =>
    (await send<{ files: ExportedFile[] }>("POST", `${recording(id)}/export`, { format })).files,

  studies: () => get<Study[]>("/studies"),
  study: (id: string) => get<Study>(study(id)),
  addStudy: (name: string, recordings: Member[], baseline: unknown) =>
    send<Study>("POST", "/studies", { name, recordings, baseline }),
  removeStudy: (id: string) => send<null>("DELETE", study(id)),
  runStudy: (id: string) => send<Study>("POST", `${study(id)}/run`),
  studyProgress: (id: string) => get<StudyProgress | null>(`${study(id)}/progress`),
  studySummary: (id: string) => get<Table>(`${study(id)}/summary`),
  studyPlots: (id: string) => get<{ measures: Measure[] }>(`${study(id)}/plots`),
  studyReportUrl: (id: string) => `/api${study(id)}/report`,
  exportStudy: async (id: string, format: string) =>
    (await send<{ files: ExportedFile[] }>("POST", `${study(id)}/export`, { format })).files,

  networks: () => get<Network[]>("/networks"),
  liveUrl: () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`,
};
