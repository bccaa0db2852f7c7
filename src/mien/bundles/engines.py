"""Engines that run a network; those of the CPU give the same numbers (`TOLERANCE`).

ONNX Runtime comes with mien and runs unless another engine is named: installing another engine
changes no result. An engine that is named runs, or there is an error: none stands in for another.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import BundleError, MienError, MissingExtraError, UnknownNameError
from mien.text import printable

__all__ = [
    "ENGINES",
    "PROVIDERS",
    "TOLERANCE",
    "Engine",
    "FileEngine",
    "accelerators",
    "available",
    "choose",
    "import_onnxruntime",
    "onnxruntime_distributions",
    "open_engine",
    "reason",
]

TOLERANCE: Final = 1e-3
"""Largest difference of a raw output between the CPU's engines, batch sizes, thread counts."""

PROVIDERS: Final = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Engines on other processors, and the execution provider of ONNX Runtime that each stands for."""

# Distributions that each bring a whole package ``onnxruntime``, in one and the same folder.
_DISTRIBUTIONS: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
_GPU_BUILD: Final = 'pip uninstall -y onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]"'
# Engine -> what brings its provider.
_INSTALL: Final = {
    "cuda": f"with an NVIDIA GPU: {_GPU_BUILD}",
    "tensorrt": f"with an NVIDIA GPU and TensorRT's libraries: {_GPU_BUILD}",
    "coreml": "only ONNX Runtime for macOS has it",
    "directml": "on Windows: pip uninstall -y onnxruntime, then pip install onnxruntime-directml",
}
_OPENVINO_GPU: Final = "openvino:GPU"

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
    def __init__(self, name: str, network: bytes, threads: int) -> None:
        self.name = name
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Fatal only: what goes wrong is raised, and would be printed a second time.
        options.log_severity_level = 4
        # Spinning threads would steal the core that decodes the next frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if name in PROVIDERS:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if name in ("cuda", "tensorrt"):
            _preload_cuda(onnxruntime)
        # Without enable_fallback=0, a provider that fails would give way to the CPU.
        self._session: Any = onnxruntime.InferenceSession(
            network, options, providers=_providers(name, network), enable_fallback=0
        )
        if name in PROVIDERS:
            _check_provider(name, self._session)
        # DirectML allows one run at a time, and other processors gain nothing from two.
        self._lock: AbstractContextManager[object] = Lock() if name in PROVIDERS else nullcontext()
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]
        self.outputs: list[set[str]] = [{name} for name in self._names]

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        try:
            with self._lock:
                outputs: list[Floats32] = self._session.run(
                    self._names[:first], {self._input: batch}
                )
        except Exception as error:  # ONNX Runtime raises types of its own
            if self.name in PROVIDERS:
                raise _failed(self.name, error) from error
            raise
        return outputs


def _providers(name: str, network: bytes) -> list[tuple[str, dict[str, str]]]:
    """The execution providers of an engine with their settings, in order of preference."""
    # TensorFloat-32, the default on newer GPUs, rounds factors to 10 bits.
    cuda = (PROVIDERS["cuda"], {"use_tf32": "0"})
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if name == "cuda":
        return [cuda, cpu]
    if name == "tensorrt":
        # TensorRT refuses 8-bit layers unless it is told to expect them.
        has_8_bit = b"QuantizeLinear" in network
        settings = {"trt_int8_enable": "1"} if has_8_bit else {}
        return [(PROVIDERS[name], settings), cuda, cpu]
    return [(PROVIDERS[name], {}), cpu] if name in PROVIDERS else [cpu]


def _preload_cuda(onnxruntime: Any) -> None:
    """Load CUDA's libraries from where pip installed them; ONNX Runtime does not look there."""
    # Libraries that are missing are printed, and standard output may hold a table.
    with redirect_stdout(sys.stderr):
        # Versions before 1.21 have no such function.
        getattr(onnxruntime, "preload_dlls", lambda: None)()


def _check_provider(name: str, session: Any) -> None:
    """Raise MienError where ONNX Runtime computes on the CPU instead of the engine of that name."""
    provider = PROVIDERS[name]
    if provider not in session.get_providers():
        raise MienError(
            f"{name} was asked for, but ONNX Runtime could not start {provider} and fell back to "
            "the CPU; check the processor's driver and libraries, or use the engine onnxruntime"
        )
    # Versions before this method cannot tell which layers a provider took.
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return
    used = {part.ep_name for part in session.get_provider_graph_assignment_info()}
    if provider not in used:
        raise MienError(
            f"{name} was asked for, but {provider} takes no layer of this network, which would "
            "run on the CPU; use the engine onnxruntime"
        )


def _failed(name: str, error: Exception) -> MienError:
    return MienError(
        f"{name} cannot run this network: {reason(error)}; use the engine onnxruntime, on the CPU"
    )


class _OpenVino:
    def __init__(self, name: str, network: bytes, threads: int) -> None:
        self.name = name
        core = _openvino().Core()
        # Its default is 16 bits on newer CPUs and on GPUs; scores differ in the second digit.
        settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        # Of the CPU alone; GPUs refuse settings that are not theirs.
        cpu_settings = {
            # OpenVINO's 8-bit kernels leave out the rounding between a convolution and a sum, which
            # moves scores by up to .05; without them it computes what the file says, in float32.
            "LP_TRANSFORMS_MODE": False,
            "INFERENCE_NUM_THREADS": threads,
        }
        device = "GPU" if name == _OPENVINO_GPU else "CPU"
        if device == "CPU":
            settings |= cpu_settings
        self._model = core.compile_model(core.read_model(network), device, settings)
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


# Engines of the CPU, by the name of their package, too.
_ON_CPU: Final = ("onnxruntime", "openvino")

ENGINES: Final[dict[str, Callable[[bytes, int], FileEngine]]] = {
    **{name: partial(_OnnxRuntime, name) for name in ("onnxruntime", *PROVIDERS)},
    **{name: partial(_OpenVino, name) for name in ("openvino", _OPENVINO_GPU)},
}
"""Known engines; ``auto`` is the first, on every machine."""


def available() -> list[str]:
    """Engines of the CPU that are installed; the `tolerance` of a card lies between these.

    Returns:
        Their names, the one that ``auto`` stands for first.
    """
    return [name for name in _ON_CPU if importlib.util.find_spec(name)]


def accelerators() -> list[str]:
    """Engines of other processors that the installed packages have.

    Whether one works here shows when it is used: a build for CUDA lists it without a GPU, too.

    Returns:
        Their names.
    """
    names: list[str] = []
    if importlib.util.find_spec("onnxruntime"):
        providers = import_onnxruntime().get_available_providers()
        names += [name for name, provider in PROVIDERS.items() if provider in providers]
    if importlib.util.find_spec("openvino") and _openvino_gpus():
        names.append(_OPENVINO_GPU)
    return names


def _openvino_gpus() -> list[str]:
    devices = _openvino().Core().available_devices
    return [device for device in devices if device.startswith("GPU")]


def onnxruntime_distributions() -> list[str]:
    """Installed distributions that bring the package ``onnxruntime``.

    They overwrite each other's files, so that with more than one it is open which one runs.

    Returns:
        Their names.
    """
    names: list[str] = []
    for name in _DISTRIBUTIONS:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        names.append(name)
    return names


def choose(name: str = "auto") -> str:
    """Resolve the name of an engine.

    Args:
        name: A name in `ENGINES`, or ``auto`` for ONNX Runtime, whatever else is installed.

    Returns:
        A name in `ENGINES`.

    Raises:
        UnknownNameError: There is no engine of that name.
        MissingExtraError: The engine needs an extra that is not installed.
        MienError: ONNX Runtime, which comes with mien, is missing or has no such engine here.
    """
    if name not in ("auto", *ENGINES):
        raise UnknownNameError("engine", name, ["auto", *ENGINES])
    chosen = next(iter(ENGINES)) if name == "auto" else name
    package = "openvino" if chosen in ("openvino", _OPENVINO_GPU) else "onnxruntime"
    if package not in available():
        if package == "openvino":
            raise MissingExtraError(package, f"the {chosen} engine")
        raise MienError(
            "onnxruntime, which comes with mien, is missing; install mien again: "
            "pip install --force-reinstall mien"
        )
    if chosen in PROVIDERS:
        _require_provider(chosen)
    elif chosen == _OPENVINO_GPU and not _openvino_gpus():
        raise MienError(
            f"{chosen} needs a GPU, and OpenVINO sees none here; install the GPU's driver, "
            "or use the engine openvino"
        )
    return chosen


def _require_provider(name: str) -> None:
    """Raise MienError where the installed ONNX Runtime has no provider for an engine."""
    installed = onnxruntime_distributions()
    if len(installed) > 1:
        raise MienError(
            f"{name} cannot be used: {' and '.join(installed)} are both installed and overwrite "
            f"each other's files; pip uninstall -y {' '.join(installed)}, then install one of them"
        )
    if PROVIDERS[name] not in import_onnxruntime().get_available_providers():
        build = installed[0] if installed else "onnxruntime"
        raise MienError(
            f"{name} needs {PROVIDERS[name]}, which the installed {build} does not have; "
            f"{_INSTALL[name]}"
        )


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
        MienError: Another processor was asked for and cannot be used, or not for this network.
    """
    chosen = choose(name)
    try:
        return ENGINES[chosen](network, threads)
    except MienError:
        raise
    except Exception as error:  # engines raise types of their own
        if chosen not in _ON_CPU:
            raise _failed(chosen, error) from error
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
