"""The network that tells the people of one film apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.card import IdentityCard
from mien.bundles.engines import Engine
from mien.bundles.model import BATCH, check_finite
from mien.bundles.store import read_bundle, start_engine
from mien.errors import BundleError
from mien.faces.prepare import normalise

__all__ = ["IDENTITY", "Identity", "load_identity"]

IDENTITY: Final = "mien-identity"
"""The bundle that comes with mien."""

Image = NDArray[np.uint8]
Floats32 = NDArray[np.float32]


class Identity:
    """A network that tells people apart, with its card."""

    def __init__(self, card: IdentityCard, engine: Engine) -> None:
        """Join a card and its network.

        Args:
            card: The card.
            engine: The network, ready to run.
        """
        self.card = card
        self._engine = engine

    def describe(self, crops: Sequence[Image]) -> Floats32:
        """Describe faces; the numbers are biometric data, to be kept in memory and no longer.

        Args:
            crops: N crops that `faces.prepare` made, RGB uint8 (size, size, 3), N >= 1.

        Returns:
            Descriptors (N, D), near each other for one person.

        Raises:
            BundleError: The network gives NaN or infinity.
        """
        images = np.asarray(crops)
        parts = []
        # In batches, so that memory does not grow with the number of crops.
        for start in range(0, len(images), BATCH):
            batch = normalise(images[start : start + BATCH], self.card.pixels)
            parts += self._engine.run(batch)
        check_finite(self.card.name, parts)
        return np.concatenate(parts)


def load_identity(name: str | Path = IDENTITY) -> Identity:
    """Load a bundle that tells people apart: verified and ready to run, with ONNX Runtime.

    Args:
        name: Its name or folder.

    Returns:
        The network.

    Raises:
        UnknownNameError: There is no such bundle.
        BundleError: The bundle is damaged, or tells no people apart.
    """
    bundle, network = read_bundle(name)
    card = bundle.card
    if not isinstance(card, IdentityCard):
        raise BundleError(f"{card.name} reads {card.reads}, not people; use {IDENTITY}")
    size = card.pixels.size
    engine, _ = start_engine(
        bundle,
        network,
        "onnxruntime",
        1,
        input_shape=(1, card.pixels.channels, size, size),
        output_shapes={"descriptor": (1, card.descriptor)},
    )
    return Identity(card, engine)
