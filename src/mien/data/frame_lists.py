"""Lists of the frames, pictures or clips that a challenge asks about, in their official order.

Lists with a header: ``image,valence,…`` (multi-task), ``image,expression`` (synthetic data),
``image_location,…`` (dense tracks and compounds), ``Filename,…`` (emotional mimicry). Without one:
ambivalence (BAH), and names of videos, one a line. What follows the first comma of a row, a bare
comma or a dummy 0, says nothing and is left off.
"""

import codecs
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mien.data.images import PICTURES
from mien.errors import DataError

__all__ = ["MTL_LISTS", "mtl_test_list", "named_frames", "read_list", "read_text"]

MTL_LISTS: Final = ("MTL_Challenge_test_set_release.txt", "MTL.txt")
"""Names of the multi-task challenge's test list, of ABAW4 and ABAW7."""

_HEADERS: Final = ("image", "image_location", "image_path", "filename")
_PICTURE: Final = r"(?i)\.(" + "|".join(suffix[1:] for suffix in PICTURES) + ")$"


def read_text(path: Path) -> str:
    """Read an annotation file or list.

    Args:
        path: A file in UTF-8, with or without a byte-order mark.

    Returns:
        The text, line ends as they are.

    Raises:
        DataError: The file is missing, empty, or in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; give the file as the challenge gives it out"
        ) from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4096]:
        raise DataError(
            f"{path}: encoded as UTF-16, not UTF-8; take the original file, or save it again as "
            "UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; take the original file, or save it again as "
            "UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty; take the original file")
    return text


def read_list(path: Path) -> pd.DataFrame:
    """Read a list of frames, pictures or clips.

    Args:
        path: The list.

    Returns:
        Its rows in its order, rows that come twice included. `image` is the name as listed;
        `video` the folders of the name, ``""`` where it has none; `frame` the number at the end of
        a picture's name, -1 where there is none. A name that is no picture is a clip, and its own
        video.

    Raises:
        DataError: The file is no list.
    """
    path = Path(path)
    lines = pa.array(read_text(path).split("\n"), pa.large_string())
    names = pc.utf8_trim_whitespace(pc.replace_substring_regex(lines, r"(?s),.*", ""))
    written = pc.utf8_trim_whitespace(lines)
    # A line of blanks is none; a line of commas lacks its name.
    filled = pc.not_equal(written, "").to_numpy(zero_copy_only=False)
    bare = filled & pc.equal(names, "").to_numpy(zero_copy_only=False)
    if bare.any():
        raise DataError(
            f"{path}: line {int(bare.argmax()) + 1} names no picture; take the original file"
        )
    names = names.filter(pa.array(filled))
    if names[0].as_py().lower() in _HEADERS:
        names = names.slice(1)
    if not len(names):
        raise DataError(f"{path}: lists nothing below its header; take the original file")
    return named_frames(names)


def named_frames(names: "pa.Array") -> pd.DataFrame:
    """Read video and frame out of names.

    Args:
        names: Names (N,) as text.

    Returns:
        `image`, `video` and `frame` (N rows); see `read_list`.

    >>> named_frames(pa.array(["video45_1/00012.jpg", "7.jpg", "00031"])).to_numpy().tolist()
    [['video45_1/00012.jpg', 'video45_1', 12], ['7.jpg', '', 7], ['00031', '00031', -1]]
    >>> named_frames(pa.array(["a/b/c.mp4/frame-0.jpg"])).to_numpy().tolist()
    [['a/b/c.mp4/frame-0.jpg', 'a/b/c.mp4', 0]]
    """
    picture = pc.match_substring_regex(names, _PICTURE)
    folder = pc.replace_substring_regex(names, r"/?[^/]*$", "")
    video = pc.if_else(picture, folder, names)
    match = pc.extract_regex(names, r"(?P<digits>[0-9]{1,9})\.[^./]*$")
    digits = pc.if_else(picture, pc.struct_field(match, "digits"), None)
    frame = pc.fill_null(pc.cast(digits, pa.int64()), -1)
    # Few videos have many frames: one text each is enough.
    codes = pc.dictionary_encode(video)
    texts = np.array(codes.dictionary.to_pylist(), object)
    videos = pd.Series(texts[codes.indices.to_numpy(zero_copy_only=False)], dtype=object)
    frames = frame.to_numpy(zero_copy_only=False).astype(np.int64)
    return pd.DataFrame({"image": names.to_pandas(), "video": videos, "frame": frames})


def mtl_test_list(path: Path) -> pd.DataFrame:
    """Read the test list of the multi-task challenge.

    Args:
        path: The list, or the folder that holds it.

    Returns:
        Its rows, as `read_list` gives them.

    Raises:
        DataError: There is no list, or a row is not ``<video>/<number>.jpg``.
    """
    path = Path(path)
    if path.is_dir():
        lists = [path / name for name in MTL_LISTS if (path / name).is_file()]
        if not lists:
            raise DataError(
                f"{path}: holds no test list named {' or '.join(MTL_LISTS)}; copy it there, or "
                "give the file"
            )
        path = lists[0]
    table = read_list(path)
    wrong = ((table["video"] == "") | (table["frame"] < 0)).to_numpy()
    if wrong.any():
        raise DataError(
            f"{path}: {wrong.sum()} rows like {table['image'][int(wrong.argmax())]!r} are not "
            "<video>/<number>.jpg; this is the list of another challenge"
        )
    return table
