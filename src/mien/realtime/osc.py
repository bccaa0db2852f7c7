"""Open Sound Control: a bundle of messages per face, by UDP to an address that the user names."""

import socket
from collections.abc import Sequence
from math import isfinite
from typing import Any

from mien.errors import MissingExtraError, OutputError
from mien.outputs.columns import Column
from mien.realtime.moments import Marker, Moment, number_columns, numbers_of

__all__ = ["OscOutput", "host_and_port"]


def host_and_port(address: str) -> tuple[str, int]:
    """Split an address.

    Args:
        address: ``HOST:PORT``.

    Returns:
        Both.

    Raises:
        ValueError: It is none.

    >>> host_and_port("127.0.0.1:9000")
    ('127.0.0.1', 9000)
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"an address is HOST:PORT, as in 127.0.0.1:9000, got {address!r}")
    return host.strip("[]"), int(port)


class OscOutput:
    """Messages ``/mien/faces``, ``/mien/time``, and ``/mien/SLOT/COLUMN`` for each number there is.

    Args:
        address: ``HOST:PORT``.
        columns: The columns of the table.

    Attributes:
        where: The address.
        note: Empty.

    Raises:
        MissingExtraError: python-osc is not installed.
        OutputError: There is no such host, or the network is gone; `send` and `mark` may raise it.
        ValueError: It is no address.
    """

    note = ""

    def __init__(self, address: str, columns: Sequence[Column]) -> None:
        host, port = host_and_port(address)
        try:
            from pythonosc import osc_bundle_builder, osc_message_builder
        except ImportError as error:
            raise MissingExtraError("osc", "Open Sound Control") from error
        self._bundle = osc_bundle_builder
        self._message = osc_message_builder
        self._columns = number_columns(columns)
        self._address = address
        self.where = f"OSC messages to {address}"
        try:
            hosts = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise self._failed(error) from error
        # Of several addresses the first, which the system prefers.
        family, _, _, _, target = hosts[0]
        self._target: Any = target
        self._socket = socket.socket(family, socket.SOCK_DGRAM)

    def send(self, moment: Moment) -> None:
        """Send what a frame shows, in a datagram for each face.

        All faces together may be more than a datagram can hold.

        Args:
            moment: The readings.
        """
        faces = sum(slot is not None for slot in moment.slots)
        for slot, numbers in zip(moment.slots, numbers_of(moment.rows, self._columns), strict=True):
            bundle = self._bundle.OscBundleBuilder(self._bundle.IMMEDIATELY)
            bundle.add_content(self._built("/mien/time", moment.readings[0].time_s, "f"))
            bundle.add_content(self._built("/mien/faces", faces, "i"))
            for column, number in zip(self._columns, numbers, strict=True):
                if slot is not None and isfinite(number):
                    bundle.add_content(self._built(f"/mien/{slot}/{column.name}", number, "f"))
            self._deliver(bundle.build())

    def mark(self, marker: Marker) -> None:
        """Send ``/mien/marker``.

        Args:
            marker: The marker.
        """
        self._deliver(self._built("/mien/marker", marker.text, "s"))

    def _built(self, address: str, value: float | str, kind: str) -> Any:
        message = self._message.OscMessageBuilder(address)
        message.add_arg(value, kind)
        return message.build()

    def _deliver(self, content: Any) -> None:
        try:
            self._socket.sendto(content.dgram, self._target)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        reason = error.strerror or str(error)
        return OutputError(f"OSC {self._address}: cannot be sent to ({reason}); check the address")

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()
