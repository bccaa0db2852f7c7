"""A table of damaged faces, with how well each could be read: what `mien-quality` learns from.

Each portrait is read as it is and damaged (`mien.data.drawn.damage`). The reading of a damaged face
is sound where the expression is the same and valence differs by at most 0.3. Damaged pictures go
the whole way of use: faces are found in them, cut out by the points that were found, and read. A
face that is not found is read by its true points with some error, as films follow faces that a
search would miss, and as a better detector would find them.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.engines import import_onnxruntime
from mien.bundles.model import Model
from mien.bundles.store import load, load_detector
from mien.data.blendshapes import gaze
from mien.data.drawn.damage import KINDS, Shown, damage, intact
from mien.data.images import read_picture
from mien.data.label_table import Split, read_table
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.faces.detect import Detector
from mien.faces.prepare import Pixels, crop_matrix, warp
from mien.files import AtomicFile
from mien.processes import end_with_parent
from mien.records import Face
from mien.tasks import Floats

__all__ = [
    "PIXELS",
    "SOUND_VALENCE",
    "PoseTeacher",
    "followed",
    "make_table",
    "mirrored",
    "nearest_face",
    "open_teacher",
    "png",
]

Image = NDArray[np.uint8]

SOUND_VALENCE: Final = 0.3
"""How far valence may be off in a reading that is sound."""
PIXELS: Final = Pixels(
    size=96,
    colour="grey",
    alignment="similarity5",
    template=FERPLUS_TEMPLATE,
    # As of mien-s: an 8-bit network must never have to round halves.
    mean=(115.0305,),
    std=(256.0,),
)
"""What the network reads."""

# Of each portrait: as it is, lightly changed by one kind, and by two kinds at once.
_ONE_KIND: Final = 3
_TWO_KINDS: Final = 1
# Of a found face, in distances between the eyes: farther from the true middle it is another face.
_SAME_FACE: Final = 1.0
# Error of the points of faces that are not found, in distances between the eyes.
_SLIP: Final = 0.06
# Rows that one task of a worker makes portraits of.
_PORTRAITS_AT_ONCE: Final = 200


def open_teacher(path: Path) -> Any:
    """Open another network on one thread, as tables are made by a process per core.

    Args:
        path: Its ONNX file.

    Returns:
        A session of ONNX Runtime.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class PoseTeacher:
    """A Hopenet-like network: three angles in 66 bins of 3 degrees each, from a wide box.

    Args:
        path: Its ONNX file, which reads RGB crops of 224 px with ImageNet's normalisation.
    """

    _SIZE: Final = 224
    # The box is enlarged by this share of itself on each side.
    _MARGIN: Final = 0.25

    def __init__(self, path: Path) -> None:
        self._session = open_teacher(path)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: Image, face: Face) -> Floats:
        """Estimate how a head is turned.

        Args:
            image: RGB uint8 (H, W, 3).
            face: The face, px.

        Returns:
            Yaw (positive to the image's right), pitch (positive up) and roll (positive clockwise)
            in degrees (3,).
        """
        x, y, w, h = face.box
        box = (
            x - self._MARGIN * w,
            y - self._MARGIN * h,
            w * (1 + 2 * self._MARGIN),
            h * (1 + 2 * self._MARGIN),
        )
        scale = np.array([self._SIZE / box[2], self._SIZE / box[3]])
        matrix = np.column_stack([np.diag(scale), -scale * box[:2]])
        crop = cv2.warpAffine(image, matrix, (self._SIZE, self._SIZE), flags=cv2.INTER_AREA)
        pixels = (crop / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        batch = pixels.transpose(2, 0, 1)[None].astype(np.float32)
        angles = []
        for logits in self._session.run(None, {self._input: batch})[:3]:
            share = np.exp(logits[0] - logits[0].max())
            angles.append(float(share @ np.arange(len(share)) / share.sum() * 3 - 99))
        # Its yaw is positive to the image's left.
        return np.array([-angles[0], angles[1], angles[2]])


class _Read(NamedTuple):
    """What was read: the likeliest expression, its probability, and valence."""

    label: str
    probability: float
    valence: float


@dataclass(frozen=True, slots=True)
class _Reader:
    """The networks that read faces as in use, and the teacher of pose."""

    detector: Detector
    model: Model
    teacher: PoseTeacher | None

    def find(self, shown: Shown) -> Face | None:
        """The face that is found where the face is."""
        middle = shown.points.mean(axis=0)
        unit = max(float(np.hypot(*(shown.points[1] - shown.points[0]))), 4.0)
        return nearest_face(self.detector.find(shown.image), middle, _SAME_FACE * unit)

    def read(self, image: Image, face: Face) -> _Read:
        """The reading of a face."""
        scores = self.model.score_cuts([self.model.cut(image, face)])
        [expression] = [task for task in self.model.tasks if task.family == "expr"]
        [shares] = scores["expr"]
        label = expression.names[int(shares.argmax())]
        return _Read(label, float(shares.max()), float(scores["va"][0, 0]))


def nearest_face(faces: Sequence[Face], middle: Floats, within: float) -> Face | None:
    """Find the face whose points lie nearest to a place.

    Args:
        faces: The faces, px.
        middle: Where the mean of the five points should be (2,), px.
        within: Farther away it is another face, px.

    Returns:
        The face; None where there is none so near.
    """
    nearest = None
    for face in faces:
        distance = float(np.hypot(*(face.points.mean(axis=0) - middle)))
        if distance < within:
            nearest, within = face, distance
    return nearest


def make_table(
    data: Path,
    split: Split,
    out: Path,
    *,
    bundle: str | Path,
    detector: str | Path,
    teacher: Path | None,
    count: int | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """Make the table, or read it where it was made before.

    Args:
        data: Folder with ``portraits.parquet``.
        split: The split whose portraits are damaged.
        out: The Parquet file.
        bundle: The bundle whose readings are judged.
        detector: The bundle that finds the faces.
        teacher: ONNX file of a `PoseTeacher`; without one there are no angles.
        count: Number of portraits, evenly spread; None for all.
        workers: Processes.

    Returns:
        Columns `image` (PNG of the crop, `PIXELS`), `subject`, `split`, `kind` (joined by +), the
        labels `quality`, `occlusion_left_eye` …, `pose_yaw` … and `gaze_x` …, and of the reading
        `confidence` (0 where the face was not found), `expression`, `probability` (the highest),
        `expression_clean` and `valence_error`, beside the reading of the undamaged face.
    """
    if out.is_file():
        return pd.read_parquet(out)
    table = read_table(
        data / "portraits.parquet", ["image", "points", "subject", "split", "blendshapes"]
    )
    table = table[(table["split"] == split) & table["points"].notna()]
    if count is not None:
        rows = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
        table = table.iloc[np.unique(rows)]
    parts = []
    for start in range(0, len(table), _PORTRAITS_AT_ONCE):
        parts.append(table.iloc[start : start + _PORTRAITS_AT_ONCE])
    make = partial(_make_part, bundle=bundle, detector=detector, teacher=teacher)
    # Started afresh: a forked process would wait for threads that were not copied.
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        made = pd.concat(pool.map(make, parts), ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(out) as temporary:
        made.to_parquet(temporary)
    return made


def _make_part(
    part: pd.DataFrame,
    bundle: str | Path,
    detector: str | Path,
    teacher: Path | None,
) -> pd.DataFrame:
    """The rows of some portraits."""
    # The other process needs the other core.
    cv2.setNumThreads(1)
    model = load(bundle)
    pose = PoseTeacher(teacher) if teacher else None
    reader = _Reader(load_detector(detector), model, pose)
    rows: list[dict[str, Any]] = []
    for index, portrait in part.iterrows():
        rng = np.random.default_rng((17, int(str(index))))
        image = read_picture(portrait["image"])
        points = np.asarray(portrait["points"], float).reshape(5, 2)
        gaze_x, gaze_y = gaze(np.asarray(portrait["blendshapes"]))
        if rng.random() < 0.5:
            image, points = mirrored(image, points)
            gaze_x = -gaze_x
        about = {"subject": portrait["subject"], "split": portrait["split"]}
        # Relative to the head, so no turn of the picture changes it.
        about |= {"gaze_x": gaze_x, "gaze_y": gaze_y}
        rows.extend(about | row for row in _rows(reader, intact(image, points), rng))
    return pd.DataFrame(rows)


def followed(shown: Shown, rng: np.random.Generator) -> Face:
    """Make up how a face that no search finds is followed.

    Args:
        shown: The face.
        rng: Source of all randomness.

    Returns:
        The face, by its true points with an error.
    """
    unit = max(float(np.hypot(*(shown.points[1] - shown.points[0]))), 1.0)
    points = shown.points + rng.normal(0, _SLIP * unit, (5, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    return Face((low[0], low[1], high[0] - low[0], high[1] - low[1]), points, 0.0)


def mirrored(image: Image, points: Floats) -> tuple[Image, Floats]:
    """Swap left and right.

    Args:
        image: RGB uint8 (H, W, 3).
        points: Five points of the face in it (5, 2), px.

    Returns:
        The mirror image, and the points in it.
    """
    flipped = np.ascontiguousarray(image[:, ::-1])
    # What was the image-left eye lies at the right.
    return flipped, points[[1, 0, 2, 4, 3]] * (-1, 1) + (image.shape[1] - 1, 0)


def _rows(reader: _Reader, clean: Shown, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The rows of one portrait; none where its face is not found."""
    face = reader.find(clean)
    if face is None:
        return
    truth = reader.read(clean.image, face)
    angles = np.full(3, np.nan) if reader.teacher is None else reader.teacher(clean.image, face)
    chosen: list[tuple[str, ...]] = [()]
    chosen += [(str(kind),) for kind in rng.choice(list(KINDS), _ONE_KIND, replace=False)]
    for _ in range(_TWO_KINDS):
        chosen.append(tuple(map(str, rng.choice(list(KINDS), 2, replace=False))))
    for some in chosen:
        shown = damage(clean, some, rng)
        damaged = reader.find(shown) or followed(shown, rng)
        reading = reader.read(shown.image, damaged)
        matrix = crop_matrix(damaged, PIXELS)
        covers = {f"occlusion_{name}": share for name, share in shown.covered.items()}
        yield {
            "image": png(warp(shown.image, matrix, PIXELS)),
            "kind": "+".join(some),
            "confidence": damaged.confidence,
            **covers,
            **_pose_in_crop(angles, shown, matrix),
            **_compared(reading, truth),
        }


def _compared(reading: _Read, truth: _Read) -> dict[str, Any]:
    """The reading of a damaged face beside that of the face undamaged."""
    error = abs(reading.valence - truth.valence)
    return {
        "quality": float(reading.label == truth.label and error <= SOUND_VALENCE),
        "expression": reading.label,
        "probability": reading.probability,
        "expression_clean": truth.label,
        "valence_error": error,
    }


def _pose_in_crop(angles: Floats, shown: Shown, matrix: Floats) -> dict[str, float]:
    """The undamaged face's angles as they are in a crop."""
    yaw, pitch, roll = map(float, angles)
    # The crop may be turned against the frame.
    turn = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    in_crop = (roll + shown.roll + turn + 180) % 360 - 180
    return {"pose_yaw": yaw, "pose_pitch": pitch, "pose_roll": in_crop}


def png(crop: Image) -> bytes:
    """Encode a crop that a network reads grey.

    Args:
        crop: RGB uint8 (H, W, 3).

    Returns:
        A grey PNG.
    """
    return bytes(cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))[1])
