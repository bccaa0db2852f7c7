"""FER+ (Barsoum et al. 2016): FER2013's 48x48 grey faces with ten people's votes each.

As its authors give it, ``fer2013new.csv`` beside FER2013's ``fer2013.csv``; or as Parquet files with the columns `image` (PNG bytes),
`votes` (8 expressions, unknown, not-a-face), `points` (10 numbers or null), `blendshapes` (52 or null). Single votes are dropped as noise
and pictures that most people called unknown or not a face are left out, as its authors do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
import pandas as pd
from typing_extensions import override

from mien.data.blendshapes import AU_BLENDSHAPES, activations
from mien.data.label_table import read_table, table_of
from mien.data.spec import DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Floats, Task

__all__ = [
    "DERIVED_ACTIVATIONS",
    "DERIVED_VA",
    "EXPR",
    "FERPLUS_TEMPLATE",
    "VA_OF_EXPRESSION",
    "FerPlus",
    "load_ferplus",
    "read_table",
    "va_of",
    "with_activations",
]

EXPR: Final = TASKS["expr.ferplus8"]

DERIVED_VA: Final = (
    "derived from expressions at Russell & Mehrabian's (1977) coordinates; nobody rated these faces"
)
"""Where valence and arousal come from in a set that has expressions only."""

DERIVED_ACTIVATIONS: Final = (
    "derived: blend shapes of MediaPipe's face landmarker, mapped to action units; activations, "
    "not FACS intensities"
)
"""Where the activations of action units come from in a set that has blend shapes only."""

FERPLUS_TEMPLATE: Final = (
    (0.321, 0.379),
    (0.679, 0.379),
    (0.5, 0.611),
    (0.352, 0.768),
    (0.648, 0.768),
)
"""The mean of the five points over FER+'s 48x48 pictures, made symmetric, in fractions of the picture."""

_PICTURES: Final = "fer2013.csv"
_VOTES: Final = "fer2013new.csv"
_USAGE: Final = {"train": "Training", "valid": "PublicTest"}
_VOTED: Final = [*EXPR.names, "unknown", "NF"]
_SIDE: Final = 48
_COLUMNS: Final = ["name", "image", "votes", "points", "blendshapes"]

# Russell & Mehrabian (1977), pleasure and arousal of emotion terms. Contempt is not in that table.
VA_OF_EXPRESSION: Final[dict[str, tuple[float, float]]] = {
    "neutral": (0.0, 0.0),
    "happiness": (0.81, 0.51),
    "surprise": (0.40, 0.67),
    "sadness": (-0.63, -0.27),
    "anger": (-0.51, 0.59),
    "disgust": (-0.60, 0.35),
    "fear": (-0.64, 0.60),
}


def va_of(expressions: Floats, names: tuple[str, ...] = EXPR.names) -> Floats:
    """Valence and arousal (N, 2) implied by expression shares (N, K); contempt's share is left out of the average.

    NaN where nothing but contempt is left.

    >>> va_of(np.array([[0, 1, 0, 0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0.25, 0, 0, 0.25]])).round(3).tolist()
    [[0.81, 0.51], [-0.17, 0.197]]
    """
    known = [name for name in names if name in VA_OF_EXPRESSION]
    shares = expressions[:, [names.index(name) for name in known]]
    total = shares.sum(axis=1, keepdims=True)
    return np.asarray(
        shares
        @ np.array([VA_OF_EXPRESSION[name] for name in known])
        / np.where(total > 0, total, np.nan)
    )


def with_activations(table: pd.DataFrame, blendshapes: "pd.Series[Any]") -> pd.DataFrame:
    """`table` with one column per action unit; NaN where the landmarker found no face."""
    seen = blendshapes.notna().to_numpy()
    values = np.full((len(table), len(AU_BLENDSHAPES.names)), np.nan)
    if seen.any():
        values[seen] = activations(np.array(blendshapes[seen].to_list(), np.uint8))
    return table.assign(**dict(zip(AU_BLENDSHAPES.columns, values.T, strict=True)))


def load_ferplus(folder: Path, split: str) -> pd.DataFrame:
    """The label table of FER+'s `split` (``train`` or ``valid``): soft expressions, derived VA, activations.

    A folder with ``fer2013new.csv`` is read as its authors gave it: Training is train, PublicTest valid; it has no points and activations.
    Raises DataError when the file is missing or is not FER+.
    """
    official = (folder / _VOTES).is_file()
    source = (
        _official(folder, split)
        if official
        else read_table(folder / f"ferplus-{split}.parquet", _COLUMNS)
    )
    votes = np.array(source["votes"].to_list(), np.float64)
    votes[votes <= 1] = 0
    keep = (votes.argmax(axis=1) < len(EXPR.names)) & (votes[:, : len(EXPR.names)].sum(axis=1) > 0)
    source, votes = source[keep].reset_index(drop=True), votes[keep, : len(EXPR.names)]
    shares = votes / votes.sum(axis=1, keepdims=True)
    table = table_of(
        source["image"],
        {"points": source["points"]},
        {EXPR: shares, TASKS["va"]: va_of(shares)},
        split,
    )
    return with_activations(table, source["blendshapes"])


def _official(folder: Path, split: str) -> pd.DataFrame:
    """The rows of FER2013 and of its votes side by side, which is how the two files belong together."""
    faces, votes = (
        _csv(folder / name, columns)
        for name, columns in ((_PICTURES, ["pixels", "Usage"]), (_VOTES, [*_VOTED, "Usage"]))
    )
    if len(faces) != len(votes) or not faces["Usage"].equals(votes["Usage"]):
        raise DataError(
            f"{folder}: {_PICTURES} has {len(faces)} rows and {_VOTES} {len(votes)}, or in another order; get both files again"
        )
    here = (faces["Usage"] == _USAGE[split]).to_numpy()
    return pd.DataFrame({
        "image": [_png(pixels, f"{folder / _PICTURES}: row {row}") for row, pixels in faces["pixels"][here].items()],
        "votes": list(votes.loc[here, _VOTED].to_numpy(np.float64)),
        "points": None,
        "blendshapes": None,
    })  # fmt: skip


def _csv(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); put FER2013's {_PICTURES} and FER+'s {_VOTES} into one folder"
        ) from error
    if lacking := [name for name in columns if name not in table]:
        raise DataError(
            f"{path}: has no column {lacking[0]}; it should be the file that its authors give out"
        )
    return table


def _png(pixels: object, where: str) -> bytes:
    try:
        values = np.fromstring(
            str(pixels), np.int64, sep=" "
        )  # four times as fast as splitting the text
    except ValueError:
        values = np.empty(0, np.int64)
    if len(values) != _SIDE**2 or values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: not {_SIDE**2} grey values from 0 to 255; get {_PICTURES} again")
    picture = values.astype(np.uint8).reshape(_SIDE, _SIDE)
    coded = cv2.imencode(".png", picture)[1]
    return bytes(coded.tobytes())


class FerPlus(DataSet):
    """FER+; has ``expr.ferplus8`` (votes), ``va`` (derived from them) and ``au.blendshapes``; splits train and val."""

    info: ClassVar = DataSetInfo(
        name="FER+",
        title="FER+ (FER2013 pictures, Barsoum et al.'s votes)",
        terms="research data from the web; votes MIT",
        supervision={
            "expr": "crowd votes of FER+ as soft labels",
            "va": DERIVED_VA,
            # Activations are no codes of FACS, so other tasks of action units have no source here.
            "au.blendshapes": DERIVED_ACTIVATIONS,
        },
        tasks=("expr.ferplus8", "va", "au.blendshapes"),
        source="FER2013's fer2013.csv and FER+'s fer2013new.csv in one folder, each from its authors' page",
        paper="Barsoum et al. 2016, Training deep networks for facial expression recognition with crowd-sourced label distribution",
    )

    set: Literal["ferplus"]
    folder: Place
    """Holds fer2013.csv and fer2013new.csv, or ferplus-train.parquet and ferplus-valid.parquet."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        parts = [
            load_ferplus(self.folder, "train"),
            load_ferplus(self.folder, "valid").assign(split="val"),
        ]
        table = pd.concat(parts, ignore_index=True)
        return table, (EXPR, TASKS["va"], AU_BLENDSHAPES)
