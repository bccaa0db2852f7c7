"""Names with a version, such as ``mien-s@1``, of bundles that come with mien."""

from collections.abc import Mapping
from pathlib import Path

from mien.bundles.card import read_card
from mien.errors import UnknownNameError

__all__ = ["newest_version"]


def newest_version(name: str, embedded: Mapping[str, Path]) -> Path | None:
    """Find the newest bundle of a name by its version.

    Former versions need no search: they lie in folders that have such names themselves.

    Args:
        name: A name, such as ``mien-s@2``, that is no folder's.
        embedded: Folders of the bundles that come with mien, by name.

    Returns:
        The folder of the newest, if this is its version; None for a name without a version, or of a
        bundle that does not come with mien.

    Raises:
        UnknownNameError: There is no such version; the message names the nearest.
        BundleError: The card of the newest is wrong.
    """
    base, _, number = name.partition("@")
    if base not in embedded or not number:
        return None
    newest = f"{base}@{read_card(embedded[base] / 'card.json').version}"
    if name == newest:
        return embedded[base]
    former = [other for other in embedded if other.startswith(f"{base}@")]
    raise UnknownNameError("version", name, [*former, newest])
