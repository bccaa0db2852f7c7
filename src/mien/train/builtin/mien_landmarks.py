"""Train `mien-landmarks`, a small network that finds 68 points of a face.

    python -m mien.train.builtin.mien_landmarks --data FOLDER --expw FILE --teacher fr_landmark.onnx
        --out RUN

FOLDER holds portraits.parquet, FILE is what `mien.train.builtin.expw_faces` writes; its validation
faces are left out. The teacher's points are learned (`mien.train.builtin.landmark_table`), while
things are drawn over the faces, and light and camera make them worse. All numbers on the card are
measured on portraits of people it did not learn from. A run that was stopped is continued by the
same command.
"""

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.analysis.landmarks import LANDMARKS
from mien.bundles.card_parts import Score, Terms
from mien.bundles.model import Model
from mien.bundles.store import load
from mien.data.blendshapes import SHAPES
from mien.data.drawn.damage import FAMILIES
from mien.data.images import read_picture
from mien.data.label_table import read_table
from mien.data.registry import File
from mien.data.sets.portraits import Portraits
from mien.faces.landmarks import COUNT, COVERED_WITH, MEASURES, REGIONS, eye_span, measure
from mien.files import AtomicFile
from mien.metrics import pearson
from mien.tasks import LANDMARK_FAMILY, TASKS, Floats
from mien.train.builtin.landmark_table import make_table
from mien.train.builtin.mien_s import PrintedProgress
from mien.train.builtin.quality_table import PIXELS
from mien.train.builtin.robust import EXPW_TERMS
from mien.train.bundle.make import make_bundle
from mien.train.bundle.pack import score_with_interval, write_bundle_files
from mien.train.loop import Progress, fit
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.losses import LossSettings
from mien.train.settings.network import NetworkSettings
from mien.train.settings.optimiser import OptimSettings
from mien.train.settings.training import FitSettings, Settings

__all__ = ["complete_card", "make", "settings"]

VERSION: Final = 1
_TASK: Final = TASKS["landmarks.ibug68"]
_TABLE: Final = "faces-with-landmarks.parquet"
_PEOPLE: Final = "portraits of held-out people"
_UNIT: Final = "share of the distance between the outer corners of the eyes"
# Whose columns of `five`, and which of the 68 points lie where they lie.
_FIVE: Final = {
    "eye centres": ((0, REGIONS["left_eye"]), (1, REGIONS["right_eye"])),
    "nose tip": ((2, (30,)),),
    "mouth corners": ((3, (48,)), (4, (54,))),
}
# What is measured between points, the blend shapes it is compared with, and the sign.
_SHAPES: Final = (
    # Their left is the person's.
    ("eye_opening_left", ("eyeBlinkRight",), -1),
    ("eye_opening_right", ("eyeBlinkLeft",), -1),
    ("mouth_opening", ("mouthLowerDownLeft", "mouthLowerDownRight"), 1),
    ("mouth_opening", ("jawOpen",), 1),
    ("mouth_width", ("mouthSmileLeft", "mouthSmileRight"), 1),
)
_COVERED: Final = 0.5
# What the usual measurement says of all columns together.
_MEAN: Final = "landmarks mean CCC"

_TERMS: Final = (
    Terms(data=_TABLE, used_for="training", terms=Portraits.info.terms),
    EXPW_TERMS,
    Terms(
        data="fr_landmark.onnx of faceplugin-face-recognition-js 0.0.1, whose points it learned",
        used_for="teacher",
        terms="its package has an MIT licence, the file of a template with another's name; what "
        "it learned from is not named",
    ),
    Terms(
        data="MediaPipe face landmarker (five points, by which the teacher sees faces upright)",
        used_for="teacher",
        terms="Apache-2.0",
    ),
)
_LIMITS: Final = (
    "points are those of another network, measured against it, and at eyes, nose and mouth "
    "against a landmarker; no person has marked any",
    "the jaw is the least sure: the chin lies at the edge of the crop, that of a wide-open mouth "
    "beyond it, where the teacher puts it too high",
    "its faces are mostly frontal: how far its points are off on heads turned by more than 45 "
    "degrees is not measured",
    "points that something covers are guesses; tables leave those of covered regions out",
    "it learned drawn damage of portraits: masks, hands and hair of the world look different",
)


def settings(table: Path) -> Settings:
    """Make the settings of the run.

    Args:
        table: All tables of `make_table` in one file.

    Returns:
        The settings.
    """
    card = CardSettings(
        summary="68 points of a face (iBUG, 300-W), for `mien analyze --landmarks`.",
        licence="Apache-2.0",
        limits=_LIMITS,
        supervised_by={LANDMARK_FAMILY: "the answers of another network (its data not named)"},
        terms=_TERMS,
        recipe="python -m mien.train.builtin.mien_landmarks --data FOLDER --expw expw.parquet "
        "--teacher fr_landmark.onnx --out RUN",
    )
    # The crops of the table are moved and mirrored already, and their points with them.
    augment = AugmentSettings(
        turn=0.0,
        grow=0.0,
        shift=0.0,
        flip=0.0,
        light=0.3,
        degrade=0.4,
        erase=0.15,
        occlude=0.35,
    )
    # Each coordinate by its own spread, or those of the jaw would outweigh those of the lids.
    losses = {LANDMARK_FAMILY: LossSettings(kind="mae")}
    optim = OptimSettings(lr=1e-3, weight_decay=0.05, warmup=0.1, average=0.999, clip=5.0)
    schedule = FitSettings(
        epochs=2, batch=64, keep="last", find_points=False, precision="bf16-mixed"
    )
    return Settings(
        name=LANDMARKS,
        data=(File(set="file", path=table),),
        tasks=(_TASK.key,),
        pixels=PIXELS,
        network=NetworkSettings(backbone="face-points", start="faces"),
        losses=losses,
        augment=augment,
        optim=optim,
        fit=schedule,
        card=card,
    )


def make(data: Path, expw: Path, teacher: Path, out: Path, progress: Progress) -> Path:
    """Make the tables, train, and make the bundle; continues where it was stopped.

    Args:
        data: Folder with the table of portraits.
        expw: Label table of ExpW's faces.
        teacher: ONNX file of a `LandmarkTeacher`.
        out: Folder of the tables, the run and the bundle.
        progress: Is told of epochs and steps.

    Returns:
        Folder of the bundle.
    """
    portraits = data / "portraits.parquet"
    val = make_table(portraits, "val", out / "portraits-val.parquet", teacher=teacher)
    parts = [
        make_table(portraits, "train", out / "portraits-train.parquet", teacher=teacher),
        make_table(expw, "train", out / "expw-train.parquet", teacher=teacher),
        val,
    ]
    with AtomicFile(out / _TABLE) as temporary:
        pd.concat(parts, ignore_index=True).to_parquet(temporary)
    run = fit(settings(out / _TABLE), out / "run", progress)
    folder = make_bundle(run, out / LANDMARKS, bits=8, note=progress.note)
    complete_card(folder, val, portraits)
    return folder


def complete_card(folder: Path, table: pd.DataFrame, portraits: Path) -> None:
    """Measure a bundle on faces of a table, and write it on its card.

    Args:
        folder: The bundle.
        table: Of the people it did not learn from, as of `make_table`.
        portraits: The file that the table was made of, which has their blend shapes.
    """
    model = load(folder)
    predicted = _points_of(model, table)
    truth = table[list(_TASK.columns)].to_numpy(float).reshape(-1, COUNT, 2)
    # A mean over 136 columns says enough: 136 more scores would say the same.
    scores = [score for score in model.card.scores if score.metric.startswith(_MEAN)]
    scores += chain(
        _errors(predicted, truth, table),
        _five_errors(predicted, truth, table),
        _damaged_errors(predicted, truth, table),
        _correlations(predicted, table, portraits),
    )
    card = model.card.model_copy(update={"scores": tuple(scores), "version": VERSION})
    write_bundle_files(card, folder)


def _points_of(model: Model, table: pd.DataFrame) -> Floats:
    """Points (N, 68, 2) in fractions of the crops of a table."""
    crops = [read_picture(image) for image in table["image"]]
    return np.asarray(model.score(crops)[LANDMARK_FAMILY], float).reshape(-1, COUNT, 2)


def _errors(predicted: Floats, truth: Floats, table: pd.DataFrame) -> Iterator[Score]:
    """Mean distance to the teacher's points on undamaged faces, over all and by region."""
    intact = (table["kind"] == "").to_numpy()
    errors = np.linalg.norm(predicted - truth, axis=2) / eye_span(truth)[:, None]
    for name, numbers in {"all points": range(COUNT), **REGIONS}.items():
        yield from _mean_score(
            f"mean error against the teacher, {name.replace('_', ' ')}, {_UNIT}",
            errors[intact][:, list(numbers)].mean(axis=1),
            table[intact],
        )


def _five_errors(predicted: Floats, truth: Floats, table: pd.DataFrame) -> Iterator[Score]:
    """Mean distance to the landmarker's points on undamaged faces, and the teacher's own."""
    intact = (table["kind"] == "").to_numpy()
    five = np.stack(table["five"].to_list())[intact].reshape(-1, 5, 2)
    for whose, points in {"": predicted[intact], "of the teacher itself ": truth[intact]}.items():
        for name, pairs in _FIVE.items():
            errors = []
            for number, numbers in pairs:
                middle = points[:, list(numbers)].mean(axis=1)
                errors.append(np.linalg.norm(middle - five[:, number], axis=1))
            yield from _mean_score(
                f"mean error {whose}against MediaPipe's landmarker, {name}, {_UNIT}",
                np.mean(errors, axis=0) / eye_span(truth[intact]),
                table[intact],
            )


def _damaged_errors(predicted: Floats, truth: Floats, table: pd.DataFrame) -> Iterator[Score]:
    """Mean distance to the points of undamaged faces, of those that nothing covers, by damage."""
    errors = np.linalg.norm(predicted - truth, axis=2) / eye_span(truth)[:, None]
    for region, numbers in COVERED_WITH.items():
        covered = (table[f"occlusion_{region}"] >= _COVERED).to_numpy()
        errors[np.ix_(covered, list(numbers))] = np.nan
    for family, kinds in FAMILIES.items():
        rows = table["kind"].isin(kinds).to_numpy()
        if not rows.any():
            continue
        scores = _mean_score(
            f"mean error against the teacher, points in sight, {_UNIT}",
            np.nanmean(errors[rows], axis=1),
            table[rows],
        )
        for score in scores:
            meaning = f"{family}: {', '.join(kinds)}".replace("_", " ")
            yield score.model_copy(update={"condition": meaning})


def _correlations(predicted: Floats, table: pd.DataFrame, portraits: Path) -> Iterator[Score]:
    """Correlation of what is measured between points with blend shapes, on undamaged faces."""
    intact = (table["kind"] == "").to_numpy()
    shapes = read_table(portraits, ["blendshapes"])["blendshapes"]
    of_faces = np.stack(shapes.loc[table["row"][intact]].to_list()) / 255
    measures = measure(predicted[intact])
    subjects = pd.factorize(table["subject"][intact])[0]
    for name, names, sign in _SHAPES:
        activation = of_faces[:, [SHAPES.index(shape) for shape in names]].mean(axis=1)
        inverted = " (inverted)" * (sign < 0)
        yield from score_with_interval(
            f"correlation of {name} with {' and '.join(names)}{inverted}",
            pearson,
            measures[:, MEASURES.index(name)],
            sign * activation,
            groups=subjects,
            data=_PEOPLE,
            rounds=200,
        )


def _mean_score(name: str, errors: Floats, table: pd.DataFrame) -> list[Score]:
    known = np.isfinite(errors)
    return score_with_interval(
        name,
        lambda values: float(np.mean(values)),
        errors[known],
        groups=pd.factorize(table["subject"])[0][known],
        data=_PEOPLE,
        rounds=200,
    )


def main() -> None:
    """Read the command line, train, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--expw", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(make(args.data, args.expw, args.teacher, args.out, PrintedProgress()))


if __name__ == "__main__":
    main()
