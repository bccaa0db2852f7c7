"""External features beside a network's own, against the network's alone.

    python bench/external.py [--face-table TABLE] [--size 3000] [--extractor mien-s] [--seeds 0 1 2] [--out bench/results/external.json]

The films are a stand-in of s-Aff-Wild2, which has no sound. Each frame gets four numbers in place of features of its sound: valence and
arousal of five frames ago, each under two drawings of noise of a standard deviation of 0.2; one frame of ten has none. They know of the labels
what the noise leaves, so the gain says that heads use what they are given, not what sound is worth. Both rows have the same heads on
windows of 100 frames, the same epochs and rate; split val is scored, and nothing was chosen on it.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from mien.data.registry import load_set
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.standins.make import make_standin
from mien.recipes.evaluate_steps import Estimate
from mien.recipes.reproduce import reproduce
from mien.tasks import TASKS

MEASURES = ("score", "va", "expr", "au")
LATE = 5
NOISE = 0.2
MISSING = 0.1
RECIPE = """
recipe: 1
name: external
title: "External features beside a network's own"
paper: "None"
data: {faces: {set: s-aff-wild2, get: "made by bench/external.py"}}
protocol: abaw2022.mtl
steps:
  features: {do: features, data: faces}
  alone:
    do: heads
    features: features
    data: faces
    runs:
      - &run
        tasks: [va, expr.abaw8, au.abaw12]
        parts: features
        window: {length: 100, gap: 20}
        heads: {va: &tcn {kind: tcn, width: 64}, expr: *tcn, au: *tcn}
        losses: {va: {kind: ccc}, expr: {}, au: {positives: true}}
        optim: {optimiser: adamw, lr: 3.0e-3}
        fit: {epochs: 6, batch: 4, keep: last}
  both: {do: heads, features: features, data: faces, runs: [*run]}
rows:
  - {name: alone, of: alone}
  - {name: both, of: both}
differences: [{name: external, of: both, to: alone}]
"""


def drawn_features(root: Path, path: Path) -> None:
    """Write late and noisy valence and arousal as the features of all frames."""
    table = load_set(SAffWild2(set="s-aff-wild2", root=root), [TASKS["va"]])
    table = table.sort_values(["video", "frame"]).reset_index(drop=True)
    rng = np.random.default_rng(0)
    columns = {"video": table["video"], "frame": table["frame"].astype(int)}
    for name in ("valence", "arousal"):
        late = table.groupby("video")[name].shift(LATE)
        for number in range(2):
            noise = rng.normal(0, NOISE, len(table))
            columns[f"{name}_{number}"] = late.fillna(0) + noise
    features = pd.DataFrame(columns).drop_duplicates(["video", "frame"])
    features[rng.random(len(features)) >= MISSING].to_parquet(path, index=False)


def shown(estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval
    return {"mean": estimate.mean, "sd": estimate.sd, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--face-table", type=Path)
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--extractor", default="mien-s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("bench/results/external.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = make_standin("s-aff-wild2", folder / "faces", size=args.size, faces=args.face_table)
        drawn_features(root, folder / "sound.parquet")
        recipe = yaml.safe_load(RECIPE)
        recipe["seeds"] = args.seeds
        recipe["steps"]["features"]["bundle"] = args.extractor
        given = {"external": [str(folder / "sound.parquet")], "hold": 5}
        recipe["steps"]["both"]["runs"] = [{**recipe["steps"]["both"]["runs"][0], **given}]
        path = folder / "external.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        report = reproduce(path, {"faces": root}, folder / "RUN", note=print)
        text = (folder / "RUN" / "external.json").read_text(encoding="utf-8")
    result = {"seeds": args.seeds, "report": json.loads(text)}
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    for row in report.rows:
        print(row.name, {key: row.measures[key] for key in MEASURES})


if __name__ == "__main__":
    main()
