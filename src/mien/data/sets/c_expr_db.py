"""C-EXPR-DB, the videos of the compound-expression challenges of ABAW6 and ABAW7, which come without labels.

`root` holds the list of frames (``CER.txt`` or another ``.txt`` with that challenge's header), the videos in ``videos/`` (``01.mp4`` …),
and, once extracted, a picture for each frame or its face: ``<video>/<number>`` with leading zeros or without, .jpg or .png.
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
    """The frames that the challenge asks about, `image`, `video`, `frame`, in official order; see `mien.data.frame_lists.read_list`.

    Raises DataError where `root` holds no such list, or two.
    """
    root = Path(root)
    found = [
        root / name
        for name in sorted(list_names(root))
        if name.lower().endswith(".txt") and _has_header(root / name)
    ]
    if len(found) != 1:
        said = (
            f"{found[0].name} and {found[1].name} are both lists of frames; keep one"
            if found
            else "no .txt is the list of frames"
        )
        raise DataError(
            f"{root}: {said}; the challenge calls it CER.txt, with the header {','.join(_HEADER[:2])},…"
        )
    return read_list(found[0])


def listed_table(root: Path, labels: Path | None = None) -> pd.DataFrame:
    """A label table of the listed frames, each once, in no split; `image` is the listed name, as no picture is needed to answer a list.

    labels: as in `load_c_expr_db`. Raises DataError as that does.
    """
    listed = listed_frames(root).drop_duplicates(["video", "frame"], ignore_index=True)
    codes = (
        np.full(len(listed), np.nan, np.float32) if labels is None else _codes(Path(labels), listed)
    )
    videos = listed["video"].to_numpy(object)
    about = {"video": videos, "frame": listed["frame"], "subject": recordings(videos)}
    return table_of(listed["image"], about, {COMPOUND: one_hot(codes, range(len(COMPOUND.names)))})


def _has_header(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1000).decode("utf-8-sig", "replace")
    return tuple(name.strip().lower() for name in first.split(",")) == _HEADER


def load_c_expr_db(
    root: Path, images: str = "cropped_aligned", labels: Path | None = None
) -> pd.DataFrame:
    """The label table of the listed frames that have a picture, in no split: `COMPOUND`, NaN but for what `labels` says.

    images: folder of the pictures, within `root` or an absolute path. labels: a file of one's own with lines ``01/00001.jpg,<0..6>`` (-1:
    none), with the list's header or without. `attrs["notes"]` counts frames without a picture.
    Raises DataError where no picture is there, and for labels of frames that are not listed, or that are no code.
    """
    folder = Path(root) / images
    listed = listed_frames(root)
    table = listed.drop_duplicates(["video", "frame"], ignore_index=True)
    repeats, notes = len(listed) - len(table), list[str]()
    codes = (
        np.full(len(table), np.nan, np.float32) if labels is None else _codes(Path(labels), table)
    )
    found = table[["video", "frame"]].merge(
        _extracted(folder, table["video"].unique().tolist()), "left", ["video", "frame"]
    )
    there = found["name"].notna().to_numpy()
    if not there.any():
        raise DataError(
            f"{folder}: none of {len(table)} listed frames has a picture there; extract the frames of {root}/videos, or name their folder "
            "by `images`"
        )
    notes += [f"{repeats} rows of the list repeat a frame and were left out"] if repeats else []
    notes += (
        [f"{(~there).sum()} of {len(there)} listed frames have no picture and were left out"]
        if not there.all()
        else []
    )
    found, codes = found[there].reset_index(drop=True), codes[there]
    videos = found["video"].to_numpy(object)
    about = {"video": videos, "frame": found["frame"], "subject": recordings(videos)}
    image = f"{folder}{os.sep}" + found["video"].astype(str) + os.sep + found["name"]
    return attach_notes(
        table_of(image, about, {COMPOUND: one_hot(codes, range(len(COMPOUND.names)))}), notes
    )


def _extracted(folder: Path, videos: list[str]) -> pd.DataFrame:
    """`video`, `frame` and `name` of the pictures of some videos; raises DataError for two pictures of one frame."""
    names = [
        f"{video}/{name}"
        for video in videos
        for name in list_names(folder / video)
        if name.lower().endswith(PICTURES)
    ]
    found = named_frames(pa.array(names, pa.large_string()))
    twice = found.duplicated(["video", "frame"]).to_numpy()
    if twice.any():
        raise DataError(
            f"{folder}: {found['image'].iloc[int(twice.argmax())]} is a second picture of that frame; keep one"
        )
    return found[found["frame"] >= 0].assign(
        name=found["image"].str.replace(r"^.*/", "", regex=True)
    )[["video", "frame", "name"]]


def _codes(path: Path, table: pd.DataFrame) -> Labels:
    """Class codes (N,) of the rows of `table`, NaN where the file says none."""
    rows = pd.Series(read_text(path).split("\n")).str.strip()
    rows = rows[rows != ""]
    if rows.iloc[0].lower().startswith("image"):
        rows = rows.iloc[1:]
    parts = rows.str.split(",", n=1, expand=True).reindex(columns=[0, 1])
    found = pd.to_numeric(parts[1], errors="coerce")
    wrong = (~found.isin([-1, *range(len(COMPOUND.names))])).to_numpy()
    if wrong.any():
        line = int(rows.index[int(wrong.argmax())]) + 1
        raise DataError(
            f"{path}: line {line} is not <video>/<frame>.jpg,<0 to {len(COMPOUND.names) - 1}, or -1>; correct it"
        )
    given = pd.Series(found.to_numpy(np.float32), index=parts[0].to_numpy(object)).replace(
        -1, np.nan
    )
    if given.index.has_duplicates:
        raise DataError(
            f"{path}: {given.index[given.index.duplicated()][0]} comes twice; keep one line for each frame"
        )
    strange = ~given.index.isin(table["image"])
    if strange.any():
        raise DataError(
            f"{path}: {strange.sum()} frames like {given.index[int(strange.argmax())]} are not in the list; correct their names"
        )
    return given.reindex(table["image"].to_numpy(object)).to_numpy(np.float32)


class CExprDb(DataSet):
    """C-EXPR-DB; has ``ce.abaw7`` where one's own labels say it. See `mien.data.sets.c_expr_db`."""

    info: ClassVar = DataSetInfo(
        name="C-EXPR-DB",
        title=None,
        terms=BY_AGREEMENT,
        supervision={"ce": "labels added to C-EXPR-DB, which comes without"},
        tasks=("ce.abaw7",),
        source="the videos of C-EXPR-DB and the list CER.txt from the ABAW organisers, under a "
        "signed agreement",
        paper="Kollias 2023, Multi-label compound expression recognition: C-EXPR database & network",
    )

    set: Literal["c-expr-db"]
    root: Place
    """Holds the list of frames."""
    images: str = "cropped_aligned"
    """Folder of the extracted frames or faces, within the root or an absolute path."""
    labels: Place | None = None
    """File of one's own labels, ``01/00001.jpg,<0..6>`` a line."""
    split: Split | Cut = "test"
    """The split that all frames are in, or a cut."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        return load_c_expr_db(self.root, self.images, self.labels), (COMPOUND,)
