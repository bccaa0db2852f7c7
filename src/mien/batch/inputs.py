"""The inputs of a run, grouped into jobs that each give one table."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from mien.errors import SourceError
from mien.remote.address import absolute, is_address, parent, parts
from mien.sources import InputList, list_inputs, media_kind
from mien.sources.fetched import look_at_source
from mien.sources.inputs import STDIN, natural_key

__all__ = ["OVERLAY_SUFFIXES", "Job", "Plan", "group_inputs", "has_no_file"]

OVERLAY_SUFFIXES: Final = {"image": ".overlay.jpg", "video": ".overlay.mp4"}
"""Kind of input -> what its overlay's name ends with."""


@dataclass(frozen=True, slots=True)
class Job:
    """Inputs that share one table: one video, photo or camera, or the photos of one folder.

    Attributes:
        name: Path of the tables below the output folder, with ``/`` and without suffix.
        inputs: Paths as given, ``camera:N`` or ``-``.
        folder: Absolute path of the folder whose photos these are; None for any other job.
        parts: Parts of the path below the folder that was given, the last one without suffix.
        suffix: What distinguishes it from a neighbour of the same stem, such as ``.mov``.
        parents: Names of the folders above `parts`, the nearest last, which distinguish it from an
            input of the same name elsewhere.
        depth: How many of the `parents` its first choice of name begins with.
    """

    name: str
    inputs: tuple[str, ...]
    folder: str | None = None
    parts: tuple[str, ...] = ()
    suffix: str = ""
    parents: tuple[str, ...] = ()
    depth: int = 0

    @property
    def source(self) -> str:
        """The absolute path of what is read; the name of a camera."""
        if self.folder:
            return self.folder
        path = self.inputs[0]
        return path if has_no_file(path) else absolute(path)

    @property
    def key(self) -> str:
        """A short hash of the source, which names the job whatever its table is called."""
        source = self.source.encode(errors="surrogateescape")
        return hashlib.sha256(source).hexdigest()[:16]

    @property
    def size(self) -> int:
        """The bytes of its inputs; what cannot be looked at counts nothing."""
        size = 0
        for path in self.inputs:
            with suppress(OSError, SourceError):
                if is_address(path):
                    size += look_at_source(path).size or 0
                else:
                    size += os.stat(path).st_size
        return size


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs with unique names, in order, and what is known of the other inputs.

    Attributes:
        jobs: One for each table.
        failures: Inputs and folders that cannot be read, each with one line on why.
        left_out: How many files of folders are no inputs, by kind.
    """

    jobs: list[Job]
    failures: list[tuple[str, str]]
    left_out: dict[str, int]


def group_inputs(
    inputs: Sequence[str | Path], out: str | Path | None, root: Path | None = None
) -> Plan:
    """Group the inputs of a run into jobs.

    Args:
        inputs: Paths, folders, patterns, ``camera:N`` or ``-``.
        out: The output folder, also as an address, whose overlays are inputs only where they are
            named singly.
        root: A folder; inputs below it are named as if it had been given, also one by one.

    Returns:
        The jobs, still without names, and the failures.
    """
    listed = InputList()
    by_given = {given: list_inputs([given]) for given in map(str, inputs)}
    several = _are_several_folders(by_given)
    by_key: dict[str, _Input] = {}
    for given, below in by_given.items():
        listed.failures += below.failures
        listed.left_out += below.left_out
        for path in below.paths:
            if path == given or not _is_overlay_in(path, out):
                _add_input(by_key, _Input.of(given, path, several, root))
    jobs = list(_jobs(by_key.values()))
    # One line for each input that failed, however often it was given.
    failures = dict(listed.failures)
    return Plan(jobs, list(failures.items()), dict(listed.left_out))


def _are_several_folders(by_given: Mapping[str, InputList]) -> bool:
    folders = {absolute(given) for given in by_given if _is_folder(given, by_given[given].paths)}
    return len(folders) > 1


def _is_folder(given: str, paths: Iterable[str]) -> bool:
    """Whether what was given is a folder, by what it stands for where it is an address."""
    if not is_address(given):
        return os.path.isdir(given)
    return any(path.startswith(f"{given.rstrip('/')}/") for path in paths)


def _add_input(by_key: dict[str, "_Input"], item: "_Input") -> None:
    known = by_key.setdefault(item.key, item)
    # What is given both by itself and with its folder is named as its neighbours are, whichever
    # came first.
    if item.root is not None and known.root is None:
        by_key[item.key] = item


def has_no_file(path: str) -> bool:
    """Whether an input is a camera or standard input.

    Args:
        path: An input as given.

    Returns:
        True where there is no file that could be looked at again.
    """
    return path == STDIN or path.startswith("camera:")


def _is_overlay_in(path: str, out: str | Path | None) -> bool:
    if out is None or not path.endswith(tuple(OVERLAY_SUFFIXES.values())):
        return False
    if is_address(path) or is_address(str(out)):
        return path.startswith(f"{out}/")
    out = Path(out)
    return Path(path).resolve().is_relative_to(out.resolve())


@dataclass(frozen=True, slots=True)
class _Input:
    """One input.

    Attributes:
        path: Its path as given.
        key: Its absolute path, or the name of what is no file.
        root: The folder that was given and has this input below it; None if given by itself.
        folders: Its folders below `root`.
        several: Other folders were given as well.
    """

    path: str
    key: str
    root: str | None
    folders: tuple[str, ...]
    several: bool = False

    @classmethod
    def of(cls, given: str, path: str, several: bool, top: Path | None = None) -> "_Input":
        """An input `path` that `given`, itself or as a folder or pattern, stands for.

        Below `top` it is named as if that had been given.
        """
        if has_no_file(path):
            return cls(path, path, None, ())
        if is_address(path):
            return cls._at_address(given, path, several)
        full = os.path.abspath(path)
        if top is not None and Path(full).is_relative_to(os.path.abspath(top)):
            given = str(top)
        if path == given:
            return cls(path, full, None, ())
        is_folder = os.path.isdir(given)
        root = os.path.abspath(given if is_folder else _fixed_part(given))
        below = os.path.relpath(os.path.dirname(full), root)
        folders = () if below == os.curdir else tuple(below.split(os.sep))
        return cls(path, full, root, folders, several and is_folder)

    @classmethod
    def _at_address(cls, given: str, path: str, several: bool) -> "_Input":
        full = absolute(path)
        if full == absolute(given):
            return cls(path, full, None, ())
        is_folder = path.startswith(f"{given.rstrip('/')}/")
        root = absolute(given) if is_folder else _fixed_part(given)
        folders = parts(parent(path))[len(parts(root)) :]
        return cls(path, full, root, folders, several and is_folder)


def _fixed_part(pattern: str) -> str:
    """The folder of a pattern up to its first part with a wildcard."""
    folder = os.path.dirname(pattern)
    # Several parts may have wildcards, as in ``study/*/session*``.
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder or os.curdir


def _jobs(inputs: Iterable[_Input]) -> Iterator[Job]:
    """A job for each video and each photo that was given by itself; other photos by folder."""
    photos: dict[str, list[_Input]] = {}
    for item in inputs:
        is_photo = not has_no_file(item.path) and media_kind(item.path) == "image"
        if is_photo:
            folder = parent(item.key)
            photos.setdefault(folder, []).append(item)
        else:
            yield _single(item)
    for folder, items in photos.items():
        is_alone = len(items) == 1 and items[0].root is None
        if is_alone:
            yield _single(items[0])
        else:
            yield _photos_of(folder, items)


def _photos_of(folder: str, items: Sequence[_Input]) -> Job:
    """One job for the photos of a folder."""
    first = items[0]
    for item in items:
        if item.root is not None:
            first = item
            break
    # The root of a file system has no name.
    names = first.folders or parts(folder)[-1:] or ("photos",)
    paths = tuple(sorted((item.path for item in items), key=natural_key))
    # The folder that was given is not part of the name unless several were given.
    if first.root and first.folders:
        return Job("", paths, folder, names, ".photos", parts(first.root), int(first.several))
    return Job("", paths, folder, names, ".photos", parts(parent(folder)))


def _single(item: _Input) -> Job:
    if item.path == STDIN:
        return Job(name="", inputs=(item.path,), parts=("stdin",))
    if has_no_file(item.path):
        camera = item.path.replace(":", "")
        return Job(name="", inputs=(item.path,), parts=(camera,))
    path = PurePath(parts(item.path)[-1]) if parts(item.path) else PurePath(item.path)
    parents = parts(item.root or parent(item.key))
    return Job(
        name="",
        inputs=(item.path,),
        parts=(*item.folders, path.stem),
        suffix=path.suffix,
        parents=parents,
        depth=int(item.several),
    )
