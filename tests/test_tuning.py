"""Choices on labelled rows: against brute force and scikit-learn, and proof that the nested figure is not inflated."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score

from mien import metrics
from mien.errors import DataError
from mien.evaluation.nested_tuning import (
    COMPOUND_COUNTS,
    GRID,
    decide,
    fit,
    kl_to,
    nested,
    thresholds_for,
    tune,
    versions,
    video_folds,
)
from mien.systems.ensemble import blend, override
from mien.temporal.rows import smooth_rows

Array = NDArray[np.float64]
NAN = float("nan")
SEEDS = range(5)


def units(seed: int, rows: int = 150, columns: int = 5) -> tuple[Array, Array]:
    """Scores with some signal, and targets of which a fifth is not annotated."""
    rng = np.random.default_rng(seed)
    target = (rng.random((rows, columns)) < np.linspace(0.05, 0.6, columns)).astype(float)
    scores = np.clip(0.3 * target + rng.random((rows, columns)) * 0.7, 0, 1)
    target[rng.random(target.shape) < 0.2] = NAN
    return scores, target


def accuracy(values: Array, target: Array) -> float:
    return metrics.accuracy(values.argmax(axis=1), target)


def ccc(values: Array, target: Array) -> float:
    return metrics.ccc(values[:, 0], target)


# Thresholds and decisions


@pytest.mark.parametrize("seed", SEEDS)
def test_thresholds_are_the_best_by_brute_force(seed: int) -> None:
    scores, target = units(seed)
    for k, chosen in enumerate(thresholds_for(scores, target)):
        known = ~np.isnan(target[:, k])
        figures = {
            t: f1_score(target[known, k], scores[known, k] >= t, zero_division=0.0) for t in GRID
        }
        equals = [t for t in GRID if figures[t] >= max(figures.values()) - 1e-12]
        assert chosen == min(equals, key=lambda t: (round(abs(t - 0.5), 6), t))


def test_no_other_set_of_thresholds_has_a_higher_mean_f1() -> None:
    scores, target = units(1, columns=2)
    grid = (0.2, 0.4, 0.6)
    best = max(itertools.product(grid, grid), key=lambda t: metrics.mean_au_f1(scores >= t, target))
    chosen = thresholds_for(scores, target, grid)
    assert metrics.mean_au_f1(decide(scores, chosen), target) == metrics.mean_au_f1(
        decide(scores, best), target
    )


def test_of_equal_thresholds_the_one_nearest_a_half_is_taken() -> None:
    scores = np.array([[0.05, 0.05, 0.55, 0.5], [0.95, 0.35, 0.95, 0.5], [0.95, 0.35, 0.95, 0.5]])
    target = np.array([[0, 0, 0, NAN], [1, 1, 1, NAN], [1, 1, 1, NAN]])
    assert thresholds_for(scores, target).tolist() == [0.5, 0.3, 0.6, 0.5]
    assert thresholds_for(scores, np.zeros_like(target)).tolist() == [0.5] * 4
    assert thresholds_for([[0.2], [0.5]], [[0], [1]], grid=(0.6, 0.4)).tolist() == [0.4]
    assert thresholds_for([[0.9], [0.1]], [[1], [0]], grid=(0.6, 0.4)).tolist() == [0.4]


def test_decisions_begin_at_their_threshold() -> None:
    assert decide([[0.5, 0.49], [0.3, 0.9]]).tolist() == [[1, 0], [0, 1]]
    assert decide([[0.5, 0.49], [0.3, 0.9]], [0.6, 0.4]).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: thresholds_for([[NAN]], [[1]]), "a finite score and a target of 0 or 1"),
        (lambda: thresholds_for([[0.5]], [[0.5]]), "a finite score and a target of 0 or 1"),
        (lambda: thresholds_for([[0.5]], [[1, 0]]), r"got \(1, 1\) and \(1, 2\)"),
        (lambda: thresholds_for(np.empty((0, 2)), np.empty((0, 2))), "at least one row"),
        (lambda: thresholds_for([[0.5]], [[1], [0]]), "with 1 rows"),
        (lambda: decide([[NAN]]), "NaN in 1 of 1 rows; fill missing rows first"),
        (lambda: decide([[0.5]], [0.1, 0.2]), r"got \(1, 1\) and \(2,\)"),
        (lambda: blend([[[NAN]], [[1.0]]], [1, 1]), "part 0 of the blend is NaN in 1 of 1 rows"),
        (lambda: blend([[[1.0]], [[1.0, 2.0]]], [1, 1]), r"got \(1, 1\), \(1, 2\)"),
        (lambda: override([[1.0]], [[NAN]], 0.5), "without NaN"),
        (lambda: override([[1.0]], [[1.0, 0.0]], 0.5), r"got \(1, 1\) and \(1, 2\)"),
        (
            lambda: override([[1.0, 0.0]], [[1.0, 0.0]], 0.5, slots=[2]),
            r"slots \[2\] are not columns of 2 classes",
        ),
        (
            lambda: override([[1.0, 0.0]], [[1.0, 0.0]], 0.5, slots=[]),
            r"slots \[\] are not columns",
        ),
        (lambda: kl_to([1, 1], []), "at least one"),
        (lambda: kl_to([1, 1], [0, 2]), "class numbers from 0 to 1"),
        (lambda: kl_to([1, 1], [0, NAN]), "class numbers from 0 to 1"),
        (lambda: kl_to([0, 0], [0]), "counts or shares"),
        (lambda: kl_to([1, -1], [0]), "counts or shares"),
        (lambda: video_folds(["a", "b"], folds=3), "3 folds need at least 3 videos, got 2"),
        (lambda: video_folds(["a", None, "b"], folds=2), "row 1 has no video"),
        (
            lambda: nested(np.zeros((3, 2, 1)), [0, 2]),
            r"3 versions need the folds 0 to 1, got \[0, 2\]",
        ),
        (lambda: nested(np.zeros((3, 2, 1)), [0, 1, 1]), "a whole fold number for each row"),
        (lambda: nested(np.zeros((2, 1)), [0, 1]), "a versioned array is"),
        (lambda: nested(np.zeros((3, 2, 1)), [0.0, 1.0]), "a whole fold number for each row"),
    ],
)
def test_bad_input_is_refused(call: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: thresholds_for([[0.5]], [[1]], grid=()),
        lambda: blend([[[1.0]]], [1]),
        lambda: blend([[[1.0]], [[1.0]]], [1]),
        lambda: blend([[[1.0]], [[1.0]]], [-1, 2]),
        lambda: blend([[[1.0]], [[1.0]]], [0, 0]),
        lambda: blend([[[1.0]], [[1.0]]], [NAN, 1]),
        lambda: video_folds(["a", "b"], folds=1),
    ],
)
def test_bad_settings_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match=r"at least one|two or more parts|at least 2 folds"):
        call()


# Blends and overrides


def test_a_blend_is_the_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    parts = rng.dirichlet(np.ones(8), size=(3, 40))
    for weights in ([0.6, 0.3, 0.1], [2, 0, 5], [1, 1, 1]):
        np.testing.assert_allclose(
            blend(list(parts), weights), np.average(parts, axis=0, weights=weights), atol=1e-14
        )
    np.testing.assert_array_equal(blend([parts[0], parts[1]], [1, 0]), parts[0])


def test_a_blend_of_probabilities_stays_within_them() -> None:
    rng = np.random.default_rng(0)
    sure = np.eye(4)[rng.integers(4, size=50)]
    for _ in range(50):
        assert blend([sure] * 5, rng.random(5)).max() <= 1


def test_an_override_takes_the_class_of_the_sure_model() -> None:
    rng = np.random.default_rng(0)
    own, by = rng.dirichlet(np.full(8, 0.3), size=(2, 300))
    slots = range(7)
    found = override(own, by, 0.7, slots).argmax(axis=1)
    for i in range(300):
        sure = max(by[i, k] for k in slots) > 0.7
        assert found[i] == (max(slots, key=lambda k: by[i, k]) if sure else own[i].argmax())
    np.testing.assert_array_equal(override(own, by, 1.0), own)
    np.testing.assert_array_equal(override(own, by, 0.0), by)


def test_a_slot_without_a_say_never_wins() -> None:
    """The other model's own ``other`` is the highest, but has no say; what is left of it is below the threshold."""
    own, by = [[0.4, 0.6, 0.0]], [[0.3, 0.1, 0.6]]
    assert override(own, by, 0.5, slots=[0, 1]).tolist() == own
    assert override(own, by, 0.2, slots=[0, 1]).tolist() == [[0.3, 0.1, 0.0]]


# Published frequencies


def test_kl_is_the_divergence_of_published_from_decided_classes() -> None:
    decisions = np.random.default_rng(0).integers(7, size=500)
    shares = np.bincount(decisions, minlength=7) / 500
    assert kl_to(COMPOUND_COUNTS, decisions) == pytest.approx(
        stats.entropy(COMPOUND_COUNTS, shares), rel=1e-12
    )
    rounded = [0.160, 0.276, 0.119, 0.118, 0.117, 0.112, 0.098]
    np.testing.assert_allclose(np.array(COMPOUND_COUNTS) / sum(COMPOUND_COUNTS), rounded, atol=5e-4)
    assert kl_to(rounded, decisions) == pytest.approx(kl_to(COMPOUND_COUNTS, decisions), abs=2e-3)


def test_kl_is_zero_for_the_same_shares_and_infinite_for_a_class_left_out() -> None:
    assert kl_to([2, 0, 1], [0, 2, 0]) == 0
    assert kl_to([2, 1], [0, 0]) == float("inf")
    assert kl_to([1, 0], [0, 1]) == pytest.approx(np.log(2))


# Folds and versions


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_are_whole_videos_of_about_equal_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    video = np.repeat([f"v{i}" for i in range(60)], rng.integers(5, 400, size=60))
    fold = video_folds(video, folds=5, seed=seed)
    for name in np.unique(video):
        assert len(set(fold[video == name].tolist())) == 1
    rows = np.bincount(fold)
    assert len(rows) == 5
    assert rows.max() - rows.min() < 0.05 * rows.mean()


def test_folds_follow_their_seed_and_not_the_order_of_rows() -> None:
    video = np.repeat(np.arange(40), np.arange(10, 50))
    fold = video_folds(video, seed=3)
    np.testing.assert_array_equal(fold, video_folds(video, seed=3))
    assert any((fold != video_folds(video, seed=other)).any() for other in (4, 5))
    assert sorted(video_folds(["a", "b", "c"], folds=3).tolist()) == [0, 1, 2]


def test_versions_share_memory_and_nested_picks_the_blind_one() -> None:
    shared = versions(np.ones((4, 2)), folds=2)
    assert shared.shape == (3, 4, 2)
    assert shared.strides[0] == 0
    own = np.arange(3.0)[:, None, None] * np.ones((3, 4, 2))
    assert nested(own, [1, 0, 0, 1])[:, 0].tolist() == [2, 1, 1, 2]


def test_tuning_chooses_by_brute_force_in_every_version() -> None:
    rng = np.random.default_rng(0)
    rows, folds = 200, 4
    video, frame = np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20)
    target = np.sin(frame) + np.repeat(rng.normal(size=20), 10)
    inputs = np.stack([(target + rng.normal(size=rows))[:, None] for _ in range(1 + folds)])
    target[rng.random(rows) < 0.3] = NAN
    fold = video_folds(video, folds)

    def apply(window: int, x: Array) -> Array:
        return smooth_rows(x, video, frame, window=window)

    tuned = tune((0, 1, 2, 4), apply, ccc, inputs, target=target, fold=fold)
    for version in range(1 + folds):
        seen = (fold != version - 1) & ~np.isnan(target)
        figures = {
            w: metrics.ccc(apply(w, inputs[version])[seen, 0], target[seen]) for w in (0, 1, 2, 4)
        }
        assert tuned.chosen[version] == max(figures, key=lambda w: figures[w])
        np.testing.assert_array_equal(
            tuned.values[version], apply(tuned.chosen[version], inputs[version])
        )


def test_shared_inputs_give_the_same_as_copies_and_are_worked_on_once() -> None:
    rng = np.random.default_rng(1)
    parts, target = rng.random((2, 60, 4)), rng.integers(4, size=60).astype(float)
    fold = video_folds(np.repeat(np.arange(12), 5), 3)
    grid = [(w / 10, 1 - w / 10) for w in range(11)]
    calls = []

    def apply(weights: tuple[float, float], x: Array) -> Array:
        calls.append(weights)
        return blend(list(x), weights)

    shared = versions(parts, 3)
    once = tune(grid, apply, accuracy, shared, target=target, fold=fold)
    assert calls == grid
    each = tune(grid, apply, accuracy, shared.copy(), target=target, fold=fold)
    assert once.chosen == each.chosen
    np.testing.assert_array_equal(once.values, each.values)


def chain(seed: int, target: Array, fold: NDArray[np.int64], video: NDArray[np.int64]) -> Array:
    """Blend, then smooth, then decide; each chosen on the rows of its version."""
    parts = np.random.default_rng(seed).random((2, len(target), target.shape[1]))
    frame = np.arange(len(target))

    def judge(values: Array, told: Array) -> float:
        return metrics.mean_au_f1(values >= 0.5, told)

    blended = tune(
        [(1, 0), (1, 1), (0, 1)],
        lambda w, x: blend(list(x), w),
        judge,
        versions(parts, int(fold.max()) + 1),
        target=target,
        fold=fold,
    )
    smooth = tune(
        (0, 1, 2),
        lambda w, x: smooth_rows(x, video, frame, window=w),
        judge,
        blended.values,
        target=target,
        fold=fold,
    )
    return fit(
        lambda x, rows: thresholds_for(x[rows], target[rows]),
        lambda t, x: decide(x, t),
        smooth.values,
        fold,
    ).values


def test_the_labels_of_a_fold_have_no_say_in_its_nested_scores() -> None:
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(12), 10)
    fold = video_folds(video, 3)
    target = (rng.random((120, 2)) < 0.4).astype(float)
    honest = nested(chain(5, target, fold, video), fold)
    for held in range(3):
        other = target.copy()
        other[fold == held] = 1 - other[fold == held]
        values = chain(5, other, fold, video)
        np.testing.assert_array_equal(nested(values, fold)[fold == held], honest[fold == held])
        assert (values[0] != chain(5, target, fold, video)[0]).any()


def test_random_scores_look_good_on_their_own_rows_only() -> None:
    """50 models that know nothing: the best of them shines on the rows it was chosen on, and is at chance when told honestly."""
    flattered, honest = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        fold = video_folds(np.repeat(np.arange(20), 10), seed=seed)
        target = rng.integers(2, size=200).astype(float)
        models = rng.random((50, 200, 2))
        tuned = tune(
            range(50), lambda k, x: x[k], accuracy, versions(models, 5), target=target, fold=fold
        )
        flattered.append(accuracy(tuned.values[0], target))
        honest.append(accuracy(nested(tuned.values, fold), target))
    assert np.mean(flattered) > 0.56
    assert abs(np.mean(honest) - 0.5) < 0.02


def test_thresholds_of_random_scores_are_not_flattered_by_nesting() -> None:
    """Rare units and a fine grid: tuned on its own rows F1 is well above what the same decisions get on fresh labels; nested it is not."""
    gain: list[float] = []
    honest_gain: list[float] = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        video = np.repeat(np.arange(20), 10)
        fold = video_folds(video, seed=seed)
        target, fresh = (rng.random((2, 200, 3)) < 0.05).astype(float)
        grid = tuple(np.linspace(0.02, 0.98, 49).tolist())
        inputs = versions(rng.random((200, 3)), 5)
        tuned = fit(
            lambda x, rows, target=target, grid=grid: thresholds_for(x[rows], target[rows], grid),
            lambda t, x: decide(x, t),
            inputs,
            fold,
        )
        for values, gains in ((tuned.values[0], gain), (nested(tuned.values, fold), honest_gain)):
            # By fold: there the nested decisions know nothing of the labels, so both figures are drawn from one distribution.
            own, new = (
                [metrics.mean_au_f1(values[fold == f], told[fold == f]) for f in range(5)]
                for told in (target, fresh)
            )
            gains.append(float(np.mean(own) - np.mean(new)))
    assert np.mean(gain) > 0.03
    assert abs(np.mean(honest_gain)) < 0.015


def test_candidates_that_cannot_be_judged_are_passed_over() -> None:
    inputs, fold = versions(np.array([[0.0], [1.0], [2.0], [3.0]]), 2), [0, 0, 1, 1]
    target = np.array([0.0, 1.0, 2.0, 3.0])
    tuned = tune(
        [NAN, 2.0, 1.0, 0.5],
        lambda k, x: x * k,
        lambda v, t: NAN if np.isnan(v).any() else ccc(v, t),
        inputs,
        target=target,
        fold=fold,
    )
    assert tuned.chosen == (1.0, 1.0, 1.0)
    with pytest.raises(
        DataError, match="version 1 can judge none of 1 candidates on its 0 labelled rows"
    ):
        tune([1.0], lambda k, x: x * k, ccc, inputs, target=[0, 1, NAN, NAN], fold=fold)
    with pytest.raises(DataError, match="version 0 can judge none of 0 candidates"):
        tune([], lambda k, x: x, ccc, inputs, target=target, fold=fold)
    with pytest.raises(DataError, match="with 4 rows"):
        tune([1.0], lambda k, x: x * k, ccc, inputs, target=target[:3], fold=fold)


def test_of_equal_candidates_the_first_is_taken() -> None:
    inputs = versions(np.eye(2)[[0, 1, 0, 1]], 2)
    tuned = tune("abc", lambda k, x: x, accuracy, inputs, target=[0, 1, 0, 1], fold=[0, 0, 1, 1])
    assert tuned.chosen == ("a", "a", "a")
