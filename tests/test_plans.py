"""Plans for many machines: each job once, by whichever machine, with a record of what became of it."""

import json
import os
import pickle
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from noise import film, photo
from typer.testing import CliRunner

from mien import batch
from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.batch.machines import plan_file
from mien.batch.machines.job_records import read_job_record
from mien.batch.machines.shards import shard_of
from mien.batch.stores import store
from mien.batch.stores.store import Store
from mien.bundles.store import open_bundle
from mien.cli import app
from mien.errors import BundleError, OutputError, TableError, UnknownNameError
from mien.outputs import claims

RUN = CliRunner()


@pytest.fixture
def study(tmp_path) -> Path:
    """Three films, one of which is damaged, and a folder of photos."""
    folder = tmp_path / "in"
    film(folder / "a" / "one.mp4", 1)
    film(folder / "b" / "one.mp4", 2, frames=4)
    (folder / "bad.mp4").write_text("no film")
    for number in range(3):
        photo(folder / "photos" / f"{number}.png", number)
    return folder


@pytest.fixture
def out(study, tmp_path) -> Path:
    """The output folder, with a plan of the study."""
    batch.write_plan([study], tmp_path / "out")
    return tmp_path / "out"


def states(outcomes) -> dict[str, str]:
    return {outcome.job.name: outcome.state for outcome in outcomes}


def tables(folder: Path) -> dict[str, bytes]:
    """Tables and dictionaries below a folder, by name."""
    paths = [path for path in folder.rglob("*") if path.name.endswith((".csv", ".dictionary.json"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def say(*words) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = RUN.invoke(app, list(map(str, words)))
    return result.exit_code, result.output


ALL = {"a/one": "done", "b/one": "done", "bad": "failed", "photos": "done"}


def test_a_plan_is_a_table_of_inputs(study, out):
    plan = pd.read_parquet(out / "mien-plan.parquet")
    assert list(plan["name"]) == ["a/one", "b/one", "bad"] + ["photos"] * 3
    assert list(plan["job"]) == [0, 1, 2, 3, 3, 3]
    for path, size in zip(plan["input"], plan["size"], strict=True):
        assert os.path.isabs(path)
        assert os.path.getsize(path) == size
    read, written = batch.read_plan(out), batch.write_plan([study], out)[0]
    assert (read.jobs, read.sizes) == (written.jobs, written.sizes)
    assert read.settings == replace(written.settings, originals=frozenset())


def test_options_come_back_from_a_plan(study, tmp_path):
    options = Options(smoothing=0.15, faces=2, quality="none", points=True, bundle="mien-xs")
    written, _ = batch.write_plan(
        [study], tmp_path / "out", options=options, formats=["parquet", "csv"], overlay=True
    )
    read = batch.read_plan(tmp_path / "out").settings
    assert (read.options, read.formats, read.overlay) == (options, ("parquet", "csv"), True)
    assert read.open().facts() == written.settings.facts


def test_shards_are_all_jobs_once_and_of_about_one_size():
    names = [f"v{number}" for number in range(23)]
    jobs = tuple(batch.Job(name, (f"/x/{name}.mp4",)) for name in names)
    sizes = tuple((number * 37) % 101 for number in range(23))
    plan = plan_file.PlanFile(Path("plan"), None, jobs, sizes)
    for count in (1, 2, 5, 40):
        shares = [plan.shard(number, count) for number in range(1, count + 1)]
        assert sorted(job.name for share in shares for job in share) == sorted(names)
        loads = [sum(sizes[jobs.index(job)] for job in share) for share in shares]
        # Of the largest first, the fullest share exceeds the mean by one job at most.
        assert max(loads) <= sum(sizes) / count + max(sizes)
    for number in (0, 6):
        with pytest.raises(ValueError, match="from 1/5 to 5/5"):
            plan.shard(number, 5)


def test_an_array_of_slurm_says_which_part():
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    task |= {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "3"}
    assert shard_of(None, task) == (4, 4)
    assert shard_of("2/7", task) == (2, 7)
    assert shard_of(None, {}) is None
    with pytest.raises(ValueError, match=r"skips numbers.*--shard"):
        shard_of(None, task | {"SLURM_ARRAY_TASK_MAX": "9"})
    for wrong in ("3", "a/b", "1/", "-1/3"):
        with pytest.raises(ValueError, match="such as 3/100"):
            shard_of(wrong)


def test_all_parts_together_write_what_one_run_writes(study, out, tmp_path, monkeypatch):
    alone = batch.run([study], tmp_path / "alone")
    seen = Counter()
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    for number in ("1", "2"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", number)
        _, said = say("analyze", "--plan", out)
        assert f"part {number} of 2, by SLURM_ARRAY_TASK_ID" in said
    assert tables(out) == tables(tmp_path / "alone")
    plan = batch.read_plan(out)
    for job in plan.jobs:
        record = read_job_record(Store(out), job)
        (expected,) = [outcome for outcome in alone if outcome.job.name == job.name]
        assert (record.state, record.attempt) == (expected.state, 1)
        assert record.problems == tuple(expected.problems)
        assert Counter(record.rows) == Counter({str(k): n for k, n in expected.rows.items()})
        assert set(record.sha256) == {path.name for path in expected.files if path.suffix == ".csv"}
        seen[record.host] += 1
    status = batch.plan_status(out)
    assert status.counts == Counter(done=3, failed=1)
    assert status.hosts == seen
    assert sum(status.rows.values()) == 2 + 4 + 3


def test_one_job_can_be_sent_anywhere(out):
    assignments = pickle.loads(pickle.dumps(batch.read_plan(out).assignments))  # noqa: S301
    outcomes = [batch.run_one(assignment) for assignment in assignments]
    assert states(outcomes) == ALL
    again = states([batch.run_one(assignment) for assignment in assignments])
    assert again == {name: "skipped" if state == "done" else state for name, state in ALL.items()}


def test_what_failed_is_tried_again_when_asked(study, out):
    assert states(batch.run_plan(out)) == ALL
    code, said = say("analyze", "--plan", out)
    assert code == 1
    assert "tried once, last on" in said
    assert "--retry-failed tries again" in said
    (study / "bad.mp4").unlink()
    film(study / "bad.mp4", 7)
    assert states(batch.run_plan(out))["bad"] == "failed"
    code, said = say("status", out)
    assert code == 1
    assert "3 done, 1 failed" in said
    outcomes = states(batch.run_plan(out, retry_failed=True))
    assert outcomes == dict.fromkeys(ALL, "skipped") | {"bad": "done"}
    assert say("status", out)[0] == 0
    (job,) = [job for job in batch.read_plan(out).jobs if job.name == "bad"]
    assert read_job_record(Store(out), job).attempt == 2


def test_what_another_machine_does_is_left_to_it_and_taken_over_when_it_died(out):
    job = batch.read_plan(out).jobs[0]
    # Its clock is an hour ahead; what counts is the time of the file.
    holder = claims.Holder("00000000-1-1", "node7", "2999-01-01 10:00:00+0000", job.source)
    claim = out / f".input-{job.key}.claim"
    claim.write_bytes(claims.holder_bytes(holder))
    assert states(batch.run_plan(out)) == ALL | {"a/one": "left"}
    code, said = say("status", out)
    assert code == 3
    assert "running: a/one (node7, process 1, since 2999" in said
    os.utime(claim, (1, 1))
    code, said = say("status", out)
    assert code == 3
    assert "1 waiting" in said
    assert "no sign of life: a/one (node7" in said
    assert states(batch.run_plan(out))["a/one"] == "done"
    assert batch.plan_status(out).counts == Counter(done=3, failed=1)
    assert not list(out.rglob(".*"))


def test_a_clock_an_hour_off_neither_frees_nor_keeps_a_claim(out, monkeypatch):
    job = batch.read_plan(out).jobs[0]
    claim = out / f".input-{job.key}.claim"
    real = time.time
    for hours in (-1, 1):
        holder = claims.Holder("00000000-1-1", "node7", "2026-01-01 10:00:00+0000", job.source)
        claim.write_bytes(claims.holder_bytes(holder))
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
        assert states([batch.run_one(batch.read_plan(out).assignments[0])]) == {"a/one": "left"}
    os.utime(claim, (real() - claims.STALE_S - 9,) * 2)
    assert states([batch.run_one(batch.read_plan(out).assignments[0])]) == {"a/one": "done"}


def test_a_full_shared_disk_fails_jobs_in_one_line_and_is_made_up_for(study, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "mien-test", str(shared)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("may not mount a small disk")
    try:
        batch.write_plan([study], shared)
        (shared / "filler").write_bytes(bytes((os.statvfs(shared).f_bavail - 3) * 4096))
        outcomes = batch.run_plan(shared)
        full = [outcome for outcome in outcomes if outcome.job.name != "bad"]
        assert {outcome.state for outcome in full} == {"failed"}
        for outcome in full:
            assert "No space left" in outcome.problems[0]
            assert "\n" not in outcome.problems[0]
        assert not [
            path for path in shared.rglob("*") if path.suffix in (".csv", ".part", ".claim")
        ]
        (shared / "filler").unlink()
        assert states(batch.run_plan(shared, retry_failed=True)) == ALL
    finally:
        subprocess.run(["umount", "-l", str(shared)], check=False)


def test_a_machine_with_other_networks_is_refused(out):
    settings = batch.read_plan(out).settings
    other = dict(settings.facts)
    other["bundle"] = settings.facts["bundle"] | {"sha256": "0" * 64}
    for facts, match in (
        (other, r"bundle: this machine has mien-s \([0-9a-f]{12}\), .* mien-s \(0{12}\)"),
        (settings.facts | {"mien": "0.0.1"}, r"mien: this machine has .* planned with 0\.0\.1"),
    ):
        with pytest.raises(BundleError, match=match):
            replace(settings, facts=facts).open()
    gone = replace(settings, options=Options(bundle="gone"))
    job = batch.read_plan(out).jobs[0]
    with pytest.raises(UnknownNameError, match="gone"):
        batch.run_one(batch.Assignment(job, gone))
    assert not tables(out)


def test_a_plan_is_replaced_only_by_one_that_contains_it(study, out, tmp_path):
    film(study / "c" / "new.mp4", 9)
    assert len(batch.write_plan([study], out)[0].jobs) == 5
    before = (out / plan_file.PLAN).read_bytes()
    with pytest.raises(OutputError, match=r"other settings \(options\)"):
        batch.write_plan([study], out, options=Options(points=True))
    with pytest.raises(OutputError, match=r"other inputs \(.*one\.mp4 and 3 more\)"):
        batch.write_plan([study / "c"], out)
    with (
        claims.Claim(out / "mien-plan", "/another/study"),
        pytest.raises(claims.ClaimedError, match=r"mien-plan\.parquet: being written by"),
    ):
        batch.write_plan([study], out)
    assert (out / plan_file.PLAN).read_bytes() == before


def test_an_input_that_changes_meanwhile_fails_its_job_alone(out, monkeypatch):
    real = Reader.read

    def read(self, source):
        if "/b/" in source.name:
            with open(source.name, "ab") as file:
                file.write(b"more")
        return real(self, source)

    monkeypatch.setattr(Reader, "read", read)
    assert states(batch.run_plan(out)) == ALL | {"b/one": "failed"}
    (record,) = [record for record in batch.plan_status(out).failed if record.name == "b/one"]
    assert "changed while it was read" in record.problems[0]


def test_a_record_that_does_not_fit_on_the_disk_is_said_and_made_up_for(out, monkeypatch):
    def full(path, content):
        raise OutputError(f"{path}: cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr(store, "atomic_write", full)
        outcomes = batch.run_plan(out)
    assert states(outcomes) == ALL
    assert all("No space left" in " ".join(o.problems) for o in outcomes if o.state == "done")
    assert batch.plan_status(out).counts == Counter(waiting=4)
    batch.run_plan(out)
    assert batch.plan_status(out).counts == Counter(done=3, failed=1)


def test_a_plan_that_is_none_is_refused_with_the_next_step(study, out, tmp_path):
    path = out / plan_file.PLAN
    whole = path.read_bytes()
    table = tmp_path / "table.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(table)
    for content in (b"", whole[:200], whole[: len(whole) // 2], table.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(TableError, match="is no plan that can be followed"):
            batch.read_plan(out)
    with pytest.raises(OutputError, match="no such plan; make one"):
        batch.read_plan(tmp_path / "nothing.parquet")


def test_a_plan_does_not_lead_out_of_its_folder(out):
    import pyarrow.parquet as pq

    path = out / plan_file.PLAN
    table = pq.read_table(path)
    names = ["../stolen", *table["name"].to_pylist()[1:]]
    moved = table.set_column(2, "name", [names])
    pq.write_table(moved.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(TableError, match=r"'\.\./stolen' is no name of a table"):
        batch.read_plan(out)


def test_what_does_not_go_together_is_refused(study, out):
    refused = [
        (("analyze", "--plan", out, study), "leave INPUT and --out out"),
        (("analyze", "--plan", out, "--smooth", "0.1"), "--smooth: the plan says how to read"),
        (("analyze", study), "give INPUT and --out, or a plan with --plan"),
        (
            ("analyze", study, "--out", out, "--shard", "1/2"),
            "--retry-failed and --ray go with --plan",
        ),
        (("analyze", "--plan", out, "--shard", "3/2"), "from 1/2 to 2/2"),
        (("analyze", "--plan", out, "--jobs", "many"), "--jobs must be auto or a number"),
        (("analyze", "--plan", out, "--ray", "local", "--jobs", "2"), "leave --jobs out"),
        (("plan", study, "--out", out, "--format", "csv,eaf"), "run `mien convert` on the tables"),
        (("plan", "camera:0", "--out", out), "no file that other machines could read"),
    ]
    for words, line in refused:
        code, said = say(*words)
        assert code == 2, said
        assert line in " ".join(said.split())


def test_records_that_were_damaged_count_as_none(out):
    batch.run_plan(out)
    for number, path in enumerate(sorted((out / "mien-jobs").iterdir())):
        page = json.loads(path.read_text())
        del page["state"]
        path.write_text(["", "[]", json.dumps(page), "{"][number])
    assert batch.plan_status(out).counts == Counter(waiting=4)
    batch.run_plan(out)
    assert batch.plan_status(out).counts == Counter(done=3, failed=1)


def test_a_bundle_of_a_relative_folder_is_the_same_from_any_folder(study, tmp_path, monkeypatch):
    shutil.copytree(open_bundle("mien-xs").folder, tmp_path / "nets" / "mine")
    monkeypatch.chdir(tmp_path)
    batch.write_plan([study], "out", options=Options(bundle="nets/mine"))
    monkeypatch.chdir(tmp_path.anchor)
    settings = batch.read_plan(tmp_path / "out").settings
    assert settings.options.bundle == str(tmp_path / "nets" / "mine")
    assert settings.open().reader.networks.model.card.name == "mien-xs"
