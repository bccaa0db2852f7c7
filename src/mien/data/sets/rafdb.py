"""RAF-DB's basic expressions (Li, Deng & Du 2017): 15,339 aligned faces of 100x100 px.

Each has the label of most annotators. `root`, or ``basic/`` in it, holds
``EmoLabel/list_patition_label.txt`` (spelt so; the right spelling is taken as well) with lines
``train_00001.jpg 5``, and ``Image/aligned/train_00001_aligned.jpg``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from typing_extensions import override

from mien.data.annotation_codes import one_hot
from mien.data.frame_lists import read_text
from mien.data.label_table import split_by, table_of
from mien.data.presence import attach_notes, without_missing
from mien.data.spec import BY_AGREEMENT, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Task

__all__ = ["RAF", "RafDb", "load_raf_db"]

RAF: Final = TASKS["expr.abaw7"]

# Codes from 1.
_CODES: Final = (
    "surprise",
    "fear",
    "disgust",
    "happiness",
    "sadness",
    "anger",
    "neutral",
)
_LABELS: Final = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")


def load_raf_db(root: Path, val_share: float | None = None, seed: int = 0) -> pd.DataFrame:
    """Load the label table of RAF-DB's basic expressions.

    Args:
        root: The folder that holds ``EmoLabel`` and ``Image``, or ``basic`` with both.
        val_share: Share of the training faces that becomes the split val, at random; None: there
            is no val. RAF-DB does not say who is in a picture, so one person may be in both.
        seed: The same seed gives the same val.

    Returns:
        One-hot expressions of the task `RAF`, in the splits train and test by the pictures' names.

    Raises:
        DataError: Files are absent or damaged.
    """
    path = _label_file(Path(root))
    table = _read(path)
    if val_share is not None:
        training = table[table["split"] == "train"].reset_index(drop=True)
        parts = split_by(training, None, {"train": 1 - val_share, "val": val_share}, seed)
        table = pd.concat([parts, table[table["split"] == "test"]], ignore_index=True)
    notes: list[str] = []
    images = path.parents[1] / "Image" / "aligned"
    return attach_notes(without_missing(table, images, "error", notes), notes)


def _label_file(root: Path) -> Path:
    for folder in (root, root / "basic"):
        for name in _LABELS:
            if (folder / name).is_file():
                return folder / name
    raise DataError(f"{root}: holds no {_LABELS[0]}; give the folder of RAF-DB's basic expressions")


def _read(path: Path) -> pd.DataFrame:
    """The label table of the list of labels, with the names of the pictures."""
    lines = pd.Series(read_text(path).split("\n")).str.strip()
    # Blank lines are dropped, but the index still counts them, so that errors name the right line.
    lines = lines[lines != ""]
    fields = lines.str.extract(r"^((train|test)_\d+)\.jpg\s+([1-7])$")
    damaged = fields[0].isna().to_numpy()
    if damaged.any():
        row = int(damaged.argmax())
        raise DataError(
            f"{path}: line {lines.index[row] + 1} is {lines.iloc[row][:60]!r}, "
            "not 'train_00001.jpg 5'; take the original file"
        )
    codes = fields[2].to_numpy(np.float32)
    shares = one_hot(codes, [1 + _CODES.index(name) for name in RAF.names])
    images = (fields[0] + "_aligned.jpg").reset_index(drop=True)
    return table_of(images, {"split": fields[1].to_numpy(object)}, {RAF: shares})


class RafDb(DataSet):
    """RAF-DB, basic expressions; has ``expr.abaw7``; splits train and test, and val by share. See
    `mien.data.sets.rafdb`."""

    info: ClassVar = DataSetInfo(
        name="RAF-DB",
        title=None,
        terms=BY_AGREEMENT,
        supervision={"expr": "majority of about 40 people's labels in RAF-DB"},
        tasks=("expr.abaw7",),
        source="RAF-DB's basic expressions from its authors, under a signed agreement",
        paper="Li, Deng & Du 2017, Reliable crowdsourcing and deep locality-preserving learning "
        "for expression recognition in the wild",
    )

    set: Literal["raf-db"]
    root: Place
    """Holds EmoLabel and Image."""
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training faces that becomes the split val; null: none."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """The same seed gives the same val."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_raf_db(self.root, self.val_share, self.seed), (RAF,)
