"""Which recordings a study has, by a pattern of their paths or a list."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pandas as pd

from mien.documents import at_home
from mien.errors import StudyError
from mien.outputs.tables import FORMATS
from mien.sources.inputs import natural_key
from mien.sources.suffixes import VIDEO_SUFFIXES
from mien.study.project.settings import Recordings

__all__ = ["Pattern", "Recording", "filled", "find_recordings", "is_film", "read_list"]

_WORD: Final = re.compile(r"\{([a-z_]+)\}")
_PARTS: Final = re.compile(r"(\{[a-z_]+\}|\*)")
# More words in one part of a path could be matched in too many ways.
_MOST_WORDS: Final = 4
# What is written beside tables.
_COMPANIONS: Final = (".dictionary.json", ".overlay.mp4", ".overlay.jpg")
# Files that a message names.
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Recording:
    """A film or the table of one.

    Attributes:
        name: Its path without suffix, with ``_`` between folders.
        path: The file.
        words: What the pattern or list says of it: ``participant``, ``condition``, ``session`` and
            others.
    """

    name: str
    path: Path
    words: Mapping[str, str]

    def keys(self, participant: str) -> dict[str, str]:
        """The keys of rows.

        Args:
            participant: Whose rows they are.

        Returns:
            Participant, condition, session and recording; empty where the study has none.
        """
        return {
            "participant": participant,
            "condition": self.words.get("condition", ""),
            "session": self.words.get("session", ""),
            "recording": self.name,
        }


def is_film(path: Path) -> bool:
    """Whether a file is a film, which is read first, and no table.

    Args:
        path: The file.

    Returns:
        By its suffix.
    """
    return path.suffix.lower() in VIDEO_SUFFIXES


def filled(pattern: str, words: Mapping[str, str], where: str) -> str:
    """Fill words into a pattern.

    Args:
        pattern: A text with ``{word}`` in it.
        words: Their values.
        where: The key that holds the pattern, for the message.

    Returns:
        The text.

    Raises:
        StudyError: There is no such word.

    >>> filled("{pair}-left", {"pair": "07"}, "people.seats")
    '07-left'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in words:
            known = ", ".join(sorted(words)) or "none"
            raise StudyError(f"{where}: {match[0]} is no word of the recordings; they have {known}")
        return words[match[1]]

    return _WORD.sub(value, pattern)


class Pattern:
    """A pattern of paths with words in it.

    Args:
        text: Such as ``sub-{participant}/{condition}_{session}.mp4``; ``*`` matches anything, and
            neither matches across folders.
        where: The key that holds it, for messages.

    Raises:
        StudyError: It has no words, or too many.
    """

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self._where = where
        if not _WORD.search(text):
            raise StudyError(
                f"{where}: {text} has no words; "
                "write such as sub-{participant}/{condition}_{session}.mp4"
            )
        for part in text.split("/"):
            if len(_PARTS.findall(part)) > _MOST_WORDS:
                raise StudyError(
                    f"{where}: {part} has more than {_MOST_WORDS} words; "
                    "write recordings.list instead"
                )
        self._lazy = re.compile(self._expression("+?"))
        self._greedy = re.compile(self._expression("+"))

    def _expression(self, repeat: str) -> str:
        expression = ""
        known: set[str] = set()
        for part in _PARTS.split(self.text):
            word = _WORD.fullmatch(part)
            if part == "*":
                expression += "[^/]*"
            elif word is None:
                expression += re.escape(part)
            elif word[1] in known:
                # A word that comes twice has one value.
                expression += f"(?P={word[1]})"
            else:
                known.add(word[1])
                expression += f"(?P<{word[1]}>[^/]{repeat})"
        return expression

    def match(self, path: str) -> Mapping[str, str] | None:
        """Read the words in a path.

        Args:
            path: The path, with ``/`` between folders.

        Returns:
            The words' values; None where the pattern is another.

        Raises:
            StudyError: The path can be read in two ways.
        """
        lazy = self._lazy.fullmatch(path)
        greedy = self._greedy.fullmatch(path)
        if lazy is None or greedy is None:
            return None
        if lazy.groupdict() != greedy.groupdict():
            ways = " or ".join(_shown(match.groupdict()) for match in (lazy, greedy))
            raise StudyError(
                f"{self._where}: {path} matches {self.text} in two ways, {ways}; "
                "rename the file, or write recordings.list instead"
            )
        return lazy.groupdict()

    def files(self, root: Path) -> Iterator[tuple[str, Path, Mapping[str, str]]]:
        """Find the files that match.

        Args:
            root: The folder that the pattern starts from.

        Yields:
            Name, path and words of each, in natural order.
        """
        parts = self.text.split("/")
        literal = 0
        while literal < len(parts) - 1 and not _PARTS.search(parts[literal]):
            literal += 1
        folder = root.joinpath(*parts[:literal]) if literal else root
        prefix = "/".join([*parts[:literal], ""])
        wild = "/".join(
            _PARTS.sub("*", re.sub(r"([\[?])", r"[\1]", part)) for part in parts[literal:]
        )
        below = [path.relative_to(folder).as_posix() for path in folder.glob(wild)]
        for path in sorted(below, key=natural_key):
            words = self.match(prefix + path)
            if words is not None and (folder / path).is_file():
                yield path, folder / path, words


def _shown(words: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in words.items())


def find_recordings(settings: Recordings, root: Path, where: str = "recordings") -> list[Recording]:
    """Find the recordings of a study.

    Args:
        settings: Where they are.
        root: The folder of the study file.
        where: The key that holds the settings, for messages.

    Returns:
        The recordings in natural order.

    Raises:
        StudyError: There are none, two are the same by their words, or one can be read in two ways.
    """
    if settings.list is not None:
        recordings = read_list(root / at_home(settings.list), f"{where}.list")
    else:
        recordings = _matching(settings, root, f"{where}.pattern")
    kept = []
    for recording in recordings:
        relative = recording.path.as_posix()
        patterns = [(root / pattern).as_posix() for pattern in settings.exclude]
        if not any(fnmatch(relative, pattern) for pattern in patterns):
            kept.append(recording)
    if not kept:
        raise StudyError(f"{where}.exclude: leaves no recording; take something out of it")
    _check_distinct(kept, where)
    return kept


def _matching(settings: Recordings, root: Path, where: str) -> list[Recording]:
    assert settings.pattern is not None
    pattern = Pattern(str(at_home(settings.pattern)), where)
    recordings = []
    for name, path, words in pattern.files(root):
        is_table = path.suffix.lower().removeprefix(".") in FORMATS
        if path.name.endswith(_COMPANIONS) or not (is_table or is_film(path)):
            continue
        stem = name.removesuffix(path.suffix).replace("/", "_")
        recordings.append(Recording(stem, path, _named(words)))
    if not recordings:
        raise StudyError(
            f"{where}: no film or table below {root} matches {settings.pattern}; {_nearest(root)}"
        )
    return recordings


def _named(words: Mapping[str, str]) -> dict[str, str]:
    """The words, with the participant named as tables of events and participants name them."""
    named = dict(words)
    if "participant" in named:
        named["participant"] = named["participant"].removeprefix("sub-")
    return named


def _nearest(root: Path) -> str:
    """What there is instead."""
    files = []
    for path in sorted(root.glob("*")) + sorted(root.glob("*/*")):
        if is_film(path) or path.suffix.lower().removeprefix(".") in FORMATS:
            files.append(path.relative_to(root).as_posix())
    if not files:
        return "there are no films or tables; check the folder"
    return f"there is {', '.join(files[:_SHOWN])}{', …' if len(files) > _SHOWN else ''}"


def _check_distinct(recordings: list[Recording], where: str) -> None:
    known: dict[object, Recording] = {}
    for recording in recordings:
        words = tuple(sorted(recording.words.items()))
        for key in (words, recording.name):
            other = known.setdefault(key, recording)
            if other is not recording:
                raise StudyError(
                    f"{where}: {other.path} and {recording.path} are both "
                    f"{_shown(recording.words)}; tell them apart by a further {{word}}, "
                    "or leave one out (recordings.exclude)"
                )


def read_list(path: Path, where: str) -> list[Recording]:
    """Read a list of recordings.

    Args:
        path: A CSV file with the column ``file`` and columns of words.
        where: The key that names it, for messages.

    Returns:
        The recordings in the order of the list; without suffix, their files' names are theirs.

    Raises:
        StudyError: It cannot be read, or a file is missing.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise StudyError(
            f"{where}: {path} cannot be read ({reason}); "
            "write a CSV file with the columns file, participant, condition, session"
        ) from error
    if "file" not in table:
        raise StudyError(f"{where}: {path} has no column file; add one with paths below its folder")
    recordings = []
    for number, row in enumerate(table.to_dict("records"), 2):
        words = {str(name): str(value) for name, value in row.items() if name != "file"}
        film = path.parent / at_home(str(row["file"]))
        if not film.is_file():
            raise StudyError(
                f"{where}: {path}, line {number}: there is no file {row['file']}; correct the path"
            )
        name = Path(str(row["file"])).with_suffix("").as_posix().strip("/").replace("/", "_")
        recordings.append(Recording(name, film, _named(words)))
    return recordings
