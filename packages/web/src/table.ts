/** Tables of readings, with the columns that mien has in Python. */

import type { Reading } from "./reader.js";

/** One row: a face in a frame, or a frame without a face. */
export interface Row {
  readonly frame: number;
  /** s. */
  readonly time: number;
  readonly reading: Reading | null;
}

/** Digits after the point of times, of lengths in px, and of all other numbers. */
const DIGITS: Readonly<Record<string, number>> = {
  time_s: 6,
  box_x: 2,
  box_y: 2,
  box_w: 2,
  box_h: 2,
  face_size: 2,
};
const SCORE_DIGITS = 5;
const WHOLE = ["frame", "face"];

// Spreadsheets run what begins so, wherever they think that a cell begins.
const RISKY = /(?:^|(?<=[;\t\r\n]))(?=\s*['=+\-@＝＋－＠]|[\t\r\n])/g;

/** Collects the readings of one source. */
export class Table {
  readonly #rows: Row[] = [];

  /**
   * @param source - Name of the picture, film or camera.
   * @param columns - Of the reader: `reader.columns`.
   */
  constructor(
    readonly source: string,
    readonly columns: readonly string[],
  ) {}

  /** The rows so far, one per face per frame. */
  get rows(): readonly Row[] {
    return this.#rows;
  }

  /**
   * Adds a frame.
   *
   * @param frame - Its number, from 0; frames that were not read are counted, too.
   * @param time - When it was, s.
   * @param readings - Its faces; a frame without any is a row of status `no_face`.
   */
  add(frame: number, time: number, readings: readonly Reading[]): void {
    if (!readings.length) this.#rows.push({ frame, time, reading: null });
    for (const reading of readings) this.#rows.push({ frame, time, reading });
  }

  /** The table as CSV, as `mien analyze` writes it: UTF-8, a header, empty where missing. */
  csv(): string {
    const lines = this.#rows.map((row) => {
      return this.columns.map((column) => cell(column, this.#value(row, column))).join(",");
    });
    return [this.columns.join(","), ...lines, ""].join("\n");
  }

  #value({ frame, time, reading }: Row, column: string): string | number | null | undefined {
    if (column === "source") return this.source;
    if (column === "frame") return frame;
    if (column === "time_s") return time;
    if (column === "status") return reading?.status ?? "no_face";
    if (!reading) return null;
    if (column === "face" || column === "confidence" || column === "expression") {
      return reading[column];
    }
    const side = ["box_x", "box_y", "box_w", "box_h"].indexOf(column);
    if (side >= 0) return reading.box[side]!;
    return column in reading.scores ? reading.scores[column] : reading.quality?.[column];
  }
}

function cell(column: string, value: string | number | null | undefined): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return quoted(value);
  return WHOLE.includes(column) ? `${value}` : value.toFixed(DIGITS[column] ?? SCORE_DIGITS);
}

/** Text as a cell: in quotes where needed, and never a formula. */
function quoted(text: string): string {
  const harmless = text.replace(RISKY, "'");
  if (harmless && !/[",;\t\r\n]|^\s|\s$/.test(harmless)) return harmless;
  return `"${harmless.replaceAll('"', '""')}"`;
}
