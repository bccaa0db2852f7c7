"""Tables of films and photos that mien wrote, as scores of the rows of an official list."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

import numpy as np
import pandas as pd

from mien.data.submissions.formats import Format
from mien.errors import DataError

__all__ = ["listed_scores"]

# Two people in one film are two videos of the list: one at the left and one at the right.
_SIDES: Final = re.compile(r"^(?P<film>.+)_(?P<side>left|right)$")


def listed_scores(
    form: Format, tables: Sequence[pd.DataFrame], listed: pd.DataFrame
) -> pd.DataFrame:
    """Find the scores of listed rows in tables of films or photos.

    A listed frame ``film/00001.jpg`` is the first frame of a film whose name without its suffix is
    ``film``; a listed film is answered by the mean over its frames; a listed picture is the photo
    of that name, with its folder where the list names one. Of several faces the largest answers;
    where the list has ``film_left`` and ``film_right`` and there is a film ``film``, the face at
    that side.

    Args:
        form: The format of the submission.
        tables: Tables as `mien.read_table` gives them, with the columns of the format's tasks.
        listed: `image`, `video`, `frame`, from `mien.data.frame_lists.read_list`.

    Returns:
        `image` and the columns of the tasks, one row for each listed frame that has a score.

    Raises:
        DataError: A column is missing, a covered face lacks some scores, an input is in two
            tables, or none of the listed rows has
            a score.
    """
    columns: list[str] = []
    for task in form.tasks:
        columns += task.columns
    parts = [_faces(form, table, columns).assign(table=i) for i, table in enumerate(tables)]
    faces = pd.concat(parts, ignore_index=True)
    counts = faces.groupby("source")["table"].nunique() if len(faces) else pd.Series(dtype=int)
    if (counts > 1).any():
        raise DataError(f"{counts.index[counts > 1][0]}: is in two tables; give one of them")
    by_name: dict[str, pd.DataFrame] = {}
    for name, rows in faces.groupby("source", sort=False):
        by_name[str(name)] = rows
    answers = []
    for video, rows in listed.drop_duplicates("image").groupby("video", sort=False):
        scores = _answers(form, str(video), rows, by_name)
        if scores is not None:
            answers.append(scores)
    if not answers:
        asked = ", ".join(map(repr, listed["image"].head(2)))
        given = ", ".join(map(repr, list(by_name)[:3])) or "no face"
        raise DataError(
            f"{form.name}: none of the {len(listed)} listed rows, such as {asked}, is in the "
            f"tables, which have {given}; give the list of these films"
        )
    return pd.concat(answers, ignore_index=True)[["image", *columns]]


def _faces(form: Format, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The scored rows of a table, with the area and the middle of each face."""
    missing = [column for column in columns if column not in table]
    if missing:
        bundle = table.attrs.get("dictionary", {}).get("bundle", {}).get("name", "its bundle")
        raise DataError(
            f"{form.name} needs the column {missing[0]}, which {bundle} does not give; "
            "read the films with a bundle that was made for this challenge"
        )
    scored = table[table[columns[0]].notna()]
    partial = scored[columns].isna().any(axis=1)
    if partial.any():
        raise DataError(
            f"{scored['source'][partial].iloc[0]}: {partial.sum()} of {len(scored)} rows lack some "
            f"scores of {form.name}, for the face is covered there; read it with --no-abstain"
        )
    faces = scored[["source", "frame", *columns]].copy()
    faces["source"] = scored["source"].astype(str)
    faces["area"] = scored["box_w"] * scored["box_h"]
    faces["middle"] = scored["box_x"] + scored["box_w"] / 2
    return faces


def _answers(
    form: Format, video: str, rows: pd.DataFrame, by_name: dict[str, pd.DataFrame]
) -> pd.DataFrame | None:
    """The scores of the listed rows of one video; None where no table has it."""
    if form.films:
        return _films(form, rows, by_name)
    if not form.frames:
        return _photos(rows, by_name)
    films = {PurePath(source).stem: source for source in by_name}
    side = _SIDES.match(video)
    if video in films:
        faces = _largest(by_name[films[video]])
    elif side and side["film"] in films:
        faces = _at_side(by_name[films[side["film"]]], side["side"])
    else:
        return _photos(rows, by_name)
    # Lists count frames from 1, tables from 0.
    numbered = rows[["image", "frame"]].assign(frame=rows["frame"] - 1)
    return numbered.merge(faces, on="frame", how="inner")


def _films(
    form: Format, rows: pd.DataFrame, by_name: dict[str, pd.DataFrame]
) -> pd.DataFrame | None:
    """The mean over the frames of each listed film, of the largest face in each."""
    by_stem = {PurePath(source).stem: source for source in by_name}
    columns: list[str] = []
    for task in form.tasks:
        columns += task.columns
    scores = []
    for image in rows["image"]:
        source = by_stem.get(PurePath(image).stem)
        if source is not None:
            mean = _largest(by_name[source])[columns].mean()
            scores.append({"image": image, **mean})
    return pd.DataFrame(scores) if scores else None


def _photos(rows: pd.DataFrame, by_name: dict[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The scores of listed pictures, which were read as photos."""
    depth = max((len(PurePath(image).parts) for image in rows["image"]), default=1)
    ends = {}
    for source in by_name:
        for parts in range(1, depth + 1):
            ends["/".join(PurePath(source).parts[-parts:])] = source
    scores = []
    for image in rows["image"]:
        if image in ends:
            scores.append(_largest(by_name[ends[image]]).assign(image=image))
    return pd.concat(scores, ignore_index=True) if scores else None


def _largest(faces: pd.DataFrame) -> pd.DataFrame:
    """The largest face of each frame."""
    return faces.loc[faces.groupby("frame")["area"].idxmax()]


def _at_side(faces: pd.DataFrame, side: str) -> pd.DataFrame:
    """The face of each frame at the left or at the right.

    A frame with one face answers for the side on which that face is: left or right of the middle
    between the two, where both are seen.
    """
    by_frame = faces.groupby("frame")["middle"]
    chosen = faces.loc[by_frame.idxmin() if side == "left" else by_frame.idxmax()]
    several = by_frame.transform("size") > 1
    together = faces[several].groupby("frame")["middle"]
    if together.ngroups:
        half = float((together.min().median() + together.max().median()) / 2)
    else:
        half = float(np.median(faces["middle"]))
    on_side = chosen["middle"] <= half if side == "left" else chosen["middle"] >= half
    kept: pd.DataFrame = chosen[several[chosen.index] | on_side]
    return kept
