"""Features as deviation: what a network says beyond what it said before training (HUST-ANT at ABAW4, on synthetic faces).

After the Deviation Learning Network of Zhang et al. (CVPR 2021), of which HUST-ANT kept the subtraction alone. There the frozen network
recognises people, here it is the same network with its starting weights: identity is not taken out, but what training does is
measured from where it began. HUST-ANT add 1e-6 to the difference in training; that is cosmetic and left out. It only lets gradients
of 1e-7 and less reach the head in the first step; after that step the difference itself is a thousand times larger.
"""

from copy import deepcopy
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

__all__ = ["Deviation"]


class Deviation(nn.Module):
    """A backbone that learns minus a frozen copy of itself as it is now: crops (N, channels, S, S) to features (N, D).

    D is the backbone's `num_features`. The features are exactly 0 until the first step; heads then answer alike to every face, and
    the gradient reaches the copy that learns. Only that copy is ever trained, whatever `requires_grad_` says. Both stay in evaluation
    mode: batch-norm statistics, dropout and stochastic depth are frozen, so one face gives one difference. A backbone that adds to
    the loss in training mode (DDAMFN) therefore adds nothing here.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.trained = cast(Any, net)
        self.frozen = cast(Any, deepcopy(net)).requires_grad_(False)
        self.num_features = self.trained.num_features
        self.usual_head = getattr(net, "usual_head", "linear")
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features, signed."""
        with torch.no_grad():
            before: Tensor = self.frozen(images)
        now: Tensor = self.trained(images)
        return now - before

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let the copy that learns have gradients or none; the frozen copy never has any."""
        self.trained.requires_grad_(requires_grad)
        return self

    def settle(self, images: Tensor) -> None:
        """`FaceResNet.settle`, for both copies alike; before training only, when they are the same."""
        self.trained.settle(images)
        self.frozen.load_state_dict(self.trained.state_dict())

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)
