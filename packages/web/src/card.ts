/** What a bundle's card says, as far as reading needs it. */

import { MienError } from "./errors.js";
import type { Pixels } from "./prepare.js";

/** A set of labels that a network predicts, and how its raw numbers are read. */
export interface Task {
  /** `family.set`, such as `expr.ferplus8`. */
  readonly key: string;
  readonly names: readonly string[];
  /** Softmax, sigmoid, or already in its unit. */
  readonly kind: "one_of" | "any_of" | "scalar";
  readonly low: number;
  readonly high: number;
}

/** How a detector searches. */
export interface SearchCard {
  readonly least: number;
  readonly keep: number;
  readonly overlap: number;
  readonly side: number;
  readonly window: number;
}

/** How a network's judgement and the reading's own probability become `quality`, in log-odds. */
export interface Trust {
  readonly offset: number;
  readonly network: number;
  readonly probability: number;
}

interface AnyCard {
  readonly card: number;
  readonly name: string;
  readonly version?: number;
  readonly sha256: string;
}

/** The card of a network that finds faces. */
export interface DetectorCard extends AnyCard {
  readonly reads: "frames";
  readonly search: SearchCard;
}

/** The card of a network that reads crops: affect, or how far readings can be trusted. */
export interface CropCard extends AnyCard {
  readonly reads: "crops";
  readonly pixels: Pixels;
  readonly tasks: readonly Task[];
  /** How far two engines may differ. */
  readonly tolerance: number;
  /** By task family, by what raw numbers are divided before softmax or sigmoid. */
  readonly temperature: Readonly<Record<string, number>>;
  readonly uncertain_below?: number | null;
  readonly doubtful_below?: number | null;
  readonly trust?: Trust | null;
}

export type Card = DetectorCard | CropCard;

const QUALITY = ["quality", "occlusion", "gaze", "pose"];

/** The part of a task's key that its scores are filed under. */
export function familyOf(task: Task): string {
  return task.key.split(".", 1)[0]!;
}

/** The column of each of a task's scores, as in mien's tables. */
export function columnsOf(task: Task): string[] {
  const family = familyOf(task);
  // Words such as "anger" or "nose" need their family, "valence" and "AU01" do not.
  const prefixed = task.kind === "one_of" || ["ce", "occlusion", "pose", "gaze"].includes(family);
  return task.names.map((name) => (prefixed ? `${family}_${name}` : name));
}

/** Reads a card of a network that finds faces. */
export function detectorCard(card: unknown, where: string): DetectorCard {
  const { reads, search } = anyCard(card, where) as DetectorCard;
  if (reads !== "frames" || !search) {
    throw new MienError(`${where} finds no faces; name a bundle such as mien-face as detector`);
  }
  const numbers = [search.least, search.keep, search.overlap, search.side, search.window];
  if (!numbers.every(Number.isFinite)) throw damaged(where, "search");
  return card as DetectorCard;
}

/** Reads a card of a network that reads crops, either affect or how far readings can be trusted. */
export function cropCard(card: unknown, where: string, purpose: "affect" | "quality"): CropCard {
  const { reads, pixels, tasks, temperature } = anyCard(card, where) as CropCard;
  if (reads !== "crops" || !Array.isArray(tasks) || !tasks.length) {
    throw new MienError(`${where} predicts nothing of faces; name a bundle such as mien-xs`);
  }
  if (!tasks.every(isTask)) throw damaged(where, "tasks");
  if (!isPixels(pixels)) throw damaged(where, "pixels");
  if (typeof temperature !== "object" || !temperature) throw damaged(where, "temperature");
  const judges = tasks.some((task: Task) => QUALITY.includes(familyOf(task)));
  if (judges !== (purpose === "quality")) {
    const use = judges ? "quality" : "bundle";
    throw new MienError(
      `${where} gives ${tasks.map((task: Task) => task.key).join(", ")}; name it as ${use}`,
    );
  }
  return card as CropCard;
}

function anyCard(card: unknown, where: string): object {
  if (typeof card !== "object" || card === null) throw damaged(where, "card");
  const { card: schema, sha256 } = card as Partial<AnyCard>;
  if (schema !== 1) {
    throw new MienError(`${where}: its card has schema ${schema}, this package reads 1; update it`);
  }
  if (typeof sha256 !== "string") throw damaged(where, "sha256");
  return card;
}

function isTask(task: Task): boolean {
  const named = Array.isArray(task.names) && task.names.length > 0;
  const ranged = Number.isFinite(task.low) && Number.isFinite(task.high);
  return typeof task.key === "string" && named && ranged;
}

function isPixels(pixels: Pixels | undefined): boolean {
  if (!pixels || !(pixels.size >= 16 && pixels.size <= 1024)) return false;
  const channels = pixels.colour === "grey" ? 1 : 3;
  return pixels.mean?.length === channels && pixels.std?.length === channels;
}

function damaged(where: string, part: string): MienError {
  return new MienError(
    `${where}: \`${part}\` of its card is missing or damaged; copy the bundle again`,
  );
}
