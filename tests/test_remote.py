"""Inputs and results elsewhere: an object store on loopback that is real, and everything that can go wrong with one."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing, suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from noise import film, photo
from typer.testing import CliRunner

import mien
from mien import batch
from mien.analysis.reader import Reader
from mien.batch.names import plan
from mien.batch.stores import remote_claims, remote_store
from mien.batch.stores.remote_claims import RemoteClaim
from mien.cli import app
from mien.errors import OutputError, SourceError, TableError
from mien.outputs import claims
from mien.outputs.claims import ClaimedError
from mien.remote.folder import RemoteFolder
from mien.sources import fetched, list_inputs, media_kind, open_source

RUN = CliRunner()
ONE = lru_cache(Reader)  # bundles are loaded once for all tests


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batch, "Reader", ONE)


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def study(memory, tmp_path):
    """Two films of one name, one that is none, three photos and a text."""
    for number, folder in enumerate("ab"):
        film(tmp_path / "one.mp4", number)
        memory.put_file(str(tmp_path / "one.mp4"), f"/in/{folder}/one.mp4")
    for number in range(3):
        photo(tmp_path / "photo.png", number)
        memory.put_file(str(tmp_path / "photo.png"), f"/in/photos/{number}.png")
    memory.pipe_file("/in/bad.mp4", b"no film")
    memory.pipe_file("/in/notes.txt", b"text")
    memory.pipe_file("/in/.hidden/x.mp4", b"no film")
    return "memory://in"


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


class Proxy:
    """Passes on what a client and a server say, until it is told to close all connections."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.left = {"up": 1 << 40, "down": 1 << 40}
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self, way: str, after: int) -> None:
        """Close everything once so many more bytes have gone this way, and stay closed."""
        self.left[way] = after

    def heal(self) -> None:
        self.left = {"up": 1 << 40, "down": 1 << 40}

    def close(self) -> None:
        for end in (self._server, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if min(self.left.values()) <= 0:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._ends += [client, server]
                for way, source, sink in (("up", client, server), ("down", server, client)):
                    threading.Thread(
                        target=self._pass, args=(way, source, sink), daemon=True
                    ).start()

    def _pass(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                sink.sendall(data[: max(0, self.left[way])])
                self.left[way] -= len(data)
                if self.left[way] <= 0:
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server():
    """The port of moto's object store, in a process of its own."""
    pytest.importorskip("moto")
    pytest.importorskip("flask")
    pytest.importorskip("s3fs")
    port = free_port()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port))):
                break
            time.sleep(0.1)
        yield port
        process.kill()


@pytest.fixture
def s3(server, monkeypatch):
    """The store behind a proxy: its file system, past the proxy, and the proxy. Bucket ``films`` is empty."""
    import fsspec
    import s3fs

    call(server, "reset-auth", b"inf")
    call(server, "reset")
    proxy = Proxy(server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(fsspec.config.conf, "s3", conf(proxy.port))
    monkeypatch.setattr(s3fs.core.S3FileSystem, "retries", 2)
    straight = s3fs.S3FileSystem(**conf(server), skip_instance_cache=True)
    straight.mkdir("films")
    yield straight, proxy
    proxy.close()
    call(server, "reset-auth", b"inf")


def conf(port: int) -> dict:
    return {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "key": "user",
        "secret": "secret",
        "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 5, "read_timeout": 5},
        "use_listings_cache": False,
    }


def call(port: int, what: str, data: bytes = b"") -> None:
    """Tell moto something; as text, for it takes forms apart."""
    address = f"http://127.0.0.1:{port}/moto-api/{what}"
    request = urllib.request.Request(address, data, {"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()  # noqa: S310


def states(outcomes) -> dict[str, str]:
    return {outcome.job.name: outcome.state for outcome in outcomes}


def names(system, folder: str) -> list[str]:
    """All files of a folder, also hidden ones, as paths below it."""
    system.invalidate_cache()
    below = [path.lstrip("/").removeprefix(f"{folder}/") for path in system.find(folder)]
    return sorted(below)


def one_line(outcome) -> str:
    (problem,) = outcome.problems
    assert "\n" not in problem
    return problem


DONE = {"a/one": "done", "b/one": "done", "bad": "failed", "photos": "done"}
SKIPPED = {"a/one": "skipped", "b/one": "skipped", "bad": "failed", "photos": "skipped"}


# inputs


def test_a_folder_a_pattern_and_a_file_are_listed(study, memory):
    listed = list_inputs([study])
    assert [path.removeprefix("memory://in/") for path in listed.paths] == [
        "a/one.mp4", "b/one.mp4", "bad.mp4", "photos/0.png", "photos/1.png", "photos/2.png",
    ]  # fmt: skip
    assert listed.left_out == Counter({".txt": 1, "hidden": 1})
    assert (
        list_inputs(["memory://in/*/one.mp4", "memory://in/a/one.mp4/"]).paths == listed.paths[:2]
    )
    for given, match in (
        ("memory://nowhere", "no such file, folder or bucket"),
        ("memory://in/x*.mp4", "nothing matches"),
        ("nosuch://x/a.mp4", "Protocol not known"),
        ("rtsp://camera/1", "is a stream.*mien live"),
        ("file:///tmp/a.mp4", "without file://"),
        (Path("s3://films/a.mp4"), "a Path takes a slash"),
        ("sftp://me:secret@host/a.mp4", "holds a password"),
        ("https://me:secret@host/a.mp4", "holds a password"),
        ("zip://a.mp4::sftp://me:secret@host/a.zip", "holds a password"),
    ):
        (failure,) = list_inputs([given]).failures
        assert re.search(match, failure[1]), failure
        assert "secret" not in str(failure)


def test_a_password_is_written_nowhere(tmp_path):
    given = [film(tmp_path / "a.mp4"), "https://me:secret@host/b.mp4"]
    assert sorted(states(batch.run(given, tmp_path / "out")).values()) == ["done", "failed"]
    assert batch.write_plan(given[1:], tmp_path / "plan")[0].jobs == ()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes(), path


def test_an_address_is_read_as_a_path_is(study, memory, tmp_path):
    (tmp_path / "one.mp4").write_bytes(memory.cat_file("/in/a/one.mp4"))
    here, there = mien.analyze(tmp_path / "one.mp4").table, mien.analyze(f"{study}/a/one.mp4").table
    assert set(there["source"]) == {f"{study}/a/one.mp4"}
    assert here.drop(columns="source").equals(there.drop(columns="source"))
    assert media_kind(f"{study}/photos/0.png") == "image"
    # What is fetched to a temporary file reads the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetched, "MAX_IN_MEMORY", 100)
        patch.setattr("mien.sources.stored.MAX_IN_MEMORY", 100)
        assert mien.analyze(f"{study}/a/one.mp4").table.equals(there)


def test_a_full_disk_while_fetching_is_said(study, monkeypatch):
    monkeypatch.setattr(fetched, "MAX_IN_MEMORY", 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(SourceError, match=r"a/one\.mp4: has no room in .*TMPDIR"):
            open_source(f"{study}/a/one.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_web_is_read_too(tmp_path):
    pytest.importorskip("aiohttp")
    clip = film(tmp_path / "one.mp4", 3)
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(tmp_path)]
    with subprocess.Popen(
        [command[0], "-u", *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        port = process.stdout.readline().split(" port ")[1].split()[0]
        address = f"http://127.0.0.1:{port}/one.mp4?key=1"
        assert len(mien.analyze(address).table) == len(mien.analyze(clip).table)
        first = batch.run([address], tmp_path / "out")
        assert states(first) == {"one": "done"}
        assert states(batch.run([address], tmp_path / "out")) == {"one": "skipped"}
        film(clip, 4)
        (changed,) = batch.run([address], tmp_path / "out")
        assert "is about another input" in one_line(changed)
        with pytest.raises(SourceError, match="no such file"):
            open_source(f"http://127.0.0.1:{port}/two.mp4")
        with pytest.raises(OutputError, match="cannot be written"):
            batch.run([clip], f"http://127.0.0.1:{port}/out")
        process.kill()


def test_no_dictionary_makes_mien_look_at_an_address(tmp_path, monkeypatch):
    """Those in the output folder may come from anybody."""
    clip, out = film(tmp_path / "one.mp4"), tmp_path / "out"
    batch.run([clip], out)
    page = json.loads((out / "one.dictionary.json").read_text())
    page["sources"][0]["path"] = page["sources"][0]["name"] = "memory://elsewhere/one.mp4"
    (out / "one.dictionary.json").write_text(json.dumps(page))
    for photograph in range(2):
        photo(tmp_path / "photos" / f"{photograph}.png", photograph)
    batch.run([tmp_path / "photos"], out)
    path = out / "photos.dictionary.json"
    page = json.loads(path.read_text())
    page["sources"][1]["path"] = page["sources"][1]["name"] = "memory://elsewhere/1.png"
    path.write_text(json.dumps(page))

    def refuse(address):
        raise AssertionError(f"looked at {address}")

    monkeypatch.setattr("mien.remote.access.open_system", refuse)
    monkeypatch.setattr("mien.sources.fetched.open_system", refuse)
    outcomes = states(batch.run([clip, tmp_path / "photos"], out))
    assert outcomes["photos"] == "done"
    assert set(outcomes.values()) == {"done"}


def test_nothing_is_reached_that_nobody_named(tmp_path):
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"reached for the network: {args}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from mien import batch
clip, out = sys.argv[1:]
outcomes = batch.run([clip], out)
batch.write_plan([clip], out + "/planned")
batch.run_plan(out + "/planned")
batch.plan_status(out + "/planned")
import mien
mien.read_table(outcomes[0].files[0])
assert outcomes[0].state == "done"
assert "fsspec" not in sys.modules
"""
    clip = film(tmp_path / "one.mp4")
    command = [sys.executable, "-c", code, str(clip), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_follow_addresses():
    jobs = plan(["https://g/a/f.mp4", "https://h/b/f.mp4?k=1", "https://h/c/f.mp4"]).jobs
    assert sorted(job.name for job in jobs) == ["g/a/f", "h/b/f", "h/c/f"]


# results


def test_results_elsewhere_are_those_on_disk(study, memory, tmp_path):
    options = {"formats": ["csv", "parquet"], "overlay": True}
    here = batch.run([study], tmp_path / "out", **options)
    there = batch.run([study], "memory://out", **options)
    assert states(here) == states(there) == DONE
    local = {
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert names(memory, "out") == sorted(local)
    for name in local:
        if name.endswith((".csv", ".parquet", ".dictionary.json", ".jpg")):
            assert memory.cat_file(f"/out/{name}") == (tmp_path / "out" / name).read_bytes(), name
    assert there[0].files[0] == "memory://out/a/one.csv"
    table = mien.read_table("memory://out/a/one.csv")
    assert table.equals(mien.read_table(tmp_path / "out" / "a" / "one.csv"))
    assert states(batch.run([study], "memory://out", **options)) == SKIPPED
    assert not list(
        Path(remote_store.tempfile.gettempdir()).glob(f"mien-out-{claims.process_token()}*")
    )


def test_a_table_without_its_dictionary_or_cut_off_is_read_again(study, memory):
    batch.run([study], "memory://out")
    whole = memory.cat_file("/out/b/one.csv")
    memory.pipe_file("/out/b/one.csv", whole[:-9])
    assert states(batch.run([study], "memory://out")) == SKIPPED | {"b/one": "done"}
    assert memory.cat_file("/out/b/one.csv") == whole
    memory.rm_file("/out/a/one.dictionary.json")
    outcomes = {outcome.job.name: outcome for outcome in batch.run([study], "memory://out")}
    assert "memory://out/a/one.csv: no dictionary beside it" in one_line(outcomes["a/one"])
    with pytest.raises(TableError, match=r"memory://out/a/one.csv: its dictionary"):
        mien.read_table("memory://out/a/one.csv")


def test_a_further_photo_does_not_cost_the_others(study, memory, tmp_path, monkeypatch):
    batch.run([f"{study}/photos"], "memory://out", overlay=True)
    opened, real = [], Reader.open
    monkeypatch.setattr(Reader, "open", lambda self, path: opened.append(path) or real(self, path))
    photo(tmp_path / "new.png", 9)
    memory.put_file(str(tmp_path / "new.png"), "/in/photos/new.png")
    assert states(batch.run([f"{study}/photos/new.png"], "memory://out/x")) == {"new": "done"}
    opened.clear()
    assert states(batch.run([f"{study}/photos"], "memory://out", overlay=True)) == {
        "photos": "done"
    }
    assert opened == ["memory://in/photos/new.png"]
    assert len(mien.read_table("memory://out/photos.csv")) == 4
    photo(tmp_path / "new.png", 10)
    memory.put_file(str(tmp_path / "new.png"), "/in/photos/1.png")
    opened.clear()
    assert states(batch.run([f"{study}/photos"], "memory://out", overlay=True)) == {
        "photos": "done"
    }
    assert opened == ["memory://in/photos/1.png"]


def test_results_never_replace_an_input(memory, tmp_path):
    clip = film(tmp_path / "a.mp4")
    memory.put_file(str(clip), "/in/a.mp4")
    memory.put_file(str(clip), "/in/a.overlay.mp4")
    first, _ = batch.run(
        ["memory://in/a.mp4", "memory://in/a.overlay.mp4"], "memory://in", overlay=True
    )
    assert "memory://in/a.overlay.mp4: is an input" in one_line(first)
    assert memory.cat_file("/in/a.overlay.mp4") == clip.read_bytes()


def test_a_changed_input_is_told_from_a_new_one(study, memory, tmp_path):
    batch.run([f"{study}/a/one.mp4"], "memory://out")
    film(tmp_path / "other.mp4", 7)
    memory.put_file(str(tmp_path / "other.mp4"), "/in/a/one.mp4")
    (outcome,) = batch.run([f"{study}/a/one.mp4"], "memory://out")
    assert one_line(outcome).startswith("memory://out/one.dictionary.json: is about another input")


def test_an_object_that_changes_during_the_run_gives_no_table(study, memory, monkeypatch):
    real = Reader.read

    def read(self, source):
        memory.pipe_file("/in/a/one.mp4", b"another film")
        return real(self, source)

    monkeypatch.setattr(Reader, "read", read)
    (outcome,) = batch.run([f"{study}/a/one.mp4"], "memory://out")
    assert "changed while it was read" in one_line(outcome)
    assert names(memory, "out") == []


def test_a_store_that_cannot_keep_runs_apart_is_refused(study, memory, monkeypatch):
    real = type(memory).pipe_file

    def replaces(self, path, value, mode="overwrite", **options):
        return real(self, path, value, mode="overwrite", **options)

    monkeypatch.setattr(type(memory), "pipe_file", replaces)
    with pytest.raises(OutputError, match=r"memory://out: this store does not refuse"):
        batch.run([study], "memory://out")
    assert names(memory, "out") == []


def test_a_path_that_lost_a_slash_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"s3:/films/out: a Path takes a slash"):
        batch.run([tmp_path], Path("s3://films/out"))
    assert list(tmp_path.iterdir()) == []


def test_formats_of_other_programs_go_along_and_bids_is_refused(study, memory):
    pytest.importorskip("pympi")
    clip = f"{study}/a/one.mp4"
    result = RUN.invoke(
        app, ["analyze", clip, "--out", "memory://out", "--format", "csv,textgrid,openface"]
    )
    assert "memory://out/one.csv" in result.output
    assert "mien-out-" not in result.output
    assert "one.csv" in names(memory, "out")
    result = RUN.invoke(app, ["analyze", clip, "--out", "memory://out", "--format", "bids"])
    assert result.exit_code == 2
    assert "written into folders on disk alone" in result.output


# claims


def test_one_of_two_runs_has_a_claim_and_a_dead_one_is_taken_over(memory, tmp_path, monkeypatch):
    folder = RemoteFolder("memory://out")
    claim = RemoteClaim(folder, "s/c", tmp_path, "x.mp4")
    monkeypatch.setattr(claims, "BEAT_S", 3600)
    with claim:
        second = RemoteClaim(folder, "s/c", tmp_path, "x.mp4")
        with (
            pytest.raises(ClaimedError, match=f"s/c: being written by .*process {os.getpid()}"),
            second,
        ):
            pass
        # Its machine's clock does not matter, the store's does.
        memory.store["/out/s/.c.claim"].created -= timedelta(hours=1)
        with second:
            second.check()
            with pytest.raises(ClaimedError, match="taken over"):
                claim.announce([tmp_path / "s" / "c.csv"])
    assert names(memory, "out") == []


def test_what_a_dead_host_had_put_up_is_removed(study, memory):
    holder = claims.Holder(
        "00000000-1-1",
        "node7",
        "2999-01-01 10:00:00+0000",
        f"{study}/a/one.mp4",
        ("one.csv", "other.csv", "one.dictionary.json"),
    )
    memory.pipe_file("/out/.one.claim", claims.holder_bytes(holder))
    for name in ("one.csv", "other.csv"):
        memory.pipe_file(f"/out/{name}", b"half")
    (left,) = batch.run([f"{study}/a/one.mp4"], "memory://out")
    assert left.state == "left"
    assert "node7" in left.left_to
    memory.store["/out/.one.claim"].created -= timedelta(hours=1)
    (done,) = batch.run([f"{study}/a/one.mp4"], "memory://out")
    assert done.state == "done"
    assert names(memory, "out") == ["one.csv", "one.dictionary.json", "other.csv"]


def test_a_claim_shows_life(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    with RemoteClaim(RemoteFolder("memory://out"), "c", tmp_path, "x"):
        memory.store["/out/.c.claim"].created = first = memory.created("/out/.c.claim").replace(
            year=2020
        )
        deadline = time.monotonic() + 20
        while memory.created("/out/.c.claim") == first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert memory.created("/out/.c.claim") > first


# plans


def test_a_plan_elsewhere_is_done_in_parts(study, memory, tmp_path):
    written, _ = batch.write_plan([study], "memory://out")
    assert written.path == "memory://out/mien-plan.parquet"
    assert (
        batch.read_plan("memory://out/mien-plan.parquet").jobs
        == batch.read_plan("memory://out").jobs
    )
    assert RUN.invoke(app, ["status", "memory://out"]).exit_code == 3
    outcomes = {}
    for part in (1, 2):
        outcomes |= states(batch.run_plan("memory://out", shard=(part, 2)))
    assert outcomes == DONE
    status = batch.plan_status("memory://out")
    assert status.counts == Counter(done=3, failed=1)
    memory.put_file(str(film(tmp_path / "f.mp4")), "/in/bad.mp4")
    assert states(batch.run_plan("memory://out"))["bad"] == "failed"
    assert states(batch.run_plan("memory://out", retry_failed=True)) == dict.fromkeys(
        DONE, "skipped"
    ) | {"bad": "done"}
    result = RUN.invoke(app, ["status", "memory://out"])
    assert result.exit_code == 0
    assert "4 done" in result.output
    with pytest.raises(
        OutputError, match=r"memory://out/mien-plan.parquet: is the plan of a run with other inputs"
    ):
        batch.write_plan([f"{study}/a"], "memory://out")
    with pytest.raises(OutputError, match=r"memory://none/mien-plan.parquet: no such plan"):
        batch.read_plan("memory://none")


# an object store


def put_films(system, tmp_path, count: int = 2) -> None:
    for number in range(count):
        system.put_file(
            str(film(tmp_path / f"{number}.mp4", number, frames=12)), f"films/in/{number}.mp4"
        )


def test_a_run_on_an_object_store_is_done_once(s3, tmp_path):
    system, _ = s3
    put_films(system, tmp_path)
    assert states(batch.run(["s3://films/in"], "s3://films/out", overlay=True)) == {
        "0": "done",
        "1": "done",
    }
    assert len(mien.read_table("s3://films/out/0.csv")) == 12
    assert states(batch.run(["s3://films/in"], "s3://films/out", overlay=True)) == {
        "0": "skipped",
        "1": "skipped",
    }
    assert [name for name in names(system, "films/out") if "/." in f"/{name}"] == []
    with RemoteClaim(RemoteFolder("s3://films/out"), "0", tmp_path, "s3://films/in/0.mp4") as mine:
        (left,) = batch.run(["s3://films/in/0.mp4"], "s3://films/out")
        assert left.state == "left"
        mine.check()


def test_two_processes_put_up_each_table_once(s3, server, tmp_path):
    system, _ = s3
    put_films(system, tmp_path, 3)
    environment = os.environ | {
        "FSSPEC_S3": json.dumps(conf(server)),
    }
    command = [sys.executable, "-m", "mien", "analyze", "s3://films/in", "--out", "s3://films/out"]
    runs = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=200)[0] for run in runs]
    assert {run.returncode for run in runs} <= {0, 3}, said
    assert sum(text.count(" frames, ") for text in said) == 3, said
    assert names(system, "films/out") == sorted(
        ["mien-run.json", *(f"{n}.{e}" for n in range(3) for e in ("csv", "dictionary.json"))]
    )


def test_what_is_missing_is_one_line(s3):
    given = ["s3://none/a.mp4", "s3://films/none.mp4", "s3://films/none"]
    outcomes = batch.run(given, "s3://films/out")
    assert [outcome.state for outcome in outcomes] == ["failed"] * 3
    for outcome in outcomes:
        assert "no such file, folder or bucket" in one_line(outcome)


def test_a_bucket_that_is_missing_is_not_made(s3, tmp_path):
    system, _ = s3
    with pytest.raises(OutputError, match=r"s3://none/out.*no such file, folder or bucket"):
        batch.run([film(tmp_path / "a.mp4")], "s3://none/out")
    assert not system.exists("none")


def test_a_bucket_without_permission_is_one_line(s3, server, tmp_path):
    system, _ = s3
    put_films(system, tmp_path, 1)
    call(server, "reset-auth", b"0")
    with pytest.raises(OutputError, match=r"s3://films/out.*may not be written"):
        batch.run([tmp_path / "0.mp4"], "s3://films/out")
    (outcome,) = batch.run(["s3://films/in/0.mp4"], tmp_path / "out")
    assert "may not be read" in one_line(outcome)


def test_a_network_that_drops_while_reading_fails_that_input_alone(s3, tmp_path):
    system, proxy = s3
    put_films(system, tmp_path, 1)
    proxy.drop("down", 4000)
    near = film(tmp_path / "near.mp4", 5)
    outcomes = batch.run(["s3://films/in/0.mp4", near], tmp_path / "out")
    assert states(outcomes)["near"] == "done"
    (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
    assert one_line(failed).startswith("s3://films/in/0.mp4: ")
    assert "network" in one_line(failed)
    proxy.heal()
    assert states(batch.run(["s3://films/in/0.mp4", near], tmp_path / "out")) == {
        "0": "done",
        "near": "skipped",
    }


def test_a_network_that_drops_while_writing_leaves_nothing_that_counts(s3, tmp_path, monkeypatch):
    """With the first file that is put up, and, taking that over, with the second, the dictionary."""
    system, proxy = s3
    # This process has not ended, so its claims would count until they are old.
    monkeypatch.setattr(remote_claims, "STALE_S", -1)
    clips = [film(tmp_path / f"{n}.mp4", n, frames=12) for n in range(2)]
    real, calls = RemoteFolder.put, []

    def put(self, path, name):
        calls.append(name)
        if len(calls) in (1, 3):
            proxy.drop("up", 1500)
        real(self, path, name)

    monkeypatch.setattr(RemoteFolder, "put", put)
    for tried in (["0.csv"], ["0.csv", "0.csv", "0.dictionary.json"]):
        outcomes = batch.run(clips, "s3://films/out")
        assert calls == tried
        assert states(outcomes) == {"0": "failed", "1": "failed"}
        for outcome in outcomes:
            assert "s3://films/out/" in one_line(outcome)
            assert "network" in one_line(outcome)
        proxy.heal()
        assert "0.dictionary.json" not in names(system, "films/out")
    assert states(batch.run(clips, "s3://films/out")) == {"0": "done", "1": "done"}
    assert names(system, "films/out") == [
        "0.csv",
        "0.dictionary.json",
        "1.csv",
        "1.dictionary.json",
        "mien-run.json",
    ]
    assert len(mien.read_table("s3://films/out/0.csv")) == 12


def test_who_lost_a_claim_removes_nothing_of_its_successor(memory, tmp_path, monkeypatch):
    folder = RemoteFolder("memory://out")
    first, second = (RemoteClaim(folder, "c", tmp_path, "x.mp4") for _ in range(2))
    files = [tmp_path / "c.csv", tmp_path / "c.dictionary.json"]
    with suppress(ConnectionError), first:
        first.announce(files)
        memory.store["/out/.c.claim"].created -= timedelta(hours=1)
        second.__enter__()
        second.announce(files)
        folder.write("c.csv", b"of the second")
        raise ConnectionError
    assert names(memory, "out") == [".c.claim", "c.csv"]
    second.__exit__(None, None, None)
