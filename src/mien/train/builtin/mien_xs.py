"""Train `mien-xs`: what `mien-s` reads, for phones and browsers, in a quarter of its size.

    python -m mien.train.builtin.mien_xs --data FOLDER --before RUN [--teacher BUNDLE] --out OUT

FOLDER and BUNDLE are as for `mien.train.builtin.mien_s`, RUN is its run. The network is that of
mien-s without its last stage, on crops of 80 px. It starts with the weights of mien-s as far as
they fit, and learns from the labels and from the averaged scores of mien-s and BUNDLE. A run that
was stopped is continued by the same command.
"""

import argparse
from pathlib import Path
from typing import Final

from mien.train.builtin.mien_s import (
    BUNDLE_PATH,
    CARD,
    LOSSES,
    TEACHER_COMMIT,
    PrintedProgress,
    first_settings,
    pixels_at,
)
from mien.train.bundle.finish import finish
from mien.train.bundle.make import make_bundle
from mien.train.loop import Progress, fit
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.losses import Distill, LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.training import Settings

VERSION: Final = 1
SUMMARY: Final = (
    "Expression, valence and arousal, and action units of a face (no human FACS coder has been "
    "compared with them), from a network small enough for phones and browsers."
)
RECIPE: Final = (
    f"git archive {TEACHER_COMMIT} {BUNDLE_PATH} | tar -x -C OLD && "
    "python -m mien.train.builtin.mien_xs --data FOLDER --before RUN "
    f"--teacher OLD/{BUNDLE_PATH} --out OUT"
)


def settings(data: Path, before: Path, teacher: Path | None) -> Settings:
    """Make the settings of the run.

    Args:
        data: Folder with the tables of FER+ and the portraits.
        before: Folder of the runs of mien-s.
        teacher: A bundle as one more teacher.

    Returns:
        The settings.
    """
    first = first_settings(data)
    larger = before / "mien-s"
    losses = {
        "va": LOSSES["va"],
        "au": LossSettings(kind="mse", weight=3.0, distill=Distill(weight=0.5)),
        "expr": LossSettings(distill=Distill(weight=0.6)),
    }
    # Stages that both networks have start with the mean weights that mien-s ships.
    start = before / "mean" / "best.pt"
    network = NetworkSettings(backbone="face-resnet-small", start=start, dropout=0.1)
    augment = AugmentSettings(turn=10.0, grow=0.1, shift=0.04, whole=0.2, degrade=0.4, erase=0.1)
    optim = first.optim.model_copy(update={"lr": 1e-3, "weight_decay": 0.02})
    schedule = first.fit.model_copy(update={"epochs": 12, "batch": 48, "keep": "last"})
    changes = {
        "name": "mien-xs",
        "pixels": pixels_at(80),
        "network": network,
        "losses": losses,
        "augment": augment,
        "teachers": (larger,) if teacher is None else (larger, teacher),
        "teachers_see": "picture",
        "optim": optim,
        "fit": schedule,
        "card": CARD.model_copy(update={"summary": SUMMARY, "recipe": RECIPE}),
    }
    return first.model_copy(update=changes)


def make(
    data: Path, before: Path, out: Path, progress: Progress, teacher: Path | None = None
) -> Path:
    """Train the network and make the bundle ``mien-xs``; continues where it was stopped.

    Args:
        data: Folder with the tables of FER+ and the portraits.
        before: Folder of the runs of mien-s.
        out: Folder of the run and the bundle.
        progress: Is told of epochs and steps.
        teacher: A bundle as one more teacher.

    Returns:
        Folder of the bundle.
    """
    run = fit(settings(data, before, teacher), out / "run", progress)
    bundle = make_bundle(
        run, out / "mien-xs", bits=8, features=True, robustness=True, note=progress.note
    )
    finish(bundle, data, VERSION)
    return bundle


def main() -> None:
    """Read the command line, train, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(make(args.data, args.before, args.out, PrintedProgress(), args.teacher))


if __name__ == "__main__":
    main()
