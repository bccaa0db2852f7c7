"""OpenFace 2.2's CSV: one recording per file, frames from 1, seconds, action units at the end."""

from math import pi
from typing import ClassVar, Final

import pyarrow as pa

from mien.errors import OutputError
from mien.outputs.columns import Column
from mien.outputs.writers.fields import FieldTable, TextField, decimals, landmark_fields
from mien.records import Status

__all__ = ["THRESHOLD", "OpenFace", "OpenFaceIntensities"]

# OpenFace's order. Presence has AU28 as well, which has no intensity there.
_INTENSITIES: Final = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12",
    "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45",
)  # fmt: skip
_PRESENCES: Final = (*_INTENSITIES[:-1], "AU28", "AU45")
THRESHOLD: Final = 0.5
"""Activation from which a unit is present where the bundle's card says nothing else."""


class OpenFace(FieldTable):
    """OpenFace's CSV, with the presence of action units (``_c``) and without what is not measured.

    Frames without a face stay, with success 0 and empty fields. So are interpolated rows (status
    ``gap``) and doubtful ones marked, because OpenFace's users drop rows without success.
    """

    suffix: ClassVar[str] = "openface.csv"
    intensities: ClassVar[bool] = False

    @classmethod
    def fields(cls, columns: dict[str, Column]) -> list[TextField]:
        """The fields that a table gives.

        Args:
            columns: The columns of the table by name.

        Returns:
            The fields in OpenFace's order.
        """
        fields = [*_PLAIN]
        fields += [field for field in _POSE if field.source in columns]
        fields += landmark_fields(columns)
        if cls.intensities:
            fields += [_intensity(name) for name in _INTENSITIES if name in columns]
        fields += [_presence(columns[name]) for name in _PRESENCES if name in columns]
        return fields

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows.

        Args:
            batch: The rows, with the columns of the table.

        Raises:
            OutputError: They come from several recordings, which the format cannot tell apart.
        """
        for name in batch.column("source").unique().to_pylist():
            self._source = getattr(self, "_source", name)
            if name != self._source:
                raise OutputError(
                    f"OpenFace's CSV holds one recording, not {self._source!r} and {name!r}; "
                    "write each one's table by itself, or choose fex, which names the input"
                )
        super().write(batch)


class OpenFaceIntensities(OpenFace):
    """The same, with activations on OpenFace's scale of intensities, 0 to 5 (``_r``)."""

    intensities: ClassVar[bool] = True


def _success(status: str) -> str:
    return "1" if status == Status.ok else "0"


def _presence(unit: Column) -> TextField:
    threshold = THRESHOLD if unit.present_from is None else unit.present_from
    meaning = f"Whether the activation of {unit.name} is at least {threshold:g}."
    column = Column(f"{unit.name}_c", "Int64", meaning, "", 0, 1)
    return TextField(column, unit.name, lambda activation: "1" if activation >= threshold else "0")


def _intensity(name: str) -> TextField:
    meaning = (
        f"Five times mien's activation of {name}: OpenFace's scale, on which it was asked for, "
        "but no FACS intensity (A to E)."
    )
    column = Column(f"{name}_r", "float32", meaning, "", 0, 5)
    return TextField(column, name, decimals(3, factor=5))


_PLAIN: Final = (
    TextField(
        Column("frame", "int64", "Number of the frame, from 1.", "count", 1),
        "frame",
        lambda number: str(number + 1),
    ),
    TextField(Column("face_id", "Int64", "Number of the face; empty without a face."), "face", str),
    TextField(
        Column("timestamp", "float64", "Presentation time of the frame.", "seconds"),
        "time_s",
        decimals(6),
    ),
    TextField(
        Column("confidence", "float32", "How sure the detector is.", "score", 0, 1),
        "confidence",
        decimals(3),
    ),
    TextField(
        Column("success", "int64", "1 where a face was read, else 0.", "", 0, 1),
        "status",
        _success,
    ),
)


def _angle(name: str, source: str, meaning: str, sign: int) -> TextField:
    column = Column(name, "float32", meaning, "radians")
    return TextField(column, source, decimals(3, factor=sign * pi / 180))


# Its axes point right, down, and away from the camera, so that two angles have the other sign.
_POSE: Final = (
    _angle("pose_Rx", "pose_pitch", "Pitch of the head; positive: turned down.", -1),
    _angle("pose_Ry", "pose_yaw", "Yaw of the head; positive: towards the picture's left.", -1),
    _angle("pose_Rz", "pose_roll", "Roll of the head; positive: clockwise.", 1),
)
