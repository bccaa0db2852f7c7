"""Torchvision's names of tensors, translated into timm's, for EfficientNet-B0 to -B7 and ViT.

Torchvision's ResNet, GoogLeNet and Inception-v3 need none of this: their names are ours.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

__all__ = ["rename_torchvision"]

_EFFICIENTNET: Final = re.compile(r"features\.(\d+)\.(.*)")
_INNER: Final = re.compile(r"(\d+)\.block\.(\d+)\.(\w+)\.(.*)")
_VIT: Final = {
    r"^class_token$": "cls_token",
    r"^conv_proj\.": "patch_embed.proj.",
    r"^encoder\.pos_embedding$": "pos_embed",
    r"^encoder\.ln\.": "norm.",
    r"^heads\.head\.": "head.",
    r"^encoder\.layers\.encoder_layer_(\d+)\.": r"blocks.\1.",
    r"(blocks\.\d+)\.ln_([12])\.": r"\1.norm\2.",
    r"(blocks\.\d+)\.self_attention\.in_proj_": r"\1.attn.qkv.",
    r"(blocks\.\d+)\.self_attention\.out_proj\.": r"\1.attn.proj.",
    # Named linear_1 in the first files, then by position.
    r"(blocks\.\d+)\.mlp\.(linear_1|0)\.": r"\1.mlp.fc1.",
    r"(blocks\.\d+)\.mlp\.(linear_2|3)\.": r"\1.mlp.fc2.",
}
# Of a block with an expanding convolution; the first stage has none, and its names differ.
_WIDE: Final = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se", "se"), ("conv_pwl", "bn3"))
_NARROW: Final = (("conv_dw", "bn1"), ("se", "se"), ("conv_pw", "bn2"))


def rename_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of torchvision's EfficientNet or ViT timm's names.

    Args:
        tensors: By torchvision's names.

    Returns:
        By timm's names; those of any other network under their own.
    """
    if "conv_proj.weight" in tensors:
        return {_of_vit(name): tensor for name, tensor in tensors.items()}
    if "features.0.0.weight" not in tensors or "features.1.0.block.0.0.weight" not in tensors:
        return dict(tensors)
    last = _last_stage(tensors)
    renamed = {}
    for name, tensor in tensors.items():
        renamed[_of_efficientnet(name, last)] = tensor
    return renamed


def _of_vit(name: str) -> str:
    for pattern, replacement in _VIT.items():
        name = re.sub(pattern, replacement, name)
    return name


def _last_stage(names: Iterable[str]) -> int:
    """The number of the last part of ``features``, which is one convolution."""
    matches = map(_EFFICIENTNET.match, names)
    return max(int(match[1]) for match in matches if match)


def _of_efficientnet(name: str, last: int) -> str:
    match = _EFFICIENTNET.match(name)
    if match is None:
        return re.sub(r"^classifier\.1\.", "classifier.", name)
    stage, remainder = int(match[1]), match[2]
    # The first and the last part are a convolution with its norm.
    if stage in (0, last):
        parts = ("conv_stem", "bn1") if stage == 0 else ("conv_head", "bn2")
        index, _, tensor = remainder.partition(".")
        return f"{parts[int(index)]}.{tensor}"
    inner = _INNER.match(remainder)
    if inner is None:
        return name
    block, layer, part, tensor = inner.groups()
    convolution, norm = (_NARROW if stage == 1 else _WIDE)[int(layer)]
    names = {"0": convolution, "1": norm, "fc1": "se.conv_reduce", "fc2": "se.conv_expand"}
    return f"blocks.{stage - 1}.{block}.{names.get(part, part)}.{tensor}"
