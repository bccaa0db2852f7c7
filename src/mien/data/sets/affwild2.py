"""Aff-Wild2 with a label for every frame, as in ABAW2, 3, 5, 6 and 8.

Its tracks are valence and arousal, expressions, and action units. A track's folder (``VA_Set``,
``EXPR_Set``, ``AU_Set`` or ``VA_Estimation_Challenge``, ``EXPR_Classification_Challenge``,
``EXPR_Recognition_Challenge``, ``AU_Detection_Challenge``) lies in `root` or up to three levels
deeper and holds ``Train_Set`` and ``Validation_Set`` (or ``Training_Set``), in any case of letters,
with a file ``<video>.txt`` for each video. Line k below its header is frame k,
``<video>/<00001>.jpg`` counted from 1.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray
from pydantic import AliasChoices, Field, field_validator
from typing_extensions import override

from mien.data.annotation_codes import (
    AU_NAMES,
    EXPR_NAMES,
    Labels,
    coordinates,
    expressions,
    lines,
    units,
)
from mien.data.frame_lists import read_text
from mien.data.images import PICTURES
from mien.data.label_table import Split, table_of
from mien.data.presence import attach_notes, find_subfolder, list_names, recordings
from mien.data.spec import BY_AGREEMENT, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Task

__all__ = ["AffWild2", "Track", "dense_tasks", "load_aff_wild2"]

Track = Literal["va", "expr", "au"]

_FOLDERS: Final[dict[Track, tuple[str, ...]]] = {
    "va": ("va_set", "va_estimation_challenge"),
    "expr": ("expr_set", "expr_classification_challenge", "expr_recognition_challenge"),
    "au": ("au_set", "au_detection_challenge"),
}
_SPLITS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("Train_Set", "Training_Set"),
    "val": ("Validation_Set",),
}
# Levels of folders below the root in which a track's folder is looked for.
_DEPTH: Final = 3


@dataclass(frozen=True)
class _Block:
    """The annotated frames of one video that have a picture."""

    video: str
    split: Split
    frames: NDArray[np.int64]  # (M,) from 1
    labels: dict[Track, Labels]  # (M, K)


@dataclass
class _Counts:
    """What was left out, and where."""

    lines: int = 0
    lost: int = 0
    bare: int = 0  # videos without a folder of pictures
    more: int = 0  # videos with one picture more than lines
    fewer: int = 0  # videos whose last line has no picture while the one before has
    uneven: int = 0  # videos whose tracks have different counts of lines

    def notes(self) -> list[str]:
        """A line for each kind that occurred."""
        notes = []
        if self.lost:
            notes.append(
                f"{self.lost} of {self.lines} annotated frames have no picture and were left out"
            )
        if self.bare:
            notes.append(f"{self.bare} videos have annotations but no picture at all")
        if self.more:
            notes.append(
                f"{self.more} videos have one picture more than annotation lines; it was left out"
            )
        if self.fewer:
            notes.append(
                f"{self.fewer} videos have one annotation line more than pictures; it was left out"
            )
        if self.uneven:
            notes.append(
                f"{self.uneven} videos have more annotation lines in one track than in another"
            )
        return notes


def dense_tasks(tracks: Sequence[Track], classes: Literal[7, 8] = 8) -> tuple[Task, ...]:
    """Name the tasks of tracks.

    Args:
        tracks: The tracks.
        classes: Of the expression track: 7 in ABAW2, 8 since.

    Returns:
        A task for each track.
    """
    tasks = {"va": TASKS["va"], "expr": TASKS[f"expr.abaw{classes}"], "au": TASKS["au.abaw12"]}
    return tuple(tasks[track] for track in tracks)


def load_aff_wild2(
    root: Path,
    tracks: Sequence[Track],
    images: str = "cropped_aligned",
    classes: Literal[7, 8] = 8,
    *,
    strict: bool = False,
) -> pd.DataFrame:
    """Load the label table of dense Aff-Wild2.

    Args:
        root: The folder that holds the folders of the tracks, or one that does.
        tracks: The tracks; several are joined on video and frame.
        images: Folder of the pictures, within `root` or an absolute path.
        classes: Of the expression track: 7 in ABAW2, 8 since.
        strict: Leave out training videos that show another face of a film in validation.

    Returns:
        Labels of `dense_tasks`, in the splits train and val. `subject` is the recording: the video
        without ``_left`` or ``_right``. Frames without a picture are left out; frames without a
        label stay, as neighbours in time. Splits are the official ones, in which a few films
        are in both with another face each. A video that one track trains and another validates on
        is in validation alone, without the labels of the former. A count of pictures and lines
        that is off by one is tolerated. ``attrs["notes"]`` counts all that.

    Raises:
        DataError: Folders or files are missing, damaged or of another year, or there are pictures
            beyond the annotation.
    """
    root = Path(root)
    files = {track: _annotations(_track_folder(root, track, images), track) for track in tracks}
    notes = _shared_recordings(files, strict=strict)
    splits: dict[str, Split] = {}
    for by_video in files.values():
        for video, (split, _) in by_video.items():
            splits[video] = split
    counts = _Counts()
    blocks: list[_Block] = []
    for video in sorted(splits, key=lambda name: (splits[name], name)):
        parts: dict[Track, Labels] = {}
        for track, by_video in files.items():
            if video in by_video:
                parts[track] = _labels(by_video[video][1], track, classes)
        lengths = {len(values) for values in parts.values()}
        counts.uneven += len(lengths) > 1
        frames = _frames_with_picture(root / images / video, max(lengths), counts)
        labels = {track: _take_frames(values, frames) for track, values in parts.items()}
        blocks.append(_Block(video, splits[video], frames, labels))
    if counts.lost == counts.lines:
        raise DataError(
            f"{root / images}: none of {counts.lines} annotated frames has its picture "
            "<video>/<00001>.jpg there; name their folder by `images`"
        )
    table = _concatenate(blocks, dense_tasks(tracks, classes), tracks, root / images)
    return attach_notes(table, notes + counts.notes())


def _track_folder(root: Path, track: Track, images: str) -> Path:
    """The one folder of a track, at the level nearest to the root."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds the annotations")
    level = [root]
    for _ in range(_DEPTH + 1):
        candidates = []
        for folder in sorted(level):
            if folder.name.lower() in _FOLDERS[track] and _split_folders(folder):
                candidates.append(folder)
        if len(candidates) > 1:
            raise DataError(
                f"{root}: the track {track} lies in {candidates[0]} and in {candidates[1]}; "
                "give the folder of one year as root"
            )
        if candidates:
            return candidates[0]
        below: list[Path] = []
        for folder in level:
            # The folder of the pictures holds a folder for each video, and no annotations.
            if folder != root / images:
                below += _subfolders(folder)
        level = below
    raise DataError(
        f"{root}: no folder {' or '.join(_FOLDERS[track])} with Train_Set or Validation_Set in it, "
        f"{_DEPTH} levels deep; give the folder that holds the annotations. Annotations in one "
        "file are the multi-task challenge's, whose set is s-aff-wild2"
    )


def _subfolders(folder: Path) -> list[Path]:
    """Folders in a folder that holds no pictures."""
    folders = []
    with os.scandir(folder) as listing:
        for entry in listing:
            # Folders of pictures are long, so that their listing stops at the first.
            if entry.name.lower().endswith(PICTURES):
                return []
            if entry.is_dir() and not entry.name.startswith("."):
                folders.append(Path(entry.path))
    return folders


def _split_folders(folder: Path) -> dict[Split, Path]:
    folders: dict[Split, Path] = {}
    for split, names in _SPLITS.items():
        path = find_subfolder(folder, names)
        if path is not None:
            folders[split] = path
    return folders


def _annotations(folder: Path, track: Track) -> dict[str, tuple[Split, Path]]:
    """Split and file of each video of a track."""
    files: dict[str, tuple[Split, Path]] = {}
    for split, path in _split_folders(folder).items():
        visible = [name for name in sorted(list_names(path)) if not name.startswith(".")]
        names = [name for name in visible if name.endswith(".txt")]
        if not names:
            raise DataError(
                f"{path}: holds no annotation file <video>.txt; unpack the {track} annotations "
                "there"
            )
        for name in names:
            video = name.removesuffix(".txt")
            if video in files:
                raise DataError(
                    f"{path / name}: the video lies in {files[video][1].parent} as well; "
                    "keep one of the files"
                )
            files[video] = (split, path / name)
    return files


def _recordings_in(files: dict[str, tuple[Split, Path]], split: Split) -> dict[str, str]:
    """The recording of each video of a split."""
    videos = [video for video, (its_split, _) in files.items() if its_split == split]
    if not videos:
        return {}
    return dict(zip(videos, recordings(np.array(videos, object)), strict=True))


def _shared_recordings(
    files: dict[Track, dict[str, tuple[Split, Path]]], *, strict: bool
) -> list[str]:
    """Count the training videos that are in validation as well, and drop those that must go.

    A video that another track validates on loses its training annotations, since a frame is in one
    split. Another face of the same film stays where the official split has it, unless `strict`.

    Returns a note for each track and reason.
    """
    videos: set[str] = set()
    films: set[str] = set()
    for by_video in files.values():
        validated = _recordings_in(by_video, "val")
        videos.update(validated)
        films.update(validated.values())
    outcome = "were left out, as strict asks" if strict else "stay, as in the official split"
    notes = []
    for track, by_video in files.items():
        trained = _recordings_in(by_video, "train")
        same = [video for video in trained if video in videos]
        others = [video for video in trained if video not in videos]
        beside = [video for video in others if trained[video] in films]
        if same:
            notes.append(
                f"{track}: {len(same)} training videos ({_line_count(by_video, same)} lines) were "
                "left out: another track validates on them"
            )
        if beside:
            notes.append(
                f"{track}: {len(beside)} training videos ({_line_count(by_video, beside)} lines) "
                f"show another face of a film that is in validation; they {outcome}"
            )
        for video in same + beside if strict else same:
            del by_video[video]
    return notes


def _line_count(by_video: dict[str, tuple[Split, Path]], videos: Sequence[str]) -> int:
    """Annotation lines of some videos, without headers."""
    count = 0
    for video in videos:
        _, path = by_video[video]
        count += len(read_text(path).rstrip().splitlines()) - 1
    return count


def _header(track: Track, classes: int) -> tuple[str, ...]:
    return {"va": ("valence", "arousal"), "expr": EXPR_NAMES[:classes], "au": AU_NAMES}[track]


def _labels(path: Path, track: Track, classes: Literal[7, 8]) -> Labels:
    """Labels (n, K) of one annotation file."""
    header, _, body = read_text(path).rstrip().partition("\n")
    names = tuple(name.strip().lower() for name in header.split(","))
    expected = _header(track, classes)
    if names != expected:
        step = "take the original file"
        other = 15 - classes  # 8 for 7, and 7 for 8
        if names == _header(track, other):
            step = f"this is data of another year: set `classes: {other}`"
        raise DataError(
            f"{path}: line 1 is {header.strip()[:80]!r}, not {','.join(expected)!r}; {step}"
        )
    # The expression track lists its classes in the header, but has one column of codes.
    columns = ("code",) if track == "expr" else names
    if not body:
        return np.empty((0, len(names)), np.float32)
    values = _numbers(body, columns, path)
    if track == "va":
        return coordinates(values, lines(path))
    if track == "au":
        return units(values, lines(path))
    return expressions(values[:, 0], classes, lines(path))


def _numbers(body: str, columns: Sequence[str], path: Path) -> Labels:
    """Numbers (n, K) of n lines; raises DataError that names the first line of another form."""
    reading = pa.csv.ReadOptions(column_names=columns, use_threads=False)
    parsing = pa.csv.ParseOptions(ignore_empty_lines=False)
    converting = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.float32()))
    try:
        table = pa.csv.read_csv(pa.BufferReader(body.encode()), reading, parsing, converting)
        values = np.stack([table[name].to_numpy() for name in columns], axis=1)
    except pa.ArrowInvalid:
        _refuse_lines(body, len(columns), path)
        # Spellings that only pandas reads: NaN makes the check of the codes refuse the file.
        return np.full((1, 1), np.nan, np.float32)
    if np.isnan(values).any():
        _refuse_lines(body, len(columns), path)
    return values


def _refuse_lines(body: str, count: int, path: Path) -> None:
    """Raise DataError for the first line that is not so many numbers."""
    for number, line in enumerate(body.splitlines(), start=2):
        fields = pd.to_numeric(pd.Series(line.split(",")), errors="coerce")
        if len(fields) != count or fields.isna().any():
            raise DataError(
                f"{path}: line {number} is {line[:60]!r}, not {count} numbers; take the original "
                "file"
            )


def _frames_with_picture(folder: Path, count: int, counts: _Counts) -> NDArray[np.int64]:
    """Numbers (M,), 1 to `count`, of the frames that have a picture in `folder`."""
    names = pa.array([name for name in list_names(folder) if name.isascii()], pa.string())
    match = pc.extract_regex(names, r"^(?P<number>[0-9]{5,9})\.jpg$")
    digits = pc.struct_field(match, "number").drop_null()
    numbers = np.unique(pc.cast(digits, pa.int64()).to_numpy())
    last = int(numbers[-1]) if len(numbers) else 0
    if last > count + 1:
        raise DataError(
            f"{folder}: pictures go on to {last:05d}.jpg, but this video has {count} annotation "
            "lines; the annotation file is cut off or of another video; take the original file"
        )
    frames = numbers[(numbers >= 1) & (numbers <= count)]
    counts.lines += count
    counts.lost += count - len(frames)
    counts.bare += not last
    counts.more += last == count + 1
    counts.fewer += 0 < last == count - 1
    return frames


def _take_frames(values: Labels, frames: NDArray[np.int64]) -> Labels:
    """Labels (M, K) of frames (M,), counted from 1; NaN beyond the end."""
    kept = np.full((len(frames), values.shape[1]), np.nan, np.float32)
    inside = frames <= len(values)
    kept[inside] = values[frames[inside] - 1]
    return kept


def _concatenate(
    blocks: list[_Block], tasks: Sequence[Task], tracks: Sequence[Track], folder: Path
) -> pd.DataFrame:
    """The label table of all blocks, whose labels are taken out of them to save memory."""
    counts = [len(block.frames) for block in blocks]
    videos = np.array([block.video for block in blocks], object)
    splits = np.array([block.split for block in blocks], object)
    images = [_paths(f"{folder}{os.sep}{block.video}{os.sep}", block.frames) for block in blocks]
    about = {
        "video": np.repeat(videos, counts),
        "frame": np.concatenate([block.frames for block in blocks]),
        "subject": np.repeat(recordings(videos), counts),
        "split": np.repeat(splits, counts),
    }
    labels: dict[Task, Labels] = {}
    for task, track in zip(tasks, tracks, strict=True):
        values = np.full((sum(counts), len(task.columns)), np.nan, np.float32)
        start = 0
        for block in blocks:
            end = start + len(block.frames)
            if track in block.labels:
                values[start:end] = block.labels.pop(track)
            start = end
        labels[task] = values
    return table_of(pa.chunked_array(images, pa.large_string()).to_pandas(), about, labels)


def _paths(start: str, frames: NDArray[np.int64]) -> "pa.Array":
    """``<start><00001>.jpg`` of frames (M,)."""
    text = pa.large_string()
    numbers = pc.utf8_lpad(pc.cast(pa.array(frames), text), 5, "0")
    separator = pa.scalar("", text)
    return pc.binary_join_element_wise(
        pa.scalar(start, text), numbers, pa.scalar(".jpg", text), separator
    )


class AffWild2(DataSet):
    """Dense Aff-Wild2; has the tasks of its tracks; splits train and val. See
    `mien.data.sets.affwild2`."""

    info: ClassVar = DataSetInfo(
        name="Aff-Wild2",
        title=None,
        terms=BY_AGREEMENT,
        supervision=dict.fromkeys(("expr", "va", "au"), "annotators of Aff-Wild2, frame by frame"),
        tasks=("va", "expr.abaw7", "expr.abaw8", "au.abaw12"),
        source="Aff-Wild2 from the ABAW organisers, under a signed agreement",
        paper="Kollias & Zafeiriou 2019, Expression, affect, action unit recognition: Aff-Wild2, "
        "multi-task learning and ArcFace",
    )

    set: Literal["aff-wild2"]
    root: Place
    """Holds the folders of the tracks, or one that does."""
    tracks: Annotated[
        tuple[Track, ...],
        Field(strict=False, min_length=1, validation_alias=AliasChoices("tracks", "track")),
    ]
    """``va``, ``expr``, ``au``, or a list of them; also called ``track``."""
    images: str = "cropped_aligned"
    """Folder of the pictures, within the root or an absolute path."""
    classes: Literal[7, 8] = 8
    """Of the expression track: 7 in ABAW2 (``expr.abaw7``), 8 since (``expr.abaw8``)."""
    strict: bool = False
    """Leave training videos out that show another face of a film in validation; the official
    splits keep them."""

    @field_validator("tracks", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("tracks")
    @classmethod
    def _once(cls, value: tuple[Track, ...]) -> tuple[Track, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a track is named twice")
        return value

    @property
    @override
    def official_splits(self) -> bool:
        return not self.strict

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        table = load_aff_wild2(
            self.root, self.tracks, self.images, self.classes, strict=self.strict
        )
        return table, dense_tasks(self.tracks, self.classes)

    @override
    def supervision(self, task: Task) -> str | None:
        """Say where the labels of a task come from; None for a track that is not loaded."""
        return super().supervision(task) if task.family in self.tracks else None
