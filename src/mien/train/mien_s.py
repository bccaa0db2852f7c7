"""Make `mien-s`: one small network for expression, valence-arousal and action units, from FER+ and the portraits.

    python -m mien.train.mien_s --data FOLDER --out RUN

FOLDER holds ferplus-train.parquet, ferplus-valid.parquet and portraits.parquet. Two runs of the same small network: the first
learns from the votes, the labels and the landmarker's blend shapes; the second starts where the first ended, sees larger crops,
and also learns from the first one's answers, averaged over each face and its mirror image: they are smoother than ten votes, and
surer than one person's label. Then the bundle is exported, measured and written. Stopped at any point, the same command goes on.
"""

import argparse
from pathlib import Path
from typing import Final

from mien.data.sets import FerPlus, Portraits
from mien.faces.prepare import Pixels
from mien.train.augment import AugmentSettings
from mien.train.crops import FERPLUS_TEMPLATE
from mien.train.networks import NetworkSettings
from mien.train.objective import Distill, LossSettings
from mien.train.optim import OptimSettings
from mien.train.settings import FitSettings, Settings

TASKS: Final = ("expr.ferplus8", "va", "au.blendshapes")
LOSSES: Final = {"va": LossSettings(weight=0.3), "au": LossSettings(kind="mse", weight=1.0)}
AUGMENT: Final = AugmentSettings(turn=20.0, whole=0.3, erase=0.35)


def pixels_at(size: int) -> Pixels:
    """What the network eats at that crop size."""
    # Nearly all the pictures are grey, so the network is given luma alone: colour cannot mislead it.
    return Pixels(size=size, colour="grey", alignment="similarity5", template=FERPLUS_TEMPLATE, mean=(115.0,), std=(256.0,))


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


def second_settings(data: Path, first: Path) -> Settings:
    """The run that goes on from the first at 112 px, and learns expressions half from the labels, half from the first."""
    before = first_settings(data)
    return before.model_copy(
        update={
            "name": "mien-s",
            "pixels": pixels_at(112),
            "network": before.network.model_copy(update={"start": first / "best.pt"}),
            "losses": {**LOSSES, "expr": LossSettings(distill=Distill(weight=0.5))},
            "teachers": (first,),
            "teachers_see": "picture",
            "optim": before.optim.model_copy(update={"lr": 4e-4}),
        }
    )
