/** Numbers and times as the pages write them. */
import { words } from "./strings";

/** 75.5 → "1:15.5"; with `digits` 0, "1:15". Hours are shown once there are some. */
export function clock(seconds: number, digits = 1): string {
  const scale = 10 ** digits;
  // Rounded before it is taken apart, so that 59.99 is 1:00.0 and never 0:60.0.
  const total = Math.round(Math.max(0, seconds) * scale) / scale;
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const rest = (total % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** "12 s", "4 min", "1 h 20 min": how long something lasts, for reading at a glance. */
export function duration(seconds: number): string {
  if (seconds < 1) return words.seconds(Number(seconds.toFixed(1)));
  if (seconds < 90) return words.seconds(Math.round(seconds));
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return words.minutes(minutes);
  return words.hours(Math.floor(minutes / 60), minutes % 60);
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(size: number): string {
  let unit = 0;
  let value = size;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : Number(value.toPrecision(2))} ${UNITS[unit]}`;
}

export function percent(share: number): string {
  const value = share * 100;
  return `${value > 0 && value < 1 ? "<1" : Math.round(value)} %`;
}

export function count(value: number): string {
  return value.toLocaleString("en");
}

/** A score with a true minus sign; a dash where there is none. */
export function score(value: number | null | undefined, digits = 2): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value.toFixed(digits).replace("-", "−").replace(/^−(0(?:\.0+)?)$/, "$1");
}

export function day(moment: string | number): string {
  const date = new Date(typeof moment === "number" ? moment * 1000 : moment);
  if (Number.isNaN(date.getTime())) return String(moment);
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function fileName(path: string): string {
  return path.split(/[\\/]/).filter(Boolean).pop() ?? path;
}
