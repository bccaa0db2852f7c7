"""FER+ (Barsoum et al. 2016): FER2013's 48x48 grey faces with ten people's votes each, as Parquet files.

Columns read: `image` (PNG bytes), `votes` (8 expressions, unknown, not-a-face), `points` (10 numbers or null),
`blendshapes` (52 or null). Single votes are dropped as noise and pictures that most people called unknown or not a face
are left out, as its authors do.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mien.data.blendshapes import AU_BLENDSHAPES, activations
from mien.data.table import read_table, table_of
from mien.tasks import TASKS, Floats

__all__ = ["EXPR", "FERPLUS_TEMPLATE", "VA_OF_EXPRESSION", "load_ferplus", "read_table", "va_of", "with_activations"]

EXPR: Final = TASKS["expr.ferplus8"]

FERPLUS_TEMPLATE: Final = ((0.321, 0.379), (0.679, 0.379), (0.5, 0.611), (0.352, 0.768), (0.648, 0.768))
"""The mean of the five points over FER+'s 48x48 pictures, made symmetric, in fractions of the picture."""

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
    return np.asarray(shares @ np.array([VA_OF_EXPRESSION[name] for name in known]) / np.where(total > 0, total, np.nan))


def with_activations(table: pd.DataFrame, blendshapes: "pd.Series[Any]") -> pd.DataFrame:
    """`table` with one column per action unit; NaN where the landmarker found no face."""
    seen = blendshapes.notna().to_numpy()
    values = np.full((len(table), len(AU_BLENDSHAPES.names)), np.nan)
    if seen.any():
        values[seen] = activations(np.array(blendshapes[seen].to_list(), np.uint8))
    return table.assign(**dict(zip(AU_BLENDSHAPES.columns, values.T, strict=True)))


def load_ferplus(folder: Path, split: str) -> pd.DataFrame:
    """The label table of FER+'s `split` (``train`` or ``valid``): soft expressions, derived VA, activations.

    Raises DataError when the file is missing or is not FER+.
    """
    source = read_table(folder / f"ferplus-{split}.parquet", ["name", "image", "votes", "points", "blendshapes"])
    votes = np.array(source["votes"].to_list(), np.float64)
    votes[votes <= 1] = 0
    keep = (votes.argmax(axis=1) < len(EXPR.names)) & (votes[:, : len(EXPR.names)].sum(axis=1) > 0)
    source, votes = source[keep].reset_index(drop=True), votes[keep, : len(EXPR.names)]
    shares = votes / votes.sum(axis=1, keepdims=True)
    table = table_of(source["image"], {"points": source["points"]}, {EXPR: shares, TASKS["va"]: va_of(shares)}, split)
    return with_activations(table, source["blendshapes"])
