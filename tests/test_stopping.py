"""A training run that is told to end, or whose group is, says so in one sentence and can be resumed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from mien.train.runs.inference import outlast_signals

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


def told_to_end(folder: Path, number: int, after: str, send=os.killpg) -> tuple[int, str]:
    """Exit code and output of a run that gets the signal after a line with `after`.

    The output ends when the last process of the run is gone.
    """
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
        send(process.pid, number)
        said += process.stdout.read()  # until the last process of the group is gone
        limit.cancel()
        return process.wait(), said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_group_that_is_told_to_end_says_one_sentence_and_goes_on_later(number, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SETTINGS.replace("EPOCHS", "300"), encoding="utf-8")
    code, said = told_to_end(tmp_path, number, "epoch 1:")
    assert code == 128 + number, said
    assert "Traceback" not in said
    assert "DataLoader" not in said
    lines = [line for line in said.splitlines() if line.startswith("mien: ")]
    assert lines[-1].startswith("mien: stopped; the run is kept; to resume: mien train ")
    assert len(lines) <= 2, said
    if number == signal.SIGTERM:
        code, said = told_to_end(tmp_path, number, "resuming after step")
        assert code == 143, said
        assert "Traceback" not in said


def second_process(leader: int) -> int:
    """The process that Fabric started beside this one."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            facts = entry.parent.joinpath("stat").read_text().rpartition(")")[2].split()
            if int(facts[1]) == leader and b"LOCAL_RANK=1" in entry.read_bytes().split(b"\0"):
                return int(entry.parent.name)
        except OSError:
            continue  # it has ended
    raise AssertionError("no second process")


SENDERS = {
    "the first": os.kill,
    "the second": lambda leader, number: os.kill(second_process(leader), number),
    "all": os.killpg,
}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="asks Linux for processes")
@pytest.mark.parametrize("who", SENDERS)
def test_two_processes_end_after_the_same_step_whoever_is_told(who, tmp_path):
    settings = SETTINGS.replace("EPOCHS", "300").replace("workers: 2", "workers: 0, devices: 2")
    (tmp_path / "tiny.yaml").write_text(settings, encoding="utf-8")
    code, said = told_to_end(tmp_path, signal.SIGTERM, "epoch 0:", SENDERS[who])
    assert code == 143, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("mien: ")]
    run = tmp_path / "run"
    sentence = f"mien: stopped; the run is kept; to resume: mien train {tmp_path / 'tiny.yaml'} --out {run}"
    assert lines[-1] == sentence
    # Who is told directly also says that the step is done first.
    assert len(lines) == (1 if who == "the second" else 2)
    # Of 19 steps in each epoch, those of the first and some of the second are kept.
    assert torch.load(run / "last.pt", weights_only=True)["step"] >= 19


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="asks Linux for processes")
def test_a_first_process_that_is_told_to_end_while_it_begins_ends_the_second(tmp_path):
    settings = SETTINGS.replace("EPOCHS", "300").replace("workers: 2", "workers: 0, devices: 2")
    (tmp_path / "tiny.yaml").write_text(settings, encoding="utf-8")
    code, said = told_to_end(tmp_path, signal.SIGTERM, "Initializing distributed", os.kill)
    assert code == 143, said
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("mien: ")][-1].startswith(
        "mien: stopped; the run is kept"
    )


def load_pictures(told) -> None:
    outlast_signals()
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    told.send("still here")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(9)
    told.send("not ended")


def test_a_process_that_loads_pictures_ends_when_it_is_told_twice():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=load_pictures, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.recv() == "still here"
    with pytest.raises(EOFError):
        ours.recv()
    process.join(60)
    assert process.exitcode == 0
