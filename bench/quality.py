"""Whether `mien-quality` knows which readings are sound, on damaged portraits of people it did not learn from.

    python bench/quality.py --data FOLDER [--bundle mien-s] [--detector mien-face] [--quality mien-quality]
        [--count 1000] [--sheets FOLDER] [--out bench/results/quality.json]

FOLDER holds portraits.parquet. What is damaged, how, and which reading is sound: `mien.train.builtin.quality_table`. Printed by kind of
damage: the share of sound readings, the area under the ROC curve of the quality, of the expression's probability and of the detector's
confidence, and how many sound and unsound readings are doubtful at the card's threshold. `--sheets` writes contact sheets of faces that
are doubtful and of faces that are not. Intervals: 95 %, bootstrap over people.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mien.bundles.store import AFFECT, FACES, load
from mien.data.images import read_picture
from mien.metrics import bootstrap
from mien.train.builtin.mien_quality import auc, quality_of
from mien.train.builtin.quality_table import make_table

SHEET_COLUMNS, SHEET_ROWS = 12, 8


def figures(part: pd.DataFrame, threshold: float) -> dict:
    sound = part["quality"].to_numpy() == 1
    doubtful = part["judged"].to_numpy() < threshold
    found = {"faces": len(part), "sound": round(float(sound.mean()), 3)}
    for name in ("judged", "probability", "confidence"):
        found[f"AUC {name}"] = round(auc(part[name], sound), 3)
    low, high = bootstrap(
        auc, part["judged"], sound, groups=pd.factorize(part["subject"])[0], rounds=200
    )
    found["AUC judged, interval"] = [round(float(low), 3), round(float(high), 3)]
    clean = (part["kind"] == "").to_numpy()
    if clean.any():
        # As if each damaged face stood beside its undamaged one.
        weight = np.where(clean, (~clean).sum() / clean.sum(), 1)
        for name in ("judged", "probability", "confidence"):
            area = roc_auc_score(sound, part[name], sample_weight=weight)
            found[f"AUC {name}, paired"] = round(float(area), 3)
        found["undamaged ones doubtful"] = round(float(doubtful[clean].mean()), 3)
        found["sound damaged ones doubtful"] = round(float(doubtful[sound & ~clean].mean()), 3)
        masked = part["kind"].str.contains("mask").to_numpy()
        found["masked ones doubtful or sound"] = round(float((doubtful | sound)[masked].mean()), 3)
    if sound.any():
        found["sound ones doubtful"] = round(float(doubtful[sound].mean()), 3)
    if not sound.all():
        found["unsound ones doubtful"] = round(float(doubtful[~sound].mean()), 3)
    return found


def by_kind(table: pd.DataFrame, threshold: float) -> dict:
    """Single kinds, each beside the undamaged faces, which are all sound."""
    clean = table[table["kind"] == ""]
    single = table[~table["kind"].str.contains("+", regex=False) & (table["kind"] != "")]
    found = {}
    for kind, part in single.groupby("kind"):
        both = pd.concat([clean, part])
        row = figures(part, threshold)
        row["AUC judged, with undamaged faces"] = round(
            auc(both["judged"], both["quality"] == 1), 3
        )
        found[str(kind)] = row
    return found


def sheet(part: pd.DataFrame, path: Path) -> None:
    """Faces with their kind of damage and their quality, worst first."""
    size = 96
    tiles = []
    count = SHEET_COLUMNS * SHEET_ROWS
    rows = part.iloc[np.linspace(0, len(part) - 1, min(count, len(part))).astype(int)]
    for row in rows.sort_values("judged").itertuples():
        tile = cv2.resize(read_picture(row.image), (size, size))
        tile = cv2.copyMakeBorder(tile, 0, 24, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        mark = "" if row.quality == 1 else "!"
        for line, text in enumerate(
            (f"{row.judged:.2f} {row.expression[:8]}{mark}", row.kind[:16])
        ):
            cv2.putText(tile, text, (3, size + 10 + 11 * line), 0, 0.34, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % SHEET_COLUMNS)
    lines = [np.hstack(tiles[i : i + SHEET_COLUMNS]) for i in range(0, len(tiles), SHEET_COLUMNS)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(lines), cv2.COLOR_RGB2BGR))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", default=AFFECT)
    parser.add_argument("--detector", default=FACES)
    parser.add_argument("--quality", default="mien-quality")
    parser.add_argument("--count", type=int, help="portraits; all of the split val by default")
    parser.add_argument("--table", type=Path, help="keep the damaged faces here, or read them")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        table = make_table(
            args.data,
            "val",
            args.table or Path(folder) / "val.parquet",
            bundle=args.bundle,
            detector=args.detector,
            teacher=None,
            count=args.count,
        )
    model = load(args.quality)
    table["judged"] = quality_of(model, table)
    threshold = model.card.doubtful_below
    result = {
        "quality": model.card.sha256[:12],
        "reads": load(args.bundle).card.sha256[:12],
        "doubtful below": threshold,
        "all": figures(table, threshold),
        "kinds": by_kind(table, threshold),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        doubtful = table["judged"] < threshold
        sheet(table[doubtful], args.sheets / "doubtful.jpg")
        sheet(table[~doubtful], args.sheets / "trusted.jpg")


if __name__ == "__main__":
    main()
