"""Triangles to pixels: scan conversion with a depth buffer, vectorised over all triangles at once.

Pixel centres lie at whole numbers. A pixel belongs to a triangle if its centre lies inside, or on
the left or top edge, so triangles that share an edge leave no gap and never overlap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fragments", "interpolate", "rasterise", "vertex_normals"]

Triangles = NDArray[np.intp]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fragments:
    """What is seen at each covered pixel.

    Attributes:
        pixels: Flat index (N,) of each covered pixel, row by row, ascending.
        triangle: Index (N,) of the nearest triangle there.
        weights: Barycentric weights (N, 3) of its corners; each row sums to 1.
        nearness: (N,) of the surface there.
    """

    pixels: NDArray[np.intp]
    triangle: NDArray[np.intp]
    weights: Values
    nearness: Values


def rasterise(
    points: NDArray[np.floating],
    nearness: NDArray[np.floating],
    triangles: Triangles,
    height: int,
    width: int,
) -> Fragments:
    """Find the nearest triangle at every pixel.

    Args:
        points: Projected vertices (V, 2), x to the right and y down, px.
        nearness: Of each vertex (V,); the larger is in front. With perspective, one over its
            distance, which is linear across a triangle's picture.
        triangles: Indices (T, 3) of vertices, in either sense of rotation.
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        The covered pixels.
    """
    corners = points[triangles].astype(np.float64)
    # Edges run downward from the corner that is higher, so that both triangles at an edge compute
    # the very same crossing.
    order = np.argsort(corners[:, :, 1], axis=1, kind="stable")
    x = np.take_along_axis(corners[:, :, 0], order, axis=1)
    y = np.take_along_axis(corners[:, :, 1], order, axis=1)
    first = np.maximum(np.ceil(y[:, 0]), 0).astype(np.intp)
    last = np.minimum(np.ceil(y[:, 2]) - 1, height - 1).astype(np.intp)
    owner, row = _expand(first, last)
    left, right = _spans(x[owner], y[owner], row)
    start = np.maximum(np.ceil(left), 0).astype(np.intp)
    stop = np.minimum(np.ceil(right) - 1, width - 1).astype(np.intp)
    span, column = _expand(start, stop)
    owner, row = owner[span], row[span]
    weights = _barycentric(corners, owner, column, row)
    # Degenerate triangles cover no pixel centre, so no weight is infinite.
    near = np.einsum("nk,nk->n", weights, nearness[triangles].astype(np.float32)[owner])
    return _nearest(owner, row * width + column, weights, near, height * width)


def _expand(
    first: NDArray[np.intp], last: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Owner (N,) and value (N,) of every whole number from first to last, both included."""
    counts = np.maximum(last - first + 1, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    begins = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - begins[owner] + first[owner]


def _spans(
    x: NDArray[np.float64], y: NDArray[np.float64], row: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each row enters and leaves its triangle (N,); x and y: corners (N, 3) from above."""
    long = _crossing(x, y, 0, 2, row)
    # A row above the middle corner meets the first short edge, any other the second.
    upper = row < y[:, 1]
    top = np.where(upper, x[:, 0], x[:, 1])
    foot = np.where(upper, x[:, 1], x[:, 2])
    y_top = np.where(upper, y[:, 0], y[:, 1])
    y_foot = np.where(upper, y[:, 1], y[:, 2])
    short = top + (row - y_top) * ((foot - top) / (y_foot - y_top))
    return np.minimum(long, short), np.maximum(long, short)


def _crossing(
    x: NDArray[np.float64], y: NDArray[np.float64], start: int, end: int, row: NDArray[np.intp]
) -> NDArray[np.float64]:
    """x (N,) at which an edge meets a row."""
    slope = (x[:, end] - x[:, start]) / (y[:, end] - y[:, start])
    return np.asarray(x[:, start] + (row - y[:, start]) * slope)


def _barycentric(
    corners: NDArray[np.float64],
    owner: NDArray[np.intp],
    column: NDArray[np.intp],
    row: NDArray[np.intp],
) -> Values:
    """Weights (N, 3) of the corners of each pixel's triangle."""
    origin = corners[:, 0]
    side = corners[:, 1] - origin
    other = corners[:, 2] - origin
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / (side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0])
        # Of a place (x, y, 1): the weights of the second and of the third corner.
        second = np.stack([other[:, 1], -other[:, 0]], axis=1) * scale[:, None]
        third = np.stack([-side[:, 1], side[:, 0]], axis=1) * scale[:, None]
    x = (column - origin[owner, 0]).astype(np.float32)
    y = (row - origin[owner, 1]).astype(np.float32)
    slopes = np.concatenate([second, third], axis=1).astype(np.float32)[owner]
    weights = np.empty((len(owner), 3), np.float32)
    weights[:, 1] = x * slopes[:, 0] + y * slopes[:, 1]
    weights[:, 2] = x * slopes[:, 2] + y * slopes[:, 3]
    weights[:, 0] = 1 - weights[:, 1] - weights[:, 2]
    return weights


def _nearest(
    owner: NDArray[np.intp],
    pixel: NDArray[np.intp],
    weights: Values,
    near: Values,
    size: int,
) -> Fragments:
    """The nearest candidate of each pixel; of equal ones the last triangle."""
    depth = np.full(size, -np.inf, np.float32)
    np.maximum.at(depth, pixel, near)
    winners = np.flatnonzero(near == depth[pixel])
    winner = np.full(size, -1, dtype=np.intp)
    winner[pixel[winners]] = winners
    pixels = np.flatnonzero(winner >= 0)
    chosen = winner[pixels]
    return Fragments(pixels, owner[chosen], weights[chosen], near[chosen])


def interpolate(fragments: Fragments, triangles: Triangles, values: NDArray[np.floating]) -> Values:
    """Interpolate what vertices hold.

    Args:
        fragments: Of the triangles.
        triangles: Indices (T, 3) of vertices.
        values: Of each vertex (V, K).

    Returns:
        Values (N, K) at the covered pixels.
    """
    held = values.astype(np.float32)
    corners = triangles[fragments.triangle]
    total = held[corners[:, 0]] * fragments.weights[:, :1]
    total += held[corners[:, 1]] * fragments.weights[:, 1:2]
    total += held[corners[:, 2]] * fragments.weights[:, 2:]
    return total


def vertex_normals(vertices: NDArray[np.floating], triangles: Triangles) -> NDArray[np.float64]:
    """Compute the normals of a surface at its vertices, weighted by the area of the triangles.

    Args:
        vertices: (V, 3).
        triangles: Indices (T, 3), counter-clockwise where the surface is seen from outside.

    Returns:
        Unit vectors (V, 3) to the outside; zero at vertices of no triangle.
    """
    corners = vertices[triangles].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    index = triangles.ravel()
    shares = np.repeat(across, 3, axis=0)
    total = np.empty((len(vertices), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(index, shares[:, axis], minlength=len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    np.divide(total, length, out=total, where=length > 0)
    return total
