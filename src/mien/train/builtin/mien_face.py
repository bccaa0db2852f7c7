"""Train `mien-face`, a small face detector, by dense distillation from YuNet.

    python -m mien.train.builtin.mien_face --data FOLDER --teacher yunet_n_dynamic.onnx --out RUN

FOLDER holds portraits.parquet, of which composites are made. Student and teacher have the same
anchor points, so the student learns the teacher's score, box and points at each of them, and no
labels need to be assigned. A first cycle is followed by a short one with more weight on the points.
Checkpoints are left in RUN, and the same command continues from them.

The shipped bundle differs in one thing: its first cycle saw no `textures`.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from mien.bundles.card import FaceCard, Search
from mien.bundles.card_parts import NOT_FOR, Made, Score, Terms
from mien.bundles.engines import open_engine
from mien.data.sets.portraits import Portraits
from mien.faces.detect import STRIDES, Detector, anchor_points, decode, merge
from mien.files import AtomicFile
from mien.train.builtin.detection.composites import Stock, camera, compose, stock
from mien.train.builtin.detection.disturbed import hide_parts, rotation, turn_answers, turn_picture
from mien.train.builtin.detection.face_scores import agreement_scores, crowds, held_out, threshold
from mien.train.builtin.teachers import Teacher
from mien.train.bundle.pack import (
    code_version,
    log_row,
    sha256_of,
    training_cost,
    write_bundle_files,
)
from mien.train.onnx.export import export
from mien.train.runs.inference import outlast_signals

Grey = NDArray[np.uint8]
Floats32 = NDArray[np.float32]

SEARCH: Final[dict[str, Any]] = {
    "keep": 0.4,
    "overlap": 0.4,
    "side": 640,
    "window": 160,
    "smallest": 32,
}
"""How pictures are searched; see `mien.bundles.card.Search`."""
TRAINED_ON: Final = (
    Terms(data="portraits", used_for="training", terms=Portraits.info.terms),
    Terms(
        data="scenes without faces from scikit-image",
        used_for="training",
        terms="free to use, see scikit-image's README of data",
    ),
    Terms(
        data="YuNet (WIDER FACE), whose answers it learned",
        used_for="teacher",
        terms="weights BSD; WIDER FACE is research data",
    ),
)
"""All data that the network has seen."""
LIMITS: Final = (
    "trained on portraits laid over backgrounds, turned and covered by drawings: real crowds, "
    "profiles and what hides faces in the world may be found less surely",
    "faces below about 24 px in the picture that is searched are missed",
    "faces in glaring light are missed as often as found",
    "the scores say how far it agrees with its teacher, not with people's labels",
)
"""What users must know."""

# Steps between two checkpoints.
_CHECKPOINT_STEPS: Final = 100
# The teacher's score from which a face has a box and points to learn.
_FACE_SCORE: Final = 0.2
# Weight of the boxes' loss; that of the scores is 1.
_BOX_WEIGHT: Final = 2
# The teacher's score from which a face may be covered, and the IoU of two boxes of one face.
_FACE: Final = 0.6
_DUPLICATE: Final = 0.4
# Confidence of the detections that the bundle's threshold is chosen from.
_LOW_THRESHOLD: Final = 0.2


class Settings(NamedTuple):
    """All that decides the result, apart from the data.

    Attributes:
        steps: Batches to train on.
        batch: Pictures per batch.
        side: Width and height of a picture, px.
        sizes: Smallest and largest width of a face, px.
        tidy: Share of composites without overlaps.
        hide: Share of faces that an occluder covers in part.
        turned: Share of composites that are turned.
        turn: Largest turn to either side, degrees.
        lr: Highest learning rate.
        weight_decay: Of AdamW.
        average: Decay of the exponential moving average of weights.
        points: Weight of the points' loss; that of the scores is 1.
        seed: Of weights and composites.
    """

    steps: int = 6000
    batch: int = 16
    side: int = 320
    sizes: tuple[float, float] = (12.0, 320.0)
    tidy: float = 0.5
    hide: float = 0.3
    turned: float = 0.5
    turn: float = 80.0
    lr: float = 3e-3
    weight_decay: float = 1e-4
    average: float = 0.998
    points: float = 10.0
    seed: int = 0


class Unit(nn.Sequential):
    """A depthwise 3x3 and a 1x1 convolution, each with batch norm and ReLU.

    Args:
        width: Channels of the input.
        out: Channels of the output.
        stride: Of the first convolution.
    """

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class FaceNet(nn.Module):
    """A feature pyramid over three strides, with one head for each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            Unit(16, 32, 2),
            Unit(32, 32),
        )
        self.levels = nn.ModuleList(
            [
                nn.Sequential(Unit(32, 64, 2), Unit(64, 64), Unit(64, 64)),
                nn.Sequential(Unit(64, 128, 2), Unit(128, 128), Unit(128, 128)),
                nn.Sequential(Unit(128, 192, 2), Unit(192, 192), Unit(192, 192), Unit(192, 192)),
            ]
        )
        self.narrow = nn.ModuleList([nn.Conv2d(width, 64, 1) for width in (64, 128, 192)])
        self.merges = nn.ModuleList([Unit(64, 64), Unit(64, 64)])
        self.heads = nn.ModuleList()
        for _ in STRIDES:
            self.heads.append(nn.Sequential(Unit(64, 64), Unit(64, 64), nn.Conv2d(64, 15, 1)))
        for head in self.heads:
            # Faces are rare, so all scores begin low.
            nn.init.constant_(head[2].bias[:1], -4.0)  # type: ignore[index]

    def forward(self, luma: Tensor) -> Tensor:
        """Predict faces.

        Args:
            luma: Grey pictures (N, 1, H, W) in 0..255.

        Returns:
            Raw predictions (N, M, 15) of `mien.faces.detect`, of strides 8, 16 and 32 one after the
            other; column 0 is the score before the sigmoid.
        """
        maps = []
        features = self.stem(luma / 255)
        for level, narrow in zip(self.levels, self.narrow, strict=True):
            features = level(features)
            maps.append(narrow(features))
        # Coarse maps know more of the face, so each finer one takes the next coarser one in.
        for finer in (1, 0):
            coarse = functional.interpolate(maps[finer + 1], scale_factor=2.0)
            maps[finer] = self.merges[finer](maps[finer] + coarse)
        rows = []
        for head, level_map in zip(self.heads, maps, strict=True):
            rows.append(head(level_map).flatten(2).transpose(1, 2))
        return torch.cat(rows, dim=1)


class Composites(Dataset[tuple[Tensor, Tensor]]):
    """Batches of composites with the teacher's predictions.

    A batch is the same whenever it is asked for, so a run can continue anywhere.

    Args:
        stock: What composites are made of.
        teacher: ONNX file of the teacher.
        settings: Settings of the run.
        start: Number of batches that are done.
    """

    def __init__(self, stock: Stock, teacher: Path, settings: Settings, start: int) -> None:
        self.stock = stock
        self.path = teacher
        self.settings = settings
        self.start = start
        self.teacher: Teacher | None = None

    def __len__(self) -> int:
        return self.settings.steps - self.start

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        # A session does not survive a fork, so each worker opens its own.
        self.teacher = self.teacher or Teacher(self.path)
        settings = self.settings
        rng = np.random.default_rng((settings.seed, self.start + i))
        pictures = []
        for _ in range(settings.batch):
            tidy = rng.random() < settings.tidy
            pictures.append(compose(self.stock, settings.side, settings.sizes, rng, tidy))
        answers = self.teacher(np.stack(pictures))
        # The teacher is weak at turned and covered faces, so it sees them before.
        for number, picture in enumerate(pictures):
            pictures[number], answers[number] = self._made_harder(picture, answers[number], rng)
        luma = np.stack(pictures)
        images = torch.from_numpy(luma[:, None].astype(np.float32))
        return images, torch.from_numpy(answers)

    def _made_harder(
        self, picture: Grey, answers: Floats32, rng: np.random.Generator
    ) -> tuple[Grey, Floats32]:
        """A picture and the teacher's answers, covered in part, turned, and photographed badly."""
        settings = self.settings
        faces = merge(decode(answers, anchor_points(*picture.shape), _FACE), _DUPLICATE)
        picture = hide_parts(picture, faces, settings.hide, rng)
        if rng.random() < settings.turned:
            matrix = rotation(settings.side, rng.uniform(-settings.turn, settings.turn))
            picture = turn_picture(picture, matrix, rng)
            answers = turn_answers(answers, settings.side, matrix)
        # Half of the pictures stay clean.
        if rng.random() < 0.5:
            picture = camera(picture, rng)
        return picture, answers


def distance(student: Tensor, teacher: Tensor, points: float) -> Tensor:
    """Compute the loss.

    Args:
        student: Raw predictions (N, M, 15), scores before the sigmoid.
        teacher: Raw predictions (N, M, 15), scores 0..1.
        points: Weight of the points' loss.

    Returns:
        Cross-entropy of the scores, plus the smooth L1 loss of boxes and points (in strides) where
        the teacher sees a face, weighted by its score; all per face.
    """
    score = teacher[..., 0]
    faces = score.sum() + 1
    presence = functional.binary_cross_entropy_with_logits(student[..., 0], score, reduction="none")
    sure = torch.where(score > _FACE_SCORE, score, 0)[..., None]
    errors = functional.smooth_l1_loss(
        student[..., 1:], teacher[..., 1:], reduction="none", beta=0.1
    )
    weighted = errors * sure
    # Means over the 4 numbers of a box, and over the 10 of its points.
    box_loss = _BOX_WEIGHT * weighted[..., :4].sum() / faces / 4
    point_loss = points * weighted[..., 4:].sum() / faces / 10
    return presence.sum() / faces + box_loss + point_loss


class _Training:
    """The network with all that trains it, which a checkpoint keeps.

    Args:
        settings: Settings of the run.
        begin: Folder of a finished run to take the weights from.
    """

    def __init__(self, settings: Settings, begin: Path | None) -> None:
        self.settings = settings
        net: nn.Module = FaceNet()
        if begin is not None:
            net.load_state_dict(torch.load(begin / "last.pt", weights_only=True)["net"])
        self.net = net.to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.net, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
        )
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), settings.lr, weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, settings.lr, total_steps=settings.steps, pct_start=0.05
        )

    def _parts(self) -> dict[str, Any]:
        """Everything with a state, by its name in a checkpoint."""
        return {
            "net": self.net,
            "average": self.average,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
        }

    def restore(self, path: Path) -> int:
        """Load a checkpoint where there is one; returns the steps that are done."""
        if not path.exists():
            return 0
        saved = torch.load(path, weights_only=True)
        step = int(saved.pop("step"))
        parts = self._parts()
        for name, state in saved.items():
            parts[name].load_state_dict(state)
        return step

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint; a run that is killed meanwhile keeps the one before."""
        states: dict[str, Any] = {"step": step}
        for name, part in self._parts().items():
            states[name] = part.state_dict()
        with AtomicFile(path) as temporary:
            torch.save(states, temporary)

    def step(self, luma: Tensor, target: Tensor) -> float:
        """Learn from a batch; returns its loss."""
        images = luma.to(memory_format=torch.channels_last)
        loss = distance(self.net(images), target, self.settings.points)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.net)
        return loss.item()


def run(
    data: Path, teacher: Path, out: Path, settings: Settings, begin: Path | None = None
) -> None:
    """Train the network; continues from ``last.pt`` in `out` where there is one.

    Args:
        data: Folder with ``portraits.parquet``.
        teacher: ONNX file of YuNet.
        out: Folder of the run; it is created.
        settings: Settings of the run.
        begin: Folder of a finished run to take the weights from.
    """
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    training = _Training(settings, begin)
    checkpoint = out / "last.pt"
    start = training.restore(checkpoint)
    # One worker composes the next batch while the network learns from this one.
    batches = DataLoader(
        Composites(stock(data, "train"), teacher, settings, start),
        batch_size=None,
        num_workers=1,
        worker_init_fn=outlast_signals,
    )
    began = time.time()
    losses = []
    for step, (luma, target) in enumerate(batches, start + 1):
        losses.append(training.step(luma, target))
        if step % _CHECKPOINT_STEPS == 0 or step == settings.steps:
            training.save(checkpoint, step)
            seconds = time.time() - began
            row = {"step": step, "loss": float(np.mean(losses)), "seconds": seconds}
            log_row(out / "curve.csv", row)
            began = time.time()
            losses = []


class _ShippedNet(nn.Module):
    """The network of the bundle, whose scores are 0..1."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, luma: Tensor) -> Tensor:
        raw = self.net(luma)
        return torch.cat([raw[..., :1].sigmoid(), raw[..., 1:]], dim=2)


def pack(out: Path, data: Path, teacher: Path, settings: Settings, composites: int = 400) -> Path:
    """Make the bundle ``mien-face`` in the folder of a finished run.

    Its threshold is chosen on training portraits, its scores are measured on held-out ones.

    Args:
        out: Folder of the run.
        data: Folder with ``portraits.parquet``.
        teacher: ONNX file of YuNet.
        settings: Settings of the run.
        composites: Composites to choose the threshold on, and as many to measure scores on.

    Returns:
        Folder of the bundle.
    """
    folder = out / "mien-face"
    folder.mkdir(exist_ok=True)
    network = folder / "model.onnx"
    _export_average(out / "last.pt", network)
    engine = open_engine(network.read_bytes())
    yunet = Teacher(teacher)

    def detector(least: float) -> Detector:
        return Detector(lambda luma: engine.run(luma)[0], least=least, **SEARCH)

    sensitive = detector(_LOW_THRESHOLD)
    least = threshold(crowds(data, "train", yunet, sensitive, composites, seed=11))
    scores = _scores(data, yunet, detector(least), composites)
    summary = "Finds faces and five points in each: both eyes, the nose tip, both mouth corners."
    made = Made(
        recipe="python -m mien.train.builtin.mien_face",
        seed=settings.seed,
        commit=code_version(),
        cost=training_cost(out),
    )
    card = FaceCard(
        card=1,
        name="mien-face",
        version=2,
        reads="frames",
        licence="Apache-2.0",
        sha256=sha256_of(network),
        search=Search(least=least, **SEARCH),
        summary=summary,
        scores=tuple(scores),
        not_for=NOT_FOR,
        limits=LIMITS,
        trained_on=TRAINED_ON,
        made=made,
    )
    write_bundle_files(card, folder)
    return folder


def _export_average(checkpoint: Path, network: Path) -> None:
    """Write the averaged weights of a checkpoint as ONNX, free in the size of pictures."""
    average = AveragedModel(FaceNet(), use_buffers=True)
    average.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    example = torch.rand(2, 1, 192, 320) * 255
    free = {0: "batch", 2: "height", 3: "width"}
    export(_ShippedNet(average.module), network, example, ["grid"], free)


def _scores(data: Path, teacher: Teacher, detector: Detector, composites: int) -> Iterator[Score]:
    """Agreement with the teacher on held-out portraits, alone and in composites."""
    yield from agreement_scores("held-out portraits", list(held_out(data, detector)))
    pictures = list(crowds(data, "val", teacher, detector, composites))
    yield from agreement_scores("composites of held-out portraits", pictures)


def main() -> None:
    """Read the command line, train, and make the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    # The worker that composes pictures needs the other cores.
    cv2.setNumThreads(1)
    first = args.out / "first"
    run(args.data, args.teacher, first, Settings())
    # A second, shorter cycle on new composites, with more weight on the points.
    second = Settings(steps=800, lr=1e-3, points=20.0, seed=1)
    run(args.data, args.teacher, args.out, second, begin=first)
    print(pack(args.out, args.data, args.teacher, second))


if __name__ == "__main__":
    main()
