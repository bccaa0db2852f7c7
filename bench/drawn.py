"""How fast faces are drawn: whole label tables (sampling, drawing, points, labels), on one process and on two.

    python bench/drawn.py [--faces 2000] [--out bench/results/drawn.json]

Faces a second at 64 and at 112 pixels, the median of five rounds. OpenCV is held to one thread in every process.
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2

from mien.data.drawn.faces import load_drawn

ROUNDS = 5


def one_thread() -> None:
    cv2.setNumThreads(1)


def draw_some(job: tuple[int, int, int]) -> int:
    faces, size, seed = job
    return len(load_drawn(faces, seed=seed, split="train", size=size))


def rate(pool: ProcessPoolExecutor, processes: int, faces: int, size: int) -> float:
    """Faces a second; every process draws its share of `faces`."""
    jobs = [(faces // processes, size, seed) for seed in range(processes)]
    list(pool.map(draw_some, [(20, size, 0)] * processes))
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        done = sum(pool.map(draw_some, jobs))
        rates.append(done / (time.perf_counter() - started))
    return round(statistics.median(rates))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "drawn.json"
    )
    args = parser.parse_args()
    result: dict[str, dict[str, float]] = {}
    for processes in (1, 2):
        with ProcessPoolExecutor(processes, get_context("spawn"), initializer=one_thread) as pool:
            result[f"faces a second, {processes} process{'es' * (processes > 1)}"] = {
                f"{size} px": rate(pool, processes, args.faces, size) for size in (64, 112)
            }
    print(json.dumps(result, indent=2))
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
