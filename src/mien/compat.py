"""The calls of EmotiEffLib, and of HSEmotion before it, on mien's bundles.

They give the same numbers as the ONNX engines of those packages from the same file.

>>> "enet_b0_8_va_mtl" in get_model_list()
True

Faces are crops, RGB uint8 (H, W, 3), of any size. BGR cannot be told from RGB by its numbers: turn
what OpenCV reads with ``picture[..., ::-1]``. As in those packages, a face is resized to the
network's input with OpenCV's linear sampling, and valence and arousal are unbounded; `mien.load`
averages areas where a face shrinks, and clips to the range.

Nothing is downloaded: a network that is not on this machine is an error that says how to get it.
Engagement, which EmotiEffLib offers too, is left out: inferring it at school or at work is what
Article 5(1)(f) of the EU AI Act forbids.
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
# mien's names of EmotiEffLib's models, in EmotiEffLib's order: callers take the first.
_MODELS: Final = {
    "enet_b0_8_best_vgaf": "emotieffnet-b0-vgaf",
    "enet_b0_8_best_afew": "emotieffnet-b0-afew",
    "enet_b2_8": "emotieffnet-b2-8",
    "enet_b0_8_va_mtl": "mt-emotieffnet-b0",
    "enet_b2_7": "emotieffnet-b2-7",
    "mbf_va_mtl": "mt-mobilefacenet",
    "mobilevit_va_mtl": "mt-mobilevit",
}


def get_model_list() -> list[str]:
    """Names of EmotiEffLib's models, in its order; they need not be on this machine.

    Returns:
        Names that `EmotiEffLibRecognizer` takes.

    >>> get_model_list()[0]
    'enet_b0_8_best_vgaf'
    """
    return list(_MODELS)


def get_supported_engines() -> list[str]:
    """Names of the engines.

    Returns:
        ``onnx`` alone.

    >>> get_supported_engines()
    ['onnx']
    """
    return [_ENGINE]


def _bundle(model_name: str | Path) -> str | Path:
    """Name or folder of the bundle that a model's name stands for."""
    # EmotiEffLib's names come first: a folder of that name changes nothing.
    if isinstance(model_name, str) and model_name in _MODELS:
        return _MODELS[model_name]
    if str(model_name) in {*_MODELS.values(), *bundles()} or Path(model_name).is_dir():
        return model_name
    raise UnknownNameError("model", str(model_name), _MODELS)


class EmotiEffLibRecognizer:
    """Reads expressions, and with a ``_mtl`` model valence and arousal too, from cropped faces.

    Attributes:
        idx_to_emotion_class: Label of each column of the scores.
        is_mtl: Whether two columns follow, valence and arousal, unbounded.
        img_size: Side of the network's input in px.
        classifier_weights: (K, D) float32, the last layer, from D features to K scores.
        classifier_bias: (K,) float32.
    """

    def __init__(
        self, engine: str = _ENGINE, model_name: str | Path = _DEFAULT, device: str = _DEVICE
    ) -> None:
        """Open a model.

        Args:
            engine: ``onnx``.
            model_name: EmotiEffLib's name of the model, mien's name, or a bundle's folder. Only
                expressions, valence and arousal are read, and they must be linear in its features.
            device: ``cpu``; another one is ignored with a warning, as EmotiEffLib's onnx engine
                ignores it.

        Raises:
            UnknownNameError: There is no such engine or model.
            BundleError: The model is not on this machine, is damaged, or is not of that form.
        """
        if engine != _ENGINE:
            raise UnknownNameError("engine", engine, [_ENGINE])
        if device != _DEVICE:
            warnings.warn(
                f"device {device!r} is ignored: the onnx engine runs on the processor; "
                "leave device out",
                stacklevel=2,
            )
        bundle = _bundle(model_name)
        # Threads are left to ONNX Runtime, as EmotiEffLib does.
        self._model = load(bundle, engine="onnxruntime", threads=0)
        card = self._model.card
        card.exposed()
        # The same resize as in EmotiEffLib, whatever the card asks for.
        pixels = card.pixels.model_copy(update={"resize": "linear"})
        self._model.card = card.model_copy(update={"pixels": pixels})
        # EmotiEffLib writes its labels with a capital.
        labels = map(str.capitalize, self._expressions())
        self.idx_to_emotion_class = dict(enumerate(labels))
        self.is_mtl = TASKS["va"] in self._model.tasks
        self.img_size = card.pixels.size
        families = ("expr", "va") if self.is_mtl else ("expr",)
        _, network = read_bundle(bundle)
        weights, bias = _last_layer(card, network, families)
        self.classifier_weights = weights
        self.classifier_bias = bias

    def _expressions(self) -> tuple[str, ...]:
        """Names of the expressions; BundleError where the model predicts none."""
        for task in self._model.tasks:
            if task.family == "expr":
                return task.names
        raise BundleError(
            f"{self._model.card.name} predicts no expressions; "
            f"use one of: {', '.join(get_model_list())}"
        )

    def extract_features(self, face_img: Image | list[Image]) -> Floats32:
        """Compute features.

        Args:
            face_img: One face, or a list of N, RGB uint8 (H, W, 3).

        Returns:
            Features (N, D) float32; N is 1 for one face.

        Raises:
            TypeError: `face_img` is neither an array nor a list.
            ValueError: The list is empty, or a picture is not RGB uint8 (H, W, 3).
        """
        if not isinstance(face_img, np.ndarray | list):
            raise TypeError(
                "face_img must be one RGB picture, uint8 (H, W, 3), or a list of them, "
                f"got {type(face_img).__name__}"
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
        """Classify faces by their features.

        Args:
            features: (N, D), as `extract_features` gives them.
            logits: Whether expressions are logits; otherwise probabilities. Labels, valence and
                arousal are the same.

        Returns:
            N labels; and scores (N, K) of each expression, then, where `is_mtl`, of valence and
            arousal, unbounded.

        Raises:
            ValueError: `features` has another shape.
        """
        width = self.classifier_weights.shape[1]
        if np.ndim(features) != 2 or np.shape(features)[1] != width:
            raise ValueError(
                f"features must be (N, {width}), as extract_features gives them, "
                f"got {np.shape(features)}"
            )
        scores = np.asarray(features @ self.classifier_weights.T + self.classifier_bias)
        expressions = scores[:, : len(self.idx_to_emotion_class)]
        top = expressions.argmax(axis=1).tolist()
        labels = [self.idx_to_emotion_class[number] for number in top]
        if not logits:
            # `expressions` is a view: this changes its columns of `scores`.
            odds = np.exp(expressions - expressions.max(axis=1, keepdims=True))
            expressions[:] = odds / odds.sum(axis=1, keepdims=True)
        return labels, scores

    def predict_emotions(
        self, face_img: Image | list[Image], logits: bool = True
    ) -> tuple[list[str], Floats32]:
        """Classify faces.

        Args:
            face_img: One face, or a list of N, as for `extract_features`.
            logits: As for `classify_emotions`.

        Returns:
            N labels and scores (N, K), as `classify_emotions` gives them; N is 1 for one face.
        """
        return self.classify_emotions(self.extract_features(face_img), logits)


class HSEmotionRecognizer:
    """The calls of hsemotion and hsemotion-onnx, whose methods for lists are named ``multi``.

    Attributes:
        idx_to_class: Label of each column of the scores.
        is_mtl: As in `EmotiEffLibRecognizer`, like all errors.
        img_size: Side of the network's input in px.
    """

    def __init__(self, model_name: str | Path = _DEFAULT, device: str = _DEVICE) -> None:
        self._recognizer = EmotiEffLibRecognizer(_ENGINE, model_name, device)
        self.idx_to_class = self._recognizer.idx_to_emotion_class
        self.is_mtl = self._recognizer.is_mtl
        self.img_size = self._recognizer.img_size

    def extract_features(self, face_img: Image) -> Floats32:
        """Compute the features of one face.

        Args:
            face_img: One face, RGB uint8 (H, W, 3).

        Returns:
            (1, D) float32.
        """
        return self.extract_multi_features([face_img])

    def extract_multi_features(self, face_img_list: list[Image]) -> Floats32:
        """Compute the features of faces.

        Args:
            face_img_list: N faces, RGB uint8 (H, W, 3).

        Returns:
            (N, D) float32.
        """
        return self._recognizer.extract_features(face_img_list)

    def predict_emotions(self, face_img: Image, logits: bool = True) -> tuple[str, Floats32]:
        """Classify one face.

        Args:
            face_img: One face, RGB uint8 (H, W, 3).
            logits: As for `EmotiEffLibRecognizer.classify_emotions`.

        Returns:
            Its label and its scores (K,).
        """
        labels, scores = self.predict_multi_emotions([face_img], logits)
        return labels[0], scores[0]

    def predict_multi_emotions(
        self, face_img_list: list[Image], logits: bool = True
    ) -> tuple[list[str], Floats32]:
        """Classify faces.

        Args:
            face_img_list: N faces, RGB uint8 (H, W, 3).
            logits: As for `EmotiEffLibRecognizer.classify_emotions`.

        Returns:
            N labels and scores (N, K).
        """
        return self._recognizer.predict_emotions(face_img_list, logits)


def _last_layer(
    card: AffectCard, network: bytes, families: tuple[str, ...]
) -> tuple[Floats32, Floats32]:
    """Weight (K, D) and bias (K,) from the features to the raw output over the temperature.

    Raises BundleError where more than one linear layer lies between.
    """
    # The layer is read from the file: an engine gives outputs, and not its weights.
    graph = onnx.load_model_from_string(network).graph
    producers = {node.output[0]: node for node in graph.node}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights = []
    biases = []
    for family in families:
        layer = _linear_layer(producers.get(family), tensors)
        if layer is None:
            raise BundleError(
                f"{card.name}: {family} is not linear in its features, as these calls need it; "
                f"mien.load({card.name!r}).score reads faces with it"
            )
        weight, bias = layer
        # Float32, so that the quotients stay float32 under every promotion rule of numpy.
        temperature = np.float32(card.temperature.get(family, 1.0))
        weights.append(weight / temperature)
        biases.append(bias / temperature)
    return np.concatenate(weights), np.concatenate(biases)


def _linear_layer(node: Any, tensors: dict[str, Any]) -> tuple[Floats32, Floats32] | None:
    """Weight (K, D) and bias (K,) of a Gemm that reads ``features``; None for any other node."""
    if node is None or node.op_type != "Gemm" or len(node.input) != 3:
        return None
    source, weight_name, bias_name = node.input
    if source != "features" or weight_name not in tensors or bias_name not in tensors:
        return None
    attributes = {}
    for attribute in node.attribute:
        attributes[attribute.name] = helper.get_attribute_value(attribute)
    scaled = attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0
    if attributes.get("transA") or scaled:
        return None
    weight = np.asarray(numpy_helper.to_array(tensors[weight_name]), np.float32)
    bias = np.asarray(numpy_helper.to_array(tensors[bias_name]), np.float32)
    # Gemm multiplies by a (D, K) matrix, or by the transpose of a (K, D) one with transB.
    return (weight if attributes.get("transB") else weight.T), bias
