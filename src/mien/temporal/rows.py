"""Scores over time, on the rows of a label table: filling missing rows, smoothing, running means.

Rows come in any order; a row's neighbours are the rows of its video, by frame. Rows of one frame
keep the order of the table. NumPy in, NumPy out, whole columns at once: a million rows take about a
second.
"""

from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError
from mien.tasks import Floats

__all__ = ["Codes", "Unit", "ema_rows", "fill_rows", "group_codes", "smooth_rows"]

Codes = NDArray[np.int64]
Unit = Literal["rows", "frames"]

_LAST_FRAME: Final = 2**31 - 1


def fill_rows(scores: ArrayLike, video: ArrayLike, frame: ArrayLike) -> Floats:
    """Interpolate the rows that were not measured.

    Between the measured frames p < t < n of a video, frame t gets the share (t-p)/(n-p) of n and
    the rest of p; before the first and after the last measured frame that one is held.

    Args:
        scores: Scores (N, K); a row of NaN was not measured.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,).

    Returns:
        Scores (N, K), float64, in the order of the table; measured rows are unchanged.

    Raises:
        DataError: A video has no measured row, a row was measured in part, or the arrays do not fit
            together.

    Examples:
        >>> scores = [[0.0], [np.nan], [np.nan], [np.nan], [1.0], [np.nan]]
        >>> fill_rows(scores, ["a"] * 6, range(6)).ravel().tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    values = _scores(scores)
    missing = np.asarray(np.isnan(values).all(axis=1))
    _check_finite(values[~missing], "leave the whole row NaN where nothing was measured")
    code, names = group_codes(video, len(values))
    frames = _frames(frame, len(values))
    # Of several rows of one frame the measured ones come first.
    order = np.lexsort((missing, frames, code))
    before, after = _measured_around(~missing[order], code[order], names)
    gaps = np.flatnonzero(missing[order])
    before = before[gaps]
    after = after[gaps]
    sorted_frames = frames[order]
    sorted_values = values[order]
    span = sorted_frames[after] - sorted_frames[before]
    share = (sorted_frames[gaps] - sorted_frames[before]) / np.maximum(span, 1)
    # Where there is one neighbour only, both are the same row, and it is held.
    share = np.where(span > 0, share, 0.0)[:, None]
    difference = sorted_values[after] - sorted_values[before]
    values[order[gaps]] = sorted_values[before] + share * difference
    return values


def _measured_around(
    measured: NDArray[np.bool_], code: Codes, names: NDArray[Any]
) -> tuple[Codes, Codes]:
    """The measured rows before and after each row, in its video; both (N,).

    At the ends of a video, where one of them does not exist, it is the other.
    """
    start, end = _video_ranges(code)
    position = np.arange(len(code))
    before = np.maximum.accumulate(np.where(measured, position, -1))
    after = np.minimum.accumulate(np.where(measured, position, len(code))[::-1])[::-1]
    none_before = before < start
    none_after = after >= end
    unmeasured = none_before & none_after
    if unmeasured.any():
        videos = np.unique(code[unmeasured])
        raise DataError(
            f"no row of video {names[videos[0]]} was measured "
            f"({len(videos)} of {len(names)} videos); leave such videos out"
        )
    return np.where(none_before, after, before), np.where(none_after, before, after)


def smooth_rows(
    scores: ArrayLike,
    video: ArrayLike,
    frame: ArrayLike,
    *,
    window: int,
    sigma: float | None = None,
    unit: Unit = "rows",
) -> Floats:
    """Average every row with its neighbours in its video, before and after alike.

    The code of the papers leaves out the farthest row of the past; here the window is symmetric. A
    constant stays exactly as it is, and no column leaves the range it had. Scores keep their unit:
    smooth probabilities, not raw outputs.

    Args:
        scores: Scores (N, K), without NaN.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,).
        window: How far the neighbours reach to each side, >= 0, in `unit`.
        sigma: In frames squared, > 0: weights exp(-(distance in frames)² / sigma), divided by their
            sum, so the standard deviation is sqrt(sigma / 2) frames (as HSEmotion at ABAW7 defines
            sigma). None: equal weights, a box.
        unit: ``rows`` of the table, or ``frames`` for differences of frame numbers.

    Returns:
        Scores (N, K), float64, in the order of the table.

    Raises:
        DataError: There are NaN (use `fill_rows` first), or the arrays do not fit together.
        ValueError: `window`, `sigma` or `unit` makes no sense.

    Examples:
        >>> scores = [[0.0], [3.0], [0.0], [9.0]]
        >>> smooth_rows(scores, ["a", "a", "a", "b"], [1, 2, 4, 3], window=1).ravel().tolist()
        [1.5, 1.0, 1.5, 9.0]
    """
    if window < 0 or (sigma is not None and not sigma > 0) or unit not in get_args(Unit):
        raise ValueError(
            "smoothing takes window >= 0, sigma > 0 or None and unit rows or frames, "
            f"got {window}, {sigma} and {unit!r}"
        )
    values = _scores(scores)
    _check_finite(values, "fill missing rows first")
    code, _ = group_codes(video, len(values))
    frames = _frames(frame, len(values))
    order = np.lexsort((frames, code))
    low, high = _windows(code[order], frames[order], window, unit)
    rows = values[order]
    if sigma is None:
        mean = _box_mean(rows, low, high)
    else:
        mean = _gaussian_mean(rows, frames[order], high, sigma)
    # Rounding could otherwise lift a probability above 1.
    values[order] = np.clip(mean, values.min(axis=0), values.max(axis=0))
    return values


def ema_rows(values: ArrayLike, video: ArrayLike, frame: ArrayLike, alpha: float) -> Floats:
    """Exponential moving average: every row with the rows before it in its video.

    x[t] = (alpha * x[t-1] + values[t]) / (1 + alpha), over the rows of a video by frame; its first
    row stays as it is. So a row's own share is 1 / (1 + alpha), and each step back multiplies by
    alpha / (1 + alpha); a gap in the frame numbers is one step. A constant stays exactly as it is,
    and no column leaves the range it had.

    Args:
        values: Any numbers (N, K), without NaN. The authors of SMM-EmotionNet smooth embeddings;
            where an affine layer reads them, smoothing its raw outputs is the same.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,).
        alpha: Weight of the past, >= 0; 0 changes nothing. SMM-EmotionNet's authors chose among 7,
            8, 9 and 10: 7 for action units, 9 for expressions, valence and arousal.

    Returns:
        The averages (N, K), float64, in the order of the table.

    Raises:
        DataError: There are NaN (use `fill_rows` first), or the arrays do not fit together.
        ValueError: `alpha` is negative or not finite.

    Examples:
        >>> values = [[0.0], [8.0], [4.0], [5.0]]
        >>> ema_rows(values, ["a", "a", "a", "b"], [1, 2, 4, 3], alpha=3).ravel().tolist()
        [0.0, 2.0, 2.5, 5.0]
    """
    if not 0 <= alpha < np.inf:
        raise ValueError(f"a running mean takes alpha >= 0, got {alpha}")
    rows = _scores(values)
    _check_finite(rows, "fill missing rows first")
    code, _ = group_codes(video, len(rows))
    order = np.lexsort((_frames(frame, len(rows)), code))
    start, _ = _video_ranges(code[order])
    first = rows[order][start]
    # Differences from the video's first row: a constant gives exactly 0.
    mean = (rows[order] - first) / (1 + alpha)
    _add_past(mean, np.arange(len(rows)) - start, alpha / (1 + alpha))
    low = rows.min(axis=0)
    high = rows.max(axis=0)
    rows[order] = np.clip(first + mean, low, high)
    return rows


def _add_past(mean: Floats, age: Codes, keep: float) -> None:
    """Add to each row, in place, the rows before it in its video, multiplied by `keep` per step.

    Args:
        mean: The rows, (N, K), by video and frame.
        age: How many rows of its video come before each row, (N,).
        keep: What a row weighs in the next one, 0..1.
    """
    # Sums over the last 1, 2, 4, … rows, each put together from two of the ones before, until what
    # is older has no weight.
    oldest = age.max()
    least = np.finfo(np.float64).eps
    step = 1
    while step <= oldest and keep**step > least:
        weight = keep**step
        older = np.flatnonzero(age >= step)
        mean[older] += weight * mean[older - step]
        step *= 2


def group_codes(groups: ArrayLike, rows: int) -> tuple[Codes, NDArray[Any]]:
    """Number the groups of a table's rows in the order in which they come.

    Args:
        groups: The group of each row (video, recording, subject), (N,).
        rows: N.

    Returns:
        The numbers (N,), 0..G-1, and the names of the groups (G,).

    Raises:
        DataError: There is not one group for every row.

    Examples:
        >>> group_codes(["b", "a", "b"], 3)[0].tolist()
        [0, 1, 0]
    """
    names = np.asarray(groups)
    if names.shape != (rows,):
        raise DataError(f"{rows} rows need a video each, got the shape {names.shape}")
    # Not at the top: a film is read without pandas, which takes a fifth of a second to import.
    import pandas as pd

    code, unique = pd.factorize(names)
    # pandas gives missing names the number -1.
    nameless = code < 0
    if nameless.any():
        raise DataError(
            f"row {nameless.argmax()} has no video ({nameless.sum()} of {rows} rows); "
            "name the video of every row"
        )
    return code.astype(np.int64), np.asarray(unique)


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    """A copy of the scores, (N, K)."""
    # Always a copy, as results are written into it.
    values = np.array(scores, np.float64)
    if values.ndim != 2 or not values.size:
        raise DataError(f"scores must be (N, K) with at least one row, got {values.shape}")
    return values


def _check_finite(values: Floats, advice: str) -> None:
    is_finite = np.isfinite(values).all(axis=1)
    wrong = int((~is_finite).sum())
    if wrong:
        raise DataError(f"scores are not finite in {wrong} of {len(values)} rows; {advice}")


def _frames(frame: ArrayLike, rows: int) -> Codes:
    """The frame numbers as whole numbers, (N,)."""
    try:
        numbers = np.asarray(frame, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"frame numbers must be whole numbers ({error})") from error
    if numbers.shape != (rows,):
        raise DataError(f"{rows} rows need a frame number each, got the shape {numbers.shape}")
    in_range = (numbers >= 0) & (numbers <= _LAST_FRAME)
    wrong = ~(in_range & (numbers == np.rint(numbers)))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"row {row} has the frame number {numbers[row]} ({wrong.sum()} of {rows} rows); "
            "give whole numbers from 0 up"
        )
    return numbers.astype(np.int64)


def _video_ranges(code: Codes) -> tuple[Codes, Codes]:
    """First row, and the one after the last, of each row's video; code: (N,), rising."""
    count = np.bincount(code)
    end = count.cumsum()
    return (end - count)[code], end[code]


def _windows(code: Codes, frames: Codes, window: int, unit: Unit) -> tuple[Codes, Codes]:
    """Rows [low, high) that each row is averaged over; code and frames: (N,), rising."""
    if unit == "rows":
        start, end = _video_ranges(code)
        position = np.arange(len(code))
        reach = min(window, len(code))
        return np.maximum(position - reach, start), np.minimum(position + reach + 1, end)
    reach = min(window, int(np.ptp(frames)))
    # One number for video and frame, with gaps between videos that no window can cross.
    key = code * (frames.max() + reach + 1) + frames
    return key.searchsorted(key - reach), key.searchsorted(key + reach, side="right")


def _box_mean(rows: Floats, low: Codes, high: Codes) -> Floats:
    """Mean of rows[low:high], one for each row, (N, K).

    Windows are put together from sums over 1, 2, 4, … rows. Unlike differences of running totals
    these lose no digits, and the time grows with the logarithm of the window only.
    """
    length = high - low
    # Differences from a row of the window: a constant gives exactly 0.
    reference = rows[low]
    sums = rows
    total = np.zeros_like(rows)
    next_row = low.copy()
    for bit in range(int(length.max()).bit_length()):
        step = 1 << bit
        # The windows whose length, as a binary number, has this bit.
        windows = np.flatnonzero(length & step)
        total[windows] += sums[next_row[windows]] - step * reference[windows]
        next_row[windows] += step
        sums = sums[:-step] + sums[step:]
    return reference + total / length[:, None]


def _gaussian_mean(rows: Floats, frames: Codes, high: Codes, sigma: float) -> Floats:
    """Gaussian mean (N, K), one distance in rows after another.

    Two rows are neighbours where the later one lies before the earlier one's `high`.
    """
    # Columns side by side in memory, as all operations go along the rows.
    columns = np.ascontiguousarray(rows.T)
    position = np.arange(len(rows))
    total = np.zeros_like(columns)
    weight = np.ones(len(rows))
    for step in range(1, int((high - position).max())):
        is_near = position[step:] < high[:-step]
        distance = (frames[step:] - frames[:-step]).astype(np.float64)
        share = np.exp(-(distance**2) / sigma) * is_near
        # Frames rise, so whatever is farther away has no weight either.
        if not share.any():
            break
        # A pair pulls its two rows towards each other: a constant gives exactly 0.
        pull = (columns[:, step:] - columns[:, :-step]) * share
        total[:, :-step] += pull
        total[:, step:] -= pull
        weight[:-step] += share
        weight[step:] += share
    return (columns + total / weight).T
