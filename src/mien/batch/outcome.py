"""What becomes of a job, and who hears of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mien.batch.names import Job, Plan
from mien.batch.photos import Kept
from mien.records import Reading, Status

__all__ = ["Outcome", "Progress"]


@dataclass(slots=True, repr=False)
class Outcome:
    """What became of a job.

    Args:
        state: ``left`` means that another run is writing the table.
        files: The files it gave.
        rows: Rows of its table by status.
        tracks: Different faces, by source.
        frames: Frames with rows.
        seconds: Time it took.
        problems: One line on each damage or failure.
        notes: One line on each harmless fact about how an input was read.
        media: What each input is (`Source.media`), in order.
        left_to: Who is writing the table, in one line; empty where nobody else is.
        inputs: How many inputs the job has, where this is a part of it; else 0.
    """

    job: Job
    state: Literal["done", "skipped", "failed", "left"] = "done"
    files: list[Path] = field(default_factory=list)
    rows: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    tracks: set[tuple[str, int | None]] = field(default_factory=set)
    frames: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    media: list[Mapping[str, object]] = field(default_factory=list)
    left_to: str = ""
    inputs: int = 0
    _last: tuple[str, int] = ("", -1)

    def __repr__(self) -> str:
        """What became of which input, with the first problem."""
        told = [
            _count(self.frames, "frame"),
            _count(len(self.tracks), "face"),
            *(path.name for path in self.files),
        ]
        told = told if self.state == "done" else []
        told += [self.left_to] if self.left_to else []
        told += self.problems[:1]
        told += [_count(len(self.problems) - 1, "more problem")] if len(self.problems) > 1 else []
        return f"Outcome({self.job.name!r}, {self.state}{': ' if told else ''}{', '.join(told)})"

    def count(self, readings: Sequence[Reading]) -> None:
        """Take rows, in order, into the counts."""
        for reading in readings:
            self.rows[reading.status] += 1
            if reading.face is not None:
                self.tracks.add((reading.source, reading.face.track))
            if (reading.source, reading.frame) != self._last:
                self._last = (reading.source, reading.frame)
                self.frames += 1

    def keep(self, photo: Kept) -> None:
        """Take a photo that is not read again into the counts."""
        for status, count in photo.stamp.rows.items():
            self.rows[Status(status)] += count
        self.tracks |= {
            (photo.stamp.name, number) for number in range(photo.stamp.rows.get(Status.ok, 0))
        }
        self.frames += 1
        self.notes += photo.notes
        self.problems += photo.problems
        self.media.append(photo.media)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


class Progress:
    """Hears how a run goes; this one keeps quiet."""

    def plan(self, todo: Plan) -> None:
        """What the run is going to do."""

    def begin(self, job: Job, number: int, count: int) -> None:
        """Job `number` of `count` begins, counted from 1."""

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come as far as `frames` frames, the `share` (0..1) of all its work where that is known."""

    def end(self, outcome: Outcome) -> None:
        """A job ended, in whatever way."""
