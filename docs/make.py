"""Writes the pages made from the code: columns.md, bundles.md, submissions.md, and, given the demo's folder, demo.jpg, all in docs/.

python docs/make.py [DEMO]     (DEMO: where `make demo` left clip.csv and clip.overlay.mp4)
"""

import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd

from mien.bundles.readme import readme
from mien.bundles.store import embedded, load, open_bundle
from mien.data.submissions.check import KINDS
from mien.data.submissions.formats import DIGITS, markdown
from mien.outputs.columns import columns
from mien.records import STATUSES
from mien.tasks import TASKS

HERE = Path(__file__).parent

SUBMISSIONS = """# Submission files

The files that the ABAW challenges take; made by `docs/make.py` from the code that writes and checks them. A format is named as its
protocol in `mien.metrics.PROTOCOLS`, by the year of the challenge. `mien submit formats` prints this table.

{table}

A row is the name as the official list has it and then the fields; in a file per video there are no names, and line *k* below the header
is frame *k*. Headers do not always count the fields: twelve units stand below `aus`, one class number below eight names.
Values have {digits} decimals.

## Check

    mien submit check FILE --list OFFICIAL [--format NAME]

OFFICIAL is the challenge's own list. Without `--format` the layout and the first line tell the format; equal formats of two years are
checked alike, and `abaw2025.ah`, which has no header, must be named. The list for a file per video names every frame,
`<video>/00001.jpg` first, because the names of the videos alone do not say how many lines they need. The command ends with 0 and one
line where nothing is wrong, else with 1 and the first examples of each kind of defect: {kinds}.

In a file per video a doubled row shows as a surplus row, and rows in another order cannot be seen.

## Write

```python
from pathlib import Path

from mien.data.abaw.lists import read_list
from mien.data.submissions.write import write

listed = read_list(Path("MTL_Challenge_test_set_release.txt"))
write("abaw2022.mtl", listed, scores, Path("predictions.txt"), thresholds={{"au": 0.5}})
```

`scores` is a data frame with `image` and the columns of the tasks (`valence`, `arousal`, `expr_neutral`, …, `AU01`, …), in any order of
rows. Every listed row is answered in the official order, and rows listed twice are answered twice. A frame that was not measured,
because it is not in `scores` or its columns are NaN, lies on the straight line between the measured frames around it, by frame number;
before the first and after the last measured frame that one is held. A video without any measured frame is an error, and so is a missing
picture (`abaw2022.lsd`) or clip (`…emi`), which have no neighbours. Then the highest expression becomes the class, units become 1 from
their threshold on (0.5), and values are clipped to their range. What `write` returns says how many rows were filled and which scored
images are not on the list.

## Left out

The emotional reactions of ABAW5 (seven emotions) and the valence, arousal and units of ABAW8 have no format here, and ambivalence
(`abaw2025.ah`) has no protocol: their exact rules are not at hand. The units of ABAW2 have a protocol but no format.
"""


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
    return "\n".join([head, *(readme(open_bundle(name).card).replace("\n## ", "\n### ").replace("# ", "## ", 1) for name in embedded())])


def submissions_page() -> str:
    """What submissions look like, how to check and how to write one."""
    return SUBMISSIONS.format(table="\n".join(markdown()), digits=DIGITS, kinds=", ".join(f"`{kind}`" for kind in KINDS))


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
    (HERE / "submissions.md").write_text(submissions_page(), encoding="utf-8")
    if len(sys.argv) > 1:
        drawn = cv2.cvtColor(picture(Path(sys.argv[1])), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(HERE / "demo.jpg"), drawn, [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
