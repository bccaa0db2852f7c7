"""Settings of the data sets of the ABAW challenges, and the label tables they lead to."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import pandas as pd
from pydantic import AliasChoices, Field, field_validator

from mien.data.label_table import Split
from mien.data.presence import Missing
from mien.data.sets.afewva import load_afew_va
from mien.data.sets.affectnet import AFFECTNET_TASKS, load_affectnet
from mien.data.sets.affwild2 import Track, dense_tasks, load_aff_wild2
from mien.data.sets.c_expr_db import COMPOUND, load_c_expr_db
from mien.data.sets.expw import EXPW, load_expw
from mien.data.sets.lsd import LSD, load_lsd
from mien.data.sets.rafdb import RAF, load_raf_db
from mien.data.sets.s_affwild2 import MTL_TASKS, load_s_aff_wild2
from mien.data.spec import Cut, Place, Spec
from mien.tasks import TASKS, Task

__all__ = [
    "ABAW_NAMES",
    "AbawSet",
    "AfewVa",
    "AffWild2",
    "AffectNet",
    "CExprDb",
    "ExpW",
    "Lsd",
    "RafDb",
    "SAffWild2",
    "load_abaw",
]

ABAW_NAMES: Final = {
    "s-aff-wild2": "s-Aff-Wild2",
    "aff-wild2": "Aff-Wild2",
    "lsd": "LSD",
    "c-expr-db": "C-EXPR-DB",
    "affectnet": "AffectNet",
    "raf-db": "RAF-DB",
    "expw": "ExpW",
    "afew-va": "AFEW-VA",
}
"""What people call the sets."""


class SAffWild2(Spec):
    """s-Aff-Wild2; has ``va``, ``expr.abaw8`` and ``au.abaw12``; splits train, val, test. See `mien.data.sets.s_affwild2`."""

    set: Literal["s-aff-wild2"]
    root: Place
    """Holds the annotation files."""
    images: str = "cropped_aligned"
    """Folder of the pictures, within the root or an absolute path."""
    missing: Missing = "error"
    """What becomes of listed pictures that are not there: ``error`` or ``drop``."""


class AffWild2(Spec):
    """Dense Aff-Wild2; has the tasks of its tracks; splits train and val. See `mien.data.sets.affwild2`."""

    set: Literal["aff-wild2"]
    root: Place
    """Holds the folders of the tracks, or one that does."""
    tracks: Annotated[
        tuple[Track, ...],
        Field(strict=False, min_length=1, validation_alias=AliasChoices("tracks", "track")),
    ]
    """``va``, ``expr``, ``au``, or a list of them; also called ``track``."""
    images: str = "cropped_aligned"
    """Folder of the pictures, within the root or an absolute path."""
    classes: Literal[7, 8] = 8
    """Of the expression track: 7 in ABAW2 (``expr.abaw7``), 8 since (``expr.abaw8``)."""

    @field_validator("tracks", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("tracks")
    @classmethod
    def _once(cls, value: tuple[Track, ...]) -> tuple[Track, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a track is named twice")
        return value


class Lsd(Spec):
    """Learning from synthetic data; has ``expr.lsd6``; splits train, val, test. See `mien.data.sets.lsd`."""

    set: Literal["lsd"]
    root: Place
    """Holds the folders of synthetic and real pictures."""
    train: Place | None = None
    """Folder of training pictures that stand in for the official ones, such as super-resolved ones."""


class CExprDb(Spec):
    """C-EXPR-DB; has ``ce.abaw7`` where one's own labels say it. See `mien.data.sets.c_expr_db`."""

    set: Literal["c-expr-db"]
    root: Place
    """Holds the list of frames."""
    images: str = "cropped_aligned"
    """Folder of the extracted frames or faces, within the root or an absolute path."""
    labels: Place | None = None
    """File of one's own labels, ``01/00001.jpg,<0..6>`` a line."""
    split: Split | Cut = "test"
    """The split that all frames are in, or a cut."""


class AffectNet(Spec):
    """AffectNet; has ``expr.affectnet8`` and ``va``; splits train and val. See `mien.data.sets.affectnet`."""

    set: Literal["affectnet"]
    root: Place
    """Holds train_set and val_set, or training.csv and validation.csv."""


class RafDb(Spec):
    """RAF-DB, basic expressions; has ``expr.abaw7``; splits train and test, and val by share. See `mien.data.sets.rafdb`."""

    set: Literal["raf-db"]
    root: Place
    """Holds EmoLabel and Image."""
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training faces that becomes the split val; null: none."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """The same seed gives the same val."""


class ExpW(Spec):
    """ExpW; has ``expr.abaw7``. See `mien.data.sets.expw`."""

    set: Literal["expw"]
    root: Place
    """Holds label.lst and image."""
    images: str = "image/origin"
    """Folder of the pictures, within the root or an absolute path."""
    confidence: Annotated[float, Field(strict=False, ge=0)] = 0.0
    """Faces that the detector was less sure of are left out."""
    missing: Missing = "error"
    """What becomes of listed pictures that are not there: ``error`` or ``drop``."""
    split: Split | Cut = "train"
    """The split that all faces are in, or a cut by subject, which here is the picture."""

    @field_validator("split")
    @classmethod
    def _whole_pictures(cls, value: Split | Cut) -> Split | Cut:
        if isinstance(value, Cut) and value.by != "subject":
            raise ValueError(
                "give `by: subject`, which is the picture, so that the faces of a picture are in one split"
            )
        return value


class AfewVa(Spec):
    """AFEW-VA; has ``va``. See `mien.data.sets.afewva`."""

    set: Literal["afew-va"]
    root: Place
    """Holds the folders 01 to 12."""
    missing: Missing = "error"
    """What becomes of frames whose picture is not there: ``error`` or ``drop``."""
    split: Split | Cut = "train"
    """The split that all frames are in, or a cut by video or subject."""

    @field_validator("split")
    @classmethod
    def _whole_videos(cls, value: Split | Cut) -> Split | Cut:
        if isinstance(value, Cut) and value.by is None:
            raise ValueError(
                "give `by: video` or `by: subject`, so that the frames of a video are in one split"
            )
        return value


AbawSet = SAffWild2 | AffWild2 | Lsd | CExprDb | AffectNet | RafDb | ExpW | AfewVa


def load_abaw(spec: AbawSet) -> tuple[pd.DataFrame, Sequence[Task]]:
    """The label table of a set, with all tasks it has; what was left out is in `attrs["notes"]`. Raises DataError as its loader does."""
    if isinstance(spec, ExpW | AfewVa | RafDb):
        return _helpers(spec)
    if isinstance(spec, SAffWild2):
        return load_s_aff_wild2(spec.root, spec.images, spec.missing), MTL_TASKS
    if isinstance(spec, AffWild2):
        return load_aff_wild2(spec.root, spec.tracks, spec.images, spec.classes), dense_tasks(
            spec.tracks, spec.classes
        )
    if isinstance(spec, Lsd):
        return load_lsd(spec.root, spec.train), (LSD,)
    if isinstance(spec, CExprDb):
        return load_c_expr_db(spec.root, spec.images, spec.labels), (COMPOUND,)
    return load_affectnet(spec.root), AFFECTNET_TASKS


def _helpers(spec: ExpW | AfewVa | RafDb) -> tuple[pd.DataFrame, Sequence[Task]]:
    if isinstance(spec, ExpW):
        return load_expw(spec.root, spec.images, spec.confidence, spec.missing), (EXPW,)
    if isinstance(spec, AfewVa):
        return load_afew_va(spec.root, spec.missing), (TASKS["va"],)
    return load_raf_db(spec.root, spec.val_share, spec.seed), (RAF,)
