"""A network that reads affect from cropped faces."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.card import AffectCard
from mien.bundles.engines import Engine
from mien.errors import BundleError
from mien.faces.prepare import Pixels, normalise, prepare, prepare_crop
from mien.records import Face, Reading
from mien.tasks import Floats, Task

__all__ = ["BATCH", "Cut", "Image", "Model", "check_finite"]

BATCH: Final = 64
"""Crops that go through a network together."""

Image = NDArray[np.uint8]
Floats32 = NDArray[np.float32]
Cut = tuple[Image, ...]
"""A face as networks see it: one crop for each network, RGB uint8 (size, size, 3)."""


class Model:
    """A network that reads affect, with its card."""

    def __init__(self, card: AffectCard, engine: Engine, together: int = BATCH) -> None:
        """Join a card and its network.

        Args:
            card: The card.
            engine: The network, ready to run.
            together: Batch size, so that memory does not grow with the number of crops.
        """
        self.card = card
        self._engine = engine
        self._batch_size = together

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task.key} ({len(task.names)})" for task in self.tasks) or "features"
        return f"Model({self.card.name!r}: {tasks}; {self.engine})"

    @property
    def engine(self) -> str:
        """Name of the engine it runs on."""
        return self._engine.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it predicts, in output order."""
        return tuple(spec.task for spec in self.card.tasks)

    @property
    def pixels(self) -> tuple[Pixels, ...]:
        """How each crop of a face is cut, in the order of `cut`: there is one."""
        return (self.card.pixels,)

    @property
    def _families(self) -> list[str]:
        return [task.family for task in self.tasks]

    def score(self, crops: Sequence[Image], points: Floats | None = None) -> dict[str, Floats]:
        """Read faces that are already cropped.

        Args:
            crops: N pictures, RGB uint8 (H, W, 3), any sizes, one face each.
            points: Five points per face, (N, 5, 2), in px of its crop, in the order of `Face`;
                the face is aligned with them as the card asks. Without them, the whole crop is
                resized to the network's input.

        Returns:
            Scores by task family: ``{"expr": (N, 8), "va": (N, 2), "au": (N, K)}``, with the
            columns of `Task.names`.

        Raises:
            ValueError: A crop is not RGB uint8, a point is not finite, or there are not as many
                points as crops.
            BundleError: The network gives features alone, or NaN or infinity.
        """
        return self.score_prepared(self.prepare(crops, points))

    def score_prepared(self, crops: Sequence[Image]) -> dict[str, Floats]:
        """Read crops that `faces.prepare` or `prepare` made.

        Args:
            crops: N crops, RGB uint8 (size, size, 3).

        Returns:
            Scores by task family, as `score` gives them.

        Raises:
            ValueError: A crop has another size or type.
            BundleError: The network gives features alone, or NaN or infinity.
        """
        if not self.tasks:
            raise BundleError(
                f"{self.card.name} predicts nothing, it gives features alone; "
                "name a bundle with tasks"
            )
        raw = self._run(crops, len(self.tasks))
        return self.decode(dict(zip(self._families, raw, strict=True)))

    def decode(self, raw: Mapping[str, Floats32]) -> dict[str, Floats]:
        """Scores from raw outputs.

        Args:
            raw: By task family, (N, K), as `features_and_raw` gives them.

        Returns:
            Scores by task family, as `score` gives them.
        """
        scores = {}
        for task in self.tasks:
            # Calibration comes before softmax and sigmoid.
            temperature = self.card.temperature.get(task.family, 1.0)
            scores[task.family] = task.decode(raw[task.family] / temperature)
        return scores

    def cut(self, image: Image, face: Face) -> Cut:
        """Cut a face out of its frame.

        Args:
            image: The frame, RGB uint8 (H, W, 3).
            face: The face, in px of the frame.

        Returns:
            Its crop, as the only one.
        """
        return (prepare(image, face, self.card.pixels),)

    def score_cuts(self, cuts: Sequence[Cut]) -> dict[str, Floats]:
        """Read faces that `cut` cut out.

        Args:
            cuts: N of them.

        Returns:
            Scores by task family, as `score` gives them.

        Raises:
            BundleError: As for `score`.
        """
        return self.score_prepared([crop for (crop,) in cuts])

    def over_time(self, readings: Iterable[Reading], *, live: bool = False) -> Iterable[Reading]:
        """Leave readings as they are: one network reads each face by itself.

        Args:
            readings: Of one source.
            live: Whether the source makes its pictures while it is read.

        Returns:
            The same readings.
        """
        return readings

    def features(self, crops: Sequence[Image], points: Floats | None = None) -> Floats32:
        """Pooled output of the backbone, before the heads.

        Args:
            crops: As for `score`.
            points: As for `score`.

        Returns:
            (N, D) float32, with D the card's `features`.

        Raises:
            ValueError: As for `score`.
            BundleError: The network exposes no features, or gives NaN or infinity.
        """
        return self.features_and_raw(crops, points)[0]

    def features_and_raw(
        self, crops: Sequence[Image], points: Floats | None = None
    ) -> tuple[Floats32, dict[str, Floats32]]:
        """Features and raw outputs from one run.

        Args:
            crops: As for `score`.
            points: As for `score`.

        Returns:
            Features (N, D) as `features` gives them; and by task family the raw output (N, K),
            before temperature and `Task.decode`.

        Raises:
            ValueError: As for `score`.
            BundleError: As for `features`.
        """
        self.card.exposed()
        *raw, features = self._run(self.prepare(crops, points), None)
        return features, dict(zip(self._families, raw, strict=True))

    def raw_and_numbers(self, crops: Sequence[Image]) -> tuple[dict[str, Floats32], Floats32]:
        """Raw outputs, and everything the network gives side by side, for heads.

        Args:
            crops: N crops that `prepare` made.

        Returns:
            By task family the raw output (N, K); and (N, D), the features where it exposes them,
            then the raw outputs.

        Raises:
            BundleError: The network gives NaN or infinity.
        """
        outputs = self._run(crops, None)
        # The features, where it exposes them, come last.
        count = len(self.tasks)
        raw = dict(zip(self._families, outputs[:count], strict=True))
        return raw, np.concatenate([*outputs[count:], *outputs[:count]], axis=1)

    def prepare(self, crops: Sequence[Image], points: Floats | None = None) -> list[Image]:
        """Bring crops to the size of the network's input.

        Args:
            crops: As for `score`.
            points: As for `score`. Without them, a crop that has that size stays as it is.

        Returns:
            N crops, RGB uint8 (size, size, 3).

        Raises:
            ValueError: As for `score`.
        """
        _check_crops(crops, points)
        pixels = self.card.pixels
        if points is None:
            return [prepare_crop(crop, pixels) for crop in crops]
        prepared = []
        for crop, five in zip(crops, points, strict=True):
            height, width = crop.shape[:2]
            box = (0.0, 0.0, float(width), float(height))
            face = Face(box, np.asarray(five, np.float64), 1.0)
            prepared.append(prepare(crop, face, pixels))
        return prepared

    def _run(self, crops: Sequence[Image], first: int | None) -> list[Floats32]:
        """The network's `first` outputs, or all, for prepared crops."""
        pixels = self.card.pixels
        size = pixels.size
        images = np.asarray(crops)
        if not len(images):
            return [np.zeros((0, width), np.float32) for width in self.card.widths[:first]]
        if images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"prepared crops must be uint8 (N, {size}, {size}, 3), "
                f"got {images.dtype} {images.shape}"
            )
        # In batches, so that memory does not grow with the number of crops.
        parts = []
        for start in range(0, len(images), self._batch_size):
            batch = normalise(images[start : start + self._batch_size], pixels)
            parts.append(self._engine.run(batch, first))
        outputs = [np.concatenate(batches) for batches in zip(*parts, strict=True)]
        check_finite(self.card.name, outputs)
        return outputs


def _check_crops(crops: Sequence[Image], points: Floats | None) -> None:
    for i, crop in enumerate(crops):
        if not isinstance(crop, np.ndarray):
            raise ValueError(f"crop {i} must be RGB uint8 (H, W, 3), got {type(crop).__name__}")
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8 or crop.size == 0:
            raise ValueError(f"crop {i} must be RGB uint8 (H, W, 3), got {crop.dtype} {crop.shape}")
    if points is None:
        return
    if np.shape(points) != (len(crops), 5, 2):
        raise ValueError(f"points must be ({len(crops)}, 5, 2), got {np.shape(points)}")
    if not np.isfinite(points).all():
        raise ValueError(
            "points must be finite; leave out crops without points, or score them without"
        )


def check_finite(name: object, outputs: Sequence[Floats32]) -> None:
    """Refuse NaN and infinity, which would look like scores once decoded.

    Args:
        name: What the message begins with: the bundle's name or folder.
        outputs: Outputs of its network.

    Raises:
        BundleError: An output holds NaN or infinity.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise BundleError(
            f"{name}: the network gives NaN or infinity, which are no scores; do not use it"
        )
