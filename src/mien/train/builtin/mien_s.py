"""Train `mien-s`, one small network for expressions, valence, arousal and action units.

    python -m mien.train.builtin.mien_s --data FOLDER --out RUN [--teacher BUNDLE]

FOLDER holds ferplus-train.parquet, ferplus-valid.parquet and portraits.parquet. The same network is
trained three times:

1. on the votes of FER+, the labels of the portraits and the landmarker's blend shapes;
2. from the weights of the first, on larger crops, and with the first as a teacher. Its scores,
   averaged over each face and its mirror image, are smoother than ten votes and surer than one
   person's label;
3. from the weights of the second, with stronger augmentation, more weight on action units, and both
   as teachers.

The weights of mien-s are the mean of the second, which is better at expressions, and the third,
which is better at action units. They are exported, measured and written as a bundle.

A bundle of another architecture as one more teacher makes other errors, and so improves the average
of the teachers. mien-s had its predecessor, an EfficientNet that began with ImageNet.

A run that was stopped is continued by the same command. The shipped bundle differs in one thing:
its third run began with the last weights of the second, not with its best epoch.
"""

import argparse
from pathlib import Path
from typing import Final

from mien.data.registry import FerPlus, Portraits
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.faces.prepare import Pixels
from mien.train.bundle.finish import finish
from mien.train.bundle.make import make_bundle
from mien.train.loop import Progress, fit
from mien.train.runs.soup import average_runs
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.losses import Distill, LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

VERSION: Final = 1
TASKS: Final = ("expr.ferplus8", "va", "au.blendshapes")
LOSSES: Final = {"va": LossSettings(weight=0.3), "au": LossSettings(kind="mse", weight=1.0)}
AUGMENT: Final = AugmentSettings(turn=20.0, whole=0.3, erase=0.35)
TEACHER_COMMIT: Final = "380c9d8"
"""Commit at which the repository holds the mien-s that taught this one."""
BUNDLE_PATH: Final = "src/mien/bundles/embedded/mien-s"
"""Folder of mien-s in the repository."""
WEIGHT_SHARES: Final = (0.4, 0.6)
"""Of the second and the third run in the weights.

Chosen on the validation splits out of (.3, .7), (.4, .6) and (.5, .5).
"""
MEAN: Final = (115.0305,)
"""Mean grey of the pixels.

The luma of a pixel is a whole number of thousandths, so it never lies half way between two steps of
1/256 from this mean: which of them an 8-bit network reads never depends on rounding.
"""
CARD: Final = CardSettings(
    summary="Expression, valence and arousal, and action units of a face (no human FACS coder has "
    "been compared with them), from one small residual network.",
    licence="Apache-2.0",
    limits=(
        "contempt, disgust and fear are rare in the training data and read far less surely than "
        "the rest: compare macro-F1 with accuracy",
        "valence and arousal follow from the expression; they know no state that the eight "
        "expressions do not",
        "an action unit is an activation from 0 to 1 learned from another network, not a FACS "
        "intensity",
        "the people in the training data are mostly adults in Western news and web pictures",
        "it started from a network that told people apart; it is not to be used for that, and has "
        "not been measured at it",
    ),
    recipe=f"git archive {TEACHER_COMMIT} {BUNDLE_PATH} | tar -x -C OLD && "
    f"python -m mien.train.builtin.mien_s --data FOLDER --teacher OLD/{BUNDLE_PATH} --out RUN",
)


def pixels_at(size: int) -> Pixels:
    """Describe the crops that the network reads.

    Args:
        size: Width and height of a crop, px.

    Returns:
        Their size, colour, alignment and normalisation.
    """
    # Nearly all pictures are grey, so the network reads luma alone: colour cannot mislead it.
    return Pixels(
        size=size,
        colour="grey",
        alignment="similarity5",
        template=FERPLUS_TEMPLATE,
        mean=MEAN,
        std=(256.0,),
    )


def first_settings(data: Path) -> Settings:
    """Make the settings of the run that learns from the labels alone, at 96 px.

    Args:
        data: Folder with the tables of FER+ and the portraits.

    Returns:
        The settings.
    """
    sets = (FerPlus(set="ferplus", folder=data), Portraits(set="portraits", folder=data))
    optim = OptimSettings(lr=5e-4, weight_decay=0.05, warmup=0.1, average=0.999, clip=5.0)
    return Settings(
        name="mien-s-first",
        data=sets,
        tasks=TASKS,
        pixels=pixels_at(96),
        network=NetworkSettings(backbone="face-resnet", start="faces", dropout=0.2),
        losses=LOSSES,
        augment=AUGMENT,
        optim=optim,
        fit=FitSettings(epochs=10, batch=64, watch="expr.accuracy", find_points=False),
    )


def second_settings(data: Path, first: Path, teacher: Path | None) -> Settings:
    """Make the settings of the run that continues from the first, at 112 px.

    Args:
        data: Folder with the tables of FER+ and the portraits.
        first: Folder of the first run, its start and its teacher of expressions.
        teacher: A bundle as one more teacher.

    Returns:
        The settings.
    """
    before = first_settings(data)
    network = before.network.model_copy(update={"start": first / "best.pt", "dropout": 0.1})
    # The first run knew its training faces no better than others, so this one may learn more of
    # them: less augmentation.
    augment = AugmentSettings(turn=10.0, grow=0.1, shift=0.04, whole=0.2, degrade=0.4, erase=0.1)
    losses = {**LOSSES, "expr": LossSettings(distill=Distill(weight=0.4))}
    changes = {
        "name": "mien-s-second",
        "pixels": pixels_at(112),
        "network": network,
        "losses": losses,
        "augment": augment,
        "teachers": _teachers(first, teacher=teacher),
        "teachers_see": "picture",
        "optim": before.optim.model_copy(update={"lr": 5e-4, "weight_decay": 0.02}),
        "fit": before.fit.model_copy(update={"epochs": 8, "batch": 32}),
    }
    return before.model_copy(update=changes)


def third_settings(data: Path, first: Path, second: Path, teacher: Path | None) -> Settings:
    """Make the settings of the run that continues from the second.

    Args:
        data: Folder with the tables of FER+ and the portraits.
        first: Folder of the first run, a teacher of expressions.
        second: Folder of the second run, its start and a teacher of expressions.
        teacher: A bundle as one more teacher.

    Returns:
        The settings.
    """
    before = second_settings(data, first, teacher)
    network = before.network.model_copy(update={"start": second / "best.pt", "dropout": 0.2})
    # The second run had begun to know its training faces better than others: more augmentation.
    augment = AugmentSettings(turn=15.0, grow=0.12, shift=0.05, whole=0.25, degrade=0.5, erase=0.2)
    losses = {
        "va": LOSSES["va"],
        "au": LossSettings(kind="mse", weight=3.0),
        "expr": LossSettings(distill=Distill(weight=0.6)),
    }
    changes = {
        "name": "mien-s",
        "network": network,
        "losses": losses,
        "augment": augment,
        "teachers": _teachers(first, second, teacher=teacher),
        "optim": before.optim.model_copy(update={"lr": 4e-4, "weight_decay": 0.05}),
        "fit": before.fit.model_copy(update={"epochs": 9, "batch": 48, "keep": "last"}),
        "card": CARD,
    }
    return before.model_copy(update=changes)


def _teachers(*runs: Path, teacher: Path | None) -> tuple[Path, ...]:
    return runs if teacher is None else (*runs, teacher)


def make(data: Path, out: Path, progress: Progress, teacher: Path | None = None) -> Path:
    """Train three times and make the bundle ``mien-s``; continues where it was stopped.

    Args:
        data: Folder with the tables of FER+ and the portraits.
        out: Folder of the runs and the bundle.
        progress: Is told of epochs and steps.
        teacher: A bundle as one more teacher.

    Returns:
        Folder of the bundle.
    """
    first = fit(first_settings(data), out / "first", progress)
    second = fit(second_settings(data, first.folder, teacher), out / "second", progress)
    third = fit(third_settings(data, first.folder, second.folder, teacher), out / "third", progress)
    mean = average_runs((second, third), WEIGHT_SHARES, out / "mean")
    bundle = make_bundle(
        mean, out / "mien-s", bits=8, features=True, robustness=True, note=progress.note
    )
    finish(bundle, data, VERSION)
    return bundle


class PrintedProgress(Progress):
    """Prints a line per epoch and step."""

    def epoch(self, row: dict[str, float]) -> None:
        """Print the scores of an epoch.

        Args:
            row: Scores by name.
        """
        print({key: round(value, 4) for key, value in row.items()}, flush=True)

    def note(self, line: str) -> None:
        """Print a line.

        Args:
            line: The line.
        """
        print(line, flush=True)


def main() -> None:
    """Read the command line, train three times, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    args = parser.parse_args()
    print(make(args.data, args.out, PrintedProgress(), args.teacher))


if __name__ == "__main__":
    main()
