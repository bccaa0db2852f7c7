"""The adaptive frame rate: against a slow walk video by video, and against what it promises."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import DataError
from mien.temporal.adaptive_rate import Strides, apply_strides, fit_strides

Array = NDArray[np.float64]
NAN = float("nan")
STEPS = (20, 7, 2, 1)


def clips(seed: int, videos: int = 12) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]:
    """Probabilities that follow slowly changing classes with noise, their labels, videos and frames; rows in wild order."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 150, size=videos)
    video = np.repeat(np.arange(videos), lengths)
    frame = np.concatenate([np.sort(rng.permutation(3 * n)[:n]) for n in lengths])
    target = np.concatenate(
        [np.repeat(rng.integers(4, size=n // 30 + 1), 30)[:n] for n in lengths]
    ).astype(float)
    odds = np.exp(3 * np.eye(4)[target.astype(int)] + 1.5 * rng.normal(size=(len(video), 4)))
    scores = odds / odds.sum(axis=1, keepdims=True)
    target[rng.random(len(target)) < 0.2] = NAN
    mixed = rng.permutation(len(video))
    return scores[mixed], target[mixed], video[mixed], frame[mixed]


def slow_walk(plan: Strides, scores: Array, frame: NDArray[np.int64]) -> tuple[Array, set[int]]:
    """One video, ordered by frame."""
    looked: set[int] = set()
    settled: dict[int, Array] = {}
    for stage, stride in enumerate(plan.strides):
        for i in range(len(scores)):
            if i not in settled:
                looked |= {j for j in range(0, len(scores), stride) if abs(i - j) < stride}
        seen = sorted(looked)
        guess = np.stack(
            [np.interp(frame, frame[seen], scores[seen, k]) for k in range(scores.shape[1])], axis=1
        )
        for i in range(len(scores)):
            if i not in settled and (
                stage == len(plan.strides) - 1 or guess[i].max() > plan.thresholds[stage]
            ):
                settled[i] = guess[i]
    return np.array([settled[i] for i in range(len(scores))]), looked


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "plan",
    [
        Strides((5,), ()),
        Strides((20, 7, 2, 1), (0.9, 0.8, 0.7)),
        Strides((9, 4), (0.75,)),
        Strides((3, 1), (2.0,)),
    ],
)
def test_the_walk_is_the_slow_one(plan: Strides, seed: int) -> None:
    scores, _, video, frame = clips(seed)
    values, looked = apply_strides(plan, scores, video, frame)
    for name in np.unique(video):
        rows = np.flatnonzero(video == name)
        rows = rows[np.argsort(frame[rows])]
        expected, places = slow_walk(plan, scores[rows], frame[rows])
        np.testing.assert_allclose(values[rows], expected, rtol=0, atol=1e-12)
        assert np.flatnonzero(looked[rows]).tolist() == sorted(places)


def test_frames_that_are_not_looked_at_have_no_influence() -> None:
    scores, _, video, frame = clips(0)
    plan = Strides(STEPS, (0.8, 0.8, 0.8))
    values, looked = apply_strides(plan, scores, video, frame)
    assert 0.05 < looked.mean() < 0.95
    changed = np.where(looked[:, None], scores, 0.25)
    again, same = apply_strides(plan, changed, video, frame)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(same, looked)


def test_the_two_ends_are_one_look_and_all_looks() -> None:
    scores, _, video, frame = clips(1)
    _, looked = apply_strides(Strides((1000, 1), (0.0,)), scores, video, frame)
    assert looked.sum() == len(np.unique(video))
    values, looked = apply_strides(Strides((1000, 1), (np.inf,)), scores, video, frame)
    assert looked.all()
    np.testing.assert_array_equal(values, scores)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
def test_false_accepts_stay_below_the_schedule(alpha: float, seed: int) -> None:
    scores, target, video, frame = clips(seed)
    plan = fit_strides(scores, target, video, frame, strides=STEPS, alpha=alpha)
    still, known = np.ones(len(scores), bool), ~np.isnan(target)
    for stage in range(len(STEPS) - 1):
        # Up to this stage, with nothing settled here: the scores that the threshold was chosen on.
        upto = Strides(STEPS[: stage + 1], plan.thresholds[:stage])
        values, _ = apply_strides(upto, scores, video, frame)
        sure = values.max(axis=1) > plan.thresholds[stage]
        wrong = still & known & (values.argmax(axis=1) != target)
        allowed = alpha * (stage + 1) / len(STEPS) * wrong.sum()
        assert (wrong & sure).sum() <= allowed
        at_least = wrong & (values.max(axis=1) >= plan.thresholds[stage])
        assert (
            at_least.sum() > np.floor(allowed) or plan.thresholds[stage] == 0
        )  # no stricter than it must be
        still &= ~sure


def test_a_higher_alpha_looks_at_fewer_frames() -> None:
    scores, target, video, frame = clips(2, videos=40)
    shares = []
    for alpha in (0.0, 0.2, 0.5, 1.0):
        plan = fit_strides(scores, target, video, frame, strides=STEPS, alpha=alpha)
        shares.append(apply_strides(plan, scores, video, frame)[1].mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.6 < shares[0]


def test_without_labels_nothing_is_accepted_and_without_errors_everything() -> None:
    scores, _, video, frame = clips(0)
    assert fit_strides(
        scores, np.full(len(scores), NAN), video, frame, strides=(5, 1)
    ).thresholds == (np.inf,)
    sure = np.tile([0.9, 0.1], (len(scores), 1))
    assert fit_strides(sure, np.zeros(len(scores)), video, frame, strides=(5, 1)).thresholds == (
        0.0,
    )


@pytest.mark.parametrize(
    ("scores", "target", "says"),
    [
        ([[NAN, 0.5]], [0.0], "without NaN"),
        ([[0.5, 0.5]], [0.0, 1.0], r"target must be \(N,\) class numbers"),
        (np.empty((0, 2)), [], "at least one row"),
    ],
)
def test_bad_rows_are_refused(scores: Any, target: Any, says: str) -> None:
    rows = len(scores)
    with pytest.raises(DataError, match=says):
        fit_strides(scores, target, ["a"] * rows, range(rows), strides=(2, 1))


def test_rows_without_video_or_frame_are_refused() -> None:
    plan = Strides((2, 1), (0.5,))
    with pytest.raises(DataError, match="2 rows need a video each"):
        apply_strides(plan, [[0.5], [0.5]], ["a"], [0, 1])
    for frame in ([0], [0, NAN]):
        with pytest.raises(DataError, match="frame number"):
            apply_strides(plan, [[0.5], [0.5]], ["a", "a"], frame)


def test_bad_settings_are_refused() -> None:
    for strides in ((), (1, 2), (2, 2), (1, 0)):
        with pytest.raises(ValueError, match="strides must fall and be at least 1"):
            fit_strides([[1.0]], [0], ["a"], [0], strides=strides)
    with pytest.raises(ValueError, match=r"alpha is a share of wrong decisions, 0\.\.1, got 2"):
        fit_strides([[1.0]], [0], ["a"], [0], alpha=2)
    with pytest.raises(ValueError, match="every stride but the last needs a threshold"):
        Strides((2, 1), (NAN,))
