"""What a report says of each person of a film: rows, segments, shares and means."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.exports.intervals import is_unit, person_rows, segments_of
from mien.exports.recording import Recording
from mien.study.rows.usable import REASONS
from mien.tasks import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST_PEOPLE", "Person", "expressions_of", "people_of", "person_of", "units_of"]

MOST_PEOPLE: Final = 12
"""People that a page shows: those that are seen longest. A face that is lost gets a new number."""


@dataclass(frozen=True)
class Person:
    """One person of a film, or a face where nobody was told apart.

    Attributes:
        number: The number of the person or face.
        name: What the page calls them.
        rows: One for every frame of the film; see `mien.exports.intervals.person_rows`.
        segments: Their segments; see `mien.study.episodes.segments.find_segments`.
    """

    number: int
    name: str
    rows: "pd.DataFrame"
    segments: "pd.DataFrame"

    @cached_property
    def seen(self) -> "pd.Series[bool]":
        """In which frames they were seen."""
        return self.rows["face"].notna()

    @cached_property
    def seen_s(self) -> float:
        """How long they were seen, seconds."""
        return float(self.rows["duration_s"][self.seen].sum())

    @cached_property
    def usable_s(self) -> float:
        """How long they were usable, seconds."""
        return float(self.rows["duration_s"][self.rows["usable"]].sum())

    @cached_property
    def recorded_s(self) -> float:
        """How long the film is, seconds."""
        return float(self.rows["duration_s"].sum())

    def lost(self) -> dict[str, float]:
        """Seconds that are not usable.

        Returns:
            Seconds by reason, in the order of `mien.study.rows.usable.REASONS`.
        """
        seconds: dict[str, float] = {}
        lost = self.rows[~self.rows["usable"]]
        for reason, part in lost.groupby("unusable_because"):
            seconds[str(reason)] = float(part["duration_s"].sum())
        return {reason: seconds[reason] for reason in REASONS if seconds.get(reason)}

    def moments(self, column: str) -> tuple[float, float]:
        """Mean and standard deviation of a score over usable time.

        Args:
            column: The score.

        Returns:
            Both; NaN where there is nothing.
        """
        used = self.rows["usable"] & self.rows[column].notna()
        values = self.rows[column][used].to_numpy(np.float64)
        weights = self.rows["duration_s"][used].to_numpy(np.float64)
        if not len(values):
            return float("nan"), float("nan")
        mean = float(np.average(values, weights=weights))
        return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))

    def shares(self) -> dict[str, float]:
        """Shares of usable time by mean probabilities, which sum to 1.

        Returns:
            The share of each expression by its name; empty where the table has none.
        """
        names = expressions_of(self.rows)
        return {name: self.moments(f"expr_{name}")[0] for name in names}

    def per_minute(self, name: str) -> float:
        """How often something is shown per minute of usable time.

        Args:
            name: Of the segments, such as ``smile``.

        Returns:
            The rate; NaN without usable time.
        """
        count = int((self.segments["name"] == name).sum())
        return 60 * count / self.usable_s if self.usable_s else float("nan")

    def spans(self) -> list[tuple[float, float, str]]:
        """Stretches that are not usable.

        Returns:
            First and last time in seconds and the reason of each.
        """
        reasons = self.rows["unusable_because"].fillna("").to_numpy(object)
        starts = self.rows["time_s"].to_numpy(np.float64)
        ends: Floats = starts + self.rows["duration_s"].to_numpy(np.float64)
        if not len(reasons):
            return []
        changes = np.flatnonzero(reasons[1:] != reasons[:-1])
        firsts = np.concatenate(([0], changes + 1))
        lasts = np.concatenate((changes, [len(reasons) - 1]))
        spans = []
        for first, last in zip(firsts, lasts, strict=True):
            if reasons[first]:
                spans.append((float(starts[first]), float(ends[last]), str(reasons[first])))
        return spans


def expressions_of(table: "pd.DataFrame") -> list[str]:
    """The expressions that a table has probabilities of.

    Args:
        table: The table.

    Returns:
        Their names in the order of the table.
    """
    names = []
    for column in map(str, table.columns):
        if column.startswith("expr_") and not column.endswith("_raw"):
            names.append(column.removeprefix("expr_"))
    return names


def units_of(table: "pd.DataFrame") -> list[str]:
    """The action units of a table.

    Args:
        table: The table.

    Returns:
        The names of their columns in the order of the table.
    """
    return [column for column in map(str, table.columns) if is_unit(column)]


def people_of(recording: Recording) -> tuple[list[Person], int]:
    """The people of a film that a page shows.

    Args:
        recording: The table of one film.

    Returns:
        At most `MOST_PEOPLE`, those seen longest, by number; and how many were left out.

    Raises:
        StudyError: The table is not that of one film.
        MissingExtraError: scipy is not installed.
    """
    # Participants who are never seen have their place, too.
    counts: Counter[Any] = Counter(dict.fromkeys(range(len(recording.participants)), 0))
    counts.update(recording.table[recording.who].dropna().tolist())
    chosen = sorted(int(number) for number, _ in counts.most_common(MOST_PEOPLE))
    people = [person_of(recording, number) for number in chosen]
    return people, len(counts) - len(chosen)


def person_of(recording: Recording, number: int) -> Person:
    """One person of a film.

    Args:
        recording: The table of one film.
        number: One of `Recording.people`.

    Returns:
        The person with their segments.

    Raises:
        StudyError: The table is not that of one film.
        MissingExtraError: scipy is not installed.
    """
    rows = person_rows(recording, number)
    name = recording.label(number)
    if not recording.participants:
        name = name.capitalize()
    return Person(number, name, rows, segments_of(recording, number, rows))
