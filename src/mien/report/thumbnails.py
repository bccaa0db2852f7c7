"""Pictures of faces in a report, which are made only if somebody asks for them."""

import base64
from contextlib import closing
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mien.errors import SourceError
from mien.exports.recording import Recording
from mien.report.people import Person
from mien.sources.base import Pixels
from mien.sources.opening import open_source

__all__ = ["thumbnails"]

_SIDE: Final = 112
# Of the longer side of the face box, on each side.
_MARGIN: Final = 0.15


def thumbnails(recording: Recording, film: Path, people: list[Person]) -> dict[int, str]:
    """Cut out each face where the detector is surest of it.

    Args:
        recording: The table of the film.
        film: The film.
        people: The people.

    Returns:
        JPEG pictures by number, as data URLs.

    Raises:
        SourceError: The film cannot be read any more.
    """
    places: dict[int, list[tuple[int, list[float]]]] = {}
    for person in people:
        seen = person.rows[person.seen & (person.rows["status"] == "ok")]
        if not seen.empty:
            best = seen.nlargest(1, "confidence")
            box = best[["box_x", "box_y", "box_w", "box_h"]].to_numpy(float)[0].tolist()
            places.setdefault(int(best["frame"].iloc[0]), []).append((person.number, box))
    pictures: dict[int, str] = {}
    options = recording.dictionary.get("options", {})
    media = recording.dictionary.get("media") or [{}]
    source = open_source(str(film), stream=options.get("video_stream"))
    source.turn(int(media[0].get("turned") or 0))
    with closing(source.frames()) as frames:
        for frame in frames:
            for number, box in places.pop(frame.index, ()):
                if frame.pixels is not None:
                    pictures[number] = _data_url(_cut(frame.pixels, box))
            if not places:
                break
    if not pictures and people:
        raise SourceError(
            f"{film}: shows none of the frames that the table names; "
            "it is another film, make the report without --thumbnails"
        )
    return pictures


def _cut(pixels: Pixels, box: list[float]) -> Pixels:
    """The square around a face box, black beyond the frame, RGB uint8 (112, 112, 3)."""
    x, y, width, height = box
    side = max(width, height) * (1 + 2 * _MARGIN)
    left = x + (width - side) / 2
    top = y + (height - side) / 2
    scale = _SIDE / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    picture = cv2.warpAffine(pixels, matrix, (_SIDE, _SIDE), flags=cv2.INTER_AREA)
    return np.asarray(picture, np.uint8)


def _data_url(picture: Pixels) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
