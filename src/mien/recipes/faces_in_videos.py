"""Every face of every frame of videos, with its expression scores: read once, kept as one Parquet file a video. No pixels are kept.

Each frame is searched as a still picture of its own: nobody who has just come in is missed, no score depends on the frames before, and
a video and its extracted frames say the same.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien._version import RESULTS_VERSION
from mien.analysis.pipeline import read_ahead
from mien.bundles.store import FACES, Model, load, load_detector, open_bundle
from mien.data.images import read_picture
from mien.errors import DataError, LabelMismatchError, SourceError
from mien.faces.detect import Detector
from mien.faces.prepare import prepare
from mien.faces.track import Tracker
from mien.files import AtomicFile, wrap_os_errors
from mien.progress import ItemProgress
from mien.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Source, open_source
from mien.sources.base import Kind, TimedReads
from mien.tasks import Floats

__all__ = ["read_faces"]

_BATCH: Final = 64
"""Faces scored together."""
_ABOUT: Final = ("box_x", "box_y", "box_w", "box_h", "confidence")

Image = NDArray[np.uint8]
Seen = tuple[tuple[float, float, float, float, float], Image]
"""Box and confidence of a face, and its prepared crop."""


def read_faces(
    videos: Path | Mapping[str, Path],
    out: Path,
    bundle: str | Path,
    *,
    progress: ItemProgress | None = None,
    note: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """One row for each face of each frame, in order of video, frame and face; a frame without a face has no row.

    videos: a folder of videos, or a path by name. A path is a video file (its name is the stem), a folder of extracted frames
        ``<video>/<frame>.png``, or one of faces that are cut out already ``<video>/<frame>/<k>.png``, which are read whole. Pictures are
        numbered from 1, as ffmpeg's ``%04d`` and the official lists have it.
    out: gets a folder for the bundle with a Parquet file for each video. What is there already is not read again unless the
        video (size and time of change), the bundle, the engine or mien is another, so a killed run goes on where it was.
    bundle: name or folder of the bundle that reads affect; it must have a task of the family ``expr``.
    progress: called with videos done and all. note: told of each video that is damaged, or in which there is no face, in one line.

    Columns: video, frame (from 1), face (0 is the largest in the frame), box_x, box_y, box_w, box_h in px of the frame, confidence 0..1,
    then the scores: ``expr_<name>``, 0..1, and valence and arousal, -1..1, where the bundle has them. Of a face that was cut out only
    width and height are known, the rest of the box and the confidence are NaN.
    Raises DataError where there is no video at all or two share a name, SourceError where not one can be read, OutputError, what `load`
    raises, LabelMismatchError for a bundle without expressions.
    """
    clips = _clips(videos)
    reader = _Reader.of(bundle)
    place = Path(out) / f"{reader.model.card.name}-{reader.model.card.sha256[:16]}"
    with wrap_os_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    tables: list[pa.Table] = []
    lost: list[str] = []
    for number, clip in enumerate(clips, 1):
        told: list[str] = []
        try:
            table, problems = reader.kept(clip, place / f"{clip.name}.parquet")
            tables.append(table)
            told += [f"{clip.path}: {problem}" for problem in problems]
        except (SourceError, DataError) as error:
            lost.append(str(error))
            told += lost[-1:]
        for line in told:
            if note:
                note(f"video {clip.name}: {line}")
        if progress:
            progress(number, len(clips))
    if not tables:
        raise SourceError(f"none of the {len(lost)} videos can be read; the first: {lost[0]}")
    found: pd.DataFrame = pa.concat_tables(tables).to_pandas(ignore_metadata=True)
    return found


# which videos there are


@dataclass(frozen=True, slots=True)
class _Clip:
    """One video, and what its path holds."""

    name: str
    path: Path
    kind: Literal["video", "frames", "crops"]


def _clips(videos: Path | Mapping[str, Path]) -> list[_Clip]:
    if isinstance(videos, Mapping):
        for name in videos:
            if not name or name.startswith(".") or Path(name).name != name:
                raise DataError(
                    f"{name!r} cannot name a video: its scores go into a file of that name; leave out slashes and leading dots"
                )
        found = [_clip(name, Path(path)) for name, path in videos.items()]
    else:
        found = [
            _clip(path.stem if path.is_file() else path.name, path)
            for path in _inside(Path(videos))
            if _may_be_video(path)
        ]
    if not found:
        raise DataError(
            f"{videos}: holds no video and no folder; give the folder above the videos or above their folders of frames"
        )
    once: dict[str, _Clip] = {}
    for clip in found:
        if (other := once.setdefault(clip.name.casefold(), clip)) is not clip:
            raise DataError(
                f"{other.path} and {clip.path}: two videos named {clip.name}; give them as a mapping of names to paths"
            )
    return found


def _clip(name: str, path: Path) -> _Clip:
    if not path.is_dir():
        return _Clip(name, path, "video")
    return _Clip(name, path, "crops" if any(item.is_dir() for item in _inside(path)) else "frames")


def _may_be_video(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder, hidden things left out, by name; raises DataError."""
    try:
        return sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; give a folder of videos or of folders of frames"
        ) from error


def _numbered(paths: list[Path]) -> dict[int, Path]:
    """By number, in order; raises DataError for a name that is no number, and for two of one number."""
    numbers: dict[int, Path] = {}
    for path in paths:
        if not path.stem.isdecimal():
            raise DataError(
                f"{path}: its name is no number; name frames 00001.jpg, 00002.jpg and so on"
            )
        if (other := numbers.setdefault(int(path.stem), path)) is not path:
            raise DataError(f"{other} and {path}: two of one number; remove one")
    return dict(sorted(numbers.items()))


def _pictures(folder: Path) -> dict[int, Path]:
    return _numbered([path for path in _inside(folder) if path.suffix.lower() in IMAGE_SUFFIXES])


def _stamp(clip: _Clip) -> list[str | int]:
    """What tells later whether a video is still the same: bytes and time of change, of a folder those of all that is in it."""
    try:
        if clip.kind == "video":
            facts = clip.path.stat()
            return [clip.kind, facts.st_size, facts.st_mtime_ns]
        lines, size = [], 0
        for where, folders, names in os.walk(clip.path):
            folders.sort()
            for name in sorted(names):
                facts = os.stat(os.path.join(where, name))
                lines.append(
                    f"{os.path.relpath(where, clip.path)}/{name} {facts.st_size} {facts.st_mtime_ns}"
                )
                size += facts.st_size
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}; check the path") from error
    return [clip.kind, size, hashlib.sha256("\n".join(lines).encode()).hexdigest()]


# reading them


class _Extracted(Source):
    """Extracted frames in a folder, in order of their numbers, set one second apart."""

    kind: Kind = "video"

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.pictures = _pictures(folder)
        if not self.pictures:
            raise SourceError(f"{folder}: no picture in this folder; extract the frames again")

    def _timed_reads(self) -> TimedReads:
        for number, path in self.pictures.items():
            yield float(number), lambda path=path: self._read(path)  # type: ignore[misc]

    def _read(self, path: Path) -> Image | None:
        pixels, problem = _picture(path)
        if problem and not self._problems:
            self._problems.append(problem)
        return pixels


def _picture(path: Path) -> tuple[Image | None, str | None]:
    """RGB uint8 (H, W, 3), or what is wrong."""
    try:
        return read_picture(str(path)), None
    except DataError as error:
        return None, str(error)


@dataclass(frozen=True, slots=True)
class _Reader:
    """The networks, and what names their numbers."""

    model: Model
    detector: Detector
    columns: tuple[tuple[str, str, int], ...]
    """Of each score: column, task family, place in it."""

    @classmethod
    def of(cls, bundle: str | Path) -> "_Reader":
        model = load(bundle)
        tasks = {task.family: task for task in model.tasks}
        if "expr" not in tasks:
            has = ", ".join(task.key for task in model.tasks)
            raise LabelMismatchError(
                f"{model.card.name} reads no expressions, which compounds are made of; it reads {has}"
            )
        columns = [(f"expr_{name}", "expr", i) for i, name in enumerate(tasks["expr"].names)]
        columns += (
            [(name, "va", i) for i, name in enumerate(tasks["va"].names)] if "va" in tasks else []
        )
        # As in the run street, faces are always found with ONNX Runtime.
        return cls(model, load_detector(engine="onnxruntime"), tuple(columns))

    def kept(self, clip: _Clip, path: Path) -> tuple[pa.Table, list[str]]:
        """The rows of one video and what is wrong with it: from the file at `path` where it still holds, else read and written there."""
        networks = {
            "bundle": self.model.card.sha256,
            "faces": open_bundle(FACES).card.sha256,
            "engine": self.model.engine,
        }
        key = json.dumps({"mien": RESULTS_VERSION, **networks, "source": _stamp(clip)})
        try:
            table = pq.read_table(path)
            told = table.schema.metadata or {}
            if told.get(b"key") == key.encode():
                return _named(table, clip.name), json.loads(told[b"problems"])
        except (OSError, pa.ArrowException):
            pass  # not there, or damaged: it is made anew
        table, problems = self._read(clip)
        with AtomicFile(path) as part, wrap_os_errors(path):
            pq.write_table(
                table.replace_schema_metadata({"key": key, "problems": json.dumps(problems)}), part
            )
        return table, problems

    def _read(self, clip: _Clip) -> tuple[pa.Table, list[str]]:
        problems: list[str] = []
        rows = _Rows(self)
        for number, seen in (
            self._cut_out(clip, problems) if clip.kind == "crops" else self._found(clip, problems)
        ):
            rows.add(number, seen)
        table = rows.table(clip.name)
        if not len(table):
            problems.append("no face in any of its frames")
        return table, problems

    def _found(self, clip: _Clip, problems: list[str]) -> Iterator[tuple[int, list[Seen]]]:
        """Number and faces of each frame that can be decoded."""
        source = open_source(clip.path) if clip.kind == "video" else _Extracted(clip.path)
        numbers = list(source.pictures) if isinstance(source, _Extracted) else None
        for frame in read_ahead(source.frames()):
            if frame.pixels is None:
                continue
            # A tracker that has seen nothing searches the whole frame, and looks a second time at what it finds.
            faces = Tracker(self.detector).update(frame.pixels, frame.time_s)
            seen = [
                ((*face.box, face.confidence), prepare(frame.pixels, face, self.model.card.pixels))
                for face in faces
            ]
            yield numbers[frame.index] if numbers else frame.index + 1, seen
        problems += [source.problem] if source.problem else []

    def _cut_out(self, clip: _Clip, problems: list[str]) -> Iterator[tuple[int, list[Seen]]]:
        """Number and faces of each frame, from pictures of the faces."""
        read, lost = 0, []
        for number, folder in _numbered(
            [item for item in _inside(clip.path) if item.is_dir()]
        ).items():
            seen = []
            for path in _pictures(folder).values():
                pixels, problem = _picture(path)
                if pixels is None:
                    lost.append(problem)
                    continue
                about = (np.nan, np.nan, float(pixels.shape[1]), float(pixels.shape[0]), np.nan)
                seen.append((about, self.model.prepare([pixels])[0]))
            read += len(seen)
            yield number, seen
        if lost and not read:
            raise SourceError(
                f"{clip.path}: not one of its {len(lost)} pictures can be read; the first: {lost[0]}"
            )
        if lost:
            problems.append(
                f"{len(lost)} of {read + len(lost)} pictures cannot be read; the first: {lost[0]}"
            )


@dataclass(slots=True)
class _Rows:
    """The rows of one video, made in passing: no more than a batch of crops is held."""

    reader: _Reader
    places: list[tuple[int, int]] = field(default_factory=list)
    about: list[tuple[float, ...]] = field(default_factory=list)
    scores: list[dict[str, Floats]] = field(default_factory=list)
    crops: list[Image] = field(default_factory=list)

    def add(self, number: int, seen: list[Seen]) -> None:
        """The faces of one frame, the largest first."""
        largest = sorted(seen, key=lambda face: -face[0][2] * face[0][3])
        self.places += [(number, face) for face in range(len(largest))]
        self.about += [about for about, _ in largest]
        self.crops += [crop for _, crop in largest]
        if len(self.crops) >= _BATCH:
            self._score()

    def table(self, video: str) -> pa.Table:
        """All of them; see `read_faces` for the columns."""
        self._score()
        frame, face = np.array(self.places, np.int64).reshape(-1, 2).T
        about = np.array(self.about, np.float32).reshape(-1, len(_ABOUT))
        columns: dict[str, Any] = {"frame": frame, "face": face} | dict(
            zip(_ABOUT, about.T, strict=True)
        )
        for name, family, i in self.reader.columns:
            columns[name] = np.concatenate([part[family][:, i] for part in self.scores]).astype(
                np.float32
            )
        return _named(
            pa.table(
                {name: pa.array(np.ascontiguousarray(values)) for name, values in columns.items()}
            ),
            video,
        )

    def _score(self) -> None:
        self.scores.append(self.reader.model.score_prepared(self.crops))
        self.crops = []


def _named(table: pa.Table, video: str) -> pa.Table:
    """The same rows with the video's name in front."""
    names = pa.array([video] * len(table), pa.string())
    at = table.schema.get_field_index("video")
    return table.add_column(0, "video", names) if at < 0 else table.set_column(at, "video", names)
