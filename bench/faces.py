"""How well `mien-face` finds faces: as its teacher does, and under conditions that faces come in.

    python bench/faces.py --data FOLDER [--teacher yunet_n_dynamic.onnx] [--bundle FOLDER] [--out bench/results/faces.json]

Agreement with the teacher on held-out portraits and on composites of them is counted as `mien.train.builtin.detection.face_scores` says. Intervals:
95 %, bootstrap over pictures. Times are medians on one thread, in one run, of the search alone (the frame is 320x192 already).

Conditions: held-out portraits with exactly one face of the teacher are turned, covered, relit and resized. A face is found where a box has
an IoU of at least .4 with the one that it should have; its points are right where they are off by less than a quarter of the face's unit
(distance between the eyes, or what the mouth makes of it), on average. `search` is what reads photos and films: a closer look confirms
each face, and where none is found, the picture is turned. `plain` is the search alone, once, upright; so is the teacher's.
`--quick` leaves out what is compared with the teacher at length.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.bundles.store import FACES, load_detector, open_bundle
from mien.data.drawn.occluders import FaceFrame, occlude
from mien.data.sets.ferplus import read_table
from mien.faces.detect import Detector, overlap
from mien.faces.track import Tracker
from mien.records import Face
from mien.tasks import Floats
from mien.train.builtin.detection.composites import SCENES
from mien.train.builtin.detection.face_scores import (
    SURE,
    Picture,
    agreement,
    crowds,
    held_out,
    recall_by_width,
)
from mien.train.builtin.teachers import Teacher

Image = NDArray[np.uint8]
Finder = Callable[[Image], list[Face]]

GREY: Final = 110
# Overlap with the box a face should have, and error of its points in its units.
FOUND_IOU: Final = 0.4
RIGHT: Final = 0.25
# Frames a second of films, and degrees from one frame to the next of faces that roll.
RATE: Final = 25
ROLL_STEP: Final = 3


@dataclass(frozen=True)
class Shot:
    """A picture (H, W, 3) with one face: its box x, y, w, h and its points (5, 2), px."""

    image: Image
    box: Floats
    points: Floats

    def moved(self, matrix: Floats, size: tuple[int, int]) -> "Shot":
        """After a turn and a shift (2, 3), in a picture of that width and height."""
        moved = cv2.warpAffine(self.image, matrix, size, borderValue=(GREY,) * 3)
        # The box around the ellipse with its axes, as it lies after the map.
        middle = matrix[:, :2] @ (self.box[:2] + self.box[2:] / 2) + matrix[:, 2]
        sides = np.hypot(*(matrix[:, :2] * self.box[2:]).T)
        box = np.concatenate([middle - sides / 2, sides])
        return Shot(moved, box, self.points @ matrix[:, :2].T + matrix[:, 2])

    def is_found(self, face: Face) -> bool:
        return overlap(tuple(self.box), face.box) >= FOUND_IOU

    def error(self, face: Face) -> float:
        """Mean distance of the points, in units of the face."""
        distances = np.linalg.norm(face.points - self.points, axis=1)
        return float(distances.mean() / FaceFrame.of(self.points).unit)


def portraits(data: Path, count: int) -> list[Shot]:
    """Held-out portraits in which the teacher found one face and nothing like a second one."""
    table = read_table(data / "portraits.parquet", ["split", "image", "faces"])
    table = table[table["split"] == "val"]
    shots = []
    for encoded, faces in zip(table["image"], table["faces"], strict=True):
        if len(faces) == 1 and faces[0][14] >= SURE:
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
            row = np.asarray(faces[0], float)
            shots.append(Shot(image, row[:4], row[4:14].reshape(5, 2)))
    # Evenly from all over the table.
    return [shots[number * len(shots) // count] for number in range(min(count, len(shots)))]


def rolled(shot: Shot, degrees: float) -> Shot:
    """Turned clockwise, on a canvas on which nothing is cut off."""
    height, width = shot.image.shape[:2]
    side = int(np.hypot(height, width)) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    return shot.moved(matrix, (side, side))


def resized(shot: Shot, face_width: float, size: tuple[int, int] = (640, 360)) -> Shot:
    """With a face of that width, in the middle of a frame of that width and height."""
    scale = face_width / shot.box[2]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(shot.image, None, fx=scale, fy=scale, interpolation=method)
    # By whole pixels, so that nothing is blurred once more.
    middle = scale * (shot.box[:2] + shot.box[2:] / 2)
    right, down = np.rint(np.array(size) / 2 - middle)
    small = Shot(image, scale * shot.box, scale * shot.points)
    return small.moved(np.array([[1.0, 0, right], [0, 1, down]]), size)


def filling(shot: Shot) -> Shot:
    """A frame of 640x360 that the face fills from top to bottom."""
    return resized(shot, 360 * shot.box[2] / shot.box[3])


def covered(shot: Shot, kind: str, rng: np.random.Generator) -> Shot:
    return replace(shot, image=occlude(shot.image, shot.points, kind, rng)[0])


def relit(shot: Shot, gain: float, noise: float, rng: np.random.Generator) -> Shot:
    value = shot.image.astype(np.float32) * gain + rng.normal(0, noise, shot.image.shape)
    return replace(shot, image=np.clip(value, 0, 255).astype(np.uint8))


def backlit(shot: Shot) -> Shot:
    """The face at a fifth of its light, everything far from it white."""
    height, width = shot.image.shape[:2]
    x, y, w, h = shot.box
    rows, columns = np.mgrid[:height, :width]
    far = np.hypot((columns - x - w / 2) / w, (rows - y - h / 2) / h)
    white = np.clip((far - 0.6) / 0.3, 0, 1)[..., None]
    image = shot.image * 0.2 * (1 - white) + 250 * white
    return replace(shot, image=image.astype(np.uint8))


def is_profile(shot: Shot) -> bool:
    """Whether the nose lies about below one of the eyes, or beyond it."""
    frame = FaceFrame.of(shot.points)
    across = frame.axes[:, 0] / np.linalg.norm(frame.axes[:, 0])
    eyes = shot.points[:2].mean(axis=0)
    distance = np.linalg.norm(shot.points[0] - shot.points[1])
    return bool(abs((shot.points[2] - eyes) @ across) > 0.3 * distance)


def conditions(shots: list[Shot], profiles: list[Shot]) -> Iterator[tuple[str, list[Shot]]]:
    """Names and pictures, the same in every run."""
    yield "as they are", shots
    for degrees in (15, 30, 45, 60, 75, 90, 135, 180):
        sides = (1, -1)
        yield (
            f"roll {degrees}",
            [rolled(shot, sides[n % 2] * degrees) for n, shot in enumerate(shots)],
        )
    for kind in ("mask", "scarf", "glasses", "sunglasses", "hand", "hair", "half"):
        rng = np.random.default_rng(0)
        yield kind, [covered(shot, kind, rng) for shot in shots]
    rng = np.random.default_rng(0)
    yield "dark: a quarter of the light", [relit(shot, 0.25, 3, rng) for shot in shots]
    yield "bright: three times the light", [relit(shot, 3.0, 3, rng) for shot in shots]
    yield "against the light", [backlit(shot) for shot in shots]
    for width in (16, 20, 24, 32, 200):
        yield f"{width} px in 640x360", [resized(shot, width) for shot in shots]
    yield "fills the frame", [filling(shot) for shot in shots]
    yield "turned aside", profiles


def row_of(shots: list[Shot], find: Finder) -> dict[str, float]:
    """Recall, share of all faces with right points, and other faces per picture."""
    hits = 0
    right = 0
    others = 0
    for shot in shots:
        faces = find(shot.image)
        matching = [face for face in faces if shot.is_found(face)]
        hits += bool(matching)
        right += any(shot.error(face) < RIGHT for face in matching)
        others += len(faces) - bool(matching)
    count = max(len(shots), 1)
    return {
        "recall": round(hits / count, 3),
        "right": round(right / count, 3),
        "others": round(others / count, 3),
    }


def strips(shots: list[Shot], width: float, count: int) -> Iterator[tuple[Image, list[Shot]]]:
    """Frames of 3840x2160 with six faces of that width side by side."""
    for number in range(count):
        frame = np.full((2160, 3840, 3), GREY, np.uint8)
        faces = []
        for place, shot in enumerate(shots[6 * number : 6 * number + 6]):
            # A cell of 640 px each, at changing heights.
            small = resized(shot, width, (640, 640))
            corner = np.array([640 * place, 200 + 240 * place])
            frame[corner[1] : corner[1] + 640, corner[0] : corner[0] + 640] = small.image
            box = np.concatenate([small.box[:2] + corner, small.box[2:]])
            faces.append(Shot(frame, box, small.points + corner))
        yield frame, faces


def on_screens(shots: list[Shot], find: Finder, width: float) -> str:
    hits = []
    for frame, faces in strips(shots, width, 5):
        seen = find(frame)
        hits.append(sum(any(map(face.is_found, seen)) for face in faces))
    return " ".join(f"{count}/6" for count in hits)


def faceless() -> list[Image]:
    """Twenty pictures: scenes of scikit-image, and what has edges without sense."""
    from skimage import data

    rng = np.random.default_rng(0)
    pictures = []
    for name in SCENES:
        picture = np.asarray(getattr(data, name)())
        if picture.dtype == bool:
            picture = picture.astype(np.uint8) * 255
        colour = picture[..., :3] if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
        pictures.append(np.ascontiguousarray(colour))
    for cells in (4, 8, 16, 32):
        rough = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        pictures.append(cv2.resize(rough, (640, 360), interpolation=cv2.INTER_CUBIC))
    pictures.append(rng.integers(0, 256, (360, 640, 3), np.uint8))
    return pictures


def faceless_film(seconds: float = 4.0) -> Iterator[tuple[float, Image]]:
    """A camera that pans over pictures without a face."""
    pictures = [cv2.resize(picture, (960, 540)) for picture in faceless()]
    for index in range(int(seconds * RATE)):
        x, y = (160 + 160 * np.sin(index / 9), 90 + 90 * np.cos(index / 13))
        picture = pictures[index // 20 % len(pictures)]
        yield index / RATE, picture[int(y) : int(y) + 360, int(x) : int(x) + 640].copy()


def without_faces(detector: Detector) -> dict[str, str]:
    pictures = faceless()
    in_pictures = sum(len(photo(detector)(picture)) for picture in pictures)
    tracker = Tracker(detector)
    in_film = sum(len(tracker.update(image, time_s)) for time_s, image in faceless_film())
    frames = len(list(faceless_film()))
    return {
        "pictures": f"{in_pictures} faces in {len(pictures)}",
        "film": f"{in_film} faces in {frames} frames",
    }


def rolling(shots: list[Shot], detector: Detector) -> dict[str, float]:
    """Films of faces that roll from upright until they are upside down."""
    numbers = []
    seen: list[bool] = []
    right: list[bool] = []
    for shot in shots:
        tracker = Tracker(detector)
        tracks: set[int | None] = set()
        for index, degrees in enumerate(range(0, 181, ROLL_STEP)):
            turned = rolled(shot, degrees)
            faces = tracker.update(turned.image, index / RATE)
            tracks |= {face.track for face in faces}
            seen.append(any(map(turned.is_found, faces)))
            right.append(any(turned.error(face) < RIGHT for face in faces))
        numbers.append(len(tracks))
    return {
        "films": len(shots),
        "seen": round(float(np.mean(seen)), 3),
        "right": round(float(np.mean(right)), 3),
        "numbers per film": round(float(np.mean(numbers)), 2),
    }


def photo(detector: Detector) -> Finder:
    """What finds the faces of a photo."""
    return lambda image: Tracker(detector).update(image, 0.0)


def teaching(teacher: Teacher) -> Detector:
    """The teacher, searched as `mien-face` is."""

    def grids(luma: NDArray[np.float32]) -> NDArray[np.float32]:
        return teacher(luma[:, 0].astype(np.uint8))

    return Detector(grids, least=SURE, keep=0.4, overlap=0.3, side=640, window=160)


def as_they_come(data: Path, count: int, finders: dict[str, Finder]) -> dict[str, dict]:
    """By condition and finder: recall, right points, other faces."""
    shots = portraits(data, count)
    # Some pictures are in the table more than once.
    profiles = {shot.points.tobytes(): shot for shot in portraits(data, 10_000) if is_profile(shot)}
    table = {}
    for name, pictures in conditions(shots, list(profiles.values())):
        rows = {finder: row_of(pictures, find) for finder, find in finders.items()}
        table[name] = {"faces": len(pictures), **rows}
        cells = []
        for values in rows.values():
            cells += [f"{values['recall']:.3f}", f"{values['right']:.3f}"]
        print(f"| {name} | {len(pictures)} | {' | '.join(cells)} |", flush=True)
    return table


def print_head(finders: dict[str, Finder]) -> None:
    cells = []
    for name in finders:
        cells += [f"{name}: recall", "points right"]
    print(f"| condition | faces | {' | '.join(cells)} |")
    print("|---" * (2 + len(cells)) + "|")


def summary(pictures: list[Picture]) -> dict:
    rng = np.random.default_rng(0)
    draws = [
        agreement([pictures[i] for i in rng.integers(len(pictures), size=len(pictures))])
        for _ in range(300)
    ]
    low, high = np.percentile(np.array(draws), [2.5, 97.5], axis=0)
    names, values = ("recall", "precision", "point error"), agreement(pictures)
    found = {
        n: [round(float(v), 4) for v in row]
        for n, *row in zip(names, values, low, high, strict=True)
    }
    median = statistics.median(error for one in pictures for error in one.errors)
    faces = sum(len(one.truth) for one in pictures)
    by_width = recall_by_width(pictures)
    return found | {
        "median point error": round(median, 4),
        "pictures": len(pictures),
        "faces": faces,
        "recall by width, px": by_width,
    }


def milliseconds(call, repeat: int = 100) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return round(statistics.median(times) * 1000, 3)


def times(detector: Detector, teacher: Teacher | None) -> dict[str, object]:
    luma = np.random.default_rng(0).integers(0, 256, (192, 320), np.uint8)
    frame = np.repeat(luma[..., None], 3, 2)
    searches = {"mien-face": milliseconds(lambda: detector.find(frame))}
    if teacher is not None:
        searches["teacher"] = milliseconds(lambda: teacher(luma[None]))
    screen = np.full((2160, 3840, 3), GREY, np.uint8)
    box = [(100.0, 50.0, 60.0, 80.0)]
    quick = detector.quick_scale(screen)
    close = detector.scale_for(screen, 20)
    return {
        "ms at 320x192": searches,
        "ms to follow one face": milliseconds(lambda: detector.follow(frame, box)),
        "ms to follow one face that leans": milliseconds(lambda: detector.follow(frame, box, [30])),
        "ms at 3840x2160": {
            "quick": milliseconds(lambda: detector.find(screen, scale=quick), 10),
            "thorough": milliseconds(lambda: detector.find(screen), 10),
            "with min_face=20": milliseconds(lambda: detector.find(screen, scale=close), 3),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--bundle", default=FACES)
    parser.add_argument("--crowds", type=int, default=600)
    parser.add_argument("--pictures", type=int, default=150, help="portraits per condition")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detector = load_detector(args.bundle, "onnxruntime")
    teacher = Teacher(args.teacher) if args.teacher else None
    finders = {"search": photo(detector), "plain": detector.find}
    if teacher is not None:
        finders["YuNet"] = teaching(teacher).find
    result: dict[str, object] = {"sha256": open_bundle(args.bundle).card.sha256[:12]}
    if not args.quick:
        result["held-out portraits"] = summary(list(held_out(args.data, detector)))
    if not args.quick and teacher is not None:
        composites = list(crowds(args.data, "val", teacher, detector, args.crowds))
        result["composites of held-out portraits"] = summary(composites)
    print_head(finders)
    result["conditions"] = as_they_come(args.data, args.pictures, finders)
    shots = portraits(args.data, 30)
    rest: dict[str, object] = {"without a face": without_faces(detector)}
    for width in (130, 96, 60, 40):
        rest[f"six faces of {width} px at 3840x2160"] = {
            name: on_screens(shots, find, width) for name, find in finders.items()
        }
    closer: Finder = lambda image: Tracker(detector, 40).update(image, 0.0)  # noqa: E731
    rest["the same with min_face=40"] = on_screens(shots, closer, 40)
    rest["rolling films"] = rolling(shots, detector)
    rest |= times(detector, teacher)
    print(json.dumps(rest, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result | rest, indent=2) + "\n")


if __name__ == "__main__":
    main()
