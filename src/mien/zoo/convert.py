"""From a verified file of the index to a bundle: the network in mien's form, compared with the original, and its card."""

import hashlib
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mien.bundles.card import AffectCard, FaceCard, Made
from mien.bundles.engines import TOLERANCE, open_engine, reason
from mien.bundles.gate import inspect
from mien.errors import BundleError
from mien.faces.detect import STRIDES
from mien.zoo.index import Affect, Entry
from mien.zoo.onnx_split import CONVERTED, apart, split
from mien.zoo.yunet import luma_grid

__all__ = ["convert", "made"]

Floats32 = NDArray[np.float32]


def made(known: Entry) -> Made:
    """What the card of a bundle made from this entry says of its making; whatever changes in the entry, it is another bundle."""
    told = "; ".join(
        f"{file.name}: {file.hashes}" for file in known.files if file.role == "network"
    )
    cost = f"converted from its authors' file ({told}) by the index entry of digest {known.digest}, nothing trained"
    return Made(recipe=f"mien bundles pull {known.name}", seed=None, commit=known.commit, cost=cost)


def convert(known: Entry, content: bytes) -> tuple[bytes, AffectCard | FaceCard]:
    """The network (the bytes of an ONNX file, of which the index knows the hash) as a bundle has it, and its card.

    Raises BundleError where the file has another form than the entry says, or the converted network gives other numbers.
    """
    if known.network is None:
        raise BundleError(f"{known.name}: only weights to start training from, no network")
    given = known.network
    try:
        if isinstance(given, Affect):
            network = split(
                content,
                [(output.task, output.columns) for output in given.outputs],
                given.pixels.size,
            )
        else:
            network = luma_grid(content)
    except (ValueError, BundleError) as error:
        raise BundleError(f"{known.name}: {error}; nothing was installed") from error
    common: dict[str, Any] = {
        "card": 1, "name": known.name, "summary": known.summary, "sha256": hashlib.sha256(network).hexdigest(), "licence": known.licence,
        "trained_on": known.trained_on, "scores": (), "published": known.published, "limits": known.limits, "not_for": known.not_for,
        "made": made(known),
    }  # fmt: skip
    card: AffectCard | FaceCard
    if isinstance(given, Affect):
        width = (
            onnx.load_model_from_string(network)
            .graph.output[-1]
            .type.tensor_type.shape.dim[1]
            .dim_value
        )
        card = AffectCard(
            reads="crops",
            pixels=given.pixels,
            tasks=known.tasks,
            tolerance=TOLERANCE,
            temperature={},
            features=width,
            **common,
        )
    else:
        card = FaceCard(reads="frames", search=given.search, **common)
    inspect(card, network)
    if isinstance(card, FaceCard):
        _same_faces(known.name, content, network)
    return network, card


def _same_faces(name: str, original: bytes, network: bytes) -> None:
    """The grid is what the original gives for luma in all three channels, on noise; raises BundleError where it is not."""
    luma = np.random.default_rng(0).uniform(0, 255, (2, 1, 64, 96)).astype(np.float32)
    before, grid = (
        _run(name, original, np.repeat(luma, 3, axis=1)),
        _run(name, network, luma)["grid"],
    )
    rows = [
        np.concatenate(
            [np.sqrt(np.clip(before[f"cls_{s}"] * before[f"obj_{s}"], 0, 1)), before[f"bbox_{s}"], before[f"kps_{s}"]], axis=2
        ) for s in STRIDES
    ]  # fmt: skip
    expected = np.concatenate(rows, axis=1)
    if grid.shape != expected.shape or not (off := apart(grid, expected)) <= CONVERTED:
        how = (
            f"has the shape {grid.shape}, not {expected.shape}"
            if grid.shape != expected.shape
            else f"differs by {off:.2g}"
        )
        raise BundleError(f"{name}: converted, grid {how} from the original; nothing was installed")


def _run(name: str, network: bytes, batch: Floats32) -> dict[str, Floats32]:
    """Outputs by name for a batch (N, C, H, W), one picture at a time; raises BundleError when it cannot be run."""
    try:
        engine = open_engine(network, "onnxruntime")
        rows = [engine.run(picture[None]) for picture in batch]
    except Exception as error:  # engines raise types of their own
        raise BundleError(
            f"{name}: the network cannot be run on {batch.shape[1:]}: {reason(error)}; nothing was installed"
        ) from error
    return {
        min(called): np.concatenate(parts)
        for called, parts in zip(engine.outputs, zip(*rows, strict=True), strict=True)
    }
