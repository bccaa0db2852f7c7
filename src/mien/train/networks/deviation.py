"""Features as deviation: what a network gives beyond what it gave before training.

HUST-ANT's at ABAW4, after the Deviation Learning Network of Zhang et al. (CVPR 2021), of which
HUST-ANT kept the subtraction alone. In the paper the frozen network recognises people; HUST-ANT's
is the same network with its starting weights, so that the features measure what training changes,
not identity. HUST-ANT add 1e-6 to the difference in training, which is left out: it only lets
gradients of 1e-7 and less reach the head in the first step, after which the difference itself is a
thousand times larger.
"""

from copy import deepcopy
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

__all__ = ["Deviation"]


class Deviation(nn.Module):
    """A backbone minus a frozen copy of itself: crops (N, channels, S, S) to features (N, D).

    The features are exactly 0 until the first step: heads then give every face the same output, and
    the gradient reaches the copy that learns. Only that copy is ever trained, whatever
    `requires_grad_` says. Both stay in evaluation mode: batch-norm statistics, dropout and
    stochastic depth are frozen, so that one face gives one difference. A backbone that adds to the
    loss in training mode (DDAMFN) therefore adds nothing here.

    Attributes:
        trained: The copy that learns.
        frozen: The copy that stays as it was.
        num_features: Width D of the features.
        usual_head: Kind of the heads where settings name none.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.trained = cast(Any, net)
        self.frozen = cast(Any, deepcopy(net)).requires_grad_(False)
        self.num_features = self.trained.num_features
        self.usual_head = getattr(net, "usual_head", "linear")
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the deviation from the start.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Features (N, D), signed.
        """
        with torch.no_grad():
            before: Tensor = self.frozen(images)
        now: Tensor = self.trained(images)
        return now - before

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Turn gradients on or off for the copy that learns; the frozen copy never has any.

        Args:
            requires_grad: Whether the copy that learns has gradients.

        Returns:
            This module.
        """
        self.trained.requires_grad_(requires_grad)
        return self

    def unfold_norms(self, images: Tensor) -> None:
        """Unfold the norms of both copies alike; see `FaceResNet.unfold_norms`.

        Only before training, while the copies are the same.

        Args:
            images: Crops (N, channels, S, S).
        """
        self.trained.unfold_norms(images)
        self.frozen.load_state_dict(self.trained.state_dict())

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode.

        Args:
            mode: Ignored.

        Returns:
            This module.
        """
        return super().train(False)
