"""Which pictures of a data set are there, by listing each folder once, and which videos show one recording."""

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
    "without_judged",
    "without_missing",
]

Missing = Literal["error", "drop"]
"""What becomes of rows whose picture is not there: all are refused, or they are left out and counted."""


def list_names(folder: Path) -> list[str]:
    """The names in a folder, without order; nothing where it is no folder."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def find_subfolder(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these sub-folders that exists, in any case of letters."""
    wanted = [name.lower() for name in names]
    found = {
        name.lower(): folder / name for name in sorted(list_names(folder)) if name.lower() in wanted
    }
    return next((found[name] for name in wanted if name in found and found[name].is_dir()), None)


def without_missing(
    table: pd.DataFrame, folder: Path, missing: Missing, notes: list[str]
) -> pd.DataFrame:
    """The rows whose `image`, relative to `folder` with ``/`` between, is there; `image` becomes the whole path.

    Raises DataError where pictures lack and `missing` is ``error``, or where all of them do.
    """
    images = f"{folder}{os.sep}" + table["image"].str.replace("/", os.sep, regex=False)
    gone = absent(images)
    lost = int(gone.sum())
    if lost:
        first = table["image"].iloc[int(gone.argmax())]
        if missing == "error" or gone.all():
            raise DataError(
                f"{folder}: {lost} of {len(table)} listed pictures are not there, the first is {first}; unpack the pictures there, "
                "name their folder by `images`, or leave those rows out by `missing: drop`"
            )
        notes.append(
            f"{lost} of {len(table)} listed pictures are not there and were left out, the first is {first}"
        )
    return table.assign(image=images)[~gone].reset_index(drop=True)


def recordings(videos: NDArray[np.object_]) -> NDArray[np.object_]:
    """The recording that each video (N,) shows: `_left` and `_right` are two faces of one.

    >>> recordings(np.array(["video59_right", "video59", "left"], object)).tolist()
    ['video59', 'video59', 'left']
    """
    codes, names = pd.factorize(videos)
    bare = np.array([name.removesuffix("_left").removesuffix("_right") for name in names], object)
    return bare[codes]


def without_judged(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table without training rows whose recording (`subject`) has rows in another split as well."""
    training = table["split"] == "train"
    leaks = training & table["subject"].isin(table["subject"][~training].unique())
    if not leaks.any():
        return table
    count = table["subject"][leaks].nunique()
    notes.append(
        f"{leaks.sum()} training rows of {count} recordings that are judged as well were left out"
    )
    return table[~leaks].reset_index(drop=True)


def attach_notes(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with `notes` in ``attrs["notes"]``."""
    table.attrs["notes"] = notes
    return table


def pictures(folder: Path) -> list[str]:
    """Names of the pictures in a folder, in order; raises DataError where there is none."""
    found = sorted(
        name
        for name in list_names(folder)
        if name.lower().endswith(PICTURES) and not name.startswith(".")
    )
    if not found:
        raise DataError(
            f"{folder}: holds no pictures ({', '.join(PICTURES)}); unpack the data set there"
        )
    return found
