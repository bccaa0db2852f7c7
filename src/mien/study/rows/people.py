"""Which face is whom: one row per participant per frame, on the recording's clock."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mien.errors import StudyError
from mien.study.edits.apply import edits_of, mark_spans
from mien.study.rows.clock import frame_durations, start_of_recording
from mien.study.rows.layout import KEYS, require_columns, without_attributes
from mien.study.rows.usable import Usable, mark_usable
from mien.study.strict import StrictSettings

__all__ = ["People", "name_faces", "participant_rows"]

# What the first columns of rows are, in order; what a table has besides follows.
_FIRST = (
    *KEYS,
    "frame",
    "time_s",
    "time_from_start_s",
    "unix_time_s",
    "duration_s",
    "usable",
    "unusable_because",
)


class People(StrictSettings):
    """How to tell who a face is.

    Attributes:
        faces: ``one``: the film shows one person, and two faces in a frame are an error;
            ``largest``: the largest face of each frame is the participant; ``seats``: people sit
            side by side; ``map``: face numbers are listed; ``person``: the table has a column
            ``person``, which tells the people of a film apart (`mien analyze --people`).
        seats: Of ``seats``: the participants from left to right in the picture.
        map: Of ``map``: face number -> participant; faces that are not listed are nobody's. Of
            ``person``: number of the person -> participant, and without it, the number is the name.
    """

    faces: Literal["one", "largest", "seats", "map", "person"] = "one"
    seats: tuple[str, ...] = ()
    map: dict[int, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "People":
        if bool(self.seats) != (self.faces == "seats"):
            raise ValueError("seats and `faces: seats` belong together; give both or none")
        if self.faces == "map" and not self.map:
            raise ValueError("map: list face numbers and participants, or choose another faces")
        if self.map and self.faces not in ("map", "person"):
            raise ValueError("map: belongs to `faces: map` or `faces: person`; choose one of them")
        if len(set(self.seats)) != len(self.seats):
            raise ValueError("seats: a participant has two seats; name each once")
        return self


def participant_rows(
    table: pd.DataFrame,
    keys: Mapping[str, str],
    people: People | None = None,
    usable: Usable | None = None,
) -> pd.DataFrame:
    """Turn the table of a recording into rows of a participant, one for every frame.

    Frames that do not show the participant have a row too, of status ``no_face``, so that times,
    durations and shares are those of the recording.

    Args:
        table: A table of one film, as `mien.read_table` gives it.
        keys: ``participant``, ``condition``, ``session`` and ``recording``; those that are missing
            are empty. With `people` of ``one`` or ``largest`` the participant may have any name.
        people: How to tell who a face is; None for ``one``.
        usable: What counts as usable; None for the defaults.

    Returns:
        The rows in order of time: the keys, ``frame``, ``time_s``, ``time_from_start_s``,
        ``unix_time_s`` (NaN where the film does not state when it began), ``duration_s``,
        ``usable``, ``unusable_because``, and the columns of the table but ``source`` and
        ``excluded``, which is a reason there.

    Raises:
        StudyError: The table is not that of one film, time runs backwards, or it cannot be told who
            is who.
    """
    people = people or People()
    recording = keys.get("recording", "") or "the table"
    participant = keys.get("participant", "")
    # Copied, so that its columns lie together and adding more is fast.
    plain = without_attributes(table).copy()
    then = "give a table that mien wrote"
    require_columns(plain, ["source", "frame", "time_s", "status", "face"], recording, then)
    sources = plain["source"].unique()
    if len(sources) != 1:
        raise StudyError(
            f"{recording}: has rows of {len(sources)} inputs; give tables of one film each"
        )
    names = name_faces(plain, people, participant, recording)
    picked = plain[names == participant]
    # Of two faces of one participant in a frame, the one that is surer to be a face.
    picked = picked.sort_values("confidence", kind="stable").drop_duplicates("frame", keep="last")
    rows = _on_clock(plain, picked, recording)
    # What was excluded or coded for everybody holds also where the participant is not seen.
    faces = rows["face"].astype("float64").to_numpy(np.float64, na_value=np.nan)
    from_start = rows["time_from_start_s"].to_numpy(np.float64)
    rows = mark_spans(rows, edits_of(table.attrs), from_start, faces)
    began_s = start_of_recording(table.attrs.get("dictionary", {}))
    rows["unix_time_s"] = began_s + rows["time_from_start_s"]
    for name in KEYS:
        rows[name] = str(keys.get(name, ""))
    rows = mark_usable(rows.drop(columns="source"), usable)
    rows = rows.drop(columns="excluded", errors="ignore")
    rest = [name for name in rows if name not in _FIRST]
    rows = rows[[*_FIRST, *rest]]
    rows.attrs = table.attrs
    return rows


def _on_clock(table: pd.DataFrame, picked: pd.DataFrame, recording: str) -> pd.DataFrame:
    """The picked rows, with a row for every other frame of the table, and the times of all."""
    frames = table.drop_duplicates("frame").sort_values("frame", kind="stable")
    durations = frame_durations(frames["time_s"], recording)
    rows = picked.set_index("frame").reindex(frames["frame"]).reset_index()
    times = frames["time_s"].to_numpy()
    rows["time_s"] = times
    rows["time_from_start_s"] = times - times[0]
    rows["duration_s"] = durations
    # Frames that show others have no face of this participant either.
    absent = np.where(frames["status"].to_numpy() == "unreadable", "unreadable", "no_face")
    status = pd.Series(absent, index=rows.index, dtype=rows["status"].dtype)
    rows["status"] = rows["status"].fillna(status)
    return rows


def name_faces(
    table: pd.DataFrame, people: People, participant: str, recording: str
) -> "pd.Series[str]":
    """Say of each row of a recording's table who it is.

    Args:
        table: The table.
        people: How to tell.
        participant: The name where a film shows one.
        recording: What messages begin with.

    Returns:
        Names, in the order of the rows; empty for nobody.

    Raises:
        StudyError: It cannot be told.
    """
    with_face = table["face"].notna()
    if people.faces == "one":
        _check_alone(table[with_face], recording)
        names = np.where(with_face, participant, "")
    elif people.faces == "largest":
        names = np.where(_is_largest(table, with_face), participant, "")
    elif people.faces == "seats":
        names = _seated(table, people.seats, recording)
    elif people.faces == "map":
        names = _mapped(table, "face", people.map, recording)
    else:
        then = "read the film with `mien analyze --people`, or choose another rule for faces"
        require_columns(table, ["person"], recording, then)
        names = table["person"].astype("string").fillna("").to_numpy()
        if people.map:
            names = _mapped(table, "person", people.map, recording)
    return pd.Series(list(names), index=table.index, dtype=object)


def _check_alone(faces: pd.DataFrame, recording: str) -> None:
    doubled = faces[faces["frame"].duplicated()]
    if len(doubled):
        row = doubled.iloc[0]
        raise StudyError(
            f"{recording}: frame {row['frame']} ({row['time_s']:.2f} s) shows more than one face; "
            "choose `faces: largest`, or say who is who by seats, map or person"
        )


def _is_largest(table: pd.DataFrame, with_face: "pd.Series[bool]") -> "pd.Series[bool]":
    """Whether a row has the largest face box of its frame."""
    area = (table["box_w"] * table["box_h"]).where(with_face)
    return with_face & (area == area.groupby(table["frame"]).transform("max"))


def _seated(table: pd.DataFrame, seats: tuple[str, ...], recording: str) -> NDArray[Any]:
    """Who sits nearest to where each face is, from left to right."""
    centre = (table["box_x"] + table["box_w"] / 2).where(table["face"].notna())
    count = centre.notna().groupby(table["frame"]).transform("sum")
    complete = centre[(count == len(seats)) & centre.notna()]
    if not len(complete):
        raise StudyError(
            f"{recording}: no frame shows {len(seats)} faces, so seats {', '.join(seats)} cannot "
            "be told apart; list the face numbers with `faces: map`"
        )
    # Where each seat is: the median of the k-th face from the left, over frames that show all.
    rank = complete.groupby(table["frame"]).rank(method="first").astype(int) - 1
    positions = complete.groupby(rank).median().to_numpy()
    distance = np.abs(centre.to_numpy()[:, None] - positions[None, :])
    distance = np.nan_to_num(distance, nan=np.inf)
    nearest = distance.argmin(axis=1)
    # Of two faces nearest to one seat, the nearer one sits there.
    gap = pd.Series(distance.min(axis=1), index=table.index)
    closest = gap.groupby([table["frame"].to_numpy(), nearest]).transform("min")
    is_seated = centre.notna().to_numpy() & (gap == closest).to_numpy()
    return np.where(is_seated, np.array(seats, object)[nearest], "")


def _mapped(
    table: pd.DataFrame, column: str, listed: Mapping[int, str], recording: str
) -> NDArray[Any]:
    """Names by the numbers in a column."""
    known = set(table[column].dropna().astype(int))
    missing = sorted(set(listed) - known)
    if missing:
        raise StudyError(
            f"{recording}: has no {column} {missing[0]}, which the map names; "
            f"it has {', '.join(map(str, sorted(known))) or 'none'}"
        )
    names: NDArray[Any] = table[column].map(listed).fillna("").to_numpy()
    return names
