"""Rows as JSON lines, into an open file such as the standard output."""

import json
from collections.abc import Sequence
from typing import TextIO

from mien.errors import OutputError
from mien.outputs.columns import Column
from mien.realtime.moments import JsonRows, Marker, Moment

__all__ = ["JsonLinesOutput", "marker_line"]


def marker_line(marker: Marker) -> str:
    """A marker as JSON.

    Args:
        marker: The marker.

    Returns:
        An object with ``marker``, ``origin`` and ``time_s``.

    >>> marker_line(Marker("start", "key", 0.25, 100.25))
    '{"marker": "start", "origin": "key", "time_s": 0.25}'
    """
    fields = {"marker": marker.text, "origin": marker.origin, "time_s": round(marker.time_s, 6)}
    return json.dumps(fields, ensure_ascii=False)


class JsonLinesOutput:
    """A line for each reading, flushed at once; markers are lines of their own.

    Args:
        file: The open file, which stays open.
        columns: The columns of the rows.

    Attributes:
        where: Empty: the file is the caller's.
        note: Empty.

    Raises:
        OutputError: The file cannot be written; `send` and `mark` may raise it.
    """

    where = note = ""

    def __init__(self, file: TextIO, columns: Sequence[Column]) -> None:
        self._file = file
        self._rows = JsonRows(columns)

    def send(self, moment: Moment) -> None:
        """Write the rows of a frame.

        Args:
            moment: Its readings.
        """
        self._write("\n".join(self._rows.lines(moment.rows)))

    def mark(self, marker: Marker) -> None:
        """Write a marker.

        Args:
            marker: The marker.
        """
        self._write(marker_line(marker))

    def _write(self, text: str) -> None:
        try:
            self._file.write(text + "\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            # ValueError: the file was closed meanwhile.
            raise OutputError(
                f"JSON lines cannot be written ({error}); check who reads them"
            ) from error

    def close(self) -> None:
        """Leave the file open: it is the caller's."""
