"""Making stand-ins: which kinds there are, how large they are, and the making of a folder."""

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.data.sets.afewva import AfewVa
from mien.data.sets.affectnet import AffectNet
from mien.data.sets.affwild2 import AffWild2
from mien.data.sets.c_expr_db import CExprDb
from mien.data.sets.expw import ExpW
from mien.data.sets.ferplus import FerPlus
from mien.data.sets.lsd import Lsd
from mien.data.sets.rafdb import RafDb
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.sets.vggface2 import VggFace2
from mien.data.spec import DataSet
from mien.data.standins.affwild import aff_wild2, s_aff_wild2
from mien.data.standins.compound import c_expr_db
from mien.data.standins.faces import Faces, drawn_faces, faces_of, read_faces
from mien.data.standins.ferplus import ferplus
from mien.data.standins.order import LABELS, Order, Work, write_lines
from mien.data.standins.people import vggface2
from mien.data.standins.stills import affectnet, lsd, raf_db
from mien.data.standins.wild import afew_va, expw
from mien.errors import DataError, OutputError, UnknownNameError
from mien.files import replace_folder, wrap_os_errors
from mien.progress import Progress

__all__ = ["KINDS", "Kind", "is_standin", "make_standin"]

_README: Final = "README.txt"
_FIRST: Final = "This is a stand-in"


@dataclass(frozen=True, slots=True)
class Kind:
    """A data set that there is a stand-in for.

    Attributes:
        data_set: The settings class of the real data set.
        rows: Its rows by split; the first split is what `size` counts.
        size: What is made when nothing is asked for.
        least: Fewest rows of the first split.
        build: Writes the lists, and returns the pictures to be made.
    """

    data_set: type[DataSet]
    rows: Mapping[str, int]
    size: int
    least: int
    build: Callable[[Order], list[Work]]

    @property
    def name(self) -> str:
        """What people call the real data set."""
        return str(self.data_set.info.name)

    @property
    def real(self) -> int:
        """The size of the real data set."""
        return next(iter(self.rows.values()))

    def counts(self, size: int) -> dict[str, int]:
        """Rows of every split, in the real proportions.

        Args:
            size: Rows of the first split.

        Returns:
            Rows by split; the others are at least half of the first, or all that is real.

        >>> KINDS["lsd"].counts(1000), KINDS["lsd"].counts(277_251)["val"]
        ({'train': 1000, 'val': 500, 'test': 500}, 4670)
        """
        first, *others = self.rows
        counts = {first: size}
        for name in others:
            proportional = round(size * self.rows[name] / self.real)
            counts[name] = max(proportional, min(size // 2, self.rows[name]))
        return counts


_S_AFF_WILD2: Final = {"train": 142_333, "val": 26_876, "test": 51_159}
_LSD: Final = {"train": 277_251, "val": 4_670, "test": 106_120}
KINDS: Final[dict[str, Kind]] = {
    "s-aff-wild2": Kind(SAffWild2, _S_AFF_WILD2, 6000, 66, s_aff_wild2),
    "aff-wild2": Kind(AffWild2, {"train": 1_653_757, "val": 376_323}, 6000, 66, aff_wild2),
    "lsd": Kind(Lsd, _LSD, 3000, 60, lsd),
    "c-expr-db": Kind(CExprDb, {"test": 26_145}, 1500, 60, c_expr_db),
    "affectnet": Kind(AffectNet, {"train": 287_651, "val": 4_000}, 2000, 88, affectnet),
    "raf-db": Kind(RafDb, {"train": 12_271, "test": 3_068}, 1200, 70, raf_db),
    "expw": Kind(ExpW, {"train": 91_793}, 1500, 28, expw),
    "ferplus": Kind(FerPlus, {"train": 28_709, "val": 3_589}, 1500, 60, ferplus),
    "afew-va": Kind(AfewVa, {"train": 30_051}, 1500, 60, afew_va),
    "vggface2": Kind(VggFace2, {"train": 3_141_890, "test": 169_396}, 1200, 60, vggface2),
}
"""Kinds of stand-ins by the name of their set in settings and recipes."""


def make_standin(
    kind: str,
    out: Path,
    *,
    size: int | None = None,
    faces: Path | pd.DataFrame | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make the stand-in of a data set in a folder, which is then complete, or absent.

    Args:
        kind: One of `KINDS`.
        out: The folder; it must be empty or missing.
        size: Rows of its first split (None: `Kind.size`); the others follow in the real
            proportions.
        faces: A label table, or a file that `mien.data.standins.faces.read_faces` takes; None draws
            faces.
        seed: The same seed makes the same files.
        workers: Threads (None: one for each core).
        progress: Called with what is made, how many are done, and of how many.

    Returns:
        The folder.

    Raises:
        UnknownNameError: For the kind.
        DataError: For a size that is too small, and for faces that do not do.
        OutputError: Where the folder cannot be written.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of stand-in", kind, KINDS)
    real, out = KINDS[kind], Path(out)
    size = real.size if size is None else size
    if size < real.least or seed < 0:
        raise DataError(
            f"a stand-in of {kind} of size {size} and seed {seed}; "
            f"the size must be at least {real.least}, the seed 0 or more"
        )
    _check_free(out)
    rows = real.counts(size)
    by_split, origin = _faces(faces, real, rows, seed)
    counts = ", ".join(f"{count} {split}" for split, count in rows.items())
    facts = (f"Made from: {origin}.", f"Kind: {kind}. Rows: {counts}. Seed: {seed}.")
    with replace_folder(out.absolute()) as part:
        # Two kinds made with one seed are not made of the same chance.
        order = Order(part, rows, zlib.crc32(kind.encode()) ^ seed, by_split)
        _run(real.build(order), workers, progress)
        _write_readme(part, real, facts)
    return out


def is_standin(root: Path) -> bool:
    """Whether a folder is a stand-in that mien made.

    Args:
        root: The folder.

    Returns:
        True where its README says so.
    """
    readme = root / _README
    if not readme.is_file():
        return False
    return readme.read_text(encoding="utf-8", errors="replace").startswith(_FIRST)


def _check_free(out: Path) -> None:
    with wrap_os_errors(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(
                f"{out}: exists already and is not empty; move it away or choose another folder"
            )


def _faces(
    faces: Path | pd.DataFrame | None, kind: Kind, rows: Mapping[str, int], seed: int
) -> tuple[dict[str, Faces], str]:
    """The faces of each split, and what the README says of them."""
    if faces is None:
        drawn = {}
        for k, (split, count) in enumerate(rows.items()):
            # Each face is shown about four times.
            faces_drawn = int(np.clip(count // 4, 45, 3600))
            drawn[split] = drawn_faces(faces_drawn, seed, k, compounds=kind.build is c_expr_db)
        return drawn, "drawn faces with known labels"
    if isinstance(faces, pd.DataFrame):
        table, where = faces, "the label table"
    else:
        table, where = read_faces(Path(faces)), str(faces)
    by_split, left_out = faces_of(table, list(rows), seed, where)
    used = ", ".join(f"{len(part)} {split}" for split, part in by_split.items())
    rest = f"{left_out} rows of it lack a label and were left out"
    return by_split, f"real faces of {where} ({used}); {rest}"


def _run(work: Sequence[Work], workers: int | None, progress: Progress | None) -> None:
    """Do all work in threads: the libraries that warp and write pictures let other threads run."""
    total = sum(count for count, _ in work)
    done = 0
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        running = {pool.submit(call): count for count, call in work}
        try:
            for finished in as_completed(running):
                finished.result()
                done += running[finished]
                if progress is not None:
                    progress("pictures", done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_readme(root: Path, kind: Kind, facts: Sequence[str]) -> None:
    lines = [
        f"{_FIRST} for {kind.name}, made by mien. It is no real data.",
        "",
        f"Layout and codes are those of {kind.name}; pictures and labels were generated.",
        *facts,
        "Scores on it say nothing about scores on the real data.",
    ]
    if (root / LABELS).is_dir():
        lines.append(
            f"{LABELS}/ holds what the real data set does not give out; "
            "it is no part of the layout."
        )
    write_lines(root / _README, lines)
