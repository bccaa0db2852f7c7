// Build the pages into src/mien/app/static: fixed file names, nothing from elsewhere, and built-from.json, by which a
// test without node can tell that the built files belong to these sources.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = join(HERE, "..", "..", "src", "mien", "app", "static");
/** All that the built files depend on, besides the tools, whose versions package-lock.json holds. */
const ROOTS = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json", "public", "src"];

async function filesUnder(path) {
  const entries = await readdir(path, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function sources() {
  const paths = [];
  for (const root of ROOTS) {
    const path = join(HERE, root);
    paths.push(...(root.includes(".") ? [path] : await filesUnder(path)));
  }
  return paths.map((path) => relative(HERE, path).replaceAll("\\", "/")).sort();
}

async function hashes(folder, names) {
  const pairs = [];
  for (const name of names) {
    const content = await readFile(join(folder, name));
    pairs.push([name, createHash("sha256").update(content).digest("hex")]);
  }
  return Object.fromEntries(pairs);
}

const options = {
  absWorkingDir: HERE,
  entryPoints: { app: "src/main.tsx" },
  outdir: OUT,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "inline",
  logLevel: "info",
};

async function copyPublic() {
  const names = (await filesUnder(join(HERE, "public"))).map((path) => relative(join(HERE, "public"), path));
  for (const name of names) await writeFile(join(OUT, name), await readFile(join(HERE, "public", name)));
  return names;
}

if (process.argv.includes("--watch")) {
  await mkdir(OUT, { recursive: true });
  await copyPublic();
  await (await esbuild.context({ ...options, minify: false, sourcemap: "inline" })).watch();
} else {
  await rm(OUT, { recursive: true, force: true });
  await mkdir(OUT, { recursive: true });
  await esbuild.build(options);
  const built = ["app.css", "app.js", ...(await copyPublic())].sort();
  const record = { sources: await hashes(HERE, await sources()), built: await hashes(OUT, built) };
  await writeFile(join(OUT, "built-from.json"), `${JSON.stringify(record, null, 1)}\n`);
}
