"""A refit on both splits, and networks of five folds, against networks that learned split train alone.

    python bench/refit.py [--face-table TABLE] [--size 6000] [--extractor mien-s] [--seeds 0 1 2] [--out bench/results/refit.json]

A refit cannot be judged on the recordings that it learned. So half of the recordings of split val of a stand-in of s-Aff-Wild2 are kept
aside as a labelled test split, which nothing sees; the other half is split val. The heads of HSE-NN's system (ABAW4) learn on cached
features of the extractor, and every way is scored on the recordings kept aside: the mean over seeds with its standard deviation and a
95 % interval over recordings, and differences on the same faces.
"""

import argparse
import json
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from mien.data.label_table import recordings
from mien.data.registry import load_set
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.standins.make import make_standin
from mien.errors import DataError
from mien.evaluation.nested_tuning import video_folds
from mien.recipes.evaluate_steps import Estimate, StepScores, evaluate_step, minus
from mien.recipes.predictions import Predicted
from mien.recipes.reproduce import reproduce
from mien.tasks import TASKS
from mien.train.runs.tables import fold_numbers

FOLDS = 5
KEYS = ("va", "expr.abaw8", "au.abaw12")
WAYS = ("heads", "refit", "folds")
MEASURES = ("score", "va", "expr", "au")
PROTOCOL = "abaw2022.mtl"
RECIPE = """
recipe: 1
name: refit
title: "A refit and folds against split train alone"
paper: "None"
data: {faces: {set: file, get: "made by bench/refit.py"}}
protocol: abaw2022.mtl
steps:
  features: {do: features, data: faces}
  heads:
    do: heads
    features: features
    data: faces
    runs:
      - tasks: [expr.abaw8]
        losses: {expr: {classes: max}}
        optim: &decayed {optimiser: adam, lr: 1.0e-3, schedule: constant, weight_decay: 0.00390625}
        fit: {epochs: 10, batch: 512, keep: last}
      - tasks: [va]
        parts: raw
        heads: {va: {squash: true}}
        losses: {va: {kind: ccc}}
        optim: *decayed
        fit: {epochs: 20, batch: 512, keep: last}
      - tasks: [au.abaw12]
        heads: {au: {kind: hidden, width: 128}}
        losses: {au: {positives: true}}
        optim: {optimiser: adam, lr: 1.0e-3, schedule: constant}
        fit: {epochs: 10, batch: 512, keep: last}
  refit: {do: refit, of: heads}
  folds: {do: folds, of: heads, count: 5}
rows: [{name: heads, of: heads}]
"""


def label_file(root: Path, path: Path) -> dict[str, int]:
    """Write the labels with half of the validated recordings as split test; returns recordings per split."""
    tasks = [TASKS[key] for key in KEYS]
    table = load_set(SAffWild2(set="s-aff-wild2", root=root), tasks)
    table = table[table["split"].isin(["train", "val"])].reset_index(drop=True)
    names = recordings(table).astype(str)
    validated = (table["split"] == "val").to_numpy()
    for seed in range(200):
        aside = video_folds(names[validated].to_numpy(object), 2, seed) == 1
        split = table["split"].to_numpy(object).copy()
        split[validated.nonzero()[0][aside]] = "test"
        try:
            # Each class must be shown by recordings enough to learn it without any fold.
            fold_numbers(table.assign(split=split), FOLDS, tasks)
            break
        except DataError:
            continue
    table.assign(split=split).drop(columns=["points", "subject"]).to_parquet(path)
    counts = pd.DataFrame({"split": split, "name": names}).groupby("split")["name"].nunique()
    return {str(name): int(count) for name, count in counts.items()}


def on_test(folder: Path) -> StepScores:
    """What a step's networks score on the recordings kept aside."""
    predicted = Predicted.load(folder)
    return evaluate_step(Predicted(predicted.tasks, {"val": predicted.parts["test"]}), PROTOCOL)


def shown(estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval
    return {"mean": estimate.mean, "sd": estimate.sd, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--face-table", type=Path)
    parser.add_argument("--size", default="6000")
    parser.add_argument("--extractor", default="mien-s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("bench/results/refit.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = args.size if args.size == "real" else int(args.size)
        root = make_standin("s-aff-wild2", folder / "faces", size=size, faces=args.face_table)
        counts = label_file(root, folder / "faces.parquet")
        recipe = yaml.safe_load(RECIPE)
        recipe["seeds"] = args.seeds
        recipe["steps"]["features"]["bundle"] = args.extractor
        path = folder / "refit.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        reproduce(path, {"faces": folder / "faces.parquet"}, folder / "RUN", note=print)
        scores = {}
        for way in WAYS:
            (step,) = (folder / "RUN" / "steps").glob(f"{way}-*")
            scores[way] = on_test(step).nested
    result = {"recordings": counts, "seeds": args.seeds, "rows": {}, "differences": {}}
    for way in WAYS:
        result["rows"][way] = {name: shown(scores[way][name]) for name in MEASURES}
        if way != "heads":
            differences = {}
            for name in MEASURES:
                differences[name] = shown(minus(scores[way][name], scores["heads"][name]))
            result["differences"][f"{way} against heads"] = differences
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
