"""The names of a run's tables.

A table's name comes from its input alone: its file name, and its path below the folder that was
given. Inputs that would share a name get their path below their common parent. Only where a name
already belongs to another input is another one taken. A name once taken is kept.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from mien.batch.inputs import Job, Plan, group_inputs, has_no_file
from mien.errors import MienError, OutputError
from mien.outputs.recorded import Recorded, compare, file_fingerprint, read_dictionary
from mien.remote.address import absolute, is_address, parent
from mien.sources.inputs import natural_key

__all__ = [
    "NameRegistry",
    "compare_record",
    "free_name",
    "key_of",
    "plan",
    "portable",
    "recorded_name",
]

Match = Literal["same", "changed", "other"]
# Bytes of a name: file systems take 255, and what is added to it must fit as well.
_LONGEST: Final = 160
# Names of devices, which Windows allows for no file, whatever its suffix.
_PORTS: Final = [f"{port}{number}" for port in ("com", "lpt") for number in range(10)]
_RESERVED: Final = frozenset({"con", "prn", "aux", "nul", *_PORTS})
_UNPORTABLE: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
# Recordings of one camera in one folder.
_MOST: Final = 1000


def plan(
    inputs: Sequence[str | Path],
    out: Path | None = None,
    root: Path | None = None,
    address: str | None = None,
) -> Plan:
    """List the jobs of a run and name their tables.

    Overlays of an earlier run that are found in `out` are inputs only where they are named singly.

    Args:
        inputs: Paths, folders, patterns, ``camera:N`` or ``-``.
        out: The output folder; names that inputs have there from an earlier run are kept.
        root: A folder; inputs below it are named as if it had been given, also one by one.
        address: The address of the output folder, of which `out` has the dictionaries; None where
            it is on this disk.

    Returns:
        The jobs and the failures.
    """
    grouped = group_inputs(inputs, address or out, root)
    return replace(grouped, jobs=_named(_disambiguated(grouped.jobs), out))


def _disambiguated(jobs: list[Job]) -> list[Job]:
    """Give jobs of one name all folders below their common parent, whatever order they came in."""
    parents_of: dict[str, list[tuple[str, ...]]] = {}
    for job in jobs:
        parents_of.setdefault(_first_choice(job), []).append(job.parents)
    result = []
    for job in jobs:
        common = _common_length(parents_of[_first_choice(job)])
        depth = max(job.depth, len(job.parents) - common)
        result.append(replace(job, depth=depth))
    return result


def _first_choice(job: Job) -> str:
    return key_of(_name_at(job, job.depth))


def _common_length(paths: Sequence[tuple[str, ...]]) -> int:
    """How many of their first parts all paths share."""
    length = 0
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        length += 1
    return length


def _name_at(job: Job, depth: int) -> str:
    """The job's plain name below so many of its parent folders."""
    parts = (*job.parents[len(job.parents) - depth :], *job.parts)
    return "/".join(map(portable, parts))


def portable(part: str) -> str:
    """Make the name of a file or folder one that every file system and console takes.

    Args:
        part: One part of a path.

    Returns:
        The name in Unicode form NFC, of at most 160 bytes, without reserved characters and names.

    Examples:
        >>> portable("a:b. "), portable("con"), portable(".x"), portable("лицо")
        ('a_b__', 'con_', '_x', 'лицо')
    """
    name = _UNPORTABLE.sub("_", unicodedata.normalize("NFC", part))
    # Windows drops dots and spaces at the end.
    kept = name.rstrip(". ")
    name = _unreserved(kept + "_" * (len(name) - len(kept)))
    # A dot at the start hides a file.
    if name.startswith("."):
        name = "_" + name[1:]
    # Two long names may begin alike, so the hash is of the whole.
    if len(name.encode()) > _LONGEST:
        start = name.encode()[: _LONGEST - 9].decode(errors="ignore")
        name = f"{start}~{_short_hash(part)}"
    return name or "_"


def _unreserved(name: str) -> str:
    # Windows takes ``con.txt`` for the device as well.
    stem, dot, suffix = name.partition(".")
    return f"{stem}_{dot}{suffix}" if stem.casefold() in _RESERVED else name


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def key_of(name: str) -> str:
    """A key that is equal for names that some file system takes for the same.

    Args:
        name: The name of a table.

    Returns:
        The name without differences of case and Unicode form.
    """
    return unicodedata.normalize("NFC", name).casefold()


class NameRegistry:
    """Which names belong to which input: of this run, and of the tables in the output folder.

    Args:
        out: The output folder.
        listed: List each folder once, which also finds names that differ in case alone; otherwise
            look for each name again.
        look: Brings the dictionary of a name into the output folder before it is looked at, where
            the folder is elsewhere.
    """

    def __init__(
        self, out: Path | None, listed: bool = True, look: Callable[[str], None] | None = None
    ) -> None:
        self._out = out
        self._look = look
        self._is_listed = listed
        self._sources: dict[str, str] = {}
        self._listed: dict[str, dict[str, str]] = {}

    def reserve(self, name: str, source: str) -> None:
        """Reserve a name for an input.

        Args:
            name: The name of a table.
            source: The absolute path of the input.
        """
        self._sources[key_of(name)] = source

    def refresh(self) -> None:
        """Look into the folders again when next asked."""
        self._listed.clear()

    def owner(self, name: str, job: Job) -> str | None:
        """The other input that a name belongs to.

        Args:
            name: The name of a table.
            job: The job that would like to have it.

        Returns:
            The source of the other input, or None where this job may have the name.
        """
        source = self._sources.get(key_of(name))
        if source:
            return source
        record = self.record_of(name)
        if record is None:
            return None
        # Recordings of one camera are never the same, so each gets a name of its own.
        if not has_no_file(job.inputs[0]) and compare_record(job, record) != "other":
            return None
        return _source_of(record)

    def record_of(self, name: str) -> Recorded | None:
        """The data dictionary of a name.

        Args:
            name: The name of a table.

        Returns:
            The dictionary; None where there is none, or it cannot be understood, which is reported
            when the turn of its job comes.
        """
        if self._out is None:
            return None
        path = self._out / f"{name}.dictionary.json"
        if self._look is not None:
            self._look(name)
        try:
            if self._is_listed:
                path = path.with_name(self._spelling_of(path))
            return read_dictionary(path)
        except MienError:
            return None

    def _spelling_of(self, path: Path) -> str:
        """The name of a dictionary as it is spelled in its folder."""
        # Some file systems keep a name's case, and others do not.
        folder = str(path.parent)
        # Listing once per folder, not once per name: a folder may hold thousands of tables.
        if folder not in self._listed:
            self._listed[folder] = _spellings_in(path.parent)
        return self._listed[folder].get(key_of(path.name), path.name)


def _source_of(record: Recorded) -> str:
    """The input of a recorded table, as `Job.source` gives it."""
    if record.folder:
        return record.folder
    if not record.sources:
        return ""
    stamp = record.sources[0]
    return stamp.path or stamp.name


def _spellings_in(folder: Path) -> dict[str, str]:
    """The names of a folder's dictionaries by their keys."""
    if not folder.is_dir():
        return {}
    spellings: dict[str, str] = {}
    for name in os.listdir(folder):
        if name.endswith(".dictionary.json"):
            spellings[key_of(name)] = name
    return spellings


def _named(jobs: list[Job], out: Path | None) -> list[Job]:
    """The jobs with their names, whatever order they came in."""
    names: dict[int, str] = {}
    registry = NameRegistry(out)
    # First those that have a name from an earlier run, so that no other job takes it.
    for number, job in enumerate(jobs):
        name = recorded_name(job, registry)
        if name:
            names[number] = name
            registry.reserve(name, job.source)
    unnamed = [number for number in range(len(jobs)) if number not in names]
    for number in sorted(unnamed, key=lambda number: natural_key(jobs[number].source)):
        job = jobs[number]
        names[number] = free_name(job, registry)
        registry.reserve(names[number], job.source)
    return [replace(job, name=names[number]) for number, job in enumerate(jobs)]


def recorded_name(job: Job, registry: NameRegistry) -> str | None:
    """The name under which an earlier run wrote this job's table.

    Args:
        job: The job.
        registry: Which names belong to which input.

    Returns:
        The name, or None where no earlier run wrote it.
    """
    if has_no_file(job.inputs[0]):
        return None
    names = _plain_names(job)
    # A name with a hash, which takes reading the input, is needed only where these are taken.
    if len(names) > 2 and registry.record_of(names[2]):
        names = list(_names_of(job))
    for name in names:
        if registry.record_of(name) and registry.owner(name, job) is None:
            return name
    return None


def free_name(job: Job, registry: NameRegistry) -> str:
    """The first of a job's possible names that belongs to no other input.

    Args:
        job: The job.
        registry: Which names belong to which input.

    Returns:
        The name.

    Raises:
        OutputError: All of them belong to other inputs.
    """
    plain_names = _plain_names(job)
    without_suffix = dict(zip(plain_names[1::2], plain_names[::2], strict=False))
    folder = parent(job.source)
    for name in _names_of(job):
        # The suffix distinguishes neighbours, the folder above what is elsewhere.
        plain = without_suffix.get(name, name)
        if plain != name and parent(registry.owner(plain, job) or "") != folder:
            continue
        if registry.owner(name, job) is None:
            return name
    raise OutputError(
        f"{job.source}: every name that its table could have belongs to another input; "
        "choose another folder"
    )


def _names_of(job: Job) -> Iterator[str]:
    """All names that a job's table can have, the best one first."""
    if has_no_file(job.inputs[0]):
        name = portable(job.parts[-1])
        yield name
        for number in range(2, _MOST):
            yield f"{name}~{number}"
        return
    yield from _plain_names(job)
    full_name = _name_at(_with_suffix(job), 0)
    source_hash = _short_hash(job.source)
    yield f"{full_name}~{_content_hash(job) or source_hash}"
    yield f"{full_name}~{source_hash}"


def _content_hash(job: Job) -> str | None:
    """A short hash of what a job's file holds; None where it has none, or cannot be read."""
    if job.folder is not None:
        return None
    content = file_fingerprint(job.inputs[0]).with_content().fingerprint
    return content[:8] if content else None


def _plain_names(job: Job) -> list[str]:
    """The names that do not depend on content: below more and more of the parent folders.

    Each comes without and then with the suffix.
    """
    depths = range(len(job.parents) + 1)
    names = []
    # From the first choice upwards; shorter names come last.
    for depth in (*depths[job.depth :], *depths[: job.depth]):
        names += [_name_at(job, depth), _name_at(_with_suffix(job), depth)]
    return names


def _with_suffix(job: Job) -> Job:
    return replace(job, parts=(*job.parts[:-1], job.parts[-1] + job.suffix))


def compare_record(job: Job, record: Recorded) -> Match:
    """Compare the input of a job with the input of a recorded table.

    Args:
        job: The job.
        record: The table's data dictionary.

    Returns:
        ``same``, ``changed`` (other content at the same path), or ``other``.
    """
    # The number and the names of a folder's photos may change between runs.
    if job.folder is not None:
        return _compare_folder(job, job.folder, record)
    if len(record.sources) != 1 or record.folder is not None:
        return "other"
    return compare(file_fingerprint(job.inputs[0]), record.sources[0])


def _compare_folder(job: Job, folder: str, record: Recorded) -> Match:
    """`compare_record` for the photos of a folder."""
    if record.folder is None:
        return "other"
    same_folder = absolute(record.folder) == folder
    # A folder was moved only where its former path is empty now. No dictionary makes mien look at
    # an address that nobody named.
    is_elsewhere = is_address(record.folder) or is_address(folder)
    if not same_folder and (is_elsewhere or os.path.lexists(record.folder)):
        return "other"
    paths = {os.path.basename(path): path for path in job.inputs}
    for photo in record.sources:
        path = paths.get(os.path.basename(photo.name))
        if path is None:
            continue
        # One photo that is as it was is enough: others may have been added, edited or removed.
        if file_fingerprint(path).with_content().fingerprint == photo.fingerprint:
            return "same"
    return "changed" if same_folder and record.sources else "other"
