"""The server of `mien app` and `mien serve`, asked over a real port: what it does, and whom it refuses."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import mien
from mien.demo import film
from mien.errors import OutputError
from mien.files import wrap_os_errors
from mien.outputs.claims import Claim
from mien.outputs.read import read_table

TOKEN = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"  # noqa: S105
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder with a film, a photo, a text and what is hidden."""
    folder = tmp_path_factory.mktemp("home")
    film(folder / "films" / "clip.mp4", seconds=1.0)
    film(folder / "long.mp4", seconds=8.0)
    (folder / "films" / "clip2.mp4").write_bytes((folder / "films" / "clip.mp4").read_bytes())
    (folder / "notes <b>.txt").write_text("no film")
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "key.mp4").write_text("secret")
    (folder / "link.mp4").symlink_to("/etc/passwd")
    os.close(os.open(os.fsencode(folder) + b"/no\xfftext.mp4", os.O_CREAT))
    return folder


@contextmanager
def served(folder, **limits):
    """An app on a port of its own, in a thread, and a client that knows its token."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi", reason="needs mien[app]")
    from mien.app.server.application import create_app
    from mien.app.server.security import Security
    from mien.app.server.serving import Server, listen
    from mien.app.server.state import Limits
    from mien.app.work.workspace import Workspace

    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        rules = Limits(**limits)
        security = Security.loopback(port, TOKEN, has_pages=not rules.is_service)
        server = Server(create_app(Workspace.open(folder), security, rules))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=BEARER, timeout=120
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(home, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        with served(tmp_path_factory.mktemp("workspace")) as client:
            yield client


@pytest.fixture
def stranger(client):
    """A client without any token."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=client.base_url, timeout=60) as asker:
        yield asker


def message(answer):
    """The text of an error, which has one shape."""
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message"}
    text = answer.json()["error"]["message"]
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def until(client, job_id, *states, seconds=120):
    """Wait for a job to be in one of some states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        jobs = {job["id"]: job for job in client.get("/api/jobs").json()}
        if jobs[job_id]["state"] in states:
            return jobs[job_id]
        time.sleep(0.1)
    raise AssertionError(jobs[job_id])


# --- who is let in ---


def test_the_token_opens_the_page_once_and_a_cookie_keeps_it_open(client, stranger):
    assert stranger.get("/").status_code == 401
    assert stranger.get("/api/info").status_code == 401
    opened = stranger.get("/", params={"token": TOKEN})
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith(f"mien_{client.base_url.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert stranger.get("/api/info").json()["version"] == mien.__version__


def test_a_guessed_token_opens_nothing(stranger):
    for guess in ("a", TOKEN[:-1], TOKEN + "a", TOKEN.lower(), "ä" * 43, '"x'):
        assert stranger.get("/", params={"token": guess}).status_code == 401
        assert stranger.get("/", params={"code": guess}).status_code == 401
        given = {"authorization": f"Bearer {guess}".encode()}
        assert stranger.get("/api/info", headers=given).status_code == 401
        cookie = {"cookie": f"mien_{stranger.base_url.port}={guess}".encode()}
        assert stranger.get("/api/info", headers=cookie).status_code == 401
    # The token of the address opens the page alone, or it would stand in every log.
    assert stranger.get("/api/info", params={"token": TOKEN}).status_code == 401
    assert "token" in message(stranger.get("/api/info"))


def test_a_page_of_another_origin_is_not_heard(client, stranger):
    port = client.base_url.port
    stranger.get("/", params={"token": TOKEN})
    for origin in (
        "http://evil.example",
        f"https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        f"http://localhost:{port}",  # another site than 127.0.0.1, for a browser
        f"http://127.0.0.1:{port}.evil.example",
        "null",
    ):
        answer = stranger.post("/api/jobs", json={"inputs": ["/"]}, headers={"origin": origin})
        assert answer.status_code == 403
        assert "origin" in message(answer)
        assert client.get("/api/info", headers={"origin": origin}).status_code == 403
    own = {"origin": f"http://127.0.0.1:{port}"}
    assert stranger.post("/api/jobs", json={"inputs": []}, headers=own).status_code == 422
    # Forms of other pages send no Origin in old browsers; the cookie alone changes nothing.
    assert stranger.post("/api/jobs", json={"inputs": []}).status_code == 403


def test_the_cookie_is_of_no_use_to_other_servers_of_this_computer(stranger):
    """For a browser, another port is the same site."""
    stranger.get("/", params={"token": TOKEN})
    picture = {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}
    assert stranger.get("/api/info", headers=picture).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert stranger.get("/api/info", headers=link).status_code == 403
    assert stranger.get("/", headers=link).status_code != 403
    page = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert stranger.get("/api/info", headers=page).status_code == 200


def test_another_name_for_this_computer_leads_nowhere(client):
    """A name of an attacker's that is made to point here (DNS rebinding)."""
    port = client.base_url.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]"):
        answer = client.get("/api/info", headers={"host": host})
        assert answer.status_code in (400, 403), host
    assert client.get("/api/info", headers={"host": f"localhost:{port}"}).status_code == 200


def test_a_websocket_of_another_page_is_refused(client):
    websockets = pytest.importorskip("websockets.sync.client")
    from websockets.exceptions import InvalidStatus

    address = f"ws://127.0.0.1:{client.base_url.port}/api/live"
    cookie = {"Cookie": f"mien_{client.base_url.port}={TOKEN}"}
    for origin, headers in (
        (None, {}),
        (None, {"Authorization": "Bearer wrong"}),
        ("http://evil.example", {"Authorization": f"Bearer {TOKEN}"}),
        ("http://evil.example", cookie),
        (None, cookie),
    ):
        with pytest.raises(InvalidStatus) as refused:
            websockets.connect(address, origin=origin, additional_headers=headers)
        assert refused.value.response.status_code == 403


def test_answers_forbid_what_a_page_does_not_need(client):
    headers = client.get("/docs").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "script-src" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


# --- files ---


def test_folders_show_what_can_be_read_and_nothing_that_is_hidden(client, home):
    listed = client.get("/api/files").json()
    assert listed["path"] == str(home)
    assert listed["parent"] is None
    names = {entry["name"]: entry["kind"] for entry in listed["entries"]}
    assert names == {
        "long.mp4": "film",
        "films": "folder",
        "link.mp4": "film",
        "no\\udcfftext.mp4": "film",
        "notes <b>.txt": "other",
    }
    inner = client.get("/api/files", params={"path": str(home / "films")}).json()
    assert inner["parent"] == str(home)
    assert {entry["name"] for entry in inner["entries"]} == {"clip.mp4", "clip2.mp4"}
    assert inner["entries"][0]["size"] > 1000


@pytest.mark.parametrize(
    "path",
    ["/etc", "/", "..", "films", "{home}/..", "{home}/films/../../..", "{home}/.ssh", "{home}/x/../.ssh",
     "a\0b", "//etc", "~", "{home}/link.mp4", "%2e%2e", "file:///etc", "\\\\host\\share"],
)  # fmt: skip
def test_other_folders_are_not_shown(client, home, path):
    answer = client.get("/api/files", params={"path": path.format(home=home)})
    assert answer.status_code == 403
    assert "home folder" in message(answer)


def test_a_folder_that_is_not_there_is_said_to_be_missing(client, home):
    for name in ("nothing", "notes <b>.txt"):
        answer = client.get("/api/files", params={"path": str(home / name)})
        assert answer.status_code == 404
        assert name in message(answer)


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/assets/../../../pyproject.toml", "/%2e%2e/x",
     "/api/recordings/..%2f..%2fetc", "/api/jobs/../../x", "/docs/..%5c..%5cx"],
)  # fmt: skip
def test_no_address_leads_out_of_the_pages(client, path):
    """As bytes on the wire: clients clean addresses up before they send them."""
    with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.base_url.port}\r\n"
        request += f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    status = int(answer.split()[1])
    assert 400 <= status < 500
    assert "root:" not in answer
    assert '{"error":{"message":' in answer


# --- uploads ---


def test_what_is_sent_arrives_whole_under_a_safe_name(client, home):
    data = (home / "films" / "clip.mp4").read_bytes()
    sent = client.put("/api/uploads/my clip.mp4", content=data).json()
    assert sent["name"] == "my clip.mp4"
    assert sent["size"] == len(data)
    assert Path(sent["path"]).read_bytes() == data
    again = client.put("/api/uploads/my clip.mp4", content=iter([data[:100], data[100:]])).json()
    assert again["name"] == "my clip (2).mp4"
    strange = client.put("/api/uploads/%3Cimg src=x onerror=alert(1)%3E.mp4", content=data).json()
    assert strange["name"] == "_img src=x onerror=alert(1)_.mp4"
    hidden = client.put("/api/uploads/.hidden.mp4", content=data).json()
    assert hidden["name"] == "_hidden.mp4"
    back = client.put("/api/uploads/..%5C..%5Cup.mp4", content=data).json()
    assert Path(back["path"]).parent == Path(sent["path"]).parent


def test_what_is_no_film_is_not_taken(client):
    for name, data in (("a.exe", b"x"), ("noname", b"x"), ("empty.mp4", b"")):
        answer = client.put(f"/api/uploads/{name}", content=data)
        assert answer.status_code == 422
        assert name in message(answer)
    # A slash leaves the address of uploads.
    assert client.put("/api/uploads/..%2F..%2Fup.mp4", content=b"x").status_code in (404, 405)


def test_an_upload_that_breaks_off_leaves_nothing(client):
    films = Path(client.get("/api/info").json()["workspace"]) / "films"
    before = sorted(films.iterdir())
    port = client.base_url.port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"PUT /api/uploads/part.mp4 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 100)
        end = time.monotonic() + 10
        while len(list(films.iterdir())) == len(before) and time.monotonic() < end:
            time.sleep(0.02)
    end = time.monotonic() + 10
    while sorted(films.iterdir()) != before and time.monotonic() < end:
        time.sleep(0.02)
    assert sorted(films.iterdir()) == before


def test_a_full_disk_is_said_before_anything_is_sent(client, monkeypatch):
    class Usage:
        free = 10

    monkeypatch.setattr("mien.app.work.uploads.shutil.disk_usage", lambda _: Usage)
    answer = client.put("/api/uploads/big.mp4", content=b"x" * 11)
    assert answer.status_code == 507
    assert "free some space" in message(answer)


def test_an_upload_that_ends_on_a_full_disk_leaves_nothing(tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    resource = pytest.importorskip("resource", reason="needs limits of file sizes")
    from mien.app.work.uploads import Upload

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    upload = Upload(tmp_path, "clip.mp4")
    upload.begin()
    # Few enough to wait in the buffer, which then cannot be written.
    upload.write(b"x" * 5000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        upload.__exit__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_does_not_listen_is_sent_away():
    pytest.importorskip("fastapi", reason="needs mien[app]")
    import asyncio

    from mien.app.work.events import Events

    async def heard():
        events = Events()
        listening = events.listen(0.01)
        assert await anext(listening) is None
        for _ in range(2000):
            events.publish("jobs")
        await asyncio.sleep(0)
        return [event async for event in listening]

    assert len(asyncio.run(heard())) == 256


# --- reading, networks, documents ---


def test_a_picture_is_read_at_once(client, photo):
    answer = client.post(
        "/api/read", params={"name": "<i>eileen</i>.jpg"}, content=photo.read_bytes()
    )
    (face,) = answer.json()["faces"]
    row = mien.analyze(photo, points=True).table.iloc[0]
    assert face["expression"] == row["expression"] == "happiness"
    assert face["box"] == pytest.approx([row[f"box_{side}"] for side in "xywh"], abs=0.01)
    assert face["scores"]["valence"] == pytest.approx(row["valence"], abs=1e-4)
    assert face["probability"] == pytest.approx(row["expr_happiness"], abs=1e-4)
    assert len(face["points"]) == 5
    assert face["quality"] > 0.9
    damaged = client.post("/api/read", content=photo.read_bytes()[:500])
    assert damaged.status_code == 422
    assert "picture" in message(damaged)
    assert client.post("/api/read").status_code == 422


def test_networks_come_with_their_cards(client):
    networks = {network["name"]: network for network in client.get("/api/networks").json()}
    used = networks["mien-s"]
    assert used["in_use"]
    assert used["at_hand"]
    assert used["card"].startswith("# mien-s")
    assert used["limits"]
    assert not networks["emotieffnet-b2-8"]["at_hand"]


def test_the_api_is_described_without_a_network(client):
    page = client.get("/docs").text
    assert "<script" not in page
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
    for address in ("http://", "https://", "//cdn"):
        outside = [part for part in page.split(address)[1:] if not part.startswith("127.0.0.1")]
        assert not outside


def test_every_error_has_one_shape(client):
    for method, path, body in (
        ("GET", "/api/nothing", None),
        ("DELETE", "/api/info", None),
        ("POST", "/api/jobs", b"{"),
        ("POST", "/api/jobs", b'{"inputs": "x"}'),
        ("POST", "/api/jobs", b'{"inputs": ["/etc/passwd"]}'),
        ("POST", "/api/jobs", b'{"inputs": ["/"], "preset": "nothing"}'),
        ("POST", "/api/jobs", b'{"inputs": ["/"], "options": {"engine": "../x"}}'),
        ("POST", "/api/jobs/0123456789ab/cancel", None),
        ("POST", "/api/jobs/0123456789ab/explode", None),
        ("DELETE", "/api/jobs/%3Cb%3E", None),
        ("GET", "/api/recordings/0123456789abcdef", None),
    ):
        headers = {"content-type": "application/json"} if body else {}
        answer = client.request(method, path, content=body, headers=headers)
        assert 400 <= answer.status_code < 500, (method, path)
        assert message(answer)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (errno.ENOSPC, 507),
        (errno.EDQUOT, 507),
        (errno.EACCES, 507),
        (errno.EROFS, 507),
        (errno.EIO, 507),
        (errno.EEXIST, 409),
        (errno.ENOENT, 409),
        (errno.ENOTDIR, 409),
        (errno.ENAMETOOLONG, 422),
    ],
)
def test_only_a_disk_that_cannot_be_written_to_is_said_to_be_one(reason, status, tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    from mien.app.errors import status_of

    with pytest.raises(OutputError) as caught, wrap_os_errors(tmp_path):
        raise OSError(reason, os.strerror(reason))
    assert status_of(caught.value) == status


def test_what_another_process_writes_or_cannot_be_written_is_no_full_disk(tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    from mien.app.errors import status_of

    with Claim(tmp_path / "clip", "clip.mp4"), pytest.raises(OutputError) as claimed:
        Claim(tmp_path / "clip", "clip.mp4").__enter__()
    assert status_of(claimed.value) == 409
    assert status_of(OutputError("two formats would both write it")) == 422


def test_unknown_networks_are_refused_before_anything_waits(client, home):
    request = {"inputs": [str(home / "films")], "options": {"bundle": "mien-z"}}
    answer = client.post("/api/jobs", json=request)
    assert answer.status_code == 404
    assert "did you mean mien-s" in message(answer)
    assert client.get("/api/jobs").json() == []


def test_no_request_of_the_document_ends_in_a_mistake_of_the_server(client):
    """schemathesis makes requests by the API's own description, right ones and wrong ones."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    schema.config.update(base_url=str(client.base_url))
    # One never ends, the other is a list that costs half a second each time.
    operations = schema.exclude(path=["/api/events", "/api/networks"]).get_all_operations()
    for operation in operations:

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.ok().as_strategy())
        def probe(case):
            case.call_and_validate(headers=BEARER, checks=checks)

        probe()


# --- the queue ---


def test_a_film_is_read_as_the_command_line_reads_it(client, home, tmp_path):
    clip = home / "films" / "clip.mp4"
    events = []

    def listen():
        with client.stream("GET", "/api/events") as stream:
            for line in stream.iter_lines():
                events.append(line)
                if '"state":"done"' in line:
                    return

    listener = threading.Thread(target=listen)
    listener.start()
    while not events:
        time.sleep(0.02)
    asked = {"inputs": [str(clip)], "options": {"every": 0.25}}
    job = client.post("/api/jobs", json=asked).json()
    assert job["state"] == "running"
    assert job["options"] == {"points": True, "every": 0.25}
    done = until(client, job["id"], "done", "failed")
    assert (done["state"], done["problem"]) == ("done", None)
    assert (done["done"], done["total"], len(done["recordings"])) == (1, 1, 1)
    assert done["seconds_done"] == pytest.approx(done["seconds_total"])
    listener.join(10)
    assert not listener.is_alive()
    assert "event: recordings" in events
    results = Path(client.get("/api/info").json()["workspace"]) / "results"
    table = read_table(results / "clip.parquet")
    assert len(table) == done["rows"] > 0
    own = mien.analyze(clip, every=0.25, points=True).table
    assert table["expression"].tolist() == own["expression"].tolist()


def test_jobs_wait_are_paused_resumed_cancelled_and_tried_again(client, home):
    long, short = str(home / "long.mp4"), str(home / "films" / "clip2.mp4")
    first = client.post("/api/jobs", json={"inputs": [long]}).json()
    second = client.post("/api/jobs", json={"inputs": [short], "options": {"every": 0.5}}).json()
    assert (first["state"], second["state"]) == ("running", "waiting")
    paused = client.post(f"/api/jobs/{first['id']}/pause").json()
    assert paused["state"] == "paused"
    assert client.post(f"/api/jobs/{first['id']}/pause").status_code == 409
    assert until(client, second["id"], "done")["rows"] > 0
    held = until(client, first["id"], "paused")
    assert held["seconds_done"] < 7
    assert held["eta_s"] is None
    assert client.post(f"/api/jobs/{first['id']}/resume").json()["state"] == "running"
    assert client.post(f"/api/jobs/{first['id']}/cancel").json()["state"] == "cancelled"
    # Nothing half-written is left, and it can be read again, from the beginning.
    end = time.monotonic() + 30
    while client.post(f"/api/jobs/{first['id']}/retry").status_code == 409:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert client.delete(f"/api/jobs/{first['id']}").status_code == 204
    assert client.delete(f"/api/jobs/{second['id']}").status_code == 204
    assert first["id"] not in {job["id"] for job in client.get("/api/jobs").json()}


def test_a_bad_film_fails_in_words_and_the_others_are_read(client, home):
    folder = home / "mixed"
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"no film at all")
    (folder / "good.mp4").write_bytes((home / "films" / "clip.mp4").read_bytes())
    job = client.post("/api/jobs", json={"inputs": [str(folder)], "preset": "quick"}).json()
    done = until(client, job["id"], "done", "failed")
    assert done["state"] == "done"
    assert (done["done"], done["total"]) == (2, 2)
    assert "broken.mp4" in done["problem"]
    alone = client.post("/api/jobs", json={"inputs": [str(folder / "broken.mp4")]}).json()
    failed = until(client, alone["id"], "done", "failed")
    assert failed["state"] == "failed"
    assert "broken.mp4" in failed["problem"]


@contextmanager
def started(*arguments, home, **environment):
    """A command of mien that serves, and the first lines it prints."""
    known = {name: text for name, text in os.environ.items() if "DISPLAY" not in name}
    environment = {**known, "HOME": str(home), "PYTHONUNBUFFERED": "1", **environment}
    command = [sys.executable, "-m", "mien", *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def app_client(process):
    httpx = pytest.importorskip("httpx")
    address = process.stdout.readline().strip()
    assert address, process.stderr.read()
    parts = urlsplit(address)
    token = parse_qs(parts.query)["token"][0]
    headers = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=f"http://{parts.netloc}", headers=headers, timeout=120)


def test_a_browser_is_started_with_a_code_that_opens_the_page_once(home, tmp_path):
    """Others of this computer can read with which words a program was started."""
    pytest.importorskip("fastapi", reason="needs mien[app]")
    httpx = pytest.importorskip("httpx")
    browser, given = tmp_path / "browser", tmp_path / "given"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{given}.new"\nmv "{given}.new" "{given}"\n')
    browser.chmod(0o700)
    screen = {"DISPLAY": ":0", "BROWSER": f"{browser} %s"}
    with started("app", tmp_path / "workspace", home=home, **screen) as process:
        with closing(app_client(process)) as client:
            token = client.headers["authorization"].split()[1]
        end = time.monotonic() + 60
        while not given.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        address = given.read_text().strip()
        assert token not in address
        with httpx.Client() as first, httpx.Client() as second:
            assert first.get(address).status_code == 303
            refused = second.get(address)
            assert refused.status_code == 401
            assert "opens the page once and was used" in message(refused)
            root = address.partition("?")[0]
            assert first.get(root).status_code == 200
            assert second.get(root).status_code == 401


def test_a_server_that_is_killed_in_the_middle_of_its_queue_loses_nothing(home, tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    with started("app", tmp_path, "--no-browser", home=home) as process:  # noqa: SIM117
        with closing(app_client(process)) as client:
            for name, every in (("long.mp4", 0.0), ("films/clip.mp4", 0.5)):
                asked = {"inputs": [str(home / name)], "options": {"every": every}}
                assert client.post("/api/jobs", json=asked).status_code == 200
            end = time.monotonic() + 120
            while not client.get("/api/jobs").json()[0]["seconds_done"]:
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
    kept = json.loads((tmp_path / "queue.json").read_text())["jobs"]
    assert [job["state"] for job in kept] == ["running", "waiting"]
    with started("app", tmp_path, "--no-browser", home=home) as process:
        with closing(app_client(process)) as client:
            for job in kept:
                done = until(client, job["id"], "done", "failed")
                assert (done["state"], done["problem"]) == ("done", None)
        # Another server of the same folder would do everything twice.
        with started("app", tmp_path, "--no-browser", home=home) as rival:
            assert rival.wait() == 1
            assert "another mien app is open" in rival.stderr.read()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.stderr.read()
    tables = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert tables == [
        "clip.dictionary.json",
        "clip.parquet",
        "long.dictionary.json",
        "long.parquet",
    ]
    states = [job["state"] for job in json.loads((tmp_path / "queue.json").read_text())["jobs"]]
    assert states == ["done", "done"]


def test_a_queue_that_mien_did_not_write_is_left_alone(tmp_path):
    from mien.app.errors import InvalidError
    from mien.app.work.events import Events
    from mien.app.work.queue import Queue
    from mien.app.work.workspace import Workspace

    (tmp_path / "queue.json").write_text('{"jobs": 3}')
    with pytest.raises(InvalidError, match="move it away"):
        Queue(Workspace.open(tmp_path), Events())
    assert (tmp_path / "queue.json").read_text() == '{"jobs": 3}'


# --- mien serve ---


def test_a_service_keeps_nothing_and_shows_no_files(home, tmp_path, photo):
    with served(
        tmp_path, is_service=True, picture_bytes=1 << 20, film_bytes=1 << 20, seconds=5.0
    ) as client:
        info = client.get("/api/info").json()
        assert (info["workspace"], info["home"]) == ("", "")
        assert info["limits"]["film_bytes"] == 1 << 20
        assert client.get("/").status_code == 404
        assert client.get("/", params={"token": TOKEN}).status_code == 404
        assert client.get("/api/files").status_code == 403
        # No page, so no cookie either.
        cookie = {"cookie": f"mien_{client.base_url.port}={TOKEN}", "authorization": ""}
        assert client.get("/api/info", headers=cookie).status_code == 401
        assert client.post("/api/read", content=photo.read_bytes()).json()["faces"]
        too_large = client.post("/api/read", content=b"x" * ((1 << 20) + 1))
        assert too_large.status_code == 413
        assert (
            client.put("/api/uploads/a.mp4", content=iter([b"x" * (1 << 20)] * 2)).status_code
            == 413
        )
        own = {"inputs": [str(home / "films" / "clip.mp4")]}
        assert client.post("/api/jobs", json=own).status_code == 403
        data = (home / "films" / "clip.mp4").read_bytes()
        sent = client.put("/api/uploads/clip.mp4", content=data).json()
        asked = {"inputs": [sent["path"]], "preset": "quick"}
        job = client.post("/api/jobs", json=asked).json()
        assert until(client, job["id"], "done", "failed")["state"] == "done"
        assert list((tmp_path / "films").iterdir()) == []


def test_a_service_deletes_what_it_has_read_of_the_whole_folder(home, tmp_path, photo):
    films = tmp_path / "films"
    data = (home / "films" / "clip.mp4").read_bytes()
    with served(tmp_path, is_service=True) as client:

        def send(name, content):
            return client.put(f"/api/uploads/{name}", content=content).json()["path"]

        def ask(path):
            return client.post("/api/jobs", json={"inputs": [path], "preset": "quick"}).json()["id"]

        # While one is read that takes some seconds, the others wait.
        busy = ask(send("long.mp4", (home / "long.mp4").read_bytes()))
        clip = send("clip.mp4", data)
        send("face.jpg", photo.read_bytes())
        send("spoilt.mp4", b"no film")
        whole, again = ask(str(films)), ask(clip)
        # Cancelled before anybody looked into the folder: nothing of it was read.
        unread = ask(str(films))
        client.post(f"/api/jobs/{unread}/cancel")
        assert (films / "face.jpg").exists()
        assert until(client, busy, "done", "failed")["state"] == "done"
        done = until(client, whole, "done", "failed")
        assert (done["state"], len(done["recordings"])) == ("done", 3)
        assert "spoilt.mp4" in done["problem"]
        # The film was asked for once more, and goes when that is done, too.
        assert until(client, again, "done", "failed")["state"] == "done"
        assert list(films.iterdir()) == []


def test_a_service_refuses_who_asks_too_often(tmp_path):
    with served(tmp_path, is_service=True, requests_per_minute=60) as client:
        statuses = [client.get("/api/jobs").status_code for _ in range(12)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        refused = client.get("/api/jobs")
        assert "too many" in message(refused)
        assert int(refused.headers["retry-after"]) >= 1


def test_a_service_does_not_wait_for_ever_for_a_picture(tmp_path):
    with served(tmp_path, is_service=True, seconds=0.3) as client:
        port = client.base_url.port
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST /api/read HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode())
            connection.settimeout(20)
            answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 422")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--i-know"),  # noqa: S104
        (["--host", "0.0.0.0", "--i-know"], "--certificate"),  # noqa: S104
        (["--certificate", "a.pem"], "go together"),
        (["--certificate", "a.pem", "--key", "b.pem"], "cannot be used for TLS"),
        (["--token-file", "{tmp}/short"], "32 or more"),
        (["--token-file", "{tmp}/missing"], "check the file"),
        (["--host", "192.0.2.1", "--i-know", "--certificate", "a", "--key", "b"], "another --port"),
        (["--port", "99999"], "--port"),
    ],
)
def test_a_service_does_not_open_itself_to_others_by_accident(options, words, tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    from typer.testing import CliRunner

    from mien.cli import app

    (tmp_path / "short").write_text("12345")
    given = [option.format(tmp=tmp_path) for option in options]
    ended = CliRunner().invoke(app, ["serve", str(tmp_path / "work"), *given])
    assert ended.exit_code in (1, 2)
    assert words in ended.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.2"])
def test_a_service_answers_under_the_address_it_listens_on(host, home):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi", reason="needs mien[app]")
    from mien.app.server.serving import listen
    from mien.errors import OutputError

    try:
        listen(host, 0).close()
    except OutputError:
        pytest.skip(f"{host} is no address of this machine")
    with started("serve", "--host", host, home=home) as process:
        address = process.stdout.readline().strip()
        token = process.stdout.readline().split()[-1]
        bearer = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, headers=bearer, timeout=60) as client:
            assert client.get("/api/jobs").json() == []
            assert client.get("/api/jobs", headers={"host": "example.org"}).status_code == 403
        process.terminate()
        assert process.wait() == 143


def test_a_service_with_a_certificate_speaks_tls_alone(home, tmp_path):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi", reason="needs mien[app]")
    import ssl

    certificate, key = make_certificate(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    options = ["--token-file", tmp_path / "token", "--certificate", certificate, "--key", key]
    with started("serve", *options, home=home) as process:
        address = process.stdout.readline().strip()
        assert address.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=certificate)
        with httpx.Client(base_url=address, verify=context, headers=BEARER, timeout=60) as client:
            assert client.get("/api/jobs").json() == []
            assert TOKEN not in client.get("/docs").text
        process.terminate()
        assert process.wait() == 143
        printed = process.stdout.read() + process.stderr.read()
        assert TOKEN not in printed
        assert "/api/jobs" not in printed


def make_certificate(folder):
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, "-out", certificate, "-keyout", key], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")
    return certificate, key
