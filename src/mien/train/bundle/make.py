"""From a run to a bundle: the network exported, everything the card says of it measured, and the folder whole or not there."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
import onnx
import torch

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import NOT_FOR, Score, TaskCard
from mien.errors import BundleError, DataError, OutputError
from mien.files import replace_folder, wrap_os_errors
from mien.progress import Progress, silent
from mien.train.bundle.measure import Measured, Measurer, tolerance
from mien.train.bundle.pack import sha256_of, write_bundle_files
from mien.train.bundle.provenance import made, only_drawn, seen, supervision
from mien.train.inputs.crops import CropDataset
from mien.train.onnx.export import export
from mien.train.onnx.merge_heads import export_merged, extractor_of
from mien.train.onnx.portability import portability_issues
from mien.train.open_run import draft
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.runs.tables import load_tables
from mien.train.settings.training import Settings, pixels_of

__all__ = ["CALIBRATION", "is_free", "make_bundle"]

Bits = Literal[8, 16]
_FILES: Final = {"card.json", "model.onnx", "README.md"}
CALIBRATION: Final = 500
"""Training faces on which the ranges of 8-bit activations are measured."""


def make_bundle(
    run: RunFolder,
    out: Path,
    *,
    bits: Bits = 16,
    features: bool = False,
    robustness: bool = False,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Path:
    """Make the folder `out`, which `mien.load` reads, from the best network of a finished run; returns it.

    bits: 16 keeps weights in half precision and computes in float32; 8 is smaller, and computes in whole
    numbers where that gives the same answer everywhere (see `mien.train.onnx.quantise`); its cost in accuracy
    is told and put on the card. Heads on cached features are joined onto the bundle whose features they are,
    which keeps its own precision.
    features: the network gives its features as well. robustness: the card also says how scores fare on worse pictures.
    note: called with a line on every step. All numbers are measured with the exported network on the run's validation split.
    Raises DataError for a run that has not finished, whose data or whose features' bundle is gone, and for 8 bits with such a bundle;
    BundleError where the export does not answer as torch does, OutputError where `out` holds something else or cannot be written.
    """
    settings = _finished(run, bits)
    is_free(out)
    tables, tasks, _ = load_tables(settings, run.folder, lambda line: None)
    if strange := set(settings.card.supervised_by) - {task.family for task in tasks}:
        raise DataError(
            f"{run.folder / 'settings.yaml'}: card.supervised_by: {', '.join(sorted(strange))} is no family of the tasks"
        )
    measurer = Measurer(tasks, tables["val"], settings.fit.skip_unreadable, note, progress)
    with replace_folder(out) as folder, TemporaryDirectory() as spare:
        path = folder / "model.onnx"
        crops = CropDataset(
            tables["train"], tasks, pixels_of(settings), settings.fit.skip_unreadable
        )
        off = _export(run, path, crops, bits, features)
        note(
            f"exported; {'8 bits' if bits == 8 else 'weights in half precision'} change raw output by {off:.2g} at most"
        )
        width = _width(run) if features else None
        found = measurer.measure(path, draft(run, width))
        for line in found.scored.notes:
            note(line)
        if not (scores := measurer.told(found)):
            raise DataError(
                f"{run.folder}: a card needs intervals, and they take two subjects or videos in split val at least; give more"
            )
        if bits == 8:
            plain = Path(spare) / "plain.onnx"
            _export(run, plain, crops, 16, False)
            scores += measurer.before(measurer.measure(plain, draft(run)), found)
        if robustness:
            scores += measurer.worse(found)
        card = _card(run, measurer, path, found, scores, bits=bits, width=width)
        with wrap_os_errors(out):
            write_bundle_files(card, folder)
    note(f"{out}: {(out / 'model.onnx').stat().st_size / 1e6:.2f} MB")
    return out


def _finished(run: RunFolder, bits: Bits) -> Settings:
    settings = run.settings
    if settings.features is not None:
        below = extractor_of(run)
        if bits == 8:
            raise DataError(
                f"{run.folder}: its heads read features of {below.name}, which keeps its own precision; leave out the 8 bits"
            )
    if "finished" not in run.facts:
        raise DataError(
            f"{run.folder}: this run has not finished; start mien train again with the same settings and folder to go on"
        )
    return settings


def _export(run: RunFolder, path: Path, crops: CropDataset, bits: Bits, features: bool) -> float:
    """Write the network, checked against torch on training faces; returns what small numbers change of its raw output at most."""
    faces = _some(crops, CALIBRATION if bits == 8 else 4)
    outputs = [spec.task.family for spec in run.tasks] + ["features"] * features
    calibration = faces.numpy() if bits == 8 else None
    try:
        with wrap_os_errors(path):
            if run.settings.features is not None:
                return export_merged(run, path, faces, features)
            net = network_of(run).exported(features=features)
            return export(net, path, faces[:4], outputs, {0: "batch"}, calibration=calibration)
    except ValueError as error:
        raise BundleError(f"{error}; this network cannot be exported") from error


def _width(run: RunFolder) -> int:
    """Of the features that a bundle of this run gives."""
    below = run.settings.features
    return int(network_of(run).backbone.num_features) if below is None else below.card().exposed()


def _some(crops: CropDataset, count: int) -> torch.Tensor:
    """At most `count` readable faces (n, C, S, S), evenly spread over the table."""
    rows = np.unique(np.linspace(0, len(crops) - 1, min(count, len(crops))).astype(int))
    items = [crops[int(row)] for row in rows]
    return torch.stack([image for image, _, readable in items if readable])


def _card(
    run: RunFolder,
    measurer: Measurer,
    path: Path,
    found: Measured,
    scores: Sequence[Score],
    *,
    bits: Bits,
    width: int | None,
) -> AffectCard:
    """The card of the network at `path`, whose `scores` were measured."""
    settings, said = run.settings, run.settings.card
    between, unmeasured = tolerance(path.read_bytes(), found.model.card, found.scored)
    facts = [
        TaskCard(
            **spec.model_dump(), supervised_by=supervision(settings, spec.task) or "not stated"
        )
        for spec in run.tasks
    ]
    below = None if settings.features is None else settings.features.card()
    body = (
        f"one network ({settings.network.backbone})" if below is None else f"heads on {below.name}"
    )
    summary = (
        said.summary or f"{', '.join(task.key for task in measurer.tasks)} of a face, from {body}."
    )
    limits = [
        *said.limits,
        *found.limits,
        *unmeasured,
        *_limits(settings),
        *_differs(path),
        *([] if below is None else _limits_of(below)),
        *(note for one in found.evaluations.values() for note in one.notes),
    ]
    faces = len(measurer.val)
    if lost := faces - len(found.scored.table):
        limits.append(
            f"{lost} of {faces} validation pictures could not be read and were left out of the scores"
        )
    return AffectCard(
        card=1, name=settings.name, reads="crops", sha256=sha256_of(path), pixels=found.model.card.pixels,
        licence=said.licence if below is None else f"{said.licence}; of the part that is {below.name}: {below.licence}",
        summary=f"{summary.rstrip()} The network takes {path.stat().st_size / 1e6:.2f} MB.", features=width,
        tasks=tuple(facts), tolerance=between, temperature={key: round(heat, 4) for key, heat in found.heats.items()},
        scores=tuple(scores), limits=tuple(dict.fromkeys(limits)),
        not_for=tuple(dict.fromkeys((*NOT_FOR, *(below.not_for if below else ())))), trained_on=seen(settings, measurer.tasks),
        made=made(run, bits, width is not None),
    )  # fmt: skip


def _limits(settings: Settings) -> Iterator[str]:
    yield "scores come from the split that also chose the best epoch and the temperature: expect less on new pictures"
    yield "agreement between groups of people is not on this card"
    if only_drawn(settings):
        who = "it has" if settings.features is None else "its heads have"
        yield f"{who} learned from drawn faces alone: it is of no use on people"


def _differs(path: Path) -> Iterator[str]:
    """Said of heads on a bundle that was made before 8 bits were whole numbers."""
    if portability_issues(onnx.load(path)):
        yield "it computes in 8 bits that overflow on some processors and that engines round differently: scores differ between them"


def _limits_of(below: AffectCard) -> Iterator[str]:
    yield f"it sees faces through {below.name} (sha256 {below.sha256[:12]}), whose features stayed as they were: its limits hold here too"
    for limit in below.limits:
        yield f"{below.name}: {limit}"


def is_free(out: Path) -> None:
    """Raises OutputError unless the folder is absent, empty, or holds a bundle and nothing else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another folder with --out")
    if strange := sorted({path.name for path in out.iterdir()} - _FILES):
        raise OutputError(
            f"{out}: holds {strange[0]}, which is no part of a bundle; choose another folder with --out"
        )
