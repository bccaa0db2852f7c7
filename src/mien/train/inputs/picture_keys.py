"""What tells the pictures of a label table apart: name, points, and the state of the file."""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mien.data.stored_pictures import digests, is_stored
from mien.errors import DataError

__all__ = [
    "Fingerprint",
    "file_fingerprint",
    "find_rows",
    "first_rows",
    "lookup_keys",
    "picture_keys",
    "picture_names",
]

Fingerprint = tuple[int, int]
"""Size (bytes) and time of change (ns) of a file."""

# The fingerprint of a picture that the table itself holds.
_NO_FILE: Final = (-1, -1)
# 2^64 over the golden ratio, odd: spreads neighbouring numbers over all 64 bits.
_HASH_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


def picture_keys(table: pd.DataFrame, root: Path) -> pa.Table:
    """Compute the keys of every row of a label table.

    Args:
        table: A label table; of its columns, `image` and, where it has any, `points` count.
        root: Folder that paths are taken relative to.

    Returns:
        Table with the columns `image`, as `picture_names`, and `points`, a hash of the points,
        uint64, 0 where there are none.

    Raises:
        DataError: A picture lies outside `root` or is no picture, or points are damaged.
    """
    names = picture_names(table["image"], root)
    return pa.table({"image": names, "points": _hash_points(table)})


def picture_names(images: "pd.Series[Any]", root: Path) -> pa.Array:
    """Name every picture.

    Args:
        images: The column `image` of a label table.
        root: Folder that paths are taken relative to.

    Returns:
        Path relative to `root`, or hash of the content where the table itself holds the picture.

    Raises:
        DataError: A picture lies outside `root`, or is no picture.
    """
    start = os.path.join(root, "")
    # Millions of paths: as a whole column where possible, not one by one.
    if isinstance(images.dtype, pd.StringDtype):
        paths = pa.array(images, pa.large_string())
        if pc.all(pc.starts_with(paths, start), skip_nulls=False).as_py():
            return pc.utf8_slice_codeunits(paths, len(start))
    if is_stored(images):
        hashes = [f"sha256:{digest.hex()}" for digest in digests(images)]
        return pa.array(hashes, pa.large_string())
    names = []
    for cell in images:
        names.append(_relative(cell, start) if isinstance(cell, str) else _hash_picture(cell))
    return pa.array(names, pa.large_string())


def _relative(path: str, start: str) -> str:
    """A path relative to a folder that it must lie in; the folder ends in a separator."""
    if path.startswith(start):
        return path[len(start) :]
    relative = os.path.relpath(path, start)
    if relative.split(os.sep, 1)[0] == os.pardir:
        raise DataError(
            f"{path}: not in {start}; give the folder that holds all the pictures as root"
        )
    return relative


def _hash_picture(cell: Any) -> str:
    """Hash of a picture that the table holds as encoded bytes or as an array."""
    if isinstance(cell, dict):
        return f"sha256:{cell['digest'].hex()}"
    if isinstance(cell, np.ndarray):
        # The same bytes in another shape are another picture.
        cell = f"{cell.dtype.str}{cell.shape}".encode() + cell.tobytes()
    elif not isinstance(cell, bytes):
        raise DataError(
            f"image: {cell!r} is no picture; expected a path, encoded bytes or an RGB uint8 array"
        )
    return f"sha256:{hashlib.sha256(cell).hexdigest()}"


def _hash_points(table: pd.DataFrame) -> NDArray[np.uint64]:
    """64 bits (N,) that tell one set of five points from another, 0 where there are none."""
    hashes = np.zeros(len(table), np.uint64)
    if "points" not in table:
        return hashes
    has_points = table["points"].notna().to_numpy()
    if not has_points.any():
        return hashes
    points = _stack_points(table["points"][has_points].tolist())
    # A loop over the ten columns instead of a digest per row: tables have millions of rows.
    mixed = np.full(len(points), 1, np.uint64)
    for column in np.ascontiguousarray(points.T, np.float64).view(np.uint64):
        mixed = (mixed ^ column) * _HASH_FACTOR
        mixed ^= mixed >> np.uint64(29)
    hashes[has_points] = mixed | np.uint64(1)
    return hashes


def _stack_points(cells: list[Any]) -> NDArray[np.float64]:
    """Points (N, 10) of a column's cells; raises DataError where one is not ten finite numbers."""
    shapes = {np.shape(cell) for cell in cells}
    if shapes == {(10,)}:
        points = np.concatenate(cells).reshape(-1, 10)
        if np.isfinite(points).all():
            return points
    raise DataError(
        "points: not ten finite numbers in every row that has any; "
        "give x, y of five points, or none"
    )


def lookup_keys(keys: pa.Table) -> pa.Array:
    """Join the columns of keys.

    Args:
        keys: As `picture_keys` makes them.

    Returns:
        Name and hash of the points as one text; null where a row has lost its name.
    """
    text = pa.large_string()
    columns = keys["image"].cast(text), keys["points"].cast(text)
    # Null in one column makes the whole key null, which is never found.
    return pc.binary_join_element_wise(*columns, pa.scalar("#", text)).combine_chunks()


def first_rows(keys: pa.Table) -> NDArray[np.int64]:
    """List where each picture comes first.

    Args:
        keys: As `picture_keys` makes them.

    Returns:
        Row numbers, in order.
    """
    numbers = lookup_keys(keys).dictionary_encode().indices.to_numpy()
    # Numbers are given in order of appearance, so these are in order of rows.
    _, rows = np.unique(numbers, return_index=True)
    return np.asarray(rows, np.int64)


def find_rows(keys: pa.Table, index: pa.Table) -> NDArray[np.int64]:
    """Look keys up in an index.

    Args:
        keys: As `picture_keys` makes them.
        index: The same columns, in any order of rows.

    Returns:
        Row number in the index of each key (N,), -1 where there is none.
    """
    rows = pc.index_in(lookup_keys(keys), lookup_keys(index), skip_nulls=True)
    return np.asarray(pc.fill_null(rows, -1).to_numpy(), np.int64)


def file_fingerprint(cell: Any) -> Fingerprint:
    """Look at a picture's file.

    Args:
        cell: Cell of the column `image`.

    Returns:
        Its fingerprint; -1 twice where there is no file.
    """
    if not isinstance(cell, str):
        return _NO_FILE
    try:
        status = os.stat(cell)
    except OSError:
        # Reading the picture will report what is wrong with it.
        return _NO_FILE
    return status.st_size, status.st_mtime_ns
