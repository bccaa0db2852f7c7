"""Open what reads affect: a bundle of one network, or a system of several."""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from mien.bundles.card import SystemCard, head_path
from mien.bundles.engines import Engine, open_engine, reason
from mien.bundles.gate import inspect_head, most_bytes, read_file
from mien.bundles.model import Model
from mien.bundles.plan import Head, HeadsStep
from mien.bundles.store import AFFECT, SystemBundle, open_any
from mien.bundles.store import load as load_network
from mien.documents import read_bounded
from mien.errors import BundleError
from mien.systems.system import System

__all__ = ["load"]

_ADVICE: Final = "get the bundle again from where it came"


def load(name: str | Path = AFFECT, engine: str = "auto", threads: int = 1) -> Model | System:
    """Load a bundle that reads affect: verified, inspected and ready to run.

    Args:
        name: Its name or folder.
        engine: Its name, as for `engines.choose`; ``auto`` is ONNX Runtime on the CPU.
        threads: Threads of the engine; 0 leaves their number to it.

    Returns:
        The model, or for a bundle of several networks the system.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: The bundle is damaged or incomplete, or finds faces instead.
        MissingExtraError: The engine is not installed.
    """
    bundle = open_any(name)
    if not isinstance(bundle, SystemBundle):
        return load_network(name, engine, threads)
    card, folder = bundle.card, bundle.folder
    members = {}
    for member, sha256 in card.members.items():
        members[member] = _open_member(folder / "members" / member, sha256, engine, threads)
    heads = {}
    for step_name, step in card.steps.items():
        if isinstance(step, HeadsStep):
            width = sum(members[step.member].card.widths)
            for number, head in enumerate(step.heads):
                path = head_path(step_name, number)
                heads[path] = _open_head(folder / path, head, width, threads)
    _check_columns(folder, card, members)
    return System(card, members, heads)


def _open_member(folder: Path, sha256: str, engine: str, threads: int) -> Model:
    if not folder.is_dir():
        raise BundleError(f"{folder}: missing, and the system needs it; {_ADVICE}")
    # The card holds the hash of the network, which is checked when that is loaded.
    card = folder / "card.json"
    _check_hash(card, read_file(card), sha256)
    return load_network(folder, engine, threads)


def _open_head(path: Path, head: Head, width: int, threads: int) -> Engine:
    """The network of some heads, verified and inspected; it has run once, on zeros.

    Args:
        path: Its file.
        head: Its facts in the card.
        width: How many numbers per face the member gives that it reads.
        threads: Threads of the engine.
    """
    content = read_bounded(path, most_bytes(path.name), BundleError, "the system needs it")
    _check_hash(path, content, head.sha256)
    if head.end > width:
        raise BundleError(
            f"{path}: reads the numbers {head.first} to {head.end} of a member that gives {width}; "
            f"{_ADVICE}"
        )
    inspect_head(str(path), head, content)
    # Always with ONNX Runtime: windows vary in length, which is slow with OpenVINO.
    engine = open_engine(content, "onnxruntime", threads)
    _check_outputs(path, engine, head.input_shape, [len(spec.names) for spec in head.tasks])
    return engine


def _check_hash(path: Path, content: bytes, expected: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise BundleError(
            f"{path}: altered or incomplete: sha256 is {sha256[:12]}…, the system's card says "
            f"{expected[:12]}…; {_ADVICE}"
        )


def _check_outputs(path: Path, engine: Engine, shape: tuple[int, ...], widths: list[int]) -> None:
    """Run a network on zeros; raises BundleError where its outputs are not those of the card."""
    try:
        outputs = engine.run(np.zeros(shape, np.float32))
    except Exception as error:  # engines raise types of their own
        raise BundleError(f"{path}: does not take {shape}: {reason(error)}; {_ADVICE}") from error
    expected = [(*shape[:-1], width) for width in widths]
    shapes = [output.shape for output in outputs]
    if shapes != expected:
        raise BundleError(f"{path}: gives {shapes}, the card says {expected}; {_ADVICE}")


def _check_columns(folder: Path, card: SystemCard, members: dict[str, Model]) -> None:
    """Raises BundleError for a step that asks a member for labels that it does not have."""
    for name, step in card.steps.items():
        if step.do != "score":
            continue
        counts = {task.family: len(task.names) for task in members[step.member].tasks}
        for family, columns in step.columns.items():
            if max(columns, default=0) >= counts.get(family, 0):
                raise BundleError(
                    f"{folder}: steps.{name}: {step.member} does not give {family} as it asks; "
                    f"{_ADVICE}"
                )
