"""Make `mien-face`: a small face detector, distilled densely from YuNet on composites of portraits.

    python -m mien.train.builtin.mien_face --data FOLDER --teacher yunet_n_dynamic.onnx --out RUN

FOLDER holds portraits.parquet. Student and teacher share one output grid, so the student learns the teacher's score, box
and points cell by cell, and no labels need to be assigned. Checkpoints are left in RUN to go on from.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from mien.bundles.card import FaceCard, Search
from mien.bundles.card_parts import NOT_FOR, Made, Terms
from mien.bundles.engines import open_engine
from mien.data.sets.portraits import Portraits
from mien.faces.detect import STRIDES, Detector
from mien.files import AtomicFile
from mien.train.builtin.composites import Stock, compose, stock
from mien.train.builtin.face_scores import agreement_scores, crowds, held_out, threshold
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

SEARCH: dict[str, Any] = {"keep": 0.4, "overlap": 0.4, "side": 640, "window": 160}
SEEN = (
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
LIMITS = (
    "trained on portraits laid over backgrounds: real crowds, profiles, masks and poor light are found less surely than by its teacher",
    "faces below about 20 px in the picture that is searched (longer side at most 640 px) are missed",
    "the scores say how far it agrees with its teacher, not with people's labels",
)


class Settings(NamedTuple):
    """Everything that decides the result, apart from the data."""

    steps: int = 7000
    batch: int = 16
    side: int = 320
    sizes: tuple[float, float] = (12.0, 320.0)
    tidy: float = 0.5  # share of composites without overlaps and degradation
    lr: float = 3e-3
    weight_decay: float = 1e-4
    average: float = 0.998
    points: float = 10.0  # weight of the points' loss
    seed: int = 0


class Unit(nn.Sequential):
    """3x3 depthwise then 1x1, each with batch norm and ReLU."""

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
        )  # fmt: skip


class FaceNet(nn.Module):
    """Luma (N, 1, H, W) in 0..255 to the grid (N, M, 15) of `mien.faces.detect`; column 0 is the raw score (no sigmoid)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            Unit(16, 32, 2), Unit(32, 32),
        )  # fmt: skip
        self.levels = nn.ModuleList([
            nn.Sequential(Unit(32, 64, 2), Unit(64, 64), Unit(64, 64)),
            nn.Sequential(Unit(64, 96, 2), Unit(96, 96), Unit(96, 96)),
            nn.Sequential(Unit(96, 128, 2), Unit(128, 128), Unit(128, 128), Unit(128, 128)),
        ])  # fmt: skip
        self.narrow = nn.ModuleList([nn.Conv2d(width, 64, 1) for width in (64, 96, 128)])
        self.merges = nn.ModuleList([Unit(64, 64), Unit(64, 64)])
        self.heads = nn.ModuleList(
            [nn.Sequential(Unit(64, 64), Unit(64, 64), nn.Conv2d(64, 15, 1)) for _ in STRIDES]
        )
        for head in self.heads:
            nn.init.constant_(head[2].bias[:1], -4.0)  # type: ignore[index]

    def forward(self, luma: Tensor) -> Tensor:
        """The grid, strides 8, 16 and 32 one after the other."""
        maps = []
        x = self.stem(luma / 255)
        for level, narrow in zip(self.levels, self.narrow, strict=True):
            x = level(x)
            maps.append(narrow(x))
        for i in (1, 0):
            maps[i] = self.merges[i](
                maps[i] + functional.interpolate(maps[i + 1], scale_factor=2.0)
            )
        return torch.cat(
            [head(m).flatten(2).transpose(1, 2) for head, m in zip(self.heads, maps, strict=True)],
            dim=1,
        )


class Composites(Dataset[tuple[Tensor, Tensor]]):
    """Batches of composites with the teacher's grids; batch i is the same whenever it is asked for."""

    def __init__(self, stock: Stock, teacher: Path, settings: Settings, start: int) -> None:
        self.stock, self.path, self.settings, self.start = stock, teacher, settings, start
        self.teacher: Teacher | None = None

    def __len__(self) -> int:
        return self.settings.steps - self.start

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.teacher = self.teacher or Teacher(
            self.path
        )  # a session does not survive a fork, so each worker opens its own
        rng = np.random.default_rng((self.settings.seed, self.start + i))
        s = self.settings
        luma = np.stack(
            [
                compose(self.stock, s.side, s.sizes, rng, rng.random() < s.tidy)
                for _ in range(s.batch)
            ]
        )
        return torch.from_numpy(luma[:, None].astype(np.float32)), torch.from_numpy(
            self.teacher(luma)
        )


def distance(student: Tensor, teacher: Tensor, points: float) -> Tensor:
    """Cross-entropy of the scores everywhere; boxes and points (in strides) where the teacher sees a face, by its confidence."""
    score = teacher[..., 0]
    faces = score.sum() + 1
    presence = (
        functional.binary_cross_entropy_with_logits(student[..., 0], score, reduction="none").sum()
        / faces
    )
    sure = torch.where(score > 0.2, score, 0)[..., None]
    far = (
        functional.smooth_l1_loss(student[..., 1:], teacher[..., 1:], reduction="none", beta=0.1)
        * sure
    )
    return presence + 2 * far[..., :4].sum() / faces / 4 + points * far[..., 4:].sum() / faces / 10


def run(
    data: Path, teacher: Path, out: Path, settings: Settings, begin: Path | None = None
) -> None:
    """Train, from the weights of the finished run `begin` if given; goes on from RUN/last.pt when there is one."""
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    net: nn.Module = FaceNet()
    if begin is not None:
        net.load_state_dict(torch.load(begin / "last.pt", weights_only=True)["net"])
    net = net.to(memory_format=torch.channels_last)
    average = AveragedModel(
        net, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
    )
    optimiser = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.lr, total_steps=settings.steps, pct_start=0.05
    )
    parts: dict[str, Any] = {
        "net": net,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    start, last = 0, out / "last.pt"
    if last.exists():
        saved = torch.load(last, weights_only=True)
        start = saved.pop("step")
        for name, state in saved.items():
            parts[name].load_state_dict(state)
    batches = DataLoader(
        Composites(stock(data, "train"), teacher, settings, start),
        batch_size=None,
        num_workers=1,
        worker_init_fn=outlast_signals,
    )
    began, losses = time.time(), []
    for step, (luma, target) in enumerate(batches, start + 1):
        loss = distance(net(luma.to(memory_format=torch.channels_last)), target, settings.points)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(net)
        losses.append(loss.item())
        if step % 100 == 0 or step == settings.steps:
            states = {name: part.state_dict() for name, part in parts.items()}
            with AtomicFile(last) as aside:
                torch.save(states | {"step": step}, aside)
            log_row(
                out / "curve.csv",
                {"step": step, "loss": float(np.mean(losses)), "seconds": time.time() - began},
            )
            began, losses = time.time(), []


class _Answer(nn.Module):
    """The network as it is shipped: scores in 0..1."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, luma: Tensor) -> Tensor:
        grid = self.net(luma)
        return torch.cat([grid[..., :1].sigmoid(), grid[..., 1:]], dim=2)


def pack(out: Path, data: Path, teacher: Path, settings: Settings, composites: int = 600) -> Path:
    """Turn RUN/last.pt into the bundle RUN/mien-face: choose its threshold on training portraits, measure it on held-out ones."""
    average = AveragedModel(FaceNet(), use_buffers=True)
    average.load_state_dict(torch.load(out / "last.pt", weights_only=True)["average"])
    folder = out / "mien-face"
    folder.mkdir(exist_ok=True)
    network = folder / "model.onnx"
    free = {0: "batch", 2: "height", 3: "width"}
    export(_Answer(average.module), network, torch.rand(2, 1, 192, 320) * 255, ["grid"], free)
    engine, labels = open_engine(network.read_bytes()), Teacher(teacher)

    def finder(least: float) -> Detector:
        return Detector(lambda luma: engine.run(luma)[0], least=least, **SEARCH)

    least = threshold(crowds(data, "train", labels, finder(0.2), composites, seed=11))
    sets = {
        "held-out portraits": list(held_out(data, finder(least))),
        "composites of held-out portraits": list(
            crowds(data, "val", labels, finder(least), composites)
        ),
    }
    card = FaceCard(
        card=1, name="mien-face", reads="frames", licence="Apache-2.0", sha256=sha256_of(network), search=Search(least=least, **SEARCH),
        summary="Finds faces and five points in each: both eyes, the nose tip, both mouth corners.",
        scores=tuple(score for name, pictures in sets.items() for score in agreement_scores(name, pictures)),
        not_for=NOT_FOR, limits=LIMITS, trained_on=SEEN,
        made=Made(recipe="python -m mien.train.builtin.mien_face", seed=settings.seed, commit=code_version(), cost=training_cost(out)),
    )  # fmt: skip
    write_bundle_files(card, folder)
    return folder


def main() -> None:
    """Parse, train, pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    first = args.out / "first"
    run(args.data, args.teacher, first, Settings())
    # A second, shorter cycle on new composites, with more weight on the points.
    second = Settings(steps=5000, lr=2e-3, points=20.0, seed=1)
    run(args.data, args.teacher, args.out, second, begin=first)
    print(pack(args.out, args.data, args.teacher, second))


if __name__ == "__main__":
    main()
