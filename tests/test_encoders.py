"""Encoders that were trained elsewhere: adapters, frozen probes, stochastic depth, and what is kept of them."""

import sys

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import save_file
from test_fit import Stop, drawn, make, refuses, same, tensors
from timm.layers.drop import DropPath
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from mien.bundles.engines import open_engine
from mien.bundles.store import open_bundle
from mien.cli import app
from mien.errors import MissingExtraError, UnknownNameError
from mien.tasks import TASKS
from mien.train.bundle.make import make_bundle
from mien.train.loop import fit
from mien.train.networks.backbones import backbone
from mien.train.networks.encoders.adapters import add_adapters, plain_weights
from mien.train.networks.encoders.contract import fill_pixels
from mien.train.networks.network import build, set_tuning
from mien.train.networks.starting_weights import load_start
from mien.train.onnx.export import export
from mien.train.runs.inference import network_of
from mien.train.settings.network import LoraSettings, NetworkSettings

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
SIZE = 32
VA = [TASKS["va"]]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A tiny transformer's weights, as another library would leave them."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "encoder.pt"
    torch.save(backbone("test_vit", 1, SIZE).state_dict(), path)
    return path


def tuned(start, **network):
    network = {"backbone": "test_vit", "start": start, **network}
    return make(drawn(24), tasks=["va"], network=network, fit={"batch": 8})


# Adapters


def test_adapters_are_their_formula(start):
    """In numpy: W x + b + alpha / rank B A x; merged, one matrix."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    net = nn.Sequential(layer)
    images = torch.randn(5, 6)
    before = net(images)
    add_adapters(net, LoraSettings(rank=2, alpha=6))
    torch.testing.assert_close(net(images), before)
    names = {name for name, p in net.named_parameters() if p.requires_grad}
    assert names == {"0.lora_A.default.weight", "0.lora_B.default.weight"}
    a, b = (dict(net.named_parameters())[name] for name in sorted(names))
    nn.init.normal_(b)
    merged = layer.weight.detach().numpy() + 3.0 * b.detach().numpy() @ a.detach().numpy()
    expected = images.numpy() @ merged.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(net(images).detach(), expected, atol=1e-5)
    kept = plain_weights(net)
    assert set(kept) == {"0.weight", "0.bias"}
    np.testing.assert_allclose(kept["0.weight"], merged, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "targets", "adapted"),
    [
        ("test_vit", (), {"qkv", "proj", "fc1", "fc2"}),
        ("test_vit", ("attn.qkv",), {"qkv"}),
        ("test_vit", ("blocks.0.mlp.fc1", "proj"), {"fc1", "proj"}),
        ("test_resnet", ("conv2",), {"conv2"}),
        ("face-resnet", ("conv1",), {"conv1"}),
    ],
)
def test_any_backbone_is_adapted_and_merged(name, targets, adapted):
    torch.manual_seed(0)
    net = build(NetworkSettings(backbone=name), VA, 1, SIZE)
    plain = build(NetworkSettings(backbone=name), VA, 1, SIZE)
    net.tune = "lora"
    add_adapters(net.backbone, LoraSettings(targets=targets))
    trained = [n for n, p in net.backbone.named_parameters() if p.requires_grad]
    assert {n.split(".lora_")[0].rpartition(".")[2] for n in trained} == adapted
    for parameter in net.backbone.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    plain.load_state_dict(plain_weights(net))
    images = torch.randn(3, 1, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(images), net.eval()(images), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "targets", "says"),
    [
        ("test_vit", ["q_proj"], "targets: q_proj is no layer .* are qkv, proj, fc1, fc2"),
        ("test_vit", ["kv"], "targets: kv is no layer"),
        ("test_resnet", [], "has no linear layer; name convolutions in lora.targets, such as"),
        ("test_convnext", ["conv_dw"], "targets: conv_dw is no layer"),
    ],
)
def test_targets_that_match_nothing_are_refused(name, targets, says):
    with pytest.raises(ValueError, match=says):
        add_adapters(backbone(name, 3, 64), LoraSettings(targets=targets))


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"network.tune: lora.*mien\[train\]"):
        add_adapters(backbone("test_vit", 1, SIZE), LoraSettings())


# Runs


@pytest.mark.parametrize("tune", ["probe", "lora"])
def test_what_was_there_stays_and_what_is_kept_is_plain(tmp_path, start, tune, monkeypatch):
    settings = tuned(start, tune=tune)
    run = fit(settings, tmp_path / "run")
    given = torch.load(start, weights_only=True)
    last = run.load("last.pt")["net"]
    for name, tensor in given.items():
        path = f"backbone.{name}"
        if path not in last:
            path = path.replace(".weight", ".base_layer.weight").replace(
                ".bias", ".base_layer.bias"
            )
        assert torch.equal(last[path], tensor), name
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setitem(sys.modules, "peft.tuners", None)
    net = network_of(run)
    moved = [
        name
        for name, tensor in net.backbone.state_dict().items()
        if not torch.equal(tensor, given[name])
    ]
    linear = [name for name, layer in net.backbone.named_modules() if isinstance(layer, nn.Linear)]
    assert moved == ([] if tune == "probe" else [f"{name}.weight" for name in linear])
    again = fit(
        tuned(run.folder / "best.pt").model_copy(update={"keep_heads": True}), tmp_path / "again"
    )
    assert again.facts["best_epoch"] >= 0


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_adapted_run_resumes_to_the_same_weights(tmp_path, start, average):
    settings = tuned(start, tune="lora", drop_path=0.2)
    optim = settings.optim.model_copy(update={"average": average})
    settings = settings.model_copy(update={"optim": optim})
    whole = fit(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "broken", Stop(steps=2))
    broken = fit(settings, tmp_path / "broken")
    same(whole.folder, broken.folder)
    assert any(".lora_" in place for place in tensors(whole.load("last.pt")))


def test_frozen_epochs_hold_adapters_too(tmp_path, start):
    settings = tuned(start, tune="lora")
    fits = settings.fit.model_copy(update={"epochs": 1, "frozen_epochs": 1})
    run = fit(settings.model_copy(update={"fit": fits}), tmp_path)
    last = run.load("last.pt")["net"]
    assert all(not tensor.any() for name, tensor in last.items() if ".lora_B." in name)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_an_adapted_network_is_exported_without_peft(tmp_path, start, monkeypatch):
    network = {"backbone": "test_vit", "start": start, "tune": "lora"}
    data = drawn(16, split="train"), drawn(60, split="val")
    run = fit(make(*data, tasks=["va"], network=network), tmp_path / "run")
    monkeypatch.setitem(sys.modules, "peft", None)
    make_bundle(run, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.onnx").is_file()


def test_tuning_that_does_not_go_together_is_refused(tmp_path, start):
    refuses(
        tuned(start, tune="lora", lora={"targets": ["q"]}),
        tmp_path / "a",
        "lora.targets: q is no layer",
        "qkv",
    )
    settings = tuned(start, tune="probe")
    fits = settings.fit.model_copy(update={"frozen_epochs": 1})
    refuses(
        settings.model_copy(update={"fit": fits}),
        tmp_path / "b",
        "fit.frozen_epochs",
        "tune: probe",
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tune": "lora"}, "tune: lora keeps the backbone's weights, which are random"),
        ({"tune": "probe"}, "tune: probe keeps the backbone's weights, which are random"),
        ({"start": "w.pt", "lora": {"rank": 4}}, "lora: of no effect with tune: full"),
        ({"start": "w.pt", "tune": "lora", "deviation": True}, "deviation"),
        ({"start": "w.pt", "tune": "probe", "drop_path": 0.1}, "drop_path"),
        ({"start": "w.pt", "deviation": True, "drop_path": 0.1}, "drop_path"),
        ({"backbone": "features", "tune": "probe"}, "features has no weights"),
        ({"backbone": "vit_base_patch16_224.mae"}, "none are downloaded; give their file in start"),
        ({"start": "w.pt", "tune": "lora", "lora": {"rank": 0}}, "greater than or equal to 1"),
        ({"tune": "prompt"}, "'full', 'probe' or 'lora'"),
    ],
)
def test_settings_of_tuning_are_checked(wrong, says):
    with pytest.raises(ValidationError, match=says):
        NetworkSettings.model_validate({"backbone": "test_vit", **wrong})


# Stochastic depth


def test_blocks_are_passed_by_in_training_alone():
    torch.manual_seed(0)
    net = build(NetworkSettings(backbone="test_vit", drop_path=0.5), VA, 3, SIZE)
    chances = [layer.drop_prob for layer in net.modules() if isinstance(layer, DropPath)]
    # Two branches a block, of 6 blocks; the first has none.
    np.testing.assert_allclose(chances, np.repeat(np.linspace(0, 0.5, 6)[1:], 2), atol=1e-6)
    plain = build(NetworkSettings(backbone="test_vit"), VA, 3, SIZE)
    plain.load_state_dict(net.state_dict())
    images = torch.randn(4, 3, SIZE, SIZE)
    assert torch.equal(net.eval()(images)[0], plain.eval()(images)[0])
    net.train()
    assert not torch.equal(net.features(images), net.features(images))


@pytest.mark.parametrize("name", ["mobilefacenet", "vgg11"])
def test_networks_without_blocks_to_pass_by_are_refused(name):
    with pytest.raises(ValueError, match=f"drop_path: {name} .* leave it out"):
        backbone(name, 3, 48, drop_path=0.1)


def test_probes_keep_their_statistics(tmp_path):
    torch.manual_seed(0)
    torch.save(backbone("test_resnet", 1, SIZE).state_dict(), tmp_path / "start.pt")
    settings = NetworkSettings(backbone="test_resnet", start=tmp_path / "start.pt", tune="probe")
    net = build(settings, VA, 1, SIZE)
    set_tuning(net, settings)
    net.train()
    assert not net.backbone.training
    assert not any(p.requires_grad for p in net.backbone.parameters())
    assert all(p.requires_grad for p in net.heads.parameters())


# Checkpoints as they are published


def published(path, tensors):
    torch.save(tensors, path) if path.suffix == ".pt" else save_file(tensors, path)
    return path


def test_positions_are_resampled_to_other_pixels_and_it_is_said(tmp_path):
    """From a grid of 4 x 4 patches to 2 x 2: as torch interpolates them; the class token's stays."""
    torch.manual_seed(0)
    old = backbone("test_vit", 3, 64).state_dict()
    path = published(tmp_path / "w.safetensors", old)
    net = build(NetworkSettings(backbone="test_vit", start=path), VA, 3, 32)
    grid = old["pos_embed"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    expected = functional.interpolate(grid, size=2, mode="bicubic", antialias=True)
    new = net.backbone.pos_embed.detach()
    torch.testing.assert_close(new[:, 1:], expected.flatten(2).mT)
    torch.testing.assert_close(new[:, :1], old["pos_embed"][:, :1])
    assert list(net.started.notes()) == [
        "network.start: pos_embed is resampled from (1, 17, 64) to (1, 5, 64)"
    ]


WRAPPINGS = {
    "table": lambda own: {"model": own, "epoch": 3},
    "teacher": lambda own: {
        "student": {f"module.backbone.{name}": tensor + 1 for name, tensor in own.items()},
        "teacher": {f"backbone.{name}": tensor for name, tensor in own.items()},
    },
    "masked autoencoder": lambda own: {
        **{f"encoder.{name}": tensor for name, tensor in own.items()},
        "decoder.blocks.0.norm1.weight": torch.ones(4),
        "mask_token": torch.zeros(1, 1, 4),
    },
    "vision and language": lambda own: {
        **{f"visual.trunk.{name}": tensor for name, tensor in own.items()},
        "text.token_embedding.weight": torch.ones(4, 4),
    },
}


LEFT_OUT = {
    "masked autoencoder": ("decoder.blocks.0.norm1.weight", "mask_token"),
    "vision and language": ("text.token_embedding.weight",),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_published_forms_of_one_encoder_are_one(wrapping, tmp_path):
    torch.manual_seed(0)
    own = backbone("test_vit", 3, SIZE).state_dict()
    path = published(tmp_path / "w.pt", WRAPPINGS[wrapping](own))
    net = build(NetworkSettings(backbone="test_vit", start=path), VA, 3, SIZE)
    assert not net.started.fresh
    others = LEFT_OUT.get(wrapping, ())
    assert net.started.unused == others
    assert [line.partition("left out: ")[2] for line in net.started.notes()] == [", ".join(others)][
        : len(others)
    ]
    for name, tensor in net.backbone.state_dict().items():
        assert torch.equal(tensor, own[name]), name


def test_registers_by_their_authors_name_are_timms(tmp_path):
    """DINOv3 calls them storage tokens, and its file has a mask token and parts of masked biases."""
    torch.manual_seed(0)
    own = backbone("vit_tiny_patch16_dinov3_qkvb", 3, SIZE).state_dict()
    theirs = {
        name.replace("reg_token", "storage_tokens")
        .replace("gamma_", "ls")
        .replace(".ls1", ".ls1.gamma")
        .replace(".ls2", ".ls2.gamma"): tensor
        for name, tensor in own.items()
    }
    theirs |= {"mask_token": torch.zeros(1, 192), "rope_embed.periods": torch.ones(16)}
    path = published(tmp_path / "w.safetensors", theirs)
    net = backbone("vit_tiny_patch16_dinov3_qkvb", 3, SIZE)
    load_start(net, path)
    for name, tensor in net.state_dict().items():
        if not name.endswith(("q_bias", "v_bias")):
            assert torch.equal(tensor, own[name]), name


def test_checkpoints_that_fit_no_network_are_refused(tmp_path):
    own = backbone("test_vit", 3, SIZE).state_dict()
    twice = {f"{part}.x.{name}": tensor for part in "ab" for name, tensor in own.items()}
    shapes = {**own, "norm.weight": torch.ones(5)}
    broken = {**own, "pos_embed": torch.zeros(1, 7, 64)}
    strays = {**own, "adapter.weight": torch.zeros(3)}
    for table, says in (
        (twice, r"the network is in it under a\.x\. and b\.x\.; save the tensors of the one"),
        (shapes, r"norm.weight is \(5,\) in the file, \(64,\) in the network"),
        (broken, r"pos_embed is \(1, 7, 64\) in the file, \(1, 5, 64\) in the network"),
        (strays, "adapter.weight fit nowhere in it; name the backbone"),
        (backbone("test_resnet").state_dict(), "do not fit VisionTransformer"),
    ):
        path = published(tmp_path / "w.pt", table)
        with pytest.raises(ValueError, match=says) as caught:
            build(NetworkSettings(backbone="test_vit", start=path), VA, 3, SIZE)
        assert "\n" not in str(caught.value)


def test_what_a_file_lacks_is_said(tmp_path):
    own = backbone("test_vit", 3, SIZE).state_dict()
    own.pop("cls_token")
    path = published(tmp_path / "w.pt", {**own, "head.weight": torch.zeros(3, 64)})
    net = build(NetworkSettings(backbone="test_vit", start=path), VA, 3, SIZE)
    assert list(net.started.notes()) == [
        "network.start: not in the file, and random: cls_token",
        "network.start: in the file, and left out: head.weight",
    ]


# What an encoder reads


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("vit_base_patch16_224.mae", 224, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        (
            "vit_base_patch14_dinov2.lvd142m",
            518,
            (123.675, 116.28, 103.53),
            (58.395, 57.12, 57.375),
        ),
        (
            "vit_base_patch16_dinov3.lvd1689m",
            256,
            (123.675, 116.28, 103.53),
            (58.395, 57.12, 57.375),
        ),
        ("vit_base_patch16_siglip_224.v2_webli", 224, (127.5,) * 3, (127.5,) * 3),
    ],
)
def test_pixels_are_those_of_the_weights(name, size, mean, std):
    """Means and deviations of ImageNet, and of SigLIP, in units of 0..255."""
    settings = make(tasks=["va"], network={"backbone": name, "start": "w.pt"}, pixels="timm")
    pixels = fill_pixels(settings).filled_pixels
    assert (pixels.size, pixels.mean, pixels.std, pixels.colour) == (size, mean, std, "rgb")


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_filled_pixels_are_in_the_settings_and_on_the_card(tmp_path):
    torch.manual_seed(0)
    path = published(tmp_path / "w.pt", backbone("test_vit", 3, 160).state_dict())
    network = {"backbone": "test_vit.r160_in1k", "start": path, "tune": "probe"}
    data = drawn(8, split="train"), drawn(45, split="val")
    settings = make(*data, tasks=["va"], network=network, pixels="timm", fit={"epochs": 1})
    run = fit(settings, tmp_path / "run")
    fit(settings, tmp_path / "run")
    assert run.settings.pixels.size == 160
    card = open_bundle(make_bundle(run, tmp_path / "bundle")).card
    assert (card.pixels.size, card.pixels.mean) == (160, (127.5, 127.5, 127.5))


def test_show_fills_the_pixels_in(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        "name: mine\ndata: [{set: drawn, count: 20, seed: 0, size: 32}]\ntasks: [va]\n"
        "pixels: timm\nnetwork: {backbone: vit_base_patch16_224.mae, start: w.pt}\n"
    )
    shown = CliRunner().invoke(app, ["train", str(path), "--show"])
    assert yaml.safe_load(shown.stdout)["pixels"]["mean"] == [123.675, 116.28, 103.53]


def test_pixels_that_nobody_knows_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="pixels: timm has no data config of ddamfn"):
        make(network={"backbone": "ddamfn"}, pixels="timm")
    with pytest.raises(UnknownNameError, match="no backbone named 'vit_bas_patch16_224'"):
        fit(make(network={"backbone": "vit_bas_patch16_224"}, pixels="timm"), tmp_path)


# Export


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3", "vit_tiny_patch16_dinov3_qkvb"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_encoders_of_every_kind_are_exported(name, tmp_path):
    """Registers and mean pooling, attention pooling as in SigLIP, rotary positions as in DINOv3."""
    torch.manual_seed(0)
    net = build(NetworkSettings(backbone=name), VA, 3, SIZE).eval()
    images = torch.randn(3, 3, SIZE, SIZE)
    export(net.exported(), tmp_path / "x.onnx", images[:2], ["va"], {0: "batch"})
    (ours,) = open_engine((tmp_path / "x.onnx").read_bytes(), "onnxruntime").run(images.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(ours, net(images)[0], atol=0.01)
