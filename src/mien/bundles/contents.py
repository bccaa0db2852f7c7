"""Everything that a bundle holds, in memory: its card and its networks, verified."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.bundles.card import AffectCard, AnyCard, SystemCard, head_path, parse_card
from mien.bundles.gate import inspect, inspect_head, read_file
from mien.bundles.plan import HeadsStep
from mien.bundles.store import SystemBundle, open_any, read_bundle
from mien.errors import BundleError

__all__ = ["Contents", "files_of", "read_contents", "verify_contents"]

_NETWORK: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a bundle holds.

    Attributes:
        card: Its card.
        files: By path in its folder, everything else that it needs: the network; of a system, the
            members' cards and networks, and the networks of heads.
    """

    card: AnyCard
    files: Mapping[str, bytes]

    def inspect(self) -> None:
        """Check all networks before an engine loads one, see `mien.bundles.gate`.

        Raises:
            BundleError: A network does not pass.
        """
        card = self.card
        if not isinstance(card, SystemCard):
            inspect(card, self.files[_NETWORK])
            return
        for name in card.members:
            folder = _member_folder(name)
            where = f"{card.name}/{folder}"
            member = parse_card(self.files[f"{folder}/card.json"], f"{where}/card.json")
            if not isinstance(member, AffectCard):
                raise BundleError(f"{where}: reads {member.reads}; a system's members read crops")
            inspect(member, self.files[f"{folder}/{_NETWORK}"])
        for name, step in card.steps.items():
            if isinstance(step, HeadsStep):
                for number, head in enumerate(step.heads):
                    path = head_path(name, number)
                    inspect_head(f"{card.name}/{path}", head, self.files[path])


def files_of(card: AnyCard) -> tuple[str, ...]:
    """Name the files that a bundle needs beside its card.

    Args:
        card: Its card.

    Returns:
        Paths in the bundle's folder, sorted.
    """
    if not isinstance(card, SystemCard):
        return (_NETWORK,)
    networks = [f"{_member_folder(name)}/{_NETWORK}" for name in card.members]
    return tuple(sorted([*card.files, *networks]))


def read_contents(name: str | Path) -> Contents:
    """Read a bundle, and check its hashes.

    Args:
        name: Its name or folder, as for `mien.bundles.store.open_any`.

    Returns:
        What it holds; the network of a bundle of one network is inspected.

    Raises:
        UnknownNameError: There is no such bundle.
        BundleError: A file is missing, altered or wrong.
    """
    bundle = open_any(name)
    if not isinstance(bundle, SystemBundle):
        bundle, network = read_bundle(name)
        return Contents(bundle.card, {_NETWORK: network})
    files = {path: read_file(bundle.folder / path) for path in files_of(bundle.card)}
    return verify_contents(str(bundle.folder), bundle.card, files)


def verify_contents(where: str, card: AnyCard, files: Mapping[str, bytes]) -> Contents:
    """Compare the files of a bundle with the hashes that its card names.

    Args:
        where: What messages begin with.
        card: Its card.
        files: Exactly those that `files_of` names.

    Returns:
        The card and the files.

    Raises:
        BundleError: A file was altered, or the card of a member is wrong.
    """
    if not isinstance(card, SystemCard):
        _check_hash(f"{where}/{_NETWORK}", files[_NETWORK], card.sha256)
        return Contents(card, files)
    for path, sha256 in card.files.items():
        _check_hash(f"{where}/{path}", files[path], sha256)
    # The hash of a member's network is on its card, which is known to be the right one by now.
    for name in card.members:
        folder = _member_folder(name)
        member = parse_card(files[f"{folder}/card.json"], f"{where}/{folder}/card.json")
        network = f"{folder}/{_NETWORK}"
        _check_hash(f"{where}/{network}", files[network], member.sha256)
    return Contents(card, files)


def _member_folder(name: str) -> str:
    return f"members/{name}"


def _check_hash(where: str, content: bytes, expected: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise BundleError(
            f"{where}: sha256 is {sha256[:12]}…, the card says {expected[:12]}…; get it again"
        )
