"""How fast mien analyze is, as ratios within one run on one machine, and whether memory stays flat.

    python bench/analyze.py CLIP [--minutes 30] [--out bench/results/analyze.json]

Decoding alone is PyAV's plain loop over the clip: once with the frames thrown away (``decode``), once with each turned into an
RGB array, which is the least any analysis needs (``decode to RGB``). Analysing is the whole of `mien analyze CLIP --out DIR`: all frames,
all faces, table and dictionary written; once inside a warm process and once as a command, start included. Each figure is the
median of several rounds that take turns; so is analysing without the bundle that judges readings (``without quality``). Memory is that of a
`mien analyze` process over the clip repeated to 1, 5 and `--minutes` minutes: its peak, and what it holds in the second half (Linux).
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from mien.analysis.options import Options
from mien.batch import run
from mien.bundles.engines import available
from mien.bundles.store import load, load_detector

COMMAND = [sys.executable, "-m", "mien", "analyze"]


def seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def decode(clip: Path, rgb: bool = False) -> int:
    with av.open(str(clip)) as container:
        return sum(
            1
            for frame in container.decode(video=0)
            if not rgb or frame.to_ndarray(format="rgb24") is not None
        )


def repeat(clip: Path, length_s: float, path: Path) -> Path:
    """The clip's packets over and over, copied, until `length_s`."""
    with av.open(str(path), "w") as target, av.open(str(clip)) as first:
        out = target.add_stream_from_template(first.streams.video[0])
        start = 0
        while start * first.streams.video[0].time_base < length_s:
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = (
                            packet.pts + start,
                            packet.dts + start,
                            out,
                        )
                        target.mux(packet)
                start += stream.duration
    return path


def first_row_s(clip: Path) -> float:
    """From the start of a process to its first row, seconds."""
    code = f"import mien; print(next(iter(mien.analyze({str(clip)!r}, stream=True))).frame, flush=True)"
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"0"
        return time.perf_counter() - started


@dataclass(frozen=True)
class Memory:
    """Resident memory of a `mien analyze` process, MB, and how long it took, start included, seconds."""

    peak_mb: float
    held_mb: float
    """Median of the second half; the peak tells of the fullest moment of the queues."""
    seconds: float


def memory(clip: Path, folder: Path) -> Memory:
    command = [*COMMAND, str(clip), "--out", str(folder)]
    started, held, peak = time.perf_counter(), [0.0], 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Of an ended process the lines are missing.
            status = Path(f"/proc/{process.pid}/status").read_text()
            if found := dict(re.findall(r"Vm(HWM|RSS):\s+(\d+) kB", status)):
                peak = int(found["HWM"]) / 1024
                held.append(int(found["RSS"]) / 1024)
            time.sleep(0.1)
    assert process.returncode == 0, command
    took = time.perf_counter() - started
    return Memory(peak, statistics.median(held[len(held) // 2 :]), took)


def parts() -> dict[str, float]:
    """Milliseconds of the networks alone, one thread each."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (16, 112, 112, 3), np.uint8)
    frame = rng.integers(0, 256, (192, 320, 3), np.uint8)
    box = [(100.0, 50.0, 60.0, 80.0)]
    found: dict[str, float] = {}
    for engine in available():
        model, detector = load(engine=engine), load_detector(engine=engine)
        calls = {
            "affect, a crop of 16": lambda m=model: m.score_prepared(crops),
            "find at 320x192": lambda d=detector: d.find(frame),
            "follow one face": lambda d=detector: d.follow(frame, box),
        }
        for name, call in calls.items():
            call()
            median = statistics.median(seconds(call) for _ in range(40)) * 1000
            found[f"{name}, {engine}"] = round(median / (16 if "affect" in name else 1), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        frames, times = (
            decode(args.clip),
            {"decode": [], "decode to RGB": [], "analyse": [], "command": [], "first_row": []},
        )
        times["without quality"] = []
        plain = Options(quality="none")
        for i in range(args.rounds):
            times["decode"].append(seconds(lambda: decode(args.clip)))
            times["decode to RGB"].append(seconds(lambda: decode(args.clip, rgb=True)))
            times["analyse"].append(seconds(lambda i=i: run([args.clip], folder / f"warm{i}")))
            times["without quality"].append(
                seconds(lambda i=i: run([args.clip], folder / f"plain{i}", options=plain))
            )
            command = [*COMMAND, str(args.clip), "--out", str(folder / f"cold{i}")]
            times["command"].append(
                seconds(lambda c=command: subprocess.run(c, check=True, capture_output=True))
            )
            times["first_row"].append(first_row_s(args.clip))
        median = {name: statistics.median(values) for name, values in times.items()}
        result = {
            "machine": {"cores": os.cpu_count(), "engines": available()},
            "frames": frames,
            "fps": {
                name: round(frames / median[name], 1)
                for name in ("decode", "decode to RGB", "analyse", "without quality", "command")
            },
            "analyse / decode to RGB": round(median["decode to RGB"] / median["analyse"], 3),
            "analyse / without quality": round(median["without quality"] / median["analyse"], 3),
            "analyse / decode": round(median["decode"] / median["analyse"], 3),
            "command / decode to RGB": round(median["decode to RGB"] / median["command"], 3),
            "command / decode": round(median["decode"] / median["command"], 3),
            "start to first row, s": round(median["first_row"], 3),
            "ms": parts(),
        }
        if args.minutes:
            used = {}
            for minutes in (1, 5, args.minutes):
                film = repeat(args.clip, 60 * minutes, folder / f"{minutes:g}.mp4")
                used[f"{minutes:g} minutes"] = memory(film, folder / f"{minutes:g}")
            took = used[f"{args.minutes:g} minutes"].seconds
            plain, rgb = seconds(lambda: decode(film)), seconds(lambda: decode(film, rgb=True))
            result["one command over the long clip"] = {
                "fps": round(decode(film) / took, 1),
                "of decode to RGB": round(rgb / took, 3),
                "of decode": round(plain / took, 3),
            }
            result["peak MB"] = {name: round(of.peak_mb, 1) for name, of in used.items()}
            result["held MB"] = {name: round(of.held_mb, 1) for name, of in used.items()}
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
