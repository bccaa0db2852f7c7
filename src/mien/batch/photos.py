"""The photos of a folder: which of them an earlier table holds as they are now."""

import os
from dataclasses import replace

from mien.batch.names import Job
from mien.outputs.recorded import Recorded, Stamp, stamp
from mien.sources.inputs import natural

__all__ = ["kept", "unchanged", "with_earlier"]


def with_earlier(job: Job, before: Recorded) -> Job:
    """The job with the photos of the earlier table that are still there, so that naming a few does not cost the others' rows."""
    paths = {os.path.abspath(path) for path in job.inputs}
    more = [photo.name for photo in before.sources if photo.path not in paths and os.path.isfile(photo.name)]
    return replace(job, inputs=tuple(sorted([*job.inputs, *more], key=natural)))


def unchanged(before: Recorded) -> dict[str, tuple[int, Stamp]]:
    """Photos of the earlier table that are as they were: by absolute path, their first row and stamp."""
    photos: dict[str, tuple[int, Stamp]] = {}
    row = 0
    for photo in before.sources:
        if photo.path and _is_same(stamp(photo.path), photo):
            photos[photo.path] = (row, photo)
        row += sum(photo.rows.values())
    return photos


def kept(before: Recorded) -> dict[str, tuple[int, Stamp]]:
    """Photos whose rows can be taken over: by path as given, their first row and stamp.

    One that was damaged is read again: another version of a decoder may do better.
    """
    problems = before.texts("problems")
    photos = {photo.name: (row, photo) for row, photo in unchanged(before).values()}
    return {name: found for name, found in photos.items() if not any(line.startswith(f"{name}: ") for line in problems)}


def _is_same(now: Stamp, before: Stamp) -> bool:
    if now.bytes is None or now.bytes != before.bytes:
        return False
    return now.modified == before.modified or now.with_content().fingerprint == before.fingerprint
