"""The options of an analysis."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, TypeVar

from mien.bundles.store import AFFECT, FACES, QUALITY
from mien.errors import UnknownOptionError
from mien.faces.people import Count
from mien.temporal.one_euro import OneEuro
from mien.temporal.readings import Smoothing

__all__ = ["NO_QUALITY", "Choice", "OptionFields", "Options", "Rotate", "options_of", "spelled_out"]

NO_QUALITY: Final = "none"
"""The value of `Options.quality` for no such bundle."""
Choice = Literal["all", "largest"] | int
Rotate = Literal["check", "auto", 0, 90, 180, 270]
T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


class OptionFields(TypedDict, total=False):
    """The fields of `Options`, for functions that take them as keyword arguments."""

    bundle: str | Path
    detector: str | Path
    engine: str
    faces: Choice
    every: float
    smoothing: Smoothing | OneEuro | float | None
    compounds: bool
    video_stream: int | None
    rotate: Rotate
    min_face: int | None
    features: str | Path | Sequence[str | Path]
    quality: str | Path
    abstain: bool
    points: bool
    landmarks: bool
    people: Count | None


def _suggesting_names(kind: type[T]) -> type[T]:
    """Make a dataclass of options suggest the nearest name for an unknown field."""
    build = kind.__init__

    @wraps(build)
    def checked(self: T, *values: Any, **named: Any) -> None:
        # Before Python's own TypeError, which names no alternative.
        _refuse_unknown(named, ())
        build(self, *values, **named)

    kind.__init__ = checked  # type: ignore[assignment]
    return kind


@_suggesting_names
@dataclass(frozen=True, slots=True)
class Options:
    """The options of an analysis; every one has a default.

    Attributes:
        bundle: Name or folder of the bundle that reads affect.
        detector: Name or folder of the bundle that finds faces.
        engine: What runs the network that reads affect: on the CPU ``onnxruntime`` (which
            ``auto`` stands for on every machine) or ``openvino``; on other processors ``cuda``,
            ``tensorrt``, ``coreml``, ``directml`` or ``openvino:GPU``. Faces are always found with
            ONNX Runtime on the CPU.
        faces: Which faces of each frame to read: ``all``, ``largest``, or how many of the largest.
        every: Read the first frame of each span of this many seconds; 0 reads all frames.
        smoothing: How to smooth each face's scores over time: a `Smoothing`, the full width at half
            maximum of a Gaussian in s, a `OneEuro`, or None. Cameras are always smoothed causally.
        compounds: Also score seven compound expressions, such as happily surprised, computed from
            the bundle's expressions.
        video_stream: Number of the video stream to read, from 0, in files that hold several; None
            takes the one that players take.
        rotate: Degrees by which to turn all pictures clockwise: 0, 90, 180 or 270. ``auto`` turns a
            video whose faces stand upright only then; ``check``, the default, notes such a video
            and turns nothing. Faces that lie on their side or upside down are read either way.
        min_face: Look closer, for faces from this width on, px of the frame. None stands for about
            5 % of the frame's longer side, at most 96 px. Half the width costs four times as much
            per search, of which a film has two a second and a photo one.
        features: Parquet files of external features of the films, for a system that learned from
            such: `video` (the film's name without suffix), `frame` (from 0), and its columns.
        quality: Name or folder of the bundle that says how far readings can be trusted, or ``none``
            for a table without what it says, and without measures of sharpness and light.
        abstain: Whether unsure labels are left out: the expression of a doubtful row, or of low
            probability, is ``uncertain``, and action units of covered regions are missing.
        points: Whether the table has the five points of each face.
        landmarks: Whether the table has 68 points of each face (iBUG, 300-W), and how far eyes and
            mouth are open.
        people: Join the faces of each film that are one person's, across cuts and pauses, into a
            column `person`: how many people there are, or ``auto``. None, the default, computes no
            biometric data; see the how-to on people for what the law asks.

    Raises:
        UnknownOptionError: There is no option of that name (also a TypeError); names the nearest.
        ValueError: A value makes no sense.

    Examples:
        >>> Options(smothing=0.1)
        Traceback (most recent call last):
        mien.errors.UnknownOptionError: no option named 'smothing'; did you mean smoothing?
    """

    bundle: str | Path = AFFECT
    detector: str | Path = FACES
    engine: str = "auto"
    faces: Choice = "all"
    every: float = 0.0
    smoothing: Smoothing | OneEuro | float | None = None
    compounds: bool = False
    video_stream: int | None = None
    rotate: Rotate = "check"
    min_face: int | None = None
    features: str | Path | Sequence[str | Path] = ()
    quality: str | Path = QUALITY
    abstain: bool = True
    points: bool = False
    landmarks: bool = False
    people: Count | None = None

    def __repr__(self) -> str:
        """Only the fields that differ from their defaults, as Python."""
        changed = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                changed.append(f"{field.name}={value!r}")
        return f"Options({', '.join(changed)})"

    def __post_init__(self) -> None:
        """Check every value, and bring numbers and paths into one form."""
        self._set("faces", _checked_faces(self.faces))
        self._set("every", _checked_every(self.every))
        for name in ("compounds", "abstain", "points", "landmarks"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        self._set("smoothing", _checked_smoothing(self.smoothing))
        # False equals 0, but is not an angle.
        if self.rotate not in ("check", "auto", 0, 90, 180, 270) or isinstance(self.rotate, bool):
            raise ValueError(f"rotate must be auto, 0, 90, 180, 270 or check, got {self.rotate!r}")
        self._set("video_stream", _checked_stream(self.video_stream))
        self._set("min_face", _checked_min_face(self.min_face))
        if not isinstance(self.engine, str):
            raise ValueError(f"engine must be a name, got {self.engine!r}")
        self._set("bundle", _checked_bundle("bundle", self.bundle))
        self._set("detector", _checked_bundle("detector", self.detector))
        self._set("quality", _checked_bundle("quality", self.quality))
        self._set("features", _checked_features(self.features))
        self._set("people", _checked_people(self.people))

    def _set(self, name: str, value: object) -> None:
        """Set a field of the frozen dataclass."""
        object.__setattr__(self, name, value)


def _is_count(value: object, least: int) -> bool:
    """Whether it is a whole number from `least` up, such as an int or one of numpy's."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return int(value) >= least


def _checked_faces(faces: Choice) -> Choice:
    if faces in ("all", "largest"):
        return faces
    if not _is_count(faces, 1):
        raise ValueError(f"faces must be all, largest or a number from 1 up, got {faces!r}")
    return int(faces)


def _checked_every(every: float) -> float:
    if not (isinstance(every, Real) and 0 <= float(every) < inf):
        raise ValueError(f"every must be 0 or more seconds, got {every!r}")
    return float(every)


def _checked_smoothing(
    smoothing: Smoothing | OneEuro | float | None,
) -> Smoothing | OneEuro | None:
    if smoothing is None or isinstance(smoothing, Smoothing | OneEuro):
        return smoothing
    if isinstance(smoothing, bool) or not isinstance(smoothing, Real):
        raise ValueError(
            f"smoothing must be seconds, a Smoothing, a OneEuro or None, got {smoothing!r}"
        )
    # A width of 0 is how the command line says "none".
    return Smoothing.of_width(float(smoothing)) if smoothing else None


def _checked_stream(video_stream: int | None) -> int | None:
    if video_stream is None:
        return None
    if not _is_count(video_stream, 0):
        raise ValueError(f"video_stream must be a number from 0 up, got {video_stream!r}")
    return int(video_stream)


def _checked_min_face(min_face: int | None) -> int | None:
    if min_face is None:
        return None
    if not _is_count(min_face, 8):
        raise ValueError(f"min_face must be a number of pixels from 8 up, got {min_face!r}")
    return int(min_face)


def _checked_bundle(option: str, bundle: str | Path) -> str:
    if not isinstance(bundle, str | os.PathLike):
        raise ValueError(f"{option} must be a name or a folder, got {bundle!r}")
    # A path stays the same folder when the working directory changes, or on another machine; a
    # text without a folder in it may be a name.
    is_path = isinstance(bundle, Path) or bool(os.path.dirname(bundle))
    return os.path.abspath(bundle) if is_path else str(bundle)


def _checked_features(features: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    paths = [features] if isinstance(features, str | os.PathLike) else features
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | Path) for path in paths):
        raise ValueError(f"features must be Parquet files, got {features!r}")
    return tuple(map(os.path.abspath, paths))


def _checked_people(people: Count | None) -> Count | None:
    if people is None or people == "auto":
        return people
    if not _is_count(people, 1):
        raise ValueError(f"people must be auto or a number from 1 up, got {people!r}")
    return int(people)


def options_of(
    options: Options | None, named: Mapping[str, Any], also: Collection[str] = ()
) -> Options:
    """Options given as a whole, field by field, or both; single fields override the whole.

    Args:
        options: All of them, or None for the defaults.
        named: Fields of `Options` by name.
        also: Other arguments of the caller, which "did you mean" may suggest as well.

    Returns:
        The options with all values checked.

    Raises:
        UnknownOptionError: A name is not a field of `Options`; names the nearest.
        TypeError: `options` is not an `Options`.
        ValueError: A value makes no sense.
    """
    # Here, because the names that `Options` suggests leave out the caller's other arguments.
    _refuse_unknown(named, also)
    if options is None:
        return Options(**named)
    if not isinstance(options, Options):
        raise TypeError(
            f"options must be an Options, got {type(options).__name__}; "
            "give single options by name, as in smoothing=0.1"
        )
    return replace(options, **named)


def _refuse_unknown(named: Mapping[str, Any], also: Collection[str]) -> None:
    known = [field.name for field in fields(Options)]
    for name in named:
        if name not in known:
            raise UnknownOptionError("option", name, [*known, *also])


def spelled_out(function: Function) -> Function:
    """Give a function that takes ``**named: Unpack[OptionFields]`` a signature that lists them.

    So `help`, notebooks, and editors that ask Python show every option with its default.

    Args:
        function: A function whose last parameter stands for the fields of `Options`.

    Returns:
        The same function.
    """
    signature = inspect.signature(function)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(parameter)
    # A `TypedDict` has no defaults; those of `Options` are what a call without them means.
    for parameter in inspect.signature(Options).parameters.values():
        parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
