"""The calls of EmotiEffLib and of HSEmotion before it, on mien's bundles: the same numbers as their ONNX engines from the same file.

>>> "enet_b0_8_va_mtl" in get_model_list()
True

Faces go in as RGB uint8 (H, W, 3), each already cut out, of any size: nobody can tell BGR from RGB by looking at the numbers, so turn
what OpenCV reads with ``picture[..., ::-1]``. As theirs do, these calls squash a face to the network's input with OpenCV's linear
sampling and leave valence and arousal unbounded; `mien.load` averages areas where a face shrinks, and clips to the range.

Nothing is downloaded: a network that is not on this machine is an error that says how to get it. Nothing reads engagement, which
EmotiEffLib offers too: inferring it at school or at work is what Article 5(1)(f) of the EU AI Act forbids.
"""

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mien.bundles.card import AffectCard
from mien.bundles.store import bundles, load, read_bundle
from mien.errors import BundleError, UnknownNameError
from mien.tasks import TASKS

__all__ = [
    "EmotiEffLibRecognizer",
    "HSEmotionRecognizer",
    "get_model_list",
    "get_supported_engines",
]

Image = NDArray[np.uint8]
Floats32 = NDArray[np.float32]
_DEFAULT: Final = "enet_b0_8_best_vgaf"
_ENGINE: Final = "onnx"
_DEVICE: Final = "cpu"
_MODELS: Final = {
    "enet_b0_8_best_vgaf": "emotieffnet-b0-vgaf",
    "enet_b0_8_best_afew": "emotieffnet-b0-afew",
    "enet_b2_8": "emotieffnet-b2-8",
    "enet_b0_8_va_mtl": "mt-emotieffnet-b0",
    "enet_b2_7": "emotieffnet-b2-7",
    "mbf_va_mtl": "mt-mobilefacenet",
    "mobilevit_va_mtl": "mt-mobilevit",
}
"""EmotiEffLib's models, in its order, which callers rely on when they take the first; and mien's names of them."""


def get_model_list() -> list[str]:
    """Names of EmotiEffLib's models, in its order; they need not be on this machine.

    >>> get_model_list()[0]
    'enet_b0_8_best_vgaf'
    """
    return list(_MODELS)


def get_supported_engines() -> list[str]:
    """Names of the engines.

    >>> get_supported_engines()
    ['onnx']
    """
    return [_ENGINE]


def _bundle(model_name: str | Path) -> str | Path:
    """The bundle, by name or folder, that a model's name stands for; raises UnknownNameError."""
    if isinstance(model_name, str) and model_name in _MODELS:
        return _MODELS[model_name]
    if str(model_name) in {*_MODELS.values(), *bundles()} or Path(model_name).is_dir():
        return model_name
    raise UnknownNameError("model", str(model_name), _MODELS)


class EmotiEffLibRecognizer:
    """Reads expressions, and with a ``_mtl`` model valence and arousal too, from faces that are already cut out.

    idx_to_emotion_class: the label of each column of the scores.
    is_mtl: whether two columns follow, valence and arousal, unbounded.
    img_size: side of the network's input in px.
    classifier_weights, classifier_bias: (K, D) and (K,) float32, the last layer, from D features to K scores.
    """

    def __init__(
        self, engine: str = _ENGINE, model_name: str | Path = _DEFAULT, device: str = _DEVICE
    ) -> None:
        """Open a model.

        engine: ``onnx``. device: ``cpu``; another one is a warning and changes nothing, as EmotiEffLib's onnx engine ignores it.
        model_name: EmotiEffLib's name of it, a name of mien's, or a bundle's folder. Of any bundle, only expressions, valence and
            arousal are read, and only where they are linear in its features.
        Raises UnknownNameError, and BundleError, also for a model that is not on this machine.
        """
        if engine != _ENGINE:
            raise UnknownNameError("engine", engine, [_ENGINE])
        if device != _DEVICE:
            warnings.warn(
                f"device {device!r} is ignored: the onnx engine runs on the processor; leave device out",
                stacklevel=2,
            )
        bundle = _bundle(model_name)
        # As many threads as ONNX Runtime thinks fit, which is what EmotiEffLib asks for too.
        self._model = load(bundle, engine="onnxruntime", threads=0)
        card = self._model.card
        card.exposed()
        self._model.card = card.model_copy(
            update={"pixels": card.pixels.model_copy(update={"resize": "linear"})}
        )
        labels = next((task.names for task in self._model.tasks if task.family == "expr"), None)
        if labels is None:
            raise BundleError(
                f"{card.name} predicts no expressions; use one of: {', '.join(get_model_list())}"
            )
        self.idx_to_emotion_class = {i: label.capitalize() for i, label in enumerate(labels)}
        self.is_mtl = TASKS["va"] in self._model.tasks
        self.img_size = card.pixels.size
        families = ("expr", "va") if self.is_mtl else ("expr",)
        self.classifier_weights, self.classifier_bias = _last_layer(
            card, read_bundle(bundle)[1], families
        )

    def extract_features(self, face_img: Image | list[Image]) -> Floats32:
        """Features (N, D) float32 of one face, N = 1, or of a list of N.

        Raises TypeError for anything else, ValueError for an empty list and for a picture that is not RGB uint8 (H, W, 3).
        """
        if not isinstance(face_img, np.ndarray | list):
            raise TypeError(
                f"face_img must be one RGB picture, uint8 (H, W, 3), or a list of them, got {type(face_img).__name__}"
            )
        faces = [face_img] if isinstance(face_img, np.ndarray) else face_img
        if not faces:
            raise ValueError(
                "face_img is an empty list; give at least one face, as RGB uint8 (H, W, 3)"
            )
        return self._model.features(faces)

    def classify_emotions(
        self, features: Floats32, logits: bool = True
    ) -> tuple[list[str], Floats32]:
        """Labels of N faces and their scores (N, K), from features (N, D) as `extract_features` gives them.

        Scores: of each expression, then, where `is_mtl`, valence and arousal, unbounded.
        logits: expressions as the network says them; otherwise their probabilities. It changes neither labels nor valence and arousal.
        Raises ValueError for features of another shape.
        """
        width = self.classifier_weights.shape[1]
        if np.ndim(features) != 2 or np.shape(features)[1] != width:
            raise ValueError(
                f"features must be (N, {width}), as extract_features gives them, got {np.shape(features)}"
            )
        scores = np.asarray(features @ self.classifier_weights.T + self.classifier_bias)
        expressions = scores[:, : len(self.idx_to_emotion_class)]
        labels = [self.idx_to_emotion_class[int(i)] for i in expressions.argmax(axis=1)]
        if not logits:
            odds = np.exp(expressions - expressions.max(axis=1, keepdims=True))
            expressions[:] = odds / odds.sum(axis=1, keepdims=True)
        return labels, scores

    def predict_emotions(
        self, face_img: Image | list[Image], logits: bool = True
    ) -> tuple[list[str], Floats32]:
        """Labels and scores of one face, as lists of one, or of a list of N; see `extract_features` and `classify_emotions`."""
        return self.classify_emotions(self.extract_features(face_img), logits)


class HSEmotionRecognizer:
    """The calls of hsemotion and hsemotion-onnx: one face gives one label and a row of scores, a list goes through ``multi``.

    idx_to_class, is_mtl, img_size: as `EmotiEffLibRecognizer` has them; so are `logits`, `device` and what is raised.
    """

    def __init__(self, model_name: str | Path = _DEFAULT, device: str = _DEVICE) -> None:
        self._recognizer = EmotiEffLibRecognizer(_ENGINE, model_name, device)
        self.idx_to_class = self._recognizer.idx_to_emotion_class
        self.is_mtl = self._recognizer.is_mtl
        self.img_size = self._recognizer.img_size

    def extract_features(self, face_img: Image) -> Floats32:
        """Features (1, D) of one face."""
        return self.extract_multi_features([face_img])

    def extract_multi_features(self, face_img_list: list[Image]) -> Floats32:
        """Features (N, D) of N faces."""
        return self._recognizer.extract_features(face_img_list)

    def predict_emotions(self, face_img: Image, logits: bool = True) -> tuple[str, Floats32]:
        """The label of one face and its scores (K,)."""
        labels, scores = self.predict_multi_emotions([face_img], logits)
        return labels[0], scores[0]

    def predict_multi_emotions(
        self, face_img_list: list[Image], logits: bool = True
    ) -> tuple[list[str], Floats32]:
        """Labels of N faces and their scores (N, K)."""
        return self._recognizer.predict_emotions(face_img_list, logits)


def _last_layer(
    card: AffectCard, network: bytes, families: tuple[str, ...]
) -> tuple[Floats32, Floats32]:
    """Weight (K, D) and bias (K,) from the features to the raw output of `families`, over the card's temperature.

    Raises BundleError where more than one linear layer lies between.
    """
    graph = onnx.load_model_from_string(network).graph
    makers = {node.output[0]: node for node in graph.node}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights, biases = [], []
    for family in families:
        layer = _linear(makers.get(family), tensors)
        if layer is None:
            other = f"mien.load({card.name!r}).score reads faces with it"
            raise BundleError(
                f"{card.name}: {family} is not linear in its features, as these calls need it; {other}"
            )
        heat = np.float32(card.temperature.get(family, 1.0))
        weights.append(layer[0] / heat)
        biases.append(layer[1] / heat)
    return np.concatenate(weights), np.concatenate(biases)


def _linear(node: Any, tensors: dict[str, Any]) -> tuple[Floats32, Floats32] | None:
    """Weight (K, D) and bias (K,) of a node that reads the output ``features``; None for any other."""
    if (
        node is None
        or node.op_type != "Gemm"
        or node.input[0] != "features"
        or len(node.input) != 3
    ):
        return None
    found: list[Any] = [tensors.get(name) for name in node.input[1:]]
    facts = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if (
        None in found
        or facts.get("transA")
        or facts.get("alpha", 1.0) != 1.0
        or facts.get("beta", 1.0) != 1.0
    ):
        return None
    weight, bias = (np.asarray(numpy_helper.to_array(tensor), np.float32) for tensor in found)
    return (weight if facts.get("transB") else weight.T), bias
