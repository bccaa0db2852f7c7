"""Losses over tables with missing labels. NaN in a target means "not annotated"; every loss goes through `masked_mean`.

A batch with no label for a task costs exactly zero and sends no gradient, never NaN. Raw output is (N, K) before
`Task.decode`; targets are float32 (N, K).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from mien.errors import DataError

__all__ = [
    "Bins",
    "binary_cross_entropy",
    "binned_divergence",
    "binned_loss",
    "ccc_loss",
    "cross_entropy",
    "divergence",
    "masked_mean",
    "mixed",
    "scaled_mae",
    "scaled_mse",
]


def masked_mean(cost: Tensor, seen: Tensor) -> Tensor:
    """Mean of `cost` over the batch, counting 0 where `seen` is False.

    One labelled face in 64 therefore weighs 1/64, as it would if the other 63 had cost nothing.

    >>> masked_mean(torch.tensor([2.0, float("nan")]), torch.tensor([True, False])).item()
    1.0
    """
    return torch.where(seen, cost, torch.zeros_like(cost)).mean()


def cross_entropy(
    raw: Tensor,
    shares: Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    bootstrap: float = 0.0,
) -> Tensor:
    """Cross-entropy of raw output (N, K) against class shares (N, K) that sum to 1; rows with a NaN are not annotated.

    weights: (K,), inside the sum over the classes, so that smoothed mass on other classes is weighted as well (HSEmotion).
    smoothing: this much of every row is spread evenly over the K classes.
    bootstrap: this much of every row, before that, moves to the class that `raw` itself holds for the likeliest, without gradient
        (hard bootstrapping, Reed et al. 2015; HUST-ANT's belief at ABAW4 is 0.3).

    So all three together weigh ((1 - bootstrap) label + bootstrap own) (1 - smoothing) + smoothing / K, class by class.

    PyTorch's function is the same for shares. For class numbers it divides by the sum of the rows' class weights instead of
    their count, so there a batch of rare classes costs no more than one of common classes; here it does.

    >>> round(cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 1.0])).item(), 3)  # 3 log 2
    2.079
    """
    seen = ~shares.isnan().any(dim=1)
    soft = shares.nan_to_num()
    if bootstrap:
        soft = (1 - bootstrap) * soft + bootstrap * one_hot(raw.argmax(dim=1), raw.shape[1])
    soft = soft * (1 - smoothing) + smoothing / raw.shape[1]
    soft = soft if weights is None else soft * weights
    return masked_mean(-(soft * raw.log_softmax(dim=1)).sum(dim=1), seen)


def binary_cross_entropy(raw: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of raw output (N, K) against shares 0..1 (N, K); a row may be annotated in part.

    weights: (2, K) of negatives and of positives; N / (2 negatives) and N / (2 positives) make both sides weigh alike.
    """
    positive, negative = -logsigmoid(raw), -logsigmoid(-raw)
    if weights is not None:
        negative, positive = negative * weights[0], positive * weights[1]
    share = target.nan_to_num()
    return masked_mean(share * positive + (1 - share) * negative, ~target.isnan())


def scaled_mse(pred: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Squared error (N, K) in units of each column's variance (K,), so rare and common columns weigh alike."""
    return masked_mean((pred - target.nan_to_num()) ** 2 / variance, ~target.isnan())


def scaled_mae(pred: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Absolute error (N, K) in units of each column's standard deviation, the root of its variance (K,)."""
    return masked_mean((pred - target.nan_to_num()).abs() / variance.sqrt(), ~target.isnan())


def ccc_loss(pred: Tensor, target: Tensor, floor: float = 1e-3, fewest: int = 8) -> Tensor:
    """1 - Lin's concordance (1989) of each column of (N, K), over all its annotated rows; population moments, as in `metrics.ccc`.

    Every annotated row costs its column's 1 - CCC, so a column weighs as the share of the batch that is annotated.
    A column with fewer than `fewest` (at least 1) annotated rows costs nothing: concordance of so few says little.
    floor: is added to the denominator and keeps constants finite; above 0.
    """
    seen = ~target.isnan()
    count = seen.sum(dim=0)

    def mean(values: Tensor) -> Tensor:
        return torch.where(seen, values, torch.zeros_like(values)).sum(dim=0) / count.clamp(min=1)

    target = target.nan_to_num()
    apart = mean(pred) - mean(target)
    p, t = pred - mean(pred), target - mean(target)
    cost = 1 - 2 * mean(p * t) / (mean(p**2) + mean(t**2) + apart**2 + floor)
    return masked_mean(cost.expand_as(target), seen & (count >= fewest))


@dataclass(frozen=True)
class Bins:
    """Numbers in [low, high] as a choice among `count` bins of equal width; the right edge belongs to the last bin.

    Raw output is (…, K * count): the bins of the first column, then those of the second. A number is decoded as the
    expectation over the bins' `support`: their centres, or with `legacy` `count` points from low to high (NISL at ABAW2),
    which reach the ends but lie up to half a bin beside what the bins were taught.
    """

    low: float = -1.0
    high: float = 1.0
    count: int = 20
    legacy: bool = False

    @cached_property
    def edges(self) -> Tensor:
        """Edges (count + 1,), float32."""
        return torch.from_numpy(np.linspace(self.low, self.high, self.count + 1).astype(np.float32))

    @cached_property
    def support(self) -> Tensor:
        """What each bin stands for (count,), float32."""
        return (
            torch.linspace(self.low, self.high, self.count)
            if self.legacy
            else (self.edges[1:] + self.edges[:-1]) / 2
        )

    def encode(self, values: Tensor) -> Tensor:
        """Bin numbers int64 of values of any shape; -1 for NaN. Raises DataError for a value outside [low, high].

        >>> Bins().encode(torch.tensor([-1, -0.95, 0, 0.999, 1, float("nan")])).tolist()
        [0, 0, 10, 19, 19, -1]
        """
        values = values.float()
        if ((values < self.low) | (values > self.high)).any():
            raise DataError(
                f"labels reach beyond {self.low:g}..{self.high:g}; the adapter must turn codes such as -5 into NaN"
            )
        found = torch.bucketize(values.contiguous(), self.edges.to(values.device), right=True) - 1
        return torch.where(values.isnan(), -1, found.clamp(max=self.count - 1))

    def decode(self, raw: Tensor) -> Tensor:
        """Raw output (…, K * count) as numbers (…, K) within [low, high]."""
        return torch.matmul(self.split(raw).softmax(dim=-1), self.support.to(raw))

    def split(self, raw: Tensor) -> Tensor:
        """Raw output (…, K * count) as (…, K, count)."""
        return torch.unflatten(raw, -1, (-1, self.count))


def binned_loss(
    raw: Tensor, target: Tensor, bins: Bins, floor: float = 1e-3, fewest: int = 8
) -> Tensor:
    """Cross-entropy over the bins plus `ccc_loss` of the expectation (NISL at ABAW2); raw (N, K * count), target (N, K)."""
    number = bins.encode(target)
    cost = (
        -bins.split(raw).log_softmax(dim=2).gather(2, number.clamp(min=0).unsqueeze(2)).squeeze(2)
    )
    return masked_mean(cost, number >= 0) + ccc_loss(bins.decode(raw), target, floor, fewest)


def divergence(raw: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence (…) of the student from the teacher, both raw (…, K), softened and scaled by temperature squared.

    The square keeps gradients of one size whatever the temperature (Hinton, Vinyals & Dean 2015, section 2).
    """
    ours, theirs = (
        (raw / temperature).log_softmax(dim=-1),
        (teacher / temperature).log_softmax(dim=-1),
    )
    return (theirs.exp() * (theirs - ours)).sum(dim=-1) * temperature**2


def binned_divergence(raw: Tensor, teacher: Tensor, bins: Bins, temperature: float) -> Tensor:
    """`divergence` (N, K) over the bins of each column; raw and teacher (N, K * count)."""
    return divergence(bins.split(raw), bins.split(teacher), temperature)


def mixed(supervised: Tensor, distilled: Tensor, seen: Tensor, weight: float) -> Tensor:
    """Labels and teacher together: (1 - weight) labels + weight teacher where annotated, the teacher alone where not.

    supervised: a masked mean over the batch. distilled, seen: the teacher's cost and whether there is a label, (N,) or (N, K).
    Every row counts once, whichever group it is in, so one labelled face among 64 cannot outweigh the others.

    >>> cost = mixed(torch.tensor(0.5), torch.tensor([3.0, 1.0]), torch.tensor([True, False]), weight=0.4)
    >>> round(cost.item(), 3)  # 0.6 * 0.5 + (0.4 * 3 + 1) / 2
    1.4
    """
    return (1 - weight) * supervised + (distilled * torch.where(seen, weight, 1.0)).mean()
