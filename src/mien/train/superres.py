"""Super-resolution by any network that spandrel knows: an engine for `mien.data.superres`.

It runs on a GPU where there is one. spandrel (MIT) tells the architecture from the names of the
tensors. Real-ESRGAN x4plus as its authors publish it (``RealESRGAN_x4plus.pth``, BSD-3-Clause) is
the network whose numbers `mien.data.superres.Ncnn` holds as float16.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from mien.data.superres.upscale import Image, Network
from mien.errors import DataError, MienError

__all__ = ["Spandrel"]


@dataclass(frozen=True, slots=True)
class Spandrel:
    """A user's network.

    Attributes:
        weights: A .safetensors or .pth file.
        device: As torch names it; None is a GPU where there is one.
    """

    weights: Path
    device: str | None = None

    def facts(self) -> dict[str, Any]:
        """List what the pixels depend on; see `Engine.facts`.

        Returns:
            The engine, the architecture, and the sha256 of the weights.

        Raises:
            MienError: As `open`.
            DataError: As `open`.
        """
        content = _read(self.weights)
        network = _build(self.weights, content)
        return {
            "engine": "spandrel",
            "architecture": network.architecture.name,
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def workers(self, cores: int) -> int:
        """Choose one process: torch shares the cores itself, and a GPU is one.

        Args:
            cores: Cores of the machine; of no effect.

        Returns:
            1.
        """
        return 1

    def open(self) -> Network:
        """Load the network; see `Engine.open`.

        Returns:
            The network, ready.

        Raises:
            MienError: spandrel is not installed.
            DataError: The file is missing, unreadable, or no super-resolution network for colour.
        """
        fastest = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(self.device or fastest)
        network = _build(self.weights, _read(self.weights)).to(device).eval()

        @torch.inference_mode()
        def enlarge(image: Image) -> Image:
            channels_first = np.array(image.transpose(2, 0, 1)[None])
            planes = torch.from_numpy(channels_first).to(device).float() / 255
            large = (network(planes)[0].clamp(0, 1) * 255).round().byte()
            return np.ascontiguousarray(large.permute(1, 2, 0).cpu().numpy())

        return Network(network.scale, enlarge)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; give a .safetensors or .pth file with the weights"
        ) from error


def _build(path: Path, content: bytes) -> Any:
    """The network of a file's content, on the CPU, as spandrel describes it."""
    try:
        spandrel = import_module("spandrel")
    except ModuleNotFoundError as error:
        raise MienError(
            f"the spandrel engine needs {error.name}; install it with: pip install spandrel"
        ) from error
    tensors = _parse(path, content)
    try:
        network = spandrel.ModelLoader().load_from_state_dict(tensors)
    except spandrel.UnsupportedModelError as error:
        raise DataError(
            f"{path}: no architecture that spandrel knows; "
            "give the weights of a super-resolution network"
        ) from error
    # Names that look known with shapes that do not fit raise whatever the architecture raises.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: the weights do not fit together ({reason}); get the file again"
        ) from error
    channels = network.input_channels, network.output_channels
    if network.purpose != "SR" or channels != (3, 3):
        raise DataError(
            f"{path}: {network.architecture.name} is no super-resolution network for colour; "
            "give another one"
        )
    return network


def _parse(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors of a file's content; nothing in it is run."""
    try:
        if path.suffix == ".safetensors":
            tensors = load(content)
        else:
            tensors = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    # Each library, and what it is built on, raises exceptions of other types.
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as weights; "
            "save a state dict with safetensors, or with torch.save as .pth"
        ) from error
    if not isinstance(tensors, Mapping):
        raise DataError(f"{path}: holds no table of tensors; save the network's state dict")
    return dict(tensors)
