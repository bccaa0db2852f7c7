"""Teachers: trained networks whose averaged scores a student learns from."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from mien.errors import DataError
from mien.tasks import Task
from mien.train.crops import Crops
from mien.train.networks import MultiTaskNet
from mien.train.runs import RunFolder
from mien.train.settings import Settings
from mien.train.trained import network_of, raw_scores

__all__ = ["Taught", "Teacher", "mean_raw", "teacher_of"]

Taught = tuple[Tensor, ...]
"""Raw output (N, K) per task, so that decoding it gives the teachers' averaged scores."""
Teacher = Callable[[Tensor, list[int]], Taught]
"""From the images (N, C, S, S) of a batch and their rows in the training table to what the teachers say of them."""


def teacher_of(settings: Settings, run: RunFolder, tasks: Sequence[Task], train: pd.DataFrame, device: torch.device) -> Teacher | None:
    """The teachers of `settings`, each averaged over a face and its mirror image; None without teachers.

    run: folder that remembers what teachers said who see every picture once.
    Raises DataError for a teacher of other tasks, of binned outputs, or, where it sees the student's crops, of other crops.
    """
    if not settings.teachers:
        return None
    runs = [RunFolder(folder) for folder in settings.teachers]
    for one in runs:
        own = [spec.task for spec in one.tasks]
        if own != list(tasks):
            raise DataError(f"{one.folder}: this teacher was trained on {', '.join(t.key for t in own)}; the student's tasks are others")
        if binned := [family for family, loss in one.settings.losses.items() if loss.kind == "bins"]:
            raise DataError(f"{one.folder}: this teacher learned {', '.join(binned)} by bins, which cannot be averaged; train it without")
    if settings.teachers_see == "picture":
        return _remembering(settings, run, runs, tasks, train)
    if strange := [str(one.folder) for one in runs if one.settings.pixels != settings.pixels]:
        raise DataError(f"{strange[0]}: this teacher reads other crops; give it the same `pixels`, or let `teachers_see` be picture")
    return _looking([network_of(one).to(device).requires_grad_(False) for one in runs], tasks)


def _looking(nets: Sequence[MultiTaskNet], tasks: Sequence[Task]) -> Teacher:
    @torch.no_grad()
    def look(images: Tensor, rows: list[int]) -> Taught:
        views = [net(view) for net in nets for view in (images, images.flip(3))]
        return tuple(mean_raw(task, torch.stack([view[i].float() for view in views])) for i, task in enumerate(tasks))

    return look


def _remembering(settings: Settings, run: RunFolder, runs: Sequence[RunFolder], tasks: Sequence[Task], train: pd.DataFrame) -> Teacher:
    known = run.load("taught.pt")
    if known is None:
        views = []
        for one in runs:
            crops = Crops(train, tasks, one.settings.pixels, settings.fit.skip_unreadable)
            net = network_of(one).to(memory_format=torch.channels_last)
            views += [raw_scores(net, crops, mirrored=mirrored, workers=settings.fit.workers)[0] for mirrored in (False, True)]
        stacked = {task.family: torch.stack([torch.from_numpy(view[task.family]) for view in views]) for task in tasks}
        known = {task.family: mean_raw(task, stacked[task.family]) for task in tasks}
        run.save("taught.pt", known)
    memory = [known[task.family] for task in tasks]

    def remember(images: Tensor, rows: list[int]) -> Taught:
        return tuple(raw[rows].to(images.device) for raw in memory)

    return remember


def mean_raw(task: Task, raw: Tensor) -> Tensor:
    """Raw outputs (views, N, K) to the raw output (N, K) of their mean scores.

    That is the logarithm of the mean probability for `one_of`, the log odds of the mean for `any_of`, the mean for `scalar`.
    """
    if task.kind == "one_of":
        return raw.softmax(dim=2).mean(dim=0).clamp_min(1e-8).log()
    if task.kind == "any_of":
        return torch.logit(raw.sigmoid().mean(dim=0), eps=1e-6)
    return raw.mean(dim=0)
