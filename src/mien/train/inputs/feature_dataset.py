"""Cached features of a label table as network input, in the place of crops: heads learn without pictures or a backbone.

HSEmotion's heads of the multi-task track (ABAW4 and ABAW7) are settings of this. All: ``optim.optimiser: adam``, ``fit.batch: 512``.
Expressions: ``parts: both``, a linear head, 10 epochs, ``losses.expr.classes: max``. Valence and arousal: ``parts: raw``, a linear head
with ``squash``, 20 epochs. Action units: ``parts: both``, a ``hidden`` head, 10 epochs, ``losses.au.positives: true``.

Their L2 of 1/512 adds sum(w^2) / 512 of the kernels, not of the biases, to the loss. Its gradient is 2 w / 512, and ``adam`` (unlike
``adamw``) adds ``weight_decay`` times w to the gradient, of matrices only: so it is ``optim.weight_decay: 0.00390625``, which is 2/512.
They train each head on its annotated rows alone. Here a row without a label counts 0, so where a share s of the rows is annotated the loss
is about s times theirs, and the same balance takes s * 2/512.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mien.data.label_table import labels
from mien.errors import DataError
from mien.tasks import Floats, Task
from mien.train.inputs.feature_cache import FeatureCache
from mien.train.inputs.windows import windows
from mien.train.settings.features import FeatureSettings

__all__ = ["Batch", "FeatureDataset", "WindowDataset"]

Batch = tuple[Tensor, Tensor, list[bool]]
Key = int | tuple[int, int]


class FeatureDataset(Dataset[Batch]):
    """Features and targets of a label table; asked for whole batches, which are gathered in one go.

    A batch is (features (N, D) float32, target (N, sum of K) float32 with NaN = not annotated, readable, N of them). A key is a row
    number, or (epoch, row) as for `AugmentedCropDataset`: nothing is changed at random here, so the epoch is of no matter.
    Raises DataError when nothing of the bundle is cached, and naming the first picture that is not; with `skip_unreadable` such a
    row is zeros with no label, and says so.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tasks: Sequence[Task],
        settings: FeatureSettings,
        skip_unreadable: bool = False,
    ) -> None:
        cache = FeatureCache(settings.cache, settings.card(), root=settings.images)
        self.known: NDArray[np.bool_] = (
            cache.has(table) if skip_unreadable else np.ones(len(table), bool)
        )
        self.rows = np.zeros(len(table), np.int64)
        try:
            self.rows[self.known] = cache.rows(table[self.known])
        except DataError as error:
            raise DataError(
                f"{error}; points count as well: found here (fit.find_points), they must have been found there"
            ) from error
        self.values = np.asarray(cache.features_and_raw)[:, settings.columns()]
        self.targets = np.concatenate([labels(table, task) for task in tasks], axis=1)
        self.targets[~self.known] = np.nan

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        rows = np.asarray(keys).reshape(len(keys), -1)[:, -1]
        values, known = self.values[self.rows[rows]], self.known[rows]
        values[~known] = 0
        return torch.from_numpy(values), torch.from_numpy(self.targets[rows]), known.tolist()


class WindowDataset(Dataset[Batch]):
    """Windows of cached features in the place of single faces; see `mien.train.inputs.windows.windows` for which.

    A batch is (features (B, T, D), target (B, T, sum of K), readable, B of them), where padding is NaN in both, and a window is readable
    when all its frames are. Keys and errors are those of `FeatureDataset`, and of `windows`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tasks: Sequence[Task],
        settings: FeatureSettings,
        skip_unreadable: bool = False,
        overlap: bool = False,
    ) -> None:
        assert settings.window is not None
        self.faces = FeatureDataset(table, tasks, settings, skip_unreadable)
        self.rows = windows(table, settings.window, overlap=overlap)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        rows = self.rows[np.asarray(keys).reshape(len(keys), -1)[:, -1]]
        there = torch.from_numpy(rows >= 0)
        *found, _ = self.faces.__getitems__(rows[rows >= 0].tolist())
        values, targets = (torch.full((*rows.shape, one.shape[1]), torch.nan) for one in found)
        values[there], targets[there] = found
        return values, targets, (self.faces.known[rows] | (rows < 0)).all(axis=1).tolist()

    @property
    def padded(self) -> bool:
        """Whether every recording is shorter than a window."""
        return bool((self.rows[:, -1] < 0).all())

    def missing_rows(self, numbers: Sequence[int]) -> list[int]:
        """Those rows of the table in these windows that are not cached."""
        rows = np.unique(self.rows[list(numbers)])
        rows = rows[rows >= 0]
        return [int(row) for row in rows[~self.faces.known[rows]]]

    def to_rows(self, values: Floats) -> Floats:
        """Values (W, T, K) of all windows as those of the table's rows (N, K); of a frame in two windows, the first counts."""
        inside = self.rows >= 0
        return np.asarray(values[inside][np.unique(self.rows[inside], return_index=True)[1]])
