"""A system of several networks, verified and ready to read films."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.bundles.card import SystemCard, head_path
from mien.bundles.engines import Engine
from mien.bundles.model import Cut, Image, Model, check_finite
from mien.bundles.plan import (
    CompoundStep,
    External,
    Head,
    HeadsStep,
    ScoreStep,
    SmoothStep,
    tasks_of,
)
from mien.errors import DataError
from mien.faces.prepare import Geometry, Pixels
from mien.records import Face, Reading
from mien.systems.apply import Scores, needed_steps
from mien.systems.external import FilmFeatures, film_name
from mien.systems.film import FilmCompounds
from mien.systems.recording import Recording, WindowHead
from mien.systems.rows import compounds_of_rows, rows_over_time
from mien.systems.signals import number_key, score_key
from mien.systems.stream import compounds_of_frames, faces_over_time
from mien.tasks import Floats, Task

__all__ = ["System"]

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class _RunningHead:
    """The network of some heads, ready to run.

    Attributes:
        step: The step it belongs to.
        member: The member whose numbers it reads.
        head: Its facts in the card.
        reads: Under which name signals hold what it reads.
        engine: The network.
        where: Its file, for messages.
    """

    step: str
    member: str
    head: Head
    reads: str
    engine: Engine
    where: str

    def scores(self, numbers: Floats32) -> dict[str, Floats]:
        """Decoded scores (N, K) by family of numbers (N, D): the member's, or those of `joined`."""
        if not self.head.external:
            numbers = numbers[:, self.head.first : self.head.end]
        read = np.ascontiguousarray(numbers, np.float32)
        windowed = self.head.window is not None
        outputs = self.engine.run(read[None] if windowed else read)
        check_finite(self.where, outputs)
        scores = {}
        for spec, raw in zip(self.head.tasks, outputs, strict=True):
            task = spec.task
            scores[task.family] = task.decode(raw[0] if windowed else raw)
        return scores

    def signals(self, numbers: Floats32) -> dict[str, Floats]:
        """The same as signals."""
        signals = {}
        for family, scores in self.scores(numbers).items():
            signals[score_key(self.step, family)] = scores
        return signals

    def joined(self, numbers: Floats32, external: Sequence[Floats32]) -> Floats32:
        """What it reads of the member's numbers (N, D), and external features behind them."""
        return np.hstack([numbers[:, self.head.first : self.head.end], *external])


class System:
    """Several networks and what becomes of their scores, as one that reads films.

    Args:
        card: The card.
        members: The networks that read crops, by name.
        heads: The networks of heads, as `mien.systems.opening` opens them, by their paths.
    """

    def __init__(
        self, card: SystemCard, members: Mapping[str, Model], heads: Mapping[str, Engine]
    ) -> None:
        self.card = card
        self._members = dict(members)
        last = card.steps[card.answer]
        # Compounds are of frames, not of single faces: they come after all that is.
        self._compounds = last if isinstance(last, CompoundStep) else None
        self._answer = last.of if isinstance(last, CompoundStep) else card.answer
        self._steps = {name: card.steps[name] for name in needed_steps(card.steps, self._answer)}
        self._heads = self._running_heads(heads)
        self._features: FilmFeatures | None = None

    def _running_heads(self, engines: Mapping[str, Engine]) -> list[_RunningHead]:
        running = []
        for name, step in self._steps.items():
            if not isinstance(step, HeadsStep):
                continue
            for number, head in enumerate(step.heads):
                path = head_path(name, number)
                where = f"{self.card.name}/{path}"
                # Steps have no hyphen in their names, so no member is called so.
                reads = f"{name}-{number}" if head.external else step.member
                running.append(_RunningHead(name, step.member, head, reads, engines[path], where))
        return running

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task.key} ({len(task.names)})" for task in self.tasks)
        return f"System({self.card.name!r}: {tasks}; members {', '.join(self._members)})"

    @property
    def engine(self) -> str:
        """Name of the engine that its members run on."""
        return next(iter(self._members.values())).engine

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it predicts, in output order."""
        return tuple(spec.task for spec in self.card.tasks)

    @property
    def pixels(self) -> tuple[Pixels, ...]:
        """The crops that its members read, in their order."""
        return tuple(member.card.pixels for member in self._members.values())

    @property
    def temporal_steps(self) -> tuple[str, ...]:
        """Names of the steps that look at more than one frame."""
        names = []
        for name, step in self.card.steps.items():
            match step:
                case SmoothStep():
                    names.append(name)
                case HeadsStep() if any(head.window is not None for head in step.heads):
                    names.append(name)
                case CompoundStep() if step.window > 0:
                    names.append(name)
        return tuple(names)

    @property
    def face_tasks(self) -> tuple[Task, ...]:
        """What its last step that is of single faces gives; `tasks` unless compounds follow."""
        return tasks_of(self._steps, self._answer)

    @property
    def external(self) -> tuple[External, ...]:
        """The external features that its heads read."""
        parts: list[External] = []
        for head in self._heads:
            parts += head.head.external
        return tuple(dict.fromkeys(parts))

    def with_features(self, paths: Sequence[Path]) -> "System":
        """Give it the external features of the films that it will read.

        Args:
            paths: Parquet files, see `mien.temporal.external`.

        Returns:
            The same system, which has them.

        Raises:
            DataError: A file cannot be read, is not one that it reads, or is missing.
        """
        system = copy(self)
        system._features = FilmFeatures(self.card.name, self.external, paths)
        return system

    def fit_of(self, source: str, frames: int | None) -> list[str]:
        """Say how its external features fit a film, before that is read.

        Args:
            source: The film's name or path.
            frames: How many frames it has; None where that is not known.

        Returns:
            A line for each file.

        Raises:
            DataError: The features are not of this film.
        """
        if not self.external:
            return []
        return self._given_features().fit_of(source, frames)

    def _given_features(self) -> FilmFeatures:
        if self._features is None:
            # Raises: there are no files, and some are needed.
            return FilmFeatures(self.card.name, self.external, ())
        return self._features

    def cut(self, image: Image, face: Face) -> Cut:
        """Cut a face out of its frame, once for each member.

        Args:
            image: The frame, RGB uint8 (H, W, 3).
            face: The face, in px of the frame.

        Returns:
            The crops, in the order of the members.
        """
        # Members that see the same crop share it.
        crops: dict[Geometry, Image] = {}
        cut = []
        for member in self._members.values():
            key = member.card.pixels.geometry
            if key not in crops:
                [crops[key]] = member.cut(image, face)
            cut.append(crops[key])
        return tuple(cut)

    def score_cuts(self, cuts: Sequence[Cut]) -> dict[str, Floats]:
        """Run the networks that read single faces.

        Args:
            cuts: N faces as `cut` gives them.

        Returns:
            What `over_time` makes scores of, (N, …) each.

        Raises:
            BundleError: A network gives NaN or infinity.
        """
        crops = [[cut[number] for cut in cuts] for number in range(len(self._members))]
        return self._read(dict(zip(self._members, crops, strict=True)))

    def _read(self, crops: Mapping[str, Sequence[Image]]) -> dict[str, Floats]:
        """What networks say of faces, given each member's prepared crops."""
        if self.external:
            # Refused before hours of reading rather than after.
            self._given_features()
        signals: dict[str, Floats] = {}
        numbers: dict[str, Floats32] = {}
        for name, member in self._members.items():
            raw, numbers[name] = member.raw_and_numbers(crops[name])
            signals |= self._member_scores(name, raw)
        for head in self._heads:
            if head.head.window is not None or head.head.external:
                # Windows are read once their frames are there, and frames once they have a number.
                signals[number_key(head.member)] = numbers[head.member]
            else:
                signals |= head.signals(numbers[head.member])
        return signals

    def _with_external(
        self, signals: Mapping[str, Floats], video: ArrayLike, frame: ArrayLike
    ) -> dict[str, Floats]:
        """Signals (N, …) with those of heads on external features."""
        complete = dict(signals)
        for head in self._heads:
            if not head.head.external:
                continue
            external = self._given_features().aligned(head.head.external, video, frame)
            numbers = head.joined(signals[number_key(head.member)], external)
            if head.head.window is not None:
                complete[number_key(head.reads)] = numbers
            else:
                complete |= head.signals(numbers)
        return complete

    def _external_readings(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """The same for readings, each with the features of its frame."""
        for reading in readings:
            if not reading.scores:
                yield reading
                continue
            signals = {key: values[None] for key, values in reading.scores.items()}
            complete = self._with_external(signals, [film_name(reading.source)], [reading.frame])
            yield replace(reading, scores={key: values[0] for key, values in complete.items()})

    def _member_scores(self, name: str, raw: Mapping[str, Floats32]) -> dict[str, Floats]:
        """What a member's own outputs say, for all steps that ask it."""
        signals = {}
        for step_name, step in self._steps.items():
            if isinstance(step, ScoreStep) and step.member == name:
                for family, scores in _own_scores(step, self._members[name], raw).items():
                    signals[score_key(step_name, family)] = scores
        return signals

    def over_time(self, readings: Iterable[Reading], *, live: bool = False) -> Iterator[Reading]:
        """Go from what networks say of single faces to the system's scores.

        Args:
            readings: Of one source, ordered by frame, with what `score_cuts` gives as scores.
            live: Give each reading at once, from the frames up to it.

        Yields:
            The readings in the same order, with the system's scores.

        Raises:
            SourceError: Time runs backwards.
            BundleError: A network gives NaN or infinity.
        """
        if self.external:
            readings = self._external_readings(readings)
        answered = faces_over_time(readings, partial(self._recording, live=live))
        if self._compounds is None:
            return answered
        return compounds_of_frames(answered, partial(self._film, live=live))

    def _recording(self, *, live: bool = False) -> Recording:
        heads = []
        for head in self._heads:
            if head.head.window is not None:
                heads.append(WindowHead(head.step, head.reads, head.head.window, head.scores))
        return Recording(self._steps, self._answer, heads, live=live)

    def _film(self, *, live: bool = False) -> FilmCompounds:
        assert self._compounds is not None
        [names] = [task.names for task in self.face_tasks if task.family == "expr"]
        return FilmCompounds(self._compounds, names, live=live)

    def score(self, crops: Sequence[Image], points: Floats | None = None) -> dict[str, Floats]:
        """Read faces that are already cropped, each by itself, without anything over time.

        Args:
            crops: As for `Model.score`.
            points: As for `Model.score`.

        Returns:
            Scores (N, K) by task family.

        Raises:
            ValueError: As for `Model.score`.
            BundleError: A network gives NaN or infinity.
            DataError: It reads external features, which are those of films.
        """
        if self.external:
            raise DataError(
                f"{self.card.name}: reads external features by film and frame, which single crops "
                "do not have; let it read films with Options(features=…)"
            )
        # Each crop is a video of its own.
        return self.finish(self.signals(crops, points), np.arange(len(crops)), [0] * len(crops))

    def signals(self, crops: Sequence[Image], points: Floats | None = None) -> dict[str, Floats]:
        """Run the networks that read single faces on faces that are already cropped.

        Args:
            crops: As for `Model.score`.
            points: As for `Model.score`.

        Returns:
            What `finish` makes scores of, (N, …) each.

        Raises:
            ValueError: As for `Model.score`.
            BundleError: A network gives NaN or infinity.
        """
        prepared = {}
        for name, member in self._members.items():
            prepared[name] = member.prepare(crops, points)
        return self._read(prepared)

    def finish(
        self, signals: Mapping[str, Floats], video: ArrayLike, frame: ArrayLike
    ) -> dict[str, Floats]:
        """Go from what networks say of the faces of a table to the system's scores.

        Args:
            signals: What `signals` or `score_cuts` gave, (N, …) each.
            video: Names or numbers of the videos, (N,).
            frame: Frame numbers, whole, from 0, (N,).

        Returns:
            Scores (N, K) by task family, in the order of the table.

        Raises:
            DataError: The arrays do not fit together.
            BundleError: A network gives NaN or infinity.
        """
        if self.external:
            signals = self._with_external(signals, video, frame)
        scores = rows_over_time(signals, video, frame, self._recording)
        if self._compounds is None:
            return scores
        return {"ce": self.finish_expressions(scores["expr"], video, frame)}

    def finish_expressions(self, expressions: Floats, video: ArrayLike, frame: ArrayLike) -> Floats:
        """Go from the expressions of a table's faces to the compounds of their frames.

        Args:
            expressions: Scores (N, K), in the order of `face_tasks`.
            video: As for `mien.systems.rows.compounds_of_rows`.
            frame: The same.

        Returns:
            Scores (N, 7); all rows of a frame have the same.

        Raises:
            DataError: The arrays do not fit together.
        """
        return compounds_of_rows(expressions, video, frame, self._film)


def _own_scores(step: ScoreStep, member: Model, raw: Mapping[str, Floats32]) -> Scores:
    """What a member's own outputs say, in the order of the step's labels."""
    scores = {}
    decoded = member.decode(raw)
    for spec in step.tasks:
        family = spec.task.family
        selected = decoded[family][:, step.columns[family]]
        if spec.kind == "one_of":
            selected = selected / np.maximum(selected.sum(axis=1, keepdims=True), 1e-12)
        scores[family] = selected
    return scores
