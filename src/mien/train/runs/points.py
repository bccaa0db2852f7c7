"""Five facial points, found with mien-face, for pictures that come without them; no torch."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien.bundles.store import load_detector
from mien.data.images import read_picture
from mien.data.stored_pictures import Cells
from mien.errors import DataError
from mien.faces.detect import Detector
from mien.files import atomic_write
from mien.tasks import Floats

__all__ = ["find_points"]


def find_points(
    table: pd.DataFrame,
    memory: Path,
    note: Callable[[str], None],
    skip_unreadable: bool = False,
) -> tuple[pd.DataFrame, str]:
    """Find the five points of the largest face in every picture that has none.

    Pictures in which no face is found keep no points and are read whole.

    Args:
        table: A label table.
        memory: Parquet file that keeps the points, so that a resumed run need not search again.
        note: Called with every note for the user.
        skip_unreadable: Leave pictures that cannot be read without points instead of raising.

    Returns:
        The table with the points filled in, and a line that says how many faces were found.

    Raises:
        DataError: A picture cannot be read, or the memory is damaged.
        OutputError: The memory cannot be written.
    """
    rows: list[int] = np.flatnonzero(table["points"].isna()).tolist()
    images = Cells(table["image"].iloc[rows])
    # Pictures that the table itself holds have no name.
    names = [image if isinstance(image, str) else "" for image in images]
    points = _read_memory(memory, rows, names)
    if points is None:
        note(f"looking for the face in {len(rows)} pictures that come without points")
        detector = load_detector(engine="onnxruntime")
        points = [_largest_face(detector, image, skip_unreadable) for image in images]
        _write_memory(memory, rows, names, points)

    column = table["points"].to_list()
    count = 0
    for row, face_points in zip(rows, points, strict=True):
        column[row] = face_points
        if face_points is not None:
            count += 1
    line = (
        f"faces found in {count} of {len(rows)} pictures that came without points; "
        "the others are read whole"
    )
    note(line)
    completed = pd.Series(column, index=table.index, dtype=object)
    return table.assign(points=completed), line


def _largest_face(detector: Detector, image: Any, skip_unreadable: bool) -> Floats | None:
    """Points (10,) of the largest face of a picture in px; None where there is no face."""
    try:
        faces = detector.find(read_picture(image))
    except DataError:
        if not skip_unreadable:
            raise
        return None
    if not faces:
        return None
    # A box is x, y, width, height.
    largest = max(faces, key=lambda face: face.box[2] * face.box[3])
    return np.asarray(largest.points).ravel()


def _write_memory(
    memory: Path, rows: list[int], names: list[str], points: list[Floats | None]
) -> None:
    """Keep the points of these pictures."""
    content = BytesIO()
    table = pd.DataFrame({"row": rows, "image": names, "points": points})
    table.to_parquet(content)
    atomic_write(memory, content.getvalue())


def _read_memory(memory: Path, rows: list[int], names: list[str]) -> list[Floats | None] | None:
    """Points found before in exactly these pictures; None when there are none, or of others."""
    if not memory.is_file():
        return None
    try:
        known = pd.read_parquet(memory)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{memory}: damaged ({type(error).__name__}); delete it to search the faces again"
        ) from error
    if known["row"].to_list() != rows:
        return None
    # Files of earlier versions have no names.
    if "image" in known and known["image"].to_list() != names:
        return None
    return list(known["points"])
