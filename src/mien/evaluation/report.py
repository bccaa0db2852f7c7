"""An evaluation as a report: Markdown for people, JSON for programs.

Each file is written whole or not at all. Undefined numbers are shown as –.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from mien import __version__
from mien.evaluation.measures import class_measures, title
from mien.evaluation.results import FEW, Evaluation, Measure, TaskResult, mean_over_runs
from mien.files import atomic_write

__all__ = ["About", "Report", "markdown", "number", "value_with_interval", "write_report"]

_UNDEFINED: Final = "–"
_NAMES_ARE: Final = {"one_of": "class", "any_of": "unit", "scalar": "column"}


class About(BaseModel):
    """What was evaluated, and when.

    Attributes:
        data: Names of the data sets.
        run: Name of the bundle or of the training run.
        date: ISO 8601, as the caller gives it.
        notes: What else a reader must know, such as pictures that were left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    split: str
    run: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}")]
    notes: tuple[str, ...] = ()


class Report(BaseModel):
    """The JSON of a report; several evaluations are runs of one set-up with different seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mien: str
    about: About
    evaluations: tuple[Evaluation, ...]


def number(value: float, digits: int = 3) -> str:
    """A number as it is printed.

    Args:
        value: Any float.
        digits: Decimals.

    Returns:
        The number, or – where it is not finite.

    >>> number(0.12345), number(float("nan"))
    ('0.123', '–')
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else _UNDEFINED


def value_with_interval(measure: Measure | None) -> str:
    """A measure with its interval as it is printed.

    Args:
        measure: A measure, or None where it was not computed.

    Returns:
        ``value [low, high]``, or – where there is no value.
    """
    if measure is None or not math.isfinite(measure.value):
        return _UNDEFINED
    return f"{measure.value:.3f} [{number(measure.low)}, {number(measure.high)}]"


def markdown(evaluations: Sequence[Evaluation], about: About) -> str:
    """The report as Markdown.

    Args:
        evaluations: One evaluation, or several runs of one set-up. Of several, their mean and
            standard deviation come first, then the first run.
        about: What was evaluated.

    Returns:
        The text of the report.

    Raises:
        DataError: For no evaluation, or several that judged different tasks.
    """
    # Also for a single run: it is what refuses an empty list.
    runs = mean_over_runs(evaluations)
    # Details such as the confusion matrix have no mean that could be read, so one run shows them.
    first = evaluations[0]
    lines = [f"# {about.run} on {about.data}, {about.split}", ""]
    lines += _overview(first, about)
    if len(evaluations) > 1:
        lines += [f"## Over {len(evaluations)} runs", ""]
        lines += _runs(runs.to_records(index=False).tolist())
        lines += ["The first run:", ""]
    if first.protocols:
        lines += _protocols(first)
    for result in first.tasks:
        lines += _task(result)
    if first.parts:
        lines += _groups_of_people(first)
    return "\n".join(lines).rstrip() + "\n"


def write_report(evaluations: Sequence[Evaluation], about: About, stem: Path) -> tuple[Path, Path]:
    """Write a report as Markdown and as JSON.

    Args:
        evaluations: As for `markdown`.
        about: What was evaluated.
        stem: Path of both files without their endings.

    Returns:
        The paths ``<stem>.md`` and ``<stem>.json``; `Report.model_validate_json` reads the latter.

    Raises:
        OutputError: Where a file cannot be written.
        DataError: As `markdown` does.
    """
    text = markdown(evaluations, about)
    report = Report(mien=__version__, about=about, evaluations=tuple(evaluations))
    # Not `with_suffix`: a stem such as "run.v2" would lose its end.
    text_path = stem.with_name(stem.name + ".md")
    json_path = stem.with_name(stem.name + ".json")
    atomic_write(text_path, text.encode())
    atomic_write(json_path, (report.model_dump_json(indent=1, by_alias=True) + "\n").encode())
    return text_path, json_path


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table and an empty line; all columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in rows:
        # A bar within a cell would end the cell.
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    return lines


def _overview(evaluation: Evaluation, about: About) -> list[str]:
    """The facts of the evaluation, and its notes."""
    brackets = f"95 % bootstrap interval, {evaluation.rounds} draws, seed {evaluation.seed}"
    facts = [
        ("data", about.data),
        ("split", about.split),
        ("faces", str(evaluation.faces)),
        ("run", about.run),
        ("mien", __version__),
        ("date", about.date),
        ("brackets", brackets),
        ("drawn again, whole", evaluation.intervals_over),
    ]
    lines = _table(("", ""), facts)
    notes = (*about.notes, *evaluation.notes)
    for note in notes:
        lines.append(f"- {note}")
    if notes:
        lines.append("")
    return lines


def _runs(records: Sequence[tuple[str, str, str, float, float, int]]) -> list[str]:
    """Mean and standard deviation over runs, of whole tasks only."""
    rows = []
    for task, name, measure, mean, sd, runs in records:
        # Classes, units and columns would make a table that nobody reads; the JSON has them.
        if name:
            continue
        shown = measure if task == "protocol" else title(measure)
        rows.append((task, shown, f"{number(mean)} ± {number(sd)}", str(runs)))
    return _table(("task", "measure", "mean ± sd", "runs"), rows)


def _protocols(evaluation: Evaluation) -> list[str]:
    rows = []
    for name, score in evaluation.protocols.items():
        rows.append((name, value_with_interval(score), str(score.faces)))
    return ["## Protocols", "", *_table(("protocol", "score", "faces"), rows)]


def _task(result: TaskResult) -> list[str]:
    """The section of one task."""
    annotated = f"{result.faces} annotated faces in {result.groups} groups."
    lines = [f"## {result.task}", "", annotated, ""]
    if result.graded:
        lines += [
            "Labels lie between 0 and 1, so units are judged by correlation and error, "
            "not by decisions.",
            "",
        ]
    rows = []
    for key, measure in result.measures.items():
        rows.append((title(key), value_with_interval(measure)))
    lines += _table(("measure", "value"), rows)
    lines += _classes(result)
    if result.confusion:
        lines += _confusion(result)
    if result.reliability:
        lines += _reliability(result)
    return lines


def _classes(result: TaskResult) -> list[str]:
    """A row of measures for every class, unit or column."""
    shown = class_measures(result.kind, result.graded)
    rows = []
    for name, measures in result.by_name.items():
        faces = measures[shown[0]].faces
        rows.append((name, str(faces), *(value_with_interval(measures[key]) for key in shown)))
    return _table((_NAMES_ARE[result.kind], "faces", *map(title, shown)), rows)


def _confusion(result: TaskResult) -> list[str]:
    rows = []
    for name, counts in zip(result.names, result.confusion, strict=True):
        rows.append((name, *map(str, counts)))
    heading = "Faces by true class (rows) and predicted class:"
    return [heading, "", *_table(("", *result.names), rows)]


def _reliability(result: TaskResult) -> list[str]:
    count = len(result.reliability)
    rows = []
    for i, bin in enumerate(result.reliability):
        # Most probabilities of a sure network lie in the last bins; empty ones say nothing.
        if bin.faces:
            span = f"{i / count:.2f} to {(i + 1) / count:.2f}"
            rows.append((span, str(bin.faces), number(bin.confidence), number(bin.accuracy)))
    heading = "Top probability against the share that was right:"
    return [heading, "", *_table(("probability", "faces", "mean", "right"), rows)]


def _groups_of_people(evaluation: Evaluation) -> list[str]:
    """Headline measures of every group of people, and the gaps between the groups."""
    names = evaluation.compared
    lines = [f"## By {evaluation.by}", "", "Value, interval and number of faces.", ""]
    rows = []
    for part in evaluation.parts:
        cells = [_group_cell(part.measures.get(name)) for name in names]
        rows.append((part.name, *cells))
    lines += _table((str(evaluation.by), *map(title, names)), rows)
    if any(part.has_few_faces for part in evaluation.parts):
        lines += [f"\\* fewer than {FEW} faces: too few to compare, and left out of the gaps.", ""]
    if evaluation.gaps:
        lines += ["Chance alone makes every gap larger than 0: compare the intervals.", ""]
        lines += _gaps(evaluation)
    return lines


def _group_cell(measure: Measure | None) -> str:
    if measure is None:
        return _UNDEFINED
    star = "*" if measure.faces < FEW else ""
    return f"{value_with_interval(measure)}, {measure.faces}{star}"


def _gaps(evaluation: Evaluation) -> list[str]:
    rows = []
    for name, gap in evaluation.gaps.items():
        rows.append((title(name), gap.best, gap.worst, number(gap.difference)))
    return _table(("measure", "best", "worst", "gap"), rows)
