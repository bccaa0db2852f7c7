"""ExpW (Zhang, Luo, Loy & Tang 2018): faces in pictures from the web, each with a box.

Each face has one of seven expressions.

`root`, or ``label/`` in it, holds ``label.lst`` with lines ``<picture> <face> <top> <left> <right>
<bottom> <confidence> <0..6>``; the pictures lie in ``image/origin/``. A picture may show several
faces: each is a row of its own with its own box.

The label table has no boxes, so five points stand for a box: where they would lie if the box, made
square, framed a face as FER+ does (`points_in`). Whatever aligns by points cuts out the box with
them. What reads whole pictures, without points, takes the whole picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
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
# Codes 0 to 6.
_CODES: Final = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
)
_FIELDS: Final = ("image", "face", "top", "left", "right", "bottom", "confidence", "code")


def load_expw(
    root: Path, images: str = "image/origin", confidence: float = 0.0, missing: Missing = "error"
) -> pd.DataFrame:
    """Load the label table of ExpW.

    Args:
        root: The folder that holds ``label.lst``, or ``label`` with it.
        images: Folder of the pictures, within `root` or an absolute path.
        confidence: Faces that the detector was less sure of are left out.
        missing: What becomes of listed pictures that are not there.

    Returns:
        One-hot expressions of the task `EXPW`, in no split. `subject` is the picture, as nobody
        says who is in it. ``attrs["notes"]`` counts what was left out: boxes without area, faces
        that are listed twice (the first line stays), and those below `confidence`.

    Raises:
        DataError: Files are absent or damaged, a label is not 0 to 6, or no face is left.
    """
    root = Path(root)
    path = next((root / name for name in _LISTS if (root / name).is_file()), None)
    if path is None:
        raise DataError(f"{root}: holds no {_LISTS[0]}; give the folder of ExpW")
    faces, notes = _usable(_read(path), confidence)
    if faces.empty:
        raise DataError(
            f"{path}: no face is left; {'; '.join(notes)}. "
            "Take the original file, or a lower `confidence`"
        )
    codes = faces["code"].to_numpy(np.float32)
    shares = one_hot(codes, [_CODES.index(name) for name in EXPW.names])
    points = points_in(faces[["left", "top", "right", "bottom"]].to_numpy(float))
    about = {"subject": faces["image"], "points": list(points)}
    table = table_of(faces["image"], about, {EXPW: shares})
    return attach_notes(without_missing(table, root / images, missing, notes), notes)


def points_in(boxes: Floats) -> Floats:
    """Place five points in boxes as they lie in FER+'s pictures.

    The picture that they lie in is the square around the box, with the box's middle and its longer
    side, as in `mien.faces.prepare.Pixels`. Pixel centres lie at whole numbers.

    Args:
        boxes: Left, top, right and bottom edges (N, 4), px.

    Returns:
        Points (N, 10), x and y in turn, px.

    >>> points_in(np.array([[10.0, 20.0, 110.0, 120.0]])).round(1).tolist()
    [[41.6, 57.4, 77.4, 57.4, 59.5, 80.6, 44.7, 96.3, 74.3, 96.3]]
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    side = (high - low).max(axis=1)[:, None]
    corner = (low + high - side) / 2
    # Half a pixel less, from edges to centres.
    points = corner[:, None] + np.array(FERPLUS_TEMPLATE) * side[:, None] - 0.5
    return np.asarray(points.reshape(-1, 10))


def _usable(faces: pd.DataFrame, confidence: float) -> tuple[pd.DataFrame, list[str]]:
    """The faces that can be used, and a note on each reason why others cannot."""
    without_area = (faces["right"] <= faces["left"]) | (faces["bottom"] <= faces["top"])
    repeated = faces.duplicated(["image", "face"])
    unsure = faces["confidence"] < confidence
    # A face that fails several tests is counted once, by the first.
    reasons = {
        "have a box without area": without_area,
        "are listed a second time": repeated & ~without_area,
        f"have a confidence below {confidence:g}": unsure & ~without_area & ~repeated,
    }
    notes = []
    for reason, rows in reasons.items():
        if rows.any():
            notes.append(f"{rows.sum()} of {len(faces)} faces were left out: they {reason}")
    return faces[~(without_area | repeated | unsure)].reset_index(drop=True), notes


def _read(path: Path) -> pd.DataFrame:
    """The faces listed: the name of the picture, and numbers."""
    lines = pd.Series(read_text(path).split("\n")).str.strip()
    # Blank lines are dropped, but the index still counts them, so that errors name the right line.
    lines = lines[lines != ""]
    # From the right, as names of pictures may hold blanks.
    fields = lines.str.rsplit(n=len(_FIELDS) - 1, expand=True).reindex(columns=range(len(_FIELDS)))
    faces = fields.set_axis(list(_FIELDS), axis=1)
    numbers = list(_FIELDS[1:])
    for name in numbers:
        faces[name] = pd.to_numeric(faces[name], errors="coerce")
    damaged = ~np.isfinite(faces[numbers].to_numpy(float)).all(axis=1)
    _refuse(path, lines, damaged, "a picture and seven numbers")
    unknown = ~faces["code"].isin(range(len(_CODES))).to_numpy()
    _refuse(path, lines, unknown, f"labelled 0 to {len(_CODES) - 1}")
    return faces.reset_index(drop=True)


def _refuse(path: Path, lines: pd.Series, wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise DataError for the first line that is wrong."""
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: line {lines.index[row] + 1} is {lines.iloc[row][:60]!r}, not {expected}; "
            "take the original file"
        )


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
                "give `by: subject`, which is the picture, so that the faces of a picture are in "
                "one split"
            )
        return value

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_expw(self.root, self.images, self.confidence, self.missing), (EXPW,)
