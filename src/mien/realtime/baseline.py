"""What is normal for a person, measured in the first seconds and taken off from then on.

The rule is that of studies (`mien.study.rows.baseline`): the median of each score over the usable
frames, each of which weighs as long as it stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Final

import numpy as np

from mien.errors import SourceError
from mien.outputs.columns import Column
from mien.records import Reading, Status
from mien.study.rows.clock import frame_durations
from mien.study.rows.weighted import weighted_quantile
from mien.tasks import QUALITY_FAMILIES, Floats

__all__ = ["LiveBaseline", "with_corrected"]

# Probabilities of expressions have no level of rest that could be taken off.
_KEPT: Final = frozenset({"expr", "ce", *QUALITY_FAMILIES})


def _is_corrected(column: Column) -> bool:
    if column.task is None or column.raw or column.dtype == "str":
        return False
    return column.task.family not in _KEPT


def with_corrected(columns: Sequence[Column], seconds: float) -> tuple[Column, ...]:
    """Columns of a table with ``<score>_corrected`` for valence, arousal and action units.

    Args:
        columns: The columns without them.
        seconds: The length of the baseline.

    Returns:
        All columns, the new ones last.
    """
    corrected: list[Column] = []
    for column in filter(_is_corrected, columns):
        meaning = (
            f"{column.meaning} Minus its median over the first {seconds:g} s, which are missing."
        )
        name = f"{column.name}_corrected"
        twin = replace(column, name=name, meaning=meaning, corrected=True)
        # A difference may be as large as the whole range, either way.
        corrected.append(replace(twin, low=None, high=None))
    return (*columns, *corrected)


class LiveBaseline:
    """Measures the baseline of each slot, then takes it off.

    Args:
        seconds: How long to measure, from the first frame, > 0.

    Attributes:
        seconds: The same.
        centres: Medians by slot and task family, (K,); empty until they are known.

    Raises:
        ValueError: The length makes no sense.
    """

    def __init__(self, seconds: float) -> None:
        if not (isfinite(seconds) and seconds > 0):
            raise ValueError(f"baseline must be a positive number of seconds, got {seconds}")
        self.seconds = seconds
        self.centres: dict[int, dict[str, Floats]] = {}
        self._times: list[float] = []
        # By slot: the frames (numbers in `_times`) and the scores of its usable readings.
        self._usable: dict[int, list[tuple[int, Mapping[str, Floats]]]] = {}
        self._is_measured = False

    def correct(self, readings: Sequence[Reading], slots: Sequence[int | None]) -> list[Reading]:
        """Measure the readings of a frame, or take the baseline off them.

        Args:
            readings: Of one frame, in time order.
            slots: The slot of each.

        Returns:
            The readings with `corrected`, once the baseline is known.

        Raises:
            SourceError: There was no usable face as long as the baseline lasted.
        """
        time_s = readings[0].time_s
        if not self._is_measured:
            self._times.append(time_s)
            # Seconds as studies count them, from the first frame and including the last one.
            if time_s - self._times[0] <= self.seconds:
                self._measure(readings, slots)
                return list(readings)
            self._finish(readings[0].source)
        corrected = []
        for reading, slot in zip(readings, slots, strict=True):
            centre = {} if slot is None else self.centres.get(slot, {})
            scores = {family: reading.scores[family] - centre[family] for family in centre}
            corrected.append(replace(reading, corrected=scores))
        return corrected

    def _measure(self, readings: Sequence[Reading], slots: Sequence[int | None]) -> None:
        for reading, slot in zip(readings, slots, strict=True):
            if slot is not None and reading.status is Status.ok:
                frame = len(self._times) - 1
                self._usable.setdefault(slot, []).append((frame, reading.scores))

    def _finish(self, source: str) -> None:
        if not self._usable:
            raise SourceError(
                f"{source}: no face could be read in the {self.seconds:g} s of the baseline; "
                "see that one is in view, and start again"
            )
        durations = frame_durations(self._times, source)
        for slot, usable in self._usable.items():
            weights = durations[[frame for frame, _ in usable]]
            self.centres[slot] = {}
            for family in usable[0][1]:
                if family not in _KEPT:
                    values = np.array([scores[family] for _, scores in usable], np.float64)
                    self.centres[slot][family] = _medians(values, weights)
        self._is_measured = True
        self._usable.clear()
        self._times.clear()


def _medians(values: Floats, weights: Floats) -> Floats:
    """Weighted medians (K,) of scores (N, K)."""
    medians = [weighted_quantile(column, weights, [0.5])[0] for column in values.T]
    return np.array(medians, np.float64)
