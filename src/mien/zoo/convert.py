"""From a verified file of the index to a bundle's network and card.

The network is compared with the original.
"""

import hashlib
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mien.bundles.card import AffectCard, FaceCard
from mien.bundles.card_parts import Made
from mien.bundles.engines import TOLERANCE, open_engine, reason
from mien.bundles.gate import inspect
from mien.errors import BundleError
from mien.faces.detect import STRIDES
from mien.zoo.index import Affect, Entry, Faces
from mien.zoo.onnx_split import CONVERTED, apart, split
from mien.zoo.yunet import luma_grid

__all__ = ["convert", "made"]

Floats32 = NDArray[np.float32]


def made(entry: Entry) -> Made:
    """How a bundle of the index was made, for its card.

    Args:
        entry: An entry of the index; whatever changes in it makes another bundle.

    Returns:
        The card's `made`.
    """
    files = [f"{file.name}: {file.hashes}" for file in entry.files if file.role == "network"]
    cost = (
        f"converted from its authors' file ({'; '.join(files)}) "
        f"by the index entry of digest {entry.digest}, nothing trained"
    )
    return Made(recipe=f"mien bundles pull {entry.name}", seed=None, commit=entry.commit, cost=cost)


def convert(entry: Entry, content: bytes) -> tuple[bytes, AffectCard | FaceCard]:
    """Turn a verified file into a bundle.

    Args:
        entry: Its entry in the index.
        content: Content of the ONNX file, whose hash was verified.

    Returns:
        The bundle's network, and its card.

    Raises:
        BundleError: The file differs in form from what the entry says, or the converted
            network gives other numbers.
    """
    if entry.network is None:
        raise BundleError(f"{entry.name}: only weights to start training from, no network")
    try:
        network = _convert_network(entry.network, content)
    except (ValueError, BundleError) as error:
        raise BundleError(f"{entry.name}: {error}; nothing was installed") from error
    card = _card(entry, entry.network, network)
    inspect(card, network)
    if isinstance(card, FaceCard):
        _compare_faces(entry.name, content, network)
    return network, card


def _convert_network(spec: Affect | Faces, content: bytes) -> bytes:
    if isinstance(spec, Affect):
        outputs = [(output.task, output.columns) for output in spec.outputs]
        return split(content, outputs, spec.pixels.size)
    return luma_grid(content)


def _card(entry: Entry, spec: Affect | Faces, network: bytes) -> AffectCard | FaceCard:
    common: dict[str, Any] = {}
    # The entry's own facts go to the card as they are.
    for key in ("name", "summary", "licence", "trained_on", "published", "limits", "not_for"):
        common[key] = getattr(entry, key)
    common["card"] = 1
    common["sha256"] = hashlib.sha256(network).hexdigest()
    # Only scores that mien measured itself; those of its authors are in `published`.
    common["scores"] = ()
    common["made"] = made(entry)
    if isinstance(spec, Faces):
        return FaceCard(reads="frames", search=spec.search, **common)
    # `split` puts the features last, (N, D).
    features = onnx.load_model_from_string(network).graph.output[-1]
    return AffectCard(
        reads="crops",
        pixels=spec.pixels,
        tasks=entry.tasks,
        tolerance=TOLERANCE,
        temperature={},
        features=features.type.tensor_type.shape.dim[1].dim_value,
        **common,
    )


def _compare_faces(name: str, original: bytes, network: bytes) -> None:
    """Compare the grid with what the original gives for grey noise.

    Raises BundleError where they differ.
    """
    luma = np.random.default_rng(0).uniform(0, 255, (2, 1, 64, 96)).astype(np.float32)
    expected = _expected_grid(_run(name, original, np.repeat(luma, 3, axis=1)))
    grid = _run(name, network, luma)["grid"]
    if grid.shape != expected.shape:
        problem = f"has the shape {grid.shape}, not {expected.shape}"
        raise BundleError(
            f"{name}: converted, grid {problem} from the original; nothing was installed"
        )
    difference = apart(grid, expected)
    # Written so that NaN is refused too.
    if not difference <= CONVERTED:
        problem = f"differs by {difference:.2g}"
        raise BundleError(
            f"{name}: converted, grid {problem} from the original; nothing was installed"
        )


def _expected_grid(outputs: dict[str, Floats32]) -> Floats32:
    """The grid (N, M, 15) from the original's outputs, computed here once more in numpy."""
    parts = []
    for stride in STRIDES:
        product = outputs[f"cls_{stride}"] * outputs[f"obj_{stride}"]
        score = np.sqrt(np.clip(product, 0, 1))
        box = outputs[f"bbox_{stride}"]
        points = outputs[f"kps_{stride}"]
        parts.append(np.concatenate([score, box, points], axis=2))
    return np.concatenate(parts, axis=1)


def _run(name: str, network: bytes, batch: Floats32) -> dict[str, Floats32]:
    """Outputs by name for a batch (N, C, H, W), one picture at a time: its batch size may be fixed.

    Raises BundleError when it cannot be run.
    """
    try:
        engine = open_engine(network, "onnxruntime")
        runs = [engine.run(picture[None]) for picture in batch]
    except Exception as error:  # engines raise types of their own
        raise BundleError(
            f"{name}: the network cannot be run on {batch.shape[1:]}: {reason(error)}; "
            "nothing was installed"
        ) from error
    outputs = {}
    for names, parts in zip(engine.outputs, zip(*runs, strict=True), strict=True):
        outputs[min(names)] = np.concatenate(parts)
    return outputs
