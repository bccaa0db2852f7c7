"""Damaged media: a whole recording or picture, and what becomes of it when bytes are changed, lost or doubled."""

import functools
import io
import json
import queue
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from campaign.verdicts import ROOT, Verdict, environment
from mien.demo import portrait

LIMIT_S: Final = 60.0
FRAMES: Final = 24
Mutation = Callable[[bytes, random.Random], bytes]

# suffix -> (container, codec, pixel format)
_FILMS: Final = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mov": ("mov", "mjpeg", "yuvj420p"),
    "mkv": ("matroska", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx", "yuv420p"),
    "avi": ("avi", "mjpeg", "yuvj420p"),
    "xvid.avi": ("avi", "mpeg4", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
    "mpg": ("mpeg", "mpeg2video", "yuv420p"),
    "flv": ("flv", "flv", "yuv420p"),
    "wmv": ("asf", "wmv2", "yuv420p"),
    "hevc.mkv": ("matroska", "libx265", "yuv420p"),
}
_STILLS: Final = {
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "bmp": "BMP",
    "tif": "TIFF",
    "gif": "GIF",
    "avif": "AVIF",
}
_ANIMATED: Final = {"moving.gif": "GIF", "moving.webp": "WEBP", "moving.png": "PNG"}


def _frames() -> list[np.ndarray[Any, Any]]:
    """A camera that pans over a face: RGB uint8 (192, 192, 3)."""
    face = portrait()
    return [
        np.ascontiguousarray(face[i : i + 384 : 2, 2 * i : 2 * i + 384 : 2]) for i in range(FRAMES)
    ]


def _film(
    container: str, codec: str, pixel_format: str, frames: list[np.ndarray[Any, Any]]
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "bitexact"}) as target:
        stream = target.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = (
            frames[0].shape[1],
            frames[0].shape[0],
            pixel_format,
        )
        stream.time_base = Fraction(1, 25)
        if codec in ("libx264", "libx265"):
            quiet = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {}
            stream.options = {"preset": "ultrafast", "g": "12", "threads": "1", **quiet}
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts = number
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return file.getvalue()


@functools.cache
def seeds() -> dict[str, bytes]:
    """Whole files by suffix: what the encoders of this machine can make."""
    frames = _frames()
    files: dict[str, bytes] = {}
    for suffix, how in _FILMS.items():
        try:
            files[suffix] = _film(*how, frames)
        except (av.FFmpegError, ValueError):  # this build has no such encoder
            continue
    pictures = [Image.fromarray(frame) for frame in frames[:8]]
    for suffix, kind in (_STILLS | _ANIMATED).items():
        file = io.BytesIO()
        more = (
            {"save_all": True, "append_images": pictures[1:], "duration": 40}
            if suffix in _ANIMATED
            else {}
        )
        pictures[0].save(file, kind, **more)
        files[suffix] = file.getvalue()
    return files


def _cut(data: bytes, random_: random.Random) -> bytes:
    return data[: random_.randrange(1, len(data))]


def _flip(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random_.choice([1, 1, 2, 8, 64])):
        changed[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _span(data: bytes, random_: random.Random) -> tuple[int, int]:
    length = min(random_.choice([4, 64, 188, 1024, 4096]), max(len(data) // 4, 1))
    start = random_.randrange(len(data) - length + 1)
    return start, start + length


def _zero(data: bytes, random_: random.Random) -> bytes:
    start, end = _span(data, random_)
    return data[:start] + bytes(end - start) + data[end:]


def _lose(data: bytes, random_: random.Random) -> bytes:
    start, end = _span(data, random_)
    return data[:start] + data[end:]


def _double(data: bytes, random_: random.Random) -> bytes:
    start, end = _span(data, random_)
    return data[:end] + data[start:end] + data[end:]


def _insert(data: bytes, random_: random.Random) -> bytes:
    at = random_.randrange(len(data))
    return data[:at] + random_.randbytes(random_.choice([1, 16, 512])) + data[at:]


def _header(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random_.choice([1, 4, 16])):
        changed[random_.randrange(min(len(data), 256))] = random_.randrange(256)
    return bytes(changed)


MUTATIONS: Final[Mapping[str, Mutation]] = {
    "cut": _cut, "flip": _flip, "zero": _zero, "lose": _lose, "double": _double, "insert": _insert, "header": _header,
}  # fmt: skip


def mutants(count: int, first_seed: int = 0) -> Iterator[tuple[str, str, bytes]]:
    """`count` cases: name, suffix and content. The same number always makes the same file from the same whole one."""
    files = seeds()
    kinds = [(suffix, mutation) for mutation in MUTATIONS for suffix in files]
    for number in range(first_seed, first_seed + count):
        suffix, mutation = kinds[number % len(kinds)]
        name = f"{number}-{mutation}-{suffix.replace('.', '-')}"
        yield name, suffix, MUTATIONS[mutation](files[suffix], random.Random(number))  # noqa: S311


def reference(path: Path) -> tuple[str, int | None]:
    """What FFmpeg's own decoder complains of, if anything, and how many frames it gives; None where it cannot say."""
    command = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-i",
        str(path),
        "-map",
        "0:v:0",
        "-f",
        "null",
        "-fps_mode",
        "passthrough",
        "-",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "no end", None
    complaints = [
        line
        for line in done.stderr.decode(errors="replace").splitlines()
        if "dts" not in line and "null" not in line
    ]
    probe = [
        "ffprobe",
        "-v",
        "quiet",
        "-count_frames",
        "-select_streams",
        "v:0",
        "-show_entries",
        "stream=nb_read_frames",
        "-of",
        "csv=p=0",
    ]
    try:
        counted = subprocess.run(
            [*probe, str(path)], capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "no end", None
    number = counted.stdout.decode().strip().split(",")[0]
    complaint = complaints[0] if complaints else f"exit {done.returncode}" * (done.returncode != 0)
    return complaint, int(number) if number.isdecimal() else None


class Worker:
    """A process that reads one file after another and says what came of each; replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        code = "import sys; sys.path.insert(0, sys.argv[1]); from campaign.media_worker import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(ROOT / "tests")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment(),
        )  # fmt: skip
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(
            target=self._listen, args=(self._process, self._answers), daemon=True
        )
        self._listener.start()

    @staticmethod
    def _listen(process: "subprocess.Popen[str]", answers: "queue.Queue[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def read(self, path: Path, out: Path) -> dict[str, Any] | str:
        """The worker's answer, or ``hang`` or ``crash``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(path), str(out)]) + "\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=LIMIT_S)
        except queue.Empty:
            line = "hang"
        if line not in ("", "hang"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        self._start()
        return line or "crash"

    def close(self) -> None:
        with self._process:  # which closes its pipes
            self._process.kill()
            self._listener.join()


def judge(name: str, path: Path, out: Path, worker: Worker, ask: bool) -> Verdict:
    """Read one damaged file and, where FFmpeg knows files of its kind (`ask`), hold what came of it against FFmpeg."""
    answer = worker.read(path, out)
    if isinstance(answer, str):
        return Verdict(
            name, "hang" if answer == "hang" else "crash", "the process had to be stopped, or died"
        )
    if answer["traceback"]:
        return Verdict(name, "crash", answer["traceback"])
    if answer["leftovers"]:
        return Verdict(name, "leftover", str(answer["leftovers"]))
    told = answer["state"] == "failed" or answer["problems"] or answer["notes"]
    return (
        Verdict(name, "right") if told or not ask else _against_ffmpeg(name, path, answer["frames"])
    )


def _against_ffmpeg(name: str, path: Path, frames: int) -> Verdict:
    """Of a file that was read without a word: whether a word was due."""
    complaint, expected = reference(path)
    if expected is not None and frames < expected:
        return Verdict(name, "lost", f"{frames} frames, FFmpeg gives {expected}")
    if complaint:
        return Verdict(name, "silent", f"FFmpeg's decoder: {complaint[:150]}")
    return Verdict(name, "right")


def _not_for_ffmpeg(folder: Path) -> set[str]:
    """The suffixes whose whole files this FFmpeg complains of, such as moving WebP: of their damage it cannot be asked."""
    if not shutil.which("ffmpeg"):
        return set(seeds())
    unknown = set()
    for suffix, content in seeds().items():
        path = folder / f"whole.{suffix}"
        path.write_bytes(content)
        if reference(path)[0]:
            unknown.add(suffix)
        path.unlink()
    return unknown


def campaign(folder: Path, count: int, first_seed: int = 0) -> Iterator[Verdict]:
    """Damaged files, one after another."""
    unknown = _not_for_ffmpeg(folder)
    worker = Worker()
    try:
        for name, suffix, content in mutants(count, first_seed):
            path = folder / f"{name}.{suffix.rpartition('.')[2]}"
            path.write_bytes(content)
            verdict = judge(name, path, folder / "out" / name, worker, suffix not in unknown)
            yield verdict
            if verdict.kind == "right":
                path.unlink()
            shutil.rmtree(folder / "out" / name, ignore_errors=True)
    finally:
        worker.close()
