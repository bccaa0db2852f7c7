"""The chart: the head's skin laid flat by direction from its middle, to paint on.

Columns are the angle around the head, rows the angle up and down, so the face is in the middle and
takes most of it. Whatever is painted follows the base mesh, and with it every face.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.rendered.mesh.head import SKIN, HeadMesh
from mien.data.rendered.mesh.raster import interpolate, rasterise

__all__ = ["HEIGHT", "WIDTH", "Chart", "chart_of", "chart_places", "noise", "sample"]

HEIGHT: Final = 512
WIDTH: Final = 768
_MIDDLE: Final = np.array([0.0, -2.8, -8.0])
# Degrees from the crown down to where the neck begins.
_EXTENT: Final = 170

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Chart:
    """What lies where on the chart.

    Attributes:
        places: Place (V, 2) of each vertex, column and row.
        position: Place (H, W, 3) on the base mesh of each texel, cm.
        lips: How far each texel (H, W) lies on the lips, 0..1.
        texture: Place (H, W, 2) of each texel in MakeHuman's pictures of skins, 0..1.
    """

    places: Image
    position: Image
    lips: Image
    texture: Image


def chart_places(vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Lay points of the base mesh on the chart.

    Args:
        vertices: (V, 3), cm.

    Returns:
        Columns and rows (V, 2).
    """
    around, up = _angles(vertices)
    column = (around / (2 * np.pi) + 0.5) * WIDTH
    row = (90 - np.rad2deg(up)) / _EXTENT * HEIGHT
    return np.stack([column, row], axis=1) - 0.5


def _angles(vertices: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angle around the head and up from its middle (V,), rad."""
    away = vertices.astype(np.float64) - _MIDDLE
    length = np.linalg.norm(away, axis=1)
    return np.arctan2(away[:, 0], away[:, 2]), np.arcsin(away[:, 1] / length)


def chart_of(mesh: HeadMesh) -> Chart:
    """Lay the skin of a mesh flat.

    Args:
        mesh: The head.

    Returns:
        Its chart.
    """
    places = chart_places(mesh.vertices)
    radius = np.linalg.norm(mesh.vertices - _MIDDLE, axis=1)
    chosen = mesh.parts == SKIN
    triangles, texture = mesh.triangles[chosen], mesh.texture[chosen]
    # Triangles behind the head would reach across the whole chart.
    columns = places[triangles][:, :, 0]
    narrow = columns.max(axis=1) - columns.min(axis=1) < WIDTH / 2
    triangles, texture = triangles[narrow], texture[narrow]
    fragments = rasterise(places, radius, triangles, HEIGHT, WIDTH)
    values = np.concatenate([mesh.vertices, mesh.lips[:, None]], axis=1)
    on_mesh = interpolate(fragments, triangles, values)
    # Corners have a place of their own in the texture: it is cut open along seams.
    corners = texture[fragments.triangle]
    in_texture = np.einsum("nk,nkc->nc", fragments.weights, corners)
    flat = np.zeros((HEIGHT * WIDTH, 6), np.float32)
    flat[fragments.pixels] = np.concatenate([on_mesh, in_texture], axis=1)
    empty = np.ones(HEIGHT * WIDTH, np.uint8)
    empty[fragments.pixels] = 0
    full = _filled(flat.reshape(HEIGHT, WIDTH, 6), empty.reshape(HEIGHT, WIDTH))
    return Chart(places.astype(np.float32), full[:, :, :3], full[:, :, 3], full[:, :, 4:])


def _filled(image: Image, empty: NDArray[np.uint8]) -> Image:
    """The image (H, W, K) with empty texels taken from the nearest that is not."""
    _, labels = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_values = np.zeros((int(labels.max()) + 1, image.shape[2]), np.float32)
    full = empty == 0
    label_values[labels[full]] = image[full]
    return np.asarray(label_values[labels])


def sample(image: Image, places: NDArray[np.floating]) -> Image:
    """Look a chart up, bilinearly.

    Args:
        image: (H, W) or (H, W, K).
        places: Columns and rows (N, 2).

    Returns:
        Values (N,) or (N, K).
    """
    # Such as hair that is seen from one side only; OpenCV takes no empty picture.
    if not len(places):
        return np.zeros((0, *image.shape[2:]), np.float32)
    # OpenCV's remap takes no picture of more than 32,767 rows, so points are laid out in a square.
    side = int(np.ceil(np.sqrt(len(places))))
    square = np.zeros((side * side, 2), np.float32)
    square[: len(places)] = places
    columns, rows = (square[:, k].reshape(side, side) for k in range(2))
    values = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    flat = np.asarray(values, np.float32).reshape(side * side, *image.shape[2:])
    return flat[: len(places)]


def noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> Image:
    """Smooth noise.

    Args:
        rng: Where the chance comes from.
        height: Rows.
        width: Columns.
        cell: Height and width of a cell of the noise, px; from one cell to the next it is free.

    Returns:
        (H, W), mean about 0, standard deviation somewhat below 1.
    """
    rows = max(round(height / cell[0]), 2)
    columns = max(round(width / cell[1]), 2)
    coarse = rng.standard_normal((rows, columns), np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32)
