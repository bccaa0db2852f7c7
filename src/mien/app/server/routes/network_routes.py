"""The route of the networks: those that are here, and those that can be pulled."""

from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel

from mien import zoo
from mien.bundles.card import AffectCard, AnyCard, SystemCard
from mien.bundles.readme import readme
from mien.bundles.store import AFFECT, FACES, QUALITY, bundles, open_any
from mien.errors import MienError

__all__ = ["router"]

router = APIRouter(prefix="/api/networks", tags=["networks"])


class Network(BaseModel):
    """A bundle.

    Attributes:
        name: Its name.
        version: Which network of its name it is; null where its card does not count.
        title: Its name for people.
        summary: What it is.
        tasks: What it predicts.
        size_bytes: The size of its networks; null where that is unknown.
        at_hand: Whether it is on this computer; others come by `mien bundles pull NAME`.
        in_use: Whether it reads when nothing else is asked for.
        limits: Where it fails.
        terms: The licence of its weights.
        card: The whole card in Markdown.
    """

    name: str
    version: int | None = None
    title: str
    summary: str
    tasks: list[str] = []
    size_bytes: int | None = None
    at_hand: bool = True
    in_use: bool = False
    limits: list[str] = []
    terms: str = ""
    card: str = ""


@router.get("")
def networks() -> list[Network]:
    """The bundles that are here, and those that `mien bundles pull` can fetch."""
    available = bundles()
    listed = [_bundle(name, folder) for name, folder in available.items()]
    kept = zoo.kept()
    for name in dict.fromkeys((*zoo.entries(), *kept)):
        if name not in available:
            listed.append(_entry(name, kept.get(name)))
    return listed


def _bundle(name: str, folder: Path) -> Network:
    is_used = name in (AFFECT, FACES, QUALITY)
    try:
        card: AnyCard = open_any(folder).card
        size = sum(path.stat().st_size for path in folder.rglob("*.onnx"))
    except (MienError, OSError) as error:
        # One that is broken does not hide the others.
        return Network(name=name, title=name, summary=f"broken: {error}", in_use=is_used)
    tasks = card.tasks if isinstance(card, AffectCard | SystemCard) else ()
    return Network(
        name=name,
        version=card.version,
        title=name,
        summary=card.summary,
        tasks=[spec.key for spec in tasks],
        size_bytes=size,
        in_use=is_used,
        limits=list(card.limits),
        terms=card.licence,
        card=readme(card),
    )


def _entry(name: str, weights: Path | None) -> Network:
    try:
        entry = zoo.entry(name)
    except MienError as error:
        return Network(name=name, title=name, summary=f"broken: {error}", at_hand=bool(weights))
    file = entry.file("network") or entry.files[0]
    tasks = [spec.key for spec in entry.tasks]
    # Of what became a bundle, the bundle is listed; weights to train from have none.
    at_hand = weights is not None and entry.network is None
    page = zoo.page(entry, weights)
    return Network(
        name=name,
        title=name,
        summary=entry.summary,
        tasks=tasks,
        size_bytes=file.size,
        at_hand=at_hand,
        limits=list(entry.limits),
        terms=entry.licence,
        card=page,
    )
