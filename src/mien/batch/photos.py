"""The photos of a folder: which of them an earlier table holds as they are now."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from mien.batch.names import Job
from mien.outputs.recorded import Recorded, Stamp, file_fingerprint
from mien.sources.inputs import natural_key

__all__ = ["Kept", "kept", "unchanged", "with_earlier"]


def with_earlier(job: Job, before: Recorded) -> Job:
    """The job with the photos of the earlier table that are still there, so that naming a few does not cost the others' rows."""
    paths = {os.path.abspath(path) for path in job.inputs}
    more = [
        photo.name
        for photo in before.sources
        if photo.path not in paths and os.path.isfile(photo.name)
    ]
    return replace(job, inputs=tuple(sorted([*job.inputs, *more], key=natural_key)))


@dataclass(frozen=True, slots=True)
class Kept:
    """A photo that an earlier table holds as it is now.

    Args:
        row: Number of its first row in that table.
        stamp: Its stamp, with the rows and overlay that it gave.
        media: What it is (`Source.media`).
        notes: Lines on how it was read.
        problems: Lines on its damage.
    """

    row: int
    stamp: Stamp
    media: Mapping[str, object]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def unchanged(before: Recorded) -> dict[str, Kept]:
    """Photos of the earlier table that are as they were, by absolute path."""
    photos: dict[str, Kept] = {}
    media, notes, problems = before.media, before.texts("notes"), before.texts("problems")
    row = 0
    for photo, facts in zip(before.sources, media, strict=True):
        now = file_fingerprint(photo.path) if photo.path else photo
        if photo.path and _is_same(now, photo):
            told, hurt = (
                tuple(line for line in lines if line.startswith(f"{photo.name}: "))
                for lines in (notes, problems)
            )
            photos[photo.path] = Kept(row, replace(photo, modified=now.modified), facts, told, hurt)
        row += sum(photo.rows.values())
    return photos


def kept(before: Recorded, trusted: Collection[str] = ()) -> dict[str, Kept]:
    """Photos whose rows can be taken over, by path as given.

    One that was damaged is read again, as another version of a decoder may do better, but not the `trusted` ones.
    """
    photos = {photo.stamp.name: photo for photo in unchanged(before).values()}
    return {name: photo for name, photo in photos.items() if not photo.problems or name in trusted}


def _is_same(now: Stamp, before: Stamp) -> bool:
    if now.bytes is None or now.bytes != before.bytes:
        return False
    return now.modified == before.modified or now.with_content().fingerprint == before.fingerprint
