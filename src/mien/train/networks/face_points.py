"""A small network for points of a face: features that tell where in the crop something is."""

from collections.abc import Sequence
from typing import ClassVar, Final

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from mien.train.networks.face_resnet import FaceResNet

__all__ = ["FacePoints"]

# Of the stage of 128 filters only the first block: what is left to do is local.
_STAGES: Final = ((32, 3), (64, 4), (128, 1))
_SQUEEZED: Final = 16
_STRIDE: Final = 16


class FacePoints(FaceResNet):
    """Crops (N, channels, S, S), S a multiple of 16 px, to features (N, S * S / 16).

    The lower two thirds of `FaceResNet`, whose maps are squeezed to 16 and then kept pixel by
    pixel, where the mean over them would lose the place.

    Args:
        channels: Of the crops.
        size: Their side, px.

    Raises:
        ValueError: The side is no multiple of 16 px.
    """

    fresh: ClassVar[tuple[str, ...]] = ("squeeze", "squeeze_norm")

    def __init__(self, channels: int = 3, size: int = 96) -> None:
        super().__init__(channels)
        if size % _STRIDE:
            raise ValueError(f"face-points takes crops of a multiple of {_STRIDE} px, not {size}")
        self.squeeze = nn.Conv2d(self.num_features, _SQUEEZED, 1, bias=False)
        self.squeeze_norm = nn.BatchNorm2d(_SQUEEZED)
        self.num_features = _SQUEEZED * (size // _STRIDE) ** 2

    @override
    def _stages(self, small: bool) -> Sequence[tuple[int, int]]:
        return _STAGES

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Features (N, S * S / 16).
        """
        squeezed = self.squeeze_norm(self.squeeze(self.maps(images)))
        return functional.relu(squeezed).flatten(1)
