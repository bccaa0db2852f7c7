"""How readings of damaged faces differ from those of the same faces undamaged, on people that networks did not learn from.

    python bench/robustness.py --data FOLDER [--bundle mien-s OTHER …] [--detector mien-face] [--quality mien-quality] [--count 1000]
        [--tables FOLDER] [--out bench/results/robustness.json]

FOLDER holds portraits.parquet. Printed for each kind of damage (`mien.data.drawn.damage`) and strength, bundles side by side: the share of
faces that are found, the share whose expression stays the same, the mean absolute change of valence, and the share of readings that are
doubtful (by `mien-quality`, which judges readings of `mien-s`). Strength is what is left of the picture that networks see: 1 - r between
the damaged crop and the undamaged one; the faces of each kind are in thirds by it. All bundles read the same pictures. `--tables` keeps the
damaged faces of each bundle as BUNDLE.parquet, or reads them. Intervals of the expression: 95 %, bootstrap over people.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from mien.bundles.store import AFFECT, FACES, load, open_bundle
from mien.data.images import read_picture
from mien.metrics import bootstrap
from mien.train.builtin.mien_quality import quality_of
from mien.train.builtin.quality_table import make_table

STRENGTHS = ("weak", "middle", "strong")
MEASURES = ("found", "same expression", "change of valence", "doubtful")


def figures(part: pd.DataFrame) -> dict:
    return {
        "faces": len(part),
        "found": round(float((part["confidence"] > 0).mean()), 3),
        "same expression": round(float(part["same"].mean()), 3),
        "change of valence": round(float(part["valence_error"].mean()), 3),
        "doubtful": round(float(part["doubtful"].mean()), 3),
    }


def changes(table: pd.DataFrame) -> np.ndarray:
    """1 - r between each crop and that of the same face undamaged; rows of a portrait follow its undamaged one."""
    values = []
    clean = np.zeros(0)
    for kind, image in zip(table["kind"], table["image"], strict=True):
        crop = read_picture(image)[..., 0].ravel().astype(float)
        if not kind:
            clean = crop
        is_flat = crop.std() < 1e-9 or clean.std() < 1e-9
        values.append(1.0 if is_flat else 1 - np.corrcoef(crop, clean)[0, 1])
    return np.array(values)


def by_kind(table: pd.DataFrame) -> dict:
    single = table[~table["kind"].str.contains("+", regex=False)]
    result = {}
    for kind, part in single.groupby("kind"):
        row = figures(part)
        low, high = bootstrap(
            lambda same: float(np.mean(same)),
            part["same"].to_numpy(float),
            groups=part["subject"].to_numpy(),
            rounds=400,
        )
        row["same expression, interval"] = [round(low, 3), round(high, 3)]
        if kind:
            thirds = pd.qcut(part["change"].rank(method="first"), 3, labels=list(STRENGTHS))
            row["strengths"] = {}
            for strength, faces in part.groupby(thirds, observed=True):
                about = {"change of picture": round(float(faces["change"].mean()), 3)}
                row["strengths"][strength] = about | figures(faces)
        result[str(kind) or "none"] = row
    return result


def markdown(result: dict) -> str:
    """Kinds and strengths in rows, measures in columns, the bundles side by side."""
    lines = ["| kind | strength | " + " | ".join(MEASURES) + " |"]
    lines += [f"| | | {' | '.join([' / '.join(result)] * len(MEASURES))} |"]
    lines.insert(1, "|---" * (2 + len(MEASURES)) + "|")
    [first, *_] = result.values()
    for kind, row in first["kinds"].items():
        for strength in ("all", *row.get("strengths", ())):
            cells = [kind, strength]
            for measure in MEASURES:
                values = []
                for of_bundle in result.values():
                    of_kind = of_bundle["kinds"][kind]
                    part = of_kind if strength == "all" else of_kind["strengths"][strength]
                    values.append(f"{part[measure]:.3f}")
                cells.append(" / ".join(values))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", "--bundles", nargs="+", default=[AFFECT], dest="bundles")
    parser.add_argument("--detector", default=FACES)
    parser.add_argument("--quality", default="mien-quality")
    parser.add_argument("--count", type=int, help="portraits; all of the split val by default")
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    judge = load(args.quality)
    result = {}
    for bundle in args.bundles:
        with TemporaryDirectory() as folder:
            table = make_table(
                args.data,
                "val",
                (args.tables or Path(folder)) / f"{Path(bundle).name}.parquet",
                bundle=bundle,
                detector=args.detector,
                teacher=None,
                count=args.count,
            )
        table["same"] = table["expression"] == table["expression_clean"]
        table["doubtful"] = quality_of(judge, table) < judge.card.doubtful_below
        table["change"] = changes(table)
        damaged = table[table["kind"] != ""]
        result[Path(bundle).name] = {
            "sha256": load(bundle).card.sha256[:12],
            "detector": open_bundle(args.detector).card.sha256[:12],
            "quality": judge.card.sha256[:12],
            "all damaged": figures(damaged),
            "kinds": by_kind(table),
        }
    print(markdown(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
