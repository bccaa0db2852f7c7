"""Train `mien-s`, one small network for expressions, valence, arousal and action units.

    python -m mien.train.builtin.mien_s --data FOLDER --expw FILE --start FILE [--teacher BUNDLE]
        --out RUN

FOLDER holds ferplus-train.parquet, ferplus-valid.parquet and portraits.parquet. FILE of ``--expw``
is what `mien.train.builtin.expw_faces` writes, FILE of ``--start`` is
MobileFace_Identification_V2-0000.params of github.com/becauseofAI/MobileFace. BUNDLE, by default
``mien-s@1``, teaches expressions: its scores of each face and its mirror image are smoother than
ten votes and surer than one person's label.

1. The whole network learns the votes of FER+, the labels of the portraits and of ExpW, and the
   landmarker's blend shapes, with faces covered in part and squeezed.
2. The heads of valence, arousal and action units alone learn from faces mixed in pairs, whose
   labels are mixed in the same shares. So half a smile reads as half of one.

A run that was stopped is continued by the same command.
"""

import argparse
from pathlib import Path
from typing import Final

from mien.bundles.card_parts import Terms
from mien.bundles.store import open_bundle
from mien.data.registry import FerPlus, File, Portraits
from mien.faces.prepare import Pixels
from mien.train.builtin.mien_s import PrintedProgress
from mien.train.bundle.finish import finish
from mien.train.bundle.make import make_bundle
from mien.train.loop import Progress, fit
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.losses import Distill, LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

__all__ = [
    "TASKS",
    "first_settings",
    "make",
    "second_settings",
]

VERSION: Final = 2
FORMER: Final = "mien-s@1"
"""The bundle that teaches expressions."""
TASKS: Final = ("expr.ferplus8", "va", "au.blendshapes")
# ArcFace's five points, in fractions of the crop: the network began with crops of that template.
_TEMPLATE: Final = (
    (38.2946 / 112, 51.6963 / 112),
    (73.5318 / 112, 51.5014 / 112),
    (56.0252 / 112, 71.7366 / 112),
    (41.5493 / 112, 92.3655 / 112),
    (70.7299 / 112, 92.2041 / 112),
)
PIXELS: Final = Pixels(
    size=112,
    # Nearly all pictures are grey, so the network reads luma alone: colour cannot mislead it.
    colour="grey",
    alignment="similarity5",
    template=_TEMPLATE,
    # Luma is a whole number of thousandths, so it never lies half way between two steps of 1/128
    # from this mean: which of them an 8-bit network reads never depends on rounding.
    mean=(127.5305,),
    std=(128.0,),
)
CARD: Final = CardSettings(
    summary="Expression, valence and arousal, and action units of a face, from one small network.",
    licence="Apache-2.0",
    limits=(
        "contempt, disgust and fear are rare in the training data and read far less surely than "
        "the rest: compare macro-F1 with accuracy",
        "valence and arousal follow from the expression; they know no state that the eight "
        "expressions do not",
        "an action unit is an activation from 0 to 1 learned from another network; no FACS coder "
        "has been compared with it",
        "the people in the training data are mostly adults in Western news and web pictures",
        "it started from a network that told people apart; it is not to be used for that, and has "
        "not been measured at it; mien-s@1 started from one whose data are named",
    ),
    terms=(
        Terms(
            data="undisclosed faces from the web, probably MS-Celeb-1M, through the starting "
            "weights (MobileFace Identification V2)",
            used_for="training",
            terms="not stated; MS-Celeb-1M was withdrawn by its maker; starting weights MIT",
        ),
        Terms(
            data="expw.parquet",
            used_for="training",
            terms="ExpW: web pictures for research, one annotator; 3,531 faces of a balanced part",
        ),
    ),
    recipe="python -m mien.train.builtin.mien_s --data FOLDER --expw expw.parquet "
    "--start MobileFace_Identification_V2-0000.params --out RUN",
)


def first_settings(data: Path, expw: Path, start: Path, teacher: Path) -> Settings:
    """Make the settings of the run of the whole network.

    Args:
        data: Folder with the tables of FER+ and the portraits.
        expw: Label table of ExpW's faces.
        start: Weights that the network begins with.
        teacher: Folder of a bundle that teaches expressions.

    Returns:
        The settings.
    """
    sets = (
        FerPlus(set="ferplus", folder=data),
        Portraits(set="portraits", folder=data),
        File(set="file", path=expw),
    )
    augment = AugmentSettings(
        turn=15.0,
        grow=0.12,
        shift=0.05,
        whole=0.2,
        degrade=0.5,
        erase=0.1,
        occlude=0.3,
        squeeze=0.25,
    )
    return Settings(
        name="mien-s",
        data=sets,
        tasks=TASKS,
        pixels=PIXELS,
        network=NetworkSettings(backbone="mobileface", start=start, dropout=0.3),
        losses={
            "va": LossSettings(weight=0.3),
            "au": LossSettings(kind="mse", weight=2.0),
            "expr": LossSettings(distill=Distill(weight=0.4)),
        },
        teachers=(teacher,),
        teachers_see="picture",
        augment=augment,
        optim=OptimSettings(lr=8e-4, weight_decay=0.05, warmup=0.08, average=0.999, clip=5.0),
        fit=FitSettings(epochs=6, batch=64, watch="expr.accuracy", find_points=False, workers=1),
        card=CARD,
    )


def second_settings(first: Settings, run: Path) -> Settings:
    """Make the settings of the run that learns the heads of valence, arousal and action units.

    Args:
        first: Settings of the first run.
        run: Its folder.

    Returns:
        The settings.
    """
    network = first.network.model_copy(
        update={"start": run / "best.pt", "tune": "probe", "dropout": 0.1}
    )
    losses = {
        # The head of expressions stays as it is.
        "expr": LossSettings(weight=0.0),
        "va": LossSettings(kind="mse"),
        "au": LossSettings(kind="mse", weight=2.0),
    }
    changes = {
        # ExpW has labels of expressions alone.
        "data": first.data[:2],
        "network": network,
        "keep_heads": True,
        "losses": losses,
        "teachers": (),
        "teachers_see": "crop",
        "augment": AugmentSettings(
            turn=10.0, grow=0.1, shift=0.04, degrade=0.3, erase=0.0, mixup=1.0
        ),
        "optim": OptimSettings(lr=2e-3, weight_decay=0.0, warmup=0.1, average=0.99, clip=5.0),
        "fit": first.fit.model_copy(update={"epochs": 2, "keep": "last"}),
    }
    return first.model_copy(update=changes)


def make(settings: Settings, out: Path, progress: Progress) -> Path:
    """Train twice and make the bundle ``mien-s``; continues where it was stopped.

    Args:
        settings: Those of the first run.
        out: Folder of the runs and the bundle.
        progress: Is told of epochs and steps.

    Returns:
        Folder of the bundle.
    """
    first = fit(settings, out / "first", progress)
    second = fit(second_settings(settings, first.folder), out / "second", progress)
    return make_bundle(
        second, out / "mien-s", bits=8, features=True, robustness=True, note=progress.note
    )


def main() -> None:
    """Read the command line, train twice, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--expw", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--teacher", default=FORMER)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    teacher = open_bundle(args.teacher).folder
    settings = first_settings(args.data, args.expw, args.start, teacher)
    bundle = make(settings, args.out, PrintedProgress())
    finish(bundle, args.data, VERSION)
    print(bundle)


if __name__ == "__main__":
    main()
