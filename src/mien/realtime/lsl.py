"""Lab Streaming Layer: an outlet per face slot, one for markers, and markers from elsewhere."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from mien.errors import MissingExtraError, SourceError
from mien.outputs.columns import Column
from mien.realtime.moments import Marker, Moment, number_columns, numbers_of

__all__ = ["LslMarkers", "LslOutlets", "keep_local"]

# How long a stream of markers is looked for, and its clock asked for, seconds.
_PATIENCE_S: Final = 5.0
# Announces streams to programs on this computer alone.
_LOCAL: Final = (
    "[multicast]\nResolveScope = machine\nListenAddress = 127.0.0.1\n[log]\nlevel = -2\n"
)
# Where liblsl looks for settings of the user's own, besides the variable LSLAPICFG.
_SETTINGS: Final = ("lsl_api.cfg", "~/lsl_api/lsl_api.cfg", "/etc/lsl_api/lsl_api.cfg")


def _pylsl() -> ModuleType:
    try:
        import pylsl
    # RuntimeError where the Python part is installed and its library is not.
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError("lsl", "Lab Streaming Layer") from error
    module: ModuleType = pylsl
    return module


def keep_local() -> None:
    """Announce streams on this computer alone, unless the user has settings of liblsl.

    It holds for the whole process, and only where it has not used LSL yet.

    Raises:
        MissingExtraError: pylsl is not installed.
    """
    pylsl = _pylsl()
    has_settings = "LSLAPICFG" in os.environ
    for path in _SETTINGS:
        has_settings = has_settings or Path(path).expanduser().exists()
    if not has_settings:
        pylsl.set_config_content(_LOCAL)


def _ahead_s(pylsl: Any) -> float:
    """How far LSL's clock is ahead of ``time.monotonic()``, seconds."""
    return float(pylsl.local_clock()) - time.monotonic()


class LslOutlets:
    """An outlet of float channels per slot, ``NAME-0`` and so on, and ``NAME-markers``.

    A sample is stamped with the capture of its frame; where no face is in a slot, all is NaN.

    Args:
        name: What the streams' names begin with.
        source: Name of the source, part of the streams' identity.
        columns: The columns of the table.
        slots: How many faces have an outlet.

    Attributes:
        where: The names of the streams.
        note: Empty.

    Raises:
        MissingExtraError: pylsl is not installed.
    """

    note = ""

    def __init__(self, name: str, source: str, columns: Sequence[Column], slots: int) -> None:
        self._pylsl = _pylsl()
        self._columns = number_columns(columns)
        self._outlets = []
        for slot in range(slots):
            info = self._info(f"{name}-{slot}", "Affect", source, len(self._columns))
            channels = info.desc().append_child("channels")
            for column in self._columns:
                channel = channels.append_child("channel")
                channel.append_child_value("label", column.name)
                channel.append_child_value("unit", column.unit)
                channel.append_child_value("type", "Affect" if column.task else "Face")
            self._outlets.append(self._pylsl.StreamOutlet(info))
        self._markers = self._pylsl.StreamOutlet(
            self._info(f"{name}-markers", "Markers", source, 1)
        )
        last = "" if slots == 1 else f" to {name}-{slots - 1}"
        self.where = f"LSL streams {name}-0{last} and {name}-markers"

    def _info(self, name: str, kind: str, source: str, channels: int) -> Any:
        pylsl = self._pylsl
        form = pylsl.cf_string if kind == "Markers" else pylsl.cf_float32
        identity = f"mien {name} {source}"
        return pylsl.StreamInfo(name, kind, channels, pylsl.IRREGULAR_RATE, form, identity)

    def send(self, moment: Moment) -> None:
        """Send a sample for each slot.

        Args:
            moment: The readings.
        """
        stamp = moment.captured_s + _ahead_s(self._pylsl)
        empty = [float("nan")] * len(self._columns)
        samples = [empty] * len(self._outlets)
        for slot, numbers in zip(moment.slots, numbers_of(moment.rows, self._columns), strict=True):
            if slot is not None and slot < len(samples):
                samples[slot] = numbers
        for outlet, sample in zip(self._outlets, samples, strict=True):
            outlet.push_sample(sample, stamp)

    def mark(self, marker: Marker) -> None:
        """Send a marker.

        Args:
            marker: The marker.
        """
        self._markers.push_sample([marker.text], marker.at_s + _ahead_s(self._pylsl))

    def close(self) -> None:
        """Take the streams away."""
        # They end with the objects; pylsl has no call for it.
        self._outlets.clear()
        del self._markers


class LslMarkers:
    """Markers of another program's stream, at the times that it stamped them with.

    Args:
        name: The name of the stream.

    Raises:
        MissingExtraError: pylsl is not installed.
        SourceError: There is no such stream.
    """

    def __init__(self, name: str) -> None:
        self._pylsl = _pylsl()
        self._name = name
        streams = self._pylsl.resolve_byprop("name", name, timeout=_PATIENCE_S)
        if not streams:
            raise SourceError(
                f"{name}: no LSL stream of this name; start it first, and if it is on another "
                "computer, set liblsl's ResolveScope in a file that LSLAPICFG names"
            )
        self._inlet = self._pylsl.StreamInlet(streams[0])
        try:
            self._inlet.open_stream(_PATIENCE_S)
            self._inlet.time_correction(_PATIENCE_S)
        # What pylsl raises where a stream does not answer, or was lost.
        except RuntimeError as error:
            raise SourceError(f"{name}: this LSL stream does not answer; start it again") from error

    def poll(self) -> list[tuple[str, float]]:
        """The markers that have come since the last call.

        Returns:
            Text and time of each, by ``time.monotonic()``, seconds.

        Raises:
            SourceError: The stream was lost.
        """
        try:
            samples, stamps = self._inlet.pull_chunk(timeout=0.0)
            if not samples:
                return []
            # From the other computer's clock to LSL's here, and on to Python's.
            shift_s = self._inlet.time_correction(_PATIENCE_S) - _ahead_s(self._pylsl)
        except RuntimeError as error:
            raise SourceError(f"{self._name}: this LSL stream was lost; start it again") from error
        markers = []
        for sample, stamp in zip(samples, stamps, strict=True):
            markers.append((str(sample[0]), stamp + shift_s))
        return markers

    def close(self) -> None:
        """Leave the stream."""
        self._inlet.close_stream()
