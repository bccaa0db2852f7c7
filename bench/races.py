"""Several runs on one folder, and runs that are killed: what is mixed, lost, doubled, different or left behind.

    python bench/races.py --out bench/results/races.json

Races: 40 recordings in 4 folders, 10 names in each, the same in all; 4 processes at once, each with its own folder, or with
all folders, or with all recordings named one by one, in an order of its own. Counted over all seeds: tables with rows or a
dictionary of another recording (mixed), recordings without a table (lost), with two (doubled), runs that failed, hidden
files left. Then one more run over everything, which must find all done.

Kills: `mien analyze --overlay --format csv,parquet` over recordings and photos is killed (SIGKILL) at a random moment and
run again. Counted: tables that differ by a byte from an undisturbed run's (different), files that are missing or too many.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from noise import film, photo

from mien.files import atomic_write

PEOPLE, STEMS = 4, 10
MIEN = [sys.executable, "-m", "mien", "analyze"]


def start(inputs: list[Path], out: Path, *more: str) -> "subprocess.Popen[str]":
    """One run of the command line."""
    words = [*MIEN, *map(str, inputs), "--out", str(out), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def hidden(folder: Path) -> int:
    """Files that a run should not leave."""
    return len(list(folder.rglob(".*")))


def race(study: Path, out: Path, seed: int) -> Counter[str]:
    """Four runs at once, and what came of it."""
    order = random.Random(seed)  # noqa: S311
    folders, films = sorted(study.iterdir()), sorted(study.rglob("*.mp4"))
    given = {
        0: [[folder] for folder in folders],
        1: [order.sample(folders, len(folders)) for _ in folders],
        2: [order.sample(films, len(films)) for _ in folders],
    }[seed % 3]
    counts: Counter[str] = Counter()
    running = [start(inputs, out) for inputs in given]
    for process in running:
        said, _ = process.communicate()
        counts["failed runs"] += process.returncode not in (0, 3)
        counts["tracebacks"] += "Traceback" in said
    owners: Counter[str] = Counter()
    for table in out.rglob("*.csv"):
        sources = {line.split(",")[0] for line in table.read_text().splitlines()[1:]}
        page = json.loads(table.with_suffix(".dictionary.json").read_text())
        counts["mixed"] += sources != {page["sources"][0]["path"]}
        owners.update(sources)
    counts["lost"] = sum(str(path) not in owners for path in films)
    counts["doubled"] = sum(owners[str(path)] > 1 for path in films)
    counts["left behind"] = hidden(out)
    again = start(folders, out)
    said, _ = again.communicate()
    counts["not found done"] = int(said.splitlines()[-1] != f"{len(films)} skipped")
    return counts


def content(out: Path) -> dict[str, bytes]:
    """All tables, and the names of all other files."""
    files = [path for path in out.rglob("*") if path.is_file()]
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        if path.suffix in (".csv", ".parquet")
        else b""
        for path in files
    }


def killed(study: Path, out: Path, after_s: float, expected: dict[str, bytes]) -> Counter[str]:
    """One run that is killed after so many seconds, and run again."""
    more = ("--overlay", "--format", "csv,parquet")
    process = start([study], out, *more)
    time.sleep(after_s)
    process.kill()
    process.communicate()
    done = len(list(out.rglob("*.dictionary.json"))) if out.exists() else 0
    again = start([study], out, *more)
    again.communicate()
    found = content(out)
    tables = [name for name in expected if expected[name]]
    return Counter(
        {
            "different": sum(found.get(name) != expected[name] for name in tables),
            "missing": len(expected.keys() - found.keys()),
            "too many": len(found.keys() - expected.keys()),
            "failed runs": int(again.returncode != 0),
            "killed between first and last table": int(0 < done < len(tables) // 2),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for person in range(PEOPLE):
            for stem in range(STEMS):
                film(folder / "people" / f"p{person}" / f"c{stem}.mp4", person * STEMS + stem, 2)
        races: Counter[str] = Counter()
        for seed in range(args.seeds):
            races.update(race(folder / "people", folder / f"race{seed}", seed))
            print(f"race {seed + 1}/{args.seeds}: {dict(races)}", flush=True)
        for number in range(12):
            film(folder / "study" / f"s{number % 4}" / f"v{number}.mp4", number, 12)
            photo(folder / "study" / "photos" / f"{number}.png", number)
        began = time.monotonic()
        start(
            [folder / "study"], folder / "fresh", "--overlay", "--format", "csv,parquet"
        ).communicate()
        length_s, moments = time.monotonic() - began, random.Random(0)  # noqa: S311
        expected = content(folder / "fresh")
        kills: Counter[str] = Counter()
        for number in range(args.kills):
            kills.update(
                killed(
                    folder / "study",
                    folder / f"kill{number}",
                    moments.uniform(0, length_s),
                    expected,
                )
            )
            print(f"kill {number + 1}/{args.kills}: {dict(kills)}", flush=True)
    result = {
        "races": {"seeds": args.seeds, "processes": PEOPLE, "recordings": PEOPLE * STEMS, **races},
        "kills": {"kills": args.kills, "tables": sum(map(bool, expected.values())), **kills},
    }
    print(json.dumps(result, indent=2))
    if args.out:
        atomic_write(args.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
