"""FER+ (Barsoum et al. 2016): FER2013's 48x48 grey faces with ten people's votes each.

Either as its authors distribute it, ``fer2013new.csv`` beside FER2013's ``fer2013.csv``; or as
Parquet files with the columns `image` (PNG bytes), `votes` (8 expressions, unknown, not-a-face),
`points` (10 numbers or null), `blendshapes` (52 or null). Single votes are dropped as noise, and
pictures that most people called unknown or not a face are left out, as its authors do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
import pandas as pd
from typing_extensions import override

from mien.data.blendshapes import AU_BLENDSHAPES, above_rest, activations
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
    "derived: blend shapes of MediaPipe's face landmarker, mapped to action units, above the level "
    "of calm faces; activations, not FACS intensities"
)
"""Where the activations of action units come from in a set that has blend shapes only."""

FERPLUS_TEMPLATE: Final = (
    (0.321, 0.379),
    (0.679, 0.379),
    (0.5, 0.611),
    (0.352, 0.768),
    (0.648, 0.768),
)
"""The mean of the five points over FER+'s 48x48 pictures, made symmetric, in fractions of the
picture."""

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
    """Derive valence and arousal from expressions, at Russell & Mehrabian's (1977) coordinates.

    Args:
        expressions: Shares (N, K) of the expressions, 0..1.
        names: Their names (K,). Contempt, which has no coordinates, is left out of the average.

    Returns:
        Valence and arousal (N, 2), -1..1; NaN where nothing but contempt is left.

    >>> shares = np.array([[0, 1, 0, 0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0.25, 0, 0, 0.25]])
    >>> va_of(shares).round(3).tolist()
    [[0.81, 0.51], [-0.17, 0.197]]
    """
    known = [name for name in names if name in VA_OF_EXPRESSION]
    coordinates = np.array([VA_OF_EXPRESSION[name] for name in known])
    shares = expressions[:, [names.index(name) for name in known]]
    total = shares.sum(axis=1, keepdims=True)
    return np.asarray(shares @ coordinates / np.where(total > 0, total, np.nan))


def with_activations(table: pd.DataFrame, blendshapes: "pd.Series[Any]") -> pd.DataFrame:
    """Add the activations of action units to a label table.

    Args:
        table: A label table of N rows.
        blendshapes: 52 blend shapes (uint8) for each row, or None where the landmarker found no
            face.

    Returns:
        The table with one column per action unit, 0..1 above the level of calm faces; NaN where
        there are no blend shapes.
    """
    given = blendshapes.notna().to_numpy()
    values = np.full((len(table), len(AU_BLENDSHAPES.names)), np.nan)
    if given.any():
        shapes = np.array(blendshapes[given].to_list(), np.uint8)
        values[given] = above_rest(activations(shapes))
    return table.assign(**dict(zip(AU_BLENDSHAPES.columns, values.T, strict=True)))


def load_ferplus(folder: Path, split: str) -> pd.DataFrame:
    """Load the label table of one split of FER+.

    Args:
        folder: The folder that holds FER+. With ``fer2013new.csv`` it is read as its authors give
            it, Training being train and PublicTest valid; this form has no points and activations.
        split: ``train`` or ``valid``.

    Returns:
        Expressions as shares of the votes, valence and arousal derived from them, and activations
        of action units.

    Raises:
        DataError: A file is missing or is not FER+'s.
    """
    if (folder / _VOTES).is_file():
        source = _official(folder, split)
    else:
        source = read_table(folder / f"ferplus-{split}.parquet", _COLUMNS)
    votes = np.array(source["votes"].to_list(), np.float64)
    # As its authors do: single votes are noise, and what most call unknown or no face is left out.
    votes[votes <= 1] = 0
    expressions = votes[:, : len(EXPR.names)]
    keep = (votes.argmax(axis=1) < len(EXPR.names)) & (expressions.sum(axis=1) > 0)
    source = source[keep].reset_index(drop=True)
    expressions = votes[keep, : len(EXPR.names)]
    shares = expressions / expressions.sum(axis=1, keepdims=True)
    labels = {EXPR: shares, TASKS["va"]: va_of(shares)}
    table = table_of(source["image"], {"points": source["points"]}, labels, split)
    return with_activations(table, source["blendshapes"])


def _official(folder: Path, split: str) -> pd.DataFrame:
    """The rows of FER2013 and of its votes, which belong together by their order alone."""
    faces = _csv(folder / _PICTURES, ["pixels", "Usage"])
    votes = _csv(folder / _VOTES, [*_VOTED, "Usage"])
    if len(faces) != len(votes) or not faces["Usage"].equals(votes["Usage"]):
        raise DataError(
            f"{folder}: {_PICTURES} has {len(faces)} rows and {_VOTES} {len(votes)}, or in another "
            "order; get both files again"
        )
    in_split = (faces["Usage"] == _USAGE[split]).to_numpy()
    images = []
    for row, pixels in faces["pixels"][in_split].items():
        images.append(_png(pixels, f"{folder / _PICTURES}: row {row}"))
    counts = list(votes.loc[in_split, _VOTED].to_numpy(np.float64))
    return pd.DataFrame({"image": images, "votes": counts, "points": None, "blendshapes": None})


def _csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV file that has these columns."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); put FER2013's {_PICTURES} and FER+'s {_VOTES} "
            "into one folder"
        ) from error
    for name in columns:
        if name not in table:
            raise DataError(
                f"{path}: has no column {name}; it should be the file that its authors distribute"
            )
    return table


def _png(pixels: object, where: str) -> bytes:
    """The PNG of a picture whose grey values are text with blanks between."""
    try:
        # Four times as fast as splitting the text.
        values = np.fromstring(str(pixels), np.int64, sep=" ")
    except ValueError:
        values = np.empty(0, np.int64)
    if len(values) != _SIDE**2 or values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: not {_SIDE**2} grey values from 0 to 255; get {_PICTURES} again")
    picture = values.astype(np.uint8).reshape(_SIDE, _SIDE)
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


class FerPlus(DataSet):
    """FER+; has ``expr.ferplus8`` (votes), ``va`` (derived from them) and ``au.blendshapes``;
    splits train and val."""

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
        source="FER2013's fer2013.csv and FER+'s fer2013new.csv in one folder, each from its "
        "authors' page",
        paper="Barsoum et al. 2016, Training deep networks for facial expression recognition with "
        "crowd-sourced label distribution",
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
