"""Teachers: trained networks whose averaged scores a student learns from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mien.bundles.store import load
from mien.errors import DataError
from mien.tasks import Floats, Task
from mien.train.crops import Crops
from mien.train.models import ENGINE, is_run
from mien.train.networks import MultiTaskNet
from mien.train.runs import RunFolder
from mien.train.settings import Settings
from mien.train.trained import network_of, raw_scores

__all__ = ["Taught", "Teacher", "mean_raw", "teacher_of"]

_BATCH: Final = 256

Taught = tuple[Tensor, ...]
"""Raw output (N, K) per task, so that decoding it gives the teachers' averaged scores."""
Teacher = Callable[[Tensor, list[int]], Taught]
"""From the images (N, C, S, S) of a batch and their rows in the training table to what the teachers say of them."""


def teacher_of(settings: Settings, run: RunFolder, tasks: Sequence[Task], train: pd.DataFrame, device: torch.device) -> Teacher | None:
    """The teachers of `settings`, each averaged over a face and its mirror image; None without teachers.

    run: folder that remembers what teachers said who see every picture once; only those may be bundles as well as runs.
    Raises DataError for a teacher of other tasks, of binned outputs, or, where it sees the student's crops, of other crops.
    """
    if not settings.teachers:
        return None
    for folder in settings.teachers:
        _fits(folder, tasks)
    if settings.teachers_see == "picture":
        return _remembering(settings, run, tasks, train)
    for folder in settings.teachers:
        if not is_run(folder):
            raise DataError(f"{folder}: a bundle can teach only what it sees as it is; let `teachers_see` be picture, or name a run")
        if RunFolder(folder).settings.pixels != settings.pixels:
            raise DataError(f"{folder}: this teacher reads other crops; give it the same `pixels`, or let `teachers_see` be picture")
    return _looking([network_of(RunFolder(folder)).to(device).requires_grad_(False) for folder in settings.teachers], tasks)


def _fits(folder: Path, tasks: Sequence[Task]) -> None:
    if is_run(folder):
        run = RunFolder(folder)
        own = [spec.task for spec in run.tasks]
        if binned := [family for family, loss in run.settings.losses.items() if loss.kind == "bins"]:
            raise DataError(f"{folder}: this teacher learned {', '.join(binned)} by bins, which cannot be averaged; train it without")
    else:
        own = list(load(folder, ENGINE).tasks)
    if own != list(tasks):
        raise DataError(f"{folder}: this teacher was trained on {', '.join(t.key for t in own)}; the student's tasks are others")


def _looking(nets: Sequence[MultiTaskNet], tasks: Sequence[Task]) -> Teacher:
    @torch.no_grad()
    def look(images: Tensor, rows: list[int]) -> Taught:
        views = [net(view) for net in nets for view in (images, images.flip(3))]
        return tuple(mean_raw(task, torch.stack([view[i].float() for view in views])) for i, task in enumerate(tasks))

    return look


def _remembering(settings: Settings, run: RunFolder, tasks: Sequence[Task], train: pd.DataFrame) -> Teacher:
    known = run.load("taught.pt")
    if known is None:
        views = [view for folder in settings.teachers for view in _views(folder, settings, tasks, train)]
        stacked = {task.family: torch.stack([torch.from_numpy(view[task.family]) for view in views]) for task in tasks}
        known = {task.family: mean_raw(task, stacked[task.family]) for task in tasks}
        run.save("taught.pt", known)
    memory = [known[task.family] for task in tasks]

    def remember(images: Tensor, rows: list[int]) -> Taught:
        return tuple(raw[rows].to(images.device) for raw in memory)

    return remember


def _views(folder: Path, settings: Settings, tasks: Sequence[Task], train: pd.DataFrame) -> list[dict[str, Floats]]:
    """What a run or a bundle says raw of every training face, and of its mirror image."""
    skip, workers = settings.fit.skip_unreadable, settings.fit.workers
    if is_run(folder):
        run = RunFolder(folder)
        crops = Crops(train, tasks, run.settings.pixels, skip)
        net = network_of(run).to(memory_format=torch.channels_last)
        return [raw_scores(net, crops, mirrored=mirrored, workers=workers)[0] for mirrored in (False, True)]
    model = load(folder, ENGINE)
    crops = Crops(train, tasks, model.card.pixels, skip)
    views: list[list[dict[str, Floats]]] = [[], []]
    for start in range(0, len(crops), _BATCH):
        batch = np.stack([crops.upright(row) for row in range(start, min(start + _BATCH, len(crops)))])
        for view, seen in zip(views, (batch, batch[:, :, ::-1]), strict=True):
            view.append(model.score_prepared(list(np.ascontiguousarray(seen))))
    whole = [{task.family: np.concatenate([part[task.family] for part in view]) for task in tasks} for view in views]
    return [{task.family: _raw_of(task, view[task.family]) for task in tasks} for view in whole]


def _raw_of(task: Task, scores: Floats) -> Floats:
    """Raw output (N, K) that decodes to those scores."""
    tiny = 1e-6
    if task.kind == "one_of":
        return np.asarray(np.log(np.maximum(scores, tiny)), np.float32)
    if task.kind == "any_of":
        inside = np.clip(scores, tiny, 1 - tiny)
        return np.asarray(np.log(inside / (1 - inside)), np.float32)
    return np.asarray(scores, np.float32)


def mean_raw(task: Task, raw: Tensor) -> Tensor:
    """Raw outputs (views, N, K) to the raw output (N, K) of their mean scores.

    That is the logarithm of the mean probability for `one_of`, the log odds of the mean for `any_of`, the mean for `scalar`.
    """
    if task.kind == "one_of":
        return raw.softmax(dim=2).mean(dim=0).clamp_min(1e-8).log()
    if task.kind == "any_of":
        return torch.logit(raw.sigmoid().mean(dim=0), eps=1e-6)
    return raw.mean(dim=0)
