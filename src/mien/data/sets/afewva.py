"""AFEW-VA (Kossaifi et al. 2017): 600 clips of films, rated frame by frame, with 68 landmarks.

`root` holds ``01/`` … ``12/``, each with clips ``<clip>/`` of ``<clip>.json`` and ``00000.png`` …;
clips may lie in `root` itself as well.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pandas as pd
from pydantic import field_validator
from typing_extensions import override

from mien.data.annotation_codes import Labels
from mien.data.label_table import Split, table_of
from mien.data.presence import Missing, attach_notes, list_names, without_missing
from mien.data.sets.affectnet import five_of_68
from mien.data.spec import BY_AGREEMENT, Cut, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Task

__all__ = ["AfewVa", "load_afew_va"]

_VA: Final = TASKS["va"]
# Ratings go from -10 to 10.
_MOST: Final = 10.0
_LANDMARKS: Final = 68


@dataclass
class _Rows:
    """Rows of all clips, and what was left out on the way."""

    images: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    actors: list[str | None] = field(default_factory=list)
    points: list[Any] = field(default_factory=list)
    ratings: list[tuple[float, float]] = field(default_factory=list)
    unrated: list[str] = field(default_factory=list)

    def notes(self, clips: int) -> list[str]:
        """Lines on the clips and points that lack, of so many clips."""
        notes = []
        if self.unrated:
            notes.append(
                f"{len(self.unrated)} of {clips} clips have no .json and were left out, "
                f"the first is {self.unrated[0]}"
            )
        without_points = sum(points is None for points in self.points)
        if without_points:
            notes.append(
                f"{without_points} of {len(self.points)} frames have no {_LANDMARKS} landmarks, "
                "so they have no points"
            )
        return notes


def load_afew_va(root: Path, missing: Missing = "error") -> pd.DataFrame:
    """Load the label table of AFEW-VA.

    Args:
        root: The folder that holds the folders 01 to 12, or clips.
        missing: What becomes of frames whose picture is not there.

    Returns:
        ``va`` in -1..1 (the ratings over 10), in no split, with five points from the landmarks; a
        frame without 68 landmarks has none. `video` is ``<folder>_<clip>``, `subject` the actor,
        where the file names one. ``attrs["notes"]`` counts clips without a file of ratings, which
        are left out, and frames without points.

    Raises:
        DataError: `root` holds no clip, files are damaged, ratings lie outside -10..10, or
            pictures are not there.
    """
    root = Path(root)
    rows = _Rows()
    clips = _clips(root)
    for name, folder in clips.items():
        path = folder / f"{folder.name}.json"
        if path.is_file():
            _read(path, name, rows, folder.relative_to(root).as_posix())
        else:
            rows.unrated.append(name)
    if not rows.images:
        raise DataError(
            f"{root}: no clip has frames with ratings, such as 01/001/001.json; "
            "give the folder that holds 01 to 12"
        )
    notes = rows.notes(len(clips))
    about = {
        "video": rows.videos,
        "frame": rows.frames,
        "subject": rows.actors,
        "points": rows.points,
    }
    ratings = np.array(rows.ratings, np.float32) / np.float32(_MOST)
    table = table_of(rows.images, about, {_VA: ratings})
    return attach_notes(without_missing(table, root, missing, notes), notes)


def _clips(root: Path) -> dict[str, Path]:
    """Folders of clips by video name, in order."""
    clips: dict[str, Path] = {}
    for top in _folders(root):
        # A folder with a file of its own name is a clip that lies in the root itself.
        if (top / f"{top.name}.json").is_file():
            clips[top.name] = top
            continue
        for clip in _folders(top):
            clips[f"{top.name}_{clip.name}"] = clip
    return clips


def _folders(folder: Path) -> list[Path]:
    paths = [folder / name for name in sorted(list_names(folder)) if not name.startswith(".")]
    return [path for path in paths if path.is_dir()]


def _read(path: Path, video: str, rows: _Rows, folder: str) -> None:
    """Add the frames of a clip."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); take the original file") from error
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, dict):
        raise DataError(f"{path}: holds no `frames`; take the original file")
    actor = str(content.get("actor") or "").strip() or None
    for name in sorted(frames):
        if not (name.isascii() and name.isdigit()):
            raise DataError(f"{path}: frame {name!r} is no number; take the original file")
        frame = frames[name] if isinstance(frames[name], dict) else {}
        valence = _rating(path, name, frame, "valence")
        arousal = _rating(path, name, frame, "arousal")
        rows.images.append(f"{folder}/{name}.png")
        rows.videos.append(video)
        rows.frames.append(int(name))
        rows.actors.append(actor)
        rows.points.append(_points(frame.get("landmarks")))
        rows.ratings.append((valence, arousal))


def _rating(path: Path, name: str, frame: Mapping[str, Any], axis: str) -> float:
    value = frame.get(axis)
    # To Python, True is a number. Written so that NaN, which no comparison holds for, is refused.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
        raise DataError(
            f"{path}: the {axis} of frame {name} is {value!r}, no number in -10..10; "
            "take the original file"
        )
    return float(value)


def _points(landmarks: object) -> Labels | None:
    """Five points (10,) of 68 landmarks; None where there are none, fewer, or no numbers."""
    try:
        positions = np.array(landmarks, np.float32)
    except (TypeError, ValueError):
        return None
    if positions.shape != (_LANDMARKS, 2) or not np.isfinite(positions).all():
        return None
    return np.asarray(five_of_68(positions[None])[0])


class AfewVa(DataSet):
    """AFEW-VA; has ``va``. See `mien.data.sets.afewva`."""

    info: ClassVar = DataSetInfo(
        name="AFEW-VA",
        title="AFEW-VA (clips of films)",
        terms=BY_AGREEMENT,
        supervision={"va": "annotators of AFEW-VA, frame by frame"},
        tasks=("va",),
        source="AFEW-VA from its authors' page: the folders 01 to 12",
        paper="Kossaifi, Tzimiropoulos, Todorovic & Pantic 2017, AFEW-VA database for valence and "
        "arousal estimation in-the-wild",
    )

    set: Literal["afew-va"]
    root: Place
    """Holds the folders 01 to 12."""
    missing: Missing = "error"
    """What becomes of frames whose picture is not there: ``error`` or ``drop``."""
    split: Split | Cut = "train"
    """The split that all frames are in, or a cut by video or subject."""

    @field_validator("split")
    @classmethod
    def _whole_videos(cls, value: Split | Cut) -> Split | Cut:
        if isinstance(value, Cut) and value.by is None:
            raise ValueError(
                "give `by: video` or `by: subject`, so that the frames of a video are in one split"
            )
        return value

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_afew_va(self.root, self.missing), (_VA,)
