"""A real face to try things on: NASA's portrait of Eileen Collins, in the public domain."""

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
    """Read the photo.

    Returns:
        RGB uint8 (512, 512, 3).
    """
    packed = np.frombuffer(files("mien").joinpath("portrait.webp").read_bytes(), np.uint8)
    picture = cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def film(path: Path, seconds: float = 6.0, rate: int = 25) -> Path:
    """Write a clip of a camera that moves over the portrait.

    It drifts, zooms, rolls, and loses the face once. The clip has 640x360 px, in H.264.

    Args:
        path: The file to write (MP4); its folder is made if missing.
        seconds: Duration, s.
        rate: Frames per second.

    Returns:
        The file.

    Raises:
        OutputError: Where it cannot be written.
    """
    picture = portrait()
    with wrap_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"crf": "18", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.time_base = Fraction(1, rate)
        for i in range(round(seconds * rate)):
            pixels = _view(picture, i / (seconds * rate))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        # The encoder holds frames back until it is told that none follow.
        container.mux(stream.encode())
    return path


def _view(picture: Image, phase: float) -> Image:
    """The camera's picture at `phase` 0..1 of the clip: RGB uint8 (360, 640, 3)."""
    turn = 2 * np.pi * phase
    zoom = 1.25 + 0.35 * np.sin(2 * turn)
    # After the middle the camera looks away for a while: the table then has rows without a face.
    away = 620 * np.clip((0.24 - abs(phase - 0.62)) / 0.16, 0, 1)
    middle = (224 + 30 * np.cos(turn) + away, 130 + 20 * np.sin(3 * turn))
    matrix = cv2.getRotationMatrix2D(middle, 12 * np.sin(turn), zoom)
    matrix[:, 2] += np.array([320, 180]) - middle
    return np.asarray(
        cv2.warpAffine(picture, matrix, (640, 360), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
