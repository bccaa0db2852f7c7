"""Still and animated pictures: their pixels, their clocks, and damage that must not pass in silence."""

import importlib.util
import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter, ImageFileDirectory_v2

from mien import analyze
from mien.analysis.reader import Reader
from mien.bundles.store import FACES, load_detector
from mien.errors import SourceError
from mien.faces.track import Tracker
from mien.sources import media_kind, open_source
from mien.sources.still import decoder as stills

spec = importlib.util.spec_from_file_location("photo_damage", ROOT / "bench" / "photo_damage.py")
damage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(damage)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes) -> tuple[list[np.ndarray], str | None]:
    source = open_source(data)
    return [frame.pixels for frame in source.frames()], source.problem


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (32, 24), colour)


# -- animations ------------------------------------------------------------------------------------------------------

ANIMATED = {
    "GIF": {},
    "WEBP": {"lossless": True},
    "PNG": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def animation(
    kind: str, durations: list[int], colours: tuple[tuple[int, int, int], ...] = (RED, GREEN, BLUE)
) -> bytes:
    first, *rest = (plain(colour) for colour in colours)
    return encoded(
        first, kind, save_all=True, append_images=rest, duration=durations, **ANIMATED[kind]
    )


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_is_a_film_with_times_of_its_own(kind: str) -> None:
    source = open_source(animation(kind, [40, 200, 70]))
    assert (source.kind, source.size, source.frame_hint) == ("video", (32, 24), 3)
    for _ in range(2):  # it can be read again
        frames = list(source.frames())
        assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.04, 0.24])
        for frame, colour in zip(frames, (RED, GREEN, BLUE), strict=True):
            assert np.abs(frame.pixels.astype(int) - colour).max() <= 3
    assert source.problem is None


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_frames_that_ask_for_no_time_are_shown_as_browsers_do(kind: str) -> None:
    times = [frame.time_s for frame in open_source(animation(kind, [0, 10, 20])).frames()]
    assert times == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    "name", ["animated.gif", "animated.webp", "animated.avif", "animated_apng.png"]
)
def test_shared_animations(shared: Path, name: str) -> None:
    path = shared / "media" / "odd" / name
    source = open_source(path)
    assert [frame.time_s for frame in source.frames()] == pytest.approx([0.2 * n for n in range(8)])
    assert (source.kind, source.size, source.problem, media_kind(str(path))) == (
        "video",
        (320, 180),
        None,
        "video",
    )


def test_one_frame_is_a_picture_and_a_default_image_is_no_frame() -> None:
    for kind in ("GIF", "WEBP", "PNG"):
        assert open_source(encoded(plain(RED), kind)).kind == "image"
    data = encoded(
        plain(RED),
        "PNG",
        save_all=True,
        default_image=True,
        append_images=[plain(GREEN), plain(BLUE)],
        duration=50,
    )
    frames = list(open_source(data).frames())
    assert [frame.pixels[0, 0].tolist() for frame in frames] == [list(GREEN), list(BLUE)]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.05])


def test_disposal_is_done_before_the_next_frame() -> None:
    dot = Image.new("RGBA", (32, 24))
    dot.paste((*BLUE, 255), (0, 0, 8, 8))
    base = plain(RED).convert("RGBA")
    data = encoded(
        base, "PNG", save_all=True, append_images=[dot], duration=50, disposal=1, blend=0
    )
    first, second = (frame.pixels for frame in open_source(data).frames())
    assert (first == RED).all()
    assert (second[:8, :8] == BLUE).all()
    assert (second[8:] == 128).all()  # transparent by then: over mid-grey


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
@pytest.mark.parametrize("keep", [0.5, 0.75, 0.97])
def test_whole_frames_of_a_cut_animation_are_read(kind: str, keep: float) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(6)]
    whole = encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=50)
    expected, _ = read(whole)
    frames, problem = read(whole[: int(len(whole) * keep)])
    assert 1 <= len(frames) < 7
    assert problem is not None
    assert problem.startswith("ends early")
    whole_frames = frames[: int(6 * keep)]
    assert all(
        np.array_equal(got, wanted) for got, wanted in zip(whole_frames, expected, strict=False)
    )


def test_a_gif_cut_between_two_frames_says_so() -> None:
    data = animation("GIF", [50, 50, 50])
    assert read(data)[1] is None
    assert read(data + b"added by a program")[1] is None
    assert read(data[:-1])[1] == "ends early, after 3 frames: what follows is damaged or missing"


def test_a_gif_with_rubbish_between_two_frames_says_so() -> None:
    data = animation("GIF", [50, 50, 50])
    last = data.rindex(b"\x21\xf9\x04")
    for between, told in ((b"\0\0", False), (b"\xc0", True)):
        frames, problem = read(data[:last] + between + data[last:])
        assert len(frames) >= 2
        assert ("what follows is damaged" in str(problem)) == told


# -- pages -----------------------------------------------------------------------------------------------------------


def test_pages_of_a_tiff_are_separate_pictures(shared: Path) -> None:
    source = open_source(shared / "media" / "odd" / "multipage.tif")
    frames = list(source.frames(every_s=5.0))
    assert (source.kind, source.frame_hint, source.media["pages"]) == ("image", 8, 8)
    assert [(frame.index, frame.time_s) for frame in frames] == [(page, 0.0) for page in range(8)]
    with Image.open(shared / "media" / "odd" / "multipage.tif") as image:
        for frame in frames:
            image.seek(frame.index)
            assert np.array_equal(frame.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("compression", [None, "tiff_deflate", "tiff_lzw"])
def test_a_tiff_whose_strip_reaches_beyond_the_file_says_so(compression: str | None) -> None:
    data = encoded(plain(RED), "TIFF", compression=compression)
    assert read(data)[1] is None
    with Image.open(io.BytesIO(data)) as image:
        (length,) = image.tag_v2[279]
    entry = data.index(
        struct.pack("<HH", 279, 4)
    )  # StripByteCounts, of type LONG: tag, type, number, value
    assert struct.unpack_from("<II", data, entry + 4) == (1, length)
    hurt = data[: entry + 8] + struct.pack("<I", length + len(data)) + data[entry + 12 :]
    try:
        assert "beyond the end" in str(read(hurt)[1])
    except SourceError:
        assert compression  # libtiff refuses some itself


def test_a_face_of_one_page_is_not_followed_to_the_next(face: np.ndarray) -> None:
    pages = Image.fromarray(face)
    data = encoded(pages, "TIFF", save_all=True, append_images=[pages, pages])
    table = Reader(smoothing=0.5).analyze(data, name="pages.tif").table
    assert table["frame"].tolist() == [0, 1, 2]
    assert table["time_s"].tolist() == [0.0, 0.0, 0.0]
    assert table["face"].nunique() == 3
    assert table["valence"].nunique() == 1


def test_reduced_copies_are_no_pages() -> None:
    buffer = io.BytesIO()
    with AppendingTiffWriter(buffer, True) as writer:
        for colour, reduced in ((RED, 0), (GREEN, 1), (BLUE, 0)):
            tags = ImageFileDirectory_v2()
            tags[254] = reduced
            plain(colour).save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    frames, _ = read(buffer.getvalue())
    assert [pixels[0, 0].tolist() for pixels in frames] == [list(RED), list(BLUE)]


def test_a_page_that_cannot_be_decoded_is_one_unreadable_row(face: np.ndarray) -> None:
    page = Image.fromarray(face[:64, :64])
    data = bytearray(
        encoded(
            page,
            "TIFF",
            save_all=True,
            append_images=[page, page],
            compression="tiff_adobe_deflate",
        )
    )
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        (offset, *_) = image.tag_v2[273]
    data[offset : offset + 40] = bytes(40)
    frames, problem = read(bytes(data))
    assert [pixels is None for pixels in frames] == [False, True, False]
    assert problem == "1 of 3 frames could not be decoded"


# -- large pictures --------------------------------------------------------------------------------------------------


def test_a_picture_of_108_megapixels_is_read_at_half_its_size(shared: Path) -> None:
    source = open_source(shared / "media" / "odd" / "photo_108MP.jpg")
    (frame,) = source.frames()
    assert frame.pixels.shape == (4500, 6000, 3)
    assert source.media == {
        "width": 12000, "height": 9000, "frame_width": 6000, "frame_height": 4500, "rotation": 0, "mirrored": False,
        "codec": "jpeg", "created": None, "scale": 0.5,
    }  # fmt: skip
    assert source.notes == [
        "12000 x 9000 pixels, read at half size: boxes and points are in pixels of 6000 x 4500"
    ]
    assert source.problem is None


LARGE = {
    "jpeg": lambda picture: encoded(picture, "JPEG", quality=95, subsampling=0),
    "cmyk jpeg": lambda picture: encoded(picture.convert("CMYK"), "JPEG", quality=95),
    "png": lambda picture: encoded(picture, "PNG"),
    "palette png": lambda picture: encoded(picture.quantize(256), "PNG"),
    "grey png": lambda picture: encoded(picture.convert("L"), "PNG"),
    "16 bit png": lambda picture: encoded(
        Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257), "PNG"
    ),
    "clear png": lambda picture: encoded(picture.convert("RGBA"), "PNG"),
    "webp": lambda picture: encoded(picture, "WEBP", lossless=True),
    "tiff": lambda picture: encoded(picture, "TIFF"),
}


@pytest.mark.parametrize("form", LARGE)
def test_shrinking_averages_four_pixels(
    form: str, face: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.fromarray(face[100:301, 100:303])
    data = LARGE[form](picture)
    whole = read(data)[0][0]
    monkeypatch.setattr(stills, "MAX_PIXELS", 1000)
    source = open_source(data)
    (half,) = (frame.pixels for frame in source.frames())
    even = whole[:200, :202].reshape(100, 2, 101, 2, 3).mean(axis=(1, 3))
    assert half.shape == (101, 102, 3)
    assert np.abs(half[:100, :101] - even).mean() < 1.5
    assert (source.media["width"], source.media["scale"]) == (203, 0.5)


def test_boxes_of_a_shrunk_picture_are_in_the_shrunk_pixels(
    face: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Image.fromarray(face).resize((1024, 1024), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    reader, boxes = Reader(), ["box_x", "box_y", "box_w", "box_h"]
    whole = reader.analyze(data).table
    monkeypatch.setattr(stills, "MAX_PIXELS", 1_000_000)
    half = reader.analyze(data).table
    assert (
        np.abs(half[boxes].to_numpy() * 2 - whole[boxes].to_numpy()).max() < 20
    )  # of a face 400 pixels wide
    assert abs(half["valence"] - whole["valence"]).max() < 0.1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_exif_block_that_cannot_be_read_is_a_note(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    at = block.index(b"Exif\0\0") + 6 if b"Exif" in block else 0
    for damaged in (block[:at] + b"XXXX" + block[at + 4 :], block[: at + 12]):
        source = open_source(encoded(plain(RED), kind, exif=damaged))
        (note,) = source.notes
        assert "EXIF block is damaged" in note
        assert source.size == (32, 24)
        assert source.problem is None
    for whole in (block, Image.Exif().tobytes()):
        assert not open_source(encoded(plain(RED), kind, exif=whole)).notes


def test_the_dictionary_learns_when_and_how_a_photo_was_taken(face: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0132], exif.get_ifd(0x8769)[0x9003] = (
        6,
        "2024:01:02 03:04:05",
        "2023:12:31 23:59:58",
    )
    source = open_source(encoded(Image.fromarray(face[:40, :60]), "JPEG", exif=exif))
    assert source.size == (40, 60)
    assert source.media == {
        "width": 60, "height": 40, "frame_width": 40, "frame_height": 60, "rotation": 90, "mirrored": False,
        "codec": "jpeg", "created": "2023:12:31 23:59:58",
    }  # fmt: skip


# -- HEIC ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iphone_grid.heic", "iphone_heic_named.jpg"])
def test_a_heic_is_read_whole_under_any_name(shared: Path, name: str) -> None:
    pytest.importorskip("pillow_heif")
    path = shared / "media" / "odd" / name
    source = open_source(path)
    assert (source.kind, source.size, source.problem, media_kind(str(path))) == (
        "image",
        (1500, 1000),
        None,
        "image",
    )
    table = analyze(path).table
    assert (table["status"] == "ok").sum() == 5


@pytest.mark.parametrize("name", ["iphone_grid.heic", "iphone_heic_named.jpg"])
def test_without_its_decoder_a_heic_is_refused_and_never_a_tile(
    shared: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = shared / "media" / "odd" / name
    assert media_kind(str(path)) == "image"
    with pytest.raises(
        SourceError, match=r'is a HEIC picture, .* pip install "mien\[heic\]", or save it as JPEG'
    ):
        open_source(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_heic_is_turned_once(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32] = RED, GREEN, BLUE
    upright = Image.fromarray(pixels)
    undo = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright.transpose(undo) if undo is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = heif.from_pillow(stored)
    buffer = io.BytesIO()
    file.save(buffer, quality=95, exif=exif.tobytes())
    ((got,), problem) = read(buffer.getvalue())
    assert problem is None
    assert got.shape == pixels.shape
    assert np.abs(got[[12, 12, 36], [16, 48, 16]].astype(int) - (RED, GREEN, BLUE)).max() < 40


# -- damage ----------------------------------------------------------------------------------------------------------


def test_one_flipped_bit_that_libjpeg_warns_of_is_told(shared: Path) -> None:
    source = open_source(shared / "media" / "odd" / "one_bit_flipped.jpg")
    assert source.problem == "damaged picture data (62 extraneous bytes before marker 0xd9)"


VALID_JPEGS: dict[str, Callable[[Image.Image], bytes]] = {
    "4:2:0": lambda picture: encoded(picture, "JPEG"),
    "4:2:2": lambda picture: encoded(picture, "JPEG", subsampling=1),
    "4:4:4": lambda picture: encoded(picture, "JPEG", subsampling=0, quality=100),
    "grey": lambda picture: encoded(picture.convert("L"), "JPEG"),
    "progressive": lambda picture: encoded(picture, "JPEG", progressive=True),
    "optimised": lambda picture: encoded(picture, "JPEG", optimize=True),
    "restarts": lambda picture: encoded(picture, "JPEG", restart_marker_blocks=3),
    "rgb": lambda picture: encoded(picture, "JPEG", keep_rgb=True),
    "cmyk": lambda picture: encoded(picture.convert("CMYK"), "JPEG"),
    "one pixel": lambda picture: encoded(picture.crop((0, 0, 1, 1)), "JPEG"),
    "two pictures": lambda picture: encoded(picture, "MPO", save_all=True, append_images=[picture]),
    "something after its end": lambda picture: (
        encoded(picture, "JPEG") + bytes(500) + b"\0\0\0\x18ftypmp42" + bytes(500)
    ),
    "comment": lambda picture: encoded(picture, "JPEG", comment=b"\xff\xd8 \xff\xda \xff\xd9" * 20),
}


@pytest.mark.parametrize("form", VALID_JPEGS)
def test_whole_jpegs_are_not_called_damaged(form: str, face: np.ndarray) -> None:
    for rows, columns in ((201, 203), (64, 64), (17, 33)):
        data = VALID_JPEGS[form](Image.fromarray(face[100 : 100 + rows, 100 : 100 + columns]))
        ((pixels,), problem) = read(data)
        assert problem is None
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


# Of mutants that look different (mean difference above 1 of 255), the share that must be told or refused: all of them where the
# format carries checksums; elsewhere about what decoders notice, for a wrong value of these codes is as good a value as any other.
LEAST = {
    "png": 1.0, "apng": 1.0, "tiff deflate": 1.0, "bmp": 1.0, "jpeg": 0.6, "jpeg progressive": 0.9, "jpeg 4:4:4": 0.7,
    "gif": 0.6, "gif film": 0.6, "webp": 0.3, "webp film": 0.3, "avif": 0.3, "heic": 0.3,
}  # fmt: skip


@pytest.mark.parametrize("form", LEAST)
def test_damage_is_told_or_refused(form: str, face: np.ndarray) -> None:
    counts, silent = damage.campaign(form, face, count=48, seed=0)
    seen = counts["told"] + counts["refused"]
    assert not silent["cut"], "a file that is cut off is never taken for whole"
    assert seen >= LEAST[form] * (seen + counts["silent"]), (counts, silent)


def test_a_tracker_forgets_faces_but_never_gives_a_number_twice(face: np.ndarray) -> None:
    tracker = Tracker(load_detector(FACES, engine="onnxruntime"))
    numbers = []
    for _ in range(3):
        tracker.forget()
        numbers += [seen.track for seen in tracker.update(face, 0.0)]
    assert numbers == [0, 1, 2]
