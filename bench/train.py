"""Whether training learns, and how fast: three tasks on drawn faces, judged on faces of people it never saw.

    python bench/train.py [--settings bench/train.yaml] [--out bench/results/train.json]

Seconds are those of a whole `fit` on this machine's cores: faces drawn, all epochs, judged after each, checkpoints written; only the
start of Python is not counted. Then the best weights, chosen on split ``val``, score split ``test``: more faces, of people who lie in
neither of the other splits.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mien.data.label_table import labels
from mien.data.registry import Drawn, load_set
from mien.metrics import au_f1, ccc, macro_f1
from mien.train.inputs.crops import CropDataset
from mien.train.loop import Progress, fit
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of, raw_scores
from mien.train.settings.training import read_settings

FACES = 3000


class Lines(Progress):
    """One line an epoch."""

    def epoch(self, row: dict[str, float]) -> None:
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def test_scores(run: RunFolder) -> dict[str, object]:
    """Scores of the best weights on faces that took no part."""
    first = run.settings.data[0]
    assert isinstance(first, Drawn)
    net = network_of(run)
    table = load_set(
        Drawn(set="drawn", count=FACES, seed=first.seed, size=first.size, split="test"), net.tasks
    )
    raw, _ = raw_scores(net, CropDataset(table, net.tasks, run.settings.pixels))
    found: dict[str, object] = {}
    for task in net.tasks:
        scores, truth = task.decode(raw[task.family]), labels(table, task)
        if task.kind == "one_of":
            found["expression macro-F1"] = macro_f1(
                scores.argmax(axis=1), truth.argmax(axis=1), range(len(task.names))
            )
        elif task.kind == "scalar":
            by_name = {name: ccc(scores[:, i], truth[:, i]) for i, name in enumerate(task.names)}
            found |= {"mean CCC": float(np.mean(list(by_name.values()))), "CCC": by_name}
        else:
            by_name = dict(zip(task.names, au_f1(scores >= 0.5, truth).tolist(), strict=True))
            found |= {"mean AU-F1": float(np.mean(list(by_name.values()))), "AU-F1": by_name}
    return found


def rounded(tree: object) -> object:
    if isinstance(tree, dict):
        return {name: rounded(value) for name, value in tree.items()}
    return round(tree, 4) if isinstance(tree, float) else tree


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", type=Path, default=here / "train.yaml")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    settings = read_settings(args.settings)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        run = fit(settings, Path(scratch) / "run", Lines())
        seconds = time.perf_counter() - started
        scores = test_scores(run)
        rows = run.facts["rows"]
    result = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "faces": {**rows, "test": FACES},
        "epochs": settings.fit.epochs,
        "seconds": round(seconds, 1),
        "on test": rounded(scores),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
