"""What the front door costs: a picture a call beside the networks alone, and how late a live picture is read.

    python bench/front.py [--rounds 15] [--seconds 10] [--out bench/results/front.json]

A call: `mien.analyze(picture).table` and a `Reader` in a loop over the demo's photo, beside the same networks called by hand: finding the
faces and scoring them (``find and score``), and `model.score` alone, which is told where the face is. All take turns; milliseconds of wall
time and of processor time, medians of rounds of 20 calls, and medians of the ratios within each round.

Live: an iterator gives the frames of the demo's film in real time, 30 a second, as a camera's driver would. A lag is the time from the
moment a picture came into being to the moment its reading is there; in frames of 1/30 s.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mien
from mien.bundles.store import load_detector
from mien.demo import film, portrait
from mien.sources import open_source

CALLS = 20
RATE = 30


def cost(call: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of wall and of processor time a call."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        call()
    return 1000 * (time.perf_counter() - wall) / CALLS, 1000 * (
        time.process_time() - processor
    ) / CALLS


def calls(rounds: int) -> dict[str, dict[str, float]]:
    picture, model, reader = portrait(), mien.load("mien-s"), mien.Reader()
    detector = load_detector(engine="onnxruntime")
    (face, *_) = detector.find(picture)
    points = face.points[None]

    def by_hand() -> object:
        found = detector.find(picture)
        return model.score([picture] * len(found), np.stack([face.points for face in found]))

    ways: dict[str, Callable[[], object]] = {
        "model.score": lambda: model.score([picture], points),
        "find and score": by_hand,
        "mien.analyze": lambda: mien.analyze(picture).table,
        "reader.analyze": lambda: reader.analyze(picture).table,
        "reader.read": lambda: list(reader.read(picture)),
    }
    for call in ways.values():
        call()
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            told[name].append(cost(ways[name]))
    found: dict[str, dict[str, float]] = {}
    for name, values in told.items():
        found[name] = dict(
            zip(("ms", "processor ms"), np.median(values, axis=0).round(2).tolist(), strict=True)
        )
        for other in ("find and score", "model.score"):
            ratios = np.median(np.array(values) / np.array(told[other]), axis=0)
            found[name] |= {
                f"of {other}": round(float(ratios[0]), 2),
                f"of {other}, processor": round(float(ratios[1]), 2),
            }
    return found


def ticking(
    pictures: list[NDArray[np.uint8]], seconds: float, born: list[float]
) -> Iterator[NDArray[np.uint8]]:
    """Pictures in real time; born: when each came into being, whether or not it was asked for then."""
    start = time.monotonic()
    for number in range(round(seconds * RATE)):
        born.append(start + number / RATE)
        time.sleep(max(born[-1] - time.monotonic(), 0))
        yield pictures[number % len(pictures)]


def live(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        pictures = [
            frame.pixels
            for frame in open_source(film(Path(scratch) / "film.mp4", rate=RATE)).frames()
        ]
    born: list[float] = []
    lags = [
        (time.monotonic() - born[reading.frame]) * RATE
        for reading in mien.analyze(ticking(pictures, seconds, born), stream=True, live=True)
    ]
    return {
        "pictures": len(born),
        "median lag, frames": round(statistics.median(lags), 2),
        "95 % of lags below, frames": round(float(np.quantile(lags, 0.95)), 2),
        "greatest lag, frames": round(max(lags), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "a call": calls(args.rounds),
        "live": live(args.seconds),
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
