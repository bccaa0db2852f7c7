"""Networks as bundles that only give features, for heads to be trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import NOT_FOR, Made, Terms
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.files import wrap_os_errors
from mien.train.bundle.pack import code_version, sha256_of, write_bundle_files
from mien.train.bundle.provenance import data_terms, starting_terms
from mien.train.networks.backbones import backbone
from mien.train.networks.heads import StackedHead
from mien.train.networks.network import MultiTaskNet
from mien.train.networks.starting_weights import load_start
from mien.train.onnx.export import export
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.settings.network import NetworkSettings

__all__ = ["freeze_bundle", "freeze_run"]

# Largest difference of features between engines, in float32.
_TOLERANCE: Final = 0.001
_NOT_STATED: Final = Terms(data="not stated", used_for="training", terms="not stated")


class _FeaturesOnly(nn.Module):
    """A network whose one output is its features."""

    def __init__(self, features: Callable[[Tensor], Tensor], net: nn.Module) -> None:
        """Wrap a network.

        Args:
            features: Features (N, D) of images (N, C, S, S).
            net: The network that computes them, so that its weights are exported.
        """
        super().__init__()
        self.net = net
        self.features = features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features (N, D) of images (N, C, S, S), as a tuple of one output."""
        return (self.features(images),)


def freeze_bundle(network: NetworkSettings, pixels: Pixels, folder: Path, name: str) -> Path:
    """Write a backbone with its starting weights as a bundle without tasks.

    Args:
        network: Settings of the network; its heads do not matter.
        pixels: Crops that it reads.
        folder: Folder of the bundle; it is created.
        name: Name of the bundle.

    Returns:
        The folder.

    Raises:
        DataError: The network starts from random weights, learns a deviation, or its starting
            weights do not fit.
        OutputError: The folder cannot be created.
    """
    if network.start is None:
        raise DataError(f"{name}: a frozen network needs weights to start from; give network.start")
    if network.deviation:
        raise DataError(
            f"{name}: a pair as it starts deviates in nothing; leave out network.deviation"
        )
    net: Any = backbone(network.backbone, pixels.channels, pixels.size, slim=network.slim)
    try:
        load_start(net, network.start)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    made = Made(
        recipe=f"{network.backbone} from {network.start}, nothing trained",
        seed=0,
        commit=code_version(),
        cost="none",
    )
    return _write_bundle(
        _FeaturesOnly(net, net),
        pixels,
        folder,
        name=name,
        backbone_name=network.backbone,
        trained_on=starting_terms(network.start),
        made=made,
    )


def freeze_run(run: RunFolder, folder: Path, *, hidden: bool = False) -> Path:
    """Write the network of a run on pictures as a bundle without tasks.

    Args:
        run: The run.
        folder: Folder of the bundle; it is created.
        hidden: Give what the last layers of the heads read, such as the 128 numbers of each
            `bottleneck`, concatenated in the order of the tasks. False gives the backbone's
            features.

    Returns:
        The folder.

    Raises:
        DataError: The run is on cached features, has no network yet, or with `hidden` a head has no
            hidden layer.
        OutputError: The folder cannot be created.
    """
    settings = run.settings
    net = network_of(run)
    if settings.features is not None:
        raise DataError(
            f"{run.folder}: it has no network below its heads, it learned from cached features; "
            "name a run on pictures"
        )
    if hidden:
        _check_hidden_layers(run, net)
    made = Made(
        recipe=f"training run {settings.name}",
        seed=settings.fit.seed,
        commit=code_version(),
        cost="see its run folder",
    )
    features = _hidden_features(net) if hidden else net.features
    return _write_bundle(
        _FeaturesOnly(features, net),
        settings.filled_pixels,
        folder,
        name=settings.name,
        backbone_name=settings.network.backbone,
        trained_on=data_terms(settings, net.tasks),
        made=made,
    )


def _check_hidden_layers(run: RunFolder, net: MultiTaskNet) -> None:
    """Raise DataError where a head reads features as they come."""
    plain = []
    for task, head in zip(net.tasks, net.heads, strict=True):
        if not isinstance(head, StackedHead):
            plain.append(task.family)
    if plain:
        families = ", ".join(plain)
        raise DataError(
            f"{run.folder}: the heads of {families} have no hidden layer; "
            "give network.heads kind bottleneck or hidden"
        )


def _hidden_features(net: MultiTaskNet) -> Callable[[Tensor], Tensor]:
    """A function from images (N, C, S, S) to the hidden layers of all heads, (N, D)."""

    def hidden(images: Tensor) -> Tensor:
        pooled = net.features(images)
        layers = [cast(StackedHead, head).features(pooled) for head in net.heads]
        return torch.cat(layers, dim=1)

    return hidden


def _write_bundle(
    net: _FeaturesOnly,
    pixels: Pixels,
    folder: Path,
    *,
    name: str,
    backbone_name: str,
    trained_on: tuple[Terms, ...],
    made: Made,
) -> Path:
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # Values about as large as normalised pixels; the export is compared with torch on them.
    generator = torch.Generator().manual_seed(0)
    shape = (4, pixels.channels, pixels.size, pixels.size)
    example = torch.rand(*shape, generator=generator) - 0.5
    with torch.no_grad():
        width = net.eval()(example)[0].shape[1]
    network = folder / "model.onnx"
    export(net, network, example, ["features"], {0: "batch"})
    # The licence of features is that of all data behind them.
    licences = dict.fromkeys(entry.terms for entry in trained_on)
    licence = "; ".join(licences) or _NOT_STATED.terms
    summary = f"Features of a frozen {backbone_name}; it predicts nothing by itself."
    limits = ("it gives features alone, for heads to be trained on",)
    card = AffectCard(
        card=1,
        name=name,
        summary=summary,
        reads="crops",
        sha256=sha256_of(network),
        licence=licence,
        trained_on=trained_on or (_NOT_STATED,),
        scores=(),
        tasks=(),
        limits=limits,
        not_for=NOT_FOR,
        pixels=pixels,
        tolerance=_TOLERANCE,
        temperature={},
        features=width,
        made=made,
    )
    write_bundle_files(card, folder)
    return folder
