"""How sharp and how bright the picture of a face is, measured without a network."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.prepare import Pixels, prepare
from mien.records import Face

__all__ = ["MEASURED", "luma_of", "sharpness"]

Image = NDArray[np.uint8]
MEASURED: Final = Pixels(
    size=112,
    colour="grey",
    alignment="similarity5",
    template=((0.321, 0.379), (0.679, 0.379), (0.5, 0.611), (0.352, 0.768), (0.648, 0.768)),
    mean=(0.0,),
    std=(1.0,),
)
"""The crop in which faces are measured: 40 px between the eyes, with little around the face. One
for all bundles, so that the numbers of two tables can be compared."""
# What rounding to whole numbers adds to the variance: 1/12 per pixel, times the 20 that the squares
# of the Laplacian's weights add up to.
_ROUNDING: Final = 20 / 12
# The ratio at which the sharpness is .5; the median of 300 press photos is .21.
_MIDDLE: Final = 0.2


def luma_of(image: Image, face: Face, crop: Image | None = None) -> Image:
    """Cut out the part of a frame in which a face is measured.

    Args:
        image: RGB uint8 (H, W, 3).
        face: The face, in frame pixels.
        crop: The face as `MEASURED` cuts it, RGB uint8 (112, 112, 3), where that is done already.

    Returns:
        Luma, uint8 (112, 112), with 40 px between the eyes.
    """
    if crop is None:
        crop = prepare(image, face, MEASURED)
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def sharpness(luma: Image) -> float:
    """Sharpness of a face: the variance of the Laplacian (Pech-Pacheco et al. 2000), by contrast.

    Dividing by the variance of the luma itself leaves contrast out, and makes the number fall with
    every Gaussian blur: the ratio is a mean over frequencies, of which blur takes away the high
    ones. With r the root of the ratio, the sharpness is r / (r + 0.2). Noise counts as sharp.

    Args:
        luma: Of a face, as `luma_of` gives it, uint8 (112, 112).

    Returns:
        0 (nothing finer than blurred shadows, or a plain area) to 1; press photos have about .5.

    >>> stripes = np.tile(np.array([0, 0, 0, 0, 200, 200, 200, 200], np.uint8), (112, 14))
    >>> blurred = np.asarray(cv2.GaussianBlur(stripes, (0, 0), 2.0), np.uint8)
    >>> round(sharpness(stripes), 2), sharpness(blurred) < 0.8
    (0.87, True)
    """
    contrast = _variance(luma)
    if contrast == 0:
        return 0.0
    edges = _variance(np.asarray(cv2.Laplacian(luma, cv2.CV_16S), np.int16))
    ratio = float(np.sqrt(max(edges - _ROUNDING, 0.0) / contrast))
    return ratio / (ratio + _MIDDLE)


def _variance(values: Image | NDArray[np.int16]) -> float:
    _, deviation = cv2.meanStdDev(values)
    return float(deviation[0, 0]) ** 2
