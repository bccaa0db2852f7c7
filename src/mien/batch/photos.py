"""The photos of a folder: those that an earlier table holds as they are now."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from mien.batch.inputs import Job
from mien.outputs.recorded import Recorded, Stamp, file_fingerprint
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
    paths = {os.path.abspath(path) for path in job.inputs}
    inputs = list(job.inputs)
    for photo in record.sources:
        is_new = photo.path not in paths
        if is_new and os.path.isfile(photo.name):
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
    for stamp, media in zip(record.sources, record.media, strict=True):
        now = file_fingerprint(stamp.path) if stamp.path else stamp
        if stamp.path and _is_same(now, stamp):
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
    if now.modified == before.modified:
        return True
    # Hashing is for files whose time changed, such as copies.
    return now.with_content().fingerprint == before.fingerprint
