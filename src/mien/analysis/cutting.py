"""Faces cut out of their frames, in a thread of its own, and gathered in batches."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from mien.analysis.decoding import frames_ahead
from mien.analysis.landmarks import CutFace
from mien.analysis.networks import Networks
from mien.analysis.quality import JudgedFace
from mien.bundles.model import Cut
from mien.records import Face, Frame

__all__ = ["Cutting", "Detections", "FrameFaces", "batches", "cut_ahead", "cut_out"]

FrameFaces = tuple[Frame, list[Face]]

# Frames that may wait until their faces are cut out, bytes. Looking back passes on the frames of
# half a second at once, and the caller's thread should not wait for all of them.
UNCUT_BYTES: Final = 24 << 20

# Replaces a frame's picture once its faces are cut out, so that a batch holds no whole frames.
_NO_PIXELS: Final = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Detections:
    """A frame with the faces found in it, their crops, and what else is seen of each, if asked."""

    frame: Frame
    faces: list[Face]
    crops: list[Cut]
    judged: list[JudgedFace]
    landmarks: list[CutFace]


class Cutting(NamedTuple):
    """A frame whose faces are being cut out.

    Attributes:
        faces: How many there are.
        future: What it becomes.
    """

    faces: int
    future: Future[Detections]


def cut_out(frame: Frame, faces: list[Face], networks: Networks) -> Detections:
    """Cut faces out of their frame, as the networks see them.

    Args:
        frame: The frame; may be without pixels.
        faces: The faces, in px of the frame.
        networks: The networks that read and judge them and find their points.

    Returns:
        The crops; the frame is without its picture.
    """
    pixels = frame.pixels
    if pixels is None:
        return Detections(frame, [], [], [], [])
    crops: list[Cut] = []
    judged: list[JudgedFace] = []
    landmarks: list[CutFace] = []
    judge, landmarker = networks.judge, networks.landmarker
    geometries = [kind.geometry for kind in networks.model.pixels]
    for face in faces:
        crops.append(networks.model.cut(pixels, face))
        # Networks that see the same crop share it.
        known = dict(zip(geometries, crops[-1], strict=True))
        if judge is not None:
            judged.append(judge.cut(pixels, face, known))
            known[judge.card.pixels.geometry] = judged[-1].crop
        if landmarker is not None:
            landmarks.append(landmarker.cut(pixels, face, known))
    return Detections(replace(frame, pixels=_NO_PIXELS), faces, crops, judged, landmarks)


def cut_ahead(
    detected: Iterator[FrameFaces], networks: Networks, thread: ThreadPoolExecutor
) -> Iterator[Cutting]:
    """Cut faces out in a thread, while the caller's finds the next.

    Args:
        detected: Frames with their faces, in order.
        networks: The networks that read and judge them.
        thread: Where they are cut out.

    Yields:
        The same frames in the same order.
    """
    uncut: deque[Future[Detections]] = deque()
    for frame, faces in detected:
        uncut.append(thread.submit(cut_out, frame, faces, networks))
        yield Cutting(len(faces), uncut[-1])
        if len(uncut) > frames_ahead(frame, UNCUT_BYTES):
            uncut.popleft().result()


def batches(cuttings: Iterator[Cutting], size: int) -> Iterator[list[Cutting]]:
    """Consecutive frames with at least `size` faces together.

    The number of frames has a limit too, so that a long stretch without faces is not held back.

    Args:
        cuttings: The frames.
        size: Faces of a batch.

    Yields:
        The same frames in the same order.
    """
    batch: list[Cutting] = []
    faces = 0
    for cutting in cuttings:
        batch.append(cutting)
        faces += cutting.faces
        if faces >= size or len(batch) >= 4 * size:
            yield batch
            batch, faces = [], 0
    if batch:
        yield batch
