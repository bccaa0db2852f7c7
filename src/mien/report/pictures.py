"""Small vector pictures of a page: they print sharply and need no script."""

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from mien.report.people import Person
from mien.tasks import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["affect_path", "binned", "sparkline"]

# Points of a path, and parts of it that are drawn more and more strongly.
_POINTS: Final = 400
_PARTS: Final = 16
# Seconds that a point of the path stands for at least: faster changes are a tangle.
_LEAST_S: Final = 0.5


def binned(
    rows: "pd.DataFrame", columns: list[str], count: int, least_s: float = 0.0
) -> tuple[Floats, Floats]:
    """Scores thinned out to means over even stretches of time.

    Args:
        rows: Rows of one person.
        columns: Scores.
        count: Stretches at most.
        least_s: How long each is at least, seconds.

    Returns:
        The times at which stretches begin and the last one ends (N + 1,), and means over what is
        usable (N, columns), NaN where nothing is. Stretches are frames where these are few.
    """
    starts = rows["time_s"].to_numpy(np.float64)
    end = float(starts[-1] + rows["duration_s"].iloc[-1])
    values = rows[columns].to_numpy(np.float64, na_value=np.nan, copy=True)
    values[~rows["usable"].to_numpy(bool)] = np.nan
    if least_s:
        count = min(count, int((end - starts[0]) / least_s))
    # With fewer than two frames a stretch, some would be empty for no reason.
    if len(starts) < 2 * max(count, 1):
        return np.append(starts, end), values
    edges: Floats = np.linspace(starts[0], end, max(count, 1) + 1)
    numbers = np.clip(np.searchsorted(edges, starts, "right") - 1, 0, len(edges) - 2)
    is_known = ~np.isnan(values)
    shape = (len(edges) - 1, len(columns))
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, numbers, np.where(is_known, values, 0))
    np.add.at(counts, numbers, is_known)
    means = np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0)
    return edges, means


def affect_path(person: Person) -> list[dict[str, object]]:
    """The way of a person through valence and arousal.

    Args:
        person: The person.

    Returns:
        Parts of the path in order, each with ``points`` for an SVG polyline on a plane from -100
        (left, top) to 100, and its ``opacity``; empty where the table has no such scores.
    """
    if not {"valence", "arousal"} <= set(person.rows.columns):
        return []
    _, means = binned(person.rows, ["valence", "arousal"], _POINTS, _LEAST_S)
    means = means[~np.isnan(means).any(axis=1)]
    if not len(means):
        return []
    # Up is more arousal.
    points = np.round(means * [100, -100], 1)
    edges = np.linspace(0, len(points) - 1, _PARTS + 1).astype(int)
    parts: list[dict[str, object]] = []
    for number, (first, last) in enumerate(pairwise(edges)):
        pairs = points[first : last + 1]
        text = " ".join(f"{x:g},{y:g}" for x, y in pairs)
        parts.append({"points": text, "opacity": round(0.2 + 0.8 * (number + 1) / _PARTS, 2)})
    return parts


def sparkline(person: Person, column: str) -> list[str]:
    """A score over the whole film as a line.

    Args:
        person: The person.
        column: The score, from -1 to 1.

    Returns:
        Points for SVG polylines on a plane of 200 by 40, one for each stretch without a break.
    """
    edges, means = binned(person.rows, [column], 200)
    centres = (edges[:-1] + edges[1:]) / 2 - edges[0]
    lines: list[list[str]] = [[]]
    for time_s, value in zip(centres, means[:, 0], strict=True):
        if np.isnan(value):
            lines.append([])
        else:
            x = 200 * time_s / (edges[-1] - edges[0])
            lines[-1].append(f"{x:.1f},{20 - 18 * value:.1f}")
    return [" ".join(line) for line in lines if len(line) > 1]
