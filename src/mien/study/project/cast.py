"""Who is in which recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mien.documents import at_home
from mien.errors import StudyError
from mien.sources.inputs import natural_key
from mien.study.edits.beside import ReadTable, read_edited_table
from mien.study.project.recordings import Recording, filled
from mien.study.project.settings import StudyPeople
from mien.study.rows.people import People

__all__ = ["Cast", "read_cast", "read_participants"]

_SEPARATORS: Final = {".tsv": "\t", ".csv": ","}


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is in which recording, and how to tell.

    Attributes:
        people: The rule of each recording, by its name.
        participants: The participants of each recording, by its name.
    """

    people: Mapping[str, People]
    participants: Mapping[str, Sequence[str]]

    def recordings_of(self) -> dict[str, list[str]]:
        """The recordings of each participant.

        Returns:
            Names of recordings by participant, participants in natural order.
        """
        names = {name for listed in self.participants.values() for name in listed}
        result: dict[str, list[str]] = {name: [] for name in sorted(names, key=natural_key)}
        for recording, listed in self.participants.items():
            for name in listed:
                result[name].append(recording)
        return result


@dataclass(slots=True)
class _Draft:
    people: dict[str, People] = field(default_factory=dict)
    participants: dict[str, list[str]] = field(default_factory=dict)


def read_cast(
    recordings: Sequence[Recording],
    people: StudyPeople,
    root: Path,
    tables: Mapping[str, Path] | None = None,
    read: ReadTable = read_edited_table,
) -> Cast:
    """Tell who is in which recording.

    Args:
        recordings: The recordings.
        people: The rule.
        root: The folder of the study file.
        tables: Of ``person``: the tables by name of the recording, which name their people.
        read: Reads a table.

    Returns:
        The cast.

    Raises:
        StudyError: A recording has no participant.
    """
    draft = _Draft()
    column = "person" if people.faces == "person" else "face"
    maps = _read_map(root / at_home(people.map), column) if people.map else None
    for recording in recordings:
        name = recording.name
        if people.faces == "seats":
            seats = [filled(seat, recording.words, "people.seats") for seat in people.seats]
            draft.people[name] = People(faces="seats", seats=tuple(seats))
            draft.participants[name] = seats
        elif people.faces in ("map", "person"):
            named = None
            if maps is not None:
                named = _map_of(maps, name, people)
            elif tables is not None:
                named = _numbered_people(tables[name], name, read)
            draft.people[name] = People(faces=people.faces, map=named or {})
            listed = named.values() if named else _named_people((tables or {})[name], read)
            draft.participants[name] = sorted(set(listed), key=natural_key)
        else:
            draft.people[name] = People(faces=people.faces)
            draft.participants[name] = [_single(recording)]
    return Cast(draft.people, draft.participants)


def _map_of(maps: Mapping[str, dict[int, str]], name: str, people: StudyPeople) -> dict[int, str]:
    if name not in maps:
        raise StudyError(
            f"people.map: {people.map} has no line for the recording {name}; add one, "
            "or leave the recording out (recordings.exclude)"
        )
    return maps[name]


def _single(recording: Recording) -> str:
    participant = recording.words.get("participant", "")
    if not participant:
        raise StudyError(
            f"{recording.path}: has no participant; put {{participant}} into recordings.pattern, "
            "a column participant into recordings.list, or say who is who (people.faces)"
        )
    return participant


def _people_of(path: Path, read: ReadTable) -> "pd.Series[Any]":
    table = read(path)
    if "person" not in table:
        raise StudyError(
            f"{path}: has no column person; read the film with `mien analyze --people`, "
            "name its faces in the app, or choose another people.faces"
        )
    return table["person"].dropna()


def _named_people(path: Path, read: ReadTable) -> list[str]:
    names = _people_of(path, read).astype("string")
    return [name for name in names.unique() if name]


def _numbered_people(path: Path, name: str, read: ReadTable) -> dict[int, str] | None:
    """Participants of one film, for numbers of people that mean nothing in another film."""
    people = _people_of(path, read)
    if not pd.api.types.is_integer_dtype(people):
        return None
    return {int(number): f"{name}_{number}" for number in sorted(people.unique())}


def _read_map(path: Path, column: str) -> dict[str, dict[int, str]]:
    """Who each face or person is, by recording."""
    table = read_text_table(path, "people.map", ("recording", column, "participant"))
    maps: dict[str, dict[int, str]] = {}
    for number, row in enumerate(table.to_dict("records"), 2):
        text = str(row[column])
        if not text.isdecimal():
            raise StudyError(
                f"people.map: {path}, line {number}: {column} {text!r} is no number; "
                f"take it from the column {column} of the recording's table"
            )
        maps.setdefault(str(row["recording"]), {})[int(text)] = str(row["participant"])
    return maps


def read_text_table(path: Path, where: str, needed: Sequence[str]) -> pd.DataFrame:
    """Read a TSV or CSV file as text.

    Args:
        path: The file.
        where: The key that names it, for messages.
        needed: Columns it must have.

    Returns:
        The table; ``n/a`` and empty cells are empty text.

    Raises:
        StudyError: It cannot be read, or lacks a column.
    """
    then = f"give a .tsv or .csv file with the columns {', '.join(needed)}"
    separator = _SEPARATORS.get(path.suffix.lower())
    if separator is None:
        raise StudyError(f"{where}: {path} is neither .tsv nor .csv; {then}")
    try:
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise StudyError(f"{where}: {path} cannot be read ({reason}); {then}") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise StudyError(f"{where}: {path} has no column {missing[0]}; {then}")
    return table.replace("n/a", "")


def read_participants(path: Path, taken: Sequence[str]) -> pd.DataFrame:
    """Read what is known of participants, as BIDS has it.

    Args:
        path: A TSV or CSV file with the column ``participant_id`` (or ``participant``).
        taken: Names of columns that its own would be confused with.

    Returns:
        One row per participant: ``participant``, without ``sub-``, and the other columns; those
        that hold numbers alone as numbers.

    Raises:
        StudyError: It cannot be read, names somebody twice, or has a column that is taken.
    """
    table = read_text_table(path, "participants", ())
    table = table.rename(columns={"participant_id": "participant"})
    if "participant" not in table:
        raise StudyError(f"participants: {path} has no column participant_id; add it")
    table["participant"] = table["participant"].str.removeprefix("sub-")
    doubled = table["participant"][table["participant"].duplicated()]
    if len(doubled):
        raise StudyError(f"participants: {path} names {doubled.iloc[0]} twice; keep one line")
    for name in table:
        if name in taken:
            raise StudyError(
                f"participants: {path}: the column {name} has the name of one of mien's; rename it"
            )
        numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
        is_number = numbers.notna() | (table[name] == "")
        if name != "participant" and is_number.all() and numbers.notna().any():
            table[name] = numbers.astype("float64")
    return table
