"""The outcome of a job, and the interface that reports a run's progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from mien.batch.inputs import Job, Plan
from mien.batch.photos import RecordedPhoto
from mien.records import Reading, Status

__all__ = ["Outcome", "Progress"]


@dataclass(slots=True, repr=False)
class Outcome:
    """The outcome of a job.

    Attributes:
        job: The inputs and the name of their table.
        state: ``left`` means that another run is writing the table.
        files: The files it wrote; texts where they are addresses.
        rows: Rows of its table by status.
        tracks: Different faces, by source.
        people: How many people they are, where that was asked for; else 0.
        frames: Frames with rows.
        seconds: Time it took, s.
        problems: One line on each damage or failure.
        notes: One line on each harmless fact about how an input was read.
        media: The properties of each input (`Source.media`), in order.
        left_to: Who is writing the table, in one line; empty where nobody else is.
        inputs: How many inputs the job has, where this is a part of it; else 0.
    """

    job: Job
    state: Literal["done", "skipped", "failed", "left"] = "done"
    files: list[Path | str] = field(default_factory=list)
    rows: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    tracks: set[tuple[str, int | None]] = field(default_factory=set)
    people: int = 0
    frames: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    media: list[Mapping[str, object]] = field(default_factory=list)
    left_to: str = ""
    inputs: int = 0
    _last: tuple[str, int] = ("", -1)

    def __repr__(self) -> str:
        """The input, its state, what it gave, and the first problem."""
        parts: list[str] = []
        if self.state == "done":
            parts += self._result()
        if self.left_to:
            parts.append(self.left_to)
        # The first problem in full; a folder may have one for each of thousands of photos.
        parts += self.problems[:1]
        more = len(self.problems) - 1
        if more > 0:
            parts.append(_count(more, "more problem"))
        details = f": {', '.join(parts)}" if parts else ""
        return f"Outcome({self.job.name!r}, {self.state}{details})"

    def _result(self) -> list[str]:
        counts = [_count(self.frames, "frame"), _count(len(self.tracks), "face")]
        return counts + [PurePath(path).name for path in self.files]

    def count(self, readings: Sequence[Reading]) -> None:
        """Count rows of the table.

        Args:
            readings: Consecutive rows, in order.
        """
        for reading in readings:
            self.rows[reading.status] += 1
            if reading.face is not None:
                self.tracks.add((reading.source, reading.face.track))
            # A frame with several faces has several rows.
            frame = (reading.source, reading.frame)
            if frame != self._last:
                self._last = frame
                self.frames += 1

    def keep(self, photo: RecordedPhoto) -> None:
        """Count a photo whose rows are copied from an earlier table.

        Args:
            photo: The photo, as the earlier table's dictionary records it.
        """
        for status, count in photo.stamp.rows.items():
            self.rows[Status(status)] += count
        # Every face of a photo is a track of its own.
        stamp = photo.stamp
        faces = stamp.rows.get(Status.ok, 0) + stamp.rows.get(Status.doubtful, 0)
        for number in range(faces):
            self.tracks.add((stamp.name, number))
        self.frames += 1
        self.notes += photo.notes
        self.problems += photo.problems
        self.media.append(photo.media)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


class Progress:
    """Hears how a run is getting on; this one does nothing, and subclasses report it."""

    def plan(self, plan: Plan) -> None:
        """The run is about to begin.

        Args:
            plan: The jobs of the run, and the inputs that failed already.
        """

    def together(self, count: int, processes: int) -> None:
        """Several jobs are read at once from here on, and `advance` speaks of all of them.

        Then `begin` is not called.

        Args:
            count: How many jobs there are.
            processes: How many are read at once.
        """

    def begin(self, job: Job, number: int, count: int) -> None:
        """A job begins.

        Args:
            job: The job.
            number: Its number, from 1.
            count: How many jobs there are.
        """

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come this far.

        Args:
            frames: Frames read so far.
            share: The share of the job's work that is done, 0..1, where it is known.
        """

    def end(self, outcome: Outcome) -> None:
        """A job has ended.

        Args:
            outcome: What became of it.
        """
