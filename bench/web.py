"""What a bundle takes in a browser's engine, and how far its readings there differ from mien's own.

    npm install --prefix FOLDER onnxruntime-web
    python bench/web.py --data SETTINGS.yaml --web FOLDER [--bundles NAME…] [--faces 320] [--out bench/results/web.json]

SETTINGS: as for `mien evaluate`. The faces of its validation split are read by `mien.Model.score` with ONNX Runtime, and by
`examples/web/mien.mjs` in Node with ONNX Runtime Web (WebAssembly, one thread), from the same pixels and points. Milliseconds a face are
the medians over the batches of 16, from pixels to scores; Python's on one thread. The pixels lie in a temporary folder meanwhile.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mien.bundles.store import AFFECT, load, open_bundle
from mien.data.images import read_picture
from mien.evaluation.predict import five_points
from mien.files import atomic_write
from mien.train.open_model import table_for
from mien.train.settings.training import read_settings

BATCH = 16
NODE = shutil.which("node") or "node"
SCRIPT = """
import fs from "node:fs";
import * as ort from "onnxruntime-web/wasm";
import { open } from "%s";
ort.env.wasm.numThreads = 1;
const [bundle, folder] = process.argv.slice(2);
const read = (name) => fs.readFileSync(`${folder}/${name}`);
const faces = JSON.parse(read("faces.json")).map(({ width, height, points }, i) => (
  { picture: { data: new Uint8ClampedArray(read(`${i}.rgba`)), width, height }, ...(points ? { points } : {}) }
));
const card = JSON.parse(fs.readFileSync(`${bundle}/card.json`));
const reader = await open(ort, card, new Uint8Array(fs.readFileSync(`${bundle}/model.onnx`)));
const [scores, ms] = [[], []];
for (let i = 0; i + %d <= faces.length; i += %d) {
  const began = performance.now();
  scores.push(...await reader.read(faces.slice(i, i + %d)));
  ms.push((performance.now() - began) / %d);
}
fs.writeFileSync(`${folder}/out.json`, JSON.stringify({ scores, ms }));
"""


def in_node(bundle: Path, folder: Path, web: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """Scores by name and milliseconds a face of every batch."""
    module = Path(__file__).parents[1] / "examples" / "web" / "mien.mjs"
    script = web / "bench-web.mjs"  # Node looks for packages beside the script
    script.write_text(SCRIPT % (module.as_uri(), *[BATCH] * 4), encoding="utf-8")
    try:
        subprocess.run([NODE, str(script), str(bundle), str(folder)], check=True)
    finally:
        script.unlink()
    found = json.loads((folder / "out.json").read_text())
    return found["scores"], found["ms"]


def spread(apart: np.ndarray) -> dict[str, float]:
    found = {"median": np.median(apart), "99 %": np.quantile(apart, 0.99), "most": apart.max()}
    return {name: round(float(value), 4) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--web", type=Path, required=True)
    parser.add_argument("--bundles", nargs="+", default=["mien-xs", AFFECT])
    parser.add_argument("--faces", type=int, default=320)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0]},
    }
    for name in args.bundles:
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
            theirs, spent = in_node(open_bundle(name).folder, folder, args.web)
        apart = {
            task.family: np.abs([
                [row[task.family][who] - mine[task.family][0, k] for k, who in enumerate(task.names)]
                for row, mine in zip(theirs, ours, strict=True)
            ])
            for task in model.tasks
        }  # fmt: skip
        agree = np.mean(
            [
                row["expression"] == model.tasks[0].names[mine["expr"].argmax()]
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
