"""Files of a bundle beside its network, and what its card says of the training and its scores."""

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
    "score_with_interval",
    "sha256_of",
    "training_cost",
    "write_bundle_files",
]


def sha256_of(path: Path) -> str:
    """Hash a file.

    Args:
        path: The file.

    Returns:
        SHA-256, in hexadecimal.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_version() -> str:
    """Find the commit of the code that is running.

    Returns:
        The first 12 digits of its hash; ``unknown`` outside a checkout.
    """
    # Of the source, not of the folder that mien was started in.
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or "unknown"


def score_with_interval(
    name: str,
    metric: Callable[..., float],
    *arrays: ArrayLike,
    data: str,
    groups: ArrayLike | None = None,
    rounds: int = 400,
) -> list[Score]:
    """Compute a metric with its 95 % bootstrap interval.

    Args:
        name: What the card calls the metric.
        metric: Function of `arrays`.
        *arrays: Its arguments, each with N rows.
        data: What the card says of the faces.
        groups: Group of each row (N,), such as its subject; groups are drawn as a whole. None draws
            single rows.
        rounds: Number of bootstrap draws.

    Returns:
        The score, rounded for a card; empty where it or its interval is undefined.
    """
    count = len(np.asarray(arrays[0]))
    # Faces without groups are drawn one by one.
    if groups is None:
        groups = np.arange(count)
    low, high = bootstrap(metric, *arrays, groups=groups, rounds=rounds)
    value = metric(*arrays)
    if not np.isfinite([value, low, high]).all():
        return []
    score = Score(
        metric=name,
        value=round(value, 4),
        low=round(low, 4),
        high=round(high, 4),
        data=data,
        faces=count,
    )
    return [score]


def write_bundle_files(card: AnyCard, folder: Path) -> None:
    """Write ``card.json`` and ``README.md`` beside the network of a bundle.

    Args:
        card: The card; the README is made from it.
        folder: The bundle's folder, which holds ``model.onnx`` already.
    """
    write_card(card, folder / "card.json")
    (folder / "README.md").write_text(readme(card), encoding="utf-8")


def log_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a run's learning curve, and print it.

    Args:
        path: CSV file; a new one begins with the names of the columns.
        row: Numbers by column.
    """
    print(dict(row), flush=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def training_cost(run: Path) -> str:
    """Sum up how long a run took, with the runs in its subfolders.

    Args:
        run: Folder of the run, with ``curve.csv``.

    Returns:
        The time in words, as the card says it.
    """
    seconds = 0.0
    for curve in run.rglob("curve.csv"):
        with curve.open(newline="") as file:
            for row in csv.DictReader(file):
                seconds += float(row["seconds"])
    return f"{seconds / 60:.0f} minutes on 2 cores that other work shared"
