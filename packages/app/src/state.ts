/** What all pages share: where we are, what the server told, and what has to be said to the user. */
import { computed, effect, signal } from "@preact/signals";
import { ApiError, type Info, type Job, type Recording, type StudyProgress, api } from "./api";
import { words } from "./strings";

export const PAGES = ["analyse", "watch", "live", "study", "networks"] as const;
export type Page = (typeof PAGES)[number];

interface Route {
  page: Page;
  id: string | null;
}

function parse(hash: string): Route {
  const [page, id] = hash.replace(/^#\/?/, "").split("/");
  const known = PAGES.find((name) => name === page);
  return { page: known ?? "analyse", id: known && id ? decodeURIComponent(id) : null };
}

export const route = signal<Route>(parse(location.hash));
addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

export const href = (page: Page, id?: string) => `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}`;
export const go = (page: Page, id?: string) => {
  location.hash = href(page, id);
};

// --- what is said to the user -------------------------------------------------------------------------------------------

export interface Toast {
  key: number;
  text: string;
  kind: "note" | "problem";
}

export const toasts = signal<Toast[]>([]);
let lastToast = 0;

export function dismiss(key: number) {
  toasts.value = toasts.value.filter((toast) => toast.key !== key);
}

/** Say something in the corner. Problems stay until they are dismissed, notes for a few seconds. */
export function say(text: string, kind: Toast["kind"] = "note") {
  const same = toasts.value.find((toast) => toast.text === text);
  if (same) dismiss(same.key);
  const key = ++lastToast;
  toasts.value = [...toasts.value.slice(-3), { key, text, kind }];
  if (kind === "note") setTimeout(() => dismiss(key), 4000);
}

export function problemText(problem: unknown): string {
  return problem instanceof Error ? problem.message : String(problem);
}

/** Run what the user asked for; if it fails, say why. Returns undefined then. */
export async function attempt<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (problem) {
    if (!(problem instanceof DOMException && problem.name === "AbortError")) say(problemText(problem), "problem");
    return undefined;
  }
}

// --- what the server told -----------------------------------------------------------------------------------------------

/** Data on its way: nothing yet, what came, or why nothing came. */
export type Loaded<T> = { state: "loading" } | { state: "there"; value: T } | { state: "problem"; problem: Error };

export const LOADING = { state: "loading" } as const;

export async function load<T>(work: Promise<T>): Promise<Loaded<T>> {
  try {
    return { state: "there", value: await work };
  } catch (problem) {
    return { state: "problem", problem: problem instanceof Error ? problem : new Error(String(problem)) };
  }
}

export const info = signal<Loaded<Info>>(LOADING);
export const jobs = signal<Loaded<Job[]>>(LOADING);
export const recordings = signal<Loaded<Recording[]>>(LOADING);
/** Whether events of the server arrive; null before the first try. */
export const connected = signal<boolean | null>(null);

export const running = computed(() => {
  const all = jobs.value.state === "there" ? jobs.value.value : [];
  return all.find((job) => job.state === "running") ?? null;
});

/** Newly loaded, unless that fails while older data is there: then that stays, and the banner tells. */
function keep<T>(target: { value: Loaded<T> }, next: Loaded<T>) {
  const unreachable = next.state === "problem" && next.problem instanceof ApiError && next.problem.status === 0;
  if (unreachable && target.value.state === "there") return;
  target.value = next;
}

export async function refreshJobs() {
  keep(jobs, await load(api.jobs()));
}

export async function refreshRecordings() {
  keep(recordings, await load(api.recordings()));
}

export function putJob(job: Job) {
  if (jobs.value.state !== "there") return;
  const rest = jobs.value.value.filter((other) => other.id !== job.id);
  const at = jobs.value.value.findIndex((other) => other.id === job.id);
  rest.splice(at < 0 ? rest.length : at, 0, job);
  jobs.value = { state: "there", value: rest };
}

/** How far studies are that are being run, by their ids. */
export const studyRuns = signal<Readonly<Record<string, StudyProgress>>>({});

function putStudyRun(progress: StudyProgress) {
  const { [progress.id]: _before, ...others } = studyRuns.value;
  studyRuns.value = progress.has_ended ? others : { ...others, [progress.id]: progress };
}

/** Ask how far a study is: of a run that began before this page listened. */
export async function refreshStudyRun(id: string) {
  const before = studyRuns.value;
  const progress = await attempt(api.studyProgress(id));
  // What was told meanwhile is newer.
  if (progress === undefined || studyRuns.value !== before) return;
  putStudyRun(progress ?? { id, read: 0, summarised: 0, total: 0, has_ended: true });
}

async function refreshAll() {
  await Promise.all([
    load(api.info()).then((next) => keep(info, next)),
    refreshJobs(),
    refreshRecordings(),
  ]);
}

/** What happened on the server. */
type Told =
  | { kind: "open" | "lost" | "jobs" | "recordings" }
  | { kind: "job"; job: Job }
  | { kind: "study"; progress: StudyProgress };

const otherTabs = new BroadcastChannel("events");

function take(told: Told) {
  switch (told.kind) {
    case "open":
      connected.value = true;
      void refreshAll();
      break;
    case "lost":
      connected.value = false;
      break;
    case "job":
      putJob(told.job);
      break;
    case "study":
      putStudyRun(told.progress);
      break;
    case "jobs":
      void refreshJobs();
      break;
    case "recordings":
      void refreshRecordings();
      break;
  }
}

function tell(told: Told) {
  take(told);
  otherTabs.postMessage(told);
}

function listen() {
  const source = new EventSource("/api/events");
  source.onopen = () => tell({ kind: "open" });
  source.onerror = () => {
    tell({ kind: "lost" });
    // A browser that was refused does not try again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
  source.addEventListener("job", (event) => tell({ kind: "job", job: JSON.parse(event.data as string) as Job }));
  source.addEventListener("study", (event) =>
    tell({ kind: "study", progress: JSON.parse(event.data as string) as StudyProgress }),
  );
  source.addEventListener("jobs", () => tell({ kind: "jobs" }));
  source.addEventListener("recordings", () => tell({ kind: "recordings" }));
}

/**
 * Start to follow the server.
 *
 * A browser opens six connections to one server at most, over all tabs. So one tab has the connection for events and tells the
 * others; when it is closed, the next one takes over.
 */
export function follow() {
  otherTabs.onmessage = (event) => take(event.data as Told);
  void refreshAll();
  // Never given back: the browser does that when the tab is closed.
  void navigator.locks.request("events", () => new Promise<never>(listen));
}

// --- light and dark -----------------------------------------------------------------------------------------------------

export type Theme = "system" | "light" | "dark";
const THEMES: Theme[] = ["system", "light", "dark"];
const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** A setting kept in the browser; browsers may forbid that, and then it lasts as long as the page. */
export function kept<T>(name: string, fallback: T, valid: (value: unknown) => value is T) {
  let start = fallback;
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(`mien.${name}`) ?? "null");
    if (valid(stored)) start = stored;
  } catch {
    // Forbidden or broken: the fallback.
  }
  const value = signal<T>(start);
  effect(() => {
    try {
      localStorage.setItem(`mien.${name}`, JSON.stringify(value.value));
    } catch {
      // Forbidden or full.
    }
  });
  return value;
}

export const theme = kept<Theme>("theme", "system", (value): value is Theme => THEMES.includes(value as Theme));
const systemIsDark = signal(systemDark.matches);
systemDark.addEventListener("change", () => {
  systemIsDark.value = systemDark.matches;
});
export const dark = computed(() => (theme.value === "system" ? systemIsDark.value : theme.value === "dark"));

export function nextTheme() {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
}

effect(() => {
  document.documentElement.dataset["theme"] = dark.value ? "dark" : "light";
});

effect(() => {
  document.title = `${words.pages[route.value.page]} · mien`;
});
