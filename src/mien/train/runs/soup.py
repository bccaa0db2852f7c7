"""The mean of several runs' weights as one network.

Runs that began from one another err in different places, so their mean is often better than each
(model soups, Wortsman et al. 2022).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mien.errors import DataError
from mien.train.runs.folder import RunFolder

__all__ = ["average_runs"]


def average_runs(runs: Sequence[RunFolder], shares: Sequence[float], out: Path) -> RunFolder:
    """Write a run folder whose best weights are the weighted mean of several runs'.

    Settings and facts are the last run's.

    Args:
        runs: Runs of one network whose weights lie close together, since each started from the
            weights of another.
        shares: Share of each run; they sum to 1.
        out: Folder of the new run.

    Returns:
        The new run.

    Raises:
        DataError: Shares do not sum to 1, or the networks differ.
        OutputError: The folder cannot be written.
    """
    if len(runs) != len(shares) or abs(sum(shares) - 1) > 1e-6:
        raise DataError(
            f"{out}: {len(runs)} runs need a share each, 1 together; got {list(shares)}"
        )
    nets = _load_nets(runs)
    # A run that has no network yet is left out by `_load_nets`.
    if len(nets) < len(runs) or not _same_shapes(nets):
        names = ", ".join(run.folder.name for run in runs)
        raise DataError(f"{out}: the runs {names} are not of one network; average those that are")

    last = runs[-1]
    averaged = RunFolder(out, last.settings)
    origins = []
    for share, run in zip(shares, runs, strict=True):
        origins.append(f"{share:g} of {run.folder.name}")
    averaged.note({**last.facts, "weights_of": ", ".join(origins)})
    averaged.save("best.pt", {"net": _mean(nets, shares)})
    return averaged


def _load_nets(runs: Sequence[RunFolder]) -> list[Mapping[str, Tensor]]:
    """The best weights of all runs that have some."""
    nets = []
    for run in runs:
        saved = run.load("best.pt")
        if saved is not None:
            nets.append(saved["net"])
    return nets


def _same_shapes(nets: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether all state dicts have the same tensors."""
    first = _shapes(nets[0])
    return all(_shapes(net) == first for net in nets)


def _shapes(net: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.items()}


def _mean(nets: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of state dicts; whole numbers, such as batch counts, are the last one's."""
    mean = dict(nets[-1])
    for name, last in nets[-1].items():
        if torch.is_floating_point(last):
            total = torch.zeros_like(last)
            for share, net in zip(shares, nets, strict=True):
                total = total + share * net[name]
            mean[name] = total
    return mean
