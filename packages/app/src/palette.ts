/** Colours by name, from style.css, for what is drawn on canvases. They can be told apart with every colour vision. */
import { computed } from "@preact/signals";
import { dark } from "./state";

const NAMES = [
  "paper", "panel", "ink", "soft", "line", "accent", "shade", "excluded", "mark",
  "valence", "arousal", "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "other",
  "c0", "c1", "c2", "c3", "c4", "c5", "c6",
] as const;
export type ColourName = (typeof NAMES)[number];

export const colours = computed(() => {
  void dark.value; // Read again when light turns dark.
  const style = getComputedStyle(document.documentElement);
  const pairs = NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()] as const);
  return Object.fromEntries(pairs) as Record<ColourName, string>;
});

const CYCLE: ColourName[] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6"];

export function isColour(name: string): name is ColourName {
  return (NAMES as readonly string[]).includes(name);
}

/** The colour of the n-th of several things alike. */
export function nth(n: number): ColourName {
  return CYCLE[((n % CYCLE.length) + CYCLE.length) % CYCLE.length] as ColourName;
}

/** The colour of an expression, by its name or its column's. */
export function ofExpression(name: string | null): ColourName {
  const plain = (name ?? "").replace(/^expr_/, "");
  return isColour(plain) ? plain : "other";
}

export const css = (name: ColourName) => `var(--${name})`;
