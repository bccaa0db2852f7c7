"""What picture files say against their own pixels: checksums and lengths that the decoders do not compare."""

import os
import zlib
from typing import Any, Final

from mien.sources.stored import Stored, open_stored

__all__ = ["boxes_cut_off", "png_damage", "tiff_damage"]

_PNG_PIXELS: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})  # besides the critical chunks
_COMPRESSION, _DEFLATED = 259, (8, 32946)  # of TIFF: the tag, and its values for deflated pixels
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips, of tiles
_PART: Final = 1 << 20


def png_damage(stored: Stored) -> list[str]:
    """Compare the checksums of all chunks that make pixels: Pillow leaves out those of the picture data."""
    with open_stored(stored) as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            size, kind = int.from_bytes(start[:4], "big"), start[4:]
            if not kind.isalpha():
                return ["damaged picture data (a chunk of no known kind)"]
            critical = kind[:1].isupper()
            if not critical and kind not in _PNG_PIXELS:
                file.seek(size + 4, os.SEEK_CUR)
            else:
                data = file.read(size)
                if len(data) < size:
                    return ["ends early: its last chunk is cut off"]
                if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(file.read(4), "big"):
                    return [f"damaged picture data (wrong checksum of a {kind.decode()} chunk)"]
            if kind == b"IEND":
                return []
    return ["ends early: its closing chunk is missing"]


def tiff_damage(image: Any, stored: Stored) -> list[str]:
    """Compare the page's strips and tiles with the file's length, and their checksums: libtiff does not read deflated ones to the end."""
    tags = image.tag_v2
    offsets, counts = (
        tags.get(strips) or tags.get(tiles) or () for strips, tiles in (_OFFSETS, _COUNTS)
    )
    with open_stored(stored) as file:
        size = file.seek(0, os.SEEK_END)
        if any(offset + count > size for offset, count in zip(offsets, counts, strict=False)):
            return ["damaged: its picture data reach beyond the end of the file"]
        if tags.get(_COMPRESSION) not in _DEFLATED:
            return []
        for offset, count in zip(offsets, counts, strict=False):
            file.seek(offset)
            left, stream = file.read(count), zlib.decompressobj()
            try:
                while left:
                    stream.decompress(left, _PART)
                    left = stream.unconsumed_tail
            except zlib.error as error:
                return [f"damaged picture data ({error})"]
    return []


def boxes_cut_off(stored: Stored) -> bool:
    """Whether a file made of boxes (HEIF, AVIF) is shorter than its boxes say; decoders fill what is missing with grey."""
    with open_stored(stored) as file:
        size = file.seek(0, os.SEEK_END)
        at = 0
        while at + 8 <= size:
            file.seek(at)
            length = int.from_bytes(file.read(4), "big")
            if length == 1:  # the length follows the kind, in 64 bits
                file.seek(at + 8)
                length = int.from_bytes(file.read(8), "big")
            if length == 0:  # to the end
                return False
            at += max(length, 8)
    return at != size
