"""Pixels of one cell of the column `image`."""

import os
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from mien.data.stored_pictures import StoredPicture, read_stored, stored_name
from mien.errors import DataError, SourceError
from mien.sources.arrays import check_rgb
from mien.sources.still import decoder as stills

__all__ = ["PICTURES", "read_picture"]

PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Suffixes of the pictures that folders of data sets hold."""


def read_picture(cell: object) -> NDArray[np.uint8]:
    """Read the picture of one cell, with the same reader as `mien.analyze`.

    EXIF rotation is applied, grey repeated, 16 bits scaled to 8, transparency laid over mid-grey.

    Args:
        cell: A path (str), an encoded picture (bytes), a reference to one in a file (a
            `StoredPicture`) or an RGB uint8 array (H, W, 3).

    Returns:
        Upright RGB uint8 (H, W, 3).

    Raises:
        DataError: The picture cannot be read; names the file, or the length of the bytes.
    """
    try:
        if isinstance(cell, str):
            pixels = stills.read_picture(cell, cell)
            name = cell
        elif isinstance(cell, bytes):
            name = f"a picture of {len(cell)} bytes"
            pixels = stills.read_picture(name, memoryview(cell))
        elif isinstance(cell, dict):
            reference = cast(StoredPicture, cell)
            name = stored_name(reference)
            pixels = stills.read_picture(name, memoryview(read_stored(reference)))
        else:
            return check_rgb(cell, "a picture of the label table")
    except SourceError as error:
        if isinstance(cell, str) and not os.path.isfile(cell):
            raise DataError(
                f"{cell}: no such file; check the folder that the table's paths start from"
            ) from error
        raise DataError(str(error)) from error
    if pixels is None:
        raise DataError(f"{name}: not a picture that can be read; save it as PNG or JPEG")
    return pixels
