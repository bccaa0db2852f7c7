"""What counts as an input: folders, patterns, names, pipes, bytes; and what was left out."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from av.format import ContainerFormat
from PIL import Image

from mien import read_table
from mien.batch import run
from mien.errors import SourceError
from mien.outputs.overlay import Overlay
from mien.records import Reading, Status
from mien.sources import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    expand,
    list_inputs,
    media_kind,
    open_source,
    summarize,
)

ASKED = {
    ".3g2",
    ".avif",
    ".dv",
    ".f4v",
    ".heic",
    ".heif",
    ".insv",
    ".lrv",
    ".m2v",
    ".mod",
    ".mts",
    ".mxf",
    ".qt",
    ".tod",
    ".y4m",
}
NO_PICTURES = {
    ".txt",
    ".m3u8",
    ".srt",
    ".ass",
    ".vtt",
    ".mp3",
    ".m4a",
    ".wav",
    ".flac",
    ".mka",
    ".pdf",
    ".svg",
    ".ico",
    ".dat",
    "",
}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def picture(path: Path, shade: int = 90) -> Path:
    Image.new("RGB", (16, 12), (shade, 20, 30)).save(path)
    return path


# -- folders ---------------------------------------------------------------------------------------


def test_suffixes_of_recordings_are_taken_and_others_are_not() -> None:
    assert IMAGE_SUFFIXES | VIDEO_SUFFIXES >= ASKED
    assert not (IMAGE_SUFFIXES | VIDEO_SUFFIXES) & NO_PICTURES
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES
    assert {
        f".{suffix}" for suffix in ContainerFormat("mov", "r").extensions
    } - VIDEO_SUFFIXES <= IMAGE_SUFFIXES | {
        ".ism",
        ".isma",
        ".m4a",
        ".m4b",
    }


def test_a_folder_counts_what_it_leaves_out(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.JPG",
        "sub/tape.dv",
        "notes.txt",
        "sub/more.TXT",
        "sub/paper.pdf",
        "README",
        ".DS_Store",
        "Thumbs.db",
    )
    touch(
        tmp_path,
        "@eaDir/a.jpg",
        "$RECYCLE.BIN/b.mp4",
        "#recycle/c.mp4",
        "lost+found/d.avi",
        ".Trashes/e.mp4",
        "__MACOSX/f.jpg",
    )
    touch(tmp_path, "System Volume Information/g.mp4", "._a.JPG")
    result = list_inputs([tmp_path])
    assert [Path(path).name for path in result.paths] == ["a.JPG", "tape.dv"]
    assert result.failures == []
    assert result.left_out == Counter(
        {"system": 7, "hidden": 3, ".txt": 2, ".pdf": 1, "no suffix": 1}
    )
    assert summarize(result.left_out) == "7 system, 3 hidden, 2 .txt, 1 .pdf, 1 no suffix"
    with pytest.raises(
        SourceError, match=r"no picture or video in this folder \(it holds 1 \.txt\)"
    ):
        expand([make_folder(tmp_path / "empty", "only.txt")])


def make_folder(folder: Path, *names: str) -> Path:
    touch(folder, *names)
    return folder


def film(path: Path, codec: str = "mpeg4", size: tuple[int, int] = (64, 48)) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for shade in range(3):
            pixels = np.full((size[1], size[0], 3), 60 + 9 * shade, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_a_film_is_read_from_a_folder_under_every_suffix(tmp_path: Path) -> None:
    original = film(tmp_path / "film.mp4")
    folder = tmp_path / "all"
    folder.mkdir()
    suffixes = sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    for suffix in suffixes:
        shutil.copy(original, folder / f"film{suffix}")
    paths = expand([folder])
    assert sorted(Path(path).suffix for path in paths) == suffixes
    assert {media_kind(path) for path in paths} == {"video"}
    assert {len(list(open_source(path).frames())) for path in paths} == {3}


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mpeg4"),
        ("a.dv", "dvvideo"),
        ("a.m2v", "mpeg2video"),
        ("a.mpg", "mpeg1video"),
        ("a.mxf", "mpeg2video"),
        ("a.nut", "mpeg4"),
        ("a.3g2", "mpeg4"),
        ("a.mov", "mpeg4"),
        ("a.f4v", "libx264"),
        ("a.y4m", "rawvideo"),
        ("a.wmv", "wmv2"),
    ],
)
def test_containers_of_recorders_are_read(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec} encoder")
    film(tmp_path / name, codec, (720, 576) if name == "a.dv" else (64, 48))
    (path,) = expand([tmp_path])
    assert len(list(open_source(path).frames())) == 3


def test_one_folder_that_cannot_be_read_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg", "z/c.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = list_inputs([tmp_path])
    assert [Path(path).name for path in result.paths] == ["a.jpg", "c.jpg"]
    ((name, line),) = result.failures
    assert name == str(tmp_path / "locked")
    assert line == f"{name}: this folder cannot be read (Permission denied); check its permissions"


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/real/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "in" / "again").symlink_to("real")
    (tmp_path / "in" / "real" / "up").symlink_to("..")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    result = list_inputs([tmp_path / "in"])
    assert [str(Path(path).relative_to(tmp_path)) for path in result.paths] == [
        "in/far/b.jpg",
        "in/real/a.jpg",
    ]


def test_names_that_cannot_be_are_one_line_each(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    shutil.copy(tmp_path / "good.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    result = list_inputs(
        [tmp_path, str(tmp_path / ("x" * 300 + ".png")), "a\0b.png", tmp_path / "nowhere.mp4"]
    )
    assert result.paths == [str(tmp_path / "good.png")]
    assert [line.split(": ")[-1].split(" ")[0:2] for _, line in result.failures] == [
        ["no", "such"]
    ] * 3 + [["this", "name"]]
    assert all(line.isprintable() or "\0" in line for _, line in result.failures)


# -- pipes, addresses, bytes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("rtsp://camera.local/live", "ffmpeg -i 'rtsp://camera.local/live' -c copy"),
        ("rtmp://stream.example.org/live", "-c copy recording.mkv"),
        ("file:///tmp/a.mp4", "without file://"),
    ],
)
def test_an_address_is_answered_with_the_way_to_get_there(given: str, advice: str) -> None:
    for ask in (lambda: expand([given]), lambda: open_source(given)):
        with pytest.raises(SourceError) as caught:
            ask()
        assert advice in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert list_inputs([tmp_path / "pipe"]).paths == [str(tmp_path / "pipe")]
    assert media_kind(str(tmp_path / "pipe")) == "video"
    with pytest.raises(SourceError, match=r"is a pipe, .* standard input: mien analyze - < "):
        open_source(tmp_path / "pipe")
    with pytest.raises(SourceError, match="is a device"):
        open_source(os.devnull)


def content(path: Path) -> bytes:
    return path.read_bytes()


FORMS = {
    "bytes": content,
    "bytearray": lambda path: bytearray(content(path)),
    "memoryview": lambda path: memoryview(content(path)),
    "open file": lambda path: path.open("rb"),
    "buffer": lambda path: io.BytesIO(content(path)),
    "path": lambda path: path,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["photo", "clip"])
def test_content_is_read_like_its_file(
    form: str, what: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(what)
    expected = [(frame.time_s, frame.pixels) for frame in open_source(str(path)).frames(1.0)]
    item = FORMS[form](path)
    source = open_source(item, name="mine")
    if form == "open file":
        item.close()  # all of it has been read
    assert source.name == "mine"
    for _ in range(2):
        frames = list(source.frames(1.0))
        assert [frame.time_s for frame in frames] == [time_s for time_s, _ in expected]
        assert all(
            np.array_equal(frame.pixels, pixels)
            for frame, (_, pixels) in zip(frames, expected, strict=True)
        )
    assert {frame.source for frame in frames} == {"mine"}
    assert source.reopen is not None
    assert len(list(source.reopen().frames(1.0))) == len(expected)


def test_a_text_file_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(SourceError, match="open as text"), (tmp_path / "a.txt").open() as file:
        open_source(file)
    with pytest.raises(SourceError, match=r"bytes: is empty \(0 bytes\)"):
        open_source(b"")


def test_standard_input_is_read_whole_and_leaves_nothing(tmp_path: Path, clip: Path) -> None:
    code = (
        "from mien.sources import list_inputs, media_kind, open_source\n"
        "(path,) = list_inputs(['-']).paths\n"
        "source = open_source(path)\n"
        "counts = [len(list(source.frames())), len(list(source.frames()))]\n"
        "print(media_kind(path), source.name, *counts)\n"
    )
    with clip.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=file,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
    assert done.stdout.split() == ["video", "stdin", "150", "150"]
    assert list(tmp_path.iterdir()) == []


def test_photos_from_python_are_separate_pictures(face: np.ndarray) -> None:
    source = open_source([face, face[:, ::-1].copy()], photos=True, name="wave 1")
    assert (source.kind, source.name, source.frame_hint) == ("image", "wave 1", 2)
    assert [(frame.index, frame.time_s, frame.source) for frame in source.frames(5.0)] == [
        (0, 0.0, "wave 1"),
        (1, 0.0, "wave 1"),
    ]
    assert open_source([face]).kind == "arrays"


# -- suffixes that lie -----------------------------------------------------------------------------


def test_content_decides_not_the_suffix(tmp_path: Path, clip: Path, photo: Path) -> None:
    film = shutil.copy(clip, tmp_path / "film.jpg")
    still = shutil.copy(photo, tmp_path / "still.mp4")
    assert [media_kind(str(path)) for path in (film, still, clip, photo)] == [
        "video",
        "image",
        "video",
        "image",
    ]
    assert [open_source(path).kind for path in (film, still)] == ["video", "image"]
    assert [media_kind(name) for name in ("camera:0", "no/such.jpg", "no/such.mov")] == [
        "camera",
        "image",
        "video",
    ]


def test_a_batch_draws_over_what_each_file_is_and_counts_the_rest(
    tmp_path: Path, photo: Path
) -> None:
    folder = make_folder(tmp_path / "in", "notes.txt", "@eaDir/thumb.jpg")
    film(tmp_path / "film.mp4").rename(folder / "film.jpg")
    shutil.copy(photo, folder / "still.mp4")
    frames = [Image.new("RGB", (64, 48), (shade, 90, 90)) for shade in (60, 90, 120)]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], duration=40)
    outcomes = run([folder], tmp_path / "out", overlay=True)
    assert [(outcome.state, outcome.problems) for outcome in outcomes] == [("done", [])] * 3
    drawn = {
        path.name for outcome in outcomes for path in outcome.files if ".overlay." in path.name
    }
    assert {name.rpartition(".overlay")[2] for name in drawn if "still" in name} == {".jpg"}
    assert {name.rpartition(".overlay")[2] for name in drawn if "still" not in name} == {".mp4"}
    assert len(drawn) == 3
    record = json.loads((tmp_path / "out" / "mien-run.json").read_text())
    assert record["left_out"] == {".txt": 1, "system": 1}


def test_the_command_reads_standard_input(tmp_path: Path, photo: Path) -> None:
    with photo.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "mien", "analyze", "-", "--out", str(tmp_path / "out")],
            stdin=file,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "1 done" in done.stdout
    table = read_table(tmp_path / "out" / "stdin.csv")
    assert table[["source", "frame", "status"]].values.tolist() == [["stdin", 0, "ok"]]


def test_an_overlay_of_bytes_keeps_the_sound(tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as out:
        picture, track = out.add_stream("mpeg4", rate=25), out.add_stream("aac", rate=8_000)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            out.mux(
                picture.encode(
                    av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
                )
            )
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 320), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts = 8_000, 320 * number
            out.mux(track.encode(sound))
        out.mux(picture.encode(None))
        out.mux(track.encode(None))
    source = open_source(path.read_bytes())
    with Overlay(tmp_path / "talk.mp4", source, []) as overlay:
        overlay.write(
            Reading(source.name, frame.index, frame.time_s, Status.no_face, None, {}, {})
            for frame in source.frames()
        )
    with av.open(str(tmp_path / "talk.mp4")) as drawn:
        assert [stream.type for stream in drawn.streams] == ["video", "audio"]
