"""Networks as bundles that only give features: what heads are trained on while the rest stays as it is."""

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
from mien.train.bundle.provenance import seen, started
from mien.train.networks.backbones import backbone
from mien.train.networks.heads import StackedHead
from mien.train.networks.starting_weights import load_start
from mien.train.onnx.export import export
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.settings.network import NetworkSettings

__all__ = ["freeze_bundle", "freeze_run"]

_TOLERANCE: Final = 0.001


class _FeaturesOnly(nn.Module):
    def __init__(self, features: Callable[[Tensor], Tensor], net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.features = features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.features(images),)


def freeze_bundle(network: NetworkSettings, pixels: Pixels, folder: Path, name: str) -> Path:
    """Write the backbone of `network`, as it starts, into `folder` as a bundle without tasks; returns the folder.

    Raises DataError for a network that starts from random weights, and as `load_start` does.
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
    return _written(
        _FeaturesOnly(net, net),
        pixels,
        folder,
        (name, network.backbone),
        origin=started(network.start),
        made=made,
    )


def freeze_run(run: RunFolder, folder: Path, *, hidden: bool = False) -> Path:
    """Write the network of a run that reads pictures into `folder` as a bundle without tasks; returns the folder.

    hidden: its features are what the heads' last layers read, one head after the other in the order of the tasks, such as the 128 numbers
    of each `bottleneck`; otherwise the backbone's.
    Raises DataError for a run on cached features, for heads that read them as they come, and as `network_of` does.
    """
    settings, net = run.settings, network_of(run)
    if settings.features is not None:
        raise DataError(
            f"{run.folder}: it has no network below its heads, it learned from cached features; name a run on pictures"
        )
    plain = [
        each.family
        for each, head in zip(net.tasks, net.heads, strict=True)
        if not isinstance(head, StackedHead)
    ]
    if hidden and plain:
        raise DataError(
            f"{run.folder}: the heads of {', '.join(plain)} have no hidden layer; give network.heads kind bottleneck or hidden"
        )

    def inner(images: Tensor) -> Tensor:
        pooled = net.features(images)
        return (
            torch.cat([cast(StackedHead, head).features(pooled) for head in net.heads], dim=1)
            if hidden
            else pooled
        )

    made = Made(
        recipe=f"training run {settings.name}",
        seed=settings.fit.seed,
        commit=code_version(),
        cost="see its run folder",
    )
    told = seen(settings, net.tasks)
    return _written(
        _FeaturesOnly(inner, net),
        settings.pixels,
        folder,
        (settings.name, settings.network.backbone),
        origin=told,
        made=made,
    )


def _written(
    net: _FeaturesOnly,
    pixels: Pixels,
    folder: Path,
    names: tuple[str, str],
    *,
    origin: tuple[Terms, ...],
    made: Made,
) -> Path:
    """names: of the bundle and of its backbone."""
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    example = (
        torch.rand(
            4, pixels.channels, pixels.size, pixels.size, generator=torch.Generator().manual_seed(0)
        )
        - 0.5
    )
    with torch.no_grad():
        width = net.eval()(example)[0].shape[1]
    export(net, folder / "model.onnx", example, ["features"], {0: "batch"})
    card = AffectCard(
        card=1, name=names[0], summary=f"Features of a frozen {names[1]}; it predicts nothing by itself.", reads="crops",
        sha256=sha256_of(folder / "model.onnx"), licence="; ".join(dict.fromkeys(terms.terms for terms in origin)) or "not stated",
        trained_on=origin or (Terms(data="not stated", used_for="training", terms="not stated"),), scores=(), tasks=(),
        limits=("it gives features alone, for heads to be trained on",), not_for=NOT_FOR, pixels=pixels, tolerance=_TOLERANCE,
        temperature={}, features=width, made=made,
    )  # fmt: skip
    write_bundle_files(card, folder)
    return folder
