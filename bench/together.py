"""What networks say together, and each alone, against one: whether a larger network could earn its place.

    python bench/together.py NETWORK NETWORK… --data SETTINGS.yaml [--split val] [--out bench/results/together.json]

NETWORK: bundles or run folders, the first is the one that all are compared with; SETTINGS as for `mien evaluate`. Networks together
answer with the mean of their scores. A student learns at best about what its teachers know together, so where the mean gains little,
so will a larger student of the same teachers. Differences are in pairs, with 95 % intervals over people, or over faces where nobody
knows whose they are.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien.data.label_table import labels
from mien.data.registry import set_name
from mien.errors import MienError
from mien.evaluation.predict import evaluate_bundle
from mien.files import atomic_write
from mien.metrics import accuracy, bootstrap, pearson
from mien.tasks import Floats, Task
from mien.train.open_model import open_model, table_for
from mien.train.settings.training import read_settings


def of_name(name: str) -> str | Path:
    return Path(name) if Path(name).is_dir() else name


def judged(task: Task, scores: Floats, target: Floats) -> float:
    """Accuracy of classes, mean correlation of columns."""
    if task.kind == "one_of":
        return accuracy(scores.argmax(axis=1), target.argmax(axis=1))
    return float(
        np.mean([pearson(one, other) for one, other in zip(scores.T, target.T, strict=True)])
    )


def compared(
    task: Task, table: pd.DataFrame, scores: dict[str, Floats]
) -> Iterator[dict[str, Any]]:
    """Every network alone, and all sets of them together, against the first."""
    known = ~np.isnan(labels(table, task)).any(axis=1)
    target, alone = (
        labels(table, task)[known],
        pd.Series([f"face {row}" for row in range(len(table))], table.index),
    )
    people = table["subject"].astype(object).where(table["subject"].notna(), alone)[known]
    names, first = list(scores), scores[next(iter(scores))][known]

    def apart(one: Floats, other: Floats, truth: Floats) -> float:
        return judged(task, one, truth) - judged(task, other, truth)

    for chosen in (
        some for count in range(1, len(names) + 1) for some in combinations(names, count)
    ):
        if chosen == (names[0],):
            continue
        mean = np.mean([scores[name][known] for name in chosen], axis=0)
        found = (apart(mean, first, target), *bootstrap(apart, mean, first, target, groups=people))
        yield {
            "task": task.key, "networks": chosen, "score": round(judged(task, mean, target), 4),
            "first": round(judged(task, first, target), 4), "difference": [round(x, 4) for x in found],
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    first = args.networks[0]
    models = {name: open_model(of_name(name)) for name in args.networks}
    settings = read_settings(args.data)
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "first": first,
        "split": args.split,
        "differences": [],
    }
    for spec in settings.data:
        one = settings.model_copy(update={"data": (spec,)})
        table = table_for(
            one, models[first].tasks, models[first].card.pixels, args.split, note=print
        )
        scores = {
            name: evaluate_bundle(model, table, models[first].tasks).scores
            for name, model in models.items()
        }
        for task in models[first].tasks:
            for line in compared(
                task, table, {name: found[task.family] for name, found in scores.items()}
            ):
                result["differences"].append({"data": set_name(spec), **line})
                print(json.dumps(result["differences"][-1]), flush=True)
    if args.out:
        atomic_write(args.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    try:
        main()
    except MienError as error:
        raise SystemExit(str(error)) from error
