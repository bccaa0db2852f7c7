"""Training: one loop from labelled faces to weights. Devices, precision and processes are Lightning Fabric's; the loop is here.

It can be killed at any point: started again with the same settings and folder it goes on, and ends with the same weights.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from mien.data.label_table import labels
from mien.errors import DataError
from mien.evaluation.judge import headline
from mien.tasks import Floats, Task
from mien.train.bundle.pack import code_version
from mien.train.distillation import Teacher, TeacherOutputs, teacher_of
from mien.train.distributed import all_gather_unique, gather, synchronise
from mien.train.inputs.crops import AugmentedCropDataset, CropDataset, one_opencv_thread
from mien.train.inputs.feature_dataset import FeatureDataset, WindowDataset
from mien.train.inputs.samplers import (
    ResumableBatchSampler,
    inverse_cell,
    inverse_class,
    inverse_class_and_cell,
)
from mien.train.networks.heads import valid_mask
from mien.train.networks.network import MultiTaskNet, build, freeze, start_at_means, unfreeze
from mien.train.objective.objective import Objective
from mien.train.optim import Average, make_optimiser, perturbed, set_rate
from mien.train.runs.folder import RunFolder, versions
from mien.train.runs.inference import (
    Inputs,
    collate,
    input_shape,
    inputs_of,
    loaded,
    network_of,
    outlast_signals,
    raw_scores,
)
from mien.train.runs.tables import load_tables
from mien.train.settings.training import Settings, TaskSettings

__all__ = ["Progress", "fit", "network_of", "raw_scores"]


class Progress:
    """Hooks for whoever shows how a run goes; these do nothing."""

    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        """A run of `steps` steps begins, or goes on after `done`."""

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        """`done` steps are behind; mean loss of this epoch, faces a second, score of the last epoch."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch ended; its line of the curve."""

    def note(self, line: str) -> None:
        """Something to know."""


_PLAIN: Final = ("step", "loss", "best", "best_epoch", "seconds", "rows", "unreadable")


@dataclass
class _State:
    """What changes while training; all of it is in a checkpoint."""

    net: MultiTaskNet
    average: Average | None
    optimiser: torch.optim.Optimizer
    step: int = 0
    loss: float = 0.0  # summed over this epoch's steps
    best: float = float("-inf")
    best_epoch: int = -1
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)

    @property
    def judged(self) -> MultiTaskNet:
        """The network that is judged and kept."""
        return cast(MultiTaskNet, self.average.net) if self.average else self.net

    def pack(self) -> dict[str, Any]:
        parts = {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.average:
            parts["average"] = self.average.state_dict()
        if torch.cuda.is_initialized():
            parts["random_cuda"] = torch.cuda.get_rng_state()  # dropout on a GPU draws from its own
        return {**parts, **{name: getattr(self, name) for name in _PLAIN}}

    def unpack(self, saved: dict[str, Any], where: Path) -> None:
        """Take all of it from a checkpoint; raises DataError for one that another network or other settings left."""
        try:
            if ("average" in saved) != bool(self.average):
                raise KeyError("average")
            self.net.load_state_dict(saved["net"])
            self.optimiser.load_state_dict(saved["optimiser"])
            if self.average:
                self.average.load_state_dict(saved["average"])
            torch.set_rng_state(saved["random"])
            for name in _PLAIN:
                setattr(self, name, saved[name])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"{where}: belongs to another run, its parts do not fit these settings; delete it to start again"
            ) from error
        if "random_cuda" in saved and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(saved["random_cuda"])


@one_opencv_thread()
def fit(settings: Settings, out: Path, progress: Progress | None = None) -> RunFolder:
    """Train what `settings` say into the folder `out`, or go on with the run that lies there; returns the folder.

    Raises DataError for data or a folder that do not fit, OutputError when the disk is full. A KeyboardInterrupt that comes between
    two steps (from `progress.step`, say) leaves a checkpoint; at any other moment the last one is what there is to go on from.
    """
    fabric = _fabric(settings)
    first = fabric.global_rank == 0
    progress = (
        progress if first and progress else Progress()
    )  # one of several processes speaks for all
    if settings.fit.batch % fabric.world_size:
        raise DataError(
            f"fit.batch: {settings.fit.batch} faces cannot be shared out to {fabric.world_size} processes; use a multiple"
        )
    run = RunFolder(out, settings) if first else RunFolder(out)
    with fabric.rank_zero_first():
        tables, tasks, notes = load_tables(settings, run.folder, progress.note)
    train, val = tables["train"], tables["val"]
    with (
        fabric.rank_zero_first()
    ):  # the first may have to ask the teachers, and writes down what they say
        teacher = teacher_of(settings, run, tasks, train, fabric.device)
    torch.manual_seed(
        settings.fit.seed
    )  # after the teachers, which draw their weights before they load them, but not every time
    truth = {task.family: labels(train, task) for task in tasks}
    net, objective = _built(settings, tasks, truth)
    crops, judged = inputs_of(train, tasks, settings, overlap=True), inputs_of(val, tasks, settings)
    notes += _told(crops, progress)
    if settings.network.start == "faces":
        net.backbone.settle(torch.stack([crops[i][0] for i in range(min(len(crops), 256))]))
    if fabric.world_size > 1:
        synchronise(net)
    net = net.to(fabric.device).to(
        memory_format=torch.channels_last
    )  # before anything is made of its weights
    state = _State(
        net,
        Average(net, settings.optim.average) if settings.optim.average else None,
        make_optimiser(net, settings.optim),
    )
    if saved := run.load("last.pt"):
        state.unpack(saved, run.folder / "last.pt")
        _same_rows(run, tables)
    elif first:
        run.note(
            {**_facts(tasks, objective, tables, fabric), "seed": settings.fit.seed, "notes": notes}
        )
    loop = _Loop(settings, fabric, run, state, objective.to(fabric.device), teacher, progress)
    try:
        loop.train(crops, (judged, val), _weights(settings, tasks, truth))
    except KeyboardInterrupt:
        if not loop.amid:
            loop.save()
        raise
    if first:
        unread = (
            crops.missing_rows(state.unreadable)
            if isinstance(crops, WindowDataset)
            else state.unreadable
        )
        _tell_unreadable(
            run, progress, {"train": train.iloc[unread], "val": val.iloc[loop.unjudged]}
        )
        if state.best_epoch < 0:
            progress.note(
                f"no epoch had a score of {settings.fit.watch}, so there is no best.pt; watch another measure"
            )
        run.note(
            {
                "finished": time.strftime("%Y-%m-%d %H:%M"),
                "seconds": round(state.seconds),
                "best_epoch": state.best_epoch,
            }
        )
    return run


@dataclass
class _Loop:
    """The loop itself, with what it needs at every step."""

    settings: Settings
    fabric: Fabric
    run: RunFolder
    state: _State
    objective: Objective
    teacher: Teacher | None
    progress: Progress

    def __post_init__(self) -> None:
        self.wrapped, self.optimiser = self.fabric.setup(self.state.net, self.state.optimiser)
        self.saved_at = self.clock = time.monotonic()
        self.unjudged: list[int] = []  # rows of the validation split that could not be read
        self.amid = False  # half-way through a change of the state, which must not be saved then

    def train(
        self, crops: Inputs, val: tuple[Inputs, pd.DataFrame], weights: Floats | None
    ) -> None:
        """All epochs from where the state stands."""
        state, fit = self.state, self.settings.fit
        shaken = (
            AugmentedCropDataset(crops, self.settings.augment, fit.seed)
            if isinstance(crops, CropDataset)
            else crops
        )
        world = self.fabric.world_size
        batch = fit.batch if len(crops) < 2 * world else min(fit.batch, len(crops) // world * world)
        if batch < fit.batch:
            self.progress.note(
                f"fit.batch: {fit.batch} is more than there is to train on; a step takes all {batch}"
            )
        per_epoch = len(ResumableBatchSampler(len(crops), weights, fit.seed, batch))
        self.progress.begin(fit.epochs * per_epoch, state.step, self.run.facts)
        for epoch in range(len(state.rows), fit.epochs):
            if fit.patience and epoch - 1 - state.best_epoch >= fit.patience and state.rows:
                self.progress.note(
                    f"stopped after epoch {epoch - 1}: no better {fit.watch} for {fit.patience} epochs"
                )
                break
            (freeze if epoch < fit.frozen_epochs else unfreeze)(state.net)
            state.net.train()
            order = ResumableBatchSampler(len(crops), weights, fit.seed, batch, epoch)
            for images, target, taught in self._batches(
                shaken, order, epoch, state.step - epoch * per_epoch
            ):
                self.amid = True
                self._step(images, target, taught, fit.epochs * per_epoch)
                self.amid = False
                self._after_step(epoch * per_epoch)
            self.amid = True
            self._after_epoch(epoch, per_epoch, val)
            self.amid = False

    def _batches(
        self,
        shaken: AugmentedCropDataset | FeatureDataset | WindowDataset,
        order: ResumableBatchSampler,
        epoch: int,
        start: int,
    ) -> Iterator[tuple[Tensor, Tensor, TeacherOutputs | None]]:
        """The rest of an epoch's batches, this process's part of each: images, targets, what the teachers say of them."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        mine, again = (
            list(order.batches(start, rank, world)),
            _times_before(order.rows()).reshape(len(order), world, -1)[start:, rank],
        )
        # A face that is drawn again in one epoch is changed as in an epoch that never comes.
        shakes = epoch + self.settings.fit.epochs * again
        keys = [
            list(zip(*pair, strict=True))
            for pair in zip(shakes.tolist(), map(np.ndarray.tolist, mine), strict=True)
        ]
        # A generator of its own: the loader draws from it, and torch's, which dropout draws from, stays as a checkpoint has it.
        how: dict[str, Any] = {
            "num_workers": self.settings.readers,
            "collate_fn": collate,
            "worker_init_fn": outlast_signals,
        }
        loader = DataLoader(shaken, batch_sampler=keys, generator=torch.Generator(), **how)
        for rows, (images, target, readable) in zip(keys, loaded(loader), strict=True):
            self.state.unreadable += [
                row for (_, row), fine in zip(rows, readable, strict=True) if not fine
            ]
            here = self.fabric.to_device(images)
            taught = None if self.teacher is None else self.teacher(here, [row for _, row in rows])
            yield here, self.fabric.to_device(target), taught

    def _step(
        self, images: Tensor, target: Tensor, taught: TeacherOutputs | None, steps: int
    ) -> None:
        """One step along the gradient; with SAM, along the gradient a little further up."""
        optim, state = self.settings.optim, self.state
        set_rate(state.optimiser, state.step, steps, optim)
        frames = (
            gather(valid_mask(images).byte()).bool() if images.ndim == 3 else None
        )  # without padding

        def rows(mine: Tensor) -> Tensor:
            return gather(mine) if frames is None else gather(mine)[frames]

        teacher = None if taught is None else tuple(rows(raw) for raw in taught)

        def backward() -> float:
            self.optimiser.zero_grad()
            raw = tuple(rows(one) for one in self.wrapped(images))
            truth = rows(state.net.paired(target)).split(
                [len(task.names) for task in state.net.tasks], dim=1
            )
            total, _ = self.objective(raw, truth, teacher)
            if (side := state.net.side_loss()) is not None:
                total = total + side
            self.fabric.backward(total)
            return float(total.detach())

        loss = backward()
        if optim.sam:
            with perturbed(state.net, optim.sam):
                backward()
        if optim.clip:
            self.fabric.clip_gradients(self.wrapped, self.optimiser, max_norm=optim.clip)
        self.optimiser.step()
        if not np.isfinite(loss):
            raise DataError(
                f"the loss is {loss} at step {state.step}; lower optim.lr, or set optim.clip"
            )
        state.loss += loss
        if state.average:
            state.average.update(state.net)
        state.step += 1

    def _tick(self) -> float:
        """Seconds since the last tick, added to what the run has cost."""
        now = time.monotonic()
        taken, self.clock = now - self.clock, now
        self.state.seconds += taken
        return taken

    def _after_step(self, epoch_start: int) -> None:
        state, taken = self.state, self._tick()
        score = state.rows[-1]["score"] if state.rows else None
        self.progress.step(
            state.step,
            state.loss / (state.step - epoch_start),
            self.settings.fit.batch / max(taken, 1e-6),
            score,
        )
        if time.monotonic() - self.saved_at > 60 * self.settings.fit.save_minutes:
            self.save()

    def _after_epoch(self, epoch: int, per_epoch: int, val: tuple[Inputs, pd.DataFrame]) -> None:
        """Judge, note, save; all processes learn the score."""
        state, settings = self.state, self.settings
        row = {"epoch": float(epoch), "loss": state.loss / per_epoch}
        if self.fabric.global_rank == 0:
            judged, self.unjudged = _judged(state.judged, *val, settings)
            self._tick()
            row |= {**judged, "seconds": round(state.seconds, 1)}
        row = self.fabric.broadcast(row)
        state.loss, state.unreadable = 0.0, all_gather_unique(state.unreadable)
        state.rows.append(row)
        if row["score"] > state.best or (
            settings.fit.keep == "last" and not np.isnan(row["score"])
        ):
            state.best, state.best_epoch = row["score"], epoch
            if self.fabric.global_rank == 0:
                self.run.save(
                    "best.pt",
                    {"net": state.judged.state_dict(), "epoch": epoch, "score": row["score"]},
                )
        if self.fabric.global_rank == 0:
            self.run.curve(state.rows)
            self.run.show(row)
            self.save()
            self.progress.epoch(row)

    def save(self) -> None:
        """Write a checkpoint, in the first process only."""
        self.saved_at = time.monotonic()
        if self.fabric.global_rank == 0:
            self.run.save("last.pt", self.state.pack())


def _times_before(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """How often each number of (N,) came before.

    >>> _times_before(np.array([4, 7, 4, 4, 7])).tolist()
    [0, 0, 1, 2, 1]
    """
    return np.asarray(pd.Series(rows).groupby(rows).cumcount(), np.intp)


def _fabric(settings: Settings) -> Fabric:
    """Devices and processes: those of torchrun where it started us, else those of the settings."""
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", settings.fit.devices))
    nodes = (
        int(os.environ.get("WORLD_SIZE", devices)) // devices
        if "LOCAL_WORLD_SIZE" in os.environ
        else 1
    )
    # Parts that are frozen give no gradient, which has to be looked for; it costs a little, so only then.
    strategy = (
        "auto"
        if devices * nodes == 1
        else DDPStrategy(find_unused_parameters=settings.fit.frozen_epochs > 0)
    )
    fabric = Fabric(
        accelerator=settings.fit.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=settings.fit.precision,
    )
    fabric.launch()
    return fabric


def _built(
    settings: Settings, tasks: tuple[Task, ...], truth: dict[str, Floats]
) -> tuple[MultiTaskNet, Objective]:
    """The network as it starts, and what it minimises; raises DataError for settings that do not go together."""
    if settings.network.deviation and settings.fit.frozen_epochs:
        raise DataError(
            f"{settings.name}: fit.frozen_epochs: while the backbone stays as it is, nothing deviates; leave it out"
        )
    for family, spec in settings.network.heads.items():
        if (
            spec.kind == "uncertain"
            and family in settings.losses
            and settings.losses[family].distill
        ):
            raise DataError(
                f"{settings.name}: losses.{family}.distill: no teacher sees what an uncertain head mixes; leave it out"
            )
    try:
        net = build(settings.network, tasks, *input_shape(settings))
        objective = Objective.from_labels(tasks, settings.losses, truth)
    except ValueError as error:
        raise DataError(f"{settings.name}: {error}") from error
    for task, head in zip(tasks, net.heads, strict=True):
        if head.bins != (wanted := objective.bins[task.family]):
            should = (
                f"bins: {wanted.count}, legacy: {str(wanted.legacy).lower()}"
                if wanted
                else "no bins"
            )
            raise DataError(
                f"{settings.name}: losses.{task.family} wants a head with {should}; say so in network.heads.{task.family}"
            )
    start_at_means(
        net,
        [truth[task.family] for task in tasks],
        [family for family, loss in settings.losses.items() if loss.distill],
    )
    return net, objective


def _told(crops: Inputs, progress: Progress) -> list[str]:
    """What there is to know of windows."""
    if not isinstance(crops, WindowDataset) or not crops.padded:
        return []
    line = f"all {len(crops)} recordings of split train are shorter than the {crops.rows.shape[1]} frames of a window and are padded"
    progress.note(line)
    return [line]


def _same_rows(run: RunFolder, tables: dict[str, pd.DataFrame]) -> None:
    """Raises DataError where the data are no longer what the run began with."""
    began, now = run.facts.get("rows"), {split: len(table) for split, table in tables.items()}
    if began != now:
        raise DataError(
            f"{run.folder}: this run began with the rows {began}, the data now have {now}; choose another folder with --out"
        )


def _tell_unreadable(run: RunFolder, progress: Progress, left_out: dict[str, pd.DataFrame]) -> None:
    """Count and name the pictures of each split that could not be read."""
    for split, table in left_out.items():
        if len(table):
            names = [
                image if isinstance(image, str) else f"row {row}"
                for row, image in table["image"].head(20).items()
            ]
            progress.note(
                f"{len(table)} pictures of split {split} could not be read and were left out: {', '.join(names[:3])}"
            )
            run.note({f"unreadable_{split}": {"count": len(table), "first": names}})


def _facts(
    tasks: tuple[Task, ...], objective: Objective, tables: dict[str, pd.DataFrame], fabric: Fabric
) -> dict[str, Any]:
    """What run.json says from the start."""
    specs = [
        TaskSettings(key=t.key, names=t.names, kind=t.kind, low=t.low, high=t.high).model_dump(
            mode="json"
        )
        for t in tasks
    ]
    device = (
        torch.cuda.get_device_name()
        if fabric.device.type == "cuda"
        else f"{fabric.device.type}, {os.cpu_count()} cores"
    )
    return {
        "started": time.strftime("%Y-%m-%d %H:%M"), "tasks": specs, "weights": objective.weights, "versions": versions(),
        "rows": {split: len(table) for split, table in tables.items()}, "device": device, "processes": fabric.world_size,
        "commit": code_version(),
    }  # fmt: skip


def _weights(
    settings: Settings, tasks: tuple[Task, ...], truth: dict[str, Floats]
) -> Floats | None:
    """How likely each row is drawn; None where each comes once."""
    balance = settings.fit.balance
    if balance == "none":
        return None
    classes = next((truth[task.family] for task in tasks if task.kind == "one_of"), None)
    va = truth.get("va")
    if (balance in ("class", "both") and classes is None) or (
        balance in ("va", "both") and va is None
    ):
        raise DataError(
            f"fit.balance: {balance} needs a one_of task for class, and va for va; these tasks are {', '.join(truth)}"
        )
    if balance == "class":
        return inverse_class(cast(Floats, classes))
    return (
        inverse_cell(cast(Floats, va))
        if balance == "va"
        else inverse_class_and_cell(cast(Floats, classes), cast(Floats, va))
    )


def _judged(
    net: MultiTaskNet, crops: Inputs, val: pd.DataFrame, settings: Settings
) -> tuple[dict[str, float], list[int]]:
    """The watched score on the validation split and the headline of every task; and the rows that could not be read."""
    training = net.training
    raw, readable = raw_scores(net, crops, workers=settings.readers)
    net.train(training)
    scores, val = (
        {task.family: task.decode(raw[task.family][readable]) for task in net.tasks},
        val[readable],
    )
    row = {"score": headline(net.tasks, scores, val, settings.fit.watch)}
    for task in net.tasks:
        if val[list(task.columns)].notna().to_numpy().any():
            row[task.family] = headline([task], scores, val)
    return row, np.flatnonzero(~readable).tolist()
