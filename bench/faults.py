"""The campaign of faults: damaged media, kills, full disks, hostile bundles, settings and names.

    python bench/faults.py                         # all of it: about two hours on two cores
    python bench/faults.py media --count 1000      # one family
    python bench/faults.py kills --count 30 --seed 7

Prints, for each family, the number of cases and how many went wrong in which way, and one line for each that did; writes
bench/results/faults.json. Exits with 1 if any went wrong. Racing writers have a program of their own, bench/races.py. Where FFmpeg's
programs are installed, its decoder says whether a damaged file is damaged and how many frames it holds.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from campaign import disks, hostile, kills, media
from campaign.verdicts import MEANINGS, Family, Verdict, collect

RESULTS: Final = Path(__file__).parent / "results" / "faults.json"
KILLS: Final = {
    "analyze": 70,
    "train": 20,
    "features": 20,
    "reproduce": 12,
    "superres": 15,
    "pull": 25,
}
"""How often each command is killed."""


def _kills(command: kills.Command) -> Callable[[Path, int | None, int], Iterator[Verdict]]:
    return lambda folder, count, seed: kills.campaign(
        folder, command, count or KILLS[command.name], seed
    )


FAMILIES: Final[dict[str, Callable[[Path, int | None, int], Iterator[Verdict]]]] = {
    "media": lambda folder, count, seed: media.campaign(folder, count or 1000, seed),
    "disks": lambda folder, count, seed: disks.campaign(folder),
    "bundles": lambda folder, count, seed: hostile.bundles(folder),
    "settings": lambda folder, count, seed: hostile.settings(folder),
    "names": lambda folder, count, seed: hostile.names(folder),
} | {f"kill {command.name}": _kills(command) for command in kills.COMMANDS}


def _chosen(words: list[str]) -> list[str]:
    if not words:
        return list(FAMILIES)
    chosen = [
        name
        for name in FAMILIES
        if name in words or name.partition(" ")[0].rstrip("s") + "s" in words
    ]
    if not chosen:
        raise SystemExit(
            f"no family named {' or '.join(words)}; there are {', '.join(FAMILIES)}, and kills for all kills"
        )
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "families", nargs="*", help=f"of {', '.join(FAMILIES)}; kills for all kills; none: all"
    )
    parser.add_argument("--count", type=int, help="cases of damaged media, or of each kill")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--keep", type=Path, help="keep the damaged files that went wrong in this folder"
    )
    arguments = parser.parse_args()
    families: list[Family] = []
    for name in _chosen(arguments.families):
        with tempfile.TemporaryDirectory() as folder:
            found = collect(
                name, FAMILIES[name](Path(folder), arguments.count, arguments.seed), show=True
            )
            if arguments.keep and found.failures():
                shutil.copytree(folder, arguments.keep / name.replace(" ", "-"), dirs_exist_ok=True)
        families.append(found)
        print(f"{name}: {found.summary()}", flush=True)
    _write(families)
    wrong = sum(len(family.failures()) for family in families)
    print(f"{sum(len(family.verdicts) for family in families)} cases, {wrong} went wrong")
    return 1 if wrong else 0


def _write(families: list[Family]) -> None:
    """Results of these families take the place of earlier ones of theirs; others stay."""
    page = (
        json.loads(RESULTS.read_text())
        if RESULTS.exists()
        else {"meanings": dict(MEANINGS), "families": {}}
    )
    for family in families:
        failures = [
            {"case": one.case, "kind": one.kind, "detail": one.detail[:200]}
            for one in family.failures()
        ]
        page["families"][family.name] = family.summary() | {"failures": failures}
    RESULTS.write_text(json.dumps(page, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
