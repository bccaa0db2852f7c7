"""The film of a recording for a browser: the file itself, or a small copy that browsers play."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Final

import av
import cv2
import numpy as np

from mien.app.errors import BusyError, NotFoundError
from mien.app.recordings.catalog import Stamp, stamp_of
from mien.app.recordings.models import ProxyState
from mien.app.recordings.opened import Opened
from mien.errors import MienError, SourceError
from mien.files import Transaction
from mien.outputs.video_writer import VideoWriter
from mien.sources import open_source
from mien.sources.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["MEDIA_TYPES", "Proxies", "film_file", "film_offset", "is_playable", "photo_jpeg"]

MEDIA_TYPES: Final = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
}
"""Types of the films that browsers play, by suffix."""
# Codecs of pictures that Chromium, Firefox and Safari play in these containers.
_VIDEO: Final = {"h264", "vp8", "vp9", "av1"}
_AUDIO: Final = {"aac", "mp3", "opus", "vorbis", "flac"}
_PIXELS: Final = {"yuv420p", "yuvj420p"}
# Height of a proxy at most, in pixels.
_TALLEST: Final = 540
_QUALITY: Final = 90


def film_file(opened: Opened) -> Path:
    """The film of a recording.

    Args:
        opened: The recording.

    Returns:
        Its path.

    Raises:
        NotFoundError: It is gone, or no film: a dictionary may name any file.
    """
    film = opened.film
    if film is None:
        raise NotFoundError(
            f"{opened.path.stem}: its film is not where it was read; bring it back there"
        )
    if film.suffix.lower() not in VIDEO_SUFFIXES:
        raise NotFoundError(f"{opened.path.stem}: {film.name} is no film")
    return film


def is_playable(opened: Opened) -> bool:
    """Whether browsers play the film of a recording as mien read it.

    Args:
        opened: The recording.

    Returns:
        False also where mien turned the film, as a browser would not.
    """
    film = opened.film
    if film is None or film.suffix.lower() not in MEDIA_TYPES:
        return False
    media = opened.recording.dictionary.get("media")
    facts = media[0] if isinstance(media, list) and media and isinstance(media[0], dict) else {}
    # As decided for the film when it was read, on top of what the file itself says.
    if facts.get("turned"):
        return False
    return _codecs_play(stamp_of(film))


@lru_cache(maxsize=256)
def _codecs_play(film: Stamp) -> bool:
    try:
        with av.open(str(film.path), metadata_errors="replace") as container:
            video = container.streams.best("video")
            sound = container.streams.best("audio")
            context = getattr(video, "codec_context", None)
            if context is None or context.codec.canonical_name not in _VIDEO:
                return False
            heard = getattr(sound, "codec_context", None)
            if heard is not None and heard.codec.canonical_name not in _AUDIO:
                return False
            return getattr(context, "pix_fmt", None) in _PIXELS
    except (av.FFmpegError, OSError):
        return False


def film_offset(opened: Opened) -> float:
    """What to add to times from the first frame for the clock of the film in a browser.

    Args:
        opened: The recording.

    Returns:
        Seconds; 0 for proxies, and where the film's own clock starts at 0 or before.
    """
    if not opened.is_film or not is_playable(opened):
        return 0.0
    return round(max(opened.start_s, 0.0), 6)


def photo_jpeg(opened: Opened, index: int) -> bytes:
    """A photo of a recording, upright, in a format that browsers show.

    Args:
        opened: The recording.
        index: Number of the photo among the inputs that have rows.

    Returns:
        A JPEG file.

    Raises:
        NotFoundError: There is no such photo, or it is gone.
        SourceError: It cannot be read.
    """
    sources = opened.recording.sources
    if not 0 <= index < len(sources):
        raise NotFoundError(f"there is no photo {index}; there are {len(sources)}")
    path = _photo_path(opened, sources[index])
    if path is None:
        raise NotFoundError(f"{sources[index]}: is not where it was read; bring it back there")
    source = open_source(path)
    turned = _turned(opened, index)
    if turned:
        source.turn(turned)
    pixels = next(source.frames()).pixels
    if pixels is None:
        raise NotFoundError(f"{path.name}: cannot be decoded any more")
    from simplejpeg import encode_jpeg

    return bytes(encode_jpeg(np.ascontiguousarray(pixels), quality=_QUALITY, colorspace="RGB"))


def _photo_path(opened: Opened, name: str) -> Path | None:
    for entry in opened.recording.dictionary.get("sources") or ():
        if isinstance(entry, dict) and entry.get("name") == name and entry.get("path"):
            path = Path(str(entry["path"]))
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                return path
    return None


def _turned(opened: Opened, index: int) -> int:
    media = opened.recording.dictionary.get("media")
    facts = media[index] if isinstance(media, list) and index < len(media) else {}
    degrees = facts.get("turned") if isinstance(facts, dict) else 0
    return degrees if degrees in (90, 180, 270) else 0


@dataclass
class _Making:
    """A proxy that is being made."""

    film: Stamp
    path: Path
    share: float = 0.0
    result: "Future[None] | None" = None
    is_stopped: bool = False


class Proxies:
    """Small copies of films that browsers do not play, in a folder that goes with the program."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._folder: TemporaryDirectory[str] | None = None
        self._made: dict[Stamp, _Making] = {}
        # One at a time: each takes all cores.
        self._pool = ThreadPoolExecutor(1, "mien-proxy")

    def begin(self, opened: Opened) -> "_Making":
        """Make the proxy of a film, if it is neither there nor being made.

        Args:
            opened: The recording.

        Returns:
            How it is getting on.

        Raises:
            NotFoundError: The film is gone.
        """
        film = stamp_of(film_file(opened))
        with self._lock:
            if self._folder is None:
                # Its finaliser removes it when the program ends.
                self._folder = TemporaryDirectory(prefix="mien-proxies-")
            making = self._made.get(film)
            if making is None:
                making = _Making(film, Path(self._folder.name) / f"{os.urandom(8).hex()}.mp4")
                making.result = self._pool.submit(_make, opened, film.path, making)
                self._made[film] = making
        return making

    def state(self, opened: Opened) -> ProxyState:
        """Say how the proxy of a film is getting on, and begin it if it is not there.

        Args:
            opened: The recording.

        Returns:
            The state.

        Raises:
            NotFoundError: The film is gone.
        """
        making = self.begin(opened)
        assert making.result is not None
        if not making.result.done():
            return ProxyState(state="making", share=round(making.share, 3))
        error = making.result.exception()
        if error is not None:
            self._forget(making)
            return ProxyState(state="failed", share=0, problem=str(error))
        return ProxyState(state="ready", share=1)

    def wait(self, opened: Opened, seconds: float) -> Path:
        """Wait for the proxy of a film.

        Args:
            opened: The recording.
            seconds: How long at most.

        Returns:
            The proxy's file.

        Raises:
            NotFoundError: The film is gone.
            BusyError: It takes longer.
            SourceError: The film cannot be read any more.
            OutputError: There is no room for the proxy.
        """
        making = self.begin(opened)
        assert making.result is not None
        try:
            making.result.result(seconds)
        except TimeoutError as error:
            raise BusyError(
                f"{opened.path.stem}: a copy that browsers play is being made, "
                f"{100 * making.share:.0f} % so far; ask again"
            ) from error
        except MienError:
            self._forget(making)
            raise
        return making.path

    def _forget(self, making: "_Making") -> None:
        """After a failure was told, whoever asks again has it tried again."""
        with self._lock:
            if self._made.get(making.film) is making:
                del self._made[making.film]

    def close(self) -> None:
        """Stop what is being made, and remove all proxies."""
        with self._lock:
            for making in self._made.values():
                making.is_stopped = True
        self._pool.shutdown(cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._made.clear()


def _make(opened: Opened, film: Path, making: _Making) -> None:
    """Write a proxy; its frames have the times of the table."""
    source = open_source(film)
    turned = _turned(opened, 0)
    if turned:
        source.turn(turned)
    writer: VideoWriter | None = None
    length_s = source.length_s or float(opened.frame_times[-1]) or 1.0
    rate = max(min(1 / opened.step_s if opened.step_s else 25.0, 120.0), 1.0)
    with Transaction() as files:
        try:
            for frame in source.frames():
                if making.is_stopped:
                    raise MienError("the app ends")
                if frame.pixels is None:
                    continue
                picture = _small(frame.pixels)
                if writer is None:
                    size = (picture.shape[1], picture.shape[0])
                    writer = VideoWriter(
                        making.path, source.sound, size, rate, files, start_s=frame.time_s
                    )
                    writer.begin()
                writer.add(picture, frame.time_s)
                making.share = min(max((frame.time_s - opened.start_s) / length_s, 0.0), 0.99)
            if writer is None:
                raise SourceError(f"{film}: no frame can be decoded any more; bring a whole copy")
            writer.finish()
            files.commit()
        finally:
            if writer is not None:
                writer.drop()
    making.share = 1.0


def _small(pixels: Any) -> Any:
    height, width = pixels.shape[:2]
    if height <= _TALLEST:
        return pixels
    scale = _TALLEST / height
    size = (2 * max(round(width * scale / 2), 1), _TALLEST)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
