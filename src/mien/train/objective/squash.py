"""The tanh that keeps raw output in its range."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Squash"]

_SQUASH_EDGE = 0.995
"""The largest tanh that is inverted; that of 1 would be infinite."""


@dataclass(frozen=True)
class Squash:
    """A tanh, scaled so that all numbers lie between low and high.

    HSEmotion's valence and arousal heads on cached features end so (ABAW4 and ABAW7). Their whole
    networks were trained without it, since training was unstable with it (the author, on
    AffectNet).

    Attributes:
        low: Lower bound of the numbers.
        high: Upper bound of the numbers.
    """

    low: float
    high: float

    @property
    def _centre(self) -> float:
        return (self.low + self.high) / 2

    @property
    def _half_range(self) -> float:
        return (self.high - self.low) / 2

    def __call__(self, raw: Tensor) -> Tensor:
        """Squash raw output.

        Args:
            raw: Any shape.

        Returns:
            Numbers between low and high, of the same shape.
        """
        return self._centre + self._half_range * raw.tanh()

    def inverse(self, numbers: Tensor) -> Tensor:
        """Find the raw output that is squashed to given numbers.

        The outer 0.25 % of the range at either end counts as its edge, because tanh never reaches
        the ends.

        Args:
            numbers: Numbers in low..high, any shape.

        Returns:
            Raw output of the same shape.
        """
        centred = (numbers - self._centre) / self._half_range
        inside = centred.clamp(-_SQUASH_EDGE, _SQUASH_EDGE)
        return inside.atanh()
