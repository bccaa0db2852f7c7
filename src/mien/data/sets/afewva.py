"""AFEW-VA (Kossaifi, Tzimiropoulos, Todorovic & Pantic 2017): 600 clips of films, rated frame by frame, with 68 landmarks.

`root` holds ``01/`` … ``12/``, each with clips ``<clip>/`` of ``<clip>.json`` and ``00000.png`` …; clips may lie in `root` itself as well.
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
_MOST: Final = 10.0  # ratings go from -10 to 10
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
    bare: list[str] = field(default_factory=list)


def load_afew_va(root: Path, missing: Missing = "error") -> pd.DataFrame:
    """The label table of AFEW-VA: ``va`` in -1..1 (ratings over 10), in no split; points from the landmarks.

    video: ``<folder>_<clip>``. subject: the actor, where the file names one. A frame without 68 landmarks has no points. `attrs["notes"]`
    counts clips without a file of ratings, which are left out, and those frames. Raises DataError for a root without a clip, files
    that are damaged, ratings outside -10..10, and pictures that are not there.
    """
    root = Path(root)
    found, folders = _Rows(), _clips(root)
    for name, folder in folders.items():
        path = folder / f"{folder.name}.json"
        if path.is_file():
            _read(path, name, found, folder.relative_to(root).as_posix())
        else:
            found.bare.append(name)
    if not found.images:
        raise DataError(
            f"{root}: no clip has frames with ratings, such as 01/001/001.json; give the folder that holds 01 to 12"
        )
    notes, bare = list[str](), found.bare
    notes += (
        [
            f"{len(bare)} of {len(folders)} clips have no .json and were left out, the first is {bare[0]}"
        ]
        if bare
        else []
    )
    unmarked = sum(each is None for each in found.points)
    notes += (
        [
            f"{unmarked} of {len(found.points)} frames have no {_LANDMARKS} landmarks, so they have no points"
        ]
        if unmarked
        else []
    )
    about = {
        "video": found.videos,
        "frame": found.frames,
        "subject": found.actors,
        "points": found.points,
    }
    ratings = np.array(found.ratings, np.float32) / np.float32(_MOST)
    return attach_notes(
        without_missing(table_of(found.images, about, {_VA: ratings}), root, missing, notes), notes
    )


def _clips(root: Path) -> dict[str, Path]:
    """Folders of clips by video name, in order."""
    found: dict[str, Path] = {}
    for top in _folders(root):
        if (top / f"{top.name}.json").is_file():
            found[top.name] = top
        else:
            found |= {f"{top.name}_{clip.name}": clip for clip in _folders(top)}
    return found


def _folders(folder: Path) -> list[Path]:
    return [
        folder / name
        for name in sorted(list_names(folder))
        if not name.startswith(".") and (folder / name).is_dir()
    ]


def _read(path: Path, video: str, found: _Rows, folder: str) -> None:
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
        found.images.append(f"{folder}/{name}.png")
        found.videos.append(video)
        found.frames.append(int(name))
        found.actors.append(actor)
        found.points.append(_points(frame.get("landmarks")))
        found.ratings.append(
            (_rating(path, name, frame, "valence"), _rating(path, name, frame, "arousal"))
        )


def _rating(path: Path, name: str, frame: Mapping[str, Any], axis: str) -> float:
    value = frame.get(axis)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
        raise DataError(
            f"{path}: the {axis} of frame {name} is {value!r}, no number in -10..10; take the original file"
        )
    return float(value)


def _points(landmarks: object) -> Labels | None:
    """Five points (10,) of 68 landmarks; None where there are none, fewer, or some that are no numbers."""
    try:
        places = np.array(landmarks, np.float32)
    except (TypeError, ValueError):
        return None
    if places.shape != (_LANDMARKS, 2) or not np.isfinite(places).all():
        return None
    return np.asarray(five_of_68(places[None])[0])


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
