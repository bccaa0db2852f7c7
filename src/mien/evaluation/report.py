"""An evaluation written down: Markdown for people, JSON for programs, each file complete or absent. Undefined numbers are shown as –."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mien import __version__
from mien.evaluation.measures import class_measures, title
from mien.evaluation.results import FEW, Evaluation, Measure, TaskResult, repeated
from mien.files import atomic_write

__all__ = ["About", "Report", "markdown", "number", "spelled", "write_report"]


class About(BaseModel):
    """What was judged, and when. data: names of the data sets. run: name of the bundle or the run. date: ISO 8601, as the caller says.

    notes: what else a reader must know, such as pictures left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    split: str
    run: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}")]
    notes: tuple[str, ...] = ()


class Report(BaseModel):
    """The JSON of a report; several evaluations are runs of one set-up that differ in their seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mien: str
    about: About
    evaluations: tuple[Evaluation, ...]


def number(value: float, digits: int = 3) -> str:
    """A number as people read it.

    >>> number(0.12345), number(float("nan"))
    ('0.123', '–')
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def spelled(one: Measure | None) -> str:
    """A measure with its interval; – where it is undefined."""
    if one is None or not math.isfinite(one.value):
        return "–"
    return f"{one.value:.3f} [{number(one.low)}, {number(one.high)}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in cells),
        "",
    ]


def markdown(evaluations: Sequence[Evaluation], about: About) -> str:
    """A report of one evaluation, or of several runs of one set-up: their mean and standard deviation first, then the first run.

    Raises DataError for no evaluation, or several that judged different tasks.
    """
    seeds = repeated(evaluations)
    first = evaluations[0]
    lines = [f"# {about.run} on {about.data}, {about.split}", ""]
    lines += _table(("", ""), [
        ("data", about.data), ("split", about.split), ("faces", str(first.faces)), ("run", about.run), ("mien", __version__),
        ("date", about.date),
        ("brackets", f"95 % bootstrap interval, {first.rounds} draws, seed {first.seed}"), ("drawn again, whole", first.intervals_over),
    ])  # fmt: skip
    lines += [f"- {note}" for note in (*about.notes, *first.notes)] + [""] * bool(
        about.notes or first.notes
    )
    if len(evaluations) > 1:
        rows = [
            (
                task,
                name if task == "protocol" else title(name),
                f"{number(mean)} ± {number(sd)}",
                f"{runs}",
            )
            for task, owner, name, mean, sd, runs in seeds.to_records(index=False).tolist()
            if not owner
        ]
        lines += [
            f"## Over {len(evaluations)} runs",
            "",
            *_table(("task", "measure", "mean ± sd", "runs"), rows),
            "The first run:",
            "",
        ]
    if first.protocols:
        scores = [(name, spelled(one), str(one.faces)) for name, one in first.protocols.items()]
        lines += ["## Protocols", "", *_table(("protocol", "score", "faces"), scores)]
    for result in first.tasks:
        lines += _task(result)
    lines += _people(first) if first.parts else []
    return "\n".join(lines).rstrip() + "\n"


def _task(result: TaskResult) -> list[str]:
    lines = [
        f"## {result.task}",
        "",
        f"{result.faces} annotated faces in {result.groups} groups.",
        "",
    ]
    if result.graded:
        lines += [
            "Labels lie between 0 and 1, so units are judged by correlation and error, not by decisions.",
            "",
        ]
    lines += _table(
        ("measure", "value"), [(title(name), spelled(one)) for name, one in result.measures.items()]
    )
    shown = class_measures(result.kind, result.graded)
    what = {"one_of": "class", "any_of": "unit", "scalar": "column"}[result.kind]
    rows = [
        (name, str(row["rmse" if "rmse" in row else "f1"].faces), *(spelled(row[m]) for m in shown))
        for name, row in result.each.items()
    ]
    lines += _table((what, "faces", *(title(name) for name in shown)), rows)
    if result.confusion:
        rows = [
            (name, *map(str, row)) for name, row in zip(result.names, result.confusion, strict=True)
        ]
        lines += [
            "Faces by true class (rows) and predicted class:",
            "",
            *_table(("", *result.names), rows),
        ]
    if result.reliability:
        rows = [
            (
                f"{i / len(result.reliability):.2f} to {(i + 1) / len(result.reliability):.2f}",
                str(b.faces),
                number(b.confidence),
                number(b.accuracy),
            )
            for i, b in enumerate(result.reliability)
            if b.faces
        ]
        lines += [
            "Top probability against the share that was right:",
            "",
            *_table(("probability", "faces", "mean", "right"), rows),
        ]
    return lines


def _people(one: Evaluation) -> list[str]:
    names = one.compared
    rows = []
    for part in one.parts:
        cells = [
            f"{spelled(m)}, {m.faces}{'*' * (m.faces < FEW)}"
            if (m := part.measures.get(name))
            else "–"
            for name in names
        ]
        rows.append((part.name, *cells))
    lines = [f"## By {one.by}", "", "Value, interval and number of faces.", ""]
    lines += _table((str(one.by), *(title(name) for name in names)), rows)
    if any(m.faces < FEW for part in one.parts for m in part.measures.values()):
        lines += [f"\\* fewer than {FEW} faces: too few to compare, and left out of the gaps.", ""]
    if one.gaps:
        gaps = [
            (title(name), gap.best, gap.worst, number(gap.difference))
            for name, gap in one.gaps.items()
        ]
        lines += [
            "Chance alone makes every gap larger than 0: compare the intervals.",
            "",
            *_table(("measure", "best", "worst", "gap"), gaps),
        ]
    return lines


def write_report(evaluations: Sequence[Evaluation], about: About, stem: Path) -> tuple[Path, Path]:
    """Write ``<stem>.md`` and ``<stem>.json`` and return their paths; the JSON reads back with `Report.model_validate_json`.

    Raises OutputError where a file cannot be written, and DataError as `markdown` does.
    """
    text, page = (
        markdown(evaluations, about),
        Report(mien=__version__, about=about, evaluations=tuple(evaluations)),
    )
    paths = stem.with_name(stem.name + ".md"), stem.with_name(stem.name + ".json")
    atomic_write(paths[0], text.encode())
    atomic_write(paths[1], (page.model_dump_json(indent=1) + "\n").encode())
    return paths
