// Builds the package into dist/, and with --demo FOLDER the demo page into that folder.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const EMBEDDED = resolve(HERE, "../../src/mien/bundles/embedded");
const RUNTIME = join(HERE, "node_modules/onnxruntime-web/dist");
const BUNDLES = ["mien-face", "mien-xs", "mien-s", "mien-quality"];
const RUNTIMES = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"];
/** Fetched when they are chosen, and kept from then on: nobody needs all of them. */
const LATER = ["mien-s/", "asyncify", "webgpu"];

function filesUnder(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? filesUnder(path) : [path];
  });
}

/** The networks and their cards, from the Python package: their only home. */
function copyBundles(folder) {
  for (const name of BUNDLES) {
    mkdirSync(join(folder, name), { recursive: true });
    for (const file of ["card.json", "model.onnx"]) {
      cpSync(join(EMBEDDED, name, file), join(folder, name, file));
    }
  }
}

function buildPackage() {
  const folder = join(HERE, "dist");
  rmSync(folder, { recursive: true, force: true });
  execFileSync(process.execPath, [join(HERE, "node_modules/typescript/bin/tsc")], {
    cwd: HERE,
    stdio: "inherit",
  });
  copyBundles(join(folder, "bundles"));
}

async function buildDemo(folder) {
  rmSync(folder, { recursive: true, force: true });
  await build({
    entryPoints: ["page.ts", "worker.ts", "offline.ts"].map((name) => join(HERE, "demo", name)),
    outdir: folder,
    bundle: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "linked",
    logLevel: "warning",
  });
  for (const name of ["index.html", "page.css", "icon.svg"])
    cpSync(join(HERE, "demo", name), join(folder, name));
  cpSync(join(HERE, "node_modules/uplot/dist/uPlot.min.css"), join(folder, "uplot.css"));
  copyBundles(join(folder, "bundles"));
  mkdirSync(join(folder, "runtime"));
  for (const name of RUNTIMES.flatMap((name) => [`${name}.wasm`, `${name}.mjs`])) {
    cpSync(join(RUNTIME, name), join(folder, "runtime", name));
  }
  listFiles(folder);
}

/** What the service worker keeps, and a version that changes with any of it. */
function listFiles(folder) {
  const paths = filesUnder(folder)
    .filter((path) => !path.endsWith(".LEGAL.txt"))
    .sort();
  const hash = createHash("sha256");
  for (const path of paths) hash.update(path.slice(folder.length)).update(readFileSync(path));
  const files = paths
    .map((path) => relative(folder, path))
    .filter((path) => !path.startsWith("offline"));
  const now = files.filter((path) => !LATER.some((part) => path.includes(part)));
  const list = { version: hash.digest("hex").slice(0, 16), files: ["./", ...now] };
  // In the script itself: browsers look for a new version of that alone.
  const script = join(folder, "offline.js");
  writeFileSync(script, `self.KEPT = ${JSON.stringify(list)};\n${readFileSync(script, "utf8")}`);
}

buildPackage();
const demo = process.argv.indexOf("--demo");
if (demo > 0) await buildDemo(resolve(process.argv[demo + 1]));
