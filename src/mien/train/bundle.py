"""From a run to a bundle: the network exported, everything the card says of it measured, and the folder whole or not there."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
import pandas as pd
import torch

from mien.bundles.card import NOT_FOR, AffectCard, Score, TaskCard
from mien.bundles.engines import available, open_engine
from mien.bundles.store import Model
from mien.data.table import labels
from mien.errors import BundleError, DataError, OutputError
from mien.files import explained
from mien.tasks import Floats, Task
from mien.train.calibrate import cross_fitted, temperature
from mien.train.corruptions import CONDITIONS, robustness
from mien.train.crops import Crops
from mien.train.evaluate import judge
from mien.train.evaluation import Evaluation, Measure, TaskResult, headlines
from mien.train.export import export
from mien.train.joined import export_joined, extractor_of
from mien.train.models import ENGINE, draft, pixels_of
from mien.train.origin import made, only_drawn, seen, supervision
from mien.train.pack import finish, sha256_of
from mien.train.report import title
from mien.train.runs import RunFolder
from mien.train.scoring import Scored, evaluate_bundle
from mien.train.settings import Settings
from mien.train.tables import load_tables
from mien.train.trained import network_of

__all__ = ["make_bundle", "tolerance"]

Bits = Literal[8, 16]
Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much of it is done, and how much there is."""

_FILES: Final = {"card.json", "model.onnx", "README.md"}
_CALIBRATION: Final = 500  # training faces on which the ranges of 8-bit activations are measured
_TINY: Final = np.finfo(np.float32).tiny


def make_bundle(
    run: RunFolder,
    out: Path,
    *,
    bits: Bits = 16,
    features: bool = False,
    robustness: bool = False,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Make the folder `out`, which `mien.load` reads, from the best network of a finished run; returns it.

    bits: 16 keeps weights in half precision and computes in float32; 8 computes in 8-bit integers, whose cost in accuracy is told and
    put on the card. Heads on cached features are joined onto the bundle whose features they are, which keeps its own precision.
    features: the network gives its features as well. robustness: the card also says how scores fare on worse pictures.
    note: called with a line on every step. All numbers are measured with the exported network on the run's validation split.
    Raises DataError for a run that has not finished, whose data or whose features' bundle is gone, and for 8 bits with such a bundle;
    BundleError where the export does not answer as torch does, OutputError where `out` holds something else or cannot be written.
    """
    settings = _finished(run, bits)
    _is_free(out)
    tables, tasks, _ = load_tables(settings, run.folder, lambda line: None)
    if strange := set(settings.card.supervised_by) - {task.family for task in tasks}:
        raise DataError(f"{run.folder / 'settings.yaml'}: card.supervised_by: {', '.join(sorted(strange))} is no family of the tasks")
    maker = _Maker(run, settings, tasks, tables["val"], note, progress)
    with _aside(out) as folder, TemporaryDirectory() as spare:
        path = folder / "model.onnx"
        crops = Crops(tables["train"], tasks, pixels_of(settings), settings.fit.skip_unreadable)
        off = _export(run, path, crops, bits, features)
        note(f"exported; {'8-bit numbers' if bits == 8 else 'weights in half precision'} change raw output by {off:.2g} at most")
        width = _width(run) if features else None
        found = maker.measure(path, width)
        for line in found.scored.notes:
            note(line)
        if not (scores := maker.told(found)):
            raise DataError(f"{run.folder}: a card needs intervals, and they take two subjects or videos in split val at least; give more")
        if bits == 8:
            plain = Path(spare) / "plain.onnx"
            _export(run, plain, crops, 16, False)
            scores += maker.before(maker.measure(plain, None), found)
        if robustness:
            scores += maker.worse(found)
        card = maker.card(path, found, scores, bits, width)
        with explained(out):
            finish(card, folder)
    note(f"{out}: {(out / 'model.onnx').stat().st_size / 1e6:.2f} MB")
    return out


def _finished(run: RunFolder, bits: Bits) -> Settings:
    settings = run.settings
    if settings.features is not None:
        below = extractor_of(run)
        if bits == 8:
            raise DataError(f"{run.folder}: its heads read features of {below.name}, which keeps its own precision; leave out the 8 bits")
    if "finished" not in run.facts:
        raise DataError(f"{run.folder}: this run has not finished; start mien train again with the same settings and folder to go on")
    return settings


def _export(run: RunFolder, path: Path, crops: Crops, bits: Bits, features: bool) -> float:
    """Write the network, checked against torch on training faces; returns what small numbers change of its raw output at most."""
    faces = _some(crops, _CALIBRATION if bits == 8 else 4)
    outputs = [spec.task.family for spec in run.tasks] + ["features"] * features
    calibration = faces.numpy() if bits == 8 else None
    try:
        with explained(path):
            if run.settings.features is not None:
                return export_joined(run, path, faces, features)
            net = network_of(run).exported(features=features)
            return export(net, path, faces[:4], outputs, {0: "batch"}, calibration=calibration)
    except ValueError as error:
        raise BundleError(f"{error}; this network cannot be exported") from error


def _width(run: RunFolder) -> int:
    """Of the features that a bundle of this run gives."""
    below = run.settings.features
    return int(network_of(run).backbone.num_features) if below is None else below.card().exposed()


def _some(crops: Crops, count: int) -> torch.Tensor:
    """At most `count` readable faces (n, C, S, S), evenly spread over the table."""
    rows = np.unique(np.linspace(0, len(crops) - 1, min(count, len(crops))).astype(int))
    items = [crops[int(row)] for row in rows]
    return torch.stack([image for image, _, readable in items if readable])


@dataclass(frozen=True, slots=True)
class _Found:
    """What was measured with one exported network."""

    model: Model
    scored: Scored
    evaluations: dict[str, Evaluation]
    """By data set: scores over a mixture would speak of no faces that anyone has."""
    heats: dict[str, float]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Maker:
    """Measures exported networks of a run on its validation faces, and writes the card."""

    run: RunFolder
    settings: Settings
    tasks: tuple[Task, ...]
    val: pd.DataFrame
    note: Callable[[str], None]
    progress: Progress

    def measure(self, path: Path, width: int | None) -> _Found:
        """Scores with cross-fitted temperatures, judged; and the temperatures that the card will hold."""
        card = draft(self.run, width)
        scored = self._scores(Model(card, open_engine(path.read_bytes(), ENGINE)))
        heats, fair, limits = _calibrated(self.tasks, scored)
        whose = scored.table["set"].to_numpy()
        masks = {str(name): whose == name for name in dict.fromkeys(whose)}
        evaluations = {
            name: judge(self.tasks, {family: values[rows] for family, values in fair.items()}, scored.table[rows])
            for name, rows in masks.items()
        }
        model = Model(card.model_copy(update={"temperature": heats}), open_engine(path.read_bytes(), ENGINE))
        return _Found(model, scored, evaluations, heats, limits)

    def _scores(self, model: Model) -> Scored:
        def ahead(done: int, total: int) -> None:
            self.progress(f"scoring with {model.engine}", done, total)

        return evaluate_bundle(model, self.val, progress=ahead, skip_unreadable=self.settings.fit.skip_unreadable)

    def told(self, found: _Found) -> list[Score]:
        """Headlines, calibration, and every class, unit or column, set by set."""
        kinds = (_headlines, lambda result: _calibration(result, found.heats), _each)
        return [
            score
            for lines in kinds
            for name, evaluation in found.evaluations.items()
            for result in evaluation.tasks
            for score in _scores(lines(result), f"{_split(name)}; intervals over {evaluation.intervals_over}")
        ]

    def before(self, plain: _Found, found: _Found) -> list[Score]:
        """The headlines before 8-bit quantisation; the difference is told."""
        scores = []
        for data, evaluation in plain.evaluations.items():
            old, new = ([line for result in one.tasks for line in _headlines(result)] for one in (evaluation, found.evaluations[data]))
            for (name, was), (_, now) in zip(old, new, strict=True):
                self.note(f"{data}: {name}: {was.value:.4f} before 8-bit quantisation, {now.value:.4f} after")
            scores += _scores([(f"{name} before 8-bit quantisation", one) for name, one in old], _split(data))
        return scores

    def worse(self, found: _Found) -> list[Score]:
        """The headlines under every condition of worse pictures, set by set."""
        scores = []
        for data in found.evaluations:
            table = found.scored.table[found.scored.table["set"] == data].reset_index(drop=True)
            named = robustness(found.model.score, table, self.tasks, progress=self._ahead(f"robustness on {data}"))
            for condition, row in named.items():
                done = f"{condition}: {CONDITIONS[condition].meaning}"
                told = _scores([(title(name), one) for name, one in row.items()], _split(data))
                scores += [score.model_copy(update={"condition": done}) for score in told]
        return scores

    def _ahead(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(what, done, total)

    def card(self, path: Path, found: _Found, scores: Sequence[Score], bits: Bits, width: int | None) -> AffectCard:
        """The card of the network at `path`."""
        settings, said = self.settings, self.settings.card
        between, unmeasured = tolerance(path.read_bytes(), found.model.card, found.scored)
        facts = [TaskCard(**spec.model_dump(), supervised_by=supervision(settings, spec.task) or "not stated") for spec in self.run.tasks]
        below = None if settings.features is None else settings.features.card()
        body = f"one network ({settings.network.backbone})" if below is None else f"heads on {below.name}"
        summary = said.summary or f"{', '.join(task.key for task in self.tasks)} of a face, from {body}."
        limits = [
            *said.limits,
            *found.limits,
            *unmeasured,
            *_limits(settings),
            *([] if below is None else _limits_of(below)),
            *(note for one in found.evaluations.values() for note in one.notes),
        ]
        if lost := len(self.val) - len(found.scored.table):
            limits.append(f"{lost} of {len(self.val)} validation pictures could not be read and were left out of the scores")
        return AffectCard(
            card=1, name=settings.name, reads="crops", sha256=sha256_of(path), pixels=found.model.card.pixels,
            licence=said.licence if below is None else f"{said.licence}; of the part that is {below.name}: {below.licence}",
            summary=f"{summary.rstrip()} The network takes {path.stat().st_size / 1e6:.2f} MB.", features=width,
            tasks=tuple(facts), tolerance=between, temperature={key: round(heat, 4) for key, heat in found.heats.items()},
            scores=tuple(scores), limits=tuple(dict.fromkeys(limits)),
            not_for=tuple(dict.fromkeys((*NOT_FOR, *(below.not_for if below else ())))), trained_on=seen(settings, self.tasks),
            made=made(self.run, bits, width is not None),
        )  # fmt: skip


def tolerance(network: bytes, card: AffectCard, scored: Scored) -> tuple[float, tuple[str, ...]]:
    """The largest difference of any score between the installed engines over a table, half as much again for safety; and a limit.

    The limit says so where only one engine is installed and nothing could be compared.
    Raises BundleError for engines that disagree by more than a card can hold.
    """
    names = available()
    answered = [evaluate_bundle(Model(card, open_engine(network, name)), scored.table).scores for name in names]
    apart = max(float(np.ptp([one[family] for one in answered], axis=0).max()) for family in answered[0])
    if 1.5 * apart >= 1:
        raise BundleError(f"{' and '.join(names)} disagree by {apart:.2g} on this network; one of 16 bits agrees better")
    limits = (
        () if len(names) > 1 else (f"only {names[0]} was installed when it was made; that other engines agree with it is not measured",)
    )
    return max(round(1.5 * apart, 3), 0.001), limits


def _calibrated(tasks: Sequence[Task], scored: Scored) -> tuple[dict[str, float], dict[str, Floats], tuple[str, ...]]:
    """By family: the temperature, scores with temperatures fitted on other faces; and what could not be fitted."""
    heats: dict[str, float] = {}
    fair, limits = dict(scored.scores), []
    for task in tasks:
        target = labels(scored.table, task)
        if task.kind != "one_of" or np.isnan(target).all():
            continue
        # Softmax does not see what all classes share, so the logarithm of a probability serves as its raw output.
        raw = np.log(np.maximum(scored.scores[task.family], _TINY))
        told = np.where(np.isnan(target).any(axis=1), np.nan, target.argmax(axis=1))
        try:
            heats[task.family] = temperature(raw, told)
            fair[task.family] = cross_fitted(raw, told, _groups(scored.table))
        except DataError as error:
            heats.pop(task.family, None)
            limits.append(f"{task.family}: probabilities are not calibrated: {error}")
    return heats, fair, tuple(limits)


def _groups(table: pd.DataFrame) -> Floats:
    """The number of each face's video, else subject, else itself."""
    known = table["video"].astype(object).where(table["video"].notna(), table["subject"])
    alone = pd.Series([("alone", i) for i in range(len(table))], index=table.index, dtype=object)
    return np.asarray(pd.factorize(known.astype(object).where(known.notna(), alone))[0], np.float64)


def _limits(settings: Settings) -> Iterator[str]:
    yield "scores come from the split that also chose the best epoch and the temperature: expect less on new pictures"
    yield "agreement between groups of people is not on this card"
    if only_drawn(settings):
        who = "it has" if settings.features is None else "its heads have"
        yield f"{who} learned from drawn faces alone: it is of no use on people"


def _limits_of(below: AffectCard) -> Iterator[str]:
    yield f"it sees faces through {below.name} (sha256 {below.sha256[:12]}), whose features stayed as they were: its limits hold here too"
    for limit in below.limits:
        yield f"{below.name}: {limit}"


def _headlines(result: TaskResult) -> list[tuple[str, Measure]]:
    return [(title(f"{result.family}.{name}"), result.measures[name]) for name in headlines(result.kind, result.graded)]


def _calibration(result: TaskResult, heats: dict[str, float]) -> list[tuple[str, Measure]]:
    how = "cross-fitted temperature" if result.family in heats else "not calibrated"
    return [(f"{title(f'{result.family}.ece')} ({how})", result.measures["ece"])] if "ece" in result.measures else []


def _each(result: TaskResult) -> list[tuple[str, Measure]]:
    measure = "ccc" if result.kind == "scalar" else "r" if result.graded else "f1"
    return [(f"{title(f'{result.family}.{measure}')} {name}", row[measure]) for name, row in result.each.items()]


def _scores(named: Sequence[tuple[str, Measure]], data: str) -> list[Score]:
    """Rounded for a card; what is undefined stays off."""
    return [
        Score(metric=name, value=round(one.value, 4), low=round(one.low, 4), high=round(one.high, 4), data=data, faces=one.faces)
        for name, one in named
        if np.isfinite([one.value, one.low, one.high]).all()
    ]


def _split(name: str) -> str:
    return f"validation split of {name}"


def _is_free(out: Path) -> None:
    """Raises OutputError unless the folder is absent, empty, or holds a bundle and nothing else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another folder with --out")
    if strange := sorted({path.name for path in out.iterdir()} - _FILES):
        raise OutputError(f"{out}: holds {strange[0]}, which is no part of a bundle; choose another folder with --out")


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when left in peace and vanishes otherwise."""
    part, old = (out.with_name(f".{out.name}.{end}") for end in ("part", "old"))
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    try:
        yield part
        with explained(out):
            for path in part.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            _replace(part, out, old)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace(part: Path, out: Path, old: Path) -> None:
    """Put a folder in the place of another, which is back if that fails."""
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        part.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
