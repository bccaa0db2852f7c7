"""RandAugment (Cubuk et al. 2020) of single pictures, as a `mien.data.balance.Change`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

__all__ = ["RandAugment"]

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RandAugment:
    """Operations drawn from torchvision's fourteen, one after another.

    Pixels that a shift, shear or rotation leaves uncovered are black.

    Attributes:
        ops: Number of operations.
        magnitude: Their strength, 0..30.
    """

    ops: int = 2
    magnitude: int = 9

    def facts(self) -> dict[str, Any]:
        """List what decides the result.

        Returns:
            The facts, for JSON.
        """
        return {"change": "randaugment", "ops": self.ops, "magnitude": self.magnitude}

    def __call__(self, image: Image, seed: int) -> Image:
        """Change a picture.

        Args:
            image: RGB uint8 (H, W, 3).
            seed: Of the random operations.

        Returns:
            RGB uint8 (H, W, 3), always the same for a seed.
        """
        # Afterwards torch's generator continues as if nothing had been drawn.
        with torch.random.fork_rng(devices=[]):
            # Only the CPU's generator: the operations draw from no other.
            torch.default_generator.manual_seed(seed)
            change = v2.RandAugment(self.ops, self.magnitude)
            picture = torch.from_numpy(image.transpose(2, 0, 1).copy())
            changed = change(picture)
        return np.ascontiguousarray(changed.numpy().transpose(1, 2, 0))
