"""The CSV of Py-Feat's Fex (version 2 names): what `feat.utils.io.read_feat` reads."""

from typing import ClassVar, Final

from mien.outputs.cells import quoted
from mien.outputs.columns import Column
from mien.outputs.writers.fields import FieldTable, TextField, decimals, landmark_fields

__all__ = ["Fex"]

_BOXES: Final = {
    "FaceRectX": "box_x",
    "FaceRectY": "box_y",
    "FaceRectWidth": "box_w",
    "FaceRectHeight": "box_h",
}
# Its `EMOTION_COLUMNS_V2`, in order; contempt has no column there.
_EMOTIONS: Final = {
    "Neutral": "expr_neutral",
    "Happy": "expr_happiness",
    "Sad": "expr_sadness",
    "Surprise": "expr_surprise",
    "Fear": "expr_fear",
    "Disgust": "expr_disgust",
    "Anger": "expr_anger",
}


class Fex(FieldTable):
    """Py-Feat's CSV; contempt, and scores before smoothing, have no place in it.

    Its reader takes every column that contains ``AU`` for an action unit, so nothing else may.
    """

    suffix: ClassVar[str] = "fex.csv"

    @classmethod
    def fields(cls, columns: dict[str, Column]) -> list[TextField]:
        """The fields that a table gives.

        Args:
            columns: The columns of the table by name.

        Returns:
            The fields; the reader goes by names, not by order.
        """
        fields = [*_PLAIN, *landmark_fields(columns)]
        for name, source in _EMOTIONS.items():
            if source in columns:
                meaning = f"{columns[source].meaning} Py-Feat's name of {source}."
                fields.append(_score(name, columns[source], meaning))
        for name, column in columns.items():
            is_unit = name.startswith("AU") and not column.raw and not name.endswith("_raw")
            if is_unit or name in ("valence", "arousal"):
                fields.append(_score(name, column, column.meaning))
        return fields


def _score(name: str, column: Column, meaning: str) -> TextField:
    described = Column(name, "float32", meaning, column.unit, column.low, column.high)
    return TextField(described, column.name, decimals(5))


def _minutes(time_s: float) -> str:
    minutes, seconds = divmod(int(time_s), 60)
    return f"{minutes:02d}:{seconds:02d}"


def _box(name: str, source: str) -> TextField:
    column = Column(name, "float32", f"As mien's {source}.", "pixels")
    return TextField(column, source, decimals(2))


_PLAIN: Final = (
    TextField(Column("frame", "int64", "Number of the frame, from 0.", "count", 0), "frame", str),
    TextField(Column("input", "str", "The path or name of the input."), "source", quoted),
    TextField(
        Column("approx_time", "str", "Time of the frame in minutes and seconds."),
        "time_s",
        _minutes,
    ),
    *(_box(name, source) for name, source in _BOXES.items()),
    TextField(
        Column("FaceScore", "float32", "How sure the detector is.", "score", 0, 1),
        "confidence",
        decimals(5),
    ),
    TextField(
        Column("Identity", "str", "The face, by mien's number of it."),
        "face",
        lambda number: f"Person_{number}",
    ),
)
