"""The score of a submission, one's own or another team's, against labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.frame_lists import read_text
from mien.data.submissions.formats import Format, all_formats, format_named
from mien.errors import DataError
from mien.metrics import bootstrap
from mien.protocols import PROTOCOLS
from mien.tasks import Floats, Task

__all__ = ["SubmissionScore", "score_submission"]

Rows = NDArray[np.int64]

_ROUNDS: Final = 200
# What the names of answers' columns end in, beside those of the labels.
_ANSWER: Final = "_answer"
# What annotation files hold where nobody has annotated: values, then classes and units.
_NO_VALUE: Final = -5.0
_NO_CLASS: Final = -1.0


@dataclass(frozen=True, slots=True)
class SubmissionScore:
    """The score of a submission.

    Attributes:
        value: The challenge's number.
        low: Lower end of its 95 % bootstrap interval over recordings; NaN for a single one.
        high: Upper end.
        parts: The terms of the formula, without weights.
        rows: Labelled rows.
        unanswered: Labelled rows without an answer, which were left out.
    """

    value: float
    low: float
    high: float
    parts: Mapping[str, float]
    rows: int
    unanswered: int


def score_submission(path: Path, labels: Path, name: str) -> SubmissionScore:
    """Score a submission by a challenge's formula.

    Args:
        path: The submission: a file or, for a format with a file per video, the folder.
        labels: The labels in the layout of a submission, as challenges give annotations out: a
            file, or the folder of a file per video. -5 stands for no valence and arousal, -1 for no
            class or unit.
        name: Of a format and protocol.

    Returns:
        The score.

    Raises:
        UnknownNameError: There is no such format.
        DataError: A file cannot be read, or no row is both labelled and answered.
    """
    form = format_named(name)
    protocol = PROTOCOLS.get(form.name)
    if protocol is None:
        raise DataError(
            f"{form.name}: no formula is known for this format; those with one are "
            f"{', '.join(PROTOCOLS)}"
        )
    answers, truth = _read(form, path), _read(form, labels)
    labelled = truth[_with_missing(form, truth).notna().any(axis=1)]
    joined = labelled.merge(answers, on="row", how="left", suffixes=("", _ANSWER))
    answered = joined[form.fields[-1].name + _ANSWER].notna()
    if not answered.any():
        raise DataError(
            f"{path}: none of its rows, such as {answers['row'].iloc[0]!r}, is labelled in "
            f"{labels}, which has {truth['row'].iloc[0]!r}; give the labels of the same rows"
        )
    unanswered = int((~answered).sum())
    joined = joined[answered]
    target = _by_task(form, _with_missing(form, joined))
    pred = _by_task(form, _answers(form, joined))

    def score_of_rows(rows: Rows) -> float:
        return protocol.score(_chosen(pred, rows), _chosen(target, rows))

    everything = np.arange(len(joined))
    # Frames of one recording resemble each other, so whole recordings are drawn.
    folders = joined["row"].str.rpartition("/")[0]
    # A clip whose name has no folder is a recording by itself.
    videos = folders.where(folders != "", joined["row"]).to_numpy()
    low, high = bootstrap(score_of_rows, everything, groups=videos, rounds=_ROUNDS)
    value = score_of_rows(everything)
    parts = protocol.parts(pred, target)
    return SubmissionScore(value, low, high, parts, len(labelled), unanswered)


def _answers(form: Format, joined: pd.DataFrame) -> pd.DataFrame:
    """The fields of answers, under the names of the format's fields."""
    columns = [field.name for field in form.fields]
    return joined[[column + _ANSWER for column in columns]].set_axis(columns, axis=1)


def _chosen(values: Mapping[str, Floats], rows: Rows) -> dict[str, Floats]:
    return {key: array[rows] for key, array in values.items()}


def _read(form: Format, path: Path) -> pd.DataFrame:
    """Rows of a submission or of labels: `row`, which names it, and the format's fields."""
    if form.folder is None:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; {form.name} is one file")
        return _parsed(form, path, named=True)
    home = path / form.folder if (path / form.folder).is_dir() else path
    files = sorted(home.glob("*.txt"))
    if not files:
        raise DataError(f"{home}: no file <video>.txt in it; {form.name} has one per video")
    tables = []
    for file in files:
        table = _parsed(form, file, named=False)
        # Line k is frame k.
        table["row"] = [f"{file.stem}/{line:05d}" for line in range(1, len(table) + 1)]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _parsed(form: Format, path: Path, *, named: bool) -> pd.DataFrame:
    """The fields of a file's lines, with the first line left out where it is a header."""
    lines = read_text(path).replace("\r\n", "\n").strip("\n").split("\n")
    if form.chances:
        return _decisions(form, path, lines)
    headers = {other.header for other in all_formats().values()}
    first = lines[0].split(",")
    # Labels may have another header, or none: a row ends in a number.
    if lines[0] in headers or not _is_number(first[-1]):
        lines = lines[1:]
    columns = ["row"] * named + [field.name for field in form.fields]
    try:
        table = pd.read_csv(
            StringIO("\n".join(lines)),
            header=None,
            names=columns,
            dtype={"row": str},
            index_col=False,
        )
        values = table[columns[int(named) :]].astype(np.float64)
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not the rows of {form.name} ({reason}); mien submit check says what is wrong"
        ) from error
    if values.isna().any(axis=None):
        line = int(values.isna().any(axis=1).to_numpy().argmax())
        raise DataError(
            f"{path}: row {line + 1} has fewer than {len(values.columns)} numbers; "
            "mien submit check says what is wrong"
        )
    table[values.columns] = values
    return table.drop_duplicates("row") if named else table


def _decisions(form: Format, path: Path, lines: Sequence[str]) -> pd.DataFrame:
    """Rows of a format with chances, from submissions with or without them, and from labels.

    The lists of BAH have the label after the name, and a transcript with commas after that.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        name, *rest = line.split(",")
        chances = len(rest) == 3 and all(map(_is_number, rest))
        decision = rest[2] if chances else (rest[0] if rest else "")
        if decision.strip() not in ("0", "1"):
            raise DataError(
                f"{path}: line {number} has no decision 0 or 1 after the name; "
                f"a row of {form.name} is video,p0,p1,label or video,label"
            )
        rows.append({"row": name.strip(), "p0": 0.0, "p1": 0.0, "label": float(decision)})
    table = pd.DataFrame(rows)
    (decided,) = form.tasks[0].names
    table = table.rename(columns={"label": decided})
    doubled = table["row"][table["row"].duplicated()].to_list()
    if doubled:
        raise DataError(f"{path}: {doubled[0]!r} comes twice; keep one row")
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_missing(form: Format, table: pd.DataFrame) -> pd.DataFrame:
    """The fields of labels, with NaN where nobody has annotated."""
    fields = table[[field.name for field in form.fields]]
    parts = []
    for task in form.tasks:
        columns = _columns(task)
        none = _NO_VALUE if task.kind == "scalar" else _NO_CLASS
        # Scores such as -1 are values of their own.
        parts.append(fields[columns].mask(fields[columns] == none))
    return pd.concat(parts, axis=1)


def _columns(task: Task) -> list[str]:
    """The fields of a task: one class number, or a field per name."""
    return [task.family] if task.kind == "one_of" else list(task.names)


def _by_task(form: Format, fields: pd.DataFrame) -> dict[str, Floats]:
    """Class numbers (N,) or values (N, K) by task key."""
    values = {}
    for task in form.tasks:
        columns = _columns(task)
        array = fields[columns].to_numpy(np.float64)
        values[task.key] = array[:, 0] if task.kind == "one_of" else array
    return values
