"""From decoded frames to RGB in square pixels, by the stream's own matrix, range and aspect."""

from fractions import Fraction
from typing import Final, cast

import av
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from mien.sources.base import Pixels

__all__ = ["SQUARE", "ToRgb", "display_size", "sane_aspect"]

SQUARE: Final = Fraction(1)
# Pixels more stretched than this are taken for an error in the file.
_MAX_ASPECT: Final = 10

# Numbers of colour matrices as in ITU-T H.273.
_UNSPECIFIED: Final = 2
# The matrices that swscale has coefficients for.
_KNOWN: Final = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_MATRICES: Final = {
    3: "reserved",
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE 2085",
    12: "derived from the primaries",
    13: "derived from the primaries with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-R",
    17: "YCgCo-R",
}


def sane_aspect(aspect: Fraction | None) -> Fraction | None:
    """Check the pixel aspect that a file states.

    Args:
        aspect: Width over height of one pixel; None if the file states none.

    Returns:
        The aspect; 1 if the file states none, None if what it states makes no sense.
    """
    if aspect is None:
        return SQUARE
    is_sane = Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT
    return aspect if is_sane else None


def display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Size in square pixels: like players, stretch the side that has too few pixels, shrink none.

    Args:
        width: Stored width, px.
        height: Stored height, px.
        aspect: Width over height of one pixel.

    Returns:
        Width and height, px.

    >>> display_size(720, 576, Fraction(64, 45)), display_size(720, 480, Fraction(8, 9))
    ((1024, 576), (720, 540))
    """
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)


class ToRgb:
    """Converts decoded frames.

    Attributes:
        note: What was peculiar about the colours, one line, or None.
    """

    def __init__(self) -> None:
        self.note: str | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, aspect: Fraction) -> Pixels | None:
        """Convert a frame.

        Args:
            frame: A decoded frame.
            aspect: Width over height of one of its pixels.

        Returns:
            RGB uint8 (H, W, 3) in square pixels, as stored (not turned); None if it cannot be
            converted.
        """
        matrix = self._matrix(frame)
        width = height = method = None
        if aspect != 1:
            width, height = display_size(frame.width, frame.height, aspect)
            method = Interpolation.BICUBIC
        try:
            rgb = self._reformatter.reformat(
                frame, width, height, "rgb24", matrix, interpolation=method, threads=1
            )
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            return None
        return cast(Pixels, rgb.to_ndarray())

    def _matrix(self, frame: VideoFrame) -> Colorspace | None:
        """The colour matrix to convert by; None if it is the frame's own, or FFmpeg's default."""
        if frame.format.is_rgb:
            return None
        if frame.colorspace not in _KNOWN:
            name = _MATRICES.get(frame.colorspace, f"number {frame.colorspace}")
            self.note = f"the colour matrix is {name}, which is rare; colours were read as BT.709"
            frame.colorspace = Colorspace.ITU709
            return Colorspace.ITU709
        # A stream that names none is taken as players take it: BT.709 if it is HD, else BT.601.
        is_hd = frame.width >= 1280 or frame.height > 576
        if frame.colorspace == _UNSPECIFIED and is_hd:
            return Colorspace.ITU709
        return None
