"""From a verified file of the index to a bundle: the network in mien's form, compared with the original, and its card."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from mien.bundles.card import AffectCard, FaceCard, Made
from mien.bundles.engines import TOLERANCE, import_onnxruntime
from mien.errors import BundleError
from mien.faces.detect import STRIDES
from mien.zoo.faces import luma_grid
from mien.zoo.index import Affect, Entry, Faces
from mien.zoo.split import split

__all__ = ["convert", "inspect", "made"]

_CLOSE: Final = 1e-4  # in parts of the largest value
Floats32 = NDArray[np.float32]


def made(known: Entry) -> Made:
    """What the card of a bundle made from this entry says of its making; another file or commit makes another."""
    told = "; ".join(f"{file.name}: {file.hashes}" for file in known.files if file.role == "network")
    cost = f"converted from its authors' file ({told}), nothing trained"
    return Made(recipe=f"mien bundles pull {known.name}", seed=None, commit=known.commit, cost=cost)


def convert(known: Entry, content: bytes) -> tuple[bytes, AffectCard | FaceCard]:
    """The network (the bytes of an ONNX file, of which the index knows the hash) as a bundle has it, and its card.

    Raises BundleError where the file has another form than the entry says, or the converted network gives other numbers.
    """
    if known.network is None:
        raise BundleError(f"{known.name}: only weights to start training from, no network")
    given = known.network
    if isinstance(given, Affect):
        try:
            network = split(content, [(output.task, output.columns) for output in given.outputs], given.pixels.size)
        except (ValueError, BundleError) as error:
            raise BundleError(f"{known.name}: {error}; nothing was installed") from error
        width = _same_affect(known.name, given, content, network)
    else:
        network = luma_grid(content)
        _same_faces(known.name, content, network)
    common: dict[str, Any] = {
        "card": 1, "name": known.name, "summary": known.summary, "sha256": hashlib.sha256(network).hexdigest(), "licence": known.licence,
        "trained_on": known.trained_on, "scores": (), "published": known.published, "limits": known.limits, "not_for": known.not_for,
        "made": made(known),
    }  # fmt: skip
    if isinstance(given, Faces):
        return network, FaceCard(reads="frames", search=given.search, **common)
    card = AffectCard(reads="crops", pixels=given.pixels, tasks=known.tasks, tolerance=TOLERANCE, temperature={}, features=width, **common)
    inspect(card, network)
    return network, card


def inspect(card: AffectCard | FaceCard, network: bytes) -> None:
    """Raises BundleError for a network that reads files of its own, or whose outputs come in another order than the card says."""
    try:
        graph = onnx.load_model_from_string(network).graph
    except Exception as error:  # protobuf raises types of its own
        raise BundleError(f"{card.name}: the network is no ONNX file; get the bundle again from where it came") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(graph)):
        raise BundleError(f"{card.name}: the network wants to read other files; a bundle's network holds all its weights; do not use it")
    if isinstance(card, AffectCard):
        said = [spec.task.family for spec in card.tasks] + ["features"] * (card.features is not None)
        found = [output.name for output in graph.output]
        if found != said:
            raise BundleError(f"{card.name}: the network gives {', '.join(found)}, the card says {', '.join(said)}; do not use it")


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors that a graph holds, in its branches too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors(branch)


def _run(network: bytes, batch: Floats32) -> dict[str, Floats32]:
    """Outputs by name for a batch (N, C, H, W), one picture at a time; raises BundleError when it cannot be run."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        names, eats = [output.name for output in session.get_outputs()], session.get_inputs()[0].name
        rows = [session.run(names, {eats: picture[None]}) for picture in batch]
    except Exception as error:  # engines raise types of their own
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"the network cannot be run on {batch.shape[1:]}: {why}") from error
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}


def _close(name: str, what: str, found: Floats32, expected: Floats32) -> None:
    """Raises BundleError where two arrays differ."""
    if found.shape != expected.shape:
        raise BundleError(f"{name}: converted, {what} has the shape {found.shape}, in the original {expected.shape}; nothing was installed")
    off = float(np.abs(found - expected).max(initial=0) / max(1.0, float(np.abs(expected).max(initial=0))))
    if not off <= _CLOSE:
        raise BundleError(f"{name}: converted, {what} differs from the original by {off:.2g}; nothing was installed")


def _same_affect(name: str, given: Affect, original: bytes, network: bytes) -> int:
    """Width of the features, after a comparison of both networks on noise."""
    size, channels = given.pixels.size, given.pixels.channels
    batch = np.random.default_rng(0).normal(size=(3, channels, size, size)).astype(np.float32)
    before, after = _run(original, batch), _run(network, batch)
    (whole,) = before.values()
    for output in given.outputs:
        _close(name, output.task.family, after[output.task.family], whole[:, list(output.columns)])
    return int(after["features"].shape[1])


def _same_faces(name: str, original: bytes, network: bytes) -> None:
    """The grid is what the original gives for luma in all three channels."""
    luma = np.random.default_rng(0).uniform(0, 255, (2, 1, 64, 96)).astype(np.float32)
    before, grid = _run(original, np.repeat(luma, 3, axis=1)), _run(network, luma)["grid"]
    rows = [
        np.concatenate(
            [np.sqrt(np.clip(before[f"cls_{s}"] * before[f"obj_{s}"], 0, 1)), before[f"bbox_{s}"], before[f"kps_{s}"]], axis=2
        ) for s in STRIDES
    ]  # fmt: skip
    _close(name, "grid", grid, np.concatenate(rows, axis=1))
