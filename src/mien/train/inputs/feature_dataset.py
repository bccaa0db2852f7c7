"""Cached features of a label table as network input, in place of crops.

Heads learn from them without pictures or a backbone. HSEmotion's heads of the multi-task track
(ABAW4 and ABAW7) are trained so. All have ``optim.optimiser: adam`` and ``fit.batch: 512``; by task
they differ:

- Expressions: ``parts: both``, a linear head, 10 epochs, ``losses.expr.classes: max``.
- Valence and arousal: ``parts: raw``, a linear head with ``squash``, 20 epochs.
- Action units: ``parts: both``, a ``hidden`` head, 10 epochs, ``losses.au.positives: true``.

Their L2 of 1/512 adds sum(w^2) / 512 of the kernels, not of the biases, to the loss. Its gradient
is 2 w / 512, and ``adam`` (unlike ``adamw``) adds ``weight_decay`` times w to the gradient, of
matrices only. So the setting is ``optim.weight_decay: 0.00390625``, which is 2/512. They train each
head on its annotated rows alone. Here a row without a label counts 0: if a share s of the rows is
annotated, the loss is about s times theirs, and the same balance needs a decay of s * 2/512.
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
from mien.temporal.external import ExternalFeatures
from mien.train.inputs.feature_cache import FeatureCache
from mien.train.inputs.windows import windows
from mien.train.settings.features import FeatureSettings

__all__ = ["Batch", "FeatureDataset", "WindowDataset"]

Batch = tuple[Tensor, Tensor, list[bool]]
Key = int | tuple[int, int]


class FeatureDataset(Dataset[Batch]):
    """Features and targets of a label table, gathered a whole batch at once.

    A batch is (features (N, D) float32, target (N, sum of K) float32 with NaN = not annotated,
    N times whether the row is cached). A key is a row number, or (epoch, row) as for
    `AugmentedCropDataset`: nothing is changed at random here, so the epoch does not matter.

    Args:
        table: A label table.
        tasks: Tasks in output order.
        settings: Which cache, which of its columns, and which external features behind them.
        skip_unreadable: A row that is not cached is zeros with no label, and marked so; otherwise
            it raises.

    Raises:
        DataError: Nothing of the bundle is cached, or a picture is not; names the first.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tasks: Sequence[Task],
        settings: FeatureSettings,
        skip_unreadable: bool = False,
    ) -> None:
        cache = FeatureCache(settings.cache, settings.card(), root=settings.images)
        self.known: NDArray[np.bool_] = np.ones(len(table), bool)
        if skip_unreadable:
            self.known = cache.has(table)
        self.rows = np.zeros(len(table), np.int64)
        try:
            self.rows[self.known] = cache.rows(table[self.known])
        except DataError as error:
            raise DataError(
                f"{error}; points count as well: where this run finds them (fit.find_points), "
                "the cache must have been built with points found too"
            ) from error
        # Still on disk: only the rows of a batch are read.
        self.values = np.asarray(cache.features_and_raw)[:, settings.columns()]
        self.external = [
            ExternalFeatures(path).aligned(table["video"], table["frame"], settings.hold)
            for path in settings.external
        ]
        self.targets = np.concatenate([labels(table, task) for task in tasks], axis=1)
        self.targets[~self.known] = np.nan

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        rows = _row_numbers(keys)
        values = self.values[self.rows[rows]]
        known = self.known[rows]
        values[~known] = 0
        if self.external:
            values = np.hstack([values, *(features[rows] for features in self.external)])
        return torch.from_numpy(values), torch.from_numpy(self.targets[rows]), known.tolist()


class WindowDataset(Dataset[Batch]):
    """Windows of cached features, as `mien.train.inputs.windows.windows` cuts them.

    A batch is (features (B, T, D), target (B, T, sum of K), B times whether all frames of the
    window are cached); padding is NaN in features and target. Keys are those of `FeatureDataset`.

    Args:
        table: A label table.
        tasks: Tasks in output order.
        settings: Which cache, which of its columns, and which windows; `window` must be given.
        skip_unreadable: As for `FeatureDataset`.
        overlap: Windows overlap by half, as in training.

    Raises:
        DataError: As `FeatureDataset`, and as `windows`.
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
        rows = self.rows[_row_numbers(keys)]
        is_frame = rows >= 0
        # All frames of all windows in one go, then laid out.
        frame_values, frame_targets, _ = self.faces.__getitems__(rows[is_frame].tolist())
        values = _pad(frame_values, is_frame)
        targets = _pad(frame_targets, is_frame)
        # Padding stands for no picture, so it cannot be missing.
        known = self.faces.known[rows] | (rows < 0)
        complete = np.asarray(known.all(axis=1))
        return values, targets, complete.tolist()

    @property
    def padded(self) -> bool:
        """Whether every recording is shorter than a window."""
        # Padding is at the end, so the last frame tells.
        return bool((self.rows[:, -1] < 0).all())

    def missing_rows(self, numbers: Sequence[int]) -> list[int]:
        """List the rows of the table in some windows that are not cached.

        Args:
            numbers: Numbers of the windows.

        Returns:
            Row numbers, sorted, each once.
        """
        rows = np.unique(self.rows[list(numbers)])
        rows = rows[rows >= 0]
        missing: list[int] = rows[~self.faces.known[rows]].tolist()
        return missing

    def to_rows(self, values: Floats) -> Floats:
        """Turn values by window into values by row.

        Args:
            values: Values (W, T, K) of all windows.

        Returns:
            Values (N, K) of the table's rows; of a frame in two windows, the first counts.
        """
        is_frame = self.rows >= 0
        _, first = np.unique(self.rows[is_frame], return_index=True)
        return np.asarray(values[is_frame][first])


def _row_numbers(keys: Sequence[Key]) -> NDArray[np.int64]:
    """Row numbers (N,) of keys, of which those with an epoch have the row last."""
    columns = np.asarray(keys).reshape(len(keys), -1)
    return columns[:, -1]


def _pad(values: Tensor, is_frame: NDArray[np.bool_]) -> Tensor:
    """Values (frames, K) laid out in windows (B, T, K), NaN where there is no frame."""
    padded = torch.full((*is_frame.shape, values.shape[1]), torch.nan)
    padded[torch.from_numpy(is_frame)] = values
    return padded
