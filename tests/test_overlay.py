"""Overlays keep frames, times and sound, draw where the faces are, and are whole or absent."""

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from mien.errors import MienError, OutputError
from mien.outputs import painter as draw
from mien.outputs.canvas import Canvas
from mien.outputs.overlay import Overlay
from mien.outputs.painter import PALETTE, Painter, colour_of
from mien.records import Face, Reading, Status
from mien.sources import open_source
from mien.tasks import TASKS

EXPR, VA, AU = TASKS["expr.ferplus8"], TASKS["va"], TASKS["au.abaw12"]
STEADY = [n / 25 for n in range(25)]
UNEVEN = [0.0, 0.04, 0.2, 0.24, 0.5, 0.51, 0.9, 1.3]
RATE = 48_000
CLICK_S = 0.5


def scores():
    return {
        "expr": np.full(8, 0.125, "f4"),
        "va": np.array([0.5, -0.5], "f4"),
        "au": np.linspace(0, 1, 12, dtype="f4"),
    }


def reading(frame, box=(40, 30, 40, 50), track=0, status=Status.ok):
    face = None if box is None else Face(box, np.zeros((5, 2)), 0.9, track)
    return Reading(
        frame.source, frame.index, frame.time_s, status, face, {} if face is None else scores(), {}
    )


def film(path, times, size=(160, 120), *, sound=None, offset_s=0.0, codec="libx264"):
    """A grey film with frames at these times, maybe a click at CLICK_S, all moved by an offset."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, time_base=Fraction(1, 1000))
        video.width, video.height = size
        video.pix_fmt = "yuv420p" if not (size[0] % 2 or size[1] % 2) else "yuv444p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream(sound, rate=RATE, layout="mono") if sound else None
        for n, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), 100 + 2 * (n % 20), np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = round((time_s + offset_s) * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio:
            write_click(container, audio, times[-1] + 0.04, offset_s)
    return open_source(path)


def write_click(container, audio, length_s, offset_s):
    wave = np.zeros((1, round(length_s * RATE)), np.int16)
    click = round(CLICK_S * RATE)
    wave[0, click : click + 480] = 20_000 * np.sign(np.sin(np.arange(480) / 4))
    for start in range(0, wave.shape[1], 960):
        frame = av.AudioFrame.from_ndarray(
            wave[:, start : start + 960], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = (
            RATE,
            start + round(offset_s * RATE),
            Fraction(1, RATE),
        )
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def overlay(path, source, every_s=0.0, **kwargs):
    with Overlay(path, source, [EXPR, VA, AU]) as drawing:
        for frame in source.frames(every_s):
            drawing.write([reading(frame, **kwargs)])
    return open_source(path)


def click_s(path):
    """When the sound first gets loud, by the container's clock."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(
                np.abs(frame.to_ndarray().astype(float)).max(axis=0)
                > (0.1 if "flt" in frame.format.name else 3000)
            )
            if loud.size:
                return float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
    return None


@pytest.mark.parametrize("times", [STEADY, UNEVEN], ids=["steady", "uneven"])
@pytest.mark.parametrize("size", [(160, 120), (161, 121)], ids=str)
def test_every_frame_at_its_time(tmp_path, times, size):
    source = film(tmp_path / "a.mkv", times, size)
    again = overlay(tmp_path / "b.mp4", source)
    assert [frame.time_s for frame in again.frames()] == pytest.approx(times, abs=2e-5)
    assert again.size == tuple(
        3 * side + 3 * side % 2 for side in size
    )  # three times as large, so that labels can be read
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mp4"]
    with av.open(str(tmp_path / "b.mp4")) as container:
        picture = container.streams.video[0].codec_context
        assert (picture.name, picture.pix_fmt, picture.colorspace, picture.color_range) == (
            "h264",
            "yuv420p",
            1,
            1,
        )


@pytest.mark.parametrize(
    ("name", "sound", "becomes", "offset_s"),
    [
        ("a.mp4", "aac", "aac", 0.0),
        ("a.ts", "aac", "aac", 0.0),
        ("a.ts", "aac", "aac", 3.0),
        ("a.ts", "aac", "aac", 5000.0),
        ("a.mkv", "aac", "aac", 2.0),
        ("a.mkv", "pcm_s16le", "aac", 0.0),
        ("a.mkv", "pcm_s16le", "aac", 2.0),
        ("a.mkv", "flac", "flac", 0.0),
        ("a.mkv", "libopus", "opus", 0.0),
        ("a.mkv", "libmp3lame", "mp3", 0.0),
        ("a.avi", "pcm_s16le", "aac", 0.0),
        ("a.mkv", "ac3", "ac3", 1.0),
        ("a.mkv", "mp2", "aac", 1.0),
        ("a.mov", "alac", "alac", 0.0),
    ],
)
def test_sound_stays_in_step(tmp_path, name, sound, becomes, offset_s):
    source = film(
        tmp_path / name,
        STEADY,
        sound=sound,
        offset_s=offset_s,
        codec="libx264" if name != "a.avi" else "mpeg4",
    )
    before = [frame.time_s for frame in source.frames()]
    after = [frame.time_s for frame in overlay(tmp_path / "b.mp4", source).frames()]
    assert np.diff(after) == pytest.approx(np.diff(before), abs=3e-5)
    assert after[0] == pytest.approx(before[0] if before[0] < 10 else 0, abs=2e-5)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == becomes
    moved = after[0] - before[0]
    assert click_s(tmp_path / "b.mp4") == pytest.approx(click_s(tmp_path / name) + moved, abs=0.004)


def test_an_overlay_has_square_pixels(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 72, 58, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(64, 45)
        container.mux(
            video.encode(
                av.VideoFrame.from_ndarray(np.zeros((58, 72, 3), np.uint8), format="rgb24")
            )
        )
        container.mux(video.encode(None))
    overlay(tmp_path / "b.mp4", open_source(tmp_path / "a.mp4"))
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio or 1) == (
            7 * round(72 * 64 / 45),
            7 * 58,
            1,
        )


def test_no_sound_no_track(tmp_path):
    overlay(tmp_path / "b.mp4", film(tmp_path / "a.mp4", STEADY))
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert not container.streams.audio


def test_only_frames_with_readings(tmp_path):
    source = film(tmp_path / "a.mkv", STEADY)
    again = overlay(tmp_path / "b.mp4", source, every_s=0.2)
    assert [frame.time_s for frame in again.frames()] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8], abs=2e-5
    )


def test_drawn_on_the_face_and_nowhere_else(tmp_path):
    source = film(tmp_path / "a.mp4", STEADY[:3], size=(640, 360))
    (frame, *_) = overlay(tmp_path / "b.mp4", source, box=(300, 100, 120, 150)).frames()
    picture = frame.pixels.astype(int)
    for y, x in [(2, 2), (2, -3), (-3, 2), (-3, -3), (175, 360)]:
        assert np.abs(picture[y, x] - 100).max() <= 3
    stroke = picture[110:125, 300]
    assert np.abs(stroke - PALETTE[0]).max() < 40


def test_readings_may_come_late_and_several_a_frame(tmp_path):
    source = film(tmp_path / "a.mp4", STEADY)
    rows = [
        reading(f, box=box, track=t)
        for f in source.frames()
        for t, box in enumerate([(10, 10, 30, 30), (90, 50, 40, 40)])
    ]
    with Overlay(tmp_path / "b.mp4", source, [EXPR]) as drawing:
        drawing.write(rows[:31])
        drawing.write(rows[31:])
    assert len(list(open_source(tmp_path / "b.mp4").frames())) == 25


def test_unreadable_frames_are_dimmed_and_say_so(tmp_path, monkeypatch):
    source = film(tmp_path / "a.mp4", STEADY[:4], size=(640, 360))
    frames = list(source.frames())
    torn = [
        frames[0],
        *(type(f)(None, f.time_s, f.index, f.source) for f in frames[1:3]),
        frames[3],
    ]
    monkeypatch.setattr(type(source), "frames", lambda self, every_s=0.0: (f for f in torn))
    with Overlay(tmp_path / "b.mp4", source, [EXPR]) as drawing:
        drawing.write(
            reading(f, None, status=Status.unreadable if f.pixels is None else Status.no_face)
            for f in torn
        )
    monkeypatch.undo()
    means = [frame.pixels[:200].mean() for frame in open_source(tmp_path / "b.mp4").frames()]
    assert means == pytest.approx([100, 40, 40, 106], abs=2)


def test_nothing_appears_after_an_exception(tmp_path):
    source = film(tmp_path / "a.mp4", STEADY, sound="aac")
    (tmp_path / "b.mp4").write_bytes(b"older")
    frames = source.frames()

    def interrupted():
        yield reading(next(frames))
        yield reading(next(frames))
        assert list(tmp_path.glob(".b.mp4.*.part"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Overlay(tmp_path / "b.mp4", source, [EXPR]) as drawing:
        drawing.write(interrupted())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "b.mp4").read_bytes() == b"older"


def test_no_readings_no_film(tmp_path):
    with Overlay(tmp_path / "b.mp4", film(tmp_path / "a.mp4", STEADY), [EXPR]):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_folder_that_is_not_there(tmp_path):
    source = film(tmp_path / "a.mp4", STEADY)
    with pytest.raises(OutputError, match="create the folder first"):
        Overlay(tmp_path / "none" / "b.mp4", source, [EXPR]).__enter__()


def test_the_source_may_not_shrink_meanwhile(tmp_path):
    source = film(tmp_path / "a.mp4", STEADY)
    (*_, last) = source.frames()
    late = Reading(last.source, 99, 4.0, Status.no_face, None, {}, {})
    with (
        pytest.raises(MienError, match="frame 99 is not there when read again"),
        Overlay(tmp_path / "b.mp4", source, [EXPR]) as drawing,
    ):
        drawing.write([late])
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((361, 401, 3), (40, 80, 120), np.uint8))
    source = open_source(tmp_path / "a.png")
    again = overlay(tmp_path / f"b{suffix}", source, box=(200, 60, 90, 120), track=None)
    (frame,) = again.frames()
    assert frame.pixels.shape == (361, 401, 3)
    assert np.abs(frame.pixels[1, 1].astype(int) - (120, 80, 40)).max() <= 4
    assert np.abs(frame.pixels[68:76, 200].astype(int) - PALETTE[0]).max() < 60


@pytest.mark.parametrize(
    ("size", "scale"),
    [((320, 180), 2), ((640, 360), 1), ((480, 359), 2), ((1000, 40), 1), ((90, 120), 4)],
)
def test_small_pictures_are_drawn_enlarged(tmp_path, size, scale):
    """Labels need a shorter side of 360 px; the box around the face grows with the picture."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((size[1], size[0], 3), 100, np.uint8))
    source = open_source(tmp_path / "a.png")
    again = overlay(tmp_path / "b.png", source, box=(30, 5, 40, 30), track=None)
    (frame,) = again.frames()
    assert frame.pixels.shape == (scale * size[1], scale * size[0], 3)
    assert source.media["overlay_scale"] == scale
    drawn = (
        np.abs(frame.pixels[scale * 20, : scale * 45].astype(int) - PALETTE[0]).sum(axis=1).argmin()
    )
    assert abs(drawn - scale * 30) <= 2  # the left edge of the box


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [("video", "b.avi", "use .mp4"), ("image", "b.mp4", "use .jpg or .jpeg or .png")],
)
def test_suffix_must_fit(tmp_path, given, path, message):
    if given == "video":
        source = film(tmp_path / "a.mp4", STEADY)
    else:
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
        source = open_source(tmp_path / "a.png")
    with pytest.raises(OutputError, match=message):
        Overlay(tmp_path / path, source, [EXPR])


def test_arrays_have_no_overlay(tmp_path):
    with pytest.raises(OutputError, match="needs a file"):
        Overlay(tmp_path / "b.mp4", open_source([np.zeros((8, 8, 3), np.uint8)]), [EXPR])


def painted(readings, tasks=(EXPR, VA, AU), size=(640, 360)):
    picture = np.full((size[1], size[0], 3), 128, np.uint8)
    Painter(tasks).paint(picture, readings)
    return picture


def at(box, track=0, status=Status.ok):
    return Reading("a", 0, 0.0, status, Face(box, np.zeros((5, 2)), 0.9, track), scores(), {})


def touched(picture, left, top, width, height):
    return float((picture[top : top + height, left : left + width] != 128).any(axis=2).mean())


def test_panel_stands_beside_the_face():
    assert touched(painted([at((260, 60, 120, 150))]), 392, 64, 110, 190) == 1
    assert touched(painted([at((480, 60, 120, 150))]), 350, 64, 110, 190) == 1


def test_panel_never_hides_another_face():
    faces = [(200, 100, 90, 110), (330, 100, 90, 110), (460, 100, 90, 110)]
    picture = painted([at(box, track) for track, box in enumerate(faces)])
    for x, y, w, h in faces:
        assert touched(picture, x + 10, y + 10, w - 20, h - 20) == 0


def test_no_panels_for_crowds_and_small_faces():
    four = [at((30 + 150 * n, 100, 90, 110), n) for n in range(4)]
    assert touched(painted(four), 0, 240, 640, 120) == 0
    assert touched(painted([at((300, 100, 30, 40))]), 0, 160, 640, 200) == 0


def test_a_panel_keeps_its_side():
    painter = Painter([VA])
    sides = []
    for x in (480, 330, 480):
        picture = np.full((360, 640, 3), 128, np.uint8)
        painter.paint(picture, [at((x, 100, 120, 150))])
        sides.append((picture[110:150, :x] != 128).any())
    assert sides == [True, True, True]


def test_gaps_look_different():
    sure, gap = (
        painted([at((260, 60, 120, 150))]),
        painted([at((260, 60, 120, 150), status=Status.gap)]),
    )
    assert (np.ptp(sure.astype(int), axis=2) > 60).any()
    assert (np.ptp(gap.astype(int), axis=2) < 40).all()


def test_colours_stay_with_the_track_and_differ():
    assert len({colour_of(track) for track in range(len(PALETTE))}) == len(PALETTE)
    assert all(a != b for a, b in pairwise(map(colour_of, range(40))))


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (361, 641), (1920, 1080)], ids=str)
@pytest.mark.parametrize(
    "box", [(-50, -50, 2000, 2000), (-30, -30, 20, 20), (5, 5, 0, 0), (10, 8, 30, 30)], ids=str
)
def test_any_box_in_any_picture(size, box):
    painted([at(box), at(box, None, Status.gap)], size=size)


def test_scale_follows_the_shorter_side():
    assert (
        Canvas(np.zeros((720, 1280, 3), np.uint8)).scale
        == Canvas(np.zeros((1280, 720, 3), np.uint8)).scale
        == 2
    )


FULL_DISK = """
import resource, sys
from mien.errors import OutputError
from mien.outputs.overlay import Overlay
from mien.records import Reading, Status
from mien.sources import open_source

source = open_source(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with Overlay(sys.argv[2], source, []) as drawing:
        for frame in source.frames():
            no_face = Status.no_face
            reading = Reading(frame.source, frame.index, frame.time_s, no_face, None, {}, {})
            drawing.write([reading])
except OutputError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing(tmp_path):
    pytest.importorskip("resource", reason="file size limits are a Unix matter")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height = 320, 240
        rng = np.random.default_rng(0)
        for _ in range(20):
            container.mux(
                video.encode(
                    av.VideoFrame.from_ndarray(
                        rng.integers(0, 255, (240, 320, 3), np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(video.encode(None))
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        FULL_DISK,
        str(tmp_path / "a.mp4"),
        str(tmp_path / "b.mp4"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.count("\n") == 1
    assert "b.mp4: cannot be written (File too large); choose a folder" in ended.stdout
    assert not ended.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def outlines(readings, size):
    """The same faces with nothing but the outlines of their boxes."""
    picture = np.full((size[1], size[0], 3), 128, np.uint8)
    for one in readings:
        draw._draw_box(Canvas(picture), draw._drawn(one, one.face))
    return picture


def over_faces(readings, size):
    """How many pixels within the boxes of faces are drawn over with anything but outlines."""
    changed = (painted(readings, size=size) != outlines(readings, size)).any(axis=2)
    count = 0
    for one in readings:
        x, y, w, h = one.face.box
        rows, columns = (
            slice(max(int(np.floor(a)), 0), max(int(np.ceil(a + b)), 0))
            for a, b in ((y, h), (x, w))
        )
        count += int(changed[rows, columns].sum())
    return count


SIZES = [
    (640, 360),
    (360, 640),
    (1920, 1080),
    (720, 1280),
    (500, 500),
    (96, 96),
    (48, 48),
    (16, 16),
    (1280, 200),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 12])
def test_nothing_is_drawn_over_a_face_in_any_geometry(size, count):
    rng = np.random.default_rng(count)
    for trial in range(12):
        widths = rng.uniform(0.05, (1.3, 0.6)[trial % 2], count) * size[0]
        heights = widths * rng.uniform(0.9, 1.5, count)
        lefts, tops = rng.uniform(-0.3, 1, count) * size[0], rng.uniform(-0.3, 1, count) * size[1]
        boxes = np.stack([lefts, tops, widths, heights], axis=1)
        status = Status.gap if trial % 3 == 2 else Status.ok
        readings = [
            at(tuple(map(float, box)), k if trial % 4 else None, status)
            for k, box in enumerate(boxes)
        ]
        assert over_faces(readings, size) == 0


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 1.0, 1.2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_close_up_is_never_covered(size, share):
    height = share * size[1]
    width = min(height / 1.25, 1.2 * size[0])
    readings = [at(((size[0] - width) / 2, (size[1] - height) / 2, width, height))]
    assert over_faces(readings, size) == 0


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((640, 360), (180, 10, 280, 340)),  # a webcam: room at the sides
        ((360, 640), (20, 100, 320, 420)),  # a phone held upright: room above and below
        ((512, 512), (60, 40, 400, 400)),
        ((1080, 1920), (60, 300, 960, 1200)),
    ],
    ids=str,
)
def test_a_close_up_still_says_what_was_read(size, box):
    with_panel, label_alone = painted([at(box)], size=size), painted([at(box)], [EXPR], size)
    blank = outlines([at(box)], size)
    assert (label_alone != blank).any(axis=2).mean() > 0.005
    assert (with_panel != label_alone).any(axis=2).mean() > 0.01
