"""Losses over tables with missing labels.

NaN in a target means "not annotated"; every loss goes through `masked_mean`. A batch with no label
for a task costs exactly zero and sends no gradient, never NaN. Raw output is (N, K) before
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
    "focal_binary",
    "focal_cross_entropy",
    "masked_mean",
    "mixed",
    "scaled_mae",
    "scaled_mse",
]


def masked_mean(cost: Tensor, seen: Tensor) -> Tensor:
    """Average `cost` over the batch, counting 0 where nothing is annotated.

    One labelled face in 64 therefore weighs 1/64, as if the other 63 had cost nothing.

    Args:
        cost: Any shape; may be NaN where `seen` is False.
        seen: Whether each element is annotated, bool, of the shape of `cost`.

    Returns:
        The mean, a scalar.

    >>> masked_mean(torch.tensor([2.0, float("nan")]), torch.tensor([True, False])).item()
    1.0
    """
    # `where` rather than a product: NaN times 0 is NaN, in the gradient too.
    counted = torch.where(seen, cost, torch.zeros_like(cost))
    return counted.mean()


def cross_entropy(
    raw: Tensor,
    shares: Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    bootstrap: float = 0.0,
) -> Tensor:
    """Cross-entropy of raw output against class shares.

    Class by class, bootstrap, smoothing and weights together weigh
    weight * (((1 - bootstrap) label + bootstrap own) (1 - smoothing) + smoothing / K).

    PyTorch's function is the same for shares. For class numbers it divides by the sum of the rows'
    class weights instead of their count, so there a batch of rare classes costs no more than one
    of common classes; here it does.

    Args:
        raw: (N, K).
        shares: (N, K), rows sum to 1; rows with a NaN are not annotated.
        weights: (K,), inside the sum over the classes, so that smoothed mass on other classes is
            weighted as well (HSEmotion).
        smoothing: Share of every row that is spread evenly over the K classes.
        bootstrap: Share of every row that moves, before smoothing, to the class that `raw` itself
            finds likeliest, without gradient (hard bootstrapping, Reed et al. 2015; HUST-ANT's
            belief at ABAW4 is 0.3).

    Returns:
        The mean cost, a scalar.

    >>> label, weights = torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 1.0])
    >>> round(cross_entropy(torch.zeros(1, 2), label, weights).item(), 3)  # 3 log 2
    2.079
    """
    seen = ~shares.isnan().any(dim=1)
    soft = shares.nan_to_num()
    classes = raw.shape[1]
    if bootstrap:
        # `argmax` has no gradient: the network is not rewarded for being sure of itself.
        likeliest = one_hot(raw.argmax(dim=1), classes)
        soft = (1 - bootstrap) * soft + bootstrap * likeliest
    soft = soft * (1 - smoothing) + smoothing / classes
    if weights is not None:
        soft = soft * weights
    cost = -(soft * raw.log_softmax(dim=1)).sum(dim=1)
    return masked_mean(cost, seen)


def binary_cross_entropy(raw: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of raw output against shares 0..1.

    Args:
        raw: (N, K).
        target: (N, K); a row may be annotated in part.
        weights: (2, K) of negatives and of positives. N / (2 negatives) and N / (2 positives) make
            both sides weigh alike.

    Returns:
        The mean cost, a scalar.
    """
    # `logsigmoid` stays exact where the sigmoid itself rounds to 0 or 1.
    positive = -logsigmoid(raw)
    negative = -logsigmoid(-raw)
    if weights is not None:
        negative = negative * weights[0]
        positive = positive * weights[1]
    share = target.nan_to_num()
    cost = share * positive + (1 - share) * negative
    return masked_mean(cost, ~target.isnan())


def focal_cross_entropy(raw: Tensor, shares: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 4) of a choice among classes.

    Class by class, share * (1 - p)^gamma * -log p, where p is what the network gives the class.

    Args:
        raw: (N, K).
        shares: (N, K), rows sum to 1; rows with a NaN are not annotated.
        gamma: At least 0; 0 is cross-entropy.

    Returns:
        The mean cost, a scalar.

    >>> cost = focal_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), gamma=2.0)
    >>> round(cost.item(), 3)  # log(2) / 4
    0.173
    """
    log_p = raw.log_softmax(dim=1)
    cost = -(shares.nan_to_num() * _focus(log_p, gamma) * log_p).sum(dim=1)
    return masked_mean(cost, ~shares.isnan().any(dim=1))


def focal_binary(raw: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 4) of independent labels.

    Args:
        raw: (N, K).
        target: Shares 0..1 (N, K); a row may be annotated in part.
        gamma: At least 0; 0 is binary cross-entropy.

    Returns:
        The mean cost, a scalar.
    """
    log_p, log_q = logsigmoid(raw), logsigmoid(-raw)
    share = target.nan_to_num()
    present = share * _focus(log_p, gamma) * log_p
    absent = (1 - share) * _focus(log_q, gamma) * log_q
    return masked_mean(-present - absent, ~target.isnan())


def _focus(log_p: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma, of log p."""
    # A root of exactly 0, where p rounds to 1, would send an infinite gradient.
    distance = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
    return distance**gamma


def scaled_mse(pred: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Squared error in units of each column's variance, so rare and common columns weigh alike.

    Args:
        pred: (N, K).
        target: (N, K).
        variance: (K,), above 0.

    Returns:
        The mean cost, a scalar.
    """
    # NaN would spread through the gradient, although its cost is masked.
    error = pred - target.nan_to_num()
    return masked_mean(error**2 / variance, ~target.isnan())


def scaled_mae(pred: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Absolute error in units of each column's standard deviation.

    Args:
        pred: (N, K).
        target: (N, K).
        variance: (K,), above 0.

    Returns:
        The mean cost, a scalar.
    """
    error = pred - target.nan_to_num()
    return masked_mean(error.abs() / variance.sqrt(), ~target.isnan())


def ccc_loss(pred: Tensor, target: Tensor, floor: float = 1e-3, fewest: int = 8) -> Tensor:
    """1 - Lin's concordance (1989) of each column over its annotated rows.

    Population moments, as in `metrics.ccc`. Every annotated row costs its column's 1 - CCC, so a
    column weighs as the share of the batch that is annotated.

    Args:
        pred: (N, K).
        target: (N, K).
        floor: Added to the denominator, above 0; it keeps constants finite.
        fewest: Annotated rows, at least 1, below which a column costs nothing: the concordance of
            so few rows is mostly chance.

    Returns:
        The mean cost, a scalar.
    """
    seen = ~target.isnan()
    count = seen.sum(dim=0)

    def mean(values: Tensor) -> Tensor:
        """Mean (K,) of each column over its annotated rows; 0 without any."""
        counted = torch.where(seen, values, torch.zeros_like(values))
        return counted.sum(dim=0) / count.clamp(min=1)

    target = target.nan_to_num()
    bias = mean(pred) - mean(target)
    p = pred - mean(pred)
    t = target - mean(target)
    spread = mean(p**2) + mean(t**2) + bias**2 + floor
    concordance = 2 * mean(p * t) / spread
    # One cost per annotated row, so that columns weigh by how many rows they have.
    cost = (1 - concordance).expand_as(target)
    counts = count >= fewest
    return masked_mean(cost, seen & counts)


@dataclass(frozen=True)
class Bins:
    """Numbers in [low, high] as a choice among `count` bins of equal width.

    The right edge belongs to the last bin. Raw output is (…, K * count): the bins of the first
    column, then those of the second. A number is decoded as the expectation over the bins'
    `support`.

    Attributes:
        low: Lower edge of the first bin.
        high: Upper edge of the last bin.
        count: Number of bins.
        legacy: The support is `count` points from low to high (NISL at ABAW2) rather than the
            bins' centres. They reach the ends, but lie up to half a bin off the values that the
            bins are trained on.
    """

    low: float = -1.0
    high: float = 1.0
    count: int = 20
    legacy: bool = False

    @cached_property
    def edges(self) -> Tensor:
        """Edges (count + 1,), float32."""
        # In double precision first: torch's own float32 edges differ in the last digit.
        edges = np.linspace(self.low, self.high, self.count + 1)
        return torch.from_numpy(edges.astype(np.float32))

    @cached_property
    def support(self) -> Tensor:
        """The number that each bin stands for (count,), float32."""
        if self.legacy:
            return torch.linspace(self.low, self.high, self.count)
        lower, upper = self.edges[:-1], self.edges[1:]
        return (upper + lower) / 2

    def encode(self, values: Tensor) -> Tensor:
        """Find the bin of each value.

        Args:
            values: Any shape.

        Returns:
            Bin numbers, int64; -1 for NaN.

        Raises:
            DataError: A value lies outside [low, high].

        >>> Bins().encode(torch.tensor([-1, -0.95, 0, 0.999, 1, float("nan")])).tolist()
        [0, 0, 10, 19, 19, -1]
        """
        values = values.float()
        is_outside = (values < self.low) | (values > self.high)
        if is_outside.any():
            raise DataError(
                f"labels reach beyond {self.low:g}..{self.high:g}; "
                "the adapter must turn codes such as -5 into NaN"
            )
        edges = self.edges.to(values.device)
        numbers = torch.bucketize(values.contiguous(), edges, right=True) - 1
        # The right edge itself would fall into one bin more.
        numbers = numbers.clamp(max=self.count - 1)
        return torch.where(values.isnan(), -1, numbers)

    def decode(self, raw: Tensor) -> Tensor:
        """Turn raw output into numbers.

        Args:
            raw: (…, K * count).

        Returns:
            Numbers (…, K) within [low, high].
        """
        shares = self.split(raw).softmax(dim=-1)
        return torch.matmul(shares, self.support.to(raw))

    def split(self, raw: Tensor) -> Tensor:
        """Put the bins on a separate axis.

        Args:
            raw: (…, K * count).

        Returns:
            The same numbers, (…, K, count).
        """
        return torch.unflatten(raw, -1, (-1, self.count))


def binned_loss(
    raw: Tensor, target: Tensor, bins: Bins, floor: float = 1e-3, fewest: int = 8
) -> Tensor:
    """Cross-entropy over the bins plus `ccc_loss` of the expectation (NISL at ABAW2).

    Args:
        raw: (N, K * count).
        target: (N, K).
        bins: The bins.
        floor: As for `ccc_loss`.
        fewest: As for `ccc_loss`.

    Returns:
        The cost, a scalar.

    Raises:
        DataError: A target lies outside the bins.
    """
    number = bins.encode(target)
    log_shares = bins.split(raw).log_softmax(dim=2)
    # Rows without a label have number -1; any bin does, since they are masked below.
    index = number.clamp(min=0).unsqueeze(2)
    cost = -log_shares.gather(2, index).squeeze(2)
    entropy = masked_mean(cost, number >= 0)
    return entropy + ccc_loss(bins.decode(raw), target, floor, fewest)


def divergence(raw: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, softened by a temperature.

    The result is scaled by the temperature squared, which keeps gradients of one size whatever the
    temperature (Hinton, Vinyals & Dean 2015, section 2).

    Args:
        raw: Raw output of the student (…, K).
        teacher: Raw output of the teacher (…, K).
        temperature: Above 0; 1 leaves both as they are.

    Returns:
        The divergence (…).
    """
    student_log = (raw / temperature).log_softmax(dim=-1)
    teacher_log = (teacher / temperature).log_softmax(dim=-1)
    # In logarithms throughout: shares that round to 0 would give infinite costs.
    difference = teacher_log - student_log
    cost = (teacher_log.exp() * difference).sum(dim=-1)
    return cost * temperature**2


def binned_divergence(raw: Tensor, teacher: Tensor, bins: Bins, temperature: float) -> Tensor:
    """Compute `divergence` over the bins of each column.

    Args:
        raw: (N, K * count).
        teacher: (N, K * count).
        bins: The bins.
        temperature: As for `divergence`.

    Returns:
        The divergence (N, K).
    """
    return divergence(bins.split(raw), bins.split(teacher), temperature)


def mixed(supervised: Tensor, distilled: Tensor, seen: Tensor, weight: float) -> Tensor:
    """Combine the costs of labels and teacher.

    Annotated rows cost (1 - weight) labels + weight teacher, the others the teacher alone. Every
    row counts once in either group, so one labelled face among 64 cannot outweigh the others.

    Args:
        supervised: Cost of the labels, a masked mean over the batch.
        distilled: Cost of the teacher, (N,) or (N, K).
        seen: Whether there is a label, bool, of the shape of `distilled`.
        weight: Share of the teacher, 0..1.

    Returns:
        The cost, a scalar.

    >>> cost = mixed(
    ...     torch.tensor(0.5), torch.tensor([3.0, 1.0]), torch.tensor([True, False]), weight=0.4
    ... )
    >>> round(cost.item(), 3)  # 0.6 * 0.5 + (0.4 * 3 + 1) / 2
    1.4
    """
    shares = torch.where(seen, weight, 1.0)
    taught = (distilled * shares).mean()
    return (1 - weight) * supervised + taught
