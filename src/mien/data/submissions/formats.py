"""Every submission format as data: exact header, fields, ranges, and how rows are named.

A format is named as its protocol, by year. A header may name more columns than a row has fields
(one class number below eight names) or fewer (twelve units below ``aus``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pandas as pd

from mien.errors import DataError
from mien.extensions.entry_points import WRITERS, Extension, extensions
from mien.tasks import TASKS, Task, challenge_key

__all__ = [
    "DIGITS",
    "FORMATS",
    "Field",
    "Format",
    "all_formats",
    "answers",
    "format_named",
    "markdown",
    "video_lengths",
]

DIGITS: Final = 6
"""Decimals of every value that is no decision."""


@dataclass(frozen=True, slots=True)
class Field:
    """What one field of a row may hold.

    Attributes:
        name: For messages.
        low: The lowest value.
        high: The highest value.
        whole: A whole number (a class, or 0/1) and no other.
    """

    name: str
    low: float
    high: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Format:
    """The file that one challenge takes.

    Attributes:
        name: The protocol's name.
        challenge: The challenges that took it.
        header: The exact first line; "" = none.
        keys: The tasks (`TASKS`) whose fields a row holds, in order.
        listed: An example of how the official list names a row. The name is the row's first field,
            unless there is a file per video.
        frames: Rows are frames of videos, so what was not measured can be filled from its
            neighbours; else each row stands alone.
        folder: None for one file; else there is one file ``<video>.txt`` per video, in this folder
            ("" = the submission itself), and line k after the header is frame k.
        note: What else the challenge asks.
        films: Rows are whole films, each answered by the mean over its frames.
        chances: Before each decision come the chances of no and of yes, which sum to 1.
        source: Where the layout was read, unless the organisers' page of the edition says it.
    """

    name: str
    challenge: str
    header: str
    keys: tuple[str, ...]
    listed: str
    frames: bool = True
    folder: str | None = None
    note: str = ""
    films: bool = False
    chances: bool = False
    source: str = ""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of their fields."""
        return tuple(TASKS[key] for key in self.keys)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a row after its name: one class number, or one field per name of a task.

        >>> [field.name for field in FORMATS["abaw2022.mtl"].fields][:4]
        ['valence', 'arousal', 'expr', 'AU01']
        >>> FORMATS["abaw2024.ce"].fields
        (Field(name='ce', low=0, high=6, whole=True),)
        """
        fields: list[Field] = []
        if self.chances:
            fields = [Field("p0", 0, 1, whole=False), Field("p1", 0, 1, whole=False)]
        for task in self.tasks:
            fields += _fields(task)
        return tuple(fields)

    @property
    def rules(self) -> tuple[object, ...]:
        """All that a file is checked by: formats of two years may differ in their name alone."""
        return self.header, self.keys, self.frames, self.folder, self.chances


def _fields(task: Task) -> list[Field]:
    if task.kind == "one_of":
        return [Field(task.family, 0, len(task.names) - 1, whole=True)]
    whole = task.kind == "any_of"
    return [Field(name, task.low, task.high, whole) for name in task.names]


_EIGHT: Final = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
_UNITS: Final = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
_COMPOUNDS: Final = (
    "Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
    "Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
)
_EMOTIONS: Final = "Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
_FRAME: Final = "14-30-1920x1080/00001.jpg"
_FRAME_OF_VIDEO: Final = "video1/00001.jpg"

# Header, tasks and example of a row, of formats that several years share.
_MTL: Final = (
    "image,valence,arousal,expression,aus",
    ("va", "expr.abaw8", "au.abaw12"),
    "video45_1/00001.jpg",
)
_EXPR: Final = (f"image_location,{_EIGHT}", ("expr.abaw8",), _FRAME)
_VA: Final = ("image_location,valence,arousal", ("va",), _FRAME)
_AU: Final = (f"image_location,{_UNITS}", ("au.abaw12",), _FRAME)
_CE: Final = (f"image_location,{_COMPOUNDS}", ("ce.abaw7",), "01/00001.jpg")
_EMI: Final = (f"Filename,{_EMOTIONS}", ("emi.abaw6",), "00001")
# The same with a file per video, whose rows have no name.
_EXPR7_FILES: Final = (_EIGHT.removesuffix(",Other"), ("expr.abaw7",), _FRAME_OF_VIDEO)
_EXPR_FILES: Final = (_EIGHT, ("expr.abaw8",), _FRAME_OF_VIDEO)
_VA_FILES: Final = ("valence,arousal", ("va",), _FRAME_OF_VIDEO)
_AU_FILES: Final = (_UNITS, ("au.abaw12",), _FRAME_OF_VIDEO)
_LSD: Final = ("image,expression", ("expr.lsd6",), "0.jpg")
_AH: Final = ("", ("ah.abaw8",), "subject/visit/video.mp4/frame-0.jpg")
_MTL_NOTE: Final = "ABAW3 wants the file named MTL_predictions.txt."

_ALL: Final = (
    Format("abaw2021.expr", "ABAW2", *_EXPR7_FILES, folder="EXPR_Set"),
    Format("abaw2021.va", "ABAW2", *_VA_FILES, folder="VA_Set"),
    Format("abaw2022.expr", "ABAW3", *_EXPR_FILES, folder=""),
    Format("abaw2022.va", "ABAW3", *_VA_FILES, folder=""),
    Format("abaw2022.au", "ABAW3", *_AU_FILES, folder=""),
    Format("abaw2022.mtl", "ABAW3, ABAW4", *_MTL, note=_MTL_NOTE),
    Format("abaw2022.lsd", "ABAW4", *_LSD, frames=False),
    Format("abaw2023.expr", "ABAW5", *_EXPR),
    Format("abaw2023.va", "ABAW5", *_VA),
    Format("abaw2023.au", "ABAW5", *_AU),
    Format("abaw2024.expr", "ABAW6", *_EXPR),
    Format("abaw2024.va", "ABAW6", *_VA),
    Format("abaw2024.au", "ABAW6", *_AU),
    Format("abaw2024.ce", "ABAW6, ABAW7", *_CE),
    Format("abaw2024.emi", "ABAW6", *_EMI, frames=False, films=True),
    Format("abaw2024.mtl", "ABAW7", *_MTL),
    Format("abaw2025.expr", "ABAW8", *_EXPR),
    Format("abaw2025.emi", "ABAW8", *_EMI, frames=False, films=True),
    Format("abaw2025.ah", "ABAW8", *_AH, note="Frames count from 0."),
    Format(
        "abaw2026.ah",
        "ABAW10, ABAW11",
        "",
        ("ah.abaw8",),
        "Videos/82711/Visite_1/82711_Video.mp4",
        frames=False,
        films=True,
        chances=True,
        note="A row has the chances of no and of yes, which sum to exactly 1, then 0 or 1.",
        source="code of entrants: github.com/LEYA-HSE/ABAW10-BAH, "
        "github.com/wmivikas/ABAW2026-Task2-ECCV",
    ),
)
FORMATS: Final[Mapping[str, Format]] = MappingProxyType({form.name: form for form in _ALL})
"""Every format by name."""


def format_named(name: str) -> Format:
    """The format of that name.

    Args:
        name: A key of `FORMATS`, or one with an edition in place of the year; or of an extension.

    Returns:
        The format.

    Raises:
        UnknownNameError: For another name; it names the choices.
        ExtensionError: The extension cannot be used.
    """
    extension = extensions(WRITERS, FORMATS).get(name)
    if extension is not None:
        form = _format_of(extension)
        if form is None:
            raise extension.refused("is no mien.extend.SubmissionFormat")
        return form
    return FORMATS[challenge_key("submission format", name, FORMATS)]


def all_formats() -> dict[str, Format]:
    """List every format, mien's own and those of extensions.

    Returns:
        The formats by name.

    Raises:
        ExtensionError: An extension cannot be used.
    """
    by_name = dict(FORMATS)
    for name, extension in extensions(WRITERS, FORMATS).items():
        form = _format_of(extension)
        # Writers of tables are in the same group of entry points.
        if form is not None:
            by_name[name] = form
    return by_name


def _format_of(extension: Extension) -> Format | None:
    """The format that an extension brings; None if it brings something else."""
    form = extension.load()
    if not isinstance(form, Format):
        return None
    if form.name != extension.entry.name:
        raise extension.refused(f"is a format named {form.name!r}, not as its entry point")
    unknown = [key for key in form.keys if key not in TASKS]
    if unknown:
        raise extension.refused(f"answers {', '.join(unknown)}, and there is no such task")
    return form


def video_lengths(listed: pd.DataFrame) -> dict[str, int]:
    """Frames of every video, for the formats with a file per video.

    Args:
        listed: `image`, `video` and `frame` of `mien.data.frame_lists.read_list`.

    Returns:
        Video -> number of its frames.

    Raises:
        DataError: Where the frames of a video are not 1, 2, 3, … in this order: line k of its file
            is frame k.

    >>> images = ["a/1.jpg", "a/2.jpg"]
    >>> video_lengths(pd.DataFrame({"image": images, "video": "a", "frame": [1, 2]}))
    {'a': 2}
    """
    # Rows of a file per video have no name: only their place says which frame they answer.
    expected = listed.groupby("video", sort=False).cumcount() + 1
    wrong = (listed["frame"] != expected).to_numpy()
    if wrong.any():
        image = listed["image"].iloc[int(wrong.argmax())]
        raise DataError(
            f"the list has {image!r} where line k of a video's file must be frame k; "
            "list every frame of a video, <video>/00001.jpg first: "
            "the names of the videos alone do not say how many lines they need"
        )
    counts = listed["video"].value_counts(sort=False)
    return {str(video): int(count) for video, count in counts.items()}


def markdown() -> list[str]:
    """The table of the formats.

    Returns:
        Lines of Markdown.
    """
    lines = [
        "| format | challenge | answers | a file for | rows as listed, and notes | header |",
        "|---|---|---|---|---|---|",
    ]
    for form in FORMATS.values():
        remark = f"{form.note} {_read_in(form)}".strip()
        listed = f"`{form.listed}` {remark}".rstrip()
        cells = (
            f"`{form.name}`",
            form.challenge,
            answers(form),
            _file_for(form),
            listed,
            f"`{form.header}`" if form.header else "none",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _read_in(form: Format) -> str:
    return f"Read in {form.source}." if form.source else ""


def answers(form: Format) -> str:
    """What a row answers, in words.

    Args:
        form: The format.

    Returns:
        Its tasks with the values they take.

    >>> answers(FORMATS["abaw2022.mtl"])
    '2 × -1 to 1 (va), class 0 to 7 (expr.abaw8), 12 × 0 or 1 (au.abaw12)'
    """
    return ", ".join(f"{_answer(task)} ({task.key})" for task in form.tasks)


def _file_for(form: Format) -> str:
    if form.folder is None:
        return "all"
    folder = f"{form.folder}/" if form.folder else ""
    return f"each video: `{folder}<video>.txt`"


def _answer(task: Task) -> str:
    if task.kind == "one_of":
        return f"class 0 to {len(task.names) - 1}"
    count = f"{len(task.names)} × " if len(task.names) > 1 else ""
    values = "0 or 1" if task.kind == "any_of" else f"{task.low:g} to {task.high:g}"
    return count + values
