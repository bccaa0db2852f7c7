"""A training run whose whole process group is signalled says so, and can be resumed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

SETTINGS = """
name: tiny
data: [{set: drawn, count: 96, seed: 0, size: 48}]
tasks: [va]
pixels: {size: 32, colour: grey, alignment: box, mean: [127.0], std: [128.0]}
network: {backbone: test_efficientnet}
fit: {epochs: EPOCHS, batch: 4, accelerator: cpu, workers: 2, find_points: false}
"""


def command(folder: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "mien",
        "train",
        str(folder / "tiny.yaml"),
        "--out",
        str(folder / "run"),
    ]


def told_to_end(folder: Path, number: int, after: str) -> tuple[int, str]:
    """Exit code and output of a run whose group gets the signal after a line with `after`."""
    with subprocess.Popen(
        command(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        limit = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        said = ""
        for line in process.stdout:
            said += line
            if after in line:
                break
        os.killpg(process.pid, number)
        said += process.stdout.read()  # until the last process of the group is gone
        limit.cancel()
        return process.wait(), said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_group_that_is_told_to_end_says_one_sentence_and_goes_on_later(number, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SETTINGS.replace("EPOCHS", "300"), encoding="utf-8")
    code, said = told_to_end(tmp_path, number, "epoch 1:")
    assert code == 130, said
    assert "Traceback" not in said
    assert "DataLoader" not in said
    lines = [line for line in said.splitlines() if line.startswith("mien: ")]
    assert lines[-1].startswith("mien: stopped; the run is kept; to resume: mien train ")
    assert len(lines) <= 2, said
    if number == signal.SIGTERM:
        code, said = told_to_end(tmp_path, number, "resuming after step")
        assert code == 130, said
        assert "Traceback" not in said


def test_a_process_that_loads_pictures_ends_when_it_is_told_twice():
    code = (
        "import os, signal, time; from mien.train.runs.inference import outlast_signals\n"
        "outlast_signals()\n"
        "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still here', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9); print('not ended')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr
