"""Teachers: networks that others learn from, answering in the student's form."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.bundles.engines import import_onnxruntime
from mien.faces.detect import STRIDES

__all__ = ["Teacher"]


class Teacher:
    """YuNet's ONNX export, answering on the student's grid."""

    def __init__(self, path: Path) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, luma: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Luma (N, H, W) to grids (N, M, 15), score in 0..1."""
        names = [f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in STRIDES]
        blob = np.repeat(luma[:, None], 3, axis=1).astype(np.float32)
        out = dict(zip(names, self._session.run(names, {"input": blob}), strict=True))
        score = [np.sqrt(np.clip(out[f"cls_{s}"] * out[f"obj_{s}"], 0, 1)) for s in STRIDES]
        rows = [
            np.concatenate([score[i], out[f"bbox_{s}"], out[f"kps_{s}"]], axis=2)
            for i, s in enumerate(STRIDES)
        ]
        return np.concatenate(rows, axis=1)
