"""FER+ (Barsoum et al. 2016): FER2013's 48x48 grey faces with ten people's votes each.

As its authors give it, ``fer2013new.csv`` beside FER2013's ``fer2013.csv``; or as Parquet files with the columns `image` (PNG bytes),
`votes` (8 expressions, unknown, not-a-face), `points` (10 numbers or null), `blendshapes` (52 or null). Single votes are dropped as noise
and pictures that most people called unknown or not a face are left out, as its authors do.
"""

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd

from mien.data.blendshapes import AU_BLENDSHAPES, activations
from mien.data.label_table import read_table, table_of
from mien.errors import DataError
from mien.tasks import TASKS, Floats

__all__ = [
    "EXPR",
    "FERPLUS_TEMPLATE",
    "VA_OF_EXPRESSION",
    "load_ferplus",
    "read_table",
    "va_of",
    "with_activations",
]

EXPR: Final = TASKS["expr.ferplus8"]

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
