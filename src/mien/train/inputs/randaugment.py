"""RandAugment (Cubuk et al. 2020) of single pictures, as `mien.data.balance` wants a change."""

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
    """`ops` operations in a row, drawn from torchvision's fourteen, at strength `magnitude` of 0..30; what is laid bare is black."""

    ops: int = 2
    magnitude: int = 9

    def facts(self) -> dict[str, Any]:
        """What decides the result, for JSON."""
        return {"change": "randaugment", "ops": self.ops, "magnitude": self.magnitude}

    def __call__(self, image: Image, seed: int) -> Image:
        """The changed picture, RGB uint8 (H, W, 3), always the same for a seed. Torch's own random numbers go on as before."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # of the CPU alone, where the operations draw
            changed = v2.RandAugment(self.ops, self.magnitude)(
                torch.from_numpy(image.transpose(2, 0, 1).copy())
            )
        return np.ascontiguousarray(changed.numpy().transpose(1, 2, 0))
