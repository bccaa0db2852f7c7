"""Shadows, by pictures of distances taken from the light; and what daylight does not reach."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.rendered.mesh.raster import rasterise, vertex_normals

__all__ = ["Shadows", "openness"]

_SIZE: Final = 128
# How wide the picture from the light is, cm.
_VIEW: Final = 44.0
# How far a surface must lie behind another to be in its shadow, and where it fully is, cm.
_FROM: Final = 0.4
_TO: Final = 1.0
# Where around a point it is looked, px: light sources have a width.
_TAPS: Final = ((0.9, 0.4), (-0.4, 0.9), (-0.9, -0.4), (0.4, -0.9))


# Directions that daylight comes from.
_SKY: Final = 60


class Shadows:
    """What stands in the way of light from one direction.

    Args:
        toward: Unit vector (3,) toward the light.
        strength: How dark shadows are, 0..1.
        vertices: Of everything that casts shadows (V, 3), cm.
        triangles: Indices (T, 3).
    """

    def __init__(
        self,
        toward: NDArray[np.floating],
        strength: float,
        vertices: NDArray[np.floating],
        triangles: NDArray[np.intp],
    ) -> None:
        self._strength = strength
        across = np.cross((0.0, 1.0, 0.0), toward)
        across /= max(float(np.linalg.norm(across)), 1e-6)
        axes = np.stack([across, np.cross(toward, across), toward])
        self._axes = axes.astype(np.float32)
        places, near = self._seen(vertices)
        fragments = rasterise(places, near, triangles, _SIZE, _SIZE)
        self._nearest = np.full(_SIZE * _SIZE, -1e6, np.float32)
        self._nearest[fragments.pixels] = fragments.nearness

    def _seen(
        self, points: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Places (N, 2) in the light's picture, px, and nearness to it (N,), cm."""
        turned = points.astype(np.float32) @ self._axes.T
        places = turned[:, :2] * np.float32(_SIZE / _VIEW) + np.float32(_SIZE / 2)
        return places, turned[:, 2]

    def lit(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Find how much of the light arrives.

        Args:
            points: (N, 3), cm.

        Returns:
            (N,), 0..1.
        """
        places, near = self._seen(points)
        blocked = np.zeros(len(points), np.float32)
        for tap in _TAPS:
            cells = np.clip(places + np.array(tap, np.float32) + 0.5, 0, _SIZE - 1).astype(np.intp)
            gap = self._nearest[cells[:, 1] * _SIZE + cells[:, 0]] - near
            blocked += np.clip((gap - _FROM) / (_TO - _FROM), 0, 1)
        return 1 - np.float32(self._strength / len(_TAPS)) * blocked


def openness(vertices: NDArray[np.floating], triangles: NDArray[np.intp]) -> NDArray[np.float32]:
    """Find how much of daylight from everywhere reaches a surface (ambient occlusion).

    Args:
        vertices: (V, 3), cm.
        triangles: Indices (T, 3), counter-clockwise from outside.

    Returns:
        (V,), 0..1.
    """
    normals = vertex_normals(vertices, triangles)
    # Directions evenly over the sphere: equal steps in height, the golden angle around.
    height = 1 - 2 * (np.arange(_SKY) + 0.5) / _SKY
    around = np.arange(_SKY) * np.pi * (3 - 5**0.5)
    level = np.sqrt(1 - height**2)
    sky = np.stack([level * np.cos(around), height, level * np.sin(around)], axis=1)
    arrived = np.zeros(len(vertices))
    total = np.zeros(len(vertices))
    for toward in sky:
        facing = np.maximum(normals @ toward, 0)
        arrived += facing * Shadows(toward, 1.0, vertices, triangles).lit(vertices)
        total += facing
    return np.divide(arrived, total, out=np.ones(len(vertices)), where=total > 0).astype(np.float32)
