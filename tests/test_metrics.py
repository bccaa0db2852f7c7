"""Every metric against a second, independent formula, and the questions all of them must answer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as reference

from mien import metrics, protocols
from mien.tasks import TASKS

Array = NDArray[np.float64]
NAN = float("nan")
EXACT = {"rel": 0, "abs": 1e-12}
SEEDS = range(5)


def values(rng: np.random.Generator) -> tuple[Array, Array]:
    target = rng.normal(size=300)
    return 0.6 * target + rng.normal(size=300) + 0.2, target


def classes(rng: np.random.Generator) -> tuple[Array, Array]:
    target = rng.integers(8, size=300)
    return np.where(rng.random(300) < 0.6, target, rng.integers(8, size=300)).astype(
        float
    ), target.astype(float)


def decisions(rng: np.random.Generator) -> tuple[Array, Array]:
    return (rng.random(300) < 0.4).astype(float), (rng.random(300) < 0.3).astype(float)


def units(rng: np.random.Generator) -> tuple[Array, Array]:
    return (rng.random((300, 12)) < 0.4).astype(float), (rng.random((300, 12)) < 0.3).astype(float)


def odds(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.dirichlet(np.full(8, 0.3), size=300), rng.integers(8, size=300).astype(float)


def ccc_by_moments(pred: Array, target: Array) -> float:
    both = np.cov(pred, target, ddof=0)
    return float(
        2 * both[0, 1] / (both[0, 0] + both[1, 1] + (np.mean(pred) - np.mean(target)) ** 2)
    )


def ece_by_loop(probabilities: Array, target: Array) -> float:
    total, top = 0.0, probabilities.max(axis=1)
    for low in range(15):
        inside = (top > low / 15) & (top <= (low + 1) / 15)
        if inside.any():
            right = (probabilities[inside].argmax(axis=1) == target[inside]).mean()
            total += inside.mean() * abs(right - top[inside].mean())
    return float(total)


def macro8(pred: Any, target: Any) -> float:
    return metrics.macro_f1(pred, target, range(8))


def macro_reference(pred: Array, target: Array) -> float:
    return float(
        reference.f1_score(target, pred, labels=range(8), average="macro", zero_division=0)
    )


def units_reference(pred: Array, target: Array) -> float:
    return float(np.mean([reference.f1_score(target[:, k], pred[:, k]) for k in range(12)]))


BATTERY: dict[
    str, tuple[Callable[..., float], Callable[..., Any], Callable[..., tuple[Array, Array]]]
] = {
    "ccc": (metrics.ccc, ccc_by_moments, values),
    "pearson": (metrics.pearson, lambda p, t: stats.pearsonr(p, t).statistic, values),
    "accuracy": (metrics.accuracy, lambda p, t: reference.accuracy_score(t, p), classes),
    "f1": (metrics.f1, lambda p, t: reference.f1_score(t, p), decisions),
    "macro_f1": (macro8, macro_reference, classes),
    "mean_au_f1": (metrics.mean_au_f1, units_reference, units),
    "ece": (metrics.ece, ece_by_loop, odds),
}
every_metric = pytest.mark.parametrize("name", BATTERY)


@every_metric
@pytest.mark.parametrize("seed", SEEDS)
def test_second_formula(name: str, seed: int) -> None:
    metric, second, make = BATTERY[name]
    pred, target = make(np.random.default_rng(seed))
    assert metric(pred, target) == pytest.approx(second(pred, target), **EXACT)


@every_metric
def test_order_of_rows_does_not_matter(name: str) -> None:
    metric, _, make = BATTERY[name]
    pred, target = make(np.random.default_rng(7))
    order = np.random.default_rng(8).permutation(len(target))
    assert metric(pred[order], target[order]) == pytest.approx(metric(pred, target), **EXACT)


@every_metric
def test_rows_not_annotated_are_dropped(name: str) -> None:
    metric, _, make = BATTERY[name]
    pred, target = make(np.random.default_rng(9))
    masked = target.copy()
    masked[::3] = NAN
    kept = np.arange(len(target)) % 3 > 0
    assert metric(pred, masked) == pytest.approx(metric(pred[kept], target[kept]), **EXACT)


@every_metric
def test_nothing_annotated_is_undefined(name: str) -> None:
    metric, _, make = BATTERY[name]
    pred, target = make(np.random.default_rng(10))
    assert np.isnan(metric(pred, np.full_like(target, NAN)))
    assert np.isnan(metric(pred[:0], target[:0]))


@every_metric
def test_the_result_is_a_python_float_and_inputs_stay(name: str) -> None:
    metric, _, make = BATTERY[name]
    pred, target = make(np.random.default_rng(11))
    before = pred.copy(), target.copy()
    assert type(metric(pred, target)) is float
    np.testing.assert_array_equal(pred, before[0])
    np.testing.assert_array_equal(target, before[1])


@every_metric
def test_shapes_must_fit(name: str) -> None:
    metric, _, make = BATTERY[name]
    pred, target = make(np.random.default_rng(12))
    with pytest.raises(ValueError, match="must"):
        metric(pred[1:], target)


@every_metric
def test_a_missing_prediction_is_an_error(name: str) -> None:
    metric, _, make = BATTERY[name]
    pred, target = make(np.random.default_rng(13))
    pred[4] = NAN
    with pytest.raises(ValueError, match=r"pred is NaN in \d+ annotated|within 0\.\.1"):
        metric(pred, target)
    target[4] = NAN
    assert np.isfinite(metric(pred, target))


def test_ccc_of_identical_constant_and_single() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    assert metrics.ccc(x, x) == pytest.approx(1, **EXACT)
    assert metrics.ccc(x, np.full(50, 0.1)) == 0
    assert metrics.ccc(np.full(50, 0.1), x) == pytest.approx(0, **EXACT)
    assert metrics.ccc(np.full(50, 0.1), np.full(50, 0.7)) == pytest.approx(0, **EXACT)
    assert np.isnan(metrics.ccc(np.full(50, 0.1), np.full(50, 0.1)))
    assert np.isnan(metrics.ccc([0.3], [0.4]))


def test_ccc_uses_population_moments() -> None:
    pred, target = np.array([2.5, 0, 2, 8]), np.array([3, -0.5, 2, 7])
    assert metrics.ccc(pred, target) == pytest.approx(ccc_by_moments(pred, target), **EXACT)
    assert round(metrics.ccc(pred, target), 5) == 0.97679


def test_ccc_sees_shift_and_scale_where_pearson_does_not() -> None:
    x = np.random.default_rng(1).normal(size=200)
    assert metrics.pearson(2 * x + 1, x) == pytest.approx(1, **EXACT)
    assert metrics.ccc(2 * x + 1, x) < 0.8
    assert metrics.ccc(-x, x) == pytest.approx(-1, abs=0.02)


def test_ccc_in_float32_is_computed_in_float64() -> None:
    pred, target = (x.astype(np.float32) + 1000 for x in values(np.random.default_rng(2)))
    assert metrics.ccc(pred, target) == pytest.approx(
        ccc_by_moments(pred.astype(float), target.astype(float)), rel=1e-10
    )


def test_pearson_of_a_constant_is_undefined() -> None:
    assert np.isnan(metrics.pearson([0.1, 0.1, 0.1], [1, 2, 3]))
    assert np.isnan(metrics.pearson([1, 2, 3], [0.1, 0.1, 0.1]))
    assert np.isnan(metrics.pearson([1], [1]))


def test_f1_without_positives_is_undefined_and_wants_decisions() -> None:
    assert np.isnan(metrics.f1([0, 0], [0, 0]))
    assert metrics.f1([1, 0], [0, 0]) == 0
    assert metrics.f1(np.array([True, False]), [1, 0]) == 1
    with pytest.raises(ValueError, match=r"found 0.7, but f1 compares decisions"):
        metrics.f1([0.7, 0], [1, 0])


def test_macro_f1_keeps_its_divisor() -> None:
    pred, target = [0, 0, 1], [0, 1, 1]
    assert metrics.macro_f1(pred, target, range(2)) == pytest.approx(2 / 3, **EXACT)
    assert metrics.macro_f1(pred, target, range(8)) == pytest.approx(2 * (2 / 3) / 8, **EXACT)
    assert np.isnan(metrics.class_f1(pred, target, range(8))[2:]).all()
    assert metrics.macro_f1([3, 3], [3, 3], range(8)) == 1 / 8


def test_class_f1_against_sklearn() -> None:
    pred, target = classes(np.random.default_rng(3))
    np.testing.assert_allclose(
        metrics.class_f1(pred, target, range(8)),
        reference.f1_score(target, pred, average=None),
        atol=1e-12,
    )


@pytest.mark.parametrize(("pred", "target"), [([0, 7], [0, 1]), ([0, 1], [0, 7])])
def test_macro_f1_refuses_strange_classes(pred: list[int], target: list[int]) -> None:
    with pytest.raises(ValueError, match=r"found 7, but classes are"):
        metrics.macro_f1(pred, target, range(7))


def test_au_f1_keeps_partly_annotated_rows() -> None:
    pred, target = units(np.random.default_rng(4))
    target[np.random.default_rng(5).random(target.shape) < 0.3] = NAN
    target[:, 6] = NAN
    pred[:, 9] = target[:, 9] = 0
    found = metrics.au_f1(pred, target)
    seen = ~np.isnan(target)
    expected = [
        reference.f1_score(target[seen[:, k], k], pred[seen[:, k], k], zero_division=0)
        if seen[:, k].any()
        else NAN
        for k in range(12)
    ]
    assert np.isnan(found[[6, 9]]).all()
    np.testing.assert_allclose(np.delete(found, 9), np.delete(expected, 9), atol=1e-12)
    assert metrics.mean_au_f1(pred, target) == pytest.approx(np.nanmean(expected), **EXACT)


def test_au_f1_wants_a_table() -> None:
    with pytest.raises(ValueError, match=r"must both be \(N, K\)"):
        metrics.au_f1([1, 0], [1, 0])


def test_ece_of_the_certain_and_the_calibrated() -> None:
    sure = np.eye(4)[[0, 1, 2, 3]]
    assert metrics.ece(sure, [0, 1, 2, 3]) == 0
    assert metrics.ece(sure, [1, 2, 3, 0]) == 1
    rng = np.random.default_rng(6)
    probabilities = rng.dirichlet(np.ones(5), size=50_000)
    drawn = (probabilities.cumsum(axis=1) < rng.random((50_000, 1))).sum(axis=1)
    assert metrics.ece(probabilities, drawn) < 0.01
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        metrics.ece([[3.0, -1.0]], [0])


def test_ece_bins_are_closed_above() -> None:
    assert metrics.ece([[0.8, 0.2], [0.7, 0.3]], [0, 1], bins=5) == pytest.approx(0.25, **EXACT)
    assert metrics.ece([[0.8, 0.2], [0.9, 0.1]], [0, 1], bins=5) == pytest.approx(0.55, **EXACT)


def test_bootstrap_is_repeatable_and_blind_to_row_order() -> None:
    pred, target = classes(np.random.default_rng(0))
    groups = np.repeat([f"video{i}" for i in range(30)], 10)
    low, high = metrics.bootstrap(macro8, pred, target, groups=groups, rounds=100)
    assert low < macro8(pred, target) < high
    assert (low, high) == metrics.bootstrap(macro8, pred, target, groups=groups, rounds=100)
    assert (low, high) != metrics.bootstrap(macro8, pred, target, groups=groups, rounds=100, seed=1)
    order = np.random.default_rng(1).permutation(300)
    again = metrics.bootstrap(macro8, pred[order], target[order], groups=groups[order], rounds=100)
    assert again == pytest.approx((low, high), **EXACT)


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    x = np.random.default_rng(2).normal(size=400)
    low, high = metrics.bootstrap(lambda v: float(v.mean()), x, groups=np.arange(400), rounds=2000)
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.01)


def test_bootstrap_draws_whole_groups() -> None:
    groups = np.repeat(np.arange(5), [1, 2, 3, 4, 5])

    def whole(drawn: NDArray[np.intp]) -> float:
        counts = np.bincount(drawn, minlength=5)
        assert (counts % [1, 2, 3, 4, 5] == 0).all()
        assert (counts / [1, 2, 3, 4, 5]).sum() == 5
        return 0.5

    assert metrics.bootstrap(whole, groups, groups=groups, rounds=50) == (0.5, 0.5)


def test_rows_alike_within_a_video_widen_the_interval() -> None:
    x = np.repeat(np.random.default_rng(3).normal(size=20), 50)
    by_row = np.ptp(
        metrics.bootstrap(lambda v: float(v.mean()), x, groups=np.arange(1000), rounds=300)
    )
    by_video = np.ptp(
        metrics.bootstrap(
            lambda v: float(v.mean()), x, groups=np.repeat(np.arange(20), 50), rounds=300
        )
    )
    assert by_video > 4 * by_row


def test_bootstrap_undefined() -> None:
    assert np.isnan(metrics.bootstrap(metrics.accuracy, [1, 1], [1, 0], groups=["a", "a"])).all()
    assert np.isnan(metrics.bootstrap(metrics.f1, [0, 0], [0, 0], groups=["a", "b"])).all()
    low, high = metrics.bootstrap(metrics.f1, [1, 0], [1, 0], groups=["a", "b"])
    assert (low, high) == (1, 1)
    with pytest.raises(ValueError, match="must have one length"):
        metrics.bootstrap(metrics.accuracy, [1, 1], [1, 0], groups=["a"])


def task_data(seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    rng = np.random.default_rng(seed)
    made: dict[str, tuple[Array, Array]] = {
        "au.abaw12": units(rng),
        "va": (rng.uniform(-1, 1, (300, 2)), rng.uniform(-1, 1, (300, 2))),
    }
    made["emi.abaw6"] = rng.random((300, 6)), rng.random((300, 6))
    made["emi.abaw5"] = rng.random((300, 7)), rng.random((300, 7))
    both = rng.integers(2, size=(2, 300, 1)).astype(float)
    made["ah.abaw8"] = both[0], both[1]
    for key in ("expr.abaw7", "expr.abaw8", "expr.lsd6", "ce.abaw7"):
        k = len(TASKS[key].names)
        made[key] = rng.integers(k, size=300).astype(float), rng.integers(k, size=300).astype(float)
    return {key: pred for key, (pred, _) in made.items()}, {
        key: target for key, (_, target) in made.items()
    }


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_protocol_battery(name: str) -> None:
    protocol = protocols.PROTOCOLS[name]
    pred, target = task_data(0)
    assert protocol.name == name
    assert name.startswith(tuple(f"abaw{year}." for year in range(2021, 2027)))
    assert all(term.task in TASKS for term in protocol.terms)
    parts = protocol.parts(pred, target)
    assert len(parts) == len(protocol.terms)
    assert protocol.score(pred, target) == pytest.approx(
        sum(t.weight * parts[t.name] for t in protocol.terms), **EXACT
    )
    best = protocol.score(target, target)
    assert best == pytest.approx(3 if name.endswith("mtl") else 1, **EXACT)
    assert protocol.score(pred, target) < best
    assert np.isnan(
        protocol.score(pred, {key: np.full_like(value, NAN) for key, value in target.items()})
    )


def f1_by_counts(pred: Array, target: Array, label: float) -> float:
    true = int(((pred == label) & (target == label)).sum())
    wrong = int(((pred == label) != (target == label)).sum())
    return 2 * true / (2 * true + wrong) if true + wrong else 0.0


def seen_pairs(pred: Array, target: Array) -> tuple[Array, Array]:
    seen = ~np.isnan(target)
    return pred[seen], target[seen]


def macro_by_counts(pred: Array, target: Array, k: int) -> float:
    pred, target = seen_pairs(pred, target)
    return sum(f1_by_counts(pred, target, label) for label in range(k)) / k


def columns_of(pred: Array, target: Array) -> list[tuple[Array, Array]]:
    return [seen_pairs(pred[:, k], target[:, k]) for k in range(target.shape[1])]


def right_share(pred: Array, target: Array) -> float:
    pred, target = seen_pairs(pred, target)
    return float((pred == target).sum() / target.size)


def protocol_by_hand(name: str, pred: dict[str, Array], target: dict[str, Array]) -> float:
    """Every challenge's formula a second time, from counts, moments and scipy."""
    year, track = name.removeprefix("abaw").split(".")
    va = np.mean([ccc_by_moments(*pair) for pair in columns_of(pred["va"], target["va"])])
    au = np.mean(
        [f1_by_counts(*pair, 1) for pair in columns_of(pred["au.abaw12"], target["au.abaw12"])]
    )
    expr = macro_by_counts(pred["expr.abaw8"], target["expr.abaw8"], 8)
    if year == "2021" and track == "expr":
        key = "expr.abaw7"
        return 0.67 * macro_by_counts(pred[key], target[key], 7) + 0.33 * right_share(
            pred[key], target[key]
        )
    if year == "2021" and track == "au":
        return float(0.5 * au + 0.5 * right_share(pred["au.abaw12"], target["au.abaw12"]))
    return float(
        {
            "va": va,
            "au": au,
            "expr": expr,
            "mtl": va + expr + au,
            "ah": macro_by_counts(pred["ah.abaw8"][:, 0], target["ah.abaw8"][:, 0], 2),
            "lsd": macro_by_counts(pred["expr.lsd6"], target["expr.lsd6"], 6),
            "ce": macro_by_counts(pred["ce.abaw7"], target["ce.abaw7"], 7),
            "eri": np.mean(
                [
                    stats.pearsonr(*pair).statistic
                    for pair in columns_of(pred["emi.abaw5"], target["emi.abaw5"])
                ]
            ),
            "emi": np.mean(
                [
                    stats.pearsonr(*pair).statistic
                    for pair in columns_of(pred["emi.abaw6"], target["emi.abaw6"])
                ]
            ),
        }[track]
    )


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_protocol_against_a_second_formula(name: str, seed: int) -> None:
    pred, target = task_data(seed)
    holes = np.random.default_rng(seed + 100)
    for values in target.values():
        values[holes.random(values.shape) < 0.2] = NAN
    assert protocols.PROTOCOLS[name].score(pred, target) == pytest.approx(
        protocol_by_hand(name, pred, target), **EXACT
    )


def test_mean_pearson_sees_neither_scale_nor_shift_but_an_undefined_emotion() -> None:
    pred, target = task_data(3)
    emi, key = protocols.PROTOCOLS["abaw2024.emi"], "emi.abaw6"
    assert emi.score({key: 0.2 * pred[key] + 0.5}, target) == pytest.approx(
        emi.score(pred, target), **EXACT
    )
    still = pred[key].copy()
    still[:, 2] = 0.5
    assert np.isnan(emi.score({key: still}, target))
    assert emi.parts({key: still}, target)["pearson_joy"] == emi.parts(pred, target)["pearson_joy"]


def test_p_mtl_by_hand() -> None:
    pred, target = task_data(1)
    ccc = 0.5 * sum(ccc_by_moments(pred["va"][:, k], target["va"][:, k]) for k in (0, 1))
    by_hand = (
        ccc
        + macro_reference(pred["expr.abaw8"], target["expr.abaw8"])
        + units_reference(pred["au.abaw12"], target["au.abaw12"])
    )
    for name in ("abaw2022.mtl", "abaw2024.mtl"):
        assert protocols.PROTOCOLS[name].score(pred, target) == pytest.approx(by_hand, **EXACT)


@pytest.mark.parametrize(
    ("name", "parts", "score", "digits"),
    [
        (
            "abaw2022.mtl",
            {
                "ccc_valence": 0.4470512,
                "ccc_arousal": 0.4470512,
                "macro_f1": 0.3350704,
                "au_f1": 0.4943377,
            },
            1.2764593,
            7,
        ),
        (
            "abaw2024.mtl",
            {"ccc_valence": 0.5598, "ccc_arousal": 0.5558, "macro_f1": 0.4168, "au_f1": 0.5194},
            1.4940,
            4,
        ),
        ("abaw2021.expr", {"macro_f1": 0.351, "accuracy": 0.668}, 0.4556, 4),
        ("abaw2021.va", {"ccc_valence": 0.505, "ccc_arousal": 0.475}, 0.490, 6),
    ],
)
def test_weights_give_the_published_sums(
    name: str, parts: dict[str, float], score: float, digits: int
) -> None:
    """Published parts add up to their totals; a mean CCC alone stands for both axes."""
    terms = protocols.PROTOCOLS[name].terms
    assert {term.name for term in terms} == set(parts)
    assert round(sum(term.weight * parts[term.name] for term in terms), digits) == score


def test_years_cannot_be_confused() -> None:
    pred, target = task_data(2)
    f1 = reference.f1_score(target["expr.abaw7"], pred["expr.abaw7"], average="macro")
    right = reference.accuracy_score(target["expr.abaw7"], pred["expr.abaw7"])
    assert protocols.PROTOCOLS["abaw2021.expr"].score(pred, target) == pytest.approx(
        0.67 * f1 + 0.33 * right, **EXACT
    )
    assert protocols.PROTOCOLS["abaw2022.expr"].score(pred, target) == macro8(
        pred["expr.abaw8"], target["expr.abaw8"]
    )
    with pytest.raises(KeyError, match=r"expr\.abaw8"):
        protocols.PROTOCOLS["abaw2022.expr"].score({"expr.abaw7": pred["expr.abaw7"]}, target)


def test_the_registry_is_frozen() -> None:
    protocol = protocols.PROTOCOLS["abaw2021.expr"]
    with pytest.raises(TypeError):
        protocols.PROTOCOLS["abaw2030.expr"] = protocol  # type: ignore[index]
    with pytest.raises(AttributeError):
        protocols.PROTOCOLS["abaw2021.expr"].name = "other"  # type: ignore[misc]
