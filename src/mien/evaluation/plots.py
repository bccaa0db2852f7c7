"""An evaluation as one picture: confusion, calibration, bars with intervals, true against predicted values, groups of people."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

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
from mien.evaluation.report import About, number, spelled
from mien.evaluation.results import CELLS, FEW, Evaluation, Measure, TaskResult
from mien.files import atomic_write
from mien.metrics import NAN

__all__ = ["WIDTH", "draw"]

WIDTH: Final = 1600
"""Width of the picture, px."""
_DPI: Final = 100
# Okabe & Ito (2008), told apart with every kind of colour vision.
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


def draw(evaluation: Evaluation, about: About, path: Path) -> None:
    """Write the picture as PNG, 1600 px wide and as tall as it needs to be; only panels for which there are numbers.

    Raises OutputError where it cannot be written.
    """
    rows: list[tuple[float, Any, tuple[Any, ...]]] = [
        (_head_height(evaluation), _head, (evaluation, about))
    ]
    for result in evaluation.tasks:
        if result.kind == "one_of":
            rows.append((1.6 + 0.48 * max(len(result.names), 7), _classes, (result,)))
        elif result.kind == "scalar":
            rows.append((1.25 + 4.5 * -(-len(result.names) // 2), _scalars, (result,)))
        else:
            rows.append((4.0, _units, (result,)))
    names = evaluation.compared
    for start in range(0, len(names), _MOST_ACROSS):
        some = names[start : start + _MOST_ACROSS]
        rows.append((1.7 + 0.34 * len(evaluation.parts), _people, (evaluation, some)))
    figure = Figure(
        figsize=(WIDTH / _DPI, sum(height for height, _, _ in rows)),
        dpi=_DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.09),
    )
    canvas = FigureCanvasAgg(figure)
    bands = figure.subfigures(
        len(rows), 1, height_ratios=[height for height, _, _ in rows], squeeze=False, hspace=0.02
    )
    for band, (_, paint, given) in zip(bands[:, 0], rows, strict=True):
        paint(band, *given)
    page = io.BytesIO()
    canvas.print_png(page)
    atomic_write(path, page.getvalue())


def _head_height(evaluation: Evaluation) -> float:
    return 1.15 + 0.26 * -(-len(evaluation.protocols) // 3)


def _head(band: SubFigure, evaluation: Evaluation, about: About) -> None:
    height = _head_height(evaluation)
    band.text(
        0.012,
        1 - 0.3 / height,
        f"{about.run} on {about.data}, {about.split}",
        size=19,
        weight="bold",
        color=_INK,
        va="center",
    )
    over = (
        f"95 % intervals over {evaluation.intervals_over}" if evaluation.rounds else "no intervals"
    )
    said = f"{evaluation.faces:,} faces   ·   {over}   ·   mien {__version__}   ·   {about.date}"
    band.text(0.012, 1 - 0.7 / height, said, size=_TEXT + 1, color=_GREY, va="center")
    for i, (name, one) in enumerate(evaluation.protocols.items()):
        line, column = divmod(i, 3)
        band.text(
            0.012 + 0.32 * column,
            1 - (1.02 + 0.26 * line) / height,
            f"{name}  {spelled(one)}",
            size=_TEXT + 1,
            color=_INK,
            va="center",
        )


def _plain(axes: Axes, grid: str = "") -> None:
    """No frame, faint grid, small ticks."""
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=_SMALL, colors=_INK)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=_FAINT, linewidth=1)  # type: ignore[arg-type]


def _titled(axes: Axes, text: str) -> None:
    axes.set_title(text, size=_HEADING - 1, loc="left", color=_INK, pad=8)


def _named(band: SubFigure, text: str) -> None:
    band.suptitle(text, x=0.012, ha="left", size=_HEADING + 1.5, weight="bold", color=_INK)


def _words(names: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _classes(band: SubFigure, result: TaskResult) -> None:
    whole = result.measures
    main = ("accuracy", "macro_f1", "ece")
    _named(
        band,
        f"{result.task}   " + "   ".join(f"{title(name)} {spelled(whole[name])}" for name in main),
    )
    grid = band.add_gridspec(1, 3, width_ratios=(1.25, 0.95, 1.0))
    _confusion(band.add_subplot(grid[0]), result)
    _reliability(band, grid[1], result)
    _class_bars(band.add_subplot(grid[2]), result)


def _confusion(axes: Axes, result: TaskResult) -> None:
    counts = np.array(result.confusion)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.55 else _INK if count else _PALE
        axes.text(column, row, f"{count}", ha="center", va="center", size=_SMALL, color=colour)
    names = _words(result.names)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted", size=_TEXT, color=_GREY)
    axes.set_ylabel("true", size=_TEXT, color=_GREY)
    _plain(axes)
    _titled(axes, "Faces by true and predicted class; colour: share of the row")


def _reliability(band: SubFigure, place: Any, result: TaskResult) -> None:
    upper, lower = place.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.04)
    axes, below = band.add_subplot(upper), band.add_subplot(lower)
    edges = (np.arange(len(result.reliability)) + 0.5) / len(result.reliability)
    seen = [bin for bin in result.reliability if bin.faces]
    most = max((bin.faces for bin in seen), default=1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    x, y = [bin.confidence for bin in seen], [bin.accuracy for bin in seen]
    axes.plot(x, y, color=_BLUE, linewidth=1.6, zorder=2)
    axes.scatter(
        x,
        y,
        s=[25 + 170 * bin.faces / most for bin in seen],
        color=_BLUE,
        edgecolor="white",
        linewidth=1,
        zorder=3,
        clip_on=False,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_ylabel("share that was right", size=_TEXT, color=_GREY)
    axes.tick_params(labelbottom=False)
    _plain(axes, "both")
    axes.tick_params(labelbottom=False)
    _titled(axes, "Calibration; dashed: as it should be")
    heights = [bin.faces for bin in result.reliability]
    below.bar(edges, heights, width=0.88 / len(edges), color=_BLUE)
    for at, count in zip(edges, heights, strict=True):
        if count:
            below.text(at, count, f"{count}", ha="center", va="bottom", size=7, color=_GREY)
    below.set(xlim=(0, 1), ylim=(0, most * 1.2), yticks=[])
    below.set_xlabel("top probability", size=_TEXT, color=_GREY)
    below.set_ylabel("faces", size=_TEXT, color=_GREY)
    _plain(below)


def _reach(values: Sequence[Measure]) -> Any:
    """Lengths of the whiskers (2, N), 0 where there is no interval."""
    value, low, high = (
        np.array([getattr(one, side) for one in values]) for side in ("value", "low", "high")
    )
    # A percentile interval need not hold the value itself, so a whisker may start beside the bar's end.
    return np.nan_to_num(np.clip([value - low, high - value], 0, None))


def _class_bars(axes: Axes, result: TaskResult) -> None:
    f1 = [result.each[name]["f1"] for name in result.names]
    _bars_across(
        axes,
        [f"{name}  ({one.faces})" for name, one in zip(_words(result.names), f1, strict=True)],
        f1,
    )
    _titled(axes, "F1 by class (faces)")


def _bars_across(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[Measure],
    colours: Sequence[str] | str = _BLUE,
) -> None:
    """Horizontal bars 0..1 with intervals and their numbers."""
    rows = list(range(len(names)))
    lengths = np.nan_to_num([one.value for one in values])
    axes.barh(rows, lengths, height=0.62, color=colours)
    axes.errorbar(
        [one.value for one in values],
        rows,
        xerr=_reach(values),
        fmt="none",
        ecolor=_INK,
        elinewidth=1.3,
        capsize=3,
    )
    for row, one in zip(rows, values, strict=True):
        at = max(np.nan_to_num(one.value), np.nan_to_num(one.high), 0)
        axes.text(at + 0.015, row, number(one.value, 2), va="center", size=_SMALL, color=_INK)
    axes.set_yticks(rows, names)
    axes.set(
        xlim=(min(0, np.nanmin([0, *lengths, *(one.low for one in values)])), 1.12),
        ylim=(len(names) - 0.4, -0.6),
    )
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    _plain(axes, "x")


def _scalars(band: SubFigure, result: TaskResult) -> None:
    _named(band, f"{result.task}   {title('mean_ccc')} {spelled(result.measures['mean_ccc'])}")
    names = list(result.density)
    lines = -(-len(names) // 2)
    grid = band.add_gridspec(lines, 3, width_ratios=(1, 1, 0.85))
    for i, name in enumerate(names):
        _density(band.add_subplot(grid[divmod(i, 2)]), result, name)
    _columns(band.add_subplot(grid[:, 2]), result)


def _density(axes: Axes, result: TaskResult, name: str) -> None:
    counts = np.array(result.density[name], float).T
    ends = (result.low, result.high)
    counts[counts == 0] = np.nan
    axes.plot(ends, ends, color=_ORANGE, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    image = axes.imshow(
        counts, origin="lower", extent=(*ends, *ends), cmap=_BLUES, norm=LogNorm(1, max(np.nanmax(counts), 2)), zorder=1,
        aspect="equal", interpolation="nearest",
    )  # fmt: skip
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=_SMALL - 1, which="both")
    most = max(int(np.nanmax(counts)), 2)
    bar.set_ticks([*(10**i for i in range(6) if 10**i < most / 1.5), most])
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.set_title("faces", size=_SMALL, color=_GREY, loc="left")
    step = (result.high - result.low) / CELLS / 2
    axes.set(xlim=(ends[0] - step, ends[1] + step), ylim=(ends[0] - step, ends[1] + step))
    axes.set_xticks(np.linspace(*ends, 5))
    axes.set_yticks(np.linspace(*ends, 5))
    axes.set_xlabel("true", size=_TEXT, color=_GREY)
    axes.set_ylabel("predicted", size=_TEXT, color=_GREY)
    _plain(axes, "both")
    _titled(axes, f"{name.replace('_', ' ')}: CCC {spelled(result.each[name]['ccc'])}")


def _columns(axes: Axes, result: TaskResult) -> None:
    """The numbers of every column, as a table to read."""
    axes.set(xlim=(0, 1), ylim=(len(result.names) * 6.2 + 0.5, 0))
    axes.set_axis_off()
    row = 0.8
    for name in result.names:
        axes.text(
            0.08, row, name.replace("_", " "), size=_HEADING, weight="bold", color=_INK, va="center"
        )
        axes.text(
            0.97,
            row,
            f"{result.each[name]['ccc'].faces:,} faces",
            size=_TEXT,
            color=_GREY,
            va="center",
            ha="right",
        )
        for line, measure in enumerate(class_measures("scalar", False), start=1):
            axes.text(
                0.08, row + 1.1 * line, title(measure), size=_TEXT + 0.5, color=_GREY, va="center"
            )
            axes.text(
                0.97,
                row + 1.1 * line,
                spelled(result.each[name][measure]),
                size=_TEXT + 0.5,
                color=_INK,
                va="center",
                ha="right",
            )
        row += 6.2


def _units(band: SubFigure, result: TaskResult) -> None:
    main = headlines(result.kind, result.graded)[-1]
    unit_measure = class_measures(result.kind, result.graded)[0]
    _named(band, f"{result.task}   {title(main)} {spelled(result.measures[main])}")
    axes = band.add_subplot()
    values = [result.each[name][unit_measure] for name in result.names]
    places, heights = list(range(len(values))), np.nan_to_num([one.value for one in values])
    axes.bar(places, heights, width=0.62, color=_BLUE)
    axes.errorbar(
        places,
        [one.value for one in values],
        yerr=_reach(values),
        fmt="none",
        ecolor=_INK,
        elinewidth=1.3,
        capsize=3,
    )
    for at, one in zip(places, values, strict=True):
        top = max(np.nan_to_num(one.value), np.nan_to_num(one.high), 0)
        axes.text(
            at, top + 0.02, number(one.value, 2), ha="center", va="bottom", size=_SMALL, color=_INK
        )
    if not result.graded:
        shares = [result.each[name]["prevalence"].value for name in result.names]
        axes.scatter(
            places,
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
    axes.set_xticks(
        places, [f"{name}\n{one.faces:,}" for name, one in zip(result.names, values, strict=True)]
    )
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.set(
        xlim=(-0.7, len(values) - 0.3),
        ylim=(min(0, np.nanmin([0, *heights, *(one.low for one in values)])), 1.1),
    )
    _plain(axes, "y")
    _titled(
        axes,
        f"{'Correlation r with the label' if result.graded else 'F1'} by unit; below it the annotated faces",
    )


def _people(band: SubFigure, evaluation: Evaluation, names: Sequence[str]) -> None:
    few = any(one.faces < FEW for part in evaluation.parts for one in part.measures.values())
    _named(
        band,
        f"By {evaluation.by}   (faces{f'; * fewer than {FEW}: too few to compare' if few else ''})",
    )
    unknown = Measure(value=NAN, low=NAN, high=NAN, faces=0)
    grid = band.subplots(1, _MOST_ACROSS, squeeze=False)[0]
    for i, axes in enumerate(grid):
        if i >= len(names):
            axes.set_axis_off()
            continue
        values = [part.measures.get(names[i], unknown) for part in evaluation.parts]
        counts = [f"{one.faces:,}{'*' * (one.faces < FEW)}" for one in values]
        # The groups stand at the left, once.
        labels = (
            [
                f"{part.name}  ({count})"
                for part, count in zip(evaluation.parts, counts, strict=True)
            ]
            if i == 0
            else counts
        )
        _bars_across(axes, labels, values, [_PALE if one.faces < FEW else _BLUE for one in values])
        gap = evaluation.gaps.get(names[i])
        _titled(axes, title(names[i]) + (f", gap {gap.difference:.3f}" if gap else ""))
