"""What the card of a system says of speed and of agreement between engines, measured."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.store import AFFECT, Model
from mien.systems.opening import load
from mien.systems.system import System
from mien.train.bundle.measure import engine_difference, tolerance_of

__all__ = ["speed", "system_tolerance"]

# Frames of the film that is timed, and how often.
_FRAMES: Final = 16
_ROUNDS: Final = 5
# Side of its crops, px: about that of a face in a film of 640x480 px.
_SIDE: Final = 160
# Cards hold tolerances below 1.
_LARGEST_TOLERANCE: Final = 0.999

Image = NDArray[np.uint8]


def speed(folder: Path, features: Sequence[Path] = ()) -> str:
    """Measure how long a system takes for a face, beside mien's own network.

    Both take turns, so that the ratio holds on a machine whose load changes.

    Args:
        folder: Of the system.
        features: Files of the external features that it reads.

    Returns:
        Milliseconds from a cropped face to its scores on one thread, the ratio, and the processor.
    """
    # Neither engine's time depends on what the pixels show.
    shape = (_FRAMES, _SIDE, _SIDE, 3)
    crops = list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    system = _opened(folder, "onnxruntime", features)
    usual = load(AFFECT, "onnxruntime", threads=1)
    seconds: list[float] = []
    usual_seconds: list[float] = []
    # The first round warms the engines up and does not count.
    for _ in range(1 + _ROUNDS):
        seconds.append(_seconds(system, crops))
        usual_seconds.append(_seconds(usual, crops))
    per_face = median(seconds[1:]) / _FRAMES
    ratio = median(seconds[1:]) / median(usual_seconds[1:])
    return (
        f"{1000 * per_face:.1f} ms per face on one thread of {_processor()}, "
        f"{ratio:.1f} times {AFFECT}"
    )


def _opened(folder: Path, engine: str, features: Sequence[Path]) -> System:
    """The system on an engine, with the external features that it reads."""
    system = load(folder, engine, threads=1)
    assert isinstance(system, System)
    return system.with_features(features)


def _seconds(model: Model | System, crops: Sequence[Image]) -> float:
    """How long it takes to read a film of these crops, one face a frame."""
    start = time.perf_counter()
    if isinstance(model, System):
        model.finish(model.signals(crops), np.zeros(len(crops)), np.arange(len(crops)))
    else:
        model.score(crops)
    return time.perf_counter() - start


def _processor() -> str:
    """Name of the processor, as far as the operating system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def system_tolerance(
    folder: Path, table: pd.DataFrame, features: Sequence[Path] = ()
) -> tuple[float, tuple[str, ...]]:
    """Measure how far a system's scores differ between the installed engines.

    Args:
        folder: Of the system.
        table: Label table of the faces to compare on, whole recordings.
        features: Files of the external features that it reads.

    Returns:
        The tolerance of the card, and its limits.
    """

    def opened(engine: str) -> Model | System:
        return _opened(folder, engine, features)

    difference, limits = engine_difference(opened, table)
    # An override may turn a small difference into another expression.
    return min(tolerance_of(difference), _LARGEST_TOLERANCE), limits
