"""What a bundle takes in a browser's engine, and how far its readings there differ from mien's own.

    make web
    python bench/web.py --camera FILM.mp4 [--bundles NAME…] [--out bench/results/web_camera.json]
    python bench/web.py --data SETTINGS.yaml [--bundles NAME…] [--faces 320] [--out bench/results/web.json]
    python bench/web.py --data SETTINGS.yaml --systems FOLDER… [--faces 320] [--out bench/results/web_systems.json]

FILM is what Chromium, without a window and on one core, takes for its camera (bench/web_camera.py): frames a second of the demo page with
and without mien-quality, and what a frame takes of a core.

SETTINGS: as for `mien evaluate`. The faces of its validation split are read by `mien.Model.score` with ONNX Runtime, and by
`packages/web` in Node with ONNX Runtime Web (WebAssembly, one thread), from the same pixels and points. Milliseconds a face are
the medians over the batches of 16, from pixels to scores; Python's on one thread. The pixels lie in a temporary folder meanwhile.

Of a system, the faces are one recording. Every network, those that see faces and those of heads, runs in Node on what Python prepared;
the plan's other steps run in Python after both engines, so that differences are those of the final scores. Milliseconds a face are those
of the networks alone, in batches of 16, each network by itself and all together.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from web_camera import on_camera

from mien.bundles.card import SystemCard, head_path, read_card
from mien.bundles.engines import open_engine
from mien.bundles.model import Model
from mien.bundles.plan import HeadsStep
from mien.bundles.store import AFFECT, load, open_bundle
from mien.data.images import read_picture
from mien.evaluation.predict import five_points
from mien.files import atomic_write
from mien.systems.opening import load as load_system
from mien.systems.system import System
from mien.train.open_model import table_for
from mien.train.settings.training import read_settings

BATCH = 16
NODE = shutil.which("node") or "node"
WEB = Path(__file__).parents[1] / "packages" / "web"
SCRIPT = """
import fs from "node:fs";
import { pathToFileURL } from "node:url";
import { Reader } from "%s";
const [bundle, folder] = process.argv.slice(2);
const read = (name) => fs.readFileSync(`${folder}/${name}`);
const faces = JSON.parse(read("faces.json")).map(({ width, height, points }, i) => (
  { picture: { data: new Uint8ClampedArray(read(`${i}.rgba`)), width, height }, ...(points ? { points } : {}) }
));
const reader = await Reader.open({ bundle: pathToFileURL(bundle), quality: "none", device: "wasm" });
const [scores, ms] = [[], []];
for (let i = 0; i + %d <= faces.length; i += %d) {
  const began = performance.now();
  scores.push(...await reader.score(faces.slice(i, i + %d)));
  ms.push((performance.now() - began) / %d);
}
fs.writeFileSync(`${folder}/out.json`, JSON.stringify({ scores, ms }));
"""


# Requests come on standard input, answers leave on standard output: the length of a line of JSON, the line, then float32.
ENGINE = """
import fs from "node:fs";
import * as ort from "onnxruntime-web/wasm";
ort.env.wasm.numThreads = 1;
const take = (size) => {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const count = fs.readSync(0, bytes, at, size - at);
    if (count === 0) process.exit(0);
    at += count;
  }
  return bytes;
};
const give = (bytes) => {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
};
const sessions = {};
for (const path of process.argv.slice(2)) {
  sessions[path] = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(path)), { executionProviders: ["wasm"] });
}
give(Buffer.from("ready"));
while (true) {
  const { path, shape } = JSON.parse(take(take(4).readUInt32LE()));
  const size = 4 * shape.reduce((a, b) => a * b, 1);
  const numbers = new Float32Array(new Uint8Array(take(size)).buffer);
  const session = sessions[path];
  const began = performance.now();
  const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", numbers, shape) });
  const ms = performance.now() - began;
  const all = session.outputNames.map((name) => outputs[name]);
  const line = Buffer.from(JSON.stringify({ ms, shapes: all.map((output) => output.dims) }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(line.length);
  give(Buffer.concat([length, line]));
  for (const { data } of all) give(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
}
"""


def faces_in(batch: np.ndarray) -> int:
    """Faces of a batch: crops (N, C, H, W), numbers (N, D), or frames of windows (N, T, D)."""
    return batch.shape[0] * (batch.shape[1] if batch.ndim == 3 else 1)


class TimedEngine:
    """ONNX Runtime on one thread, which notes how long a face takes."""

    name = "onnxruntime"

    def __init__(self, path: Path) -> None:
        self.ms: list[float] = []
        self._engine = open_engine(path.read_bytes(), self.name, threads=1)

    def run(self, batch: np.ndarray, first: int | None = None) -> list[np.ndarray]:
        began = time.perf_counter()
        outputs = self._engine.run(batch, first)
        self.ms.append(1000 * (time.perf_counter() - began) / faces_in(batch))
        return outputs


class WebEngine:
    """A network in a Node process, behind the interface of `mien.bundles.engines.Engine`."""

    name = "onnxruntime-web"

    def __init__(self, path: Path, node: subprocess.Popen[bytes]) -> None:
        self.ms: list[float] = []
        self._path = path
        self._node = node

    def run(self, batch: np.ndarray, first: int | None = None) -> list[np.ndarray]:
        assert self._node.stdin is not None
        line = json.dumps({"path": str(self._path), "shape": batch.shape}).encode()
        numbers = np.ascontiguousarray(batch, np.float32).tobytes()
        self._node.stdin.write(struct.pack("<I", len(line)) + line + numbers)
        self._node.stdin.flush()
        answer = json.loads(self._take(*struct.unpack("<I", self._take(4))))
        self.ms.append(answer["ms"] / faces_in(batch))
        outputs = []
        for shape in answer["shapes"]:
            content = self._take(4 * int(np.prod(shape)))
            outputs.append(np.frombuffer(content, np.float32).reshape(shape))
        return outputs[:first]

    def _take(self, size: int) -> bytes:
        return taken(self._node, size)


def taken(node: subprocess.Popen[bytes], size: int) -> bytes:
    """The next bytes that Node writes."""
    assert node.stdout is not None
    content = node.stdout.read(size)
    if len(content) < size:
        raise SystemExit("Node has ended; what it printed stands above")
    return content


def networks_of(folder: Path, card: SystemCard) -> dict[str, Path]:
    """The networks of a system by member or path of the head."""
    paths = {name: folder / "members" / name / "model.onnx" for name in card.members}
    for name, step in card.steps.items():
        if isinstance(step, HeadsStep):
            for number in range(len(step.heads)):
                path = head_path(name, number)
                paths[path] = folder / path
    return paths


def system_of(folder: Path, card: SystemCard, engines: dict[str, Any]) -> System:
    """The system with its networks in some engines."""
    members = {}
    for name in card.members:
        member = read_card(folder / "members" / name / "card.json")
        members[name] = Model(member, engines[name], together=BATCH)
    heads = {path: engine for path, engine in engines.items() if path not in members}
    return System(card, members, heads)


def on_systems(folder: Path, settings: Path, faces: int) -> dict[str, Any]:
    """Times of a system's networks in both engines, and how far its scores differ."""
    system = load_system(folder)  # verified, before its networks are opened once more
    if not isinstance(system, System):
        raise SystemExit(f"{folder}: a bundle of one network; name it with --bundles")
    card = system.card
    table = table_for(
        read_settings(settings), system.tasks, system.pixels[0], "val", note=lambda line: None
    )
    table = table.sample(faces // BATCH * BATCH, random_state=0)
    # Whole pictures, as members may align faces in different ways.
    pictures = [read_picture(image) for image in table["image"]]
    networks = networks_of(folder, card)
    script = WEB / "bench-web-systems.mjs"  # Node looks for packages beside the script
    script.write_text(ENGINE, encoding="utf-8")
    try:
        node = subprocess.Popen(
            [NODE, str(script), *map(str, networks.values())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with node:
            taken(node, len("ready"))
            kinds = {
                "python": {name: TimedEngine(path) for name, path in networks.items()},
                "browser engine": {name: WebEngine(path, node) for name, path in networks.items()},
            }
            scores = {}
            single = {}  # before steps over time, which level differences out
            for kind, engines in kinds.items():
                reader = system_of(folder, card, engines)
                batches = []
                for i in range(0, len(pictures), BATCH):
                    batches.append(reader.signals(pictures[i : i + BATCH]))
                signals = {
                    key: np.concatenate([part[key] for part in batches]) for key in batches[0]
                }
                order = np.arange(len(pictures))
                single[kind] = np.concatenate([s.reshape(len(s), -1) for s in signals.values()], 1)
                scores[kind] = reader.finish(signals, np.zeros(len(pictures)), order)
            node.stdin.close()
    finally:
        script.unlink()
    spent: dict[str, dict[str, float]] = {}
    for name in networks:
        spent[name] = {}
        for kind, engines in kinds.items():
            spent[name][kind] = round(float(np.median(engines[name].ms)), 3)
    total = {kind: round(sum(row[kind] for row in spent.values()), 2) for kind in kinds}
    apart = {}
    for task in system.tasks:
        one, other = (by_family[task.family] for by_family in scores.values())
        apart[task.family] = spread(np.abs(one - other))
    return {
        "faces": len(pictures),
        "ms a face": total,
        "ms a face by network": spent,
        "MB": round(sum(path.stat().st_size for path in networks.values()) / 1e6, 2),
        "tolerance between engines": card.tolerance,
        "apart": apart,
        "apart, single faces": spread(np.abs(single["python"] - single["browser engine"])),
        "range of scores, single faces": round(float(np.ptp(single["python"], axis=0).max()), 4),
    }


def in_node(bundle: Path, folder: Path) -> tuple[list[dict[str, list[float]]], list[float]]:
    """Scores by family and milliseconds a face of every batch."""
    module = WEB / "dist" / "index.js"
    script = WEB / "bench-web.mjs"  # Node looks for packages beside the script
    script.write_text(SCRIPT % (module.as_uri(), *[BATCH] * 4), encoding="utf-8")
    try:
        subprocess.run([NODE, str(script), str(bundle), str(folder)], check=True)
    finally:
        script.unlink()
    found = json.loads((folder / "out.json").read_text())
    return found["scores"], found["ms"]


def spread(apart: np.ndarray) -> dict[str, float]:
    found = {"median": np.median(apart), "99 %": np.quantile(apart, 0.99), "most": apart.max()}
    return {
        name: float(f"{value:.2g}") if value < 1e-4 else round(float(value), 4)
        for name, value in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path)
    what.add_argument("--camera", type=Path)
    parser.add_argument("--bundles", nargs="+", default=["mien-xs", AFFECT])
    parser.add_argument("--systems", nargs="+", type=Path, default=[])
    parser.add_argument("--faces", type=int, default=320)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0]},
    }
    for folder in args.systems:
        result[folder.name] = on_systems(folder, args.data, args.faces)
        print(folder.name, json.dumps(result[folder.name]), flush=True)
    if args.camera:
        for name in args.bundles:
            result[name] = on_camera(args.camera, name)
            print(name, json.dumps(result[name]), flush=True)
    for name in () if args.systems or args.camera else args.bundles:
        model = load(name, "onnxruntime")
        table = table_for(
            read_settings(args.data), model.tasks, model.card.pixels, "val", note=lambda line: None
        )
        table = table.sample(args.faces // BATCH * BATCH, random_state=0)
        pictures = [read_picture(image) for image in table["image"]]
        points = [five_points(found, i) for i, found in enumerate(table["points"])]
        ms = []
        for i in range(0, len(pictures), BATCH):
            began = time.perf_counter()
            for k in range(i, i + BATCH):  # one by one, for some have no points
                model.score([pictures[k]], None if points[k] is None else points[k][None])
            ms.append(1000 * (time.perf_counter() - began) / BATCH)
        ours = [
            model.score([p], None if five is None else five[None])
            for p, five in zip(pictures, points, strict=True)
        ]
        with tempfile.TemporaryDirectory() as spare:
            folder = Path(spare)
            faces = []
            for i, (picture, five) in enumerate(zip(pictures, points, strict=True)):
                faces.append(
                    {
                        "height": picture.shape[0],
                        "width": picture.shape[1],
                        "points": None if five is None else five.tolist(),
                    }
                )
                (folder / f"{i}.rgba").write_bytes(
                    np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]).tobytes()
                )
            (folder / "faces.json").write_text(json.dumps(faces))
            theirs, spent = in_node(open_bundle(name).folder, folder)
        apart = {
            task.family: np.abs([
                np.subtract(row[task.family], mine[task.family][0])
                for row, mine in zip(theirs, ours, strict=True)
            ])
            for task in model.tasks
        }  # fmt: skip
        agree = np.mean(
            [
                int(np.argmax(row["expr"])) == int(mine["expr"].argmax())
                for row, mine in zip(theirs, ours, strict=True)
            ]
        )
        result[name] = {
            "faces": len(pictures),
            "ms a face": {
                "browser engine": round(float(np.median(spent)), 2),
                "python": round(float(np.median(ms)), 2),
            },
            "same expression": round(float(agree), 4),
            "tolerance between engines": model.card.tolerance,
            "apart": {family: spread(a) for family, a in apart.items()},
        }
        print(name, json.dumps(result[name]), flush=True)
    if args.out:
        atomic_write(args.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
