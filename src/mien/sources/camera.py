"""Cameras through OpenCV, which knows those of Linux, macOS and Windows."""

import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import cv2

from mien.errors import SourceError
from mien.sources.base import TICK_S, Kind, Pixels, Source, TimedReads

__all__ = ["Camera"]


def _camera_number(name: str) -> int:
    if match := re.fullmatch(r"camera:([0-9]{1,3})", name):
        return int(match[1])
    raise SourceError(
        f"{name}: not a camera; write camera:0 for the first one, camera:1 for the next"
    )


@contextmanager
def _opencv_silent() -> Iterator[None]:
    """Keep OpenCV from printing its own account of a missing camera; its log level is put back at once."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


class Camera(Source):
    """A live camera; time is the monotonic clock since the first frame."""

    kind: Kind = "camera"
    live = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._number = _camera_number(name)
        self._open: cv2.VideoCapture | None = self._connect()
        width, height = (
            int(self._open.get(what))
            for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        self.size = (width, height) if width > 0 and height > 0 else None
        self.media = {"width": width, "height": height} if self.size else {}

    def _connect(self) -> cv2.VideoCapture:
        missing = sys.platform == "linux" and not os.path.exists(f"/dev/video{self._number}")
        if not missing:
            with _opencv_silent():
                camera = cv2.VideoCapture(self._number)
            if camera.isOpened():
                return camera
            camera.release()
        raise SourceError(
            f"{self.name}: this camera cannot be opened; check that it is connected, allowed and not in use elsewhere"
        )

    def _timed_reads(self) -> TimedReads:
        camera, self._open = self._open or self._connect(), None
        try:
            start, last, count = 0.0, -math.inf, 0
            while camera.grab():
                start = start if count else time.monotonic()
                last = max(time.monotonic() - start if count else 0.0, last + TICK_S)
                count += 1
                yield last, lambda: self._shot(camera)
            self._problems.append(f"the camera stopped after {count} frames")
        finally:
            camera.release()

    @staticmethod
    def _shot(camera: cv2.VideoCapture) -> Pixels | None:
        taken, pixels = camera.retrieve()
        return cast(Pixels, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)) if taken else None
