"""From what a decoder gives to RGB in square pixels: the matrix and range the stream names, the shape of its pixels."""

from fractions import Fraction
from typing import Final, cast

import av
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from mien.sources.base import Pixels

__all__ = ["SQUARE", "ToRgb", "display_size", "sane_aspect"]

SQUARE: Final = Fraction(1)
_MOST_STRETCHED: Final = 10
_UNSPECIFIED: Final = 2
_KNOWN: Final = frozenset(
    {0, 1, 2, 4, 5, 6, 7, 9}
)  # the matrices that swscale has coefficients for
_MATRICES: Final = {
    3: "reserved", 8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE 2085", 12: "derived from the primaries",
    13: "derived from the primaries with constant luminance", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-R", 17: "YCgCo-R",
}  # fmt: skip


def sane_aspect(shape: Fraction | None) -> Fraction | None:
    """Width over height of one pixel; 1 where the file says nothing, None where what it says makes no sense."""
    if shape is None:
        return SQUARE
    return shape if Fraction(1, _MOST_STRETCHED) <= shape <= _MOST_STRETCHED else None


def display_size(width: int, height: int, shape: Fraction) -> tuple[int, int]:
    """Size in square pixels: like players, stretch the direction that has too few pixels and shrink none.

    >>> display_size(720, 576, Fraction(64, 45)), display_size(720, 480, Fraction(8, 9))
    ((1024, 576), (720, 540))
    """
    return (round(width * shape), height) if shape >= 1 else (width, round(height / shape))


class ToRgb:
    """Converts pictures. note: what was peculiar about the colours, one line, or None."""

    def __init__(self) -> None:
        self.note: str | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, picture: VideoFrame, shape: Fraction) -> Pixels | None:
        """RGB uint8 (H, W, 3) in square pixels, as stored (not turned); None where it cannot be converted.

        A stream that names no matrix is taken as players take it: BT.709 from 1280 columns or 577 rows up, else BT.601.
        """
        matrix = None
        if not picture.format.is_rgb:
            if picture.colorspace not in _KNOWN:
                name = _MATRICES.get(picture.colorspace, f"number {picture.colorspace}")
                self.note = (
                    f"the colour matrix is {name}, which is rare; colours were read as BT.709"
                )
                picture.colorspace = matrix = Colorspace.ITU709
            elif picture.colorspace == _UNSPECIFIED and (
                picture.width >= 1280 or picture.height > 576
            ):
                matrix = Colorspace.ITU709
        width, height = (
            (None, None) if shape == 1 else display_size(picture.width, picture.height, shape)
        )
        how = None if shape == 1 else Interpolation.BICUBIC
        try:
            rgb = self._reformatter.reformat(
                picture, width, height, "rgb24", matrix, interpolation=how, threads=1
            )
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            return None
        return cast(Pixels, rgb.to_ndarray())
