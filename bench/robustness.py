"""How readings of damaged faces differ from those of the same faces undamaged, on people that networks did not learn from.

    python bench/robustness.py --data FOLDER [--bundles mien-s mien-xs OTHER …] [--detector mien-face] [--count 1000]
        [--out bench/results/robustness.json]

FOLDER holds portraits.parquet. Printed for each bundle and kind of damage (`mien.data.drawn.damage`): the share of faces that are found
at all, the share whose expression stays the same, and the mean absolute change of valence. All bundles read the same pictures.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mien.bundles.store import AFFECT, FACES, load
from mien.train.builtin.quality_table import make_table


def figures(part: pd.DataFrame) -> dict:
    return {
        "faces": len(part),
        "found": round(float((part["confidence"] > 0).mean()), 3),
        "same expression": round(float((part["expression"] == part["expression_clean"]).mean()), 3),
        "change of valence": round(float(part["valence_error"].mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundles", nargs="+", default=[AFFECT, "mien-xs"])
    parser.add_argument("--detector", default=FACES)
    parser.add_argument("--count", type=int, help="portraits; all of the split val by default")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = {}
    for bundle in args.bundles:
        with TemporaryDirectory() as folder:
            table = make_table(
                args.data,
                "val",
                Path(folder) / "val.parquet",
                bundle=bundle,
                detector=args.detector,
                teacher=None,
                count=args.count,
            )
        single = table[~table["kind"].str.contains("+", regex=False)]
        kinds = {str(kind) or "none": figures(part) for kind, part in single.groupby("kind")}
        result[bundle] = {"sha256": load(bundle).card.sha256[:12], "kinds": kinds}
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
