"""JPEG pixels and JPEG damage: Pillow hides what libjpeg warns of, so libjpeg is asked directly, and FFmpeg as well."""

import re
from typing import Final, Literal, cast

import av
import simplejpeg
from av.error import InvalidDataError

from mien.sources.base import Pixels

__all__ = ["decode_jpeg", "jpeg_damage", "packet_damage"]

_CUT: Final = "premature end of jpeg file"
_CORRUPT: Final = "Corrupt JPEG data: "
_FILLED: Final = re.compile(
    r"[1-8] extraneous bytes before marker 0xd9"
)  # cameras fill their pictures up before the end
_STRICT: Final = {
    "err_detect": "explode",
    "lowres": "3",
}  # an eighth of the size: only the reading of codes is wanted


def decode_jpeg(
    data: bytes, colours: Literal["RGB", "CMYK"], size: tuple[int, int]
) -> tuple[Pixels, str | None]:
    """Pixels uint8 (H, W, 3), or (H, W, 4) for CMYK, as stored; and what libjpeg found damaged, or None.

    Args:
        data: The file.
        colours: The colours wanted.
        size: Least width and height of what is returned; it is decoded at 1/1, 1/2, 1/4 or 1/8, the smallest that has both.

    Raises:
        ValueError: It cannot be decoded, or is cut off.
    """
    try:
        return cast(
            Pixels, simplejpeg.decode_jpeg(data, colours, min_width=size[0], min_height=size[1])
        ), None
    except ValueError as warned:
        if _CUT in str(warned).lower():
            raise ValueError("the file is cut off") from warned
        pixels = simplejpeg.decode_jpeg(
            data, colours, min_width=size[0], min_height=size[1], strict=False
        )
        return cast(Pixels, pixels), f"damaged picture data ({str(warned).removeprefix(_CORRUPT)})"


def jpeg_damage(data: bytes) -> str | None:
    """What FFmpeg finds damaged in a baseline JPEG of grey or YCbCr; it sees overlong blocks, which libjpeg lets pass."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options, decoder.thread_count = _STRICT, 1
    try:
        decoder.decode(av.Packet(data))
    except InvalidDataError:
        return "damaged picture data (codes that no JPEG holds)"
    except av.FFmpegError:  # a kind of JPEG that it does not know
        return None
    return None


def packet_damage(data: bytes) -> str | None:
    """What libjpeg finds damaged in a picture of a film: FFmpeg conceals a lost restart interval without a word."""
    try:
        simplejpeg.decode_jpeg(
            data, "GRAY", min_width=1, min_height=1
        )  # an eighth of the size, as above
    except ValueError as warned:
        line = str(warned)
        return line if line.startswith(_CORRUPT) and not _FILLED.search(line) else None
    return None
