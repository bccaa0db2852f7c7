"""A frozen backbone as a bundle that gives features alone."""

import json

import numpy as np
import pytest
import torch

import mien
from mien.bundles.readme import readme
from mien.bundles.store import open_bundle
from mien.errors import BundleError, DataError
from mien.faces.prepare import Pixels
from mien.tasks import TASKS
from mien.train.bundle.feature_extractor import freeze_bundle
from mien.train.networks.backbones import backbone
from mien.train.networks.network import build
from mien.train.networks.starting_weights import load_start
from mien.train.settings.network import NetworkSettings

PIXELS = Pixels(size=32, colour="grey", alignment="box", mean=(115.0,), std=(256.0,))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of a tiny network, as a run leaves them."""
    torch.manual_seed(3)
    net = build(NetworkSettings(backbone="test_resnet"), [TASKS["va"]], 1, 32)
    path = tmp_path_factory.mktemp("start") / "best.pt"
    torch.save({"net": net.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def frozen(start, tmp_path_factory):
    return freeze_bundle(
        NetworkSettings(backbone="test_resnet", start=start),
        PIXELS,
        tmp_path_factory.mktemp("frozen"),
        "cold",
    )


def test_features_are_the_networks_own(frozen, start):
    """The backbone in torch, on pixels normalised by hand, whatever the size of the batch."""
    crops = list(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8))
    model = mien.load(frozen, engine="onnxruntime")
    features, raw = model.features_and_raw(crops)
    net = backbone("test_resnet", 1, 32)
    load_start(net, start)
    luma = np.stack([crop @ np.array([0.299, 0.587, 0.114]) for crop in crops])
    with torch.no_grad():
        expected = net.eval()(
            torch.from_numpy(((luma.round() - 115) / 256)[:, None]).float()
        ).numpy()
    np.testing.assert_allclose(features, expected, atol=5e-3)
    assert raw == {}
    with pytest.raises(BundleError, match="predicts nothing, it gives features alone"):
        model.score(crops)
    np.testing.assert_allclose(model.features(crops[:1]), features[:1], atol=1e-5)


def test_the_card_says_that_it_predicts_nothing(frozen):
    card = open_bundle(frozen).card
    assert card.tasks == ()
    assert card.scores == ()
    assert card.widths == (card.features,)
    assert card.pixels == PIXELS
    assert card.made.cost == "none"
    assert "nothing" in readme(card)
    assert open_bundle(frozen).network()  # its hash is that of the card


def test_made_again_it_is_the_same(frozen, start, tmp_path):
    """So what was cached of it before a kill is found again."""
    again = freeze_bundle(
        NetworkSettings(backbone="test_resnet", start=start),
        PIXELS,
        tmp_path / "deep" / "er",
        "cold",
    )
    assert open_bundle(again).card.sha256 == open_bundle(frozen).card.sha256


def test_the_face_network_comes_with_its_terms(tmp_path):
    pixels = PIXELS.model_copy(update={"size": 112})
    card = open_bundle(
        freeze_bundle(
            NetworkSettings(backbone="face-resnet", start="faces"), pixels, tmp_path, "face-resnet"
        )
    ).card
    assert card.features == backbone("face-resnet", 1, 112).num_features
    assert [terms.used_for for terms in card.trained_on] == ["training"]
    assert card.licence == card.trained_on[0].terms != "not stated"


def test_no_bundle_without_weights_to_start_from(tmp_path, start):
    with pytest.raises(DataError, match=r"give network\.start"):
        freeze_bundle(NetworkSettings(backbone="test_resnet"), PIXELS, tmp_path / "none", "cold")
    with pytest.raises(DataError) as caught:
        freeze_bundle(
            NetworkSettings(backbone="test_resnet", start=tmp_path / "no.pt"),
            PIXELS,
            tmp_path / "none",
            "cold",
        )
    assert "no.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cold"):
        freeze_bundle(
            NetworkSettings(backbone="mobilefacenet", start=start),
            PIXELS,
            tmp_path / "none",
            "cold",
        )
    assert not (tmp_path / "none").exists()


def test_a_card_gives_something_and_scores_what_it_predicts(frozen, tmp_path):
    card = json.loads((frozen / "card.json").read_text())
    tasks = [
        {
            "key": "va",
            "names": ["valence", "arousal"],
            "kind": "scalar",
            "low": -1,
            "high": 1,
            "supervised_by": "x",
        }
    ]
    for change, line in (
        ({"features": None}, "tasks: none, and no features"),
        ({"tasks": tasks}, "scores: none, and none published either, though it has tasks"),
    ):
        (tmp_path / "card.json").write_text(json.dumps(card | change))
        with pytest.raises(BundleError, match=line):
            open_bundle(tmp_path)
