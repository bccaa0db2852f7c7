"""Checkpoints as their authors publish them, with the names and shapes of timm's encoder."""

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

from torch import Tensor, nn

__all__ = ["convert", "part_of_larger"]

Tensors = dict[str, Tensor]


def part_of_larger(net: nn.Module, tensors: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    """Find the network in a larger model's checkpoint, such as one of vision and language.

    Args:
        net: The network.
        tensors: By name.

    Returns:
        Its tensors, without the prefix of their names, and the names of the larger model's other
        tensors; all tensors as they came where no prefix fits most of the network.

    Raises:
        ValueError: The network is in the checkpoint more than once.
    """
    names = list(net.state_dict())
    if any(name in tensors for name in names):
        return tensors, ()
    prefixes = []
    for name in tensors:
        if name.endswith(f".{names[0]}"):
            prefix = name.removesuffix(names[0])
            # A first name such as conv1.weight stands in many places.
            if sum(prefix + own_name in tensors for own_name in names) > len(names) / 2:
                prefixes.append(prefix)
    if len(prefixes) > 1:
        raise ValueError(
            f"the network is in it under {' and '.join(prefixes)}; save the tensors of the one "
            "to start from"
        )
    if not prefixes:
        return tensors, ()
    part = {}
    for name, tensor in tensors.items():
        if name.startswith(prefixes[0]):
            part[name.removeprefix(prefixes[0])] = tensor
    return part, tuple(name for name in tensors if not name.startswith(prefixes[0]))


def convert(net: nn.Module, tensors: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    """Make the names and shapes of a checkpoint those of a network of timm's.

    timm knows how the authors of its architectures call their tensors, and resamples positional
    embeddings, and the kernels of patches, to another grid.

    Args:
        net: The network; nothing changes for one that is not timm's.
        tensors: By name.

    Returns:
        The tensors by timm's names, and in words which of them were resampled. What timm leaves out
        under its own name, such as a mask token, is still there.

    Raises:
        ValueError: timm cannot make sense of them.
    """
    home = sys.modules[type(net).__module__]
    own_filter = getattr(home, "checkpoint_filter_fn", None)
    if own_filter is None or not home.__name__.startswith("timm."):
        return tensors, ()
    try:
        # Some of these functions print; all of them take tensors out of the table.
        with redirect_stdout(io.StringIO()):
            converted: Tensors = dict(own_filter(dict(tensors), net))
    # What does not fit fails in as many ways as there are architectures.
    except Exception as error:
        raise ValueError(f"timm cannot convert them ({type(error).__name__}: {error})") from error
    # Where timm only left tensors out, which ones is known by their names.
    if converted.keys() <= tensors.keys():
        converted = {**tensors, **converted}
    return converted, _resampled(tensors, converted)


def _resampled(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> tuple[str, ...]:
    """In words, the tensors that kept their names and have other shapes."""
    changes = []
    for name, tensor in after.items():
        if name in before and before[name].shape != tensor.shape:
            old, new = tuple(before[name].shape), tuple(tensor.shape)
            changes.append(f"{name} is resampled from {old} to {new}")
    return tuple(changes)
