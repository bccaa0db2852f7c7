"""Steps of training: optimisers and their parameter groups, the rate over time, sharpness-aware steps, averaged weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mien.train.settings.optimiser import OptimSettings

__all__ = ["Average", "make_optimiser", "perturbed", "rate_at", "set_rate"]

_BACKBONE: Final = "backbone."


def make_optimiser(net: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """The optimiser of a network's trainable parameters, in up to four groups: backbone or not, decayed or not.

    Biases and the scales of norms (tensors of fewer than two axes) are not decayed: shrinking them limits what the network can
    express without making it simpler. The backbone is what lies under ``net.backbone``.
    Raises ValueError when nothing is trainable, or a rate is given for a backbone that is not there or frozen.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith(_BACKBONE), parameter.ndim > 1), []).append(
                parameter
            )
    if not groups:
        raise ValueError(
            f"no parameter of {type(net).__name__} is trainable; unfreeze its heads or its backbone"
        )
    if settings.backbone_lr != 1 and not any(backbone for backbone, _ in groups):
        raise ValueError(
            f"backbone_lr: no parameter of {type(net).__name__} under 'backbone' is trainable; leave it out"
        )
    chosen: list[dict[str, Any]] = []
    for (backbone, decayed), parameters in groups.items():
        peak = settings.lr * (settings.backbone_lr if backbone else 1)
        chosen.append(
            {
                "params": parameters,
                "lr": peak,
                "peak": peak,
                "weight_decay": settings.weight_decay if decayed else 0.0,
            }
        )
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            chosen, settings.lr, momentum=0.9 if settings.momentum is None else settings.momentum
        )
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(chosen, settings.lr, betas=settings.betas or (0.9, 0.999))


def rate_at(step: int, steps: int, warmup: float = 0.0, *, constant: bool = False) -> float:
    """The rate as a share 0..1 of the highest after `step` of `steps` steps: a straight rise, then half a cosine down to exactly 0.

    It depends on nothing but the step, so training resumes anywhere, and never rises again (Loshchilov & Hutter 2017, no restarts).
    warmup: share of the steps in which it rises; the first step already moves. constant: no cosine, the highest rate to the end.

    >>> [rate_at(step, 10_000) for step in (0, 5_000, 10_000)], [rate_at(step, 10, 0.2) for step in (0, 1, 2)]
    ([1.0, 0.5, 0.0], [0.5, 1.0, 1.0])
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return (
        1.0
        if constant
        else 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1.0)))
    )


def set_rate(
    optimiser: torch.optim.Optimizer, step: int, steps: int, settings: OptimSettings
) -> None:
    """Give every group of `make_optimiser` its rate for the step to come; see `rate_at`."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate_at(
            step, steps, settings.warmup, constant=settings.schedule == "constant"
        )


@contextmanager
def perturbed(net: nn.Module, rho: float = 0.05) -> Iterator[None]:
    """Weights a step of length `rho` up the gradient, for the second pass of sharpness-aware minimisation (Foret et al. 2021).

    Enter it with gradients in place; inside, clear them and go forward and backward again; on leaving, the weights are what they
    were, to the last bit, and any optimiser takes its step along the new gradients::

        loss().backward()
        with perturbed(net, 0.05):
            optimiser.zero_grad()
            loss().backward()
        optimiser.step()

    Batch norm's running statistics are put back as well. They describe the network that is kept and judged, and the second pass
    runs weights that are thrown away; it would also count every batch twice. In training mode they do not enter the pass.
    """
    moved = [
        (parameter, parameter.grad) for parameter in net.parameters() if parameter.grad is not None
    ]
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    changing = [
        *(parameter for parameter, _ in moved),
        *(buffer for norm in norms for buffer in norm.buffers()),
    ]
    kept = [(tensor, tensor.detach().clone()) for tensor in changing]
    with torch.no_grad():
        length = (
            torch.stack([grad.norm() for _, grad in moved]).norm() if moved else torch.zeros(())
        )
        for parameter, grad in moved:
            parameter.add_(grad * (rho / (length + 1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in kept:
                tensor.copy_(old)


class Average(nn.Module):
    """A running average of a network's weights and buffers, usually better than the last weights (Polyak & Juditsky 1992).

    average <- d * average + (1 - d) * weights after every step, with d = min(decay, (1 + step) / (10 + step)), so that the
    random start is soon forgotten. Whole numbers, such as a count of batches, are copied.
    `net` is the averaged network, in evaluation mode; `state_dict` holds it and the number of updates.
    """

    updates: Tensor

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take in the weights of `net` after a step."""
        step = int(self.updates)
        keep = min(self.decay, (1 + step) / (10 + step))
        for ours, theirs in zip(
            self.net.state_dict().values(), net.state_dict().values(), strict=True
        ):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - keep)
            else:
                ours.copy_(theirs)
        self.updates += 1

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: an average is never trained."""
        return super().train(False)
