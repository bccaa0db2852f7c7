"""Run every check and every test file, a process for each, and sum up at the end.

A process for each file: OpenVINO, ONNX Runtime and torch bring thread pools of their own, and one process that has
used all three and then forks data loaders has crashed. No command of mien uses them so. Each process has one thread,
and all of them run even when one fails. The exit code is 0 only if everything passed.

    python tests/run_all.py [--jobs 2] [PATTERN ...]
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 1500
"""A file that takes longer than this hangs."""
SLOW = (
    "test_papers.py",
    "test_fit.py",
    "test_stopping.py",
    "test_campaign.py",
    "test_notebooks.py",
)
"""Files that take longer than their size would let one think."""
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
    """Name and command of everything there is to run: the checks, then the test files, the longest first.

    What runs last runs alone. Of files that are not known to be slow, the size tells about how long they take.
    """
    python = [sys.executable, "-m"]

    def order(path: Path) -> tuple[bool, int]:
        return path.name not in SLOW, -path.stat().st_size

    files = sorted((ROOT / "tests").glob("test_*.py"), key=order)
    targets = ["src", *(path.relative_to(ROOT).as_posix() for path in files)]
    pytest = [*python, "pytest", "-q", "-p", "no:cacheprovider"]
    return {
        "mypy": [*python, "mypy"],
        "ruff check": [*python, "ruff", "check", "."],
        "ruff format": [*python, "ruff", "format", "--check", "."],
    } | {target: [*pytest, target] for target in targets}


def run(name: str, command: list[str]) -> Result:
    started = time.monotonic()
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace")
        return Result(
            name, False, f"{output}\nhangs: stopped after {LIMIT_S} s", time.monotonic() - started
        )
    return Result(name, done.returncode == 0, done.stdout, time.monotonic() - started)


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
    started, results = time.monotonic(), []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(run, name, command) for name, command in chosen.items()]
        for future in as_completed(waiting):
            result = future.result()
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
