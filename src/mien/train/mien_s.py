"""Make `mien-s`: one small network for expression, valence-arousal and action units, from FER+ and the portraits.

    python -m mien.train.mien_s --data FOLDER --imagenet WEIGHTS.pth --out RUN

FOLDER holds ferplus-train.parquet, ferplus-valid.parquet and portraits.parquet. Expression learns from the votes as they are
(soft labels) and from the portraits' labels, smoothed; valence and arousal from the votes through Russell & Mehrabian (1977);
action units from blend-shape pseudo-labels. Every epoch leaves a checkpoint to go on from, and a line in RUN/curve.csv.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from mien.bundles.card import AffectCard, Made, Score, TaskCard, Terms
from mien.bundles.engines import Engine, available, open_engine
from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.ferplus import EXPR, load_ferplus
from mien.data.portraits import load_portraits
from mien.faces.prepare import Pixels, normalise, similarity, warp
from mien.metrics import accuracy, ccc, ece, macro_f1, pearson
from mien.tasks import TASKS, Floats
from mien.train.augment import Jitter, degrade
from mien.train.export import export
from mien.train.losses import ccc_loss, scaled_mse, soft_cross_entropy
from mien.train.networks import MultiTaskNet, load_lite0_imagenet
from mien.train.pack import NOT_FOR, PORTRAIT_TERMS, code_version, finish, measured, note, sha256_of, spent

HEADS = (EXPR, TASKS["va"], AU_BLENDSHAPES)
CROP = 112
SEEN = (
    Terms(data="FER+ (FER2013 pictures, Barsoum et al.'s votes)", used_for="training", terms="research data from the web; votes MIT"),
    Terms(data="portraits", used_for="training", terms=PORTRAIT_TERMS),
    Terms(data="ImageNet-1k, through the starting weights", used_for="training", terms="research data; starting weights MIT"),
    Terms(data="MediaPipe face landmarker (blend shapes)", used_for="teacher", terms="Apache-2.0"),
    Terms(data="FER+ validation part", used_for="selection", terms="as FER+; used for the temperature and to compare recipes"),
)
LIMITS = (
    "contempt, disgust and fear are rare in the training data and are read far less surely than the rest: compare macro-F1 with accuracy",
    "valence and arousal follow from the expression; they know no state that the eight expressions do not",
    "an action unit is an activation from 0 to 1 learned from another network, not a FACS intensity; AU15 and AU28 are the weakest",
    "faces turned away, half covered, blurred or very small have not been measured yet; expect worse",
    "the people in the training data are mostly adults in Western news and web pictures; agreement between groups is not measured yet",
)
# The mean of the five points over FER+'s 48x48 pictures, made symmetric: an aligned crop is framed as FER+ frames faces.
TEMPLATE = ((0.321, 0.379), (0.679, 0.379), (0.5, 0.611), (0.352, 0.768), (0.648, 0.768))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides the result, apart from the data."""

    backbone: str = "efficientnet_lite0"
    sizes: tuple[int, ...] = (80, 80, 80, 80, 80, 112, 112, 112)  # one epoch each, px
    portraits_an_epoch: int = 4500
    batch: int = 64
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    average: float = 0.998
    smoothing: float = 0.2
    weight_va: float = 0.3
    weight_au: float = 0.6
    whole: float = 0.3
    seed: int = 0


def pixels_at(size: int) -> Pixels:
    """The pixels contract of mien-s at that crop size."""
    # Nearly all the pictures are grey, so the network is given luma alone: colour cannot mislead it.
    return Pixels(size=size, colour="grey", alignment="similarity5", template=TEMPLATE, mean=(127.0,), std=(128.0,))


class Faces(Dataset[tuple[Tensor, Tensor]]):
    """Crops and targets of a label table; with `settings`, shaken and degraded at random."""

    def __init__(self, table: pd.DataFrame, size: int, settings: Settings | None = None, epoch: int = 0) -> None:
        self.images = table["image"].to_list()
        self.points = [None if p is None else np.asarray(p, dtype=float).reshape(5, 2) for p in table["points"]]
        self.targets = table[[c for task in HEADS for c in task.columns]].to_numpy(np.float32)
        self.pixels = pixels_at(size)
        self.settings = settings
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image = np.asarray(cv2.imdecode(np.frombuffer(self.images[i], np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
        rng = np.random.default_rng((self.settings.seed, self.epoch, i)) if self.settings else None
        points = self.points[i]
        small = max(image.shape[:2]) <= 48
        if points is None or (rng and self.settings and small and rng.random() < self.settings.whole):
            points = np.array(TEMPLATE) * image.shape[1::-1] - 0.5
        matrix = similarity(points, np.array(TEMPLATE) * self.pixels.size - 0.5)
        if rng:
            matrix = (Jitter().draw(rng, self.pixels.size) @ np.vstack([matrix, [0, 0, 1]]))[:2]
        crop = warp(image, matrix, self.pixels)
        if rng:
            crop = degrade(crop, rng)
        return torch.from_numpy(normalise([crop], self.pixels)[0]), torch.tensor(self.targets[i])


def loss_of(raw: tuple[Tensor, ...], target: Tensor, variance: Tensor, settings: Settings) -> Tensor:
    """The three heads' losses, weighted; `target` (N, 8 + 2 + K), `variance` (K,) of the action units."""
    expr, va, au = target.split([len(task.names) for task in HEADS], dim=1)
    return (
        soft_cross_entropy(raw[0], expr)
        + settings.weight_va * ccc_loss(raw[1], va)
        + settings.weight_au * scaled_mse(raw[2].sigmoid(), au, variance)
    )


def start_at_means(net: MultiTaskNet, table: pd.DataFrame) -> None:
    """Set the heads' biases so that the untrained network predicts the table's averages."""
    means = [table[list(task.columns)].mean().clip(*(0.005, 0.995) if task.kind != "scalar" else (-1, 1)) for task in HEADS]
    starts = [np.log(means[0]), means[1], np.log(means[2] / (1 - means[2]))]
    for head, start in zip(net.heads, starts, strict=True):
        assert isinstance(head, nn.Linear)
        nn.init.normal_(head.weight, std=0.01)
        head.bias.data = torch.tensor(start.to_numpy(), dtype=torch.float32)


def scores_of(net: nn.Module, table: pd.DataFrame, size: int) -> list[Floats]:
    """Raw output per head over a table."""
    net.eval()
    parts: list[list[Floats]] = [[] for _ in HEADS]
    with torch.no_grad():
        for images, _ in DataLoader(Faces(table, size), batch_size=128, num_workers=1):
            for part, raw in zip(parts, net(images.to(memory_format=torch.channels_last)), strict=True):
                part.append(raw.numpy())
    return [np.concatenate(part) for part in parts]


def judge(net: nn.Module, votes: pd.DataFrame, photos: pd.DataFrame, size: int) -> dict[str, float]:
    """FER+ validation accuracy (majority class) and the mean AU correlation on held-out portraits."""
    expr = scores_of(net, votes, size)[0].argmax(axis=1)
    seen = photos[photos[AU_BLENDSHAPES.columns[0]].notna()]
    au = scores_of(net, seen, size)[2]
    truth = seen[list(AU_BLENDSHAPES.columns)].to_numpy()
    each = [pearson(a, t) for a, t in zip(1 / (1 + np.exp(-au.T)), truth.T, strict=True)]
    right = expr == votes[list(EXPR.columns)].to_numpy().argmax(axis=1)
    return {"accuracy": float(right.mean()), "au_r": float(np.mean(each)), **dict(zip(AU_BLENDSHAPES.names, each, strict=True))}


def epochs(settings: Settings, train: pd.DataFrame, photos: pd.DataFrame) -> Iterator[tuple[int, DataLoader[Any]]]:
    """One loader an epoch: all of FER+ and a fresh draw of the portraits."""
    for epoch, size in enumerate(settings.sizes):
        some = photos.sample(min(settings.portraits_an_epoch, len(photos)), random_state=settings.seed + epoch)
        faces = Faces(pd.concat([train, some], ignore_index=True), size, settings, epoch)
        order = torch.Generator().manual_seed(settings.seed + epoch)
        yield epoch, DataLoader(faces, settings.batch, shuffle=True, drop_last=True, num_workers=1, generator=order)


def run(data: Path, imagenet: Path, out: Path, settings: Settings) -> None:
    """Train, judging on validation after every epoch; goes on from RUN/last.pt when there is one."""
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    train, photos = load_ferplus(data, "train"), load_portraits(data, "train")
    photos[list(EXPR.columns)] = photos[list(EXPR.columns)] * (1 - settings.smoothing) + settings.smoothing / len(EXPR.names)
    votes, held_out = load_ferplus(data, "valid"), load_portraits(data, "val")
    variance = torch.tensor(train[list(AU_BLENDSHAPES.columns)].var().to_numpy(), dtype=torch.float32)
    net = MultiTaskNet(settings.backbone, HEADS, channels=1, dropout=0.2)
    load_lite0_imagenet(net, imagenet)
    start_at_means(net, train)
    net = net.to(memory_format=torch.channels_last)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True)
    optimiser = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=settings.weight_decay)
    steps = len(settings.sizes) * ((len(train) + min(settings.portraits_an_epoch, len(photos))) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=steps, pct_start=0.2)
    parts: dict[str, Any] = {"net": net, "average": average, "optimiser": optimiser, "schedule": schedule}
    last, done = out / "last.pt", -1
    if last.exists():
        saved = torch.load(last, weights_only=True)
        done = saved.pop("epoch")
        for name, state in saved.items():
            parts[name].load_state_dict(state)
    for epoch, loader in epochs(settings, train, photos):
        if epoch <= done:
            continue
        started, total = time.time(), 0.0
        net.train()
        for step, (images, target) in enumerate(loader):
            loss = loss_of(net(images.to(memory_format=torch.channels_last)), target, variance, settings)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(net)
            total += loss.item()
            if step % 50 == 0:
                print(f"epoch {epoch} step {step}/{len(loader)} loss {total / (step + 1):.3f} {time.time() - started:.0f} s", flush=True)
        row = {"epoch": epoch, "loss": total / len(loader), "seconds": time.time() - started}
        row |= judge(average.module, votes, held_out, settings.sizes[epoch])
        note(out / "curve.csv", row)
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"epoch": epoch}, out / "last.tmp")
        (out / "last.tmp").replace(last)


def heat_of(raw: Floats, target: Floats) -> float:
    """The temperature that makes softmax(raw / temperature) fit the classes best (Guo et al. 2017); raw (N, K), target (N,)."""
    logits, classes = torch.from_numpy(raw), torch.from_numpy(target).long()
    log_heat = torch.zeros(1, requires_grad=True)
    search = torch.optim.LBFGS([log_heat], max_iter=50)

    def closure() -> Tensor:
        search.zero_grad()
        loss = nn.functional.cross_entropy(logits / log_heat.exp(), classes)
        loss.backward()
        return loss

    search.step(closure)
    return float(log_heat.detach().exp())


def calibrated(raw: Floats, target: Floats) -> Floats:
    """Probabilities (N, K), each half of the rows with the temperature fitted on the other half: an honest basis for ECE."""
    half = np.arange(len(raw)) % 2 == 0
    heats = np.where(half, heat_of(raw[~half], target[~half]), heat_of(raw[half], target[half]))
    return EXPR.decode(raw / heats[:, None])


def au_correlation(pred: Floats, target: Floats) -> float:
    """Mean over the action units of Pearson's r; pred, target (N, K)."""
    return float(np.mean([pearson(p, t) for p, t in zip(pred.T, target.T, strict=True)]))


def scores(run: Engine, data: Path) -> tuple[list[Score], float]:
    """All scores of the card, measured with the exported network, and the temperature for its expressions."""
    votes, photos = load_ferplus(data, "valid"), load_portraits(data, "val")
    expr, va, _ = answers(run, votes)
    target = votes[list(EXPR.columns)].to_numpy().argmax(axis=1)
    whole = answers(run, votes.assign(points=None))[0]
    valid = "FER+ validation part, majority class"
    taken = votes[list(TASKS["va"].columns)].to_numpy()
    seen = photos[photos[AU_BLENDSHAPES.columns[0]].notna()]
    au = AU_BLENDSHAPES.decode(answers(run, seen)[2])
    teacher = seen[list(AU_BLENDSHAPES.columns)].to_numpy()
    portraits = "held-out portraits, against the blend-shape teacher"
    found = [
        *measured("accuracy (8 classes, aligned by five points)", accuracy, expr.argmax(axis=1), target, data=valid),
        *measured("accuracy (8 classes, whole picture, no points)", accuracy, whole.argmax(axis=1), target, data=valid),
        *measured("macro-F1 (8 classes)", lambda p, t: macro_f1(p, t, range(8)), expr.argmax(axis=1), target, data=valid),
        *measured("expected calibration error (cross-fitted temperature)", ece, calibrated(expr, target), target, data=valid),
        *measured("mean r of the action units", au_correlation, au, teacher, data=portraits, groups=seen["subject"]),
    ]
    for i, name in enumerate(TASKS["va"].names):
        known = ~np.isnan(taken[:, i])
        found.extend(measured(f"CCC {name}", ccc, va[known, i], taken[known, i], data="FER+ validation part, derived from the votes"))
    for i, name in enumerate(AU_BLENDSHAPES.names):
        found.extend(measured(f"r {name}", pearson, au[:, i], teacher[:, i], data=portraits, groups=seen["subject"]))
    return found, heat_of(expr, target)


def faithful(run: Engine, data: Path, name: str) -> list[Score]:
    """Accuracy on FER+ validation, aligned by five points."""
    votes = load_ferplus(data, "valid")
    target = votes[list(EXPR.columns)].to_numpy().argmax(axis=1)
    return measured(name, accuracy, answers(run, votes)[0].argmax(axis=1), target, data="FER+ validation part, majority class")


def answers(run: Engine, table: pd.DataFrame) -> list[Floats]:
    """Raw output per head of an exported network over a label table."""
    parts = [run.run(part) for part in np.array_split(crops_of(table), len(table) // 64 + 1)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def crops_of(table: pd.DataFrame) -> NDArray[np.float32]:
    """Network input (N, 1, 112, 112) of a label table."""
    faces = Faces(table, CROP)
    return np.stack([faces[i][0].numpy() for i in range(len(faces))])


def tolerance(network: bytes, table: pd.DataFrame) -> float:
    """The largest difference of any score between the installed engines over a table, and half as much again for safety."""
    answered = [answers(open_engine(network, name), table) for name in available()]
    decoded = [np.concatenate([task.decode(raw) for task, raw in zip(HEADS, one, strict=True)], axis=1) for one in answered]
    return max(round(1.5 * float(np.ptp(decoded, axis=0).max()), 3), 0.001)


def pack(out: Path, data: Path, settings: Settings) -> Path:
    """Turn RUN/last.pt into the bundle RUN/mien-s and measure it."""
    net = MultiTaskNet(settings.backbone, HEADS, channels=1, dropout=0.2)
    average = AveragedModel(net, use_buffers=True)
    average.load_state_dict(torch.load(out / "last.pt", weights_only=True)["average"])
    folder = out / "mien-s"
    folder.mkdir(exist_ok=True)
    network, plain = folder / "model.onnx", out / "plain.onnx"
    names = [task.family for task in HEADS]
    few = pd.concat([load_ferplus(data, "train").head(300), load_portraits(data, "train").head(200)], ignore_index=True)
    export(average.module, network, torch.randn(4, 1, CROP, CROP), names, {0: "batch"}, calibration=crops_of(few))
    found, heat = scores(open_engine(network.read_bytes(), "onnxruntime"), data)
    export(average.module, plain, torch.randn(4, 1, CROP, CROP), names, {0: "batch"})
    found[1:1] = faithful(open_engine(plain.read_bytes(), "onnxruntime"), data, "accuracy before 8-bit quantisation")
    supervised = (
        "crowd votes of FER+ as soft labels; labels of the portraits, one person's opinion, smoothed",
        "derived: the votes' expressions at Russell & Mehrabian's (1977) coordinates; nobody rated these faces for valence or arousal",
        "derived: blend shapes of MediaPipe's face landmarker, mapped to action units; activations, not FACS intensities",
    )
    card = AffectCard(
        card=1, name="mien-s", reads="crops", licence="Apache-2.0", sha256=sha256_of(network), temperature={"expr": round(heat, 4)},
        tolerance=tolerance(network.read_bytes(), load_ferplus(data, "valid")),
        summary="Expression, valence and arousal, and action units of a face, from one small network (EfficientNet-Lite0 trunk).",
        pixels=pixels_at(CROP), scores=tuple(found), not_for=NOT_FOR, limits=LIMITS, trained_on=SEEN,
        tasks=tuple(
            TaskCard(key=t.key, names=t.names, kind=t.kind, low=t.low, high=t.high, supervised_by=by)
            for t, by in zip(HEADS, supervised, strict=True)
        ),
        made=Made(recipe="python -m mien.train.mien_s", seed=settings.seed, commit=code_version(), cost=spent(out)),
    )  # fmt: skip
    finish(card, folder)
    return folder


def main() -> None:
    """Parse, train, pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    run(args.data, args.imagenet, args.out, Settings())
    print(pack(args.out, args.data, Settings()))


if __name__ == "__main__":
    main()
