"""In the folder that is written: what it was made of, and with which settings."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from mien.data.images import read_picture
from mien.data.presence import list_names, pictures
from mien.data.sets.lsd import COPY
from mien.errors import DataError, OutputError
from mien.files import LOST_WORKER, AtomicFile, atomic_write, wrap_os_errors
from mien.processes import end_with_parent, usable_cores
from mien.progress import ItemProgress

__all__ = ["PLAN", "Balanced", "Change", "balance", "lacking"]

PLAN: Final = ".balance.json"
"""Says, in the folder that is written, of what and how it was made."""
# Quality of JPEG copies.
_QUALITY: Final = 95
# Copies that a process is given at once.
_CHUNK: Final = 32
# Copies that take longer to make than a further process takes to start.
_WORTH: Final = 4000

Image = NDArray[np.uint8]
Stamps = dict[str, tuple[int, int]]
"""Size in bytes and time of the last change in ns, by name of a picture."""


class Change(Protocol):
    """How a copy differs from its original; sent to other processes by pickling."""

    def facts(self) -> dict[str, Any]:
        """Describe the change.

        Returns:
            All settings that decide the result, for JSON.
        """
        ...

    def __call__(self, image: Image, seed: int) -> Image:
        """Change a picture.

        Args:
            image: RGB uint8 (H, W, 3).
            seed: The same seed changes a picture the same way.

        Returns:
            The changed picture, RGB uint8 (H, W, 3).
        """
        ...


@dataclass(frozen=True, slots=True)
class Balanced:
    """What a balanced folder holds.

    Attributes:
        before: Original pictures by class folder.
        after: All pictures by class folder.
        made: Copies that were made by this call.
    """

    before: Mapping[str, int]
    after: Mapping[str, int]
    made: int


@dataclass(frozen=True, slots=True)
class _Copy:
    source: Path
    target: Path
    seed: int


def lacking(counts: Sequence[int], most: int | None = None) -> tuple[int, ...]:
    """Count the copies that each class needs to be as frequent as the most frequent one.

    Args:
        counts: Pictures of each class.
        most: Pictures that a class is filled up to; None is the size of the largest class.

    Returns:
        Copies for each class; 0 where it has enough pictures.

    >>> lacking([3, 10, 7]), lacking([3, 10, 7], most=8)
    ((7, 0, 3), (5, 0, 1))
    """
    full = max(counts) if most is None else most
    return tuple(max(full - count, 0) for count in counts)


def balance(
    source: Path,
    out: Path,
    change: Change,
    *,
    seed: int = 0,
    most: int | None = None,
    workers: int | None = None,
    progress: ItemProgress | None = None,
) -> Balanced:
    """Fill a folder with class folders of equal size: all originals, and changed copies of them.

    The originals are hard links, or whole files where links do not work. Copies are of all
    originals of the class in turn, in an order drawn by `seed`, so that none is used more than once
    oftener than another. A copy is ``randaugment-<seed>-<class>-<number>``, in PNG where its
    original is no JPEG, else in JPEG of quality 95 without chroma subsampling.

    Finished files are kept, every file is complete or absent, and the same `seed` leads to the same
    files with any number of workers.

    Args:
        source: The class folders of the originals.
        out: The folder to fill; a run that was interrupted is continued.
        change: How copies are changed.
        seed: Decides which originals are copied, and how they are changed.
        most: Pictures that a class is filled up to; None is the size of the largest class.
        workers: Processes; None is up to one for each core. In a script, call this under
            ``if __name__ == "__main__":``.
        progress: Called with files done and files to do.

    Returns:
        What `out` holds afterwards.

    Raises:
        DataError: Folders have no pictures, or pictures cannot be read or are copies already.
        OutputError: `out` cannot be written, or was made otherwise.
        ValueError: `most` or `workers` is below 1.
    """
    for number in (most, workers):
        if number is not None and number < 1:
            raise ValueError(f"most and workers must be 1 or more, got {most} and {workers}")
    originals = _class_originals(source)
    before = {name: len(stamps) for name, stamps in originals.items()}
    missing = dict(zip(before, lacking(list(before.values()), most), strict=True))
    plan = {**change.facts(), "seed": seed, "most": most, "originals": _digest(originals)}
    _settle(out, plan)
    links = _missing_links(source, out, originals)
    copies: list[_Copy] = []
    for k, (name, stamps) in enumerate(originals.items()):
        planned = _copies(source / name, out / name, list(stamps), missing[name], (seed, k))
        copies += [copy for copy in planned if not copy.target.is_file()]
    workers = workers or min(usable_cores(), 1 + len(copies) // _WORTH)
    total = len(links) + len(copies)
    for done, _ in enumerate(_write_all(links, copies, change, workers), start=1):
        if progress is not None:
            progress(done, total)
    after = {name: before[name] + missing[name] for name in before}
    return Balanced(before, after, len(copies))


def _missing_links(
    source: Path, out: Path, originals: Mapping[str, Stamps]
) -> list[tuple[Path, Path]]:
    """Each original that is not yet in `out`, and its path there."""
    links = []
    for name, stamps in originals.items():
        for picture in stamps:
            original, target = source / name / picture, out / name / picture
            if not _same(original, target):
                links.append((original, target))
    return links


def _class_originals(source: Path) -> dict[str, Stamps]:
    """The pictures of each class folder."""
    originals = {}
    for name in sorted(list_names(source)):
        if not name.startswith(".") and (source / name).is_dir():
            originals[name] = _originals(source / name)
    if not originals:
        raise DataError(f"{source}: holds no class folders; give the folder of training pictures")
    return originals


def _write_all(
    links: Sequence[tuple[Path, Path]], copies: Sequence[_Copy], change: Change, workers: int
) -> Iterator[None]:
    """Write all files, and give a sign after each."""
    for original, target in links:
        _link(original, target)
        yield
    yield from _make_copies(copies, change, workers)


def _originals(folder: Path) -> Stamps:
    """The pictures of one class folder, none of which may be a copy."""
    stamps: Stamps = {}
    for name in pictures(folder):
        if name.startswith(COPY):
            raise DataError(
                f"{folder / name}: is a copy itself; balance the folder of the originals"
            )
        status = os.stat(folder / name)
        stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps


def _digest(originals: Mapping[str, Stamps]) -> str:
    """A hash of names, sizes and times; names on disk need not be valid text."""
    return hashlib.sha256(json.dumps(originals).encode("utf-8", "surrogateescape")).hexdigest()


def _settle(out: Path, plan: Mapping[str, Any]) -> None:
    """Make the folder for this plan, or check that it was made for it."""
    path = out / PLAN
    with wrap_os_errors(path):
        out.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_bytes()) if path.is_file() else None
    if before is None and any(not path.name.startswith(".") for path in out.iterdir()):
        raise OutputError(
            f"{out}: exists already and is not empty; move it away or choose another folder"
        )
    if before is not None and before != plan:
        other = ", ".join(key for key in plan if before.get(key) != plan[key])
        raise OutputError(
            f"{out}: was made with other {other}; choose another folder, or remove it"
        )
    atomic_write(path, json.dumps(plan, indent=2).encode())


def _same(original: Path, target: Path) -> bool:
    """Whether a picture exists, as a link or as a copy with the size and time of its original."""
    try:
        status, target_status = original.stat(), target.stat()
    except OSError:
        return False
    same_size = status.st_size == target_status.st_size
    return same_size and status.st_mtime_ns == target_status.st_mtime_ns


def _link(original: Path, target: Path) -> None:
    """Make a hard link under a new name, or copy the file where links do not work."""
    file = AtomicFile(target)
    with wrap_os_errors(target):
        target.parent.mkdir(exist_ok=True)
    # A link cannot replace what a killed process left under this name.
    file.drop()
    try:
        # Of a symbolic link, the file itself: the link may not last as long.
        os.link(os.path.realpath(original), file.part)
        file.place()
    except OSError:
        # The folders are on different disks, or on one without links.
        with file as part, wrap_os_errors(target):
            shutil.copy2(original, part)


def _copies(
    source: Path, folder: Path, names: Sequence[str], count: int, key: tuple[int, int]
) -> Iterator[_Copy]:
    """The copies of one class; `key` is the seed and the number of the class."""
    # Beyond the number of originals, the order starts again from its beginning.
    order = np.resize(np.random.default_rng(key).permutation(len(names)), count)
    seeds = np.random.default_rng((*key, 1)).integers(2**63, size=count)
    for i, (k, seed) in enumerate(zip(order.tolist(), seeds.tolist(), strict=True)):
        is_jpeg = names[k].lower().endswith((".jpg", ".jpeg"))
        suffix = ".jpg" if is_jpeg else ".png"
        target = folder / f"{COPY}{key[0]}-{key[1]}-{i:06d}{suffix}"
        yield _Copy(source / names[k], target, seed)


def _make_copies(copies: Sequence[_Copy], change: Change, workers: int) -> Iterator[None]:
    """Make all copies, in this process or in several, and give a sign after each."""
    make = partial(_make, change)
    workers = min(workers, -(-len(copies) // _CHUNK))
    if workers <= 1:
        yield from map(make, copies)
        return
    # A fork would copy locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start)
    try:
        yield from pool.map(make, copies, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise OutputError(LOST_WORKER) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Prepare a worker process."""
    # Ctrl-C reaches all processes; only the first one handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Set before libraries are loaded: the processes share the cores already.
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent()


def _make(change: Change, copy: _Copy) -> None:
    """Write one copy."""
    content = BytesIO()
    picture = Pillow.fromarray(change(read_picture(str(copy.source)), copy.seed))
    if copy.target.suffix == ".jpg":
        picture.save(content, "JPEG", quality=_QUALITY, subsampling=0)
    else:
        picture.save(content, "PNG")
    with wrap_os_errors(copy.target):
        copy.target.parent.mkdir(exist_ok=True)
    atomic_write(copy.target, content.getvalue())
