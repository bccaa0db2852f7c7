"""Faces of ExpW cut out of their pictures, with five points: more of the rare expressions.

    python -m mien.train.builtin.expw_faces --expw FOLDER --out expw.parquet

Each labelled box is searched with `mien-face`, in the box and what lies around it. Faces that are
not found are left out. A fifth of the pictures is kept aside, by the hash of their names, and never
written: nothing may be trained, chosen or looked at there before the end.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.store import load_detector
from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.sets.expw import EXPW, load_expw
from mien.data.sets.ferplus import EXPR, FERPLUS_TEMPLATE
from mien.faces.detect import Detector
from mien.files import AtomicFile
from mien.records import Face
from mien.tasks import Floats
from mien.train.builtin.quality_table import nearest_face

__all__ = ["is_kept_aside", "make_expw_table"]

Image = NDArray[np.uint8]

# By its version: a later one would change the table that mien-s and mien-xs have learned from.
_DETECTOR: Final = "mien-face@1"
_HUNDREDTHS_TRAIN: Final = 70
_KEPT_ASIDE_FROM: Final = 80
# Around the box, in fractions of its longer side, and the side that the part is scaled to, px.
_MARGIN: Final = 0.6
_SIDE: Final = 256
# Of a face's points, in fractions of the box's side: farther from its middle it is another face.
_SAME_FACE: Final = 0.35


def is_kept_aside(name: str) -> bool:
    """Whether a picture is one of the fifth that is kept aside.

    Args:
        name: Its name in ``label.lst``.

    Returns:
        True for about a fifth of all names, always the same.
    """
    return _hundredth(name) >= _KEPT_ASIDE_FROM


def _hundredth(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100


def make_expw_table(root: Path, images: str, out: Path) -> pd.DataFrame:
    """Cut the faces out and write their label table.

    Args:
        root: Folder with ``label.lst``.
        images: Folder of the pictures, within `root`.
        out: The Parquet file; `set: file` reads it.

    Returns:
        The table: `image` (JPEG), `points`, `subject` (the picture), `split` (train and val) and
        the expressions of ``expr.ferplus8``.
    """
    detector = load_detector(_DETECTOR)
    table = load_expw(root, images, missing="drop")
    shares = labels(table, EXPW)
    order = [EXPW.names.index(name) if name in EXPW.names else -1 for name in EXPR.names]
    rows: list[dict[str, Any]] = []
    for index, (path, name) in enumerate(zip(table["image"], table["subject"], strict=True)):
        if is_kept_aside(name):
            continue
        framed = np.asarray(table["points"].iloc[index], float).reshape(5, 2)
        cut = _cut_face(detector, read_picture(path), framed)
        if cut is None:
            continue
        image, face = cut
        split = "train" if _hundredth(name) < _HUNDREDTHS_TRAIN else "val"
        row = {
            "image": _jpeg(image),
            "points": face.points.ravel(),
            "subject": name,
            "split": split,
        }
        # ExpW has no contempt.
        expressions = [0.0 if place < 0 else float(shares[index, place]) for place in order]
        rows.append(row | dict(zip(EXPR.columns, expressions, strict=True)))
    made = pd.DataFrame(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(out) as temporary:
        made.to_parquet(temporary)
    return made


def _cut_face(detector: Detector, image: Image, framed: Floats) -> tuple[Image, Face] | None:
    """The part of a picture around a box, and the face in its middle."""
    template = np.asarray(FERPLUS_TEMPLATE)
    # The points frame the box as FER+ frames faces, so they say where it lies.
    side = float(np.ptp(framed[:, 1]) / np.ptp(template[:, 1]))
    corner = framed[0] + 0.5 - template[0] * side
    low = np.maximum(corner - _MARGIN * side, 0).astype(int)
    high = np.minimum(corner + (1 + _MARGIN) * side, image.shape[1::-1]).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    if not part.size:
        return None
    scale = _SIDE / max(part.shape[:2])
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=shrinks), np.uint8)
    middle = (corner + side / 2 - low) * scale
    face = nearest_face(detector.find(part), middle, _SAME_FACE * side * scale)
    return None if face is None else (part, face)


def _jpeg(image: Image) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def main() -> None:
    """Read the command line and make the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--expw", type=Path, required=True)
    parser.add_argument("--images", default="image/origin")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    table = make_expw_table(args.expw, args.images, args.out)
    print(table.groupby("split").size().to_dict(), table[list(EXPR.columns)].sum().to_dict())


if __name__ == "__main__":
    main()
