"""The step that makes a system of everything a step's scores come from."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field
from typing_extensions import override

from mien.bundles.card import AffectCard, SystemCard, hash_of_files, head_path
from mien.bundles.card_parts import NAME, NOT_FOR, Made, Score, TaskCard, Terms
from mien.bundles.gate import inspect, inspect_head
from mien.bundles.plan import (
    BlendStep,
    CompoundStep,
    Head,
    HeadsStep,
    PlanStep,
    ScoreStep,
    tasks_of,
)
from mien.bundles.store import read_bundle
from mien.data.registry import Set, set_name
from mien.files import replace_folder, wrap_os_errors
from mien.recipes.steps.base import STEP, Step, StepContext
from mien.recipes.steps.chosen_plan import (
    CHANGES,
    Change,
    choices_of,
    inputs_of_change,
    planned,
)
from mien.recipes.steps.compound import (
    ChooseCompounds,
    Compounds,
    Faces,
    SupervisedCompounds,
)
from mien.recipes.steps.features import Features
from mien.recipes.steps.features import Score as ScoreSettings
from mien.recipes.steps.heads import Heads
from mien.recipes.steps.refit import Folds, Refit, home_of, leaves_of
from mien.recipes.steps.runs import EXPORTED, runs_in, runs_of
from mien.recipes.steps.systems.compare import Compared, compare
from mien.recipes.steps.systems.scores import averaged, card_scores
from mien.recipes.steps.training import Train
from mien.tasks import Task
from mien.train.bundle.measure_system import speed, system_tolerance
from mien.train.bundle.pack import code_version, write_bundle_files
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

_FRAME_RATE: Final = (
    "its steps over time count frames, so films are best of the frame rate it learned"
)


class MakeSystem(Step):
    """Make a bundle of all networks and choices of the first seed that a step's scores come from.

    The bundle reads films. Its scores of the first recordings of split val are compared with the
    step's, and its card gets the step's measures on split val.

    Attributes:
        of: A step that predicts: of kind train, heads, score, smooth, blend, threshold, override,
            class_bias, refit or folds, or one that gives compounds.
        name: Of the bundle.
    """

    needs_val: ClassVar[bool] = False

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
            card = system.card(self.name, system.add(self.of))
            with wrap_os_errors(folder):
                write_bundle_files(card, folder)
            compared = compare(context, self.of, folder, system.data, system.features)
            # Only a whole system can be timed, and read by other engines.
            card = _measured(card, folder, compared, system.features)
            with wrap_os_errors(folder):
                write_bundle_files(card, folder)
        context.note(f"{context.name}: {card.summary}")
        context.note(
            f"{context.name}: differs from the step {self.of} by {compared.difference:.1g} at most"
        )


def _measured(
    card: SystemCard, folder: Path, compared: Compared, features: Sequence[Path]
) -> SystemCard:
    """The card with the system's speed and tolerance."""
    changes: dict[str, Any] = {"summary": f"{card.summary.rstrip('.')}; {speed(folder, features)}."}
    # Faces of videos are not kept; then the largest tolerance of a member stands.
    if compared.table is not None:
        tolerance, limits = system_tolerance(folder, compared.table, features)
        changes |= {"tolerance": tolerance, "limits": (*card.limits, *limits)}
    return card.model_copy(update=changes)


def _check_holds(name: str, steps: Mapping[str, Step]) -> None:
    """Raises ValueError for a step whose scores no system can give."""
    step = steps[name]
    if isinstance(step, Train | ScoreSettings | Heads | Folds):
        return
    if isinstance(step, Refit):
        _check_holds(step.of, steps)
        return
    if isinstance(step, CHANGES):
        for other in inputs_of_change(step):
            _check_holds(other, steps)
    elif isinstance(step, Compounds | SupervisedCompounds | ChooseCompounds):
        return
    else:
        kind = getattr(step, "do", "unknown")
        raise ValueError(
            f"of: {name} is of kind {kind}, which no system holds; name a step of kind train, "
            "heads, score, smooth, blend, threshold, override, class_bias, refit, folds or one of "
            "compounds"
        )


class _Parts:
    """The members, heads and steps of a system, written into its folder one after the other.

    Attributes:
        data: Key of the data whose split val the steps are measured on.
        features: Files of the external features that heads read.
    """

    def __init__(self, context: StepContext, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._seed = context.seeds[0]
        self._members: dict[str, AffectCard] = {}
        self._steps: dict[str, PlanStep] = {}
        self._seen: list[Terms] = []
        # Folders of the runs of steps that were trained again, by step.
        self._again: dict[str, Path] = {}
        self.data: list[Set] = []
        self.features: list[Path] = []

    def add(self, name: str) -> str:
        """Add a step of the recipe, after those that it reads; returns its name in the plan."""
        if name in self._steps:
            return name
        step = self._context.steps[name]
        if isinstance(step, Refit):
            # The plan is that of the step that was trained again, with other networks.
            for leaf in leaves_of(step.of, self._context.steps):
                self._again[leaf] = home_of(self._context, name) / leaf
            return self.add(step.of)
        if isinstance(step, Folds):
            step = self._context.steps[step.of]
        if isinstance(step, Train):
            self._add_train(name, step)
        elif isinstance(step, ScoreSettings):
            self._add_score(name, step)
        elif isinstance(step, Heads):
            self._add_heads(name, step)
        elif isinstance(step, Compounds | SupervisedCompounds | ChooseCompounds):
            self._add_compounds(name, step)
        elif isinstance(step, CHANGES):
            self._add_change(name, step)
        return name

    def _runs(self, name: str) -> list[Path]:
        """The runs of the first seed of a step that trains."""
        folder = self._again.get(name)
        if folder is not None and folder.is_dir():
            return runs_in(folder, self._seed)
        return runs_of(self._context, name, self._seed)

    def _add_train(self, name: str, step: Train) -> None:
        """Each network of the first seed is a member; several are averaged."""
        judged = step.data if step.judge is None else (step.judge,)
        self.data = list(map(self._context.set, judged))
        runs = list(map(RunFolder, self._runs(name)))
        scores = card_scores(self._context.predicted(name), self._where())
        if len(runs) == 1:
            self._add_member(name, runs[0], scores)
            return
        # The step was scored as a whole, not one network after the other.
        member_scores = averaged(scores)
        names = []
        for number, run in enumerate(runs):
            names.append(self._free_name(f"{name}_{number}"))
            self._add_member(names[-1], run, member_scores)
        self._add_mean(name, names, [spec.task.family for spec in task_cards(runs[0])])

    def _add_member(self, member: str, run: RunFolder, scores: Sequence[Score]) -> None:
        """A network that was trained on pictures, and the step that takes all its outputs."""
        card = write_member(run, self._folder / "members" / member, scores)
        self._members[member] = card
        columns = {}
        for spec in card.tasks:
            columns[spec.task.family] = tuple(range(len(spec.task.names)))
        self._steps[member] = ScoreStep(
            do="score", member=member, tasks=card.tasks, columns=columns
        )

    def _add_score(self, name: str, step: ScoreSettings) -> None:
        """A bundle that was used as it is is a member, with the requested columns."""
        self.data = [self._context.set(step.data)]
        bundle: str | Path = step.bundle or ""
        if step.exported is not None:
            bundle = self._context.earlier[step.exported] / EXPORTED
        member = self._copied(bundle)
        supervision = {spec.task: spec.supervised_by for spec in self._members[member].tasks}
        tasks = []
        columns = {}
        for requested, source in step.sources(list(supervision)):
            tasks.append(_card_of(requested, supervision[source]))
            renamed = step.renamed(requested)
            columns[requested.family] = tuple(renamed.column_index(source.names))
        self._steps[name] = ScoreStep(
            do="score", member=member, tasks=tuple(tasks), columns=columns
        )

    def _add_heads(self, name: str, step: Heads) -> None:
        """The network whose features the heads read is a member; the heads are kept apart."""
        self.data = [self._context.set(step.data)]
        features = self._context.steps[step.features]
        assert isinstance(features, Features)
        home = features.home(self._context.earlier[step.features], self._seed)
        member = self._copied(features.source(self._context, home))
        with wrap_os_errors(self._folder):
            (self._folder / "heads").mkdir(exist_ok=True)
        runs = self._runs(name)
        count = len(step.runs)
        if len(runs) == count:
            self._add_networks(name, member, runs)
            return
        # Of folds there are several sets of heads, which are averaged.
        names = []
        for number, first in enumerate(range(0, len(runs), count)):
            names.append(f"{name}_{number}")
            self._add_networks(names[-1], member, runs[first : first + count])
        self._add_mean(name, names, [task.family for task in step.learned_tasks])

    def _add_networks(self, name: str, member: str, runs: Sequence[Path]) -> None:
        """Heads on one member's features."""
        heads: list[Head] = []
        for number, path in enumerate(runs):
            run = RunFolder(path)
            heads.append(write_head(run, self._folder / head_path(name, number)))
            if run.settings.features is not None:
                self._read_too(run.settings.features.external)
            tasks = [spec.task for spec in run.tasks]
            self._seen += data_terms(run.settings, tuple(tasks))
        self._steps[name] = HeadsStep(do="heads", member=member, heads=tuple(heads))

    def _add_mean(self, name: str, names: Sequence[str], families: Sequence[str]) -> None:
        """The mean of several steps."""
        weights = dict.fromkeys(families, (1.0,) * len(names))
        self._steps[name] = BlendStep(do="blend", of=tuple(names), weights=weights)

    def _read_too(self, files: Sequence[Path]) -> None:
        """Remember files of external features, each once."""
        for path in files:
            if path not in self.features:
                self.features.append(path)

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
        source = self._free_name("expressions")
        self._steps[source] = ScoreStep(
            do="score", member=member, tasks=(expressions,), columns=columns
        )
        if isinstance(step, ChooseCompounds):
            text = (self._context.earlier[name] / "chosen.json").read_text(encoding="utf-8")
            settings = json.loads(text)["ce"][0]
        else:
            settings = step.model_dump(include={"mean", "basis", "aggregation", "window", "sigma"})
        self._steps[name] = CompoundStep(do="compounds", of=source, **settings)

    def _copied(self, bundle: str | Path) -> str:
        """The member that is a copy of a bundle, made unless it is one already."""
        card = read_bundle(bundle)[0].card
        # Cards hold the hash of the network, so equal cards are those of one bundle.
        for member, known in self._members.items():
            if known == card:
                return member
        member = self._free_name(card.name)
        self._members[member] = copy_member(bundle, self._folder / "members" / member)
        return member

    def _free_name(self, name: str) -> str:
        """A name for a member or a step of the plan, which no step of the recipe has either."""
        # Names of bundles may hold more than those of steps.
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        free = slug
        number = 2
        while free in self._members or free in self._steps or free in self._context.steps:
            free = f"{slug}_{number}"
            number += 1
        return free

    def _add_change(self, name: str, step: Change) -> None:
        """A step that changes scores, with what was chosen for the first seed."""
        # Steps that it reads come first: a plan is carried out in order.
        for other in inputs_of_change(step):
            self.add(other)
        chosen = choices_of(self._context, name, 0)
        self._steps[name] = planned(step, chosen, self._steps)

    def _where(self) -> str:
        """What the scores of the card were measured on."""
        titles = ", ".join(map(set_name, self.data))
        before = "; before its networks learned split val too" if self._again else ""
        return f"{titles}, split val; choices scored on other recordings{before}"

    def card(self, name: str, answer: str) -> SystemCard:
        """The card of the whole."""
        hashes = {}
        for member in self._members:
            hashes[member] = card_hash(self._folder / "members" / member)
        tasks = _answered(self._steps, answer)
        summary = self._summary(tasks)
        draft = SystemCard.model_construct(members=hashes, steps=self._steps)
        sha256 = hash_of_files(draft.files)
        scores = card_scores(self._context.predicted(answer), self._where())
        made = Made(
            recipe=f"mien reproduce, step {self._context.name}",
            seed=self._seed,
            commit=code_version(),
            cost="see the report beside it",
        )
        # What holds for a member holds for the whole.
        licences: list[str] = []
        terms = list(self._seen)
        limits = [_FRAME_RATE]
        for path in self.features:
            limits.append(
                f"reads external features of every film, computed as those of {path.name} were"
            )
        not_for = list(NOT_FOR)
        for card in self._members.values():
            licences.append(card.licence)
            terms += card.trained_on
            limits += [f"{card.name}: {limit}" for limit in card.limits]
            not_for += card.not_for
        licence = "; ".join(dict.fromkeys(licences))
        trained_on = tuple(dict.fromkeys(terms))
        all_limits = tuple(dict.fromkeys(limits))
        all_not_for = tuple(dict.fromkeys(not_for))
        tolerance = max(card.tolerance for card in self._members.values())
        return SystemCard(
            card=1,
            name=name,
            summary=summary,
            sha256=sha256,
            licence=licence,
            trained_on=trained_on,
            scores=scores,
            limits=all_limits,
            not_for=all_not_for,
            made=made,
            reads="films",
            tasks=tasks,
            tolerance=tolerance,
            members=hashes,
            steps=self._steps,
            answer=answer,
        )

    def _summary(self, tasks: Sequence[TaskCard]) -> str:
        """What it is, and what it costs: bytes of all networks, operations for a face."""
        size = 0
        work = 0.0
        for member, card in self._members.items():
            network = (self._folder / "members" / member / "model.onnx").read_bytes()
            size += len(network)
            work += inspect(card, network).work
        for name, step in self._steps.items():
            if not isinstance(step, HeadsStep):
                continue
            for number, head in enumerate(step.heads):
                network = (self._folder / head_path(name, number)).read_bytes()
                size += len(network)
                work += _work_of_head(name, head, network)
        keys = ", ".join(spec.key for spec in tasks)
        count = len(self._members)
        networks = "one network" if count == 1 else f"{count} networks"
        return (
            f"{keys} of faces in films, from {networks} and what follows; "
            f"{size / 1e6:.2f} MB, {work / 1e6:.0f} million operations per face."
        )


def _work_of_head(name: str, head: Head, network: bytes) -> float:
    """Operations for one face."""
    # A window is read once for all its frames.
    frames = 1 if head.window is None else head.window.length
    return inspect_head(name, head, network).work / frames


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
