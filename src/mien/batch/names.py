"""What a run reads, and what its tables are called.

A table's name comes from its input alone: its own name, and its place below the folder that was named. Inputs of one name
that are given together have their place below their common parent. Only where a name already belongs to another input is another
one taken. A name once taken is kept.
"""

import glob
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Final

from mien.errors import MienError, OutputError
from mien.outputs.recorded import Recorded, compare, file_fingerprint, read_dictionary
from mien.sources import InputList, list_inputs, media_kind
from mien.sources.inputs import STDIN, natural_key

__all__ = [
    "DRAWN",
    "Job",
    "Plan",
    "Taken",
    "is_alone",
    "kept_name",
    "key_of",
    "name_for",
    "owns",
    "plan",
    "portable",
]

DRAWN: Final = {"image": ".overlay.jpg", "video": ".overlay.mp4"}
_LONGEST: Final = (
    160  # bytes of a name; what is added to it must fit into the 255 that file systems take
)
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
_UNPORTABLE: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
_MOST: Final = 1000  # recordings of one camera in one folder


@dataclass(frozen=True, slots=True)
class Job:
    """Inputs that share one table: one video, photo or camera, or the photos of one folder.

    Args:
        name: Where the tables lie below the output folder, with ``/`` and without suffix.
        inputs: Paths as given, ``camera:N`` or ``-``.
        folder: Absolute path of the folder whose photos these are; None for any other job.
        place: Parts of the path below what was named, the last one without suffix.
        suffix: What tells it from a neighbour of the same stem, such as ``.mov``.
        above: Names of the folders above that place, the nearest last, which tell it from one of the same name elsewhere.
        depth: How many of them come first.
    """

    name: str
    inputs: tuple[str, ...]
    folder: str | None = None
    place: tuple[str, ...] = ()
    suffix: str = ""
    above: tuple[str, ...] = ()
    depth: int = 0

    @property
    def source(self) -> str:
        """The absolute path of what is read; the name of a camera."""
        return self.folder or (
            self.inputs[0] if is_alone(self.inputs[0]) else os.path.abspath(self.inputs[0])
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs with unique names, in order, and what became of the rest.

    Args:
        jobs: One for each table.
        failures: Inputs and folders that cannot be read, each with one line on why.
        left_out: How many files of folders are no inputs, by kind.
    """

    jobs: list[Job]
    failures: list[tuple[str, str]]
    left_out: dict[str, int]


def plan(inputs: Sequence[str | Path], out: Path | None = None) -> Plan:
    """What is to be done for these inputs.

    Names that inputs have in `out` from an earlier run are kept. Overlays that lie there are what an earlier run drew;
    they are inputs only where they are named one by one.
    """
    listed = InputList()
    several = len({os.path.abspath(given) for given in inputs if os.path.isdir(given)}) > 1
    found: dict[str, _Input] = {}
    for given in map(str, inputs):
        below = list_inputs([given])
        listed.failures += below.failures
        listed.left_out += below.left_out
        for path in below.paths:
            if path != given and _is_drawn(path, out):
                continue
            item = _Input.of(given, path, several)
            before = found.setdefault(item.key, item)
            if item.root is not None and before.root is None:
                found[item.key] = item
    jobs = _told_apart(list(_jobs(found.values())))
    failures = dict(listed.failures)
    return Plan(_named(jobs, out), list(failures.items()), dict(listed.left_out))


def is_alone(path: str) -> bool:
    """Whether an input is no file: a camera or standard input."""
    return path == STDIN or path.startswith("camera:")


def _is_drawn(path: str, out: Path | None) -> bool:
    below = out is not None and Path(path).resolve().is_relative_to(out.resolve())
    return below and path.endswith(tuple(DRAWN.values()))


@dataclass(frozen=True, slots=True)
class _Input:
    """One input: its path as given, the folder its table's place is counted from, and its folders below that.

    The folder is the one that was named; None for what was named itself.
    """

    path: str
    key: str
    root: str | None
    folders: tuple[str, ...]
    several: bool = False

    @classmethod
    def of(cls, given: str, path: str, several: bool) -> "_Input":
        if is_alone(path):
            return cls(path, path, None, ())
        full = os.path.abspath(path)
        if path == given:
            return cls(path, full, None, ())
        root = os.path.abspath(given if os.path.isdir(given) else _fixed_part(given))
        below = os.path.relpath(os.path.dirname(full), root)
        folders = () if below == os.curdir else tuple(below.split(os.sep))
        return cls(path, full, root, folders, several and os.path.isdir(given))


def _fixed_part(pattern: str) -> str:
    """The folder of a pattern up to its first part with a wildcard."""
    folder = os.path.dirname(pattern)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder or os.curdir


def _jobs(found: Iterable[_Input]) -> Iterator[Job]:
    """Each video and each photo that was named alone by itself; other photos by folder."""
    photos: dict[str, list[_Input]] = {}
    for item in found:
        if not is_alone(item.path) and media_kind(item.path) == "image":
            photos.setdefault(os.path.dirname(item.key), []).append(item)
        else:
            yield _single(item)
    for folder, items in photos.items():
        if len(items) == 1 and items[0].root is None:
            yield _single(items[0])
            continue
        first = next((item for item in items if item.root is not None), items[0])
        place = first.folders or (os.path.basename(folder) or "photos",)
        below = first.root is not None and first.folders
        above = _parts(first.root if below and first.root else os.path.dirname(folder))
        paths = tuple(sorted((item.path for item in items), key=natural_key))
        yield Job("", paths, folder, place, ".photos", above, int(bool(below) and first.several))


def _single(item: _Input) -> Job:
    if is_alone(item.path):
        return Job(
            "", (item.path,), None, ("stdin" if item.path == STDIN else item.path.replace(":", ""),)
        )
    name = Path(item.path)
    above = _parts(item.root or os.path.dirname(item.key))
    return Job(
        "", (item.path,), None, (*item.folders, name.stem), name.suffix, above, int(item.several)
    )


def _parts(folder: str) -> tuple[str, ...]:
    return tuple(part for part in folder.split(os.sep) if part)


def _told_apart(jobs: list[Job]) -> list[Job]:
    """Jobs of one name have all folders below their common parent first, whatever order they came in."""
    same: dict[str, list[tuple[str, ...]]] = {}
    for job in jobs:
        same.setdefault(key_of(_level(job, job.depth)), []).append(job.above)
    common = {
        name: len(list(takewhile(lambda level: len(set(level)) == 1, zip(*places, strict=False))))
        for name, places in same.items()
    }
    return [
        replace(job, depth=max(job.depth, len(job.above) - common[key_of(_level(job, job.depth))]))
        for job in jobs
    ]


def _level(job: Job, depth: int) -> str:
    """The job's plain name after so many of the folders above it."""
    return "/".join(map(portable, (*job.above[len(job.above) - depth :], *job.place)))


def portable(part: str) -> str:
    """A file's or folder's name as every file system and console takes it.

    >>> portable("a:b. "), portable("con"), portable(".x"), portable("лицо")
    ('a_b__', 'con_', '_x', 'лицо')
    """
    name = _UNPORTABLE.sub("_", unicodedata.normalize("NFC", part))
    kept = name.rstrip(". ")
    name = kept + "_" * (len(name) - len(kept))
    if name.partition(".")[0].casefold() in _RESERVED:
        name = name.partition(".")[0] + "_" + name[len(name.partition(".")[0]) :]
    if name.startswith("."):
        name = "_" + name[1:]
    if len(name.encode()) > _LONGEST:
        start = name.encode()[: _LONGEST - 9].decode(errors="ignore")
        name = f"{start}~{_mark(part)}"
    return name or "_"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def key_of(name: str) -> str:
    """What is equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


class Taken:
    """Which names belong to whom: to inputs of this run, and to what lies in the output folder.

    Args:
        out: The output folder.
        listed: List each folder once, which also finds names that differ in case alone; else look for each name anew.
    """

    def __init__(self, out: Path | None, listed: bool = True) -> None:
        self._out, self._is_listed = out, listed
        self._sources: dict[str, str] = {}
        self._listed: dict[str, dict[str, str]] = {}

    def give(self, name: str, source: str) -> None:
        """Note that a name belongs to the input with this path."""
        self._sources[key_of(name)] = source

    def take_back(self, name: str) -> None:
        """Forget what was noted for a name."""
        self._sources.pop(key_of(name), None)

    def forget_listing(self) -> None:
        """Look into the folders anew."""
        self._listed.clear()

    def owner(self, name: str, job: Job) -> str | None:
        """The source of the other input that a name belongs to; None where it may be this job's."""
        if source := self._sources.get(key_of(name)):
            return source
        before = self.recorded(name)
        if before is None or (not is_alone(job.inputs[0]) and owns(job, before) != "other"):
            return None
        return before.folder or next((old.path or old.name for old in before.sources), "")

    def recorded(self, name: str) -> Recorded | None:
        """The dictionary of a name; None also where it cannot be understood, which is said when the job's turn comes."""
        if self._out is None:
            return None
        page = self._out / f"{name}.dictionary.json"
        try:
            return read_dictionary(page.with_name(self._spelled(page)) if self._is_listed else page)
        except MienError:
            return None

    def _spelled(self, page: Path) -> str:
        """The name of a dictionary as it lies there."""
        folder = str(page.parent)
        if folder not in self._listed:
            names = os.listdir(folder) if page.parent.is_dir() else []
            self._listed[folder] = {
                key_of(entry): entry for entry in names if entry.endswith(".dictionary.json")
            }
        return self._listed[folder].get(key_of(page.name), page.name)


def _named(jobs: list[Job], out: Path | None) -> list[Job]:
    """The jobs with their names: first those that have one from an earlier run, then the others, whatever order they came in."""
    names: dict[int, str] = {}
    taken = Taken(out)
    for number, job in enumerate(jobs):
        if name := kept_name(job, taken):
            names[number] = name
            taken.give(name, job.source)
    for number, job in sorted(enumerate(jobs), key=lambda item: natural_key(item[1].source)):
        if number not in names:
            names[number] = name_for(job, taken)
            taken.give(names[number], job.source)
    return [replace(job, name=names[number]) for number, job in enumerate(jobs)]


def kept_name(job: Job, taken: Taken) -> str | None:
    """The name under which an earlier run wrote this job's table."""
    if is_alone(job.inputs[0]):
        return None
    names = _unmarked(job)
    if len(names) > 2 and taken.recorded(names[2]):  # else no name with a mark was ever needed
        names = list(_names_of(job))
    return next(
        (name for name in names if taken.recorded(name) and taken.owner(name, job) is None), None
    )


def name_for(job: Job, taken: Taken) -> str:
    """The first of a job's names that belongs to no other input. Raises OutputError where all do."""
    first = _unmarked(job)
    with_suffix = dict(zip(first[1::2], first[::2], strict=False))
    for name in _names_of(job):
        # The suffix tells neighbours apart, the folder above what lies elsewhere.
        plain = with_suffix.get(name, name)
        if plain != name and os.path.dirname(taken.owner(plain, job) or "") != os.path.dirname(
            job.source
        ):
            continue
        if taken.owner(name, job) is None:
            return name
    raise OutputError(
        f"{job.source}: every name that its table could have belongs to another input; choose another folder"
    )


def _names_of(job: Job) -> Iterator[str]:
    """All names a job's table can have, the best one first."""
    if is_alone(job.inputs[0]):
        name = portable(job.place[-1])
        yield name
        yield from (f"{name}~{number}" for number in range(2, _MOST))
        return
    yield from _unmarked(job)
    full = _level(_with_suffix(job), 0)
    content = (
        file_fingerprint(job.inputs[0]).with_content().fingerprint if job.folder is None else None
    )
    yield f"{full}~{(content or _mark(job.source))[:8]}"
    yield f"{full}~{_mark(job.source)}"


def _unmarked(job: Job) -> list[str]:
    """The names that do not depend on content: without and with suffix, after more and more of the folders above."""
    depths = range(len(job.above) + 1)
    return [
        _level(each, depth)
        for depth in (*depths[job.depth :], *depths[: job.depth])
        for each in (job, _with_suffix(job))
    ]


def _with_suffix(job: Job) -> Job:
    return replace(job, place=(*job.place[:-1], job.place[-1] + job.suffix))


def owns(job: Job, before: Recorded) -> str:
    """How a job stands to the table that a dictionary describes: ``same``, ``changed`` (other content at its place), ``other``."""
    if job.folder is None:
        one = len(before.sources) == 1 and before.folder is None
        return compare(file_fingerprint(job.inputs[0]), before.sources[0]) if one else "other"
    if before.folder is None:
        return "other"
    here = os.path.abspath(before.folder) == job.folder
    if not here and os.path.lexists(before.folder):
        return "other"
    names = {os.path.basename(path): path for path in job.inputs}
    for old in before.sources:
        path = names.get(os.path.basename(old.name))
        if path and file_fingerprint(path).with_content().fingerprint == old.fingerprint:
            return "same"
    return "changed" if here and before.sources else "other"
