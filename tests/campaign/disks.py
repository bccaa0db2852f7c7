"""Disks that are full, at every moment of a job: all of its files appear, or none."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image

from campaign.verdicts import Verdict, broken, mien, run
from mien.demo import film, portrait

LIMIT_S: Final = 120.0
SIZES_KB: Final = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Of the disk, from one that takes hardly a header to one that takes nearly everything."""


@contextmanager
def small_disk(at: Path, size_kb: int) -> Iterator[bool]:
    """A disk of so many kB in memory; False where this user may not have one."""
    at.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(at)]
    mounted = (
        os.name == "posix"
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(at)], capture_output=True, check=False)


def campaign(folder: Path) -> Iterator[Verdict]:
    """A film with its overlay and a picture, in three formats, onto disks of several sizes. Nothing where disks cannot be made."""
    clip = film(folder / "in" / "clip.mp4")
    Image.fromarray(portrait()).save(folder / "in" / "photo.jpg")
    for size_kb in SIZES_KB:
        for more in ((), ("--overlay",), ("--format", "csv,parquet,jsonl")):
            case = f"a disk of {size_kb} kB {' '.join(more)}".strip()
            with small_disk(folder / f"disk-{size_kb}-{len(more)}{more[:1]}", size_kb) as mounted:
                if not mounted:
                    return
                out = folder / f"disk-{size_kb}-{len(more)}{more[:1]}" / "out"
                code, said = run(
                    mien("analyze", clip, folder / "in" / "photo.jpg", "--out", out, *more), LIMIT_S
                )
                yield _judge(case, code, said, out)


def _judge(case: str, code: int | None, said: str, out: Path) -> Verdict:
    if ended := broken(case, code, said):
        return ended
    names = {path.name for path in out.rglob("*") if path.is_file()} if out.is_dir() else set()
    for stem in ("clip", "photo"):
        of_job = {
            name
            for name in names
            if name.startswith(f"{stem}.") or (name.startswith(".") and stem in name)
        }
        finished = f"{stem}.dictionary.json" in names
        if of_job and not finished:
            return Verdict(case, "leftover", ", ".join(sorted(of_job)))
        if not finished and code == 0:
            return Verdict(case, "lost", f"exit 0 without {stem}")
    return Verdict(case, "right")
