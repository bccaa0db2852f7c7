"""What can come of a case, and how a family of cases is summed up."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
Kind = Literal["right", "crash", "hang", "lost", "silent", "leftover", "wrong"]
MEANINGS: Mapping[Kind, str] = {
    "right": "as it should be",
    "crash": "a traceback, or a process that died",
    "hang": "no end within the limit",
    "lost": "rows that another decoder gives are not there, and nothing says so",
    "silent": "damage that a decoder notices is not told",
    "leftover": "files that nobody asked for stay behind, or only some of a job's files are there",
    "wrong": "another exit code, another number of lines, or other bytes than an undisturbed run",
}


@dataclass(frozen=True)
class Verdict:
    """What came of one case. case: how to make it again. detail: what was seen where it is not right."""

    case: str
    kind: Kind
    detail: str = ""


@dataclass
class Family:
    """All cases of one kind."""

    name: str
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, kind: Kind) -> int:
        return sum(verdict.kind == kind for verdict in self.verdicts)

    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.kind != "right"]

    def summary(self) -> dict[str, object]:
        counts = {kind: self.count(kind) for kind in MEANINGS}
        return {"cases": len(self.verdicts), **counts, "seconds": round(self.seconds, 1)}


def collect(name: str, verdicts: Iterable[Verdict], show: bool = False) -> Family:
    """Run the cases of a family, one after another."""
    family, started = Family(name), time.monotonic()
    for verdict in verdicts:
        family.verdicts.append(verdict)
        family.seconds = time.monotonic() - started
        if show and verdict.kind != "right":
            print(f"  {name}: {verdict.kind}: {verdict.case}: {verdict.detail}", flush=True)
        if show and len(family.verdicts) % 50 == 0:
            print(f"  {name}: {len(family.verdicts)} cases, {family.seconds:.0f} s", flush=True)
    return family


def mien(*arguments: object) -> list[str]:
    """The command line of mien in this Python."""
    return [sys.executable, "-m", "mien", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    """Of a process on one thread that finds this checkout's mien from any folder, and nothing that somebody has pulled."""
    own = {
        "OMP_NUM_THREADS": "1",
        "MIEN_HOME": f"{os.devnull}/mien",
        "PYTHONPATH": str(ROOT / "src"),
    }
    return os.environ | own | changes


def run(
    command: Sequence[str],
    limit_s: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[int | None, str]:
    """Exit code (None: it hangs) and all that was printed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit_s,
            env=dict(env or environment()), cwd=cwd, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return None, (error.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")


def broken(case: str, code: int | None, said: str) -> Verdict | None:
    """A hang or a crash; None where the command ended by itself, in whatever way."""
    if code is None:
        return Verdict(case, "hang", said[-300:])
    if "Traceback (most recent call last)" in said or code < 0 or code > 128:
        return Verdict(case, "crash", f"exit {code}: {said[-400:]}")
    return None


def refused(
    case: str, code: int | None, said: str, *, codes: Sequence[int] = (1, 2), lines: int = 4
) -> Verdict:
    """Whether a command refused in a few plain lines, as it should for input that is wrong."""
    if ended := broken(case, code, said):
        return ended
    told = [line for line in said.splitlines() if line.strip()]
    if code not in codes or not 1 <= len(told) <= lines:
        return Verdict(case, "wrong", f"exit {code}, {len(told)} lines: {said[-300:]}")
    if any(not letter.isprintable() for line in told for letter in line):
        return Verdict(case, "wrong", f"characters that command a terminal: {said[-300:]!r}")
    return Verdict(case, "right")
