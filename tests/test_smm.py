"""SMM-EmotionNet: published counts, each part against another implementation, training, export."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models import Inception3

from mien.bundles.engines import available, open_engine
from mien.bundles.store import load
from mien.data.drawn.faces import load_drawn
from mien.data.label_table import labels
from mien.errors import DataError
from mien.tasks import TASKS, Task
from mien.temporal.rows import ema_rows
from mien.train.bundle.make import make_bundle
from mien.train.inputs.crops import CropDataset
from mien.train.loop import fit
from mien.train.networks.backbones import backbone
from mien.train.networks.heads import MessageHead, SignHead, make_head
from mien.train.networks.network import MultiTaskNet, build, start_at_means
from mien.train.networks.smm import REGIONS, WIDTH, Smm, messages_and_signs
from mien.train.objective.objective import Objective
from mien.train.onnx.export import export
from mien.train.settings.network import HeadSettings, NetworkSettings
from mien.train.settings.training import read_settings

pytestmark = pytest.mark.usefixtures("one_thread")

TRIO = (TASKS["au.abaw12"], TASKS["expr.abaw8"], TASKS["va"])
FAMILIES = [task.family for task in TRIO]
SIZE = 48


def weights_of(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def set_norms(net: nn.Module, images: Tensor) -> nn.Module:
    """Give batch norms the statistics of some images, so that answers depend on what is seen."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        net.train()(images)
    for layer in norms:
        layer.momentum = 0.1
    return net.eval()


@cache
def whole() -> MultiTaskNet:
    torch.manual_seed(0)
    net = build(NetworkSettings(backbone="smm"), TRIO, 3, 75)
    set_norms(net, torch.randn(3, 3, 75, 75))
    return net


@cache
def small() -> MultiTaskNet:
    torch.manual_seed(0)
    net = build(NetworkSettings(backbone="smm-small"), TRIO, 3, SIZE)
    set_norms(net, torch.randn(8, 3, SIZE, SIZE))
    return net


def test_published_counts() -> None:
    """Row by row; ours lacks the attention maps' classifier, whose 306 weights nothing reads."""
    net = whole()
    smm = net.backbone
    au, expr, va = net.heads
    rows = {
        "trunk": (weights_of(smm.trunk), 8_965_856),
        "attention stem and maps": (weights_of(smm.attention), 471_427 + 306),
        "embeddings": (weights_of(smm.embed), 17 * 111_216),
        "sign branch": (weights_of(smm.sign), 34_960),
        "message branch": (weights_of(smm.message), 4_352),
        "action units": (weights_of(au), 204),
        "expression": (weights_of(expr), 136),
        "valence and arousal": (weights_of(va), 34),
    }
    for name, (counted, published) in rows.items():
        assert counted == published, name
    assert weights_of(net) == sum(counted for counted, _ in rows.values()) == 11_368_253 - 306


def test_shapes_at_every_step() -> None:
    smm = whole().backbone
    with torch.no_grad():
        assert smm.trunk(torch.zeros(1, 3, 299, 299)).shape == (1, 768, 17, 17)
    images = torch.randn(2, 3, 75, 75)
    maps = smm.trunk(images)
    assert smm.attention(maps).shape == (2, REGIONS, 3, 3)
    assert smm.embeddings(images).shape == (2, REGIONS, WIDTH)
    features = smm(images)
    assert features.shape == (2, smm.num_features) == (2, 2 * 17 * 16)
    assert features.dtype == torch.float32
    assert [raw.shape for raw in whole()(images)] == [(2, 12), (2, 8), (2, 2)]
    assert small().backbone.trunk(torch.zeros(1, 3, 112, 112)).shape == (1, 112, 7, 7)


def test_trunk_is_torchvisions_and_wants_input_of_plus_minus_one(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = Inception3(num_classes=2, aux_logits=False, transform_input=True, init_weights=False)
    set_norms(theirs, torch.randn(2, 3, 139, 139))  # its own last stages need more than 75 px
    torch.save(theirs.state_dict(), tmp_path / "inception.pt")
    ours = build(
        NetworkSettings(backbone="smm", start=tmp_path / "inception.pt"), TRIO, 3, 139
    ).eval()
    assert not [name for name in ours.started.fresh if name.startswith("trunk.")]
    assert {name.split(".")[0] for name in ours.started.unused} == {
        "Mixed_7a",
        "Mixed_7b",
        "Mixed_7c",
        "fc",
    }
    seen: list[Tensor] = []
    theirs.Mixed_6e.register_forward_hook(lambda layer, given, maps: seen.append(maps))
    pixels = 255 * torch.rand(2, 3, 139, 139)
    mean, std = (
        torch.tensor(each).reshape(3, 1, 1)
        for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        theirs((pixels / 255 - mean) / std)
        torch.testing.assert_close(
            ours.backbone.trunk((pixels - 127.5) / 127.5), seen[0], rtol=1e-3, atol=1e-3
        )


def test_regions_are_seventeen_networks_side_by_side() -> None:
    smm = small().backbone
    images = torch.randn(2, 3, SIZE, SIZE)
    maps = smm.trunk(images)
    attention, embeddings = smm.attention(maps), smm.embeddings(images)
    assert 0 < attention.min() < attention.max() < 1
    wide, norm, _, narrow, last_norm, _, _, out, _ = smm.embed
    for region in range(REGIONS):
        rows = slice(region * WIDTH, (region + 1) * WIDTH)
        seen = maps * attention[:, region : region + 1] + maps
        for layer, after in ((wide, norm), (narrow, last_norm)):
            seen = nn.functional.conv2d(
                seen, layer.weight[rows], layer.bias[rows], padding=layer.padding
            )
            shares = [
                tensor[rows].reshape(-1, 1, 1)
                for tensor in (after.running_mean, after.running_var, after.weight, after.bias)
            ]
            seen = (
                (seen - shares[0]) / (shares[1] + after.eps).sqrt() * shares[2] + shares[3]
            ).relu()
        expected = seen.mean(dim=(2, 3)) @ out.weight[rows, :, 0, 0].T + out.bias[rows]
        torch.testing.assert_close(embeddings[:, region], expected, rtol=1e-4, atol=1e-5)
        messages, _ = messages_and_signs(smm(images))
        torch.testing.assert_close(
            messages[:, region], expected @ smm.message.weight[rows, :, 0].T, rtol=1e-4, atol=1e-5
        )


def test_sign_branch_is_pytorchs_transformer_layer() -> None:
    torch.manual_seed(2)
    sign = Smm(1, 32, small=True).eval().sign
    theirs = nn.TransformerEncoderLayer(16, 8, 1024, 0.1, "gelu", batch_first=True).eval()
    names = {
        "look.ask.weight": "self_attn.in_proj_weight",
        "look.ask.bias": "self_attn.in_proj_bias",
        "look.mix": "self_attn.out_proj",
        "norm": "norm1",
        "think.0": "linear1",
        "think.3": "linear2",
        "last_norm": "norm2",
    }
    state = theirs.state_dict()
    renamed = {}
    for name in sign.state_dict():
        ours = next(prefix for prefix in names if name.startswith(prefix))
        renamed[name] = state[names[ours] + name.removeprefix(ours)]
    sign.load_state_dict(renamed)
    assert weights_of(sign) == weights_of(theirs) == 34_960
    embeddings = torch.randn(3, REGIONS, WIDTH)
    places = np.array(
        [
            [
                np.sin(p / 10_000 ** (i / 16))
                if i % 2 == 0
                else np.cos(p / 10_000 ** ((i - 1) / 16))
                for i in range(16)
            ]
            for p in range(17)
        ]
    )
    expected = theirs(embeddings + torch.from_numpy(places).float())
    torch.testing.assert_close(sign(embeddings), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "far"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("key", ["expr.abaw8", "va"])
def test_averaging_predictions_is_averaging_features(
    key: str, kind: torch.dtype, far: float
) -> None:
    """And both are one affine map of all messages, the weights over 17 repeated for each region."""
    torch.manual_seed(3)
    task, features = TASKS[key], torch.randn(64, 544, dtype=kind)
    heads = [
        make_head(HeadSettings(kind="regions", pool=pool), 544, task).to(kind)
        for pool in ("predictions", "features")
    ]
    heads[1].load_state_dict(heads[0].state_dict())
    of_predictions, of_features = (head(features) for head in heads)
    flat = features[:, :272] @ (heads[0].last.weight / 17).repeat(1, 17).T + heads[0].last.bias
    assert (of_predictions - of_features).abs().max() < far
    assert (of_predictions - flat).abs().max() < far


def test_pooling_matters_where_predictions_are_bent() -> None:
    torch.manual_seed(3)
    settings = [
        HeadSettings(kind="regions", pool=pool, squash=True) for pool in ("predictions", "features")
    ]
    heads = [make_head(head, 544, TASKS["va"]) for head in settings]
    heads[1].load_state_dict(heads[0].state_dict())
    features = 5 * torch.randn(16, 544)
    of_predictions, of_features = (head(features) for head in heads)
    assert (of_predictions - of_features).abs().max() > 0.05
    messages = features[:, :272].reshape(16, 17, 16)
    torch.testing.assert_close(of_predictions, heads[0].last(messages).tanh().mean(dim=1))
    torch.testing.assert_close(of_features, heads[0].last(messages.mean(dim=1)).tanh())


def test_every_action_unit_reads_its_own_token() -> None:
    head = make_head(HeadSettings(kind="regions"), 544, TASKS["au.abaw12"])
    assert isinstance(head, SignHead)
    features = torch.randn(4, 544, requires_grad=True)
    raw = head(features)
    for k in range(12):
        token = features[:, 272 + 16 * k : 272 + 16 * (k + 1)]
        torch.testing.assert_close(raw[:, k], token @ head.last.weight[k] + head.last.bias[k])
    raw[:, 5].sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum(dim=0).nonzero().ravel().tolist() == list(
        range(272 + 80, 272 + 96)
    )


def test_heads_start_at_the_means() -> None:
    rng = np.random.default_rng(0)
    targets = (
        rng.random((50, 12)),
        rng.dirichlet(np.ones(8), 50),
        rng.uniform([-0.4, -0.8], [1, 0.4], (50, 2)),
    )
    heads = {
        "va": HeadSettings(kind="regions", squash=True),
        "expr": HeadSettings(kind="regions", pool="features"),
    }
    net = build(NetworkSettings(backbone="smm-small", heads=heads), TRIO, 3, 32).eval()
    start_at_means(net, targets)
    for head in net.heads:
        nn.init.zeros_(head.last.weight)
    for task, raw, target in zip(TRIO, net(torch.randn(1, 3, 32, 32)), targets, strict=True):
        np.testing.assert_allclose(
            task.decode(raw.detach().numpy())[0], target.mean(axis=0), atol=1e-5
        )


@pytest.mark.parametrize("which", [whole, small])
def test_gradient_reaches_every_parameter(which) -> None:
    net = which()
    net.zero_grad()
    # In evaluation mode: batch norm in training takes out what the bias before it adds.
    sum((raw**2).sum() for raw in net(torch.randn(2, 3, 75, 75))).backward()
    assert not [
        name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    net.zero_grad(set_to_none=True)


def test_only_training_is_left_to_chance() -> None:
    net, images = small(), torch.randn(4, 3, SIZE, SIZE)
    with torch.no_grad():
        first, again, alone = net(images), net(images), net(images[2:3])
    for raw, same, single in zip(first, again, alone, strict=True):
        assert torch.equal(raw, same)
        torch.testing.assert_close(raw[2:3], single, atol=1e-5, rtol=1e-4)
    sign = net.backbone.sign
    embeddings = torch.randn(2, REGIONS, WIDTH)
    assert not torch.equal(sign.train()(embeddings), sign(embeddings))
    net.eval()


def test_onnx_answers_as_torch_whatever_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Weights stay in full precision here: what rounding them costs is not this test's question.
    monkeypatch.setattr("mien.train.onnx.export._store_half", lambda path: None)
    view, path, images = (
        small().exported(features=True),
        tmp_path / "x.onnx",
        torch.randn(5, 3, SIZE, SIZE),
    )
    assert export(view, path, images[:2], [*FAMILIES, "features"], {0: "batch"}) < 1e-4
    with torch.no_grad():
        expected = [output.numpy() for output in view(images)]
    for engine in available():
        for output, reference in zip(
            open_engine(path.read_bytes(), engine).run(images.numpy()), expected, strict=True
        ):
            np.testing.assert_allclose(output, reference, atol=1e-4, rtol=1e-4, err_msg=engine)


def test_learns_a_few_faces_by_heart_with_labels_missing(
    tiny_settings: str, tmp_path: Path
) -> None:
    """One table, one forward pass for each face; a third of each task's labels are missing."""
    (tmp_path / "tiny.yaml").write_text(tiny_settings)
    pixels = read_settings(tmp_path / "tiny.yaml").pixels
    table = load_drawn(16, split="train", size=48)
    for i, task in enumerate(TRIO):
        table.loc[table.index[i::3], list(task.columns)] = np.nan
    crops = CropDataset(table, TRIO, pixels, skip_unreadable=False)
    images = torch.stack([crops[i][0] for i in range(len(table))])
    truth = {task.family: labels(table, task) for task in TRIO}
    targets = [torch.from_numpy(truth[family]).float() for family in FAMILIES]
    torch.manual_seed(0)
    net = build(NetworkSettings(backbone="smm-small", start="imagenet"), TRIO, 1, pixels.size)
    objective = Objective.from_labels(TRIO, {}, truth)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    parts = []
    for _ in range(40):
        optimiser.zero_grad()
        loss, part = objective(net(images), targets)
        loss.backward()
        optimiser.step()
        parts.append({family: cost.item() for family, cost in part.items()})
    assert all(np.isfinite(list(part.values())).all() for part in parts)
    for family in FAMILIES:
        assert parts[-1][family] < 0.3 * parts[0][family]


def test_from_settings_to_a_bundle_whose_features_heads_can_read(
    tiny_settings: str, tmp_path: Path, face
) -> None:
    text = tiny_settings.replace("test_efficientnet", "smm-small").replace("epochs: 2", "epochs: 1")
    (tmp_path / "smm.yaml").write_text(text)
    run = fit(read_settings(tmp_path / "smm.yaml"), tmp_path / "run")
    folder = make_bundle(run, tmp_path / "bundle", features=True)
    model = load(folder)
    assert model.card.features == 544
    assert {family: scores.shape for family, scores in model.score([face]).items()} == {
        "expr": (1, 8),
        "va": (1, 2),
        "au": (1, 12),
    }


def test_heads_on_cached_features_are_the_same_heads() -> None:
    net, images = small(), torch.randn(3, 3, SIZE, SIZE)
    heads = {family: HeadSettings(kind="regions") for family in FAMILIES}
    above = build(NetworkSettings(backbone="features", heads=heads), TRIO, 544)
    above.heads.load_state_dict(net.heads.state_dict())
    for raw, from_features in zip(net(images), above(net.features(images)), strict=True):
        assert torch.equal(raw, from_features)
    assert not any(
        isinstance(head, SignHead | MessageHead)
        for head in build(NetworkSettings(backbone="features"), TRIO, 544).heads
    )


def test_smoothed_features_are_smoothed_raw_output() -> None:
    """The authors smooth embeddings; the layers above are affine, so raw output may be smoothed."""
    features = np.random.default_rng(0).normal(size=(30, 544))
    video, frame = np.repeat(["a", "b"], 15), np.tile(np.arange(15), 2)
    smooth = torch.from_numpy(ema_rows(features, video, frame, 9))
    for task in TRIO:
        head = make_head(HeadSettings(kind="regions"), 544, task).double()
        raw = head(torch.from_numpy(features)).detach().numpy()
        np.testing.assert_allclose(
            head(smooth).detach().numpy(), ema_rows(raw, video, frame, 9), rtol=0, atol=1e-12
        )


def test_small_trunk_starts_from_imagenet() -> None:
    start = build(NetworkSettings(backbone="smm-small", start="imagenet"), TRIO, 3, 32)
    plain = build(NetworkSettings(start="imagenet"), TRIO, 3, 32)
    assert not [name for name in start.started.fresh if name.startswith("trunk.")]
    assert {name for name in start.started.fresh if not name.startswith("trunk.")} >= {
        "message.weight",
        "sign.norm.weight",
    }
    for name, tensor in start.backbone.trunk.state_dict().items():
        assert torch.equal(tensor, plain.backbone.state_dict()[name]), name


def test_a_whole_backbone_starts_where_it_ended(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "best.pt")
    again = build(
        NetworkSettings(backbone="smm-small", start=tmp_path / "best.pt"), TRIO, 3, SIZE
    ).eval()
    assert not again.started.fresh
    images = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(again.features(images), small().features(images))


def test_what_cannot_work_is_refused(tiny_settings: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crops of 74 px: smm needs 75 px or more, such as 299"):
        backbone("smm", 3, 74)
    with pytest.raises(
        ValueError, match="crops of 31 px: smm-small needs 32 px or more, such as 112"
    ):
        backbone("smm-small", 3, 31)
    many = Task("au.many", tuple(f"AU{i:02d}" for i in range(18)), "any_of")
    with pytest.raises(
        ValueError, match=r"au\.many has 18 names for 17 sign tokens; set heads.au to kind linear"
    ):
        build(NetworkSettings(backbone="smm-small"), [many], 3, 32)
    generic = NetworkSettings(backbone="smm-small", heads={"au": HeadSettings()})
    assert build(generic, [many], 3, 32).eval()(torch.zeros(1, 3, 32, 32))[0].shape == (1, 18)
    with pytest.raises(ValueError, match="would read 512 numbers, not the 544 of an smm backbone"):
        build(
            NetworkSettings(backbone="ddamfn", heads={"va": HeadSettings(kind="regions")}),
            TRIO,
            3,
            32,
        )
    with pytest.raises(ValueError, match=r"pool: au\.abaw12 is any_of"):
        make_head(HeadSettings(kind="regions", pool="features"), 544, TASKS["au.abaw12"])
    for wrong in (
        {"kind": "regions", "width": 8},
        {"kind": "regions", "dropout": 0.1},
        {"pool": "features"},
    ):
        with pytest.raises(ValidationError):
            HeadSettings.model_validate(wrong)
    (tmp_path / "tiny.yaml").write_text(tiny_settings.replace("test_efficientnet", "smm"))
    with pytest.raises(DataError, match="tiny: crops of 32 px: smm needs 75 px"):
        fit(read_settings(tmp_path / "tiny.yaml"), tmp_path / "run")
