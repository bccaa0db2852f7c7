"""Training: one loop from labelled faces to weights.

Devices, precision and processes are Lightning Fabric's; the loop is here. It can be killed at any
point: started again with the same settings and folder it resumes, and ends with the same weights.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from mien.data.label_table import labels
from mien.errors import DataError
from mien.evaluation.judge import headline
from mien.metrics import accuracy
from mien.progress import STOP_GRACEFULLY, STOP_REQUESTED
from mien.tasks import Floats, Task
from mien.train.bundle.pack import code_version
from mien.train.distillation import Teacher, TeacherOutputs, teacher_of
from mien.train.distributed import all_gather_unique, gather, interrupt_all
from mien.train.inputs.crops import AugmentedCropDataset, CropDataset, one_opencv_thread
from mien.train.inputs.feature_dataset import FeatureDataset, WindowDataset
from mien.train.inputs.samplers import ResumableBatchSampler, augmentation_keys
from mien.train.networks.encoders.adapters import plain_weights
from mien.train.networks.encoders.contract import fill_pixels
from mien.train.networks.network import MultiTaskNet, freeze, unfreeze
from mien.train.networks.temporal.base import valid_mask
from mien.train.objective.objective import Objective
from mien.train.optim import perturbed, set_rate
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import (
    Inputs,
    collate,
    inputs_of,
    loaded,
    network_of,
    outlast_signals,
    raw_scores,
)
from mien.train.runs.logs import Curves
from mien.train.runs.start import (
    build_network,
    check_batch,
    check_same_labels,
    check_same_rows,
    check_shared_folder,
    make_fabric,
    run_facts,
    sampling_weights,
    starting_state,
)
from mien.train.runs.state import TrainingState
from mien.train.runs.tables import load_tables
from mien.train.settings.training import Settings

__all__ = ["Progress", "fit", "network_of", "raw_scores"]

ChangedInputs = AugmentedCropDataset | FeatureDataset | WindowDataset
"""What the network learns from: crops are augmented, features are not."""


class Progress:
    """Hooks for whoever shows how a run goes; these do nothing."""

    def begin(self, steps: int, done: int, facts: dict[str, Any]) -> None:
        """Called when a run begins or is resumed.

        Args:
            steps: Steps of the whole run.
            done: Steps already done.
            facts: Content of run.json.
        """

    def step(self, done: int, loss: float, rate: float, score: float | None) -> None:
        """Called after every step.

        Args:
            done: Steps done so far.
            loss: Mean loss of this epoch.
            rate: Faces per second.
            score: Watched score of the last epoch; None in the first.
        """

    def epoch(self, row: dict[str, float]) -> None:
        """Called after every epoch.

        Args:
            row: The epoch's row of the curve.
        """

    def note(self, line: str) -> None:
        """Called with every note for the user.

        Args:
            line: One sentence.
        """


Validation = tuple[Inputs, pd.DataFrame]
"""Faces that are validated: as network input, and their label table."""


@one_opencv_thread()
def fit(settings: Settings, out: Path, progress: Progress | None = None) -> RunFolder:
    """Train a network, or resume a run that was stopped.

    A KeyboardInterrupt between two steps (raised in `progress.step`, say) writes a checkpoint; one
    at any other moment leaves the last checkpoint to resume from.

    Args:
        settings: What to train, on what, and how.
        out: Folder of the run; made if missing.
        progress: Hooks to show how the run goes.

    Returns:
        The run's folder.

    Raises:
        DataError: Data or folder do not fit the settings.
        OutputError: The folder cannot be written.
    """
    settings = fill_pixels(settings)
    fabric = make_fabric(settings, out)
    is_first = fabric.global_rank == 0
    # One of several processes reports for all.
    if progress is None or not is_first:
        progress = Progress()
    check_batch(settings.fit.batch, fabric.world_size)
    run = RunFolder(out, settings) if is_first else RunFolder(out)
    check_shared_folder(run)
    with fabric.rank_zero_first():
        tables, tasks, notes = load_tables(settings, run.folder, progress.note)
    train = tables["train"]
    # The first process may have to ask the teachers; it writes their outputs for the others.
    with fabric.rank_zero_first():
        teacher = teacher_of(settings, run, tasks, train, fabric.device)

    # Seeded after the teachers: loading one draws random weights, but not every session loads them.
    torch.manual_seed(settings.fit.seed)
    truth = {task.family: labels(train, task) for task in tasks}
    check_same_labels(run, truth)
    net, objective = build_network(settings, tasks, truth)
    train_inputs = inputs_of(train, tasks, settings, overlap=True)
    # A refit has nothing to validate.
    val = None
    if not settings.refit:
        val = (inputs_of(tables["val"], tasks, settings), tables["val"])
    notes += _report_padding(train_inputs, progress)
    for line in net.started.notes():
        progress.note(line)
        notes.append(line)
    state = starting_state(settings, net, train_inputs, fabric)

    if not _resume(run, state, tables) and is_first:
        facts = run_facts(tasks, objective, tables, fabric, code_version())
        run.note({**facts, "seed": settings.fit.seed, "notes": notes})
    loop = _Loop(settings, fabric, run, state, objective, teacher, progress)
    weights = sampling_weights(settings, tasks, truth)
    loop.run_to_end(train_inputs, val, weights)
    loop.finish(train_inputs, tables)
    # Whoever reads the run's facts now finds all of them.
    fabric.barrier()
    return run


def _resume(run: RunFolder, state: TrainingState, tables: Mapping[str, pd.DataFrame]) -> bool:
    """Restore the last checkpoint of a run; whether there is one."""
    checkpoint = run.load("last.pt")
    if not checkpoint:
        return False
    state.restore(checkpoint, run.folder / "last.pt")
    check_same_rows(run, tables)
    return True


def _report_padding(inputs: Inputs, progress: Progress) -> list[str]:
    """Report that every recording is shorter than a window, where that is so; gives the notes."""
    if not isinstance(inputs, WindowDataset) or not inputs.padded:
        return []
    line = (
        f"all {len(inputs)} recordings of split train are shorter than the "
        f"{inputs.rows.shape[1]} frames of a window and are padded"
    )
    progress.note(line)
    return [line]


@dataclass
class _Loop:
    """The loop itself, with what it needs at every step."""

    settings: Settings
    fabric: Fabric
    folder: RunFolder
    state: TrainingState
    objective: Objective
    teacher: Teacher | None
    progress: Progress

    def __post_init__(self) -> None:
        self.objective.to(self.fabric.device)
        self.wrapped, self.optimiser = self.fabric.setup(self.state.net, self.state.optimiser)
        self.curves = Curves(self.fabric, self.folder.folder)
        self.saved_at = self.clock = time.monotonic()
        # Rows of the validation split that could not be read.
        self.unreadable_val: list[int] = []
        # True half-way through a change of the state, which must not be saved then.
        self.is_changing = False

    def run_to_end(self, inputs: Inputs, val: Validation | None, weights: Floats | None) -> None:
        """Train; leaves a checkpoint where the user stops it between two steps."""
        # From now on Ctrl-C waits for the end of a step, where a checkpoint can be written.
        STOP_GRACEFULLY.set()
        try:
            self.train(inputs, val, weights)
        except KeyboardInterrupt:
            # A state that is half changed cannot be resumed from.
            if not self.is_changing:
                self.save()
            raise
        finally:
            STOP_GRACEFULLY.clear()

    def train(self, inputs: Inputs, val: Validation | None, weights: Floats | None) -> None:
        """Run all epochs from where the state stands."""
        state, fit = self.state, self.settings.fit
        changed: ChangedInputs
        if isinstance(inputs, CropDataset):
            changed = AugmentedCropDataset(inputs, self.settings.augment, fit.seed)
        else:
            changed = inputs
        batch = self._batch_size(len(inputs))
        order = ResumableBatchSampler(len(inputs), weights, fit.seed, batch)
        self.progress.begin(fit.epochs * len(order), state.step, self.folder.facts)
        for epoch in range(len(state.rows), fit.epochs):
            if self._is_out_of_patience(epoch):
                self.progress.note(
                    f"stopped after epoch {epoch - 1}: no better {fit.watch} "
                    f"for {fit.patience} epochs"
                )
                break
            self._train_epoch(changed, replace(order, epoch=epoch))
            self.is_changing = True
            self._after_epoch(epoch, len(order), val)
            self.is_changing = False
            interrupt_all(STOP_REQUESTED.is_set(), self.fabric)

    def _is_out_of_patience(self, epoch: int) -> bool:
        """Whether the last ``fit.patience`` epochs before this one have brought no better score."""
        patience = self.settings.fit.patience
        if not patience or not self.state.rows:
            return False
        return epoch - 1 - self.state.best_epoch >= patience

    def _train_epoch(self, inputs: ChangedInputs, order: ResumableBatchSampler) -> None:
        """Take the steps of an epoch that are not done yet."""
        state, fit = self.state, self.settings.fit
        if order.epoch < fit.frozen_epochs:
            freeze(state.net)
        else:
            unfreeze(state.net)
        state.net.train()
        first_step = order.epoch * len(order)
        for images, target, taught in self._batches(inputs, order, state.step - first_step):
            self.is_changing = True
            self._step(images, target, taught, fit.epochs * len(order))
            self.is_changing = False
            self._after_step(first_step)

    def _batch_size(self, count: int) -> int:
        """Rows of a batch over all processes: ``fit.batch``, or all rows where there are fewer."""
        batch, world = self.settings.fit.batch, self.fabric.world_size
        # Too few rows for two per process: left to the sampler to refuse.
        if count < 2 * world or count >= batch:
            return batch
        largest = count // world * world
        self.progress.note(
            f"fit.batch: {batch} is more than there is to train on; a step takes all {largest}"
        )
        return largest

    def _batches(
        self, inputs: ChangedInputs, order: ResumableBatchSampler, start: int
    ) -> Iterator[tuple[Tensor, Tensor, TeacherOutputs | None]]:
        """Images, targets and teachers' outputs of this process, from batch `start` on."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        keys = augmentation_keys(order, self.settings.fit.epochs, start, rank, world)
        loader = DataLoader(
            inputs,
            batch_sampler=keys,
            # A separate generator: drawing from torch's, which dropout uses, would make a resumed
            # run differ from one that was never stopped.
            generator=torch.Generator(),
            num_workers=self.settings.readers,
            collate_fn=collate,
            worker_init_fn=outlast_signals,
        )
        for batch_keys, (images, target, readable) in zip(keys, loaded(loader), strict=True):
            rows = [row for _, row in batch_keys]
            for row, is_readable in zip(rows, readable, strict=True):
                if not is_readable:
                    self.state.unreadable.append(row)
            on_device = self.fabric.to_device(images)
            taught = None if self.teacher is None else self.teacher(on_device, rows)
            yield on_device, self.fabric.to_device(target), taught

    def _step(
        self, images: Tensor, target: Tensor, taught: TeacherOutputs | None, steps: int
    ) -> None:
        """One step along the gradient; with SAM, along the gradient a little further up."""
        optim, state = self.settings.optim, self.state
        set_rate(state.optimiser, state.step, steps, optim)
        # Windows are padded to one length; only their frames count.
        is_frame = gather(valid_mask(images).byte()).bool() if images.ndim == 3 else None
        teacher = None
        if taught is not None:
            teacher = tuple(_gather_rows(output, is_frame) for output in taught)

        loss = self._backward(images, target, teacher, is_frame)
        if optim.sam:
            with perturbed(state.net, optim.sam):
                self._backward(images, target, teacher, is_frame)
        if optim.clip:
            self.fabric.clip_gradients(self.wrapped, self.optimiser, max_norm=optim.clip)
        self.optimiser.step()
        if not np.isfinite(loss):
            raise DataError(
                f"the loss is {loss} at step {state.step}; lower optim.lr, or set optim.clip"
            )
        state.loss += loss
        if state.average is not None:
            state.average.update(state.net)
        state.step += 1

    def _backward(
        self,
        images: Tensor,
        target: Tensor,
        teacher: TeacherOutputs | None,
        is_frame: Tensor | None,
    ) -> float:
        """Forward and backward over the batch of all processes; gives the loss."""
        net = self.state.net
        self.optimiser.zero_grad()
        raw = tuple(_gather_rows(output, is_frame) for output in self.wrapped(images))
        widths = [len(task.columns) for task in net.tasks]
        truth = _gather_rows(net.mixed_targets(target), is_frame).split(widths, dim=1)
        total, _ = self.objective(raw, truth, teacher)
        side = net.side_loss()
        if side is not None:
            total = total + side
        self.fabric.backward(total)
        return float(total.detach())

    def _tick(self) -> float:
        """Seconds since the last tick, which are added to the run's time."""
        now = time.monotonic()
        elapsed = now - self.clock
        self.clock = now
        self.state.seconds += elapsed
        return elapsed

    def _after_step(self, epoch_start: int) -> None:
        """Report the step; save when the last checkpoint is old."""
        state = self.state
        rate = self.settings.fit.batch / max(self._tick(), 1e-6)
        score = state.rows[-1]["score"] if state.rows else None
        is_told = STOP_REQUESTED.is_set()
        try:
            self.progress.step(state.step, state.loss / (state.step - epoch_start), rate, score)
        except KeyboardInterrupt:
            is_told = True
        interrupt_all(is_told, self.fabric)
        if time.monotonic() - self.saved_at > 60 * self.settings.fit.save_minutes:
            self.save()

    def _after_epoch(self, epoch: int, per_epoch: int, val: Validation | None) -> None:
        """Evaluate, report, save; all processes learn the score."""
        state = self.state
        is_first = self.fabric.global_rank == 0
        row = {"epoch": float(epoch), "loss": state.loss / per_epoch}
        if is_first:
            scores = {"score": float("nan")}
            if val is not None:
                scores, self.unreadable_val = _evaluate(state.evaluated_net, *val, self.settings)
            self._tick()
            row |= {**scores, "seconds": round(state.seconds, 1)}
        # One process alone evaluates, but all must stop at the same epoch.
        row = self.fabric.broadcast(row)
        state.loss = 0.0
        state.unreadable = all_gather_unique(state.unreadable)
        state.rows.append(row)
        self._keep_if_best(epoch, row["score"])
        if is_first:
            self.curves.log(state.rows, per_epoch)
            self.save()
            self.progress.epoch(row)

    def _keep_if_best(self, epoch: int, score: float) -> None:
        """Keep the weights where the score is the best so far, or where the last ones are kept."""
        state = self.state
        # Without a score there is no best epoch, but the last of a refit is what was asked for.
        is_judged = self.settings.refit or not np.isnan(score)
        keeps_last = self.settings.fit.keep == "last" and is_judged
        if not keeps_last and not score > state.best:
            return
        state.best, state.best_epoch = score, epoch
        if self.fabric.global_rank == 0:
            # Without adapters, so that whatever reads a run's network needs none.
            weights = plain_weights(state.evaluated_net)
            self.folder.save("best.pt", {"net": weights, "epoch": epoch, "score": score})

    def save(self) -> None:
        """Write a checkpoint, in the first process only."""
        self.saved_at = time.monotonic()
        if self.fabric.global_rank == 0:
            self.folder.save("last.pt", self.state.to_checkpoint())

    def finish(self, inputs: Inputs, tables: Mapping[str, pd.DataFrame]) -> None:
        """Report what could not be read and whether there is a best epoch; complete run.json."""
        if self.fabric.global_rank > 0:
            return
        self.curves.close()
        state = self.state
        unreadable = state.unreadable
        if isinstance(inputs, WindowDataset):
            unreadable = inputs.missing_rows(unreadable)
        self._report_unreadable("train", tables["train"].iloc[unreadable])
        self._report_unreadable("val", tables["val"].iloc[self.unreadable_val])
        if state.best_epoch < 0:
            self.progress.note(
                f"no epoch had a score of {self.settings.fit.watch}, so there is no best.pt; "
                "watch another measure"
            )
        self.folder.note(
            {
                "finished": time.strftime("%Y-%m-%d %H:%M"),
                "seconds": round(state.seconds),
                "best_epoch": state.best_epoch,
            }
        )

    def _report_unreadable(self, split: str, table: pd.DataFrame) -> None:
        """Count and name the pictures of a split that could not be read."""
        if table.empty:
            return
        names = []
        # The first twenty are enough to see what is wrong.
        for row, image in table["image"].head(20).items():
            names.append(image if isinstance(image, str) else f"row {row}")
        self.progress.note(
            f"{len(table)} pictures of split {split} could not be read and were left out: "
            f"{', '.join(names[:3])}"
        )
        self.folder.note({f"unreadable_{split}": {"count": len(table), "first": names}})


def _gather_rows(values: Tensor, is_frame: Tensor | None) -> Tensor:
    """Rows of all processes, without the padding of windows."""
    gathered = gather(values)
    return gathered if is_frame is None else gathered[is_frame]


def _evaluate(
    net: MultiTaskNet, inputs: Inputs, val: pd.DataFrame, settings: Settings
) -> tuple[dict[str, float], list[int]]:
    """The watched score and every task's headline on the validation split; unreadable rows."""
    was_training = net.training
    raw, readable = raw_scores(net, inputs, workers=settings.readers)
    net.train(was_training)
    val = val[readable]
    first = net.tasks[0]
    # Such a task is learned alone, and scores of all its classes would not fit in memory.
    if first.numbered:
        share = accuracy(raw[first.family][readable][:, 0], labels(val, first)[:, 0])
        return {"score": share, first.family: share}, np.flatnonzero(~readable).tolist()
    scores = {task.family: task.decode(raw[task.family][readable]) for task in net.tasks}
    row = {"score": headline(net.tasks, scores, val, settings.fit.watch)}
    for task in net.tasks:
        if _has_labels(val, task):
            row[task.family] = headline([task], scores, val)
    return row, np.flatnonzero(~readable).tolist()


def _has_labels(table: pd.DataFrame, task: Task) -> bool:
    """Whether any row is annotated for a task."""
    return bool(table[list(task.columns)].notna().to_numpy().any())
