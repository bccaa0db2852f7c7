"""Looking at few frames where that is enough: an adaptive frame rate (after Savchenko, ICML 2023, in our own form).

A video is read in stages, with a falling stride. The first stage looks at every 200th frame, say, and draws straight lines
between them. A frame whose most probable class is then more probable than the stage's threshold is settled. For each frame that is
not, the next stage looks at the frames of its own finer stride before and after it; and so on. The last stage settles the rest.

The thresholds come from labelled videos. Among the wrong decisions that come to stage k of K, the share that passes the threshold
(false accepts) is at most alpha * k / K: strict where little was seen, with the steps of Benjamini and Hochberg (1995).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError
from mien.tasks import Floats
from mien.temporal.rows import Codes, fill_rows, group_codes

__all__ = ["Strides", "apply_strides", "fit_strides"]

Mask = NDArray[np.bool_]
Limit = Callable[[int, Floats, Codes], float]
"""(stage, scores (n, K) of the rows still open, their place in the table (n,)) -> the confidence above which they are settled."""


@dataclass(frozen=True, slots=True)
class Strides:
    """An adaptive frame rate.

    strides: each smaller than the one before, >= 1, in frames of the table: 10 looks at every 10th row of a video, from its first.
    thresholds: one for every stride but the last: a frame is settled where its highest probability is above it.

    Raises ValueError for others.

    >>> Strides((10, 1), ())
    Traceback (most recent call last):
    ValueError: every stride but the last needs a threshold, got the strides (10, 1) and the thresholds ()
    """

    strides: tuple[int, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_strides(self.strides)
        if len(self.thresholds) != len(self.strides) - 1 or any(map(isnan, self.thresholds)):
            raise ValueError(
                f"every stride but the last needs a threshold, got the strides {self.strides} and the thresholds {self.thresholds}"
            )


def fit_strides(
    scores: ArrayLike,
    target: ArrayLike,
    video: ArrayLike,
    frame: ArrayLike,
    *,
    strides: Sequence[int] = (200, 100, 50, 10, 1),
    alpha: float = 0.1,
) -> Strides:
    """Thresholds for falling strides, such that at most a share alpha * k / K of the wrong decisions of stage k is accepted.

    scores: (N, K) probabilities of all rows, without NaN; a decision is the class of the highest. target: (N,) class numbers, NaN = not
    annotated: such rows are walked over but not counted. A threshold is infinite where no annotated row is left to judge by, 0 where
    none of them is wrong. Raises DataError for arrays that do not fit, ValueError for alpha outside 0..1 or strides that do not fall.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share of wrong decisions, 0..1, got {alpha}")
    told = np.asarray(target, np.float64)
    if told.shape != np.shape(scores)[:1]:
        raise DataError(
            f"target must be (N,) class numbers for scores (N, K), got {told.shape} and {np.shape(scores)}"
        )
    limits: list[float] = []

    def limit(stage: int, values: Floats, rows: Codes) -> float:
        known = ~np.isnan(told[rows])
        wrong = known & (values.argmax(axis=1) != told[rows])
        doubts = np.sort(values[wrong].max(axis=1))[::-1]
        spared = int(alpha * (stage + 1) / len(strides) * len(doubts))
        limits.append(
            (float(doubts[spared]) if spared < len(doubts) else 0.0)
            if known.any()
            else float("inf")
        )
        return limits[-1]

    _check_strides(strides)
    _walk(strides, limit, scores, video, frame)
    return Strides(tuple(strides), tuple(limits))


def apply_strides(
    plan: Strides, scores: ArrayLike, video: ArrayLike, frame: ArrayLike
) -> tuple[Floats, Mask]:
    """Scores (N, K) as they are when only some frames are looked at, and which ones were, (N,); rows as in the table.

    scores: (N, K) probabilities of all rows; those of frames that are not looked at have no influence. The decision of a frame is the
    class of its highest score, the cost the mean of the second array. Raises DataError for arrays that do not fit, or NaN.

    >>> scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    >>> values, looked = apply_strides(Strides((2, 1), (0.75,)), scores, ["a"] * 5, range(5))
    >>> values.round(2).tolist(), looked.tolist()
    ([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]], [True, False, True, True, True])
    """
    return _walk(plan.strides, lambda stage, *_: plan.thresholds[stage], scores, video, frame)


def _check_strides(strides: Sequence[int]) -> None:
    if not strides or strides[-1] < 1 or any(a <= b for a, b in pairwise(strides)):
        raise ValueError(f"strides must fall and be at least 1, got {tuple(strides)}")


def _walk(
    strides: Sequence[int], limit: Limit, scores: ArrayLike, video: ArrayLike, frame: ArrayLike
) -> tuple[Floats, Mask]:
    """Settle every row, stage by stage; gives the settled scores (N, K) and which rows were looked at (N,)."""
    given = np.asarray(scores, np.float64)
    if given.ndim != 2 or not given.size or np.isnan(given).any():
        raise DataError(
            f"scores must be (N, K) without NaN, with at least one row, got {given.shape}; fill missing rows first"
        )
    code, _ = group_codes(video, len(given))
    place, length = _places(code, np.asarray(frame))
    first = np.lexsort((place, code))  # row number in the table by video and place
    offset = np.concatenate([[0], np.bincount(code).cumsum()[:-1]])[code]
    settled, looked, still = (
        np.empty_like(given),
        np.zeros(len(given), np.bool_),
        np.ones(len(given), np.bool_),
    )
    for stage, stride in enumerate(strides):
        at = place[still]
        for beside in (at // stride * stride, -(-at // stride) * stride):
            inside = beside < length[still]
            looked[first[(offset[still] + beside)[inside]]] = True
        values = fill_rows(np.where(looked[:, None], given, np.nan), code, frame)
        open_rows = np.flatnonzero(still)
        threshold = (
            -np.inf if stage == len(strides) - 1 else limit(stage, values[open_rows], open_rows)
        )
        sure = still & (values.max(axis=1) > threshold)
        settled[sure], still = values[sure], still & ~sure
    return settled, looked


def _places(code: Codes, frame: NDArray[np.generic]) -> tuple[Codes, Codes]:
    """Place 0, 1, 2, … of each row in its video, by frame, and the number of rows of that video; both (N,)."""
    if frame.shape != code.shape:
        raise DataError(f"{len(code)} rows need a frame number each, got the shape {frame.shape}")
    count = np.bincount(code)
    place = np.empty(len(code), np.int64)
    place[np.lexsort((frame, code))] = np.arange(len(code)) - np.repeat(
        count.cumsum() - count, count
    )
    return place, count[code]
