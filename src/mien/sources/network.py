"""Cameras in the network, at an address that the user names."""

import math
from functools import partial
from typing import Final

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

from mien.errors import SourceError
from mien.sources.base import TICK_S, Kind, Pixels, Source, TimedReads, refuse_huge
from mien.sources.live import LiveClock
from mien.sources.video.colour import SQUARE, ToRgb
from mien.sources.video.packets import AnyPacket

__all__ = ["NetworkCamera", "is_camera_address"]

_SCHEMES: Final = ("rtsp://", "rtsps://")
# How long to wait for an answer, and for the next packet, seconds.
_PATIENCE_S: Final = (10.0, 5.0)
# Packets in order and none lost; and no frame is held back to be shown smoothly.
_OPTIONS: Final = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}


def is_camera_address(name: str) -> bool:
    """Whether a name is the address of a camera.

    Args:
        name: What the user gave.

    Returns:
        True for ``rtsp://`` and ``rtsps://``.
    """
    return name.lower().startswith(_SCHEMES)


class NetworkCamera(Source):
    """A camera that speaks RTSP; time is the monotonic clock since its first frame came.

    Args:
        address: The address, ``rtsp://…``; a password in it appears in no message or table.

    Raises:
        SourceError: It does not answer, or sends no picture.
    """

    kind: Kind = "camera"
    live = True
    newest = True

    def __init__(self, address: str) -> None:
        super().__init__(_without_password(address))
        self._address = address
        self._open: InputContainer | None = self._connect()
        context = self._open.streams.video[0].codec_context
        refuse_huge(self.name, context.width, context.height)
        if context.width and context.height:
            self.size = (context.width, context.height)
            self.media = {"width": context.width, "height": context.height, "codec": context.name}

    def _connect(self) -> InputContainer:
        try:
            container = av.open(self._address, "r", options=_OPTIONS, timeout=_PATIENCE_S)
        except (av.FFmpegError, OSError) as error:
            # Not its whole text, which names the address with the password.
            reason = error.strerror or type(error).__name__
            raise SourceError(
                f"{self.name}: does not answer ({reason}); check the address and the password"
            ) from error
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.name}: sends no picture; check the address")
        return container

    def _timed_reads(self) -> TimedReads:
        # The connection made at opening serves the first iteration alone.
        container = self._open or self._connect()
        self._open = None
        clock = LiveClock()
        to_rgb = ToRgb()
        last_s = -math.inf
        count = 0
        with container:
            try:
                for packet in container.demux(video=0):
                    for frame in _decoded(packet):
                        last_s = max(clock.seconds(), last_s + TICK_S)
                        self.started_s = clock.start_s
                        count += 1
                        yield last_s, None if frame is None else partial(_rgb, to_rgb, frame)
                reason = "it ended the connection"
            except (av.FFmpegError, OSError) as error:
                reason = error.strerror or type(error).__name__
        self._problems.append(f"the camera stopped after {count} frames ({reason})")


def _decoded(packet: AnyPacket) -> list[VideoFrame | None]:
    """The frames of a packet; None for one that was damaged on its way."""
    try:
        return list(packet.decode())
    except av.InvalidDataError:
        return [None]


def _rgb(to_rgb: ToRgb, frame: VideoFrame) -> Pixels | None:
    return to_rgb(frame, SQUARE)


def _without_password(address: str) -> str:
    """The address as it may be shown."""
    scheme, _, rest = address.partition("://")
    account, at, host = rest.partition("/")[0].rpartition("@")
    path = rest[len(account) + len(at) + len(host) :]
    user = account.partition(":")[0]
    return f"{scheme}://{user}{at}{host}{path}" if at else address
