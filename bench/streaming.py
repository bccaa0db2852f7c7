"""Memory of a training whose label table holds more and more pictures.

    python bench/streaming.py [--rows 4000 16000 64000] [--kb 32] [--out bench/results/streaming.json]

One set of random pictures is written again and again into a Parquet file of small row groups, so that tables differ in
nothing but their length; each row has labels of three tasks and five points. A process of its own loads the table and
trains a tiny network for 40 steps of 64 faces, drawn from all rows, and tells its largest memory (VmHWM) and the faces
a second of the last 20 steps. The same is measured with all pictures held in memory, as smaller tables are."""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mien.tasks import TASKS

PICTURES = 512
GROUP = 64
STEPS = 40
BATCH = 64
LEARNED = ("expr.abaw7", "va", "au.abaw12")
COLUMNS = [name for key in LEARNED for name in TASKS[key].columns]


def make_table(path: Path, rows: int, kilobytes: int) -> None:
    """Grey noise as PNG, which does not get smaller; the first of every 32 rows is in split val."""
    rng = np.random.default_rng(0)
    side = int((kilobytes * 1024) ** 0.5)
    noise = rng.integers(0, 256, (PICTURES, side, side), np.uint8)
    pictures = [cv2.imencode(".png", picture)[1].tobytes() for picture in noise]
    numbers = {name: rng.random(PICTURES, np.float32) for name in COLUMNS}
    expr = TASKS["expr.abaw7"].columns
    for k, name in enumerate(expr):
        numbers[name] = (np.arange(PICTURES) % len(expr) == k).astype(np.float32)
    points = rng.random((PICTURES, 10)) * side
    block = pa.table(
        {
            "image": pa.array(pictures, pa.binary()),
            "split": ["val" if i < 16 else "train" for i in range(PICTURES)],
            "video": [f"v{i // 64}{'v' if i < 16 else 't'}" for i in range(PICTURES)],
            "frame": np.arange(PICTURES, dtype=float),
            "points": list(points),
            **numbers,
        }
    )
    with pq.ParquetWriter(path, block.schema, compression="none") as writer:
        for _ in range(rows // PICTURES):
            writer.write_table(block, row_group_size=GROUP)


def train(path: Path, in_memory: bool) -> None:
    """In a process of its own: train, and print what it took."""
    import torch

    from mien.data import stored_pictures
    from mien.train.loop import Progress, fit
    from mien.train.settings.training import Settings

    torch.set_num_threads(1)
    stored_pictures.IN_MEMORY = 1 << 50 if in_memory else 0
    stamps = []

    class Stop(Progress):
        def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
            stamps.append(time.monotonic())
            if done == STEPS:
                raise KeyboardInterrupt

    started = time.monotonic()
    settings = Settings.model_validate(
        {
            "name": "streaming",
            "data": [{"set": "file", "path": path}],
            "tasks": LEARNED,
            "pixels": {"size": 32, "colour": "grey", "alignment": "box", "mean": [127.0], "std": [64.0]},
            "network": {"backbone": "test_resnet"},
            "fit": {"epochs": 1, "batch": BATCH, "workers": 0, "accelerator": "cpu", "find_points": False},
        }
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        fit(settings, path.parent / f"run-{path.stem}-{in_memory}", Stop())
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    half = STEPS // 2
    print(
        json.dumps(
            {
                "peak MB": int(peak.split()[1]) // 1024,
                "seconds to the first step": round(stamps[0] - started, 1),
                "faces/s": round(BATCH * half / (stamps[-1] - stamps[-half - 1])),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 16384, 65536])
    parser.add_argument("--kb", type=int, default=32, help="size of a picture")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--in-memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(args.train, args.in_memory)
        return
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        for rows in args.rows:
            path = Path(scratch) / f"{rows}.parquet"
            make_table(path, rows, args.kb)
            result = {"rows": rows, "MB of the file": path.stat().st_size >> 20}
            for name, more in {"from the file": [], "in memory": ["--in-memory"]}.items():
                command = [sys.executable, __file__, "--train", str(path), *more]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                result[name] = json.loads(done.stdout.splitlines()[-1])
            print(json.dumps(result), flush=True)
            measured.append(result)
            path.unlink()
    first, last = measured[0], measured[-1]
    grown = last["MB of the file"] - first["MB of the file"]
    more = {
        name: last[name]["peak MB"] - first[name]["peak MB"]
        for name in ("from the file", "in memory")
    }
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "picture kB": args.kb,
        "tables": measured,
        "growth of the peak, MB per GB of table": {name: round(value / grown * 1024, 1) for name, value in more.items()},
        "bytes a row in memory beside its picture": round(more["from the file"] * 2**20 / (last["rows"] - first["rows"])),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
