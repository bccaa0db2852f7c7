"""Stand-ins for s-Aff-Wild2 (single frames, all tasks in one list) and Aff-Wild2 (dense tracks, a file for each video)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.standins.faces import Faces, abaw_shares, enough
from mien.data.standins.order import Order, Work, folder, write_labels, write_lines
from mien.data.standins.pictures import Job, paint
from mien.data.standins.states import Space, SyntheticClip, films, shares_of, switched
from mien.tasks import TASKS, Floats

__all__ = ["EXPR_COUNTS", "aff_wild2", "s_aff_wild2"]

Ints = NDArray[np.intp]
Marks = NDArray[np.bool_]

_EXPR: Final = TASKS["expr.abaw8"]
_AU: Final = TASKS["au.abaw12"]
_MARGIN: Final = 0.15

# Annotated rows of the real sets, in the order of the tasks.
EXPR_COUNTS: Final = {
    "train": (23976, 4555, 3168, 3122, 18135, 7609, 5228, 24852),
    "val": (1886, 487, 565, 1254, 3751, 1893, 1003, 4601),
}
"""Rows of each class of ``expr.abaw8`` in s-Aff-Wild2."""
_DENSE_COUNTS: Final = (177198, 16573, 10771, 9080, 95463, 78751, 31615, 165866)
_AU_SHARES: Final = (
    np.array((18713, 8745, 20342, 30605, 41337, 38286, 26783, 2460, 2980, 5003, 70584, 10756))
    / 103_316
)
_LOWEST: Final = 0.1  # an activation below this is no unit, however often the real set has it

# Shares of rests without VA, EXPR, AU. A little above those of the real set, as no row may lack all three.
_LACKING: Final = {"train": (0.28, 0.37, 0.28), "val": (0.0, 0.4255, 0.0)}
_HEADER: Final = "image,valence,arousal,expression,aus"
_LISTS: Final = {
    "train": "training_set_annotations.txt",
    "val": "validation_set_annotations.txt",
    "test": "MTL_Challenge_test_set_release.txt",
}
_REPEATED: Final = {"train": 0.0066, "val": 0.0066, "test": 0.014}
_PARTIAL: Final = 0.003


@dataclass(frozen=True, slots=True)
class Take:
    """A film with its name, the frame number of each row (R,), and its labels: classes (R,), (R, 2), and 0 or 1 (R, 12)."""

    name: str
    film: SyntheticClip
    frames: Ints
    expr: Ints
    va: Floats
    units: Ints


def _pools(shares: Floats) -> list[Ints]:
    """Faces that show each class clearly."""
    ranked = np.sort(shares, axis=1)
    clear, top = ranked[:, -1] - ranked[:, -2] >= _MARGIN, shares.argmax(axis=1)
    found = [np.flatnonzero(clear & (top == k)) for k in range(len(_EXPR.names))]
    enough(dict(zip(_EXPR.names, map(len, found), strict=True)))
    return found


def _parts(faces: Faces) -> tuple[Floats, Floats, Floats]:
    return abaw_shares(faces.expr), faces.va, faces.units


def _names(rng: np.random.Generator, counts: Sequence[int]) -> list[list[str]]:
    """Names of videos of each split, in the ways the real ones go; every tenth shows two people, ``_left`` and ``_right``."""
    numbers = iter(rng.permutation(sum(counts)) + 1)
    made: list[list[str]] = []
    for count in counts:
        names: list[str] = []
        while len(names) < count:
            n = next(numbers)
            name = (f"video{n}", f"{n}-30-1920x1080", f"{n}-24-640x360", f"{n}")[rng.integers(4)]
            pair = count - len(names) >= 2 and (rng.random() < 0.1 or not names)
            names += [f"{name}_left", f"{name}_right"] if pair else [name]
        made.append(names)
    return made


def _length(rows: int, dense: bool) -> float:
    """Mean rows of a film: as in the real set where there are enough, else so that training has about twenty films."""
    return float(np.clip(rows / 20, 30, 4600 if dense else 460))


def _takes(
    order: Order, counts: Mapping[str, Sequence[int]], rows: Mapping[str, int], dense: bool
) -> dict[str, list[Take]]:
    """The films of every split."""
    made = {}
    for s, split in enumerate(order.faces):
        parts = _parts(order.faces[split])
        rng = order.rng(1, s)
        length = _length(rows["train"], dense)
        hold = min(200, length / 2.5)
        made[split] = films(
            rng,
            rows[split],
            shares_of(counts[split]),
            _pools(parts[0]),
            parts,
            hold=hold,
            length=length,
        )
    bounds = _bounds(made["train"])
    names = _names(order.rng(2), [len(part) for part in made.values()])
    return {
        split: [
            _take(order.rng(3, s, i), name, film, bounds, dense)
            for i, (name, film) in enumerate(zip(names[s], part, strict=True))
        ]
        for s, (split, part) in enumerate(made.items())
    }


def _bounds(training: Sequence[SyntheticClip]) -> Floats:
    """The activation (12,) from which a unit counts as present, so that training has it about as often as the real set."""
    units = np.concatenate([film.units for film in training])
    return np.array(
        [max(np.quantile(units[:, k], 1 - share), _LOWEST) for k, share in enumerate(_AU_SHARES)]
    )


def _take(
    rng: np.random.Generator, name: str, film: SyntheticClip, bounds: Floats, dense: bool
) -> Take:
    if dense:
        frames = np.arange(1, len(film) + 1)
    else:  # every few frames of a film of 30 a second, with gaps
        steps = rng.integers(1, 6) + np.where(
            rng.random(len(film)) < 0.03, rng.integers(5, 60, len(film)), 0
        )
        frames = np.cumsum(steps) - steps[0] + 1
    return Take(
        name, film, frames, switched(film.expr), film.va, (film.units >= bounds).astype(np.intp)
    )


def _paint(
    faces: Faces,
    space: Space,
    take: Take,
    root: Path,
    *,
    kept: Marks,
    seed: tuple[int, ...],
    spare: int = 0,
) -> None:
    """The crops of the rows that are `kept` (R,), and `spare` crops beyond the last row."""
    chosen = space.stand_ins(take.film, np.random.default_rng((*seed, 0)))
    numbers = np.concatenate([take.frames[kept], take.frames[-1] + 1 + np.arange(spare)])
    shown = np.concatenate([chosen[kept], np.repeat(chosen[-1], spare)])
    place = folder(root / take.name)
    paint(faces, Job([place / f"{n:05d}.jpg" for n in numbers.tolist()], shown, (*seed, 1)))


def s_aff_wild2(order: Order) -> list[Work]:
    """Lists and crops of s-Aff-Wild2; what the test list asks about is in ``standin-labels/test.csv``."""
    counts = {**EXPR_COUNTS, "test": EXPR_COUNTS["train"]}
    rows = {split: count - round(count * _REPEATED[split]) for split, count in order.rows.items()}
    takes = _takes(order, counts, rows, dense=False)
    work: list[Work] = []
    for s, (split, part) in enumerate(takes.items()):
        rng = order.rng(4, s)
        images = [f"{take.name}/{n:05d}.jpg" for take in part for n in take.frames.tolist()]
        again = np.sort(rng.choice(len(images), order.rows[split] - len(images), replace=False))
        if split == "test":
            listed = _repeated(images, again)
            write_lines(order.root / _LISTS[split], [_HEADER, *(f"{image}," for image in listed)])
            write_labels(order.root, "test", _truth(part, images))
        else:
            lines = _lines(rng, part, images, _LACKING[split], again)
            write_lines(order.root / _LISTS[split], [_HEADER, *lines])
        space, place = Space(*_parts(order.faces[split])), order.root / "cropped_aligned"
        for i, take in enumerate(part):
            kept = np.ones(len(take.frames), bool)
            work.append(
                (
                    len(kept),
                    partial(
                        _paint,
                        order.faces[split],
                        space,
                        take,
                        place,
                        kept=kept,
                        seed=(order.seed, 5, s, i),
                    ),
                )
            )
    return work


def _repeated(lines: Sequence[str], again: Ints) -> list[str]:
    """The lines, those of `again` twice, one after the other."""
    return [lines[i] for i in np.sort(np.concatenate([np.arange(len(lines)), again])).tolist()]


def _lines(
    rng: np.random.Generator,
    takes: Sequence[Take],
    images: list[str],
    lacking: tuple[float, ...],
    again: Ints,
) -> list[str]:
    """The rows of an annotation file. Every other row that repeats an image has lost a task on the way."""
    va, units = (
        np.concatenate([getattr(take, name) for take in takes]) for name in ("va", "units")
    )
    expr, without = np.concatenate([take.expr for take in takes]), _without(rng, takes, lacking)
    units = np.where(without[:, 2:], -1, units)
    units[
        rng.random(len(units)) < _PARTIAL, rng.integers(12)
    ] = -1  # a row that is annotated in part
    half = ~without[:, 0] & ~without[:, 1:].all(axis=1) & (rng.random(len(va)) < _PARTIAL)
    va = np.where(without[:, :1], -5.0, va)
    va[half, 1] = -5.0
    expr = np.where(without[:, 1], -1, expr)
    rows = zip(images, va.tolist(), expr.tolist(), units.tolist(), strict=True)
    lines = [_line(*row) for row in rows]
    twice = dict.fromkeys(again.tolist(), 0)
    made = []
    for i, line in enumerate(lines):
        made.append(line)
        if i in twice:
            lost = len(made) % 2 and expr[i] >= 0 and not without[i, [0, 2]].all()
            made.append(_line(images[i], va[i].tolist(), -1, units[i].tolist()) if lost else line)
    return made


def _line(image: str, va: list[float], expr: int, units: list[int]) -> str:
    first = ",".join("-5.0" if value == -5 else f"{value:.4f}" for value in va)
    return f"{image},{first},{expr},{','.join(map(str, units))}"


def _without(rng: np.random.Generator, takes: Sequence[Take], lacking: tuple[float, ...]) -> Marks:
    """Which of VA, EXPR, AU each row lacks (R, 3): rest by rest, never all three, and each class keeps a rest with expressions."""
    rows = [np.bincount(take.film.segment) for take in takes]
    counts, plans = (
        np.concatenate(rows),
        np.concatenate(
            [take.film.plan[np.cumsum(n) - n] for take, n in zip(takes, rows, strict=True)]
        ),
    )
    kept = np.unique(plans, return_index=True)[1]
    gone = np.zeros((len(counts), 3), bool)
    for task, share in enumerate(lacking):
        order = rng.permutation(len(counts))
        if task == 1:
            order = order[~np.isin(order, kept)]
        gone[order, task] = np.cumsum(counts[order]) - counts[order] / 2 < share * counts.sum()
    bare = np.flatnonzero(gone.all(axis=1))
    gone[bare, rng.integers(3, size=len(bare))] = False
    return np.repeat(gone, counts, axis=0)


def _truth(takes: Sequence[Take], images: Sequence[str]) -> pd.DataFrame:
    """Images and all labels of the rows of films."""
    expr = np.eye(len(_EXPR.names))[np.concatenate([take.expr for take in takes])]
    va, units = (
        np.concatenate([getattr(take, name) for take in takes]) for name in ("va", "units")
    )
    labels = dict(
        zip(
            (*_EXPR.columns, *TASKS["va"].columns, *_AU.columns),
            np.hstack([expr, va, units]).T,
            strict=True,
        )
    )
    return pd.DataFrame({"image": images, **labels})


_TRACKS: Final = {
    "va": ("VA_Estimation_Challenge", "valence,arousal"),
    "expr": (
        "EXPR_Classification_Challenge",
        "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    ),
    "au": ("AU_Detection_Challenge", ",".join(f"AU{int(name[2:])}" for name in _AU.names)),
}
_SETS: Final = {"train": "Train_Set", "val": "Validation_Set"}
# Shares of videos that a track has labels for: its frames over those of valence and arousal.
_COVERED: Final = {
    "train": {"va": 1.0, "expr": 0.354, "au": 0.82},
    "val": {"va": 1.0, "expr": 0.745, "au": 1.0},
}
_NO_CROP: Final = 0.02
_NO_LABEL: Final = {"va": 0.005, "expr": 0.08, "au": 0.01}


def aff_wild2(order: Order) -> list[Work]:
    """Annotations of the three dense tracks, and crops whose numbering has gaps where no face was found."""
    counts: dict[str, tuple[int, ...]] = {"train": _DENSE_COUNTS, "val": EXPR_COUNTS["val"]}
    takes = _takes(order, counts, order.rows, dense=True)
    work: list[Work] = []
    for s, (split, part) in enumerate(takes.items()):
        space, place = Space(*_parts(order.faces[split])), order.root / "cropped_aligned"
        for track, share in _COVERED[split].items():
            for i in _covered(order.rng(7, s), part, share):
                _track(
                    order.rng(6, s, i),
                    part[i],
                    track,
                    order.root / "annotations" / _TRACKS[track][0] / _SETS[split],
                )
        for i, take in enumerate(part):
            rng = order.rng(8, s, i)
            lost = np.repeat(rng.random(-(-len(take.frames) // 5)) < _NO_CROP, 5)[
                : len(take.frames)
            ]
            # Every fourth video has one crop more than lines, every fourth one fewer.
            lost[-1] |= i % 4 == 2
            lost[len(lost) // 3] |= i % 4 == 0
            spare = int(i % 4 == 1)
            kept = ~lost
            kept[0] = True
            call = partial(
                _paint,
                order.faces[split],
                space,
                take,
                place,
                kept=kept,
                seed=(order.seed, 5, s, i),
                spare=spare,
            )
            work.append((int(kept.sum()) + spare, call))
    return work


def _covered(rng: np.random.Generator, takes: Sequence[Take], share: float) -> list[int]:
    """About that share of the videos, among them one that shows each class and one for each unit."""
    shown = np.array(
        [
            np.append(np.isin(range(len(_EXPR.names)), take.expr), take.units.any(axis=0))
            for take in takes
        ]
    )
    firsts = {int(column.argmax()) for column in shown.T if column.any()}
    others = [i for i in rng.permutation(len(takes)).tolist() if i not in firsts]
    return sorted([*firsts, *others[: max(round(share * len(takes)) - len(firsts), 0)]])


def _track(rng: np.random.Generator, take: Take, track: str, place: Path) -> None:
    """One annotation file: a header, then a line for every frame."""
    gone = np.repeat(rng.random(-(-len(take.frames) // 3)) < _NO_LABEL[track], 3)[
        : len(take.frames)
    ]
    gone[0] |= rng.random() < 0.3  # nothing is said of the start
    gone[len(gone) // 2] = False
    if track == "va":
        lines = [
            "-5,-5" if none else f"{v:.3f},{a:.3f}"
            for none, (v, a) in zip(gone, take.va.tolist(), strict=True)
        ]
    elif track == "expr":
        lines = [str(k) for k in np.where(gone, -1, take.expr).tolist()]
    else:
        lines = [
            ",".join(map(str, row)) for row in np.where(gone[:, None], -1, take.units).tolist()
        ]
    write_lines(place / f"{take.name}.txt", [_TRACKS[track][1], *lines])
