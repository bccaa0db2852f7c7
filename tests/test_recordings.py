"""Recordings as people bring them: square pixels, late clocks, cuts, joints, fields, streams, matrices, damage."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mien.errors import SourceError
from mien.sources import open_source
from mien.sources.integrity import Flaw, find_flaw

UNIT = Fraction(1, 1000)


def film(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    start: int = 0,
    aspect: Fraction | None = None,
    matrix: int | None = None,
    interlaced: bool = False,
    mux: dict[str, str] | None = None,
    title: str | None = None,
    streams: int = 1,
) -> Path:
    """A recording at 25 frames a second whose clock begins at `start` milliseconds."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec} encoder")
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"} if interlaced else {}
    with av.open(str(path), "w", options=mux or {}) as out:
        if title:
            out.metadata["title"] = title
        tracks: list[Any] = [
            out.add_stream(codec, rate=25, options=options) for _ in range(streams)
        ]
        for number, track in enumerate(tracks):
            track.height, track.width = (each // (number + 1) for each in pictures[0].shape[:2])
            track.pix_fmt, track.codec_context.gop_size = (
                ("yuvj420p" if codec == "mjpeg" else "yuv420p"),
                8,
            )
            track.codec_context.time_base = (
                Fraction(1, 25) if codec in {"mpeg4", "mpeg2video", "mjpeg"} else UNIT
            )
            if aspect:
                track.codec_context.sample_aspect_ratio = aspect
            if matrix is not None:
                track.codec_context.colorspace = matrix
        for index, picture in enumerate(pictures):
            for track in tracks:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                    track.width, track.height, track.pix_fmt
                )
                frame.pts, frame.time_base = start + 40 * index, UNIT
                if matrix is not None:
                    frame.colorspace = matrix
                out.mux(track.encode(frame))
        for track in tracks:
            out.mux(track.encode(None))
    return path


def moving(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """A bright bar that moves to the right by four pixels a frame."""
    pictures = []
    for index in range(count):
        picture = np.full((size[1], size[0], 3), 40, np.uint8)
        at = 4 * index % (size[0] - 12)
        picture[:, at : at + 12] = 220
        pictures.append(picture)
    return pictures


def noisy(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def packet_times(path: Path) -> list[float]:
    """Presentation times of the first video stream's packets, by another reading than mien's."""
    with av.open(str(path)) as container:
        return sorted(
            float(packet.pts * packet.time_base)
            for packet in container.demux(video=0)
            if packet.pts is not None
        )


def read(path: Path, **how: Any) -> tuple[Any, list[Any]]:
    source = open_source(path, **how)
    return source, list(source.frames())


# -- square pixels ---------------------------------------------------------------------------------------------------


def disc(aspect: Fraction) -> np.ndarray:
    """A disc as a recording of such pixels stores it."""
    picture = np.zeros((240, 240, 3), np.uint8)
    cv2.circle(picture, (120, 120), 80, (255, 255, 255), -1)
    width, height = (round(240 / aspect), 240) if aspect >= 1 else (240, round(240 * aspect))
    return cv2.resize(
        picture, (width - width % 2, height - height % 2), interpolation=cv2.INTER_AREA
    )


@pytest.mark.parametrize(
    "aspect",
    [
        Fraction(4, 3),
        Fraction(64, 45),
        Fraction(16, 15),
        Fraction(8, 9),
        Fraction(1, 2),
        Fraction(2),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_disc_is_round(tmp_path: Path, aspect: Fraction, suffix: str) -> None:
    source, frames = read(film(tmp_path / f"disc.{suffix}", [disc(aspect)] * 3, aspect=aspect))
    pixels = frames[0].pixels
    assert (pixels.shape[1], pixels.shape[0]) == source.size
    white = pixels[..., 0] > 128
    width, height = white.any(axis=0).sum(), white.any(axis=1).sum()
    assert width == pytest.approx(height, abs=4)
    assert max(width, height) == pytest.approx(160, abs=4)
    assert source.media["pixel_aspect"] == f"{aspect.numerator}:{aspect.denominator}"
    assert (source.media["width"], source.media["height"]) == disc(aspect).shape[1::-1]


@pytest.mark.parametrize("aspect", [Fraction(11), Fraction(1, 11)])
def test_pixels_of_a_senseless_shape_are_taken_as_square(tmp_path: Path, aspect: Fraction) -> None:
    source, frames = read(film(tmp_path / "a.mkv", moving(3), aspect=aspect))
    assert frames[0].pixels.shape == (48, 64, 3)
    assert source.problem is None
    assert "pixels were taken as square" in source.notes[0]


def test_the_shape_of_pixels_may_change_within_a_broadcast(tmp_path: Path) -> None:
    first = film(tmp_path / "a.ts", moving(10), aspect=Fraction(4, 3))
    second = film(tmp_path / "b.ts", moving(10), aspect=Fraction(2))
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    _, frames = read(tmp_path / "both.ts")
    assert [frame.pixels.shape[1] for frame in frames] == [85] * 10 + [128] * 10


def test_turned_pixels_are_stretched_before_they_are_turned(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "a.mp4", moving(3), aspect=Fraction(2)))
    source.turn(90)
    assert source.size == (48, 128)
    assert next(source.frames()).pixels.shape == (128, 48, 3)


# -- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [2_000, 3_600_000])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.nut", "libx264"),
        ("a.wmv", "mpeg4"),
        ("a.mp4", "libx264"),
        ("a.ts", "libx264"),
    ],
)
def test_a_late_clock_is_no_damage(tmp_path: Path, name: str, codec: str, start: int) -> None:
    path = film(tmp_path / name, moving(12), codec, start=start)
    source, frames = read(path)
    assert (len(frames), source.problem, source.notes) == (12, None, [])
    assert [frame.time_s for frame in frames] == pytest.approx(packet_times(path), abs=1e-6)
    if name != "a.mp4":  # its clock begins with the film
        assert frames[0].time_s > start / 1000 - 0.1
        assert source.media["start_s"] == pytest.approx(frames[0].time_s)


ODD = {
    "start_at_2s.mkv": (24, ""), "start_at_2s.webm": (24, ""), "start_at_2s.wmv": (24, ""),
    "trimmed_lossless.mkv": (72, "begins with a cut"),
    "avi_dropped_frames_mjpeg.avi": (29, ""), "hevc_open_gop_cut.mkv": (96, "begins with a cut"),
    "h264_open_gop_cut.ts": (72, "begins with a cut"), "latin1_title.avi": (48, ""), "latin1_title.flv": (48, ""),
    "latin1_title.mkv": (48, ""), "latin1_title.mp4": (48, ""), "matrix_bt2020c.mp4": (3, "BT.709"), "matrix_ycgco.mp4": (3, "BT.709"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_whole_files_of_odd_kinds(shared: Path, name: str) -> None:
    count, note = ODD[name]
    source, frames = read(shared / "media" / "odd" / name)
    assert (len(frames), source.problem) == (count, None)
    assert all(frame.pixels is not None for frame in frames)
    assert len(source.notes) == bool(note)
    assert note in "".join(source.notes)
    if "title" not in name:  # this reading stumbles over the title
        times = packet_times(shared / "media" / "odd" / name)
        assert [frame.time_s for frame in frames] == pytest.approx(
            times[len(times) - count :], abs=1e-5
        )


@pytest.mark.parametrize("late", [500, 10_000])
def test_a_joint_is_one_note_and_no_frame_is_lost_or_doubled(tmp_path: Path, late: int) -> None:
    parts = [
        film(tmp_path / f"{start}.ts", noisy(12), start=start).read_bytes() for start in (late, 0)
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    source, frames = read(tmp_path / "joined.ts")
    times = [frame.time_s for frame in frames]
    assert (len(times), source.problem) == (24, None)
    assert all(0.03 < after - before < 0.05 for before, after in pairwise(times))
    assert len(source.notes) == 1
    assert "clock goes back" in source.notes[0]


@pytest.mark.parametrize("pause", [0, 40, 5_000])
def test_segments_whose_clock_goes_on_are_joined_without_a_word(tmp_path: Path, pause: int) -> None:
    starts = [1_000 + number * (480 + pause) for number in range(3)]
    parts = [
        film(tmp_path / f"{start}.ts", noisy(12), start=start).read_bytes() for start in starts
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    source, frames = read(tmp_path / "joined.ts")
    assert (len(frames), source.problem, source.notes) == (36, None, [])
    assert all(frame.pixels is not None for frame in frames)
    assert np.diff([frame.time_s for frame in frames])[11] == pytest.approx(
        0.04 + pause / 1000, abs=1e-3
    )


def test_the_joined_file(shared: Path) -> None:
    source, frames = read(shared / "media" / "odd" / "cat_of_two_ts.ts")
    assert (len(frames), source.problem, len(source.notes)) == (24, None, 1)
    assert all(before.time_s < after.time_s for before, after in pairwise(frames))


# -- fields, streams, matrices, tags ---------------------------------------------------------------------------------


def woven(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Interlaced frames: even lines from one picture, odd lines from the next."""
    frames = []
    for first, second in zip(pictures[::2], pictures[1::2], strict=True):
        frame = first.copy()
        frame[1::2] = second[1::2]
        frames.append(frame)
    return frames


def combing(pixels: np.ndarray) -> float:
    """How much neighbouring lines differ more than next but one lines do."""
    lines = pixels[..., 1].astype(float)
    return float(np.abs(np.diff(lines, axis=0)).mean() - np.abs(lines[2:] - lines[:-2]).mean())


def test_fields_are_put_right_and_times_stay(tmp_path: Path) -> None:
    frames = woven(moving(24, (128, 96)))
    path = film(tmp_path / "fields.ts", frames, interlaced=True)
    source, found = read(path)
    assert (len(found), source.problem) == (12, None)
    assert [frame.time_s for frame in found] == pytest.approx(packet_times(path), abs=1e-6)
    assert source.media["interlaced"] is True
    assert source.media["deinterlaced"] is True
    assert combing(frames[5]) > 5
    assert combing(found[5].pixels) < 1


def test_progressive_film_never_meets_the_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError

    monkeypatch.setattr("mien.sources.video.interlaced.Graph", refuse)
    source, found = read(film(tmp_path / "a.mp4", moving(5)))
    assert len(found) == 5
    assert (source.media["interlaced"], source.media["deinterlaced"]) == (False, False)


def test_several_streams_are_told_and_can_be_chosen(tmp_path: Path) -> None:
    path = film(tmp_path / "two.mp4", moving(5), streams=2)
    source, frames = read(path)
    assert (frames[0].pixels.shape[:2], source.media["video_streams"]) == ((48, 64), 2)
    assert source.notes == [
        "holds 2 video streams (0: h264 64x48, 1: h264 32x24); stream 0 was read, choose with --stream 1"
    ]
    source, frames = read(path, stream=1)
    assert (frames[0].pixels.shape[:2], source.media["stream"], source.notes) == ((24, 32), 1, [])
    assert source.reopen().size == (32, 24)
    with pytest.raises(
        SourceError, match=r"has no video stream 2; it holds 0: h264 64x48, 1: h264 32x24"
    ):
        open_source(path, stream=2)


@pytest.mark.parametrize("matrix", [3, 8, 10, 11, 12, 13, 14])
def test_rare_matrices_are_read_with_a_note(tmp_path: Path, matrix: int) -> None:
    source, frames = read(film(tmp_path / "a.mkv", moving(3), matrix=matrix))
    assert all(frame.pixels is not None for frame in frames)
    assert source.problem is None
    assert ("BT.709" in "".join(source.notes)) == (source.notes != [])
    plain = read(film(tmp_path / "b.mkv", moving(3), matrix=1))[1]
    assert np.abs(frames[0].pixels.astype(int) - plain[0].pixels).max() <= 1 or not source.notes


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "avi"])
def test_tags_in_any_encoding(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"a.{suffix}", moving(5), title="Caf__")
    data = path.read_bytes()
    assert b"Caf__" in data
    path.write_bytes(data.replace(b"Caf__", b"Caf\xe9!"))
    source, frames = read(path)
    assert (len(frames), source.problem) == (5, None)


def test_a_tape(tmp_path: Path) -> None:
    path = tmp_path / "tape.dv"
    with av.open(str(path), "w", format="dv") as out:
        stream: Any = out.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for index, picture in enumerate(moving(5, (720, 576))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    source, frames = read(path)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert source.media["pixel_aspect"] in {"16:15", "64:45"}
    assert frames[0].pixels.shape in {(576, 768, 3), (576, 1024, 3)}
    assert (source.problem, source.notes) == (None, [])
    assert (source.media["frame_rate"], source.media["codec"], source.media["interlaced"]) == (
        25.0,
        "dvvideo",
        True,
    )


def test_media_says_what_the_recording_is(tmp_path: Path) -> None:
    source, _ = read(film(tmp_path / "a.mp4", moving(25), aspect=Fraction(4, 3)))
    wanted = {
        "width": 64, "height": 48, "pixel_aspect": "4:3", "rotation": 0, "frame_rate": 25.0, "duration_s": 1.0, "codec": "h264",
        "container": "mov,mp4,m4a,3gp,3g2,mj2", "stream": 0, "video_streams": 1, "interlaced": False,
    }  # fmt: skip
    assert {key: source.media[key] for key in wanted} == wanted
    assert {"start_s", "created", "mirrored"} <= set(source.media)


# -- damage ----------------------------------------------------------------------------------------------------------

CLEAN: dict[str, tuple[str, dict[str, str]]] = {
    "a.mkv": ("libx264", {}), "live.mkv": ("libx264", {"live": "1"}), "a.webm": ("libvpx", {}),
    "a.mp4": ("libx264", {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}), "a.avi": ("mjpeg", {}), "a.flv": ("libx264", {}),
    "a.ts": ("libx264", {}), "a.mpg": ("mpeg2video", {}), "a.nut": ("libx264", {}), "a.mov": ("mjpeg", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_whole_files_raise_no_alarm_and_cut_ones_do(tmp_path: Path, name: str) -> None:
    codec, mux = CLEAN[name]
    path = film(tmp_path / name, noisy(40), codec, mux=mux)
    source, frames = read(path)
    assert (len(frames), source.problem, source.notes) == (40, None, [])
    data = path.read_bytes()
    for share in (0.5, 0.8, 0.96):
        (tmp_path / f"cut_{name}").write_bytes(
            data[: int(len(data) * share) | 1]
        )  # odd: no whole number of packets
        try:
            source, frames = read(tmp_path / f"cut_{name}")
        except SourceError:
            continue
        assert len(frames) <= 40
        assert source.problem or len(frames) == 40, (share, len(frames))


@pytest.mark.parametrize("codec", ["libsvtav1", "libaom-av1", "libvpx-vp9", "libx265"])
def test_decoders_with_threads_of_their_own_are_let_go_at_any_moment(
    tmp_path: Path, codec: str
) -> None:
    path = film(tmp_path / "a.mkv", noisy(16), codec)
    for count in range(16):
        frames = open_source(path).frames()
        assert [next(frames).index for _ in range(count)] == list(range(count))
        frames.close()
    source, found = read(path)
    assert (len(found), source.problem) == (16, None)


def test_a_decoder_that_forgets_the_packets_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.mkv", noisy(16))
    expected = [frame.time_s for frame in read(path)[1]]
    monkeypatch.setattr(
        "mien.sources.video.packets.PacketLedger._number_of", staticmethod(lambda _: -1)
    )
    source, found = read(path)
    assert ([frame.time_s for frame in found], source.problem) == (expected, None)


def test_a_live_recording_that_was_cut_off(shared: Path) -> None:
    path = shared / "media" / "odd" / "live_cut.mkv"
    source, frames = read(path)
    assert len(frames) == 16
    assert source.problem is not None
    assert source.problem.startswith("ends early: at 0.")


@pytest.mark.parametrize("name", ["a.mkv", "live.mkv", "a.flv", "fragments.mp4"])
def test_every_cut_shows_in_the_structure(tmp_path: Path, name: str) -> None:
    codec, mux = CLEAN[name]
    path = film(tmp_path / name, noisy(6, (32, 32)), codec, mux=mux)
    with av.open(str(path)) as container:
        kind = container.format.name
    data = path.read_bytes()
    ends: set[int] = set()
    for size in range(len(data) // 3, len(data), 7):
        (tmp_path / "cut").write_bytes(data[:size])
        with open(tmp_path / "cut", "rb") as file:
            if find_flaw(file, kind) is not Flaw.cut_off:
                ends.add(size)
    with open(path, "rb") as file:
        assert find_flaw(file, kind) is None
    assert len(ends) <= 4  # between two parts a cut cannot be seen


def test_bytes_are_read_as_the_file_is(shared: Path) -> None:
    path = shared / "media" / "odd" / "live_cut.mkv"
    (source, frames), (other, same) = read(path), read(path.read_bytes())  # type: ignore[arg-type]
    assert [frame.time_s for frame in same] == [frame.time_s for frame in frames]
    assert (other.problem, other.media) == (source.problem, source.media)


def packets_of(data: bytes, pid: int) -> list[int]:
    """Places of the transport packets of one stream."""
    return [
        at
        for at in range(0, len(data), 188)
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == pid
    ]


@pytest.mark.parametrize("run", [1, 3, 12, 16])
def test_transport_packets_that_are_lost(tmp_path: Path, run: int) -> None:
    data = film(tmp_path / "a.ts", noisy(40)).read_bytes()
    places = packets_of(data, 0x100)
    for first in range(20, len(places) - run - 4, len(places) // 6):
        damaged = bytearray(data)
        for at in places[first : first + run]:
            damaged[at : at + 188] = bytes(188)
        (tmp_path / "b.ts").write_bytes(damaged)
        source, _ = read(tmp_path / "b.ts")
        assert source.problem, (run, first)


def test_damaged_jpegs_in_an_avi(tmp_path: Path) -> None:
    data = film(tmp_path / "a.avi", noisy(12), "mjpeg").read_bytes()
    random = np.random.default_rng(1)
    for _ in range(20):
        at = int(random.integers(len(data) // 4, len(data) * 3 // 4))
        damaged = bytearray(data)
        damaged[at : at + 200] = b"\xff\x00" * 100  # no code of a JPEG is all ones
        (tmp_path / "b.avi").write_bytes(damaged)
        source, frames = read(tmp_path / "b.avi")
        assert source.problem, at
        assert len(frames) >= 10


def jpegs(path: Path, pictures: Sequence[bytes]) -> Path:
    """A film of JPEG pictures as they are."""
    with av.open(str(path), "w") as out:
        track = out.add_stream("mjpeg", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = (
                track,
                number,
                number,
                Fraction(1, 25),
            )
            out.mux(packet)
    return path


def encoded(picture: np.ndarray) -> bytes:
    """A JPEG with a restart marker after each row of blocks, which lets FFmpeg conceal damage."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
def test_a_doubled_part_of_a_jpeg_in_a_film_is_told(tmp_path: Path, suffix: str) -> None:
    whole = [encoded(picture) for picture in noisy(6)]
    source, frames = read(jpegs(tmp_path / f"a.{suffix}", whole))
    assert (source.problem, len(frames)) == (None, 6)
    end = whole[3].index(b"\xff\xd1")
    hurt = whole[3][:end] + whole[3][end - 100 :]
    source, frames = read(jpegs(tmp_path / f"b.{suffix}", [*whole[:3], hurt, *whole[4:]]))
    assert "Corrupt JPEG data" in source.problem
    assert "more" not in source.problem
    assert len(frames) == 6


def test_jpegs_of_a_film_that_are_filled_up_are_whole(tmp_path: Path) -> None:
    """Cameras fill their pictures up to a multiple of some bytes; others leave the mark of the end away."""
    pictures = [encoded(picture) for picture in noisy(6)]
    filled = [data[:-2] + bytes(number) + data[-2:] for number, data in enumerate(pictures)]
    endless = [data[:-2] for data in pictures]
    for made in (filled, endless, [data + bytes(7) for data in pictures]):
        source, frames = read(jpegs(tmp_path / "a.avi", made))
        assert (source.problem, len(frames)) == (None, 6)
        assert all(frame.pixels is not None for frame in frames)


def test_lost_chunks_of_an_avi_are_told(tmp_path: Path) -> None:
    data = film(tmp_path / "a.avi", noisy(12), "mpeg4").read_bytes()
    at = data.index(b"00dc", len(data) // 2)
    (tmp_path / "b.avi").write_bytes(data[:at] + b"XXXXXXXX" + data[at + 8 :])
    source, frames = read(tmp_path / "b.avi")
    assert len(frames) < 12
    assert source.problem is not None
    assert "of the 12 frames in its index" in source.problem


def no_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    "where",
    [
        "mien.sources.video.colour.ToRgb.__call__",
        "mien.sources.video.packets.PacketLedger.delivered",
    ],
)
def test_too_little_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = film(tmp_path / "a.mp4", moving(5))
    monkeypatch.setattr(where, no_memory)

    def attempt(action: Callable[[], Any]) -> str:
        with pytest.raises(SourceError) as caught:
            action()
        return str(caught.value)

    line = attempt(lambda: read(path))
    assert "not enough memory" in line
    assert "again" not in line


@pytest.mark.parametrize(
    ("codec", "container"),
    [("wmv2", "asf"), ("msmpeg4v2", "avi"), ("mjpeg", "mov"), ("mpeg4", "avi")],
)
def test_damage_that_a_decoder_conceals_is_told(codec, container, tmp_path):
    """Of a whole file nothing is said; of one with noise in its pictures, where the decoder's log speaks of it."""
    whole = tmp_path / f"whole.{container}"
    with av.open(whole, "w", format=container) as target:
        stream = target.add_stream(codec, rate=25)
        stream.width, stream.height = 160, 128
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (16, 20, 3), np.uint8)
        for number in range(12):
            pixels = np.roll(noise, number, axis=1).repeat(8, 0).repeat(8, 1)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        target.mux(stream.encode(None))
    content = whole.read_bytes()

    def problem(path) -> str | None:
        source = open_source(path)
        assert len(list(source.frames())) >= 10
        return source.problem

    def noticed(path) -> bool:
        """Whether FFmpeg logs an error while it decodes the file from end to end."""
        av.logging.set_level(av.logging.ERROR)
        with av.logging.Capture(local=True) as lines, av.open(path) as file:
            file.streams.video[0].codec_context.thread_count = 1
            for packet in file.demux(video=0):
                with suppress(av.FFmpegError):
                    packet.decode()
        av.logging.set_level(None)
        return any("repeated" not in line for _, _, line in lines)

    assert problem(whole) is None
    hurt = []
    for seed in range(10):
        changed, place = bytearray(content), len(content) // 3 + seed * 211
        changed[place : place + 64] = np.random.default_rng(seed).bytes(64)
        hurt.append(tmp_path / f"hurt-{seed}.{container}")
        hurt[-1].write_bytes(changed)
    complained = [path for path in hurt if noticed(path)]
    assert complained
    assert [path for path in complained if problem(path) is None] == []
    assert av.logging.get_level() is None, "FFmpeg's log is left as it was"
