"""SMM-EmotionNet (HUST-ANT at ABAW4, after the static model of an ABAW3 winner): 17 regions of the face as features, told two ways.

A trunk gives maps. An attention map for each region weighs them, and each region becomes an embedding of 16 numbers. Of these the
*messages* (a linear map per region) speak of expression, valence and arousal; the *signs* (a transformer layer over the regions)
speak of action units, one token for each. Nothing tells a region which part of the face it is: what its token is asked makes it so.

Departures: the published network has one more convolution of 306 weights whose output nothing reads; it is left out. The published
trunk leaves out the change of scale that its ImageNet weights were trained with; here, too, nothing is done to the input, so the
settings must give what the weights expect: ``pixels.mean`` and ``pixels.std`` of 127.5 for torchvision's and timm's inception_v3.

How many padding pixels the embeddings' convolutions have, and how the sines are laid out, is not published: our reading.
"""

from collections import OrderedDict
from typing import Any, Final, Literal, cast

import timm
import torch
from torch import Tensor, nn

__all__ = ["REGIONS", "WIDTH", "Smm", "messages_and_signs"]

REGIONS: Final = 17
"""12 action units of the challenge and 5 without labels, which nothing but the other tasks teaches."""
WIDTH: Final = 16
"""Of a region's embedding, message and sign token."""

_SMALLEST: Final = {False: 75, True: 32}  # px; by `small`
_POSITIONS_DROPOUT: Final = 0.3
_LAYER_DROPOUT: Final = 0.1
_FEED_FORWARD: Final = 1024
_ATTENTION_HEADS: Final = 8


class Smm(nn.Module):
    """Crops (N, channels, S, S) to features (N, 544): 17 messages of 16 numbers, region by region, then 17 sign tokens of 16.

    Heads of kind ``regions`` read them, and are what a network on this backbone has where its settings name no other.
    Cached features hold both parts, so heads can be studied on them; they are learned here, below the heads, and stay as they were.

    small: the trunk is EfficientNet-Lite0 up to stride 16 (112 maps, 7x7 at 112 px, S from 32 px) in the place of Inception-v3 up to
    Mixed_6e (768 maps, 17x17 at 299 px, S from 75 px), for rehearsals on a CPU; the rest is the same.
    The trunk's tensors have timm's names under ``trunk.``, which are torchvision's for Inception-v3.
    Where no task reads one of the parts, that part learns nothing.
    Biases before a batch norm are as published: they learn nothing in training, where the norm takes them out.
    Raises ValueError for crops that leave too little of a map.
    """

    usual_head: Final[Literal["regions"]] = "regions"

    def __init__(self, channels: int = 3, size: int = 299, *, small: bool = False) -> None:
        super().__init__()
        if size < _SMALLEST[small]:
            name = "smm-small" if small else "smm"
            raise ValueError(
                f"crops of {size} px: {name} needs {_SMALLEST[small]} px or more, such as {112 if small else 299}"
            )
        self.num_features = 2 * REGIONS * WIDTH
        self.trunk, maps = _efficientnet(channels) if small else _inception(channels)
        self.attention = nn.Sequential(
            nn.Conv2d(maps, 4 * REGIONS, 3, padding=1), nn.BatchNorm2d(4 * REGIONS), nn.ReLU(),
            nn.Conv2d(4 * REGIONS, REGIONS, 1), nn.BatchNorm2d(REGIONS), nn.ReLU(),
            nn.Conv2d(REGIONS, REGIONS, 1), nn.Sigmoid(),
        )  # fmt: skip
        # One group for each region, so all 17 small networks run as one.
        every = REGIONS * WIDTH
        self.embed = nn.Sequential(
            nn.Conv2d(REGIONS * maps, every, 3, padding=1, groups=REGIONS), nn.BatchNorm2d(every), nn.ReLU(),
            nn.Conv2d(every, every, 1, groups=REGIONS), nn.BatchNorm2d(every), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(every, every, 1, groups=REGIONS), nn.Flatten(),
        )  # fmt: skip
        self.message = nn.Conv1d(every, every, 1, groups=REGIONS, bias=False)
        self.sign = _Sign()

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 544)."""
        embeddings = self.embeddings(images)
        messages = self.message(embeddings.flatten(1).unsqueeze(2)).squeeze(2)
        return torch.cat([messages, self.sign(embeddings).flatten(1)], dim=1)

    def embeddings(self, images: Tensor) -> Tensor:
        """What both branches read: (N, 17, 16)."""
        maps = self.trunk(images)
        weights = 1 + self.attention(maps)  # x * a + x
        seen = maps.unsqueeze(1) * weights.unsqueeze(2)
        return cast(Tensor, self.embed(seen.flatten(1, 2)).unflatten(1, (REGIONS, WIDTH)))


class _Sign(nn.Module):
    """Embeddings (N, 17, 16) to sign tokens of the same shape: what tells regions apart is added, then they look at one another.

    One encoder layer with norms after the sums (Vaswani et al. 2017) and GELU. PyTorch's own layer is not taken because it fixes the
    size of the batch when it is written as ONNX.
    """

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", _sines(), persistent=False)
        self.start = nn.Dropout(_POSITIONS_DROPOUT)
        self.look = _Attention()
        self.norm = nn.LayerNorm(WIDTH)
        self.think = nn.Sequential(
            nn.Linear(WIDTH, _FEED_FORWARD),
            nn.GELU(),
            nn.Dropout(_LAYER_DROPOUT),
            nn.Linear(_FEED_FORWARD, WIDTH),
        )
        self.last_norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(_LAYER_DROPOUT)

    def forward(self, embeddings: Tensor) -> Tensor:
        tokens = self.start(embeddings + self.positions)
        tokens = self.norm(tokens + self.dropout(self.look(tokens)))
        tokens = self.last_norm(tokens + self.dropout(self.think(tokens)))
        return cast(Tensor, tokens)


class _Attention(nn.Module):
    """Every token (N, 17, 16) becomes a mixture of what all tokens say, in 8 shares of 2 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = nn.Linear(WIDTH, 3 * WIDTH)  # queries, keys and values
        self.mix = nn.Linear(WIDTH, WIDTH)
        nn.init.xavier_uniform_(self.ask.weight)
        nn.init.zeros_(self.ask.bias)
        nn.init.zeros_(self.mix.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        asked, keys, values = (
            self.ask(tokens).unflatten(2, (3, _ATTENTION_HEADS, -1)).permute(2, 0, 3, 1, 4).unbind()
        )
        dropout = _LAYER_DROPOUT if self.training else 0.0
        found = nn.functional.scaled_dot_product_attention(asked, keys, values, dropout_p=dropout)
        return cast(Tensor, self.mix(found.transpose(1, 2).flatten(2)))


def messages_and_signs(features: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of an `Smm`'s features (N, 544), each (N, 17, 16)."""
    messages, signs = features.unflatten(1, (2, REGIONS, WIDTH)).unbind(dim=1)
    return messages, signs


def _sines() -> Tensor:
    """Positions (17, 16) as sines and cosines in turn, of wavelengths from 2 pi up (Vaswani et al. 2017, section 3.5)."""
    place = torch.arange(REGIONS).unsqueeze(1)
    angle = place / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def _inception(channels: int) -> tuple[nn.Sequential, int]:
    """Inception-v3 up to Mixed_6e, and how many maps it gives."""
    layers = OrderedDict(_structure("inception_v3", channels).named_children())
    names = list(layers)
    return nn.Sequential(
        OrderedDict((name, layers[name]) for name in names[: names.index("Mixed_6e") + 1])
    ), 768


def _efficientnet(channels: int) -> tuple[nn.Sequential, int]:
    """EfficientNet-Lite0 without the stages of stride 32, and how many maps it gives."""
    net: Any = _structure("efficientnet_lite0", channels)
    return nn.Sequential(
        OrderedDict(conv_stem=net.conv_stem, bn1=net.bn1, blocks=net.blocks[:5])
    ), 112


def _structure(name: str, channels: int) -> nn.Module:
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=0)
