"""A plan on a Ray cluster whose processes and nodes die: each table once, as without them."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from noise import film

from mien import batch
from mien.batch.machines.job_records import read_job_record
from mien.batch.stores.remote_store import open_store
from mien.errors import MissingExtraError, OutputError


@pytest.fixture
def cluster():
    """A cluster of two nodes with a core each, which runs while the test does."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def kill_reader_of(out: Path, job: batch.Job, kind: str, cluster, nodes: list) -> None:
    """Wait until a job is being read, and kill its process, or the node that was added."""
    claim = out / f".input-{job.key}.claim"
    while not claim.exists():
        time.sleep(0.02)
    if kind == "process":
        os.kill(int(json.loads(claim.read_bytes())["token"].split("-")[1]), signal.SIGKILL)
    else:
        cluster.remove_node(nodes[0], allow_graceful=False)


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_killed_process_and_a_killed_node_lose_and_double_nothing(cluster, tmp_path):
    nodes = [cluster.add_node(num_cpus=1)]
    for number in range(6):
        film(tmp_path / "in" / f"{number}.mp4", number, frames=300 if number < 2 else 3)
    out = tmp_path / "out"
    plan, _ = batch.write_plan([tmp_path / "in"], out)
    alone, _ = batch.write_plan([tmp_path / "in"], tmp_path / "alone")
    batch.run_plan(alone.path)
    killers = []
    for job, kind in zip(plan.jobs[:2], ("process", "node"), strict=True):
        words = (out, job, kind, cluster, nodes)
        killers.append(threading.Thread(target=kill_reader_of, args=words, daemon=True))
        killers[-1].start()
    outcomes = batch.run_plan(plan.path, ray=cluster.address)
    for killer in killers:
        killer.join(60)
        assert not killer.is_alive()
    assert [outcome.state for outcome in outcomes] == ["done"] * 6
    expected, result = tables(tmp_path / "alone"), tables(out)
    del expected[plan.path.name], result[plan.path.name]
    assert result == expected
    for job in plan.jobs:
        assert read_job_record(open_store(out), job).attempt == 1
    again = batch.run_plan(plan.path, ray=cluster.address)
    assert [outcome.state for outcome in again] == ["skipped"] * 6


def test_a_cluster_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    film(tmp_path / "in" / "a.mp4")
    batch.write_plan([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(OutputError, match=r"--ray auto: no cluster answers there .*--ray local"):
        batch.run_plan(tmp_path / "out", ray="auto")


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    plan, _ = batch.write_plan([film(tmp_path / "one.mp4")], tmp_path / "out")
    # So that importing it fails, as where it is not installed.
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"mien\[ray\]"):
        batch.run_plan(plan.path, ray="local")
    assert not list((tmp_path / "out").glob("*.csv"))
