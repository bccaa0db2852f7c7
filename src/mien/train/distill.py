"""Teachers: trained networks whose averaged scores a student learns from, read on the very crops that the student sees."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mien.errors import DataError
from mien.tasks import Task

__all__ = ["Teachers"]


class Teachers(nn.Module):
    """Networks with the same tasks, averaged as scores over themselves and over each crop and its mirror image.

    Input (N, C, S, S); output raw (N, K) per task, so that decoding gives the average: the logarithm of the mean probability for
    `one_of`, its log odds for `any_of`, the mean itself for `scalar`. No gradient. Networks that learn by bins cannot teach this way.
    Raises DataError for a teacher of other tasks.
    """

    def __init__(self, nets: Sequence[tuple[str, tuple[Task, ...], nn.Module]], tasks: Sequence[Task]) -> None:
        super().__init__()
        for name, own, _ in nets:
            if own != tuple(tasks):
                raise DataError(f"{name}: this teacher was trained on {', '.join(t.key for t in own)}, the student's tasks are others")
        self.tasks = tuple(tasks)
        self.nets = nn.ModuleList(net.eval().requires_grad_(False) for _, _, net in nets)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Averaged raw output."""
        views = [net(view) for net in self.nets for view in (images, images.flip(3))]
        return tuple(_mean(task, torch.stack([view[i].float() for view in views])) for i, task in enumerate(self.tasks))

    def train(self, mode: bool = True) -> "Teachers":
        """Stays in evaluation mode."""
        return super().train(False)


def _mean(task: Task, raw: Tensor) -> Tensor:
    """Raw outputs (views, N, K) to the raw output (N, K) of their mean scores."""
    if task.kind == "one_of":
        return raw.softmax(dim=2).mean(dim=0).clamp_min(1e-8).log()
    if task.kind == "any_of":
        return torch.logit(raw.sigmoid().mean(dim=0), eps=1e-6)
    return raw.mean(dim=0)
