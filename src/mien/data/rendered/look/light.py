"""Light: from the sky and the ground, and from a few directions; what skin, eyes and hair return.

All colours here are linear RGB.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Light", "Lighting", "diffuse", "highlight", "random_lighting"]

Values = NDArray[np.float32]

_VIEWER: Final = np.array([0.0, 0.0, 1.0], np.float32)
# How far light creeps around into the shade under the skin: red farthest.
_CREEP: Final = np.array([0.35, 0.2, 0.14], np.float32)
# Strength at which a white surface that faces the light is as bright as a picture can be.
_FULL: Final = 1.0


@dataclass(frozen=True, slots=True)
class Light:
    """Light from one direction.

    Attributes:
        direction: Unit vector (3,) toward it.
        colour: Its strength (3,).
    """

    direction: Values
    colour: Values


@dataclass(frozen=True, slots=True)
class Lighting:
    """All light on a face.

    Attributes:
        lights: From single directions; the first casts shadows.
        above: From everywhere above (3,).
        below: From everywhere below (3,).
        shadow: How dark the first light's shadows are, 0..1.
    """

    lights: tuple[Light, ...]
    above: Values
    below: Values
    shadow: float


def random_lighting(rng: np.random.Generator) -> Lighting:
    """Light a face: indoors or outdoors, evenly or from the side, well or badly exposed.

    Args:
        rng: Where the chance comes from.

    Returns:
        The lighting.
    """
    exposure = float(_FULL * 2 ** np.clip(rng.normal(0.1, 0.5), -1.2, 1.0))
    key = float(rng.beta(1.6, 1.4)) * 0.9
    side = rng.normal(0, 42)
    lights = [Light(_toward(side, rng.normal(28, 18)), key * exposure * _tint(rng))]
    if rng.random() < 0.5:
        other = _toward(-side + rng.normal(0, 30), rng.normal(10, 20))
        lights.append(Light(other, float(rng.uniform(0.1, 0.5)) * exposure * _tint(rng)))
    if rng.random() < 0.3:
        behind = _toward(rng.choice((-1, 1)) * rng.uniform(105, 150), rng.uniform(0, 40))
        lights.append(Light(behind, float(rng.uniform(0.3, 1.2)) * exposure * _tint(rng)))
    around = (1 - 0.75 * key) * exposure
    above = around * float(rng.uniform(0.75, 1.0)) * _tint(rng)
    below = around * float(rng.uniform(0.3, 0.8)) * _tint(rng)
    return Lighting(tuple(lights), above, below, float(rng.uniform(0.35, 0.95)))


def _toward(across: float, up: float) -> Values:
    """Unit vector from two angles, degrees: to the image's right, and up."""
    across, up = np.deg2rad((across, up))
    level = np.cos(up)
    return np.array([np.sin(across) * level, np.sin(up), np.cos(across) * level], np.float32)


def _tint(rng: np.random.Generator) -> Values:
    """A colour (3,) near white, from candle to sky."""
    warmth = rng.normal(0, 0.1)
    green = 1 + 0.15 * rng.normal(0, 0.1)
    return np.array([1 + warmth, green, 1 - 1.2 * warmth], np.float32)


def diffuse(normals: Values, lighting: Lighting, lit: Values, day: Values | float = 1.0) -> Values:
    """Compute how much light falls on a surface, with what creeps around under it.

    Args:
        normals: Unit vectors (N, 3).
        lighting: All light.
        lit: How much (N,) of the first light arrives, 0..1.
        day: How much (N, 1) arrives of what comes from everywhere, 0..1.

    Returns:
        (N, 3).
    """
    height = (0.5 + 0.5 * normals[:, 1])[:, None]
    total = day * (lighting.below + height * (lighting.above - lighting.below))
    for k, light in enumerate(lighting.lights):
        facing = normals @ light.direction
        # Where light creeps to, it is weaker on the lit side: its sum stays the same.
        for channel, creep in enumerate(_CREEP):
            arriving = np.maximum(facing + creep, 0) * (light.colour[channel] / (1 + creep))
            total[:, channel] += arriving * lit if k == 0 else arriving
    return total


def highlight(normals: Values, lighting: Lighting, lit: Values, power: float) -> Values:
    """Compute what a surface mirrors of the lights (Blinn's half vector).

    Args:
        normals: Unit vectors (N, 3).
        lighting: All light.
        lit: How much (N,) of the first light arrives, 0..1.
        power: How narrow the highlight is.

    Returns:
        (N, 3).
    """
    total = np.zeros((len(normals), 3), np.float32)
    for k, light in enumerate(lighting.lights):
        half: Values = light.direction + _VIEWER
        half = half / np.float32(max(float(np.linalg.norm(half)), 1e-6))
        strength = np.maximum(normals @ half, 0) ** np.float32(power)
        if k == 0:
            strength = strength * lit
        total += strength[:, None] * light.colour
    return total
