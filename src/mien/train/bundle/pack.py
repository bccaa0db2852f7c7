"""From a trained network and its measured scores to a bundle: network, card, and a README made from the card."""

import csv
import hashlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mien.bundles.card import AnyCard, write_card
from mien.bundles.card_parts import Score
from mien.bundles.readme import readme
from mien.metrics import bootstrap

__all__ = [
    "code_version",
    "log_row",
    "measured",
    "sha256_of",
    "training_cost",
    "write_bundle_files",
]


def sha256_of(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_version() -> str:
    """Commit of the code this runs from, ``unknown`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or "unknown"


def measured(
    name: str,
    metric: Callable[..., float],
    *arrays: ArrayLike,
    data: str,
    groups: ArrayLike | None = None,
    rounds: int = 400,
) -> list[Score]:
    """A metric of `arrays` with its 95 % bootstrap interval over `groups` (rows where none are given); nothing where it is undefined."""
    count = len(np.asarray(arrays[0]))
    low, high = bootstrap(
        metric, *arrays, groups=np.arange(count) if groups is None else groups, rounds=rounds
    )
    value = metric(*arrays)
    if not np.isfinite([value, low, high]).all():
        return []
    return [
        Score(
            metric=name,
            value=round(value, 4),
            low=round(low, 4),
            high=round(high, 4),
            data=data,
            faces=count,
        )
    ]


def write_bundle_files(card: AnyCard, folder: Path) -> None:
    """Write ``card.json`` and ``README.md`` beside the ``model.onnx`` that already lies in `folder`."""
    write_card(card, folder / "card.json")
    (folder / "README.md").write_text(readme(card), encoding="utf-8")


def log_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a line to a run's curve (CSV, header at the top) and print it."""
    print(dict(row), flush=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def training_cost(run: Path) -> str:
    """What a run cost, from its curve and those of the runs inside it."""
    seconds = 0.0
    for curve in run.rglob("curve.csv"):
        with curve.open(newline="") as file:
            seconds += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return f"{seconds / 60:.0f} minutes on 2 cores that other work shared"
