"""A system of several networks, verified and ready to read films."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.bundles.card import SystemCard, head_path
from mien.bundles.engines import Engine
from mien.bundles.model import Cut, Image, Model, check_finite
from mien.bundles.plan import CompoundStep, Head, HeadsStep, ScoreStep, tasks_of
from mien.records import Face, Reading
from mien.sources.interval import FrameInterval
from mien.systems.apply import Scores, needed_steps
from mien.systems.film import FilmCompounds, FrameFaces
from mien.systems.recording import Recording, WindowHead
from mien.tasks import TASKS, Floats, Task
from mien.temporal.rows import group_codes
from mien.temporal.tracks import TICK_S, Recent, in_time_order, remember, track_of

__all__ = ["System"]

# A face unseen for longer, s, begins a new recording when it is seen again.
_LONGEST_GAP_S: Final = 2.0
# Between the name of a step or member and what it gives, in the scores of a face so far.
_SEPARATOR: Final = "/"
_NUMBERS: Final = "numbers"
_COMPOUND_COUNT: Final = len(TASKS["ce.abaw7"].names)

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class _RunningHead:
    """The network of some heads, ready to run.

    Attributes:
        step: The step it belongs to.
        member: The member whose numbers it reads.
        head: Its facts in the card.
        engine: The network.
        where: Its file, for messages.
    """

    step: str
    member: str
    head: Head
    engine: Engine
    where: str

    def scores(self, numbers: Floats32) -> dict[str, Floats]:
        """Decoded scores (N, K) by family of the member's numbers (N, D)."""
        read = np.ascontiguousarray(numbers[:, self.head.first : self.head.end], np.float32)
        windowed = self.head.window is not None
        outputs = self.engine.run(read[None] if windowed else read)
        check_finite(self.where, outputs)
        scores = {}
        for spec, raw in zip(self.head.tasks, outputs, strict=True):
            task = spec.task
            scores[task.family] = task.decode(raw[0] if windowed else raw)
        return scores


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
        self._heads: list[_RunningHead] = []
        for name, step in self._steps.items():
            if isinstance(step, HeadsStep):
                for number, head in enumerate(step.heads):
                    path = head_path(name, number)
                    where = f"{card.name}/{path}"
                    self._heads.append(_RunningHead(name, step.member, head, heads[path], where))

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
    def face_tasks(self) -> tuple[Task, ...]:
        """What its last step that is of single faces gives; `tasks` unless compounds follow."""
        return tasks_of(self._steps, self._answer)

    def cut(self, image: Image, face: Face) -> Cut:
        """Cut a face out of its frame, once for each member.

        Args:
            image: The frame, RGB uint8 (H, W, 3).
            face: The face, in px of the frame.

        Returns:
            The crops, in the order of the members.
        """
        # Members that see the same crop share it.
        crops: dict[str, Image] = {}
        cut = []
        for member in self._members.values():
            key = member.card.pixels.model_dump_json()
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
        found: dict[str, Floats] = {}
        numbers: dict[str, Floats32] = {}
        for name, member in self._members.items():
            raw, numbers[name] = member.raw_and_numbers(crops[name])
            for step_name, step in self._steps.items():
                if isinstance(step, ScoreStep) and step.member == name:
                    for family, scores in _own_scores(step, member, raw).items():
                        found[f"{step_name}{_SEPARATOR}{family}"] = scores
        for head in self._heads:
            if head.head.window is not None:
                found[f"{head.member}{_SEPARATOR}{_NUMBERS}"] = numbers[head.member]
                continue
            for family, scores in head.scores(numbers[head.member]).items():
                found[f"{head.step}{_SEPARATOR}{family}"] = scores
        return found

    def over_time(self, readings: Iterable[Reading], *, live: bool = False) -> Iterator[Reading]:
        """Go from what networks say of single faces to the system's scores.

        Each face is a recording of its own, from when it is seen to when it is lost.

        Args:
            readings: Of one source, ordered by frame, with what `score_cuts` gives as scores.
            live: Give each reading at once, from the frames up to it.

        Yields:
            The readings in the same order, with the system's scores.

        Raises:
            SourceError: Time runs backwards.
            BundleError: A network gives NaN or infinity.
        """
        answered = self._faces_over_time(readings, live=live)
        if self._compounds is None:
            return answered
        return self._frames_over_time(answered, live=live)

    def _faces_over_time(self, readings: Iterable[Reading], *, live: bool) -> Iterator[Reading]:
        """The readings with the scores of the last step that is of single faces."""
        tracks: Recent[_Track] = OrderedDict()
        waiting: deque[_Waiting] = deque()
        interval = FrameInterval()
        number, latest = -1, -1
        for reading in in_time_order(readings):
            interval.add(reading.time_s)
            if reading.frame != latest:
                # Counted, not taken from the file: frames that were left out on purpose are no gap.
                number, latest = number + 1, reading.frame
            _close_lost(tracks, reading.time_s - interval.longest_gap_s(_LONGEST_GAP_S))
            slot = _Waiting(reading)
            waiting.append(slot)
            self._take(tracks, slot, number, live=live)
            while waiting and waiting[0].done:
                yield waiting.popleft().reading
        for _, track in tracks.values():
            track.close()
        for slot in waiting:
            yield slot.reading

    def _frames_over_time(self, readings: Iterable[Reading], *, live: bool) -> Iterator[Reading]:
        """The readings with compounds of their frames; all faces of a frame have the same."""
        film = self._film(live=live)
        waiting: deque[list[Reading]] = deque()
        for number, (_, group) in enumerate(groupby(readings, lambda reading: reading.frame)):
            frame = list(group)
            waiting.append(frame)
            for compounds in film.add(_faces_of(frame, number)):
                yield from _with_compounds(waiting.popleft(), compounds)
        for compounds in film.close():
            yield from _with_compounds(waiting.popleft(), compounds)

    def _film(self, *, live: bool = False) -> FilmCompounds:
        assert self._compounds is not None
        [names] = [task.names for task in self.face_tasks if task.family == "expr"]
        return FilmCompounds(self._compounds, names, live=live)

    def _take(self, tracks: "Recent[_Track]", slot: "_Waiting", number: int, *, live: bool) -> None:
        """Give a reading to its face's recording; one without a face is done at once."""
        reading = slot.reading
        if not reading.scores:
            slot.done = True
            return
        track_number = track_of(reading)
        if track_number is not None and track_number in tracks:
            track = tracks[track_number][1]
        else:
            track = _Track(self._recording(live=live))
        track.add(slot, number)
        if track_number is None:
            track.close()
        else:
            remember(tracks, track_number, reading.time_s, track)

    def _recording(self, *, live: bool = False) -> Recording:
        heads = []
        for head in self._heads:
            if head.head.window is not None:
                heads.append(WindowHead(head.step, head.member, head.head.window, head.scores))
        return Recording(self._steps, self._answer, heads, live=live)

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
        """
        rows = np.arange(len(crops))
        return self.score_videos(crops, rows, np.zeros(len(crops), np.int64), points)

    def score_videos(
        self,
        crops: Sequence[Image],
        video: ArrayLike,
        frame: ArrayLike,
        points: Floats | None = None,
    ) -> dict[str, Floats]:
        """Read the frames of videos that are already cropped, one face per frame.

        Args:
            crops: As for `Model.score`, (N).
            video: Names or numbers of their videos, (N,).
            frame: Frame numbers, whole, from 0, (N,).
            points: As for `Model.score`.

        Returns:
            Scores (N, K) by task family, in the order of the crops.

        Raises:
            ValueError: As for `Model.score`.
            DataError: The arrays do not fit together.
            BundleError: A network gives NaN or infinity.
        """
        return self.finish(self.signals(crops, points), video, frame)

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
        prepared = {name: each.prepare(crops, points) for name, each in self._members.items()}
        return self._read(prepared)

    def finish(
        self, found: Mapping[str, Floats], video: ArrayLike, frame: ArrayLike
    ) -> dict[str, Floats]:
        """Go from what networks say of the faces of a table to the system's scores.

        Args:
            found: What `score_cuts` gave, (N, …) each.
            video: Names or numbers of the videos, (N,).
            frame: Frame numbers, whole, from 0, (N,).

        Returns:
            Scores (N, K) by task family, in the order of the table.

        Raises:
            DataError: The arrays do not fit together.
            BundleError: A network gives NaN or infinity.
        """
        frames = np.asarray(frame, np.int64)
        code, _ = group_codes(video, len(frames))
        order = np.lexsort((frames, code))
        answers: list[dict[str, Floats]] = []
        recording = self._recording()
        for position, row in enumerate(order):
            if position and code[row] != code[order[position - 1]]:
                answers += recording.close()
                recording = self._recording()
            scores, numbers = _parts({key: values[row] for key, values in found.items()})
            answers += recording.add(int(frames[row]), scores, numbers)
        answers += recording.close()
        scores_by_family: dict[str, Floats] = {}
        for task in self.face_tasks:
            values = np.empty((len(frames), len(task.names)))
            values[order] = [answer[task.family] for answer in answers]
            scores_by_family[task.family] = values
        if self._compounds is None:
            return scores_by_family
        return {"ce": self.finish_expressions(scores_by_family["expr"], video, frame)}

    def finish_expressions(self, expressions: Floats, video: ArrayLike, frame: ArrayLike) -> Floats:
        """Go from the expressions of a table's faces to the compounds of their frames.

        Args:
            expressions: Scores (N, K), in the order of `face_tasks`.
            video: Names or numbers of the videos, (N,).
            frame: Frame numbers, whole, from 0, (N,). Several rows of a frame are several faces,
                the first of them the largest.

        Returns:
            Scores (N, 7); all rows of a frame have the same.

        Raises:
            DataError: The arrays do not fit together.
        """
        frames = np.asarray(frame, np.int64)
        code, _ = group_codes(video, len(frames))
        compounds = np.empty((len(frames), _COMPOUND_COUNT))
        for number_of_video in np.unique(code):
            rows = np.flatnonzero(code == number_of_video)
            first, last = frames[rows].min(), frames[rows].max()
            film = self._film()
            answers: list[Floats | None] = []
            for number in range(first, last + 1):
                faces = rows[frames[rows] == number]
                # Falling areas: the first row is the largest.
                areas = -np.arange(len(faces), dtype=np.float64)
                answers += film.add(FrameFaces(number, expressions[faces], areas))
            answers += film.close()
            for row in rows:
                compounds[row] = answers[frames[row] - first]
        return compounds


@dataclass
class _Waiting:
    """A reading, and whether it has the system's scores."""

    reading: Reading
    done: bool = False


class _Track:
    """The recording of one face, and the readings that wait for their scores."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._waiting: deque[_Waiting] = deque()

    def add(self, slot: _Waiting, number: int) -> None:
        """Take the next reading of the face."""
        self._waiting.append(slot)
        self._give(self._recording.add(number, *_parts(slot.reading.scores)))

    def close(self) -> None:
        """End the recording: all readings get their scores."""
        self._give(self._recording.close())

    def _give(self, answers: Iterable[dict[str, Floats]]) -> None:
        for scores in answers:
            slot = self._waiting.popleft()
            slot.reading = replace(slot.reading, scores=scores)
            slot.done = True


def _faces_of(readings: Sequence[Reading], number: int) -> FrameFaces:
    """The faces of one frame."""
    faces = [reading for reading in readings if reading.scores and reading.face]
    if not faces:
        return FrameFaces(number)
    expressions = np.stack([reading.scores["expr"] for reading in faces])
    areas = [reading.face.box[2] * reading.face.box[3] for reading in faces if reading.face]
    return FrameFaces(number, expressions, np.array(areas))


def _with_compounds(readings: Sequence[Reading], compounds: Floats | None) -> Iterator[Reading]:
    for reading in readings:
        if reading.scores and compounds is not None:
            yield replace(reading, scores={"ce": compounds})
        else:
            yield reading


def _close_lost(tracks: Recent[_Track], before_s: float) -> None:
    """End the recordings of faces last seen before a time."""
    while tracks:
        number, (last_seen_s, track) = next(iter(tracks.items()))
        if last_seen_s >= before_s - TICK_S:
            return
        track.close()
        del tracks[number]


def _parts(found: Mapping[str, Floats]) -> tuple[dict[str, dict[str, Floats]], dict[str, Floats]]:
    """The scores of one face by step and family, and the numbers of members."""
    scores: dict[str, dict[str, Floats]] = {}
    numbers: dict[str, Floats] = {}
    for key, values in found.items():
        name, _, family = key.partition(_SEPARATOR)
        if family == _NUMBERS:
            numbers[name] = values
        else:
            scores.setdefault(name, {})[family] = values
    return scores, numbers


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
