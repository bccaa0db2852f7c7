"""Optimisers, their parameter groups and rates, sharpness-aware steps, averaged weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Final, Self

import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mien.train.settings.optimiser import OptimSettings

__all__ = ["Average", "make_optimiser", "perturbed", "rate_at", "set_rate"]

_BACKBONE: Final = "backbone."


def make_optimiser(net: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Make the optimiser of a network's trainable parameters.

    Parameters are in groups: backbone or not, decayed or not, and with `layer_decay` by layers, as
    timm groups them. Biases and the scales of norms (tensors of fewer than two axes) are not
    decayed: shrinking them limits what the network can express without making it simpler.

    Args:
        net: The network; its backbone is ``net.backbone``.
        settings: The optimiser and its options.

    Returns:
        The optimiser, every group at its highest rate.

    Raises:
        ValueError: Nothing is trainable, a rate is given for a backbone that is frozen or not
            there, or for layers of one whose layers timm does not know.
    """
    parameters = _parameters_by_group(net, settings.layer_decay)
    kind = type(net).__name__
    if not parameters:
        raise ValueError(f"no parameter of {kind} is trainable; unfreeze its heads or its backbone")
    trains_backbone = any(is_backbone for is_backbone, _, _ in parameters)
    for name in ("backbone_lr", "layer_decay"):
        if getattr(settings, name) != 1 and not trains_backbone:
            raise ValueError(
                f"{name}: no parameter of {kind} under 'backbone' is trainable; leave it out"
            )
    groups: list[dict[str, Any]] = []
    for (is_backbone, is_decayed, scale), members in parameters.items():
        peak = settings.lr * (settings.backbone_lr * scale if is_backbone else 1)
        groups.append(
            {
                "params": members,
                "lr": peak,
                # The schedule sets `lr` as a share of it.
                "peak": peak,
                "weight_decay": settings.weight_decay if is_decayed else 0.0,
            }
        )
    if settings.optimiser == "sgd":
        momentum = 0.9 if settings.momentum is None else settings.momentum
        return torch.optim.SGD(groups, settings.lr, momentum=momentum)
    betas = settings.betas or (0.9, 0.999)
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, settings.lr, betas=betas)
    return torch.optim.Adam(groups, settings.lr, betas=betas)


def _parameters_by_group(
    net: nn.Module, layer_decay: float
) -> dict[tuple[bool, bool, float], list[nn.Parameter]]:
    """Trainable parameters by whether they are the backbone's, are decayed, and by layer's rate."""
    scales = _layer_scales(net, layer_decay)
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            key = name.startswith(_BACKBONE), parameter.ndim > 1, scales.get(parameter, 1.0)
            groups.setdefault(key, []).append(parameter)
    return groups


def _layer_scales(net: nn.Module, layer_decay: float) -> dict[nn.Parameter, float]:
    """The rate of the backbone's trainable parameters as a factor of its last layer's."""
    if layer_decay == 1:
        return {}
    backbone = getattr(net, "backbone", None)
    # Without it timm would take all of a network for one layer.
    if not isinstance(backbone, nn.Module) or not hasattr(backbone, "group_matcher"):
        raise ValueError(
            f"layer_decay: timm knows no layers of {type(backbone).__name__}; leave it out"
        )
    scales = {}
    for group in param_groups_layer_decay(backbone, layer_decay=layer_decay):
        for parameter in group["params"]:
            scales[parameter] = float(group["lr_scale"])
    return scales


def rate_at(step: int, steps: int, warmup: float = 0.0, *, constant: bool = False) -> float:
    """Compute the learning rate of a step: a straight rise, then half a cosine down to exactly 0.

    It depends on nothing but the step, so training resumes anywhere, and never rises again
    (Loshchilov & Hutter 2017, without restarts).

    Args:
        step: Steps done so far.
        steps: Steps of the whole run.
        warmup: Share of the steps in which the rate rises; the first step already moves.
        constant: No cosine, the highest rate to the end.

    Returns:
        The rate as a share 0..1 of the highest.

    >>> [rate_at(step, 10_000) for step in (0, 5_000, 10_000)]
    [1.0, 0.5, 0.0]
    >>> [rate_at(step, 10, warmup=0.2) for step in (0, 1, 2)]
    [0.5, 1.0, 1.0]
    """
    rise = round(warmup * steps)
    if step < rise:
        # From the first step on: a rate of 0 would waste it.
        return (step + 1) / rise
    if constant:
        return 1.0
    progress = min((step - rise) / max(steps - rise, 1), 1.0)
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(
    optimiser: torch.optim.Optimizer, step: int, steps: int, settings: OptimSettings
) -> None:
    """Give every group its rate for the next step; see `rate_at`.

    Args:
        optimiser: As `make_optimiser` made it.
        step: Steps done so far.
        steps: Steps of the whole run.
        settings: The schedule.
    """
    constant = settings.schedule == "constant"
    share = rate_at(step, steps, settings.warmup, constant=constant)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


@contextmanager
def perturbed(net: nn.Module, rho: float = 0.05) -> Iterator[None]:
    """Move the weights a step up the gradient (Foret et al. 2021).

    This is the first half of a step of sharpness-aware minimisation. Enter it with gradients in
    place; inside, clear them and go forward and backward again; on leaving, the weights are what
    they were, to the last bit, and any optimiser takes its step along the new gradients::

        loss().backward()
        with perturbed(net, 0.05):
            optimiser.zero_grad()
            loss().backward()
        optimiser.step()

    Batch norm's running statistics are put back as well. They describe the network that is kept
    and evaluated, and the second pass runs weights that are thrown away; it would also count every
    batch twice. In training mode they do not enter the pass.

    Args:
        net: The network.
        rho: Length of the step, in units of the weights.

    Yields:
        Nothing; inside, the weights are moved.
    """
    moved: list[tuple[nn.Parameter, Tensor]] = []
    changing: list[Tensor] = []
    for parameter in net.parameters():
        if parameter.grad is not None:
            moved.append((parameter, parameter.grad))
            changing.append(parameter)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            changing.extend(module.buffers())
    kept = [(tensor, tensor.detach().clone()) for tensor in changing]
    if moved:
        _move_along(moved, rho)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in kept:
                tensor.copy_(old)


@torch.no_grad()
def _move_along(moved: list[tuple[nn.Parameter, Tensor]], rho: float) -> None:
    """Move parameters along their gradients, by `rho` over all of them together."""
    length = torch.stack([grad.norm() for _, grad in moved]).norm()
    # A gradient of zeros moves nothing, and must not give NaN.
    scale = rho / (length + 1e-12)
    for parameter, grad in moved:
        parameter.add_(grad * scale)


class Average(nn.Module):
    """A running average of a network's weights and buffers (Polyak & Juditsky 1992).

    After every step, average <- d * average + (1 - d) * weights with
    d = min(decay, (1 + step) / (10 + step)), so that the random start is soon forgotten. Whole
    numbers, such as a count of batches, are copied. It is usually better than the last weights.

    Args:
        net: The network to average; it is copied.
        decay: Largest d, 0..1.

    Attributes:
        net: The averaged network, in evaluation mode.
        updates: Number of updates so far.
    """

    updates: Tensor

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take in the weights after a step.

        Args:
            net: The network that learns.
        """
        step = int(self.updates)
        keep = min(self.decay, (1 + step) / (10 + step))
        averaged, learned = self.net.state_dict(), net.state_dict()
        for ours, theirs in zip(averaged.values(), learned.values(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - keep)
            else:
                # A mean of counts would be no whole number.
                ours.copy_(theirs)
        self.updates += 1

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: an average is never trained.

        Args:
            mode: Of no effect.

        Returns:
            Itself.
        """
        return super().train(False)
