/** What the page and its worker say to each other. */

import type { Reading } from "../src/index.js";

/** What the user has chosen. */
export interface Settings {
  readonly bundle: string;
  readonly quality: string;
  readonly device: "auto" | "wasm" | "webgpu";
  readonly faces: "all" | "largest";
}

export type Request =
  | { readonly kind: "open"; readonly settings: Settings; readonly live: boolean }
  | { readonly kind: "picture"; readonly bitmap: ImageBitmap }
  | {
      readonly kind: "frame";
      readonly bitmap: ImageBitmap;
      readonly frame: number;
      readonly time: number;
    }
  | { readonly kind: "film"; readonly file: File }
  | { readonly kind: "stop" };

/** What was read of one frame; the bitmap comes back to be drawn, of films only now and then. */
export interface FrameRead {
  readonly kind: "read";
  readonly frame: number;
  readonly time: number;
  readonly readings: readonly Reading[];
  readonly bitmap: ImageBitmap | null;
  /** Of the frame, px. */
  readonly width: number;
  readonly height: number;
  /** From pixels to readings, ms. */
  readonly ms: number;
  /** How much of a film is read, 0..1. */
  readonly share: number;
}

export type Answer =
  | { readonly kind: "ready"; readonly columns: readonly string[]; readonly device: string }
  | FrameRead
  | { readonly kind: "done"; readonly undecoded: string }
  | { readonly kind: "failed"; readonly message: string };
