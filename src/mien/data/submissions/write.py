"""Scores to a submission: every listed row answered, in the official order, complete or absent."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.data.submissions.formats import DIGITS, Format, format_named, video_lengths
from mien.errors import DataError, OutputError
from mien.files import AtomicFile, wrap_os_errors
from mien.tasks import Floats, Task
from mien.temporal.rows import fill_rows

__all__ = ["Written", "write"]

_SAME: Final = 1e-6  # scores of one picture may differ by rounding


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a submission.

    rows: answered rows. filled: those of them that lacked a score of their own. unlisted: scored images that the list does not name.
    """

    path: Path
    rows: int
    filled: int
    unlisted: tuple[str, ...]


def write(
    name: str,
    listed: pd.DataFrame,
    scores: pd.DataFrame,
    path: Path,
    *,
    thresholds: Mapping[str, float | Sequence[float]] | None = None,
) -> Written:
    """Answer every row of an official list, in its order, rows that come twice included.

    name: of a format in `FORMATS`. listed: `image`, `video`, `frame`, from `mien.data.frame_lists.read_list`.
    scores: `image`, as the list names it and not as a path on the disk, and the columns of the format's tasks (`Task.columns`):
        probabilities, or values in their unit. Rows in any order; a row of a task that is all NaN was not measured; an image may
        come twice with the same scores.
    path: the file or, for a format with a file per video, the folder, made if missing; it may hold nothing else.
    thresholds: by family, as in `mien.evaluation.judge`: from which score a unit is on, one number or one per unit (0.5).

    What was not measured lies on the straight line between the measured frames around it, by frame number, and is held before the
    first and after the last one (`mien.temporal.rows.fill_rows`), before anything is decided. Expressions become the class of the
    highest score, units 1 or 0; values are clipped to their range and written with `DIGITS` decimals.
    Raises UnknownNameError for the format; DataError for a video without any measured frame, for a row without a score where rows are
    no frames, for scores that are no finite numbers, contradict each other or lack a column; ValueError for thresholds that do not
    fit; OutputError where it cannot be written.
    """
    form, path = format_named(name), Path(path)
    if listed.empty:
        raise DataError(f"{name}: the official list names no row; give the list of the challenge")
    _check_thresholds(form, thresholds or {})
    if form.folder is not None:
        video_lengths(listed)  # raises where line k would not be frame k
    found = _found(form, scores)
    unlisted = tuple(found.index.difference(pd.Index(listed["image"]), sort=False))
    every = found.reindex(listed["image"])
    filled, fields = np.zeros(len(listed), bool), list[list[str]]()
    for task in form.tasks:
        values = every[list(task.columns)].to_numpy(np.float64)
        filled |= np.isnan(values).all(axis=1)
        whole = _whole(form, task, listed, values, unlisted)
        fields += _written(task, whole, (thresholds or {}).get(task.family, 0.5))
    if form.folder is None:
        _put({path: _text(form, [listed["image"].tolist(), *fields])})
    else:
        _put(_by_video(form, listed["video"], fields, path / form.folder))
    return Written(path, len(listed), int(filled.sum()), unlisted)


def _check_thresholds(form: Format, thresholds: Mapping[str, float | Sequence[float]]) -> None:
    units = {task.family: len(task.names) for task in form.tasks if task.kind == "any_of"}
    for family, chosen in thresholds.items():
        if family not in units:
            raise ValueError(
                f"{form.name} has no units of the family {family!r} to apply a threshold to; leave its thresholds out"
            )
        if np.shape(chosen) not in ((), (units[family],)):
            raise ValueError(
                f"{form.name} takes one threshold for {family}, or {units[family]}; got the shape {np.shape(chosen)}"
            )


def _found(form: Format, scores: pd.DataFrame) -> pd.DataFrame:
    """Scores by image, each image once."""
    columns = [column for task in form.tasks for column in task.columns]
    if missing := [column for column in ("image", *columns) if column not in scores]:
        raise DataError(
            f"{form.name} needs the column{'s' * (len(missing) > 1)} {', '.join(missing)}; the scores have none of that name"
        )
    values = scores[columns].to_numpy(np.float64)
    if wrong := int(np.isinf(values).any(axis=1).sum()):
        raise DataError(
            f"{form.name}: the scores are infinite in {wrong} of {len(values)} rows; NaN says that a row was not measured"
        )
    code, images = pd.factorize(scores["image"])
    if nameless := int((code < 0).sum()):
        raise DataError(
            f"{form.name}: {nameless} rows of the scores name no image; give each the name that the list has"
        )
    first = np.flatnonzero(~pd.Series(code).duplicated())
    other = ~np.isclose(values, values[first[code]], rtol=0, atol=_SAME, equal_nan=True).all(axis=1)
    if other.any():
        again = scores["image"].iloc[int(other.argmax())]
        raise DataError(
            f"{form.name}: {again!r} is scored twice, with different values ({other.sum()} such rows); keep one of them"
        )
    return pd.DataFrame(values[first], index=pd.Index(images), columns=columns)


def _whole(
    form: Format, task: Task, listed: pd.DataFrame, values: Floats, unlisted: tuple[str, ...]
) -> Floats:
    """Scores (N, K) of every listed row."""
    if task.kind == "any_of" and ((values < 0) | (values > 1)).any():
        raise DataError(
            f"{form.name}: scores of {task.key} reach outside 0..1; turn raw output into probabilities with Task.decode first"
        )
    hint = (
        f"; {len(unlisted)} scores are of images that are not listed, such as {unlisted[0]!r}"
        if unlisted
        else ""
    )
    if not form.frames:
        missing = np.isnan(values).any(axis=1)
        if missing.any():
            image = listed["image"].iloc[int(missing.argmax())]
            raise DataError(
                f"{form.name}: {missing.sum()} of {len(listed)} listed rows have no {task.key} score, such as {image!r}; "
                f"each stands alone and cannot be filled: score them{hint}"
            )
        return values
    measured = (
        pd.Series(~np.isnan(values).all(axis=1))
        .groupby(listed["video"].to_numpy(), sort=False)
        .any()
    )
    if not measured.all():
        raise DataError(
            f"{form.name}: video {measured.index[~measured][0]!r} has no measured frame of {task.key} ({(~measured).sum()} of "
            f"{len(measured)} videos); score at least one of its frames{hint}"
        )
    return fill_rows(values, listed["video"].to_numpy(), listed["frame"].to_numpy())


def _written(task: Task, values: Floats, threshold: float | Sequence[float]) -> list[list[str]]:
    """The fields of a task, each (N,), as they are written."""
    if task.kind == "scalar":
        clipped = np.round(np.clip(values, task.low, task.high), DIGITS) + 0.0  # no -0.000000
        return [list(map(f"%.{DIGITS}f".__mod__, column)) for column in clipped.T.tolist()]
    decided = (
        values.argmax(axis=1)[:, None]
        if task.kind == "one_of"
        else (values >= np.asarray(threshold)).astype(np.intp)
    )
    return [list(map(str, column)) for column in decided.T.tolist()]


def _text(form: Format, fields: Sequence[Sequence[str]]) -> str:
    head = [form.header] if form.header else []
    return "\n".join([*head, *map(",".join, zip(*fields, strict=True))]) + "\n"


def _by_video(
    form: Format, videos: pd.Series, fields: Sequence[Sequence[str]], home: Path
) -> Iterator[tuple[Path, str]]:
    """A file for each video: its path and text."""
    _check_home(home, {f"{video}.txt" for video in videos.unique()})
    every = pd.DataFrame(dict(enumerate(fields)))
    for video, rows in every.groupby(videos.to_numpy(), sort=False):
        yield home / f"{video}.txt", _text(form, [rows[column].tolist() for column in rows])


def _check_home(home: Path, wanted: set[str]) -> None:
    with wrap_os_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        strangers = sorted(
            path.name
            for path in home.iterdir()
            if path.name not in wanted and not path.name.endswith(".part")
        )
    if strangers:
        raise OutputError(
            f"{home}: holds {strangers[0]!r}, which is no file of this submission; choose an empty folder"
        )


def _put(texts: Mapping[Path, str] | Iterator[tuple[Path, str]]) -> None:
    """Write all files aside, and only then give them their names."""
    pairs = texts.items() if isinstance(texts, Mapping) else texts
    with ExitStack() as stack:
        asides = []
        for path, text in pairs:
            aside = AtomicFile(path)
            stack.callback(aside.drop)
            aside.begin()
            with wrap_os_errors(path):
                aside.part.write_text(text, encoding="utf-8", newline="")
            aside.keep()
            asides.append(aside)
        for aside in asides:
            aside.place()
