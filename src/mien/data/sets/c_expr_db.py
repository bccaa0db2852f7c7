"""C-EXPR-DB, the videos of ABAW6's and ABAW7's compound expressions, which come without labels.

`root` holds the list of frames (``CER.txt`` or another ``.txt`` with that challenge's header), the
videos in ``videos/`` (``01.mp4`` …), and, once extracted, a picture for each frame or its face:
``<video>/<number>`` with leading zeros or without, .jpg or .png.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from typing_extensions import override

from mien.data.annotation_codes import Labels, one_hot
from mien.data.frame_lists import named_frames, read_list, read_text
from mien.data.images import PICTURES
from mien.data.label_table import Split, table_of
from mien.data.presence import attach_notes, list_names, recordings
from mien.data.spec import BY_AGREEMENT, Cut, DataSet, DataSetInfo, Place
from mien.errors import DataError
from mien.tasks import TASKS, Task

__all__ = ["COMPOUND", "CExprDb", "listed_frames", "listed_table", "load_c_expr_db"]

COMPOUND: Final = TASKS["ce.abaw7"]

_HEADER: Final = ("image_location", *COMPOUND.names)


def listed_frames(root: Path) -> pd.DataFrame:
    """Read the list of the frames that the challenge asks about.

    Args:
        root: The folder that holds the list.

    Returns:
        `image`, `video` and `frame`, in official order; see `mien.data.frame_lists.read_list`.

    Raises:
        DataError: `root` holds no such list, or two.
    """
    root = Path(root)
    lists = []
    for name in sorted(list_names(root)):
        if name.lower().endswith(".txt") and _has_header(root / name):
            lists.append(root / name)
    if len(lists) != 1:
        problem = "no .txt is the list of frames"
        if lists:
            problem = f"{lists[0].name} and {lists[1].name} are both lists of frames; keep one"
        raise DataError(
            f"{root}: {problem}; the challenge calls it CER.txt, with the header "
            f"{','.join(_HEADER[:2])},…"
        )
    return read_list(lists[0])


def listed_table(root: Path, labels: Path | None = None) -> pd.DataFrame:
    """Make a label table of the listed frames, whether or not there are pictures of them.

    Args:
        root: The folder that holds the list.
        labels: A file of labels, as for `load_c_expr_db`.

    Returns:
        Each listed frame once, in no split; `image` is the listed name, as no picture is needed to
        answer a list.

    Raises:
        DataError: As for `load_c_expr_db`.
    """
    listed = listed_frames(root).drop_duplicates(["video", "frame"], ignore_index=True)
    return _table(listed, listed["image"], _codes(labels, listed))


def load_c_expr_db(
    root: Path, images: str = "cropped_aligned", labels: Path | None = None
) -> pd.DataFrame:
    """Load the label table of the listed frames that have a picture.

    Args:
        root: The folder that holds the list of frames.
        images: Folder of the pictures, within `root` or an absolute path.
        labels: Your own file of labels, with lines ``01/00001.jpg,<0..6>`` (-1: none), with or
            without the list's header.

    Returns:
        Labels of the task `COMPOUND`, NaN for frames that `labels` leaves out, in no split.
        ``attrs["notes"]`` counts frames without a picture.

    Raises:
        DataError: There are no pictures, or a label is not a known code or is of an unlisted frame.
    """
    folder = Path(root) / images
    listed = listed_frames(root)
    frames = listed.drop_duplicates(["video", "frame"], ignore_index=True)
    repeats = len(listed) - len(frames)
    codes = _codes(labels, frames)
    names = _extracted(folder, frames["video"].unique().tolist())
    pictured = frames[["video", "frame"]].merge(names, "left", ["video", "frame"])
    present = pictured["name"].notna().to_numpy()
    if not present.any():
        raise DataError(
            f"{folder}: none of {len(frames)} listed frames has a picture there; extract the "
            f"frames of {root}/videos, or name their folder by `images`"
        )
    notes = []
    if repeats:
        notes.append(f"{repeats} rows of the list repeat a frame and were left out")
    if not present.all():
        lost = (~present).sum()
        notes.append(f"{lost} of {len(present)} listed frames have no picture and were left out")
    pictured = pictured[present].reset_index(drop=True)
    start = f"{folder}{os.sep}"
    paths = start + pictured["video"].astype(str) + os.sep + pictured["name"]
    return attach_notes(_table(pictured, paths, codes[present]), notes)


def _table(frames: pd.DataFrame, images: pd.Series, codes: Labels) -> pd.DataFrame:
    """The label table of `video` and `frame` (N,), pictures (N,) and class codes (N,)."""
    videos = frames["video"].to_numpy(object)
    about = {"video": videos, "frame": frames["frame"], "subject": recordings(videos)}
    return table_of(images, about, {COMPOUND: one_hot(codes, range(len(COMPOUND.names)))})


def _has_header(path: Path) -> bool:
    """Whether a file begins as the list does; other tracks' annotation files may lie next to it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1000).decode("utf-8-sig", "replace")
    return tuple(name.strip().lower() for name in first.split(",")) == _HEADER


def _extracted(folder: Path, videos: list[str]) -> pd.DataFrame:
    """`video`, `frame` and `name` of the pictures of some videos; each frame has at most one."""
    names = []
    for video in videos:
        for name in list_names(folder / video):
            if name.lower().endswith(PICTURES):
                names.append(f"{video}/{name}")
    frames = named_frames(pa.array(names, pa.large_string()))
    repeated = frames.duplicated(["video", "frame"]).to_numpy()
    if repeated.any():
        second = frames["image"].iloc[int(repeated.argmax())]
        raise DataError(f"{folder}: {second} is a second picture of that frame; keep one")
    # A picture without a number is not a frame.
    frames = frames[frames["frame"] >= 0]
    names_only = frames["image"].str.replace(r"^.*/", "", regex=True)
    return frames.assign(name=names_only)[["video", "frame", "name"]]


def _codes(path: Path | None, frames: pd.DataFrame) -> Labels:
    """Class codes (N,) of frames, NaN if the file gives none or there is no file."""
    if path is None:
        return np.full(len(frames), np.nan, np.float32)
    path = Path(path)
    codes = _read_codes(path)
    if codes.index.has_duplicates:
        repeated = codes.index[codes.index.duplicated()][0]
        raise DataError(f"{path}: {repeated} comes twice; keep one line for each frame")
    unlisted = ~codes.index.isin(frames["image"])
    if unlisted.any():
        raise DataError(
            f"{path}: {unlisted.sum()} frames like {codes.index[int(unlisted.argmax())]} are not "
            "in the list; correct their names"
        )
    return codes.reindex(frames["image"].to_numpy(object)).to_numpy(np.float32)


def _read_codes(path: Path) -> pd.Series:
    """Class codes by frame, NaN where the file says -1."""
    rows = pd.Series(read_text(path).split("\n")).str.strip()
    # The index still counts the lines left out here, so that errors name the right line.
    rows = rows[rows != ""]
    if rows.iloc[0].lower().startswith("image"):
        rows = rows.iloc[1:]
    fields = rows.str.split(",", n=1, expand=True).reindex(columns=[0, 1])
    values = pd.to_numeric(fields[1], errors="coerce")
    wrong = ~values.isin([-1, *range(len(COMPOUND.names))]).to_numpy()
    if wrong.any():
        line = int(rows.index[int(wrong.argmax())]) + 1
        raise DataError(
            f"{path}: line {line} is not <video>/<frame>.jpg,<0 to {len(COMPOUND.names) - 1}, "
            "or -1>; correct it"
        )
    codes = pd.Series(values.to_numpy(np.float32), index=fields[0].to_numpy(object))
    return codes.replace(-1, np.nan)


class CExprDb(DataSet):
    """C-EXPR-DB; has ``ce.abaw7`` if `labels` are given. See `mien.data.sets.c_expr_db`."""

    info: ClassVar = DataSetInfo(
        name="C-EXPR-DB",
        title=None,
        terms=BY_AGREEMENT,
        supervision={"ce": "labels added to C-EXPR-DB, which comes without"},
        tasks=("ce.abaw7",),
        source="the videos of C-EXPR-DB and the list CER.txt from the ABAW organisers, under a "
        "signed agreement",
        paper="Kollias 2023, Multi-label compound expression recognition: C-EXPR database & "
        "network",
    )

    set: Literal["c-expr-db"]
    root: Place
    """Holds the list of frames."""
    images: str = "cropped_aligned"
    """Folder of the extracted frames or faces, within the root or an absolute path."""
    labels: Place | None = None
    """Your own file of labels, one line ``01/00001.jpg,<0..6>`` per frame."""
    split: Split | Cut = "test"
    """The split that all frames are in, or a cut."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_c_expr_db(self.root, self.images, self.labels), (COMPOUND,)
