"""Small films and photos of noise: no face, and content of their own. The tests of batches and bench/races.py make them."""

from pathlib import Path

import av
import numpy as np
from PIL import Image


def film(path: Path, seed: int = 0, frames: int = 2) -> Path:
    """A film of 64 x 64 pixels, 10 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(frames):
            pixels = np.repeat(np.repeat(rng.integers(0, 255, (8, 8, 3), np.uint8), 8, 0), 8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def photo(path: Path, seed: int = 0) -> Path:
    """A PNG of 48 x 48 pixels, whatever its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 48, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path
