"""Losses over tables with missing labels. NaN in a target means "not annotated"; every loss goes through `masked_mean`.

A batch with no label for a task costs exactly zero and sends no gradient, never NaN.
"""

import torch
from torch import Tensor

__all__ = ["ccc_loss", "masked_mean", "scaled_mse", "soft_cross_entropy"]


def masked_mean(cost: Tensor, seen: Tensor) -> Tensor:
    """Mean of `cost` over the batch, counting 0 where `seen` is False.

    One labelled face in 64 therefore weighs 1/64, as it would if the other 63 had cost nothing.

    >>> masked_mean(torch.tensor([2.0, float("nan")]), torch.tensor([True, False])).item()
    1.0
    """
    return torch.where(seen, cost, torch.zeros_like(cost)).mean()


def soft_cross_entropy(raw: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of raw output (N, K) against label shares (N, K) that sum to 1; NaN rows are skipped."""
    seen = ~shares.isnan().any(dim=1)
    cost = -(shares.nan_to_num() * raw.log_softmax(dim=1)).sum(dim=1)
    return masked_mean(cost, seen)


def scaled_mse(pred: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Squared error (N, K) in units of each column's variance (K,), so rare and common columns weigh alike."""
    seen = ~target.isnan()
    return masked_mean((pred - target.nan_to_num()) ** 2 / variance, seen)


def ccc_loss(pred: Tensor, target: Tensor, floor: float = 1e-3, fewest: int = 8) -> Tensor:
    """1 - Lin's concordance (1989), population moments, mean over the columns of (N, K).

    Columns with fewer than `fewest` labels in the batch cost nothing; `floor` keeps a constant target finite.
    """
    costs = []
    for all_p, all_t in zip(pred.unbind(1), target.unbind(1), strict=True):
        seen = ~all_t.isnan()
        if int(seen.sum()) < fewest:
            continue
        p, t = all_p[seen], all_t[seen]
        shared = ((p - p.mean()) * (t - t.mean())).mean()
        spread = p.var(correction=0) + t.var(correction=0) + (p.mean() - t.mean()) ** 2
        costs.append(1 - 2 * shared / (spread + floor))
    return torch.stack(costs).mean() if costs else pred.sum() * 0
