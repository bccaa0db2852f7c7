"""Single pictures, read at once; nothing of them is kept."""

from collections.abc import Mapping
from threading import Semaphore
from typing import Any, Final

from pydantic import BaseModel

from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.app.errors import BusyError
from mien.outputs.arrays import batch_of
from mien.outputs.columns import Column
from mien.processes import usable_cores
from mien.records import Status

__all__ = ["Face", "Faces", "Pictures"]

_POINTS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_WITH_FACE: Final = (Status.ok, Status.doubtful)


class Face(BaseModel):
    """A face in a picture.

    Attributes:
        box: x and y of the top left corner, width and height, px.
        points: x and y of the eyes, the tip of the nose, and the corners of the mouth, px.
        expression: The likeliest expression, or ``uncertain``; null where the network gives none.
        probability: The likeliest expression's probability; null where there is none.
        scores: All scores, by the names of the table's columns; null where one is left out.
        status: ``ok`` or ``doubtful``.
        quality: How far the scores can be trusted, 0..1; null where that was not judged.
    """

    box: tuple[float, float, float, float]
    points: list[tuple[float, float]]
    expression: str | None
    probability: float | None
    scores: dict[str, float | None]
    status: str
    quality: float | None


class Faces(BaseModel):
    """What is read from a picture.

    Attributes:
        faces: Its faces; none where none was found.
    """

    faces: list[Face]


class Pictures:
    """Reads pictures with networks that are loaded at the first one; any thread may use it.

    Args:
        wait_s: How long a picture waits for those before it, s.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._places = Semaphore(usable_cores())

    def read(self, data: bytes, name: str) -> Faces:
        """Read a picture.

        Args:
            data: The content of its file.
            name: What messages call it.

        Returns:
            Its faces.

        Raises:
            SourceError: It is no picture that can be read.
            BusyError: Too many pictures are being read.
        """
        if not self._places.acquire(timeout=self._wait_s):
            raise BusyError(f"{name}: too many pictures are being read; send it again later")
        try:
            # Networks are kept while their files are unchanged, so this loads none.
            reader = Reader(Options(points=True))
            readings = list(reader.read(data, name=name))
            columns = reader.columns()
            rows = batch_of(readings, columns).to_pylist()
        finally:
            self._places.release()
        return Faces(faces=[_face(row, columns) for row in rows if row["status"] in _WITH_FACE])


def _face(row: Mapping[str, Any], columns: tuple[Column, ...]) -> Face:
    scores: dict[str, float | None] = {}
    probabilities = []
    for column in columns:
        # Labels are no scores; the likeliest one has a place of its own.
        if column.task is None or column.dtype != "float32":
            continue
        score = row[column.name]
        scores[column.name] = score
        if column.task.family == "expr" and score is not None:
            probabilities.append(score)
    box = (row["box_x"], row["box_y"], row["box_w"], row["box_h"])
    points = [(row[f"{point}_x"], row[f"{point}_y"]) for point in _POINTS]
    # The label may be uncertain; how likely the likeliest one is, is known all the same.
    return Face(
        box=box,
        points=points,
        expression=row.get("expression"),
        probability=max(probabilities, default=None),
        scores=scores,
        status=row["status"],
        quality=row.get("quality"),
    )
