"""How a run starts: devices, network and losses, sampling weights, and the facts of run.json."""

import hashlib
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.strategy import Strategy

from mien.errors import DataError
from mien.tasks import Floats, Task
from mien.train.distributed import (
    all_gather_values,
    check_agreement,
    end_group_at_exit,
    kill,
    synchronise,
)
from mien.train.inputs.samplers import inverse_cell, inverse_class, inverse_class_and_cell
from mien.train.networks.heads import Head
from mien.train.networks.network import MultiTaskNet, build, set_tuning, start_at_means
from mien.train.objective.objective import Objective
from mien.train.optim import Average, make_optimiser
from mien.train.runs.folder import RunFolder, versions
from mien.train.runs.inference import Inputs, input_shape, network_of
from mien.train.runs.logs import make_loggers
from mien.train.runs.state import TrainingState
from mien.train.settings.losses import LossSettings
from mien.train.settings.training import Settings, TaskSettings

__all__ = [
    "build_network",
    "check_batch",
    "check_same_labels",
    "check_same_rows",
    "check_shared_folder",
    "make_fabric",
    "run_facts",
    "sampling_weights",
    "starting_state",
]

# Pictures that a backbone which starts from face weights adapts its statistics to.
_SETTLING_PICTURES = 256


def make_fabric(settings: Settings, folder: Path) -> Fabric:
    """Choose devices and processes: torchrun's if it started this process, else the settings'.

    Args:
        settings: Settings whose ``fit`` is used.
        folder: The run's folder, for its curves.

    Returns:
        Fabric, launched.

    Raises:
        DataError: The device cannot compute in the precision that is asked for.
    """
    devices, nodes = settings.fit.devices, 1
    # How many processes torchrun has started, on this machine and in total.
    if "LOCAL_WORLD_SIZE" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ.get("WORLD_SIZE", devices)) // devices
    strategy: str | Strategy = "auto"
    if devices * nodes > 1:
        # Frozen parts give no gradient. Looking for them takes time, so only if there are any.
        strategy = DDPStrategy(find_unused_parameters=settings.fit.frozen_epochs > 0)
    precision = settings.fit.precision
    with warnings.catch_warnings():
        # Fabric falls back to another precision with a warning; that is refused below.
        warnings.filterwarnings("ignore", "You passed .*precision='16-mixed'", UserWarning)
        fabric = Fabric(
            accelerator=settings.fit.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=precision,
            loggers=make_loggers(folder),
        )
    _check_precision(fabric, precision)
    # Those that Fabric starts, none yet; torchrun ends its own.
    children = getattr(fabric.strategy.launcher, "procs", [])
    if devices * nodes > 1:
        end_group_at_exit(children)
    try:
        fabric.launch()
    except KeyboardInterrupt:
        # They have done nothing yet, and torch would say at length that this process is gone.
        kill(children)
        raise
    return fabric


def _check_precision(fabric: Fabric, precision: str) -> None:
    """Raises DataError where the device lacks a number format, or only emulates it."""
    device = fabric.device.type
    lacks_half = precision == "16-mixed" and device == "cpu"
    lacks_bfloat = precision == "bf16-mixed" and device == "cuda"
    if lacks_bfloat:
        lacks_bfloat = not torch.cuda.is_bf16_supported(including_emulation=False)
    if lacks_half or lacks_bfloat:
        others = "bf16-mixed" if lacks_half else "16-mixed"
        raise DataError(
            f"fit.precision: {device} here does not compute in {precision}; use {others} or 32-true"
        )


def check_batch(batch: int, processes: int) -> None:
    """Check that a batch can be shared out evenly.

    Args:
        batch: Faces of a step.
        processes: How many processes share them.

    Raises:
        DataError: It cannot.
    """
    if batch % processes:
        raise DataError(
            f"fit.batch: {batch} faces cannot be shared out to {processes} processes; "
            "use a multiple"
        )


def check_shared_folder(run: RunFolder) -> None:
    """Check that all processes, on whatever machine, see the run that the first one has begun.

    Otherwise they would resume from another checkpoint, or from none, without a word.

    Args:
        run: The run, as this process sees it.

    Raises:
        DataError: One of them does not.
    """
    # None looks before the first one has begun it.
    all_gather_values(None)
    path = run.folder / "settings.yaml"
    settings = path.read_bytes() if path.is_file() else None
    check_agreement(
        settings,
        str(run.folder),
        "{host} does not see the run that {first} has begun; give --out a folder that all share",
    )


def check_same_labels(run: RunFolder, truth: Mapping[str, Floats]) -> None:
    """Check that all processes, on whatever machine, learn from the same rows.

    Args:
        run: The run.
        truth: Training labels (N, K) by task family.

    Raises:
        DataError: They do not.
    """
    digest = hashlib.sha256()
    for values in truth.values():
        digest.update(np.ascontiguousarray(values).data)
    check_agreement(
        digest.hexdigest(),
        str(run.folder),
        "{host} has other labels than {first}; give all hosts the same data",
    )


def build_network(
    settings: Settings, tasks: Sequence[Task], truth: Mapping[str, Floats]
) -> tuple[MultiTaskNet, Objective]:
    """Build the network with its starting weights, and the objective it minimises.

    Args:
        settings: Settings of the run.
        tasks: Tasks in output order.
        truth: Training labels (N, K) by task family; NaN = not annotated.

    Returns:
        Network and objective.

    Raises:
        DataError: Settings do not go together, or the labels do not allow them.
    """
    _check_combinations(settings)
    _check_numbered(settings, tasks)
    try:
        net = build(settings.network, tasks, *input_shape(settings))
        objective = Objective.from_labels(tasks, settings.losses, truth)
    except ValueError as error:
        raise DataError(f"{settings.name}: {error}") from error
    _check_bins(settings.name, net, objective)
    # Heads that a teacher teaches may have no label at all to start from.
    distilled = [family for family, loss in settings.losses.items() if loss.distill]
    if settings.keep_heads:
        _keep_heads(settings, net)
    else:
        start_at_means(net, [truth[task.family] for task in tasks], distilled)
        _take_off_priors(net, objective)
    return net, objective


def _take_off_priors(net: MultiTaskNet, objective: Objective) -> None:
    """Let what training sees at the start be the means, where it adds priors to the output."""
    for task, head in zip(net.tasks, cast("list[Head]", list(net.heads)), strict=True):
        log_priors = objective.log_priors(task)
        if log_priors is not None:
            with torch.no_grad():
                head.last.bias.sub_(log_priors)


def _keep_heads(settings: Settings, net: MultiTaskNet) -> None:
    """Fill the heads from the run that the backbone starts from.

    Raises DataError unless that run has the same tasks and heads.
    """
    start = settings.network.start
    assert isinstance(start, Path)  # the settings have seen to it
    run = RunFolder(start.parent)
    before = [(spec.key, spec.names) for spec in run.tasks]
    if before != [(task.key, task.names) for task in net.tasks]:
        keys = ", ".join(key for key, _ in before)
        raise DataError(
            f"{settings.name}: keep_heads: {start} has heads for {keys} with labels of their own; "
            "leave it out, and the heads start fresh"
        )
    try:
        net.heads.load_state_dict(network_of(run, start.name).heads.state_dict())
    except RuntimeError as error:
        raise DataError(
            f"{settings.name}: keep_heads: {start} has heads of other kinds; give the same "
            "network.heads, or leave it out"
        ) from error


def _check_combinations(settings: Settings) -> None:
    """Raises DataError for options of network, losses and fit that exclude one another."""
    if settings.network.deviation and settings.fit.frozen_epochs:
        raise DataError(
            f"{settings.name}: fit.frozen_epochs: while the backbone stays as it is, nothing "
            "deviates; leave it out"
        )
    if settings.network.tune == "probe" and settings.fit.frozen_epochs:
        raise DataError(
            f"{settings.name}: fit.frozen_epochs: with tune: probe the backbone stays as it is "
            "to the end; leave it out"
        )
    for family, head in settings.network.heads.items():
        loss = settings.losses.get(family)
        if head.kind == "uncertain" and loss is not None and loss.distill:
            raise DataError(
                f"{settings.name}: losses.{family}.distill: no teacher sees what an uncertain "
                "head mixes; leave it out"
            )


def _check_numbered(settings: Settings, tasks: Sequence[Task]) -> None:
    """Raises DataError for what cannot be done with class numbers in place of shares."""
    for task in tasks:
        if not task.numbered:
            continue
        loss = settings.losses.get(task.family)
        keys = []
        # All these need shares of classes.
        if settings.augment.mixup:
            keys.append("augment.mixup")
        if settings.fit.balance != "none":
            keys.append("fit.balance")
        if isinstance(loss, LossSettings) and loss.classes != "none":
            keys.append(f"losses.{task.family}.classes")
        if isinstance(loss, LossSettings) and loss.kind == "logit_adjusted":
            keys.append(f"losses.{task.family}.kind")
        if settings.teachers:
            keys.append("teachers")
        if len(tasks) > 1:
            keys.append("tasks")
        if keys:
            raise DataError(
                f"{settings.name}: {', '.join(keys)}: {task.key} has a number for each of its "
                f"{len(task.names)} classes and is learned alone, by plain labels; leave it out"
            )


def _check_bins(name: str, net: MultiTaskNet, objective: Objective) -> None:
    """Raises DataError where a head has other bins than its loss."""
    for task, head in zip(objective.tasks, net.heads, strict=True):
        bins = objective.bins[task.family]
        if head.bins == bins:
            continue
        expected = "no bins"
        if bins is not None:
            expected = f"bins: {bins.count}, legacy: {str(bins.legacy).lower()}"
        raise DataError(
            f"{name}: losses.{task.family} needs a head with {expected}; "
            f"say so in network.heads.{task.family}"
        )


def sampling_weights(
    settings: Settings, tasks: Sequence[Task], truth: Mapping[str, Floats]
) -> Floats | None:
    """Compute how likely each training row is drawn.

    Args:
        settings: Settings whose ``fit.balance`` decides.
        tasks: Tasks of the run.
        truth: Training labels (N, K) by task family; NaN = not annotated.

    Returns:
        Weights (N,) with mean 1; None where each row comes once.

    Raises:
        DataError: The tasks have no labels to balance by.
    """
    balance = settings.fit.balance
    if balance == "none":
        return None
    # If several tasks have classes, the first decides.
    with_classes = [task.family for task in tasks if task.kind == "one_of"]
    classes = truth[with_classes[0]] if with_classes else None
    va = truth.get("va")
    if balance == "class" and classes is not None:
        return inverse_class(classes)
    if balance == "va" and va is not None:
        return inverse_cell(va)
    if balance == "both" and classes is not None and va is not None:
        return inverse_class_and_cell(classes, va)
    raise DataError(
        f"fit.balance: {balance} needs a one_of task for class, and va for va; "
        f"these tasks are {', '.join(truth)}"
    )


def starting_state(
    settings: Settings, net: MultiTaskNet, inputs: Inputs, fabric: Fabric
) -> TrainingState:
    """Make the state before the first step, with the network on its device.

    Args:
        settings: Settings of the run.
        net: As `build_network` made it.
        inputs: What it is trained on.
        fabric: Devices and processes.

    Returns:
        The state.

    Raises:
        DataError: Nothing is there to learn, or the backbone has no such layers to tune.
        MissingExtraError: Adapters need peft, and it is not installed.
    """
    if settings.network.start == "faces":
        count = min(len(inputs), _SETTLING_PICTURES)
        net.backbone.unfold_norms(torch.stack([inputs[i][0] for i in range(count)]))
    try:
        # Adapters stand beside the weights as they are now.
        set_tuning(net, settings.network)
        if fabric.world_size > 1:
            synchronise(net)
        # Moved before the average and the optimiser are made of its weights.
        net = net.to(fabric.device).to(memory_format=torch.channels_last)
        average = Average(net, settings.optim.average) if settings.optim.average else None
        optimiser = make_optimiser(net, settings.optim)
        return TrainingState(net, average, optimiser, fabric.strategy.precision)
    except ValueError as error:
        raise DataError(f"{settings.name}: {error}") from error


def run_facts(
    tasks: Sequence[Task],
    objective: Objective,
    tables: Mapping[str, pd.DataFrame],
    fabric: Fabric,
    commit: str,
) -> dict[str, Any]:
    """Collect the facts that run.json holds from the start.

    Args:
        tasks: Tasks in output order.
        objective: The objective, whose weights were counted in the labels.
        tables: Label table of each split.
        fabric: Devices and processes.
        commit: Version of the code.

    Returns:
        The facts, for JSON.
    """
    # Spelled out: the names of class folders stand nowhere else in the run folder.
    specs = []
    for task in tasks:
        spec = TaskSettings(
            key=task.key, names=task.names, kind=task.kind, low=task.low, high=task.high
        )
        specs.append(spec.model_dump(mode="json"))
    device = f"{fabric.device.type}, {os.cpu_count()} cores"
    if fabric.device.type == "cuda":
        device = torch.cuda.get_device_name()
    return {
        "started": time.strftime("%Y-%m-%d %H:%M"),
        "tasks": specs,
        "weights": objective.weights,
        "versions": versions(),
        "rows": {split: len(table) for split, table in tables.items()},
        "device": device,
        "processes": fabric.world_size,
        "commit": commit,
    }


def check_same_rows(run: RunFolder, tables: Mapping[str, pd.DataFrame]) -> None:
    """Check that a resumed run still has the data it began with.

    Args:
        run: The run.
        tables: Label table of each split, as loaded now.

    Raises:
        DataError: The number of rows of a split has changed.
    """
    before = run.facts.get("rows")
    now = {split: len(table) for split, table in tables.items()}
    if before != now:
        raise DataError(
            f"{run.folder}: this run began with the rows {before}, the data now have {now}; "
            "choose another folder with --out"
        )
