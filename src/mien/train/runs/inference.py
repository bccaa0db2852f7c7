"""A run's network, and its outputs over a label table."""

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

# How long a loading process outlives a signal that was meant for its whole group.
_OUTLAST_S: Final = 60.0

Inputs = CropDataset | FeatureDataset | WindowDataset
"""What a network reads of the rows of a label table, with their targets."""


def inputs_of(
    table: pd.DataFrame, tasks: Sequence[Task], settings: Settings, *, overlap: bool = False
) -> Inputs:
    """Choose the inputs of a run: crops, cached features, or windows of cached features.

    Args:
        table: A label table.
        tasks: Tasks in output order.
        settings: Settings of the run.
        overlap: Windows overlap by half, as in training.

    Returns:
        The data set.

    Raises:
        DataError: Features are not cached, or rows cannot be put into windows.
    """
    skip_unreadable = settings.fit.skip_unreadable
    features = settings.features
    if features is None:
        return CropDataset(table, tasks, settings.filled_pixels, skip_unreadable)
    if features.window is None:
        return FeatureDataset(table, tasks, features, skip_unreadable)
    return WindowDataset(table, tasks, features, skip_unreadable, overlap)


def input_shape(settings: Settings) -> tuple[int, int]:
    """Say what shape a network's input has.

    Args:
        settings: Settings of the run.

    Returns:
        Channels and side (px) of crops; of cached features, their width and 1.
    """
    if settings.features is not None:
        return settings.features.width, 1
    return settings.filled_pixels.channels, settings.filled_pixels.size


def network_of(run: RunFolder, name: str = "best.pt") -> MultiTaskNet:
    """Load the trained network of a run.

    Args:
        run: The run.
        name: Checkpoint to take the weights from.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        DataError: There is no checkpoint of that name yet, or it is damaged.
    """
    saved = run.load(name)
    if saved is None:
        raise DataError(f"{run.folder}: no {name} in it yet; let mien train end an epoch first")
    settings = run.settings
    # All weights come from the checkpoint, so those to start from need not be there.
    network = settings.network.model_copy(update={"start": None})
    tasks = [spec.task for spec in run.tasks]
    net = build(network, tasks, *input_shape(settings))
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
    """Run a network over a label table.

    Args:
        net: The network; it is left in evaluation mode.
        crops: What it reads.
        mirrored: Show it mirror images.
        batch: Faces, or windows, per batch.
        workers: Processes that load pictures.
        decoded: Give binned tasks as numbers; otherwise as the network does, (N, K * count).

    Returns:
        Raw output (N, K) by task family, for numbered tasks the number of the likeliest class
        (N, 1), and which rows could be read (N,).

    Raises:
        DataError: A picture cannot be read and must not be skipped.
    """
    whole = (net.exported() if decoded else net).eval()
    device = next(net.parameters()).device
    loader = DataLoader(
        crops,
        batch,
        num_workers=workers,
        collate_fn=collate,
        # A separate generator: evaluation must not change the random numbers of training.
        generator=torch.Generator(),
        worker_init_fn=outlast_signals,
    )
    parts: dict[str, list[Floats]] = {task.family: [] for task in net.tasks}
    readable: list[bool] = []
    for images, _, is_readable in loaded(loader):
        readable += is_readable
        view = images.flip(3) if mirrored else images
        outputs = whole(view.to(device))
        for task, output in zip(net.tasks, outputs, strict=True):
            # Outputs for thousands of classes and all rows would not fit in memory.
            kept = output.argmax(dim=1, keepdim=True) if task.numbered else output
            parts[task.family].append(kept.float().cpu().numpy())
    raw: dict[str, Floats] = {}
    for family, part in parts.items():
        values = np.concatenate(part)
        raw[family] = crops.to_rows(values) if isinstance(crops, WindowDataset) else values
    # Whether a window is complete tells nothing about its single rows.
    if isinstance(crops, WindowDataset):
        return raw, crops.faces.known
    return raw, np.array(readable)


def loaded(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Pass on the batches of a loader, with readable errors.

    Args:
        loader: A data loader.

    Yields:
        Its batches.

    Raises:
        DataError: As in the loading process, without that process's traceback.
    """
    try:
        yield from loader
    except DataError as error:
        # torch puts the traceback of the process in front of the message.
        raise DataError(str(error).rstrip().rpartition("DataError: ")[2]) from error


def outlast_signals(_number: int = 0) -> None:
    """Let the main process decide when a loading process ends.

    Terminals and job schedulers signal all processes of a group, but the last step still needs
    its pictures.

    Args:
        _number: Number of the loading process, which torch passes; of no effect.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: object) -> None:
    """End at the second signal, or a while after the first.

    The first may be meant for the whole group, the second is for this process. A process that
    nobody ends does so itself.
    """
    # Windows has no timers.
    if not hasattr(signal, "setitimer"):
        os._exit(0)
    remaining, _ = signal.getitimer(signal.ITIMER_REAL)
    if remaining > 0:
        os._exit(0)
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, _OUTLAST_S)


def collate(items: list[Item] | Batch) -> Batch:
    """Make a batch of the items of a data set.

    Args:
        items: N items, or a batch that came whole and stays as it is. Items of two faces each
            (images (2, C, S, S)) are laid out item by item.

    Returns:
        Images (N, C, S, S), targets (N, sum of K), and N times whether the item was readable; of
        items of two faces, 2 N images and targets.
    """
    if isinstance(items, tuple):
        return items
    faces, labels, readable = zip(*items, strict=True)
    images = torch.stack(faces)
    targets = torch.stack(labels)
    # Items of two faces.
    if images.ndim == 5:
        images = images.flatten(0, 1)
        targets = targets.flatten(0, 1)
    # Convolutions are faster with the channels last.
    return images.contiguous(memory_format=torch.channels_last), targets, list(readable)
