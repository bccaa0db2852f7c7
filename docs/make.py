"""Writes the pages that are made from the code: docs/columns.md, docs/bundles.md, and, given the demo's folder, docs/demo.jpg.

python docs/make.py [DEMO]     (DEMO: where `make demo` left clip.csv and clip.overlay.mp4)
"""

import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd

from mien.bundles.readme import readme
from mien.bundles.store import bundles, load, open_bundle
from mien.outputs.columns import columns
from mien.records import STATUSES
from mien.tasks import TASKS

HERE = Path(__file__).parent


def columns_page() -> str:
    """Every column of the default table, as its data dictionary has it."""
    lines = ["# Columns", "", "One row per face per frame; made by `docs/make.py` from the code that writes the tables.", ""]
    lines += ["| column | type | unit | range | meaning |", "|---|---|---|---|---|"]
    for column in columns((*load().tasks, TASKS["ce.abaw7"]), smoothed=False):
        span = "" if column.low is None else f"{column.low:g} to {'' if column.high is None else format(column.high, 'g')}"
        lines.append(f"| `{column.name}` | {column.dtype} | {column.unit or ''} | {span} | {column.meaning} |")
    lines += ["", "With `--smooth`, all score columns come again with the suffix `_raw`, as they were before smoothing.", ""]
    lines += ["| status | meaning |", "|---|---|"] + [f"| `{status}` | {meaning} |" for status, meaning in STATUSES.items()]
    return "\n".join(lines) + "\n"


def bundles_page() -> str:
    """The cards of all embedded bundles, for people."""
    head = "# The bundles\n\nThe networks that come with mien, as their cards describe them; made by `docs/make.py`.\n"
    return "\n".join([head, *(readme(open_bundle(name).card).replace("\n## ", "\n### ").replace("# ", "## ", 1) for name in bundles())])


def picture(demo: Path) -> np.ndarray:
    """A frame of the overlay above the rows of the table around it, RGB."""
    with av.open(str(demo / "clip.overlay.mp4")) as film:
        frame = next(frame for i, frame in enumerate(film.decode(video=0)) if i == 36).to_ndarray(format="rgb24")
    names = ["frame", "time_s", "status", "face", "confidence", "expression", "expr_happiness", "valence", "arousal", "AU12", "AU25"]
    table = pd.read_csv(demo / "clip.csv")[names]
    rows = table[table["frame"].between(33, 39)].astype({"face": "Int64"}).round(2).astype(str)
    page = np.full((24 * (len(rows) + 1) + 12, 2 * frame.shape[1], 3), 255, np.uint8)
    for i, cells in enumerate([names, *rows.to_numpy().tolist()]):
        for k, cell in enumerate(cells):
            where, shade = (12 + k * 114, 24 * (i + 1)), (20, 20, 20) if i else (110, 110, 110)
            cv2.putText(page, cell, where, cv2.FONT_HERSHEY_SIMPLEX, 0.44, shade, 1, cv2.LINE_AA)
    return np.vstack([cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), page])


def main() -> None:
    """Write the pages."""
    (HERE / "columns.md").write_text(columns_page(), encoding="utf-8")
    (HERE / "bundles.md").write_text(bundles_page(), encoding="utf-8")
    if len(sys.argv) > 1:
        drawn = cv2.cvtColor(picture(Path(sys.argv[1])), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(HERE / "demo.jpg"), drawn, [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
