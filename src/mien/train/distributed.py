"""Several processes that train as one.

Statistics and losses are over the whole batch, not over each process's part of it, so N processes
follow the same path as one process with the whole batch, up to rounding.
"""

import atexit
import socket
import subprocess
import time
from contextlib import suppress
from itertools import chain
from typing import Any, Final, TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from mien.errors import DataError
from mien.progress import STOP_REQUESTED

__all__ = [
    "all_gather_unique",
    "all_gather_values",
    "check_agreement",
    "end_group_at_exit",
    "gather",
    "interrupt_all",
    "kill",
    "synchronise",
]

Value = TypeVar("Value")

_PATIENCE_S: Final = 5.0
"""How long other processes of the group may take to end before they are killed."""


def gather(mine: Tensor) -> Tensor:
    """Collect the rows of all processes; gradients flow back to where a row came from.

    Args:
        mine: Rows (N, …) of this process, as many in each.

    Returns:
        Rows (N * processes, …) in the order of the processes.
    """
    if not dist.is_initialized():
        return mine
    return cast(Tensor, _Gathered.apply(mine))


# Gradients of a number that every process uses come back summed. torch's own functions for this are
# deprecated.


def _sum(mine: Tensor) -> Tensor:
    """Sum over all processes, without gradient."""
    # A copy with memory of its own: the sum is written in place.
    total = mine.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Summed(torch.autograd.Function):
    """Sum over all processes."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        return _sum(mine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _sum(grad)


class _Gathered(torch.autograd.Function):
    """Rows (N, …) of all processes, as many from each."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        parts = []
        for _ in range(dist.get_world_size()):
            parts.append(torch.empty_like(mine, memory_format=torch.contiguous_format))
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Every process computes the loss of all rows, so the gradients of a row add up.
        parts = _sum(grad).chunk(dist.get_world_size())
        return parts[dist.get_rank()]


def all_gather_unique(mine: list[int]) -> list[int]:
    """Collect the numbers of all processes.

    Args:
        mine: Numbers of this process.

    Returns:
        All of them, sorted, each once.
    """
    return sorted(set().union(*all_gather_values(mine)))


def all_gather_values(mine: Value) -> list[Value]:
    """Collect a value of each process.

    Args:
        mine: Value of this process; plain Python.

    Returns:
        All of them, in the order of the processes.
    """
    if not dist.is_initialized():
        return [mine]
    values = [mine] * dist.get_world_size()
    dist.all_gather_object(values, mine)
    return values


def check_agreement(mine: object, where: str, problem: str) -> None:
    """Check that all processes have the same value.

    Args:
        mine: Value of this process; plain Python.
        where: What the message begins with.
        problem: What is wrong where they differ, with ``{host}`` and ``{first}``: the names of the
            machine with another value and of that of the first process.

    Raises:
        DataError: They differ; in all processes alike, so that none waits for the others.
    """
    host = socket.gethostname()
    (first, expected), *others = all_gather_values((host, mine))
    for name, value in others:
        if value != expected:
            raise DataError(f"{where}: {problem.format(host=name, first=first)}")


def interrupt_all(is_told: bool, fabric: Fabric) -> None:
    """End all processes after the same step, if one of them has been told to end.

    Args:
        is_told: Whether this one has been.
        fabric: Of this process.

    Raises:
        KeyboardInterrupt: One of them has been.
    """
    if not _any_process(is_told, fabric.device):
        return
    # Whoever was not told itself ends its children and reports it as if it had been.
    if fabric.world_size > 1:
        STOP_REQUESTED.set()
    raise KeyboardInterrupt


def _any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process of the group."""
    if not dist.is_initialized():
        return flag
    votes = torch.tensor([float(flag)], device=device)
    dist.all_reduce(votes)
    return bool(votes.item())


def end_group_at_exit(children: list["subprocess.Popen[bytes]"]) -> None:
    """Leave the group of processes before Python ends, and end this process's part of it.

    Fabric leaves the group for NCCL only. Gloo's threads call back into Python; where one does so
    while the interpreter is being taken down, the finished process aborts with SIGABRT and counts
    as failed.

    Args:
        children: Processes of the group that this one starts, once it has. They are ended if it was
            told to end.
    """
    # A process may train several networks, one after the other, in the same group.
    _children.append(children)
    atexit.unregister(_end_group)
    atexit.register(_end_group)


_children: Final[list[list["subprocess.Popen[bytes]"]]] = []


def _end_group() -> None:
    is_stopped = STOP_REQUESTED.is_set()
    # Told first: those that wait for this process then know why it is gone.
    if is_stopped:
        for child in chain.from_iterable(_children):
            child.terminate()
    if dist.is_initialized():
        dist.destroy_process_group()
    if is_stopped:
        for children in _children:
            kill(children, _PATIENCE_S)


def kill(children: list["subprocess.Popen[bytes]"], patience: float = 0.0) -> None:
    """End processes of the group that this one has started.

    Args:
        children: The list that Fabric keeps of them; it is emptied, since Fabric would kill this
            process as well where one of them fails.
        patience: Seconds in which they may end by themselves.
    """
    ending = list(children)
    children.clear()
    deadline = time.monotonic() + patience
    for child in ending:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
        child.kill()
        child.wait()


def synchronise(net: nn.Module) -> nn.Module:
    """Let every batch norm take its statistics over all processes.

    torch's own SyncBatchNorm runs on GPUs only, this runs anywhere.

    Args:
        net: The network; it is changed, and the names of its parameters stay.

    Returns:
        The same network.
    """
    for module in net.modules():
        kind = type(module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not issubclass(kind, _Synced):
            # Another class on the same object keeps parameters, buffers and their names.
            module.__class__ = type(f"Synced{kind.__name__}", (_Synced, kind), {})
    return net


class _Synced(nn.modules.batchnorm._BatchNorm):
    """Batch norm (Ioffe & Szegedy 2015) over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        # All axes but the channels'.
        axes = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        # Every process has as many rows.
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _Summed.apply(x.sum(axes)) / count
        var = _Summed.apply(((x - mean.view(shape)) ** 2).sum(axes)) / count
        self._update_running(mean.detach(), var.detach(), count)
        scale = torch.rsqrt(var + self.eps) * self.weight
        y = (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        # timm's batch norms have dropout and activation built in.
        for part in ("drop", "act"):
            if part in self._modules:
                y = cast(nn.Module, self._modules[part])(y)
        return cast(Tensor, y)

    def _update_running(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Take the statistics (C,) of a batch of `count` values into the running ones."""
        if not self.track_running_stats:
            return
        running_mean, running_var = self.running_mean, self.running_var
        if running_mean is None or running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = self.momentum
        # Without momentum torch keeps the plain mean over all batches.
        if rate is None:
            rate = 1 / float(self.num_batches_tracked)
        running_mean.lerp_(mean, rate)
        # The running variance is unbiased, that of the batch is not.
        running_var.lerp_(var * count / (count - 1), rate)
