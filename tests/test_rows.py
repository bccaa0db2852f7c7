"""Filling and smoothing rows of a label table: against numpy's own interpolation, a plain double loop and a plain recursion."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter, lfilter_zi

from mien.errors import DataError
from mien.temporal.rows import Unit, ema_rows, fill_rows, group_codes, smooth_rows

Array = NDArray[np.float64]
NAN = float("nan")
SEEDS = range(4)


def table(
    seed: int, rows: int = 120, columns: int = 3
) -> tuple[Array, NDArray[Any], NDArray[np.int64]]:
    """Scores, videos and frames in wild order: gaps between the frames, one frame twice, a video of one row."""
    rng = np.random.default_rng(seed)
    video = np.array(["b", "a", "c"], object)[rng.integers(3, size=rows)]
    video[0] = "alone"
    frame = rng.permutation(10 * rows)[:rows]
    frame[7], video[7] = frame[8], video[8]
    return rng.random((rows, columns)), video, frame


def by_double_loop(
    scores: Array,
    video: NDArray[Any],
    frame: NDArray[np.int64],
    *,
    window: int,
    sigma: float | None,
    unit: str,
) -> Array:
    out = np.empty_like(scores)
    for name in set(video.tolist()):
        line = sorted(np.flatnonzero(video == name).tolist(), key=lambda i: frame[i])
        for at, i in enumerate(line):
            total, weight = np.zeros(scores.shape[1]), 0.0
            for other, j in enumerate(line):
                apart = float(frame[j] - frame[i])
                if abs(other - at if unit == "rows" else apart) <= window:
                    share = 1.0 if sigma is None else np.exp(-(apart**2) / sigma)
                    total, weight = total + share * scores[j], weight + share
            out[i] = total / weight
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_filling_is_numpys_interpolation_per_video(seed: int) -> None:
    whole, video, frame = table(seed)
    frame[7] += 5000  # np.interp knows no frame twice
    blank = np.random.default_rng(seed).random(len(whole)) < 0.5
    for name in "a", "b", "c", "alone":
        blank[np.flatnonzero(video == name)[0]] = False
    scores = np.where(blank[:, None], NAN, whole)
    filled = fill_rows(scores, video, frame)
    for name in set(video.tolist()):
        here = video == name
        known = np.flatnonzero(here & ~blank)
        known = known[np.argsort(frame[known])]
        for k in range(scores.shape[1]):
            np.testing.assert_allclose(
                filled[here, k],
                np.interp(frame[here], frame[known], whole[known, k]),
                rtol=0,
                atol=1e-12,
            )
    np.testing.assert_array_equal(filled[~blank], whole[~blank])
    assert np.isnan(scores).any()


def test_a_gap_of_four_frames_leans_towards_the_next() -> None:
    """The papers' earlier code had these weights the wrong way round: .75, .5, .25."""
    filled = fill_rows([[0.0], [NAN], [NAN], [NAN], [1.0]], ["v"] * 5, [10, 11, 12, 13, 14])
    assert filled.ravel().tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_both_ends_are_held_and_videos_do_not_mix() -> None:
    filled = fill_rows(
        [[NAN], [1.0], [NAN], [NAN], [5.0], [NAN]], [1, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2]
    )
    assert filled.ravel().tolist() == [1, 1, 1, 5, 5, 5]


def test_a_blank_row_takes_the_measured_one_of_its_frame() -> None:
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        scores, frame = np.array([[0.0], [NAN], [0.3], [1.0]])[order], np.array([0, 4, 4, 8])[order]
        assert sorted(fill_rows(scores, ["v"] * 4, frame).ravel().tolist()) == [0.0, 0.3, 0.3, 1.0]


def test_filling_keeps_constants_and_the_callers_array() -> None:
    scores = np.array([[0.1, 0.7], [NAN, NAN], [NAN, NAN], [0.1, 0.7]])
    before = scores.copy()
    assert (fill_rows(scores, ["v"] * 4, [1, 2, 3, 8]) == [0.1, 0.7]).all()
    np.testing.assert_array_equal(scores, before)


def test_a_video_never_measured_is_named() -> None:
    with pytest.raises(
        DataError,
        match=r"no row of video left was measured \(2 of 3 videos\); leave such videos out",
    ):
        fill_rows([[NAN], [1.0], [NAN]], np.array(["left", "seen", "right"]), [1, 1, 1])


@pytest.mark.parametrize("unit", ["rows", "frames"])
@pytest.mark.parametrize("sigma", [None, 0.1, 50.0, 1e5])
@pytest.mark.parametrize(("window", "seed"), [(0, 0), (1, 0), (3, 1), (17, 2), (80, 3), (5000, 3)])
def test_smoothing_is_the_double_loop(
    unit: Unit, sigma: float | None, window: int, seed: int
) -> None:
    scores, video, frame = table(seed)
    found = smooth_rows(scores, video, frame, window=window, sigma=sigma, unit=unit)
    np.testing.assert_allclose(
        found,
        by_double_loop(scores, video, frame, window=window, sigma=sigma, unit=unit),
        rtol=0,
        atol=1e-12,
    )


def test_the_window_is_symmetric() -> None:
    """One row of 1 reaches as many rows back as ahead; the papers' code reaches one less back."""
    one = np.zeros((11, 1))
    one[5] = 1.0
    for sigma in (None, 1e9):
        reached = np.flatnonzero(
            smooth_rows(one, ["v"] * 11, range(11), window=2, sigma=sigma).ravel()
        )
        assert reached.tolist() == [3, 4, 5, 6, 7]


def test_sigma_is_twice_the_variance() -> None:
    line = np.zeros((2001, 1))
    line[1000] = 1.0
    bell = smooth_rows(line, ["v"] * 2001, range(2001), window=1000, sigma=1e4).ravel()
    assert np.sqrt((bell * (np.arange(2001) - 1000) ** 2).sum()) == pytest.approx(
        np.sqrt(1e4 / 2), rel=1e-6
    )
    assert bell.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("unit", ["rows", "frames"])
@pytest.mark.parametrize("sigma", [None, 30.0])
def test_constants_stay_exactly_and_nothing_leaves_its_range(
    unit: Unit, sigma: float | None
) -> None:
    _, video, frame = table(0)
    level = np.where(video == "a", 0.1, 1 / 3)[:, None] * np.array([[1.0, 1e-9]])
    np.testing.assert_array_equal(
        smooth_rows(level, video, frame, window=33, sigma=sigma, unit=unit), level
    )
    rng = np.random.default_rng(1)
    sure = rng.dirichlet(np.full(8, 0.01), size=len(video))
    smoothed = smooth_rows(sure, video, frame, window=5, sigma=sigma, unit=unit)
    assert smoothed.min() >= 0
    assert smoothed.max() <= 1
    np.testing.assert_allclose(smoothed.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def test_the_order_of_the_rows_does_not_matter() -> None:
    scores, video, frame = table(5)
    video[7] = "alone"  # the one frame that was there twice
    mixed = np.random.default_rng(0).permutation(len(scores))
    for sigma in (None, 900.0):
        straight = smooth_rows(scores, video, frame, window=4, sigma=sigma)
        np.testing.assert_allclose(
            smooth_rows(scores[mixed], video[mixed], frame[mixed], window=4, sigma=sigma),
            straight[mixed],
            atol=1e-12,
        )


def test_far_frame_numbers_do_not_join_videos() -> None:
    scores = np.array([[0.0], [1.0], [0.0], [1.0]])
    found = smooth_rows(
        scores, ["a", "a", "b", "b"], [0, 2**31 - 1, 0, 2**31 - 1], window=2**40, unit="frames"
    )
    assert (found == 0.5).all()


@pytest.mark.parametrize(
    ("scores", "video", "frame", "says"),
    [
        ([[1.0], [NAN]], ["a", "a"], [1, 2], "not finite in 1 of 2 rows; fill missing rows first"),
        ([[1.0], [np.inf]], ["a", "a"], [1, 2], "not finite in 1 of 2 rows"),
        ([1.0, 2.0], ["a", "a"], [1, 2], r"must be \(N, K\) with at least one row, got \(2,\)"),
        (np.empty((0, 3)), [], [], "at least one row"),
        ([[1.0], [2.0]], ["a"], [1, 2], r"2 rows need a video each, got the shape \(1,\)"),
        ([[1.0], [2.0]], ["a", None], [1, 2], r"row 1 has no video \(1 of 2 rows\)"),
        ([[1.0], [2.0]], ["a", "a"], [1], "2 rows need a frame number each"),
        ([[1.0], [2.0]], ["a", "a"], [1, NAN], r"row 1 has the frame number nan \(1 of 2 rows\)"),
        ([[1.0], [2.0]], ["a", "a"], [0.5, 1], "row 0 has the frame number 0.5"),
        ([[1.0], [2.0]], ["a", "a"], [-1, 1], "row 0 has the frame number -1.0"),
        ([[1.0], [2.0]], ["a", "a"], ["one", "two"], "frame numbers must be whole numbers"),
    ],
)
def test_bad_rows_are_refused(scores: Any, video: Any, frame: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        smooth_rows(scores, video, frame, window=1)


def test_rows_measured_in_part_are_refused() -> None:
    with pytest.raises(DataError, match="not finite in 1 of 1 rows; leave the whole row NaN"):
        fill_rows([[1.0, NAN], [NAN, NAN]], ["a", "a"], [1, 2])


@pytest.mark.parametrize(
    "settings",
    [
        {"window": -1},
        {"window": 1, "sigma": 0.0},
        {"window": 1, "sigma": NAN},
        {"window": 1, "unit": "seconds"},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match="smoothing takes window >= 0, sigma > 0 or None and unit rows or frames"
    ):
        smooth_rows([[1.0]], ["a"], [1], **settings)


def test_groups_may_be_of_any_type() -> None:
    for names in (
        ["x", "y", "x"],
        [5, 3, 5],
        np.array([b"x", b"y", b"x"]),
        np.array(["x", 3, "x"], object),
    ):
        code, found = group_codes(names, 3)
        assert code.tolist() == [0, 1, 0]
        assert found.tolist() == np.asarray(names)[:2].tolist()


def test_long_tables_are_quick() -> None:
    rng = np.random.default_rng(0)
    rows = 27_000
    scores, video, frame = (
        rng.random((rows, 22)),
        np.repeat(np.arange(90), 300),
        np.tile(6 * np.arange(300), 90),
    )
    began = time.process_time()
    smooth_rows(scores, video, frame, window=100, sigma=1e5)
    assert time.process_time() - began < 1.5


def by_recursion(
    values: Array, video: NDArray[Any], frame: NDArray[np.int64], alpha: float
) -> Array:
    out = values.copy()
    for name in set(video.tolist()):
        line = sorted(np.flatnonzero(video == name).tolist(), key=lambda i: frame[i])
        for before, i in pairwise(line):
            out[i] = (alpha * out[before] + values[i]) / (1 + alpha)
    return out


@pytest.mark.parametrize("alpha", [0, 0.3, 9, 1e4])
@pytest.mark.parametrize("seed", SEEDS)
def test_running_means_are_the_recursion(seed: int, alpha: float) -> None:
    values, video, frame = table(seed, rows=900)
    values = 50 * values - 30  # embeddings have no range
    before = values.copy()
    np.testing.assert_allclose(
        ema_rows(values, video, frame, alpha),
        by_recursion(values, video, frame, alpha),
        rtol=0,
        atol=1e-11,
    )
    np.testing.assert_array_equal(values, before)


def test_running_means_are_the_filter_of_signal_processing() -> None:
    """A third way, for one video: scipy's, started as if the first value had always been there."""
    values, alpha = np.random.default_rng(0).random((300, 2)), 7
    own, keep = [1 / (1 + alpha)], [1, -alpha / (1 + alpha)]
    expected = lfilter(own, keep, values, axis=0, zi=lfilter_zi(own, keep)[:, None] * values[:1])[0]
    np.testing.assert_allclose(
        ema_rows(values, ["v"] * 300, np.arange(300), alpha), expected, rtol=0, atol=1e-12
    )


def test_running_means_keep_constants_and_never_look_ahead() -> None:
    constant = np.full((50, 1), 0.1)
    np.testing.assert_array_equal(ema_rows(constant, ["v"] * 50, np.arange(50), 9), constant)
    values, video, frame = table(0)
    whole, past = ema_rows(values, video, frame, 9), frame < 600
    np.testing.assert_allclose(
        ema_rows(values[past], video[past], frame[past], 9), whole[past], rtol=0, atol=1e-12
    )


def test_running_means_refuse_what_they_cannot_smooth() -> None:
    for alpha in (-1.0, NAN, np.inf):
        with pytest.raises(ValueError, match="takes alpha >= 0"):
            ema_rows([[1.0]], ["a"], [1], alpha)
    with pytest.raises(DataError, match="fill missing rows first"):
        ema_rows([[1.0], [NAN]], ["a", "a"], [1, 2], 9)
    with pytest.raises(DataError, match="need a video each"):
        ema_rows([[1.0]], ["a", "b"], [1], 9)
