"""The label tables of a run: loaded, checked, joined, split, and given the five points that its crops need."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from mien.bundles.store import load_detector
from mien.data.folders import load_folder
from mien.data.pictures import read_picture
from mien.data.sets import Folder, load_set
from mien.data.table import check
from mien.errors import DataError
from mien.tasks import Task
from mien.train.settings import Settings

__all__ = ["find_points", "load_tables", "tasks_of"]

Note = Callable[[str], None]


def tasks_of(settings: Settings) -> tuple[Task, ...]:
    """The tasks that the settings name, or the one that the class folders make; raises DataError where neither is clear."""
    if settings.tasks:
        return settings.named_tasks()
    first = settings.data[0]
    if len(settings.data) > 1 or not isinstance(first, Folder):
        raise DataError("tasks: name what is to be learned; only for a single folder of classes do the folders say it")
    return (load_folder(first.root, subject=first.subject)[1],)


def load_tables(settings: Settings, run: Path, note: Note) -> tuple[dict[str, pd.DataFrame], tuple[Task, ...], list[str]]:
    """The label table of each split, the tasks, and notes worth keeping.

    run: folder that remembers points found in pictures. note: called with every note as it comes up.
    Raises DataError for tables that cannot be trained on, or lack a split ``train`` or ``val``.
    """
    tasks = tasks_of(settings)
    table = pd.concat([load_set(spec, tasks) for spec in settings.data], ignore_index=True)
    notes = check(table, tasks, settings.name)
    table, dropped = _without_leaks(table)
    notes += [f"{dropped} training pictures that also lie in another split were left out"] if dropped else []
    for line in notes:
        note(line)
    if settings.fit.find_points and settings.pixels.template is not None and table["points"].isna().any():
        table, found = find_points(table, run / "points.parquet", note, settings.fit.skip_unreadable)
        notes.append(found)
    parts = {str(split): part.reset_index(drop=True) for split, part in table.groupby("split")}
    for name in ("train", "val"):
        if name not in parts:
            raise DataError(f"{settings.name}: no face is in split {name}; give `split` with shares of train and val")
    return parts, tasks, notes


def _without_leaks(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The table without training rows whose very picture is judged as well, and how many there were."""
    known = table["image"].map(lambda image: image.tobytes() if isinstance(image, np.ndarray) else image)
    training = table["split"] == "train"
    leaks = training & known.isin(set(known[~training]))
    return table[~leaks].reset_index(drop=True), int(leaks.sum())


def find_points(table: pd.DataFrame, memory: Path, note: Note, skip_unreadable: bool = False) -> tuple[pd.DataFrame, str]:
    """The table with five points (mien-face) for the pictures that had none and show a face; the others stay whole pictures.

    memory: Parquet file that keeps what was found, so that a run that goes on need not search again. Also returns a line that says
    how many faces were found. Raises DataError for a picture that cannot be read, unless `skip_unreadable`.
    """
    bare = np.flatnonzero(table["points"].isna())
    if memory.is_file() and len(known := pd.read_parquet(memory)) == len(bare) and (known["row"] == bare).all():
        points = known["points"].to_list()
    else:
        note(f"looking for the face in {len(bare)} pictures that come without points")
        detector = load_detector(engine="onnxruntime")
        points = []
        for row in bare:
            try:
                faces = detector.find(read_picture(table["image"].iloc[row]))
            except DataError:
                if not skip_unreadable:
                    raise
                faces = []
            largest = max(faces, key=lambda face: face.box[2] * face.box[3], default=None)
            points.append(None if largest is None else np.asarray(largest.points).ravel())
        aside = memory.with_name(memory.name + ".part")
        pd.DataFrame({"row": bare, "points": points}).to_parquet(aside)
        aside.replace(memory)
    column = table["points"].to_list()
    for place, five in zip(bare.tolist(), points, strict=True):
        column[place] = five
    seen = sum(five is not None for five in points)
    line = f"faces found in {seen} of {len(bare)} pictures that came without points; the others are read whole"
    note(line)
    return table.assign(points=pd.Series(column, index=table.index, dtype=object)), line
