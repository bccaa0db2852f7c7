"""Readings while they happen: the newest frame, what it is sent to, and what is left when something breaks."""

import io
import json
import os
import queue
import sys
import threading
import time

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.errors import OutputError, SourceError, UnknownNameError
from mien.outputs.video_writer import VideoWriter
from mien.realtime.keys import keys_marked
from mien.study.rows.baseline import Baseline, correct_baseline
from mien.study.rows.people import participant_rows
from mien.temporal.one_euro import one_euro

RUN = CliRunner()
BEGAN_S = 1000.0


@pytest.fixture(scope="module")
def pictures(face):
    """Six pictures of one face that moves and darkens, RGB uint8 (320, 352, 3)."""
    small = cv2.resize(face, (320, 320), interpolation=cv2.INTER_AREA)
    made = []
    for number in range(6):
        picture = np.zeros((320, 352, 3), np.uint8)
        picture[:, 20 + number : 340 + number] = (small * (1 - 0.08 * number)).astype(np.uint8)
        made.append(picture)
    return made


class InStep:
    """Pictures ten to the second of a clock of their own, each given once the one before has been read."""

    def __init__(self, pictures):
        self.pictures, self.turn = pictures, threading.Semaphore(1)

    def __iter__(self):
        for number, picture in enumerate(self.pictures):
            assert self.turn.acquire(timeout=20)
            yield BEGAN_S + number / 10, picture

    def read(self, session):
        readings = []
        for reading in session:
            readings.append(reading)
            if not reading.remaining:
                self.turn.release()
        return readings


@pytest.fixture(scope="module")
def session(pictures, tmp_path_factory):
    """A whole reading with every file, and what came of it: readings, folder, lines, session."""
    folder = tmp_path_factory.mktemp("live")
    lines = io.StringIO()
    camera = InStep([*pictures, np.zeros_like(pictures[0])])
    live = mien.live(
        camera, out=folder / "p1.parquet", record=True, lines=lines, baseline=0.25, smoothing=0.2
    )
    live.mark("before\tthe start", BEGAN_S - 1.0)
    live.mark("smile", BEGAN_S + 0.32, origin="key")
    live.mark('"', BEGAN_S + 0.4, origin="key")
    return camera.read(live), folder, lines.getvalue().splitlines(), live


def test_scores_are_those_of_analyze(session, pictures):
    readings, _, _, _ = session
    smoothing = mien.Smoothing.of_width(0.2, causal=True)
    pairs = [(number / 10, picture) for number, picture in enumerate(pictures)]
    offline = mien.analyze(iter(pairs), live=True, stream=True, smoothing=smoothing)
    for reading, other in zip(readings, offline, strict=False):
        np.testing.assert_allclose(reading.scores["va"], other.scores["va"], rtol=1e-12)
        assert reading.time_s == pytest.approx(other.time_s, abs=1e-9)
    assert [reading.frame for reading in readings] == list(range(7))
    assert readings[-1].status == "no_face"


def test_the_table_and_the_lines_hold_the_same_rows(session):
    readings, folder, lines, live = session
    table = mien.read_table(folder / "p1.parquet")
    assert len(table) == len(readings)
    rows = [row for row in map(json.loads, lines) if "marker" not in row]
    for name in ("time_s", "valence", "valence_raw", "valence_corrected", "AU12_corrected"):
        listed = np.array([row[name] for row in rows], float)
        np.testing.assert_allclose(listed, table[name].to_numpy(float), atol=1e-4)
    assert sorted(path.name for path in live.files) == sorted(
        path.name for path in folder.iterdir()
    )


def test_the_baseline_is_that_of_a_study(session):
    _, folder, _, _ = session
    table = mien.read_table(folder / "p1.parquet")
    rows = participant_rows(table, {"participant": "p1"})
    expected = correct_baseline(rows, Baseline(of="span", span=(0.0, 0.25)))
    names = [name for name in expected if name.endswith("_corrected")]
    assert {"valence_corrected", "arousal_corrected", "AU12_corrected"} <= set(names)
    late = (expected["time_from_start_s"] > 0.25).to_numpy()
    for name in names:
        np.testing.assert_allclose(table[name][late], expected[name][late], atol=1e-6)
    assert table.loc[~late, names].isna().all(axis=None)


def test_the_dictionary_names_both_clocks(session):
    _, folder, _, _ = session
    dictionary = json.loads((folder / "p1.dictionary.json").read_text())
    facts = dictionary["live"]
    assert facts["monotonic_s"] == BEGAN_S
    # Both clocks tick alike, so their difference now is what it was then.
    assert facts["unix_s"] - facts["monotonic_s"] == pytest.approx(
        time.time() - time.monotonic(), abs=0.5
    )
    assert (facts["frames"], facts["dropped"]) == (7, 0)
    assert set(facts["baseline"]["medians"]["0"]) >= {"valence", "AU12"}
    assert dictionary["options"]["smoothing"]["causal"]
    assert dictionary["media"][0]["created"] == facts["started"]
    (meaning,) = [
        column["meaning"] for column in dictionary["columns"] if column["name"] == "time_s"
    ]
    assert "first frame" in meaning


def test_markers_are_events_of_a_study(session):
    _, folder, lines, _ = session
    events = pd.read_csv(folder / "p1.events.tsv", sep="\t")
    assert events["trial_type"].tolist() == ["before the start", "smile", '"']
    assert events["onset"].tolist() == pytest.approx([-1.0, 0.32, 0.4])
    marked = [json.loads(line) for line in lines if "marker" in line]
    assert {"marker": "smile", "origin": "key", "time_s": 0.32} in marked


def paper_filter(values, times, cutoff_hz, beta):
    """The listing of Casiez, Roussel & Vogel (2012), for one signal."""
    smoothed, speed, results = values[0], 0.0, [values[0]]
    for step_s, value in zip(np.diff(times), values[1:], strict=True):
        weight = 1 / (1 + 1 / (2 * np.pi * 1.0 * step_s))
        speed = weight * (value - smoothed) / step_s + (1 - weight) * speed
        weight = 1 / (1 + 1 / (2 * np.pi * (cutoff_hz + beta * abs(speed)) * step_s))
        smoothed = weight * value + (1 - weight) * smoothed
        results.append(smoothed)
    return results


def test_the_one_euro_filter_is_the_papers():
    times = np.cumsum([0.03, 0.04, 0.03, 0.05, 0.03, 0.04])
    drawn = np.random.default_rng(3)
    valence, odds = drawn.uniform(-1, 1, 6), drawn.uniform(0.1, 1, (6, 8))
    face = mien.Face((0, 0, 9, 9), np.zeros((5, 2)), 1.0, track=1)
    tasks = [mien.TASKS["va"], mien.TASKS["expr.affectnet8"]]
    readings = []
    for index, time_s in enumerate(times):
        scores = {"va": np.array([valence[index], np.nan]), "expr": odds[index] / odds[index].sum()}
        readings.append(mien.Reading("a", index, time_s, mien.Status.ok, face, scores, {}))
    smoothed = list(one_euro(readings, mien.OneEuro(0.7, 2.0), tasks))
    found = [reading.scores["va"][0] for reading in smoothed]
    assert found == pytest.approx(paper_filter(valence, times, 0.7, 2.0))
    assert all(np.isnan(reading.scores["va"][1]) for reading in smoothed)
    for reading, original in zip(smoothed, readings, strict=True):
        assert reading.scores["expr"].sum() == pytest.approx(1.0)
        assert reading.raw is original.scores
    with pytest.raises(ValueError, match="beta must be 0 or more"):
        mien.OneEuro(beta=-1.0)


def test_a_table_says_that_it_was_filtered(pictures, tmp_path):
    camera = InStep(pictures[:2])
    camera.read(mien.live(camera, out=tmp_path / "p1.csv", smoothing=mien.OneEuro()))
    table = mien.read_table(tmp_path / "p1.csv")
    assert table["valence"].iloc[0] == table["valence_raw"].iloc[0]
    dictionary = json.loads((tmp_path / "p1.dictionary.json").read_text())
    assert dictionary["options"]["smoothing"]["kernel"] == "one_euro"
    meaning = {column["name"]: column["meaning"] for column in dictionary["columns"]}
    assert "one-euro" in meaning["valence"]
    assert "one-euro" not in meaning["AU45"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of Unix")
def test_keys_of_a_terminal_are_markers(monkeypatch):
    import termios

    person, terminal = os.openpty()
    pressed: queue.SimpleQueue = queue.SimpleQueue()
    with os.fdopen(terminal, "r") as stdin:
        before = termios.tcgetattr(stdin)
        monkeypatch.setattr("sys.stdin", stdin)
        with keys_marked(lambda key, at_s: pressed.put((key, at_s))) as has_keys:
            assert has_keys
            for key, name in [("s", "s"), (" ", "space"), ("ä", "ä")]:
                began_s = time.monotonic()
                os.write(person, key.encode())
                text, at_s = pressed.get(timeout=10)
                assert text == name
                assert began_s <= at_s <= time.monotonic()
        assert termios.tcgetattr(stdin) == before
    os.close(person)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with keys_marked(print) as has_keys:
        assert not has_keys


def test_the_film_has_every_frame_at_its_time(session):
    _, folder, _, _ = session
    with av.open(str(folder / "p1.mp4")) as film:
        times = [frame.time for frame in film.decode(video=0)]
    assert times == pytest.approx([number / 10 for number in range(7)], abs=1e-3)


def test_a_film_that_cannot_be_written_leaves_the_table_whole(pictures, tmp_path, monkeypatch):
    def full(self, picture, time_s):
        raise OutputError("p1.mp4: No space left on device")

    monkeypatch.setattr(VideoWriter, "add", full)
    camera = InStep(pictures)
    live = mien.live(camera, out=tmp_path / "p1.csv", record=True, quality="none")
    with pytest.raises(OutputError, match="No space left"):
        camera.read(live)
    assert len(mien.read_table(tmp_path / "p1.csv")) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"p1.csv", "p1.dictionary.json"}


def test_frames_that_come_too_fast_are_left_out_and_counted(pictures):
    def fast():
        for number in range(40):
            time.sleep(0.002)
            yield time.monotonic(), pictures[number % 6]

    lags = []
    live = mien.live(fast(), name="booth", quality="none")
    for reading in live:
        lags.append(time.monotonic() - live._source.started_s - reading.time_s)
    summary = live.summary
    assert summary.dropped > 0
    assert summary.frames + summary.dropped == 40
    assert reading.frame == 39  # the last one is always read
    assert summary.lag_max_s <= max(lags)
    assert f"{summary.dropped} left out" in str(summary)


def test_a_film_plays_at_its_own_speed(pictures, tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("h264", rate=20)
        stream.width, stream.height = 352, 320
        for picture in pictures:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode(None))
    began = time.monotonic()
    result = RUN.invoke(app, ["live", str(path), "--faces", "largest"])
    assert time.monotonic() - began > 0.25
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows[0]["time_s"] == 0.0
    assert "frames read" in result.stderr
    with pytest.raises(ValueError, match="is a film already"):
        mien.live(path, out=tmp_path / "x.csv", record=True)


class FakeCamera:
    """Three pictures of the same face, then its cable is pulled."""

    picture = None
    left = 3

    def __init__(self, number):
        self.count = 0

    def isOpened(self):  # noqa: N802
        return True

    def get(self, what):
        return 0.0

    def grab(self):
        self.count += 1
        return self.count <= self.left

    def retrieve(self):
        return True, self.picture[..., ::-1]

    def release(self): ...


@pytest.fixture
def camera(monkeypatch, pictures):
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    monkeypatch.setattr("mien.sources.camera.sys.platform", "elsewhere")
    monkeypatch.setattr(FakeCamera, "picture", pictures[0])
    return FakeCamera


def test_of_a_camera_that_is_unplugged_the_rows_stay(camera, tmp_path):
    result = RUN.invoke(app, ["live", "camera:0", "--out", str(tmp_path / "p1.csv")])
    assert result.exit_code == 1
    assert "camera:0: the camera stopped after 3 frames" in result.stderr
    assert "capture to reading" in result.stderr
    table = mien.read_table(tmp_path / "p1.csv")
    assert table["status"].iloc[-1] == "ok"
    assert not list(tmp_path.glob(".*"))


def test_a_camera_without_a_picture_says_so(camera, monkeypatch, tmp_path):
    monkeypatch.setattr(camera, "left", 0)
    with pytest.raises(SourceError, match="camera:0: gives no picture"):
        list(mien.live("camera:0", out=tmp_path / "p1.csv"))
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_caller_costs_no_rows(pictures, tmp_path):
    camera = InStep(pictures)

    def read():
        with mien.live(camera, out=tmp_path / "p1.csv") as readings:
            for reading in readings:
                camera.turn.release()
                _ = 1 / (2 - reading.frame)

    with pytest.raises(ZeroDivisionError):
        read()
    assert len(mien.read_table(tmp_path / "p1.csv")) == 3


def test_another_thread_may_end_it(pictures):
    camera = InStep(pictures * 50)
    live = mien.live(camera)
    begun = threading.Event()

    def loop():
        for _ in live:
            begun.set()
            camera.turn.release()

    thread = threading.Thread(target=loop)
    thread.start()
    assert begun.wait(20)
    live.close()
    thread.join(20)
    assert 0 < live.summary.frames < 300


@pytest.mark.parametrize(
    ("named", "error", "words"),
    [
        ({"record": True}, ValueError, "give out, too"),
        ({"baseline": 0.0}, ValueError, "positive number of seconds"),
        ({"out": "p1.xlsx"}, UnknownNameError, "csv"),
        ({"out": "taken.csv"}, OutputError, "is there already"),
        ({"out": "none/p1.csv"}, OutputError, "create the folder first"),
        ({"people": 2}, ValueError, "people are known once"),
    ],
)
def test_what_cannot_work_is_refused_before_a_frame_is_taken(
    named, error, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.csv").touch()

    def never():
        raise AssertionError("a picture was taken")
        yield

    with pytest.raises(error, match=words):
        mien.live(never(), **named)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((9, 9, 3), np.uint8), "is no live source"),
        (7, "int is no live source"),
        ("none.mp4", "no such file"),
    ],
)
def test_what_is_not_live_is_refused(source, words):
    with pytest.raises(SourceError, match=words):
        mien.live(source)


def test_without_a_face_in_the_baseline_it_ends(pictures):
    camera = InStep([np.zeros_like(pictures[0])] * 3)
    with pytest.raises(SourceError, match=r"no face could be read in the 0\.15 s"):
        camera.read(mien.live(camera, baseline=0.15))
    unfinished = InStep(pictures[:2])
    live = mien.live(unfinished, baseline=5.0)
    unfinished.read(live)
    assert any("ended before the baseline" in note for note in live.notes)
