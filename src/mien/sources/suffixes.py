"""Which files of a folder are taken for pictures and videos, and what is never an input."""

from typing import Final

from av.format import ContainerFormat
from PIL import Image

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "SYSTEM_FOLDERS", "VIDEO_SUFFIXES"]

FORMATS: Final = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's formats that hold photographs and have a signature; icons, textures, vector and scientific files do not count."""

_IMAGES: Final = (
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heics", ".heif", ".heifs", ".hif", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi",
    ".sgi", ".tif", ".tiff", ".webp",
)  # fmt: skip
_VIDEOS: Final = (
    ".264", ".265", ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".asf", ".avc", ".avi", ".divx", ".dv", ".dvr-ms", ".f4v",
    ".flv", ".gxf", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v",
    ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp2v", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg",
    ".mpv", ".mqv", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".ts",
    ".vob", ".vro", ".webm", ".wmv", ".wtv", ".xvid", ".y4m",
)  # fmt: skip
_RECORDERS: Final = (
    "asf", "avi", "dv", "flv", "gxf", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mpeg", "mpegts", "mpegvideo",
    "mxf", "nut", "obu", "rm", "vvc", "wtv", "yuv4mpegpipe",
)  # fmt: skip
"""FFmpeg's formats that cameras, phones, recorders and editors write."""
_SOUND: Final = frozenset(
    {".ism", ".isma", ".m4a", ".m4b", ".mka", ".mks"}
)  # or subtitles, or a list of other files


def _of_pillow() -> set[str]:
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


def _of_ffmpeg() -> set[str]:
    suffixes: set[str] = set()
    for name in _RECORDERS:
        try:
            suffixes.update(f".{suffix}" for suffix in ContainerFormat(name, "r").extensions)
        except ValueError:  # an FFmpeg built without it
            continue
    return suffixes


IMAGE_SUFFIXES: Final = frozenset(_IMAGES) | _of_pillow()
"""Suffixes of pictures, lower case: a fixed list and what this Pillow registers for `FORMATS`."""
VIDEO_SUFFIXES: Final = (frozenset(_VIDEOS) | _of_ffmpeg()) - _SOUND - IMAGE_SUFFIXES
"""Suffixes of videos, lower case: a fixed list and what this FFmpeg registers for formats of recordings."""

SYSTEM_FOLDERS: Final = frozenset(
    {"$recycle.bin", "#recycle", "#snapshot", "@eadir", "@recycle", "@recently-snapshot", "__macosx", "found.000", "lost+found",
     "recycler", "system volume information"}
)  # fmt: skip
"""Folders that systems and network disks make for themselves (lower case): thumbnails, deleted files, repairs."""
