"""Figures for papers, as wide as a column and in vectors: `table.mien.timeline()` and others.

Importing this module gives every data frame an attribute ``mien`` with the same plots.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from mien.errors import MissingExtraError, TableError
from mien.exports.recording import Recording
from mien.report.people import Person, person_of, units_of
from mien.report.pictures import binned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plots", "affect_path", "expression_shares", "timeline", "unit_map"]

Width = Literal["column", "page"]
# Inches: the columns of most journals are 85 and 178 mm wide.
_INCHES: Final = {"column": 3.35, "page": 7.0}
# Okabe & Ito (2008), as in the pages; lines differ in their dashes as well.
_LINES: Final = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"))
_SHADE: Final = "#D9DDE2"
_GREY: Final = "#9AA3AD"
_STYLE: Final[dict[str, Any]] = {
    "font.size": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
}
# More points than this many cannot be told apart at the width of a page.
_MOST_POINTS: Final = 2000


def timeline(
    table: pd.DataFrame,
    face: int | None = None,
    columns: tuple[str, ...] = ("valence", "arousal"),
    width: Width = "column",
) -> "Figure":
    """Scores of a face over time, with what is not usable shaded.

    Args:
        table: A table of one film, as `mien.read_table` gives it.
        face: The number of the face, or of the person where people were told apart; None for who is
            seen longest.
        columns: At most four scores.
        width: As wide as a column (85 mm) or a page (178 mm).

    Returns:
        The figure; ``figure.savefig("timeline.pdf")`` writes it.

    Raises:
        TableError: The table has no such face or score, or is not that of one film.
        ValueError: More than four scores are asked for.
        MissingExtraError: matplotlib is not installed.
    """
    if not 1 <= len(columns) <= len(_LINES):
        raise ValueError(f"a timeline shows 1 to {len(_LINES)} scores, not {len(columns)}")
    person = _person(table, face, columns)
    edges, means = binned(person.rows, list(columns), _MOST_POINTS)
    centres = (edges[:-1] + edges[1:]) / 2
    with _figure(width, 0.5) as (figure, axes):
        for start, end, _ in person.spans():
            axes.axvspan(start, end, color=_SHADE, lw=0, zorder=0)
        for number, (column, (colour, dashes)) in enumerate(zip(columns, _LINES, strict=False)):
            axes.plot(centres, means[:, number], dashes, color=colour, lw=0.9, label=column)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("time, s")
        if set(columns) <= {"valence", "arousal"}:
            axes.set_ylim(-1, 1)
            axes.axhline(0, color=_GREY, lw=0.5, zorder=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(columns), borderaxespad=0)
    return figure


def affect_path(table: pd.DataFrame, face: int | None = None, width: Width = "column") -> "Figure":
    """The way of a face through valence and arousal, from pale to strong over time.

    Args:
        table: A table of one film, as `mien.read_table` gives it.
        face: The number of the face, or of the person where people were told apart; None for who is
            seen longest.
        width: As wide as a column (85 mm) or a page (178 mm).

    Returns:
        The figure.

    Raises:
        TableError: The table has no such face or scores, or is not that of one film.
        MissingExtraError: matplotlib is not installed.
    """
    person = _person(table, face, ("valence", "arousal"))
    _, means = binned(person.rows, ["valence", "arousal"], 400, 0.5)
    means = means[~np.isnan(means).any(axis=1)]
    centre = (person.moments("valence")[0], person.moments("arousal")[0])
    with _figure(width, 1.0) as (figure, axes):
        for number, step in enumerate(pairwise(means)):
            (x_from, y_from), (x_to, y_to) = step
            alpha = 0.2 + 0.8 * (number + 1) / len(means)
            axes.plot([x_from, x_to], [y_from, y_to], color=_LINES[0][0], lw=0.9, alpha=alpha)
        axes.plot(*centre, "o", color=_LINES[1][0], ms=4, label="mean")
        axes.axhline(0, color=_GREY, lw=0.5, zorder=0)
        axes.axvline(0, color=_GREY, lw=0.5, zorder=0)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="valence", ylabel="arousal", aspect="equal")
        axes.legend(loc="lower right")
    return figure


def expression_shares(
    table: pd.DataFrame, face: int | None = None, width: Width = "column"
) -> "Figure":
    """Shares of usable time by mean probabilities.

    Args:
        table: A table of one film, as `mien.read_table` gives it.
        face: The number of the face, or of the person where people were told apart; None for who is
            seen longest.
        width: As wide as a column (85 mm) or a page (178 mm).

    Returns:
        The figure.

    Raises:
        TableError: The table has no such face or no expressions, or is not that of one film.
        MissingExtraError: matplotlib is not installed.
    """
    person = _person(table, face, ())
    shares = person.shares()
    if not shares:
        raise TableError("the table has no expressions; plot what it has, such as its timeline")
    names = list(shares)[::-1]
    labels = [name.replace("_", " ") for name in names]
    values = [100 * shares[name] for name in names]
    with _figure(width, 0.6) as (figure, axes):
        axes.barh(labels, values, color=_LINES[0][0], height=0.6)
        axes.set_xlabel("share of usable time, %")
        axes.tick_params(axis="y", length=0)
    return figure


def unit_map(table: pd.DataFrame, face: int | None = None, width: Width = "column") -> "Figure":
    """Activations of action units over time.

    Args:
        table: A table of one film, as `mien.read_table` gives it.
        face: The number of the face, or of the person where people were told apart; None for who is
            seen longest.
        width: As wide as a column (85 mm) or a page (178 mm).

    Returns:
        The figure; where a face is not usable, it is grey.

    Raises:
        TableError: The table has no such face or no action units, or is not that of one film.
        MissingExtraError: matplotlib is not installed.
    """
    person = _person(table, face, ())
    units = units_of(person.rows)
    if not units:
        raise TableError("the table has no action units; plot what it has, such as its timeline")
    edges, means = binned(person.rows, units, 1000)
    rows = np.arange(len(units) + 1) - 0.5
    with _figure(width, 0.7) as (figure, axes):
        axes.set_facecolor(_SHADE)
        # Perceived alike with every kind of colour vision, and in grey. Cells as a picture: a
        # vector for each of thousands would make the file slow to open.
        picture = axes.pcolormesh(
            edges, rows, means.T, cmap="cividis", vmin=0, vmax=1, rasterized=True
        )
        axes.invert_yaxis()
        axes.set_yticks(range(len(units)), units)
        axes.set_xlabel("time, s")
        figure.colorbar(picture, label="activation", pad=0.02)
    return figure


def _person(table: pd.DataFrame, number: int | None, columns: tuple[str, ...]) -> Person:
    """The person of a table who is plotted."""
    recording = Recording(Path("the table"), table, {}, ())
    recording.film("a plot")
    missing = [name for name in columns if name not in table]
    if missing:
        raise TableError(f"the table has no column {', '.join(missing)}; name one that it has")
    if not recording.people:
        raise TableError("the table has no face; there is nothing to plot")
    if number is None:
        number = int(table[recording.who].value_counts().index[0])
    if number not in recording.people:
        known = ", ".join(map(str, recording.people[:9]))
        raise TableError(f"the table has no {recording.label(number)}; it has {known}")
    return person_of(recording, number)


@contextmanager
def _figure(width: Width, aspect: float) -> "Iterator[tuple[Figure, Axes]]":
    """A figure to be drawn while the style holds."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("report", "drawing figures") from error
    inches = _INCHES[width]
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # names of settings are literals
        # Without pyplot, which would keep every figure in memory.
        figure = Figure(figsize=(inches, inches * aspect), layout="constrained")
        yield figure, figure.subplots()


@pd.api.extensions.register_dataframe_accessor("mien")
class Plots:
    """The plots of this module as methods of a data frame: ``table.mien.timeline(face=0)``.

    Args:
        table: A table of one film, as `mien.read_table` gives it.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def timeline(self, *args: Any, **options: Any) -> "Figure":
        """Scores over time; see `mien.report.figures.timeline`.

        Args:
            *args: Its arguments behind the table.
            **options: Its options.

        Returns:
            The figure.
        """
        return timeline(self._table, *args, **options)

    def affect_path(self, *args: Any, **options: Any) -> "Figure":
        """Valence and arousal; see `mien.report.figures.affect_path`.

        Args:
            *args: Its arguments behind the table.
            **options: Its options.

        Returns:
            The figure.
        """
        return affect_path(self._table, *args, **options)

    def expression_shares(self, *args: Any, **options: Any) -> "Figure":
        """Shares of expressions; see `mien.report.figures.expression_shares`.

        Args:
            *args: Its arguments behind the table.
            **options: Its options.

        Returns:
            The figure.
        """
        return expression_shares(self._table, *args, **options)

    def unit_map(self, *args: Any, **options: Any) -> "Figure":
        """Action units over time; see `mien.report.figures.unit_map`.

        Args:
            *args: Its arguments behind the table.
            **options: Its options.

        Returns:
            The figure.
        """
        return unit_map(self._table, *args, **options)
