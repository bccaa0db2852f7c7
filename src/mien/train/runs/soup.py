"""The mean of several runs' weights as one network (Wortsman et al. 2022): runs that began from one another err in different places."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mien.errors import DataError
from mien.train.runs.folder import RunFolder

__all__ = ["average_runs"]


def average_runs(runs: Sequence[RunFolder], shares: Sequence[float], out: Path) -> RunFolder:
    """A run folder whose best weights are the mean of the runs', each with its share; settings and facts are the last run's.

    The runs must have one and the same network, and lie close together: each began where another one was.
    Raises DataError for shares that do not sum to 1, and for networks that differ; OutputError.
    """
    if len(runs) != len(shares) or abs(sum(shares) - 1) > 1e-6:
        raise DataError(
            f"{out}: {len(runs)} runs need a share each, 1 together; got {list(shares)}"
        )
    saved = [run.load("best.pt") for run in runs]
    nets = [one["net"] for one in saved if one is not None]
    shapes = [{name: tensor.shape for name, tensor in net.items()} for net in nets]
    if len(nets) < len(runs) or any(shape != shapes[0] for shape in shapes):
        raise DataError(
            f"{out}: the runs {', '.join(run.folder.name for run in runs)} are not of one network; average those that are"
        )
    mean = {
        name: sum(share * net[name] for share, net in zip(shares, nets, strict=True))
        if torch.is_floating_point(last)
        else last
        for name, last in nets[-1].items()
    }
    last = runs[-1]
    made = RunFolder(out, last.settings)
    told = ", ".join(
        f"{share:g} of {run.folder.name}" for run, share in zip(runs, shares, strict=True)
    )
    made.note({**last.facts, "weights_of": told})
    made.save("best.pt", {"net": mean})
    return made
