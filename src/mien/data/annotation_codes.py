"""The challenges' codes, turned into labels.

-5 (valence and arousal) and -1 (expressions, action units) mean not annotated.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError

__all__ = [
    "AU_NAMES",
    "EXPR_NAMES",
    "Labels",
    "Where",
    "coordinates",
    "expressions",
    "lines",
    "one_hot",
    "units",
]

Labels = NDArray[np.float32]
Where = Callable[[int], str]
"""What messages call a row, counted from 0: its file and line."""

EXPR_NAMES: Final = (
    "neutral",
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "other",
)
"""Header of the expression track, in small letters; without ``other`` in ABAW2."""
AU_NAMES: Final = tuple(f"au{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
"""Header of the action-unit track, in small letters."""

_NO_VA: Final = -5.0
_NONE: Final = -1.0


def lines(path: Path, first: int = 2) -> Where:
    """Name the rows of a file for messages.

    Args:
        path: The file.
        first: The line of row 0, from 1; a header takes one.

    Returns:
        A function from a row, counted from 0, to its file and line.
    """
    return lambda row: f"{path}: line {row + first}"


def _refuse(wrong: NDArray[np.bool_], values: Labels, where: Where, problem: str) -> None:
    """Raise DataError for the first row of `values` (N, K) with something wrong (N, K)."""
    if wrong.any():
        row, column = divmod(int(wrong.argmax()), wrong.shape[1])
        text = problem.format(f"{values[row, column]:g}")
        raise DataError(f"{where(row)}: {text} ({wrong.sum()} such values)")


def coordinates(values: Labels, where: Where) -> Labels:
    """Read valence and arousal.

    Args:
        values: The file's numbers (N, 2).
        where: Names a row for messages.

    Returns:
        Valence and arousal (N, 2), -1..1; both NaN where either is -5.

    Raises:
        DataError: A value is neither within -1..1 nor -5.
    """
    none = values == _NO_VA
    problem = (
        "valence or arousal is {}, neither within -1..1 nor -5 (not annotated); "
        "correct the line, or take the original file"
    )
    # Written so that NaN, which no comparison holds for, is refused as well.
    _refuse(~none & ~(np.abs(values) <= 1), values, where, problem)
    missing = none.any(axis=1, keepdims=True)
    return np.asarray(np.where(missing, np.float32(np.nan), values), np.float32)


def expressions(codes: Labels, classes: int, where: Where) -> Labels:
    """Read expressions.

    Args:
        codes: The file's codes (N,).
        classes: 8, or 7 in ABAW2.
        where: Names a row for messages.

    Returns:
        One-hot shares (N, `classes`), NaN where the code is -1.

    Raises:
        DataError: A code is no class and not -1.

    >>> expressions(np.array([1, -1], np.float32), 2, str).tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    column = codes[:, None]
    if classes == len(EXPR_NAMES) - 1:
        problem = (
            "expression {} is the 'other' of ABAW3 and later, so this is the data of another year; "
            "set `classes: 8`"
        )
        _refuse(column == classes, column, where, problem)
    known = np.isin(column, [_NONE, *range(classes)])
    problem = (
        f"expression {{}} is neither 0 to {classes - 1} nor -1 (not annotated); "
        "take the original file of this challenge"
    )
    _refuse(~known, column, where, problem)
    return one_hot(np.where(codes == _NONE, np.float32(np.nan), codes), range(classes))


def one_hot(codes: Labels, order: Sequence[int]) -> Labels:
    """Turn codes into one-hot shares.

    Args:
        codes: Class codes (N,), NaN where not annotated.
        order: The code of each column (K,).

    Returns:
        Shares (N, K), NaN where the code is NaN.

    >>> one_hot(np.array([5, np.nan], np.float32), (4, 5)).tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    shares: Labels = (codes[:, None] == np.asarray(order, np.float32)).astype(np.float32)
    shares[np.isnan(codes)] = np.nan
    return shares


def units(values: Labels, where: Where) -> Labels:
    """Read action units, each of which may be annotated without the others.

    Args:
        values: The file's numbers (N, 12).
        where: Names a row for messages.

    Returns:
        Labels (N, 12), 0 or 1; NaN where -1.

    Raises:
        DataError: A value is not 0, 1 or -1.
    """
    none = values == _NONE
    problem = (
        "an action unit is {}, not 0, 1 or -1 (not annotated); "
        "correct the line, or take the original file"
    )
    _refuse(~none & (values != 0) & (values != 1), values, where, problem)
    return np.where(none, np.float32(np.nan), values)
