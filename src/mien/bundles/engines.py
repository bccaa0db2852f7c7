"""Engines that run a network; all give the same numbers (`TOLERANCE`).

ONNX Runtime comes with mien and runs unless another engine is named: installing another engine
changes no result.
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
        """Run a batch.

        Args:
            batch: (N, C, H, W) float32.
            first: How many outputs to compute, from the first; None for all.

        Returns:
            One array per output, in the network's order, N along its first axis.
        """
        ...


class FileEngine(Engine, Protocol):
    """The engine of an ONNX file.

    Attributes:
        outputs: Names of each output, in their order; one tensor may go by several names.
    """

    outputs: list[set[str]]


class _OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, network: bytes, threads: int) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Fatal only: what goes wrong is raised, and would be printed a second time.
        options.log_severity_level = 4
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
            # The default on newer processors is bfloat16, whose scores differ in the second digit.
            "INFERENCE_PRECISION_HINT": "f32",
            # OpenVINO's 8-bit kernels leave out the rounding between a convolution and a sum, which
            # moves scores by up to .05; without them it computes what the file says, in float32.
            "LP_TRANSFORMS_MODE": False,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        self._model = core.compile_model(core.read_model(network), "CPU", settings)
        self._lock = Lock()
        self.outputs: list[set[str]] = [set(output.get_names()) for output in self._model.outputs]

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        # Shared outputs are the engine's memory, which the next run overwrites, from another thread
        # too. Sharing them and copying under the lock copies only the outputs that are asked for.
        with self._lock:
            result = self._model(batch, share_outputs=True)
            return [np.array(result[output]) for output in self._model.outputs[:first]]


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry; nothing else in mien imports it.

    Returns:
        The module ``onnxruntime``.
    """
    # Since 1.29 its Linux builds report to their makers on import unless this variable is set.
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
    """Import OpenVINO without its telemetry.

    It would report the import to its makers and leave an id in the home folder.
    """
    # OpenVINO works without this package; None in sys.modules makes its import fail.
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
    """Engines that are installed.

    Returns:
        Their names, the one that ``auto`` stands for first.
    """
    return [name for name in ENGINES if importlib.util.find_spec(name)]


def choose(name: str = "auto") -> str:
    """Resolve the name of an engine.

    Args:
        name: A name in `ENGINES`, or ``auto`` for ONNX Runtime, whatever else is installed.

    Returns:
        A name in `ENGINES`.

    Raises:
        UnknownNameError: There is no engine of that name.
        MissingExtraError: The engine needs an extra that is not installed.
        MienError: ONNX Runtime, which comes with mien, is missing.
    """
    if name not in ("auto", *ENGINES):
        raise UnknownNameError("engine", name, ["auto", *ENGINES])
    chosen = next(iter(ENGINES)) if name == "auto" else name
    if chosen not in available():
        if chosen == "openvino":
            raise MissingExtraError(chosen, f"the {chosen} engine")
        raise MienError(
            "onnxruntime, which comes with mien, is missing; install mien again: "
            "pip install --force-reinstall mien"
        )
    return chosen


def open_engine(network: bytes, name: str = "auto", threads: int = 1) -> FileEngine:
    """Load a network into an engine.

    Args:
        network: Content of an ONNX file that was verified.
        name: Name of the engine, as for `choose`.
        threads: Threads of the engine; 0 leaves their number to it.

    Returns:
        The engine, ready to run.

    Raises:
        UnknownNameError: There is no engine of that name.
        MissingExtraError: The engine is not installed.
        BundleError: The engine cannot load the network.
    """
    chosen = choose(name)
    try:
        return ENGINES[chosen](network, threads)
    except Exception as error:  # engines raise types of their own
        raise BundleError(
            f"{chosen} cannot read this network: {reason(error)}; get the bundle again"
        ) from error


def reason(error: Exception) -> str:
    """What an engine says is wrong, in one line.

    It is the last line: those before it name places in the engine's source.

    Args:
        error: What the engine raised.

    Returns:
        One printable line.

    >>> reason(RuntimeError("Exception from core.cpp:105:\\nUnable to read the model.\\n\\n"))
    'Unable to read the model.'
    """
    lines = str(error).strip().splitlines()
    last = lines[-1].strip() if lines else type(error).__name__
    return printable(last)
