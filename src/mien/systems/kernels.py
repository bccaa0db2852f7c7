"""One kernel for the scores of one task."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from mien.bundles.plan import Kernel
from mien.tasks import Floats, Kind
from mien.temporal.rows import ema_rows, smooth_rows

__all__ = ["apply_kernel", "kernel_reach"]

# Probabilities are kept so far from 0 and 1, where their logits are infinite.
_EPSILON: Final = 1e-7
# What a running mean has left of a row's weight when the row is forgotten.
_FORGOTTEN: Final = 1e-12


def apply_kernel(
    kernel: Kernel, values: Floats, video: ArrayLike, frame: ArrayLike, kind: Kind
) -> Floats:
    """Smooth scores within their videos.

    Args:
        kernel: How.
        values: Scores (N, K) of a task.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,).
        kind: Of the task.

    Returns:
        Scores (N, K) in the same unit.

    Raises:
        DataError: There are NaN, or the arrays do not fit together.
    """
    if kernel.window is not None:
        unit = kernel.unit or "rows"
        return smooth_rows(
            values, video, frame, window=kernel.window, sigma=kernel.sigma, unit=unit
        )
    assert kernel.alpha is not None
    # Values such as valence have no logits.
    if kind == "scalar":
        return ema_rows(values, video, frame, kernel.alpha)
    inside = np.clip(values, _EPSILON, 1 - _EPSILON)
    if kind == "any_of":
        logits = ema_rows(np.log(inside / (1 - inside)), video, frame, kernel.alpha)
        return np.asarray(1 / (1 + np.exp(-logits)))
    # Shares of classes: logits up to a constant, which dividing by the sum removes.
    odds = np.exp(ema_rows(np.log(inside), video, frame, kernel.alpha))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def kernel_reach(kernel: Kernel) -> tuple[int, int]:
    """Say how many rows of a video a kernel needs around each row.

    Args:
        kernel: The kernel. A window in frames holds at most as many rows as frames.

    Returns:
        Rows before and rows after. A running mean needs all rows before; those that have less than
        a millionth of a millionth of the weight left are not counted.

    >>> kernel_reach(Kernel(window=10))
    (10, 10)
    >>> kernel_reach(Kernel(alpha=9))
    (263, 0)
    """
    if kernel.window is not None:
        return kernel.window, kernel.window
    assert kernel.alpha is not None
    if kernel.alpha == 0:
        return 0, 0
    keep = kernel.alpha / (1 + kernel.alpha)
    return int(np.ceil(np.log(_FORGOTTEN) / np.log(keep))), 0
