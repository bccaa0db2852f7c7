"""Ten thousand short recordings, disturbed five times, by two processes or on a Ray cluster.

    python bench/many_clips.py CLIP --with jobs --clips 10000 --out bench/results/many_clips.json
    python bench/many_clips.py CLIP --with ray --clips 10000 --out bench/results/many_clips.json

CLIP is cut into different short recordings as in `bench/batches.py`, which are read once, undisturbed. Then copies of them are
made under names of their own, and a plan of all is done and disturbed five times. Under `jobs`
(`--jobs 2`): a process is killed (SIGKILL), Ctrl-C, the parent is killed, a process, the parent. Under `ray`, on a cluster of
two nodes of one core each on this machine: a process is killed, a node, which is replaced, a process, the
command itself, a process. Each time the same line goes on.

At the end every clip must have one table, which holds each of its frames once, with the readings of the clip that was
read alone: counted are tables that are missing, too many or different, and frames that are missing or doubled. Linux
only: processes are looked up in /proc. Results of both ways stand beside each other in the file.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from batches import CLIPS_PER_FOLDER, HEIGHT, WIDTH, cut, disturb, run

from mien import batch

JOBS_DISTURBANCES = (
    ("worker", 0.1),
    ("interrupt", 0.3),
    ("parent", 0.5),
    ("worker", 0.6),
    ("parent", 0.8),
)
RAY_DISTURBANCES = (
    ("worker", 0.1),
    ("node", 0.3),
    ("worker", 0.5),
    ("parent", 0.6),
    ("worker", 0.8),
)
DIFFERENT, FRAMES = 60, 5
OF_PLACE = ["source"]


def copy(cuts: Path, study: Path, count: int) -> None:
    """Copy recordings in turn, each under a name of its own."""
    originals = sorted(cuts.rglob("*.mp4"))
    for number in range(count):
        path = study / f"s{number // CLIPS_PER_FOLDER:03}" / f"c{number:05}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(originals[number % len(originals)], path)


def reading_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).drop(columns=OF_PLACE)


def tables_of(out: Path) -> list[Path]:
    return sorted(out.glob("s*/*.csv"))


def count_done(out: Path) -> int:
    return sum(1 for _ in out.glob("s*/*.dictionary.json"))


def start(log: Path, *words: object) -> "subprocess.Popen[bytes]":
    """A command in a group of its own, whose lines go into a file: nobody reads a pipe meanwhile."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mien", *map(str, words)],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def watch(process: "subprocess.Popen[bytes]", out: Path, at: int, kind: str) -> None:
    """Wait until so many tables are there."""
    while count_done(out) < at:
        if process.poll() is not None:
            raise SystemExit(f"the run ended before it could be disturbed ({kind})")
        time.sleep(1)


class Cluster:
    """Two nodes of one core on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._nodes = Nodes(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._second = self._nodes.add_node(num_cpus=1)
        self.address = self._nodes.address

    def disturb(self, process: "subprocess.Popen[bytes]", kind: str) -> None:
        if kind == "worker":
            os.kill(reading_on_ray()[0], signal.SIGKILL)
        elif kind == "parent":
            process.kill()
        else:
            self._nodes.remove_node(self._second, allow_graceful=False)
            self._second = self._nodes.add_node(num_cpus=1)

    def end(self) -> None:
        self._nodes.shutdown()


def reading_on_ray() -> list[int]:
    """The processes of the cluster that do a job."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.read_bytes().startswith(b"ray::run_one"):
            found.append(int(path.parent.name))
    return found


def disturbed(
    out: Path,
    words: tuple[object, ...],
    count: int,
    kinds: tuple[tuple[str, float], ...],
    do: Callable,
) -> list[dict[str, object]]:
    """Do the plan, disturbed again and again."""
    happened: list[dict[str, object]] = []
    log = out.parent / "lines.txt"
    process = start(log, *words)
    for kind, share in kinds:
        watch(process, out, int(share * count), kind)
        happened.append({"kind": kind, "done": count_done(out)})
        do(process, kind)
        if kind in ("parent", "interrupt"):
            process.wait()
            process = start(log, *words)
    process.wait()
    last = log.read_text().splitlines()[-1:]
    happened.append({"kind": "end", "exit": process.returncode, "said": last})
    # What killed processes took with them is tried once more.
    run(*words, "--retry-failed")
    return happened


def faults(study: Path, out: Path, alone: Path) -> dict[str, int]:
    """What is missing, doubled or different."""
    clips = sorted(path.relative_to(study).with_suffix("") for path in study.rglob("*.mp4"))
    expected = [reading_of(path) for path in tables_of(alone)]
    tables = {path.relative_to(out).with_suffix(""): path for path in tables_of(out)}
    counts = {"missing": 0, "different": 0, "missing_frames": 0, "doubled_frames": 0}
    counts["too_many"] = len(tables.keys() - set(clips))
    for clip in clips:
        if clip not in tables:
            counts["missing"] += 1
            continue
        rows = reading_of(tables[clip])
        frames = rows["frame"].value_counts()
        counts["missing_frames"] += FRAMES - len(frames)
        counts["doubled_frames"] += int((frames > 1).sum())
        like = expected[int(clip.name[1:]) % len(expected)]
        counts["different"] += not rows.equals(like)
    counts["left_behind"] = len(list(out.rglob(".*")))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--with", dest="way", choices=["jobs", "ray"], required=True)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study, alone, out = folder / "study", folder / "alone", folder / "out"
        cut(args.clip, folder / "cut", DIFFERENT, FRAMES)
        run("analyze", folder / "cut", "--out", alone)
        copy(folder / "cut", study, args.clips)
        run("plan", study, "--out", out)
        began = time.perf_counter()
        words: tuple[object, ...] = ("analyze", "--plan", out)
        if args.way == "jobs":
            happened = disturbed(out, (*words, "--jobs", 2), args.clips, JOBS_DISTURBANCES, disturb)
        else:
            cluster = Cluster()
            happened = disturbed(
                out,
                (*words, "--ray", cluster.address),
                args.clips,
                RAY_DISTURBANCES,
                cluster.disturb,
            )
            cluster.end()
        seconds = time.perf_counter() - began
        status = batch.plan_status(out)
        attempts = [
            json.loads(path.read_text())["attempt"] for path in out.glob("mien-jobs/*.json")
        ]
        result = {
            "recordings": args.clips,
            "frames": args.clips * FRAMES,
            "size": f"{WIDTH}x{HEIGHT}",
            "wall_s": round(seconds),
            "disturbances": happened,
            "status": dict(status.counts),
            "rows": dict(status.rows),
            "tried_more_than_once": sum(attempt > 1 for attempt in attempts),
            **faults(study, out, alone),
        }
    print(json.dumps(result, indent=2))
    if args.out:
        both = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.write_text(json.dumps(both | {args.way: result}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
