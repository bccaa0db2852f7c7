/** Bundles: a card and a network, loaded from a folder and verified. */

import { MienError } from "./errors.js";

/** A bundle whose network is what its card says. */
export interface Bundle<C> {
  readonly card: C;
  readonly network: Uint8Array;
}

/**
 * Loads a bundle.
 *
 * @param folder - Where its `card.json` and `model.onnx` are; ends with a slash.
 * @param readCard - Checks what the card says.
 * @throws MienError - It is not there, damaged, or not what is asked for.
 */
export async function loadBundle<C extends { readonly sha256: string }>(
  folder: URL,
  readCard: (card: unknown, where: string) => C,
): Promise<Bundle<C>> {
  const where = decodeURIComponent(folder.pathname.split("/").at(-2) ?? folder.href);
  const [text, network] = await Promise.all([
    bytesAt(new URL("card.json", folder)),
    bytesAt(new URL("model.onnx", folder)),
  ]);
  const card = readCard(parsed(text, folder), where);
  const sha256 = await digest(network);
  if (sha256 !== card.sha256) {
    throw new MienError(
      `${where}: model.onnx is altered or incomplete: its SHA-256 is ${sha256}, ` +
        `the card says ${card.sha256}; copy the bundle again`,
    );
  }
  return { card, network };
}

function parsed(text: Uint8Array, folder: URL): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  } catch {
    throw new MienError(`${folder.href}card.json is no JSON; copy the bundle again`);
  }
}

async function bytesAt(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  try {
    if (url.protocol === "file:") return await bytesOfFile(url);
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new MienError(
      `cannot load ${url.href} (${(error as Error).message}); ` +
        "serve the bundles beside the page, and name their folder with the option bundles",
    );
  }
}

async function bytesOfFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  // In a variable, so that bundlers for browsers do not look for it.
  const module = "node:fs/promises";
  const { readFile } = (await import(module)) as typeof import("node:fs/promises");
  return new Uint8Array(await readFile(url));
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (!globalThis.crypto?.subtle) {
    throw new MienError("the network cannot be verified; open the page by https or at localhost");
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
