"""The 68 points of each face, by a network beside the one that reads affect."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mien.bundles.model import Image, Model
from mien.bundles.store import load
from mien.faces.landmarks import COUNT, COVERED_WITH
from mien.faces.prepare import Geometry, crop_matrix, warp
from mien.records import Face, Reading
from mien.tasks import LANDMARK_FAMILY, TASKS, Floats

__all__ = ["LANDMARKS", "CutFace", "Landmarker", "leave_out_covered_points", "load_landmarker"]

LANDMARKS: Final = "mien-landmarks"
"""The bundle that comes with mien."""

# From this share on, a region counts as covered.
_COVERED: Final = 0.5


@dataclass(frozen=True, slots=True)
class CutFace:
    """What is kept of a face in its frame until its points are found.

    Attributes:
        crop: What the network sees, RGB uint8 (size, size, 3).
        matrix: Affine map (2, 3) from frame pixels to crop pixels.
    """

    crop: Image
    matrix: Floats


class Landmarker:
    """Finds 68 points of faces.

    Args:
        model: A network of the task ``landmarks.ibug68``.

    Attributes:
        card: Its card.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.card = model.card

    def cut(self, image: Image, face: Face, crops: Mapping[Geometry, Image]) -> CutFace:
        """Cut a face out of its frame.

        Args:
            image: The frame, RGB uint8 (H, W, 3).
            face: The face, in px of the frame.
            crops: Crops of the face that other networks see, RGB uint8, by their geometry.

        Returns:
            What `locate` needs.
        """
        pixels = self.card.pixels
        matrix = crop_matrix(face, pixels)
        crop = crops.get(pixels.geometry)
        return CutFace(warp(image, matrix, pixels) if crop is None else crop, matrix)

    def locate(self, faces: Sequence[CutFace]) -> list[Floats]:
        """Find the points of faces in one call of the network.

        Args:
            faces: N faces as `cut` gives them.

        Returns:
            N times x and y of the points (68, 2), px of the frame.

        Raises:
            BundleError: The network gives NaN or infinity.
        """
        scores = self._model.score_prepared([face.crop for face in faces])[LANDMARK_FAMILY]
        # Pixel centres lie at whole numbers.
        points = scores.reshape(-1, COUNT, 2) * self.card.pixels.size - 0.5
        located: list[Floats] = []
        for face, in_crop in zip(faces, points, strict=True):
            back = np.asarray(cv2.invertAffineTransform(face.matrix), np.float64)
            located.append(in_crop @ back[:, :2].T + back[:, 2])
        return located


def load_landmarker(engine: str) -> Landmarker:
    """Load the bundle that comes with mien.

    Args:
        engine: What runs it.

    Returns:
        The network, ready to run.

    Raises:
        UnknownNameError: There is no such engine.
        BundleError: The bundle is damaged.
        MissingExtraError: The engine is not installed.
    """
    return Landmarker(load(LANDMARKS, engine))


def leave_out_covered_points(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Take away the points of covered regions.

    Args:
        readings: Of one source.

    Yields:
        The readings; points whose region is covered by half or more are NaN.
    """
    regions = TASKS["occlusion.regions5"].names
    for reading in readings:
        judged = {} if reading.quality is None else reading.quality.scores
        if reading.landmarks is None or "occlusion" not in judged:
            yield reading
            continue
        points = reading.landmarks.copy()
        for region, share in zip(regions, judged["occlusion"], strict=True):
            if share >= _COVERED:
                points[list(COVERED_WITH[region])] = np.nan
        yield replace(reading, landmarks=points)
