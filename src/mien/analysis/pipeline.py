"""The sentence: frames, find, follow, prepare, score, smooth.

`Pipeline.read` is that sentence; the rest of this module says its words. Frames of recordings are decoded in one thread, faces
found in the caller's, and scored in a third, in batches. Single pictures and live frames take the shortest way, through the
caller's thread alone; of a camera the newest frame waits in a thread of its own.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.analysis.networks import Networks
from mien.analysis.options import Choice, Options
from mien.errors import LabelMismatchError, UnknownNameError
from mien.faces.lookback import look_back
from mien.faces.orientation import SPACING_S, TurnSampler
from mien.faces.prepare import prepare
from mien.faces.track import Tracker
from mien.records import Face, Frame, Reading, Status
from mien.sources import Kind, Source, open_source
from mien.tasks import COMPOUND_SCORES, COMPOUNDS, Floats, Task, both_members
from mien.temporal.readings import Smoothing, fill_gaps, smooth

__all__ = ["Pipeline", "newest", "read_ahead"]

BATCH: Final = 16
"""Faces scored together."""
AHEAD_BYTES: Final = 16 << 20
"""Decoded frames that may wait for the finder, bytes."""

_DONE: Final = np.empty((0, 0, 3), np.uint8)
"""Stands for the picture of a frame whose faces are cut out, so that a batch does not keep whole frames alive."""

Image = NDArray[np.uint8]
_Frames = Queue[Frame | BaseException | None]


@dataclass(frozen=True, slots=True)
class _Look:
    """A frame with the faces found in it and their crops."""

    frame: Frame
    faces: list[Face]
    crops: list[Image]


class Pipeline:
    """Networks and options that read any number of sources, one at a time.

    Raises LabelMismatchError where compound expressions are asked for that the bundle's expressions do not allow.
    """

    def __init__(self, networks: Networks, options: Options) -> None:
        self.networks = networks
        self.options = options
        columns = list(chain.from_iterable(task.columns for task in networks.model.tasks))
        if isinstance(options.smoothing, Smoothing) and (
            strange := set(options.smoothing.keep) - {*columns, "AU45"}
        ):
            raise UnknownNameError("score column", min(strange), columns)
        families = {task.family for task in networks.model.tasks}
        # A bundle that has learned compound expressions reads them itself, asked or not.
        self._compounds = options.compounds and "ce" not in families
        if self._compounds and networks.expressions is None:
            needed = ", ".join(dict.fromkeys(chain.from_iterable(COMPOUNDS.values())))
            raise LabelMismatchError(
                f"{networks.model.card.name}: compound expressions need scores of {needed}; leave compounds out, or name another bundle"
            )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the readings hold: the bundle's tasks, then compound expressions where they are asked for."""
        tasks = self.networks.model.tasks
        return (*tasks, COMPOUND_SCORES) if self._compounds else tasks

    def smoothing(self, live: bool = False) -> Smoothing | None:
        """How scores are smoothed over time; live: of a source whose future is not there yet."""
        smoothing = self.options.smoothing
        if not isinstance(smoothing, Smoothing):
            return None
        return replace(smoothing, causal=True) if live else smoothing

    def facts(self) -> dict[str, object]:
        """What decides the numbers besides the source: the bundles with their hashes and the options."""
        card, finder = self.networks.model.card, self.networks.finder
        options = asdict(self.options) | {"engine": self.networks.model.engine}
        if smoothing := self.smoothing():
            options["smoothing"] = asdict(smoothing) | {"fwhm_s": round(smoothing.fwhm_s, 4)}
        return {
            "bundle": {
                "name": card.name,
                "sha256": card.sha256,
                "learned_from": {spec.key: spec.supervised_by for spec in card.tasks},
                "never_right": card.never_right(),
                "limits": list(card.limits),
            },
            "faces": {"name": finder.name, "sha256": finder.sha256},
            "options": options,
        }

    def open(self, item: object, *, name: str | None = None, photos: bool = False) -> Source:
        """Open an input (see `open_source`) with the stream and the turn that the options ask for."""
        rotate = self.options.rotate
        source = (
            item
            if isinstance(item, Source)
            else open_source(item, name=name, photos=photos, stream=self.options.video_stream)
        )
        if isinstance(rotate, int):
            source.turn(rotate)
        elif rotate == "auto" and source.kind == "video" and (degrees := self._needed_turn(source)):
            source.turn(degrees)
            source.note(
                f"was turned clockwise by {degrees} degrees: only so are there faces in most of the frames that were looked at"
            )
        return source

    def _needed_turn(self, source: Source) -> int:
        """By how much a film must be turned, from frames at its start."""
        tracker, sampler = Tracker(self.networks.detector), TurnSampler(self.networks.detector)
        with closing(source.frames(SPACING_S)) as frames:
            for frame in frames:
                if frame.pixels is not None:
                    sampler.add(
                        frame.pixels,
                        frame.time_s,
                        upright=bool(tracker.update(frame.pixels, frame.time_s)),
                    )
                if sampler.done:
                    break
        return sampler.turn

    def read(self, source: Source) -> Generator[Reading, None, None]:
        """One reading per face per frame, in time order; one without a face where none is in view or a frame is unreadable.

        Of a live source each frame's readings come before the next frame is taken.
        Raises SourceError when nothing of the source can be read.
        """
        looks = self._find(_frames(source, self.options.every), source)
        readings = (
            self._score_each(looks) if source.live or source.kind == "image" else self._score(looks)
        )
        if smoothing := self.smoothing(source.live):
            readings = smooth(
                readings if source.live else fill_gaps(readings, smoothing.longest_gap_s),
                smoothing,
                self.tasks,
            )
        yield from readings

    def _find(self, frames: Iterator[Frame], source: Source) -> Iterator[_Look]:
        """Faces frame by frame. What is turned is noted at the end."""
        tracker = Tracker(self.networks.detector)
        sampler = (
            TurnSampler(self.networks.detector)
            if self.options.rotate == "check" and source.kind == "video"
            else None
        )
        pixels = self.networks.model.card.pixels
        # Live, nothing may be held back, so a face that a search finds has no rows before it.
        waits = not source.live and source.kind != "image"
        for frame, faces in (
            look_back(frames, tracker) if waits else _as_they_come(frames, tracker, source.kind)
        ):
            if frame.pixels is None:
                yield _Look(frame, [], [])
                continue
            if sampler is not None:
                sampler.add(frame.pixels, frame.time_s, upright=bool(faces))
            chosen = _chosen(faces, self.options.faces)
            crops = [prepare(frame.pixels, face, pixels) for face in chosen]
            yield _Look(replace(frame, pixels=_DONE), chosen, crops)
        if sampler is not None and sampler.turn:
            source.note(
                f"seems to be turned: most frames that were looked at show faces only after --rotate {sampler.turn} (or auto)"
            )
        elif tracker.turned_away:
            source.note(
                "faces that are seen better upside down or sideways were left out; see --rotate"
            )

    def _score(self, looks: Iterator[_Look]) -> Iterator[Reading]:
        """Score in batches, one of them in a thread while the caller's finds the next faces."""
        with ThreadPoolExecutor(1) as pool:
            waiting: deque[tuple[list[_Look], Future[dict[str, Floats]]]] = deque()
            for batch in _batches(looks, BATCH):
                waiting.append(
                    (
                        batch,
                        pool.submit(self._scores, [crop for look in batch for crop in look.crops]),
                    )
                )
                if len(waiting) > 1:
                    scored, scores = waiting.popleft()
                    yield from _readings(scored, scores.result())
            for scored, scores in waiting:
                yield from _readings(scored, scores.result())

    def _score_each(self, looks: Iterator[_Look]) -> Iterator[Reading]:
        """Score each frame at once, where it is found."""
        for look in looks:
            yield from _readings([look], self._scores(look.crops))

    def _scores(self, crops: Sequence[Image]) -> dict[str, Floats]:
        scores = self.networks.model.score_prepared(crops)
        if self._compounds and self.networks.expressions:
            scores["ce"] = both_members(scores["expr"], self.networks.expressions)
        return scores


def _as_they_come(
    frames: Iterator[Frame], tracker: Tracker, kind: Kind
) -> Iterator[tuple[Frame, list[Face]]]:
    """Each frame with its faces at once; frames that are separate pictures share no face."""
    for frame in frames:
        if kind == "image":
            tracker.forget()
        yield frame, [] if frame.pixels is None else tracker.update(frame.pixels, frame.time_s)


def _chosen(faces: list[Face], choice: Choice) -> list[Face]:
    """The faces asked for, still in track order."""
    if choice == "all":
        return faces
    count = 1 if choice == "largest" else choice
    largest = sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)[:count]
    return [face for face in faces if any(face is other for other in largest)]


def _batches(looks: Iterator[_Look], size: int) -> Iterator[list[_Look]]:
    """Consecutive looks with at least `size` crops together; a long stretch without faces is not held back."""
    batch: list[_Look] = []
    for look in looks:
        batch.append(look)
        if sum(len(one.crops) for one in batch) >= size or len(batch) >= 4 * size:
            yield batch
            batch = []
    if batch:
        yield batch


def _readings(looks: list[_Look], scores: Mapping[str, Floats]) -> Iterator[Reading]:
    row = 0
    for look in looks:
        source, index, time_s = look.frame.source, look.frame.index, look.frame.time_s
        if not look.faces:
            status = Status.unreadable if look.frame.pixels is None else Status.no_face
            yield Reading(source, index, time_s, status, None, {}, {})
        for face in look.faces:
            yield Reading(
                source,
                index,
                time_s,
                Status.ok,
                face,
                {family: values[row] for family, values in scores.items()},
                {},
            )
            row += 1


def _frames(source: Source, every: float) -> Iterator[Frame]:
    """The frames of a source, in the thread that suits it."""
    frames = source.frames(every)
    if source.kind == "camera":
        return newest(frames, source.note)
    return frames if source.live or source.kind == "image" else read_ahead(frames)


def read_ahead(frames: Generator[Frame, None, None]) -> Iterator[Frame]:
    """The same frames, decoded in a thread of their own while the caller works on earlier ones."""
    first = next(frames, None)
    if first is None:
        return
    depth = (
        2
        if first.pixels is None
        else int(np.clip(AHEAD_BYTES // max(first.pixels.nbytes, 1), 2, 32))
    )
    queue: _Frames = Queue(depth)
    queue.put(first)
    yield from _from_thread(frames, queue, _put)


def newest(frames: Generator[Frame, None, None], note: Callable[[str], None]) -> Iterator[Frame]:
    """The frames as they come, without those that came while the caller was at work on others: only the newest waits.

    So what is read is never older than one reading takes, however slow that is. At the end a note says how many were left out.
    """
    passed = 0

    def replace_waiting(queue: _Frames, item: Frame | BaseException | None, stop: Event) -> None:
        nonlocal passed
        if isinstance(item, Frame):
            with suppress(Empty):
                queue.get_nowait()
                passed += 1
        _put(queue, item, stop)

    try:
        yield from _from_thread(frames, Queue(1), replace_waiting)
    finally:
        if passed:
            note(
                f"{passed} frames came while others were read, and were left out; frame numbers count them"
            )


def _from_thread(
    frames: Generator[Frame, None, None],
    queue: _Frames,
    put: Callable[[_Frames, Frame | BaseException | None, Event], None],
) -> Iterator[Frame]:
    """Frames that a thread takes from their source and hands over through a queue."""
    stop = Event()
    thread = Thread(target=_fill, args=(frames, queue, stop, put), name="mien-decode", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _put(queue: _Frames, item: Frame | BaseException | None, stop: Event) -> None:
    """Wait until there is room."""
    while not stop.is_set():
        try:
            queue.put(item, timeout=0.1)
        except Full:
            continue
        return


def _fill(
    frames: Generator[Frame, None, None],
    queue: _Frames,
    stop: Event,
    put: Callable[[_Frames, Frame | BaseException | None, Event], None],
) -> None:
    try:
        for frame in frames:
            put(queue, frame, stop)
            if stop.is_set():
                return
        put(queue, None, stop)
    except BaseException as error:  # handed to the caller's thread, which raises it
        put(queue, error, stop)
    finally:
        frames.close()
