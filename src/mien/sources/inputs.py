"""From what a user typed to single inputs: paths, folders, patterns, cameras, standard input; and what was left out."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mien.errors import SourceError
from mien.sources.suffixes import IMAGE_SUFFIXES, SYSTEM_FOLDERS, VIDEO_SUFFIXES

__all__ = [
    "STDIN",
    "InputList",
    "expand",
    "list_inputs",
    "natural_key",
    "refuse_address",
    "summarize",
]

STDIN: Final = "-"
"""Stands for standard input."""
_ADDRESS: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_THUMBNAILS: Final = frozenset({"desktop.ini", "ehthumbs.db", "thumbs.db"})


@dataclass(slots=True)
class InputList:
    """Single inputs, in order, each once, and what became of the rest.

    paths: files, ``camera:N`` and ``-``.
    failures: (input or subfolder, one line on why it cannot be read).
    left_out: files of folders that are no pictures or videos, counted by suffix (``.txt``, ``no suffix``), besides
        ``hidden`` files and folders and ``system`` files and folders (`SYSTEM_FOLDERS`), which are never looked into.
    """

    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_inputs(inputs: Sequence[str | Path]) -> InputList:
    """Turn paths, folders, glob patterns, ``camera:N`` and ``-`` into single inputs; nothing is raised.

    A folder stands for the pictures and videos in it and below it, in natural order (2 before 10). Linked folders are
    followed, each real folder once, so loops end. A subfolder that cannot be read is a failure, and the rest is read.
    """
    result = InputList()
    once: dict[str, str] = {}
    for given in inputs:
        try:
            for path in _expand_one(str(given), result):
                alone = path == STDIN or path.startswith("camera:")
                once.setdefault(path if alone else os.path.abspath(path), path)
        except SourceError as error:
            result.failures.append((str(given), str(error)))
    for path in once.values():
        if line := _unwritable(path):
            result.failures.append((path, line))
        else:
            result.paths.append(path)
    return result


def expand(inputs: Sequence[str | Path]) -> list[str]:
    """The paths of `list_inputs`, all or none.

    Raises SourceError for a missing path, a folder without media or one that cannot be read, and a pattern without match.

    >>> expand(["camera:1", "camera:0", "camera:1"])
    ['camera:1', 'camera:0']
    """
    result = list_inputs(inputs)
    if result.failures:
        raise SourceError(result.failures[0][1])
    return result.paths


def summarize(left_out: Counter[str]) -> str:
    """What folders held besides inputs, the most frequent kind first; empty where there was nothing.

    >>> summarize(Counter({".pdf": 2, ".txt": 3, "hidden": 1}))
    '3 .txt, 2 .pdf, 1 hidden'
    """
    return ", ".join(
        f"{count} {kind}"
        for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    )


def refuse_address(name: str) -> None:
    """Raise SourceError for an address of the network, which mien never opens."""
    if not (match := _ADDRESS.match(name)) or os.path.lexists(name):
        return
    scheme = match[1].lower()
    if scheme == "file":
        raise SourceError(f"{name}: is an address; give the path alone, without file://")
    save = (
        f"curl -o recording.mp4 '{name}'"
        if scheme in {"http", "https", "ftp"}
        else f"ffmpeg -i '{name}' -c copy recording.mkv"
    )
    raise SourceError(
        f"{name}: is an address, and mien reads files and cameras without a network; save it first: {save}"
    )


def _expand_one(given: str, result: InputList) -> list[str]:
    """The inputs that one word stands for; what a folder leaves out or cannot give is added to the result."""
    if given == STDIN or given.startswith("camera:") or os.path.isfile(given):
        return [given]
    if os.path.isdir(given):
        return _media_below(given, result)
    refuse_address(given)
    if not os.path.lexists(given) and glob.has_magic(given):
        matches = sorted(glob.glob(given, recursive=True), key=natural_key)
        if not matches:
            raise SourceError(
                f"{given}: nothing matches this pattern; check the folder and the spelling"
            )
        paths: list[str] = []
        for match in matches:
            paths += _media_below(match, result, must=False) if os.path.isdir(match) else [match]
        if not paths and not result.failures:
            raise SourceError(
                f"{given}: no picture or video matches this pattern; check the folder and the spelling"
            )
        return paths
    if os.path.exists(given):  # a pipe or a device, which `open_source` explains
        return [given]
    raise SourceError(f"{given}: no such file or folder; check the path")


def _media_below(folder: str, result: InputList, *, must: bool = True) -> list[str]:
    """Pictures and videos in and below a folder, in natural order. With `must`, a folder without any is refused."""
    paths: list[str] = []
    left_out: Counter[str] = Counter()
    failures = len(result.failures)
    for name, parent in _files_below(folder, result.failures, left_out):
        kind = _kind_of(name)
        if kind is None:
            paths.append(os.path.join(parent, name))
        else:
            left_out[kind] += 1
    result.left_out += left_out
    if must and not paths and len(result.failures) == failures:
        seen = f" (it holds {summarize(left_out)})" if left_out else ""
        raise SourceError(
            f"{folder}: no picture or video in this folder{seen}; give a folder that holds some, or name the file itself"
        )
    return sorted(paths, key=natural_key)


def _files_below(
    folder: str, failures: list[tuple[str, str]], left_out: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Name and folder of every file below a folder, real folders before linked ones, each real folder once."""

    def refuse(error: OSError) -> None:
        line = f"{error.filename}: this folder cannot be read ({error.strerror}); check its permissions"
        failures.append((str(error.filename), line))

    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        top = waiting.pop(0)
        if os.path.realpath(top) in seen:
            continue
        for parent, folders, names in os.walk(top, onerror=refuse):
            if os.path.realpath(parent) in seen:
                folders[:] = []
                continue
            seen.add(os.path.realpath(parent))
            hidden = [name for name in folders if name.startswith(".")]
            system = [name for name in folders if name.casefold() in SYSTEM_FOLDERS]
            left_out += Counter(
                {"hidden": len(hidden), "system": len(system)}
            )  # in place; keeps no zeros
            folders[:] = sorted(set(folders) - set(hidden) - set(system))
            waiting += [
                os.path.join(parent, name)
                for name in folders
                if os.path.islink(os.path.join(parent, name))
            ]
            yield from ((name, parent) for name in names)


def _kind_of(name: str) -> str | None:
    """Why a file of a folder is no input: its suffix, ``hidden`` or ``system``; None for a picture or video."""
    if name.casefold() in _THUMBNAILS:
        return "system"
    if name.startswith("."):
        return "hidden"
    suffix = os.path.splitext(name)[1].lower()
    return None if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES else suffix or "no suffix"


def _unwritable(path: str) -> str | None:
    """One line on a name whose bytes are no text: no table could hold it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "backslashreplace").decode()
        return f"{shown}: this name is not text in UTF-8 and no table can hold it; rename it"
    return None


def natural_key(path: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10.

    >>> sorted(["s/10.png", "s/2.png"], key=natural_key)
    ['s/2.png', 's/10.png']
    """
    parts = re.split(r"([0-9]+)", path.replace(os.sep, "\0").casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path)]
