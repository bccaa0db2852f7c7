"""Relative uncertainty learning: a head that is taught to mix faces by how unsure it is of each (RUL, Zhang et al., NeurIPS 2021).

Two branches read the features: one gives a mean, the other the logarithm of a variance. In training every face is mixed with another,
and the less sure the network is of a face, the more of it there is in the mixture, which is to be recognised as both. So the second
branch learns without labels of its own which faces are hard. Departure: the paper's branches read a map of 7x7, these read pooled
features, so that any backbone and cached features will do.
"""

import torch
from torch import Tensor, nn

__all__ = ["UncertainHead"]


class UncertainHead(nn.Module):
    """Features (N, D) to raw (N, K) of a ``one_of`` task; in evaluation mode from the mean alone.

    In training mode raw is of mixtures: with u the mean variance of a face and j its partner in a random order of the batch, row i is
    (u_i mean_i + u_j mean_j) / (u_i + u_j). `paired` gives the targets of the last mixtures. Over several processes each mixes its own
    part of the batch.
    width: of both branches. dropout: share of the normalised features that is dropped in training before each branch, 0..1.
    """

    bins: None = None
    squash: None = None

    def __init__(self, width_in: int, width: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.mean = _branch(width_in, width, dropout)
        self.log_variance = _branch(width_in, width, dropout)
        self.last = nn.Linear(width, width_out)
        self.partner: Tensor | None = None

    def features(self, features: Tensor) -> Tensor:
        """What the last layer reads (N, width): means, or in training mode their mixtures with partners that are drawn anew."""
        mean: Tensor = self.mean(features)
        if not self.training:
            self.partner = None
            return mean
        # Drawn on the CPU, whose random state a checkpoint holds, so that every device draws the same.
        self.partner = torch.randperm(len(features)).to(features.device)
        unsure = self.log_variance(features).float().exp().mean(dim=1, keepdim=True)
        share = unsure / (unsure + unsure[self.partner])
        mixture: Tensor = share * mean + (1 - share) * mean[self.partner]
        return mixture

    def forward(self, features: Tensor) -> Tensor:
        """Raw output (N, K)."""
        raw: Tensor = self.last(self.features(features))
        return raw

    def paired(self, target: Tensor) -> Tensor:
        """Targets (N, K) of what the last forward pass mixed; as they are after one that mixed nothing.

        Each is the mean of a face's class shares and its partner's, and NaN where either is: cross-entropy is linear in the shares, so
        this costs what half the cost to each of both labels costs (the paper's add-up loss).
        """
        return target if self.partner is None else (target + target[self.partner]) / 2


def _branch(width_in: int, width: int, dropout: float) -> nn.Sequential:
    plain = nn.BatchNorm1d(width_in)
    # The paper's has no scale and shift; batch norm over several processes wants some, so they stay 1 and 0.
    plain.requires_grad_(False)
    return nn.Sequential(
        plain, nn.Dropout(dropout), nn.Linear(width_in, width), nn.BatchNorm1d(width)
    )
