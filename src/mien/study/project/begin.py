"""A first study file, from what is in a folder."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mien.errors import OutputError, StudyError
from mien.files import atomic_write
from mien.outputs.tables import FORMATS
from mien.sources.inputs import natural_key
from mien.study.project.recordings import Pattern, is_film

__all__ = ["begin_study"]

_STUDY: Final = "study.yaml"
_LIST: Final = "recordings.csv"
# Entities of BIDS, and what they are called here.
_ENTITIES: Final = {
    "sub": "participant",
    "ses": "session",
    "task": "condition",
    "cond": "condition",
    "run": "run",
}
# What further parts of a path are taken for, in this order.
_WORDS: Final = ("participant", "condition", "session", "run")

_TEMPLATE: Final = """\
# A study for `mien study run {name}`; docs/howto/study.md explains every key.
study: 1
name: {folder}

recordings:
{recordings}

# Who a face is: one (a film of one person), largest, seats (from left to right), map (a CSV file of
# face numbers), person (a column of the tables).
people:
  faces: largest
{participants}{events}
# What counts as usable: the detector's confidence, and the shorter side of the face box in pixels.
usable:
  confidence: 0.6
  face_px: 32

# What a face reads at rest, taken off valence, arousal and action units: the first seconds of each
# recording, a condition, a file, or a low quantile.
# baseline:
#   of: span
#   span: [0, 5]
{epochs}
# Differences between conditions, the second minus the first.
# contrasts:
#   pairs: [[{conditions}]]
"""


def begin_study(folder: str | Path) -> list[Path]:
    """Write a first study file into a folder, from the films and tables that are there.

    Args:
        folder: The folder.

    Returns:
        The files written: ``study.yaml``, and ``recordings.csv`` if no pattern fits all films.

    Raises:
        StudyError: There are no films and no tables.
        OutputError: There is a study file already, or it cannot be written.
    """
    folder = Path(folder)
    path = folder / _STUDY
    if path.exists():
        raise OutputError(f"{path}: is there already; edit it, or move it away")
    files = _recordings_below(folder)
    if not files:
        raise StudyError(
            f"{folder}: has no films and no tables of mien's; name the folder of yours"
        )
    written = []
    pattern = _pattern_of(files)
    if pattern is None:
        listed = folder / _LIST
        if listed.exists():
            raise OutputError(f"{listed}: is there already; move it away")
        atomic_write(listed, _list_of(files).encode())
        written.append(listed)
    recordings = f"  list: {_LIST}" if pattern is None else f"  pattern: {_quoted(pattern)}"
    events = _first_of(folder, ("events.tsv", "events.csv"))
    participants = _first_of(folder, ("participants.tsv", "participants.csv"))
    conditions = ", ".join(_conditions_of(files, pattern))
    epochs = "\nepochs:\n  before_s: 0.5\n  after_s: 2\n" if events else ""
    text = _TEMPLATE.format(
        name=_STUDY,
        folder=_quoted(folder.resolve().name or "study"),
        recordings=recordings,
        participants=f"\nparticipants: {participants}\n" if participants else "",
        events=f"\nevents: {events}\n" if events else "",
        epochs=epochs,
        conditions=conditions,
    )
    atomic_write(path, text.encode())
    return [path, *written]


def _quoted(text: str) -> str:
    """A text as a YAML value."""
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _first_of(folder: Path, names: Sequence[str]) -> str | None:
    for name in names:
        if (folder / name).is_file():
            return name
    return None


def _recordings_below(folder: Path) -> list[str]:
    """Paths of the films; where there are none, of the tables that have a dictionary."""
    films = []
    tables = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if hidden or not path.is_file() or ".overlay." in path.name:
            continue
        if is_film(path):
            films.append(name)
        elif path.suffix.removeprefix(".") in FORMATS and _is_of_film(path):
            tables.append(name)
    return sorted(films or tables, key=natural_key)


def _is_of_film(table: Path) -> bool:
    """Whether a table is that of a film: not another program's, and not that of a study."""
    try:
        content = json.loads(table.with_suffix(".dictionary.json").read_bytes())
        return "columns" in content and content.get("table", "film") == "film"
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def _pattern_of(files: Sequence[str]) -> str | None:
    """The pattern that all paths have in common, if parts of their names tell them apart."""
    tokens = [re.split(r"([/_.])", name) for name in files]
    first = tokens[0]
    # The separators must be the same, too.
    shapes = {tuple(part if place % 2 else "" for place, part in enumerate(row)) for row in tokens}
    if len(shapes) > 1:
        return None
    parts = list(first)
    used: set[str] = set()
    seen: dict[tuple[str, ...], str] = {}
    for place in range(0, len(first), 2):
        values = tuple(row[place] for row in tokens)
        word = _entity(values)
        prefix = f"{first[place].partition('-')[0]}-" if word else ""
        is_suffix = place == len(first) - 1
        if is_suffix or (len(set(values)) == 1 and not word):
            continue
        # The same part again, such as the person in both folder and file, is the same word.
        word = word or seen.get(values) or _next_word(used)
        if word is None:
            return None
        used.add(word)
        seen[values] = word
        parts[place] = f"{prefix}{{{word}}}"
    if len({row[-1] for row in tokens}) > 1:
        parts[-1] = "*"
    return "".join(parts) if "participant" in used else None


def _conditions_of(files: Sequence[str], pattern: str | None) -> list[str]:
    """Two conditions to compare: those of the files, as far as their pattern names some."""
    conditions = []
    if pattern is not None:
        known = Pattern(pattern, _STUDY)
        for name in files:
            words = known.match(name) or {}
            conditions.append(words.get("condition", ""))
    named = sorted(set(filter(None, conditions)), key=natural_key)
    return [_quoted(name) for name in named[:2]] if len(named) > 1 else ["rest", "task"]


def _entity(values: Sequence[str]) -> str | None:
    """The word of an entity of BIDS, such as ``sub-01``, if all values are of it."""
    names = {value.partition("-")[0] for value in values if "-" in value}
    if len(names) != 1 or not all("-" in value for value in values):
        return None
    return _ENTITIES.get(names.pop())


def _next_word(used: set[str]) -> str | None:
    for word in _WORDS:
        if word not in used:
            return word
    return None


def _list_of(files: Sequence[str]) -> str:
    """A list to fill in: each file as a participant of its own."""
    lines = ["file,participant,condition,session"]
    for name in files:
        stem = Path(name).with_suffix("").as_posix().replace("/", "_")
        lines.append(f"{_cell(name)},{_cell(stem)},,")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    if not re.search(r'[",\n]', text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
