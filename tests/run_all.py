"""Run every check and every test file, a process for each, and sum up at the end.

A process for each file: OpenVINO, ONNX Runtime and torch bring thread pools of their own, and one process that has
used all three and then forks data loaders has crashed. No command of mien uses them so. Each process has one thread,
and all of them run even when one fails. The exit code is 0 only if everything passed.

To start Python and import torch and its like takes longer than the tests of most files. So on Linux this process imports
PRELOADED once, and a fork of it does for each file what `python -m pytest FILE` does. To the tests that is a new process:
when it forks, this one runs a single thread (else it does not fork, and says so) and has used nothing of what it imported.
Never preloaded are mien, which each file must import itself, and what opens pools or devices when it is imported: OpenCV,
PyAV, ONNX Runtime, OpenVINO, ncnn. Elsewhere than on Linux each file starts Python afresh.

    python tests/run_all.py [--jobs 2] [PATTERN ...]
"""

import argparse
import functools
import gc
import importlib
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 1500
"""A file that takes longer than this hangs."""
SLOW = (
    "test_papers.py",
    "test_fit.py",
    "test_stopping.py",
    "test_recipes.py",
    "test_cli.py",
    "test_notebooks.py",
    "test_campaign.py",
    "test_app_server.py",
    "test_two_hosts.py",
    "test_streams.py",
    "test_batches.py",
    "test_front.py",
    "test_app_recordings.py",
    "test_analysis.py",
    "test_zoo_convert.py",
    "test_zoo.py",
    "test_paper_inputs.py",
    "test_study_project.py",
    "test_remote.py",
    "test_bundle_of_run.py",
    "test_standins.py",
    "test_networks.py",
    "test_refit.py",
)
"""Files that take 20 s or more, the longest first."""
PRELOADED = (
    "lightning_fabric",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "pytest",
    "schemathesis.pytest.plugin",
    "scipy.stats",
    "sklearn.metrics",
    "timm",
    "torchvision",
    "typer.testing",
)
"""What most files import and what takes long; pytest itself imports the plugin. What few import, such as peft, is left to them."""
COUNTED = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


@dataclass(frozen=True)
class Result:
    name: str
    passed: bool
    output: str
    seconds: float

    @property
    def last_line(self) -> str:
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1].strip("= ") if lines else "no output"

    @property
    def counts(self) -> Counter[str]:
        """How many tests passed, failed and were skipped, by pytest's closing line."""
        pairs = COUNTED.findall(self.last_line)
        counts = Counter(
            {word.rstrip("s") if word == "errors" else word: int(number) for number, word in pairs}
        )
        counts["failed"] += counts.pop("error", 0)
        if not self.passed and not counts["failed"]:
            counts["failed"] = 1  # a check, or a process that crashed or hung
        return counts


def jobs() -> dict[str, list[str]]:
    """Name of everything there is to run and what follows `python -m`: the checks, then the test files, the longest first.

    What runs last runs alone. Of the other files the size tells about how long they take.
    """

    def order(path: Path) -> tuple[int, int]:
        return SLOW.index(path.name) if path.name in SLOW else len(SLOW), -path.stat().st_size

    files = sorted((ROOT / "tests").glob("test_*.py"), key=order)
    targets = ["src", *(path.relative_to(ROOT).as_posix() for path in files)]
    return {
        "mypy": ["mypy"],
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
    } | {target: ["pytest", "-q", "-p", "no:cacheprovider", target] for target in targets}


@functools.cache
def preload() -> bool:
    """Import what most files need; whether this process may fork then."""
    # Else pyarrow's allocator starts a thread that tidies up after it.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as in pytest
        try:
            for name in PRELOADED:
                importlib.import_module(name)
        except (ImportError, Warning) as error:
            print(f"nothing is forked: {name} cannot be imported: {error}")
            return False
        finally:
            del os.environ["JE_ARROW_MALLOC_CONF"]
    gc.freeze()  # no fork looks through all these objects, nor copies them
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        print(f"nothing is forked: {threads} threads run once {', '.join(PRELOADED)} are imported")
    return threads == 1


class Fork:
    """`python -m` with these arguments in a fork of this process: as much of `subprocess.Popen` as is needed here."""

    def __init__(self, arguments: list[str], output: int):
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            # Nothing on the way up catches SystemExit, so the new process ends as any other does.
            with open(os.devnull, "rb") as nothing:
                for number, descriptor in enumerate((nothing.fileno(), output, output)):
                    os.dup2(descriptor, number)
            os.chdir(ROOT)
            sys.path[0], sys.argv[1:] = str(ROOT), arguments[1:]
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
            sys.exit()

    def poll(self) -> int | None:
        """Exit code, or minus the number of a signal; None while it runs. Never asked again after that."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def start(arguments: list[str], output: int, fork: bool) -> "Fork | subprocess.Popen[bytes]":
    if fork and arguments[0] == "pytest" and preload():
        # Plugins of pytest are among what is imported; their assertions are of no interest.
        return Fork([*arguments, "-W", "ignore::pytest.PytestAssertRewriteWarning"], output)
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
    )  # fmt: skip


@dataclass
class Running:
    name: str
    arguments: list[str]
    fork: bool
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        # Without a name, so that nothing is to be deleted, whichever process ends first.
        with tempfile.TemporaryFile() as file:
            self.output = os.dup(file.fileno())
        self.process = start(self.arguments, self.output, self.fork)

    def result(self) -> Result | None:
        """What came of it, once it has ended or taken too long."""
        seconds = time.monotonic() - self.started
        code, note = self.process.poll(), ""
        if code is None:
            if seconds < LIMIT_S:
                return None
            self.process.kill()
            note = f"\nhangs: stopped after {LIMIT_S} s"
        elif code < 0:
            note = f"\nended by {signal.Signals(-code).name}"
        with open(self.output, encoding="utf-8", errors="replace") as file:
            file.seek(0)
            return Result(self.name, code == 0, file.read() + note, seconds)


def work_off(chosen: dict[str, list[str]], at_once: int) -> Iterator[Result]:
    """Results as they come, of so many processes at a time."""
    # To import what is preloaded takes as long as two files do.
    fork = sys.platform == "linux" and len(chosen) > 4
    waiting, running = list(chosen.items()), list[Running]()
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(Running(*waiting.pop(0), fork))
        time.sleep(0.05)
        for job in list(running):
            if result := job.result():
                running.remove(job)
                yield result


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every check and every test file, and sum up.")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("patterns", nargs="*", help="run only what has one of these in its name")
    arguments = parser.parse_args()
    chosen = {
        name: command
        for name, command in jobs().items()
        if not arguments.patterns or any(pattern in name for pattern in arguments.patterns)
    }
    if not chosen:
        parser.error(f"nothing has {' or '.join(arguments.patterns)} in its name")
    os.environ["OMP_NUM_THREADS"] = "1"
    started, results = time.monotonic(), []
    for result in work_off(chosen, arguments.jobs):
        results.append(result)
        print(
            f"{'ok    ' if result.passed else 'FAILED'} {result.name}: {result.last_line}",
            flush=True,
        )
    failures = [result for result in results if not result.passed]
    for result in failures:
        print(f"\n{'-' * 20} {result.name} {'-' * 20}\n{result.output}")
    total = sum((result.counts for result in results), Counter())
    if failures:
        print(f"\nfailed: {', '.join(result.name for result in failures)}")
    print(f"{len(results)} files and checks in {time.monotonic() - started:.0f} s")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
