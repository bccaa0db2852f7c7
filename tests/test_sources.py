"""Pictures, videos, cameras and arrays become the same frames; bad input becomes one clear line."""

import os
import warnings
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from mien.errors import SourceError
from mien.sources import MAX_PIXELS, Source, expand, open_source

MEDIA = Path(__file__).resolve().parents[1].parent / "shared" / "media"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(width: int = 64, height: int = 48) -> np.ndarray:
    """Red, green / blue, white: a picture whose orientation shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return pixels


def noisy(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def video(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    pts: Sequence[int] | None = None,
    unit: Fraction = Fraction(1, 25),
    pix_fmt: str = "yuv420p",
    turn: tuple[int, bool] | None = None,
    mux: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    colours: tuple[int, int] | None = None,
    gop: int = 8,
) -> Path:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec} encoder")
    quiet = {"libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    with av.open(str(path), "w", options=mux or {}) as out:
        stream: Any = out.add_stream(codec, rate=25, options=quiet | (options or {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size, stream.codec_context.time_base = (
            pix_fmt,
            gop,
            unit,
        )
        if colours:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        for index, picture in enumerate(pictures):
            matrix = Colorspace.ITU709 if colours and colours[0] == 1 else Colorspace.ITU601
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=pix_fmt,
                dst_colorspace=matrix,
                dst_color_range=colours[1] if colours else None,
            )
            frame.pts, frame.time_base = (pts[index] if pts else index), unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def frames(source: object, every_s: float = 0.0) -> list[Any]:
    return list(open_source(source).frames(every_s))


def rising(times: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(times))


def same_corners(pixels: np.ndarray, expected: np.ndarray, tolerance: int = 40) -> bool:
    """Compare the middles of the four quarters."""
    if pixels.shape != expected.shape:
        return False
    rows, columns = ([n // 4, n - n // 4] for n in pixels.shape[:2])
    here, there = (each[np.ix_(rows, columns)].astype(int) for each in (pixels, expected))
    return bool(np.abs(here - there).max() <= tolerance)


# -- still pictures --------------------------------------------------------------------------------


def grey16() -> Image.Image:
    return Image.fromarray(np.full((4, 6), 40_000, np.uint16))


STILLS = {
    "rgb.png": (lambda: Image.new("RGB", (6, 4), (10, 20, 30)), (10, 20, 30)),
    "grey.png": (lambda: Image.new("L", (6, 4), 77), (77, 77, 77)),
    "bits.png": (lambda: Image.new("1", (6, 4), 1), WHITE),
    "grey16.png": (grey16, (156, 156, 156)),
    "grey16.tif": (grey16, (156, 156, 156)),
    "palette.png": (lambda: Image.new("RGB", (6, 4), (200, 100, 50)).quantize(4), (200, 100, 50)),
    "palette.gif": (lambda: Image.new("RGB", (6, 4), (200, 100, 50)).quantize(4), (200, 100, 50)),
    "clear.png": (lambda: Image.new("RGBA", (6, 4), (255, 0, 0, 0)), (128, 128, 128)),
    "opaque.png": (lambda: Image.new("RGBA", (6, 4), (9, 8, 7, 255)), (9, 8, 7)),
    "greyalpha.png": (lambda: Image.new("LA", (6, 4), (255, 0)), (128, 128, 128)),
    "cmyk.jpg": (lambda: Image.new("CMYK", (6, 4), (0, 255, 255, 0)), (254, 0, 0)),
    "cmyk.tif": (lambda: Image.new("CMYK", (6, 4), (0, 0, 0, 0)), WHITE),
    "one.bmp": (lambda: Image.new("RGB", (1, 1), RED), RED),
    "лицо и 顔.webp": (lambda: Image.new("RGB", (6, 4), WHITE), WHITE),
}


@pytest.mark.parametrize("name", STILLS)
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, name: str) -> None:
    make, expected = STILLS[name]
    made = make()
    made.save(tmp_path / name)
    source = open_source(tmp_path / name)
    (frame,) = source.frames()
    assert (source.kind, source.size, source.problem) == ("image", made.size, None)
    assert (frame.time_s, frame.index, frame.source) == (0.0, 0, str(tmp_path / name))
    assert frame.pixels.shape == (made.height, made.width, 3)
    assert frame.pixels.dtype == np.uint8
    assert np.abs(frame.pixels.astype(int) - expected).max() <= 3


def test_16_bit_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 6, 3), (30_000, 20_000, 10_000), np.uint16))
    assert np.abs(frames(tmp_path / "deep.png")[0].pixels.astype(int) - (39, 78, 117)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # Pillow's transpositions that store an upright picture that way
    upright = Image.fromarray(corners())
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"o.{suffix}", exif=exif)
    source = open_source(tmp_path / f"o.{suffix}")
    assert source.size == (64, 48)
    assert same_corners(next(source.frames()).pixels, corners())


def test_pictures_leave_no_trace_in_pillow_or_warnings(tmp_path: Path) -> None:
    Image.new("L", (9_600, 9_600)).save(tmp_path / "92_megapixels.png")
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert open_source(tmp_path / "92_megapixels.png").size == (9_600, 9_600)
    assert not caught
    assert warnings.filters == before


# -- videos ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("libx264", "h264 with ünïcode 顔.mp4"),
        ("libx264", "h264.mkv"),
        ("libx265", "hevc.mp4"),
        ("libvpx-vp9", "vp9.webm"),
        ("libvpx", "vp8.webm"),
        ("mpeg4", "xvid.avi"),
        ("libx264", "h264.avi"),
        ("mjpeg", "jpegs.mov"),
    ],
)
def test_codecs(tmp_path: Path, codec: str, name: str) -> None:
    path = video(
        tmp_path / name,
        [corners()] * 20,
        codec,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )
    source = open_source(path)
    found = list(source.frames())
    assert (source.kind, source.size, len(found), source.problem) == ("video", (64, 48), 20, None)
    assert [f.index for f in found] == list(range(20))
    assert np.allclose(np.diff([f.time_s for f in found]), 0.04, atol=1e-3)
    assert all(same_corners(f.pixels, corners()) for f in found)
    assert source.length_s == pytest.approx(0.8, abs=0.1)
    assert [f.time_s for f in source.frames()] == [f.time_s for f in found]  # a second time


def test_times_come_from_the_container(tmp_path: Path) -> None:
    pts = [700, 740, 745, 900, 1_500, 1_501, 3_000, 9_000]
    found = frames(video(tmp_path / "vfr.mkv", noisy(8), pts=pts, unit=Fraction(1, 1000)))
    assert [f.time_s for f in found] == pytest.approx([p / 1000 for p in pts], abs=1e-9)


@pytest.mark.parametrize(
    ("every_s", "expected"),
    [(0.0, range(20)), (0.2, range(0, 20, 5)), (0.1, [0, 3, 5, 8, 10, 13, 15, 18]), (9.0, [0])],
)
def test_every_s_takes_the_first_frame_at_or_after_each_multiple(
    tmp_path: Path, every_s: float, expected: Sequence[int]
) -> None:
    assert [f.index for f in frames(video(tmp_path / "v.mp4", [corners()] * 20), every_s)] == list(
        expected
    )


@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="open files are listed in /proc only on Linux"
)
def test_early_exit_closes_the_file(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4", [corners()] * 20)
    stream = open_source(path).frames()
    next(stream)
    held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    stream.close()  # type: ignore[attr-defined]
    left = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert (str(path) in held, str(path) in left) == (True, False)


def test_a_clock_set_back_goes_on(tmp_path: Path) -> None:
    parts = [
        video(tmp_path / f"{n}.ts", noisy(20), pts=range(n, n + 20)).read_bytes() for n in (500, 0)
    ]
    source = open_source(written(tmp_path / "joined.ts", b"".join(parts)))
    times = [f.time_s for f in source.frames()]
    assert len(times) == 40
    assert rising(times)
    assert times[-1] - times[0] < 3
    assert "clock goes back" in source.notes[0]


def test_frames_without_times_are_placed_by_rate(tmp_path: Path) -> None:
    raw = stream(video(tmp_path / "v.mpg", noisy(10), "mpeg1video"))
    source = open_source(written(tmp_path / "raw.m1v", raw))
    assert rising([f.time_s for f in source.frames()])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_display_matrix(tmp_path: Path, degrees: int, hflip: bool) -> None:
    path = video(tmp_path / "r.mp4", [corners()] * 3, turn=(degrees, hflip))
    with av.open(str(path)) as container:
        angle = next(container.decode(video=0)).rotation
    source = open_source(path)
    pixels = next(source.frames()).pixels
    assert (pixels.shape[1], pixels.shape[0]) == source.size
    assert source.size == ((64, 48) if degrees % 180 == 0 else (48, 64))
    if not hflip:
        assert angle % 360 == degrees
    upright = np.rot90(corners(), degrees // 90)
    assert same_corners(pixels, upright[:, ::-1] if hflip else upright)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuvj420p"])
@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [1, 2])
def test_colours_follow_matrix_and_range(
    tmp_path: Path, pix_fmt: str, matrix: int, full: int
) -> None:
    if pix_fmt == "yuvj420p" and full == 1:
        pytest.skip("yuvj is full range by name")
    path = video(
        tmp_path / "c.mkv",
        [corners()] * 2,
        pix_fmt=pix_fmt,
        colours=(matrix, full),
        options={"crf": "1"},
    )
    assert same_corners(next(open_source(path).frames()).pixels, corners(), tolerance=8)


@pytest.mark.parametrize(
    ("pix_fmt", "codec"),
    [("gray", "ffv1"), ("yuva420p", "ffv1"), ("bgra", "ffv1"), ("rgb24", "png")],
)
def test_odd_pixel_formats(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    grey = np.full((48, 64, 3), 90, np.uint8)
    assert (
        np.abs(
            frames(
                video(
                    tmp_path / "p.mov" if codec == "png" else tmp_path / "p.mkv",
                    [grey] * 2,
                    codec,
                    pix_fmt=pix_fmt,
                )
            )[1].pixels.astype(int)
            - 90
        ).max()
        <= 2
    )


def test_frame_size_may_change(tmp_path: Path) -> None:
    small, large = (
        video(tmp_path / f"{n}.mpg", noisy(6, size), "mpeg1video")
        for n, size in ((1, (64, 48)), (2, (96, 64)))
    )
    raw = [stream(path) for path in (small, large)]
    (tmp_path / "both.m1v").write_bytes(b"".join(raw))
    shapes = {f.pixels.shape for f in frames(tmp_path / "both.m1v") if f.pixels is not None}
    assert shapes == {(48, 64, 3), (64, 96, 3)}


def stream(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(video=0))


# -- damage ----------------------------------------------------------------------------------------


def packets(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(
            bool(packet.size) and not packet.is_discard for packet in container.demux(video=0)
        )


def garbage(path: Path, start: float, end: float) -> Path:
    data = bytearray(path.read_bytes())
    a, b = int(len(data) * start), int(len(data) * end)
    data[a:b] = np.random.default_rng(1).bytes(b - a)
    path.write_bytes(data)
    return path


def cut(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("start", "end"), [(0.4, 0.45), (0.5, 0.7), (0.9, 0.95), (0.97, 1.0)])
def test_garbage_costs_frames_not_rows(
    tmp_path: Path, codec: str, start: float, end: float
) -> None:
    path = garbage(
        video(tmp_path / "g.mp4", noisy(40), codec, mux={"movflags": "faststart"}), start, end
    )
    source = open_source(path)
    found = list(source.frames())
    lost = [f.index for f in found if f.pixels is None]
    assert len(found) == packets(path) == 40
    assert rising([f.time_s for f in found])
    assert np.allclose(np.diff([f.time_s for f in found]), 0.04, atol=1e-3)
    assert lost
    assert source.problem == f"{len(lost)} of 40 frames could not be decoded"


@pytest.mark.parametrize("keep", [0.35, 0.6, 0.9])
def test_a_file_cut_off_says_so(tmp_path: Path, keep: float) -> None:
    path = cut(video(tmp_path / "t.mp4", noisy(40), mux={"movflags": "faststart"}), keep)
    source = open_source(path)
    found = list(source.frames())
    assert len(found) == packets(path) < 40
    assert rising([f.time_s for f in found])
    assert source.problem is not None
    assert source.problem.startswith(f"ends early: {len(found)} of 40 frames")


def test_a_stream_without_counts_cut_off_says_so(tmp_path: Path) -> None:
    source = open_source(cut(video(tmp_path / "t.mkv", noisy(40)), 0.5))
    found = list(source.frames())
    assert 0 < len(found) < 40
    assert source.problem is not None
    assert source.problem.startswith("ends early: at 0.")
    assert source.problem.endswith("of 1.6 s")


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libvpx-vp9", "webm"),
        ("libx264", "mkv"),
        ("libx264", "ts"),
        ("mpeg4", "avi"),
        ("libx264", "avi"),
    ],
)
@pytest.mark.parametrize("start", [0.4, 0.9])
def test_damage_elsewhere_never_stops_or_stalls(
    tmp_path: Path, codec: str, suffix: str, start: float
) -> None:
    found = frames(garbage(video(tmp_path / f"g.{suffix}", noisy(40), codec), start, start + 0.04))
    assert len(found) > 10
    assert rising([f.time_s for f in found])
    assert [f.index for f in found] == list(range(len(found)))


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        track: Any = out.add_stream("aac", rate=8_000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 8_000, 0
        out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def truncated_picture(path: Path) -> Path:
    Image.fromarray(noisy(1)[0]).save(path)
    return cut(path, 0.5)


BAD = {
    "missing": (lambda d: d / "nowhere.mp4", "no such file"),
    "folder": (lambda d: d, "is a folder"),
    "empty": (lambda d: written(d / "empty.mp4", b""), "0 bytes"),
    "text": (lambda d: written(d / "text.mp4", b"not a film\n"), "known format"),
    "plain text": (lambda d: written(d / "notes.txt", b"not a film\n"), "format|no moving picture"),
    "playlist": (
        lambda d: written(d / "list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"),
        "format|no moving picture",
    ),
    "heic": (lambda d: written(d / "a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "HEIC"),
    "sound": (lambda d: sound(d / "sound.mp4"), "no moving picture"),
    "no moov": (lambda d: cut(video(d / "cut.mp4", noisy(20)), 0.7), "cut off"),
    "all garbage": (
        lambda d: garbage(video(d / "g.mp4", noisy(10), mux={"movflags": "faststart"}), 0.1, 1.0),
        "not one of its|known format",
    ),
    "torn jpeg": (lambda d: truncated_picture(d / "torn.jpg"), "cannot be decoded"),
    "torn png": (lambda d: truncated_picture(d / "torn.png"), "cannot be decoded"),
    "torn webp": (lambda d: truncated_picture(d / "torn.webp"), "cannot be decoded|format"),
    "huge": (lambda d: huge(d / "huge.png", 20_001, 10_000), "megapixels"),
    "very huge": (lambda d: huge(d / "huge.png", 60_000, 60_000), "megapixels"),
    "camera name": (lambda _: "camera:front", "camera:0"),
    "number": (lambda _: 3, "no source of frames"),
    "float array": (lambda _: np.zeros((4, 6, 3)), "float64"),
    "grey array": (lambda _: np.zeros((4, 6), np.uint8), r"\(4, 6\)"),
    "nothing": (lambda _: [], "no pictures in it"),
    "strings": (lambda _: ["a.mp4"], "item 0"),
    "times back": (lambda _: [(1.0, corners()), (0.5, corners())], "sort them"),
}


def huge(path: Path, width: int, height: int) -> Path:
    """A PNG whose header alone is real."""
    assert width * height > MAX_PIXELS
    Image.new("L", (2, 2)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = __import__("zlib").crc32(bytes(data[12:29])).to_bytes(4, "big")
    return written(path, bytes(data))


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, expected = BAD[what]
    item = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(SourceError, match=expected) as caught:
        frames(item)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = written(tmp_path / "secret.mp4", b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(SourceError, match="permissions"):
        open_source(path)


# -- arrays and cameras ----------------------------------------------------------------------------


def test_arrays() -> None:
    still = open_source(corners())
    assert (still.kind, still.size, [f.time_s for f in still.frames()]) == (
        "image",
        (64, 48),
        [0.0],
    )
    assert [f.time_s for f in frames([corners()] * 3)] == [0.0, 1.0, 2.0]
    assert [f.time_s for f in frames(np.stack([corners()] * 2))] == [0.0, 1.0]
    timed = open_source((0.5 * n, corners()) for n in range(4))
    assert (timed.kind, timed.name) == ("arrays", "arrays")
    assert [f.index for f in timed.frames(1.0)] == [0, 2]


class FakeCamera:
    """Three frames, then unplugged; or absent."""

    made: list["FakeCamera"] = []  # noqa: RUF012

    def __init__(self, number: int) -> None:
        self.left, self.released, self.present = 3, False, number == 0
        FakeCamera.made.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.present

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}[what]

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, corners()[..., ::-1]

    def release(self) -> None:
        self.released = True


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCamera.made = []
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    monkeypatch.setattr("mien.sources.camera.sys.platform", "elsewhere")


@pytest.mark.usefixtures("fake_camera")
def test_camera() -> None:
    source = open_source("camera:0")
    found = list(source.frames())
    assert (source.kind, source.size, len(found)) == ("camera", (64, 48), 3)
    assert found[0].time_s == 0.0
    assert rising([f.time_s for f in found])
    assert np.array_equal(found[0].pixels, corners())
    assert source.problem == "the camera stopped after 3 frames"
    assert FakeCamera.made[0].released
    with pytest.raises(SourceError, match="camera:1"):
        open_source("camera:1")


@pytest.mark.usefixtures("fake_camera")
def test_camera_is_released_on_early_exit() -> None:
    stream = open_source("camera:0").frames()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert FakeCamera.made[0].released


def test_a_missing_camera_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="camera:97"):
        open_source("camera:97")
    assert capfd.readouterr() == ("", "")


# -- expand ----------------------------------------------------------------------------------------


def test_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/10.jpg",
        "in/2.JPG",
        "in/sub/1.mp4",
        "in/.hidden.png",
        "in/.git/a.png",
        "in/notes.txt",
        "in/[odd].png",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    whole = [
        os.path.join("in", *n.split("/")) for n in ("2.JPG", "10.jpg", "[odd].png", "sub/1.mp4")
    ]
    assert expand(["in"]) == whole
    assert expand(["in/10.jpg", "camera:0", Path("in"), "./in/10.jpg", "camera:0"]) == [
        "in/10.jpg",
        "camera:0",
        whole[0],
        *whole[2:],
    ]
    assert expand(["in/*.[jJ]*"]) == [os.path.join("in", "2.JPG"), os.path.join("in", "10.jpg")]
    assert expand(["in/**/*.mp4"]) == [whole[3]]
    assert expand(["in/[odd].png"]) == ["in/[odd].png"]
    assert expand(["in/notes.txt"]) == ["in/notes.txt"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("nowhere.mp4", "no such file"), (".", "no picture or video"), ("*.mp4", "nothing matches")],
)
def test_expand_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=expected):
        expand([given])


# -- the shared media ------------------------------------------------------------------------------


def test_real_clip() -> None:
    clip = MEDIA / "one_face_640x360.mp4"
    if not clip.is_file():
        pytest.skip(f"the shared clip is not here ({clip})")
    source: Source = open_source(clip)
    found = [(f.index, f.time_s) for f in source.frames(1.0)]
    assert (source.size, source.frame_hint, len(found), source.problem) == (
        (640, 360),
        472,
        20,
        None,
    )
    assert found[1] == (24, pytest.approx(24 * 1001 / 24000, abs=1e-3))
