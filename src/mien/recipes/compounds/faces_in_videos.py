"""The expression scores of every face of every frame of some videos, read once and kept.

There is one Parquet file per video, and no pixels are kept. Each frame is searched as a still
picture: nobody who has just come in is missed, no score depends on the frames before, and a video
and its extracted frames have the same scores.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien._version import RESULTS_VERSION
from mien.analysis.decoding import read_ahead
from mien.bundles.store import FACES, Model, load, load_detector, open_bundle
from mien.data.images import read_picture
from mien.errors import DataError, LabelMismatchError, SourceError
from mien.faces.detect import Detector
from mien.faces.prepare import prepare
from mien.faces.track import Tracker
from mien.files import AtomicFile, wrap_os_errors
from mien.progress import ItemProgress
from mien.recipes.compounds.clips import (
    Clip,
    find_clips,
    fingerprint,
    numbered_folders,
    numbered_pictures,
)
from mien.sources import Source, open_source
from mien.sources.base import Kind, TimedReads
from mien.tasks import Floats

__all__ = ["read_faces"]

_BATCH: Final = 64
"""Faces scored together."""
_BOX_COLUMNS: Final = ("box_x", "box_y", "box_w", "box_h", "confidence")

Image = NDArray[np.uint8]


def read_faces(
    videos: Path | Mapping[str, Path],
    out: Path,
    bundle: str | Path,
    *,
    progress: ItemProgress | None = None,
    note: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Read every face of every frame of some videos.

    Args:
        videos: A folder of videos, or a path for each name. A path is a video file (its name is the
            stem), a folder of extracted frames ``<video>/<frame>.png``, or one of cropped faces
            ``<video>/<frame>/<k>.png``, which are read whole. Pictures are numbered from 1, as by
            ffmpeg's ``%04d`` and in the official lists.
        out: Gets a folder for the bundle with a Parquet file for each video. A file that exists is
            used, so that a killed run continues, unless the video (its size or time of change), the
            bundle, the engine or mien has changed.
        bundle: Name or folder of the bundle that reads affect; it must have a task of the family
            ``expr``.
        progress: Called with how many videos are done, and how many there are.
        note: Called with a line for each video that is damaged, or in which there is no face.

    Returns:
        One row for each face of each frame, in order of video, frame and face. Columns: video,
        frame (from 1), face (0 is the largest in the frame), box_x, box_y, box_w, box_h in px of
        the frame, confidence 0..1, then the scores: ``expr_<name>``, 0..1, and valence and arousal,
        -1..1, if the bundle has them. Of a cropped face only width and height are known; the rest
        of the box and the confidence are NaN.

    Raises:
        DataError: There is no video at all, or two share a name.
        SourceError: Not one of them can be read.
        LabelMismatchError: The bundle reads no expressions.
        OutputError: A file cannot be written.
        MienError: As `mien.bundles.store.load` does.
    """
    clips = find_clips(videos)
    reader = _Reader.of(bundle)
    card = reader.model.card
    folder = Path(out) / f"{card.name}-{card.sha256[:16]}"
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tables: list[pa.Table] = []
    errors: list[str] = []
    for number, clip in enumerate(clips, 1):
        # One video that cannot be read does not stop the others.
        try:
            table, problems = reader.read(clip, folder / f"{clip.name}.parquet")
            tables.append(table)
            lines = [f"{clip.path}: {problem}" for problem in problems]
        except (SourceError, DataError) as error:
            lines = [str(error)]
            errors += lines
        if note:
            for line in lines:
                note(f"video {clip.name}: {line}")
        if progress:
            progress(number, len(clips))
    if not tables:
        raise SourceError(f"none of the {len(errors)} videos can be read; the first: {errors[0]}")
    # The files' metadata are not those of a data frame.
    faces: pd.DataFrame = pa.concat_tables(tables).to_pandas(ignore_metadata=True)
    return faces


class _ExtractedFrames(Source):
    """Extracted frames in a folder, in order of their numbers, set one second apart."""

    kind: Kind = "video"

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.pictures = numbered_pictures(folder)
        if not self.pictures:
            raise SourceError(f"{folder}: no picture in this folder; extract the frames again")

    def _timed_reads(self) -> TimedReads:
        for number, path in self.pictures.items():
            yield float(number), partial(self._read, path)

    def _read(self, path: Path) -> Image | None:
        pixels, problem = _picture(path)
        # The source counts unreadable frames itself; the first one says what is wrong.
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
class _Face:
    """A face that is not scored yet.

    Attributes:
        box: Left, top, width and height in px of the frame.
        confidence: Of the detector, 0..1.
        crop: As the network sees it.
    """

    box: tuple[float, float, float, float]
    confidence: float
    crop: Image

    @property
    def area(self) -> float:
        width, height = self.box[2:]
        return width * height


FacesOfFrame = tuple[int, list[_Face]]
"""The number of a frame, and its faces."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """The networks, and the columns of what they read.

    Attributes:
        model: Reads affect.
        detector: Finds faces.
        columns: For each score its column, its task family, and its position in that task.
    """

    model: Model
    detector: Detector
    columns: tuple[tuple[str, str, int], ...]

    @classmethod
    def of(cls, bundle: str | Path) -> "_Reader":
        model = load(bundle)
        names = {task.family: task.names for task in model.tasks}
        if "expr" not in names:
            known = ", ".join(task.key for task in model.tasks)
            raise LabelMismatchError(
                f"{model.card.name} reads no expressions, which compounds consist of; "
                f"it reads {known}"
            )
        columns = []
        # The bundle's scores of other families are not kept.
        for position, name in enumerate(names["expr"]):
            columns.append((f"expr_{name}", "expr", position))
        for position, name in enumerate(names.get("va", ())):
            columns.append((name, "va", position))
        # As in `mien.analyze`, faces are always found with ONNX Runtime.
        return cls(model, load_detector(engine="onnxruntime"), tuple(columns))

    def read(self, clip: Clip, path: Path) -> tuple[pa.Table, list[str]]:
        """The faces of one video, and what is wrong with it; from a file if that is up to date."""
        key = self._key(clip)
        try:
            table = pq.read_table(path)
            metadata = table.schema.metadata or {}
            if metadata.get(b"key") == key.encode():
                return _with_video(table, clip.name), json.loads(metadata[b"problems"])
        except (OSError, pa.ArrowException):
            pass  # missing or damaged: it is written anew
        table, problems = self._scored(clip)
        # Problems are kept as well, so that a later run notes them again.
        metadata = {"key": key, "problems": json.dumps(problems)}
        with AtomicFile(path) as part, wrap_os_errors(path):
            pq.write_table(table.replace_schema_metadata(metadata), part)
        return table, problems

    def _key(self, clip: Clip) -> str:
        """What the scores of a video depend on, as JSON."""
        facts = {
            "mien": RESULTS_VERSION,
            "bundle": self.model.card.sha256,
            "faces": open_bundle(FACES).card.sha256,
            "engine": self.model.engine,
            "source": fingerprint(clip),
        }
        return json.dumps(facts)

    def _scored(self, clip: Clip) -> tuple[pa.Table, list[str]]:
        """The faces of one video, and what is wrong with it."""
        problems: list[str] = []
        frames = self._cropped if clip.kind == "crops" else self._detected
        # Frames are read, scored and forgotten one after the other.
        builder = _TableBuilder(self)
        for number, faces in frames(clip, problems):
            builder.add(number, faces)
        table = builder.table(clip.name)
        if not len(table):
            problems.append("no face in any of its frames")
        return table, problems

    def _detected(self, clip: Clip, problems: list[str]) -> Iterator[FacesOfFrame]:
        """Find the faces of each frame that can be decoded; appends what is wrong to `problems`."""
        source = open_source(clip.path) if clip.kind == "video" else _ExtractedFrames(clip.path)
        numbers = list(source.pictures) if isinstance(source, _ExtractedFrames) else None
        for frame in read_ahead(source.frames()):
            if frame.pixels is None:
                continue
            faces = []
            # A new tracker searches the whole frame, and looks a second time at what it finds.
            for face in Tracker(self.detector).update(frame.pixels, frame.time_s):
                crop = prepare(frame.pixels, face, self.model.card.pixels)
                faces.append(_Face(face.box, face.confidence, crop))
            # Frames of a video are numbered from 1, and counted from 0 by the source.
            yield numbers[frame.index] if numbers else frame.index + 1, faces
        if source.problem:
            problems.append(source.problem)

    def _cropped(self, clip: Clip, problems: list[str]) -> Iterator[FacesOfFrame]:
        """Read the cropped faces of each frame; appends what is wrong to `problems`."""
        count = 0
        errors: list[str] = []
        for number, folder in numbered_folders(clip.path).items():
            faces = []
            for path in numbered_pictures(folder).values():
                pixels, problem = _picture(path)
                if pixels is None:
                    errors.append(str(problem))
                else:
                    faces.append(self._whole(pixels))
            count += len(faces)
            yield number, faces
        if errors and not count:
            raise SourceError(
                f"{clip.path}: not one of its {len(errors)} pictures can be read; "
                f"the first: {errors[0]}"
            )
        if errors:
            total = count + len(errors)
            problems.append(
                f"{len(errors)} of {total} pictures cannot be read; the first: {errors[0]}"
            )

    def _whole(self, pixels: Image) -> _Face:
        """The face that fills a picture; its position in a frame is unknown."""
        height, width = pixels.shape[:2]
        box = (np.nan, np.nan, float(width), float(height))
        [crop] = self.model.prepare([pixels])
        return _Face(box, np.nan, crop)


@dataclass(slots=True)
class _TableBuilder:
    """Collects the faces of one video; no more than a batch of crops is held in memory.

    Attributes:
        reader: Scores them.
        numbers: Of each face, the number of its frame and its own in that frame.
        boxes: Of each face, its box and confidence.
        scores: Of each batch, scores (N, K) by task family.
        crops: That are not scored yet.
    """

    reader: _Reader
    numbers: list[tuple[int, int]] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    scores: list[dict[str, Floats]] = field(default_factory=list)
    crops: list[Image] = field(default_factory=list)

    def add(self, frame: int, faces: list[_Face]) -> None:
        """Add the faces of one frame, the largest first."""
        largest_first = sorted(faces, key=lambda face: -face.area)
        # The largest is face 0.
        for number, face in enumerate(largest_first):
            self.numbers.append((frame, number))
            self.boxes.append((*face.box, face.confidence))
            self.crops.append(face.crop)
        # A frame with many faces is not split.
        if len(self.crops) >= _BATCH:
            self._score()

    def table(self, video: str) -> pa.Table:
        """All faces; see `read_faces` for the columns."""
        # What is left, which may be nothing: then the columns are there, and empty.
        self._score()
        # Two-dimensional even without any face.
        numbers = np.array(self.numbers, np.int64).reshape(-1, 2)
        boxes = np.array(self.boxes, np.float32).reshape(-1, len(_BOX_COLUMNS))
        columns: dict[str, NDArray[Any]] = {"frame": numbers[:, 0], "face": numbers[:, 1]}
        for position, name in enumerate(_BOX_COLUMNS):
            columns[name] = boxes[:, position]
        for name, family, position in self.reader.columns:
            scores = [batch[family][:, position] for batch in self.scores]
            columns[name] = np.concatenate(scores).astype(np.float32)
        # Arrow takes contiguous arrays only, and some are columns of larger ones.
        arrays = [pa.array(np.ascontiguousarray(values)) for values in columns.values()]
        return _with_video(pa.table(arrays, names=list(columns)), video)

    def _score(self) -> None:
        model = self.reader.model
        self.scores.append(model.score_prepared(self.crops))
        # They are most of the memory.
        self.crops = []


def _with_video(table: pa.Table, video: str) -> pa.Table:
    """A table with the video's name as its first column, in place of one that is there."""
    names = pa.array([video] * len(table), pa.string())
    if "video" in table.column_names:
        table = table.drop_columns(["video"])
    return table.add_column(0, "video", names)
