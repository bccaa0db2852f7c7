"""Blurring that cannot be undone: what remains of a region are a few rounded mean colours."""

from typing import Final

import cv2
import numpy as np

from mien.outputs.canvas import Pixels

__all__ = ["blur"]

CELLS: Final = 6
"""Cells along the longer side of what is hidden, of which the face itself fills about three."""
STEP: Final = 16
"""Colours are rounded to multiples of this: means of cells over which a face moves would otherwise
add up to a sharper picture."""


def blur(region: Pixels, longer_side: float) -> None:
    """Replace a region by the mean colours of its cells, and smooth the edges between these.

    Args:
        region: RGB uint8 (H, W, 3), changed in place.
        longer_side: Longer side of what is hidden, pixels; more than that of a region of which a
            part lies outside of the picture. It has `CELLS` cells along it.
    """
    height, width = region.shape[:2]
    if not region.size:
        return
    side = longer_side / CELLS
    columns = max(round(width / side), 1)
    rows = max(round(height / side), 1)
    cells = cv2.resize(region, (columns, rows), interpolation=cv2.INTER_AREA)
    rounded = np.minimum(STEP * np.rint(cells / STEP), 255).astype(np.uint8)
    # Straight lines between the centres of the cells: it knows nothing but their colours.
    region[:] = cv2.resize(rounded, (width, height), interpolation=cv2.INTER_LINEAR)
