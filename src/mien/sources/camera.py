"""Cameras through OpenCV, which knows those of Linux, macOS and Windows."""

import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import cv2

from mien.errors import SourceError
from mien.sources.base import TICK_S, Kind, Pixels, Source, TimedReads
from mien.sources.live import LiveClock

__all__ = ["Camera"]


class Camera(Source):
    """A live camera; time is the monotonic clock since the first frame."""

    kind: Kind = "camera"
    live = True
    newest = True

    def __init__(self, name: str) -> None:
        """Connect to it.

        Args:
            name: ``camera:N``.

        Raises:
            SourceError: The name is not of that form, or the camera cannot be opened.
        """
        super().__init__(name)
        self._number = _camera_number(name)
        self._open: cv2.VideoCapture | None = self._connect()
        width = int(self._open.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._open.get(cv2.CAP_PROP_FRAME_HEIGHT))
        # Some drivers do not know the size before the first frame.
        if width > 0 and height > 0:
            self.size = (width, height)
            self.media = {"width": width, "height": height}

    def _connect(self) -> cv2.VideoCapture:
        is_missing = sys.platform == "linux" and not os.path.exists(f"/dev/video{self._number}")
        if not is_missing:
            with _opencv_silent():
                camera = cv2.VideoCapture(self._number)
            if camera.isOpened():
                return camera
            camera.release()
        raise SourceError(
            f"{self.name}: this camera cannot be opened; "
            "check that it is connected, allowed and not in use elsewhere"
        )

    def _timed_reads(self) -> TimedReads:
        # The connection made at opening serves the first iteration alone.
        camera = self._open or self._connect()
        self._open = None
        clock = LiveClock()
        last_s = -math.inf
        count = 0
        try:
            while camera.grab():
                last_s = max(clock.seconds(), last_s + TICK_S)
                self.started_s = clock.start_s
                count += 1
                yield last_s, partial(_retrieve, camera)
            self._problems.append(f"the camera stopped after {count} frames")
        finally:
            camera.release()


def _camera_number(name: str) -> int:
    match = re.fullmatch(r"camera:([0-9]{1,3})", name)
    if match is None:
        raise SourceError(
            f"{name}: not a camera; write camera:0 for the first one, camera:1 for the next"
        )
    return int(match[1])


@contextmanager
def _opencv_silent() -> Iterator[None]:
    """Keep OpenCV from printing its own account of a missing camera."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _retrieve(camera: cv2.VideoCapture) -> Pixels | None:
    """The frame that was grabbed last, in RGB."""
    ok, pixels = camera.retrieve()
    if not ok:
        return None
    return cast(Pixels, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
