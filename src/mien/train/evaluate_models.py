"""Bundles and runs judged on the data of a settings file, and the report written down."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from mien.bundles.store import Model
from mien.data.registry import set_name
from mien.errors import DataError
from mien.evaluation.judge import evaluate_bundle, judge
from mien.evaluation.plots import draw
from mien.evaluation.report import About, write_report
from mien.evaluation.results import Evaluation
from mien.faces.prepare import Pixels
from mien.files import wrap_os_errors
from mien.progress import ItemProgress, Progress, silent
from mien.systems.system import System
from mien.tasks import Task
from mien.train.open_model import open_model, table_for
from mien.train.settings.training import Settings

__all__ = ["judge_models", "tasks_for", "write_judged"]


def judge_models(
    names: Sequence[str | Path],
    settings: Settings,
    *,
    split: str = "val",
    by: str | None = None,
    protocols: Sequence[str] = (),
    skip_unreadable: bool = False,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> tuple[tuple[Evaluation, ...], About]:
    """Evaluate bundles or runs on one split of the data of some settings.

    Args:
        names: Bundles or systems by name or folder, or run folders; several are runs of one set-up
            that differ in their seed.
        settings: Settings whose ``data``, ``tasks`` and ``fit.find_points`` are used.
        split: Which faces.
        by: Column of groups to compare as well; also one of a label file that mien does not know.
        protocols: Challenges whose formula is computed as well.
        skip_unreadable: Leave out pictures that cannot be read.
        note: Called with every note for the user.
        progress: Called with a model's name, faces done, and faces to do.

    Returns:
        One evaluation per model, and the facts that a report gives for all of them.

    Raises:
        UnknownNameError: There is no bundle, task or protocol of that name.
        BundleError: A bundle cannot be used.
        DataError: The data cannot be read or judged, or a run has no network yet.
        MissingExtraError: A run needs torch, and it is not installed.
    """
    models = [open_model(name) for name in names]
    # Runs of one set-up have the same tasks and crops, so the first stands for all.
    tasks = tasks_for(models[0], settings, note)
    table = table_for(settings, tasks, _pixels_of(models[0]), split, by=by, note=note)
    evaluations = []
    notes: list[str] = []
    for name, model in zip(names, models, strict=True):
        scored = evaluate_bundle(
            model,
            table,
            tasks,
            progress=_progress_of(name, progress),
            skip_unreadable=skip_unreadable,
        )
        evaluations.append(judge(tasks, scored.scores, scored.table, protocols=protocols, by=by))
        notes += scored.notes
    # Dicts keep the order and drop repetitions.
    sets = dict.fromkeys(set_name(spec) for spec in settings.data)
    runs = dict.fromkeys(model.card.name for model in models)
    about = About(
        data=", ".join(sets),
        split=split,
        date=date.today().isoformat(),
        run=", ".join(runs),
        notes=tuple(dict.fromkeys(notes)),
    )
    return tuple(evaluations), about


def _pixels_of(model: Model | System) -> Pixels:
    """The crops that decide whether points must be found."""
    if isinstance(model, Model):
        return model.card.pixels
    # One member that aligns faces by points is enough.
    for pixels in model.pixels:
        if pixels.template is not None:
            return pixels
    return model.pixels[0]


def _progress_of(name: str | Path, progress: Progress) -> ItemProgress:
    """The part of a progress that belongs to one model."""

    def report(done: int, total: int) -> None:
        progress(Path(name).name, done, total)

    return report


def tasks_for(
    model: Model | System, settings: Settings, note: Callable[[str], None]
) -> tuple[Task, ...]:
    """Choose the tasks to evaluate.

    Args:
        model: A model.
        settings: Settings that may name tasks.
        note: Called for every named task that the model does not predict.

    Returns:
        The tasks of the settings that the model predicts, or the model's own where the settings
        name none.

    Raises:
        DataError: There is none.
    """
    named = settings.named_tasks() or model.tasks
    predicted = {task.family for task in model.tasks}
    tasks = []
    for task in named:
        if task.family in predicted:
            tasks.append(task)
        else:
            note(f"{task.key} is not judged: {model.card.name} does not predict it")
    if not tasks:
        keys = ", ".join(task.key for task in model.tasks)
        raise DataError(f"{model.card.name} predicts {keys}, and the settings ask for none of it")
    return tuple(tasks)


def write_judged(evaluations: Sequence[Evaluation], about: About, folder: Path) -> tuple[Path, ...]:
    """Write the report of some evaluations into a folder.

    Args:
        evaluations: One or more.
        about: The facts that the report gives for all of them.
        folder: Folder for ``evaluation.md``, ``evaluation.json`` and a picture of each evaluation;
            made if missing.

    Returns:
        The paths of all files.

    Raises:
        OutputError: A file cannot be written.
        DataError: The evaluations do not go together.
    """
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [*write_report(evaluations, about, folder / "evaluation")]
    for number, evaluation in enumerate(evaluations, 1):
        name = "evaluation.png"
        if len(evaluations) > 1:
            name = f"evaluation-{number}.png"
        draw(evaluation, about, folder / name)
        paths.append(folder / name)
    return tuple(paths)
