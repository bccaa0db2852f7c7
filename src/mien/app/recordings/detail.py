"""What a page needs to show a recording."""

import re
from typing import Final

import numpy as np

from mien.app.recordings.films import film_offset, is_playable
from mien.app.recordings.models import ColumnFacts, Detail, EditState, Group, Item, TrackFacts
from mien.app.recordings.opened import Opened
from mien.exports.convert import TARGETS
from mien.outputs.columns import Column
from mien.report.people import expressions_of

__all__ = ["column_facts", "detail_of", "track_facts"]

_QUALITY: Final = ("confidence", "quality", "face_size", "sharpness", "light", "occlusion")
# Numbers that say where a face is, and no measures of it.
_PLACES: Final = re.compile(
    r"time_s|box_[xywh]|(left|right)_(eye|mouth)_[xy]|nose_[xy]|landmark_\d+_[xy]"
)
_ACTION: Final = re.compile(r"\((?P<action>[^)]+)\)")


def detail_of(opened: Opened, item: Item) -> Detail:
    """Describe a recording.

    Args:
        opened: The recording.
        item: What the list says of it.

    Returns:
        The description.
    """
    columns = []
    for column in opened.recording.columns:
        if column.dtype.startswith("float") and not _PLACES.fullmatch(column.name):
            columns.append(column_facts(column))
    edits = EditState(problem=opened.problem)
    if opened.history is not None:
        edits = EditState.of(opened.history)
    fps = round(1 / opened.step_s, 3) if opened.is_film else 0.0
    tracks = track_facts(opened) if opened.is_film else []
    return Detail(
        **item.model_dump(),
        fps=fps,
        playable=is_playable(opened),
        film_offset=film_offset(opened),
        columns=columns,
        tracks=tracks,
        edits=edits,
        expressions=expressions_of(opened.table),
        formats=list(TARGETS),
    )


def column_facts(column: Column) -> ColumnFacts:
    """Describe a column for people.

    Args:
        column: The column.

    Returns:
        Its title and group besides what the dictionary says.
    """
    return ColumnFacts(
        name=column.name,
        title=_title(column),
        unit=column.unit,
        low=column.low,
        high=column.high,
        description=column.meaning,
        group=_group(column.name),
    )


def _title(column: Column) -> str:
    name = re.sub(r"_(raw|corrected)$", "", column.name)
    suffix = column.name.removeprefix(name).replace("_", " ")
    action = _ACTION.search(column.meaning) if name.startswith("AU") else None
    title = f"{name} {action['action']}" if action else name
    for prefix in ("expr_", "ce_"):
        title = title.removeprefix(prefix)
    return f"{title.replace('_', ' ')}{f' ({suffix.strip()})' if suffix else ''}"


def _group(name: str) -> Group:
    name = re.sub(r"_(raw|corrected)$", "", name)
    if name.startswith("expr_"):
        return "expression"
    if name in ("valence", "arousal"):
        return "affect"
    if re.fullmatch(r"AU\d\d", name):
        return "action unit"
    if name.startswith(("pose_", "gaze_")):
        return "pose"
    if name.startswith(_QUALITY):
        return "quality"
    return "other"


def track_facts(opened: Opened) -> list[TrackFacts]:
    """Describe the tracks of a film.

    Args:
        opened: The recording.

    Returns:
        The tracks by number.
    """
    statuses = opened.table["status"].to_numpy(object)
    facts = []
    for track, rows in opened.rows_by_track.items():
        times = opened.from_start[rows]
        seconds = len(np.unique(times)) * opened.step_s
        doubtful = float((statuses[rows] == "doubtful").mean())
        numbers = {"first": float(times[0]), "last": float(times[-1]), "seconds": seconds}
        rounded = {name: round(number, 6) for name, number in numbers.items()}
        name = opened.labels[track]
        facts.append(TrackFacts(track=track, name=name, doubtful=round(doubtful, 4), **rounded))
    return facts
