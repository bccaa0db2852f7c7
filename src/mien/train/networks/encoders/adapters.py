"""Low-rank adapters (LoRA, Hu et al. 2022) beside the layers of a backbone, through peft.

While a network trains, an adapted layer computes W x + (alpha / rank) B A x, of which only A and B
learn. What is kept of it in the end are plain weights, W + (alpha / rank) B A, so that nothing but
training needs peft.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mien.errors import MissingExtraError
from mien.train.settings.network import LoraSettings

__all__ = ["add_adapters", "is_adapter", "plain_weights"]

# Layers of these names are listed in messages; a convolutional network has hundreds.
_LISTED = 6


def add_adapters(backbone: nn.Module, settings: LoraSettings) -> None:
    """Put adapters beside a backbone's layers; nothing else in it has gradients from then on.

    They start at B = 0, so the answers stay as they were. The caller seeds A.

    Args:
        backbone: Changed in place.
        settings: Rank, scale, and which layers.

    Raises:
        MissingExtraError: peft is not installed.
        ValueError: A target names no layer that can be adapted.
    """
    layers = _chosen_layers(backbone, settings.targets)
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("train", "network.tune: lora") from error
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=layers)
    inject_adapter_in_model(config, backbone)


def is_adapter(name: str) -> bool:
    """Tell whether a parameter is an adapter's.

    Args:
        name: As in `named_parameters`.

    Returns:
        Whether it is.
    """
    return ".lora_" in name


def plain_weights(net: nn.Module) -> dict[str, Tensor]:
    """Merge a network's adapters into the weights beside them.

    Args:
        net: A network, with adapters or without; it stays as it is.

    Returns:
        The state dict of the same network without adapters.
    """
    state = {}
    for name, tensor in net.state_dict().items():
        if not is_adapter(name):
            state[name.replace(".base_layer.", ".")] = tensor
    for name, layer in net.named_modules():
        # peft's layers alone have it; asking for their type would need peft.
        if hasattr(layer, "get_delta_weight"):
            weight = f"{name}.weight"
            state[weight] = state[weight] + layer.get_delta_weight("default").detach()
    return state


def _chosen_layers(backbone: nn.Module, targets: Sequence[str]) -> list[str]:
    """Full names of the layers to adapt: those that targets name, or every linear one."""
    linear, others = [], []
    for name, layer in backbone.named_modules():
        if isinstance(layer, nn.Linear):
            linear.append(name)
        # What an adapter adds to a grouped convolution cannot be merged into it.
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1:
            others.append(name)
    if not targets:
        if not linear:
            raise ValueError(
                f"lora: {type(backbone).__name__} has no linear layer; name convolutions in "
                f"lora.targets, such as {_listed(others)}"
            )
        return linear
    chosen: dict[str, None] = {}
    for target in targets:
        # As peft matches names: the whole, or whole parts at the end.
        fitting = [name for name in linear + others if f".{name}".endswith(f".{target}")]
        if not fitting:
            raise ValueError(
                f"lora.targets: {target} is no layer of {type(backbone).__name__} that can be "
                f"adapted, which are {_listed(linear or others)}"
            )
        chosen |= dict.fromkeys(fitting)
    return list(chosen)


def _listed(names: Sequence[str]) -> str:
    """The last parts of layers' names, each once."""
    parts = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    more = len(parts) - _LISTED
    return ", ".join(parts[:_LISTED]) + (f" and {more} more" if more > 0 else "")
