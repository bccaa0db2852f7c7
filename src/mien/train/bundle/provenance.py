"""Where a run's weights come from, as its card tells it: data and their terms, supervision, cost."""

from pathlib import Path
from typing import Final, Literal

from mien.bundles.card_parts import Made, Terms
from mien.bundles.store import open_bundle
from mien.data.label_table import Split
from mien.data.registry import Cut, Drawn, OneSet, set_name, unmixed
from mien.data.spec import TERMS_NOT_STATED
from mien.tasks import Task
from mien.train.bundle.pack import code_version
from mien.train.open_model import is_run
from mien.train.runs.folder import RunFolder
from mien.train.settings.training import Settings

__all__ = ["made", "only_drawn", "seen", "started", "supervision"]

_STARTS: Final = {
    "imagenet": (
        "ImageNet-1k, through the starting weights",
        "research data; starting weights MIT",
    ),
    "faces": (
        "FaceScrub, VGG Face and photos from the web, through the starting weights (dlib's face network, in face_recognition_models)",
        "research data; starting weights CC0",
    ),
}
_LANDMARKER: Final = Terms(
    data="MediaPipe face landmarker (blend shapes)", used_for="teacher", terms="Apache-2.0"
)


def seen(settings: Settings, tasks: tuple[Task, ...]) -> tuple[Terms, ...]:
    """Every data set that a network made by these settings has seen, each way of use once."""
    found = _trained(settings, tasks)
    if settings.features is not None:
        found += [
            terms for terms in settings.features.card().trained_on if terms.used_for == "selection"
        ]
    for spec in unmixed(settings.data):
        if "val" in _splits(spec):
            name, _ = _told(spec, settings)
            found.append(
                Terms(
                    data=f"{name}, validation split",
                    used_for="selection",
                    terms="as above; chose the epoch and the temperature",
                )
            )
    return tuple(dict.fromkeys(found))


def _trained(settings: Settings, tasks: tuple[Task, ...]) -> list[Terms]:
    found = []
    sets = unmixed(settings.data)
    names = {set_name(spec) for spec in sets}
    for spec in sets:
        if "train" in _splits(spec):
            name, terms = _told(spec, settings)
            found.append(Terms(data=name, used_for="training", terms=terms))
    if any(task.key == "au.blendshapes" for task in tasks) and any(
        spec.set in ("ferplus", "portraits") for spec in sets
    ):
        found.append(_LANDMARKER)
    found += [terms for terms in settings.card.terms if terms.data not in names]
    found += started(settings.network.start)
    if settings.features is not None:
        found += [
            terms for terms in settings.features.card().trained_on if terms.used_for != "selection"
        ]
    return found + _taught(settings, found)


def _splits(spec: OneSet) -> set[Split]:
    """The splits that a set may have faces in."""
    split = getattr(spec, "split", None)
    if isinstance(split, Cut):
        return set(split.shares)
    return {"train", "val", "test"} if split is None else {split}


def _told(spec: OneSet, settings: Settings) -> tuple[str, str]:
    """What a card calls a set, and its terms."""
    name = set_name(spec)
    info = spec.info
    stated = next((terms.terms for terms in settings.card.terms if terms.data == name), None)
    return info.title or name, stated or info.terms


def started(start: Literal["imagenet", "faces"] | Path | None) -> tuple[Terms, ...]:
    """What starting weights have seen."""
    if start is None:
        return ()
    if isinstance(start, Path):
        if is_run(start.parent):
            return tuple(_learned(start.parent))
        return (
            Terms(
                data=f"what {start.name}, the starting weights, has seen",
                used_for="training",
                terms=TERMS_NOT_STATED,
            ),
        )
    data, terms = _STARTS[start]
    return (Terms(data=data, used_for="training", terms=terms),)


def _taught(settings: Settings, known: list[Terms]) -> list[Terms]:
    """What only the teachers have learned from."""
    found = [terms for folder in settings.teachers for terms in _learned(folder)]
    return [
        terms.model_copy(update={"used_for": "teacher"}) for terms in found if terms not in known
    ]


def _learned(folder: Path) -> list[Terms]:
    """What a run or a bundle has learned from."""
    if not is_run(folder):
        return [
            terms for terms in open_bundle(folder).card.trained_on if terms.used_for != "selection"
        ]
    run = RunFolder(folder)
    return _trained(run.settings, tuple(spec.task for spec in run.tasks))


def supervision(settings: Settings, task: Task) -> str:
    """Where the labels of a task come from."""
    if task.family in settings.card.supervised_by:
        return settings.card.supervised_by[task.family]
    found = [_source(spec, task) for spec in unmixed(settings.data)]
    if settings.teachers:
        found.append(
            f"the averaged scores of {len(settings.teachers)} teacher{'s' * (len(settings.teachers) > 1)}"
        )
    return "; ".join(dict.fromkeys(line for line in found if line))


def _source(spec: OneSet, task: Task) -> str | None:
    source = spec.supervision(task)
    return None if source is None else source.format(name=set_name(spec))


def made(run: RunFolder, bits: int, features: bool) -> Made:
    """How a bundle was made, and what its run cost."""
    settings = run.settings
    options = f" --bits {bits}" + " --features" * features
    command = f"mien train {settings.name}.yaml --out RUN, then mien export RUN --out {settings.name}{options}"
    below = None if settings.features is None else settings.features.card()
    if below is not None:
        command = f"mien features {below.name} --data {settings.name}.yaml --out CACHE, then {command}; {below.name}: {below.made.recipe}"
    before, start = list(settings.teachers), settings.network.start
    if isinstance(start, Path) and is_run(start.parent):
        before.append(start.parent)
    earlier = dict.fromkeys(folder.absolute() for folder in before)
    costs = [
        _cost(run.folder),
        *(f"before it {folder.name} ({_cost(folder)})" for folder in earlier),
    ]
    costs += (
        [f"{below.name}, whose features it reads: {below.made.cost}"] if below is not None else []
    )
    recipe, commit = settings.card.recipe or command, run.facts.get("commit", code_version())
    return Made(recipe=recipe, seed=settings.fit.seed, commit=commit, cost="; ".join(costs))


def _cost(folder: Path) -> str:
    if not is_run(folder):
        return open_bundle(folder).card.made.cost
    facts = RunFolder(folder).facts
    if "finished" not in facts:
        return "an unknown time"  # a teacher may have been taken before its run ended
    return f"{facts['seconds'] / 60:.1f} minutes on {facts['device']}"


def only_drawn(settings: Settings) -> bool:
    """Whether no face that was trained on is a person's."""
    return all(isinstance(spec, Drawn) for spec in unmixed(settings.data))
