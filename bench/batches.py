"""Many short recordings in several processes: what disturbances cost, and what the work beside reading costs.

    python bench/batches.py CLIP --clips 200 --out bench/results/batches.json

CLIP is cut into short recordings of ten frames, 320 px wide. They are read three times:

- `alone`: by one process, undisturbed. Its tables are what the others are compared with.
- `two`: by two processes (`--jobs 2`), undisturbed.
- `disturbed`: from a plan (`mien plan`), by two processes, disturbed five times as soon as so many tables
  are there: a process is killed (SIGKILL), then Ctrl-C; the parent is killed; a process is killed, then
  the parent. Each time the same line goes on, with `--retry-failed`. Counted at the end: tables that differ by a byte,
  that are missing or too many, files left behind, and what `mien status` says.

User CPU is that of all processes, since wall-clock times say little on a busy machine; `start` is that of one more
run of `alone`, which finds all done: two processes and their parent start three times. The costs are per recording:
`parent` is what the process that hands out recordings spends (it is the only one that all wait for), `claims` what
claiming an input and a name costs in CPU and in seconds, `beside_reading` what one process spends on names, claims, tables
and dictionaries in all. `share_of_parent_at_64` says how busy the parent is where it keeps 64 processes busy; above 1
it would hold them up. Linux only: the processes are looked up in /proc.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

from mien import batch
from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.files import atomic_write
from mien.outputs.claims import Claim

FRAMES, WIDTH, HEIGHT = 10, 320, 180
CLIPS_PER_FOLDER = 50
PROCESSES = 64
FRAMES_OF_A_MINUTE = 1800
# At which share of all tables what is done to the run: a worker or the parent is killed, or Ctrl-C.
DISTURBANCES = (
    ((0.1, "worker"), (0.3, "interrupt")),
    ((0.5, "parent"),),
    ((0.6, "worker"), (0.8, "parent")),
)


def cut(clip: Path, folder: Path, count: int, length: int = FRAMES) -> None:
    """Write short recordings, each from another frame of the clip on."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = [frame.reformat(WIDTH, HEIGHT, "yuv420p") for frame in container.decode(stream)]
    for number in range(count):
        path = folder / f"s{number // CLIPS_PER_FOLDER:02}" / f"c{number:04}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        begin = number * 7 % (len(frames) - length)
        with av.open(str(path), "w") as container:
            out = container.add_stream("mpeg4", rate=25, width=WIDTH, height=HEIGHT)
            out.bit_rate = 1_000_000
            for index, frame in enumerate(frames[begin : begin + length]):
                again = av.VideoFrame.from_ndarray(frame.to_ndarray(), "yuv420p")
                again.pts = index
                container.mux(out.encode(again))
            container.mux(out.encode(None))


def start(*words: object) -> "subprocess.Popen[bytes]":
    """A command in a group of its own, so that it can be sent Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "mien", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(*words: object) -> float:
    """Run a command to its end; gives the user CPU of all its processes, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with start(*words) as process:
        said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(said.decode())
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def tables(out: Path) -> dict[str, bytes]:
    """The tables and dictionaries below a folder."""
    paths = [path for path in out.rglob("*") if path.name.endswith((".csv", ".dictionary.json"))]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def workers_of(parent: int) -> list[int]:
    """The reading processes of a run."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    # Another child keeps track of what processes share.
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def disturb(process: "subprocess.Popen[bytes]", kind: str) -> None:
    """Kill the run or one of its processes, or press Ctrl-C."""
    if kind == "worker":
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    elif kind == "parent":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT)


def disturbed(study: Path, out: Path, expected: dict[str, bytes]) -> dict[str, object]:
    """Read the study while it is disturbed again and again, and say what is wrong at the end."""
    run("plan", study, "--out", out)
    words = ("analyze", "--plan", out, "--jobs", 2, "--retry-failed")
    done_at: list[int] = []
    for kinds in DISTURBANCES:
        with start(*words) as process:
            for share, kind in kinds:
                while (done := len(list(out.glob("*/*.csv")))) < share * len(expected) / 2:
                    if process.poll() is not None:
                        raise SystemExit(f"the run ended before it could be disturbed ({kind})")
                    time.sleep(0.01)
                disturb(process, kind)
                done_at.append(done)
            process.communicate()
    run(*words)
    result = tables(out)
    status = batch.plan_status(out)
    attempts = [json.loads(path.read_text())["attempt"] for path in out.glob("mien-jobs/*.json")]
    return {
        "disturbances": done_at,
        "different": sum(result.get(name) != content for name, content in expected.items()),
        "missing": len(expected.keys() - result.keys()),
        "too_many": len(result.keys() - expected.keys()),
        "left_behind": len(list(out.rglob(".*"))),
        "status": dict(status.counts),
        "rows": dict(status.rows),
        "recordings_of_killed_processes": sum(attempt > 1 for attempt in attempts),
    }


def own_cpu() -> float:
    """User CPU of this process, s."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def costs(study: Path, folder: Path) -> dict[str, float]:
    """What a recording costs besides reading, in this process."""
    films = sorted(study.rglob("*.mp4"))
    reader = Reader(Options())
    before = own_cpu()
    for path in films:
        for _ in reader.read(reader.open(str(path))):
            pass
    reading = own_cpu() - before
    before = own_cpu()
    batch.run([study], folder / "own")
    whole = own_cpu() - before
    before = own_cpu()
    batch.run([study], folder / "pool", jobs=2)
    parent = own_cpu() - before
    before, began = own_cpu(), time.perf_counter()
    for path in films:
        with Claim(folder / "input", str(path)), Claim(folder / "name", str(path)):
            pass
    claims, claims_s = own_cpu() - before, time.perf_counter() - began
    count = len(films)
    each = reading / count
    return {
        "reading_cpu_s": round(each, 5),
        "beside_reading_cpu_s": round((whole - reading) / count, 5),
        "claims_cpu_s": round(claims / count, 5),
        "claims_wall_s": round(claims_s / count, 5),
        "parent_cpu_s": round(parent / count, 5),
        "share_of_parent_at_64": round(PROCESSES * parent / whole, 3),
        "share_of_parent_at_64_films_of_a_minute": round(
            PROCESSES * parent / (whole + reading * (FRAMES_OF_A_MINUTE / FRAMES - 1)), 5
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "study"
        cut(args.clip, study, args.clips)
        alone = run("analyze", study, "--out", folder / "alone")
        two = run("analyze", study, "--out", folder / "two", "--jobs", 2)
        # All is done, so what is left is the start of one process and a look at each recording.
        again = run("analyze", study, "--out", folder / "alone")
        expected = tables(folder / "alone")
        result = {
            "recordings": args.clips,
            "frames": FRAMES * args.clips,
            "user_cpu_s": {
                "alone": round(alone, 1),
                "two": round(two, 1),
                "start": round(again, 1),
            },
            "ratio_of_user_cpu": round(two / alone, 3),
            "two_differ": sum(tables(folder / "two").get(k) != v for k, v in expected.items()),
            "disturbed": disturbed(study, folder / "disturbed", expected),
            "costs": costs(study, folder),
        }
    print(json.dumps(result, indent=2))
    if args.out:
        atomic_write(args.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
