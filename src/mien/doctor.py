"""Check an installation: what will be used on this machine, and what is missing."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

import mien
from mien.bundles.contents import read_contents
from mien.bundles.engines import (
    ENGINES,
    accelerators,
    available,
    choose,
    onnxruntime_distributions,
)
from mien.bundles.store import AFFECT, FACES, QUALITY, bundles
from mien.errors import MienError
from mien.extensions.entry_points import GROUPS, extensions
from mien.processes import usable_cores

__all__ = ["Finding", "examine"]

# Distributions that mien always needs.
_PARTS: Final = (
    "av",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "simplejpeg",
)
# Distribution -> the extra that brings it.
_EXTRAS: Final = {
    "openvino": "openvino",
    "pillow-heif": "heic",
    "pylsl": "lsl",
    "python-osc": "osc",
    "websockets": "websocket",
    "scipy": "people",
    "tensorboard": "tensorboard",
    "torch": "train",
    "timm": "train",
}
# Codec -> whether mien reads or writes with it.
_CODECS: Final[dict[str, Literal["r", "w"]]] = {
    "h264": "r",
    "hevc": "r",
    "vp9": "r",
    "av1": "r",
    "libx264": "w",
    "aac": "w",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    Attributes:
        what: The part that was examined.
        state: Its version or state, or what to do about it.
        ok: True where it is fine, None where it is optional and absent, False where it is broken.
    """

    what: str
    state: str
    ok: bool | None = True


def examine() -> Iterator[Finding]:
    """Examine versions, engines, bundles and their hashes, codecs and cores.

    Yields:
        One finding after another, as each part is examined.
    """
    yield Finding("mien", mien.__version__)
    yield Finding(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    yield Finding("cores", str(usable_cores()))
    for name in _PARTS:
        installed = _version(name)
        yield Finding(name, installed or "missing; install mien again", installed is not None)
    for name, extra in _EXTRAS.items():
        installed = _version(name)
        if installed:
            yield Finding(name, installed)
        else:
            advice = f'not installed (optional: pip install "mien[{extra}]")'
            yield Finding(name, advice, ok=None)
    yield _onnxruntime()
    yield _engine()
    yield from _bundles()
    yield from _extensions()
    yield from _codecs()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _onnxruntime() -> Finding:
    """Which build of ONNX Runtime is installed: that of the CPU, or one for other processors."""
    names = onnxruntime_distributions()
    if not names:
        return Finding("onnxruntime", "missing; install mien again", ok=False)
    state = ", ".join([f"{name} {_version(name)}" for name in names])
    if len(names) > 1:
        state = (
            f"{state} overwrite each other's files; pip uninstall -y {' '.join(names)}, then "
            "install one of them"
        )
        return Finding("onnxruntime", state, ok=False)
    return Finding("onnxruntime", state.removeprefix("onnxruntime "))


def _engine() -> Finding:
    try:
        on_others = ", ".join(accelerators()) or "none"
        state = f"{choose()} will be used unless another is named; installed: "
        state += f"{', '.join(available())}, and for other processors {on_others}; "
        state += f"known: {', '.join(ENGINES)}"
        return Finding("engine", state)
    except (MienError, ImportError, RuntimeError) as error:  # a broken installation may raise any
        return Finding("engine", str(error), ok=False)


def _bundles() -> Iterator[Finding]:
    for name in sorted({AFFECT, FACES, QUALITY, *bundles()}):
        try:
            contents = read_contents(name)
            # Of a system, the cards of its members count too; they are small.
            size = sum(map(len, contents.files.values())) / 1e6
            state = f"verified, {size:.2f} MB, sha256 {contents.card.sha256}"
            yield Finding(f"bundle {name}", state)
        except MienError as error:
            yield Finding(f"bundle {name}", str(error), ok=False)


def _extensions() -> Iterator[Finding]:
    for group in GROUPS:
        try:
            for name, extension in extensions(group).items():
                extension.load()
                yield Finding(f"{group}: {name}", extension.origin)
        except MienError as error:
            yield Finding(group, str(error), ok=False)


def _codecs() -> Iterator[Finding]:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    for name, mode in _CODECS.items():
        what = f"{'reading' if mode == 'r' else 'writing'} {name}"
        try:
            yield Finding(what, Codec(name, mode).long_name)
        except UnknownCodecError:
            reason = "not in this build of PyAV; files of this kind cannot be used"
            yield Finding(what, reason, ok=False)
