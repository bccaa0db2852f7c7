"""Super-resolution by any network that spandrel knows, on a GPU where there is one: an engine for `mien.data.superres`.

spandrel (MIT) tells the architecture from the names of the tensors. Real-ESRGAN x4plus as its authors publish it
(``RealESRGAN_x4plus.pth``, BSD-3-Clause) is the network whose numbers `mien.data.superres.Ncnn` holds as float16.
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

from mien.data.superres.upscale import Image, Network
from mien.errors import DataError, MienError

__all__ = ["Spandrel"]


@dataclass(frozen=True, slots=True)
class Spandrel:
    """A user's network. weights: a .safetensors or .pth file; device: as torch names it, None is a GPU where there is one."""

    weights: Path
    device: str | None = None

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`; raises as `open` does."""
        content = _read(self.weights)
        name = _network(self.weights, content).architecture.name
        return {
            "engine": "spandrel",
            "architecture": name,
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def workers(self, cores: int) -> int:
        """One: torch shares the cores itself, and a GPU is one."""
        return 1

    def open(self) -> Network:
        """As `Engine.open`.

        Raises MienError without spandrel, and DataError for a file that is missing, unreadable, or no super-resolution network for colour.
        """
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = _network(self.weights, _read(self.weights)).to(device).eval()

        @torch.inference_mode()
        def enlarge(image: Image) -> Image:
            planes = (
                torch.from_numpy(np.array(image.transpose(2, 0, 1)[None])).to(device).float() / 255
            )
            found = (network(planes)[0].clamp(0, 1) * 255).round().byte()
            return np.ascontiguousarray(found.permute(1, 2, 0).cpu().numpy())

        return Network(network.scale, enlarge)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; give a .safetensors or .pth file with the weights"
        ) from error


def _network(path: Path, content: bytes) -> Any:
    """The network of a file's content, on the CPU; tensors are read, nothing in it is run."""
    try:
        spandrel = import_module("spandrel")
    except ModuleNotFoundError as error:
        raise MienError(
            f"the spandrel engine needs {error.name}; install it with: pip install spandrel"
        ) from error
    try:
        found = (
            load(content)
            if path.suffix == ".safetensors"
            else torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        )
    except Exception as error:  # each library, and what it is built on, raises kinds of its own
        raise DataError(
            f"{path}: cannot be read as weights; save a state dict with safetensors, or with torch.save as .pth"
        ) from error
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: holds no table of tensors; save the network's state dict")
    try:
        network = spandrel.ModelLoader().load_from_state_dict(dict(found))
    except spandrel.UnsupportedModelError as error:
        raise DataError(
            f"{path}: no architecture that spandrel knows; give the weights of a super-resolution network"
        ) from error
    except Exception as error:  # names that look known, shapes that do not fit
        raise DataError(
            f"{path}: the weights do not fit together ({' '.join(str(error).split())[:200]}); get the file again"
        ) from error
    if network.purpose != "SR" or network.input_channels != 3 or network.output_channels != 3:
        raise DataError(
            f"{path}: {network.architecture.name} is no super-resolution network for colour; give another one"
        )
    return network
