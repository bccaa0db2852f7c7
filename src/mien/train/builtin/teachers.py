"""Networks that others learn from, with the outputs of their students."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.engines import import_onnxruntime
from mien.faces.detect import STRIDES

__all__ = ["Teacher"]

# YuNet's outputs, one per stride: class and object score, box, points.
_PARTS: Final = ("cls", "obj", "bbox", "kps")


class Teacher:
    """YuNet as an ONNX file, with the raw predictions of `mien-face`.

    Args:
        path: The file, free in the size of the picture.
    """

    def __init__(self, path: Path) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        # The student needs the other cores.
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, luma: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict faces.

        Args:
            luma: Grey pictures (N, H, W).

        Returns:
            Raw predictions (N, M, 15) of `mien.faces.detect`, the score 0..1.
        """
        names = [f"{part}_{stride}" for part in _PARTS for stride in STRIDES]
        # YuNet reads colour: three equal channels are grey.
        blob = np.repeat(luma[:, None], 3, axis=1).astype(np.float32)
        outputs = dict(zip(names, self._session.run(names, {"input": blob}), strict=True))
        rows = []
        for stride in STRIDES:
            # YuNet's own score is the geometric mean of the two.
            product = outputs[f"cls_{stride}"] * outputs[f"obj_{stride}"]
            score = np.sqrt(np.clip(product, 0, 1))
            parts = [score, outputs[f"bbox_{stride}"], outputs[f"kps_{stride}"]]
            rows.append(np.concatenate(parts, axis=2))
        return np.concatenate(rows, axis=1)
