/** What is read of the faces in the picture, beside it. */

import type { Reading } from "../src/index.js";
import { colourOf } from "../src/index.js";
import { TEXT } from "./text.js";

const MOST_FACES = 4;
const EXPRESSIONS = 3;
const UNITS = 4;

/** Shows the faces of one frame. */
export function showFaces(place: HTMLElement, readings: readonly Reading[]): void {
  if (!readings.length) {
    place.replaceChildren(element("p", "none", TEXT.noFace));
    return;
  }
  const cards = readings.slice(0, MOST_FACES).map(faceCard);
  const more = readings.length - cards.length;
  place.replaceChildren(...cards, ...(more > 0 ? [element("p", "none", TEXT.more(more))] : []));
}

function faceCard(reading: Reading): HTMLElement {
  const card = element("section", `face ${reading.status}`);
  card.style.setProperty("--colour", colourOf(reading.face));
  const title = element("h3", "", `Face ${reading.face}`);
  title.append(
    element("span", "", reading.status === "doubtful" ? "doubtful" : (reading.expression ?? "")),
  );
  card.append(title);
  card.append(...strongest(reading, /^expr_/, EXPRESSIONS));
  card.append(element("div", "rule"));
  for (const name of ["valence", "arousal"]) {
    const value = reading.scores[name];
    if (value !== undefined && value !== null) card.append(scoreRow(name, value, -1));
  }
  card.append(element("div", "rule"), ...strongest(reading, /^AU/, UNITS));
  const quality = reading.quality?.quality;
  if (quality !== undefined && quality !== null)
    card.append(element("div", "rule"), scoreRow("quality", quality, 0));
  return card;
}

function strongest(reading: Reading, names: RegExp, count: number): HTMLElement[] {
  const scores = Object.entries(reading.scores).filter(
    (entry): entry is [string, number] => names.test(entry[0]) && entry[1] !== null,
  );
  scores.sort((a, b) => b[1] - a[1]);
  return scores
    .slice(0, count)
    .map(([name, value]) => scoreRow(name.replace("expr_", ""), value, 0));
}

function scoreRow(name: string, value: number, low: number): HTMLElement {
  const row = element("div", "score");
  const meter = element("div", low < 0 ? "meter signed" : "meter");
  meter.setAttribute("role", "meter");
  meter.setAttribute("aria-label", name);
  for (const [key, number] of [
    ["min", low],
    ["max", 1],
    ["now", value],
  ] as const) {
    meter.setAttribute(`aria-value${key}`, number.toFixed(2));
  }
  // From zero, which is the middle where values may be negative.
  const share = (number: number): number => (100 * (number - low)) / (1 - low);
  const [from, to] = [Math.min(share(0), share(value)), Math.max(share(0), share(value))];
  meter.style.setProperty("--from", `${from}%`);
  meter.style.setProperty("--width", `${to - from}%`);
  row.append(element("span", "", name), meter, element("output", "", value.toFixed(2)));
  return row;
}

function element(tag: string, className: string, text = ""): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
