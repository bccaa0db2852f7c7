"""Photos with one prominent face (mostly Labeled Faces in the Wild), labelled by one person each.

They are split by subject. Columns read: `subject`, `split` (``train`` or ``val``), `image` (JPEG
bytes), `label`, `points`, `blendshapes`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import pandas as pd
from typing_extensions import override

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.label_table import read_table, table_of
from mien.data.sets.ferplus import DERIVED_ACTIVATIONS, DERIVED_VA, EXPR, va_of, with_activations
from mien.data.spec import DataSet, DataSetInfo, Place
from mien.tasks import TASKS, Task

__all__ = ["Portraits", "load_portraits"]

_SPELLINGS: Final = {"sad": "sadness"}


def load_portraits(folder: Path, split: str) -> pd.DataFrame:
    """Load the label table of one split of the portraits.

    Args:
        folder: The folder that holds ``portraits.parquet``.
        split: ``train`` or ``val``.

    Returns:
        One-hot expressions, and valence and arousal derived from them.

    Raises:
        DataError: The file is missing or is not that of the portraits.
    """
    columns = ["subject", "split", "image", "label", "points", "blendshapes"]
    source = read_table(folder / "portraits.parquet", columns)
    source = source[source["split"] == split].reset_index(drop=True)
    labels = source["label"].replace(_SPELLINGS)
    shares = np.stack([labels == name for name in EXPR.names], axis=1).astype(np.float64)
    # A label that is no expression says nothing, rather than "none of them".
    shares[shares.sum(axis=1) == 0] = np.nan
    about = {"subject": source["subject"], "points": source["points"]}
    table = table_of(source["image"], about, {EXPR: shares, TASKS["va"]: va_of(shares)}, split)
    return with_activations(table, source["blendshapes"])


class Portraits(DataSet):
    """The portraits; labels as FER+; splits train and val, by subject."""

    info: ClassVar = DataSetInfo(
        name="portraits",
        title=None,
        terms="news photos, mostly Labeled Faces in the Wild, from the public facial_expressions "
        "collection (repository Apache-2.0; research data)",
        supervision={
            "expr": "labels of the portraits, one person's opinion",
            "va": DERIVED_VA,
            "au.blendshapes": DERIVED_ACTIVATIONS,
        },
        tasks=("expr.ferplus8", "va", "au.blendshapes"),
        source="portraits.parquet, made from the public facial_expressions collection",
        paper=None,
    )

    set: Literal["portraits"]
    folder: Place
    """Holds portraits.parquet."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        parts = [load_portraits(self.folder, split) for split in ("train", "val")]
        table = pd.concat(parts, ignore_index=True)
        return table, (EXPR, TASKS["va"], AU_BLENDSHAPES)
