"""Where frames come from: pictures, videos, cameras and arrays. The only room with a decoder and a clock.

`expand` turns what a user typed into single inputs; `open_source` opens one of them, or says in one line why it
cannot; `Source.frames` gives the frames one by one, in memory that does not grow with the length of the input.
"""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mien.errors import SourceError
from mien.sources.base import MAX_PIXELS, Kind, Pixels, Source
from mien.sources.camera import Camera
from mien.sources.stills import Arrays, Picture, checked, read_picture
from mien.sources.video import Video

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "VIDEO_SUFFIXES", "Kind", "Pixels", "Source", "expand", "open_source"]

IMAGE_SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES: Final = frozenset(
    {
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mjpeg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    }
)


def expand(inputs: Sequence[str | Path]) -> list[str]:
    """Turn paths, folders, glob patterns and ``camera:N`` into single inputs, in order, each once.

    A folder stands for the pictures and videos in it and below it, in natural order (2 before 10), hidden ones left
    out. Raises SourceError for a missing path, a folder without media and a pattern without match.

    >>> expand(["camera:1", "camera:0", "camera:1"])
    ['camera:1', 'camera:0']
    """
    once: dict[str, str] = {}
    for given in inputs:
        for item in _expand_one(str(given)):
            once.setdefault(item if item.startswith("camera:") else os.path.abspath(item), item)
    return list(once.values())


def open_source(item: object) -> Source:
    """Open a path, ``camera:N``, one array, or an iterable of arrays or of (time_s, array) pairs.

    Arrays are RGB uint8 (H, W, 3); times are seconds and must rise. Arrays without times are taken for separate
    pictures and set one second apart. Videos keep the container's times, start offset included, and their stored
    pixels: a sample aspect ratio other than 1:1 is not stretched, HDR is not tone-mapped, sound is ignored.
    Raises SourceError when the input is missing, empty, of unknown format, above `MAX_PIXELS` or has no picture.
    """
    if isinstance(item, str) and item.startswith("camera:"):
        return Camera(item)
    if isinstance(item, str | Path):
        return _open_file(str(item))
    if isinstance(item, np.ndarray) and item.ndim != 4:
        return Picture("array", checked(item, "array"))
    if isinstance(item, Iterable):
        return Arrays(item)
    raise SourceError(f"{type(item).__name__} is no source of frames; give a path, camera:N, an array or an iterable of arrays")


def _expand_one(given: str) -> list[str]:
    if given.startswith("camera:") or os.path.isfile(given):
        return [given]
    if os.path.isdir(given):
        if media := _media_below(given):
            return media
        raise SourceError(f"{given}: no picture or video in this folder; give a folder that holds some, or name the file itself")
    if not os.path.lexists(given) and glob.has_magic(given):
        matches = sorted(glob.glob(given, recursive=True), key=_natural)
        if found := [item for match in matches for item in (_media_below(match) if os.path.isdir(match) else [match])]:
            return found
        raise SourceError(f"{given}: nothing matches this pattern; check the folder and the spelling")
    raise SourceError(f"{given}: no such file or folder; check the path")


def _media_below(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename}: this folder cannot be read ({error.strerror}); check its permissions")

    found: list[str] = []
    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        known = (name for name in names if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        found += [os.path.join(where, name) for name in known]
    return sorted(found, key=_natural)


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10.

    >>> sorted(["s/10.png", "s/2.png"], key=_natural)
    ['s/2.png', 's/10.png']
    """
    parts = re.split(r"([0-9]+)", path.replace(os.sep, "\0").casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path)]


def _open_file(name: str) -> Source:
    path = os.path.abspath(name)  # also keeps FFmpeg from taking "a:b.mp4" for a protocol
    if os.path.isdir(path):
        raise SourceError(f"{name}: is a folder; expand it first, or name a file in it")
    if not os.path.isfile(path):
        raise SourceError(f"{name}: {'not a regular file' if os.path.exists(path) else 'no such file'}; check the path")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise SourceError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from error
    if empty:
        raise SourceError(f"{name}: is empty (0 bytes); copy or record it again")
    if Path(name).suffix.lower() in {".heic", ".heif"}:
        raise SourceError(f"{name}: HEIC pictures are not supported; save it as JPEG or PNG")
    pixels = read_picture(name, path)
    return Video(name, path) if pixels is None else Picture(name, pixels)
