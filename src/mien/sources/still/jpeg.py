"""JPEG pixels and JPEG damage, from libjpeg and FFmpeg: Pillow hides what libjpeg warns of."""

import re
from typing import Final, Literal, cast

import av
import simplejpeg
from av.error import InvalidDataError

from mien.sources.base import Pixels

__all__ = ["decode_jpeg", "jpeg_damage", "packet_damage"]

_CUT: Final = "premature end of jpeg file"
_CORRUPT: Final = "Corrupt JPEG data: "
# Cameras fill their pictures up before the end.
_FILLED: Final = re.compile(r"[1-8] extraneous bytes before marker 0xd9")
# At an eighth of the size: only the codes need to be read.
_STRICT: Final = {"err_detect": "explode", "lowres": "3"}


def decode_jpeg(
    data: bytes, colours: Literal["RGB", "CMYK"], size: tuple[int, int]
) -> tuple[Pixels, str | None]:
    """Decode a JPEG, also a damaged one.

    Args:
        data: The file.
        colours: The colours wanted.
        size: Least width and height, px; it is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 of
            its size that has both.

    Returns:
        Pixels uint8 (H, W, 3), or (H, W, 4) for CMYK, as stored; and what libjpeg found damaged, or
        None.

    Raises:
        ValueError: It cannot be decoded, or is cut off.
    """
    width, height = size
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height)
        return cast(Pixels, pixels), None
    except ValueError as warning:
        if _CUT in str(warning).lower():
            raise ValueError("the file is cut off") from warning
        # Once more, past the damage.
        pixels = simplejpeg.decode_jpeg(
            data, colours, min_width=width, min_height=height, strict=False
        )
        reason = str(warning).removeprefix(_CORRUPT)
        return cast(Pixels, pixels), f"damaged picture data ({reason})"


def jpeg_damage(data: bytes) -> str | None:
    """What FFmpeg finds damaged: it notices blocks that are too long, which libjpeg lets pass.

    Args:
        data: A baseline JPEG of grey or YCbCr.

    Returns:
        One line; None if nothing is damaged, or FFmpeg does not know this kind of JPEG.
    """
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = _STRICT
    decoder.thread_count = 1
    try:
        decoder.decode(av.Packet(data))
    except InvalidDataError:
        return "damaged picture data (codes that no JPEG holds)"
    except av.FFmpegError:
        return None
    return None


def packet_damage(data: bytes) -> str | None:
    """What libjpeg finds damaged in a frame of a film: FFmpeg conceals a lost restart interval.

    Args:
        data: A JPEG.

    Returns:
        The message of libjpeg; None if nothing is damaged.
    """
    try:
        # At an eighth of the size, as above.
        simplejpeg.decode_jpeg(data, "GRAY", min_width=1, min_height=1)
    except ValueError as warning:
        line = str(warning)
        if line.startswith(_CORRUPT) and not _FILLED.search(line):
            return line
    return None
