"""Several processes on one machine: the same files as one makes, and one that dies costs one input."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from noise import film, photo

from mien import batch
from mien.batch.assignment import do_job
from mien.batch.outcome import Progress
from mien.batch.pool import _Teller
from mien.processes import process_count, usable_cores


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; the record of the run holds the time at which it ended."""
    return {
        path.relative_to(folder).as_posix(): b""
        if path.name == "mien-run.json"
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def study(folder: Path, photos: int = 40) -> Path:
    """Films, a damaged one, a small folder of photos and a large one with odd files in it."""
    for number in range(4):
        film(folder / f"s{number % 2}" / f"v{number}.mp4", number, frames=3)
    (folder / "bad" / "bad.mp4").parent.mkdir()
    (folder / "bad" / "bad.mp4").write_text("no film")
    photo(folder / "few" / "a.png")
    for number in range(photos):
        photo(folder / "many" / f"{number}.png", number)
    (folder / "many" / "7b.png").write_bytes(b"no photo")
    film(folder / "x.mp4").rename(folder / "many" / "9b.png")
    return folder


class Heard(Progress):
    """Keeps what a run says."""

    def __init__(self):
        self.shares, self.ended, self.together_of = [], [], None

    def together(self, count, processes):
        self.together_of = (count, processes)

    def advance(self, frames, share):
        self.shares.append(share)

    def end(self, outcome):
        self.ended.append(outcome.job.name)


def test_two_processes_write_what_one_writes(tmp_path, face):
    from PIL import Image

    folder = study(tmp_path / "in")
    Image.fromarray(face[::2, ::2]).save(folder / "many" / "11b.png")
    heard = Heard()
    options = {"overlay": True, "formats": ["csv", "parquet"]}
    alone = batch.run([folder], tmp_path / "one", **options)
    both = batch.run([folder], tmp_path / "two", **options, jobs=2, progress=heard)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    for expected, got in zip(alone, both, strict=True):
        assert (expected.job, expected.state, expected.rows) == (got.job, got.state, got.rows)
        assert (expected.tracks, expected.problems) == (got.tracks, got.problems)
        assert (expected.notes, expected.media) == (got.notes, got.media)
    assert not (tmp_path / "two" / "bad").exists()
    assert heard.together_of == (len(both), 2)
    assert sorted(heard.ended) == sorted(outcome.job.name for outcome in both)
    assert all(0 <= share <= 1.001 for share in heard.shares)
    again = batch.run([folder], tmp_path / "two", **options)
    assert {outcome.state for outcome in again} == {"skipped", "failed"}


def test_a_folder_that_fails_midway_leaves_the_films_beside_it_alone(tmp_path):
    film(tmp_path / "in" / "a.mp4")
    for number in range(40):
        photo(tmp_path / "in" / "photos" / f"{number}.png", number)

    class Disturber(Progress):
        def advance(self, frames, share):
            # While others read ahead, the first photo is written again.
            photo(tmp_path / "in" / "photos" / "0.png", 99)

    outcomes = batch.run([tmp_path / "in"], tmp_path / "out", jobs=2, progress=Disturber())
    states = {outcome.job.name: outcome.state for outcome in outcomes}
    assert states == {"a": "done", "photos": "failed"}


KILLED = """
import os, signal, sys
from mien import batch
from mien.analysis.reader import Reader
real = Reader.read
def read(self, source):
    for name in ("SIGKILL", "SIGTERM"):
        if name in source.name:
            os.kill(os.getpid(), getattr(signal, name))
    return real(self, source)
Reader.read = read
if __name__ == "__main__":
    for outcome in batch.run(["in"], "out", jobs=2):
        print(outcome.job.name, outcome.state, *outcome.problems)
"""


def test_a_process_that_is_killed_costs_one_input_which_is_named(tmp_path):
    for name in ("a", "SIGKILL", "c", "d"):
        film(tmp_path / "in" / f"{name}.mp4", ord(name[0]))
    for number in range(33):
        photo(tmp_path / "in" / "photos" / f"{number}.png", number)
    photo(tmp_path / "in" / "photos" / "SIGTERM.png")
    (tmp_path / "script.py").write_text(KILLED)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    states = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    whole = {"a": "done", "c": "done", "d": "done", "photos": "done"}
    assert states == whole | {"SIGKILL": "failed"}
    assert "SIGKILL.mp4: the process that read it was killed (signal 9)" in done.stdout
    assert "SIGTERM.png: the process that read it ended by itself (exit code 143)" in done.stdout
    # A photo costs its own row.
    rows = (tmp_path / "out" / "photos.csv").read_text().splitlines()[1:]
    assert len(rows) == 34
    assert [row.split(",")[0] for row in rows if "unreadable" in row] == ["in/photos/SIGTERM.png"]
    assert not list((tmp_path / "out").rglob(".*"))
    assert not list((tmp_path / "out").glob("SIGKILL*"))
    again = batch.run([tmp_path / "in"], tmp_path / "out")
    states = {outcome.job.name: outcome.state for outcome in again}
    assert {name for name, state in states.items() if state == "done"} == {"SIGKILL", "photos"}
    assert (tmp_path / "out" / "photos.csv").read_text().count("unreadable") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_ends_early_ends_all_its_processes(number, tmp_path):
    for index in range(2):
        film(tmp_path / "in" / f"{index}.mp4", index, frames=800)
    words = [sys.executable, "-m", "mien", "analyze", "in", "--out", "out", "--jobs", "2"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        while not list(tmp_path.glob("out/.*.claim")) and process.poll() is None:
            time.sleep(0.05)
        # Ctrl-C reaches the whole group.
        send = os.killpg if number == signal.SIGINT else os.kill
        send(process.pid, number)
        # The output ends when the last process is gone.
        said = process.communicate(timeout=60)[0].decode()
    if number == signal.SIGINT:
        assert process.returncode == 128 + number, said
        assert [line for line in said.splitlines() if line.startswith("mien:")] == [
            "mien: stopped; nothing half-written is left, and finished inputs are kept"
        ]
    assert "Traceback" not in said
    left = [path.name for path in (tmp_path / "out").iterdir()]
    # Where the parent was killed, the next run removes what may be left of a claim.
    assert not [name for name in left if number == signal.SIGINT or not name.startswith(".")]


SERVED = """
import os, signal, sys, threading, time
from functools import partial
from mien.processes import serve

def work(work_s):
    time.sleep(work_s)
    raise EOFError

def child(work_s, delay_s):
    def tell():
        time.sleep(delay_s)
        os.kill(os.getpid(), signal.SIGTERM)
    thread = threading.Thread(target=tell)
    thread.start()
    serve(partial(work, work_s), ("SIGTERM", "SIGHUP"))
    thread.join()
    sys.exit(0)

times = [(0.002, number * 2e-5) for number in range(200)]
for work_s, delay_s in [(0, 1), (60, 1), *times]:
    if (pid := os.fork()) == 0:
        child(work_s, delay_s)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_worker_ends_without_a_word_whenever_it_is_told_to():
    """While it gets ready, at work, and when it is just ending by itself."""
    done = subprocess.run(
        [sys.executable, "-c", SERVED], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    ended, told, *codes = [int(line) for line in done.stdout.split()]
    assert (ended, told) == (0, 128 + signal.SIGTERM)
    # Before it hears signals, it dies of one.
    assert set(codes) <= {0, 128 + signal.SIGTERM, -signal.SIGTERM}


def test_a_job_whose_parent_has_ended_is_stopped_and_has_not_failed(tmp_path):
    plan, _ = batch.write_plan([film(tmp_path / "a.mp4")], tmp_path / "out")
    parent, child = multiprocessing.Pipe()
    parent.close()
    target = plan.settings.open()
    with pytest.raises(KeyboardInterrupt):
        do_job(plan.jobs[0], plan.settings, target, _Teller(child))
    assert batch.plan_status(plan.path).counts == {"waiting": 1}


def test_processes_that_cannot_start_end_the_run_with_the_reason(tmp_path):
    for index in range(2):
        film(tmp_path / "in" / f"{index}.mp4", index)
    # Without the guard each process would begin the run once more.
    code = "from mien import batch\nbatch.run(['in'], 'out', jobs=2)\n"
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert '`if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def test_jobs_are_a_number_or_auto(tmp_path):
    assert process_count("auto") == usable_cores() >= 1
    assert process_count(3) == 3
    for wrong in (0, -1, True, 1.5, "2"):
        with pytest.raises(ValueError, match="jobs must be auto or a number"):
            process_count(wrong)
    with pytest.raises(ValueError, match=r"camera:0.*leave --jobs out"):
        batch.run(["camera:0", film(tmp_path / "a.mp4")], tmp_path / "out", jobs=2)
