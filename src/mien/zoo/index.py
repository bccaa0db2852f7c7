"""The index of what can be had from elsewhere: one strict file each, which pins every byte by its hash."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json

from mien.bundles.card import MOST_CARD, NAME, NOT_FOR, Published, Search, Strict, TaskCard, Terms
from mien.bundles.readme import bullets, published_page, seen_page, table, tasks_page
from mien.bundles.store import KNOWN, home
from mien.documents import check_json, read_bounded
from mien.errors import BundleError, UnknownNameError
from mien.faces.prepare import Pixels
from mien.text import printable

__all__ = ["Affect", "Entry", "Faces", "File", "Output", "entries", "entry", "kept_entry", "page"]

_VERSION: Final = 1


class File(Strict):
    """A file at its address, and how to tell that it is the right one.

    role: ``network`` becomes the bundle's network; ``weights`` are for training on, and only kept.
    most: bytes from which on an answer cannot be right; size: bytes, where they are known.
    sha256: of the content; blob: git's name for the content, SHA-1 of ``blob <size>\\0`` and the content.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    role: Literal["network", "weights"]
    url: Annotated[str, Field(pattern=r"^https?://[^/]+/.")]
    size: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    blob: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None

    @property
    def hashes(self) -> str:
        """The hashes in words.

        >>> File(name="a", role="network", url="https://a/b", most=9, blob="0" * 40).hashes
        'git blob 0000000000000000000000000000000000000000'
        """
        return ", ".join(
            f"{kind} {value}"
            for kind, value in (("sha256", self.sha256), ("git blob", self.blob))
            if value
        )

    @model_validator(mode="after")
    def _can_be_verified(self) -> "File":
        if not self.hashes:
            raise ValueError("neither sha256 nor blob; without one it cannot be verified")
        return self


class Output(TaskCard):
    """A task, and the columns of the network's one output that hold it, in the order of `names`."""

    columns: tuple[Annotated[int, Field(ge=0)], ...]

    @property
    def spec(self) -> TaskCard:
        """The task as a card has it."""
        return TaskCard(**self.model_dump(exclude={"columns"}))

    @model_validator(mode="after")
    def _a_column_a_name(self) -> "Output":
        if len(set(self.columns)) != len(self.names) or len(self.columns) != len(self.names):
            raise ValueError(f"columns: {len(self.names)} different ones are needed, one a name")
        return self


class Affect(Strict):
    """What a network that reads affect eats and gives."""

    reads: Literal["crops"]
    pixels: Pixels
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]


class Faces(Strict):
    """How a network of YuNet's form is used to find faces."""

    reads: Literal["frames"]
    search: Search


class Entry(Strict):
    """One that can be pulled: a bundle, or only weights to start training from.

    commit: of the repository that every address is pinned to. licence: of the weights; code_licence: of the code beside them.
    network: what the file of that role is; None for weights alone. architectures: what the weights may be the weights of, as
    `NetworkSettings.backbone` has it; more than one where the authors do not say, and the names and shapes of the tensors decide.
    """

    index: Literal[1]
    name: Annotated[str, Field(pattern=NAME)]
    summary: str
    files: Annotated[tuple[File, ...], Field(min_length=1)]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    code_licence: str
    licence: str
    trained_on: Annotated[tuple[Terms, ...], Field(min_length=1)]
    network: Annotated[Affect | Faces, Field(discriminator="reads")] | None
    architectures: tuple[str, ...]
    published: tuple[Published, ...]
    limits: Annotated[tuple[str, ...], Field(min_length=1)]
    not_for: Annotated[tuple[str, ...], Field(min_length=1)] = NOT_FOR

    def file(self, role: Literal["network", "weights"]) -> File | None:
        """The file of that role, None where there is none."""
        return next((file for file in self.files if file.role == role), None)

    @property
    def digest(self) -> str:
        """SHA-256 of all that is told here, whatever the file looks like: the same digest is the same entry."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @property
    def tasks(self) -> tuple[TaskCard, ...]:
        """What it predicts, in output order; none for what reads no affect."""
        return (
            tuple(output.spec for output in self.network.outputs)
            if isinstance(self.network, Affect)
            else ()
        )

    @model_validator(mode="after")
    def _files_are_what_is_told(self) -> "Entry":
        roles = [file.role for file in self.files]
        if len(set(roles)) < len(roles) or len({file.name for file in self.files}) < len(roles):
            raise ValueError("files: a role or a name comes twice")
        if ("network" in roles) != (self.network is not None):
            raise ValueError(
                "network: it must be told of exactly where a file of that role is listed"
            )
        if loose := [file.name for file in self.files if self.commit not in file.url]:
            raise ValueError(
                f"files: the address of {', '.join(loose)} is not pinned to the commit"
            )
        if self.network is not None and not self.published:
            raise ValueError(
                "published: a network needs at least one score that its makers published"
            )
        return self


def entries() -> dict[str, Entry]:
    """All that is known, by name: bundles first, then weights to start training from."""
    return {
        path.stem: _read(path)
        for path in (*sorted(KNOWN.glob("*.json")), *sorted((KNOWN / "weights").glob("*.json")))
    }


def entry(name: str | Path) -> Entry:
    """What is known by that name; or the file of an entry of your own: a `Path`, or a name that ends in ``.json``.

    By name: what the index has, and after it the entries of weights that are here. Raises UnknownNameError (nearest names shown), and
    BundleError naming file and key.
    """
    if isinstance(name, Path) or name.endswith(".json"):
        return _read(Path(name))
    if re.fullmatch(NAME, name):
        for path in (KNOWN / f"{name}.json", KNOWN / "weights" / f"{name}.json", kept_entry(name)):
            if path.is_file():
                return _read(path)
    raise UnknownNameError("bundle in the index", name, entries())


def kept_entry(name: str) -> Path:
    """Where the entry of pulled weights lies, beside them; no file of an entry can have this name."""
    return home() / "weights" / name / ".entry.json"


def _read(path: Path) -> Entry:
    text = read_bounded(
        path,
        MOST_CARD,
        BundleError,
        "name a bundle of `mien bundles list`, or the file of an index entry",
    )
    try:
        found = from_json(text)
        check_json(text)
    except ValueError as error:
        raise BundleError(
            f"{path}: no JSON: {error}; get the file again from where it came"
        ) from error
    version = found.get("index") if isinstance(found, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise BundleError(
            f"{path}: written for a newer mien (index {version}; this one reads {_VERSION}); update mien: pip install --upgrade mien"
        )
    try:
        return Entry.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            printable(f"{path}: {where}: {first['msg']}; an entry of the index is wrong")
        ) from error


def page(known: Entry, kept: Path | None = None) -> str:
    """Markdown for people: what would be had by pulling it. kept: the folder of its weights, where they are here."""
    files = [[file.role, file.name, _size(file), file.hashes, file.url] for file in known.files]
    if kept is not None and known.network is None:
        where = f"Here: `{kept}`; check it with `mien bundles verify {known.name}`."
    else:
        where = f"Not on this machine; get it with `mien bundles pull {known.name}`."
    facts = [
        f"Licence of the weights: {known.licence}",
        f"Licence of the code: {known.code_licence}",
    ]
    if isinstance(known.network, Affect):
        pixels = known.network.pixels
        facts.append(
            f"Reads: crops of {pixels.size}x{pixels.size} px, {pixels.colour}, {pixels.alignment} alignment"
        )
    if known.architectures:
        facts.append(f"Architecture: {' or '.join(known.architectures)}")
    parts = [f"# {known.name}", f"{known.summary} {where}", bullets(facts)]
    if known.tasks:
        parts += ["## What it predicts", tasks_page(known.tasks)]
    if known.published:
        parts += [
            "## Scores published by its authors, not measured by mien",
            published_page(known.published),
        ]
    parts += [
        "## Where it fails",
        bullets(known.limits),
        "## Must not be used for",
        bullets(known.not_for),
    ]
    parts += ["## Data it has seen", seen_page(known.trained_on)]
    parts += ["## Files", table(["role", "name", "size", "hashes", "address"], files)]
    return "\n\n".join(parts) + "\n"


def _size(file: File) -> str:
    if file.size is not None:
        return f"{file.size} bytes"
    return f"not known, below {file.most / 1e6:.0f} MB; the hash pins the content, and so its size"
