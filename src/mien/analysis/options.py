"""What may be chosen about an analysis."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import wraps
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from mien.bundles.store import AFFECT, FACES
from mien.errors import UnknownOptionError
from mien.temporal.readings import Smoothing

__all__ = ["Choice", "OptionFields", "Options", "Rotate", "options_of", "spelled_out"]

Choice = Literal["all", "largest"] | int
Rotate = Literal["check", "auto", 0, 90, 180, 270]
T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


class OptionFields(TypedDict, total=False):
    """The fields of `Options`, for functions that take them as keyword arguments; a test holds the two alike."""

    bundle: str | Path
    detector: str | Path
    engine: str
    faces: Choice
    every: float
    smoothing: Smoothing | float | None
    compounds: bool
    video_stream: int | None
    rotate: Rotate


def _naming_the_nearest(kind: type[T]) -> type[T]:
    """Make a dataclass answer an unknown field with the nearest one."""
    build = kind.__init__

    @wraps(build)
    def checked(self: T, *values: Any, **named: Any) -> None:
        _refuse_unknown(named, ())
        build(self, *values, **named)

    kind.__init__ = checked  # type: ignore[assignment]
    return kind


@_naming_the_nearest
@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen about an analysis.

    Raises UnknownOptionError (a TypeError) for another name, ValueError for values that make no sense.

    >>> Options(smothing=0.1)
    Traceback (most recent call last):
    mien.errors.UnknownOptionError: no option named 'smothing'; did you mean smoothing?

    bundle: name or folder of the bundle that reads affect.
    detector: name or folder of the bundle that finds faces.
    engine: what runs the network that reads affect: ``onnxruntime``, which is what ``auto`` stands for on every machine, or ``openvino``.
        Faces are always found with ONNX Runtime.
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
        chosen = [
            field.name for field in fields(self) if getattr(self, field.name) != field.default
        ]
        return f"Options({', '.join(f'{name}={getattr(self, name)!r}' for name in chosen)})"

    def __post_init__(self) -> None:
        """Bring numbers into one form. Raises ValueError for values that make no sense."""
        if self.faces not in ("all", "largest"):
            if (
                not isinstance(self.faces, Integral)
                or isinstance(self.faces, bool)
                or self.faces < 1
            ):
                raise ValueError(
                    f"faces must be all, largest or a number from 1 up, got {self.faces!r}"
                )
            object.__setattr__(self, "faces", int(self.faces))
        if not (isinstance(self.every, Real) and 0 <= float(self.every) < inf):
            raise ValueError(f"every must be 0 or more seconds, got {self.every!r}")
        object.__setattr__(self, "every", float(self.every))
        if not isinstance(self.compounds, bool):
            raise ValueError(f"compounds must be True or False, got {self.compounds!r}")
        if isinstance(self.smoothing, Real) and not isinstance(self.smoothing, bool):
            object.__setattr__(
                self,
                "smoothing",
                Smoothing.of_width(float(self.smoothing)) if self.smoothing else None,
            )
        if not (self.smoothing is None or isinstance(self.smoothing, Smoothing)):
            raise ValueError(
                f"smoothing must be seconds, a Smoothing or None, got {self.smoothing!r}"
            )
        self._check_picture()
        if not isinstance(self.engine, str):
            raise ValueError(f"engine must be a name, got {self.engine!r}")
        for option, named in (("bundle", self.bundle), ("detector", self.detector)):
            if not isinstance(named, str | os.PathLike):
                raise ValueError(f"{option} must be a name or a folder, got {named!r}")
            object.__setattr__(
                self, option, os.path.abspath(named) if isinstance(named, Path) else str(named)
            )

    def _check_picture(self) -> None:
        if self.rotate not in ("check", "auto", 0, 90, 180, 270) or isinstance(self.rotate, bool):
            raise ValueError(f"rotate must be auto, 0, 90, 180, 270 or check, got {self.rotate!r}")
        if self.video_stream is not None:
            if (
                not isinstance(self.video_stream, Integral)
                or isinstance(self.video_stream, bool)
                or self.video_stream < 0
            ):
                raise ValueError(
                    f"video_stream must be a number from 0 up, got {self.video_stream!r}"
                )
            object.__setattr__(self, "video_stream", int(self.video_stream))


def options_of(
    options: Options | None, named: Mapping[str, Any], also: Collection[str] = ()
) -> Options:
    """Options given whole, field by field, or both; a field named one by one goes before.

    Args:
        options: All of them, or None for the defaults.
        named: Fields of `Options` by name.
        also: Other words that the caller understands, for "did you mean".

    Raises:
        UnknownOptionError: A name is none of them; it says the nearest.
        TypeError: `options` is no `Options`.
        ValueError: A value makes no sense.
    """
    _refuse_unknown(named, also)
    if options is None:
        return Options(**named)
    if not isinstance(options, Options):
        raise TypeError(
            f"options must be an Options, got {type(options).__name__}; give single options by name, as in smoothing=0.1"
        )
    return replace(options, **named)


def _refuse_unknown(named: Mapping[str, Any], also: Collection[str]) -> None:
    known = [field.name for field in fields(Options)]
    for name in named:
        if name not in known:
            raise UnknownOptionError("option", name, [*known, *also])


def spelled_out(function: Function) -> Function:
    """Let a function that takes `OptionFields` show each of them with its default to `help`, notebooks and editors that ask Python."""
    own = inspect.signature(function)
    named = [item for item in own.parameters.values() if item.kind is not item.VAR_KEYWORD]
    chosen = inspect.signature(Options).parameters.values()
    whole = [*named, *(item.replace(kind=item.KEYWORD_ONLY) for item in chosen)]
    function.__signature__ = own.replace(parameters=whole)  # type: ignore[attr-defined]
    return function
