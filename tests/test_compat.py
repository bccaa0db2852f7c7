"""The calls of EmotiEffLib and HSEmotion: their labels and numbers from the same files."""

import copy
import hashlib
import importlib
import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from onnx import TensorProto, helper
from torch import nn
from zoo_forms import mobilefacenet, network, onnx_bytes
from zoo_server import affect_network

from mien import zoo
from mien.bundles.contents import Contents
from mien.bundles.store import embedded, home, load
from mien.compat import (
    EmotiEffLibRecognizer,
    HSEmotionRecognizer,
    get_model_list,
    get_supported_engines,
)
from mien.demo import portrait
from mien.errors import BundleError, UnknownNameError
from mien.zoo.convert import convert
from mien.zoo.install import place

EIGHT = ["Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise"]
SEVEN = [label for label in EIGHT if label != "Contempt"]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)
# EmotiEffLib's name: mien's name, side of the input, labels, further columns, mean and standard
# deviation of values from 0 to 1.
MODELS = {
    "enet_b0_8_best_vgaf": ("emotieffnet-b0-vgaf", 224, EIGHT, 0, IMAGENET),
    "enet_b0_8_best_afew": ("emotieffnet-b0-afew", 224, EIGHT, 0, IMAGENET),
    "enet_b2_8": ("emotieffnet-b2-8", 260, EIGHT, 0, IMAGENET),
    "enet_b0_8_va_mtl": ("mt-emotieffnet-b0", 224, EIGHT, 2, IMAGENET),
    "enet_b2_7": ("emotieffnet-b2-7", 260, SEVEN, 0, IMAGENET),
    "mbf_va_mtl": ("mt-mobilefacenet", 112, EIGHT, 2, HALF),
    "mobilevit_va_mtl": ("mt-mobilevit", 224, EIGHT, 2, IMAGENET),
}
FACE = portrait()[40:250, 120:330]
FACES = [
    FACE,
    np.ascontiguousarray(FACE[:, ::-1]),
    cv2.resize(FACE, (700, 500)),
    cv2.resize(FACE, (31, 47)),
    cv2.resize(FACE, (112, 112)),
    np.random.default_rng(0).integers(0, 256, (224, 260, 3), dtype=np.uint8),
]


def batch_of(faces: list[np.ndarray], name: str) -> np.ndarray:
    """Faces (N, 3, size, size) float32 as the network of that name reads them."""
    _, size, _, _, (mean, std) = MODELS[name]
    small = [cv2.resize(face, (size, size), interpolation=cv2.INTER_LINEAR) for face in faces]
    return ((np.array(small) / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def settled(net: nn.Module, batch: np.ndarray) -> nn.Module:
    """A copy whose norms fit pictures, not noise, so that scores are of the usual size."""
    net = copy.deepcopy(net)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.from_numpy(batch))
    for norm in norms:
        norm.running_var.clamp_(min=0.05)
    return net.eval()


def file_of(name: str) -> bytes:
    """A network in the place of a file of the authors.

    MobileFaceNet and one EfficientNet-B0 have the right form, the others are tiny, but of its size.
    """
    _, size, labels, more, _ = MODELS[name]
    if name == "mbf_va_mtl":
        return onnx_bytes(mobilefacenet(), 112)
    if name == "enet_b0_8_best_vgaf":
        return onnx_bytes(settled(network(size=64), batch_of(FACES, name)))
    model = onnx.load_from_string(affect_network(len(labels) + more, seed=len(name)))
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = size
    return model.SerializeToString()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files by name, converted and installed as `pull` does once it has verified them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(tmp_path_factory.mktemp("home")))
        made = {name: file_of(name) for name in MODELS}
        for name, content in made.items():
            network, card = convert(zoo.entry(MODELS[name][0]), content)
            place(Contents(card, {"model.onnx": network}))
        yield made


def expected(content: bytes, faces: list[np.ndarray], name: str) -> SimpleNamespace:
    """Features, logits and probabilities by EmotiEffLib's documented arithmetic, from its file."""
    labels = MODELS[name][2]
    model = onnx.load_from_string(content)
    read = model.graph.node[-1].input[0]
    model.graph.output.append(helper.make_tensor_value_info(read, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits, features = (
        np.concatenate(parts)
        for parts in zip(
            *(session.run(None, {"input": one[None]}) for one in batch_of(faces, name)), strict=True
        )
    )
    odds = np.exp(logits[:, : len(labels)].astype(float))
    shares = np.concatenate(
        [odds / odds.sum(axis=1, keepdims=True), logits[:, len(labels) :]], axis=1
    )
    words = [labels[i] for i in logits[:, : len(labels)].argmax(axis=1)]
    return SimpleNamespace(features=features, logits=logits, shares=shares, labels=words)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_and_labels_of_the_file_itself(files, name):
    _, size, labels, more, _ = MODELS[name]
    recognizer = EmotiEffLibRecognizer("onnx", name)
    assert recognizer.idx_to_emotion_class == dict(enumerate(labels))
    assert (recognizer.is_mtl, recognizer.img_size) == (more == 2, size)
    wanted = expected(files[name], FACES, name)
    assert wanted.logits.std(axis=0).min() > 1e-3  # it does depend on the picture
    features = recognizer.extract_features(FACES)
    close(features, wanted.features)
    for logits, numbers in ((True, wanted.logits), (False, wanted.shares)):
        found, scores = recognizer.classify_emotions(features, logits)
        assert (found, scores.dtype) == (wanted.labels, np.float32)
        close(scores, numbers)
        again, same = recognizer.predict_emotions(FACES, logits=logits)
        assert again == found
        np.testing.assert_array_equal(same, scores)
    one, scores = recognizer.predict_emotions(FACES[2])
    assert one == wanted.labels[2:3]
    close(scores, wanted.logits[2:3])


def test_valence_and_arousal_stay_unbounded_here_and_only_here(files):
    recognizer = EmotiEffLibRecognizer(model_name="enet_b0_8_va_mtl")
    far = np.full((1, recognizer.classifier_weights.shape[1]), 1e3, np.float32)
    _, scores = recognizer.classify_emotions(far, logits=False)
    assert np.abs(scores[:, -2:]).max() > 1
    assert scores[:, :-2].sum() == pytest.approx(1)
    assert np.abs(load("mt-emotieffnet-b0").score(FACES)["va"]).max() <= 1


def test_pictures_are_sampled_as_theirs_not_averaged(files):
    """The bundle itself averages where a face shrinks, and its card stays as it is."""
    fine = [np.random.default_rng(1).integers(0, 256, (900, 900, 3), dtype=np.uint8)]
    recognizer, model = EmotiEffLibRecognizer(model_name="mbf_va_mtl"), load("mt-mobilefacenet")
    assert np.abs(recognizer.extract_features(fine) - model.features(fine)).max() > 1e-2
    same = [cv2.resize(fine[0], (112, 112))]
    features, raw = model.features_and_raw(same)
    close(recognizer.extract_features(same), features)
    close(recognizer.predict_emotions(same)[1], np.concatenate([raw["expr"], raw["va"]], axis=1))
    close(recognizer.predict_emotions(same, logits=False)[1][:, :8], model.score(same)["expr"])


def test_more_faces_than_go_through_at_once(files):
    recognizer = EmotiEffLibRecognizer(model_name="enet_b2_7")
    labels, scores = recognizer.predict_emotions(FACES * 12)
    assert labels == recognizer.predict_emotions(FACES)[0] * 12
    close(scores, np.tile(recognizer.predict_emotions(FACES)[1], (12, 1)))


def test_the_older_calls(files):
    name = "enet_b0_8_va_mtl"
    older, wanted = HSEmotionRecognizer(model_name=name), expected(files[name], FACES, name)
    assert (older.idx_to_class, older.is_mtl, older.img_size) == (dict(enumerate(EIGHT)), True, 224)
    for logits, numbers in ((True, wanted.logits), (False, wanted.shares)):
        label, scores = older.predict_emotions(FACES[3], logits=logits)
        assert label == wanted.labels[3]
        close(scores, numbers[3])
        labels, many = older.predict_multi_emotions(FACES, logits=logits)
        assert labels == wanted.labels
        close(many, numbers)
    close(older.extract_features(FACES[0]), wanted.features[:1])
    close(older.extract_multi_features(FACES), wanted.features)


# -- The real packages -----------------------------------------------------------------------------


def theirs(
    package: str, folder: str, files: dict[str, bytes], tmp_path: Path, monkeypatch
) -> object:
    """Their module, which finds the files in the home folder and so downloads nothing."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    cache = tmp_path / folder
    cache.mkdir()
    for name, content in files.items():
        (cache / f"{name}.onnx").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(package)
        except ImportError:
            distribution = package.partition(".")[0].replace("_", "-")
            pytest.skip(f"needs the package {distribution}: pip install it beside mien to compare")


def test_emotiefflib_itself_says_the_same(files, tmp_path, monkeypatch):
    module = theirs("emotiefflib.facial_analysis", ".emotiefflib", files, tmp_path, monkeypatch)
    assert get_model_list() == module.get_model_list()
    assert set(get_supported_engines()) < set(module.get_supported_engines())
    for name in MODELS:
        before, now = (
            make(engine="onnx", model_name=name)
            for make in (module.EmotiEffLibRecognizer, EmotiEffLibRecognizer)
        )
        for fact in ("idx_to_emotion_class", "is_mtl", "img_size"):
            assert getattr(before, fact) == getattr(now, fact)
        close(now.classifier_weights, before.classifier_weights)
        close(now.classifier_bias, before.classifier_bias)
        close(now.extract_features(FACES), before.extract_features(FACES))
        for faces in (FACES, FACES[0], FACES[2]):
            for logits in (True, False):
                (labels, scores), (wanted, numbers) = (
                    one.predict_emotions(faces, logits=logits) for one in (now, before)
                )
                assert (labels, scores.shape) == (wanted, numbers.shape)
                close(scores, numbers)


def test_hsemotion_onnx_itself_says_the_same(files, tmp_path, monkeypatch):
    module = theirs("hsemotion_onnx.facial_emotions", ".hsemotion", files, tmp_path, monkeypatch)
    for name in ("enet_b0_8_best_vgaf", "enet_b0_8_va_mtl", "enet_b2_7"):
        before, now = (
            module.HSEmotionRecognizer(model_name=name),
            HSEmotionRecognizer(model_name=name),
        )
        assert (before.idx_to_class, before.is_mtl, before.img_size) == (
            now.idx_to_class,
            now.is_mtl,
            now.img_size,
        )
        for logits in (True, False):
            label, scores = before.predict_emotions(FACES[2], logits=logits)
            assert now.predict_emotions(FACES[2], logits=logits)[0] == label
            close(now.predict_emotions(FACES[2], logits=logits)[1], scores)
            labels, scores = before.predict_multi_emotions(FACES, logits=logits)
            assert now.predict_multi_emotions(FACES, logits=logits)[0] == labels
            close(now.predict_multi_emotions(FACES, logits=logits)[1], scores)


# -- Names -----------------------------------------------------------------------------------------


def test_names_come_from_the_index():
    assert get_model_list() == list(MODELS)  # the order of emotiefflib 1.1.1
    page = (ROOT / "docs" / "howto" / "migrate.md").read_text(encoding="utf-8")
    for name, (ours, size, labels, more, (mean, std)) in MODELS.items():
        known = zoo.entry(ours)
        assert known.file("network").name == f"{name}.onnx"
        columns = [column for output in known.network.outputs for column in output.columns]
        assert columns == list(
            range(len(labels) + more)
        )  # theirs is the order of the tasks, so no column is moved
        assert f"| `{name}` | `{ours}` | {len(labels)} expressions" in page
        assert known.network.pixels.size == size
        np.testing.assert_allclose(known.network.pixels.mean, np.array(mean) * 255)
        np.testing.assert_allclose(known.network.pixels.std, np.array(std) * 255)
    listed = [
        row.split("`")[1]
        for row in page.splitlines()
        if row.startswith(("| `enet", "| `mbf", "| `mobilevit"))
    ]
    assert listed == list(MODELS)


def test_bundles_by_name_and_by_folder(files, tmp_path, monkeypatch):
    by_name = EmotiEffLibRecognizer(model_name="mt-emotieffnet-b0").predict_emotions(FACES)[1]
    folder = home() / "bundles" / "mt-emotieffnet-b0"
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    for name in (folder, str(folder)):
        np.testing.assert_array_equal(
            EmotiEffLibRecognizer(model_name=name).predict_emotions(FACES)[1], by_name
        )


def test_temperature_of_a_card_is_kept_to(files, tmp_path):
    """EmotiEffLib's files have none; with one, probabilities are those of `mien.load`."""
    folder = tmp_path / "mine"
    folder.mkdir()
    theirs = home() / "bundles" / "mt-emotieffnet-b0"
    (folder / "model.onnx").write_bytes((theirs / "model.onnx").read_bytes())
    card = load("mt-emotieffnet-b0").card.model_copy(
        update={"name": "mine", "temperature": {"expr": 2.5}}
    )
    (folder / "card.json").write_text(card.model_dump_json())
    square = [cv2.resize(face, (224, 224)) for face in FACES]
    _, scores = EmotiEffLibRecognizer(model_name=folder).predict_emotions(square, logits=False)
    close(scores[:, :8], load(folder).score(square)["expr"])
    _, raw = EmotiEffLibRecognizer(model_name="mt-emotieffnet-b0").predict_emotions(square)
    close(
        EmotiEffLibRecognizer(model_name=folder).predict_emotions(square)[1],
        raw / ([2.5] * 8 + [1, 1]),
    )


# -- Bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("face", "error", "words"),
    [
        ([], ValueError, "empty list"),
        (FACE.astype(np.float32) / 255, ValueError, "must be RGB uint8 .* got float32"),
        (FACE[..., 0], ValueError, "must be RGB uint8 .* got uint8 \\(210, 210\\)"),
        (
            np.concatenate([FACE, FACE[..., :1]], axis=2),
            ValueError,
            "must be RGB uint8 .* \\(210, 210, 4\\)",
        ),
        (np.stack([FACE, FACE]), ValueError, "must be RGB uint8 .* \\(2, 210, 210, 3\\)"),
        ([FACE, FACE[:0]], ValueError, "crop 1 must be RGB uint8"),
        ([FACE, None], ValueError, "crop 1 .* got NoneType"),
        ((FACE, FACE), TypeError, "or a list of them, got tuple"),
        ("face.jpg", TypeError, "got str"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_is_no_face(files, face, error, words):
    recognizer = EmotiEffLibRecognizer(model_name="enet_b2_7")
    for call in (recognizer.extract_features, recognizer.predict_emotions):
        with pytest.raises(error, match=words) as caught:
            call(face)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("features", [np.zeros(6), np.zeros((2, 7)), np.zeros((0,)), [[1.0, 2.0]]])
def test_what_are_no_features(files, features):
    with pytest.raises(
        ValueError, match=r"features must be \(N, 6\), as extract_features gives them, got \("
    ):
        EmotiEffLibRecognizer(model_name="enet_b2_7").classify_emotions(features)


def test_no_faces_in_are_no_labels_out(files):
    labels, scores = EmotiEffLibRecognizer(model_name="enet_b2_7").classify_emotions(
        np.zeros((0, 6), np.float32), logits=False
    )
    assert (labels, scores.shape) == ([], (0, 7))


def test_a_bundle_of_miens_own():
    """Its heads are linear in its features, so that these calls read it as `Model.score` does."""
    crops = np.random.default_rng(0).integers(0, 255, (3, 112, 112, 3), np.uint8)
    names, scores = EmotiEffLibRecognizer(model_name="mien-s").predict_emotions(
        list(crops), logits=False
    )
    model = load("mien-s")
    own = model.score(list(crops))
    np.testing.assert_allclose(
        scores[:, : own["expr"].shape[1]], own["expr"], atol=0.02
    )  # they sample where mien averages
    assert len(names) == 3


def test_a_head_that_is_not_linear_is_refused(tmp_path):
    folder = tmp_path / "bent"
    shutil.copytree(embedded()["mien-xs"], folder)
    model = onnx.load(str(folder / "model.onnx"))
    last = next(node for node in model.graph.node if "expr" in node.output)
    last.output[0] = "straight"
    model.graph.node.append(onnx.helper.make_node("Relu", ["straight"], ["expr"]))
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    card = json.loads((folder / "card.json").read_text()) | {
        "sha256": hashlib.sha256(content).hexdigest()
    }
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        BundleError, match=r"expr is not linear in its features.*mien.load\(.*\).score"
    ):
        EmotiEffLibRecognizer(model_name=str(folder))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            {},
            BundleError,
            "^emotieffnet-b0-vgaf is not on this machine; "
            "get it with: mien bundles pull emotieffnet-b0-vgaf$",
        ),
        ({"engine": "torch"}, UnknownNameError, "no engine named 'torch'; did you mean onnx"),
        (
            {"model_name": "enet_b0_8_va_mlt"},
            UnknownNameError,
            "no model named 'enet_b0_8_va_mlt'; did you mean enet_b0_8_va_mtl",
        ),
        ({"model_name": "nowhere/at/all"}, UnknownNameError, "no model named 'nowhere/at/all'"),
        ({"model_name": "mien-face"}, BundleError, "mien-face finds faces and cannot read affect"),
    ],
)
def test_what_cannot_be_opened(arguments, error, words, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    with pytest.raises(error, match=words) as caught:
        EmotiEffLibRecognizer(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [EmotiEffLibRecognizer, HSEmotionRecognizer])
def test_a_device_is_ignored_as_theirs_but_not_in_silence(files, make):
    with pytest.warns(UserWarning, match="device 'cuda' is ignored.*leave device out"):
        recognizer = make(model_name="enet_b2_7", device="cuda")
    labels, _ = recognizer.predict_emotions(FACES[0])
    assert labels == make(model_name="enet_b2_7").predict_emotions(FACES[0])[0]
