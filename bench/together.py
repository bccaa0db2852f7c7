"""What networks say together, and each alone, against one: whether a larger network could earn its place.

    python bench/together.py NETWORK NETWORK… --data SETTINGS.yaml [--split val] [--out bench/results/together.json]

NETWORK: bundles or run folders, the first is the one that all are compared with; SETTINGS as for `mien evaluate`. Networks together
answer with the mean of their scores. A student learns at best about what its teachers know together, so where the mean gains little,
so will a larger student of the same teachers. Differences are in pairs, with 95 % intervals over 2,000 draws of faces.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mien.data.sets import set_name
from mien.data.table import labels
from mien.errors import MienError
from mien.outputs.files import write_aside
from mien.tasks import Floats, Task
from mien.train.models import open_model, table_for
from mien.train.scoring import evaluate_bundle
from mien.train.settings import read_settings

DRAWS = 2000


def of_name(name: str) -> str | Path:
    return Path(name) if Path(name).is_dir() else name


def judged(task: Task, scores: Floats, target: Floats, rows: np.ndarray) -> float:
    """Accuracy of classes, mean correlation of columns."""
    scores, target = scores[rows], target[rows]
    if task.kind == "one_of":
        return float((scores.argmax(axis=1) == target.argmax(axis=1)).mean())
    a, b = scores - scores.mean(axis=0), target - target.mean(axis=0)
    return float(((a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))).mean())


def compared(task: Task, target: Floats, scores: dict[str, Floats]) -> Iterator[dict[str, Any]]:
    """Every network alone, and all sets of them together, against the first."""
    rng, names = np.random.default_rng(0), list(scores)
    rows = np.flatnonzero(~np.isnan(target).any(axis=1))
    drawn = [rows, *(rng.choice(rows, len(rows)) for _ in range(DRAWS))]
    base = np.array([judged(task, scores[names[0]], target, each) for each in drawn])
    for chosen in (some for count in range(1, len(names) + 1) for some in combinations(names, count)):
        if chosen == (names[0],):
            continue
        mean = np.mean([scores[name] for name in chosen], axis=0)
        found = np.array([judged(task, mean, target, each) for each in drawn])
        low, high = np.quantile((found - base)[1:], [0.025, 0.975])
        yield {
            "task": task.key, "networks": chosen, "score": round(found[0], 4), "first": round(base[0], 4),
            "difference": [round(x, 4) for x in (found[0] - base[0], low, high)],
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    first = args.networks[0]
    models = {name: open_model(of_name(name)) for name in args.networks}
    settings = read_settings(args.data)
    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "first": first, "split": args.split, "differences": []}
    for spec in settings.data:
        one = settings.model_copy(update={"data": (spec,)})
        table = table_for(one, models[first].tasks, models[first].card.pixels, args.split, note=print)
        scores = {name: evaluate_bundle(model, table, models[first].tasks).scores for name, model in models.items()}
        for task in models[first].tasks:
            for line in compared(task, labels(table, task), {name: found[task.family] for name, found in scores.items()}):
                result["differences"].append({"data": set_name(spec), **line})
                print(json.dumps(result["differences"][-1]), flush=True)
    if args.out:
        write_aside(args.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    try:
        main()
    except MienError as error:
        raise SystemExit(str(error)) from error
