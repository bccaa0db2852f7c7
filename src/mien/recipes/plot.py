"""A recipe's table as a picture: every row a bar with its interval, the paper's number beside it."""

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
from mien.recipes.report import Report, ReportRow

__all__ = ["draw"]

# Okabe & Ito (2008), told apart with every kind of colour vision.
_BLUE: Final = "#0072B2"
_ORANGE: Final = "#D55E00"
_PALE: Final = "#A9C9DD"
_INK: Final = "#1B1F24"
_PANELS: Final = ("score", "va", "expr", "au", "ce", "kl")
"""The measures that are drawn."""
_WIDTH: Final = 40
"""Letters of a row's name on one line."""
_ROOM: Final = 0.3
"""Share of a panel, at its right, that is left to the numbers."""


def draw(found: Report, path: Path) -> None:
    """Write the picture as PNG, 1600 px wide; raises OutputError."""
    shown = [name for name in _PANELS if any(name in line.measures for line in found.rows)]
    figure = Figure(
        figsize=(16, 1.8 + 0.44 * max(len(found.rows), 3)),
        dpi=100,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1),
    )
    FigureCanvasAgg(figure)
    told = " (stand-in: the paper's numbers are of other data)" if found.standin else ""
    figure.suptitle(
        f"{found.recipe} under {found.protocol}{told}", fontsize=14, color=_INK, x=0.01, ha="left"
    )
    panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    place = np.arange(len(found.rows))[::-1]
    for panel, name in zip(panels, shown, strict=False):
        for at, line in zip(place, found.rows, strict=True):
            _row(panel, at, line, name)
        panel.set_title(RECIPE_MEASURES[name].name, fontsize=11, color=_INK, loc="left")
        panel.set_xlim(*_limits(found, name))
        panel.axvline(0, color=_INK, lw=0.8)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(left=False)
        panel.set_yticks(
            place,
            [
                fill(line.name + (" (same rows)" if line.way == "same" else ""), _WIDTH)
                for line in found.rows
            ],
        )
        panel.set_ylim(-0.6, len(found.rows) - 0.4)
    paper = "orange: the paper; " if any(line.paper for line in found.rows) else ""
    figure.supxlabel(
        f"bars: mean over seeds; lines: 95 % interval; {paper}pale: tuned and told on the same rows",
        fontsize=10,
        color=_INK,
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    atomic_write(path, picture.getvalue())


def _row(panel: Axes, at: int, line: ReportRow, name: str) -> None:
    """One bar with its interval, the paper's number, and ours at the panel's right."""
    if name in line.measures:
        mean, _, low, high = line.measures[name]
        panel.barh(
            at,
            mean if np.isfinite(mean) else 0,
            color=_BLUE if line.way == "nested" else _PALE,
            height=0.62,
        )
        if np.isfinite([low, high]).all():
            for colour, width in (("white", 3.6), (_INK, 1.6)):
                panel.plot([low, high], [at, at], color=colour, lw=width, solid_capstyle="butt")
        panel.text(
            1,
            at,
            ("∞" if np.isinf(mean) else number(mean)),
            transform=panel.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=9,
            color=_INK,
        )
    if name in line.paper:
        panel.plot([line.paper[name]] * 2, [at - 0.36, at + 0.36], color=_ORANGE, lw=2.4)


def _limits(found: Report, name: str) -> tuple[float, float]:
    """Left and right end of a panel, with 0, every interval and the paper's numbers in it, and room for numbers."""
    ends = [0.0, *(line.paper[name] for line in found.rows if name in line.paper)]
    for line in found.rows:
        if name in line.measures:
            mean, _, low, high = line.measures[name]
            ends += [mean, low, high]
    ends = [one for one in ends if np.isfinite(one)]
    low, high = min(ends), max(ends)
    reach = (high - low) or 1.0
    return low - (0.02 * reach if low < 0 else 0), high + reach * _ROOM / (1 - _ROOM)
