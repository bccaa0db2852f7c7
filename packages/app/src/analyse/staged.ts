/** What is going to be analysed: films that are being sent into the workspace, and paths that were chosen on this computer. */
import { signal } from "@preact/signals";
import { api } from "../api";
import { problemText } from "../state";
import { words } from "../strings";

export interface Staged {
  key: number;
  name: string;
  size: number | null;
  folder: boolean;
  /** Where the server finds it; null while it is being sent. */
  path: string | null;
  share: number;
  problem: string | null;
  cancel: (() => void) | null;
}

export const staged = signal<Staged[]>([]);
let lastKey = 0;

function change(key: number, values: Partial<Staged>) {
  staged.value = staged.value.map((item) => (item.key === key ? { ...item, ...values } : item));
}

export function stagePath(path: string, name: string, size: number | null, folder: boolean) {
  if (staged.value.some((item) => item.path === path)) return;
  const item = { key: ++lastKey, name, size, folder, path, share: 1, problem: null, cancel: null };
  staged.value = [...staged.value, item];
}

export function unstage(key: number) {
  staged.value.find((item) => item.key === key)?.cancel?.();
  staged.value = staged.value.filter((item) => item.key !== key);
}

export function clearStaged() {
  staged.value = staged.value.filter((item) => item.path === null || item.problem !== null);
}

// One after the other: films are large, and the disk is one.
let line: Promise<void> = Promise.resolve();

async function sendOne(key: number, file: File, abort: AbortController) {
  if (!staged.value.some((item) => item.key === key)) return;
  try {
    const sent = await api.upload(file.name, file, (share) => change(key, { share }), abort.signal);
    change(key, { path: sent.path, share: 1, cancel: null });
  } catch (problem) {
    change(key, { problem: problemText(problem), cancel: null });
  }
}

export function stageFiles(files: File[]) {
  for (const file of files) {
    const key = ++lastKey;
    const abort = new AbortController();
    const item: Staged = {
      key, name: file.name, size: file.size, folder: false, path: null, share: 0, problem: null,
      cancel: () => abort.abort(),
    };
    if (file.size === 0) item.problem = words.analyse.emptyFile;
    staged.value = [...staged.value, item];
    if (file.size > 0) line = line.then(() => sendOne(key, file, abort));
  }
}

async function filesOfEntry(entry: FileSystemEntry): Promise<File[]> {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const files: File[] = [];
  // A reader gives about a hundred entries a time, and none at the end.
  for (;;) {
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return files;
    for (const inner of batch) files.push(...(await filesOfEntry(inner)));
  }
}

const READABLE = /^(video|image)\//;
const READABLE_NAME = /\.(mkv|mts|m2ts|avi|mov|mp4|m4v|webm|wmv|flv|3gp|mpe?g|ts|heic|heif|avif|tiff?|bmp|jp2)$/i;

/** The films and photos of what was dropped, folders with all that is in them. */
export async function stageDropped(transfer: DataTransfer) {
  // Entries have to be taken before anything is awaited: the transfer is emptied then.
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const files = entries.length ? [] : [...transfer.files];
  for (const entry of entries) files.push(...(await filesOfEntry(entry)));
  const inFolders = entries.some((entry) => entry.isDirectory);
  const readable = files.filter((file) => READABLE.test(file.type) || READABLE_NAME.test(file.name));
  // What was dropped by hand is tried in any case: the server says what it cannot read.
  stageFiles(inFolders ? readable : files);
}
