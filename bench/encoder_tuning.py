"""What of a pretrained encoder should learn: nothing (probe), low-rank adapters (lora), or all of it (full).

    python bench/encoder_tuning.py [--size 1600] [--epochs 4] [--seeds 0 1 2] [--out bench/results/encoder_tuning.json]

One small transformer (timm's test_vit, 96 px) first learns the expressions of drawn faces; what it has learned is saved as a checkpoint of
its own, as one from elsewhere would come. From there each way learns expressions, valence and arousal, and action units of a stand-in of
s-Aff-Wild2, whose labelled recordings are divided into training, validation and test. Each way has its learning rate chosen by the
validation score of the first seed, and its epoch by that of each seed. Scored are the test recordings: the challenge's score
(abaw2024.mtl), its mean and standard deviation over seeds, and a 95 % interval of the mean, bootstrapped over recordings; differences
between ways are bootstrapped on the same recordings.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from train import processor

from mien.data.label_table import labels
from mien.data.registry import load_set
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.standins import make_standin
from mien.metrics import bootstrap
from mien.protocols import protocol_named
from mien.tasks import TASKS, Floats
from mien.train.inputs.crops import CropDataset
from mien.train.loop import fit
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of, raw_scores
from mien.train.settings.training import Settings

KEYS = ("expr.abaw8", "va", "au.abaw12")
TASKS_OF_RUN = [TASKS[key] for key in KEYS]
PROTOCOL = protocol_named("abaw2024.mtl")
BACKBONE = "test_vit"
# What each way learns, and the rates it chooses from.
WAYS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "probe": ({"tune": "probe"}, (3e-3, 1e-2, 3e-2)),
    "lora": ({"tune": "lora", "lora": {"rank": 8, "alpha": 16}}, (1e-3, 3e-3, 1e-2)),
    "full": ({}, (3e-4, 1e-3, 3e-3)),
}
SPLITS = {"train": 0.5, "val": 0.2, "test": 0.3}
PIXELS = {
    "size": 96,
    "colour": "rgb",
    "alignment": "similarity5",
    "template": [[0.29, 0.33], [0.71, 0.33], [0.5, 0.61], [0.335, 0.79], [0.665, 0.79]],
    "mean": [127.5] * 3,
    "std": [127.5] * 3,
}
AUGMENT = {"turn": 5.0, "grow": 0.05, "shift": 0.02, "degrade": 0.0, "erase": 0.0}


@dataclass
class Outcome:
    """A run: how good it was on validation, its scores on the test recordings, and what it cost."""

    val: float
    scores: dict[str, Floats]
    learned: int
    seconds: float


def settings_of(name: str, data: list[dict[str, Any]], **parts: Any) -> Settings:
    fits = {"batch": 32, "workers": 0, "accelerator": "cpu", "find_points": False}
    return Settings.model_validate(
        {"name": name, "data": data, "pixels": PIXELS, "augment": AUGMENT, **parts}
        | {"fit": {**fits, **parts["fit"]}}
    )


def pretrain(folder: Path, epochs: int) -> Path:
    """An encoder that knows drawn expressions, as a checkpoint without heads."""
    data = [
        {"set": "drawn", "count": count, "seed": 100, "size": 96, "split": split}
        for split, count in (("train", 4000), ("val", 400))
    ]
    settings = settings_of(
        "encoder",
        data,
        tasks=["expr.abaw7"],
        network={"backbone": BACKBONE},
        optim={"lr": 1e-3, "weight_decay": 0.05, "warmup": 0.1},
        fit={"epochs": epochs},
    )
    net = network_of(fit(settings, folder))
    path = folder / "encoder.pt"
    torch.save(net.backbone.state_dict(), path)
    return path


def divided(folder: Path, size: int) -> tuple[Path, pd.DataFrame]:
    """Labelled recordings of the stand-in, divided anew into three splits: the file and the test rows."""
    make_standin("s-aff-wild2", folder, size=size)
    table = load_set(SAffWild2(set="s-aff-wild2", root=folder), TASKS_OF_RUN)
    table = table[table["split"] != "test"].reset_index(drop=True)
    # Few recordings show the rare classes: the first division whose training part shows them all.
    for seed in range(100):
        divided_table = with_splits(table, seed)
        train = divided_table[divided_table["split"] == "train"]
        if (np.nansum(labels(train, TASKS["expr.abaw8"]), axis=0) > 0).all():
            break
    path = folder / "divided.parquet"
    divided_table.to_parquet(path)
    return path, divided_table[divided_table["split"] == "test"].reset_index(drop=True)


def with_splits(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with its recordings divided at random."""
    videos = np.random.default_rng(seed).permutation(np.unique(table["video"]))
    ends = (np.cumsum(list(SPLITS.values())) * len(videos)).round().astype(int)
    split_of: dict[str, str] = {}
    for split, part in zip(SPLITS, np.split(videos, ends[:-1]), strict=True):
        split_of |= dict.fromkeys(part, split)
    return table.assign(split=table["video"].map(split_of), subject=table["video"])


def run_of(settings: Settings, folder: Path, test: pd.DataFrame) -> Outcome:
    run: RunFolder = fit(settings, folder)
    last, best = run.load("last.pt"), run.load("best.pt")
    assert last is not None
    assert best is not None
    learned = sum(
        state["exp_avg"].numel()
        for state in last["optimiser"]["state"].values()
        if "exp_avg" in state
    )
    crops = CropDataset(test, TASKS_OF_RUN, run.settings.filled_pixels)
    raw, _ = raw_scores(network_of(run), crops, workers=0)
    scores = {task.key: task.decode(raw[task.family]) for task in TASKS_OF_RUN}
    return Outcome(best["score"], answers(scores), learned, run.facts["seconds"])


def answers(scores: dict[str, Floats]) -> dict[str, Floats]:
    """Scores, or labels, as the challenge's formula takes them; NaN = not annotated."""
    shares, presence = scores["expr.abaw8"], scores["au.abaw12"]
    classes = np.where(np.isnan(shares).any(axis=1), np.nan, shares.argmax(axis=1))
    present = np.where(np.isnan(presence), np.nan, presence >= 0.5)
    return {"expr.abaw8": classes, "va": scores["va"], "au.abaw12": present}


def score_of(scores: list[dict[str, Floats]], truth: dict[str, Floats]) -> Callable[[Any], float]:
    """The mean over seeds of the challenge's score on some rows."""

    def mean(rows: Any) -> float:
        chosen = {key: values[rows] for key, values in truth.items()}
        by_seed = [
            PROTOCOL.score({key: values[rows] for key, values in one.items()}, chosen)
            for one in scores
        ]
        return float(np.mean(by_seed))

    return mean


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    started = time.perf_counter()
    result: dict[str, Any] = {"ways": {}, "differences": {}}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        encoder = pretrain(home / "encoder", args.epochs)
        path, test = divided(home / "standin", args.size)
        truth = answers({task.key: labels(test, task) for task in TASKS_OF_RUN})
        groups = test["video"].to_numpy()
        rows = np.arange(len(test))

        def train(way: str, rate: float, seed: int) -> Outcome:
            settings = settings_of(
                way,
                [{"set": "file", "path": str(path)}],
                tasks=KEYS,
                network={"backbone": BACKBONE, "start": str(encoder), **WAYS[way][0]},
                losses={"au": {"positives": True}},
                optim={"lr": rate, "weight_decay": 0.01, "warmup": 0.1},
                fit={"epochs": args.epochs, "seed": seed, "watch": "abaw2024.mtl"},
            )
            outcome = run_of(settings, home / f"{way}-{rate}-{seed}", test)
            print(f"{way}, rate {rate:g}, seed {seed}: validation {outcome.val:.4f}", flush=True)
            return outcome

        kept: dict[str, list[Outcome]] = {}
        for way, (_, rates) in WAYS.items():
            first = {rate: train(way, rate, args.seeds[0]) for rate in rates}
            rate = max(first, key=lambda rate: first[rate].val)
            kept[way] = [first[rate]] + [train(way, rate, seed) for seed in args.seeds[1:]]
            by_seed = [score_of([one.scores], truth)(rows) for one in kept[way]]
            mean = score_of([one.scores for one in kept[way]], truth)
            result["ways"][way] = {
                "rate": rate,
                "validation by rate": {f"{r:g}": round(one.val, 4) for r, one in first.items()},
                "learned weights": kept[way][0].learned,
                "seconds of a run": round(statistics.mean(one.seconds for one in kept[way]), 1),
                "test": round(statistics.mean(by_seed), 4),
                "sd over seeds": round(statistics.stdev(by_seed), 4),
                "interval": np.round(bootstrap(mean, rows, groups=groups), 4).tolist(),
            }
            print(way, json.dumps(result["ways"][way]), flush=True)
        for one, other in combinations(WAYS, 2):
            means = [score_of([run.scores for run in kept[way]], truth) for way in (one, other)]

            def gain(rows: Any, means: list[Any] = means) -> float:
                return float(means[1](rows) - means[0](rows))

            result["differences"][f"{other} - {one}"] = {
                "mean": round(gain(rows), 4),
                "interval": np.round(bootstrap(gain, rows, groups=groups), 4).tolist(),
            }
        counts = pd.read_parquet(path, columns=["split", "video"]).groupby("split")["video"]
        result["faces"] = counts.size().to_dict()
        result["recordings"] = counts.nunique().to_dict()
    result["machine"] = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    result["minutes"] = round((time.perf_counter() - started) / 60, 1)
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
