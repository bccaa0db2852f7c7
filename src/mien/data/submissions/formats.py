"""Every submission format as data: exact header, fields, ranges, and how rows are named. A format is named as its protocol, by year.

A header may name more columns than a row has fields (one class number below eight names) or fewer (twelve units below ``aus``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pandas as pd

from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Task

__all__ = [
    "DIGITS",
    "FORMATS",
    "Field",
    "Format",
    "answers",
    "format_named",
    "markdown",
    "video_lengths",
]

DIGITS: Final = 6
"""Decimals of every value that is no decision."""


@dataclass(frozen=True, slots=True)
class Field:
    """What one field of a row may hold: a whole number (a class, or 0/1) or any number, in [low, high]."""

    name: str
    low: float
    high: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Format:
    """How one challenge wants its answers.

    header: the exact first line; "" = none.
    keys: the tasks (`TASKS`) whose fields a row holds, in order.
    listed: an example of how the official list names a row. The name is the row's first field, unless there is a file per video.
    frames: rows are frames of videos, so what was not measured can be filled from its neighbours; else each row stands alone.
    folder: None for one file; else there is one file ``<video>.txt`` per video, in this folder ("" = the submission itself),
        and line k after the header is frame k.
    note: what else the challenge asks.
    """

    name: str
    challenge: str
    header: str
    keys: tuple[str, ...]
    listed: str
    frames: bool = True
    folder: str | None = None
    note: str = ""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of their fields."""
        return tuple(TASKS[key] for key in self.keys)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a row after its name: one class number for a ``one_of`` task, else one field per name.

        >>> [field.name for field in FORMATS["abaw2022.mtl"].fields][:4], FORMATS["abaw2024.ce"].fields
        (['valence', 'arousal', 'expr', 'AU01'], (Field(name='ce', low=0, high=6, whole=True),))
        """
        return tuple(field for task in self.tasks for field in _fields(task))

    @property
    def rules(self) -> tuple[object, ...]:
        """All that a file is checked by: formats of two years may differ in nothing but their name."""
        return self.header, self.keys, self.frames, self.folder


def _fields(task: Task) -> list[Field]:
    if task.kind == "one_of":
        return [Field(task.family, 0, len(task.names) - 1, whole=True)]
    return [Field(name, task.low, task.high, whole=task.kind == "any_of") for name in task.names]


_EIGHT: Final = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
_UNITS: Final = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
_MTL: Final = (
    "image,valence,arousal,expression,aus",
    ("va", "expr.abaw8", "au.abaw12"),
    "video45_1/00001.jpg",
)
_EXPR: Final = (f"image_location,{_EIGHT}", ("expr.abaw8",), "14-30-1920x1080/00001.jpg")
_VA: Final = ("image_location,valence,arousal", ("va",), "14-30-1920x1080/00001.jpg")
_AU: Final = (f"image_location,{_UNITS}", ("au.abaw12",), "14-30-1920x1080/00001.jpg")
_CE: Final = (
    "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry",
    ("ce.abaw7",),
    "01/00001.jpg",
)
_EMI: Final = (
    "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
    ("emi.abaw6",),
    "00001",
)

FORMATS: Final[Mapping[str, Format]] = MappingProxyType({
    one.name: one
    for one in (
        Format("abaw2021.expr", "ABAW2", _EIGHT.removesuffix(",Other"), ("expr.abaw7",), "video1/00001.jpg", folder="EXPR_Set"),
        Format("abaw2021.va", "ABAW2", "valence,arousal", ("va",), "video1/00001.jpg", folder="VA_Set"),
        Format("abaw2022.expr", "ABAW3", _EIGHT, ("expr.abaw8",), "video1/00001.jpg", folder=""),
        Format("abaw2022.va", "ABAW3", "valence,arousal", ("va",), "video1/00001.jpg", folder=""),
        Format("abaw2022.au", "ABAW3", _UNITS, ("au.abaw12",), "video1/00001.jpg", folder=""),
        Format("abaw2022.mtl", "ABAW3, ABAW4", *_MTL, note="ABAW3 wants the file named MTL_predictions.txt."),
        Format("abaw2022.lsd", "ABAW4", "image,expression", ("expr.lsd6",), "0.jpg", frames=False),
        Format("abaw2023.expr", "ABAW5", *_EXPR),
        Format("abaw2023.va", "ABAW5", *_VA),
        Format("abaw2023.au", "ABAW5", *_AU),
        Format("abaw2024.expr", "ABAW6", *_EXPR),
        Format("abaw2024.va", "ABAW6", *_VA),
        Format("abaw2024.au", "ABAW6", *_AU),
        Format("abaw2024.ce", "ABAW6, ABAW7", *_CE),
        Format("abaw2024.emi", "ABAW6", *_EMI, frames=False),
        Format("abaw2024.mtl", "ABAW7", *_MTL),
        Format("abaw2025.expr", "ABAW8", *_EXPR),
        Format("abaw2025.emi", "ABAW8", *_EMI, frames=False),
        Format("abaw2025.ah", "ABAW8", "", ("ah.abaw8",), "subject/visit/video.mp4/frame-0.jpg", note="Frames count from 0."),
    )
})  # fmt: skip


def format_named(name: str) -> Format:
    """The format of that name; raises UnknownNameError, which names the nearest."""
    if name not in FORMATS:
        raise UnknownNameError("submission format", name, FORMATS)
    return FORMATS[name]


def video_lengths(listed: pd.DataFrame) -> dict[str, int]:
    """Video -> number of its frames, for the formats with a file per video.

    listed: `image`, `video` and `frame` of `mien.data.frame_lists.read_list`. Line k is frame k there, so the frames of a video
    must be 1, 2, 3, … in this order; raises DataError where they are not.

    >>> video_lengths(pd.DataFrame({"image": ["a/1.jpg", "a/2.jpg"], "video": "a", "frame": [1, 2]}))
    {'a': 2}
    """
    wrong = (listed["frame"] != listed.groupby("video", sort=False).cumcount() + 1).to_numpy()
    if wrong.any():
        image = listed["image"].iloc[int(wrong.argmax())]
        raise DataError(
            f"the list has {image!r} where line k of a video's file must be frame k; list every frame of a video, "
            "<video>/00001.jpg first: the names of the videos alone do not say how many lines they need"
        )
    return {
        str(video): int(count) for video, count in listed["video"].value_counts(sort=False).items()
    }


def markdown() -> list[str]:
    """The table of the formats, as lines of Markdown."""
    lines = [
        "| format | challenge | answers | a file for | rows as listed, and notes | header |",
        "|---|---|---|---|---|---|",
    ]
    for one in FORMATS.values():
        home = (
            "all"
            if one.folder is None
            else f"each video: `{one.folder + '/' if one.folder else ''}<video>.txt`"
        )
        listed = f"`{one.listed}` {one.note}".rstrip()
        header = f"`{one.header}`" if one.header else "none"
        lines.append(
            f"| `{one.name}` | {one.challenge} | {answers(one)} | {home} | {listed} | {header} |"
        )
    return lines


def answers(form: Format) -> str:
    """What a row answers, in words.

    >>> answers(FORMATS["abaw2022.mtl"])
    '2 × -1 to 1 (va), class 0 to 7 (expr.abaw8), 12 × 0 or 1 (au.abaw12)'
    """
    return ", ".join(f"{_answer(task)} ({task.key})" for task in form.tasks)


def _answer(task: Task) -> str:
    if task.kind == "one_of":
        return f"class 0 to {len(task.names) - 1}"
    count = f"{len(task.names)} × " if len(task.names) > 1 else ""
    return f"{count}0 or 1" if task.kind == "any_of" else f"{count}{task.low:g} to {task.high:g}"
