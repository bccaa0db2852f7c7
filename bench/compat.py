"""How far `mien.compat` and the packages it stands in for differ, on the same files and the same pictures.

    pip install emotiefflib hsemotion-onnx
    python bench/compat.py [--files FOLDER] [--out bench/results/compat.json]

FOLDER holds EmotiEffLib's ONNX files, which are verified by the index and installed as `mien bundles pull` does. Without it, each file
is made: the same architecture with random weights, its norms fitted to the pictures (needs mien's [train]). Pictures: a
public-domain portrait's face, whole, mirrored, squashed, at five sizes, and noise; in one list, and each alone. Printed for each file:
the largest value and the largest difference of features and of scores (logits=False leaves valence and arousal raw), and how many labels
agree.
"""

import argparse
import copy
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien import zoo
from mien.compat import EmotiEffLibRecognizer, HSEmotionRecognizer, get_model_list
from mien.demo import portrait
from mien.faces.prepare import normalise, prepare_crop
from mien.zoo.convert import convert
from mien.zoo.install import place

OLDER = (
    "enet_b0_8_best_vgaf",
    "enet_b0_8_best_afew",
    "enet_b2_8",
    "enet_b0_8_va_mtl",
    "enet_b2_7",
)  # all that hsemotion-onnx knows


def pictures() -> list[np.ndarray]:
    face = portrait()[40:250, 120:330]
    sizes = [(512, 512), (700, 500), (112, 112), (31, 47), (260, 260)]
    noise = np.random.default_rng(0).integers(0, 256, (224, 260, 3), dtype=np.uint8)
    return [
        face,
        np.ascontiguousarray(face[:, ::-1]),
        *(cv2.resize(face, size) for size in sizes),
        noise,
    ]


def made(known: zoo.Entry, faces: list[np.ndarray]) -> bytes:
    """A file of the form that the entry tells of, with random weights."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import torch
    from zoo_forms import mobilefacenet, network, onnx_bytes

    pixels, outputs = (
        known.network.pixels,
        sum(len(output.columns) for output in known.network.outputs),
    )
    small = known.architectures[0].startswith("mobilefacenet")
    net = copy.deepcopy(
        mobilefacenet(outputs) if small else network(known.architectures[0], outputs, 64)
    )
    norms = [
        part
        for part in net.modules()
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)
    ]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(
            torch.from_numpy(normalise([prepare_crop(face, pixels) for face in faces], pixels))
        )
    for norm in norms:
        norm.running_var.clamp_(min=0.05)
    return onnx_bytes(net.eval(), pixels.size)


def install(name: str, folder: Path | None, faces: list[np.ndarray], caches: list[Path]) -> str:
    """Put a file where each package looks for it, mien's form of it among the bundles; returns mien's name of it."""
    known = next(
        one
        for one in zoo.entries().values()
        if (file := one.file("network")) and file.name == f"{name}.onnx"
    )
    if folder is None:
        content = made(known, faces)
        network, card = convert(known, content)
        place(card, network)
    else:
        content = (folder / f"{name}.onnx").read_bytes()
        zoo.pull(known.name, source=folder)
    for cache in caches:
        cache.mkdir(exist_ok=True)
        (cache / f"{name}.onnx").write_bytes(content)
    return known.name


class Tally:
    """The largest values and differences so far."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self.labels, self.same = 0, 0

    def add(self, what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        if ours.shape != theirs.shape:
            raise SystemExit(f"{what}: shapes differ: {ours.shape}, theirs {theirs.shape}")
        numbers = self.found.setdefault(what, {"largest": 0.0, "difference": 0.0})
        numbers["largest"] = max(numbers["largest"], float(np.abs(theirs).max()))
        numbers["difference"] = max(numbers["difference"], float(np.abs(ours - theirs).max()))

    def add_both(self, ours: Callable[..., Any], theirs: Callable[..., Any], faces: Any) -> None:
        for logits in (True, False):
            (labels, scores), (wanted, numbers) = (
                call(faces, logits=logits) for call in (ours, theirs)
            )
            self.add(f"scores, logits={logits}", scores, numbers)
            alike = (
                [labels == wanted]
                if isinstance(labels, str)
                else [a == b for a, b in zip(labels, wanted, strict=True)]
            )
            self.labels, self.same = self.labels + len(alike), self.same + sum(alike)

    def told(self) -> dict[str, object]:
        rounded = {
            what: {key: float(f"{value:.3g}") for key, value in numbers.items()}
            for what, numbers in self.found.items()
        }
        return {**rounded, "labels alike": f"{self.same} of {self.labels}"}


def compare(name: str, faces: list[np.ndarray], newer: Any, older: Any) -> dict[str, object]:
    result: dict[str, object] = {}
    if newer is not None:
        ours, theirs, tally = (
            EmotiEffLibRecognizer("onnx", name),
            newer.EmotiEffLibRecognizer("onnx", name),
            Tally(),
        )
        if (ours.idx_to_emotion_class, ours.is_mtl, ours.img_size) != (
            theirs.idx_to_emotion_class,
            theirs.is_mtl,
            theirs.img_size,
        ):
            raise SystemExit(f"{name}: labels or sizes differ")
        for some in (faces, *faces):
            tally.add("features", ours.extract_features(some), theirs.extract_features(some))
            tally.add_both(ours.predict_emotions, theirs.predict_emotions, some)
        result["emotiefflib"] = tally.told()
    if older is not None and name in OLDER:
        ours, theirs, tally = HSEmotionRecognizer(name), older.HSEmotionRecognizer(name), Tally()
        tally.add_both(ours.predict_multi_emotions, theirs.predict_multi_emotions, faces)
        for face in faces:
            tally.add_both(ours.predict_emotions, theirs.predict_emotions, face)
        result["hsemotion-onnx"] = tally.told()
    return result


def imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=Path)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "compat.json"
    )
    args = parser.parse_args()
    newer, older = (
        imported("emotiefflib.facial_analysis"),
        imported("hsemotion_onnx.facial_emotions"),
    )
    if newer is None and older is None:
        raise SystemExit(
            "nothing to compare with; install one: pip install emotiefflib hsemotion-onnx"
        )
    packages = [
        name for name, module in (("emotiefflib", newer), ("hsemotion-onnx", older)) if module
    ]
    result: dict[str, Any] = {
        "versions": {name: version(name) for name in (*packages, "onnxruntime", "numpy")} | {"opencv": cv2.__version__},
        "files": "as published" if args.files else "of the same architectures, with random weights", "pictures": len(pictures()),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        # Both packages look for their files in the home folder.
        os.environ.update(HOME=scratch, USERPROFILE=scratch, MIEN_HOME=f"{scratch}/mien")
        for name in get_model_list():
            install(
                name,
                args.files,
                pictures(),
                [Path(scratch) / ".emotiefflib", Path(scratch) / ".hsemotion"],
            )
            result[name] = compare(name, pictures(), newer, older)
            print(name, json.dumps(result[name]), flush=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
