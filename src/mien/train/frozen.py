"""A backbone with its starting weights as a bundle that only gives features: what heads on a frozen network are trained on."""

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from mien.bundles.card import AffectCard, Made, Terms
from mien.errors import DataError
from mien.faces.prepare import Pixels
from mien.outputs.files import explained
from mien.train.export import export
from mien.train.networks import NetworkSettings, backbone, load_start
from mien.train.origin import started
from mien.train.pack import NOT_FOR, code_version, finish, sha256_of

__all__ = ["freeze_bundle"]

_TOLERANCE: Final = 0.001


class _FeaturesOnly(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.net(images),)


def freeze_bundle(network: NetworkSettings, pixels: Pixels, folder: Path, name: str) -> Path:
    """Write the backbone of `network`, as it starts, into `folder` as a bundle without tasks; returns the folder.

    Raises DataError for a network that starts from random weights, and as `load_start` does.
    """
    if network.start is None:
        raise DataError(f"{name}: a frozen network needs weights to start from; give network.start")
    net: Any = backbone(network.backbone, pixels.channels, pixels.size, slim=network.slim)
    try:
        load_start(net, network.start)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    example = torch.rand(4, pixels.channels, pixels.size, pixels.size, generator=torch.Generator().manual_seed(0)) - 0.5
    export(_FeaturesOnly(net.eval()), folder / "model.onnx", example, ["features"], {0: "batch"})
    start = started(network.start)
    card = AffectCard(
        card=1, name=name, summary=f"Features of a frozen {network.backbone}; it predicts nothing by itself.", reads="crops",
        sha256=sha256_of(folder / "model.onnx"), licence="; ".join(dict.fromkeys(terms.terms for terms in start)) or "not stated",
        trained_on=start or (Terms(data="not stated", used_for="training", terms="not stated"),), scores=(), tasks=(),
        limits=("it gives features alone, for heads to be trained on",), not_for=NOT_FOR, pixels=pixels, tolerance=_TOLERANCE,
        temperature={}, features=int(net.num_features),
        made=Made(recipe=f"{network.backbone} from {network.start}, nothing trained", seed=0, commit=code_version(), cost="none"),
    )  # fmt: skip
    finish(card, folder)
    return folder
