"""Whether one person is one number: over cuts, changes of place, gaps, and however few frames there are.

    python bench/tracks.py --data ../shared/data --media ../shared/media [--split val] [--people 80] [--seeds 1]
        [--out bench/results/tracks.json]

Films are made in memory from the portraits of one split: heads on studio grey, each aligned to the same place and size, varied a
little from frame to frame. Limits were chosen on ``--split train``, a few after a look at ``val``, which is what is reported.
"""

import argparse
import io
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

import mien
from mien import demo
from mien.bundles.store import load_detector
from mien.faces.lookback import look_back
from mien.faces.prepare import similarity
from mien.faces.track import Tracker
from mien.records import Face, Frame

RATE = 25
TEMPLATE = np.array(
    [[0.321, 0.379], [0.679, 0.379], [0.5, 0.611], [0.352, 0.768], [0.648, 0.768]]
) - (0.5, 0.57)
GREY = 128
Picture = np.ndarray
Film = list[tuple[float, Picture]]


class Person:
    """One photo and its five points."""

    def __init__(self, row: pd.Series) -> None:
        self.picture = np.array(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        self.points = np.array(row["points"], float).reshape(5, 2)

    def head(self, size=(320, 240), eyes=44.0, at=(160.0, 105.0), turn=0.0) -> Picture:
        """The head on grey: RGB (H, W, 3) for size (W, H); `eyes` apart, px, `at` its middle, turned by degrees."""
        unit = eyes / 0.358
        angle = np.deg2rad(turn)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = similarity(self.points, (TEMPLATE * unit) @ rotation.T + at)
        picture = cv2.warpAffine(
            self.picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros(size[::-1], np.float32)
        cv2.ellipse(
            mask,
            (round(at[0]), round(at[1] - 0.05 * unit)),
            (round(0.56 * unit), round(0.78 * unit)),
            turn,
            0,
            360,
            1.0,
            -1,
        )
        mask = cv2.GaussianBlur(mask, (0, 0), 3)[..., None]
        return np.asarray((picture * mask + GREY * (1 - mask)).round(), np.uint8)


def people(
    data: Path, split: str, detector, count: int, seed: int, *, photos: int = 1
) -> list[list[Person]]:
    """So many subjects with so many photos each, whose faces the detector finds on grey."""
    table = pd.read_parquet(
        data / "portraits.parquet", columns=["subject", "split", "image", "points"]
    )
    table = table[(table["split"] == split) & table["points"].notna()]
    groups = [group for _, group in table.groupby("subject") if len(group) >= photos]
    found: list[list[Person]] = []
    for at in np.random.default_rng(seed).permutation(len(groups)):
        persons = [Person(row) for _, row in groups[at].head(photos).iterrows()]
        if all(len(detector.find(person.head())) == 1 for person in persons):
            found.append(persons)
        if len(found) == count:
            break
    return found


def film(seconds: float, draw: Callable[[float], Picture], rate: float = RATE) -> Film:
    return [(i / rate, draw(i / rate)) for i in range(round(seconds * rate))]


def followed(frames: Film, detector) -> list[list[Face]]:
    """The faces of every frame, as a file's are found."""
    source = (
        Frame(picture, time_s, index, "film") for index, (time_s, picture) in enumerate(frames)
    )
    return [faces for _, faces in look_back(source, Tracker(detector))]


def numbers(looks: Sequence[Sequence[Face]]) -> list[list[int]]:
    return [[face.track for face in faces] for faces in looks]


# Cuts on one background


def cuts(
    persons: list[Person], detector, seed: int, length: int = 10, rate: float = RATE
) -> dict[str, object]:
    """Each person for so many frames, a hard cut between; the head stays where it is but for a little."""
    rng = np.random.default_rng(seed)
    frames: Film = []
    for person in persons:
        at, eyes, turn = (
            rng.normal((160, 105), 2),
            44 * np.exp(rng.normal(0, 0.03)),
            rng.normal(0, 2),
        )
        for i in range(length):
            moved = np.add(at, (0.6 * np.sin(0.5 * i), 0.05 * i))
            frames.append(
                (
                    len(frames) / rate,
                    person.head(at=moved, eyes=eyes * (1 + 0.002 * i), turn=turn + 0.2 * np.sin(i)),
                )
            )
    rows = numbers(followed(frames, detector))
    parts = [set(itertools.chain(*rows[i : i + length])) for i in range(0, len(rows), length)]
    before: set[int] = set()
    new = total = 0
    for part, following in itertools.pairwise(parts):
        before |= part
        total += bool(part and following)  # who is not found at all has no number to tell apart
        new += bool(part and following) and not following & before
    return {
        "cuts": total,
        "new number": new,
        "share": round(new / total, 4),
        "numbers too many within one person": sum(len(part) - 1 for part in parts if part),
        "frames without the face": sum(not row for row in rows),
    }


# One person, changed


def changes(person: Person, rng: np.random.Generator) -> Iterator[tuple[str, Film]]:
    """One second each of what may happen to one face without a cut."""
    still = person.head()
    step = rng.choice([-1.0, 1.0])
    yield "moves", film(1, lambda t: person.head(at=(160 + step * 90 * np.sin(2 * np.pi * t), 105)))
    yield "nods", film(1, lambda t: person.head(at=(160, 105 + 25 * np.sin(4 * np.pi * t))))
    yield "zooms", film(1, lambda t: person.head(eyes=44 * np.exp(0.45 * np.sin(2 * np.pi * t))))
    yield "rolls", film(1, lambda t: person.head(turn=step * 20 * np.sin(2 * np.pi * t)))
    yield (
        "is blurred",
        film(1, lambda t: cv2.GaussianBlur(still, (0, 0), 0.1 + 4 * np.sin(np.pi * t))),
    )
    yield (
        "jumps out of focus",
        film(1, lambda t: cv2.GaussianBlur(still, (0, 0), 3) if 0.3 < t < 0.6 else still),
    )
    yield (
        "is dimmed",
        film(1, lambda t: np.asarray(still * (1 - 0.6 * np.sin(np.pi * t)), np.uint8)),
    )
    yield (
        "is lit by a flash",
        film(
            1,
            lambda t: (
                np.asarray(np.clip(still * 1.6 + 30, 0, 255), np.uint8) if 0.4 < t < 0.5 else still
            ),
        ),
    )
    yield (
        "is in lamplight that goes off",
        film(1, lambda t: np.asarray(still * 0.45, np.uint8) if t > 0.5 else still),
    )
    yield "has a hand over the mouth", film(1, lambda t: covered(still, 0.62, t))
    yield "has a hand before one eye", film(1, lambda t: covered(still, 0.0, t))
    yield "squeezes (turns aside)", film(1, lambda t: squeezed(still, 1 - 0.25 * np.sin(np.pi * t)))
    yield (
        "is noisy",
        film(
            1,
            lambda t: np.asarray(np.clip(still + rng.normal(0, 14, still.shape), 0, 255), np.uint8),
        ),
    )


def covered(picture: Picture, down: float, time_s: float) -> Picture:
    """A hand that comes from below and goes again: over the lower face, or (down = 0) over one half of it."""
    out = picture.copy()
    rise = np.clip(1.3 - abs(time_s - 0.5) * 4, 0, 1)
    top, left, right = (130, 115, 205) if down else (60, 165, 210)
    line = round(240 - (240 - top) * rise)
    out[line:, left:right] = (176, 132, 110)
    return out


def squeezed(picture: Picture, by: float) -> Picture:
    matrix = np.array([[by, 0, 160 * (1 - by)], [0, 1, 0]])
    return cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def unbroken(persons: list[Person], detector, seed: int) -> dict[str, object]:
    """How many films of one changed face have one number, by what happens."""
    rng = np.random.default_rng(seed)
    broken: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for person in persons:
        for what, frames in changes(person, rng):
            total[what] += 1
            broken[what] += len(set(itertools.chain(*numbers(followed(frames, detector))))) > 1
    return {
        "films": total.total(),
        "with more than one number": broken.total(),
        "by kind": {what: broken[what] for what in total},
    }


def same_subject(pairs: list[list[Person]], detector) -> dict[str, object]:
    """Two photos of one person, on different days as a rule, cut one to the other: a hard test, with no right answer here."""
    kept = 0
    for first, second in pairs:
        frames = film(
            0.8, lambda t, first=first, second=second: (first if t < 0.39 else second).head()
        )
        rows = numbers(followed(frames, detector))
        kept += bool(rows[0]) and rows[0] == rows[-1]
    return {"pairs": len(pairs), "same number after the cut": kept}


# Gallery


def tiled(persons: Sequence[Person], order: Sequence[int], time_s: float) -> Picture:
    cells = []
    for place, who in enumerate(order):
        sway = 2 * np.sin(2 * np.pi * (0.5 * time_s + 0.13 * place))
        cells.append(persons[who].head(size=(320, 240), at=(160 + sway, 105), eyes=40 + 0.3 * sway))
    return np.vstack([np.hstack(cells[i : i + 3]) for i in (0, 3, 6)])


def gallery(persons: list[Person], detector, swaps: int, seed: int) -> dict[str, object]:
    """Nine tiles; every .6 s two of them change places."""
    rng = np.random.default_rng(seed)
    order, frames, orders = list(range(9)), [], []
    for swap in range(swaps + 1):
        if swap:
            a, b = rng.choice(9, 2, replace=False)
            order[a], order[b] = order[b], order[a]
        for _ in range(15):
            frames.append((len(frames) / RATE, tiled(persons, order, len(frames) / RATE)))
            orders.append(list(order))
    looks = followed(frames, detector)
    owners: dict[int, set[int]] = {}
    for faces, now in zip(looks, orders, strict=True):
        for face in faces:
            x, y = face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2
            owners.setdefault(face.track, set()).add(now[int(y // 240) * 3 + int(x // 320)])
    first = [
        face.track for face in sorted(looks[0], key=lambda face: face.box[0] + face.box[2] / 2)
    ]
    return {
        "swaps": swaps,
        "numbers": len(owners),
        "numbers with two owners": sum(len(who) > 1 for who in owners.values()),
        "rows of all": f"{sum(map(len, looks))} of {9 * len(frames)}",
        "left to right in the first frame": first == sorted(first),
    }


def takes_place(persons: list[Person], detector) -> dict[str, object]:
    """Two in view; the first leaves, and a third person sits down in the same place at once, or after .2 s."""
    inherited = unseen = 0
    for index in range(0, len(persons) - 2, 3):
        first, second, third = persons[index : index + 3]
        for pause in (0.0, 0.2):

            def draw(t: float, first=first, second=second, third=third, pause=pause) -> Picture:
                empty = np.full((240, 320, 3), GREY, np.uint8)
                left = first.head() if t < 0.6 else third.head() if t >= 0.6 + pause else empty
                return np.hstack([left, second.head()])

            looks = followed(film(1.4, draw), detector)
            left = {face.track for faces in looks[:14] for face in faces if face.box[0] < 300}
            late = {face.track for faces in looks[-8:] for face in faces if face.box[0] < 300}
            inherited += bool(left & late)
            unseen += not (left and late)
    return {
        "times": 2 * (len(persons) // 3),
        "number inherited": inherited,
        "not found at all": unseen,
    }


# Gaps, and coming and going


def comes_back(persons: list[Person], detector) -> dict[str, object]:
    """Beside a known face another is away from .52 s to 3.00 s; then it leaves at 3.80 s."""
    first_late, last_late = [], []
    for known, other in zip(persons[::2], persons[1::2], strict=False):

        def draw(t: float, known=known, other=other) -> Picture:
            there = t < 0.52 or 3.0 - 1e-9 <= t < 3.8 - 1e-9
            return np.hstack(
                [known.head(), other.head() if there else np.full((240, 320, 3), GREY, np.uint8)]
            )

        frames = film(4.4, draw)
        looks = followed(frames, detector)
        seen = [
            t
            for (t, _), faces in zip(frames, looks, strict=True)
            if t > 1 and any(face.box[0] > 300 for face in faces)
        ]
        first_late.append(round((min(seen) - 3.0) * RATE) if seen else 99)
        last_late.append(round((max(seen) + 1 / RATE - 3.8) * RATE) if seen else 99)
    return {
        "films": len(first_late),
        "first row, frames after it comes": dict(Counter(first_late)),
        "last row, frames after it left": dict(Counter(last_late)),
    }


def clips(media: Path) -> dict[str, object]:
    """How many numbers each real clip has; each shows one person without a cut (the demo's camera looks away for 2 s)."""
    found: dict[str, object] = {}
    names = [
        "one_face_640x360.mp4",
        "odd/one_fps.mp4",
        "odd/freeze_1s_gaps.mp4",
        "odd/hdv_square_reference.mp4",
        "odd/start_at_2s.mkv",
    ]
    names += [
        "odd/avi_dropped_frames_mjpeg.avi",
        "odd/hevc_open_gop_cut.mkv",
        "odd/trimmed_lossless.mkv",
    ]
    names += ["odd/animated.gif"]
    scratch = tempfile.TemporaryDirectory()
    paths = [*(media / name for name in names), demo.film(Path(scratch.name) / "demo.mp4")]
    for path in paths:
        table = mien.analyze(path).table
        found[path.name] = int(table["face"].nunique())
    for every in (0.2, 0.5, 1.0, 2.0, 5.0):
        table = mien.analyze(media / "one_face_640x360.mp4", every=every).table
        found[f"one_face every {every:g} s"] = int(table["face"].nunique())
    return found


def smoothing(media: Path, persons: list[Person], detector) -> dict[str, object]:
    """What smoothing over 2 s does where frames are rare, and whether it carries anything over a cut."""
    result: dict[str, object] = {}
    for name in ("odd/one_fps.mp4", "odd/freeze_1s_gaps.mp4"):
        table = mien.analyze(media / name, smoothing=2.0).table
        changed = (table["valence"] - table["valence_raw"]).abs()
        result[f"{name}: mean change of valence"] = round(float(changed.mean()), 4)
    leaks = []
    for first, second in zip(persons[::2], persons[1::2], strict=False):
        whole = film(0.8, lambda t, a=first, b=second: (a if t < 0.39 else b).head())
        after = [(t, picture) for t, picture in whole if t > 0.39]
        one, other = (mien.analyze(part, smoothing=0.3).table for part in (whole, after))
        late = one[one["time_s"] > 0.39].reset_index(drop=True)
        scores = [name for name in late if name.startswith(("p_", "valence", "arousal", "au"))] or [
            "valence",
            "arousal",
        ]
        scores = [name for name in scores if not name.endswith("_raw")]
        leaks.append(
            float(np.abs(late[scores].to_numpy(float) - other[scores].to_numpy(float)).max())
            if len(late) == len(other)
            else 1.0
        )
    result["cuts"] = len(leaks)
    result["cuts with a leak over .001"] = sum(leak > 1e-3 for leak in leaks)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--parts", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    detector = load_detector(engine="onnxruntime")
    persons = [one for (one,) in people(args.data, args.split, detector, args.people, 0)]
    parts: dict[str, Callable[[], object]] = {
        "cuts on one plain background, 25 frames a second": lambda: [
            cuts(
                [one for (one,) in people(args.data, args.split, detector, args.people, seed)],
                detector,
                seed,
            )
            for seed in range(args.seeds)
        ],
        "the same at 2 frames a second": lambda: cuts(persons, detector, 0, 4, 2.0),
        "the same at 1 frame a second": lambda: cuts(persons, detector, 0, 4, 1.0),
        "one person, changed": lambda: unbroken(persons[:24], detector, 0),
        "two photos of one subject": lambda: same_subject(
            people(args.data, args.split, detector, 80, 0, photos=2), detector
        ),
        "gallery": lambda: gallery(persons[:9], detector, 20, 0),
        "another takes the place": lambda: takes_place(persons, detector),
        "comes back at 3.00 s, leaves at 3.80 s": lambda: comes_back(persons[:40], detector),
        "numbers in real clips of one person": lambda: clips(args.media),
        "smoothing": lambda: smoothing(args.media, persons[:40], detector),
    }
    result: dict[str, object] = {"split": args.split, "people": len(persons)}
    for name, part in parts.items():
        if args.parts and not any(word in name for word in args.parts):
            continue
        started = time.perf_counter()
        result[name] = part()
        print(
            f"{name} ({time.perf_counter() - started:.0f} s): {json.dumps(result[name])}",
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
