"""What `mien.live` reads: a camera, a film at its own speed, pictures as they are made."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.pipeline import Pipeline
from mien.errors import SourceError
from mien.sources import Source
from mien.sources.live import LiveArrays
from mien.sources.network import NetworkCamera, is_camera_address

__all__ = ["LiveInput", "open_live"]

LiveInput = str | Path | Source | Iterable[Any]
"""``camera:N``, ``rtsp://…``, a film's path, an open source, or an iterable of pictures or of pairs
of seconds and a picture."""


def open_live(given: LiveInput, pipeline: Pipeline, name: str | None) -> Source:
    """Open a live source, or a film that is played at its own speed.

    Args:
        given: What to read.
        pipeline: What turns pictures as its options ask for.
        name: What pictures from Python are called in the rows.

    Returns:
        The source, of which only the newest frame waits while another is read.

    Raises:
        SourceError: It cannot be read, or has no time of its own, such as a photo.
        ValueError: A name is given for what has one.
    """
    if isinstance(given, str | Path):
        if name is not None:
            raise ValueError(f"name is for pictures from Python; {given} keeps its path")
        address = str(given)
        if is_camera_address(address):
            source = pipeline.open(NetworkCamera(address))
        else:
            source = pipeline.open(address)
    elif isinstance(given, Source):
        source = pipeline.open(given)
    elif isinstance(given, np.ndarray) or not isinstance(given, Iterable):
        raise SourceError(
            f"{type(given).__name__} is no live source; give camera:0, rtsp://…, the path of a "
            "film, or an iterable of pictures that are made while they are read"
        )
    else:
        source = pipeline.open(LiveArrays(given, name or "live", newest=True))
    if source.kind == "image":
        raise SourceError(f"{source.name}: is a photo; read it with mien analyze")
    if not source.live:
        source.play()
    return source
