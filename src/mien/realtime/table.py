"""The table of a live reading, with its events and, where asked for, its film."""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from mien.errors import OutputError, UnknownNameError
from mien.files import Transaction
from mien.outputs.claims import Claim
from mien.outputs.columns import Column
from mien.outputs.dictionary import dictionary_bytes
from mien.outputs.tables import FORMATS, TableWriter, table_path
from mien.realtime.film import LiveFilm
from mien.realtime.moments import Marker, Moment

__all__ = ["LiveTable", "StartTime"]


class StartTime:
    """One instant on both clocks of this machine.

    Attributes:
        monotonic_s: What ``time.monotonic()`` showed, seconds.
        unix_s: Seconds since 1970.
    """

    def __init__(self) -> None:
        self.monotonic_s = time.monotonic()
        self.unix_s = time.time()

    def facts(self, started_s: float | None) -> dict[str, object]:
        """For the data dictionary: what both clocks showed at time 0.

        Args:
            started_s: The monotonic clock at time 0; None where no frame came.

        Returns:
            Both times, and what the clocks are.
        """
        clock = time.get_clock_info("monotonic").implementation
        if started_s is None:
            return {"started": None, "unix_s": None, "monotonic_s": None, "monotonic_clock": clock}
        unix_s = self.unix_s + started_s - self.monotonic_s
        return {
            "started": datetime.fromtimestamp(unix_s).astimezone().isoformat(),
            "unix_s": unix_s,
            "monotonic_s": started_s,
            "monotonic_clock": clock,
        }


class LiveTable:
    """Writes a table, its events, its film and its dictionary, which appear together at the end.

    Args:
        path: The table; its suffix names the format. Nothing may be there yet.
        columns: The columns of the table.
        record: Whether the film is kept beside it.

    Attributes:
        where: Empty: the path is known to who gave it.
        note: How many frames the film lacks.
        film: What takes the frames; None where no film is kept.

    Raises:
        UnknownNameError: The suffix names no format.
        OutputError: The files are there already or cannot be written; all methods may raise it.
    """

    where = ""

    def __init__(self, path: Path, columns: Sequence[Column], *, record: bool) -> None:
        stem = path.with_suffix("")
        kind = path.suffix.removeprefix(".")
        if kind not in FORMATS or table_path(stem, kind) != path:
            raise UnknownNameError("format", kind, FORMATS)
        self._path = path
        self._columns = columns
        self._events_path = stem.with_name(f"{stem.name}.events.tsv")
        self._dictionary_path = path.with_suffix(".dictionary.json")
        film_path = path.with_suffix(".mp4") if record else None
        for file in (path, self._events_path, self._dictionary_path, film_path):
            _refuse_to_replace(file)
        self._markers: list[Marker] = []
        self._first_s = 0.0
        self._is_begun = False
        with ExitStack() as stack:
            self._files = stack.enter_context(Transaction())
            self._claim = stack.enter_context(Claim(stem, ""))
            self._writer = TableWriter(stem, [kind], columns, self._files)
            self._writer.__enter__()
            self.film = LiveFilm(film_path) if film_path is not None else None
            self._open = stack.pop_all()

    @property
    def note(self) -> str:
        """How many frames the film lacks; empty where none."""
        if self.film is None or not self.film.dropped:
            return ""
        return f"{self.film.dropped} frames are not in the film: they came too fast for it"

    def send(self, moment: Moment) -> None:
        """Write the rows of a frame.

        Args:
            moment: Its readings.
        """
        if not self._is_begun:
            self._first_s = moment.readings[0].time_s
            self._is_begun = True
        self._writer.write(moment.readings)

    def mark(self, marker: Marker) -> None:
        """Keep a marker for the table of events.

        Args:
            marker: The marker.
        """
        self._markers.append(marker)

    def close(self) -> None:
        """Drop what is not finished."""
        if self.film is not None:
            self.film.drop()
        # As after an error, so that no file appears; nothing happens to what is finished.
        self._writer.__exit__(OutputError, OutputError(), None)
        self._open.close()

    def finish(self, facts: Mapping[str, Any]) -> list[Path]:
        """Complete the files and put them in place.

        Args:
            facts: The data dictionary without the columns and the files.

        Returns:
            The files.

        Raises:
            OutputError: A file cannot be written. Where that is the film, the table is in place.
        """
        self._writer.__exit__(None, None, None)
        film, problem = self._finished_film()
        if self._markers:
            self._files.write(self._events_path, self._events())
        names = [path.name for path in [*self._files.paths, *film]]
        written = {"files": names, "tables": self._writer.facts()}
        content = dictionary_bytes(self._columns, {**facts, **written})
        self._files.write(self._dictionary_path, content)
        self._claim.announce(self._files.paths)
        self._files.commit()
        if problem is not None:
            raise problem
        return [*self._files.paths, *film]

    def _finished_film(self) -> tuple[list[Path], OutputError | None]:
        """The film's file, or why there is none."""
        if self.film is None:
            return [], None
        try:
            return self.film.finish(), None
        except OutputError as error:
            return [], error

    def _events(self) -> bytes:
        """The markers as events of BIDS, which `mien study epochs` reads."""
        text = StringIO()
        # It quotes what would end a field, such as the key of a quotation mark.
        rows = csv.writer(text, delimiter="\t", lineterminator="\n")
        rows.writerow(["onset", "duration", "trial_type", "origin"])
        # Keys are stamped in a thread of their own, and may come after a later marker.
        for marker in sorted(self._markers, key=lambda marker: marker.at_s):
            onset = marker.time_s - self._first_s
            rows.writerow([f"{onset:.6f}", "n/a", marker.text, marker.origin])
        return text.getvalue().encode()


def _refuse_to_replace(path: Path | None) -> None:
    if path is not None and os.path.lexists(path):
        raise OutputError(
            f"{path}: is there already, and a live reading cannot be made again; "
            "choose another name"
        )
