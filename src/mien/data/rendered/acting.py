"""What rendered people do: action units of either side of the face, and gaze.

Expressions are the prototypes of `mien.data.drawn.acting`, varied; units come on both sides or on
one, and become blend shapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.acting import PROTOTYPES
from mien.data.drawn.portrayal import UNITS
from mien.data.rendered.mesh.head import HEAD_SHAPES

__all__ = ["Act", "act", "shapes_of"]

# Unit -> shapes that move the same skin, and how far at full activation. {} is the side; a shape
# without one follows the stronger side.
_UNIT_SHAPES: Final[dict[str, dict[str, float]]] = {
    "AU01": {"browInnerUp": 1.0},
    "AU02": {"browOuterUp{}": 1.0},
    "AU04": {"browDown{}": 1.0},
    "AU05": {"eyeWide{}": 1.0},
    "AU06": {"cheekSquint{}": 0.8, "eyeSquint{}": 0.4},
    "AU07": {"eyeSquint{}": 1.0},
    "AU09": {"noseSneer{}": 1.0},
    "AU10": {"mouthUpperUp{}": 0.9},
    "AU12": {"mouthSmile{}": 0.95},
    "AU14": {"mouthDimple{}": 0.9},
    "AU15": {"mouthFrown{}": 1.0},
    "AU16": {"mouthLowerDown{}": 1.0},
    "AU17": {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.3},
    "AU18": {"mouthPucker": 1.0},
    "AU20": {"mouthStretch{}": 1.0},
    "AU22": {"mouthFunnel": 1.0},
    "AU23": {"mouthPress{}": 0.25, "mouthRollLower": 0.4, "mouthRollUpper": 0.35},
    "AU24": {"mouthPress{}": 0.6, "mouthRollLower": 0.25, "mouthRollUpper": 0.25},
    "AU25": {"jawOpen": 0.14, "mouthLowerDown{}": 0.5, "mouthUpperUp{}": 0.4},
    "AU26": {"jawOpen": 0.7},
    "AU28": {"mouthRollLower": 0.9, "mouthRollUpper": 0.8},
    "AU45": {"eyeBlink{}": 1.0},
}
_SIDES: Final = ("Right", "Left")
"""The head's own sides, from the image's left to its right."""

# Movements of no unit here, which faces of no expression may show.
_OTHER_SHAPES: Final = (
    "cheekPuff",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthRight",
    "tongueOut",
)
# The first shape is weakened by the second, by this share at full activation.
_OPPOSITES: Final = (
    ("eyeWide{}", "eyeBlink{}", 1.0),
    ("eyeSquint{}", "eyeBlink{}", 0.7),
    ("eyeSquint{}", "eyeWide{}", 0.5),
    ("mouthPress{}", "jawOpen", 1.0),
    ("mouthRollLower", "jawOpen", 1.0),
    ("mouthRollUpper", "jawOpen", 1.0),
    ("mouthPucker", "mouthSmile{}", 0.8),
    ("mouthFrown{}", "mouthSmile{}", 0.6),
)
# What may come on top of any expression: not the blink, nor what changes its meaning.
_STRAY: Final = [
    index for index, unit in enumerate(UNITS) if unit not in ("AU12", "AU14", "AU15", "AU45")
]
# Gaze, in degrees, at which the lids have followed fully.
_LIDS_FOLLOW: Final = 24


@dataclass(frozen=True, slots=True)
class Act:
    """What a face does.

    Attributes:
        expression: What is played.
        units: Activations (21, 2) in the order of `UNITS`, on the image's left and right, 0..1.
        shapes: Activations (52,) in the order of `HEAD_SHAPES`, 0..1.
        gaze: Where the eyes look from the head, degrees to the image's right and up.
        alert: From drowsy to wide awake, -1..1.
    """

    expression: str
    units: NDArray[np.float64]
    shapes: NDArray[np.float64]
    gaze: tuple[float, float]
    alert: float


def act(rng: np.random.Generator, expression: str) -> Act:
    """Play an expression.

    Args:
        rng: Where the chance comes from.
        expression: A prototype, or ``other`` for a few units that are no prototype.

    Returns:
        The expression at half to full strength; a third of the faces are uneven.
    """
    units = np.zeros(len(UNITS))
    extra: dict[str, float] = {}
    if expression == "other":
        chosen = rng.choice(len(UNITS), rng.integers(1, 6), replace=False)
        units[chosen] = rng.uniform(0.2, 1.0, len(chosen))
        if rng.random() < 0.4:
            extra[str(rng.choice(_OTHER_SHAPES))] = float(rng.uniform(0.2, 0.9))
    else:
        for name, share in PROTOTYPES[expression].items():
            # People leave a unit of the prototype out now and then.
            if share == 1.0 or rng.random() < 0.85:
                units[UNITS.index(name)] = share * rng.uniform(0.7, 1.15)
        units *= rng.uniform(0.55, 1.15)
        _open_mouth(rng, units, expression)
        stray = rng.choice(_STRAY, rng.integers(0, 3), replace=False)
        most = 0.15 if expression == "neutral" else 0.35
        units[stray] = np.maximum(units[stray], rng.uniform(0.0, most, len(stray)))
    blink = UNITS.index("AU45")
    if rng.random() < 0.06:
        units[blink] = rng.uniform(0.5, 1.0)
    sided = np.clip(units[:, None] * _evenness(rng, expression, len(units)), 0, 1)
    gaze = np.clip(rng.normal(0, (9, 6)), (-25, -16), (25, 16))
    if rng.random() < 0.4:
        gaze *= 0.15
    alert = float(np.clip(rng.normal(0, 0.4), -1, 1))
    look = (float(gaze[0]), float(gaze[1]))
    return Act(expression, sided, shapes_of(sided, look, extra), look, alert)


def _open_mouth(rng: np.random.Generator, units: NDArray[np.float64], expression: str) -> None:
    """Show teeth or drop the jaw in some faces, in place: most expressions can do that."""
    chance = {"neutral": 0.0, "contempt": 0.0, "happiness": 0.6}.get(expression, 0.25)
    if rng.random() < chance:
        lips, jaw = UNITS.index("AU25"), UNITS.index("AU26")
        units[lips] = max(units[lips], rng.uniform(0.3, 1.0))
        units[jaw] = max(units[jaw], rng.uniform(0.0, 0.6))


def _evenness(rng: np.random.Generator, expression: str, count: int) -> NDArray[np.float64]:
    """Share of its activation that each unit has on each side (count, 2)."""
    shares = 1 + rng.normal(0, 0.04, (count, 2))
    weaker = int(rng.integers(2))
    if expression == "contempt":
        shares[:, weaker] *= rng.uniform(0, 0.25)
    elif rng.random() < 0.3:
        # Some units of an uneven face, or all.
        uneven = rng.random(count) < rng.choice((0.4, 1.0))
        shares[uneven, weaker] *= rng.uniform(0, 0.8)
    return shares


def shapes_of(
    units: NDArray[np.floating], gaze: tuple[float, float], extra: Mapping[str, float]
) -> NDArray[np.float64]:
    """Turn units and gaze into blend shapes.

    Args:
        units: Activations (21, 2), as in `Act`.
        gaze: As in `Act`.
        extra: Shapes that no unit moves, and their activations.

    Returns:
        Activations (52,) in the order of `HEAD_SHAPES`, 0..1.
    """
    shapes = dict.fromkeys(HEAD_SHAPES, 0.0)
    for unit, sides in zip(UNITS, units, strict=True):
        for pattern, share in _UNIT_SHAPES[unit].items():
            for side, activation in zip(_SIDES, sides, strict=True):
                name = pattern.format(side)
                value = share * float(activation)
                # Two units that move one skin do not move it twice as far.
                shapes[name] = max(shapes[name], value)
    shapes.update(extra)
    for weakened, strong, share in _OPPOSITES:
        for side in _SIDES:
            shapes[weakened.format(side)] *= 1 - share * shapes[strong.format(side)]
    across, up = gaze[0] / _LIDS_FOLLOW, gaze[1] / _LIDS_FOLLOW
    for side, sign in zip(_SIDES, (-1, 1), strict=True):
        shapes[f"eyeLookOut{side}"] = max(sign * across, 0.0)
        shapes[f"eyeLookIn{side}"] = max(-sign * across, 0.0)
        shapes[f"eyeLookUp{side}"] = max(up, 0.0)
        shapes[f"eyeLookDown{side}"] = max(-up, 0.0)
    return np.clip(list(shapes.values()), 0, 1)
