"""How long label tables of the challenges' data take, and the memory they need, at the size of the real sets.

    python bench/abaw_data.py [--folder FOLDER] [--out bench/results/abaw_data.json]

Layouts of s-Aff-Wild2 (142,333 + 26,876 rows, a test list of 51,159) and dense Aff-Wild2 (600 videos, 2.9 million frames, three tracks, of
which EXPR covers a third of the videos and AU four fifths) are written with random labels. Every listed picture is there, as one more name
(a hard link) of a few empty files, so that folders are as long as real ones; no picture is read. Each set is then loaded and checked in
a fresh process: seconds of `load_set` and of `check`, and the peak of that process's memory, with what it needs before loading. The
listing of folders is warm: they were just written. A list of 1,022,655 frames (ABAW5, expressions) is read as well.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from mien.data.frame_lists import read_list
from mien.data.label_checks import check
from mien.data.registry import Set, load_set, set_name
from mien.tasks import TASKS

MTL_HEADER = "image,valence,arousal,expression,aus"
ROWS = {
    "training_set_annotations": 142_333,
    "validation_set_annotations": 26_876,
    "MTL_Challenge_test_set_release": 51_159,
}
LISTED = 1_022_655
VIDEOS = 600
LENGTH = 4_850
LINKS = 60_000  # names that a file may have on common file systems
WANT = (TASKS["va"], TASKS["expr.abaw8"], TASKS["au.abaw12"])
TRACKS = {
    "VA_Estimation_Challenge": ("valence,arousal", 1.0),
    "EXPR_Classification_Challenge": (
        "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
        0.35,
    ),
    "AU_Detection_Challenge": ("AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26", 0.8),
}


class Pictures:
    """Empty files with as many names as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0
        folder.mkdir(parents=True)

    def fill(self, folder: Path, names: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            source = self.folder / str(self.made // LINKS)
            if self.made % LINKS == 0:
                source.touch()
            os.link(source, folder / name)
            self.made += 1


def labels(rng: np.random.Generator, count: int) -> dict[str, list[str]]:
    """Lines of each track, a tenth of them not annotated."""
    none = rng.random(count) < 0.1
    va = np.where(none[:, None], -5, rng.uniform(-1, 1, (count, 2)).round(3))
    units = np.where(none[:, None], -1, rng.integers(0, 2, (count, 12)))
    expr = np.where(none, -1, rng.integers(0, 8, count))
    joined = (",".join(map(str, row)) for row in units.tolist())
    return dict(
        zip(
            TRACKS,
            ([f"{v},{a}" for v, a in va.tolist()], list(map(str, expr.tolist())), list(joined)),
            strict=True,
        )
    )


def make_mtl(root: Path, pictures: Pictures, rng: np.random.Generator) -> None:
    for part, (name, rows) in enumerate(ROWS.items()):
        images = [f"video{part}_{k // 500}/{k % 500 * 3 + 1:05d}.jpg" for k in range(rows)]
        kinds = labels(rng, rows).values()
        tested = part == len(ROWS) - 1
        lines = (
            [f"{image}," for image in images]
            if tested
            else [",".join(fields) for fields in zip(images, *kinds, strict=True)]
        )
        (root / f"{name}.txt").write_text("\n".join([MTL_HEADER, *lines]) + "\n")
        for video in dict.fromkeys(image.split("/")[0] for image in images):
            pictures.fill(
                root / "cropped_aligned" / video, [f"{k * 3 + 1:05d}.jpg" for k in range(500)]
            )


def make_dense(root: Path, pictures: Pictures, rng: np.random.Generator) -> None:
    texts = labels(rng, LENGTH)
    names = [f"{k:05d}.jpg" for k in range(1, LENGTH + 1)]
    for video in range(VIDEOS):
        split = "Validation_Set" if video % 5 == 0 else "Train_Set"
        for track, (header, share) in TRACKS.items():
            if rng.random() < share:
                folder = root / "annotations" / track / split
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"video{video}.txt").write_text("\n".join([header, *texts[track]]) + "\n")
        pictures.fill(root / "cropped_aligned" / f"video{video}", names)


def peak() -> float:
    """The most memory this process has held, MiB; Linux only, where `ru_maxrss` would count the parent's as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def measured(settings: str) -> dict[str, object]:
    spec = TypeAdapter(Set).validate_json(settings)
    before = peak()
    started = time.perf_counter()
    table = load_set(spec, WANT)
    loaded, held = time.perf_counter(), peak()
    check(table, WANT, set_name(spec))
    return {
        "rows": len(table),
        "load_set, s": round(loaded - started, 2),
        "check, s": round(time.perf_counter() - loaded, 2),
        "peak of load_set, MiB": round(held),
        "peak with check, MiB": round(peak()),
        "before, MiB": round(before),
        "notes": table.attrs["notes"],
    }


def in_a_process(**settings: object) -> dict[str, object]:
    told = subprocess.run(
        [sys.executable, __file__, "--set", json.dumps(settings)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, object] = json.loads(told.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the layouts are written and deleted again; default: the system's own place",
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.set:
        print(json.dumps(measured(options.set)))
        return
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        pictures = Pictures(root / "files")
        for folder in ("mtl", "dense"):
            (root / folder).mkdir()
        make_mtl(root / "mtl", pictures, rng)
        make_dense(root / "dense", pictures, rng)
        lines = [f"video{k // 4500}/{k % 4500 + 1:05d}.jpg," for k in range(LISTED)]
        (root / "list.txt").write_text("\n".join(["image_location,Neutral", *lines]) + "\n")
        started = time.perf_counter()
        rows = len(read_list(root / "list.txt"))
        found = {
            "machine": {
                "system": platform.system(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
            },
            "pictures": pictures.made,
            "read_list": {"rows": rows, "seconds": round(time.perf_counter() - started, 2)},
            "s-aff-wild2": in_a_process(set="s-aff-wild2", root=str(root / "mtl")),
            "aff-wild2, va": in_a_process(set="aff-wild2", root=str(root / "dense"), tracks=["va"]),
            "aff-wild2, va + expr + au": in_a_process(
                set="aff-wild2", root=str(root / "dense"), tracks=["va", "expr", "au"]
            ),
        }
    text = json.dumps(found, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
