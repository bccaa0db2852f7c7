"""Relative uncertainty learning (RUL; Zhang et al., NeurIPS 2021).

A head learns how unsure it is of each face. Two branches read the features: one gives a mean, the
other the logarithm of a variance. In training every face is mixed with another, and the less sure
the network is of a face, the larger its share of the mixture, which must be recognised as both. So
the second branch learns without labels of its own which faces are hard. Departure: the paper's
branches read a 7x7 map, these read pooled features, so that they fit any backbone and cached
features.
"""

import torch
from torch import Tensor, nn

__all__ = ["UncertainHead"]


class UncertainHead(nn.Module):
    """Features (N, D) to raw output (N, K) of a ``one_of`` task; from the mean alone in evaluation.

    In training mode the raw output is of mixtures: with u the mean variance of a face and j its
    partner in a random order of the batch, row i is (u_i mean_i + u_j mean_j) / (u_i + u_j). Over
    several processes each mixes its own part of the batch.

    Attributes:
        mean: The branch that gives means (N, width).
        log_variance: The branch that gives logarithms of variances (N, width).
        last: The layer that gives raw output.
        partner: Row number of each face's partner in the last forward pass (N,), int64; None when
            nothing was mixed.
    """

    bins: None = None
    squash: None = None

    def __init__(self, width_in: int, width: int, width_out: int, dropout: float) -> None:
        """Make the head with PyTorch's starting weights.

        Args:
            width_in: Number of features, D.
            width: Of both branches.
            width_out: Number of classes, K.
            dropout: Share of the normalised features dropped in training before each branch, 0..1.
        """
        super().__init__()
        self.mean = _branch(width_in, width, dropout)
        self.log_variance = _branch(width_in, width, dropout)
        self.last = nn.Linear(width, width_out)
        self.partner: Tensor | None = None

    def features(self, features: Tensor) -> Tensor:
        """Compute what the last layer reads.

        Args:
            features: (N, D).

        Returns:
            Means (N, width), or in training mode their mixtures with partners drawn anew.
        """
        mean: Tensor = self.mean(features)
        if not self.training:
            self.partner = None
            return mean
        # Drawn on the CPU, whose random state a checkpoint holds, so that every device draws the
        # same.
        partner = torch.randperm(len(features)).to(features.device)
        self.partner = partner
        # Mixed precision would round the exponential, so it is taken in float32.
        variance = self.log_variance(features).float().exp()
        uncertainty = variance.mean(dim=1, keepdim=True)
        share = uncertainty / (uncertainty + uncertainty[partner])
        mixture: Tensor = share * mean + (1 - share) * mean[partner]
        return mixture

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (N, D).

        Returns:
            Raw output (N, K), of mixtures in training mode.
        """
        raw: Tensor = self.last(self.features(features))
        return raw

    def mixed_targets(self, targets: Tensor) -> Tensor:
        """Mix targets as the last forward pass mixed faces.

        Each result is the mean of the class shares of a face and of its partner. Cross-entropy is
        linear in the shares, so this costs half the sum of the costs of the two labels (the paper's
        add-up loss).

        Args:
            targets: Class shares (N, K) of the faces that went in; NaN = not annotated.

        Returns:
            Targets (N, K) of the mixtures, NaN where either face's is; `targets` itself after a
            pass that mixed nothing.
        """
        if self.partner is None:
            return targets
        return (targets + targets[self.partner]) / 2


def _branch(width_in: int, width: int, dropout: float) -> nn.Sequential:
    # The paper's norm has no scale and shift. Batch norm over several processes needs them, so
    # they are here and stay 1 and 0.
    norm = nn.BatchNorm1d(width_in)
    norm.requires_grad_(False)
    return nn.Sequential(
        norm, nn.Dropout(dropout), nn.Linear(width_in, width), nn.BatchNorm1d(width)
    )
