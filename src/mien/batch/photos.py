"""The photos of a folder: those that an earlier table holds as they are now."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mien.batch.inputs import Job
from mien.errors import SourceError
from mien.outputs.recorded import Recorded, Stamp, file_fingerprint, stamp_of
from mien.remote.access import list_folder, wrap_remote_errors
from mien.remote.address import absolute, is_address, parent
from mien.sources.inputs import natural_key

__all__ = ["RecordedPhoto", "reusable_photos", "unchanged_photos", "with_recorded_photos"]


def with_recorded_photos(job: Job, record: Recorded) -> Job:
    """Add the photos of an earlier table that still exist.

    So naming a few photos of a folder does not cost the rows of the others.

    Args:
        job: The job of a folder.
        record: The dictionary of its earlier table.

    Returns:
        The job with all photos, in natural order.
    """
    paths = {absolute(path) for path in job.inputs}
    inputs = list(job.inputs)
    further = [photo for photo in record.sources if photo.path not in paths]
    now = _stamps_now(further, job.folder)
    for photo in further:
        is_file = photo.path in now if is_address(photo.name) else os.path.isfile(photo.name)
        if is_file:
            inputs.append(photo.name)
    return replace(job, inputs=tuple(sorted(inputs, key=natural_key)))


@dataclass(frozen=True, slots=True)
class RecordedPhoto:
    """A photo that an earlier table holds as it is now.

    Attributes:
        row: Number of its first row in that table.
        stamp: Its stamp, with the counts of its rows and its overlay.
        media: Its properties (`Source.media`).
        notes: Lines on how it was read.
        problems: Lines on its damage.
    """

    row: int
    stamp: Stamp
    media: Mapping[str, object]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def unchanged_photos(record: Recorded) -> dict[str, RecordedPhoto]:
    """Photos of an earlier table that have not changed since.

    Args:
        record: The dictionary of the table.

    Returns:
        The photos by absolute path.
    """
    notes = record.texts("notes")
    problems = record.texts("problems")
    photos: dict[str, RecordedPhoto] = {}
    row = 0
    stamps_now = _stamps_now(record.sources, record.folder)
    for stamp, media in zip(record.sources, record.media, strict=True):
        now = stamps_now.get(stamp.path or "")
        if stamp.path and now and _is_same(now, stamp):
            # A file that was only touched gets its new time, so that it need not be hashed again.
            photos[stamp.path] = RecordedPhoto(
                row,
                replace(stamp, modified=now.modified),
                media,
                _lines_on(stamp.name, notes),
                _lines_on(stamp.name, problems),
            )
        row += sum(stamp.rows.values())
    return photos


def _stamps_now(stamps: Iterable[Stamp], folder: str | None) -> dict[str, Stamp]:
    """Photos as they are now, by absolute path; those elsewhere as far as they exist."""
    now: dict[str, Stamp] = {}
    elsewhere: list[str] = []
    for stamp in stamps:
        path = stamp.path or ""
        # No dictionary makes mien look at an address that nobody named.
        if is_address(path) and parent(path) == folder:
            elsewhere.append(path)
        elif path and not is_address(path):
            now[path] = file_fingerprint(path)
    if elsewhere and folder:
        # One request for all of them.
        with wrap_remote_errors(folder, SourceError):
            files = list_folder(folder)
        for path in elsewhere:
            file = files.get(path.rpartition("/")[2])
            if file is not None:
                now[path] = stamp_of(path, file)
    return now


def _lines_on(name: str, lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(line for line in lines if line.startswith(f"{name}: "))


def reusable_photos(record: Recorded, trusted: Collection[str] = ()) -> dict[str, RecordedPhoto]:
    """Photos whose rows can be copied from an earlier table.

    A photo that was damaged is read again: another version of a decoder may do better.

    Args:
        record: The dictionary of the table.
        trusted: Photos, as given, to copy although they were damaged.

    Returns:
        The photos by path as given.
    """
    photos: dict[str, RecordedPhoto] = {}
    for photo in unchanged_photos(record).values():
        # By the path as given, which is what a job lists.
        name = photo.stamp.name
        if not photo.problems or name in trusted:
            photos[name] = photo
    return photos


def _is_same(now: Stamp, before: Stamp) -> bool:
    if now.bytes is None or now.bytes != before.bytes:
        return False
    if now.modified == before.modified and not is_address(now.path or ""):
        return True
    # Hashing is for files whose time changed, such as copies.
    return now.with_content().fingerprint == before.fingerprint
