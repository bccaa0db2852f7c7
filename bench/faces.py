"""How well `mien-face` finds what its teacher finds, on held-out portraits and on composites of them.

    python bench/faces.py --data FOLDER --teacher yunet_n_dynamic.onnx [--bundle FOLDER] [--out bench/results/faces.json]

What is counted is said in `mien.train.builtin.face_scores`. Intervals: 95 %, bootstrap over pictures. Times are medians on one thread, in
one run, of the search alone (the frame is 320x192 already).
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from mien.bundles.store import FACES, load_detector, open_bundle
from mien.train.builtin.face_scores import Picture, agreement, crowds, held_out, recall_by_width
from mien.train.builtin.teachers import Teacher


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--bundle", default=FACES)
    parser.add_argument("--crowds", type=int, default=600)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detector, teacher = load_detector(args.bundle, "onnxruntime"), Teacher(args.teacher)
    luma = np.random.default_rng(0).integers(0, 256, (192, 320), np.uint8)
    frame = np.repeat(luma[..., None], 3, 2)
    result = {
        "sha256": open_bundle(args.bundle).card.sha256[:12],
        "held-out portraits": summary(list(held_out(args.data, detector))),
        "composites of held-out portraits": summary(
            list(crowds(args.data, "val", teacher, detector, args.crowds))
        ),
        "ms at 320x192": {
            "mien-face": milliseconds(lambda: detector.find(frame)),
            "teacher": milliseconds(lambda: teacher(luma[None])),
        },
        "ms to follow one face": milliseconds(
            lambda: detector.follow(frame, [(100.0, 50.0, 60.0, 80.0)])
        ),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
