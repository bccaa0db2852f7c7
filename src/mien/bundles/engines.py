"""Engines: what runs a network. A transport only; both give the same numbers (`TOLERANCE`).

ONNX Runtime comes with mien and is what runs unless another engine is named: what is installed beside it changes no result.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import BundleError, MienError, MissingExtraError, UnknownNameError
from mien.text import printable

__all__ = [
    "ENGINES",
    "TOLERANCE",
    "Engine",
    "FileEngine",
    "available",
    "choose",
    "import_onnxruntime",
    "open_engine",
    "reason",
]

TOLERANCE: Final = 1e-3
"""Largest difference of a raw output between engines, batch sizes and thread counts."""

Floats32 = NDArray[np.float32]


class Engine(Protocol):
    """A network, ready to run."""

    name: str

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        """Outputs in the network's order for a batch (N, C, H, W): the `first` so many, or all."""
        ...


class FileEngine(Engine, Protocol):
    """The engine of an ONNX file.

    outputs: the names of each output, in their order; one that passes through under several has them all.
    """

    outputs: list[set[str]]


class _OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, network: bytes, threads: int) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = (
            4  # what goes wrong is raised; it would be printed a second time
        )
        # Spinning threads would steal the core that decodes the next frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]
        self.outputs: list[set[str]] = [{name} for name in self._names]

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        outputs: list[Floats32] = self._session.run(self._names[:first], {self._input: batch})
        return outputs


class _OpenVino:
    name = "openvino"

    def __init__(self, network: bytes, threads: int) -> None:
        core = _openvino().Core()
        settings = {
            # Its default on newer processors is bfloat16, whose scores differ in the second digit.
            "INFERENCE_PRECISION_HINT": "f32",
            # Its 8-bit kernels leave out the rounding between a convolution and a sum, so scores move by up to .05;
            # without them it computes what the file says, in float32.
            "LP_TRANSFORMS_MODE": False,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        self._model = core.compile_model(core.read_model(network), "CPU", settings)
        self._lock = Lock()
        self.outputs: list[set[str]] = [set(output.get_names()) for output in self._model.outputs]

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        # The engine lends its own memory, which the next run overwrites, another thread's too, so that only what is asked for is copied.
        with self._lock:
            result = self._model(batch, share_outputs=True)
            return [np.array(result[output]) for output in self._model.outputs[:first]]


def import_onnxruntime() -> Any:
    """ONNX Runtime without its telemetry. Import it through here only.

    Since 1.29 its Linux builds report to their makers when they are imported, unless this variable is set at that moment.
    """
    name = "ORT_DISABLE_TELEMETRY"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        import onnxruntime
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _openvino() -> Any:
    """OpenVINO without its telemetry, which would report the import to its makers and leave an id in the home folder.

    OpenVINO foresees that the package is not there and goes on without.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return openvino


ENGINES: Final[dict[str, Callable[[bytes, int], FileEngine]]] = {
    "onnxruntime": _OnnxRuntime,
    "openvino": _OpenVino,
}
"""Known engines; ``auto`` is the first, on every machine."""


def available() -> list[str]:
    """Names of the engines that are installed, the one that ``auto`` stands for first."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def choose(name: str = "auto") -> str:
    """The engine that `name` stands for; ``auto`` stands for ONNX Runtime, whatever else is installed.

    Raises UnknownNameError for a name that is none, MissingExtraError or MienError for one that is not installed.
    """
    if name not in ("auto", *ENGINES):
        raise UnknownNameError("engine", name, ["auto", *ENGINES])
    chosen = next(iter(ENGINES)) if name == "auto" else name
    if chosen not in available():
        if chosen == "openvino":
            raise MissingExtraError(chosen, f"the {chosen} engine")
        raise MienError(
            "onnxruntime, which comes with mien, is missing; install mien again: pip install --force-reinstall mien"
        )
    return chosen


def open_engine(network: bytes, name: str = "auto", threads: int = 1) -> FileEngine:
    """Make a network (the bytes of an ONNX file, already verified) ready to run on `threads` threads.

    Raises UnknownNameError, MissingExtraError, or BundleError when the bytes are no network.
    """
    chosen = choose(name)
    try:
        return ENGINES[chosen](network, threads)
    except Exception as error:  # engines raise types of their own
        raise BundleError(
            f"{chosen} cannot read this network: {reason(error)}; get the bundle again"
        ) from error


def reason(error: Exception) -> str:
    """What an engine says is wrong, in one line: the last, for those before say where in its own source it was noticed.

    >>> reason(RuntimeError("Exception from core.cpp:105:\\nUnable to read the model.\\n\\n"))
    'Unable to read the model.'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1] if lines else type(error).__name__)
