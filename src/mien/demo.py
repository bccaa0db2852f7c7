"""A real face to try things on, without bringing one: NASA's portrait of Eileen Collins, which is in the public domain."""

from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.files import AtomicFile, wrap_os_errors

__all__ = ["film", "portrait"]

Image = NDArray[np.uint8]


def portrait() -> Image:
    """The photo, RGB uint8 (512, 512, 3)."""
    packed = np.frombuffer(files("mien").joinpath("portrait.webp").read_bytes(), np.uint8)
    picture = cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def film(path: Path, seconds: float = 6.0, rate: int = 25) -> Path:
    """A clip (640x360, H.264) of a camera that moves over the portrait: drifting, zooming, rolling, and losing the face once.

    Raises OutputError when it cannot be written.
    """
    picture = portrait()
    with wrap_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(path) as aside, av.open(str(aside), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"crf": "18", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.time_base = Fraction(1, rate)
        for i in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(_view(picture, i / (seconds * rate)), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _view(picture: Image, phase: float) -> Image:
    """What the camera sees at `phase` 0..1: RGB (360, 640, 3)."""
    turn = 2 * np.pi * phase
    zoom = 1.25 + 0.35 * np.sin(2 * turn)
    # For a while around the middle the camera looks away, to show what a table says when nobody is in view.
    away = 620 * np.clip((0.24 - abs(phase - 0.62)) / 0.16, 0, 1)
    middle = (224 + 30 * np.cos(turn) + away, 130 + 20 * np.sin(3 * turn))
    matrix = cv2.getRotationMatrix2D(middle, 12 * np.sin(turn), zoom)
    matrix[:, 2] += np.array([320, 180]) - middle
    return np.asarray(
        cv2.warpAffine(picture, matrix, (640, 360), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
