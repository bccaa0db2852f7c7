"""From a run to a bundle: the network exported, and all that its card says measured."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
import onnx
import torch

from mien.bundles.card import AffectCard
from mien.bundles.card_parts import NOT_FOR, Score
from mien.errors import BundleError, DataError, OutputError
from mien.files import replace_folder, wrap_os_errors
from mien.progress import Progress, silent
from mien.train.bundle.measure import Measured, Measurer, presence, tolerance
from mien.train.bundle.pack import sha256_of, write_bundle_files
from mien.train.bundle.provenance import data_terms, making, synthetic_kinds
from mien.train.bundle.system import task_cards
from mien.train.inputs.crops import CropDataset
from mien.train.onnx.export import export
from mien.train.onnx.merge_heads import export_merged, extractor_of
from mien.train.onnx.portability import portability_issues
from mien.train.open_run import draft
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of
from mien.train.runs.tables import load_tables
from mien.train.settings.training import Settings, pixels_of

__all__ = ["CALIBRATION", "check_output_folder", "make_bundle"]

Bits = Literal[8, 16]

CALIBRATION: Final = 500
"""Training faces on which the ranges of 8-bit activations are measured."""

_BUNDLE_FILES: Final = {"card.json", "model.onnx", "README.md"}
# Faces on which an export is compared with torch.
_EXAMPLES: Final = 4


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of `make_bundle` that say what the bundle is to be."""

    bits: Bits
    features: bool
    robustness: bool = False


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
    """Make a bundle, which `mien.load` reads, from the best network of a finished run.

    All numbers on its card are measured with the exported network on the run's validation split.

    Args:
        run: The run. Heads on cached features are merged with the bundle whose features they read,
            which keeps its own precision.
        out: Folder of the bundle; one that holds a bundle already is replaced.
        bits: 16 stores weights in half precision and computes in float32. 8 is smaller, and
            computes in whole numbers where that gives the same answer everywhere (see
            `mien.train.onnx.quantise`); what it costs in accuracy is noted and put on the card.
        features: The network gives its features as well.
        robustness: The card also has the scores on degraded pictures.
        note: Called with a line about every step.
        progress: Called with what is going on, and how much of it is done.

    Returns:
        The folder.

    Raises:
        DataError: The run has not finished, its data or its features' bundle is gone, it has too
            few subjects for intervals, or 8 bits are asked of heads on cached features.
        BundleError: The export does not answer as torch does.
        OutputError: `out` holds something else, or cannot be written.
    """
    options = _Options(bits, features, robustness)
    settings = _finished(run, bits)
    # Before anything is computed: measuring takes minutes, and a typing error should cost none.
    check_output_folder(out)
    _check_families(run)
    tables, tasks, _ = load_tables(settings, run.folder, lambda line: None)
    skip_unreadable = settings.fit.skip_unreadable
    crops = CropDataset(tables["train"], tasks, pixels_of(settings), skip_unreadable)
    measurer = Measurer(tasks, tables["val"], skip_unreadable, note, progress)
    # The old bundle stays until the new one is complete.
    with replace_folder(out) as folder:
        network = folder / "model.onnx"
        change = _export(run, network, crops, options)
        precision = "8 bits" if bits == 8 else "weights in half precision"
        note(f"exported; {precision} change raw output by {change:.2g} at most")
        width = _feature_width(run) if features else None
        measured = measurer.measure(network, draft(run, width))
        for line in measured.scored.notes:
            note(line)
        scores = tuple(_scores(run, crops, measurer, measured, options))
        unreadable = len(measurer.val) - len(measured.scored.table)
        card = _card(run, network, measured, scores, options=options, unreadable=unreadable)
        with wrap_os_errors(out):
            write_bundle_files(card, folder)
    note(f"{out}: {(out / 'model.onnx').stat().st_size / 1e6:.2f} MB")
    return out


def _check_families(run: RunFolder) -> None:
    """Raise DataError where the settings say where labels of unknown tasks come from."""
    stated = run.settings.card.supervised_by
    unknown = set(stated) - {spec.task.family for spec in run.tasks}
    if unknown:
        families = ", ".join(sorted(unknown))
        raise DataError(
            f"{run.folder / 'settings.yaml'}: card.supervised_by: {families} is no family of the "
            "tasks"
        )


def _scores(
    run: RunFolder,
    crops: CropDataset,
    measurer: Measurer,
    measured: Measured,
    options: _Options,
) -> list[Score]:
    """All scores of the card."""
    scores = measurer.scores(measured)
    # Undefined intervals are left out, and a single subject leaves none.
    if not scores:
        raise DataError(
            f"{run.folder}: a card needs intervals, and they take two subjects or videos in "
            "split val at least; give more"
        )
    if options.bits == 8:
        # The same network in half precision shows what 8 bits cost.
        with TemporaryDirectory() as folder:
            path = Path(folder) / "plain.onnx"
            _export(run, path, crops, _Options(16, features=False))
            plain = measurer.measure(path, draft(run))
        scores += measurer.scores_before_quantisation(plain, measured)
    if options.robustness:
        scores += measurer.scores_by_corruption(measured)
    return scores


def _finished(run: RunFolder, bits: Bits) -> Settings:
    """The settings of a run that can become a bundle."""
    settings = run.settings
    # First what no further training can mend.
    if settings.features is not None:
        extractor = extractor_of(run)
        if bits == 8:
            raise DataError(
                f"{run.folder}: its heads read features of {extractor.name}, which keeps its own "
                "precision; leave out the 8 bits"
            )
    if settings.refit:
        raise DataError(
            f"{run.folder}: it learned split val too, so nothing is left to measure it on; export "
            "the run that it repeats, or make a system of it (mien reproduce, `do: system`)"
        )
    if "finished" not in run.facts:
        raise DataError(
            f"{run.folder}: this run has not finished; start mien train again with the same "
            "settings and folder to go on"
        )
    return settings


def _export(run: RunFolder, path: Path, crops: CropDataset, options: _Options) -> float:
    """Write the network, compared with torch on training faces.

    Returns the largest change of raw output from making its weights small.
    """
    # Comparing needs a few faces, measuring the ranges of activations needs many.
    calibrates = options.bits == 8
    faces = _sample_faces(crops, CALIBRATION if calibrates else _EXAMPLES)
    try:
        with wrap_os_errors(path):
            if run.settings.features is not None:
                return export_merged(run, path, faces, options.features)
            outputs = [spec.task.family for spec in run.tasks]
            if options.features:
                outputs.append("features")
            return export(
                network_of(run).exported(features=options.features),
                path,
                faces[:_EXAMPLES],
                outputs,
                {0: "batch"},
                calibration=faces.numpy() if calibrates else None,
            )
    except ValueError as error:
        raise BundleError(f"{error}; this network cannot be exported") from error


def _feature_width(run: RunFolder) -> int:
    """Width of the features that a bundle of this run gives."""
    features = run.settings.features
    if features is not None:
        return features.card().exposed()
    return int(network_of(run).backbone.num_features)


def _sample_faces(crops: CropDataset, count: int) -> torch.Tensor:
    """At most `count` readable faces (n, C, S, S), evenly spread over the table."""
    # Neighbours in a table are often of one video, so the first faces would be too much alike.
    rows = np.linspace(0, len(crops) - 1, min(count, len(crops))).astype(int)
    faces = []
    for row in np.unique(rows):
        image, _, is_readable = crops[int(row)]
        if is_readable:
            faces.append(image)
    return torch.stack(faces)


def _card(
    run: RunFolder,
    network: Path,
    measured: Measured,
    scores: tuple[Score, ...],
    *,
    options: _Options,
    unreadable: int,
) -> AffectCard:
    """The card of the exported network; `unreadable` validation pictures are not in its scores."""
    settings = run.settings
    # Heads on cached features stand on a bundle, whose limits and terms are theirs as well.
    extractor = None if settings.features is None else settings.features.card()
    model = measured.model
    largest_difference, unmeasured = tolerance(network.read_bytes(), model.card, measured.scored)
    limits = _unique(
        (
            *settings.card.limits,
            *measured.limits,
            *unmeasured,
            *_limits(settings, extractor, network),
            *_limits_of_scores(measured, unreadable),
        )
    )
    temperatures = {}
    for family, value in measured.temperatures.items():
        temperatures[family] = round(value, 4)
    tasks = task_cards(run)
    trained_on = data_terms(settings, tuple(spec.task for spec in tasks))
    # Settings speak of the heads alone; the extractor's terms hold for the whole as well.
    licence = settings.card.licence
    not_for: tuple[str, ...] = NOT_FOR
    if extractor is not None:
        licence = f"{licence}; of the part that is {extractor.name}: {extractor.licence}"
        not_for = _unique((*NOT_FOR, *extractor.not_for))
    thresholds = presence([spec.task for spec in tasks], measured.scored) or None
    hash_of_network = sha256_of(network)
    summary = _summary(run, network, extractor)
    pixels = model.card.pixels
    made = making(run, options.bits, options.features)
    return AffectCard(
        card=1,
        name=settings.name,
        reads="crops",
        sha256=hash_of_network,
        pixels=pixels,
        licence=licence,
        summary=summary,
        features=model.card.features,
        tasks=tasks,
        tolerance=largest_difference,
        temperature=temperatures,
        presence=thresholds,
        scores=scores,
        limits=limits,
        not_for=not_for,
        trained_on=trained_on,
        made=made,
    )


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts in their order, each once: two data sets may have the same limit."""
    return tuple(dict.fromkeys(texts))


def _summary(run: RunFolder, network: Path, extractor: AffectCard | None) -> str:
    """What the settings say of the network, else what it reads, and its size."""
    summary = run.settings.card.summary
    if not summary:
        keys = ", ".join(spec.task.key for spec in run.tasks)
        body = f"one network ({run.settings.network.backbone})"
        if extractor is not None:
            body = f"heads on {extractor.name}"
        summary = f"{keys} of a face, from {body}."
    return f"{summary.rstrip()} The network takes {network.stat().st_size / 1e6:.2f} MB."


def _limits(settings: Settings, extractor: AffectCard | None, network: Path) -> Iterator[str]:
    """What users of any bundle that is made like this one must know."""
    yield (
        "scores come from the split that also chose the best epoch and the temperature: expect "
        "less on new pictures"
    )
    yield "agreement between groups of people is not among its scores"
    kinds = synthetic_kinds(settings)
    if kinds:
        subject = "it has" if extractor is None else "its heads have"
        worth = "nobody has measured how it reads people"
        if kinds == ("drawn",):
            worth = "it is of no use on people"
        yield f"{subject} learned from {' and '.join(kinds)} faces alone: {worth}"
    # Heads may stand on a bundle that was made before 8 bits were exact.
    if portability_issues(onnx.load(network)):
        yield (
            "it computes in 8 bits that overflow on some processors and that engines round "
            "differently: scores differ between them"
        )
    if extractor is not None:
        yield (
            f"it sees faces through {extractor.name} (sha256 {extractor.sha256[:12]}), whose "
            "features stayed as they were: its limits hold here too"
        )
        for limit in extractor.limits:
            yield f"{extractor.name}: {limit}"


def _limits_of_scores(measured: Measured, unreadable: int) -> Iterator[str]:
    """What the scores do not cover."""
    for evaluation in measured.evaluations.values():
        yield from evaluation.notes
    if unreadable:
        faces = len(measured.scored.table) + unreadable
        yield (
            f"{unreadable} of {faces} validation pictures could not be read and were left out of "
            "the scores"
        )


def check_output_folder(out: Path) -> None:
    """Refuse a folder that holds anything but a bundle.

    Args:
        out: A folder, which need not exist.

    Raises:
        OutputError: It is a file, or holds a file that is no part of a bundle.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another folder with --out")
    others = {path.name for path in out.iterdir()} - _BUNDLE_FILES
    if others:
        raise OutputError(
            f"{out}: holds {min(others)}, which is no part of a bundle; choose another folder "
            "with --out"
        )
