"""Compound expressions of the frames of one film, from the expressions of their faces."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mien.bundles.plan import CompoundStep
from mien.systems.compounds import fill_and_smooth, zero_shot_compounds
from mien.tasks import TASKS, Floats

__all__ = ["FilmCompounds", "FrameFaces"]

# Frames whose scores are worked out together.
_BLOCK: Final = 64
# After so many frames without a face nothing is filled any more: what follows is another film.
_LONGEST_RUN: Final = 3_000
_COUNT: Final = len(TASKS["ce.abaw7"].names)


@dataclass
class FrameFaces:
    """The faces of one frame.

    Attributes:
        number: Of the frame; one more than that of the frame before.
        expressions: Their scores (F, K), F = 0 for a frame without a face.
        areas: Their areas in any unit, (F,).
    """

    number: int
    expressions: Floats = field(default_factory=lambda: np.empty((0, 0)))
    areas: Floats = field(default_factory=lambda: np.empty(0))


class FilmCompounds:
    """Takes the frames of a film in order, and gives each its compounds once they are certain.

    Args:
        step: How faces become compounds of frames.
        names: Of the K expressions, in order.
        live: Give each frame's scores at once, from the frames up to it.
    """

    def __init__(self, step: CompoundStep, names: tuple[str, ...], *, live: bool = False) -> None:
        self._step = step
        self._names = names
        self._live = live
        # Frames that later ones may need, those before `_next` with their answer.
        self._numbers: list[int] = []
        self._scores: list[Floats] = []
        self._next = 0
        self._faceless = 0

    def add(self, frame: FrameFaces) -> list[Floats | None]:
        """Take the next frame.

        Args:
            frame: Its faces.

        Returns:
            The compounds (7,) of the frames that are certain by now, in order; None for those of
            films without any face so far.
        """
        done: list[Floats | None] = []
        if len(frame.expressions):
            self._faceless = 0
        else:
            self._faceless += 1
        self._numbers.append(frame.number)
        self._scores.append(self._of_frame(frame))
        if self._faceless > _LONGEST_RUN:
            return self.close()
        if self._live:
            return self._answers(len(self._numbers))
        # Up to the last frame with a face everything is filled; its window must be whole as well.
        certain = len(self._numbers) - self._faceless - self._step.window
        if certain - self._next >= _BLOCK:
            done += self._answers(certain)
        return done

    def close(self) -> list[Floats | None]:
        """End the film.

        Returns:
            The compounds of all frames that were not certain, in order.
        """
        done = self._answers(len(self._numbers))
        self._numbers, self._scores, self._next, self._faceless = [], [], 0, 0
        return done

    def _of_frame(self, frame: FrameFaces) -> Floats:
        """The compounds (7,) of a frame; NaN without a face."""
        if not len(frame.expressions):
            return np.full(_COUNT, np.nan)
        faces = zero_shot_compounds(
            frame.expressions, self._names, self._step.mean, self._step.basis
        )
        if self._step.aggregation == "max":
            return np.asarray(faces.max(axis=0))
        if self._step.aggregation == "mean":
            return np.asarray(faces.mean(axis=0))
        return np.asarray(faces[int(np.argmax(frame.areas))])

    def _answers(self, end: int) -> list[Floats | None]:
        """Compounds of the frames up to `end`; forgets what no later one needs."""
        start, scores = self._next, np.array(self._scores)
        if end <= start:
            return []
        if np.isnan(scores).all():
            values: list[Floats | None] = [None] * (end - start)
        else:
            smoothed = fill_and_smooth(
                scores,
                np.zeros(len(scores), np.int64),
                np.array(self._numbers),
                self._step.window,
                self._step.sigma,
            )
            values = list(smoothed[start:end])
        self._next = end
        self._forget(max(0, end - self._step.window), scores)
        return values

    def _forget(self, first: int, scores: Floats) -> None:
        """Forget the frames before `first`, except from the last one with a face before it on."""
        measured: Sequence[int] = np.flatnonzero(~np.isnan(scores[: first + 1, 0])).tolist()
        keep_from = measured[-1] if measured else 0
        del self._numbers[:keep_from], self._scores[:keep_from]
        self._next -= keep_from
