"""Whether scores are the same on other processors, and in another engine.

    python bench/processors.py --data SETTINGS.yaml [--faces 200] [--engine-faces 1000] [--out bench/results/processors.json]

SETTINGS: as for `mien evaluate`. Faces of its validation split, half from each end of the table, are aligned and read by `mien-s` and
`mien-xs` with ONNX Runtime on this processor, and again by the same Python under `qemu-x86_64 -cpu …` (Debian: qemu-user), which
computes as that processor does, slowly. Crops are made once, so that networks alone are compared. The face finder is compared by
its raw answers to parts of the same pictures. Between ONNX Runtime and OpenVINO, where that is installed, more faces are compared.
Told are the largest differences by task, and labels that change though the two best scores are not within .01.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.bundles.engines import available, open_engine
from mien.bundles.store import FACES, load, read_bundle
from mien.files import atomic_write
from mien.train.settings.training import read_settings

PROCESSORS = ("Haswell-noTSX", "Nehalem", "EPYC")
BUNDLES = ("mien-s", "mien-xs")
NEAR = 0.01
# Run by another processor: bundle, pictures, where answers go. Nothing of training is imported there: it takes minutes under qemu.
READ = """
import sys
import numpy as np
from mien.bundles.engines import open_engine
from mien.bundles.store import FACES, load, read_bundle
folder = sys.argv[1]
for name in sys.argv[3:]:
    model, crops = load(name), np.load(f"{folder}/{name}.npy")
    parts = [model.score_prepared(crops[i:i + 16]) for i in range(0, len(crops), 16)]
    np.savez(f"{folder}/{sys.argv[2]}.{name}.npz", **{family: np.concatenate([one[family] for one in parts]) for family in parts[0]})
finder, windows = open_engine(read_bundle(FACES)[1]), np.load(f"{folder}/windows.npy")
np.savez(f"{folder}/{sys.argv[2]}.finder.npz", grid=np.concatenate([finder.run(windows[i:i + 8])[0] for i in range(0, len(windows), 8)]))
"""


def read_on(processor: str | None, folder: Path) -> float:
    """Scores of all crops in `folder` by this processor or another, into it; returns seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-c", READ, str(folder), processor or "native", *BUNDLES]
    if processor:
        command = ["qemu-x86_64", "-cpu", processor, *command]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def apart(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Largest difference by family; labels that change, and those of them whose two best scores were not within `NEAR`."""
    found: dict[str, Any] = {
        family: float(f"{np.abs(ours[family] - theirs[family]).max():.3g}") for family in ours
    }
    if "expr" in ours:
        changed = ours["expr"].argmax(axis=1) != theirs["expr"].argmax(axis=1)
        best = np.sort(ours["expr"], axis=1)
        found["labels changed"] = int(changed.sum())
        found["of them not near"] = int((changed & (best[:, -1] - best[:, -2] > NEAR)).sum())
    return found


def ends(table: Any, count: int) -> Any:
    """Rows from both ends of a table, and so from its first and last data set."""
    half = count // 2
    return table.iloc[np.r_[0:half, len(table) - (count - half) : len(table)]]


def crops_of(model: Any, table: Any) -> np.ndarray:
    """Prepared crops (N, S, S, 3), aligned where there are points."""
    from mien.data.images import read_picture
    from mien.evaluation.predict import five_points

    made = []
    for i, (image, cell) in enumerate(zip(table["image"], table["points"], strict=True)):
        five = five_points(cell, i)
        made += model.prepare([read_picture(image)], None if five is None else five[None])
    return np.stack(made)


def windows_of(table: Any) -> np.ndarray:
    """Luma of whole pictures (N, 1, 192, 192), as the face finder reads them."""
    from mien.data.images import read_picture

    pictures = [
        cv2.cvtColor(cv2.resize(read_picture(image), (192, 192)), cv2.COLOR_RGB2GRAY)
        for image in table["image"]
    ]
    return np.stack(pictures)[:, None].astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--engine-faces", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from mien.train.open_model import table_for

    models = {name: load(name) for name in BUNDLES}
    first = models[BUNDLES[0]]
    table = table_for(
        read_settings(args.data), first.tasks, first.card.pixels, "val", note=lambda line: None
    )
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "sha256": {name: model.card.sha256 for name, model in models.items()}, "faces": args.faces, "processors": {}, "engines": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as spare:
        folder, few = Path(spare), ends(table, args.faces)
        for name, model in models.items():
            np.save(folder / f"{name}.npy", crops_of(model, few))
        np.save(folder / "windows.npy", windows_of(ends(table, min(args.faces, 40))))
        read_on(None, folder)
        for processor in PROCESSORS if shutil.which("qemu-x86_64") else ():
            seconds = read_on(processor, folder)
            told = {
                name: apart(
                    dict(np.load(folder / f"native.{name}.npz")),
                    dict(np.load(folder / f"{processor}.{name}.npz")),
                )
                for name in (*BUNDLES, "finder")
            }
            told[FACES] = told.pop("finder")
            result["processors"][processor] = told
            print(f"{processor} ({seconds:.0f} s):", json.dumps(told), flush=True)
    if "openvino" in available():
        for name, model in models.items():
            crops = crops_of(model, ends(table, args.engine_faces))
            scores = [
                load(name, engine).score_prepared(crops) for engine in ("onnxruntime", "openvino")
            ]
            result["engines"][name] = {"faces": len(crops), **apart(*scores)}
            result["engines"][name]["different valences"] = len(np.unique(scores[0]["va"][:, 0]))
            print(
                f"{name}, ONNX Runtime against OpenVINO:",
                json.dumps(result["engines"][name]),
                flush=True,
            )
        finder = [
            open_engine(read_bundle(FACES)[1], engine) for engine in ("onnxruntime", "openvino")
        ]
        windows = windows_of(ends(table, 40))
        result["engines"][FACES] = {
            "faces": 40,
            "grid": float(
                f"{np.abs(finder[0].run(windows)[0] - finder[1].run(windows)[0]).max():.3g}"
            ),
        }
        print(f"{FACES}:", json.dumps(result["engines"][FACES]))
    if args.out:
        atomic_write(args.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
