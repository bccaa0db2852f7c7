"""Opens one input, whatever it is, or says in one line why it cannot."""

import os
import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from mien.errors import SourceError
from mien.remote.address import is_address, parts
from mien.sources.arrays import Arrays, Pictures, check_rgb
from mien.sources.base import Source
from mien.sources.camera import Camera
from mien.sources.fetched import fetch
from mien.sources.inputs import STDIN, refuse_address
from mien.sources.still.animated import Animation, is_animated
from mien.sources.still.decoder import Pages, Picture, Still, decode, opened_picture, page_numbers
from mien.sources.stored import Stored, head, is_open_file, spool, standard_input
from mien.sources.suffixes import IMAGE_SUFFIXES
from mien.sources.video.decoder import Video

__all__ = ["media_kind", "open_source"]

_ACCEPTED = "a path, camera:N, the bytes of a file, an open file, an array or an iterable of arrays"


def open_source(
    item: object, *, name: str | None = None, photos: bool = False, stream: int | None = None
) -> Source:
    """Open one input.

    Args:
        item: A path, an address that fsspec opens (``s3://…``), ``camera:N``, ``-`` for standard
            input, the bytes of a file (bytes, bytearray, memoryview), an open binary file, one RGB
            uint8 picture (H, W, 3), or an iterable of such or of (time_s, picture) pairs, times in
            seconds and rising. What a file holds is decided by its content, never by its suffix.
        name: What the source is called in tables and messages; by default the path, ``bytes``,
            ``array`` and so on.
        photos: An iterable of pictures is not a film but separate pictures: each is searched by
            itself, none is tracked.
        stream: Number of the video stream to read, from 0, in files that hold several; None takes
            the one that players take.

    Returns:
        The source. Pictures without times are taken for frames one second apart, unless they are
        photos.

    Raises:
        SourceError: The input is missing, empty, of unknown format, too large or has no picture.
    """
    if isinstance(item, str) and item.startswith("camera:"):
        return Camera(item)
    if isinstance(item, str | Path):
        return _open_path(str(item), name or str(item), stream)
    if isinstance(item, bytes | bytearray | memoryview):
        return _open_content(name or "bytes", memoryview(item).cast("B"), stream)
    if is_open_file(item):
        name = name or _name_of_file(item)
        return _open_content(name, spool(name, item), stream)  # type: ignore[arg-type]
    return _open_arrays(item, name, photos)


def _name_of_file(file: object) -> str:
    # Files opened by their descriptor have a number for a name.
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else "file"


def _open_arrays(item: object, name: str | None, photos: bool) -> Source:
    """The source for one array, or for an iterable of arrays."""
    if isinstance(item, np.ndarray) and item.ndim != 4:
        name = name or "array"
        return Picture(name, Still(check_rgb(item, name)))
    if isinstance(item, Iterable):
        return Pictures(item, name or "pictures") if photos else Arrays(item, name or "arrays")
    # A picture of Pillow's; the error says how it becomes an array.
    if hasattr(item, "__array_interface__"):
        check_rgb(item, name or "picture")
    prefix = f"{name}: " if name else ""
    kind = type(item).__name__
    raise SourceError(f"{prefix}{kind} is no source of frames; give {_ACCEPTED}")


def media_kind(path: str) -> Literal["image", "video", "camera"]:
    """Say what an input is by a look at its first bytes.

    Args:
        path: A path, ``camera:N`` or ``-``.

    Returns:
        The kind; ``video`` also for animated pictures. What cannot be opened is judged by its
        suffix; opening it then says what is wrong.
    """
    if path.startswith("camera:"):
        return "camera"
    stored = _readable_content(path)
    if stored is None:
        # Of an address the suffix says enough: fetching all inputs to plan a run would cost more.
        name = parts(path)[-1] if is_address(path) and parts(path) else path
        suffix = os.path.splitext(name)[1].lower()
        return "image" if suffix in IMAGE_SUFFIXES else "video"
    try:
        with opened_picture(path, stored) as image:
            is_still = image is not None and not is_animated(image)
            return "image" if is_still else "video"
    except SourceError:
        # A damaged picture, or a HEIC without its decoder.
        return "image"


def _readable_content(path: str) -> Stored | None:
    """What a path stands for; None if it holds nothing that can be read."""
    try:
        if path == STDIN:
            return standard_input()
        # In this order: opening a pipe would wait for somebody to write into it.
        if os.path.isfile(path) and head(path, 1):
            return path
    except (OSError, SourceError, ValueError):
        return None
    return None


def _open_path(path: str, name: str, stream: int | None) -> Source:
    if path == STDIN:
        return _open_content("stdin" if name == STDIN else name, standard_input(), stream)
    refuse_address(path)
    if is_address(path):
        return _open_content(name, fetch(path), stream)
    # Absolute, which also keeps FFmpeg from taking "a:b.mp4" for a protocol.
    absolute = os.path.abspath(path)
    if os.path.isdir(absolute):
        raise SourceError(f"{path}: is a folder; expand it first, or name a file in it")
    if not os.path.isfile(absolute):
        raise SourceError(f"{path}: {_why_no_file(absolute)}")
    return _open_content(name, absolute, stream)


def _why_no_file(path: str) -> str:
    """Why a path that is not a regular file cannot be read, and what to do."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "no such file; check the path"
    if stat.S_ISFIFO(mode):
        kind = "a pipe"
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        kind = "a device"
    else:
        kind = "not a regular file"
    return (
        f"is {kind}, and mien reads whole files; save it to a file, "
        "or pass it through standard input: mien analyze - < PIPE"
    )


def _open_content(name: str, stored: Stored, stream: int | None) -> Source:
    try:
        is_empty = not head(stored, 1)
    except OSError as error:
        raise SourceError(
            f"{name}: cannot be opened ({error.strerror}); check its permissions"
        ) from error
    if is_empty:
        raise SourceError(f"{name}: is empty (0 bytes); copy or record it again")
    source = _open_picture(name, stored) or Video(name, stored, stream)
    source.reopen = partial(_open_content, name, stored, stream)
    return source


def _open_picture(name: str, stored: Stored) -> Source | None:
    """The source for a picture file, still, with pages or animated; None if it is no picture."""
    with opened_picture(name, stored) as image:
        if image is None:
            return None
        if is_animated(image):
            return Animation(name, stored, image)
        try:
            numbers = page_numbers(image)
        except Exception as error:
            # Pillow raises types of its own for a page whose table is damaged.
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SourceError(
                f"{name}: its list of pages is damaged ({reason}); save or export it again"
            ) from error
        if len(numbers) > 1:
            return Pages(name, stored, numbers)
        return Picture(name, decode(name, image, stored))
