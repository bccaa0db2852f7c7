"""The index of what can be pulled: one strict file each, which pins every byte by its hash."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json

from mien.bundles.card import MOST_CARD, Search
from mien.bundles.card_parts import NAME, NOT_FOR, Published, Strict, TaskCard, Terms
from mien.bundles.readme import bullets, published_page, seen_page, table, tasks_page
from mien.bundles.store import KNOWN, home
from mien.documents import check_json, read_bounded
from mien.errors import BundleError, UnknownNameError
from mien.faces.prepare import Pixels
from mien.text import printable

__all__ = ["Affect", "Entry", "Faces", "File", "Output", "entries", "entry", "kept_entry", "page"]

_VERSION: Final = 1


class File(Strict):
    """A file at its address, and how to verify it.

    Attributes:
        name: Its file name.
        role: ``network`` becomes the bundle's network; ``weights`` are kept as they are, to
            start training from.
        url: Its address.
        size: Its bytes, where they are known.
        most: Largest number of bytes an answer may have.
        sha256: SHA-256 of the content.
        blob: git's name of the content: SHA-1 of ``blob <size>\\0`` and the content.
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
        hashes = {"sha256": self.sha256, "git blob": self.blob}
        return ", ".join(f"{kind} {value}" for kind, value in hashes.items() if value)

    @model_validator(mode="after")
    def _check_hashes(self) -> "File":
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
    def _check_columns(self) -> "Output":
        if len(set(self.columns)) != len(self.names) or len(self.columns) != len(self.names):
            raise ValueError(f"columns: {len(self.names)} different ones are needed, one a name")
        return self


class Affect(Strict):
    """Inputs and outputs of a network that reads affect."""

    reads: Literal["crops"]
    pixels: Pixels
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]


class Faces(Strict):
    """Settings of a face detector of YuNet's form."""

    reads: Literal["frames"]
    search: Search


class Entry(Strict):
    """What can be pulled: a bundle, or only weights to start training from.

    Attributes:
        commit: Commit of the authors' repository that every address is pinned to.
        code_licence: Licence of the code beside the weights.
        licence: Licence of the weights.
        network: What the file of that role is; None for weights alone.
        architectures: Architectures the weights may fit, as in `NetworkSettings.backbone`; more
            than one where the authors do not say, so that names and shapes of tensors decide.
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
        """The file of a role.

        Args:
            role: ``network`` or ``weights``.

        Returns:
            The file; None where there is none.
        """
        for file in self.files:
            if file.role == role:
                return file
        return None

    @property
    def digest(self) -> str:
        """SHA-256 of the entry's values, independent of how its file is formatted."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @property
    def tasks(self) -> tuple[TaskCard, ...]:
        """What it predicts, in output order; empty for what reads no affect."""
        if not isinstance(self.network, Affect):
            return ()
        return tuple(output.spec for output in self.network.outputs)

    @model_validator(mode="after")
    def _check_files(self) -> "Entry":
        roles = [file.role for file in self.files]
        names = [file.name for file in self.files]
        if len(set(roles)) < len(roles) or len(set(names)) < len(names):
            raise ValueError("files: a role or a name comes twice")
        if ("network" in roles) != (self.network is not None):
            raise ValueError(
                "network: it must be described exactly where a file of that role is listed"
            )
        # An address of a branch would give other bytes tomorrow, which the hash then refuses.
        unpinned = [file.name for file in self.files if self.commit not in file.url]
        if unpinned:
            raise ValueError(
                f"files: the address of {', '.join(unpinned)} is not pinned to the commit"
            )
        if self.network is not None and not self.published:
            raise ValueError(
                "published: a network needs at least one score that its makers published"
            )
        return self


def entries() -> dict[str, Entry]:
    """The whole index.

    Returns:
        Entries by name: bundles first, then weights to start training from.
    """
    bundles = sorted(KNOWN.glob("*.json"))
    weights = sorted((KNOWN / "weights").glob("*.json"))
    return {path.stem: _read(path) for path in (*bundles, *weights)}


def entry(name: str | Path) -> Entry:
    """Read one entry.

    Args:
        name: A name in the index or of weights on this machine; or the file of an entry: a
            `Path`, or a name that ends in ``.json``.

    Returns:
        The entry.

    Raises:
        UnknownNameError: There is none of that name; the message suggests the nearest.
        BundleError: The file is wrong; the message names the file and the key.
    """
    if isinstance(name, Path) or name.endswith(".json"):
        return _read(Path(name))
    if re.fullmatch(NAME, name):
        for path in (KNOWN / f"{name}.json", KNOWN / "weights" / f"{name}.json", kept_entry(name)):
            if path.is_file():
                return _read(path)
    raise UnknownNameError("bundle in the index", name, entries())


def kept_entry(name: str) -> Path:
    """Where the entry of pulled weights is kept, beside them.

    Args:
        name: Name of the entry.

    Returns:
        A path. Its leading dot keeps it apart from the entry's files, whose names have none.
    """
    return home() / "weights" / name / ".entry.json"


def _read(path: Path) -> Entry:
    next_step = "name a bundle of `mien bundles list`, or the file of an index entry"
    text = read_bounded(path, MOST_CARD, BundleError, next_step)
    try:
        document = from_json(text)
        check_json(text)
    except ValueError as error:
        raise BundleError(
            f"{path}: no JSON: {error}; get the file again from where it came"
        ) from error
    # Before the keys are checked: a newer version may well have others.
    version = document.get("index") if isinstance(document, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise BundleError(
            f"{path}: written for a newer mien (index {version}; this one reads {_VERSION}); "
            "update mien: pip install --upgrade mien"
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
    """What pulling an entry would bring.

    Args:
        known: The entry.
        kept: Folder of its weights, where they are on this machine.

    Returns:
        Markdown.
    """
    # Only weights: an installed bundle has a page of its own, made of its card.
    if kept is not None and known.network is None:
        where = f"Here: `{kept}`; check it with `mien bundles verify {known.name}`."
    else:
        where = f"Not on this machine; get it with `mien bundles pull {known.name}`."
    parts = [f"# {known.name}", f"{known.summary} {where}", bullets(_facts(known))]
    if known.tasks:
        parts += ["## What it predicts", tasks_page(known.tasks)]
    if known.published:
        title = "## Scores published by its authors, not measured by mien"
        parts += [title, published_page(known.published)]
    parts += ["## Where it fails", bullets(known.limits)]
    parts += ["## Must not be used for", bullets(known.not_for)]
    parts += ["## Data it has seen", seen_page(known.trained_on)]
    parts += ["## Files", _files_table(known.files)]
    return "\n\n".join(parts) + "\n"


def _facts(known: Entry) -> list[str]:
    """Licences, input and architecture of an entry, a line each."""
    facts = [
        f"Licence of the weights: {known.licence}",
        f"Licence of the code: {known.code_licence}",
    ]
    if isinstance(known.network, Affect):
        pixels = known.network.pixels
        size = f"{pixels.size}x{pixels.size} px"
        facts.append(f"Reads: crops of {size}, {pixels.colour}, {pixels.alignment} alignment")
    if known.architectures:
        facts.append(f"Architecture: {' or '.join(known.architectures)}")
    return facts


def _files_table(files: tuple[File, ...]) -> str:
    rows = [[file.role, file.name, _size(file), file.hashes, file.url] for file in files]
    return table(["role", "name", "size", "hashes", "address"], rows)


def _size(file: File) -> str:
    if file.size is not None:
        return f"{file.size} bytes"
    return f"not known, below {file.most / 1e6:.0f} MB; the hash pins the content, and so its size"
