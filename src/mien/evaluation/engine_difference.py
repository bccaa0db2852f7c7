"""How far scores on another engine lie from those on the CPU, measured on a face of mien's own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.bundles.store import load_detector
from mien.demo import portrait
from mien.evaluation.corruptions import CONDITIONS, apply
from mien.systems.opening import load

__all__ = ["EngineDifference", "compare_with_cpu"]


@dataclass(frozen=True, slots=True)
class EngineDifference:
    """Scores on an engine, compared with ONNX Runtime on the CPU.

    Attributes:
        engine: Name of the engine.
        largest: Largest difference of any score.
        tolerance: How far engines of the CPU may differ, from the bundle's card.
        faces: How many pictures of a face were read.
    """

    engine: str
    largest: float
    tolerance: float
    faces: int

    @property
    def within(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.largest <= self.tolerance


def compare_with_cpu(bundle: str | Path, engine: str) -> EngineDifference:
    """Read the built-in portrait, clear and degraded, on an engine and on the CPU.

    Args:
        bundle: Name or folder of a bundle that reads affect.
        engine: Name of the engine.

    Returns:
        How far the scores differ.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: The bundle is damaged, or does not read affect.
        DataError: The bundle reads external features of films.
        MienError: The engine cannot be used here, or not for this network.
    """
    # First: an engine that cannot be used is found out before anything is read.
    compared = load(bundle, engine)
    reference = load(bundle, "onnxruntime")
    picture = portrait()
    face = load_detector(engine="onnxruntime").find(picture)[0]
    pictures, points = [], []
    for condition in CONDITIONS.values():
        changed, moved = apply(condition, picture, face.points)
        # Without points the picture would not be aligned as films and photos are.
        if moved is not None:
            pictures.append(changed)
            points.append(moved)
    scores = compared.score(pictures, np.stack(points))
    expected = reference.score(pictures, np.stack(points))
    largest = 0.0
    for family, values in expected.items():
        largest = max(largest, float(np.abs(scores[family] - values).max()))
    return EngineDifference(compared.engine, largest, reference.card.tolerance, len(pictures))
