"""A real face to try things on: NASA's portrait of Eileen Collins, in the public domain."""

from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.occluders import occlude
from mien.files import AtomicFile, wrap_os_errors

__all__ = ["film", "portrait"]

Image = NDArray[np.uint8]
# Size of the clip, px.
_WIDTH = 640
_HEIGHT = 360
# Between these phases of the clip, 0..1, the face wears a mask.
_MASKED = (0.1, 0.25)
# The portrait's eyes, nose tip and mouth corners, px.
_POINTS = ((204.1, 101.4), (245.5, 102.4), (224.3, 124.7), (205.5, 143.3), (240.8, 144.2))


def portrait() -> Image:
    """Read the photo.

    Returns:
        RGB uint8 (512, 512, 3).
    """
    content = files("mien").joinpath("portrait.webp").read_bytes()
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def film(path: Path, seconds: float = 6.0, rate: int = 25) -> Path:
    """Write a clip of a camera that moves over the portrait.

    It drifts, zooms, rolls, and loses the face once; for a while a mask is drawn over the face. The
    clip has 640x360 px, in H.264.

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
        options = {"crf": "18", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width = _WIDTH
        stream.height = _HEIGHT
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, rate)
        for number in range(round(seconds * rate)):
            pixels = _view(picture, number / (seconds * rate))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
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
    # Where the camera looks, px of the portrait; the face is near (224, 130).
    x = 224 + 30 * np.cos(turn) + away
    y = 130 + 20 * np.sin(3 * turn)
    matrix = cv2.getRotationMatrix2D((x, y), 12 * np.sin(turn), zoom)
    matrix[:, 2] += np.array([_WIDTH / 2 - x, _HEIGHT / 2 - y])
    size = (_WIDTH, _HEIGHT)
    warped = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    view = np.asarray(warped, np.uint8)
    if _MASKED[0] <= phase < _MASKED[1]:
        points = np.array(_POINTS) @ matrix[:, :2].T + matrix[:, 2]
        # The same seed in every frame, for it is the same mask.
        view, _ = occlude(view, points, "mask", np.random.default_rng(1))
    return view
