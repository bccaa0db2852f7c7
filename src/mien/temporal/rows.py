"""Scores through time, over the rows of a label table: filling what was not measured, smoothing, and running means.

Rows come in any order; a row's neighbours are the rows of its video, by frame. Rows of one frame keep the order of the table.
Numpy in, numpy out, whole columns at once: a million rows take about a second.
"""

from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError
from mien.tasks import Floats

__all__ = ["Codes", "Unit", "ema_rows", "fill_rows", "group_codes", "smooth_rows"]

Codes = NDArray[np.int64]
Unit = Literal["rows", "frames"]

_LAST_FRAME: Final = 2**31 - 1


def fill_rows(scores: ArrayLike, video: ArrayLike, frame: ArrayLike) -> Floats:
    """Scores (N, K) with every row that was not measured on the straight line between its neighbours.

    scores: (N, K); a row of NaN was not measured. video: (N,) names or numbers. frame: (N,) whole numbers.
    Between the measured frames p < t < n of a video, frame t gets (t-p)/(n-p) of n and the rest of p; before the first and after
    the last measured frame that one is held. Measured rows come back as they are, float64.
    Raises DataError for a video without a measured row, a row measured in part, and arrays that do not fit together.

    >>> fill_rows([[0.0], [np.nan], [np.nan], [np.nan], [1.0], [np.nan]], ["a"] * 6, range(6)).ravel().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    values = _scores(scores)
    blank = np.asarray(np.isnan(values).all(axis=1))
    _check_finite(values[~blank], "leave the whole row NaN where nothing was measured")
    code, names = group_codes(video, len(values))
    when = _frames(frame, len(values))
    order = np.lexsort((blank, when, code))
    start, end = _stretches(code[order])
    measured, place = ~blank[order], np.arange(len(values))
    before = np.maximum.accumulate(np.where(measured, place, -1))
    after = np.minimum.accumulate(np.where(measured, place, len(place))[::-1])[::-1]
    first, last = before < start, after >= end
    if (first & last).any():
        lost = np.unique(code[order][first & last])
        raise DataError(
            f"no row of video {names[lost[0]]} was measured ({len(lost)} of {len(names)} videos); leave such videos out"
        )
    at = np.flatnonzero(~measured)
    before, after = np.where(first, after, before)[at], np.where(last, before, after)[at]
    times, rows = when[order], values[order]
    span = times[after] - times[before]
    share = np.where(span > 0, (times[at] - times[before]) / np.maximum(span, 1), 0.0)[:, None]
    values[order[at]] = rows[before] + share * (rows[after] - rows[before])
    return values


def smooth_rows(
    scores: ArrayLike,
    video: ArrayLike,
    frame: ArrayLike,
    *,
    window: int,
    sigma: float | None = None,
    unit: Unit = "rows",
) -> Floats:
    """Every row of scores (N, K) averaged with its neighbours in its video, before and after alike; the rest as in `fill_rows`.

    window: >= 0, how far the neighbours reach to each side, in rows of the table or, with unit ``frames``, in frame numbers.
    sigma: > 0, in frames squared: weights exp(-(distance in frames)² / sigma), divided by their sum, so the standard deviation is
        sqrt(sigma / 2) frames (HSEmotion at ABAW7 writes sigma so). None: equal weights, a box.
    The papers' own code leaves out the farthest row of the past; here the window is symmetric. A constant stays exactly, and no
    column leaves the range it had. Scores keep their unit: smooth probabilities, not raw output.
    Raises DataError for NaN (use `fill_rows` first) and arrays that do not fit together, ValueError for other settings.

    >>> smooth_rows([[0.0], [3.0], [0.0], [9.0]], ["a", "a", "a", "b"], [1, 2, 4, 3], window=1).ravel().tolist()
    [1.5, 1.0, 1.5, 9.0]
    """
    if window < 0 or (sigma is not None and not sigma > 0) or unit not in get_args(Unit):
        raise ValueError(
            f"smoothing takes window >= 0, sigma > 0 or None and unit rows or frames, got {window}, {sigma} and {unit!r}"
        )
    values = _scores(scores)
    _check_finite(values, "fill missing rows first")
    code, _ = group_codes(video, len(values))
    when = _frames(frame, len(values))
    order = np.lexsort((when, code))
    low, high = _windows(code[order], when[order], window, unit)
    rows = values[order]
    mean = _box(rows, low, high) if sigma is None else _bell(rows, when[order], high, sigma)
    # Rounding could otherwise lift a probability above 1.
    values[order] = np.clip(mean, values.min(axis=0), values.max(axis=0))
    return values


def ema_rows(values: ArrayLike, video: ArrayLike, frame: ArrayLike, alpha: float) -> Floats:
    """Every row of values (N, K) averaged with the rows before it in its video, the older the less; the rest as in `fill_rows`.

    x[t] = (alpha * x[t-1] + values[t]) / (1 + alpha), over the rows of a video by frame; its first row stays as it is. So a row's
    own share is 1 / (1 + alpha), and each step back multiplies by alpha / (1 + alpha); a gap in the frame numbers is one step.
    alpha: >= 0; 0 changes nothing. SMM-EmotionNet's authors chose among 7, 8, 9 and 10: 7 for action units, 9 for expressions,
        valence and arousal.
    Any numbers will do: they smoothed embeddings. Where an affine layer reads them, smoothing its raw output instead is the same.
    A constant stays exactly, and no column leaves the range it had.
    Raises DataError for NaN (use `fill_rows` first) and arrays that do not fit together, ValueError for another alpha.

    >>> ema_rows([[0.0], [8.0], [4.0], [5.0]], ["a", "a", "a", "b"], [1, 2, 4, 3], alpha=3).ravel().tolist()
    [0.0, 2.0, 2.5, 5.0]
    """
    if not 0 <= alpha < np.inf:
        raise ValueError(f"a running mean takes alpha >= 0, got {alpha}")
    rows = _scores(values)
    _check_finite(rows, "fill missing rows first")
    code, _ = group_codes(video, len(rows))
    order = np.lexsort((_frames(frame, len(rows)), code))
    start, _ = _stretches(code[order])
    first = rows[order][start]
    # Differences from the video's first row: a constant gives exactly 0.
    mean = (rows[order] - first) / (1 + alpha)
    keep, step, age = alpha / (1 + alpha), 1, np.arange(len(rows)) - start
    # Sums over the last 1, 2, 4, … rows, each put together from two of the ones before, until what is older has no weight.
    while step <= age.max() and keep**step > np.finfo(np.float64).eps:
        older = np.flatnonzero(age >= step)
        mean[older] += keep**step * mean[older - step]
        step *= 2
    low, high = rows.min(axis=0), rows.max(axis=0)
    rows[order] = np.clip(first + mean, low, high)
    return rows


def group_codes(groups: ArrayLike, rows: int) -> tuple[Codes, NDArray[Any]]:
    """Numbers (N,) 0..G-1 of the groups (videos, recordings, subjects) of N rows, as they come, and the groups' names (G,).

    Raises DataError when there is not one group for every row.

    >>> group_codes(["b", "a", "b"], 3)[0].tolist()
    [0, 1, 0]
    """
    found = np.asarray(groups)
    if found.shape != (rows,):
        raise DataError(f"{rows} rows need a video each, got the shape {found.shape}")
    code, names = pd.factorize(found)
    nameless = code < 0
    if nameless.any():
        raise DataError(
            f"row {nameless.argmax()} has no video ({nameless.sum()} of {rows} rows); name the video of every row"
        )
    return code.astype(np.int64), np.asarray(names)


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.array(scores, np.float64)
    if values.ndim != 2 or not values.size:
        raise DataError(f"scores must be (N, K) with at least one row, got {values.shape}")
    return values


def _check_finite(values: Floats, advice: str) -> None:
    if wrong := int((~np.isfinite(values)).any(axis=1).sum()):
        raise DataError(f"scores are not finite in {wrong} of {len(values)} rows; {advice}")


def _frames(frame: ArrayLike, rows: int) -> Codes:
    try:
        found = np.asarray(frame, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"frame numbers must be whole numbers ({error})") from error
    if found.shape != (rows,):
        raise DataError(f"{rows} rows need a frame number each, got the shape {found.shape}")
    wrong = ~((found >= 0) & (found <= _LAST_FRAME) & (found == np.rint(found)))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"row {row} has the frame number {found[row]} ({wrong.sum()} of {rows} rows); give whole numbers from 0 up"
        )
    return found.astype(np.int64)


def _stretches(code: Codes) -> tuple[Codes, Codes]:
    """First row, and the one after the last, of each row's video; code: (N,), rising."""
    count = np.bincount(code)
    end = count.cumsum()
    return (end - count)[code], end[code]


def _windows(code: Codes, when: Codes, window: int, unit: Unit) -> tuple[Codes, Codes]:
    """Rows [low, high) that each row is averaged over; code and when: (N,), rising."""
    start, end = _stretches(code)
    if unit == "rows":
        place, reach = np.arange(len(code)), min(window, len(code))
        return np.maximum(place - reach, start), np.minimum(place + reach + 1, end)
    reach = min(window, int(np.ptp(when)))
    # One number for video and frame, with gaps between videos that no window can cross.
    key = code * (when.max() + reach + 1) + when
    return key.searchsorted(key - reach), key.searchsorted(key + reach, side="right")


def _box(rows: Floats, low: Codes, high: Codes) -> Floats:
    """Mean of rows[low:high], one for each row (N, K): windows are put together from sums over 1, 2, 4, … rows.

    Unlike differences of running totals these lose no digits, and the time grows with the logarithm of the window only.
    """
    length = high - low
    own = rows[low]
    sums, total, at = rows, np.zeros_like(rows), low.copy()
    for bit in range(int(length.max()).bit_length()):
        step = 1 << bit
        has = np.flatnonzero(length & step)
        # Differences from one of its own rows: a constant gives exactly 0.
        total[has] += sums[at[has]] - step * own[has]
        at[has] += step
        sums = sums[:-step] + sums[step:]
    return own + total / length[:, None]


def _bell(rows: Floats, when: Codes, high: Codes, sigma: float) -> Floats:
    """Gaussian mean (N, K), distance by distance: two rows are neighbours where the later one lies before the earlier one's `high`."""
    own, place = np.ascontiguousarray(rows.T), np.arange(len(rows))
    total, weight = np.zeros_like(own), np.ones(len(rows))
    for step in range(1, int((high - place).max())):
        near = place[step:] < high[:-step]
        share = np.exp(-((when[step:] - when[:-step]).astype(np.float64) ** 2) / sigma) * near
        if not share.any():
            break  # frames rise, so whatever is farther away has no weight either
        push = (own[:, step:] - own[:, :-step]) * share
        total[:, :-step] += push
        total[:, step:] -= push
        weight[:-step] += share
        weight[step:] += share
    return (own + total / weight).T
