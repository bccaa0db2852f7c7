"""Training on two hosts: two network namespaces of this machine, each with an address and a loopback of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch

from mien.errors import DataError
from mien.train import distributed
from mien.train.distributed import check_agreement
from mien.train.loop import fit
from mien.train.runs.folder import RunFolder

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]

# Plain SGD at a rate that does not blow rounding up.
SETTINGS = """
name: hosts
data: [{set: drawn, count: 60, seed: 3, size: 32}]
tasks: [expr.abaw7, va]
pixels: {size: 32, colour: grey, alignment: box, mean: [127.0], std: [64.0]}
network: {backbone: test_resnet}
optim: {optimiser: sgd, lr: 0.005, average: 0.9, clip: 1.0}
fit: {epochs: 2, batch: 8, accelerator: cpu, workers: 0, find_points: false}
"""
ADDRESSES = ("10.231.47.1", "10.231.47.2")


def ip(*arguments: str) -> str:
    done = subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str]]]:
    """Name and network card of two hosts that see nothing but one another."""
    found = [(f"mien{os.getpid()}{letter}", f"mn{os.getpid()}{letter}") for letter in "ab"]
    names, cards = zip(*found, strict=True)
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cards[0], "netns", names[0], "type", "veth", "peer", cards[1], "netns", names[1])  # fmt: skip
        for name, card, address in zip(names, cards, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
            ip("-n", name, "link", "set", card, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield found
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need Linux and rights: {error}")
    finally:
        for name in names:
            with suppress(OSError, subprocess.CalledProcessError):
                # Processes of a training that hangs outlive torchrun.
                for process in ip("netns", "pids", name).split():
                    os.kill(int(process), signal.SIGKILL)
                ip("netns", "delete", name)


def train(hosts, folder: Path, *runs: Path) -> list[tuple[int, str]]:
    """Exit code and output of torchrun on each host; what docs/howto/train.md says to set is set."""
    started = []
    for rank, (name, card) in enumerate(hosts):
        command = [
            "ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run",
            "--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1", f"--master-addr={ADDRESSES[0]}", "--master-port=29512",
            "-m", "mien", "train", str(folder / "settings.yaml"), "--out", str(runs[rank]),
        ]  # fmt: skip
        environment = os.environ | {"GLOO_SOCKET_IFNAME": card, "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=600)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def test_two_hosts_learn_what_one_does(hosts, tmp_path):
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    for code, said in train(hosts, tmp_path, tmp_path / "both", tmp_path / "both"):
        assert code == 0, said
    both = RunFolder(tmp_path / "both")
    alone = fit(both.settings, tmp_path / "alone")
    assert (both.facts["processes"], alone.facts["processes"]) == (2, 1)
    curves = [
        pd.read_csv(run.folder / "curve.csv").drop(columns="seconds") for run in (both, alone)
    ]
    pd.testing.assert_frame_equal(*curves, rtol=1e-4, atol=1e-3)
    ours, theirs = (run.load("best.pt")["net"] for run in (both, alone))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value.float(), theirs[name].float(), rtol=1e-4, atol=1e-5)


def test_hosts_that_share_no_folder_are_refused(hosts, tmp_path):
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    ends = train(hosts, tmp_path, tmp_path / "run", tmp_path / "elsewhere")
    assert all(code != 0 for code, _ in ends)
    (line,) = {line for line in ends[0][1].splitlines() if line.startswith("mien: ")}
    assert "does not see the run that" in line
    assert "give --out a folder that all share" in line
    assert not (tmp_path / "run" / "last.pt").exists()


def test_processes_that_disagree_are_named(monkeypatch):
    check_agreement(1, "runs/a", "never said")
    monkeypatch.setattr(
        distributed, "all_gather_values", lambda mine: [mine, ("node2", 1), ("node3", 2)]
    )
    monkeypatch.setattr(distributed.socket, "gethostname", lambda: "node1")
    with pytest.raises(DataError, match=r"^runs/\{a\}: node3 is not as node1$"):
        check_agreement(1, "runs/{a}", "{host} is not as {first}")
