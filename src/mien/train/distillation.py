"""Teachers: trained networks whose averaged scores a student learns from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mien.bundles.store import load
from mien.errors import DataError
from mien.tasks import Floats, Task
from mien.train.inputs.crops import CropDataset
from mien.train.networks.network import MultiTaskNet
from mien.train.objective.losses import Bins
from mien.train.objective.objective import bins_for
from mien.train.open_model import ENGINE, is_run
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of, raw_scores
from mien.train.settings.losses import LossSettings
from mien.train.settings.training import Settings

__all__ = ["Teacher", "TeacherOutputs", "mean_raw", "teacher_of"]

_BATCH: Final = 256
_DECIDE: Final = ("bundle", "cache", "parts", "within", "window")
"""What of `features` decides what heads read; the pictures' folder does not."""

TeacherOutputs = tuple[Tensor, ...]
"""Raw output per task as the student's, (N, K) or of bins (N, K * count), so that decoding it gives the teachers' averaged scores."""
Teacher = Callable[[Tensor, list[int]], TeacherOutputs]
"""From the network input of a batch, such as images (N, C, S, S), and its rows in the training table to what the teachers say of it."""


def teacher_of(
    settings: Settings,
    run: RunFolder,
    tasks: Sequence[Task],
    train: pd.DataFrame,
    device: torch.device,
) -> Teacher | None:
    """The teachers of `settings`; None without. On pictures each is averaged over a face and its mirror image.

    run: folder that remembers what teachers said who see every picture once; only those may be bundles as well as runs.
    Raises DataError for a teacher of other tasks, of other bins, or, where it sees the student's very input, of other crops or features.
    """
    if not settings.teachers:
        return None
    for folder in settings.teachers:
        _fits(folder, settings, tasks)
        if settings.teachers_see == "picture":
            _sees_pictures(folder, settings)
        else:
            _sees_the_same(folder, settings)
    if settings.teachers_see == "picture":
        return _remembering(settings, run, tasks, train)
    nets = [
        network_of(RunFolder(folder)).to(device).requires_grad_(False)
        for folder in settings.teachers
    ]
    return _online_teacher(nets, settings, mirrored=settings.features is None)


def _fits(folder: Path, settings: Settings, tasks: Sequence[Task]) -> None:
    """Raises DataError for a teacher of other tasks, or of other bins than the student's."""
    losses: dict[str, LossSettings] = {}
    if is_run(folder):
        own, losses = (
            [spec.task for spec in RunFolder(folder).tasks],
            RunFolder(folder).settings.losses,
        )
    else:
        own = list(load(folder, ENGINE).tasks)
    if own != list(tasks):
        how = "in another order" if set(own) == set(tasks) else "others"
        told = ", ".join(t.key for t in own)
        raise DataError(
            f"{folder}: this teacher was trained on {told}; the student's tasks are {how}: give both the same"
        )
    for task in tasks:
        theirs, ours = _bins(losses, task), _bins(settings.losses, task)
        if theirs != ours and not is_run(folder):
            told = f"the student {settings.name} learns it {_by(ours)}"
            raise DataError(
                f"{folder}: a bundle gives {task.family} as numbers, {told}; name a run"
            )
        if theirs != ours:
            raise DataError(
                f"{folder}: this teacher learned {task.family} {_by(theirs)}, the student {settings.name} {_by(ours)}; give both the same "
                f"losses.{task.family}"
            )


def _bins(losses: Mapping[str, LossSettings], task: Task) -> Bins | None:
    loss = losses.get(task.family)
    try:
        return None if loss is None else bins_for(loss, task)
    except ValueError as error:
        raise DataError(str(error)) from error


def _by(bins: Bins | None) -> str:
    return f"by bins ({bins.count}{', legacy' * bins.legacy})" if bins else "without bins"


def _sees_pictures(folder: Path, settings: Settings) -> None:
    """Raises DataError for a teacher that reads no pictures."""
    theirs = RunFolder(folder).settings.features if is_run(folder) else None
    if theirs is None:
        return
    instead = (
        "name the bundle that mien export makes of it"
        if theirs.window is None
        else "name a run on pictures"
    )
    if settings.features is not None:
        instead = f"let `teachers_see` be crop, or {instead}"
    raise DataError(f"{folder}: this teacher reads cached features, not pictures; {instead}")


def _sees_the_same(folder: Path, settings: Settings) -> None:
    """Raises DataError for a teacher that cannot read what the student reads."""
    features = settings.features
    pictures = (
        "let `teachers_see` be picture, or name a run"
        if features is None or features.window is None
        else "name a run"
    )
    if not is_run(folder):
        raise DataError(f"{folder}: a bundle can teach only what it sees as it is; {pictures}")
    theirs = RunFolder(folder).settings
    if features is None and theirs.features is None:
        if theirs.pixels != settings.pixels:
            raise DataError(
                f"{folder}: this teacher reads other crops; give it the same `pixels`, or let `teachers_see` be picture"
            )
        return
    if features is None:
        _sees_pictures(folder, settings)
    elif theirs.features is None:
        raise DataError(
            f"{folder}: this teacher reads pictures, the student cached features; {pictures} on the same features"
        )
    elif other := [
        key for key in _DECIDE if getattr(theirs.features, key) != getattr(features, key)
    ]:
        raise DataError(
            f"{folder}: this teacher reads other features, for its {', '.join(other)} differ; give both the same `features`"
        )


def _online_teacher(nets: Sequence[MultiTaskNet], settings: Settings, *, mirrored: bool) -> Teacher:
    @torch.no_grad()
    def look(images: Tensor, rows: list[int]) -> TeacherOutputs:
        seen = (images, images.flip(3)) if mirrored else (images,)
        views = [net(view) for net in nets for view in seen]
        stacked = [
            torch.stack([view[i].float() for view in views]) for i in range(len(nets[0].tasks))
        ]
        return tuple(
            mean_raw(task, raw, _bins(settings.losses, task))
            for task, raw in zip(nets[0].tasks, stacked, strict=True)
        )

    return look


def _remembering(
    settings: Settings, run: RunFolder, tasks: Sequence[Task], train: pd.DataFrame
) -> Teacher:
    known = run.load("taught.pt")
    if known is None:
        views = [
            view for folder in settings.teachers for view in _views(folder, settings, tasks, train)
        ]
        stacked = {
            task.family: torch.stack([torch.from_numpy(view[task.family]) for view in views])
            for task in tasks
        }
        known = {
            task.family: mean_raw(task, stacked[task.family], _bins(settings.losses, task))
            for task in tasks
        }
        run.save("taught.pt", known)
    memory = [known[task.family] for task in tasks]

    def remember(images: Tensor, rows: list[int]) -> TeacherOutputs:
        return tuple(raw[rows].to(images.device) for raw in memory)

    return remember


def _views(
    folder: Path, settings: Settings, tasks: Sequence[Task], train: pd.DataFrame
) -> list[dict[str, Floats]]:
    """What a run or a bundle says raw of every training face, and of its mirror image."""
    skip, workers = settings.fit.skip_unreadable, settings.fit.workers
    if is_run(folder):
        run = RunFolder(folder)
        crops = CropDataset(train, tasks, run.settings.pixels, skip)
        net = network_of(run).to(memory_format=torch.channels_last)
        return [
            raw_scores(net, crops, mirrored=mirrored, workers=workers, decoded=False)[0]
            for mirrored in (False, True)
        ]
    model = load(folder, ENGINE)
    crops = CropDataset(train, tasks, model.card.pixels, skip)
    views: list[list[dict[str, Floats]]] = [[], []]
    for start in range(0, len(crops), _BATCH):
        batch = np.stack(
            [crops.upright(row) for row in range(start, min(start + _BATCH, len(crops)))]
        )
        for view, seen in zip(views, (batch, batch[:, :, ::-1]), strict=True):
            view.append(model.score_prepared(list(np.ascontiguousarray(seen))))
    whole = [
        {task.family: np.concatenate([part[task.family] for part in view]) for task in tasks}
        for view in views
    ]
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


def mean_raw(task: Task, raw: Tensor, bins: Bins | None = None) -> Tensor:
    """Raw outputs (views, …, K) to the raw output (…, K) of their mean scores; with bins both are (…, K * count).

    That is the logarithm of the mean probability for `one_of` and for the bins of each column, the log odds of the mean for `any_of`,
    the mean for `scalar`.
    """
    if bins is not None:
        return _log_mean(bins.split(raw)).flatten(-2)
    if task.kind == "one_of":
        return _log_mean(raw)
    if task.kind == "any_of":
        return torch.logit(raw.sigmoid().mean(dim=0), eps=1e-6)
    return raw.mean(dim=0)


def _log_mean(raw: Tensor) -> Tensor:
    return raw.softmax(dim=-1).mean(dim=0).clamp_min(1e-8).log()
