"""How long heads take to learn from cached features: the three of HSEmotion's multi-task system on a cache of its size.

    python bench/heads.py [--rows 142333] [--out bench/results/heads.json]

The cache is made by `mien.train.inputs.feature_cache.build` with a real bundle: a small random network with 1,280
features and 10 raw outputs, over pictures of noise, so it has 1,290 numbers a face. Labels are a linear function of
these numbers with noise on top, and as many faces have one as in s-Aff-Wild2; the scores of the function itself,
without the noise, are printed beside those of the heads. Seconds are those of a whole `fit`: label table read and
checked, rows found, all epochs, judged after each on 26,876 more faces, checkpoints written; seconds of processor time
tell what an idle core would take where others were at work, too. Making the cache is not counted: it is the network's
time."""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from mien.bundles.card import write_card
from mien.bundles.card_parts import TaskCard
from mien.bundles.store import AFFECT, load, open_bundle
from mien.data.registry import File
from mien.faces.prepare import Pixels
from mien.metrics import ccc, macro_f1, mean_au_f1
from mien.tasks import TASKS
from mien.train.bundle.pack import sha256_of
from mien.train.inputs.feature_cache import build
from mien.train.loop import fit
from mien.train.onnx.export import export
from mien.train.settings.features import FeatureSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

GIVES = (TASKS["expr.affectnet8"], TASKS["va"])
LEARNED = (TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"])
VAL = 26_876
ANNOTATED = {
    "expr": 90_645 / 142_333,
    "va": 103_917 / 142_333,
    "au": 103_316 / 142_333,
}  # of the training rows of s-Aff-Wild2
SIDE = 16
L2 = 2 / 512  # see mien.train.inputs.feature_dataset


class Random(nn.Module):
    """A network of no use but its widths: 1,280 features, 8 logits, valence and arousal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(SIDE * SIDE, 1280)
        self.heads = nn.ModuleList(nn.Linear(1280, len(task.names)) for task in GIVES)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = 2 * torch.relu(self.body(images.flatten(1)))
        return (*(head(features) for head in self.heads), features)


def make_bundle(folder: Path) -> Path:
    folder.mkdir()
    export(
        Random(),
        folder / "model.onnx",
        torch.randn(4, 1, SIDE, SIDE),
        [*(task.family for task in GIVES), "features"],
        {0: "batch"},
    )
    tasks = tuple(
        TaskCard(
            key=t.key, names=t.names, kind=t.kind, low=t.low, high=t.high, supervised_by="nobody"
        )
        for t in GIVES
    )
    pixels = Pixels(size=SIDE, colour="grey", alignment="box", mean=(127.5,), std=(74.0,))
    facts = {
        "name": "random",
        "tasks": tasks,
        "pixels": pixels,
        "temperature": {},
        "presence": None,
        "uncertain_below": None,
        "features": 1280,
    }
    write_card(
        open_bundle(AFFECT).card.model_copy(
            update=facts | {"sha256": sha256_of(folder / "model.onnx")}
        ),
        folder / "card.json",
    )
    return folder


def make_labels(
    values: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labels by task family (N, K), and what is known of them without the noise: (N, K) too."""
    values = (values - values[:5000].mean(axis=0)) / values[:5000].std(axis=0)
    raw = {
        task.family: values
        @ rng.normal(0, values.shape[1] ** -0.5, (values.shape[1], len(task.names)))
        for task in LEARNED
    }
    raw["va"] = values[:, -10:] @ rng.normal(0, 10**-0.5, (10, 2))
    raw = {family: one / one.std(axis=0) for family, one in raw.items()}
    noisy = {family: one + rng.normal(0, 0.5, one.shape) for family, one in raw.items()}
    found = {
        "expr": np.eye(8)[noisy["expr"].argmax(axis=1)],
        "va": np.tanh(0.5 * noisy["va"]),
        "au": (noisy["au"] > 0.8).astype(float),
    }
    clean = {"expr": raw["expr"], "va": np.tanh(0.5 * raw["va"]), "au": raw["au"] - 0.8}
    return found, clean


def scores_of(found: dict[str, np.ndarray], clean: dict[str, np.ndarray]) -> dict[str, float]:
    """What the function without its noise scores."""
    return {
        "expr": macro_f1(clean["expr"].argmax(axis=1), found["expr"].argmax(axis=1), range(8)),
        "va": float(np.mean([ccc(clean["va"][:, i], found["va"][:, i]) for i in range(2)])),
        "au": mean_au_f1(clean["au"] > 0, found["au"]),
    }


def make_data(folder: Path, rows: int, rng: np.random.Generator) -> dict[str, float]:
    """Bundle, cache and label table in `folder`; the scores of the function itself on the validation rows."""
    count = rows + VAL
    pictures = [
        cv2.imencode(".png", grey)[1].tobytes()
        for grey in rng.integers(0, 256, (count, SIDE, SIDE), np.uint8)
    ]
    table = pd.DataFrame(
        {"image": pictures, "split": np.where(np.arange(count) < rows, "train", "val")}
    )
    bundle = load(make_bundle(folder / "bundle"))
    cache = build(bundle, table, folder / "cache", root=folder)
    found, clean = make_labels(np.asarray(cache.features_and_raw)[cache.rows(table)], rng)
    known = scores_of(
        {name: one[rows:] for name, one in found.items()},
        {name: one[rows:] for name, one in clean.items()},
    )
    for task in LEARNED:
        found[task.family][:rows][rng.random(rows) > ANNOTATED[task.family]] = np.nan
        table[list(task.columns)] = found[task.family].astype(np.float32)
    table.to_parquet(folder / "labels.parquet")
    return known


def settings_of(folder: Path) -> dict[str, Settings]:
    """HSEmotion's three heads ("MTL model 2")."""
    heads = {
        "expr": HeadSettings(),
        "va": HeadSettings(squash=True),
        "au": HeadSettings(kind="hidden"),
    }
    losses = {
        "expr": LossSettings(classes="max"),
        "va": LossSettings(),
        "au": LossSettings(positives=True),
    }
    data = File(set="file", path=folder / "labels.parquet")
    return {
        task.family: Settings(
            name="heads",
            data=(data,),
            tasks=(task.key,),
            features=FeatureSettings(
                bundle=str(folder / "bundle"),
                cache=folder / "cache",
                images=folder,
                parts="raw" if task.family == "va" else "both",
            ),
            network=NetworkSettings(backbone="features", heads={task.family: heads[task.family]}),
            losses={task.family: losses[task.family]},
            optim=OptimSettings(
                optimiser="adam",
                weight_decay=0 if task.family == "au" else L2 * ANNOTATED[task.family],
            ),
            fit=FitSettings(
                epochs=20 if task.family == "va" else 10,
                batch=512,
                accelerator="cpu",
                find_points=False,
            ),
        )
        for task in LEARNED
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=142_333)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        known = make_data(folder, args.rows, np.random.default_rng(0))
        seconds, processor_time, scores = {}, {}, {}
        for family, settings in settings_of(folder).items():
            started, used = time.perf_counter(), time.process_time()
            run = fit(settings, folder / family)
            seconds[family] = round(time.perf_counter() - started, 1)
            processor_time[family] = round(time.process_time() - used, 1)
            scores[family] = round(float(pd.read_csv(run.folder / "curve.csv")["score"].max()), 4)
    result = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "load of the last minute": round(os.getloadavg()[0], 1),
        },
        "rows": args.rows,
        "numbers a row": 1290,
        "seconds": {**seconds, "all three": round(sum(seconds.values()), 1)},
        "seconds of processor time": {
            **processor_time,
            "all three": round(sum(processor_time.values()), 1),
        },
        "best score of an epoch": scores,
        "the function itself": {name: round(value, 4) for name, value in known.items()},
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
