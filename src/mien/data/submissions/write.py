"""Scores to a submission: every listed row answered, in the official order, complete or absent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

# Scores of one picture may differ by rounding.
_SAME: Final = 1e-6
# Parts of 1 that chances are written in.
_PARTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Written:
    """A submission that was written.

    Attributes:
        path: The file or folder.
        rows: Answered rows.
        filled: Those of them that lacked a score of their own.
        unlisted: Scored images that the list does not name.
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

    What was not measured lies on the straight line between the measured frames around it, by frame
    number, and is held before the first and after the last one (`mien.temporal.rows.fill_rows`),
    before anything is decided. Expressions become the class of the highest score, units 1 or 0;
    values are clipped to their range and written with `DIGITS` decimals.

    Args:
        name: As for `format_named`.
        listed: `image`, `video`, `frame`, from `mien.data.frame_lists.read_list`.
        scores: `image`, as the list names it and not as a path on the disk, and the columns of the
            format's tasks (`Task.columns`): probabilities, or values in their unit. Rows in any
            order; a row of a task that is all NaN was not measured; an image may come twice with
            the same scores.
        path: The file or, for a format with a file per video, the folder, made if missing; it may
            hold nothing else.
        thresholds: By family, as in `mien.evaluation.judge`: from which score a unit is on, one
            number or one per unit (0.5).

    Returns:
        What was written.

    Raises:
        UnknownNameError: For the format.
        DataError: For a video without any measured frame, for a row without a score where rows are
            no frames, for scores that are no finite numbers, contradict each other or lack a
            column.
        ValueError: For thresholds that do not fit.
        OutputError: Where it cannot be written.
    """
    form, path = format_named(name), Path(path)
    thresholds = thresholds or {}
    if listed.empty:
        raise DataError(f"{name}: the official list names no row; give the list of the challenge")
    _check_thresholds(form, thresholds)
    if form.folder is not None:
        video_lengths(listed)  # raises where line k would not be frame k
    by_image = _scores_by_image(form, scores)
    unlisted = tuple(by_image.index.difference(pd.Index(listed["image"]), sort=False))
    # A listed image without a score becomes a row of NaN, which is filled below.
    by_row = by_image.reindex(listed["image"])
    filled = np.zeros(len(listed), bool)
    fields: list[list[str]] = []
    for task in form.tasks:
        values = by_row[list(task.columns)].to_numpy(np.float64)
        filled |= np.isnan(values).all(axis=1)
        complete = _complete(form, task, listed, values, unlisted)
        if form.chances:
            fields += _chances(complete[:, 0])
        fields += _texts(task, complete, thresholds.get(task.family, 0.5))
    if form.folder is None:
        _write_files([(path, _text(form, [listed["image"].tolist(), *fields]))])
    else:
        _write_files(_files_by_video(form, listed["video"], fields, path / form.folder))
    return Written(path, len(listed), int(filled.sum()), unlisted)


def _check_thresholds(form: Format, thresholds: Mapping[str, float | Sequence[float]]) -> None:
    units = {task.family: len(task.names) for task in form.tasks if task.kind == "any_of"}
    for family, chosen in thresholds.items():
        if family not in units:
            raise ValueError(
                f"{form.name} has no units of the family {family!r} to apply a threshold to; "
                "leave its thresholds out"
            )
        if np.shape(chosen) not in ((), (units[family],)):
            raise ValueError(
                f"{form.name} takes one threshold for {family}, or {units[family]}; "
                f"got the shape {np.shape(chosen)}"
            )


def _scores_by_image(form: Format, scores: pd.DataFrame) -> pd.DataFrame:
    """Scores by image, each image once."""
    columns: list[str] = []
    for task in form.tasks:
        columns += task.columns
    values = _values(form, scores, columns)
    code, images = pd.factorize(scores["image"])
    nameless = int((code < 0).sum())
    if nameless:
        raise DataError(
            f"{form.name}: {nameless} rows of the scores name no image; "
            "give each the name that the list has"
        )
    # An image that comes twice in the list may come twice in the scores, with the same values.
    first = np.flatnonzero(~pd.Series(code).duplicated())
    same = np.isclose(values, values[first[code]], rtol=0, atol=_SAME, equal_nan=True)
    differs = ~same.all(axis=1)
    if differs.any():
        image = scores["image"].iloc[int(differs.argmax())]
        raise DataError(
            f"{form.name}: {image!r} is scored twice, with different values "
            f"({differs.sum()} such rows); keep one of them"
        )
    return pd.DataFrame(values[first], index=pd.Index(images), columns=columns)


def _values(form: Format, scores: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Scores (N, K) of some columns, finite or NaN."""
    missing = [column for column in ("image", *columns) if column not in scores]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise DataError(
            f"{form.name} needs the column{plural} {', '.join(missing)}; "
            "the scores have none of that name"
        )
    values = scores[list(columns)].to_numpy(np.float64)
    infinite = int(np.isinf(values).any(axis=1).sum())
    if infinite:
        raise DataError(
            f"{form.name}: the scores are infinite in {infinite} of {len(values)} rows; "
            "NaN says that a row was not measured"
        )
    return values


def _complete(
    form: Format, task: Task, listed: pd.DataFrame, values: Floats, unlisted: Sequence[str]
) -> Floats:
    """Scores (N, K) of every listed row, missing frames filled."""
    if task.kind == "any_of" and ((values < 0) | (values > 1)).any():
        raise DataError(
            f"{form.name}: scores of {task.key} reach outside 0..1; "
            "turn raw output into probabilities with Task.decode first"
        )
    hint = ""
    if unlisted:
        # Names spelled in another way are the usual reason why rows have no score.
        hint = (
            f"; {len(unlisted)} scores are of images that are not listed, such as {unlisted[0]!r}"
        )
    if not form.frames:
        missing = np.isnan(values).any(axis=1)
        if missing.any():
            image = listed["image"].iloc[int(missing.argmax())]
            raise DataError(
                f"{form.name}: {missing.sum()} of {len(listed)} listed rows have no {task.key} "
                f"score, such as {image!r}; each stands alone and cannot be filled: "
                f"score them{hint}"
            )
        return values
    videos = listed["video"].to_numpy()
    is_measured = pd.Series(~np.isnan(values).all(axis=1))
    measured = is_measured.groupby(videos, sort=False).any()
    if not measured.all():
        raise DataError(
            f"{form.name}: video {measured.index[~measured][0]!r} has no measured frame of "
            f"{task.key} ({(~measured).sum()} of {len(measured)} videos); "
            f"score at least one of its frames{hint}"
        )
    return fill_rows(values, videos, listed["frame"].to_numpy())


def _texts(task: Task, values: Floats, threshold: float | Sequence[float]) -> list[list[str]]:
    """The fields of a task, each (N,), as they are written."""
    if task.kind == "scalar":
        # Adding 0 turns -0.0 into 0.0, which would be written with a sign.
        clipped = np.round(np.clip(values, task.low, task.high), DIGITS) + 0.0
        return [list(map(_decimal, column)) for column in clipped.T.tolist()]
    if task.kind == "one_of":
        decided = values.argmax(axis=1)[:, None]
    else:
        decided = (values >= np.asarray(threshold)).astype(np.intp)
    return [list(map(str, column)) for column in decided.T.tolist()]


def _chances(score: Floats) -> list[list[str]]:
    """The chances of no and of yes as they are written, whose sum is exactly 1."""
    # In whole ten-thousandths, so that rounding cannot part the two.
    yes = np.rint(score * _PARTS).astype(np.int64)
    texts = []
    for parts in (_PARTS - yes, yes):
        texts.append([f"{count / _PARTS:.4f}" for count in parts.tolist()])
    return texts


def _decimal(value: float) -> str:
    return f"{value:.{DIGITS}f}"


def _text(form: Format, fields: Sequence[Sequence[str]]) -> str:
    """A file of fields, each (N,)."""
    lines = [form.header] if form.header else []
    lines += [",".join(row) for row in zip(*fields, strict=True)]
    return "\n".join(lines) + "\n"


def _files_by_video(
    form: Format, videos: pd.Series, fields: Sequence[Sequence[str]], home: Path
) -> Iterator[tuple[Path, str]]:
    """A file for each video: its path and text."""
    _check_home(home, {f"{video}.txt" for video in videos.unique()})
    table = pd.DataFrame(dict(enumerate(fields)))
    for video, rows in table.groupby(videos.to_numpy(), sort=False):
        yield home / f"{video}.txt", _text(form, [rows[column].tolist() for column in rows])


def _check_home(home: Path, names: set[str]) -> None:
    """Make the folder; raises OutputError where it holds other files."""
    with wrap_os_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        present = sorted(path.name for path in home.iterdir())
    for name in present:
        # What an interrupted run left behind is written anew.
        if name not in names and not name.endswith(".part"):
            raise OutputError(
                f"{home}: holds {name!r}, which is no file of this submission; "
                "choose an empty folder"
            )


def _write_files(texts: Iterable[tuple[Path, str]]) -> None:
    """Write all files under other names, and only then give them their own."""
    # Whatever fails, no file of the submission is replaced and no part is left behind.
    with ExitStack() as stack:
        files = []
        for path, text in texts:
            file = AtomicFile(path)
            stack.callback(file.drop)
            file.begin()
            with wrap_os_errors(path):
                file.part.write_text(text, encoding="utf-8", newline="")
            file.keep()
            files.append(file)
        for file in files:
            file.place()
