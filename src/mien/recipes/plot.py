"""A recipe's table as a picture: each row a bar with its interval, the paper's number beside it."""

import io
from pathlib import Path
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mien.evaluation.measures import RECIPE_MEASURES
from mien.evaluation.report import number
from mien.files import atomic_write
from mien.recipes.report import Report, Summary

__all__ = ["draw"]

# Okabe & Ito (2008): distinguishable with every kind of colour vision.
_BLUE: Final = "#0072B2"
_ORANGE: Final = "#D55E00"
_PALE: Final = "#A9C9DD"
_INK: Final = "#1B1F24"
_PANELS: Final = ("score", "va", "expr", "au", "ce", "kl")
"""The measures that are drawn."""
_WIDTH: Final = 40
"""Letters of a row's name on one line."""
_MARGIN: Final = 0.3
"""Share of a panel, at its right, that is left to the numbers."""


def draw(results: Report, path: Path) -> None:
    """Write a report's table as a PNG picture, 1600 px wide.

    Args:
        results: The report.
        path: The picture.

    Raises:
        OutputError: It cannot be written.
    """
    height = 1.8 + 0.44 * max(len(results.rows), 3)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    # Without pyplot, which keeps figures and chooses a window system.
    figure = Figure(figsize=(16, height), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(_title(results), fontsize=14, color=_INK, x=0.01, ha="left")
    measures = _drawn_measures(results)
    # A report without any number is a picture too, with an empty panel.
    panels = figure.subplots(1, max(len(measures), 1), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=False):
        _draw_panel(panel, results, measure)
    figure.supxlabel(_legend(results), fontsize=10, color=_INK)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    atomic_write(path, picture.getvalue())


def _title(results: Report) -> str:
    title = f"{results.recipe} under {results.protocol}"
    if results.standin:
        title += " (stand-in: the paper's numbers are of other data)"
    return title


def _legend(results: Report) -> str:
    parts = ["bars: mean over seeds", "lines: 95 % interval"]
    if any(row.paper for row in results.rows):
        parts.append("orange: the paper")
    parts.append("pale: tuned and scored on the same rows")
    return "; ".join(parts)


def _drawn_measures(results: Report) -> list[str]:
    in_rows: set[str] = set()
    for row in results.rows:
        in_rows |= row.measures.keys()
    return [name for name in _PANELS if name in in_rows]


def _draw_panel(panel: Axes, results: Report, measure: str) -> None:
    """All rows' bars of one measure, the first row at the top."""
    heights = np.arange(len(results.rows))[::-1]
    labels = []
    for height, row in zip(heights, results.rows, strict=True):
        if measure in row.measures:
            _draw_bar(panel, height, row.measures[measure], row.way)
        if measure in row.paper:
            paper = row.paper[measure]
            ends = [height - 0.36, height + 0.36]
            panel.plot([paper, paper], ends, color=_ORANGE, lw=2.4)
        label = f"{row.name} (same rows)" if row.way == "same" else row.name
        labels.append(fill(label, _WIDTH))
    panel.set_title(RECIPE_MEASURES[measure].name, fontsize=11, color=_INK, loc="left")
    panel.set_xlim(*_limits(results, measure))
    panel.axvline(0, color=_INK, lw=0.8)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(left=False)
    panel.set_yticks(heights, labels)
    panel.set_ylim(-0.6, len(results.rows) - 0.4)


def _draw_bar(panel: Axes, height: int, summary: Summary, way: str) -> None:
    """One bar with its interval, and its number at the panel's right."""
    mean, _, low, high = summary
    length = mean if np.isfinite(mean) else 0
    panel.barh(height, length, color=_BLUE if way == "nested" else _PALE, height=0.62)
    if np.isfinite([low, high]).all():
        # A white line below the dark one keeps it visible on a dark bar.
        for colour, width in (("white", 3.6), (_INK, 1.6)):
            ends = [height, height]
            panel.plot([low, high], ends, color=colour, lw=width, solid_capstyle="butt")
    panel.text(
        1,
        height,
        "∞" if np.isinf(mean) else number(mean),
        # Across, 1 is the panel's right end; upwards, the height is that of the bar.
        transform=panel.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=9,
        color=_INK,
    )


def _limits(results: Report, measure: str) -> tuple[float, float]:
    """Ends of a panel that holds 0, every interval, the paper's numbers, and a margin for ours."""
    # Bars start at 0, or their lengths could not be compared.
    ends = [0.0]
    for row in results.rows:
        if measure in row.paper:
            ends.append(row.paper[measure])
        if measure in row.measures:
            mean, _, low, high = row.measures[measure]
            ends += [mean, low, high]
    finite = [end for end in ends if np.isfinite(end)]
    low, high = min(finite), max(finite)
    reach = (high - low) or 1.0
    left = low - 0.02 * reach if low < 0 else low
    return left, high + reach * _MARGIN / (1 - _MARGIN)
