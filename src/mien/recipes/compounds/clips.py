"""Which videos a folder holds, as files or as extracted frames, and whether they have changed."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mien.errors import DataError, SourceError
from mien.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["Clip", "find_clips", "fingerprint", "numbered_folders", "numbered_pictures"]

Layout = Literal["video", "frames", "crops"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One video.

    Attributes:
        name: Of the video.
        path: A file or folder.
        kind: ``video``: a file; ``frames``: a folder of extracted frames ``<frame>.png``;
            ``crops``: a folder of cropped faces ``<frame>/<k>.png``.
    """

    name: str
    path: Path
    kind: Layout


def find_clips(videos: Path | Mapping[str, Path]) -> list[Clip]:
    """Find the videos of a folder.

    Args:
        videos: A folder of video files and folders of frames, or a path for each name.

    Returns:
        The videos, in order of their names in the folder, or of the mapping.

    Raises:
        DataError: There is no video at all, two share a name, or a name cannot be that of a file.
    """
    clips = []
    if isinstance(videos, Mapping):
        for name, path in videos.items():
            _check_name(name)
            clips.append(_clip(name, Path(path)))
    else:
        for path in _listed(Path(videos)):
            if path.is_dir():
                clips.append(_clip(path.name, path))
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                clips.append(_clip(path.stem, path))
    if not clips:
        raise DataError(
            f"{videos}: holds no video and no folder; give the folder above the videos or above "
            "their folders of frames"
        )
    _check_unique(clips)
    return clips


def _check_name(name: str) -> None:
    """Raises DataError for a name that no file can have."""
    if not name or name.startswith(".") or Path(name).name != name:
        raise DataError(
            f"{name!r} cannot name a video: its scores go into a file of that name; "
            "leave out slashes and leading dots"
        )


def _check_unique(clips: list[Clip]) -> None:
    """Raises DataError if two videos would share a file."""
    by_name: dict[str, Clip] = {}
    for clip in clips:
        # Some file systems do not tell upper case from lower case.
        other = by_name.setdefault(clip.name.casefold(), clip)
        if other is not clip:
            raise DataError(
                f"{other.path} and {clip.path}: two videos named {clip.name}; "
                "give them as a mapping of names to paths"
            )


def _clip(name: str, path: Path) -> Clip:
    # Opening it will tell whether a file is a video.
    if not path.is_dir():
        return Clip(name, path, "video")
    has_folders = any(item.is_dir() for item in _listed(path))
    return Clip(name, path, "crops" if has_folders else "frames")


def _listed(folder: Path) -> list[Path]:
    """The content of a folder by name, without what is hidden; raises DataError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror}; give a folder of videos or of folders of frames"
        ) from error


def numbered_pictures(folder: Path) -> dict[int, Path]:
    """Find the pictures whose names are numbers, such as ``00001.jpg``.

    Args:
        folder: Of pictures.

    Returns:
        Their paths by number, in order.

    Raises:
        DataError: A picture's name is no number, or two have the same number.
    """
    pictures = []
    for path in _listed(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(path)
    return _by_number(pictures)


def numbered_folders(folder: Path) -> dict[int, Path]:
    """Find the folders whose names are numbers.

    Args:
        folder: That they are in.

    Returns:
        Their paths by number, in order.

    Raises:
        DataError: A folder's name is no number, or two have the same number.
    """
    folders = [path for path in _listed(folder) if path.is_dir()]
    return _by_number(folders)


def _by_number(paths: list[Path]) -> dict[int, Path]:
    # By value, since programs pad numbers with zeros in different ways.
    numbers: dict[int, Path] = {}
    for path in paths:
        if not path.stem.isdecimal():
            raise DataError(
                f"{path}: its name is no number; name frames 00001.jpg, 00002.jpg and so on"
            )
        other = numbers.setdefault(int(path.stem), path)
        if other is not path:
            raise DataError(f"{other} and {path}: two of one number; remove one")
    return dict(sorted(numbers.items()))


def fingerprint(clip: Clip) -> list[str | int]:
    """Return facts that change if a video does.

    Args:
        clip: The video.

    Returns:
        Its kind, its size in bytes, and the time of its last change in ns; of a folder, the total
        size of its files, and a hash of their names, sizes and times.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        if clip.kind == "video":
            status = clip.path.stat()
            return [clip.kind, status.st_size, status.st_mtime_ns]
        size, digest = _folder_facts(clip.path)
        return [clip.kind, size, digest]
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}; check the path") from error


def _folder_facts(root: Path) -> tuple[int, str]:
    """Total size of all files below a folder, and a hash of their names, sizes and times."""
    lines = []
    size = 0
    for folder, folders, names in os.walk(root):
        # Sorted in place: it is also the order in which the walk continues.
        folders.sort()
        for name in sorted(names):
            status = os.stat(os.path.join(folder, name))
            path = f"{os.path.relpath(folder, root)}/{name}"
            lines.append(f"{path} {status.st_size} {status.st_mtime_ns}")
            size += status.st_size
    content = "\n".join(lines)
    return size, hashlib.sha256(content.encode()).hexdigest()
