"""Commands on bundles: list, show, verify, and bring them from one machine to the next."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Column, Table
from rich.text import Text

from mien.bundles.card import AffectCard, AnyCard, FaceCard, IdentityCard, SystemCard
from mien.bundles.readme import readme
from mien.bundles.store import bundles, embedded, open_any
from mien.cli.bars import Bar
from mien.cli.terminal import STOPPED, fail, handle_errors, out
from mien.cli.train import needs_extra
from mien.errors import BundleError, MienError, UnknownNameError
from mien.text import printable

if TYPE_CHECKING:
    from mien.zoo import Entry

__all__ = ["add", "bundles_list", "pack", "pull", "remove", "show", "verify"]

# The message after Ctrl-C where nothing is written.
_NOTHING_CHANGED: Final = "nothing was changed"
_HEADS: Final = ("name", "where", "MB", "what it gives", "licence of the weights")
# Columns of a terminal below which all facts but the name share one column.
_NARROW: Final = 60


def bundles_list() -> None:
    """List the bundles that are here, and those that can be pulled.

    In a pipe each is one line, with its fields separated by tabs.
    """
    with handle_errors(_NOTHING_CHANGED):
        rows = [tuple(map(printable, row)) for row in _rows()]
        if out.is_terminal:
            out.print(_table([_HEADS, *rows]))
            return
        # Not through rich, which would turn tabs into spaces.
        for row in rows:
            typer.echo("\t".join(row))


def _table(rows: list[tuple[str, ...]]) -> Table:
    """The rows as a table that fits the terminal."""
    if out.width < _NARROW:
        narrow: list[tuple[str, ...]] = []
        for name, *facts in rows:
            narrow.append((name, "; ".join(filter(None, facts))))
        rows = narrow
    # A name that wraps could not be copied.
    longest = max(len(row[0]) for row in rows)
    names = Column(no_wrap=True, min_width=longest)
    table = Table(names, box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*[Text(cell, overflow="fold") for cell in row])
    return table


def _rows() -> Iterator[tuple[str, ...]]:
    """The facts of `_HEADS` for each bundle."""
    from mien import zoo

    available = bundles()
    weights = zoo.kept()
    for name, folder in available.items():
        yield _bundle_row(name, folder)
    # Weights of an entry that the user wrote are in no index.
    for name in dict.fromkeys((*zoo.entries(), *weights)):
        if name not in available:
            yield _entry_row(name, is_kept=name in weights)


def _bundle_row(name: str, folder: Path) -> tuple[str, ...]:
    """A row for a bundle on this machine."""
    where = "with mien" if name in embedded() else "installed"
    try:
        card = open_any(folder).card
        if card.version is not None:
            where = f"{where}, version {card.version}"
        # A system holds several networks.
        networks = sum(path.stat().st_size for path in folder.rglob("*.onnx"))
    except (MienError, OSError):
        return name, where, "", f"broken: see mien bundles verify {name}", ""
    return name, where, f"{networks / 1e6:.1f}", _outputs(card), card.licence


def _entry_row(name: str, is_kept: bool) -> tuple[str, ...]:
    """A row for what can be pulled, or for weights on this machine."""
    from mien import zoo

    try:
        entry = zoo.entry(name)
    except UnknownNameError:
        return name, "installed", "", "without its entry: mien bundles pull ENTRY.json", ""
    except MienError:
        return name, "installed", "", f"broken: see mien bundles verify {name}", ""
    is_installed = is_kept and entry.network is None
    where = "installed" if is_installed else "can be pulled"
    return name, where, _size(entry), _outputs(entry), entry.licence


def _outputs(card: "AnyCard | Entry") -> str:
    """What a network gives, in a word or two."""
    tasks = () if isinstance(card, FaceCard | IdentityCard) else card.tasks
    if tasks:
        return ", ".join([spec.key for spec in tasks])
    if isinstance(card, AffectCard | FaceCard | IdentityCard | SystemCard):
        reads = card.reads
    elif card.network is not None:
        reads = card.network.reads
    else:
        return "weights to train from"
    return {"frames": "faces", "crops": "features", "people": "people"}.get(
        reads, "weights to train from"
    )


def _size(entry: "Entry") -> str:
    """Size of an entry's main file, MB."""
    file = entry.file("network") or entry.files[0]
    return f"{file.size / 1e6:.1f}" if file.size else f"< {file.most / 1e6:.0f}"


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A bundle's name or folder, here or not.")
    ],
) -> None:
    """Show a bundle's card.

    It says what the bundle was trained on, its scores, its limits, and what it must not be used
    for.
    """
    with handle_errors(_NOTHING_CHANGED):
        from mien import zoo

        kept = zoo.kept()
        # A bundle's card says more than the entry that it was pulled by.
        if name not in bundles() and (name in zoo.entries() or name in kept):
            out.print(zoo.page(zoo.entry(name), kept.get(name)), markup=False, end="")
        else:
            out.print(readme(open_any(name).card), markup=False, end="")


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Names or folders; all that are here if none."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=(
                "Also compare scores on this engine with those of ONNX Runtime on the CPU, on the "
                "built-in face, clear and degraded."
            ),
        ),
    ] = None,
) -> None:
    """Check that each network is the one its card describes.

    Compares the hash, the outputs and their order, and runs it once; weights are checked by hash.
    """
    from mien import zoo

    if engine is not None and not names:
        raise fail("--engine goes with the NAME of a bundle that reads affect, such as mien-s", 2)
    failed = False
    # One that fails does not keep the others from being checked.
    for name in names or dict.fromkeys((*bundles(), *zoo.kept())):
        try:
            with handle_errors(_NOTHING_CHANGED):
                zoo.verify(name)
                out.print(f"{name}: verified", markup=False)
                if engine is not None:
                    _compare(name, engine)
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(1)


def _compare(name: str, engine: str) -> None:
    """Print how far an engine is from the CPU; raise BundleError beyond the tolerance."""
    from mien.evaluation.engine_difference import compare_with_cpu

    difference = compare_with_cpu(name, engine)
    line = f"{name}: scores on {engine} differ by up to {difference.largest:.2g} from those of "
    line += f"the CPU over {difference.faces} pictures; the tolerance is {difference.tolerance:g}"
    if not difference.within:
        raise BundleError(f"{line}; use the engine onnxruntime where numbers are compared")
    _print(line)


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", help="Names of the list, or the file of an index entry (.json)."
        ),
    ],
    weights: Annotated[
        bool,
        typer.Option(
            "--weights",
            help='Also weights to start training from, as safetensors; needs "mien[train]".',
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|URL",
            help="Take the files from here instead; their hashes stay the same.",
        ),
    ] = None,
) -> None:
    """Fetch published bundles: verify, convert, compare with the original, then install.

    The only command that uses the network. A bundle stays as it is only where this machine pulled
    it by the same entry and it is unaltered; one that came by mien bundles add is fetched again.
    Weights stay where their hash is right. An interrupted download is resumed. HTTPS_PROXY names a
    proxy, MIEN_HOME the folder of bundles.
    """
    worst = 0
    for name in names:
        try:
            with handle_errors("what came is kept, and pulling again resumes there"):
                _pull(name, weights, source)
        except typer.Exit as end:
            # One that fails does not keep the others from being pulled; Ctrl-C does.
            if end.exit_code > STOPPED:
                raise
            worst = max(worst, end.exit_code)
    if worst:
        raise typer.Exit(worst)


def _pull(name: str, weights: bool, source: str | None) -> None:
    """Pull one entry and print what is on this machine now."""
    from mien import zoo

    with closing(Bar()) as bar:
        pulled = zoo.pull(name, weights=weights, source=source, progress=bar, note=bar.note)
    state = "pulled and verified" if pulled.fresh else "is here already, verified"
    _print(f"{pulled.name}: {state}; {pulled.bundle or pulled.weights}")
    if pulled.weights:
        with needs_extra(f"making safetensors of {pulled.weights}"):
            from mien.train.networks.checkpoints.published import start_file
        start = start_file(name, _print)
        _print(f"{pulled.name}: every tensor in its place; start: {start}")


def add(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|FOLDER", help="What `mien bundles pack` wrote, or a bundle's folder."
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a bundle of the same name.")
    ] = False,
) -> None:
    """Install bundles from a file or a folder; no network is used.

    They are checked to be whole and harmless, but not compared with their authors' files: whoever
    packed them could have altered them. Only mien bundles pull compares.
    """
    with handle_errors("what was here before is untouched"):
        from mien import zoo

        for name in zoo.add(path, replace=replace, note=_print):
            state = "whole and harmless, but not compared with its authors' file"
            _print(f"{name}: installed; {state}")


def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of installed bundles.")],
) -> None:
    """Delete installed bundles, their weights and what a broken pull left."""
    with handle_errors("what is not listed as removed is still here"):
        from mien import zoo

        for name in names:
            zoo.remove(name, _print)
            out.print(f"{name}: removed", markup=False)


def pack(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Names or folders of bundles that are here.")
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="The file to write; one of that name is replaced."
        ),
    ],
) -> None:
    """Put bundles into one file, for `mien bundles add` on a machine without a network."""
    with handle_errors("no file was written"):
        from mien import zoo

        packed = zoo.pack(names, target)
        size = f"{packed.stat().st_size / 1e6:.1f} MB"
        _print(f"{packed}: {', '.join(names)}; {size}")


def _print(line: str) -> None:
    out.print(line, markup=False)
