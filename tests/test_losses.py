"""Losses and the objective: against torch, scikit-learn, mien's metrics and formulas written out a second time."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import log_softmax, rel_entr, softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from mien.errors import DataError, UnknownNameError
from mien.metrics import ccc
from mien.tasks import TASKS
from mien.train.objective.losses import (
    Bins,
    binary_cross_entropy,
    binned_divergence,
    binned_loss,
    ccc_loss,
    cross_entropy,
    divergence,
    focal_binary,
    focal_cross_entropy,
    masked_mean,
    mixed,
    scaled_mae,
    scaled_mse,
)
from mien.train.objective.objective import Objective, bins_for, mix_targets
from mien.train.settings.losses import Distill, LossSettings

NAN = float("nan")
EXPR, VA, AU = TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def shares_of(rows: int, classes: int = 8) -> Tensor:
    return torch.rand(rows, classes).softmax(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_for_shares_and_per_row_for_classes(smoothing):
    raw, weights, classes = torch.randn(12, 8), torch.rand(8) * 5, torch.arange(12) % 8
    theirs = functional.cross_entropy(
        raw, shares := shares_of(12), weights, label_smoothing=smoothing
    )
    torch.testing.assert_close(cross_entropy(raw, shares, weights, smoothing), theirs)
    hard = functional.one_hot(classes, 8).float()
    rows = functional.cross_entropy(
        raw, classes, weights, reduction="none", label_smoothing=smoothing
    )
    ours = cross_entropy(raw, hard, weights, smoothing)
    torch.testing.assert_close(ours, rows.mean())
    # For class numbers torch's mean has another divisor: the sum of the rows' weights.
    theirs = functional.cross_entropy(raw, classes, weights, label_smoothing=smoothing)
    torch.testing.assert_close(ours * 12 / weights[classes].sum(), theirs)


def test_cross_entropy_is_scikit_learns():
    raw, classes = torch.randn(30, 8), np.arange(30) % 8
    ours = cross_entropy(raw, torch.eye(8)[classes]).item()
    assert ours == pytest.approx(log_loss(classes, softmax(raw.double().numpy(), axis=1)), rel=1e-6)


def test_smoothed_mass_is_weighted_class_by_class():
    raw, weights = torch.randn(1, 4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    by_hand = -(
        np.array([0.025, 0.925, 0.025, 0.025]) * [1, 2, 3, 4] * log_softmax(raw.numpy(), axis=1)
    ).sum()
    assert cross_entropy(raw, torch.eye(4)[1:2], weights, 0.1).item() == pytest.approx(
        by_hand, rel=1e-5
    )


def test_binary_cross_entropy_is_torchs_and_keeps_rows_annotated_in_part():
    raw, target, positive = (
        torch.randn(20, 3),
        (torch.rand(20, 3) > 0.6).float(),
        torch.tensor([3.0, 1.0, 0.2]),
    )
    theirs = functional.binary_cross_entropy_with_logits(
        raw, target, pos_weight=positive, reduction="none"
    )
    weights = torch.stack([torch.ones(3), positive])
    torch.testing.assert_close(binary_cross_entropy(raw, target, weights), theirs.mean())
    target[4, 1] = NAN
    theirs[4, 1] = 0
    torch.testing.assert_close(binary_cross_entropy(raw, target, weights), theirs.mean())
    negative = torch.tensor([0.5, 2.0, 1.0])
    theirs = torch.where(target == 0, theirs * negative, theirs)
    torch.testing.assert_close(
        binary_cross_entropy(raw, target, torch.stack([negative, positive])), theirs.mean()
    )


def test_balanced_weights_make_both_sides_cost_alike():
    target = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    labels = {"au": target.numpy()}
    one = type(AU)("au.one", ("AU01",), "any_of")
    objective = Objective.from_labels([one], {"au": LossSettings(positives=True)}, labels)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=np.array([1, 0, 0, 0]))
    np.testing.assert_allclose(np.ravel(objective.weights["au"]["positives"]), expected)
    raw = torch.zeros(4, 1, requires_grad=True)
    objective([raw], [target])[0].backward()
    assert raw.grad.sum().item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_its_formula_in_numpy(gamma):
    raw, shares = torch.randn(12, 8), shares_of(12)
    shares[3] = NAN
    p = softmax(raw.double().numpy(), axis=1)
    costs = -(shares.double().numpy() * (1 - p) ** gamma * np.log(p)).sum(axis=1)
    ours = focal_cross_entropy(raw, shares, gamma)
    np.testing.assert_allclose(ours.item(), np.nansum(costs) / 12, rtol=1e-5)
    if gamma == 0:
        torch.testing.assert_close(ours, cross_entropy(raw, shares))

    target = torch.rand(12, 5)
    target[2, 1] = NAN
    raw = torch.randn(12, 5)
    p, y = 1 / (1 + np.exp(-raw.double().numpy())), target.double().numpy()
    costs = -y * (1 - p) ** gamma * np.log(p) - (1 - y) * p**gamma * np.log(1 - p)
    ours = focal_binary(raw, target, gamma)
    np.testing.assert_allclose(ours.item(), np.nansum(costs) / 60, rtol=1e-5)
    if gamma == 0:
        torch.testing.assert_close(ours, binary_cross_entropy(raw, target))


def test_focal_binary_is_torchvisions():
    from torchvision.ops import sigmoid_focal_loss

    raw, target = torch.randn(9, 4), torch.randint(0, 2, (9, 4)).float()
    theirs = sigmoid_focal_loss(raw, target, alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(focal_binary(raw, target, 2.0), theirs)


def test_a_label_that_is_answered_without_doubt_sends_a_finite_gradient():
    raw = torch.tensor([[200.0, -200.0]], requires_grad=True)
    label = torch.tensor([[1.0, 0.0]])
    (focal_cross_entropy(raw, label, 0.5) + focal_binary(raw, label, 0.5)).backward()
    assert raw.grad.isfinite().all()


def test_logit_adjustment_is_menons_formula():
    """Equation 10 of Menon et al. 2021, written in numpy: softmax of raw + log prior."""
    rng = np.random.default_rng(0)
    labels = np.eye(8)[rng.choice(8, 400, p=np.arange(1, 9) / 36)]
    labels[5] = NAN
    loss = Objective.from_labels(
        [EXPR], {"expr": LossSettings(kind="logit_adjusted")}, {"expr": labels}
    )
    raw = torch.randn(400, 8)
    target = torch.from_numpy(labels).float()
    prior = np.nanmean(labels, axis=0)
    adjusted = log_softmax(raw.double().numpy() + np.log(prior), axis=1)
    expected = -np.nansum(labels * adjusted) / 400
    np.testing.assert_allclose(loss([raw], [target])[0].item(), expected, rtol=1e-5)


def test_adjusted_action_units_answer_as_if_half_the_faces_had_them():
    """The best constant answer is 0 whatever the frequency; of plain cross-entropy, the log-odds."""
    rng = np.random.default_rng(0)
    labels = (rng.random((3000, 12)) < np.linspace(0.02, 0.9, 12)).astype(float)
    labels[::7] = NAN
    target = torch.from_numpy(labels).float()
    frequency = np.nanmean(labels, axis=0)
    log_odds = torch.from_numpy(np.log(frequency / (1 - frequency))).float()
    for kind, best in (("logit_adjusted", torch.zeros(12)), ("binary", log_odds)):
        loss = Objective.from_labels([AU], {"au": LossSettings(kind=kind)}, {"au": labels})
        constant = best.clone().requires_grad_()
        loss([constant.expand(3000, 12)], [target])[0].backward()
        torch.testing.assert_close(constant.grad, torch.zeros(12), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("task", "labels"), [(EXPR, np.eye(8)[[0, 1, 2]]), (AU, np.zeros((4, 12)))]
)
def test_a_prior_of_what_no_face_shows_is_refused(task, labels):
    settings = {task.family: LossSettings(kind="logit_adjusted")}
    with pytest.raises(DataError, match=r"add faces or drop the (class|column)"):
        Objective.from_labels([task], settings, {task.family: labels})


def test_ccc_loss_is_one_minus_the_metric_by_the_share_of_annotated_rows():
    pred, target = torch.randn(40, 2, dtype=torch.float64), torch.randn(40, 2, dtype=torch.float64)
    target[3:13, 0] = NAN
    costs = [1 - ccc(pred[:, i].numpy(), target[:, i].numpy()) for i in range(2)]
    assert ccc_loss(pred, target, floor=1e-15).item() == pytest.approx(
        (costs[0] * 0.75 + costs[1]) / 2, abs=1e-12
    )


def test_ccc_gradient_is_the_numerical_one():
    pred = torch.randn(10, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(10, 2, dtype=torch.float64)
    target[2, 1] = NAN
    assert torch.autograd.gradcheck(lambda p: ccc_loss(p, target), pred)


@pytest.mark.parametrize(
    "target", [torch.zeros(20, 1), torch.linspace(-1, 1, 20)[:, None], torch.full((20, 1), NAN)]
)
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_constants_have_finite_gradients(target, level):
    pred = torch.full((20, 1), level, requires_grad=True)
    cost = ccc_loss(pred, target)
    cost.backward()
    assert cost.isfinite()
    assert pred.grad.isfinite().all()


def test_equal_vectors_cost_nothing_and_few_rows_are_skipped():
    line = torch.linspace(-1, 1, 50)[:, None]
    assert ccc_loss(line, line, floor=1e-9).item() == pytest.approx(0, abs=1e-6)
    assert ccc_loss(torch.zeros(50, 1), line).item() == pytest.approx(1)
    for few in (1, 7):
        target = torch.full((50, 1), NAN)
        target[:few] = line[:few]
        assert ccc_loss(line, target).item() == 0
        assert 0 < ccc_loss(-line, target, fewest=few).item() < np.inf


def test_errors_count_in_units_of_spread():
    target = torch.tensor([[0.0, NAN], [2.0, 1.0]])
    variance = torch.tensor([4.0, 1.0])
    assert scaled_mse(torch.zeros(2, 2), target, variance).item() == pytest.approx((1 + 1) / 4)
    assert scaled_mae(torch.zeros(2, 2), target, variance).item() == pytest.approx((1 + 1) / 4)
    assert scaled_mae(torch.zeros(2, 2), 3 * target, variance).item() == pytest.approx((3 + 3) / 4)


LOSSES = {
    "cross_entropy": lambda raw, target: cross_entropy(raw, target, torch.ones(4), 0.1),
    "binary": lambda raw, target: binary_cross_entropy(raw, target, torch.ones(2, 4)),
    "focal": lambda raw, target: focal_cross_entropy(raw, target, 2.0),
    "focal_binary": lambda raw, target: focal_binary(raw, target, 2.0),
    "mse": lambda raw, target: scaled_mse(raw, target, torch.ones(4)),
    "mae": lambda raw, target: scaled_mae(raw, target, torch.ones(4)),
    "ccc": lambda raw, target: ccc_loss(raw, target, fewest=1),
    "bins": lambda raw, target: binned_loss(raw, target, Bins(0, 1, count=1), fewest=1),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_no_label_costs_nothing_and_sends_no_gradient(loss):
    raw = torch.randn(16, 4, requires_grad=True)
    cost = loss(raw, torch.full((16, 4), NAN))
    cost.backward()
    assert cost.item() == 0
    assert raw.grad.abs().max() == 0
    assert masked_mean(torch.tensor([NAN]), torch.tensor([False])).item() == 0


@pytest.mark.parametrize(
    "loss",
    [LOSSES[name] for name in ("cross_entropy", "binary", "focal", "focal_binary", "mse", "mae")],
)
def test_one_labelled_face_in_64_weighs_a_64th(loss):
    raw, target = torch.randn(64, 4), torch.full((64, 4), NAN)
    target[5] = torch.eye(4)[2]
    torch.testing.assert_close(loss(raw, target), loss(raw[5:6], target[5:6]) / 64)


@pytest.mark.parametrize(("value", "number"), [(-1, 0), (-0.95, 0), (0, 10), (0.999, 19), (1, 19)])
def test_bins_have_numpys_edges(value, number):
    assert Bins().encode(torch.tensor([[value]], dtype=torch.float32)).item() == number


def test_bins_agree_with_numpy_on_every_hundredth():
    values = np.linspace(-1, 1, 201).round(2).astype(np.float32)
    theirs = np.minimum(np.digitize(values, np.linspace(-1, 1, 21).astype(np.float32)) - 1, 19)
    np.testing.assert_array_equal(Bins().encode(torch.from_numpy(values)), theirs)


@pytest.mark.parametrize("code", [-2, -5, 1.01])
def test_labels_outside_the_bins_are_refused(code):
    with pytest.raises(DataError, match=r"beyond -1\.\.1"):
        Bins().encode(torch.tensor([[0.3, code]]))


@pytest.mark.parametrize(
    ("legacy", "expected"), [(False, (-0.95, 0.05, 0.95)), (True, (-1, 0.052632, 1))]
)
def test_bins_decode_to_centres_or_to_the_ends(legacy, expected):
    bins = Bins(legacy=legacy)
    raw = torch.full((3, 2, 20), -1e4)
    raw[[0, 1, 2], 0, [0, 10, 19]] = 0
    raw[:, 1, 5] = raw[:, 1, 6] = 0
    decoded = bins.decode(raw.flatten(1))
    np.testing.assert_allclose(decoded[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(decoded[:, 1], bins.support[5:7].mean(), atol=1e-6)


def test_binned_loss_is_cross_entropy_plus_ccc_of_the_expectation():
    raw, target = torch.randn(30, 40), torch.rand(30, 2) * 2 - 1
    number = torch.from_numpy(np.digitize(target.numpy(), np.linspace(-1, 1, 21)) - 1)
    centres = torch.arange(20) * 0.1 - 0.95
    each = [
        functional.cross_entropy(logits, number[:, i])
        + ccc_loss((logits.softmax(1) @ centres)[:, None], target[:, i : i + 1])
        for i, logits in enumerate(raw.split(20, dim=1))
    ]
    torch.testing.assert_close(binned_loss(raw, target, Bins()), (each[0] + each[1]) / 2)


def test_divergence_is_scipys():
    raw, teacher = torch.randn(6, 8), torch.randn(6, 8)
    p, q = (
        softmax(teacher.double().numpy() / 1.5, axis=1),
        softmax(raw.double().numpy() / 1.5, axis=1),
    )
    np.testing.assert_allclose(
        divergence(raw, teacher, 1.5), rel_entr(p, q).sum(axis=1) * 2.25, rtol=1e-4, atol=1e-6
    )
    assert divergence(raw, raw, 1.5).abs().max() < 1e-6
    whole = binned_divergence(raw, teacher, Bins(count=4), 1.5)
    torch.testing.assert_close(whole[:, 1], divergence(raw[:, 4:], teacher[:, 4:], 1.5))


def test_labels_and_teacher_are_mixed_by_row():
    kd = torch.rand(64)
    nobody, everybody = torch.zeros(64, dtype=torch.bool), torch.ones(64, dtype=torch.bool)
    torch.testing.assert_close(mixed(torch.tensor(0.0), kd, nobody, 0.4), kd.mean())
    torch.testing.assert_close(
        mixed(torch.tensor(2.0), kd, everybody, 0.4), 0.6 * torch.tensor(2.0) + 0.4 * kd.mean()
    )


def batch(rows: int = 64) -> tuple[list[Tensor], list[Tensor]]:
    raw = [torch.randn(rows, 8), torch.randn(rows, 2), torch.randn(rows, 12)]
    return raw, [shares_of(rows), torch.rand(rows, 2) * 2 - 1, (torch.rand(rows, 12) > 0.5).float()]


def labels_of(target: list[Tensor]) -> dict[str, np.ndarray]:
    return {
        task.family: values.numpy() for task, values in zip((EXPR, VA, AU), target, strict=True)
    }


def test_objective_is_the_weighted_sum_of_its_parts():
    raw, target = batch()
    settings = {
        "va": LossSettings(weight=0.5, floor=1e-2),
        "expr": LossSettings(smoothing=0.2, classes="mean"),
    }
    objective = Objective.from_labels([EXPR, VA, AU], settings, labels_of(target))
    total, parts = objective(raw, target)
    weights = target[0].sum(0).mean() / target[0].sum(0)
    expected = {
        "expr": cross_entropy(raw[0], target[0], weights, 0.2),
        "va": ccc_loss(raw[1], target[1], floor=1e-2),
        "au": functional.binary_cross_entropy_with_logits(raw[2], target[2]),
    }
    for family, cost in expected.items():
        torch.testing.assert_close(parts[family], cost)
    torch.testing.assert_close(total, expected["expr"] + 0.5 * expected["va"] + expected["au"])


def test_objective_is_remade_from_its_weights_as_json():
    raw, target = batch()
    settings = {
        "expr": LossSettings(classes="max"),
        "au": LossSettings(positives=True),
        "va": LossSettings(distill=Distill(weight=0.5)),
    }
    first = Objective.from_labels([EXPR, VA, AU], settings, labels_of(target))
    again = Objective([EXPR, VA, AU], settings, json.loads(json.dumps(first.weights)))
    teacher = batch()[0]
    torch.testing.assert_close(
        again(raw, target, teacher)[0], first(raw, target, teacher)[0], rtol=0, atol=0
    )
    assert not first.state_dict()
    with pytest.raises(
        ValueError, match=r"expr lacks its classes; make the objective with Objective\.from_labels"
    ):
        Objective([EXPR], {"expr": LossSettings(classes="max")}, {})


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_errors_of_action_units_are_of_scores_and_of_va_are_of_raw(kind):
    raw, target = batch()
    settings = {"au": LossSettings(kind=kind), "va": LossSettings(kind=kind)}
    _, parts = Objective.from_labels([EXPR, VA, AU], settings, labels_of(target))(raw, target)
    for family, pred, truth in (("au", raw[2].sigmoid(), target[2]), ("va", raw[1], target[1])):
        spread = truth.std(0, correction=0)
        power = 2 if kind == "mse" else 1
        torch.testing.assert_close(parts[family], (((pred - truth) / spread).abs() ** power).mean())


def test_sequences_are_rows():
    raw, target = batch(24)
    objective = Objective([EXPR, VA, AU], {}, {})
    whole = objective(raw, target)[0]
    folded = objective(
        [r.unflatten(0, (4, 6)) for r in raw], [t.unflatten(0, (4, 6)) for t in target]
    )[0]
    torch.testing.assert_close(folded, whole)


DISTILLED = {
    "expr": LossSettings(distill=Distill(weight=0.4, temperature=1.5)),
    "va": LossSettings(kind="bins", distill=Distill(weight=0.4, temperature=1.5)),
    "au": LossSettings(distill=Distill(weight=0.4)),
}


def distilled_batch() -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    raw, target = batch()
    raw[1] = torch.randn(64, 40)
    teacher = [torch.randn_like(one) for one in raw]
    kd = [
        functional.kl_div((raw[0] / 1.5).log_softmax(1), (teacher[0] / 1.5).softmax(1), reduction="batchmean") * 2.25,
        sum(
            functional.kl_div((s / 1.5).log_softmax(1), (t / 1.5).softmax(1), reduction="batchmean") * 2.25 / 2
            for s, t in zip(raw[1].split(20, 1), teacher[1].split(20, 1), strict=True)
        ),
        functional.binary_cross_entropy(raw[2].sigmoid(), teacher[2].sigmoid()),
    ]  # fmt: skip
    return raw, target, teacher, kd


def test_without_labels_the_teacher_is_all_there_is():
    raw, target, teacher, kd = distilled_batch()
    nothing = [torch.full_like(one, NAN) for one in target]
    total, parts = Objective([EXPR, VA, AU], DISTILLED, {})(raw, nothing, teacher)
    for family, cost in zip(("expr", "va", "au"), kd, strict=True):
        torch.testing.assert_close(parts[family], cost)
    torch.testing.assert_close(total, sum(kd))
    target[0][:, 3] = NAN  # a row annotated in part has no label to learn by
    torch.testing.assert_close(
        Objective([EXPR], {"expr": DISTILLED["expr"]}, {})(raw[:1], target[:1], teacher[:1])[0],
        kd[0],
    )


def test_with_all_labels_the_teacher_has_its_share():
    raw, target, teacher, kd = distilled_batch()
    plain = {family: one.model_copy(update={"distill": None}) for family, one in DISTILLED.items()}
    alone = Objective([EXPR, VA, AU], plain, {})(raw, target)[0]
    total = Objective([EXPR, VA, AU], DISTILLED, {})(raw, target, teacher)[0]
    torch.testing.assert_close(total, 0.6 * alone + 0.4 * sum(kd))


def test_one_label_of_64_moves_the_mix_by_a_64th_and_stays_finite():
    raw, target, teacher, kd = distilled_batch()
    few = [torch.full_like(one, NAN) for one in target]
    for sparse, full in zip(few, target, strict=True):
        sparse[9] = full[9]
    raw = [one.requires_grad_() for one in raw]
    total, parts = Objective([EXPR, VA, AU], DISTILLED, {})(raw, few, teacher)
    total.backward()
    assert all(one.grad.isfinite().all() for one in raw)
    assert not any(part.requires_grad for part in parts.values())
    own = functional.cross_entropy(raw[0][9:10], target[0][9:10])
    taught = divergence(raw[0][9], teacher[0][9], 1.5)
    torch.testing.assert_close(parts["expr"], (kd[0] + 0.6 * (own - taught) / 64).detach())


def test_a_scalar_teacher_is_met_in_units_of_the_labels_spread():
    raw, target = batch()
    teacher = batch()[0]
    settings = {"va": LossSettings(distill=Distill(weight=1))}
    objective = Objective.from_labels([EXPR, VA, AU], settings, labels_of(target))
    expected = ((raw[1] - teacher[1]) ** 2 / target[1].var(0, correction=0)).mean()
    torch.testing.assert_close(objective(raw, target, teacher)[1]["va"], expected)


def test_the_teacher_gets_no_gradient_and_must_be_there_exactly_when_asked_for():
    raw, target, teacher, _ = distilled_batch()
    teacher = [one.requires_grad_() for one in teacher]
    objective = Objective([EXPR, VA, AU], DISTILLED, {})
    assert not objective(raw, target, teacher)[0].requires_grad
    with pytest.raises(ValueError, match="teacher"):
        objective(raw, target)
    with pytest.raises(ValueError, match="teacher"):
        Objective([EXPR], {}, {})(raw[:1], target[:1], teacher[:1])


def test_shapes_that_do_not_fit_are_refused():
    raw, target = batch()
    with pytest.raises(ValueError, match=r"va needs raw \(N, 40\)"):
        Objective([VA], {"va": LossSettings(kind="bins")}, {})(raw[1:2], target[1:2])
    whole, numbers = [torch.randn(64, 40)], raw[1:2]
    with pytest.raises(ValueError, match=r"va needs raw \(N, 40\).*got \(64, 2\)"):
        Objective([VA], {"va": DISTILLED["va"]}, {})(whole, target[1:2], numbers)
    with pytest.raises(ValueError, match="expr needs"):
        Objective([EXPR], {}, {})(raw[:1], [target[0][:5]])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"expr": LossSettings(kind="ccc")},
            "expr is a one_of task and learns by cross_entropy or focal or logit_adjusted, not by ccc",
        ),
        (
            {"va": LossSettings(smoothing=0.1, legacy=True)},
            "va learns by ccc, which has no legacy, smoothing",
        ),
        (
            {"expr": LossSettings(kind="logit_adjusted", gamma=1.0)},
            "expr learns by logit_adjusted, which has no gamma",
        ),
        (
            {"au": LossSettings(distill=Distill(temperature=2))},
            "au learns by binary, which has no temperature",
        ),
    ],
)
def test_settings_that_do_not_fit_a_task_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Objective([EXPR, VA, AU], settings, {})


def test_strangers_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean expr"):
        Objective([EXPR, VA], {"exp": LossSettings()}, {})
    with pytest.raises(ValueError, match="one comes twice"):
        Objective([EXPR, TASKS["expr.lsd6"]], {}, {})
    with pytest.raises(ValidationError, match="Extra inputs"):
        LossSettings.model_validate({"smooth": 0.1})
    flat = {"expr": np.eye(8), "va": np.zeros((8, 2))}
    with pytest.raises(DataError, match="valence does not vary"):
        Objective.from_labels([EXPR, VA], {"va": LossSettings(kind="mse")}, flat)


def test_settings_survive_being_written_out_in_full():
    for task, settings in zip((EXPR, VA, AU), DISTILLED.values(), strict=True):
        again = LossSettings.model_validate(settings.model_dump(mode="json"))
        assert again == settings
        assert again.kind_for(task) == settings.kind_for(task)
    assert bins_for(DISTILLED["va"], VA) == Bins()
    assert bins_for(DISTILLED["expr"], EXPR) is None


def test_mixed_labels_are_learned_as_the_mixture_of_two_costs():
    raw, one, other = (
        torch.randn(9, 8),
        torch.eye(8)[torch.arange(9) % 8],
        torch.eye(8)[torch.arange(9) % 3],
    )
    soft = mix_targets(one, other, 0.3)
    torch.testing.assert_close(
        cross_entropy(raw, soft), 0.3 * cross_entropy(raw, one) + 0.7 * cross_entropy(raw, other)
    )
    one[2], other[4, 0] = NAN, NAN
    gone = mix_targets(one, other, 1.0).isnan()
    assert gone[2].all()
    assert gone.sum() == 9


def test_halves_are_computed_in_full_precision():
    raw, target = batch()
    objective = Objective([EXPR, VA, AU], {}, {})
    total, _ = objective([one.bfloat16() for one in raw], target)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, objective([one.bfloat16().float() for one in raw], target)[0])
