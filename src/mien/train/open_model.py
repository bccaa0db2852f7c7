"""Trained runs and bundles as one thing that scores pictures, and the label tables they are asked about."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from mien.bundles.card import AffectCard, TaskCard
from mien.bundles.engines import open_engine
from mien.bundles.store import Model, load
from mien.data.registry import Cut, File, Set, load_set
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.tasks import Task
from mien.train.onnx.merge_heads import join
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.runs.tables import find_points
from mien.train.settings.training import Settings

__all__ = ["ENGINE", "draft", "is_run", "open_model", "pixels_of", "table_for"]

ENGINE: Final = "onnxruntime"
"""What measures and caches: it comes with mien, so that numbers compare whatever else is installed."""

Floats32 = NDArray[np.float32]


class _Torch:
    """A network in torch as an engine."""

    name = "torch"

    def __init__(self, net: nn.Module) -> None:
        self._net = net.eval()

    @torch.inference_mode()
    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        return [out.numpy() for out in self._net(torch.from_numpy(batch))[:first]]


def is_run(folder: str | Path) -> bool:
    """Whether a folder is one that mien train wrote."""
    return (Path(folder) / "settings.yaml").is_file()


def open_model(name: str | Path) -> Model:
    """A bundle by name or folder, or the best network of a run so far; raises as `mien.load`, `network_of` and `join` do."""
    if not is_run(name):
        return load(name, ENGINE)
    run = RunFolder(Path(name))
    if run.settings.features is not None:
        network = join(run)  # first, for it says what is wrong with the bundle below
        return Model(draft(run), open_engine(network, ENGINE))
    return Model(draft(run), _Torch(network_of(run).exported()))


def pixels_of(settings: Settings) -> Pixels:
    """What a network of these settings sees; heads on cached features, through the bundle that made them. Raises as `mien.load`."""
    return settings.pixels if settings.features is None else settings.features.card().pixels


def draft(run: RunFolder, features: int | None = None) -> AffectCard:
    """The part of a run's card that a `Model` reads: it lacks all that must be measured, and is never written."""
    settings = run.settings
    tasks = tuple(TaskCard(**spec.model_dump(), supervised_by="") for spec in run.tasks)
    return AffectCard.model_construct(
        name=settings.name,
        pixels=pixels_of(settings),
        tasks=tasks,
        temperature={},
        features=features,
    )


def table_for(
    settings: Settings,
    tasks: Sequence[Task],
    pixels: Pixels,
    split: str | None = None,
    *,
    by: str | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """The label table of the data of `settings`: one split of it, or all; with points found as `fit.find_points` says.

    pixels: of the network that will read it. by: a further column of label files to bring along.
    Raises DataError as `load_set` does, and for a split without a face.
    """
    parts = [load_set(spec, tasks) for spec in settings.data]
    if by is not None and by not in parts[0]:
        parts = [
            part.assign(**{by: _column(spec, tasks, by)})
            for part, spec in zip(parts, settings.data, strict=True)
        ]
    table = pd.concat(parts, ignore_index=True)
    if split is not None:
        found = ", ".join(sorted(set(table["split"].dropna())))
        table = table[table["split"] == split].reset_index(drop=True)
        if table.empty:
            raise DataError(f"{settings.name}: no face is in split {split}; the data has {found}")
    if settings.fit.find_points and pixels.template is not None and table["points"].isna().any():
        with TemporaryDirectory() as folder:
            table, _ = find_points(
                table, Path(folder) / "points.parquet", note, settings.fit.skip_unreadable
            )
    return table


def _column(spec: Set, tasks: Sequence[Task], name: str) -> NDArray[np.object_] | None:
    """A column of a label file that mien has no word for; nothing where the set is no label file."""
    if not isinstance(spec, File):
        return None
    # Text columns come through as they are, so the file is read once more with this one in the place of a text column.
    place = "video" if isinstance(spec.split, Cut) and spec.split.by == "subject" else "subject"
    return load_set(spec.model_copy(update={"columns": {**spec.columns, place: name}}), tasks)[
        place
    ].to_numpy(object)
