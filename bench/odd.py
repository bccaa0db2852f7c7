"""Recordings of every odd kind, and whether they are read as they should be.

    python bench/odd.py --media FOLDER [--out bench/results/odd.json] [--only WORD]

FOLDER holds the files named below (made with FFmpeg from a clip of one face and a group photo; each is made again by the
words in its line). Times are compared with those that `ffprobe` gives, so it must be installed. Prints file, what is
right, what was got, and ok or !!; exit code 1 where one is not right.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mien.analysis.options import Options
from mien.batch import Outcome, run

TOLERANCE_S = 1e-5


@dataclass
class Got:
    """What came out of one input."""

    outcome: Outcome
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    media: dict = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return int(self.outcome.state == "failed" or bool(self.outcome.problems))

    @property
    def frames(self) -> pd.DataFrame:
        return self.table.drop_duplicates("frame")

    def told(self) -> str:
        lines = [line.split(": ", 1)[-1] for line in [*self.outcome.problems, *self.outcome.notes]]
        faces = self.table.face.nunique() if len(self.table) else 0
        return "; ".join(
            [
                f"{len(self.frames) if len(self.table) else 0} frames",
                f"{faces} faces",
                f"exit {self.exit_code}",
                *lines,
            ]
        )


Check = Callable[[Path], tuple[str, bool]]


def got(path: Path, **options: object) -> Got:
    """Read one input as `mien analyze` does, into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        (outcome,) = run([path], folder, options=Options(**options), formats=["parquet"])
        if outcome.state == "failed":
            return Got(outcome)
        page = json.loads(next(Path(folder).rglob("*.dictionary.json")).read_text())
        return Got(
            outcome, pd.read_parquet(next(Path(folder).rglob("*.parquet"))), page["media"][0]
        )


def ffprobe_times(path: Path) -> list[float]:
    """Presentation times of the first video stream's frames, seconds."""
    asked = [
        "ffprobe",
        "-v",
        "quiet",
        "-select_streams",
        "v:0",
        "-show_entries",
        "frame=pts_time",
        "-of",
        "csv=p=0",
        str(path),
    ]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return [float(line.strip(",")) for line in lines if line.strip(",")]


def whole(count: int, note: str = "", *, exit_code: int = 0, **options: object) -> Check:
    """All frames at ffprobe's times, that many, with a line that holds `note`; nothing said where it is empty."""

    def check(path: Path) -> tuple[str, bool]:
        here = got(path, **options)
        if here.outcome.state == "failed":
            return here.told(), False
        times, expected = here.frames.time_s.to_numpy(), np.array(ffprobe_times(path))
        same = len(times) == len(expected) == count and bool(
            np.abs(times - expected).max() < TOLERANCE_S
        )
        lines = [*here.outcome.problems, *here.outcome.notes]
        said = any(note in line for line in lines) if note else not lines
        return (
            f"{here.told()}; times {'as' if same else 'unlike'} ffprobe",
            same and said and here.exit_code == exit_code,
        )

    return check


def joined(path: Path) -> tuple[str, bool]:
    here = got(path)
    times, notes = here.frames.time_s.to_numpy(), here.outcome.notes
    rises = bool((np.diff(times) > 0).all())
    told = len(notes) == 1 and "clock" in notes[0]
    return here.told(), len(times) == len(
        ffprobe_times(path)
    ) == 24 and rises and told and here.exit_code == 0


def square(path: Path) -> tuple[str, bool]:
    first, second = got(path).table, got(path.with_name("hdv_square_reference.mp4")).table
    numbers = first.select_dtypes("float32").columns
    boxes = [name for name in numbers if name.startswith("box_")]
    scores = [name for name in numbers if name not in boxes and name != "confidence"]
    difference = float((first[scores] - second[scores]).abs().to_numpy().mean())
    shift = float((first[boxes] - second[boxes]).abs().to_numpy().max())
    return (
        f"mean difference of scores {difference:.4f}, largest of boxes {shift:.1f} px",
        difference <= 0.01 and shift < 8,
    )


def tapes(path: Path) -> tuple[str, bool]:
    other = got(path.parents[1] / "d2" / path.name)
    here = got(path)
    shapes = {one.media.get("pixel_aspect") for one in (here, other)}
    differ = not here.table.equals(other.table)
    told = f"{len(here.table)} and {len(other.table)} rows; pixel aspect {', '.join(map(str, shapes))}; deinterlaced"
    read = min(len(here.table), len(other.table)) > 0 and here.media.get("deinterlaced") is True
    return told, read and differ and shapes == {"16:15"} and here.exit_code == other.exit_code == 0


def upside_down(path: Path) -> tuple[str, bool]:
    flagged, turned = got(path), got(path, rotate="auto")
    # Read as it lies: with the scores of the film that was turned.
    scores = flagged.table.filter(regex="^(AU|expr_|valence|arousal)")
    difference = (scores - turned.table[scores.columns]).abs().to_numpy().mean()
    never = bool((flagged.table.status == "ok").all()) and difference < 0.05
    seen = any("--rotate 180" in line for line in flagged.outcome.notes)
    right = turned.table.face.nunique() == 1 and bool((turned.table.status == "ok").all())
    told = f"by default: {flagged.told()}; with --rotate auto: {turned.told()}"
    return told, never and seen and right and turned.media.get("turned") == 180


def two_streams(path: Path) -> tuple[str, bool]:
    first, second = got(path), got(path, video_stream=1)
    told = any("--stream 1" in line for line in first.outcome.notes)
    return f"{first.told()}; with --stream 1: {second.told()}", told and (
        second.table.status == "ok"
    ).all() and first.exit_code == 0


def one_person(width: float) -> Check:
    def check(path: Path) -> tuple[str, bool]:
        here = got(path, smoothing=width) if width else got(path)
        changed = not width or bool((here.table.valence != here.table.valence_raw).any())
        told = f"{here.told()}{'; smoothing changes values' if width and changed else ''}"
        return told, here.table.face.nunique() == 1 and changed and here.exit_code == 0

    return check


def live_cut(path: Path) -> tuple[str, bool]:
    here = got(path)
    times, expected = here.frames.time_s.to_numpy(), np.array(ffprobe_times(path))
    same = len(times) == len(expected) and bool(np.abs(times - expected).max() < TOLERANCE_S)
    return here.told(), same and any("ends early" in line for line in here.outcome.problems)


VIDEOS: list[tuple[str, str, Check]] = [
    ("hdv_sar4x3.mp4", "scores within .01 of the square film's, boxes in display pixels", square),
    ("dv/d1/tape.avi", "two tapes, two tables, square pixels", tapes),
    ("one_fps.mp4", "one face; smoothing over 2 s changes values", one_person(2.0)),
    ("freeze_1s_gaps.mp4", "one face", one_person(0.0)),
    *(
        (f"start_at_2s.{suffix}", "24 frames, nothing said, exit 0", whole(24))
        for suffix in ("mkv", "webm", "wmv")
    ),
    ("trimmed_lossless.mkv", "72 frames, a note, exit 0", whole(72, "begins with a cut")),
    ("avi_dropped_frames_mjpeg.avi", "29 frames, nothing said, exit 0", whole(29)),
    ("hevc_open_gop_cut.mkv", "96 frames, a note, exit 0", whole(96, "begins with a cut")),
    ("h264_open_gop_cut.ts", "72 frames, a note, exit 0", whole(72, "begins with a cut")),
    ("cat_of_two_ts.ts", "24 frames, times rise, one note on the clock, exit 0", joined),
    ("upside_down.mp4", "read upright; the run says that it seems turned", upside_down),
    ("two_streams_screen_default.mp4", "says which stream was read and how to choose", two_streams),
    ("matrix_bt2020c.mp4", "3 frames, a note, exit 0", whole(3, "BT.709")),
    ("matrix_ycgco.mp4", "3 frames, a note, exit 0", whole(3, "BT.709")),
    *(
        (f"latin1_title.{suffix}", "48 frames, nothing said, exit 0", whole(48))
        for suffix in ("avi", "flv", "mkv", "mp4")
    ),
    ("video_named.jpg", "one frame of film", whole(1)),
    ("live_cut.mkv", "all whole frames, and that it ends early", live_cut),
]


def animation(path: Path) -> tuple[str, bool]:
    here = got(path)
    times = here.frames.time_s.to_numpy()
    right = len(times) == 8 and bool(np.abs(times - 0.2 * np.arange(8)).max() < TOLERANCE_S)
    return (
        f"{here.told()}; times {'right' if right else 'wrong'}",
        right and here.exit_code == 0 and not here.outcome.notes,
    )


def pages(path: Path) -> tuple[str, bool]:
    here = got(path)
    apart = list(here.frames.frame) == list(range(8)) and bool((here.table.time_s == 0).all())
    return here.told(), apart and here.table.face.nunique() == len(
        here.table.dropna(subset="face")
    ) and here.exit_code == 0


def heic(path: Path) -> tuple[str, bool]:
    here = got(path)
    if importlib.util.find_spec("pillow_heif"):
        return here.told(), int((here.table.status == "ok").sum()) == 5 and here.exit_code == 0
    return (
        f"pillow-heif is not installed; {here.told()}",
        "HEIC" in here.told() and here.outcome.state == "failed",
    )


def flipped(path: Path) -> tuple[str, bool]:
    here = got(path)
    return here.told(), here.exit_code == 1 and any(
        "damaged" in line for line in here.outcome.problems
    )


def large(path: Path) -> tuple[str, bool]:
    here = got(path)
    told = f"{here.told()}; media: {here.media.get('width')} x {here.media.get('height')}, scale {here.media.get('scale')}"
    return told, here.media.get("scale") == 0.5 and here.exit_code == 0


def lying(path: Path) -> tuple[str, bool]:
    """Both files with a wrong suffix in one run, with overlays: each is drawn over as what it is."""
    paths = [path.with_name("photo_named.mp4"), path.with_name("video_named.jpg")]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(paths, folder, options=Options(), overlay=True)
        names = sorted(item.name for item in Path(folder).rglob("*.overlay.*"))
    told = f"{', '.join(outcome.state for outcome in outcomes)}; {', '.join(names)}"
    done = all(outcome.state == "done" and not outcome.problems for outcome in outcomes)
    return told, done and names == ["photo_named.overlay.jpg", "video_named.overlay.mp4"]


def long_name(path: Path) -> tuple[str, bool]:
    """The file with the longest name beside a short one: read or one failed line, and nothing half-written."""
    (given,) = (item for item in path.parent.iterdir() if len(os.fsencode(item.name)) == 244)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run([given, path.with_name("one_fps.mp4")], folder, options=Options())
        tables = len(list(Path(folder).rglob("*.csv")))
        pages = len(list(Path(folder).rglob("*.dictionary.json")))
        left = [item.name for item in Path(folder).rglob("*.part*")]
    told = f"{', '.join(outcome.state for outcome in outcomes)}; {tables} tables, {pages} dictionaries, {len(left)} left over"
    return told, len(outcomes) == 2 and outcomes[
        -1
    ].state == "done" and tables == pages and not left


STILLS: list[tuple[str, str, Check]] = [
    *(
        (f"animated{end}", "8 frames at the file's own times", animation)
        for end in (".gif", ".webp", ".avif", "_apng.png")
    ),
    ("multipage.tif", "8 pictures that share no face", pages),
    ("iphone_grid.heic", "5 faces, or refused as HEIC", heic),
    ("iphone_heic_named.jpg", "5 faces, or refused as HEIC", heic),
    ("photo_named.mp4", "both lying suffixes read by content, with overlays", lying),
    ("photo_108MP.jpg", "read, shrunk while decoding", large),
    ("one_bit_flipped.jpg", "read with a problem noted, or refused", flipped),
    ("録….mp4", "read or one failed line, the rest goes on, nothing half-written", long_name),
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="only files whose name holds this")
    args = parser.parse_args()
    if shutil.which("ffprobe") is None:
        parser.error("ffprobe is not installed")
    rows = []
    for name, right, check in VIDEOS + STILLS:
        if args.only not in name:
            continue
        try:
            told, ok = check(args.media / name)
        except Exception as error:  # one file that breaks mien must not hide the rest of the table
            told, ok = f"{type(error).__name__}: {error}", False
        rows.append({"file": name, "right": right, "got": told, "ok": bool(ok)})
        print(
            f"{'ok' if ok else '!!'}  {name}\n      right: {right}\n      got:   {told}", flush=True
        )
    wrong = sum(not row["ok"] for row in rows)
    print(f"{len(rows) - wrong} of {len(rows)} right")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
