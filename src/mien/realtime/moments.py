"""What is sent while it happens: the readings of a frame, and markers."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import numpy as np
import pyarrow as pa

from mien.outputs.columns import Column
from mien.outputs.text_formats import JsonLines
from mien.records import Reading

__all__ = ["JsonRows", "Marker", "Moment", "Output", "Slots", "number_columns", "numbers_of"]


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happened at a time.

    Attributes:
        text: What happened, in one line.
        origin: Who says so: ``key``, ``lsl`` or ``python``.
        time_s: When, by the clock of the frames' times, seconds.
        at_s: When, by ``time.monotonic()``, seconds.
    """

    text: str
    origin: str
    time_s: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """The readings of one frame.

    Attributes:
        readings: The readings, one at least.
        slots: The slot of each (`Slots`); None for one without a face.
        captured_s: When the frame was captured, by ``time.monotonic()``, seconds.
        rows: The rows that the readings are in the table.
    """

    readings: Sequence[Reading]
    slots: Sequence[int | None]
    captured_s: float
    rows: pa.RecordBatch


class Output(Protocol):
    """Takes what is read as soon as it is there.

    Attributes:
        where: Where others find it, in one line; empty where there is nothing to say.
        note: What its users should know at the end, in one line; empty where there is nothing.
    """

    @property
    def where(self) -> str:
        """Where others find it."""

    @property
    def note(self) -> str:
        """What its users should know at the end."""

    def send(self, moment: Moment) -> None:
        """Send the readings of a frame.

        Args:
            moment: The readings.

        Raises:
            OutputError: They cannot be sent.
        """

    def mark(self, marker: Marker) -> None:
        """Send a marker.

        Args:
            marker: The marker.

        Raises:
            OutputError: It cannot be sent.
        """

    def close(self) -> None:
        """End the output; what was sent stays whole."""


class Slots:
    """A place for each face that it keeps while it is in view, the lowest that is free.

    So the one person before a camera stays in slot 0, however often their track begins anew.

    >>> slots = Slots()
    >>> slots.place([7, 8]), slots.place([8]), slots.place([8, 9]), slots.place([None])
    ([0, 1], [1], [1, 0], [None])
    """

    def __init__(self) -> None:
        self._slot_of: dict[int, int] = {}

    def place(self, tracks: Sequence[int | None]) -> list[int | None]:
        """Place the faces of a frame.

        Args:
            tracks: Their numbers; None for a reading without a face.

        Returns:
            The slot of each, from 0; None without a face.
        """
        present = {track for track in tracks if track is not None}
        taken = {self._slot_of[track] for track in present if track in self._slot_of}
        slots: list[int | None] = []
        for track in tracks:
            if track is None:
                slots.append(None)
                continue
            if track not in self._slot_of:
                free = next(slot for slot in range(len(taken) + 1) if slot not in taken)
                # Who had it before is out of view, and would get another one.
                self._slot_of = {old: slot for old, slot in self._slot_of.items() if slot != free}
                self._slot_of[track] = free
                taken.add(free)
            slots.append(self._slot_of[track])
        return slots


def number_columns(columns: Sequence[Column]) -> list[Column]:
    """The columns that are sent as numbers: the face's box, what is judged of it, its scores.

    Args:
        columns: The columns of the table.

    Returns:
        Those of decimal numbers, without times.
    """
    return [column for column in columns if column.dtype == "float32"]


def numbers_of(rows: pa.RecordBatch, columns: Sequence[Column]) -> list[list[float]]:
    """The numbers of some columns.

    Args:
        rows: Rows of the table.
        columns: Columns of decimal numbers.

    Returns:
        A list for each row, in the order of the columns; NaN where a number is missing.
    """
    values = []
    for column in columns:
        values.append(rows[column.name].to_numpy(zero_copy_only=False))
    numbers: list[list[float]] = np.array(values, np.float64).T.tolist()
    return numbers


class JsonRows:
    """Rows as JSON, one object each, as a table in JSON lines has them.

    Args:
        columns: The columns of the table.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._buffer = BytesIO()
        self._format = JsonLines(self._buffer, columns)

    def lines(self, rows: pa.RecordBatch) -> list[str]:
        """Turn rows into text.

        Args:
            rows: The rows.

        Returns:
            A line for each, without its line end.
        """
        self._buffer.seek(0)
        self._buffer.truncate()
        self._format.write(rows)
        # Not `splitlines`: names may hold other characters that it takes for line ends.
        return self._buffer.getvalue().decode().removesuffix("\n").split("\n")
