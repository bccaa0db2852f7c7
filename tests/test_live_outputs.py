"""What readings are sent to while they happen, each received as another program would receive it."""

import io
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.errors import MissingExtraError, OutputError, SourceError

RUN = CliRunner()


@pytest.fixture(scope="module")
def picture(face):
    """One face in an otherwise empty picture, RGB uint8 (240, 320, 3)."""
    made = np.zeros((240, 320, 3), np.uint8)
    made[:, 40:280] = cv2.resize(face, (240, 240), interpolation=cv2.INTER_AREA)
    return made


class OnDemand:
    """A picture each time that one is asked for, then one without a face, then no more."""

    def __init__(self, picture, count=3):
        self.picture, self.count = picture, count
        self.turn = threading.Semaphore(0)

    def __iter__(self):
        for number in range(self.count):
            assert self.turn.acquire(timeout=20)
            is_last = number == self.count - 1
            yield time.monotonic(), np.zeros_like(self.picture) if is_last else self.picture


def frames(session, camera):
    """The readings, one frame at a time."""
    camera.turn.release()
    for reading in session:
        yield reading
        camera.turn.release()


# --- Lab Streaming Layer ---


def test_what_leaves_an_outlet_arrives_in_an_inlet(picture):
    pylsl = pytest.importorskip("pylsl")
    # By which a stream that is lost is recognized.
    assert issubclass(pylsl.util.LostError, RuntimeError)
    assert issubclass(pylsl.util.TimeoutError, RuntimeError)
    pylsl.set_config_content("[multicast]\nResolveScope = machine\n[log]\nlevel = -2\n")
    remote = pylsl.StreamOutlet(
        pylsl.StreamInfo("stimuli", "Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string, "s")
    )
    if not pylsl.resolve_byprop("name", "stimuli", timeout=5):
        pytest.skip("LSL finds no streams here: the network of this machine has no multicast")
    camera = OnDemand(picture)
    session = mien.live(camera, faces=2, lsl="test", markers_from="stimuli")
    inlets = {}
    for name in ("test-0", "test-1", "test-markers"):
        (info,) = pylsl.resolve_byprop("name", name, timeout=5)
        inlets[name] = pylsl.StreamInlet(info)
        inlets[name].open_stream(5)
    info = inlets["test-0"].info(5)
    assert (info.type(), info.nominal_srate()) == ("Affect", pylsl.IRREGULAR_RATE)
    labels = info.get_channel_labels()
    assert {"box_x", "valence", "AU12", "quality"} <= set(labels)
    place = labels.index("valence")
    # The clocks of both sides are one here, so the offset that LSL measures is its own error.
    offset_s = inlets["test-0"].time_correction(5)
    assert abs(offset_s) < 0.05
    marked = {}
    for reading in frames(session, camera):
        captured_s = session._source.started_s + reading.time_s
        sample, stamp = inlets["test-0"].pull_sample(timeout=5)
        assert stamp + offset_s == pytest.approx(captured_s, abs=0.1)
        if reading.face is None:
            assert np.isnan(sample).all()
        else:
            assert sample[place] == pytest.approx(float(reading.scores["va"][0]), abs=1e-6)
        sample, _ = inlets["test-1"].pull_sample(timeout=5)
        assert np.isnan(sample).all()
        if reading.frame == 0:
            session.mark("onset")
            flashed_s = time.monotonic() - 0.5
            remote.push_sample(["flash"], pylsl.local_clock() - 0.5)
        if reading.frame == 1:
            # Until it has come over the loopback.
            time.sleep(0.05)
        if reading.frame == 2:
            for _ in range(2):
                (text,), marked_s = inlets["test-markers"].pull_sample(timeout=5)
                marked[text] = marked_s
    assert set(marked) == {"onset", "flash"}
    assert marked["flash"] + offset_s == pytest.approx(flashed_s, abs=0.2)


def test_lsl_needs_a_number_of_faces_and_its_stream(picture, monkeypatch):
    pytest.importorskip("pylsl")
    with pytest.raises(ValueError, match="faces=1"):
        mien.live(iter([picture]), lsl="x")
    monkeypatch.setattr("mien.realtime.lsl._PATIENCE_S", 0.2)
    with pytest.raises(SourceError, match="nothing: no LSL stream of this name"):
        mien.live(iter([picture]), markers_from="nothing")


# --- Open Sound Control ---


def test_an_osc_program_gets_a_bundle_per_face(picture):
    pytest.importorskip("pythonosc")
    from pythonosc.osc_bundle import OscBundle
    from pythonosc.osc_message import OscMessage

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        port = receiver.getsockname()[1]
        camera = OnDemand(picture)
        session = mien.live(camera, osc=f"127.0.0.1:{port}", faces="largest")
        for reading in frames(session, camera):
            received = {}
            for message in OscBundle(receiver.recv(65536)):
                received[message.address] = message.params[0]
            assert received["/mien/faces"] == (reading.face is not None)
            assert received["/mien/time"] == struct.unpack("f", struct.pack("f", reading.time_s))[0]
            assert ("/mien/0/valence" in received) == (reading.face is not None)
            if reading.face is not None:
                valence = float(reading.scores["va"][0])
                assert received["/mien/0/valence"] == pytest.approx(valence, abs=1e-6)
            if reading.frame == 0:
                session.mark("onset")
                session._send_markers(session._source.started_s)
                mark = OscMessage(receiver.recv(65536))
                assert (mark.address, mark.params) == ("/mien/marker", ["onset"])


@pytest.mark.parametrize("address", ["9000", "localhost:", "localhost:http", "localhost:70000"])
def test_an_address_needs_a_host_and_a_port(picture, address):
    pytest.importorskip("pythonosc")
    with pytest.raises(ValueError, match="HOST:PORT"):
        mien.live(iter([picture]), osc=address)


def test_a_host_that_does_not_exist_is_one_line(picture):
    pytest.importorskip("pythonosc")
    with pytest.raises(OutputError, match="cannot be sent to"):
        mien.live(iter([picture]), osc="no.such.host.invalid:9000")


# --- WebSocket ---


def test_a_page_that_knows_the_token_gets_the_rows(picture):
    client = pytest.importorskip("websockets.sync.client")
    from websockets.exceptions import InvalidStatus

    camera = OnDemand(picture)
    session = mien.live(camera, websocket=0, faces="largest")
    (line,) = session.where
    address = line.rpartition(" ")[2]
    assert address.startswith("ws://127.0.0.1:")
    for wrong, headers in [
        (address.partition("?")[0], {}),
        (f"{address}x", {}),
        (address, {"Origin": "https://example.com"}),
        (address, {"Origin": "null"}),
    ]:
        with pytest.raises(InvalidStatus, match="403"):
            client.connect(wrong, additional_headers=headers)
    page = client.connect(address, additional_headers={"Origin": "http://localhost:8000"})
    with page, client.connect(address) as program:
        # A client is served once its thread has begun.
        deadline = time.monotonic() + 10
        while len(session._outputs[0]._clients) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        for reading in frames(session, camera):
            (row,) = json.loads(program.recv(timeout=10))
            assert (row["frame"], row["status"]) == (reading.frame, reading.status)
            if reading.frame == 1:
                marker = json.loads(program.recv(timeout=10))
                assert marker["marker"] == "onset"
            if reading.frame == 0:
                session.mark("onset")
        assert len(json.loads(page.recv(timeout=10))) == 1


def test_a_slow_client_misses_messages_and_that_is_said():
    from queue import Queue

    from mien.realtime.websocket import _put_newest

    queue: Queue = Queue(2)
    lost = [_put_newest(queue, f"{number}") for number in range(5)]
    assert lost == [0, 0, 1, 1, 1]
    assert [queue.get(), queue.get()] == ["3", "4"]


def test_a_client_that_takes_nothing_any_more_does_not_hold_up_the_end(monkeypatch):
    pytest.importorskip("websockets")
    from mien.realtime import websocket

    monkeypatch.setattr(websocket, "_PATIENCE_S", 0.2)
    server = websocket.WebSocketOutput(0, [])
    address = urlsplit(server.where.rpartition(" ")[2])
    request = (
        f"GET /?{address.query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(request.encode())
        assert client.recv(12) == b"HTTP/1.1 101"
        deadline = time.monotonic() + 10
        while not server.note and time.monotonic() < deadline:
            server._put("x" * 1_000_000)
        assert "too slow" in server.note
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 5


def test_an_output_that_fails_costs_no_rows(picture, tmp_path):
    lines = io.StringIO()
    camera = OnDemand(picture, count=2)
    session = mien.live(camera, out=tmp_path / "p1.csv", lines=lines)

    def read():
        for reading in frames(session, camera):
            if reading.frame == 0:
                lines.close()
                # One that the closed file cannot take either, at the very end.
                session.mark("onset")

    with pytest.raises(OutputError, match="JSON lines cannot be written"):
        read()
    assert len(mien.read_table(tmp_path / "p1.csv")) == 2


def test_a_port_that_is_taken_is_one_line(picture):
    pytest.importorskip("websockets")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"port {port} cannot be opened"):
            mien.live(iter([picture]), websocket=port)


# --- a camera in the network ---


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


CAMERA = """
import av, sys, time
import numpy as np

address, picture = sys.argv[1], np.load(sys.argv[2])
for _ in range(100):
    try:
        camera = av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"})
        break
    except OSError:
        time.sleep(0.05)
with camera:
    stream = camera.add_stream("mpeg4", rate=20)
    stream.width, stream.height = 320, 240
    for _ in range(10):
        camera.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        time.sleep(0.02)
"""


def test_an_rtsp_camera_is_read_until_it_leaves(picture, monkeypatch, tmp_path):
    port = free_port()
    # FFmpeg has no server of its own, so the reader waits for the camera to call.
    waiting = {"rtsp_flags": "listen", "listen_timeout": "10", "rtsp_transport": "tcp"}
    monkeypatch.setattr("mien.sources.network._OPTIONS", waiting)
    address = f"rtsp://127.0.0.1:{port}/live"
    np.save(tmp_path / "picture.npy", picture)
    with subprocess.Popen([sys.executable, "-c", CAMERA, address, tmp_path / "picture.npy"]):
        result = RUN.invoke(app, ["live", address, "--out", str(tmp_path / "p1.csv")])
    assert result.exit_code == 1, result.output
    assert f"{address}: the camera stopped after" in result.stderr
    table = mien.read_table(tmp_path / "p1.csv")
    assert (table["status"] == "ok").any()
    assert table["source"].iloc[0] == address


def test_an_rtsp_camera_that_is_off_is_one_line():
    with pytest.raises(SourceError) as caught:
        mien.live(f"rtsp://me:it's\"secret@127.0.0.1:{free_port()}/live")
    assert "does not answer" in str(caught.value)
    assert "secret" not in str(caught.value)


# --- what is not installed ---


@pytest.mark.parametrize(
    ("named", "module"),
    [
        ({"lsl": "x", "faces": 1}, "pylsl"),
        ({"osc": "localhost:9000"}, "pythonosc"),
        ({"websocket": 0}, "websockets.sync.server"),
    ],
)
def test_what_is_not_installed_names_its_extra(picture, monkeypatch, named, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "mien\['):
        mien.live(iter([picture]), **named)
