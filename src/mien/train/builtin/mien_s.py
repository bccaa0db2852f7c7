"""Make `mien-s`: one small network for expression, valence-arousal and action units, from FER+ and the portraits.

    python -m mien.train.builtin.mien_s --data FOLDER --out RUN [--teacher BUNDLE]

FOLDER holds ferplus-train.parquet, ferplus-valid.parquet and portraits.parquet. Three runs of the same small network: the first
learns from the votes, the labels and the landmarker's blend shapes; the second starts where the first ended, sees larger crops,
and also learns from the first one's answers, averaged over each face and its mirror image: they are smoother than ten votes, and
surer than one person's label; the third goes on from there, is shaken more, gives action units more weight, and has both as teachers.
mien-s is the mean of the weights of the second, which is better at expressions, and the third, which is better at action units. A
bundle of another make, given as one more teacher, errs elsewhere and so makes the average better; mien-s had the mien-s before it, an
EfficientNet that began with ImageNet. Then the bundle is exported, measured and written. Stopped at any point, the same command goes on.

The shipped one differs in one thing: its third run began where the second had ended, not at the second's best epoch.
"""

import argparse
from pathlib import Path
from typing import Final

from mien.data.registry import FerPlus, Portraits
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.faces.prepare import Pixels
from mien.train.bundle.make import make_bundle
from mien.train.loop import Progress, fit
from mien.train.runs.soup import average_runs
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.losses import Distill, LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

TASKS: Final = ("expr.ferplus8", "va", "au.blendshapes")
LOSSES: Final = {"va": LossSettings(weight=0.3), "au": LossSettings(kind="mse", weight=1.0)}
AUGMENT: Final = AugmentSettings(turn=20.0, whole=0.3, erase=0.35)
# Where the repository keeps the mien-s that taught this one.
BEFORE: Final = "380c9d8"
SHARES: Final = (0.4, 0.6)
"""Of the second and the third run in the weights; chosen on the validation splits out of (.3, .7), (.4, .6) and (.5, .5)."""
MEAN: Final = (115.0305,)
"""Grey. The luma of a pixel is a whole number of thousandths, so it never lies half way between two steps of 1/256 from here: which of
them an 8-bit network reads does not hang on the last digit of a sum."""
HOME: Final = "src/mien/bundles/embedded/mien-s"
CARD: Final = CardSettings(
    summary="Expression, valence and arousal, and action units of a face, from one small residual network.",
    licence="Apache-2.0",
    limits=(
        "contempt, disgust and fear are rare in the training data and read far less surely than the rest: compare macro-F1 with accuracy",
        "valence and arousal follow from the expression; they know no state that the eight expressions do not",
        "an action unit is an activation from 0 to 1 learned from another network, not a FACS intensity",
        "the people in the training data are mostly adults in Western news and web pictures",
        "it started from a network that told people apart; it is not to be used for that, and has not been measured at it",
    ),
    recipe=f"git archive {BEFORE} {HOME} | tar -x -C OLD && "
    f"python -m mien.train.builtin.mien_s --data FOLDER --teacher OLD/{HOME} --out RUN",
)


def pixels_at(size: int) -> Pixels:
    """What the network eats at that crop size."""
    # Nearly all the pictures are grey, so the network is given luma alone: colour cannot mislead it.
    return Pixels(
        size=size,
        colour="grey",
        alignment="similarity5",
        template=FERPLUS_TEMPLATE,
        mean=MEAN,
        std=(256.0,),
    )


def first_settings(data: Path) -> Settings:
    """The run that learns from the labels as they are, at 96 px."""
    return Settings(
        name="mien-s-first",
        data=(FerPlus(set="ferplus", folder=data), Portraits(set="portraits", folder=data)),
        tasks=TASKS,
        pixels=pixels_at(96),
        network=NetworkSettings(backbone="face-resnet", start="faces", dropout=0.2),
        losses=LOSSES,
        augment=AUGMENT,
        optim=OptimSettings(lr=5e-4, weight_decay=0.05, warmup=0.1, average=0.999, clip=5.0),
        fit=FitSettings(epochs=10, batch=64, watch="expr.accuracy", find_points=False),
    )


def second_settings(data: Path, first: Path, teacher: Path | None) -> Settings:
    """The run that goes on from the first at 112 px, and learns expressions from its teachers as well."""
    before = first_settings(data)
    return before.model_copy(
        update={
            "name": "mien-s-second",
            "pixels": pixels_at(112),
            "network": before.network.model_copy(
                update={"start": first / "best.pt", "dropout": 0.1}
            ),
            "losses": {**LOSSES, "expr": LossSettings(distill=Distill(weight=0.4))},
            # The first run knew its training faces no better than others: it was held back, so the second is shaken less.
            "augment": AugmentSettings(
                turn=10.0, grow=0.1, shift=0.04, whole=0.2, degrade=0.4, erase=0.1
            ),
            "teachers": (first,) if teacher is None else (first, teacher),
            "teachers_see": "picture",
            "optim": before.optim.model_copy(update={"lr": 5e-4, "weight_decay": 0.02}),
            "fit": before.fit.model_copy(update={"epochs": 8, "batch": 32}),
        }
    )


def third_settings(data: Path, first: Path, second: Path, teacher: Path | None) -> Settings:
    """The run that goes on from the second, with both before it as teachers of expressions, and action units weighing more."""
    before = second_settings(data, first, teacher)
    return before.model_copy(
        update={
            "name": "mien-s",
            "network": before.network.model_copy(
                update={"start": second / "best.pt", "dropout": 0.2}
            ),
            "losses": {
                "va": LOSSES["va"],
                "au": LossSettings(kind="mse", weight=3.0),
                "expr": LossSettings(distill=Distill(weight=0.6)),
            },
            # The second run had begun to know its training faces better than others, so the third is shaken more again.
            "augment": AugmentSettings(
                turn=15.0, grow=0.12, shift=0.05, whole=0.25, degrade=0.5, erase=0.2
            ),
            "teachers": (first, second) if teacher is None else (first, second, teacher),
            "optim": before.optim.model_copy(update={"lr": 4e-4, "weight_decay": 0.05}),
            "fit": before.fit.model_copy(update={"epochs": 9, "batch": 48, "keep": "last"}),
            "card": CARD,
        }
    )


def make(data: Path, out: Path, progress: Progress, teacher: Path | None = None) -> Path:
    """All three runs and the bundle `out`/mien-s; goes on where it was stopped."""
    first = fit(first_settings(data), out / "first", progress)
    second = fit(second_settings(data, first.folder, teacher), out / "second", progress)
    third = fit(third_settings(data, first.folder, second.folder, teacher), out / "third", progress)
    mean = average_runs((second, third), SHARES, out / "mean")
    return make_bundle(
        mean, out / "mien-s", bits=8, features=True, robustness=True, note=progress.note
    )


class Lines(Progress):
    """A line an epoch."""

    def epoch(self, row: dict[str, float]) -> None:
        """Print the scores of an epoch."""
        print({key: round(value, 4) for key, value in row.items()}, flush=True)

    def note(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)


def main() -> None:
    """Parse, train three times, pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    args = parser.parse_args()
    print(make(args.data, args.out, Lines(), args.teacher))


if __name__ == "__main__":
    main()
