"""Faces of a label table as network input: read, aligned, augmented, mixed.

Crops follow the same `Pixels` as in use.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mien.data.drawn.occluders import OCCLUDERS, occlude
from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.data.stored_pictures import Cells
from mien.errors import DataError
from mien.faces.prepare import Pixels, normalise, similarity, warp
from mien.tasks import Floats, Task
from mien.train.inputs.augment import Jitter, degrade, erase, rarity, relight
from mien.train.inputs.colour import jitter_colour
from mien.train.inputs.randaugment import RandAugment
from mien.train.objective.objective import mix_targets
from mien.train.settings.augmentation import AugmentSettings, RandAugmentSettings

__all__ = ["FERPLUS_TEMPLATE", "AugmentedCropDataset", "CropDataset", "one_opencv_thread"]

Image = NDArray[np.uint8]
Item = tuple[Tensor, Tensor, bool]

# Largest distance of points from the template in a picture that is framed like it, as a fraction
# of the picture's longer side.
_FRAMED_WITHIN = 0.2


class CropDataset(Dataset[Item]):
    """Crops and targets of a label table, unchanged.

    Item i is (image (channels, S, S) float32, target (sum of K,) float32 with NaN = not annotated,
    readable).

    Args:
        table: A label table.
        tasks: Tasks in output order.
        pixels: How faces are cropped.
        skip_unreadable: A picture that cannot be read is a blank without a label, and marked so;
            otherwise it raises DataError naming it.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tasks: Sequence[Task],
        pixels: Pixels,
        skip_unreadable: bool = False,
    ) -> None:
        self.images = Cells(table["image"])
        # One array: a list of millions would be copied into each loading process, bit by bit.
        self.points = np.full((len(table), 5, 2), np.nan)
        for row, points in enumerate(table["points"]):
            if points is not None:
                self.points[row] = np.asarray(points, dtype=float).reshape(5, 2)
        # Side by side, as the network's outputs are split again.
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
        """Crop a face without augmentation.

        Args:
            i: Row of the table.

        Returns:
            RGB uint8 (S, S, 3); grey for a picture that cannot be read and may be skipped.

        Raises:
            DataError: The picture cannot be read and must not be skipped.
        """
        try:
            return self.crop(i, None)
        except DataError:
            if not self.skip_unreadable:
                raise
            return self.grey()

    def grey(self) -> Image:
        """Make the picture that stands for one that cannot be read.

        Returns:
            Grey, RGB uint8 (S, S, 3).
        """
        size = self.pixels.size
        return np.full((size, size, 3), 127, np.uint8)

    def crop(self, i: int, shake: Floats | None, whole: bool = False) -> Image:
        """Crop a face.

        A picture without points is taken to be framed as the template frames a face.

        Args:
            i: Row of the table.
            shake: Affine map (3, 3) that moves the crop, in crop pixels; None moves nothing.
            whole: Leave the points unused where the picture is about framed like the template.

        Returns:
            RGB uint8 (S, S, 3).

        Raises:
            DataError: The picture cannot be read.
        """
        image = read_picture(self.images[i])
        points = None if np.isnan(self.points[i]).any() else self.points[i]
        template = np.array(self.pixels.template or FERPLUS_TEMPLATE)
        # Pixel centres lie at whole numbers, so fractions of the side are half a pixel less.
        framed = template * image.shape[1::-1] - 0.5
        if points is not None and whole:
            distance = np.abs(points - framed).max()
            if distance < _FRAMED_WITHIN * max(image.shape[:2]):
                points = None
        if points is None or self.pixels.template is None:
            points = framed
        target = template * self.pixels.size - 0.5
        matrix = similarity(points, target)
        if shake is not None:
            square = np.vstack([matrix, [0, 0, 1]])
            matrix = (shake @ square)[:2]
        return warp(image, matrix, self.pixels)

    def points_in_crop(self, shake: Floats) -> Floats:
        """Say where the five points of an aligned face lie in its crop.

        Args:
            shake: Affine map (3, 3) that moved the crop, in crop pixels.

        Returns:
            Points (5, 2), px.
        """
        target = np.array(self.pixels.template or FERPLUS_TEMPLATE) * self.pixels.size - 0.5
        moved: Floats = target @ shake[:2, :2].T + shake[:2, 2]
        return moved

    def ready(self, crop: Image) -> Tensor:
        """Turn a crop into network input.

        Args:
            crop: RGB uint8 (S, S, 3).

        Returns:
            Float32 (channels, S, S).
        """
        batch = normalise([crop], self.pixels)
        return torch.from_numpy(batch[0])

    def blank(self) -> Item:
        """Make the item that stands for a picture that cannot be read.

        Returns:
            A grey image, a target of NaN, and False.
        """
        width = self.targets.shape[1]
        target = torch.full((width,), torch.nan)
        return self.ready(self.grey()), target, False


class AugmentedCropDataset(Dataset[Item]):
    """The faces of a `CropDataset`, changed at random.

    Item (epoch, i) is always the same, whatever process asks and in whatever order. With
    ``beside`` an item has two faces, mixed and real: images (2, channels, S, S) and targets
    (2, sum of K).

    Args:
        crops: The faces.
        augment: How they are changed.
        seed: Of the random changes.

    Raises:
        DataError: ``rare`` has no classes to go by.
    """

    def __init__(self, crops: CropDataset, augment: AugmentSettings, seed: int) -> None:
        self.crops = crops
        self.augment = augment
        self.seed = seed
        self.chances = _randaugment_chances(crops, augment.randaugment)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, i = key
        rng = np.random.default_rng((self.seed, epoch, i))
        readable = True
        try:
            image, target = self._augmented(i, rng)
        except DataError:
            if not self.crops.skip_unreadable:
                raise
            image, target, readable = self.crops.blank()
        real_image, real_target = image, target
        # A blank has no label to mix.
        if self.augment.mixup and readable:
            image, target = self._mixed(image, target, rng)
        if self.augment.beside:
            image = torch.stack([image, real_image])
            target = torch.stack([target, real_target])
        return image, target, readable

    def _mixed(
        self, image: Tensor, target: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A face mixed with another; unchanged where the other is unreadable and may be skipped."""
        # The order of the draws is part of what a seed repeats.
        share = rng.beta(self.augment.mixup, self.augment.mixup)
        partner = int(rng.integers(len(self)))
        try:
            other_image, other_target = self._augmented(partner, rng)
        except DataError:
            if not self.crops.skip_unreadable:
                raise
            return image, target
        mixed = share * image + (1 - share) * other_image
        return mixed, mix_targets(target, other_target, share)

    def _augmented(self, i: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Image and target of row i, changed at random."""
        augment = self.augment
        jitter = Jitter(augment.turn, augment.grow, augment.shift, augment.flip)
        shake = jitter.draw(rng, self.crops.pixels.size)
        # Options that came later draw only where they are in use, so older runs repeat.
        if augment.squeeze:
            amount = rng.uniform(-augment.squeeze, augment.squeeze)
            # The face is squeezed first, then turned.
            shake = shake @ _squeeze(amount, self.crops.pixels.size)
        # One warp does it all: a second would blur the face.
        crop = self.crops.crop(i, shake, whole=rng.random() < augment.whole)
        if augment.occlude and rng.random() < augment.occlude:
            kind = str(rng.choice(list(OCCLUDERS)))
            crop, _ = occlude(crop, self.crops.points_in_crop(shake), kind, rng)
        settings = augment.randaugment
        if settings is not None and rng.random() < self.chances[i]:
            change = RandAugment(settings.ops, settings.magnitude)
            seed = int(rng.integers(2**63))
            crop = change(crop, seed)
        colour = augment.colour
        if colour is not None and rng.random() < colour.chance:
            crop = jitter_colour(crop, colour, rng)
        if augment.light and rng.random() < augment.light:
            crop = relight(crop, rng)
        if rng.random() < augment.degrade:
            crop = degrade(crop, rng)
        if rng.random() < augment.erase:
            crop = erase(crop, rng)
        return self.crops.ready(crop), torch.from_numpy(self.crops.targets[i])


def _squeeze(amount: float, size: int) -> Floats:
    """An affine map (3, 3) that makes a crop wider and lower by exp(amount), or the reverse."""
    scale = np.diag([np.exp(amount / 2), np.exp(-amount / 2), 1.0])
    centre = (size - 1) / 2
    # About the crop's centre.
    scale[:2, 2] = centre - scale[:2, :2] @ (centre, centre)
    return np.asarray(scale)


def _randaugment_chances(crops: CropDataset, settings: RandAugmentSettings | None) -> Floats:
    """How likely each row is changed by RandAugment (N,)."""
    if settings is None:
        return np.zeros(len(crops))
    if settings.chance != "rare":
        return np.full(len(crops), settings.chance)
    # The columns of each task with classes.
    classes = []
    start = 0
    for task in crops.tasks:
        end = start + len(task.names)
        if task.kind == "one_of":
            classes.append(crops.targets[:, start:end])
        start = end
    if len(classes) != 1:
        families = ", ".join(task.family for task in crops.tasks)
        raise DataError(
            "augment.randaugment.chance: rare needs exactly one one_of task; "
            f"these tasks are {families}; give a number"
        )
    return rarity(classes[0])


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread.

    Loaders are processes, and if each had a pool of threads they would compete for the cores. A
    process forked from one with such a pool waits for ever for threads that were not copied.

    Yields:
        Nothing; the former number of threads is set afterwards.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
