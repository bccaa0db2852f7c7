"""What faces that people call neutral, and angry, are said to do: medians of action units, and how often rare expressions are named.

    python bench/calm.py --data FOLDER [--bundle mien-s@1 mien-s …] [--out bench/results/calm.json]

FOLDER holds portraits.parquet and ferplus-valid.parquet. Printed for each bundle: the median of each action unit over the validation
portraits that are labelled neutral (a calm face should have little of any), that of AU04 over those labelled anger, and the recall of each
expression on FER+'s validation faces with the number of faces.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from mien.bundles.model import Model
from mien.bundles.store import AFFECT, load
from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.sets.ferplus import EXPR, load_ferplus
from mien.data.sets.portraits import load_portraits
from mien.evaluation.predict import five_points, score_pictures

BATCH = 64


def scores(model: Model, table: pd.DataFrame, family: str) -> np.ndarray:
    """Scores (N, K) of a label table's faces."""
    parts = []
    for start in range(0, len(table), BATCH):
        rows = table.iloc[start : start + BATCH]
        points = [five_points(cell, start + number) for number, cell in enumerate(rows["points"])]
        pictures = [read_picture(image) for image in rows["image"]]
        parts.append(score_pictures(model.score, pictures, points)[family])
    return np.concatenate(parts)


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have an expression, with its name."""
    shares = labels(table, EXPR)
    known = ~np.isnan(shares).any(axis=1)
    names = np.array(EXPR.names)[shares[known].argmax(axis=1)]
    return table[known].assign(shown=names).reset_index(drop=True)


def measured(model: Model, portraits: pd.DataFrame, ferplus: pd.DataFrame) -> dict:
    of_units = [task for task in model.tasks if task.family == "au"]
    medians = {}
    for label in ("neutral", "anger"):
        faces = portraits[portraits["shown"] == label]
        values = np.median(scores(model, faces, "au"), axis=0)
        medians[label] = {
            "faces": len(faces),
            **dict(zip(of_units[0].names, values.astype(float).round(3).tolist(), strict=True)),
        }
    of_expressions = next(task for task in model.tasks if task.family == "expr")
    read = np.array(of_expressions.names)[scores(model, ferplus, "expr").argmax(axis=1)]
    recall = {}
    for name, faces in ferplus.groupby("shown"):
        share = float((read[faces.index] == name).mean())
        recall[str(name)] = {"faces": len(faces), "recall": round(share, 3)}
    return {
        "sha256": model.card.sha256[:12],
        "median of portraits": medians,
        "FER+, validation": recall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", nargs="+", default=[AFFECT], dest="bundles")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    portraits = named(load_portraits(args.data, "val"))
    ferplus = named(load_ferplus(args.data, "valid"))
    result = {name: measured(load(name), portraits, ferplus) for name in args.bundles}
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
