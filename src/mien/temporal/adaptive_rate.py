"""An adaptive frame rate: look at few frames where few are enough.

After Savchenko (ICML 2023), in our own form. A video is read in stages, with a falling stride. The
first stage looks at every 200th frame, say, and interpolates linearly between them. A frame whose
highest probability is then above the stage's threshold is settled. For each frame that is not, the
next stage looks at the frames of its own finer stride before and after it; and so on. The last
stage settles the rest.

The thresholds come from labelled videos. Among the wrong decisions that come to stage k of K, the
share that passes the threshold (false accepts) is at most alpha * k / K: strict where little was
seen, with the steps of Benjamini and Hochberg (1995).
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
# Arguments: stage, scores (n, K) of the rows that are still open, and their row numbers (n,).
# Gives the confidence above which they are settled.
Limit = Callable[[int, Floats, Codes], float]


@dataclass(frozen=True, slots=True)
class Strides:
    """The strides and thresholds of an adaptive frame rate.

    Attributes:
        strides: In rows of the table, each smaller than the one before, at least 1: 10 looks at
            every 10th row of a video, from its first.
        thresholds: One for every stride but the last: a frame is settled where its highest
            probability is above it.

    Raises:
        ValueError: Strides do not fall, or their number does not match that of the thresholds.

    Examples:
        >>> Strides((10, 1), ())
        Traceback (most recent call last):
        ValueError: every stride but the last needs a threshold, got strides (10, 1), thresholds ()
    """

    strides: tuple[int, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_strides(self.strides)
        if len(self.thresholds) != len(self.strides) - 1 or any(map(isnan, self.thresholds)):
            raise ValueError(
                "every stride but the last needs a threshold, "
                f"got strides {self.strides}, thresholds {self.thresholds}"
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
    """Choose the thresholds of an adaptive frame rate on labelled videos.

    Args:
        scores: Probabilities of all rows, (N, K), without NaN; a decision is the class of the
            highest.
        target: Class numbers, (N,); NaN = not annotated: such rows are walked over but not counted.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, (N,).
        strides: Falling strides, in rows of a video.
        alpha: At most the share alpha * k / K of the wrong decisions of stage k of K is accepted.

    Returns:
        The strides with their thresholds. A threshold is infinite where no annotated row is left to
        judge by, and 0 where none of them is wrong.

    Raises:
        DataError: The arrays do not fit together.
        ValueError: `alpha` is outside 0..1, or the strides do not fall.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share of wrong decisions, 0..1, got {alpha}")
    labels = np.asarray(target, np.float64)
    if labels.shape != np.shape(scores)[:1]:
        raise DataError(
            "target must be (N,) class numbers for scores (N, K), "
            f"got {labels.shape} and {np.shape(scores)}"
        )
    limits: list[float] = []

    def limit(stage: int, values: Floats, rows: Codes) -> float:
        share = alpha * (stage + 1) / len(strides)
        limits.append(_threshold(values, labels[rows], share))
        return limits[-1]

    _check_strides(strides)
    _walk(strides, limit, scores, video, frame)
    return Strides(tuple(strides), tuple(limits))


def _threshold(scores: Floats, labels: Floats, share: float) -> float:
    """The lowest threshold that at most this share of the wrong decisions passes."""
    known = ~np.isnan(labels)
    if not known.any():
        return float("inf")
    decisions = scores.argmax(axis=1)
    wrong = known & (decisions != labels)
    # The most confident first: they are the last to be stopped by a rising threshold.
    confidences = np.sort(scores[wrong].max(axis=1))[::-1]
    accepted = int(share * len(confidences))
    if accepted >= len(confidences):
        return 0.0
    return float(confidences[accepted])


def apply_strides(
    plan: Strides, scores: ArrayLike, video: ArrayLike, frame: ArrayLike
) -> tuple[Floats, Mask]:
    """Scores as they are when only some frames are looked at.

    Args:
        plan: The strides and thresholds.
        scores: Probabilities of all rows, (N, K), without NaN; those of frames that are not looked
            at have no influence.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, (N,).

    Returns:
        The scores (N, K), and which rows were looked at (N,), both in the order of the table. The
        decision of a frame is the class of its highest score; the cost is the mean of the second
        array.

    Raises:
        DataError: The arrays do not fit together, or hold NaN.

    Examples:
        >>> scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
        >>> values, looked = apply_strides(Strides((2, 1), (0.75,)), scores, ["a"] * 5, range(5))
        >>> values.round(2).tolist()
        [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]]
        >>> looked.tolist()
        [True, False, True, True, True]
    """
    return _walk(plan.strides, lambda stage, *_: plan.thresholds[stage], scores, video, frame)


def _check_strides(strides: Sequence[int]) -> None:
    # A stride that does not fall would look at nothing new.
    falling = all(first > second for first, second in pairwise(strides))
    if not strides or strides[-1] < 1 or not falling:
        raise ValueError(f"strides must fall and be at least 1, got {tuple(strides)}")


def _walk(
    strides: Sequence[int], limit: Limit, scores: ArrayLike, video: ArrayLike, frame: ArrayLike
) -> tuple[Floats, Mask]:
    """Settle every row, stage by stage.

    Gives the settled scores (N, K) and which rows were looked at (N,).
    """
    known = _complete_scores(scores)
    code, _ = group_codes(video, len(known))
    rows = _VideoRows(code, np.asarray(frame))
    settled = np.empty_like(known)
    looked = np.zeros(len(known), np.bool_)
    is_open = np.ones(len(known), np.bool_)
    for stage, stride in enumerate(strides):
        looked[rows.around(np.flatnonzero(is_open), stride)] = True
        values = fill_rows(np.where(looked[:, None], known, np.nan), code, frame)
        # The last stage settles whatever is left.
        threshold = -np.inf
        if stage < len(strides) - 1:
            open_rows = np.flatnonzero(is_open)
            threshold = limit(stage, values[open_rows], open_rows)
        sure = is_open & (values.max(axis=1) > threshold)
        settled[sure] = values[sure]
        is_open &= ~sure
    return settled, looked


def _complete_scores(scores: ArrayLike) -> Floats:
    """The scores (N, K) as float64; DataError for NaN or another shape."""
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or not values.size or np.isnan(values).any():
        raise DataError(
            "scores must be (N, K) without NaN, with at least one row, "
            f"got {values.shape}; fill missing rows first"
        )
    return values


class _VideoRows:
    """The rows of a table by video and, within a video, by frame.

    Args:
        code: Number of each row's video, (N,).
        frame: Frame number of each row, (N,).
    """

    def __init__(self, code: Codes, frame: NDArray[np.generic]) -> None:
        if frame.shape != code.shape:
            raise DataError(
                f"{len(code)} rows need a frame number each, got the shape {frame.shape}"
            )
        count = np.bincount(code)
        first = count.cumsum() - count
        # Row numbers of the table, sorted by video and frame.
        self._sorted = np.lexsort((frame, code))
        # Where each row's video begins in that order, how many rows it has, and the row's own
        # position 0, 1, 2, … in it; all (N,).
        self._first = first[code]
        self._length = count[code]
        self._position = np.empty(len(code), np.int64)
        self._position[self._sorted] = np.arange(len(code)) - np.repeat(first, count)

    def around(self, rows: Codes, stride: int) -> Codes:
        """The rows of a stride at or next to these rows, before and after; their row numbers."""
        position = self._position[rows]
        first = self._first[rows]
        before = position // stride * stride
        after = -(-position // stride) * stride
        # The video may end before the next row of the stride.
        exists = after < self._length[rows]
        numbers = np.concatenate([first + before, (first + after)[exists]])
        return np.asarray(self._sorted[numbers])
