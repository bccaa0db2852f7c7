"""ExpW (Zhang, Luo, Loy & Tang 2018): faces in pictures from the web, each with a box and one of seven expressions.

`root`, or ``label/`` in it, holds ``label.lst`` with lines ``<picture> <face> <top> <left> <right> <bottom> <confidence> <0..6>``; the
pictures lie in ``image/origin/``. A picture may show several faces: each is a row of its own, told apart by its box.

The label table knows no boxes, so five points stand for a box: where they would lie if the box, made square, framed a face as FER+ does
(`points_in`). Whatever aligns by points cuts out the box with them. What reads pictures whole, without points, takes the whole picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator
from typing_extensions import override

from mien.data.annotation_codes import one_hot
from mien.data.frame_lists import read_text
from mien.data.label_table import Split, table_of
from mien.data.presence import Missing, attach_notes, without_missing
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.data.spec import Cut, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Floats, Task

__all__ = ["EXPW", "ExpW", "load_expw", "points_in"]

EXPW: Final = TASKS["expr.abaw7"]

_LISTS: Final = ("label.lst", "label/label.lst")
_CODES: Final = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
)  # 0 to 6
_FIELDS: Final = ("image", "face", "top", "left", "right", "bottom", "confidence", "code")


def load_expw(
    root: Path, images: str = "image/origin", confidence: float = 0.0, missing: Missing = "error"
) -> pd.DataFrame:
    """The label table of ExpW: `EXPW`, one-hot, in no split; `subject` is the picture, as nobody says who is in it.

    images: folder of the pictures, within `root` or an absolute path. confidence: faces that the detector was less sure of are left out.
    `attrs["notes"]` counts what was left out: those, boxes without area, and faces that are listed twice (the first line stays).
    Raises DataError for files that are absent or damaged, and for a label that is not 0 to 6.
    """
    root, notes = Path(root), list[str]()
    path = next((root / name for name in _LISTS if (root / name).is_file()), None)
    if path is None:
        raise DataError(f"{root}: holds no {_LISTS[0]}; give the folder of ExpW")
    found = _rows(path)
    empty = (found["right"] <= found["left"]) | (found["bottom"] <= found["top"])
    twice = found.duplicated(["image", "face"])
    unsure = found["confidence"] < confidence
    for wrong, said in (
        (empty, "have a box without area"),
        (twice & ~empty, "are listed a second time"),
        (unsure & ~empty & ~twice, f"have a confidence below {confidence:g}"),
    ):
        notes += (
            [f"{wrong.sum()} of {len(found)} faces were left out: they {said}"]
            if wrong.any()
            else []
        )
    found = found[~(empty | twice | unsure)].reset_index(drop=True)
    if found.empty:
        raise DataError(
            f"{path}: no face is left; {'; '.join(notes)}. Take the original file, or a lower `confidence`"
        )
    shares = one_hot(
        found["code"].to_numpy(np.float32), [_CODES.index(name) for name in EXPW.names]
    )
    points = points_in(found[["left", "top", "right", "bottom"]].to_numpy(float))
    table = table_of(
        found["image"], {"subject": found["image"], "points": list(points)}, {EXPW: shares}
    )
    return attach_notes(without_missing(table, root / images, missing, notes), notes)


def points_in(boxes: Floats) -> Floats:
    """Five points (N, 10) for boxes (N, 4) of left, top, right and bottom edge, px: a face framed as in FER+, by the square around the box.

    The square has the box's middle and its longer side, as in `mien.faces.prepare.Pixels`. Pixel centres lie at whole numbers.

    >>> points_in(np.array([[10.0, 20.0, 110.0, 120.0]])).round(1).tolist()
    [[41.6, 57.4, 77.4, 57.4, 59.5, 80.6, 44.7, 96.3, 74.3, 96.3]]
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    side = (high - low).max(axis=1)[:, None]
    corner = (low + high - side) / 2
    return np.asarray(
        (corner[:, None] + np.array(FERPLUS_TEMPLATE) * side[:, None] - 0.5).reshape(-1, 10)
    )


def _rows(path: Path) -> pd.DataFrame:
    """The faces listed: the name of the picture, and numbers."""
    lines = pd.Series(read_text(path).split("\n")).str.strip()
    lines = lines[lines != ""]
    parts = lines.str.rsplit(n=len(_FIELDS) - 1, expand=True).reindex(columns=range(len(_FIELDS)))
    found = parts.set_axis(list(_FIELDS), axis=1)
    for name in _FIELDS[1:]:
        found[name] = pd.to_numeric(found[name], errors="coerce")
    damaged = ~np.isfinite(found[list(_FIELDS[1:])].to_numpy(float)).all(axis=1)
    wrong = ~damaged & ~found["code"].isin(range(len(_CODES))).to_numpy()
    for bad, said in (
        (damaged, "a picture and seven numbers"),
        (wrong, f"labelled 0 to {len(_CODES) - 1}"),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"{path}: line {lines.index[row] + 1} is {lines.iloc[row][:60]!r}, not {said}; take the original file"
            )
    return found.reset_index(drop=True)


class ExpW(DataSet):
    """ExpW; has ``expr.abaw7``. See `mien.data.sets.expw`."""

    info: ClassVar = DataSetInfo(
        name="ExpW",
        title="ExpW (pictures from the web)",
        terms="research data from the web; non-commercial research only",
        supervision={"expr": "annotators of ExpW"},
        tasks=("expr.abaw7",),
        source="ExpW from its authors' page: label.lst and image/",
        paper="Zhang, Luo, Loy & Tang 2018, From facial expression recognition to interpersonal "
        "relation prediction",
    )

    set: Literal["expw"]
    root: Place
    """Holds label.lst and image."""
    images: str = "image/origin"
    """Folder of the pictures, within the root or an absolute path."""
    confidence: Annotated[float, Field(strict=False, ge=0)] = 0.0
    """Faces that the detector was less sure of are left out."""
    missing: Missing = "error"
    """What becomes of listed pictures that are not there: ``error`` or ``drop``."""
    split: Split | Cut = "train"
    """The split that all faces are in, or a cut by subject, which here is the picture."""

    @field_validator("split")
    @classmethod
    def _whole_pictures(cls, value: Split | Cut) -> Split | Cut:
        if isinstance(value, Cut) and value.by != "subject":
            raise ValueError(
                "give `by: subject`, which is the picture, so that the faces of a picture are in one split"
            )
        return value

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_expw(self.root, self.images, self.confidence, self.missing), (EXPW,)
