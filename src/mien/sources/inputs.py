"""From what a user typed to single inputs: paths, folders, patterns, cameras, standard input."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mien.errors import SourceError
from mien.remote.access import kind_of, list_folder, wrap_remote_errors
from mien.remote.address import (
    absolute,
    has_lost_slash,
    is_address,
    is_web,
    scheme,
    without_password,
)
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
# Protocols of cameras and players, of which no file comes.
_STREAMS: Final = frozenset({"mms", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "udp"})
_THUMBNAILS: Final = frozenset({"desktop.ini", "ehthumbs.db", "thumbs.db"})


@dataclass(slots=True)
class InputList:
    """Single inputs, in order, each once, and what became of the rest.

    Attributes:
        paths: Files, addresses of files, ``camera:N`` and ``-``.
        failures: Inputs or subfolders that cannot be read, each with one line on why.
        left_out: Files of folders that are no pictures or videos, counted by suffix (``.txt``,
            ``no suffix``), besides ``hidden`` files and folders and ``system`` files and folders
            (`SYSTEM_FOLDERS`), which are never looked into.
    """

    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_inputs(inputs: Sequence[str | Path]) -> InputList:
    """Turn what a user typed into single inputs; nothing is raised.

    A folder stands for the pictures and videos in it and below it, in natural order (2 before 10).
    Linked folders are followed, each real folder once, so loops end. A subfolder that cannot be
    read is a failure, and the rest is read.

    Args:
        inputs: Paths, folders and patterns, also as addresses that fsspec opens (``s3://…``),
            ``camera:N`` and ``-``.

    Returns:
        The inputs, what failed and what was left out.
    """
    result = InputList()
    # By absolute path, so that the same file under two names is read once.
    paths: dict[str, str] = {}
    for given in inputs:
        try:
            for path in _expand_one(str(given), result):
                is_file = path != STDIN and not path.startswith("camera:")
                paths.setdefault(absolute(path) if is_file else path, path)
        except SourceError as error:
            result.failures.append((without_password(str(given)), str(error)))
    for path in paths.values():
        problem = _name_problem(path)
        if problem:
            result.failures.append((path, problem))
        else:
            result.paths.append(path)
    return result


def expand(inputs: Sequence[str | Path]) -> list[str]:
    """Turn what a user typed into single inputs, all or none.

    Args:
        inputs: As for `list_inputs`.

    Returns:
        Its paths.

    Raises:
        SourceError: A missing path, a folder without media or one that cannot be read, or a pattern
            without a match.

    >>> expand(["camera:1", "camera:0", "camera:1"])
    ['camera:1', 'camera:0']
    """
    result = list_inputs(inputs)
    if result.failures:
        raise SourceError(result.failures[0][1])
    return result.paths


def summarize(left_out: Counter[str]) -> str:
    """Say what folders held besides inputs.

    Args:
        left_out: Counts by kind, from `InputList`.

    Returns:
        One line, the most frequent kind first; empty if there was nothing.

    >>> summarize(Counter({".pdf": 2, ".txt": 3, "hidden": 1}))
    '3 .txt, 2 .pdf, 1 hidden'
    """
    by_count = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in by_count)


def refuse_address(name: str) -> None:
    """Refuse an address that stands for no file.

    Args:
        name: What the user gave.

    Raises:
        SourceError: It is the address of a stream; the message says how to save it first.
    """
    protocol, name = scheme(name), without_password(name)
    if protocol == "file":
        raise SourceError(f"{name}: is an address; give the path alone, without file://")
    if protocol not in _STREAMS:
        return
    live = ""
    if protocol in {"rtsp", "rtsps"}:
        live = f", or read it while it happens: mien live '{name}'"
    raise SourceError(
        f"{name}: is a stream, and mien reads whole files; "
        f"save it first: ffmpeg -i '{name}' -c copy recording.mkv{live}"
    )


def _expand_one(given: str, result: InputList) -> list[str]:
    """The inputs that one word stands for; adds to the result what a folder leaves out or fails."""
    if given == STDIN or given.startswith("camera:") or os.path.isfile(given):
        return [given]
    if os.path.isdir(given):
        return _media_of_folder(given, result)
    refuse_address(given)
    if is_address(given):
        return _expand_address(given, result)
    if not os.path.lexists(given) and glob.has_magic(given):
        return _media_of_pattern(given, result)
    # A pipe or a device, on which `open_source` has more to say.
    if os.path.exists(given):
        return [given]
    if has_lost_slash(given):
        raise SourceError(f"{given}: a Path takes a slash from an address; give it as text")
    raise SourceError(f"{given}: no such file or folder; check the path")


def _expand_address(address: str, result: InputList) -> list[str]:
    """The inputs that an address stands for."""
    with wrap_remote_errors(address, SourceError):
        # Pages of the web list no folder, and a ? in their address is no pattern.
        if is_web(address) or "::" in address:
            return [address]
        kind = kind_of(address)
        if kind == "file":
            return [address]
        if kind is None and glob.has_magic(address):
            return _matches_of_address(address)
    if kind is None:
        raise SourceError(f"{address}: no such file, folder or bucket; check the address")
    return _media_of_folder(address.rstrip("/"), result)


def _matches_of_address(pattern: str) -> list[str]:
    """The files that match a pattern at an address."""
    folder = pattern
    while glob.has_magic(folder):
        folder = folder.rpartition("/")[0]
    names = sorted(list_folder(folder, pattern=pattern[len(folder) + 1 :]), key=natural_key)
    if not names:
        raise SourceError(
            f"{pattern}: nothing matches this pattern; check the folder and the spelling"
        )
    return [f"{folder}/{name}" for name in names]


def _media_of_pattern(pattern: str, result: InputList) -> list[str]:
    """The files that match, and the pictures and videos of the folders that match."""
    matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)
    if not matches:
        raise SourceError(
            f"{pattern}: nothing matches this pattern; check the folder and the spelling"
        )
    paths: list[str] = []
    for match in matches:
        if os.path.isdir(match):
            paths += _media_below(match, result)
        else:
            paths.append(match)
    if not paths and not result.failures:
        raise SourceError(
            f"{pattern}: no picture or video matches this pattern; "
            "check the folder and the spelling"
        )
    return paths


def _media_of_folder(folder: str, result: InputList) -> list[str]:
    """Pictures and videos in and below a folder; one without any is refused."""
    left_out = Counter(result.left_out)
    failures = len(result.failures)
    paths = _media_below(folder, result)
    # Where a subfolder could not be read, that is the reason, and it is reported already.
    if not paths and len(result.failures) == failures:
        content = summarize(result.left_out - left_out)
        holds = f" (it holds {content})" if content else ""
        raise SourceError(
            f"{folder}: no picture or video in this folder{holds}; "
            "give a folder that holds some, or name the file itself"
        )
    return paths


def _media_below(folder: str, result: InputList) -> list[str]:
    """Pictures and videos in and below a folder, in natural order."""
    paths: list[str] = []
    for parent, name in _files_below(folder, result):
        kind = _why_left_out(name)
        if kind is None:
            is_elsewhere = is_address(parent)
            paths.append(f"{parent}/{name}" if is_elsewhere else os.path.join(parent, name))
        else:
            result.left_out[kind] += 1
    return sorted(paths, key=natural_key)


def _files_below(folder: str, result: InputList) -> Iterator[tuple[str, str]]:
    """Folder and name of every file below a folder, each real folder once."""
    if is_address(folder):
        yield from _files_below_address(folder, result)
        return

    def report(error: OSError) -> None:
        path = str(error.filename)
        reason = f"this folder cannot be read ({error.strerror}); check its permissions"
        result.failures.append((path, f"{path}: {reason}"))

    visited: set[str] = set()
    # Real folders come before linked ones, whose content may be among them.
    waiting = [folder]
    while waiting:
        top = waiting.pop(0)
        if os.path.realpath(top) in visited:
            continue
        for parent, folders, names in os.walk(top, onerror=report):
            if os.path.realpath(parent) in visited:
                folders.clear()
                continue
            visited.add(os.path.realpath(parent))
            # Changed in place: `os.walk` goes on with what is left in it.
            folders[:] = _folders_to_visit(folders, result)
            for name in folders:
                path = os.path.join(parent, name)
                if os.path.islink(path):
                    waiting.append(path)
            for name in names:
                yield parent, name


def _files_below_address(folder: str, result: InputList) -> Iterator[tuple[str, str]]:
    """Folder and name of every file below an address."""
    with wrap_remote_errors(folder, SourceError):
        names = list_folder(folder)
    hidden: set[str] = set()
    for path in names:
        below, _, name = path.rpartition("/")
        # Counted by folder, as on disk.
        left_out = _hidden_folder(below)
        if left_out is None:
            yield f"{folder}/{below}" if below else folder, name
        elif left_out not in hidden:
            hidden.add(left_out)
            is_hidden = left_out.rpartition("/")[2].startswith(".")
            result.left_out["hidden" if is_hidden else "system"] += 1


def _hidden_folder(path: str) -> str | None:
    """The first folder of a path that is never looked into; None where there is none."""
    names = path.split("/")
    for number, name in enumerate(names, 1):
        if name.startswith(".") or name.casefold() in SYSTEM_FOLDERS:
            return "/".join(names[:number])
    return None


def _folders_to_visit(folders: list[str], result: InputList) -> list[str]:
    """Subfolders without the hidden ones and those of the system, which are counted."""
    visible: list[str] = []
    for name in sorted(folders):
        if name.startswith("."):
            result.left_out["hidden"] += 1
        elif name.casefold() in SYSTEM_FOLDERS:
            result.left_out["system"] += 1
        else:
            visible.append(name)
    return visible


def _why_left_out(name: str) -> str | None:
    """Why a file is no input: its suffix, ``hidden`` or ``system``; None if it is one."""
    if name.casefold() in _THUMBNAILS:
        return "system"
    if name.startswith("."):
        return "hidden"
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES:
        return None
    return suffix or "no suffix"


def _name_problem(path: str) -> str | None:
    """One line on a name whose bytes are not text: no table could hold it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "backslashreplace").decode()
        return f"{shown}: this name is not text in UTF-8 and no table can hold it; rename it"
    return None


def natural_key(path: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10.

    Args:
        path: A path or name.

    Returns:
        The key.

    >>> sorted(["s/10.png", "s/2.png"], key=natural_key)
    ['s/2.png', 's/10.png']
    """
    key: list[tuple[int, str]] = []
    # The separator sorts before every other character, so that a folder's files stay together.
    for part in re.split(r"([0-9]+)", path.replace(os.sep, "\0").casefold()):
        if part.isdecimal():
            key.append((int(part), ""))
        else:
            key.append((-1, part))
    # The path itself decides between names that differ in case or in leading zeros alone.
    key.append((-1, path))
    return key
