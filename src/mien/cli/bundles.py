"""Commands on bundles: what is here, what can be had, and how it gets from one machine to the next."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Column, Table
from rich.text import Text

from mien.bundles.card import AffectCard, FaceCard
from mien.bundles.readme import readme
from mien.bundles.store import bundles, embedded, open_bundle
from mien.cli.bars import Bar
from mien.cli.terminal import handle_errors, out
from mien.cli.train import needs_extra
from mien.errors import MienError, UnknownNameError
from mien.text import printable

if TYPE_CHECKING:
    from mien.zoo import Entry

__all__ = ["add", "bundles_list", "pack", "pull", "remove", "show", "verify"]

_NOTHING_CHANGED: Final = "nothing was changed"  # what to say after Ctrl-C where nothing is written
_HEADS: Final = ("name", "where", "MB", "what it gives", "licence of the weights")
_NARROW: Final = 60  # columns of a terminal below which all but the name share one


def bundles_list() -> None:
    """List the bundles that are here, and those that can be pulled; in a pipe a line each, its fields separated by tabs."""
    with handle_errors(_NOTHING_CHANGED):
        rows = [tuple(map(printable, row)) for row in _rows()]
        if not out.is_terminal:
            for row in rows:
                typer.echo("\t".join(row))  # rich would make spaces of tabs
            return
        rows.insert(0, _HEADS)
        if out.width < _NARROW:
            rows = [(name, "; ".join(filter(None, facts))) for name, *facts in rows]
        table = Table(
            Column(no_wrap=True, min_width=max(len(row[0]) for row in rows)),
            box=None,
            pad_edge=False,
            show_header=False,
        )
        for row in rows:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        out.print(table)


def _rows() -> Iterator[tuple[str, ...]]:
    """What stands below `_HEADS`, a bundle a row."""
    from mien import zoo

    own, here, weights = embedded(), bundles(), zoo.kept()
    for name, folder in here.items():
        where = "with mien" if name in own else "installed"
        try:
            card = open_bundle(folder).card
            size = f"{(folder / 'model.onnx').stat().st_size / 1e6:.1f}"
            yield name, where, size, _given(card), card.licence
        except (MienError, OSError):
            yield name, where, "", f"broken: see mien bundles verify {name}", ""
    for name in dict.fromkeys((*zoo.entries(), *weights)):
        if name in here:
            continue
        try:
            known = zoo.entry(name)
            where = "installed" if name in weights and known.network is None else "can be pulled"
            yield name, where, _sizes(known), _given(known), known.licence
        except UnknownNameError:
            yield name, "installed", "", "without its entry: mien bundles pull ENTRY.json", ""
        except MienError:
            yield name, "installed", "", f"broken: see mien bundles verify {name}", ""


def _given(card: "AffectCard | FaceCard | Entry") -> str:
    """What a card or an entry of the index gives, in a word or two."""
    tasks = () if isinstance(card, FaceCard) else card.tasks
    if tasks:
        return ", ".join(spec.key for spec in tasks)
    reads = (
        card.reads
        if isinstance(card, AffectCard | FaceCard)
        else card.network and card.network.reads
    )
    return {"frames": "faces", "crops": "features"}.get(reads or "", "weights to train from")


def _sizes(known: "Entry") -> str:
    file = known.file("network") or known.files[0]
    return f"{file.size / 1e6:.1f}" if file.size else f"< {file.most / 1e6:.0f}"


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A bundle's name or folder, here or not.")
    ],
) -> None:
    """Show what is known of a bundle: what it was trained on, its scores, its limits, and what it must not be used for."""
    with handle_errors(_NOTHING_CHANGED):
        from mien import zoo

        kept = zoo.kept()
        if name not in bundles() and (name in zoo.entries() or name in kept):
            out.print(zoo.page(zoo.entry(name), kept.get(name)), markup=False, end="")
        else:
            out.print(readme(open_bundle(name).card), markup=False, end="")


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Names or folders; all that are here if none."),
    ] = None,
) -> None:
    """Check that each network is the one its card speaks of: hash, outputs and their order, one run; and weights by their hash."""
    from mien import zoo

    failed = False
    for name in names or [*bundles(), *(name for name in zoo.kept() if name not in bundles())]:
        try:
            with handle_errors(_NOTHING_CHANGED):
                zoo.verify(name)
                out.print(f"{name}: verified", markup=False)
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(1)


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
    """Fetch bundles that others published: verified, brought into mien's form, compared with the original, then installed.

    What is here stays only if this machine pulled it, by the same entry to the word, and it is unaltered; what came by
    mien bundles add is fetched anew. Of weights the hash alone decides. The only command that uses the network. What broke off
    is gone on from. Proxies: HTTPS_PROXY. Place: MIEN_HOME.
    """
    worst = 0
    for name in names:
        try:
            with handle_errors("what came is kept, and pulling again goes on from there"):
                from mien import zoo

                with closing(Bar()) as bar:
                    found = zoo.pull(
                        name, weights=weights, source=source, progress=bar, note=bar.note
                    )
                told = "pulled and verified" if found.fresh else "is here already, verified"
                out.print(f"{found.name}: {told}; {found.bundle or found.weights}", markup=False)
                if found.weights:
                    with needs_extra(f"making safetensors of {found.weights}"):
                        from mien.train.networks.published import start_file
                    out.print(
                        f"{found.name}: every tensor in its place; start: {start_file(name, _say)}",
                        markup=False,
                    )
        except typer.Exit as end:
            if end.exit_code == 130:
                raise
            worst = max(worst, end.exit_code)
    if worst:
        raise typer.Exit(worst)


def add(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|FOLDER", help="What `mien bundles pack` wrote, or a bundle's folder."
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Another bundle of the same name goes.")
    ] = False,
) -> None:
    """Install bundles from a file or a folder; no network is used.

    They are found whole and harmless, but not compared with their authors' files: who packed them could have altered them before.
    Only mien bundles pull compares.
    """
    with handle_errors("what was here before is untouched"):
        from mien import zoo

        for name in zoo.add(path, replace=replace, note=_say):
            out.print(
                f"{name}: installed; whole and harmless, but not compared with its authors' file",
                markup=False,
            )


def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of installed bundles.")],
) -> None:
    """Delete installed bundles, their weights and what a broken pull left."""
    with handle_errors("what was not said to be removed is still here"):
        from mien import zoo

        for name in names:
            zoo.remove(name, _say)
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
        out.print(
            f"{packed}: {', '.join(names)}; {packed.stat().st_size / 1e6:.1f} MB", markup=False
        )


def _say(line: str) -> None:
    out.print(line, markup=False)
