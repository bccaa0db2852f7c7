"""The step that makes a system of everything a step's scores come from."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from mien.bundles.card import AffectCard, SystemCard, hash_of_files, head_path
from mien.bundles.card_parts import NAME, NOT_FOR, Made, Score, TaskCard, Terms
from mien.bundles.gate import inspect, inspect_network
from mien.bundles.plan import (
    BlendStep,
    CompoundStep,
    Head,
    HeadsStep,
    Kernel,
    OverrideStep,
    PlanStep,
    ScoreStep,
    SmoothStep,
    ThresholdStep,
    tasks_of,
)
from mien.bundles.store import read_bundle
from mien.data.registry import Set, set_name
from mien.evaluation.nested_tuning import nested
from mien.files import replace_folder, wrap_os_errors
from mien.metrics import accuracy, ccc, macro_f1, mean_au_f1
from mien.recipes.predictions import Part, Predicted
from mien.recipes.steps.base import STEP, Step, StepContext
from mien.recipes.steps.compare_system import compare
from mien.recipes.steps.compound import (
    ChooseCompounds,
    Compounds,
    Faces,
    SupervisedCompounds,
)
from mien.recipes.steps.features_heads import Features, Heads
from mien.recipes.steps.features_heads import Score as ScoreSettings
from mien.recipes.steps.postprocess import Blend, Override, Smooth, Threshold
from mien.recipes.steps.runs import EXPORTED, runs_of
from mien.recipes.steps.training import Train
from mien.tasks import Floats, Task
from mien.train.bundle.pack import code_version, score_with_interval, write_bundle_files
from mien.train.bundle.provenance import data_terms
from mien.train.bundle.system import (
    card_hash,
    copy_member,
    task_cards,
    write_head,
    write_member,
)
from mien.train.runs.folder import RunFolder

__all__ = ["MakeSystem"]


class MakeSystem(Step):
    """Make a bundle of all networks and choices that a step's scores come from, with the first seed.

    The bundle reads films. Its scores of the first recordings of split val are compared with the
    step's, and its card gets the step's measures on split val.

    Attributes:
        of: A step that predicts: of kind train, heads, score, smooth, blend, threshold or override, or
            one that gives compounds.
        name: Of the bundle.
    """

    do: Literal["system"]
    of: Annotated[str, STEP]
    name: Annotated[str, Field(pattern=NAME, max_length=100)]

    @override
    def check(self, earlier: Mapping[str, Step]) -> None:
        _check_holds(self.of, earlier)

    @override
    def run(self, context: StepContext) -> None:
        with replace_folder(context.folder / EXPORTED) as folder:
            system = _Parts(context, folder)
            system.add(self.of)
            card = system.card(self.name, self.of)
            with wrap_os_errors(folder):
                write_bundle_files(card, folder)
            difference = compare(context, self.of, folder, system.data)
        context.note(f"{context.name}: {card.summary}")
        context.note(f"{context.name}: differs from the step {self.of} by {difference:.1g} at most")


def _check_holds(name: str, steps: Mapping[str, Step]) -> None:
    """Raises ValueError for a step whose scores no system can give."""
    step = steps[name]
    if isinstance(step, Train | ScoreSettings | Heads):
        return
    if isinstance(step, Smooth | Threshold):
        _check_holds(step.of, steps)
    elif isinstance(step, Blend):
        for other in step.of:
            _check_holds(other, steps)
    elif isinstance(step, Override):
        _check_holds(step.of, steps)
        _check_holds(step.by, steps)
    elif isinstance(step, Compounds | SupervisedCompounds | ChooseCompounds):
        return
    else:
        kind = getattr(step, "do", "unknown")
        raise ValueError(
            f"of: {name} is of kind {kind}, which no system holds; name a step of kind train, "
            "heads, score, smooth, blend, threshold, override or one of compounds"
        )


class _Parts:
    """The members, heads and steps of a system, written into its folder one after the other.

    Attributes:
        data: Key of the data whose split val the steps are measured on.
    """

    def __init__(self, context: StepContext, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._seed = context.seeds[0]
        self._members: dict[str, AffectCard] = {}
        self._steps: dict[str, PlanStep] = {}
        self._seen: list[Terms] = []
        self.data: list[Set] = []

    def add(self, name: str) -> None:
        """Add a step of the recipe, after those that it reads."""
        if name in self._steps:
            return
        step = self._context.steps[name]
        if isinstance(step, Train):
            self._add_train(name, step)
        elif isinstance(step, ScoreSettings):
            self._add_score(name, step)
        elif isinstance(step, Heads):
            self._add_heads(name, step)
        elif isinstance(step, Compounds | SupervisedCompounds | ChooseCompounds):
            self._add_compounds(name, step)
        else:
            self._add_change(name, step)

    def _add_train(self, name: str, step: Train) -> None:
        """Each network of the first seed is a member; several are averaged."""
        judged = step.data if step.judge is None else (step.judge,)
        self.data = [self._context.set(key) for key in judged]
        runs = [RunFolder(path) for path in runs_of(self._context, name, self._seed)]
        names = [name] if len(runs) == 1 else [f"{name}_{number}" for number in range(len(runs))]
        scores = _measures(self._context.predicted(name), self._where())
        for member, run in zip(names, runs, strict=True):
            folder = self._folder / "members" / member
            card = write_member(run, folder, scores if len(runs) == 1 else _averaged(scores))
            self._members[member] = card
            tasks = tuple(spec.task for spec in card.tasks)
            columns = {task.family: tuple(range(len(task.names))) for task in tasks}
            self._steps[member] = ScoreStep(
                do="score", member=member, tasks=card.tasks, columns=columns
            )
        if len(runs) > 1:
            families = [spec.task.family for spec in task_cards(runs[0])]
            weights = dict.fromkeys(families, (1.0,) * len(runs))
            self._steps[name] = BlendStep(do="blend", of=tuple(names), weights=weights)

    def _add_score(self, name: str, step: ScoreSettings) -> None:
        self.data = [self._context.set(step.data)]
        bundle: str | Path = step.bundle or ""
        if step.exported is not None:
            bundle = self._context.earlier[step.exported] / EXPORTED
        member = self._copied(bundle)
        card = self._members[member]
        tasks, columns = [], {}
        for asked, source in step.sources(tuple(spec.task for spec in card.tasks)):
            labelled = next(spec for spec in card.tasks if spec.task == source)
            tasks.append(_card_of(asked, labelled.supervised_by))
            columns[asked.family] = tuple(step.renamed(asked).column_index(source.names))
        self._steps[name] = ScoreStep(
            do="score", member=member, tasks=tuple(tasks), columns=columns
        )

    def _add_heads(self, name: str, step: Heads) -> None:
        specs = [self._context.set(step.data)]
        self.data = specs
        features = self._context.steps[step.features]
        assert isinstance(features, Features)
        home = features.home(self._context.earlier[step.features], self._seed)
        member = self._copied(features.source(self._context, home))
        heads: list[Head] = []
        with wrap_os_errors(self._folder):
            (self._folder / "heads").mkdir(exist_ok=True)
        for number, path in enumerate(runs_of(self._context, name, self._seed)):
            run = RunFolder(path)
            heads.append(write_head(run, self._folder / head_path(name, number)))
            self._seen += data_terms(run.settings, tuple(spec.task for spec in run.tasks))
        self._steps[name] = HeadsStep(do="heads", member=member, heads=tuple(heads))

    def _add_compounds(
        self, name: str, step: Compounds | SupervisedCompounds | ChooseCompounds
    ) -> None:
        """The expressions of the bundle that read the faces, and one way from them to compounds."""
        self.data = [self._context.set(step.data)]
        faces = self._context.steps[step.of]
        assert isinstance(faces, Faces)
        bundle: str | Path = faces.bundle or ""
        if faces.exported is not None:
            bundle = self._context.earlier[faces.exported] / EXPORTED
        member = self._copied(bundle)
        [expressions] = [spec for spec in self._members[member].tasks if spec.task.family == "expr"]
        columns = {"expr": tuple(range(len(expressions.names)))}
        self._steps["expressions"] = ScoreStep(
            do="score", member=member, tasks=(expressions,), columns=columns
        )
        if isinstance(step, ChooseCompounds):
            text = (self._context.earlier[name] / "chosen.json").read_text(encoding="utf-8")
            settings = json.loads(text)["ce"][0]
        else:
            settings = step.model_dump(include={"mean", "basis", "aggregation", "window", "sigma"})
        self._steps[name] = CompoundStep(do="compounds", of="expressions", **settings)

    def _copied(self, bundle: str | Path) -> str:
        """The member that is a copy of a bundle, made unless it is one already."""
        card = read_bundle(bundle)[0].card
        for member, known in self._members.items():
            if known == card:
                return member
        member = self._free_name(card.name)
        self._members[member] = copy_member(bundle, self._folder / "members" / member)
        return member

    def _free_name(self, name: str) -> str:
        """A member's name after that of its bundle."""
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        free, number = slug, 2
        while free in self._members:
            free, number = f"{slug}_{number}", number + 1
        return free

    def _add_change(self, name: str, step: Step) -> None:
        """A step that changes scores, with what was chosen for the first seed."""
        text = (self._context.earlier[name] / "chosen.json").read_text(encoding="utf-8")
        chosen: dict[str, Any] = {key: of_seed[0] for key, of_seed in json.loads(text).items()}
        if isinstance(step, Smooth):
            self.add(step.of)
            kernels = {key: Kernel.model_validate(value) for key, value in chosen.items()}
            self._steps[name] = SmoothStep(do="smooth", of=step.of, kernels=kernels)
        elif isinstance(step, Blend):
            for other in step.of:
                self.add(other)
            weights = {key: tuple(map(float, value)) for key, value in chosen.items()}
            self._steps[name] = BlendStep(
                do="blend", of=step.of, weights=weights, logits=step.logits
            )
        elif isinstance(step, Threshold):
            self.add(step.of)
            self._steps[name] = ThresholdStep(
                do="threshold", of=step.of, values=tuple(chosen["au"])
            )
        elif isinstance(step, Override):
            self.add(step.of)
            self.add(step.by)
            [names] = [
                task.names for task in tasks_of(self._steps, step.of) if task.family == "expr"
            ]
            columns = tuple(i for i, label in enumerate(names) if label not in step.without)
            self._steps[name] = OverrideStep(
                do="override", of=step.of, by=step.by, threshold=chosen["expr"], columns=columns
            )

    def _where(self) -> str:
        titles = [set_name(spec) for spec in self.data]
        return f"{', '.join(titles)}, split val; choices scored on other recordings"

    def card(self, name: str, answer: str) -> SystemCard:
        """The card of the whole."""
        hashes = {}
        for member in self._members:
            hashes[member] = card_hash(self._folder / "members" / member)
        cards = list(self._members.values())
        tasks = _answered(self._steps, answer)
        terms = [*self._seen]
        for card in cards:
            terms += card.trained_on
        limits = [
            "its steps over time count frames, so films are best of the frame rate it learned"
        ]
        for card in cards:
            limits += [f"{card.name}: {limit}" for limit in card.limits]
        not_for = [*NOT_FOR]
        for card in cards:
            not_for += card.not_for
        draft = SystemCard.model_construct(members=hashes, steps=self._steps)
        return SystemCard(
            card=1,
            name=name,
            summary=self._summary(tasks),
            sha256=hash_of_files(draft.files),
            licence="; ".join(dict.fromkeys(card.licence for card in cards)),
            trained_on=tuple(dict.fromkeys(terms)),
            scores=_measures(self._context.predicted(answer), self._where()),
            limits=tuple(dict.fromkeys(limits)),
            not_for=tuple(dict.fromkeys(not_for)),
            made=Made(
                recipe=f"mien reproduce, step {self._context.name}",
                seed=self._seed,
                commit=code_version(),
                cost="see the report beside it",
            ),
            reads="films",
            tasks=tasks,
            tolerance=max(card.tolerance for card in cards),
            members=hashes,
            steps=self._steps,
            answer=answer,
        )

    def _summary(self, tasks: Sequence[TaskCard]) -> str:
        """What it is, and what it costs."""
        size, work = 0.0, 0.0
        for member, card in self._members.items():
            network = (self._folder / "members" / member / "model.onnx").read_bytes()
            size += len(network)
            work += inspect(card, network).work
        for name, step in self._steps.items():
            if not isinstance(step, HeadsStep):
                continue
            for number, head in enumerate(step.heads):
                network = (self._folder / head_path(name, number)).read_bytes()
                frames = 1 if head.window is None else head.window.length
                width = head.end - head.first
                shape = (1, width) if head.window is None else (1, frames, width)
                families = tuple(spec.task.family for spec in head.tasks)
                size += len(network)
                work += inspect_network(name, network, shape, families).work / frames
        keys = ", ".join(spec.key for spec in tasks)
        return (
            f"{keys} of faces in films, from {len(self._members)} networks and what follows them; "
            f"{size / 1e6:.2f} MB, {work / 1e6:.0f} million operations per face."
        )


def _card_of(task: Task, supervised_by: str) -> TaskCard:
    return TaskCard(
        key=task.key,
        names=task.names,
        kind=task.kind,
        low=task.low,
        high=task.high,
        supervised_by=supervised_by,
    )


def _answered(steps: Mapping[str, PlanStep], answer: str) -> tuple[TaskCard, ...]:
    """The tasks of the answer, with the supervision of the networks that they come from."""
    sources: dict[Task, list[str]] = {}
    for step in steps.values():
        specs: list[TaskCard] = []
        if isinstance(step, ScoreStep):
            specs += step.tasks
        elif isinstance(step, HeadsStep):
            for head in step.heads:
                specs += head.tasks
        for spec in specs:
            sources.setdefault(spec.task, []).append(spec.supervised_by)
    cards = []
    for task in tasks_of(steps, answer):
        # Compounds are nobody's labels: they come from expressions.
        named = sources.get(task, ["computed from the expressions of all faces of a frame"])
        cards.append(_card_of(task, "; ".join(dict.fromkeys(named))))
    return tuple(cards)


def _averaged(scores: Sequence[Score]) -> list[Score]:
    """Scores of the average of several members, as each of their cards must tell them."""
    renamed = []
    for score in scores:
        data = f"{score.data}; the average with the other members of its kind"
        renamed.append(score.model_copy(update={"data": data}))
    return renamed


def _measures(predicted: Predicted, where: str) -> tuple[Score, ...]:
    """What a step's scores of split val are worth, with intervals over recordings; the first seed."""
    part = predicted.parts["val"]
    groups = part.table["recording"].to_numpy()
    if len(set(groups)) < 2:
        where = f"{where}; one recording alone, so that its intervals draw single frames"
        groups = np.arange(len(groups))
    scores: list[Score] = []
    for task in predicted.tasks:
        values = _honest(part, task)
        truth = part.truth(task)
        known = ~np.isnan(truth).all(axis=1)
        if not known.any():
            continue
        add = partial(score_with_interval, data=where, groups=groups[known])
        pred, target = values[known], truth[known]
        if task.kind == "one_of":
            classes = target.argmax(axis=1), pred.argmax(axis=1)
            f1 = partial(_macro_f1, classes=len(task.names))
            scores += add(f"{task.key} macro-F1", f1, *classes)
            scores += add(f"{task.key} accuracy", _accuracy, *classes)
        elif task.kind == "any_of":
            scores += add(f"{task.key} mean F1", _mean_f1, target, pred)
        else:
            for column, name in enumerate(task.names):
                scores += add(f"{name} CCC", _ccc, target[:, column], pred[:, column])
    return tuple(scores)


def _honest(part: Part, task: Task) -> Floats:
    """Scores (N, K) of the first seed, each recording with what was chosen on the others."""
    values = part.values[task.family][0]
    return nested(values, part.fold) if len(values) > 1 else np.asarray(values[0])


def _macro_f1(truth: Floats, pred: Floats, classes: int) -> float:
    return macro_f1(pred, truth, range(classes))


def _accuracy(truth: Floats, pred: Floats) -> float:
    return accuracy(pred, truth)


def _mean_f1(truth: Floats, pred: Floats) -> float:
    return mean_au_f1(pred >= 0.5, truth)


def _ccc(truth: Floats, pred: Floats) -> float:
    return ccc(pred, truth)
