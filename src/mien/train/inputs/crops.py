"""Faces of a label table as network input: read, aligned, shaken, mixed. The same `Pixels` as when running."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.errors import DataError
from mien.faces.prepare import Pixels, normalise, similarity, warp
from mien.tasks import Floats, Task
from mien.train.inputs.augment import Jitter, degrade, erase, rarity, relight
from mien.train.inputs.randaugment import RandAugment
from mien.train.objective.objective import mix_targets
from mien.train.settings.augmentation import AugmentSettings, RandAugmentSettings

__all__ = ["FERPLUS_TEMPLATE", "AugmentedCropDataset", "CropDataset", "one_opencv_thread"]

Image = NDArray[np.uint8]
Item = tuple[Tensor, Tensor, bool]

_ABOUT = 0.2  # of the picture's side: how far points may lie from the template in a picture that is framed like it


class CropDataset(Dataset[Item]):
    """Crops and targets of a label table, as they are.

    Item i is (image (channels, S, S) float32, target (sum of K,) float32 with NaN = not annotated, readable).
    A picture that cannot be read raises DataError naming it; with `skip_unreadable` it is a blank with no label, and says so.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tasks: Sequence[Task],
        pixels: Pixels,
        skip_unreadable: bool = False,
    ) -> None:
        self.images = table["image"].to_list()
        self.points = [
            None if p is None else np.asarray(p, dtype=float).reshape(5, 2) for p in table["points"]
        ]
        self.targets = np.concatenate([labels(table, task) for task in tasks], axis=1)
        self.tasks = tuple(tasks)
        self.pixels = pixels
        self.skip_unreadable = skip_unreadable

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Item:
        try:
            crop = self.crop(i, None)
        except DataError:
            if not self.skip_unreadable:
                raise
            return self.blank()
        return self.ready(crop), torch.from_numpy(self.targets[i]), True

    def upright(self, i: int) -> Image:
        """RGB uint8 (S, S, 3) of row i as it is; grey for a picture that cannot be read and may be skipped."""
        try:
            return self.crop(i, None)
        except DataError:
            if not self.skip_unreadable:
                raise
            return self.grey()

    def grey(self) -> Image:
        """A picture of nothing, RGB uint8 (S, S, 3)."""
        return np.full((self.pixels.size, self.pixels.size, 3), 127, np.uint8)

    def crop(self, i: int, shake: Floats | None, whole: bool = False) -> Image:
        """RGB uint8 (S, S, 3) of row i; `shake` (3, 3) moves it in crop pixels, `whole` leaves its points unused.

        Without points the picture is taken to be framed as the template frames a face; `whole` holds for pictures that about are.
        """
        image, points = read_picture(self.images[i]), self.points[i]
        template = np.array(self.pixels.template or FERPLUS_TEMPLATE)
        framed = template * image.shape[1::-1] - 0.5
        unused = (
            whole
            and points is not None
            and np.abs(points - framed).max() < _ABOUT * max(image.shape[:2])
        )
        if points is None or unused or self.pixels.template is None:
            points = framed
        matrix = similarity(points, template * self.pixels.size - 0.5)
        if shake is not None:
            matrix = (shake @ np.vstack([matrix, [0, 0, 1]]))[:2]
        return warp(image, matrix, self.pixels)

    def ready(self, crop: Image) -> Tensor:
        """Network input (channels, S, S)."""
        return torch.from_numpy(normalise([crop], self.pixels)[0])

    def blank(self) -> Item:
        """What stands for a picture that cannot be read: grey, no label."""
        return self.ready(self.grey()), torch.full((self.targets.shape[1],), float("nan")), False


class AugmentedCropDataset(Dataset[Item]):
    """The same faces, changed at random; item (epoch, i) is always the same, whatever process asks and in whatever order.

    With ``beside`` an item has two faces, mixed and real: images (2, channels, S, S) and targets (2, sum of K).
    Raises DataError where ``rare`` has no classes to go by.
    """

    def __init__(self, crops: CropDataset, augment: AugmentSettings, seed: int) -> None:
        self.crops = crops
        self.augment = augment
        self.seed = seed
        self.chances = _chances(crops, augment.randaugment)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, i = key
        rng = np.random.default_rng((self.seed, epoch, i))
        try:
            image, target = self._one(i, rng)
            readable = True
        except DataError:
            if not self.crops.skip_unreadable:
                raise
            image, target, readable = self.crops.blank()
        real = image, target
        if self.augment.mixup and readable:
            image, target = self._mixed(image, target, rng)
        if self.augment.beside:
            image, target = torch.stack([image, real[0]]), torch.stack([target, real[1]])
        return image, target, readable

    def _mixed(
        self, image: Tensor, target: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A face mixed with another; as it is where the other cannot be read, and that may be skipped."""
        share, partner = (
            rng.beta(self.augment.mixup, self.augment.mixup),
            int(rng.integers(len(self))),
        )
        try:
            other, its = self._one(partner, rng)
        except DataError:
            if not self.crops.skip_unreadable:
                raise
            return image, target
        return share * image + (1 - share) * other, mix_targets(target, its, share)

    def _one(self, i: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        augment, size = self.augment, self.crops.pixels.size
        shake = Jitter(augment.turn, augment.grow, augment.shift, augment.flip).draw(rng, size)
        crop = self.crops.crop(i, shake, whole=rng.random() < augment.whole)
        if augment.randaugment and rng.random() < self.chances[i]:
            change = RandAugment(augment.randaugment.ops, augment.randaugment.magnitude)
            crop = change(crop, int(rng.integers(2**63)))
        if augment.light and rng.random() < augment.light:
            crop = relight(crop, rng)
        if rng.random() < augment.degrade:
            crop = degrade(crop, rng)
        if rng.random() < augment.erase:
            crop = erase(crop, rng)
        return self.crops.ready(crop), torch.from_numpy(self.crops.targets[i])


def _chances(crops: CropDataset, settings: RandAugmentSettings | None) -> Floats:
    """How likely each row is changed by RandAugment (N,)."""
    if settings is None or settings.chance != "rare":
        return np.full(len(crops), 0.0 if settings is None else settings.chance)
    ends = np.cumsum([len(task.names) for task in crops.tasks])
    classes = [
        crops.targets[:, end - len(t.names) : end]
        for t, end in zip(crops.tasks, ends, strict=True)
        if t.kind == "one_of"
    ]
    if len(classes) != 1:
        told = ", ".join(task.family for task in crops.tasks)
        raise DataError(
            f"augment.randaugment.chance: rare needs exactly one one_of task; these tasks are {told}; give a number"
        )
    return rarity(classes[0])


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread.

    Loaders are processes, and each with a pool of threads of its own would fight over the cores; and a process forked from one with
    such a pool waits for ever for threads that did not come along.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
