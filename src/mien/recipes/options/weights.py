"""Starting weights of all networks of a recipe, given by one option: ``weights``.

A folder or a file is searched for what fits each network that starts by itself, that is, of a step
of kind train without `after`; a mapping says it by the names of the backbones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mien.documents import at_home
from mien.errors import DataError
from mien.train.networks.checkpoints.fitting import check_whole
from mien.train.settings.network import WEIGHT_SUFFIXES, NetworkSettings

__all__ = ["give_weights"]

_EXAMPLE: Final = "{resnet50: resnet50.pth}"


@dataclass
class _Backbone:
    """A backbone that starts by itself, and the settings of all networks that have it.

    Attributes:
        channels: Of the crops.
        size: Side of the crops in px.
        networks: The settings ``network`` of the steps, to be changed in place.
    """

    channels: int
    size: int
    networks: list[dict[str, Any]] = field(default_factory=list)


def give_weights(content: Mapping[str, Any], where: str) -> None:
    """Start the networks of a recipe from the files that its option ``weights`` names.

    Args:
        content: The recipe, words filled in; `start` of its networks is changed in place.
        where: Name of the recipe, for messages.

    Raises:
        DataError: A file fits no network, or a network has no file or several.
    """
    weights = content.get("options", {}).get("weights")
    if weights is None:
        return
    where = f"{where}: weights"
    backbones = _starting(content)
    if isinstance(weights, Mapping):
        chosen = _by_name(weights, backbones, where)
    else:
        chosen = _search(_files(at_home(str(weights), where), where), backbones, where)
    for name, file in chosen.items():
        for network in backbones[name].networks:
            network["start"] = str(file)


def _starting(content: Mapping[str, Any]) -> dict[str, _Backbone]:
    """The backbones of networks that start by themselves, by name."""
    backbones: dict[str, _Backbone] = {}
    for step in content.get("steps", {}).values():
        # Steps are not validated yet.
        if not isinstance(step, dict) or step.get("do") != "train" or step.get("after"):
            continue
        settings = step.get("settings", {})
        pixels = settings.get("pixels", {})
        channels = 1 if pixels.get("colour") == "grey" else 3
        network = settings.get("network", {})
        name = str(network.get("backbone"))
        size = int(pixels.get("size", 0))
        backbones.setdefault(name, _Backbone(channels, size)).networks.append(network)
    return backbones


def _by_name(
    weights: Mapping[str, Any], backbones: Mapping[str, _Backbone], where: str
) -> dict[str, Path]:
    """The files of a mapping, each checked against its network."""
    chosen = {}
    for name, file in weights.items():
        if name not in backbones:
            raise DataError(f"{where}: {name} is no network of it; name {_names(backbones)}")
        path = at_home(str(file), f"{where}: {name}").absolute()
        if path.suffix not in WEIGHT_SUFFIXES:
            raise DataError(f"{where}: {name}: {file}: give a {_suffixes()} file")
        try:
            _check(name, backbones[name], path)
        except DataError as error:
            raise DataError(f"{where}: {name}: {error}") from error
        chosen[name] = path
    return chosen


def _files(path: Path, where: str) -> list[Path]:
    """A file by itself, or all files of weights in a folder."""
    if path.is_file():
        return [path.absolute()]
    if not path.is_dir():
        raise DataError(
            f"{where}: {path}: no such file or folder; give one, or a mapping such as {_EXAMPLE}"
        )
    files = [file for file in sorted(path.iterdir()) if file.suffix in WEIGHT_SUFFIXES]
    if not files:
        raise DataError(f"{where}: {path}: no {_suffixes()} file is in it; put the weights there")
    return [file.absolute() for file in files]


def _search(
    files: Iterable[Path], backbones: Mapping[str, _Backbone], where: str
) -> dict[str, Path]:
    """The file of each network, by names and shapes of tensors."""
    chosen: dict[str, Path] = {}
    for file in files:
        fitting = []
        for name, starting in backbones.items():
            try:
                _check(name, starting, file)
            except DataError:
                continue
            fitting.append(name)
        if not fitting:
            raise DataError(
                f"{where}: {file} fits none of {_names(backbones)}; take it out, or give a mapping "
                f"such as {_EXAMPLE}, which says what does not fit"
            )
        for name in fitting:
            if name in chosen:
                raise DataError(
                    f"{where}: {chosen[name]} and {file} both fit {name}; keep one of them"
                )
            chosen[name] = file
    missing = []
    for name, starting in backbones.items():
        # What starts from a package's weights needs no file.
        is_random = any(network.get("start") is None for network in starting.networks)
        if is_random and name not in chosen:
            missing.append(name)
    if missing:
        raise DataError(
            f"{where}: nothing fits {_names(missing)}; add a file for each, or give a mapping such "
            f"as {_EXAMPLE}, and the others start as they do without"
        )
    return chosen


def _check(name: str, starting: _Backbone, file: Path) -> None:
    network = NetworkSettings(backbone=name, start=file)
    check_whole(network, starting.channels, starting.size)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _suffixes() -> str:
    return " or ".join(WEIGHT_SUFFIXES)
