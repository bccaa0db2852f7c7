"""Photos with one prominent face (mostly Labeled Faces in the Wild), one person's label each, split by subject.

Columns read: `name`, `subject`, `split` (``train`` or ``val``), `image` (JPEG bytes), `label`, `points`, `blendshapes`.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.data.label_table import read_table, table_of
from mien.data.sets.ferplus import EXPR, va_of, with_activations
from mien.tasks import TASKS

__all__ = ["load_portraits"]

_SPELLINGS: Final = {"sad": "sadness"}


def load_portraits(folder: Path, split: str) -> pd.DataFrame:
    """The label table of one split of the portraits; the expression is one-hot, VA is derived from it.

    Raises DataError when the file is missing or is not the portraits'.
    """
    columns = ["subject", "split", "image", "label", "points", "blendshapes"]
    source = read_table(folder / "portraits.parquet", columns)
    source = source[source["split"] == split].reset_index(drop=True)
    labels = source["label"].replace(_SPELLINGS)
    shares = np.stack(
        [(labels == name).to_numpy(np.float64) for name in EXPR.names], axis=1
    ).astype(np.float64)
    shares[shares.sum(axis=1) == 0] = np.nan
    about = {"subject": source["subject"], "points": source["points"]}
    table = table_of(source["image"], about, {EXPR: shares, TASKS["va"]: va_of(shares)}, split)
    return with_activations(table, source["blendshapes"])
