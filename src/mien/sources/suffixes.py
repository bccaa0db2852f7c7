"""Which files of a folder are taken for pictures and videos, and what is never an input."""

from typing import Final

from av.format import ContainerFormat
from PIL import Image

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "SYSTEM_FOLDERS", "VIDEO_SUFFIXES"]

FORMATS: Final = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PCX",
    "PNG",
    "PPM",
    "PSD",
    "QOI",
    "SGI",
    "SUN",
    "TIFF",
    "WEBP",
)
"""Pillow's formats that hold photographs and have a signature; icons, textures, vector and
scientific files do not count."""

_IMAGES: Final = [
    ".apng",
    ".avif",
    ".avifs",
    ".bmp",
    ".dib",
    ".gif",
    ".heic",
    ".heics",
    ".heif",
    ".heifs",
    ".hif",
    ".j2k",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".jpx",
    ".mpo",
    ".pbm",
    ".pcx",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".psd",
    ".qoi",
    ".sgi",
    ".tif",
    ".tiff",
    ".webp",
]
_VIDEOS: Final = [
    ".264",
    ".265",
    ".3g2",
    ".3gp",
    ".3gp2",
    ".3gpp",
    ".amv",
    ".asf",
    ".avc",
    ".avi",
    ".divx",
    ".dv",
    ".dvr-ms",
    ".f4v",
    ".flv",
    ".gxf",
    ".h264",
    ".h265",
    ".hevc",
    ".insv",
    ".ivf",
    ".lrv",
    ".m1v",
    ".m2p",
    ".m2t",
    ".m2ts",
    ".m2v",
    ".m4v",
    ".mj2",
    ".mjpeg",
    ".mjpg",
    ".mk3d",
    ".mkv",
    ".mod",
    ".mov",
    ".mp2v",
    ".mp4",
    ".mp4v",
    ".mpe",
    ".mpeg",
    ".mpg",
    ".mpv",
    ".mqv",
    ".mts",
    ".mxf",
    ".nut",
    ".obu",
    ".ogm",
    ".ogv",
    ".qt",
    ".rm",
    ".rmvb",
    ".tod",
    ".trp",
    ".ts",
    ".vob",
    ".vro",
    ".webm",
    ".wmv",
    ".wtv",
    ".xvid",
    ".y4m",
]
# FFmpeg's formats that cameras, phones, recorders and editors write.
_RECORDERS: Final = [
    "asf",
    "avi",
    "dv",
    "flv",
    "gxf",
    "h264",
    "hevc",
    "ivf",
    "m4v",
    "matroska",
    "mjpeg",
    "mov",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "mxf",
    "nut",
    "obu",
    "rm",
    "vvc",
    "wtv",
    "yuv4mpegpipe",
]
# Suffixes of sound, subtitles or lists of other files that FFmpeg registers for those formats.
_NO_PICTURES: Final = frozenset({".ism", ".isma", ".m4a", ".m4b", ".mka", ".mks"})


def _suffixes_of_pillow() -> set[str]:
    Image.init()
    suffixes: set[str] = set()
    for suffix, name in Image.registered_extensions().items():
        if name in FORMATS:
            suffixes.add(suffix)
    return suffixes


def _suffixes_of_ffmpeg() -> set[str]:
    suffixes: set[str] = set()
    for name in _RECORDERS:
        try:
            extensions = ContainerFormat(name, "r").extensions
        except ValueError:
            # This FFmpeg was built without the format.
            continue
        for extension in extensions:
            suffixes.add(f".{extension}")
    return suffixes


IMAGE_SUFFIXES: Final = frozenset(_IMAGES) | _suffixes_of_pillow()
"""Suffixes of pictures, lower case: a fixed list and what this Pillow registers for `FORMATS`."""
_ALL_VIDEOS: Final = frozenset(_VIDEOS) | _suffixes_of_ffmpeg()
VIDEO_SUFFIXES: Final = _ALL_VIDEOS - _NO_PICTURES - IMAGE_SUFFIXES
"""Suffixes of videos, lower case: a fixed list and what this FFmpeg registers for recordings."""

SYSTEM_FOLDERS: Final = frozenset(
    {
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "__macosx",
        "found.000",
        "lost+found",
        "recycler",
        "system volume information",
    }
)
"""Folders that systems and network disks make for themselves (lower case): thumbnails, deleted
files, repairs."""
