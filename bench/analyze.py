"""How fast mien analyze is, as ratios within one run on one machine, and whether memory stays flat.

    python bench/analyze.py CLIP [--minutes 30] [--out bench/results/analyze.json]

Decoding alone is PyAV's plain loop over the clip: once with the frames thrown away (``decode``), once with each turned into an
RGB array, which is the least any analysis needs (``decode to RGB``). Analysing is the whole of `mien analyze CLIP --out DIR`: all frames,
all faces, table and dictionary written; once inside a warm process and once as a command, start included. Each figure is the
median of several rounds that take turns; so is analysing without the bundle that judges readings (``without quality``). Memory is the peak of a `mien analyze` process over the clip repeated to 1, 5 and
`--minutes` minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
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


def peak_mb(clip: Path, folder: Path) -> tuple[float, float]:
    """Peak resident memory of one `mien analyze` process, MB, and how long it took, start included, seconds."""
    code = "import resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    command = [sys.executable, "-c", code, *COMMAND, str(clip), "--out", str(folder)]
    started = time.perf_counter()
    peak = (
        int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        / 1024
    )
    return peak, time.perf_counter() - started


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
            peaks = {
                f"{m} minutes": peak_mb(
                    repeat(args.clip, 60 * m, folder / f"{m}.mp4"), folder / f"{m}"
                )[0]
                for m in (1, 5)
            }
            film = repeat(args.clip, args.minutes * 60, folder / "long.mp4")
            long, took = peak_mb(film, folder / "long")
            plain, rgb = seconds(lambda: decode(film)), seconds(lambda: decode(film, rgb=True))
            result["one command over the long clip"] = {
                "fps": round(decode(film) / took, 1),
                "of decode to RGB": round(rgb / took, 3),
                "of decode": round(plain / took, 3),
            }
            peaks[f"{args.minutes:g} minutes"] = long
            result["peak MB"] = {name: round(peak, 1) for name, peak in peaks.items()}
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
