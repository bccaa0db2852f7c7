"""A finished table with what its data dictionary says: what exporters and reports work on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mien.errors import TableError
from mien.outputs.columns import Column, Dtype
from mien.outputs.read import read_table
from mien.sources.inputs import natural_key
from mien.study.edits.beside import read_edited_table
from mien.tasks import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Participant", "Recording"]


@dataclass(frozen=True)
class Participant:
    """A participant of a study in one film.

    Attributes:
        name: As the study calls them.
        rows: One for every frame of the film, with what the study takes for usable.
        segments: What the study found in them, by its own thresholds.
    """

    name: str
    rows: "pd.DataFrame"
    segments: "pd.DataFrame"


@dataclass(frozen=True)
class Recording:
    """One table: usually that of one film.

    Attributes:
        path: The table's file.
        table: Its rows.
        dictionary: Its data dictionary.
        columns: Its columns, with their meanings.
        participants: Its people, where a study says who they are: number N is the Nth.
        names: Names of its people, where they were given by hand (`numbered`).
    """

    path: Path
    table: "pd.DataFrame"
    dictionary: Mapping[str, Any]
    columns: tuple[Column, ...]
    participants: tuple[Participant, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, *, edits: bool = True) -> Self:
        """Read a table and its dictionary.

        Args:
            path: The table.
            edits: Whether edits beside it apply; see `mien.study.edits.apply.apply_edits`.

        Returns:
            The recording.

        Raises:
            UnknownNameError: The suffix is none of a table's.
            TableError: The table or its dictionary is missing or damaged.
            StudyError: The edits are damaged, or about another table.
        """
        return cls.of(path, read_edited_table(path) if edits else read_table(path))

    @classmethod
    def of(cls, path: Path, table: "pd.DataFrame") -> Self:
        """Take a table that was read.

        Args:
            path: Its file.
            table: Its rows, as `mien.read_table` gives them.

        Returns:
            The recording.
        """
        dictionary = table.attrs["dictionary"]
        columns = [_column(entry) for entry in dictionary["columns"]]
        presence = _presence(dictionary)
        described = [replace(column, present_from=presence.get(column.name)) for column in columns]
        return cls(path, table, dictionary, tuple(described))

    def numbered(self) -> Self:
        """Number the people of a table that has names given by hand.

        Returns:
            The recording with numbers in ``person``: of the names, in natural order, and after them
            of the faces that have none. As it was where nobody was named by hand.
        """
        if "person" not in self.table or self.table["person"].dtype.kind in "iu":
            return self
        table = self.table
        who = table["person"].astype(object).where(table["person"].notna(), None)
        unnamed = who.isna() & table["face"].notna()
        who[unnamed] = "face " + table["face"][unnamed].astype(str)
        named = sorted(map(str, table["person"].dropna().unique()), key=natural_key)
        others = sorted(set(map(str, who[unnamed].unique())) - set(named), key=natural_key)
        numbers = {name: number for number, name in enumerate([*named, *others])}
        person = who.map(numbers).astype("Int64")
        return replace(self, table=table.assign(person=person), names=tuple(numbers))

    @property
    def stem(self) -> str:
        """The name of the table without suffix."""
        return self.path.stem

    @cached_property
    def sources(self) -> list[str]:
        """The inputs that have rows, in the order of the rows."""
        return [str(name) for name in self.table["source"].unique()]

    @cached_property
    def who(self) -> str:
        """The column that says whose a row is: ``person`` where people were told apart."""
        is_told = "person" in self.table and bool(self.table["person"].notna().any())
        return "person" if is_told else "face"

    @cached_property
    def people(self) -> list[int]:
        """The numbers of the people, ascending; of their faces where nobody was told apart."""
        return sorted(int(number) for number in self.table[self.who].dropna().unique())

    def label(self, number: int) -> str:
        """Name a person.

        Args:
            number: One of `people`.

        Returns:
            The name of a study's participant, or one given by hand; else such as ``person 0``, or
            ``face 0`` where nobody was told apart.
        """
        if self.participants:
            return self.participants[number].name
        if self.names:
            return self.names[number]
        return f"{self.who} {number}"

    def rows_of(self, number: int) -> "pd.DataFrame":
        """The rows of one person.

        Args:
            number: One of `people`.

        Returns:
            Their rows in the order of the table.
        """
        return self.table[(self.table[self.who] == number).fillna(False).astype(bool)]

    def film(self, purpose: str) -> "Timeline":
        """The times of the table, where it is one film.

        Args:
            purpose: What needs a film, for the message.

        Returns:
            Its times.

        Raises:
            TableError: The table holds photos, several inputs or no rows.
        """
        if len(self.sources) != 1:
            raise TableError(
                f"{self.path}: holds {len(self.sources)} inputs, {purpose} needs one film; "
                "name the table of one recording"
            )
        timeline = Timeline.of(self.table)
        if len(timeline.times) < 2:
            raise TableError(
                f"{self.path}: holds no film, {purpose} needs frames with times; "
                "name the table of a recording"
            )
        return timeline


@dataclass(frozen=True)
class Timeline:
    """The frames of a film that were looked at.

    Attributes:
        times: Their presentation times, ascending, seconds (N,).
        step_s: The median time between two of them.
    """

    times: Floats
    step_s: float

    @classmethod
    def of(cls, table: "pd.DataFrame") -> Self:
        """The frames of one film's table.

        Args:
            table: Its rows.

        Returns:
            The frames.
        """
        times = np.unique(table["time_s"].to_numpy(np.float64))
        step_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        return cls(times, step_s)

    def positions(self, table: "pd.DataFrame") -> np.ndarray[Any, np.dtype[np.intp]]:
        """Which frames rows belong to.

        Args:
            table: Some rows of the film.

        Returns:
            Positions in `times`, one per row.
        """
        return np.searchsorted(self.times, table["time_s"].to_numpy(np.float64))

    def end_of(self, position: int) -> float:
        """When a frame ends: at the next one, or after the usual time where that comes later.

        Args:
            position: Of the frame in `times`.

        Returns:
            The time in seconds.
        """
        if position + 1 < len(self.times):
            return float(self.times[position + 1])
        return float(self.times[position] + self.step_s)

    @property
    def end_s(self) -> float:
        """When the last frame ends, seconds."""
        return self.end_of(len(self.times) - 1)


def _presence(dictionary: Mapping[str, Any]) -> dict[str, float]:
    """From which activation action units are present, where the bundle's card says so."""
    bundle = dictionary.get("bundle")
    presence = bundle.get("presence") if isinstance(bundle, dict) else None
    # Dictionaries are files that anyone may edit.
    items = presence.items() if isinstance(presence, dict) else ()
    return {name: float(value) for name, value in items if isinstance(value, int | float)}


def _column(entry: Mapping[str, Any]) -> Column:
    """A column as a dictionary describes it; its name and type have been checked."""
    limits = entry.get("range")
    low, high = limits if isinstance(limits, list) and len(limits) == 2 else (None, None)
    # Dictionaries of earlier versions say "string" for text.
    dtype: Dtype = "str" if entry["dtype"] == "string" else entry["dtype"]
    meaning = str(entry.get("meaning") or "")
    return Column(entry["name"], dtype, meaning, str(entry.get("unit") or ""), low, high)
