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
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mien.bundles.card_parts import Score, Terms, Trust
from mien.bundles.model import Model
from mien.bundles.store import AFFECT, FACES, load
from mien.data.images import read_picture
from mien.data.label_table import Split
from mien.data.registry import File
from mien.data.sets.portraits import Portraits
from mien.files import AtomicFile
from mien.metrics import pearson
from mien.tasks import TASKS, Floats
from mien.train.builtin.mien_s import PrintedProgress
from mien.train.builtin.quality_table import PIXELS, make_table
from mien.train.bundle.make import make_bundle
from mien.train.bundle.pack import score_with_interval, write_bundle_files
from mien.train.loop import Progress, fit
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

__all__ = [
    "auc",
    "complete_card",
    "doubtful_below",
    "fit_trust",
    "judged",
    "make",
    "quality_of",
    "settings",
]

VERSION: Final = 2
_SPLITS: Final[tuple[Split, ...]] = ("train", "val")
_TABLE: Final = "damaged-portraits.parquet"
_ANGLES: Final = ("yaw", "pitch", "roll")
FALSE_ALARMS: Final = 0.05
"""Share of undamaged faces that may be called doubtful."""

_TASKS: Final = {
    "quality": "quality.reading",
    "occlusion": "occlusion.regions5",
    "pose": "pose.angles",
    "gaze": "gaze.eyes",
}
_SUPERVISION: Final = {
    "quality": "whether damage to the picture changed the reading of {bundle}",
    "occlusion": "drawn occluders",
    "pose": "the answers of another network (Hopenet-like, its data not named)",
    "gaze": "blend shapes of MediaPipe's face landmarker",
}
_POSE_TERMS: Final = Terms(
    data="fr_pose.onnx of faceplugin-face-recognition-js 0.0.1, whose angles it learned",
    used_for="teacher",
    terms="MIT by its package; its data are not named",
)
_GAZE_TERMS: Final = Terms(
    data="MediaPipe face landmarker (blend shapes)", used_for="teacher", terms="Apache-2.0"
)
_LIMITS: Final = (
    "it learned drawn damage of portraits: masks, hands and hair of the world look different",
    "it says whether a reading would be the same without the damage, not whether it is right: a "
    "misread face without any damage counts as sound",
    "angles are those of another network, measured against it alone",
    "gaze is how far a landmarker says that the eyes are turned, not an angle, and is measured "
    "against that alone; where eyes are closed or covered it says nothing",
)


def settings(table: Path, bundle: str, *, pose: bool = True) -> Settings:
    """Make the settings of the run.

    Args:
        table: Both splits of `make_table` in one file.
        bundle: Name of the bundle whose readings are judged.
        pose: The table has the angles of a teacher.

    Returns:
        The settings.
    """
    losses = {
        "quality": LossSettings(),
        "occlusion": LossSettings(weight=0.7),
        "gaze": LossSettings(kind="mse", weight=0.3),
    }
    if pose:
        # A reading of an upside-down face as upright is off by 180 degrees, which squared would
        # outweigh all else.
        losses["pose"] = LossSettings(kind="mae", weight=0.3)
    supervised_by = {family: _SUPERVISION[family].format(bundle=bundle) for family in losses}
    terms = [Terms(data=_TABLE, used_for="training", terms=Portraits.info.terms)]
    terms.append(Terms(data=f"readings of {bundle}", used_for="teacher", terms="see its card"))
    terms.append(_GAZE_TERMS)
    if pose:
        terms.append(_POSE_TERMS)
    card = CardSettings(
        summary=f"How far a reading of {bundle} can be trusted, which parts of a face are covered, "
        "how the head is turned, and where the eyes look.",
        licence="Apache-2.0",
        limits=_LIMITS,
        supervised_by=supervised_by,
        terms=tuple(terms),
        recipe="python -m mien.train.builtin.mien_quality --data FOLDER --pose-teacher "
        "fr_pose.onnx --out RUN",
    )
    # The table holds each face damaged and mirrored already, with labels that say so.
    augment = AugmentSettings(
        turn=0.0, grow=0.05, shift=0.02, flip=0.0, light=0.3, degrade=0.0, erase=0.0
    )
    network = NetworkSettings(backbone="face-resnet-small", start="faces", dropout=0.1)
    optim = OptimSettings(lr=1e-3, weight_decay=0.05, warmup=0.1, average=0.999, clip=5.0)
    schedule = FitSettings(
        epochs=4, batch=64, keep="last", find_points=False, precision="bf16-mixed"
    )
    tasks = [_TASKS[family] for family in losses]
    return Settings(
        name="mien-quality",
        data=(File(set="file", path=table),),
        tasks=tuple(tasks),
        pixels=PIXELS,
        network=network,
        losses=losses,
        augment=augment,
        optim=optim,
        fit=schedule,
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
    parts = {}
    for split in _SPLITS:
        parts[split] = make_table(
            data,
            split,
            out / f"{split}.parquet",
            bundle=bundle,
            detector=detector,
            teacher=pose_teacher,
        )
    with AtomicFile(out / _TABLE) as temporary:
        pd.concat(list(parts.values())).to_parquet(temporary)
    run = fit(settings(out / _TABLE, bundle, pose=pose_teacher is not None), out / "run", progress)
    folder = make_bundle(run, out / "mien-quality", bits=8, note=progress.note)
    complete_card(folder, parts["val"])
    return folder


def complete_card(folder: Path, table: pd.DataFrame) -> None:
    """Add to a bundle's card how `quality` is computed, its threshold, and what they are worth.

    Args:
        folder: The bundle.
        table: Of the people it did not learn from.
    """
    model = load(folder)
    trust = fit_trust(judged(model, table), table["probability"], table["quality"])
    # Written twice, for the second model combines as the first card says.
    card = model.card.model_copy(update={"trust": trust})
    write_bundle_files(card, folder)
    quality = quality_of(load(folder), table)
    scores = [*card.scores, *_auc_scores(quality, table)]
    scores += [*_angle_errors(model, table), *_gaze_scores(model, table)]
    threshold = doubtful_below(quality[table["kind"] == ""])
    changes = {"scores": tuple(scores), "doubtful_below": threshold, "version": VERSION}
    write_bundle_files(card.model_copy(update=changes), folder)


def fit_trust(judged: ArrayLike, probability: ArrayLike, sound: ArrayLike) -> Trust:
    """Combine a network's judgement with the reading's own probability by logistic regression.

    Args:
        judged: The network's judgement (N,), 0..1.
        probability: Of the likeliest expression (N,), 0..1.
        sound: 1 for sound readings, 0 for others (N,).

    Returns:
        How to combine them; no worse on these readings than either alone.
    """
    alone = (
        Trust(offset=0.0, network=1.0, probability=0.0),
        Trust(offset=0.0, network=0.0, probability=1.0),
    )
    odds = [logit(trust.quality(judged, probability)) for trust in alone]
    fitted = LogisticRegression(C=np.inf).fit(np.column_stack(odds), np.asarray(sound))
    network, share = fitted.coef_[0].round(4).tolist()
    return Trust(offset=round(float(fitted.intercept_[0]), 4), network=network, probability=share)


def judged(model: Model, table: pd.DataFrame) -> Floats:
    """Judge the faces of a table by their pictures alone.

    Args:
        model: A bundle with the task ``quality.reading``.
        table: From `make_table`.

    Returns:
        The network's judgement (N,), 0..1.
    """
    crops = [read_picture(image) for image in table["image"]]
    judgement: Floats = model.score(crops)[TASKS["quality.reading"].family][:, 0]
    return judgement


def quality_of(model: Model, table: pd.DataFrame) -> Floats:
    """Judge the readings of a table, as tables of films have it.

    Args:
        model: A bundle with the task ``quality.reading``.
        table: From `make_table`.

    Returns:
        Quality (N,), 0..1.
    """
    judgement = judged(model, table)
    trust = model.card.trust
    return judgement if trust is None else trust.quality(judgement, table["probability"])


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


def doubtful_below(quality: ArrayLike) -> float:
    """Choose the quality below which a reading is called doubtful.

    Args:
        quality: Of undamaged faces (N,), 0..1.

    Returns:
        The highest hundredth below which at most `FALSE_ALARMS` of them lie.
    """
    return float(np.floor(100 * np.quantile(np.asarray(quality), FALSE_ALARMS)) / 100)


def _auc_scores(quality: Floats, table: pd.DataFrame) -> list[Score]:
    subjects = pd.factorize(table["subject"])[0]
    return list(
        score_with_interval(
            "AUC, sound against unsound readings",
            auc,
            quality,
            table["quality"],
            groups=subjects,
            data="damaged portraits of held-out people",
            rounds=200,
        )
    )


def _angle_errors(model: Model, table: pd.DataFrame) -> Iterator[Score]:
    """Mean absolute error of each angle, in degrees, on undamaged faces."""
    table = table[table["kind"] == ""]
    if table["pose_yaw"].isna().all():
        return
    angles = model.score([read_picture(image) for image in table["image"]])["pose"]
    subjects = pd.factorize(table["subject"])[0]
    for column, name in enumerate(_ANGLES):
        error = np.abs(angles[:, column] - table[f"pose_{name}"].to_numpy(float))
        yield from score_with_interval(
            f"mean absolute error of {name} against the teacher, degrees",
            lambda errors: float(np.mean(errors)),
            error,
            groups=subjects,
            data="portraits of held-out people",
            rounds=200,
        )


def _gaze_scores(model: Model, table: pd.DataFrame) -> Iterator[Score]:
    """Correlation of both directions with the teacher, on undamaged faces."""
    table = table[table["kind"] == ""]
    looks = model.score([read_picture(image) for image in table["image"]])["gaze"]
    subjects = pd.factorize(table["subject"])[0]
    for column, name in enumerate(TASKS["gaze.eyes"].names):
        yield from score_with_interval(
            f"correlation of gaze_{name} with the teacher",
            pearson,
            looks[:, column],
            table[f"gaze_{name}"].to_numpy(float),
            groups=subjects,
            data="portraits of held-out people",
            rounds=200,
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
