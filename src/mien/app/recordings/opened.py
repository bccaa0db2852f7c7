"""A recording that is open: its table in memory, with the edits beside it."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.app.recordings.catalog import film_path, stamp_of
from mien.errors import StudyError
from mien.exports.recording import Recording
from mien.outputs.read import read_table
from mien.study.edits.apply import apply_edits
from mien.study.edits.beside import EditHistory, edits_path
from mien.tasks import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Opened", "Shelf"]

# Tables in memory; an hour of two people has 80 MB.
_KEPT: Final = 4


@dataclass(frozen=True)
class Opened:
    """A recording.

    Attributes:
        path: Its table.
        raw: The table, as it was written.
        history: Its edits; None where those beside it do not apply.
        problem: Why they do not.
    """

    path: Path
    raw: "pd.DataFrame"
    history: EditHistory | None
    problem: str | None

    @classmethod
    def read(cls, path: Path, raw: "pd.DataFrame") -> "Opened":
        """Read the edits beside a table.

        Args:
            path: The table.
            raw: Its rows, as they were written.

        Returns:
            The recording.
        """
        try:
            return cls(path, raw, EditHistory.open(path, raw), None)
        except StudyError as error:
            return cls(path, raw, None, str(error))

    @cached_property
    def recording(self) -> Recording:
        """The table with its edits."""
        table = self.raw
        if self.history is not None:
            table = apply_edits(self.raw, self.history.edits)
        return Recording.of(self.path, table)

    @property
    def table(self) -> "pd.DataFrame":
        """The rows with the edits."""
        return self.recording.table

    @cached_property
    def is_film(self) -> bool:
        """Whether it is one film, and no photos."""
        return len(self.recording.sources) == 1 and len(self.frame_times) > 1

    @cached_property
    def start_s(self) -> float:
        """Time of the first frame, by the container's clock."""
        return float(self.raw["time_s"].min()) if len(self.raw) else 0.0

    @cached_property
    def from_start(self) -> Floats:
        """Times of the rows, from the first frame."""
        times: Floats = self.raw["time_s"].to_numpy(np.float64) - self.start_s
        return times

    @cached_property
    def frame_times(self) -> Floats:
        """Times of the frames, from the first one."""
        return np.unique(self.from_start)

    @cached_property
    def step_s(self) -> float:
        """Time between two frames, the median."""
        return float(np.median(np.diff(self.frame_times))) if len(self.frame_times) > 1 else 0.0

    @cached_property
    def tracks(self) -> Floats:
        """Tracks of the rows, NaN without a face."""
        faces = self.table["face"].astype("float64")
        tracks: Floats = faces.to_numpy(np.float64, na_value=np.nan)
        return tracks

    @cached_property
    def rows_by_track(self) -> dict[int, Any]:
        """Positions of the rows of each track, in the order of time."""
        tracks = self.tracks
        order = np.lexsort((self.from_start, tracks))
        order = order[~np.isnan(tracks[order])]
        numbers, firsts = np.unique(tracks[order], return_index=True)
        parts = np.split(order, firsts[1:])
        return {int(number): part for number, part in zip(numbers, parts, strict=True)}

    @cached_property
    def labels(self) -> dict[int, str]:
        """What each track is called."""
        labels = {track: f"face {track}" for track in self.rows_by_track}
        if "person" in self.table:
            people = self.table["person"]
            word = "person " if people.dtype.kind in "iu" else ""
            for track, rows in self.rows_by_track.items():
                known = people.iloc[rows].dropna()
                if len(known):
                    labels[track] = f"{word}{known.iloc[0]}"
        return labels

    def values(self, column: str) -> Floats:
        """A column of numbers.

        Args:
            column: Its name.

        Returns:
            The values, NaN where missing (N,).
        """
        numbers = self.table[column].astype("float64")
        values: Floats = numbers.to_numpy(np.float64, na_value=np.nan)
        return values

    @cached_property
    def film(self) -> Path | None:
        """The film, if it is there."""
        return film_path(self.path, dict(self.recording.dictionary))


class Shelf:
    """Keeps the recordings that were opened last, as long as their files do not change.

    Any thread may use it; edits are made one after another.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._raw: OrderedDict[Any, pd.DataFrame] = OrderedDict()
        self._opened: OrderedDict[Any, Opened] = OrderedDict()
        self.editing = Lock()

    def open(self, path: Path) -> Opened:
        """Open a recording.

        Args:
            path: Its table.

        Returns:
            The recording, with the edits as they are on the disk now.

        Raises:
            TableError: The table or its dictionary is missing or damaged.
        """
        key = (stamp_of(path), stamp_of(path.with_suffix(".dictionary.json")))
        edited = (key, stamp_of(edits_path(path)))
        with self._lock:
            opened = _taken(self._opened, edited)
            raw = _taken(self._raw, key)
        if isinstance(opened, Opened):
            return opened
        if raw is None:
            raw = read_table(path)
        opened = Opened.read(path, raw)
        with self._lock:
            _keep(self._raw, key, raw)
            _keep(self._opened, edited, opened)
        return opened


def _taken(shelf: "OrderedDict[Any, Any]", key: object) -> Any:
    """What is kept under a key, now the last that was used."""
    if key in shelf:
        shelf.move_to_end(key)
    return shelf.get(key)


def _keep(shelf: "OrderedDict[Any, Any]", key: object, value: object) -> None:
    shelf[key] = value
    while len(shelf) > _KEPT:
        shelf.popitem(last=False)
