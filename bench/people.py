"""Whether the people of a film are told apart: share of tracks that are joined wrongly, or split, over cuts and re-entries.

    python bench/people.py --data ../shared/data [--split val] [--films 40] [--seed 0] [--limits .5 .58 .66]
        [--out bench/results/people.json]

Films are made in memory from portraits of one split, which the network has never seen: two to six people, one or two in view, two to
four entries each. Each entry shows another photo of the person where there is one (of another day, as a rule: harder than a film), the
head moves, and light, size and sharpness differ. With ``--limits``, tracks are joined at those distances rather than at the card's, which
were chosen on ``--split train``; ``val`` is what is reported.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from tracks import Person, people

from mien.bundles.identity import load_identity
from mien.bundles.store import load_detector
from mien.faces.lookback import look_back
from mien.faces.people import People
from mien.faces.track import Tracker
from mien.metrics import bootstrap
from mien.records import Frame

RATE = 8
FRAMES = 10  # of a shot
PANEL = (320, 240)


def shots_of(count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Who is in view in each shot: one person or two, each two to four times, nobody twice in a row."""
    entries = list(np.repeat(np.arange(count), rng.integers(2, 5, count)))
    shots: list[tuple[int, ...]] = []
    while entries:
        before = shots[-1] if shots else ()
        choice = [person for person in set(entries) if person not in before] or list(set(entries))
        shot = rng.choice(choice, min(len(choice), 1 + int(rng.random() < 0.4)), replace=False)
        shots.append(tuple(map(int, shot)))
        for person in shot:
            entries.remove(person)
    return shots


def entry(person: Person, rng: np.random.Generator) -> list[np.ndarray]:
    """The pictures (240, 320, 3) of one shot of one head: it moves, and light, size and sharpness are those of the shot."""
    at = rng.normal((160, 105), 6)
    eyes = 40 * np.exp(rng.normal(0, 0.25))
    gain, blur = np.exp(rng.normal(0, 0.15)), rng.uniform(0, 1.2)
    turn = rng.normal(0, 5)
    pictures = []
    for number in range(FRAMES):
        moved = np.add(at, (3 * np.sin(0.5 * number), 0.3 * number))
        head = person.head(PANEL, eyes=eyes, at=moved, turn=turn + np.sin(number))
        lit = np.clip(head.astype(np.float32) * gain, 0, 255).astype(np.uint8)
        pictures.append(cv2.GaussianBlur(lit, (0, 0), blur) if blur > 0.3 else lit)
    return pictures


def film(cast: list[list[Person]], rng: np.random.Generator) -> tuple[list[Frame], list[list[int]]]:
    """Frames, and for each who is in the left and in the right half (-1: nobody)."""
    frames: list[Frame] = []
    truth: list[list[int]] = []
    taken: Counter[int] = Counter()
    for shot in shots_of(len(cast), rng):
        halves = [-1, -1]
        for place, person in zip(rng.permutation(2), shot, strict=False):
            halves[place] = person
        panels = []
        for person in halves:
            if person < 0:
                panels.append([np.full((*PANEL[::-1], 3), 128, np.uint8)] * FRAMES)
                continue
            photos = cast[person]
            panels.append(entry(photos[taken[person] % len(photos)], rng))
            taken[person] += 1
        for left, right in zip(*panels, strict=True):
            frames.append(Frame(np.hstack([left, right]), len(frames) / RATE, len(frames), "film"))
            truth.append(halves)
    return frames, truth


def judge(tracks: dict[int, Counter[int]], joined: dict[int, int]) -> dict[str, int]:
    """Counts of tracks; a track is the person's whom it shows most."""
    owner = {track: shown.most_common(1)[0][0] for track, shown in tracks.items()}
    by_person: dict[int, Counter[int]] = {}
    by_owner: dict[int, Counter[int]] = {}
    for track, person in joined.items():
        by_person.setdefault(person, Counter())[owner[track]] += 1
        by_owner.setdefault(owner[track], Counter())[person] += 1
    wrong = sum(c.total() - max(c.values()) for c in by_person.values())
    split = sum(c.total() - max(c.values()) for c in by_owner.values())
    return {
        "tracks": len(tracks),
        "tracks of two people": sum(len(shown) > 1 for shown in tracks.values()),
        "not sure": len(tracks) - len(joined),
        "wrongly joined": wrong,
        "split": split,
        "people": len(by_owner),
        "films": 1,
        "films without an error": int(not wrong and not split),
    }


def read(
    frames: list[Frame], truth: list[list[int]], detector, collectors: dict[str, People]
) -> dict[str, dict[str, int]]:
    """Counts of each collector on one film."""
    tracks: dict[int, Counter[int]] = {}
    for frame, faces in look_back(iter(frames), Tracker(detector)):
        for face in faces:
            person = truth[frame.index][int(face.box[0] + face.box[2] / 2 >= PANEL[0])]
            tracks.setdefault(face.track, Counter())[person] += 1
        for collector in collectors.values():
            collector.add(frame.pixels, frame.time_s, faces)
    return {name: judge(tracks, collector.join()) for name, collector in collectors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--films", type=int, default=40)
    parser.add_argument("--limits", type=float, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    detector = load_detector(engine="onnxruntime")
    network = load_identity()
    known: dict[bytes, np.ndarray] = {}

    def describe(crops) -> np.ndarray:
        new = [crop for crop in crops if crop.tobytes() not in known]
        for crop, row in zip(new, network.describe(new) if new else (), strict=True):
            known[crop.tobytes()] = row
        return np.array([known[crop.tobytes()] for crop in crops])

    rng = np.random.default_rng(args.seed)
    everybody = people(args.data, args.split, detector, 60, args.seed, photos=2)
    limits = {
        f"{way}{f' at {limit:g}' if args.limits else ''}": (way, limit)
        for way in ("auto", "N")
        for limit in args.limits or [network.card.same_person]
    }
    counts: dict[str, list[dict[str, int]]] = {name: [] for name in limits}
    started = time.perf_counter()
    for _ in range(args.films):
        cast = [everybody[i] for i in rng.choice(len(everybody), rng.integers(2, 7), replace=False)]
        frames, truth = film(cast, rng)
        collectors = {
            name: People(
                describe, network.card.pixels, "auto" if way == "auto" else len(cast), limit
            )
            for name, (way, limit) in limits.items()
        }
        for name, judged in read(frames, truth, detector, collectors).items():
            counts[name].append(judged)
        known.clear()
    result: dict[str, object] = {"split": args.split, "subjects": len(everybody)}
    for name, films in counts.items():
        table = {key: np.array([film[key] for film in films]) for key in films[0]}
        totals: dict[str, object] = {key: int(values.sum()) for key, values in table.items()}
        for key in ("wrongly joined", "split", "not sure"):
            share = lambda some, all_: float(some.sum() / all_.sum())  # noqa: E731
            pair = table[key], table["tracks"]
            low, high = bootstrap(share, *pair, groups=np.arange(len(films)))
            totals[f"share {key}"] = [round(v, 4) for v in (share(*pair), low, high)]
        result[name] = totals
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
