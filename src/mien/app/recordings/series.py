"""Scores over time, thinned so that a page draws them smoothly and no peak is lost."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mien.app.errors import NotFoundError
from mien.app.recordings.models import Boxes, FaceBox, Segment, Series, TrackSeries
from mien.app.recordings.opened import Opened
from mien.records import STATUSES
from mien.study.rows.people import People, participant_rows
from mien.tasks import Floats

__all__ = ["STATUS_NAMES", "boxes_of", "segments_of_tracks", "series_of", "thinned"]

STATUS_NAMES: Final = tuple(status.value for status in STATUSES)
_NO_FACE: Final = STATUS_NAMES.index("no_face")
# Of the statuses in a stretch of time, the one that is shown.
_SEVERITY: Final = np.array(
    [{"ok": 0, "gap": 1, "doubtful": 2, "no_face": 3, "unreadable": 4}[n] for n in STATUS_NAMES]
)
_POINTS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
# Tracks that segments are looked for in: those seen longest. A face that is lost gets a new number.
_MOST_TRACKS: Final = 24
_DIGITS: Final = 4
# Microseconds, so that a time that comes back with an edit is that of the same frame.
_TIME_DIGITS: Final = 6


def series_of(
    opened: Opened,
    columns: Sequence[str],
    tracks: Sequence[int] | None,
    points: int,
    *,
    start: float | None = None,
    end: float | None = None,
) -> Series:
    """Scores of tracks over time.

    Args:
        opened: The recording.
        columns: The columns.
        tracks: The tracks; None for all.
        points: About how many values a column has per track; if there are no more frames, all.
        start: First second; None for the film's first.
        end: Last second; None for the film's last.

    Returns:
        The scores. Frames between a track's first and last one that do not show it are missing
        values of status ``no_face``.

    Raises:
        NotFoundError: There is no such column or track.
    """
    numeric = {column.name for column in opened.recording.columns if column.dtype != "str"}
    for column in columns:
        if column not in numeric:
            raise NotFoundError(
                f"there is no column of numbers {column[:40]!r}; see columns of the recording"
            )
    chosen = list(opened.rows_by_track) if tracks is None else list(dict.fromkeys(tracks))
    values = {column: opened.values(column) for column in columns}
    codes = _status_codes(opened)
    series = []
    for track in chosen:
        if track not in opened.rows_by_track:
            raise NotFoundError(f"there is no track {track}; see tracks of the recording")
        rows = _inside(opened, opened.rows_by_track[track], start, end)
        if len(rows):
            series.append(_one_track(opened, track, rows, values, codes=codes, points=points))
    return Series(tracks=series, status_names=list(STATUS_NAMES))


def _inside(opened: Opened, rows: Any, start: float | None, end: float | None) -> Any:
    times = opened.from_start[rows]
    first = 0 if start is None else int(np.searchsorted(times, start, "left"))
    last = len(rows) if end is None else int(np.searchsorted(times, end, "right"))
    return rows[first:last]


def _status_codes(opened: Opened) -> Any:
    statuses = opened.table["status"].to_numpy(object)
    codes = np.full(len(statuses), _NO_FACE)
    for code, name in enumerate(STATUS_NAMES):
        codes[statuses == name] = code
    return codes


def _one_track(
    opened: Opened,
    track: int,
    rows: Any,
    values: dict[str, Floats],
    *,
    codes: Any,
    points: int,
) -> TrackSeries:
    # All frames from the first to the last, so that a line breaks where nobody is seen.
    times = opened.frame_times
    places = np.searchsorted(times, opened.from_start[rows])
    first, last = int(places[0]), int(places[-1]) + 1
    times = times[first:last]
    status = np.full(last - first, _NO_FACE)
    status[places - first] = codes[rows]
    filled = np.full((len(values), last - first), np.nan)
    for number, column in enumerate(values.values()):
        filled[number, places - first] = column[rows]
    times, filled, status = thinned(times, filled, status, points)
    lists = [_listed(column) for column in filled]
    return TrackSeries(
        track=track,
        name=opened.labels[track],
        time=np.round(times, _TIME_DIGITS).tolist(),
        columns=dict(zip(values, lists, strict=True)),
        status=status.tolist(),
    )


def thinned(times: Floats, values: Floats, status: Any, points: int) -> tuple[Floats, Floats, Any]:
    """Leave the least and the greatest value of each stretch of time.

    Args:
        times: Times (N,).
        values: Scores by column (K, N), NaN where missing.
        status: Numbers of statuses (N,).
        points: How many times to leave, about.

    Returns:
        The same with two times per stretch, at which each column has its least and greatest value
        in the order in which they come; as they were if there are no more than `points`.
    """
    count = len(times)
    if count <= points:
        return times, values, status
    stretches = max(points // 2, 1)
    width = -(-count // stretches)
    stretches = -(-count // width)
    padding = stretches * width - count
    blocks = np.pad(values, ((0, 0), (0, padding)), constant_values=np.nan)
    blocks = blocks.reshape(len(values), stretches, width)
    is_missing = np.isnan(blocks)
    low_at = np.where(is_missing, np.inf, blocks).argmin(axis=2)
    high_at = np.where(is_missing, -np.inf, blocks).argmax(axis=2)
    first_at = np.minimum(low_at, high_at)
    second_at = np.maximum(low_at, high_at)
    pair = np.stack([first_at, second_at], axis=-1)
    kept = np.take_along_axis(blocks, pair, axis=2).reshape(len(values), 2 * stretches)
    begins = np.arange(stretches) * width
    middles = np.minimum(begins + width // 2, count - 1)
    worst = np.pad(status, (0, padding), mode="edge").reshape(stretches, width)
    worst_at = _SEVERITY[worst].argmax(axis=1)
    shown = np.take_along_axis(worst, worst_at[:, None], axis=1)[:, 0]
    at = np.stack([begins, middles], axis=1).reshape(-1)
    return times[at], kept, np.repeat(shown, 2)


def _listed(values: Floats) -> list[float | None]:
    """Numbers for JSON, None where missing."""
    numbers: list[float | None] = np.round(values, _DIGITS).tolist()
    for place in np.flatnonzero(np.isnan(values)):
        numbers[place] = None
    return numbers


def boxes_of(opened: Opened, start: float | None, end: float | None) -> Boxes:
    """The faces of each frame.

    Args:
        opened: The recording.
        start: First second, of photos the first photo's number; None for the first.
        end: Last second, of photos the last photo's number; None for the last.

    Returns:
        The faces, in frames without any an empty list.
    """
    at = opened.from_start
    if not opened.is_film:
        numbers = {source: number for number, source in enumerate(opened.recording.sources)}
        at = np.asarray(opened.table["source"].map(numbers), np.float64)
    low = -np.inf if start is None else start
    high = np.inf if end is None else end
    rows = np.flatnonzero((at >= low) & (at <= high))
    shown_at, places = np.unique(at[rows], return_inverse=True)
    faces: list[list[FaceBox]] = [[] for _ in shown_at]
    table = opened.table.iloc[rows]
    for place, row in zip(places, table.to_dict("records"), strict=True):
        face = _face(opened, row)
        if face is not None:
            faces[place].append(face)
    return Boxes(times=np.round(shown_at, _TIME_DIGITS).tolist(), faces=faces)


def _face(opened: Opened, row: dict[Any, Any]) -> FaceBox | None:
    box = [_number(row[f"box_{side}"], 2) for side in "xywh"]
    if None in box or _number(row["face"]) is None:
        return None
    track = int(row["face"])
    expression = row.get("expression")
    label = expression if isinstance(expression, str) else None
    names = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]
    flat = [_number(row.get(name), 2) for name in names]
    points = None
    if None not in flat:
        points = [flat[place : place + 2] for place in range(0, len(flat), 2)]
    name = opened.labels[track] if opened.is_film else f"face {track}"
    is_excluded = row.get("excluded") == 1
    roll = _number(row.get("pose_roll"), 2)
    return FaceBox.model_construct(
        track=track,
        name=name,
        box=box,
        roll=roll,
        points=points,
        expression=label,
        probability=_number(row.get(f"expr_{label}")),
        status=str(row["status"]),
        excluded=is_excluded,
    )


def _number(value: Any, digits: int = _DIGITS) -> float | None:
    """A number for JSON; None where missing."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return round(number, digits) if np.isfinite(number) else None


def segments_of_tracks(opened: Opened) -> list[Segment]:
    """The segments of the tracks that are seen longest.

    Args:
        opened: The recording.

    Returns:
        The segments by track and onset; none of photos.

    Raises:
        StudyError: Times of the table run backwards.
    """
    from mien.study.episodes.segments import find_segments

    if not opened.is_film:
        return []
    by_length = sorted(opened.rows_by_track, key=lambda track: -len(opened.rows_by_track[track]))
    segments = []
    for track in sorted(by_length[:_MOST_TRACKS]):
        keys = {"participant": str(track), "recording": opened.path.stem}
        people = People(faces="map", map={track: str(track)})
        rows = participant_rows(opened.table, keys, people)
        if not any(str(name).startswith(("expr_", "AU")) for name in rows):
            # Of valence and arousal alone there are none, but codes.
            rows = rows.assign(AU45=np.nan)
        for entry in find_segments(rows).to_dict("records"):
            segments.append(_segment(track, entry))
    return segments


def _segment(track: int, entry: dict[Any, Any]) -> Segment:
    onset = entry["onset_from_start_s"]
    shift = onset - entry["onset_s"]
    peak = _number(entry["peak"])
    label = str(entry["name"]).removeprefix("expr_").removeprefix("code_")
    return Segment(
        track=track,
        kind=entry["kind"],
        label=label,
        onset=round(onset, _TIME_DIGITS),
        apex=round(entry["apex_s"] + shift, _TIME_DIGITS),
        offset=round(entry["offset_s"] + shift, _TIME_DIGITS),
        peak=peak,
    )
