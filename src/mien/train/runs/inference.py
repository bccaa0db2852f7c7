"""A run's network, and what it answers over a label table."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mien.errors import DataError
from mien.tasks import Floats, Task
from mien.train.inputs.crops import CropDataset, Item, one_opencv_thread
from mien.train.inputs.feature_dataset import Batch, FeatureDataset, WindowDataset
from mien.train.networks.network import MultiTaskNet, build
from mien.train.runs.folder import RunFolder
from mien.train.settings.training import Settings

__all__ = [
    "Inputs",
    "collate",
    "input_shape",
    "inputs_of",
    "loaded",
    "network_of",
    "outlast_signals",
    "raw_scores",
]

_OUTLAST_S: Final = 60.0

Inputs = CropDataset | FeatureDataset | WindowDataset
"""What a network reads of the rows of a label table, with their targets."""


def inputs_of(
    table: pd.DataFrame, tasks: Sequence[Task], settings: Settings, *, overlap: bool = False
) -> Inputs:
    """Crops of a label table, or its cached features where `settings` name a cache, in windows where they say so.

    overlap: windows lie half over each other, as in training. Raises DataError as these do.
    """
    if settings.features is not None and settings.features.window is not None:
        return WindowDataset(table, tasks, settings.features, settings.fit.skip_unreadable, overlap)
    if settings.features is not None:
        return FeatureDataset(table, tasks, settings.features, settings.fit.skip_unreadable)
    return CropDataset(table, tasks, settings.pixels, settings.fit.skip_unreadable)


def input_shape(settings: Settings) -> tuple[int, int]:
    """Channels and side (px) of crops; of cached features their width, and 1."""
    return (
        (settings.features.width, 1)
        if settings.features is not None
        else (settings.pixels.channels, settings.pixels.size)
    )


def network_of(run: RunFolder, name: str = "best.pt") -> MultiTaskNet:
    """The trained network of a run; raises DataError when there is none yet."""
    saved = run.load(name)
    if saved is None:
        raise DataError(f"{run.folder}: no {name} in it yet; let mien train end an epoch first")
    settings = run.settings
    plain = settings.network.model_copy(update={"start": None})
    net = build(plain, [spec.task for spec in run.tasks], *input_shape(settings))
    net.load_state_dict(saved["net"])
    return net.eval()


@one_opencv_thread()
@torch.no_grad()
def raw_scores(
    net: MultiTaskNet,
    crops: Inputs,
    *,
    mirrored: bool = False,
    batch: int = 128,
    workers: int = 1,
    decoded: bool = True,
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Raw output (N, K) by task family over a label table; and which rows could be read (N,).

    decoded: what is binned comes as numbers; otherwise as it is, (N, K * count). batch: faces, or windows, that are read together.
    """
    whole = (net.exported() if decoded else net).eval()
    device = next(net.parameters()).device
    loader = DataLoader(
        crops, batch, num_workers=workers, collate_fn=collate, generator=torch.Generator(), worker_init_fn=outlast_signals
    )  # fmt: skip
    parts: list[list[Floats]] = [[] for _ in net.tasks]
    readable: list[bool] = []
    for images, _, fine in loaded(loader):
        readable += fine
        seen = images.flip(3) if mirrored else images
        for part, raw in zip(parts, whole(seen.to(device)), strict=True):
            part.append(raw.float().cpu().numpy())
    raws = {task.family: np.concatenate(part) for task, part in zip(net.tasks, parts, strict=True)}
    if isinstance(crops, WindowDataset):
        return {family: crops.to_rows(raw) for family, raw in raws.items()}, crops.faces.known
    return raws, np.array(readable)


def loaded(loader: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader; a DataError from one of its processes says what it said there, without that process's traceback."""
    try:
        yield from loader
    except DataError as error:
        raise DataError(str(error).rstrip().rpartition("DataError: ")[2]) from error


def outlast_signals(_number: int = 0) -> None:
    """Make a process that loads pictures leave it to the one it works for when to end.

    A terminal and job schedulers tell all processes of a group to end, but the last step still needs its pictures.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: object) -> None:
    """The first time the group may be meant, the second time it is this process; one that nobody ends does so itself."""
    if not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        os._exit(0)
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, _OUTLAST_S)


def collate(items: list[Item] | Batch) -> Batch:
    """Items of a data set as a batch: images, targets, readable or not; a batch that came whole stays as it is.

    Of items with two faces each, N of them, come 2 N images and targets, item by item, and N times readable or not.
    """
    if isinstance(items, tuple):
        return items
    faces, labels, readable = zip(*items, strict=True)
    images, targets = torch.stack(faces), torch.stack(labels)
    if images.ndim == 5:  # items of two faces
        images, targets = images.flatten(0, 1), targets.flatten(0, 1)
    return images.contiguous(memory_format=torch.channels_last), targets, list(readable)
