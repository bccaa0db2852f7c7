"""HUST-ANT's methods for synthetic faces: deviation from the start, GoogLeNet, beliefs, MixAugment, RandAugment, relative uncertainty."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.models import googlenet as theirs
from torchvision.transforms import v2

from mien.bundles.engines import open_engine
from mien.data.drawn.faces import load_drawn
from mien.data.label_table import class_weights
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.tasks import TASKS, Task
from mien.train.inputs.augment import rarity
from mien.train.inputs.crops import AugmentedCropDataset, CropDataset
from mien.train.loop import Progress, fit
from mien.train.networks.backbones import backbone
from mien.train.networks.deviation import Deviation
from mien.train.networks.heads import make_head
from mien.train.networks.network import MultiTaskNet, build, freeze, start_at_means, unfreeze
from mien.train.networks.starting_weights import load_start
from mien.train.networks.uncertainty import UncertainHead
from mien.train.objective.losses import cross_entropy
from mien.train.objective.objective import Objective
from mien.train.onnx.export import export
from mien.train.optim import Average, make_optimiser, perturbed
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import collate, network_of
from mien.train.settings.augmentation import AugmentSettings, RandAugmentSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import Settings, write_settings

NAN = float("nan")
EXPR, VA = TASKS["expr.abaw7"], TASKS["va"]
SIZE = 32
TEMPLATE = ((0.29, 0.33), (0.71, 0.33), (0.5, 0.61), (0.335, 0.79), (0.665, 0.79))  # brows to chin
# Fabric warns of few data workers; that is no news here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]


def make(*data, tasks=("expr.abaw7",), **parts) -> Settings:
    """Settings of a run of a second or less, on drawn faces."""
    fits = {
        "epochs": 2,
        "batch": 8,
        "workers": 0,
        "accelerator": "cpu",
        "find_points": False,
        **parts.pop("fit", {}),
    }
    augment = {"degrade": 0.0, "erase": 0.0, **parts.pop("augment", {})}
    usual = {
        "name": "tiny", "data": data or [{"set": "drawn", "count": 60, "seed": 3, "size": SIZE}], "tasks": tasks,
        "pixels": {"size": SIZE, "colour": "grey", "alignment": "similarity5", "template": TEMPLATE, "mean": [127.0], "std": [64.0]},
        "network": {"backbone": "test_resnet"}, "optim": {"lr": 2e-3}, "augment": augment, "fit": fits,
    }  # fmt: skip
    return Settings.model_validate(usual | parts)


class Stop(Progress):
    """Breaks off as Ctrl-C does, after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def step(self, done, loss, rate, score):
        if done == self.steps:
            raise KeyboardInterrupt


def flat(tree, at=""):
    """All tensors and numbers of a checkpoint by their place in it, but the seconds it took."""
    if isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {
            k: v
            for key, value in pairs
            if key != "seconds"
            for k, v in flat(value, f"{at}/{key}").items()
        }
    return {at: tree}


def goes_on_alike(settings: Settings, folder: Path, steps: int) -> RunFolder:
    """The run, after another one that was interrupted ended with the same checkpoint, to the last bit."""
    whole = fit(settings, folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(settings, folder / "broken", Stop(steps))
    again = fit(settings, folder / "broken")
    left, right = flat(whole.load("last.pt")), flat(again.load("last.pt"))
    assert left.keys() == right.keys()
    for place, value in left.items():
        assert (
            torch.equal(value, right[place])
            if isinstance(value, torch.Tensor)
            else value == right[place]
        ), place
    return whole


def refuses(settings: Settings, out: Path, *parts: str) -> None:
    """One clear line that holds all of `parts`."""
    with pytest.raises(DataError) as caught:
        fit(settings, out)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line, line


# Deviation


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """Weights to start from, whose batch norms have seen data."""
    torch.manual_seed(1)
    net = backbone("test_resnet", 1)
    for norm in (part for part in net.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.momentum = 1.0
        norm.weight.data.clamp_(
            min=0.5
        )  # timm starts the branches at zero, where no gradient passes
    with torch.no_grad():
        net(torch.randn(32, 1, SIZE, SIZE))
    path = tmp_path_factory.mktemp("start") / "start.pt"
    torch.save(net.state_dict(), path)
    return path


def pair(start: Path, **more) -> MultiTaskNet:
    torch.manual_seed(0)
    return build(
        NetworkSettings(backbone="test_resnet", start=start, deviation=True, **more),
        [EXPR, VA],
        1,
        SIZE,
    )


def test_all_faces_are_alike_at_the_start_and_the_gradient_passes(start):
    net, images, shares = pair(start), torch.randn(16, 1, SIZE, SIZE), torch.rand(16, 7).softmax(1)
    start_at_means(net, [shares.numpy(), np.random.default_rng(0).uniform(-1, 1, (16, 2))])
    raw = net.train()(images)
    assert [float(one.detach().std(dim=0).max()) for one in raw] == [0, 0]
    torch.testing.assert_close(raw[0][:1].softmax(1), shares.mean(0, keepdim=True))
    functional.cross_entropy(raw[0], shares).backward()
    found = {name: p.grad for name, p in net.named_parameters()}
    assert all(grad is None for name, grad in found.items() if name.startswith("backbone.frozen"))
    assert all(
        grad.abs().sum() > 0 for name, grad in found.items() if name.startswith("backbone.trained")
    )
    assert found["heads.0.weight"].abs().max() == 0  # it reads zeros
    assert found["heads.0.bias"].abs().max() > 0


def test_features_are_the_difference_in_evaluation_mode(start):
    net, plain = pair(start), backbone("test_resnet", 1)
    load_start(plain, start)
    images = torch.randn(5, 1, SIZE, SIZE)
    with torch.no_grad():
        for p in net.backbone.trained.parameters():
            p.add_(0.02 * torch.randn_like(p))
        moved = copy.deepcopy(plain)
        moved.load_state_dict(net.backbone.trained.state_dict())
        expected = moved.eval()(images) - plain.eval()(images)
        for mode in (True, False):
            torch.testing.assert_close(net.train(mode).features(images), expected)
    assert net.backbone.num_features == plain.num_features
    assert not net.backbone.training
    assert net.started.loaded == tuple(plain.state_dict())
    assert not net.started.fresh


def test_only_one_copy_is_ever_trained(start):
    net = pair(start)
    for change in (unfreeze, freeze, unfreeze):
        change(net)
        learns = {name for name, p in net.named_parameters() if p.requires_grad}
        assert not any(name.startswith("backbone.frozen") for name in learns)
        assert any(name.startswith("backbone.trained") for name in learns) == (change is unfreeze)
    optimised = {
        id(p)
        for group in make_optimiser(net, OptimSettings(weight_decay=0.1)).param_groups
        for p in group["params"]
    }
    assert optimised == {
        id(p) for part in (net.backbone.trained, net.heads) for p in part.parameters()
    }
    average = Average(net, 0.9)
    average.update(net)
    for name, tensor in net.backbone.frozen.state_dict().items():
        assert torch.equal(average.net.state_dict()[f"backbone.frozen.{name}"], tensor)
    net(torch.randn(4, 1, SIZE, SIZE))[0].square().mean().backward()
    with perturbed(net, 0.1):
        assert net.features(torch.randn(4, 1, SIZE, SIZE)).abs().max() > 0


def test_a_run_by_deviation(start, tmp_path):
    settings = make(
        optim={"lr": 5e-3, "weight_decay": 0.1, "sam": 0.02, "average": 0.8},
        network={"backbone": "test_resnet", "start": str(start), "deviation": True, "dropout": 0.2},
    )
    run, first = goes_on_alike(settings, tmp_path, 7), torch.load(start, weights_only=True)
    for name in ("last.pt", "best.pt"):
        net = run.load(name)["net"]
        assert all(
            torch.equal(net[f"backbone.frozen.{key}"], tensor) for key, tensor in first.items()
        )
        changed = {
            key
            for key, tensor in first.items()
            if not torch.equal(net[f"backbone.trained.{key}"], tensor)
        }
        assert changed == {
            key for key, _ in backbone("test_resnet", 1).named_parameters()
        }  # and no batch-norm statistics
    view, images = network_of(run).exported(features=True), torch.randn(3, 1, SIZE, SIZE)
    assert isinstance(view.net.backbone, Deviation)
    path = tmp_path / "x.onnx"
    assert export(view, path, images, ["expr", "features"], {0: "batch"}) < 0.05
    with torch.no_grad():
        np.testing.assert_allclose(
            open_engine(path.read_bytes(), "onnxruntime").run(images.numpy())[0],
            view(images)[0],
            atol=0.05,
        )
    assert "deviation: true" in (run.folder / "settings.yaml").read_text()


def test_faces_settle_both_copies(tmp_path):
    network = {"backbone": "face-resnet", "start": "faces", "deviation": True}
    data = [
        {"set": "drawn", "count": 16, "seed": 3, "size": SIZE, "split": split}
        for split in ("train", "val")
    ]
    run = fit(make(*data, network=network, fit={"epochs": 1, "batch": 16}), tmp_path)
    net = run.load("last.pt")["net"]
    for place in ("norm.running_mean", "norm.running_var", "blocks.7.norm2.running_mean"):
        assert torch.equal(net[f"backbone.frozen.{place}"], net[f"backbone.trained.{place}"])
    assert not torch.equal(net["backbone.frozen.norm.running_mean"], torch.zeros(32))
    assert not torch.equal(net["backbone.frozen.conv.weight"], net["backbone.trained.conv.weight"])


def test_deviation_from_nothing_is_refused(start, tmp_path):
    with pytest.raises(
        ValidationError, match="deviation: from random weights there is nothing to deviate from"
    ):
        NetworkSettings(deviation=True)
    with pytest.raises(ValidationError, match=r"slim, start, deviation, .* of no effect"):
        NetworkSettings(backbone="features", deviation=True)
    network = {"backbone": "test_resnet", "start": str(start), "deviation": True}
    refuses(
        make(network=network, fit={"frozen_epochs": 1}),
        tmp_path,
        "fit.frozen_epochs",
        "nothing deviates",
    )


# GoogLeNet


def test_googlenet_is_torchvisions(tmp_path):
    torch.manual_seed(0)
    whole = theirs(weights=None, aux_logits=True, init_weights=False, num_classes=6)
    with torch.no_grad():
        whole.train()(torch.randn(8, 3, 224, 224))
    torch.save(whole.eval().state_dict(), tmp_path / "g.pt")
    net = backbone("googlenet", 3, 64)
    started = load_start(net, tmp_path / "g.pt")
    assert not started.fresh
    assert {name.split(".")[0] for name in started.unused} == {"aux1", "aux2", "fc"}
    seen: list[torch.Tensor] = []
    whole.avgpool.register_forward_hook(lambda module, given, out: seen.append(out.flatten(1)))
    for size in (64, 15):
        images = torch.randn(2, 3, size, size)
        with torch.no_grad():
            whole(images)
            torch.testing.assert_close(net.eval()(images), seen[-1])
    assert seen[-1].shape[1] == net.num_features == 1024
    grey = build(
        NetworkSettings(backbone="googlenet", start=tmp_path / "g.pt"), [EXPR], 1, 64
    ).eval()
    image = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(
        grey.features(image), net(image.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4
    )


def test_googlenet_refuses_what_leaves_nothing():
    assert backbone("googlenet", 1, 15).train()(torch.randn(2, 1, 15, 15)).shape == (2, 1024)
    with pytest.raises(ValueError, match="crops of 14 px: googlenet needs 15 px or more"):
        backbone("googlenet", 3, 14)
    with pytest.raises(RuntimeError, match="too small"):
        theirs(weights=None, aux_logits=False, init_weights=False).eval()(torch.zeros(1, 3, 14, 14))


# Losses


def test_bootstrapping_is_the_belief_of_hust_ant():
    """Right answers cost the cross-entropy; wrong ones 0.3 of it to the own answer and 0.7 to the label."""
    torch.manual_seed(0)
    raw, label = torch.randn(50, 6, requires_grad=True), torch.randint(6, (50,))
    own = raw.argmax(1)
    to_label = functional.cross_entropy(raw, label, reduction="none")
    to_own = functional.cross_entropy(raw, own, reduction="none")
    belief = torch.where(own == label, to_label, 0.3 * to_own + 0.7 * to_label).sum() / 50
    ours = cross_entropy(raw, torch.eye(6)[label], bootstrap=0.3)
    torch.testing.assert_close(ours, belief)
    torch.testing.assert_close(*(torch.autograd.grad(one, raw)[0] for one in (ours, belief)))


def test_bootstrapping_comes_before_smoothing_and_class_weights():
    rng = np.random.default_rng(0)
    raw, shares, weights = (
        rng.normal(size=(9, 4)),
        rng.dirichlet(np.ones(4), 9),
        np.array([1.0, 3.0, 5.0, 1.0]),
    )
    costs = []
    for row, soft in zip(raw, shares, strict=True):
        belief = 0.6 * soft
        belief[np.argmax(row)] += 0.4
        belief = 0.8 * belief + 0.2 / 4
        costs.append(
            -sum(
                w * b * (r - np.log(np.exp(row).sum()))
                for w, b, r in zip(weights, belief, row, strict=True)
            )
        )
    costs[3] = 0.0
    target = torch.from_numpy(shares)
    target[3] = NAN
    ours = cross_entropy(torch.from_numpy(raw), target, torch.from_numpy(weights), 0.2, 0.4)
    assert ours.item() == pytest.approx(np.mean(costs))


def test_class_weights_by_name():
    settings = LossSettings.model_validate(
        {"classes": {"disgust": 3, "fear": 5}, "smoothing": 0.2, "bootstrap": 0.3}
    )
    assert LossSettings.model_validate(settings.model_dump(mode="json")) == settings
    task = TASKS["expr.lsd6"]
    raw, shares = torch.randn(12, 6), torch.eye(6)[torch.arange(12) % 3]
    objective = Objective.from_labels(
        [task], {"expr": settings}, {"expr": shares.numpy()}
    )  # classes without a face need no count
    assert objective.weights["expr"]["classes"] == [
        5.0 if n == "fear" else 3.0 if n == "disgust" else 1.0 for n in task.names
    ]
    weights = torch.tensor(objective.weights["expr"]["classes"])
    torch.testing.assert_close(
        objective([raw], [shares])[0], cross_entropy(raw, shares, weights, 0.2, 0.3)
    )
    again = Objective([task], {"expr": settings}, objective.weights)
    assert torch.equal(again([raw], [shares])[0], objective([raw], [shares])[0])
    with pytest.raises(ValueError, match=r"expr has no class digust to weigh; it has .*disgust"):
        Objective([task], {"expr": LossSettings(classes={"digust": 3})}, objective.weights)
    with pytest.raises(ValueError, match="va learns by ccc, which has no bootstrap, classes"):
        Objective([VA], {"va": LossSettings(classes={"valence": 3}, bootstrap=0.1)}, {})
    for wrong in (
        {"classes": {"fear": 0}},
        {"classes": {}},
        {"classes": "least"},
        {"bootstrap": 1.0},
    ):
        with pytest.raises(ValidationError):
            LossSettings.model_validate(wrong)
    counted = Objective.from_labels(
        [EXPR], {"expr": LossSettings(classes="max")}, {"expr": np.eye(7)[[0, 0, 1, 2, 3, 4, 5, 6]]}
    )
    assert (
        counted.weights["expr"]["classes"]
        == class_weights(np.eye(7)[[0, 0, 1, 2, 3, 4, 5, 6]], "max").tolist()
    )


# Faces changed at random


def shaken(
    table: pd.DataFrame | None = None, *, tasks: tuple[Task, ...] = (EXPR,), skip=False, **augment
) -> AugmentedCropDataset:
    table = load_drawn(40, size=SIZE, tasks=list(tasks), seed=3) if table is None else table
    pixels = Pixels(
        size=SIZE,
        colour="rgb",
        alignment="similarity5",
        template=TEMPLATE,
        mean=(127.0,) * 3,
        std=(64.0,) * 3,
    )
    return AugmentedCropDataset(
        CropDataset(table, tasks, pixels, skip),
        AugmentSettings(**{"degrade": 0.0, "erase": 0.0, **augment}),
        5,
    )


def test_randaugment_is_the_same_wherever_it_is_drawn():
    data = shaken(randaugment={})
    before = torch.get_rng_state()
    items = [data[3, row] for row in range(8)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    keys = [[(3, row)] for row in reversed(range(8))]
    loader = DataLoader(
        data, batch_sampler=keys, num_workers=2, collate_fn=collate, generator=torch.Generator()
    )
    for (image, target, _), (images, targets, _) in zip(reversed(items), loader, strict=True):
        assert torch.equal(images[0], image)
        assert torch.equal(targets[0], target)
    assert not torch.equal(data[4, 0][0], items[0][0])
    plain = shaken()
    assert (
        sum(not torch.equal(plain[3, row][0], items[row][0]) for row in range(8)) >= 6
    )  # two of fourteen changes may show nothing


def test_randaugment_is_torchvisions():
    """Of the crop as it is aligned, drawn by a seed that is the third number after the crop's own."""
    still = {"turn": 0, "grow": 0, "shift": 0, "flip": 0}
    data = shaken(**still, randaugment={"ops": 3, "magnitude": 20, "chance": 0.999999})
    for row in range(6):
        crop = data.crops.crop(row, None)
        rng = np.random.default_rng((5, 2, row))
        shake, _, _ = (rng.uniform(size=5), rng.random(), rng.random())
        assert shake.size == 5  # turn, grow, flip and shift, then whole, then chance
        torch.manual_seed(int(rng.integers(2**63)))
        changed = v2.RandAugment(3, 20)(torch.from_numpy(crop.transpose(2, 0, 1).copy()))
        torch.testing.assert_close(
            data[2, row][0], (changed.float() - 127) / 64, atol=1e-5, rtol=1e-5
        )


def test_rare_faces_are_changed_as_often_as_balancing_would():
    counts = {"anger": 5, "fear": 20, "happiness": 40}
    shares = np.vstack(
        [np.tile(np.eye(7)[EXPR.names.index(name)], (count, 1)) for name, count in counts.items()]
    )
    table = load_drawn(66, size=SIZE, tasks=[EXPR, VA], seed=3)
    table[list(EXPR.columns)] = np.vstack([shares, np.full(7, NAN)])
    still = {"turn": 0, "grow": 0, "shift": 0, "flip": 0, "randaugment": {"chance": "rare"}}
    data = shaken(table, tasks=(VA, EXPR), **still)
    # As if copies filled the folders: of 40 faces of a class all but the originals are changed.
    expected = np.repeat([(40 - count) / 40 for count in counts.values()], list(counts.values()))
    np.testing.assert_allclose(data.chances, [*expected, 0], atol=1e-6)
    np.testing.assert_allclose(
        rarity(np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5]])), [0, 0, 0.4, 0.2]
    )
    assert rarity(np.full((2, 3), NAN)).tolist() == [0, 0]
    same = [torch.equal(data[0, row][0], data.crops[row][0]) for row in range(66)]
    assert all(same[25:])
    seldom = np.mean(
        [
            not torch.equal(data[epoch, row][0], data.crops[row][0])
            for epoch in range(40)
            for row in range(5)
        ]
    )
    assert 0.7 < seldom <= 0.93  # 0.875, less what changes nothing
    for tasks in ((VA,), (EXPR, Task("mine", ("a", "b"), "one_of"))):
        with pytest.raises(DataError, match="rare needs exactly one one_of task"):
            shaken(
                load_drawn(8, size=SIZE, tasks=[EXPR, VA]).assign(**{"mine_a": 1.0, "mine_b": 0.0}),
                tasks=tasks,
                **still,
            )


def test_every_mixed_face_has_the_real_one_beside_it():
    both, mixing, real = (
        shaken(**kind, tasks=(EXPR, VA))
        for kind in ({"mixup": 1.0, "beside": True}, {"mixup": 1.0}, {})
    )
    for row in range(6):
        images, targets, readable = both[1, row]
        for i, alone in enumerate((mixing, real)):
            image, target, _ = alone[1, row]
            assert torch.equal(images[i], image)
            assert torch.equal(targets[i], target)
        assert readable
        assert not torch.equal(images[0], images[1])
    images, targets, readable = collate([both[1, row] for row in range(6)])
    assert (images.shape, targets.shape, readable) == ((12, 3, SIZE, SIZE), (12, 9), [True] * 6)
    assert torch.equal(images[3], real[1, 1][0])
    raw = torch.randn(12, 7)
    shares = targets[:, :7]
    half = 0.5 * (
        functional.cross_entropy(raw[0::2], shares[0::2])
        + functional.cross_entropy(raw[1::2], shares[1::2])
    )
    torch.testing.assert_close(cross_entropy(raw, shares), half)
    with pytest.raises(ValidationError, match="without mixup"):
        AugmentSettings(beside=True)


def test_a_face_beside_none_that_can_be_read(tmp_path):
    table = load_drawn(12, size=SIZE, tasks=[EXPR], seed=3)
    table["image"] = [
        cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in table["image"]
    ]
    table.at[4, "image"] = b"no picture"
    data = shaken(table, skip=True, mixup=1.0, beside=True)
    images, targets, readable = collate([data[0, row] for row in range(12)])
    assert readable == [row != 4 for row in range(12)]
    assert targets.isnan().any(dim=1).tolist() == [row == 4 for row in range(12) for _ in range(2)]
    assert images.shape[0] == 24


def test_a_run_with_faces_mixed_and_changed(tmp_path):
    changes = {"mixup": 0.4, "beside": True, "randaugment": {"chance": "rare"}}
    settings = make(
        augment=changes,
        fit={"balance": "class", "workers": 2},
        losses={"expr": {"bootstrap": 0.3, "classes": {"fear": 5}}},
    )
    run = goes_on_alike(settings, tmp_path, 4)
    assert np.isfinite(pd.read_csv(run.folder / "curve.csv").to_numpy()).all()
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings
    assert "chance: rare" in write_settings(settings)
    in_one = settings.model_copy(update={"fit": settings.fit.model_copy(update={"workers": 0})})
    alone = fit(in_one, tmp_path / "alone")
    for name, tensor in run.load("last.pt")["net"].items():
        assert torch.equal(alone.load("last.pt")["net"][name], tensor)
    taught = make(
        augment=changes,
        teachers=[str(run.folder)],
        losses={"expr": {"distill": {"weight": 0.5}}},
        fit={"epochs": 1},
    )
    assert np.isfinite(fit(taught, tmp_path / "taught").load("last.pt")["rows"][0]["loss"])
    with pytest.raises(ValidationError, match="cannot teach mixed ones"):
        make(
            augment=changes,
            teachers=[str(run.folder)],
            teachers_see="picture",
            losses={"expr": {"distill": {"weight": 0.5}}},
        )


def test_settings_of_randaugment():
    for wrong in ({"ops": 0}, {"magnitude": 31}, {"chance": 0}, {"chance": "often"}, {"depth": 1}):
        with pytest.raises(ValidationError):
            RandAugmentSettings.model_validate(wrong)
    assert AugmentSettings.model_validate({"randaugment": {}}).randaugment == RandAugmentSettings(
        ops=2, magnitude=9, chance=1.0
    )


# Relative uncertainty


def head_of(width=10, **more) -> UncertainHead:
    torch.manual_seed(4)
    head = make_head(HeadSettings(kind="uncertain", **more), width, EXPR)
    assert isinstance(head, UncertainHead)
    return head


def by_hand(branch: nn.Sequential, features: torch.Tensor) -> np.ndarray:
    """Batch norm without scale, linear, batch norm, with the batch's statistics, in numpy."""

    def norm(x):
        return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)

    x = norm(features.double().numpy())
    x = norm(
        x @ branch[2].weight.detach().double().numpy().T + branch[2].bias.detach().double().numpy()
    )
    return x * branch[3].weight.detach().double().numpy() + branch[3].bias.detach().double().numpy()


def test_faces_are_mixed_by_how_uncertain_they_are():
    head, features, shares = (
        head_of(dropout=0.0),
        3 * torch.randn(9, 10) + 1,
        torch.eye(7)[torch.arange(9) % 7],
    )
    for branch in (head.mean, head.log_variance):
        nn.init.uniform_(branch[3].weight, 0.5, 1.5)
        nn.init.normal_(branch[3].bias)
    raw = head.train()(features)
    j = head.partner.numpy()
    mean, unsure = (
        by_hand(head.mean, features),
        np.exp(by_hand(head.log_variance, features)).mean(1),
    )
    mixed = np.stack(
        [
            (unsure[i] * mean[i] + unsure[k] * mean[k]) / (unsure[i] + unsure[k])
            for i, k in enumerate(j)
        ]
    )
    expected = (
        mixed @ head.last.weight.detach().double().numpy().T
        + head.last.bias.detach().double().numpy()
    )
    np.testing.assert_allclose(raw.detach(), expected, atol=1e-4)
    paper = 0.5 * functional.cross_entropy(raw, shares.argmax(1)) + 0.5 * functional.cross_entropy(
        raw, shares.argmax(1)[head.partner]
    )
    torch.testing.assert_close(cross_entropy(raw, head.mixed_targets(shares)), paper)
    paper.backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for branch in (head.mean, head.log_variance)
        for p in branch[3].parameters()
    )
    shares[2] = NAN
    gone = head.mixed_targets(shares).isnan().any(1)
    assert gone.tolist() == [i == 2 or k == 2 for i, k in enumerate(j)]


def test_the_mean_alone_answers():
    head, features = head_of(), torch.randn(6, 10)
    assert (head.mean[1].p, head.last.in_features, head_of(width=8, dropout=0.1).mean[1].p) == (
        0.4,
        64,
        0.1,
    )
    for _ in range(3):
        head.train()(features)
    assert torch.equal(head.mean[0].weight, torch.ones(10))
    head.eval()
    nn.init.normal_(head.log_variance[3].bias)
    torch.testing.assert_close(head(features)[2:3], head(features[2:3]))
    torch.testing.assert_close(head(features), head.last(head.mean(features)))
    assert torch.equal(head.features(features), head.mean(features))
    target = torch.rand(6, 7)
    assert head.mixed_targets(target) is target


def test_what_is_learned_from_mixtures_tells_single_faces_apart():
    head, centres = head_of(), 2 * torch.randn(7, 10)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(150):
        label = torch.randint(7, (64,))
        raw = head.train()(centres[label] + torch.randn(64, 10))
        optimiser.zero_grad()
        cross_entropy(raw, head.mixed_targets(torch.eye(7)[label])).backward()
        optimiser.step()
    label = torch.randint(7, (500,))
    features = centres[label] + torch.randn(500, 10)
    nearest = torch.cdist(features, centres).argmin(1)  # no one can do better
    found = head.eval()(features).argmax(1)
    assert (found == label).float().mean() > (nearest == label).float().mean() - 0.05 > 0.7


def test_uncertain_heads_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="uncertain: va is scalar, and only one_of tasks"):
        make_head(HeadSettings(kind="uncertain"), 10, VA)
    with pytest.raises(ValidationError, match="pool: a uncertain head has no regions"):
        HeadSettings(kind="uncertain", pool="features")
    heads = {"network": {"backbone": "test_resnet", "heads": {"expr": {"kind": "uncertain"}}}}
    run = fit(make(fit={"epochs": 1}), tmp_path / "teacher")
    taught = make(
        **heads, teachers=[str(run.folder)], losses={"expr": {"distill": {"weight": 0.5}}}
    )
    refuses(taught, tmp_path / "student", "losses.expr.distill", "uncertain")


def test_a_network_mixes_the_targets_of_uncertain_heads_alone():
    heads = {"expr": HeadSettings(kind="uncertain")}
    net = build(NetworkSettings(backbone="test_resnet", heads=heads), [VA, EXPR], 1, SIZE)
    images, target = torch.randn(6, 1, SIZE, SIZE), torch.rand(6, 9)
    partners = []
    for _ in range(4):
        net.train()(images)
        mixed, j = net.mixed_targets(target), net.heads[1].partner
        torch.testing.assert_close(
            mixed, torch.cat([target[:, :2], (target[:, 2:] + target[j, 2:]) / 2], dim=1)
        )
        partners.append(tuple(j.tolist()))
    assert len(set(partners)) > 1
    net.eval()(images)
    assert torch.equal(net.mixed_targets(target), target)


def test_a_run_with_an_uncertain_head(tmp_path):
    """With SAM, whose second pass draws other partners, it goes on as if nothing had happened."""
    network = {"backbone": "test_resnet", "heads": {"expr": {"kind": "uncertain"}}}
    run = goes_on_alike(
        make(network=network, tasks=["expr.abaw7", "va"], optim={"lr": 2e-3, "sam": 0.02}),
        tmp_path,
        4,
    )
    path, images = tmp_path / "x.onnx", torch.randn(3, 1, SIZE, SIZE)
    net = network_of(run)
    assert export(net.exported(), path, images, ["expr", "va"], {0: "batch"}) < 0.05
