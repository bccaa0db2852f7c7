"""Stand-ins for s-Aff-Wild2 (single frames in one list) and Aff-Wild2 (a file for each video)."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.standins.order import Order, Work, write_labels, write_lines
from mien.data.standins.states import Space
from mien.data.standins.takes import DENSE_COUNTS, EXPR_COUNTS, Take, label_parts, paint_take, takes
from mien.tasks import TASKS, Floats

__all__ = ["aff_wild2", "s_aff_wild2"]

Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

_EXPR: Final = TASKS["expr.abaw8"]
_AU: Final = TASKS["au.abaw12"]

# Shares of rests without VA, EXPR, AU. A little above those of the real set, as no row may lack all
# three.
_LACKING: Final = {"train": (0.28, 0.37, 0.28), "val": (0.0, 0.4255, 0.0)}
_HEADER: Final = "image,valence,arousal,expression,aus"
_LISTS: Final = {
    "train": "training_set_annotations.txt",
    "val": "validation_set_annotations.txt",
    "test": "MTL_Challenge_test_set_release.txt",
}
# Share of rows that repeat a picture.
_REPEATED: Final = {"train": 0.0066, "val": 0.0066, "test": 0.014}
# Share of rows with one unit, or arousal, missing.
_PARTIAL: Final = 0.003
_NO_VA: Final = -5.0
# The code for no expression and no unit.
_NO_CODE: Final = -1


def s_aff_wild2(order: Order) -> list[Work]:
    """The lists and crops of s-Aff-Wild2.

    Args:
        order: What to make.

    Returns:
        The crops to be made. Lists are written at once; what the test list asks about is in
        ``standin-labels/test.csv``.
    """
    counts = {**EXPR_COUNTS, "test": EXPR_COUNTS["train"]}
    rows = {}
    for split, count in order.rows.items():
        rows[split] = count - round(count * _REPEATED[split])
    work: list[Work] = []
    for s, (split, part) in enumerate(takes(order, counts, rows, dense=False).items()):
        _write_list(order, s, split, part)
        faces = order.faces[split]
        space = Space(*label_parts(faces))
        place = order.root / "cropped_aligned"
        for i, take in enumerate(part):
            kept = np.ones(len(take.frames), bool)
            seed = (order.seed, 5, s, i)
            call = partial(paint_take, faces, space, take, place, kept=kept, seed=seed)
            work.append((len(kept), call))
    return work


def aff_wild2(order: Order) -> list[Work]:
    """Annotations of the three dense tracks, and crops with gaps where no face was found.

    Args:
        order: What to make.

    Returns:
        The crops to be made. Annotations are written at once.
    """
    counts: dict[str, tuple[int, ...]] = {"train": DENSE_COUNTS, "val": EXPR_COUNTS["val"]}
    work: list[Work] = []
    for s, (split, part) in enumerate(takes(order, counts, order.rows, dense=True).items()):
        _write_tracks(order, s, split, part)
        faces = order.faces[split]
        space = Space(*label_parts(faces))
        place = order.root / "cropped_aligned"
        for i, take in enumerate(part):
            kept = _crops_kept(order.rng(8, s, i), len(take.frames), i)
            # Every fourth video has one crop more than lines.
            spare = int(i % 4 == 1)
            seed = (order.seed, 5, s, i)
            call = partial(paint_take, faces, space, take, place, kept=kept, seed=seed, spare=spare)
            work.append((int(kept.sum()) + spare, call))
    return work


def _write_list(order: Order, s: int, split: str, part: Sequence[Take]) -> None:
    """The annotation file of one split, or the test list and its answers."""
    rng = order.rng(4, s)
    images = []
    for take in part:
        images += [f"{take.name}/{number:05d}.jpg" for number in take.frames.tolist()]
    again = np.sort(rng.choice(len(images), order.rows[split] - len(images), replace=False))
    if split == "test":
        lines = [f"{image}," for image in _repeated(images, again)]
        write_labels(order.root, "test", _truth(part, images))
    else:
        lines = _lines(rng, part, images, _LACKING[split], again)
    write_lines(order.root / _LISTS[split], [_HEADER, *lines])


def _repeated(lines: Sequence[str], again: Ints) -> list[str]:
    """The lines, those of `again` twice, one after the other."""
    rows = np.sort(np.concatenate([np.arange(len(lines)), again]))
    return [lines[i] for i in rows.tolist()]


def _lines(
    rng: np.random.Generator,
    part: Sequence[Take],
    images: Sequence[str],
    lacking: Sequence[float],
    again: Ints,
) -> list[str]:
    """The rows of an annotation file, with the codes for what is not annotated."""
    va = np.concatenate([take.va for take in part])
    units = np.concatenate([take.units for take in part])
    expr = np.concatenate([take.expr for take in part])
    without = _without(rng, part, lacking)
    units = np.where(without[:, 2:], _NO_CODE, units)
    # A few rows are annotated in part: one unit, or arousal, is missing.
    units[rng.random(len(units)) < _PARTIAL, rng.integers(12)] = _NO_CODE
    has_other = ~without[:, 0] & ~without[:, 1:].all(axis=1)
    no_arousal = has_other & (rng.random(len(va)) < _PARTIAL)
    va = np.where(without[:, :1], _NO_VA, va)
    va[no_arousal, 1] = _NO_VA
    expr = np.where(without[:, 1], _NO_CODE, expr)
    # A row may lose its expression if it has one and would not become empty.
    can_lose = (expr >= 0) & ~without[:, [0, 2]].all(axis=1)
    repeated = set(again.tolist())
    lines: list[str] = []
    for i, image in enumerate(images):
        values, codes = va[i].tolist(), units[i].tolist()
        line = _line(image, values, int(expr[i]), codes)
        lines.append(line)
        if i in repeated:
            # Every other row that repeats an image has lost a task on the way.
            if len(lines) % 2 and can_lose[i]:
                line = _line(image, values, _NO_CODE, codes)
            lines.append(line)
    return lines


def _line(image: str, va: Sequence[float], expr: int, units: Sequence[int]) -> str:
    values = ",".join(map(_va_text, va))
    return f"{image},{values},{expr},{','.join(map(str, units))}"


def _va_text(value: float) -> str:
    return "-5.0" if value == _NO_VA else f"{value:.4f}"


def _without(rng: np.random.Generator, part: Sequence[Take], lacking: Sequence[float]) -> Mask:
    """Which of VA, EXPR, AU each row lacks (R, 3): rest by rest, and never all three.

    Each class keeps a rest with expressions.
    """
    counts: list[int] = []
    classes: list[int] = []
    for take in part:
        rows = np.bincount(take.film.segment)
        counts += rows.tolist()
        first_rows = np.cumsum(rows) - rows
        classes += take.film.plan[first_rows].tolist()
    sizes = np.array(counts)
    kept = np.unique(classes, return_index=True)[1]
    gone = np.zeros((len(sizes), 3), bool)
    for task, share in enumerate(lacking):
        order = rng.permutation(len(sizes))
        if task == 1:
            order = order[~np.isin(order, kept)]
        middles = np.cumsum(sizes[order]) - sizes[order] / 2
        gone[order, task] = middles < share * sizes.sum()
    bare = np.flatnonzero(gone.all(axis=1))
    gone[bare, rng.integers(3, size=len(bare))] = False
    return np.repeat(gone, sizes, axis=0)


def _truth(part: Sequence[Take], images: Sequence[str]) -> pd.DataFrame:
    """Images and all labels of the rows of films."""
    expr = np.eye(len(_EXPR.names))[np.concatenate([take.expr for take in part])]
    va = np.concatenate([take.va for take in part])
    units = np.concatenate([take.units for take in part])
    columns = (*_EXPR.columns, *TASKS["va"].columns, *_AU.columns)
    values = np.hstack([expr, va, units]).T
    return pd.DataFrame({"image": images, **dict(zip(columns, values, strict=True))})


_UNIT_NAMES: Final = ",".join(f"AU{int(name[2:])}" for name in _AU.names)
_CLASS_NAMES: Final = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
_TRACKS: Final = {
    "va": ("VA_Estimation_Challenge", "valence,arousal"),
    "expr": ("EXPR_Classification_Challenge", _CLASS_NAMES),
    "au": ("AU_Detection_Challenge", _UNIT_NAMES),
}
_SETS: Final = {"train": "Train_Set", "val": "Validation_Set"}
# Shares of videos that a track has labels for: its frames over those of valence and arousal.
_COVERED: Final[Mapping[str, Mapping[str, float]]] = {
    "train": {"va": 1.0, "expr": 0.354, "au": 0.82},
    "val": {"va": 1.0, "expr": 0.745, "au": 1.0},
}
_NO_CROP: Final = 0.02
_NO_LABEL: Final = {"va": 0.005, "expr": 0.08, "au": 0.01}


def _write_tracks(order: Order, s: int, split: str, part: Sequence[Take]) -> None:
    """The annotation files of one split."""
    annotations = order.root / "annotations"
    for track, share in _COVERED[split].items():
        place = annotations / _TRACKS[track][0] / _SETS[split]
        for i in _covered(order.rng(7, s), part, share):
            _write_track(order.rng(6, s, i), part[i], track, place)


def _crops_kept(rng: np.random.Generator, frames: int, i: int) -> Mask:
    """Which frames of video `i` have a crop: faces are lost five frames at a time."""
    lost = np.repeat(rng.random(-(-frames // 5)) < _NO_CROP, 5)[:frames]
    # Every fourth video ends one crop before its lines do.
    lost[-1] |= i % 4 == 2
    lost[len(lost) // 3] |= i % 4 == 0
    kept = ~lost
    kept[0] = True
    return np.asarray(kept)


def _covered(rng: np.random.Generator, part: Sequence[Take], share: float) -> list[int]:
    """About that share of the videos, among them one that shows each class and each unit."""
    rows = []
    for take in part:
        classes = np.isin(range(len(_EXPR.names)), take.expr)
        rows.append(np.append(classes, take.units.any(axis=0)))
    first_showing = {int(column.argmax()) for column in np.array(rows).T if column.any()}
    others = [i for i in rng.permutation(len(part)).tolist() if i not in first_showing]
    more = max(round(share * len(part)) - len(first_showing), 0)
    return sorted([*first_showing, *others[:more]])


def _write_track(rng: np.random.Generator, take: Take, track: str, place: Path) -> None:
    """One annotation file: a header, then a line for every frame."""
    frames = len(take.frames)
    # Labels are missing three frames at a time.
    missing = np.repeat(rng.random(-(-frames // 3)) < _NO_LABEL[track], 3)[:frames]
    missing[0] |= rng.random() < 0.3  # nothing is said of the start
    missing[len(missing) // 2] = False
    if track == "va":
        lines = _va_lines(take.va, missing)
    elif track == "expr":
        lines = [str(code) for code in np.where(missing, _NO_CODE, take.expr).tolist()]
    else:
        codes = np.where(missing[:, None], _NO_CODE, take.units).tolist()
        lines = [",".join(map(str, row)) for row in codes]
    write_lines(place / f"{take.name}.txt", [_TRACKS[track][1], *lines])


def _va_lines(va: Floats, missing: Mask) -> list[str]:
    lines = []
    for (valence, arousal), none in zip(va.tolist(), missing, strict=True):
        lines.append("-5,-5" if none else f"{valence:.3f},{arousal:.3f}")
    return lines
