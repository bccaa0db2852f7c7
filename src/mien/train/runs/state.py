"""What changes while a network is trained, as one object that goes into a checkpoint and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import torch
from lightning_fabric.plugins.precision import Precision

from mien.errors import DataError
from mien.train.networks.network import MultiTaskNet
from mien.train.optim import Average

__all__ = ["TrainingState"]

# Fields that a checkpoint holds as they are; the others have a `state_dict`.
_PLAIN_FIELDS: Final = ("step", "loss", "best", "best_epoch", "seconds", "rows", "unreadable")


@dataclass
class TrainingState:
    """Everything that changes while training; all of it is in a checkpoint.

    Attributes:
        net: The network that learns.
        average: The running average of its weights; None where the settings ask for none.
        optimiser: Its optimiser.
        precision: Of the forward pass; in 16-mixed it has a scale of the loss that changes.
        step: Steps done since the run began.
        loss: Sum of the losses of this epoch's steps.
        best: Best watched score so far.
        best_epoch: The epoch that had it, from 0; -1 before any epoch had a score.
        seconds: Time spent on training, over all sessions.
        rows: The curve, one row per epoch.
        unreadable: Rows of the training table that could not be read.
    """

    net: MultiTaskNet
    average: Average | None
    optimiser: torch.optim.Optimizer
    precision: Precision
    step: int = 0
    loss: float = 0.0
    best: float = float("-inf")
    best_epoch: int = -1
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)

    @property
    def evaluated_net(self) -> MultiTaskNet:
        """The network that is evaluated and kept: the average where there is one."""
        if self.average is None:
            return self.net
        return cast(MultiTaskNet, self.average.net)

    def to_checkpoint(self) -> dict[str, Any]:
        """Pack the state.

        Returns:
            Tensors and plain values by name, for `torch.save`.
        """
        checkpoint = {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()
        # Dropout on a GPU draws from the GPU's own generator.
        if torch.cuda.is_initialized():
            checkpoint["random_cuda"] = torch.cuda.get_rng_state()
        for name in _PLAIN_FIELDS:
            checkpoint[name] = getattr(self, name)
        return checkpoint

    def restore(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Take the whole state, random generators included, from a checkpoint.

        Args:
            checkpoint: As `to_checkpoint` made it.
            path: File that it came from, for messages.

        Raises:
            DataError: It belongs to another network or to other settings.
        """
        try:
            if ("average" in checkpoint) != (self.average is not None):
                raise KeyError("average")
            self.net.load_state_dict(checkpoint["net"])
            self.optimiser.load_state_dict(checkpoint["optimiser"])
            # Checkpoints from before it was kept have none.
            if "precision" in checkpoint:
                self.precision.load_state_dict(checkpoint["precision"])
            if self.average is not None:
                self.average.load_state_dict(checkpoint["average"])
            torch.set_rng_state(checkpoint["random"])
            for name in _PLAIN_FIELDS:
                setattr(self, name, checkpoint[name])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: belongs to another run, its parts do not fit these settings; "
                "delete it to start again"
            ) from error
        if "random_cuda" in checkpoint and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(checkpoint["random_cuda"])
