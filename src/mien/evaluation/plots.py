"""An evaluation as one picture: confusion, calibration, bars with intervals, groups of people."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from mien import __version__
from mien.evaluation.measures import class_measures, headlines, title
from mien.evaluation.report import About, number, value_with_interval
from mien.evaluation.results import CELLS, FEW, Bin, Evaluation, Measure, TaskResult
from mien.files import atomic_write
from mien.metrics import NAN

__all__ = ["WIDTH", "draw"]

WIDTH: Final = 1600
"""Width of the picture, px."""
_DPI: Final = 100
# Okabe & Ito (2008): these two can be told apart with every kind of colour vision.
_BLUE: Final = "#0072B2"
_ORANGE: Final = "#D55E00"
_GREY: Final = "#767676"
_PALE: Final = "#A9B0B8"
_FAINT: Final = "#E3E6EA"
_INK: Final = "#1B1F24"
# From a blue that a single face can be seen in on white.
_BLUES: Final = ListedColormap(colormaps["Blues"](np.linspace(0.3, 1, 256)))
_SMALL: Final = 9.5
_TEXT: Final = 10.5
_HEADING: Final = 12.5
_MOST_ACROSS: Final = 4
_LEFT: Final = 0.012  # left edge of text, share of the width
_DASHES: Final = (0, (4, 3))
_LINES_OF_COLUMN: Final = 6.2  # height of one column's block in the table of numbers, lines


class _Band(NamedTuple):
    """A horizontal band of the picture.

    Attributes:
        height: In inches.
        paint: Draws the band.
    """

    height: float
    paint: Callable[[SubFigure], None]


def draw(evaluation: Evaluation, about: About, path: Path) -> None:
    """Draw an evaluation as PNG, 1600 px wide and as tall as it needs to be.

    Args:
        evaluation: What to draw; there are only panels for which there are numbers.
        about: What was evaluated.
        path: The file to write.

    Raises:
        OutputError: Where it cannot be written.
    """
    bands = [_head(evaluation, about)]
    for result in evaluation.tasks:
        bands.append(_task(result))
    names = evaluation.compared
    # More panels in one row would leave no room for the names of groups.
    for start in range(0, len(names), _MOST_ACROSS):
        bands.append(_people(evaluation, names[start : start + _MOST_ACROSS]))
    heights = [band.height for band in bands]
    # No pyplot: it would keep figures alive, and choose a window's backend for the caller.
    figure = Figure(
        figsize=(WIDTH / _DPI, sum(heights)),
        dpi=_DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.09),
    )
    canvas = FigureCanvasAgg(figure)
    panels = figure.subfigures(len(bands), 1, height_ratios=heights, squeeze=False, hspace=0.02)
    for panel, band in zip(panels[:, 0], bands, strict=True):
        band.paint(panel)
    png = io.BytesIO()
    canvas.print_png(png)
    atomic_write(path, png.getvalue())


def _head(evaluation: Evaluation, about: About) -> _Band:
    """Title, facts, and the scores of protocols, three in a line."""
    height = 1.15 + 0.26 * -(-len(evaluation.protocols) // 3)
    heading = f"{about.run} on {about.data}, {about.split}"
    intervals = "no intervals"
    if evaluation.rounds:
        intervals = f"95 % intervals over {evaluation.intervals_over}"
    faces = f"{evaluation.faces:,} faces"
    facts = "   ·   ".join((faces, intervals, f"mien {__version__}", about.date))

    def paint(band: SubFigure) -> None:
        top = 1 - 0.3 / height
        band.text(_LEFT, top, heading, size=19, weight="bold", color=_INK, va="center")
        band.text(_LEFT, 1 - 0.7 / height, facts, size=_TEXT + 1, color=_GREY, va="center")
        for i, (name, score) in enumerate(evaluation.protocols.items()):
            line, column = divmod(i, 3)
            x = _LEFT + 0.32 * column
            y = 1 - (1.02 + 0.26 * line) / height
            text = f"{name}  {value_with_interval(score)}"
            band.text(x, y, text, size=_TEXT + 1, color=_INK, va="center")

    return _Band(height, paint)


def _task(result: TaskResult) -> _Band:
    """The band of one task."""
    count = len(result.names)
    if result.kind == "one_of":
        return _Band(1.6 + 0.48 * max(count, 7), lambda band: _classes(band, result))
    if result.kind == "scalar":
        return _Band(1.25 + 4.5 * -(-count // 2), lambda band: _scalars(band, result))
    return _Band(4.0, lambda band: _units(band, result))


def _style(axes: Axes, grid: str = "") -> None:
    """No frame, faint grid, small ticks."""
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=_SMALL, colors=_INK)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=_FAINT, linewidth=1)  # type: ignore[arg-type]


def _set_title(axes: Axes, text: str) -> None:
    axes.set_title(text, size=_HEADING - 1, loc="left", color=_INK, pad=8)


def _set_band_title(band: SubFigure, text: str) -> None:
    size = _HEADING + 1.5
    band.suptitle(text, x=_LEFT, ha="left", size=size, weight="bold", color=_INK)


def _label_axes(axes: Axes, x: str = "", y: str = "") -> None:
    if x:
        axes.set_xlabel(x, size=_TEXT, color=_GREY)
    if y:
        axes.set_ylabel(y, size=_TEXT, color=_GREY)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _titled_value(result: TaskResult, key: str) -> str:
    return f"{title(key)} {value_with_interval(result.measures[key])}"


def _classes(band: SubFigure, result: TaskResult) -> None:
    """Confusion, calibration and F1 by class."""
    values = [_titled_value(result, key) for key in ("accuracy", "macro_f1", "ece")]
    _set_band_title(band, f"{result.task}   " + "   ".join(values))
    grid = band.add_gridspec(1, 3, width_ratios=(1.25, 0.95, 1.0))
    _confusion(band.add_subplot(grid[0]), result)
    subgrid: Any = grid[1].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.04)
    diagram = band.add_subplot(subgrid[0])
    histogram = band.add_subplot(subgrid[1])
    _reliability(diagram, result.reliability)
    _confidence_histogram(histogram, result.reliability)
    _class_bars(band.add_subplot(grid[2]), result)


def _confusion(axes: Axes, result: TaskResult) -> None:
    counts = np.array(result.confusion)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = _INK if count else _PALE
        # Black cannot be read on the dark blues.
        if shares[row, column] > 0.55:
            colour = "white"
        text = f"{count}"
        axes.text(column, row, text, ha="center", va="center", size=_SMALL, color=colour)
    names = [_words(name) for name in result.names]
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    # White lines between the cells.
    edges = np.arange(1, len(names)) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    _label_axes(axes, "predicted", "true")
    _style(axes)
    _set_title(axes, "Faces by true and predicted class; colour: share of the row")


def _reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    """Accuracy against confidence; the area of a dot shows how many faces it stands for."""
    # Empty bins are NaN, which matplotlib leaves out.
    x = np.array([bin.confidence for bin in bins])
    y = np.array([bin.accuracy for bin in bins])
    faces = np.array([bin.faces for bin in bins])
    x, y, faces = x[faces > 0], y[faces > 0], faces[faces > 0]
    # The area shows the count: by the radius, large bins would look larger than they are.
    areas = 25 + 170 * faces / faces.max(initial=1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1.2, linestyle=_DASHES, zorder=1)
    axes.plot(x, y, color=_BLUE, linewidth=1.6, zorder=2)
    axes.scatter(
        x, y, s=areas, color=_BLUE, edgecolor="white", linewidth=1, zorder=3, clip_on=False
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _label_axes(axes, y="share that was right")
    _style(axes, "both")
    # The histogram below has the same x axis.
    axes.tick_params(labelbottom=False)
    _set_title(axes, "Calibration; dashed: as it should be")


def _confidence_histogram(axes: Axes, bins: Sequence[Bin]) -> None:
    """Faces by top probability."""
    centres = (np.arange(len(bins)) + 0.5) / len(bins)
    heights = [bin.faces for bin in bins]
    axes.bar(centres, heights, width=0.88 / len(bins), color=_BLUE)
    for x, count in zip(centres, heights, strict=True):
        # Zeros would only clutter the axis.
        if count:
            axes.text(x, count, f"{count}", ha="center", va="bottom", size=7, color=_GREY)
    highest = max(heights) or 1
    axes.set(xlim=(0, 1), ylim=(0, highest * 1.2), yticks=[])
    _label_axes(axes, "top probability", "faces")
    _style(axes)


def _values(measures: Sequence[Measure]) -> list[float]:
    return [measure.value for measure in measures]


def _whiskers(measures: Sequence[Measure]) -> Any:
    """Lengths of the whiskers (2, N), 0 where there is no interval."""
    value = np.array(_values(measures))
    ends = np.array([(measure.low, measure.high) for measure in measures]).reshape(-1, 2)
    lengths = [value - ends[:, 0], ends[:, 1] - value]
    # A percentile interval need not hold the value, so a whisker may start beside the bar's end.
    return np.nan_to_num(np.clip(lengths, 0, None))


def _upper_end(measure: Measure) -> float:
    """The end of a bar or of its whisker, whichever is further from 0."""
    return float(max(np.nan_to_num(measure.value), np.nan_to_num(measure.high), 0))


def _lowest(measures: Sequence[Measure]) -> float:
    """Where the axis must begin: at 0, or below it for negative values."""
    lengths = np.nan_to_num(_values(measures))
    ends = [measure.low for measure in measures]
    return float(min(0, np.nanmin([0, *lengths, *ends])))


def _class_bars(axes: Axes, result: TaskResult) -> None:
    names = []
    measures = []
    for name in result.names:
        measure = result.by_name[name]["f1"]
        names.append(f"{_words(name)}  ({measure.faces})")
        measures.append(measure)
    _bars_across(axes, names, measures)
    _set_title(axes, "F1 by class (faces)")


def _bars_across(
    axes: Axes,
    names: Sequence[str],
    measures: Sequence[Measure],
    colours: Sequence[str] | str = _BLUE,
) -> None:
    """Horizontal bars 0..1 with intervals and their numbers."""
    rows = list(range(len(names)))
    axes.barh(rows, np.nan_to_num(_values(measures)), height=0.62, color=colours)
    whiskers = _whiskers(measures)
    axes.errorbar(_values(measures), rows, xerr=whiskers, **_WHISKER)
    for row, measure in enumerate(measures):
        x = _upper_end(measure) + 0.015
        axes.text(x, row, number(measure.value, 2), va="center", size=_SMALL, color=_INK)
    axes.set_yticks(rows, names)
    axes.set(xlim=(_lowest(measures), 1.12), ylim=(len(names) - 0.4, -0.6))
    # Ticks end at 1, the best value; the room beyond is for the numbers.
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    _style(axes, "x")


_WHISKER: Final[dict[str, Any]] = {
    "fmt": "none",
    "ecolor": _INK,
    "elinewidth": 1.3,
    "capsize": 3,
}


def _scalars(band: SubFigure, result: TaskResult) -> None:
    """True against predicted values of every column, two in a line, and a table of numbers."""
    _set_band_title(band, f"{result.task}   {_titled_value(result, 'mean_ccc')}")
    names = list(result.density)
    lines = -(-len(names) // 2)
    grid = band.add_gridspec(lines, 3, width_ratios=(1, 1, 0.85))
    for i, name in enumerate(names):
        _density(band.add_subplot(grid[divmod(i, 2)]), result, name)
    _columns(band.add_subplot(grid[:, 2]), result)


def _density(axes: Axes, result: TaskResult, name: str) -> None:
    """Faces by true and predicted value of a column."""
    counts = np.array(result.density[name], float).T
    # Left white: a logarithm has no colour for nothing.
    counts[counts == 0] = np.nan
    most = max(int(np.nanmax(counts)), 2)
    low, high = result.low, result.high
    axes.plot((low, high), (low, high), color=_ORANGE, linewidth=1.2, linestyle=_DASHES, zorder=2)
    image = axes.imshow(
        counts,
        origin="lower",
        extent=(low, high, low, high),
        cmap=_BLUES,
        norm=LogNorm(1, most),
        zorder=1,
        aspect="equal",
        interpolation="nearest",
    )
    _colour_bar(axes, image, most)
    margin = (high - low) / CELLS / 2
    span = (low - margin, high + margin)
    axes.set(xlim=span, ylim=span)
    ticks = np.linspace(low, high, 5)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    _label_axes(axes, "true", "predicted")
    _style(axes, "both")
    ccc = value_with_interval(result.by_name[name]["ccc"])
    _set_title(axes, f"{_words(name)}: {title('ccc')} {ccc}")


def _colour_bar(axes: Axes, image: Any, most: int) -> None:
    """A logarithmic bar that names powers of ten and the largest count."""
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=_SMALL - 1, which="both")
    powers = 10 ** np.arange(6)
    # A power close to the largest count would be printed over it.
    bar.set_ticks([*powers[powers < most / 1.5], most])
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.set_title("faces", size=_SMALL, color=_GREY, loc="left")


def _columns(axes: Axes, result: TaskResult) -> None:
    """The numbers of every column, as a table to read."""
    axes.set(xlim=(0, 1), ylim=(len(result.names) * _LINES_OF_COLUMN + 0.5, 0))
    axes.set_axis_off()
    row = 0.8
    for name in result.names:
        measures = result.by_name[name]
        faces = f"{measures['ccc'].faces:,} faces"
        text = _words(name)
        axes.text(0.08, row, text, size=_HEADING, weight="bold", color=_INK, va="center")
        axes.text(0.97, row, faces, size=_TEXT, color=_GREY, va="center", ha="right")
        for line, key in enumerate(class_measures("scalar", False), start=1):
            y = row + 1.1 * line
            value = value_with_interval(measures[key])
            axes.text(0.08, y, title(key), size=_TEXT + 0.5, color=_GREY, va="center")
            axes.text(0.97, y, value, size=_TEXT + 0.5, color=_INK, va="center", ha="right")
        row += _LINES_OF_COLUMN


def _units(band: SubFigure, result: TaskResult) -> None:
    """A bar for every unit: F1, or r where labels are grades."""
    main = headlines(result.kind, result.graded)[-1]
    unit_measure = class_measures(result.kind, result.graded)[0]
    _set_band_title(band, f"{result.task}   {_titled_value(result, main)}")
    axes = band.add_subplot()
    measures = [result.by_name[name][unit_measure] for name in result.names]
    _bars_up(axes, measures)
    if not result.graded:
        _prevalences(axes, result)
    labels = []
    for name, measure in zip(result.names, measures, strict=True):
        labels.append(f"{name}\n{measure.faces:,}")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.set(xlim=(-0.7, len(measures) - 0.3), ylim=(_lowest(measures), 1.1))
    _style(axes, "y")
    shown = "Correlation r with the label" if result.graded else "F1"
    _set_title(axes, f"{shown} by unit; below it the annotated faces")


def _bars_up(axes: Axes, measures: Sequence[Measure]) -> None:
    """Vertical bars with intervals and their numbers."""
    columns = list(range(len(measures)))
    axes.bar(columns, np.nan_to_num(_values(measures)), width=0.62, color=_BLUE)
    whiskers = _whiskers(measures)
    axes.errorbar(columns, _values(measures), yerr=whiskers, **_WHISKER)
    for x, measure in enumerate(measures):
        y = _upper_end(measure) + 0.02
        text = number(measure.value, 2)
        axes.text(x, y, text, ha="center", va="bottom", size=_SMALL, color=_INK)


def _prevalences(axes: Axes, result: TaskResult) -> None:
    shares = [result.by_name[name]["prevalence"].value for name in result.names]
    axes.scatter(
        list(range(len(shares))),
        shares,
        marker="D",
        s=34,
        color=_ORANGE,
        edgecolor="white",
        linewidth=0.8,
        zorder=3,
        label="share of faces that show it",
    )
    axes.legend(loc="upper right", fontsize=_SMALL, frameon=False, bbox_to_anchor=(1, 1.13))


def _people(evaluation: Evaluation, names: Sequence[str]) -> _Band:
    """Bars of some headline measures for every group of people."""
    few = any(part.has_few_faces for part in evaluation.parts)
    hint = f"; * fewer than {FEW}: too few to compare" if few else ""
    heading = f"By {evaluation.by}   (faces{hint})"

    def paint(band: SubFigure) -> None:
        _set_band_title(band, heading)
        panels = band.subplots(1, _MOST_ACROSS, squeeze=False)[0]
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for i, name in enumerate(names):
            _group_bars(panels[i], evaluation, name, with_names=i == 0)

    return _Band(1.7 + 0.34 * len(evaluation.parts), paint)


def _group_bars(axes: Axes, evaluation: Evaluation, name: str, with_names: bool) -> None:
    """One measure of every group; only the panel at the left names the groups."""
    unknown = Measure(value=NAN, low=NAN, high=NAN, faces=0)
    measures = []
    labels = []
    colours = []
    for part in evaluation.parts:
        measure = part.measures.get(name, unknown)
        few = measure.faces < FEW
        label = f"{measure.faces:,}{'*' if few else ''}"
        measures.append(measure)
        labels.append(f"{part.name}  ({label})" if with_names else label)
        colours.append(_PALE if few else _BLUE)
    _bars_across(axes, labels, measures, colours)
    gap = evaluation.gaps.get(name)
    suffix = f", gap {gap.difference:.3f}" if gap else ""
    _set_title(axes, title(name) + suffix)
