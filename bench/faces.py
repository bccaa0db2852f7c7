"""How well `mien-face` finds what its teacher finds, on held-out portraits and on composites of them.

    python bench/faces.py --data FOLDER --teacher yunet_n_dynamic.onnx [--bundle FOLDER] [--out bench/results/faces.json]

A face counts as found when the boxes share at least half (IoU). Recall, precision and point error are against the faces the
teacher finds at score >= 0.6; point error is the mean distance of the five points in units of the teacher's eye distance.
Intervals: 95 %, bootstrap over pictures. Times are medians on one thread, in one run.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from mien.bundles.store import FACES, load_detector, open_bundle
from mien.data.ferplus import read_table
from mien.faces.detect import cells, decode
from mien.faces.track import overlap
from mien.train.composites import compose
from mien.train.mien_face import Teacher, portraits

SURE = 0.6


def teacher_faces(grid: np.ndarray, corners: np.ndarray) -> np.ndarray:
    found = decode(grid, corners, SURE)
    keep = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 14].tolist(), SURE, 0.3) if len(found) else []
    return found[np.asarray(keep, int).ravel()]


def held_out(folder: Path):
    table = read_table(folder / "portraits.parquet", ["split", "image", "faces"])
    for data, faces in table[table["split"] == "val"][["image", "faces"]].itertuples(index=False):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        rows = np.array([list(face) for face in faces if face[14] >= SURE], float).reshape(-1, 15)
        yield picture, rows


def crowds(folder: Path, teacher: Teacher, count: int):
    photos, rng, corners = portraits(folder, "val"), np.random.default_rng(7), cells(640, 640)
    for _ in range(count):
        picture = compose(photos, 640, (20.0, 400.0), rng)
        yield np.repeat(picture[..., None], 3, 2), teacher_faces(teacher(picture[None])[0], corners)


def compare(pictures, detector) -> list[dict]:
    rows = []
    for picture, truth in pictures:
        found = detector.find(picture)
        taken: set[int] = set()
        errors, sizes = [], []
        for row in truth[np.argsort(-truth[:, 14])]:
            shares = [(-1.0 if i in taken else overlap(tuple(row[:4]), face.box)) for i, face in enumerate(found)]
            best = int(np.argmax(shares)) if shares else -1
            hit = best >= 0 and shares[best] >= 0.5
            sizes.append((float(row[2]), hit))
            if hit:
                taken.add(best)
                points = row[4:14].reshape(5, 2)
                apart = np.linalg.norm(found[best].points - points, axis=1).mean()
                errors.append(float(apart / max(np.linalg.norm(points[0] - points[1]), 1e-6)))
        rows.append({"truth": len(truth), "found": len(found), "hits": len(taken), "errors": errors, "sizes": sizes})
    return rows


def summary(rows: list[dict]) -> dict:
    def figures(some: list[dict]) -> np.ndarray:
        hits = sum(r["hits"] for r in some)
        errors = [e for r in some for e in r["errors"]]
        return np.array([
            hits / max(sum(r["truth"] for r in some), 1), hits / max(sum(r["found"] for r in some), 1), np.mean(errors), np.median(errors)
        ])

    rng = np.random.default_rng(0)
    draws = np.array([figures([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(400)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    names = ("recall", "precision", "point_error", "point_error_median")
    values = figures(rows)
    out = {n: [round(float(v), 4) for v in (value, lo, hi)] for n, value, lo, hi in zip(names, values, low, high, strict=True)}
    sizes = [s for r in rows for s in r["sizes"]]
    edges = [0, 20, 30, 50, 100, 200, 400, 10_000]
    out["recall_by_width_px"] = {
        f"{a}-{b}": [round(float(np.mean([h for w, h in sizes if a <= w < b])), 4), len([1 for w, _ in sizes if a <= w < b])]
        for a, b in zip(edges, edges[1:], strict=False)
        if any(a <= w < b for w, _ in sizes)
    }
    return out | {"pictures": len(rows), "faces": sum(r["truth"] for r in rows)}


def milliseconds(call, repeat: int = 60) -> float:
    for _ in range(5):
        call()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1000, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--bundle", default=FACES)
    parser.add_argument("--crowds", type=int, default=600)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detector, teacher = load_detector(args.bundle, "onnxruntime"), Teacher(args.teacher)
    wide = np.random.default_rng(0).integers(0, 256, (192, 320), np.uint8)
    frame = np.repeat(wide[..., None], 3, 2)
    result = {
        "bundle": open_bundle(args.bundle).card.sha256[:12],
        "portraits": summary(compare(held_out(args.data), detector)),
        "crowds": summary(compare(crowds(args.data, teacher, args.crowds), detector)),
        "ms_320x192": {"mien-face": milliseconds(lambda: detector.find(frame)), "yunet": milliseconds(lambda: teacher(wide[None]))},
        "ms_follow_one_face": milliseconds(lambda: detector.follow(frame, [(100.0, 50.0, 60.0, 80.0)])),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
