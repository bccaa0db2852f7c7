"""What may be chosen about an analysis."""

import os
from dataclasses import dataclass, fields
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Literal

from mien.bundles.store import AFFECT, FACES
from mien.temporal.readings import Smoothing

__all__ = ["Choice", "Options", "Rotate"]

Choice = Literal["all", "largest"] | int
Rotate = Literal["check", "auto", 0, 90, 180, 270]


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen about an analysis.

    bundle: name or folder of the bundle that reads affect.
    detector: name or folder of the bundle that finds faces.
    engine: what runs the network that reads affect: ``auto``, ``onnxruntime`` or ``openvino``. Faces are always found with ONNX Runtime.
    faces: ``all``, ``largest``, or how many of the largest faces of each frame to read.
    every: read the first frame of each span of this many seconds; 0 reads all frames.
    smoothing: how to smooth each face's scores over time: a `Smoothing`, the full width at half maximum of a Gaussian, s, or None.
        Cameras are always smoothed causally.
    compounds: also score seven compound expressions, such as happily surprised, from those of the bundle.
    video_stream: number of the video stream to read, from 0, in files that hold several; None takes the one that players take.
    rotate: degrees by which to turn all pictures clockwise: 0, 90, 180 or 270; ``auto`` turns film that shows faces only when
        turned; ``check``, the default, says so and turns nothing.
    """

    bundle: str | Path = AFFECT
    detector: str | Path = FACES
    engine: str = "auto"
    faces: Choice = "all"
    every: float = 0.0
    smoothing: Smoothing | float | None = None
    compounds: bool = False
    video_stream: int | None = None
    rotate: Rotate = "check"

    def __repr__(self) -> str:
        """Only what was chosen, as it may be written."""
        chosen = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"Options({', '.join(f'{name}={getattr(self, name)!r}' for name in chosen)})"

    def __post_init__(self) -> None:
        """Bring numbers into one form. Raises ValueError for values that make no sense."""
        if self.faces not in ("all", "largest"):
            if not isinstance(self.faces, Integral) or isinstance(self.faces, bool) or self.faces < 1:
                raise ValueError(f"faces must be all, largest or a number from 1 up, got {self.faces!r}")
            object.__setattr__(self, "faces", int(self.faces))
        if not (isinstance(self.every, Real) and 0 <= float(self.every) < inf):
            raise ValueError(f"every must be 0 or more seconds, got {self.every!r}")
        object.__setattr__(self, "every", float(self.every))
        if not isinstance(self.compounds, bool):
            raise ValueError(f"compounds must be True or False, got {self.compounds!r}")
        if isinstance(self.smoothing, Real):
            object.__setattr__(self, "smoothing", Smoothing.of_width(float(self.smoothing)) if self.smoothing else None)
        if not (self.smoothing is None or isinstance(self.smoothing, Smoothing)):
            raise ValueError(f"smoothing must be seconds, a Smoothing or None, got {self.smoothing!r}")
        self._check_picture()
        for option, named in (("bundle", self.bundle), ("detector", self.detector)):
            object.__setattr__(self, option, os.path.abspath(named) if isinstance(named, Path) else str(named))

    def _check_picture(self) -> None:
        if self.rotate not in ("check", "auto", 0, 90, 180, 270) or isinstance(self.rotate, bool):
            raise ValueError(f"rotate must be auto, 0, 90, 180, 270 or check, got {self.rotate!r}")
        if self.video_stream is not None:
            if not isinstance(self.video_stream, Integral) or isinstance(self.video_stream, bool) or self.video_stream < 0:
                raise ValueError(f"video_stream must be a number from 0 up, got {self.video_stream!r}")
            object.__setattr__(self, "video_stream", int(self.video_stream))
