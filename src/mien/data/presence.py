"""Which pictures of a data set exist, and which videos show the same recording.

Each folder is listed once: asking for each file is slow, above all on network drives.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.images import PICTURES
from mien.data.label_checks import absent
from mien.errors import DataError

__all__ = [
    "Missing",
    "attach_notes",
    "find_subfolder",
    "list_names",
    "pictures",
    "recordings",
    "shared_recordings",
    "without_missing",
]

Missing = Literal["error", "drop"]
"""What becomes of rows without their picture: an error, or they are left out and counted."""


def list_names(folder: Path) -> list[str]:
    """List the names in a folder.

    Args:
        folder: Any path.

    Returns:
        The names, in no order; nothing where it is no folder.
    """
    try:
        return os.listdir(folder)
    except OSError:
        return []


def find_subfolder(folder: Path, names: Iterable[str]) -> Path | None:
    """Find the first of some sub-folders that exists.

    Args:
        folder: The folder to look in.
        names: Names in order of preference, in any case of letters.

    Returns:
        The sub-folder; None where there is none.
    """
    paths = {name.lower(): folder / name for name in sorted(list_names(folder))}
    for name in names:
        path = paths.get(name.lower())
        if path is not None and path.is_dir():
            return path
    return None


def without_missing(
    table: pd.DataFrame, folder: Path, missing: Missing, notes: list[str]
) -> pd.DataFrame:
    """Keep the rows whose picture exists.

    Args:
        table: A table whose `image` is relative to `folder`, with ``/`` between.
        folder: The folder of the pictures.
        missing: What becomes of rows without a picture.
        notes: A line is added where rows are left out.

    Returns:
        The rows that stay; `image` is the whole path.

    Raises:
        DataError: Pictures are missing and `missing` is ``error``, or all of them are.
    """
    images = f"{folder}{os.sep}" + table["image"].str.replace("/", os.sep, regex=False)
    gone = absent(images)
    lost = int(gone.sum())
    if lost:
        first = table["image"].iloc[int(gone.argmax())]
        if missing == "error" or gone.all():
            raise DataError(
                f"{folder}: {lost} of {len(table)} listed pictures are not there, the first is "
                f"{first}; unpack the pictures there, name their folder by `images`, or leave "
                "those rows out by `missing: drop`"
            )
        notes.append(
            f"{lost} of {len(table)} listed pictures are not there and were left out, "
            f"the first is {first}"
        )
    return table.assign(image=images)[~gone].reset_index(drop=True)


def recordings(videos: NDArray[np.object_]) -> NDArray[np.object_]:
    """Name the recording that each video shows: `_left` and `_right` are two faces of one.

    Args:
        videos: Names of videos (N,).

    Returns:
        Names of recordings (N,).

    >>> recordings(np.array(["video59_right", "video59", "left"], object)).tolist()
    ['video59', 'video59', 'left']
    """
    codes, names = pd.factorize(videos)
    bare = np.array([name.removesuffix("_left").removesuffix("_right") for name in names], object)
    return bare[codes]


def shared_recordings(table: pd.DataFrame, notes: list[str], *, strict: bool) -> pd.DataFrame:
    """Count training rows whose recording is in validation as well.

    A list of test rows has no part in it: what is trained on does not depend on whether there is
    one.

    Args:
        table: A table with `subject`, the recording, and `split`.
        notes: A line is added where there are such rows.
        strict: Leave them out.

    Returns:
        The rows that stay.
    """
    validated = table["subject"][table["split"] == "val"].unique()
    shared = (table["split"] == "train") & table["subject"].isin(validated)
    if not shared.any():
        return table
    count = table["subject"][shared].nunique()
    outcome = "were left out, as strict asks" if strict else "stay, as in the official split"
    notes.append(
        f"{shared.sum()} training rows of {count} recordings that are in validation as well "
        f"{outcome}"
    )
    return table[~shared].reset_index(drop=True) if strict else table


def attach_notes(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Attach notes to a table.

    Args:
        table: The table, which is changed.
        notes: Lines on what was left out.

    Returns:
        The same table, with the notes in ``attrs["notes"]``.
    """
    table.attrs["notes"] = notes
    return table


def pictures(folder: Path) -> list[str]:
    """List the pictures in a folder.

    Args:
        folder: The folder.

    Returns:
        Their names, sorted.

    Raises:
        DataError: There is no picture.
    """
    visible = [name for name in sorted(list_names(folder)) if not name.startswith(".")]
    names = [name for name in visible if name.lower().endswith(PICTURES)]
    if not names:
        raise DataError(
            f"{folder}: holds no pictures ({', '.join(PICTURES)}); unpack the data set there"
        )
    return names
