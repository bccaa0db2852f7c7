"""Whether a network of quality knows bad readings by a kind of damage that it has never seen.

    python bench/left_out.py --data FOLDER --out RUNS [--leave-out occlusion geometry light detail] [--rows 8000] [--epochs 2]
        [--tables FOLDER] [--threads 1] [--results bench/results/left_out.json]

FOLDER holds portraits.parquet. For each family of kinds (`mien.data.drawn.damage.FAMILIES`) a network is trained as `mien-quality` is,
from the same identity network, but for what is covered, without any face of that family; and one with all families, on as many rows. Each is measured on faces of
people it did not learn from: those damaged by that family alone, and undamaged ones. `--rows` and `--epochs` shorten the training, so
compare these networks with each other, and not with the one that is shipped. `--tables` reads train.parquet and val.parquet of an earlier
run of `mien.train.builtin.mien_quality`. Runs that were stopped are continued. Intervals: 95 %, bootstrap over people.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mien.bundles.store import AFFECT, FACES
from mien.data.drawn.damage import FAMILIES
from mien.metrics import bootstrap
from mien.train.builtin.mien_quality import auc, doubtful_below, fit_trust, judged, settings
from mien.train.builtin.mien_s import PrintedProgress
from mien.train.builtin.quality_table import make_table
from mien.train.loop import fit
from mien.train.open_model import open_model

# Faces on which an epoch is judged; nothing is chosen by them.
WATCHED = 320


def has_kind(table: pd.DataFrame, family: str) -> pd.Series:
    """Rows that are damaged by a kind of this family, perhaps among others."""
    return table["kind"].map(lambda kinds: not set(FAMILIES[family]).isdisjoint(kinds.split("+")))


def only_kinds(table: pd.DataFrame, family: str) -> pd.Series:
    """Rows that are damaged by kinds of this family alone."""
    return table["kind"].map(lambda kinds: set(FAMILIES[family]).issuperset(kinds.split("+")))


def trained(train: pd.DataFrame, val: pd.DataFrame, folder: Path, args: argparse.Namespace):
    """The network that learned from a random choice of these rows, and the seconds that it took."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = train.sample(min(args.rows, len(train)), random_state=0)
    watched = val.sample(min(WATCHED, len(val)), random_state=0)
    table = folder / "table.parquet"
    if not table.is_file():
        pd.concat([rows, watched]).to_parquet(table)
    plan = settings(table, args.bundle, pose=bool(train["pose_yaw"].notna().any()))
    # What is covered would give the family away, and without occluders nothing is.
    losses = {family: loss for family, loss in plan.losses.items() if family != "occlusion"}
    supervised_by = {family: plan.card.supervised_by[family] for family in losses}
    changes = {
        "tasks": tuple(task for task in plan.tasks if not task.startswith("occlusion")),
        "losses": losses,
        "card": plan.card.model_copy(update={"supervised_by": supervised_by}),
        "fit": plan.fit.model_copy(update={"epochs": args.epochs}),
    }
    plan = plan.model_copy(update=changes)
    began = time.process_time()
    run = fit(plan, folder / "run", PrintedProgress())
    return open_model(run.folder), round(time.process_time() - began)


def figures(judgement: np.ndarray, table: pd.DataFrame, part: pd.Series, known: pd.Series) -> dict:
    """What a network's judgement is worth on some rows, combined with the reading's probability.

    Args:
        judgement: Of all rows of the table.
        table: Of people that the network did not learn from.
        part: The rows of the family.
        known: Rows of the kinds that the network has seen, by which the two are combined.
    """
    sound = table["quality"].to_numpy()
    trust = fit_trust(judgement[known], table["probability"][known], sound[known])
    quality = trust.quality(judgement, table["probability"].to_numpy())
    clean = (table["kind"] == "").to_numpy()
    is_doubtful = quality < doubtful_below(quality[clean])
    own, unsound = part.to_numpy(), sound == 0
    low, high = bootstrap(
        auc, quality[own], sound[own], groups=table["subject"][own].to_numpy(), rounds=400
    )
    both = own | clean
    return {
        "faces": int(own.sum()),
        "AUC network alone": round(auc(judgement[own], sound[own]), 3),
        "AUC": round(auc(quality[own], sound[own]), 3),
        "AUC, interval": [round(low, 3), round(high, 3)],
        "AUC with undamaged faces": round(auc(quality[both], sound[both]), 3),
        "unsound ones doubtful": round(float(is_doubtful[own & unsound].mean()), 3),
        "sound ones doubtful": round(float(is_doubtful[own & ~unsound].mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--leave-out", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--bundle", default=AFFECT)
    parser.add_argument("--detector", default=FACES)
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = {}
    for split in ("train", "val"):
        path = (args.tables or args.out) / f"{split}.parquet"
        tables[split] = make_table(
            args.data, split, path, bundle=args.bundle, detector=args.detector, teacher=None
        )
    train, val = tables["train"], tables["val"].reset_index(drop=True)
    result: dict = {"rows": args.rows, "epochs": args.epochs, "families": {}}
    model, seconds = trained(train, val, args.out / "all", args)
    judgement = judged(model, val)
    everything = pd.Series(True, val.index)
    result["all, processor seconds"] = seconds
    result["all"] = figures(judgement, val, everything, everything)
    for family in args.leave_out:
        part = only_kinds(val, family)
        without, seconds = trained(
            train[~has_kind(train, family)], val, args.out / f"without-{family}", args
        )
        seen = ~has_kind(val, family)
        alone = val["probability"].to_numpy()
        result["families"][family] = {
            "trained with it": figures(judgement, val, part, everything),
            "trained without it": figures(judged(without, val), val, part, seen),
            "AUC of the probability alone": round(
                auc(alone[part], val["quality"].to_numpy()[part]), 3
            ),
            "processor seconds": seconds,
        }
        print(family, json.dumps(result["families"][family]), flush=True)
    print(json.dumps(result, indent=2))
    if args.results:
        args.results.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
