"""What will be used on this machine, and what is missing."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

import mien
from mien.bundles.engines import ENGINES, available, choose
from mien.bundles.store import AFFECT, FACES, bundles, read_bundle
from mien.errors import MienError

__all__ = ["Finding", "examine"]

_PARTS = (
    "av",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "simplejpeg",
)
_EXTRAS = {"openvino": "openvino", "pillow-heif": "heic", "torch": "train", "timm": "train"}
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
    """One line of the examination. ok: True fine, None optional and absent, False broken."""

    what: str
    found: str
    ok: bool | None = True


def examine() -> Iterator[Finding]:
    """Versions, engines, bundles and their hashes, codecs and cores, as they are found."""
    yield Finding("mien", mien.__version__)
    yield Finding(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    yield Finding(
        "cores",
        str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    )
    for name in _PARTS:
        found = _version(name)
        yield Finding(name, found or "missing; install mien again", found is not None)
    for name, extra in _EXTRAS.items():
        found = _version(name)
        yield Finding(
            name,
            found or f'not installed (optional: pip install "mien[{extra}]")',
            True if found else None,
        )
    yield _engine()
    yield from _bundles()
    yield from _codecs()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _engine() -> Finding:
    try:
        return Finding(
            "engine",
            f"{choose()} will be used; installed: {', '.join(available())} of {', '.join(ENGINES)}",
        )
    except MienError as error:
        return Finding("engine", str(error), False)


def _bundles() -> Iterator[Finding]:
    for name in sorted({AFFECT, FACES, *bundles()}):
        try:
            bundle, network = read_bundle(name)
            yield Finding(
                f"bundle {name}",
                f"verified, {len(network) / 1e6:.2f} MB, sha256 {bundle.card.sha256}",
            )
        except MienError as error:
            yield Finding(f"bundle {name}", str(error), False)


def _codecs() -> Iterator[Finding]:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    for name, mode in _CODECS.items():
        what = f"{'reading' if mode == 'r' else 'writing'} {name}"
        try:
            yield Finding(what, Codec(name, mode).long_name)
        except UnknownCodecError:
            yield Finding(
                what, "not in this build of PyAV; files of this kind cannot be used", False
            )
