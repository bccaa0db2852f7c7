"""How far readings can be trusted: a network beside the one that reads affect, and measures.

A bundle of quality tasks (`mien.tasks.QUALITY_FAMILIES`) sees each face in a crop of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import atan2, degrees
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.model import Image, Model
from mien.bundles.store import load
from mien.errors import BundleError
from mien.faces.prepare import Geometry, crop_matrix, warp
from mien.faces.sharpness import MEASURED, luma_of, sharpness
from mien.records import Face, Quality, Reading
from mien.tasks import LANDMARK_FAMILY, QUALITY_FAMILIES, TASKS, Floats, Task

__all__ = ["Judge", "JudgedFace", "leave_out_covered", "load_judge", "names_affect"]

# From this share on, a region counts as covered.
_COVERED: Final = 0.5
_EYES: Final = (0.5, 0.5, 0.0, 0.0, 0.0)
_BROWS: Final = (0.0, 0.0, 1.0, 0.0, 0.0)
_NOSE: Final = (0.0, 0.0, 0.0, 1.0, 0.0)
_MOUTH: Final = (0.0, 0.0, 0.0, 0.0, 1.0)
# By action unit, how much each region of `occlusion.regions5` counts for it.
_REGIONS: Final[dict[str, tuple[float, ...]]] = {
    **dict.fromkeys(("AU01", "AU02", "AU04"), _BROWS),
    **dict.fromkeys(("AU05", "AU06", "AU07", "AU43", "AU45"), _EYES),
    "AU09": _NOSE,
    **dict.fromkeys(("AU10", "AU12", "AU14", "AU15", "AU16", "AU17", "AU18"), _MOUTH),
    **dict.fromkeys(("AU20", "AU22", "AU23", "AU24", "AU25", "AU26", "AU28"), _MOUTH),
}


@dataclass(frozen=True, slots=True)
class JudgedFace:
    """What is kept of a face in its frame until it is judged.

    Attributes:
        crop: What the network sees, RGB uint8 (size, size, 3).
        turn: How far the crop was turned clockwise, degrees.
        face_size: As of `Quality`.
        luma: In which sharpness and light are measured, as `luma_of` gives it.
    """

    crop: Image
    turn: float
    face_size: float
    luma: Image


class Judge:
    """Says how far readings can be trusted.

    Args:
        model: A network of quality tasks.

    Attributes:
        card: Its card.
        tasks: Its tasks.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.card = model.card
        self.tasks = model.tasks

    def cut(
        self, image: Image, face: Face, crops: Mapping[Geometry, Image] | None = None
    ) -> JudgedFace:
        """Cut a face out of its frame.

        Args:
            image: The frame, RGB uint8 (H, W, 3).
            face: The face, in px of the frame.
            crops: Crops of the face that other networks see, RGB uint8, by their geometry.

        Returns:
            What `judge` needs.
        """
        matrix = crop_matrix(face, self.card.pixels)
        crop = warp(image, matrix, self.card.pixels)
        turn = degrees(atan2(matrix[1, 0], matrix[0, 0]))
        eyes = float(np.linalg.norm(face.points[1] - face.points[0]))
        # The shipped networks that read affect see just the crop in which faces are measured.
        measured = None if crops is None else crops.get(MEASURED.geometry)
        return JudgedFace(crop, turn, eyes, luma_of(image, face, measured))

    def judge(self, faces: Sequence[JudgedFace], read: Mapping[str, Floats]) -> list[Quality]:
        """Judge faces in one call of the network, and measure them.

        Args:
            faces: N faces as `cut` gives them.
            read: What was read of them, scores (N, K) by task family. Without expressions faces are
                judged by their pictures alone.

        Returns:
            N judgements.

        Raises:
            BundleError: The network gives NaN or infinity.
        """
        scores = self._model.score_prepared([face.crop for face in faces])
        trust = self.card.trust
        if trust is not None and "expr" in read:
            quality = trust.quality(scores["quality"][:, 0], read["expr"].max(axis=1))
            scores["quality"] = quality[:, None]
        judged = []
        for row, face in enumerate(faces):
            of_face = {family: values[row] for family, values in scores.items()}
            if "pose" in of_face:
                of_face["pose"] = _in_frame(of_face["pose"], face.turn)
            if "gaze" in of_face and _are_eyes_covered(of_face):
                of_face["gaze"] = np.full_like(of_face["gaze"], np.nan)
            light = float(face.luma.mean()) / 255
            judged.append(Quality(face.face_size, sharpness(face.luma), light, of_face))
        return judged

    def is_doubtful(self, quality: Quality) -> bool:
        """Whether a reading is doubtful.

        Args:
            quality: Its judgement.

        Returns:
            True where its `quality` is below the card's `doubtful_below`.
        """
        threshold = self.card.doubtful_below
        return threshold is not None and float(quality.scores["quality"][0]) < threshold


def _in_frame(angles: Floats, turn: float) -> Floats:
    """Yaw, pitch and roll (3,) of a crop, with the roll as it is in the frame."""
    yaw, pitch, roll = map(float, angles)
    return np.array([yaw, pitch, (roll - turn + 180) % 360 - 180])


def _are_eyes_covered(scores: Mapping[str, Floats]) -> bool:
    # The first two regions are the eyes.
    return "occlusion" in scores and float(scores["occlusion"][:2].min()) >= _COVERED


def load_judge(name: str | Path, engine: str) -> Judge:
    """Load a bundle that says how far readings can be trusted.

    Args:
        name: Its name or folder.
        engine: What runs it.

    Returns:
        The network, ready to run.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: The bundle is damaged or incomplete, or has other tasks.
        MissingExtraError: The engine is not installed.
    """
    model = load(name, engine)
    allowed = [TASKS[key] for key in TASKS if TASKS[key].family in QUALITY_FAMILIES]
    others = [task.key for task in model.tasks if task not in allowed]
    if others or not model.tasks:
        gives = ", ".join(others) or "features alone"
        known = ", ".join(task.key for task in allowed)
        raise BundleError(
            f"{model.card.name} gives {gives}, and a bundle for `quality` gives some of {known} "
            "and nothing else; name such a bundle, or none"
        )
    return Judge(model)


def names_affect(tasks: Sequence[Task]) -> bool:
    """Whether a bundle reads affect rather than judges readings or finds points.

    Args:
        tasks: Its tasks.

    Returns:
        False where a task is one of quality or of points.
    """
    others = (*QUALITY_FAMILIES, LANDMARK_FAMILY)
    return all(task.family not in others for task in tasks)


def leave_out_covered(readings: Iterable[Reading], tasks: Sequence[Task]) -> Iterator[Reading]:
    """Take away the action units of covered regions.

    Args:
        readings: Of one source, before gaps are filled and scores smoothed.
        tasks: The tasks of their scores.

    Yields:
        The readings; a unit whose region is covered by half or more is NaN.
    """
    names = [name for task in tasks if task.family == "au" for name in task.names]
    weights = np.array([_REGIONS.get(name, (0.0,) * 5) for name in names])
    for reading in readings:
        covered = _covered(reading, weights)
        if covered is None or not covered.any():
            yield reading
            continue
        units = np.where(covered, np.nan, reading.scores["au"])
        yield replace(reading, scores={**reading.scores, "au": units})


def _covered(reading: Reading, weights: Floats) -> NDArray[np.bool_] | None:
    """Which units (K,) are covered; None where that is not known or there are none."""
    if reading.quality is None or "au" not in reading.scores:
        return None
    occlusion = reading.quality.scores.get("occlusion")
    return None if occlusion is None else weights @ occlusion >= _COVERED
