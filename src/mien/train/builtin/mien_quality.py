"""Train `mien-quality`, a small network that says how far a reading can be trusted.

    python -m mien.train.builtin.mien_quality --data FOLDER --out RUN [--pose-teacher fr_pose.onnx]
        [--bundle mien-s] [--detector mien-face]

FOLDER holds portraits.parquet. Portraits are damaged in two dozen ways, and found and read as in
use (`mien.train.builtin.quality_table`). The network learns whether a reading is sound, which parts
of the face are covered, and how the head is turned. It judges the readings of the bundle that it
was trained with, so it is trained again when that changes. A run that was stopped is continued by
the same command.
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from mien.bundles.card import AffectCard, read_card, write_card
from mien.bundles.card_parts import Score, Terms
from mien.bundles.model import Model
from mien.bundles.store import AFFECT, FACES, load
from mien.data.images import read_picture
from mien.data.registry import File
from mien.data.sets.portraits import Portraits
from mien.tasks import TASKS, Floats
from mien.train.builtin.mien_s import PrintedProgress
from mien.train.builtin.quality_table import PIXELS, make_table
from mien.train.bundle.make import make_bundle
from mien.train.bundle.pack import score_with_interval
from mien.train.loop import Progress, fit
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

__all__ = ["auc", "doubtful_below", "make", "settings"]

_SPLITS: Final = ("train", "val")
FALSE_ALARMS: Final = 0.05
"""Share of sound readings that may be called doubtful."""

_TASKS: Final = {
    "quality": "quality.reading",
    "occlusion": "occlusion.regions5",
    "pose": "pose.angles",
}
_SUPERVISION: Final = {
    "quality": "whether damage to the picture changed the reading of {bundle}",
    "occlusion": "drawn occluders",
    "pose": "the answers of another network (Hopenet-like, its data not named)",
}
_LIMITS: Final = (
    "it learned drawn damage of portraits: masks, hands and hair of the world look different",
    "it says whether a reading would be the same without the damage, not whether it is right: a "
    "misread face without any damage counts as sound",
    "angles are those of another network, measured against it alone",
)


def settings(tables: Path, bundle: str, *, pose: bool = True) -> Settings:
    """Make the settings of the run.

    Args:
        tables: Folder with train.parquet and val.parquet.
        bundle: Name of the bundle whose readings are judged.
        pose: The tables have the angles of a teacher.

    Returns:
        The settings.
    """
    losses = {"quality": LossSettings(), "occlusion": LossSettings(weight=0.5)}
    if pose:
        # A reading of an upside-down face as upright is off by 180 degrees, which squared would
        # outweigh all else.
        losses["pose"] = LossSettings(kind="mae", weight=0.3)
    supervised_by = {family: _SUPERVISION[family].format(bundle=bundle) for family in losses}
    portraits = Portraits.info.terms
    terms = (
        Terms(data="train.parquet", used_for="training", terms=portraits),
        Terms(data="val.parquet", used_for="selection", terms=portraits),
    )
    card = CardSettings(
        summary=f"How far a reading of {bundle} can be trusted, which parts of a face are covered, "
        "and how the head is turned.",
        licence="Apache-2.0",
        limits=_LIMITS,
        supervised_by=supervised_by,
        terms=terms,
        recipe="python -m mien.train.builtin.mien_quality --data FOLDER --pose-teacher "
        "fr_pose.onnx --out RUN",
    )
    # The table holds each face damaged and mirrored already, with labels that say so.
    augment = AugmentSettings(
        turn=0.0, grow=0.05, shift=0.02, flip=0.0, light=0.3, degrade=0.0, erase=0.0
    )
    network = NetworkSettings(backbone="face-resnet-small", start="faces", dropout=0.1)
    optim = OptimSettings(lr=1e-3, weight_decay=0.05, warmup=0.1, average=0.999, clip=5.0)
    files = [File(set="file", path=tables / f"{split}.parquet") for split in _SPLITS]
    tasks = [_TASKS[family] for family in losses]
    return Settings(
        name="mien-quality",
        data=tuple(files),
        tasks=tuple(tasks),
        pixels=PIXELS,
        network=network,
        losses=losses,
        augment=augment,
        optim=optim,
        fit=FitSettings(epochs=6, batch=64, keep="last", find_points=False),
        card=card,
    )


def make(
    data: Path,
    out: Path,
    progress: Progress,
    *,
    pose_teacher: Path | None = None,
    bundle: str = AFFECT,
    detector: str = FACES,
) -> Path:
    """Damage faces, train, and make the bundle; continues where it was stopped.

    Args:
        data: Folder with the table of portraits.
        out: Folder of the tables, the run and the bundle.
        progress: Is told of epochs and steps.
        pose_teacher: ONNX file of a `PoseTeacher`; without one the network gives no angles.
        bundle: The bundle whose readings are judged.
        detector: The bundle that finds the faces.

    Returns:
        Folder of the bundle.
    """
    tables = {}
    for split in _SPLITS:
        tables[split] = make_table(
            data,
            split,
            out / f"{split}.parquet",
            bundle=bundle,
            detector=detector,
            teacher=pose_teacher,
        )
    run = fit(settings(out, bundle, pose=pose_teacher is not None), out / "run", progress)
    folder = make_bundle(run, out / "mien-quality", bits=8, note=progress.note)
    _complete_card(folder, tables["val"])
    return folder


def _complete_card(folder: Path, table: pd.DataFrame) -> None:
    """Add the threshold to a bundle's card, and how well it tells unsound readings."""
    path = folder / "card.json"
    card = read_card(path)
    assert isinstance(card, AffectCard)
    quality = quality_of(load(folder), table)
    sound = table["quality"].to_numpy(float)
    scores = [*card.scores, *_auc_scores(quality, sound, table)]
    threshold = doubtful_below(quality, sound)
    write_card(card.model_copy(update={"scores": tuple(scores), "doubtful_below": threshold}), path)


def quality_of(model: Model, table: pd.DataFrame) -> Floats:
    """Judge the faces of a table.

    Args:
        model: A bundle with the task ``quality.reading``.
        table: From `make_table`.

    Returns:
        Quality (N,), 0..1.
    """
    crops = [read_picture(image) for image in table["image"]]
    quality: Floats = model.score(crops)[TASKS["quality.reading"].family][:, 0]
    return quality


def auc(quality: ArrayLike, sound: ArrayLike) -> float:
    """Area under the ROC curve: how often a sound reading gets the higher quality of two.

    Args:
        quality: (N,).
        sound: 1 for sound readings, 0 for others (N,).

    Returns:
        0..1; NaN where all are of one kind.
    """
    truth = np.asarray(sound)
    if truth.min() == truth.max():
        return float("nan")
    return float(roc_auc_score(truth, quality))


def doubtful_below(quality: ArrayLike, sound: ArrayLike) -> float:
    """Choose the quality below which a reading is called doubtful.

    Args:
        quality: (N,), 0..1.
        sound: 1 for sound readings, 0 for others (N,).

    Returns:
        The highest hundredth at which at most `FALSE_ALARMS` of the sound readings lie below.
    """
    values = np.asarray(quality)[np.asarray(sound) == 1]
    return float(np.floor(100 * np.quantile(values, FALSE_ALARMS)) / 100)


def _auc_scores(quality: Floats, sound: Floats, table: pd.DataFrame) -> list[Score]:
    subjects = pd.factorize(table["subject"])[0]
    return list(
        score_with_interval(
            "AUC, sound against unsound readings",
            auc,
            quality,
            sound,
            groups=subjects,
            data="damaged portraits of held-out people",
            rounds=200,
        )
    )


def main() -> None:
    """Read the command line, train, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pose-teacher", type=Path)
    parser.add_argument("--bundle", default=AFFECT)
    parser.add_argument("--detector", default=FACES)
    args = parser.parse_args()
    folder = make(
        args.data,
        args.out,
        PrintedProgress(),
        pose_teacher=args.pose_teacher,
        bundle=args.bundle,
        detector=args.detector,
    )
    print(folder)


if __name__ == "__main__":
    main()
