"""The front door: a reader that is loaded once, typed options, live pictures, and what is kept in memory."""

import copy
import inspect
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mien
from mien.analysis import networks
from mien.analysis.options import OptionFields, Options
from mien.bundles.store import bundles
from mien.errors import BundleError, SourceError, UnknownOptionError
from mien.sources import open_source

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reader():
    return mien.Reader()


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="source")


# --- one reader, any input ---


def test_a_reader_takes_whatever_holds_a_picture(reader, photo, face):
    content = photo.read_bytes()
    ways = [
        photo,
        str(photo),
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
    ]
    tables = [reader.analyze(way).table for way in ways]
    with photo.open("rb") as file:
        tables.append(reader.analyze(file).table)
    for table in tables:
        pd.testing.assert_frame_equal(numbers(table), numbers(tables[0]))
    assert reader.analyze(face).table["expression"].tolist() == ["happiness"]


def test_a_reader_and_analyze_say_the_same(reader, clip):
    film = [(frame.time_s, frame.pixels) for frame in open_source(clip).frames(0.25)]
    pd.testing.assert_frame_equal(reader.analyze(film).table, mien.analyze(film).table)
    one_by_one = [reading.scores["va"][0] for reading in reader.read(film) if reading.face]
    assert one_by_one == [
        reading.scores["va"][0] for reading in mien.analyze(film, stream=True) if reading.face
    ]


def test_a_closed_reader_says_so(face):
    with mien.Reader(faces="largest") as reader:
        assert len(reader.analyze(face).table) == 1
    for use in (reader.analyze, reader.read):
        with pytest.raises(ValueError, match="closed"):
            use(face)


def test_what_has_no_path_can_be_named(reader, face, photo, tmp_path):
    for given in (face, photo.read_bytes()):
        analysis = reader.analyze(given, name="Anna, day 2")
        assert analysis.table["source"].tolist() == ["Anna, day 2"]
        analysis.save(tmp_path / "table.csv")
        assert (
            json.loads((tmp_path / "table.dictionary.json").read_text())["sources"][0]["name"]
            == "Anna, day 2"
        )


def test_a_file_that_has_the_name_of_an_array_is_not_taken_for_it(
    reader, face, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "array").write_text("something else")
    reader.analyze(face).save("table.csv")
    assert (
        json.loads((tmp_path / "table.dictionary.json").read_text())["sources"][0]["bytes"] is None
    )


def test_photos_are_read_each_for_itself(reader, face, photo):
    small = face[::2, ::2].copy()
    table = reader.analyze([face, small, photo.read_bytes(), photo], photos=True).table
    assert table["source"].tolist() == ["photo 0", "photo 1", "photo 2", str(photo)]
    assert table["face"].tolist() == [0, 0, 0, 0]
    assert table["frame"].tolist() == [0, 0, 0, 0]
    alone = [reader.analyze(one).table for one in (face, small, photo.read_bytes(), photo)]
    pd.testing.assert_frame_equal(numbers(table), numbers(pd.concat(alone, ignore_index=True)))


def test_photos_can_be_named_and_come_from_a_generator_one_at_a_time(reader, face):
    asked = []

    def pictures():
        for number in range(3):
            asked.append(number)
            yield face

    readings = reader.read(pictures(), photos=True, name="visit")
    assert next(readings).source == "visit 0"
    assert asked == [0]
    assert [reading.source for reading in readings] == ["visit 1", "visit 2"]
    assert reader.analyze([face, face], photos=True, name=["anna", "ben"]).table[
        "source"
    ].tolist() == ["anna", "ben"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photos": True, "live": True}, "exclude"),
        ({"photos": True, "name": ["one"]}, "one for each"),
        ({"name": ["a", "b"]}, "photos=True"),
    ],
)
def test_what_does_not_go_together_is_refused(reader, face, options, words):
    with pytest.raises(ValueError, match=words):
        reader.analyze([face, face], **options)


def test_a_path_keeps_its_name_and_a_recording_is_not_live(reader, clip, face):
    with pytest.raises(ValueError, match="keeps its path"):
        reader.analyze(clip, name="other")
    with pytest.raises(ValueError, match="is a recording"):
        reader.analyze(clip, live=True)
    with pytest.raises(ValueError, match="iterable"):
        reader.analyze(face, live=True)


def test_an_iterator_cannot_be_read_twice_without_saying_so(reader, face):
    analysis = reader.analyze(iter([face, face]))
    assert len(list(analysis)) == 2
    with pytest.raises(SourceError, match="only once"):
        list(analysis)
    kept = reader.analyze(iter([face, face]))
    assert len(kept.table) == len(list(kept)) == 2


# --- other threads and processes ---


def happiness(reader: mien.Reader, picture: np.ndarray) -> float:
    return next(reader.read(picture)).scores["expr"].max()


def pictures_of(face: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(np.roll(face, 8 * shift, axis=1)) for shift in range(6)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_goes_to_other_processes(reader, face, method):
    pictures = pictures_of(face)[:2]
    expected = [happiness(reader, picture) for picture in pictures]
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(happiness, [reader, reader], pictures, timeout=120)) == expected
    if method == "fork":
        with context.Pool(1) as pool:
            assert (
                pool.starmap_async(happiness, [(reader, picture) for picture in pictures]).get(
                    timeout=120
                )
                == expected
            )


def test_only_options_travel():
    reader = mien.Reader(faces=2, every=0.5)
    data = pickle.dumps(reader)
    assert len(data) < 2000
    for back in (pickle.loads(data), copy.copy(reader), copy.deepcopy(reader)):  # noqa: S301  # our own bytes
        assert back.options == reader.options


def test_threads_share_a_reader(reader, face):
    pictures = pictures_of(face)
    expected = [happiness(reader, picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda picture: happiness(reader, picture), pictures)) == expected


# --- networks are loaded once, and anew when they are replaced ---


@pytest.fixture
def loads(monkeypatch):
    """How often a network that reads affect was loaded."""
    count = []
    monkeypatch.setattr(networks, "_kept", type(networks._kept)())
    load = networks.load
    monkeypatch.setattr(networks, "load", lambda *given: count.append(given) or load(*given))
    return count


def test_networks_are_loaded_once_for_the_same_options(loads, face):
    for _ in range(3):
        mien.analyze(face, smoothing=0.1)
        mien.Reader(faces="largest")
    assert len(loads) == 1
    mien.analyze(face, engine="onnxruntime")
    assert len(loads) == 2


def test_few_networks_are_kept(loads, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "KEPT", 2)
    for number in range(3):
        folder = shutil.copytree(bundles()["mien-xs"], tmp_path / str(number))
        mien.Reader(bundle=folder)
    assert len(networks._kept) == networks.KEPT


def test_a_bundle_that_is_replaced_is_noticed(loads, face, tmp_path):
    folder = shutil.copytree(bundles()["mien-s"], tmp_path / "mine")
    before = mien.analyze(face, bundle=folder).table
    shutil.rmtree(folder)
    shutil.copytree(bundles()["mien-xs"], folder)
    after = mien.analyze(face, bundle=folder).table
    assert len(loads) == 2
    assert after["valence"].item() != before["valence"].item()
    assert after["valence"].item() == mien.analyze(face, bundle="mien-xs").table["valence"].item()


def test_a_network_altered_in_place_is_noticed_though_its_size_and_time_stay(loads, face, tmp_path):
    folder = shutil.copytree(bundles()["mien-s"], tmp_path / "mine")
    mien.analyze(face, bundle=folder)
    path = folder / "model.onnx"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(BundleError, match="sha256"):
        mien.analyze(face, bundle=folder)


# --- options are typed, and unknown ones are named ---


def test_an_unknown_option_names_the_nearest(face):
    for wrong in (
        lambda: mien.analyze(face, smothing=0.1),
        lambda: mien.Reader(smothing=0.1),
        lambda: Options(smothing=0.1),
    ):
        with pytest.raises(
            TypeError, match=r"no option named 'smothing'; did you mean smoothing\?"
        ):
            wrong()
    with pytest.raises(UnknownOptionError, match=r"did you mean photos\?"):
        mien.analyze(face, photo=True)


def test_options_can_be_given_whole(face, clip):
    options = Options(every=1.0, faces="largest")
    assert (
        mien.Reader(options).options == mien.Reader(every=1.0, faces="largest").options == options
    )
    assert len(mien.analyze(clip, options=options, every=3.0).table) == 2
    with pytest.raises(TypeError, match="must be an Options"):
        mien.analyze(face, options={"every": 1.0})


def test_keyword_options_are_the_fields_of_options():
    assert get_type_hints(OptionFields) == get_type_hints(Options)
    for function in (mien.analyze, mien.Reader, mien.analyze_many):
        shown = inspect.signature(function).parameters
        assert set(get_type_hints(Options)) < set(shown)
        assert shown["bundle"].default == "mien-s"


SNIPPET = """
import numpy as np
import mien

picture = np.zeros((8, 8, 3), np.uint8)
table = mien.analyze("clip.mp4", faces="largest", every=0.5, smoothing=mien.Smoothing(0.1)).table
for reading in mien.analyze([picture], stream=True, live=True):
    print(reading.time_s)
with mien.Reader(bundle="mien-xs") as reader:
    reader.analyze(b"...", name="a").save("a.csv")
outcomes = mien.analyze_many(["a.mp4"], "out", smoothing=0.1)
"""
WRONG = {
    'mien.analyze("clip.mp4", every="often")': "arg-type",
    'mien.analyze("clip.mp4", faces="some")': "arg-type",
    'mien.analyze("clip.mp4", smothing=0.1)': "call-overload",
    "mien.Reader(detector=3)": "arg-type",
    "mien.Reader(smothing=0.1)": "call-arg",
    'mien.analyze_many(["a"], "b", compounds="yes")': "arg-type",
}


def test_mypy_knows_the_options(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(SNIPPET + "\n".join(WRONG) + "\n")
    # With the settings and the cache of the repository itself, which has just been checked.
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "--hide-error-context",
        str(tmp_path / "user.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    first = len(SNIPPET.splitlines()) + 1
    assert lines == set(range(first, first + len(WRONG))), done.stdout


# --- live ---


def ticking(pictures, rate: float, count: int, taken: list[float]):
    """Pictures as a camera would give them; what is asked for late is given at once."""
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(start + number / rate - time.monotonic(), 0))
        taken.append(time.monotonic())
        yield pictures[number % len(pictures)]


def test_live_pictures_are_read_as_they_come(reader, clip):
    pictures = [frame.pixels for frame in open_source(clip).frames()][:40]
    taken, delays = [], []
    for reading in reader.read(ticking(pictures, 15, 30, taken), live=True, name="booth"):
        delays.append(time.monotonic() - taken[-1])
        assert len(taken) == reading.frame + 1  # never a picture ahead of the one that is read
        assert reading.source == "booth"
    assert len(delays) == 30
    # Before, a batch of 16 was waited for: a second at this rate. The bench measures what is reached, on a quiet machine.
    assert np.median(delays) < 0.25


def test_live_pictures_have_the_clocks_times_or_their_own(reader, face):
    clock = [reading.time_s for reading in reader.read(ticking([face], 20, 5, []), live=True)]
    assert clock[0] == 0.0
    assert all(later - earlier > 0.02 for earlier, later in pairwise(clock))
    own = [
        reading.time_s for reading in reader.read(((0.5 * i, face) for i in range(3)), live=True)
    ]
    assert own == [0.0, 0.5, 1.0]
    with pytest.raises(SourceError, match="not after"):
        list(reader.read(iter([(1.0, face), (1.0, face)]), live=True))


def test_live_smoothing_looks_back_only(face, clip):
    frames = [(frame.time_s, frame.pixels) for frame in open_source(clip).frames()][:12]
    smoothing = mien.Smoothing(0.2, longest_gap_s=0.5)
    live = list(mien.analyze(iter(frames), stream=True, live=True, smoothing=smoothing))
    causal = list(
        mien.analyze(
            frames, stream=True, smoothing=mien.Smoothing(0.2, causal=True, longest_gap_s=0.5)
        )
    )
    assert [reading.scores["va"].tolist() for reading in live] == [
        reading.scores["va"].tolist() for reading in causal
    ]


class FakeCamera:
    """Thirty frames a second on a wall of their own number, whether anybody takes them or not."""

    def __init__(self, number: int) -> None:
        self.start, self.count = time.monotonic(), 0
        self.picture = np.zeros((48, 64, 3), np.uint8)

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, what: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.count += 1
        time.sleep(max(self.start + self.count / 30 - time.monotonic(), 0))
        return self.count <= 60

    def retrieve(self):
        return True, self.picture + np.uint8(self.count)

    def release(self) -> None: ...


def test_of_a_camera_the_newest_frame_is_read(reader, monkeypatch):
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    monkeypatch.setattr("mien.sources.camera.os.path.exists", lambda path: True)
    source = open_source("camera:0")
    began, late, frames = time.monotonic(), [], []
    for reading in reader.read(source):
        late.append(time.monotonic() - began - reading.time_s)
        frames.append(reading.frame)
        time.sleep(0.2)  # a slow user: six frames pass meanwhile
    assert len(frames) < 20
    assert frames == sorted(set(frames))
    assert max(frames) >= 55
    assert max(late) < 0.35  # a queue of all frames would be 1.7 s behind by now
    assert any("left out" in note for note in source.notes)
    assert threading.active_count() < 10


# --- what people pass by mistake ---


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda face, photo: Image.fromarray(face), r'numpy.asarray\(picture.convert\("RGB"\)\)'),
        (
            lambda face, photo: [Image.fromarray(face)],
            r'item 0: .* numpy.asarray\(picture.convert\("RGB"\)\)',
        ),
        (lambda face, photo: [str(photo), face], "photos=True"),
        (lambda face, photo: iter([photo]), "photos=True"),
        (lambda face, photo: io.TextIOWrapper(io.BytesIO(photo.read_bytes())), "'rb'"),
        (lambda face, photo: [], "no pictures in it"),
    ],
)
def test_the_error_names_the_way(reader, face, photo, wrong, words):
    with pytest.raises(SourceError, match=words):
        reader.analyze(wrong(face, photo)).table  # noqa: B018


def test_no_live_picture_at_all_says_so(reader):
    with pytest.raises(SourceError, match="live: there are no pictures in it"):
        list(reader.read(iter([]), live=True))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"smoothing": True}, "smoothing must be seconds"),
        ({"engine": None}, "engine must be a name"),
        ({"bundle": None}, "bundle must be a name or a folder"),
        ({"name": ""}, "name must be a text"),
        ({"name": 3}, "name must be a text"),
        ({"name": [None], "photos": True}, "name must be a text"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(face, named, words):
    with pytest.raises(ValueError, match=words):
        mien.analyze([face], **named)


def test_one_path_is_enough_for_many(photo, tmp_path):
    (outcome,) = mien.analyze_many(str(photo), tmp_path, formats="jsonl")
    assert outcome.state == "done"
    assert [path.suffix for path in outcome.files if "dictionary" not in path.name] == [".jsonl"]


@pytest.mark.parametrize("inputs", [None, np.zeros((8, 8, 3), np.uint8), [b"bytes"], 3])
def test_many_inputs_are_paths(inputs, tmp_path):
    with pytest.raises(TypeError, match="inputs must be paths, got"):
        mien.analyze_many(inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_reader_shows_its_options_and_a_closed_one_goes_nowhere():
    reader = mien.Reader(faces="largest", every=0.5)
    assert repr(reader) == "Reader(faces='largest', every=0.5)"
    reader.close()
    for again in (reader.__enter__, lambda: pickle.dumps(reader)):
        with pytest.raises(ValueError, match="this reader is closed"):
            again()


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_in_a_live_loop_ends_it_and_closes_its_source():
    code = (
        "import os, signal, mien\n"
        "from mien.demo import portrait\n"
        "def pictures():\n"
        "    try:\n"
        "        while True:\n"
        "            yield portrait()\n"
        "    finally:\n"
        "        print('camera off')\n"
        "try:\n"
        "    for reading in mien.analyze(pictures(), live=True, stream=True):\n"
        "        if reading.frame == 2:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "camera off", "stopped"]
    assert not done.stderr
