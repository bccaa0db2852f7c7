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
from mien.train.settings.features import FeatureSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.training import Settings

__all__ = ["Teacher", "TeacherOutputs", "mean_raw", "teacher_of"]

_BATCH: Final = 256
# What of `features` decides what heads read; the folder of the pictures does not.
_DECISIVE_KEYS: Final = ("bundle", "cache", "parts", "within", "window", "external", "hold")
# Raw output of a score of exactly 0 or 1 would be infinite.
_SMALLEST_SCORE: Final = 1e-6

TeacherOutputs = tuple[Tensor, ...]
"""Raw output per task as the student's, (N, K), or (N, K * count) for bins.

Decoding it gives the teachers' averaged scores.
"""
Teacher = Callable[[Tensor, list[int]], TeacherOutputs]
"""Gives the teachers' outputs for a batch.

Takes the student's input, such as images (N, C, S, S), and its N rows in the training table.
"""


def teacher_of(
    settings: Settings,
    run: RunFolder,
    tasks: Sequence[Task],
    train: pd.DataFrame,
    device: torch.device,
) -> Teacher | None:
    """Make the teachers of some settings one.

    On pictures each teacher is averaged over a face and its mirror image.

    Args:
        settings: Settings of the student.
        run: Run of the student; its folder keeps the outputs of teachers that see every picture
            once. Only those may be bundles as well as runs.
        tasks: Tasks of the student in output order.
        train: Training table of the student.
        device: Where teachers that see the student's input compute.

    Returns:
        The teacher; None where the settings name none.

    Raises:
        DataError: A teacher has other tasks or other bins than the student or, where it sees the
            student's input, reads other crops or features.
    """
    if not settings.teachers:
        return None
    for folder in settings.teachers:
        _check_tasks(folder, tasks)
        _check_bins(folder, settings, tasks)
        if settings.teachers_see == "picture":
            _check_reads_pictures(folder, settings)
        else:
            _check_same_input(folder, settings)
    if settings.teachers_see == "picture":
        return _stored_teacher(settings, run, tasks, train)
    nets = []
    for folder in settings.teachers:
        nets.append(network_of(RunFolder(folder)).to(device).requires_grad_(False))
    return _online_teacher(nets, settings, mirrored=settings.features is None)


def _check_tasks(folder: Path, tasks: Sequence[Task]) -> None:
    """Raises DataError for a teacher of other tasks than the student's."""
    if is_run(folder):
        taught = [spec.task for spec in RunFolder(folder).tasks]
    else:
        taught = list(load(folder, ENGINE).tasks)
    if taught == list(tasks):
        return
    difference = "in another order" if set(taught) == set(tasks) else "others"
    keys = ", ".join(task.key for task in taught)
    raise DataError(
        f"{folder}: this teacher was trained on {keys}; the student's tasks are {difference}: "
        "give both the same"
    )


def _check_bins(folder: Path, settings: Settings, tasks: Sequence[Task]) -> None:
    """Raises DataError for a teacher of other bins than the student's."""
    teaches_bins = is_run(folder)
    # A bundle decodes bins, whatever its network learned by.
    losses = RunFolder(folder).settings.losses if teaches_bins else {}
    for task in tasks:
        theirs = _bins(losses, task)
        ours = _bins(settings.losses, task)
        if theirs == ours:
            continue
        if not teaches_bins:
            raise DataError(
                f"{folder}: a bundle gives {task.family} as numbers, the student {settings.name} "
                f"learns it {_describe(ours)}; name a run"
            )
        raise DataError(
            f"{folder}: this teacher learned {task.family} {_describe(theirs)}, the student "
            f"{settings.name} {_describe(ours)}; give both the same losses.{task.family}"
        )


def _bins(losses: Mapping[str, LossSettings], task: Task) -> Bins | None:
    """The bins that a task is learned by; None without."""
    loss = losses.get(task.family)
    if loss is None:
        return None
    try:
        return bins_for(loss, task)
    except ValueError as error:
        raise DataError(str(error)) from error


def _describe(bins: Bins | None) -> str:
    """Bins in words, for messages."""
    if bins is None:
        return "without bins"
    return f"by bins ({bins.count}, legacy)" if bins.legacy else f"by bins ({bins.count})"


def _check_reads_pictures(folder: Path, settings: Settings) -> None:
    """Raises DataError for a teacher that reads no pictures."""
    features = RunFolder(folder).settings.features if is_run(folder) else None
    if features is None:
        return
    advice = "name a run on pictures"
    if features.window is None:
        advice = "name the bundle that mien export makes of it"
    if settings.features is not None:
        advice = f"let `teachers_see` be crop, or {advice}"
    raise DataError(f"{folder}: this teacher reads cached features, not pictures; {advice}")


def _check_same_input(folder: Path, settings: Settings) -> None:
    """Raises DataError for a teacher that cannot read what the student reads."""
    ours = settings.features
    advice = "name a run"
    # No teacher sees whole pictures where the student reads windows.
    if ours is None or ours.window is None:
        advice = "let `teachers_see` be picture, or name a run"
    if not is_run(folder):
        raise DataError(
            f"{folder}: a bundle sees whole pictures only, not the student's input; {advice}"
        )
    teacher = RunFolder(folder).settings
    theirs = teacher.features
    if ours is None and theirs is None:
        if teacher.pixels != settings.filled_pixels:
            raise DataError(
                f"{folder}: this teacher reads other crops; give it the same `pixels`, "
                "or let `teachers_see` be picture"
            )
    elif ours is None:
        _check_reads_pictures(folder, settings)
    elif theirs is None:
        raise DataError(
            f"{folder}: this teacher reads pictures, the student cached features; "
            f"{advice} on the same features"
        )
    else:
        _check_same_features(folder, theirs, ours)


def _check_same_features(folder: Path, theirs: FeatureSettings, ours: FeatureSettings) -> None:
    """Raises DataError for a teacher whose heads read other features than the student's."""
    different = []
    for key in _DECISIVE_KEYS:
        if getattr(theirs, key) != getattr(ours, key):
            different.append(key)
    if different:
        raise DataError(
            f"{folder}: this teacher reads other features, for its {', '.join(different)} differ; "
            "give both the same `features`"
        )


def _online_teacher(nets: Sequence[MultiTaskNet], settings: Settings, *, mirrored: bool) -> Teacher:
    """Networks that see every batch of the student as it is."""
    tasks = nets[0].tasks

    @torch.no_grad()
    def ask(images: Tensor, rows: list[int]) -> TeacherOutputs:
        views: list[Sequence[Tensor]] = []
        for net in nets:
            views.append(net(images))
            if mirrored:
                views.append(net(images.flip(3)))
        averaged = []
        for i, task in enumerate(tasks):
            raw = torch.stack([view[i].float() for view in views])
            averaged.append(mean_raw(task, raw, _bins(settings.losses, task)))
        return tuple(averaged)

    return ask


def _stored_teacher(
    settings: Settings, run: RunFolder, tasks: Sequence[Task], train: pd.DataFrame
) -> Teacher:
    """Outputs for every training face as it is, computed once and kept in the run folder."""
    stored = run.load("taught.pt")
    if stored is None:
        views = []
        for folder in settings.teachers:
            views += _views(folder, settings, tasks, train)
        stored = {}
        for task in tasks:
            raw = torch.stack([torch.from_numpy(view[task.family]) for view in views])
            stored[task.family] = mean_raw(task, raw, _bins(settings.losses, task))
        run.save("taught.pt", stored)
    outputs = [stored[task.family] for task in tasks]

    def look_up(images: Tensor, rows: list[int]) -> TeacherOutputs:
        return tuple(raw[rows].to(images.device) for raw in outputs)

    return look_up


def _views(
    folder: Path, settings: Settings, tasks: Sequence[Task], train: pd.DataFrame
) -> list[dict[str, Floats]]:
    """Raw output by task family of a teacher for every training face, and for its mirror image."""
    skip_unreadable = settings.fit.skip_unreadable
    workers = settings.fit.workers
    if not is_run(folder):
        return _bundle_views(folder, tasks, train, skip_unreadable)
    run = RunFolder(folder)
    crops = CropDataset(train, tasks, run.settings.filled_pixels, skip_unreadable)
    net = network_of(run).to(memory_format=torch.channels_last)
    views = []
    for mirrored in (False, True):
        raw, _ = raw_scores(net, crops, mirrored=mirrored, workers=workers, decoded=False)
        views.append(raw)
    return views


def _bundle_views(
    folder: Path, tasks: Sequence[Task], train: pd.DataFrame, skip_unreadable: bool
) -> list[dict[str, Floats]]:
    """`_views` of a bundle, whose scores are turned back into raw output."""
    model = load(folder, ENGINE)
    crops = CropDataset(train, tasks, model.card.pixels, skip_unreadable)
    # Scores of both views batch by batch: all crops of a data set do not fit into memory.
    upright: list[dict[str, Floats]] = []
    mirrored: list[dict[str, Floats]] = []
    for start in range(0, len(crops), _BATCH):
        end = min(start + _BATCH, len(crops))
        batch = np.stack([crops.upright(row) for row in range(start, end)])
        flipped = np.ascontiguousarray(batch[:, :, ::-1])
        upright.append(model.score_prepared(list(batch)))
        mirrored.append(model.score_prepared(list(flipped)))
    views = []
    for parts in (upright, mirrored):
        view = {}
        for task in tasks:
            scores = np.concatenate([part[task.family] for part in parts])
            view[task.family] = _encode(task, scores)
        views.append(view)
    return views


def _encode(task: Task, scores: Floats) -> Floats:
    """Raw output (N, K) that decodes to the scores (N, K)."""
    if task.kind == "one_of":
        return np.asarray(np.log(np.maximum(scores, _SMALLEST_SCORE)), np.float32)
    if task.kind == "any_of":
        inside = np.clip(scores, _SMALLEST_SCORE, 1 - _SMALLEST_SCORE)
        return np.asarray(np.log(inside / (1 - inside)), np.float32)
    return np.asarray(scores, np.float32)


def mean_raw(task: Task, raw: Tensor, bins: Bins | None = None) -> Tensor:
    """Average several raw outputs of a task as scores.

    That is the logarithm of the mean probability for `one_of` and for the bins of each column, the
    log odds of the mean for `any_of`, the mean for `scalar`.

    Args:
        task: The task.
        raw: Raw outputs (views, …, K), of bins (views, …, K * count).
        bins: The bins that the task is learned by; None without.

    Returns:
        Raw output (…, K), of bins (…, K * count), that decodes to the mean of the scores.
    """
    if bins is not None:
        return _log_mean(bins.split(raw)).flatten(-2)
    if task.kind == "one_of":
        return _log_mean(raw)
    if task.kind == "any_of":
        return torch.logit(raw.sigmoid().mean(dim=0), eps=1e-6)
    return raw.mean(dim=0)


def _log_mean(raw: Tensor) -> Tensor:
    """Logarithm (…, K) of the mean probabilities of several raw outputs (views, …, K)."""
    shares = raw.softmax(dim=-1).mean(dim=0)
    # A class that no teacher gives any share must not cost infinitely much.
    return shares.clamp_min(1e-8).log()
