"""A training run as a model that scores pictures; needs torch."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import TaskCard
from mien.bundles.engines import open_engine
from mien.bundles.store import Model
from mien.train.onnx.merge_heads import merge_heads
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.settings.training import pixels_of

__all__ = ["draft", "open_run"]

Floats32 = NDArray[np.float32]


class _TorchEngine:
    """A torch network behind the interface of `mien.bundles.engines.Engine`."""

    name = "torch"

    def __init__(self, net: nn.Module) -> None:
        self._net = net.eval()

    @torch.inference_mode()
    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        # Outputs behind the first ones, such as features, are computed anyway.
        outputs = self._net(torch.from_numpy(batch))
        return [output.numpy() for output in outputs[:first]]


def open_run(folder: str | Path, engine: str) -> Model:
    """Open the best network of a run so far.

    Args:
        folder: Run folder that mien train wrote.
        engine: Engine of networks on cached features; others run in torch.

    Returns:
        The model; heads on cached features are joined to the network that makes the features.

    Raises:
        DataError: The run has no network yet, or its parts do not fit together.
        BundleError: The bundle whose features the heads read cannot be used.
    """
    run = RunFolder(Path(folder))
    if run.settings.features is None:
        return Model(draft(run), _TorchEngine(network_of(run).exported()))
    # Merged before the card is drafted: `merge_heads` has the better message for a wrong bundle.
    network = merge_heads(run)
    return Model(draft(run), open_engine(network, engine))


def draft(run: RunFolder, features: int | None = None) -> AffectCard:
    """Make the part of a run's card that a `Model` reads.

    It lacks everything that must be measured, and is never written.

    Args:
        run: A run that has begun.
        features: Number of features that the network exposes; None where it exposes none.

    Returns:
        The card, not validated.

    Raises:
        DataError: The run has not begun.
        BundleError: The bundle whose features the heads read cannot be used.
        UnknownNameError: There is no bundle of that name.
    """
    settings = run.settings
    tasks = []
    for spec in run.tasks:
        tasks.append(TaskCard(**spec.model_dump(), supervised_by=""))
    # Constructed without validation, which would ask for the fields that must be measured.
    return AffectCard.model_construct(
        name=settings.name,
        pixels=pixels_of(settings),
        tasks=tuple(tasks),
        temperature={},
        features=features,
    )
