"""One pass over faces with some labels missing, against three copies of each face with one task's labels each.

    python bench/single_pass.py [--faces TABLE] [--rows 6000] [--epochs 5] [--seeds 0 1 2] [--out bench/results/single_pass.json]

HUST-ANT (ABAW4) split the multi-task labels into a table for each task, so that a face with three labels is loaded and run three times.
Here it is loaded and run once, and what is not annotated is masked. Both ways train the same network (smm-small, 112 px, grey, from
ImageNet weights) on the same stand-in of s-Aff-Wild2, by the same loop, and are judged on the same faces. The three tables are one three
times as long, each of whose rows has the labels of one task; a face that lacks a task's labels has no row for it.

Equal: the labels, how often each is seen in an epoch, epochs, loss weights, augmentation, the highest learning rate, and the cosine from
it to 0 over all steps. Not equal: the number of steps, as a batch holds as many rows in both ways; and with it the share of a batch that
each task has, and so the size of its gradient in one step. With --copies-batch three times --batch, about as HUST-ANT had it, the numbers
of steps are near each other.

Seconds are those of training alone, from the start of an epoch to its last step, without judging. The two ways take turns, and which
goes first changes from seed to seed.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mien.data.registry import load_set
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.standins import make_standin
from mien.tasks import TASKS
from mien.train.loop import Progress, fit
from mien.train.settings.training import Settings

KEYS = ("va", "expr.abaw8", "au.abaw12")
WAYS = ("one pass", "three copies")


class Clock(Progress):
    """Seconds of training in each epoch, and steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.steps = 0

    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        self.steps = steps
        self.began = self.last = time.perf_counter()

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        self.last = time.perf_counter()

    def epoch(self, row: dict[str, float]) -> None:
        self.seconds.append(self.last - self.began)
        self.began = time.perf_counter()


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def tables(root: Path, folder: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """The two ways as label files, and how many rows and labelled faces they train on."""
    tasks = [TASKS[key] for key in KEYS]
    table = load_set(SAffWild2(set="s-aff-wild2", root=root), tasks).drop(
        columns=["points", "subject"]
    )
    val = table[table["split"] == "val"]
    train = table[table["split"] == "train"]
    alone = []
    for task in tasks:
        others = [name for other in tasks if other != task for name in other.columns]
        own = train[train[list(task.columns)].notna().any(axis=1)]
        alone.append(own.assign(**dict.fromkeys(others, float("nan"))))
    labelled = train[train[[name for task in tasks for name in task.columns]].notna().any(axis=1)]
    made = {WAYS[0]: labelled, WAYS[1]: pd.concat(alone)}
    counts = {
        f"labelled for {task.family}": len(rows) for task, rows in zip(tasks, alone, strict=True)
    }
    paths = {}
    for number, (way, rows) in enumerate(made.items()):
        for task, own in zip(tasks, alone, strict=True):
            assert (
                rows[list(task.columns)].notna().sum().equals(own[list(task.columns)].notna().sum())
            )
        paths[way] = folder / f"way-{number}.parquet"
        pd.concat([rows, val], ignore_index=True).to_parquet(paths[way])
        counts[way] = len(rows)
    return paths, counts | {"val": len(val)}


def settings(path: Path, args: argparse.Namespace, seed: int, batch: int) -> Settings:
    return Settings.model_validate(
        {
            "name": "single-pass",
            "data": [{"set": "file", "path": str(path)}],
            "tasks": KEYS,
            "pixels": {
                "size": 112,
                "colour": "grey",
                "alignment": "box",
                "mean": [115.0],
                "std": [256.0],
            },
            "network": {"backbone": "smm-small", "start": "imagenet"},
            "augment": {
                "turn": 0.0,
                "grow": 0.0,
                "shift": 0.05,
                "flip": 0.5,
                "light": 0.8,
                "degrade": 0.0,
                "erase": 0.0,
            },
            "losses": {"va": {"kind": "ccc"}, "expr": {}, "au": {}},
            "optim": {"optimiser": "adamw", "lr": args.lr, "weight_decay": 0.01},
            "fit": {
                "epochs": args.epochs,
                "batch": batch,
                "keep": "last",
                "seed": seed,
                "workers": args.workers,
                "find_points": False,
            },
        }
    )


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    root = make_standin("s-aff-wild2", folder / "standin", size=args.rows, faces=args.faces)
    paths, counts = tables(root, folder)
    batches = {WAYS[0]: args.batch, WAYS[1]: args.copies_batch or args.batch}
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for turn, seed in enumerate(args.seeds):
        for way in WAYS if turn % 2 == 0 else WAYS[::-1]:
            clock = Clock()
            run = fit(
                settings(paths[way], args, seed, batches[way]), folder / f"{way}-{seed}", clock
            )
            curve = pd.read_csv(run.folder / "curve.csv").drop(columns=["epoch", "seconds"])
            seconds = statistics.median(clock.seconds)
            found[way].append({"seconds": seconds, "steps": clock.steps, "curve": curve})
            print(
                f"seed {seed}, {way}: {seconds:.1f} s an epoch, score {curve['score'].iloc[-1]:.4f}",
                flush=True,
            )
    return {"rows": counts, "batch": batches, **told(found)}


def told(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Both ways in numbers: mean and standard deviation over seeds."""
    result: dict[str, Any] = {}
    for way, runs in found.items():
        last = pd.DataFrame([one["curve"].iloc[-1] for one in runs])
        spread = last.std() if len(last) > 1 else last.iloc[0] * float("nan")
        result[way] = {
            "seconds an epoch": summary([one["seconds"] for one in runs]),
            "steps": runs[0]["steps"],
            "on val, after the last epoch": {
                name: pair(last[name].mean(), spread[name]) for name in last
            },
            "score by epoch": [
                [round(float(score), 4) for score in one["curve"]["score"]] for one in runs
            ],
        }
    ratios = [
        one["seconds"] / other["seconds"]
        for other, one in zip(*(found[way] for way in WAYS), strict=True)
    ]
    scores = [
        one["curve"]["score"].iloc[-1] - other["curve"]["score"].iloc[-1]
        for other, one in zip(*(found[way] for way in WAYS), strict=True)
    ]
    result["three copies over one pass, seconds"] = summary(ratios)
    result["three copies minus one pass, score"] = summary(scores)
    return result


def summary(values: list[float]) -> list[float | None]:
    return pair(
        statistics.mean(values), statistics.stdev(values) if len(values) > 1 else float("nan")
    )


def pair(mean: float, spread: float) -> list[float | None]:
    """Mean and standard deviation for JSON, which has no NaN."""
    return [round(float(value), 4) if value == value else None for value in (mean, spread)]  # noqa: PLR0124


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--faces",
        type=Path,
        help="real faces for the stand-in, as for mien data standin; drawn ones without",
    )
    parser.add_argument("--rows", type=int, default=6000, help="training rows of the stand-in")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--copies-batch", type=int, help="of the three copies; as --batch without")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(args, Path(scratch))
    result = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "data": f"stand-in of s-Aff-Wild2, {args.rows} training rows, of {args.faces or 'drawn faces'}",
        "epochs": args.epochs,
        "seeds": args.seeds,
        "learning rate": args.lr,
        "equal": "labels, how often each is seen in an epoch, epochs, loss weights, augmentation, learning rate and its cosine to 0",
        "not equal": "number of steps, and the share of a batch that has a task's labels",
        "pairs of numbers": "mean over seeds, standard deviation over seeds",
        **found,
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
