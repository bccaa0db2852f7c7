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
from mien.files import wrap_os_errors
from mien.progress import Progress, silent
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
    """One evaluation for each bundle or run, over one split of the data of `settings`, and what a report says of them.

    names: bundles by name or folder, or run folders; several are runs of one set-up that differ in their seed. by, protocols: as for
    `judge`; `by` may also be a column of a label file that mien has no word for. note: called with every line worth knowing.
    Of `settings`, `data` and `tasks` are used, and `find_points`: whether faces are looked for in pictures without points.
    Raises as `open_model`, `table_for`, `evaluate_bundle` and `judge` do.
    """
    models = [open_model(name) for name in names]
    tasks = tasks_for(models[0], settings, note)
    table = table_for(settings, tasks, models[0].card.pixels, split, by=by, note=note)
    found, notes = [], list[str]()
    for name, model in zip(names, models, strict=True):

        def ahead(done: int, total: int, name: str | Path = name) -> None:
            progress(Path(name).name, done, total)

        scored = evaluate_bundle(
            model, table, tasks, progress=ahead, skip_unreadable=skip_unreadable
        )
        found.append(judge(tasks, scored.scores, scored.table, protocols=protocols, by=by))
        notes += scored.notes
    about = About(
        data=", ".join(dict.fromkeys(set_name(spec) for spec in settings.data)), split=split, date=date.today().isoformat(),
        run=", ".join(dict.fromkeys(model.card.name for model in models)), notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    return tuple(found), about


def tasks_for(model: Model, settings: Settings, note: Callable[[str], None]) -> tuple[Task, ...]:
    """The tasks of `settings` that the model predicts, or the model's own where the settings name none; the others are told.

    Raises DataError when there is none.
    """
    wanted, predicted = settings.named_tasks() or model.tasks, {task.family for task in model.tasks}
    for task in wanted:
        if task.family not in predicted:
            note(f"{task.key} is not judged: {model.card.name} does not predict it")
    tasks = tuple(task for task in wanted if task.family in predicted)
    if not tasks:
        raise DataError(
            f"{model.card.name} predicts {', '.join(task.key for task in model.tasks)}, and the settings ask for none of it"
        )
    return tasks


def write_judged(evaluations: Sequence[Evaluation], about: About, folder: Path) -> tuple[Path, ...]:
    """Write ``evaluation.md``, ``evaluation.json`` and a picture of each evaluation into a folder; returns their paths.

    Raises OutputError where they cannot be written, and DataError as `write_report` does.
    """
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [*write_report(evaluations, about, folder / "evaluation")]
    for number, evaluation in enumerate(evaluations, 1):
        paths.append(
            folder / (f"evaluation-{number}.png" if len(evaluations) > 1 else "evaluation.png")
        )
        draw(evaluation, about, paths[-1])
    return tuple(paths)
