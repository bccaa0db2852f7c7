"""A recipe's table as a picture: every row a bar with its interval, the paper's number beside it."""

import io
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mien.outputs.files import write_aside
from mien.recipes.report import Report

__all__ = ["draw"]

# Okabe & Ito (2008), told apart with every kind of colour vision.
_BLUE: Final = "#0072B2"
_ORANGE: Final = "#D55E00"
_PALE: Final = "#A9C9DD"
_INK: Final = "#1B1F24"
_TITLES: Final = {"score": "score of the protocol", "va": "valence-arousal, mean CCC", "expr": "expressions, macro-F1",
                  "au": "action units, mean F1", "ce": "compounds, macro-F1"}  # fmt: skip


def draw(found: Report, path: Path) -> None:
    """Write the picture as PNG, 1600 px wide; raises OutputError."""
    shown = [name for name in _TITLES if any(name in line.measures for line in found.rows)]
    figure = Figure(figsize=(16, 1.6 + 0.42 * max(len(found.rows), 4)), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    FigureCanvasAgg(figure)
    told = " (stand-in: the paper's numbers are of other data)" if found.standin else ""
    figure.suptitle(f"{found.recipe} under {found.protocol}{told}", fontsize=14, color=_INK, x=0.01, ha="left")
    panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    place = np.arange(len(found.rows))[::-1]
    for panel, name in zip(panels, shown, strict=False):
        for at, line in zip(place, found.rows, strict=True):
            if name in line.measures:
                mean, _, low, high = line.measures[name]
                panel.barh(at, mean, color=_BLUE if line.way == "nested" else _PALE, height=0.62)
                panel.plot([low, high], [at, at], color=_INK, lw=1.6)
                panel.text(max(high, mean), at, f" {mean:.3f}", va="center", fontsize=9, color=_INK)
            if name in line.paper:
                panel.plot([line.paper[name]] * 2, [at - 0.36, at + 0.36], color=_ORANGE, lw=2.4)
        panel.set_title(_TITLES[name], fontsize=11, color=_INK, loc="left")
        panel.set_xlim(0, None)
        panel.margins(x=0.18)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(left=False)
        panel.set_yticks(place, [line.name + (" (same rows)" if line.way == "same" else "") for line in found.rows])
    figure.supxlabel(
        "bars: mean over seeds; lines: 95 % interval; orange: the paper; pale: tuned and told on the same rows", fontsize=10, color=_INK
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_aside(path, picture.getvalue())
