"""Optimisers, rates, sharpness-aware steps, averages and the order of rows: against torch's own and formulas written out."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_sample_weight
from timm.layers import BatchNormAct2d
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mien.errors import DataError
from mien.tasks import TASKS
from mien.train.inputs.samplers import (
    ResumableBatchSampler,
    inverse_cell,
    inverse_class,
    inverse_class_and_cell,
)
from mien.train.networks.network import build
from mien.train.optim import Average, make_optimiser, perturbed, rate_at, set_rate
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings

NAN = float("nan")


class Small(nn.Module):
    """A backbone with both kinds of batch norm that mien's networks have, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), BatchNormAct2d(4)
        )
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.backbone(images).mean(dim=(2, 3)))


@pytest.fixture
def net() -> Small:
    torch.manual_seed(0)
    return Small()


def cost_of(net: nn.Module) -> torch.Tensor:
    return (
        (net(torch.linspace(-1, 1, 3 * 64).view(3, 1, 8, 8)) - torch.tensor([1.0, -1.0]))
        .square()
        .mean()
    )


def test_groups_follow_backbone_and_shape(net):
    optimiser = make_optimiser(net, OptimSettings(lr=0.2, weight_decay=0.1, backbone_lr=0.5))
    of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert len(of) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = of[id(parameter)]
        assert group["lr"] == (0.1 if name.startswith("backbone") else 0.2)
        assert group["weight_decay"] == (
            0.1 if name in ("backbone.0.weight", "backbone.2.weight", "head.weight") else 0
        )


def test_rates_fall_layer_by_layer_towards_the_input():
    """A transformer of 6 blocks: the last, with the norm behind it, at the whole rate, block i at 0.5^(5 - i)."""
    net = build(NetworkSettings(backbone="test_vit"), [TASKS["va"]], 3, 32)
    settings = OptimSettings(lr=0.8, backbone_lr=0.5, layer_decay=0.5, weight_decay=0.1)
    optimiser = make_optimiser(net, settings)
    of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        part = name.split(".")
        if part[0] == "heads":
            expected = 0.8
        elif part[1] in ("norm", "fc_norm"):
            expected = 0.4
        elif part[1] == "blocks":
            expected = 0.4 * 0.5 ** (5 - int(part[2]))
        else:
            expected = 0.4 * 0.5**6
        assert of[id(parameter)]["lr"] == pytest.approx(expected), name
        assert of[id(parameter)]["weight_decay"] == (0.1 if parameter.ndim > 1 else 0), name
    set_rate(optimiser, 5, 10, settings)
    assert of[id(net.backbone.blocks[5].attn.qkv.weight)]["lr"] == pytest.approx(0.5 * 0.4)


def test_rates_by_layer_need_layers(net):
    with pytest.raises(
        ValueError, match="layer_decay: timm knows no layers of Sequential; leave it out"
    ):
        make_optimiser(net, OptimSettings(layer_decay=0.7))
    whole = build(NetworkSettings(backbone="test_vit"), [TASKS["va"]], 3, 32)
    whole.backbone.requires_grad_(False)
    with pytest.raises(
        ValueError, match="layer_decay: no parameter of MultiTaskNet under 'backbone'"
    ):
        make_optimiser(whole, OptimSettings(layer_decay=0.7))


def test_frozen_parameters_are_left_out_and_nothing_to_train_is_refused(net):
    net.backbone.requires_grad_(False)
    assert (
        sum(len(group["params"]) for group in make_optimiser(net, OptimSettings()).param_groups)
        == 2
    )
    with pytest.raises(ValueError, match="backbone_lr"):
        make_optimiser(net, OptimSettings(backbone_lr=0.1))
    net.head.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of Small is trainable"):
        make_optimiser(net, OptimSettings())


@pytest.mark.parametrize(
    ("settings", "kind", "theirs"),
    [
        (OptimSettings(optimiser="sgd", momentum=0.5), torch.optim.SGD, {"momentum": 0.5}),
        (OptimSettings(optimiser="sgd"), torch.optim.SGD, {"momentum": 0.9}),
        (
            OptimSettings(optimiser="adam", betas=(0.5, 0.999)),
            torch.optim.Adam,
            {"betas": (0.5, 0.999)},
        ),
        (
            OptimSettings(weight_decay=0.05),
            torch.optim.AdamW,
            {"betas": (0.9, 0.999), "weight_decay": 0.05},
        ),
    ],
)
def test_settings_choose_the_optimiser(net, settings, kind, theirs):
    optimiser = make_optimiser(net, settings)
    assert type(optimiser) is kind
    assert all(optimiser.param_groups[0][name] == value for name, value in theirs.items())


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimiser": "sgd", "betas": (0.9, 0.99)},
        {"momentum": 0.9},
        {"lr": 0},
        {"warmup": 1},
        {"layer_decay": 0},
        {"learning_rate": 1},
        {"sam": NAN},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        OptimSettings.model_validate(wrong)


def test_cosine_over_all_steps_falls_once_and_ends_at_zero():
    # A cosine whose period is not the run's length rises again: 1, .5, 0, .5, 1, 0, .1431 at these steps.
    steps = (0, 5_000, 10_000, 15_000, 20_000, 30_000, 32_470)
    rates = [rate_at(step, 32_470) for step in steps]
    assert rates == pytest.approx([(1 + math.cos(math.pi * step / 32_470)) / 2 for step in steps])
    every = [rate_at(step, 1000) for step in range(1001)]
    assert every[0] == 1
    assert every[500] == pytest.approx(0.5)
    assert every[1000] == rate_at(1200, 1000) == 0
    assert all(a > b for a, b in pairwise(every))


def test_warm_up_rises_straight_and_never_stands_still():
    rates = [rate_at(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1
    assert rates[100] == 0
    assert np.diff(rates[10:]).max() < 0


def test_constant_rate_stays_after_the_warm_up():
    assert [rate_at(step, 10, 0.2, constant=True) for step in (0, 1, 2, 5, 10)] == [0.5, 1, 1, 1, 1]


def test_rates_are_torchs_cosine_and_resume_anywhere(net):
    optimiser = make_optimiser(net, OptimSettings(lr=0.3, backbone_lr=0.1))
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(other, T_max=50)
    for step in range(50):
        set_rate(optimiser, step, 50, OptimSettings())
        found = sorted({group["lr"] for group in optimiser.param_groups})
        assert found == pytest.approx(
            [other.param_groups[0]["lr"] / 10, other.param_groups[0]["lr"]]
        )
        other.step()
        schedule.step()
    state = optimiser.state_dict()
    fresh = make_optimiser(net, OptimSettings(lr=0.3, backbone_lr=0.1))
    fresh.load_state_dict(state)
    set_rate(fresh, 7, 50, OptimSettings())
    set_rate(optimiser, 7, 50, OptimSettings())
    assert [g["lr"] for g in fresh.param_groups] == [g["lr"] for g in optimiser.param_groups]


@pytest.mark.parametrize(
    "settings", [OptimSettings(optimiser="sgd", lr=0.1), OptimSettings(lr=0.01)]
)
def test_sharpness_aware_steps_follow_the_formula(settings):
    weights = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    curve = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    net, other = nn.Module(), nn.Module()
    net.w, other.w = nn.Parameter(weights.clone()), nn.Parameter(weights.clone())
    ours, theirs = make_optimiser(net, settings), make_optimiser(other, settings)
    for _ in range(5):
        ours.zero_grad()
        (curve * net.w**2).sum().backward()
        with perturbed(net, rho=0.05):
            ours.zero_grad()
            (curve * net.w**2).sum().backward()
        ours.step()
        first = 2 * curve * other.w.detach()
        other.w.grad = 2 * curve * (other.w.detach() + 0.05 * first / (first.norm() + 1e-12))
        theirs.step()
        torch.testing.assert_close(net.w, other.w, rtol=1e-12, atol=1e-12)


def test_the_second_pass_leaves_no_trace_but_its_gradients(net):
    cost_of(net).backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
    with perturbed(net, rho=0.5):
        moved = torch.stack(
            [(p - before[name]).norm() for name, p in net.named_parameters()]
        ).norm()
        assert moved.item() == pytest.approx(0.5, rel=1e-5)
        inside = cost_of(net)
    after = net.state_dict()
    assert norm > 0
    assert all(torch.equal(before[name], after[name]) for name in before)
    # The second pass did use the batch's statistics, as the first did, and the statistics move again afterwards.
    assert inside > cost_of(net)
    assert not torch.equal(before["backbone.1.running_mean"], net.backbone[1].running_mean)
    assert net.backbone[3].num_batches_tracked == 2


def test_weights_come_back_after_an_error_and_a_flat_place_is_no_problem(net):
    before = [p.clone() for p in net.parameters()]
    with perturbed(net):
        pass
    (cost_of(net) * 0).backward()

    def fail() -> None:
        with perturbed(net):
            assert all(p.isfinite().all() for p in net.parameters())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def walk(net: nn.Module, average, steps: int) -> None:
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        cost_of(net).backward()
        optimiser.step()
        average(net)


def test_average_follows_the_formula_buffers_included(net):
    average = Average(net, decay=0.3)
    mean = {name: value.double().clone() for name, value in net.state_dict().items()}
    step = 0

    def update(net: nn.Module) -> None:
        nonlocal step
        average.update(net)
        keep = min(0.3, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            mean[name] = (
                keep * mean[name] + (1 - keep) * value.double()
                if value.is_floating_point()
                else value.double()
            )
        for name, value in average.net.state_dict().items():
            torch.testing.assert_close(value.double(), mean[name], rtol=1e-5, atol=1e-6)
        step += 1

    walk(net, update, 12)
    assert average.net.backbone[1].num_batches_tracked == 12


def test_average_past_its_warm_up_is_torchs(net):
    ours = Average(net, decay=0.5)
    ours.updates.fill_(10_000)
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    theirs.update_parameters(net)

    def update(net: nn.Module) -> None:
        ours.update(net)
        theirs.update_parameters(net)

    walk(net, update, 5)
    for a, b in zip(ours.net.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_average_goes_on_from_its_state_and_never_trains(net):
    whole = Average(net, decay=0.9)
    walk(net, whole.update, 4)
    again = Average(Small(), decay=0.9)
    again.load_state_dict(whole.state_dict())
    walk(net, lambda net: (whole.update(net), again.update(net)), 1)
    assert int(again.updates) == 5
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not again.train().net.training
    assert not any(p.requires_grad for p in again.net.parameters())


def test_inverse_class_is_scikit_learns_and_soft_shares_count_in_part():
    classes = np.random.default_rng(0).integers(0, 5, 200) ** 2 % 5
    weights = inverse_class(np.eye(5)[classes])
    theirs = compute_sample_weight("balanced", classes)
    np.testing.assert_allclose(weights, theirs / theirs.mean())
    soft = np.array([[0.5, 0.5], [1, 0], [1, 0]])
    expected = np.array([0.5 / 2.5 + 0.5 / 0.5, 1 / 2.5, 1 / 2.5])
    np.testing.assert_allclose(inverse_class(soft), expected / expected.mean())


def test_rows_without_labels_have_the_mean_weight():
    shares = np.eye(2)[[0, 0, 0, 1, 0]]
    shares[4] = NAN
    weights = inverse_class(shares)
    assert weights[4] == pytest.approx(weights[:4].mean())
    va = np.array([[0, 0], [0.01, 0], [0.9, 0.9], [NAN, 0.2]])
    assert inverse_cell(va)[3] == pytest.approx(inverse_cell(va)[:3].mean())
    np.testing.assert_array_equal(inverse_cell(np.full((3, 2), NAN)), 1)


def test_inverse_cell_is_numpys_histogram():
    rng = np.random.default_rng(0)
    va = np.vstack([rng.uniform(-1, 1, (500, 2)).round(3), [[1, 1], [-1, -1], [1, -1]]])
    counts, *edges = np.histogram2d(*va.T, bins=20, range=[[-1, 1], [-1, 1]])
    cell = [
        np.minimum(np.searchsorted(edge, v, side="right") - 1, 19)
        for edge, v in zip(edges, va.T, strict=True)
    ]
    expected = 1 / counts[tuple(cell)]
    np.testing.assert_allclose(inverse_cell(va), expected / expected.mean())
    with pytest.raises(DataError, match="-5"):
        inverse_cell(np.array([[0.0, -5.0]]))


def test_class_and_cell_have_an_equal_say():
    shares, va = np.eye(2)[[0, 0, 1, 1]], np.array([[0, 0], [0.5, 0.5], [0.5, 0.5], [NAN, NAN]])
    both = inverse_class_and_cell(shares, va)
    np.testing.assert_allclose(both, (inverse_class(shares) + inverse_cell(va)) / 2)
    assert both.mean() == pytest.approx(1)


WEIGHTS = np.arange(1.0, 51)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_order_is_repeated_and_resumed(weights):
    order = ResumableBatchSampler(50, weights, seed=3, batch=8, epoch=2)
    batches = list(order.batches())
    assert len(batches) == len(order) == 6
    again = list(ResumableBatchSampler(50, weights, seed=3, batch=8, epoch=2).batches(start=4))
    np.testing.assert_array_equal(again, batches[4:])
    for other in (
        ResumableBatchSampler(50, weights, 3, 8, 1),
        ResumableBatchSampler(50, weights, 4, 8, 2),
    ):
        assert not np.array_equal(list(other.batches()), batches)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_every_batch(weights, world):
    order = ResumableBatchSampler(50, weights, seed=3, batch=8)
    parts = [list(order.batches(rank=rank, world=world)) for rank in range(world)]
    together = [np.concatenate(batch) for batch in zip(*parts, strict=True)]
    np.testing.assert_array_equal(together, list(order.batches()))


def test_shuffle_shows_each_row_once_and_weights_draw_in_proportion():
    assert sorted(ResumableBatchSampler(48, None, seed=0, batch=8).rows()) == list(range(48))
    rows = np.concatenate(
        [
            ResumableBatchSampler(50, WEIGHTS, seed=0, batch=10, epoch=epoch).rows()
            for epoch in range(800)
        ]
    )
    share = np.bincount(rows, minlength=50) / len(rows)
    expected = WEIGHTS / WEIGHTS.sum()
    assert (np.abs(share - expected) < 5 * np.sqrt(expected / len(rows))).all()
    balanced = ResumableBatchSampler(
        1000, inverse_class(np.eye(2)[(np.arange(1000) < 50).astype(int)]), seed=1, batch=500
    ).rows()
    assert 0.42 < (balanced < 50).mean() < 0.58


def test_orders_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="fewer than one batch of 64"):
        ResumableBatchSampler(5, None, seed=0, batch=64)
    for wrong in (
        np.ones(4),
        np.zeros(5),
        np.array([1, 1, 1, 1, NAN]),
        np.array([1, 1, 1, 1, -1.0]),
    ):
        with pytest.raises(DataError, match="weights"):
            ResumableBatchSampler(5, wrong, seed=0, batch=5)
    with pytest.raises(ValueError, match="cannot be shared"):
        list(ResumableBatchSampler(50, None, seed=0, batch=8).batches(world=3))
