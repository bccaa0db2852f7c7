"""SMM-EmotionNet (HUST-ANT at ABAW4, after the static model of an ABAW3 winner).

It gives features of 17 face regions, in two forms. A trunk gives maps. An attention map for each
region weighs them, and each region becomes an embedding of 16 numbers. From these come the
*messages* (a linear map per region), for expressions, valence and arousal, and the *signs* (a
transformer layer over the regions), for action units, one token for each. Nothing assigns a region
to a part of the face: it follows from the action unit that its token has to predict.

Departures: the published network has one more convolution of 306 weights whose output nothing
reads; it is left out. The published trunk leaves out the rescaling that its ImageNet weights were
trained with; here, too, the input is taken as it is, so the settings must give what the weights
expect: ``pixels.mean`` and ``pixels.std`` of 127.5 for torchvision's and timm's inception_v3.

The padding of the embeddings' convolutions and the layout of the sines are not published: ours is
our reading.
"""

from collections import OrderedDict
from typing import Any, Final, Literal

import timm
import torch
from torch import Tensor, nn

__all__ = ["REGIONS", "WIDTH", "Smm", "messages_and_signs"]

REGIONS: Final = 17
"""12 action units of the challenge and 5 without labels, which only the other tasks train."""
WIDTH: Final = 16
"""Of a region's embedding, message and sign token."""

_ALL_REGIONS: Final = REGIONS * WIDTH
_MIN_SIZE: Final = 75  # px
_MIN_SIZE_SMALL: Final = 32  # px
_MAPS: Final = 768
_MAPS_SMALL: Final = 112
_POSITIONS_DROPOUT: Final = 0.3
_LAYER_DROPOUT: Final = 0.1
_FEED_FORWARD: Final = 1024
_ATTENTION_HEADS: Final = 8


class Smm(nn.Module):
    """Crops (N, channels, S, S) to features (N, 544): 17 messages, then 17 sign tokens, of 16.

    Heads of kind ``regions`` read them, and are what a network on this backbone has where its
    settings name no other. Cached features hold both parts, so that heads can be studied on them;
    both are learned here, below the heads, and fixed once cached.

    The small network is for rehearsals on a CPU: its trunk is EfficientNet-Lite0 up to stride 16
    (112 maps, 7x7 at 112 px, S from 32 px) in place of Inception-v3 up to Mixed_6e (768 maps, 17x17
    at 299 px, S from 75 px); the rest is the same. The trunk's tensors have timm's names under
    ``trunk.``, which for Inception-v3 are torchvision's.

    Where no task reads one of the parts, that part learns nothing. Biases before a batch norm are
    as published: they learn nothing, since the norm takes them out in training.
    """

    usual_head: Final[Literal["regions"]] = "regions"

    def __init__(self, channels: int = 3, size: int = 299, *, small: bool = False) -> None:
        """Make the network with random weights.

        Args:
            channels: Of the crops: 3 for colour, 1 for grey.
            size: Side of the crops in px; only checked.
            small: Take the small trunk.

        Raises:
            ValueError: Crops of that size leave too little of a map.
        """
        super().__init__()
        _check_size(size, small)
        self.num_features = 2 * _ALL_REGIONS
        self.trunk = _efficientnet(channels) if small else _inception(channels)
        maps = _MAPS_SMALL if small else _MAPS
        self.attention = _attention_maps(maps)
        self.embed = _region_embeddings(maps)
        # One group for each region.
        self.message = nn.Conv1d(_ALL_REGIONS, _ALL_REGIONS, 1, groups=REGIONS, bias=False)
        self.sign = _Sign()

    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Features (N, 544), messages and then signs.
        """
        embeddings = self.embeddings(images)
        messages = self._messages(embeddings)
        signs = self.sign(embeddings).flatten(1)
        return torch.cat([messages, signs], dim=1)

    def _messages(self, embeddings: Tensor) -> Tensor:
        # A grouped convolution over a length of 1 is one linear map per region.
        flat = embeddings.flatten(1).unsqueeze(2)
        messages: Tensor = self.message(flat).squeeze(2)
        return messages

    def embeddings(self, images: Tensor) -> Tensor:
        """Compute what messages and signs are made of.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Embeddings of the regions (N, 17, 16).
        """
        maps = self.trunk(images)
        # Attention amplifies: x * a + x.
        weights = 1 + self.attention(maps)
        # (N, regions, maps, S, S)
        weighted = maps.unsqueeze(1) * weights.unsqueeze(2)
        flat = self.embed(weighted.flatten(1, 2))
        embeddings: Tensor = flat.unflatten(1, (REGIONS, WIDTH))
        return embeddings


def _check_size(size: int, small: bool) -> None:
    if small:
        name, smallest, example = "smm-small", _MIN_SIZE_SMALL, 112
    else:
        name, smallest, example = "smm", _MIN_SIZE, 299
    if size < smallest:
        raise ValueError(
            f"crops of {size} px: {name} needs {smallest} px or more, such as {example}"
        )


def _attention_maps(maps: int) -> nn.Sequential:
    """Maps (N, maps, S, S) to one attention map per region in 0..1 (N, 17, S, S)."""
    return nn.Sequential(
        nn.Conv2d(maps, 4 * REGIONS, 3, padding=1),
        nn.BatchNorm2d(4 * REGIONS),
        nn.ReLU(),
        nn.Conv2d(4 * REGIONS, REGIONS, 1),
        nn.BatchNorm2d(REGIONS),
        nn.ReLU(),
        nn.Conv2d(REGIONS, REGIONS, 1),
        nn.Sigmoid(),
    )


def _region_embeddings(maps: int) -> nn.Sequential:
    """Weighted maps of all regions (N, 17 * maps, S, S) to their embeddings (N, 17 * 16)."""
    # One group for each region, so that 17 small networks run as one.
    return nn.Sequential(
        nn.Conv2d(REGIONS * maps, _ALL_REGIONS, 3, padding=1, groups=REGIONS),
        nn.BatchNorm2d(_ALL_REGIONS),
        nn.ReLU(),
        nn.Conv2d(_ALL_REGIONS, _ALL_REGIONS, 1, groups=REGIONS),
        nn.BatchNorm2d(_ALL_REGIONS),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(_ALL_REGIONS, _ALL_REGIONS, 1, groups=REGIONS),
        nn.Flatten(),
    )


class _Sign(nn.Module):
    """Embeddings (N, 17, 16) to sign tokens of the same shape, by a transformer's encoder layer.

    Positions are added, which distinguish the regions. Norms come after the sums (Vaswani et al.
    2017), the activation is GELU. PyTorch's own layer fixes the batch size in an ONNX export, so it
    is not used.
    """

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", _sinusoidal_positions(), persistent=False)
        self.start = nn.Dropout(_POSITIONS_DROPOUT)
        self.look = _SelfAttention()
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
        tokens: Tensor = self.start(embeddings + self.positions)
        attended = self.dropout(self.look(tokens))
        tokens = self.norm(tokens + attended)
        processed = self.dropout(self.think(tokens))
        signs: Tensor = self.last_norm(tokens + processed)
        return signs


class _SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (N, 17, 16), with 8 heads of 2 numbers."""

    def __init__(self) -> None:
        super().__init__()
        # Queries, keys and values in one layer. Its start is that of PyTorch's own attention.
        self.ask = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        nn.init.xavier_uniform_(self.ask.weight)
        nn.init.zeros_(self.ask.bias)
        nn.init.zeros_(self.mix.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        asked = self.ask(tokens)
        split = asked.unflatten(2, (3, _ATTENTION_HEADS, -1))
        # (3, N, heads, tokens, numbers)
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind()
        dropout = _LAYER_DROPOUT if self.training else 0.0
        attended = nn.functional.scaled_dot_product_attention(
            queries, keys, values, dropout_p=dropout
        )
        mixed: Tensor = self.mix(attended.transpose(1, 2).flatten(2))
        return mixed


def messages_and_signs(features: Tensor) -> tuple[Tensor, Tensor]:
    """Split an `Smm`'s features into their two halves.

    Args:
        features: (N, 544).

    Returns:
        Messages and sign tokens, each (N, 17, 16).
    """
    halves = features.unflatten(1, (2, REGIONS, WIDTH))
    messages, signs = halves.unbind(dim=1)
    return messages, signs


def _sinusoidal_positions() -> Tensor:
    """Positions (17, 16): sine and cosine in turn, wavelengths from 2 pi up (Vaswani 2017, 3.5)."""
    position = torch.arange(REGIONS).unsqueeze(1)
    exponent = torch.arange(0, WIDTH, 2) / WIDTH
    angle = position / 10_000**exponent
    # Stacked along a last axis and flattened, sines and cosines alternate.
    pairs = torch.stack([angle.sin(), angle.cos()], dim=2)
    return pairs.flatten(1)


def _inception(channels: int) -> nn.Sequential:
    """Inception-v3 up to Mixed_6e, with 768 maps."""
    net = _timm("inception_v3", channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in net.named_children():
        layers[name] = layer
        if name == "Mixed_6e":
            break
    return nn.Sequential(layers)


def _efficientnet(channels: int) -> nn.Sequential:
    """EfficientNet-Lite0 without the stages of stride 32, with 112 maps."""
    net = _timm("efficientnet_lite0", channels)
    layers = OrderedDict(conv_stem=net.conv_stem, bn1=net.bn1, blocks=net.blocks[:5])
    return nn.Sequential(layers)


def _timm(name: str, channels: int) -> Any:
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=0)
