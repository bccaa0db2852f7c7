"""Damage that picture files reveal by checksums and lengths that the decoders do not compare."""

import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from mien.sources.stored import Stored, open_stored

__all__ = ["boxes_cut_off", "png_damage", "tiff_damage"]

# Chunks that make pixels, besides the critical ones.
_PNG_PIXELS: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})

# Tags of TIFF.
_COMPRESSION: Final = 259
_DEFLATE: Final = (8, 32946)
_STRIP_OFFSETS = 273
_STRIP_COUNTS = 279
_TILE_OFFSETS = 324
_TILE_COUNTS = 325

# Bytes inflated at a time.
_AT_ONCE: Final = 1 << 20


def png_damage(stored: Stored) -> list[str]:
    """Compare the checksums of all chunks that make pixels: Pillow skips those of the pixel data.

    Args:
        stored: A PNG file.

    Returns:
        What is damaged, at most one line.
    """
    with open_stored(stored) as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            size = int.from_bytes(start[:4], "big")
            kind = start[4:]
            damage = _chunk_damage(file, kind, size)
            if damage:
                return [damage]
            if kind == b"IEND":
                return []
    return ["ends early: its closing chunk is missing"]


def _chunk_damage(file: BinaryIO, kind: bytes, size: int) -> str | None:
    """Read the body and the checksum of a chunk; says what is damaged."""
    if not kind.isalpha():
        return "damaged picture data (a chunk of no known kind)"
    # A capital first letter marks chunks that a decoder must understand.
    is_critical = kind[:1].isupper()
    if not is_critical and kind not in _PNG_PIXELS:
        file.seek(size + 4, os.SEEK_CUR)
        return None
    data = file.read(size)
    if len(data) < size:
        return "ends early: its last chunk is cut off"
    checksum = int.from_bytes(file.read(4), "big")
    if zlib.crc32(data, zlib.crc32(kind)) != checksum:
        return f"damaged picture data (wrong checksum of a {kind.decode()} chunk)"
    return None


def tiff_damage(image: Any, stored: Stored) -> list[str]:
    """Compare strips and tiles with the file's length, and check those that are deflated.

    libtiff does not read deflated ones to the end, where their checksums are.

    Args:
        image: An open TIFF, at the page to be checked.
        stored: The same file.

    Returns:
        What is damaged, at most one line.
    """
    tags = image.tag_v2
    offsets = tags.get(_STRIP_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
    counts = tags.get(_STRIP_COUNTS) or tags.get(_TILE_COUNTS) or ()
    parts = list(zip(offsets, counts, strict=False))
    with open_stored(stored) as file:
        size = file.seek(0, os.SEEK_END)
        if any(offset + count > size for offset, count in parts):
            return ["damaged: its picture data reach beyond the end of the file"]
        if tags.get(_COMPRESSION) not in _DEFLATE:
            return []
        for offset, count in parts:
            file.seek(offset)
            try:
                _inflate(file.read(count))
            except zlib.error as error:
                return [f"damaged picture data ({error})"]
    return []


def _inflate(data: bytes) -> None:
    """Inflate to the end, in little memory, for the sake of the checksum alone."""
    stream = zlib.decompressobj()
    while data:
        stream.decompress(data, _AT_ONCE)
        data = stream.unconsumed_tail


def boxes_cut_off(stored: Stored) -> bool:
    """Whether a file is shorter than its boxes say; decoders fill what is missing with grey.

    Args:
        stored: A file made of boxes (HEIF, AVIF).

    Returns:
        Whether its last box ends anywhere but at the end of the file.
    """
    with open_stored(stored) as file:
        size = file.seek(0, os.SEEK_END)
        end = 0
        for length in _box_lengths(file, size):
            # A length of 0 means: to the end of the file.
            if length == 0:
                return False
            end += max(length, 8)
    return end != size


def _box_lengths(file: BinaryIO, size: int) -> Iterator[int]:
    """Lengths of the top boxes, bytes, as far as their heads are in the file."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length = int.from_bytes(file.read(4), "big")
        # 1 means that the length follows the kind, in 64 bits.
        if length == 1:
            file.seek(position + 8)
            length = int.from_bytes(file.read(8), "big")
        yield length
        position += max(length, 8)
