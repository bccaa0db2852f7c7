"""The sentence: frames, find, follow, prepare, score, smooth.

`Reader.read` is that sentence; the rest of this module says its words. Frames are decoded in one thread, faces found
in the caller's, and scored in a third, in batches.
"""

import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from math import inf
from numbers import Integral, Real
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np
from numpy.typing import NDArray

from mien.bundles.store import AFFECT, FACES, load, load_detector, open_bundle
from mien.errors import BundleError
from mien.faces.prepare import prepare
from mien.faces.track import Tracker
from mien.outputs.dictionary import write_dictionary
from mien.outputs.tables import TableWriter, columns, frame_of
from mien.records import Face, Frame, Reading, Status
from mien.sources import Source, expand, open_source
from mien.tasks import COMPOUNDS, TASKS, Floats, Task, compound_scores
from mien.temporal.readings import Smoothing, fill_gaps, smooth

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Analysis", "Options", "Reader", "analyze", "stamp"]

BATCH: Final = 16
"""Faces scored together."""
AHEAD_BYTES: Final = 16 << 20
"""Decoded frames that may wait for the finder, bytes."""

_DONE: Final = np.empty((0, 0, 3), np.uint8)
"""Stands for the picture of a frame whose faces are cut out, so that a batch does not keep whole frames alive."""

Image = NDArray[np.uint8]
Choice = Literal["all", "largest"] | int


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen about an analysis.

    bundle: name or folder of the bundle that reads affect.
    detector: name or folder of the bundle that finds faces.
    engine: what runs the network that reads affect: ``auto``, ``onnxruntime`` or ``openvino``. Faces are always found with ONNX Runtime.
    faces: ``all``, ``largest``, or how many of the largest faces of each frame to read.
    every: read the first frame of each span of this many seconds; 0 reads all frames.
    smoothing: how to smooth each face's scores over time: a `Smoothing`, seconds for a Gaussian one, or None.
        Cameras are always smoothed causally.
    """

    bundle: str | Path = AFFECT
    detector: str | Path = FACES
    engine: str = "auto"
    faces: Choice = "all"
    every: float = 0.0
    smoothing: Smoothing | float | None = None

    def __post_init__(self) -> None:
        """Bring numbers into one form. Raises ValueError for values that make no sense."""
        if self.faces not in ("all", "largest"):
            if not isinstance(self.faces, Integral) or isinstance(self.faces, bool) or self.faces < 1:
                raise ValueError(f"faces must be all, largest or a number from 1 up, got {self.faces!r}")
            object.__setattr__(self, "faces", int(self.faces))
        if not (isinstance(self.every, Real) and 0 <= float(self.every) < inf):
            raise ValueError(f"every must be 0 or more seconds, got {self.every!r}")
        object.__setattr__(self, "every", float(self.every))
        if isinstance(self.smoothing, Real):
            object.__setattr__(self, "smoothing", Smoothing(float(self.smoothing)) if self.smoothing else None)
        if not (self.smoothing is None or isinstance(self.smoothing, Smoothing)):
            raise ValueError(f"smoothing must be seconds, a Smoothing or None, got {self.smoothing!r}")
        for option, named in (("bundle", self.bundle), ("detector", self.detector)):
            object.__setattr__(self, option, os.path.abspath(named) if isinstance(named, Path) else str(named))


@dataclass(frozen=True, slots=True)
class _Look:
    """A frame with the faces found in it and their crops."""

    frame: Frame
    faces: list[Face]
    crops: list[Image]


class Reader:
    """Bundles, verified and loaded once, that read any number of sources, one at a time.

    Raises UnknownNameError, BundleError or MissingExtraError when a bundle or engine is not to be had.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.model = load(options.bundle, options.engine)
        if not self.model.tasks:
            raise BundleError(f"{self.model.card.name} gives features alone and reads no affect; train heads on it, or name another bundle")
        # Always with ONNX Runtime: frames and windows change their size, which OpenVINO is slow at.
        self._detector = load_detector(options.detector, engine="onnxruntime")
        self._finder = open_bundle(options.detector).card  # now: what lies there later is not what is used
        basic = set(chain.from_iterable(COMPOUNDS.values()))
        self._expressions = next((t.names for t in self.model.tasks if t.family == "expr" and basic <= set(t.names)), None)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the readings hold: the bundle's tasks, then compound expressions where its expressions allow them."""
        return (*self.model.tasks, TASKS["ce.abaw7"]) if self._expressions else self.model.tasks

    def read(self, source: Source) -> Generator[Reading, None, None]:
        """One reading per face per frame, in time order; one without a face where none is in view or a frame is unreadable.

        Raises SourceError when nothing of the source can be read.
        """
        frames = read_ahead(source.frames(self.options.every))
        looks = self._find(frames)
        readings = self._score(looks, 1 if source.kind == "camera" else BATCH)
        smoothing = self.options.smoothing
        if isinstance(smoothing, Smoothing):
            # Frames left out on purpose are no gap, and a camera's future is not there yet.
            gap_s, live = max(smoothing.longest_gap_s, 1.5 * self.options.every), source.kind == "camera"
            smoothing = replace(smoothing, longest_gap_s=gap_s, causal=smoothing.causal or live)
            readings = smooth(readings if live else fill_gaps(readings, gap_s), smoothing)
        yield from readings

    def facts(self) -> dict[str, object]:
        """What decides the numbers besides the source: the bundles with their hashes and the options."""
        return {
            "bundle": {"name": self.model.card.name, "sha256": self.model.card.sha256},
            "faces": {"name": self._finder.name, "sha256": self._finder.sha256},
            "options": asdict(self.options) | {"engine": self.model.engine},
        }

    def _find(self, frames: Iterator[Frame]) -> Iterator[_Look]:
        tracker = Tracker(self._detector, self.options.every)
        pixels = self.model.card.pixels
        for frame in frames:
            if frame.pixels is None:
                yield _Look(frame, [], [])
                continue
            faces = _chosen(tracker.update(frame.pixels, frame.time_s), self.options.faces)
            crops = [prepare(frame.pixels, face, pixels) for face in faces]
            yield _Look(replace(frame, pixels=_DONE), faces, crops)

    def _score(self, looks: Iterator[_Look], size: int) -> Iterator[Reading]:
        with ThreadPoolExecutor(1) as pool:
            waiting: deque[tuple[list[_Look], Future[dict[str, Floats]]]] = deque()
            for batch in _batches(looks, size):
                waiting.append((batch, pool.submit(self._scores, [crop for look in batch for crop in look.crops])))
                if len(waiting) > (size > 1):
                    yield from _readings(*waiting.popleft())
            while waiting:
                yield from _readings(*waiting.popleft())

    def _scores(self, crops: Sequence[Image]) -> dict[str, Floats]:
        scores = self.model.score_prepared(crops)
        if self._expressions:
            scores["ce"] = compound_scores(scores["expr"], self._expressions)
        return scores


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


def _readings(looks: list[_Look], scores: "Future[dict[str, Floats]]") -> Iterator[Reading]:
    row = 0
    done = scores.result()
    for look in looks:
        source, index, time_s = look.frame.source, look.frame.index, look.frame.time_s
        if not look.faces:
            status = Status.unreadable if look.frame.pixels is None else Status.no_face
            yield Reading(source, index, time_s, status, None, {}, {})
        for face in look.faces:
            yield Reading(source, index, time_s, Status.ok, face, {family: values[row] for family, values in done.items()}, {})
            row += 1


def read_ahead(frames: Generator[Frame, None, None]) -> Iterator[Frame]:
    """The same frames, decoded in a thread of their own while the caller works on earlier ones."""
    first = next(frames, None)
    if first is None:
        return
    depth = 2 if first.pixels is None else int(np.clip(AHEAD_BYTES // max(first.pixels.nbytes, 1), 2, 32))
    queue: Queue[Frame | BaseException | None] = Queue(depth)
    stop = Event()
    thread = Thread(target=_fill, args=(frames, queue, stop), name="mien-decode", daemon=True)
    thread.start()
    try:
        yield first
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _fill(frames: Generator[Frame, None, None], queue: "Queue[Frame | BaseException | None]", stop: Event) -> None:
    def put(item: Frame | BaseException | None) -> None:
        while not stop.is_set():
            try:
                queue.put(item, timeout=0.1)
            except Full:
                continue
            return

    try:
        for frame in frames:
            put(frame)
            if stop.is_set():
                return
        put(None)
    except BaseException as error:  # handed to the caller's thread, which raises it
        put(error)
    finally:
        frames.close()


def stamp(name: str) -> dict[str, object]:
    """What tells later whether an input is still the same: its name, size in bytes and time of the last change."""
    if not Path(name).is_file():
        return {"name": name, "bytes": None, "modified": time.time()}
    stat = Path(name).stat()
    return {"name": name, "bytes": stat.st_size, "modified": stat.st_mtime}


class Analysis:
    """What `analyze` returns: readings of one or several inputs, made when they are first asked for.

    Inputs are opened one at a time, and read anew for every loop over `readings()` until `frame` has been asked for; the rest reuses it.
    problems: one line for each damage met so far that did not stop the reading.
    """

    def __init__(self, inputs: Sequence[str | Source], reader: Reader) -> None:
        self.problems: list[str] = []
        self._inputs = inputs
        self._reader = reader
        self._kept: list[Reading] | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the readings hold, in column order."""
        return self._reader.tasks

    def readings(self) -> Generator[Reading, None, None]:
        """Readings in order of input and time; memory does not grow with their number. Raises SourceError as it meets it."""
        if self._kept is not None:
            yield from self._kept
            return
        self.problems = []
        for one in self._inputs:
            source = open_source(one) if isinstance(one, str) else one
            yield from self._reader.read(source)
            if source.problem:
                self.problems.append(f"{source.name}: {source.problem}")

    __iter__ = readings

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """The output table: one row per face per frame (columns: see the data dictionary)."""
        self._kept = list(self.readings())
        return frame_of(self._kept, columns(self.tasks, self._reader.options.smoothing is not None))

    def save(self, path: str | Path) -> Path:
        """Write the table to `path`; its suffix (.csv, .parquet, .jsonl) names the format. A data dictionary goes beside it.

        Raises UnknownNameError for another suffix, OutputError when it cannot be written.
        """
        path = Path(path)
        page = path.with_suffix(".dictionary.json")
        table = columns(self.tasks, self._reader.options.smoothing is not None)
        sources = [stamp(one if isinstance(one, str) else one.name) for one in self._inputs]
        with TableWriter(path.with_suffix(""), [path.suffix.removeprefix(".")], table) as writer:
            writer.write(self.readings())
            page.unlink(missing_ok=True)
        write_dictionary(page, table, self._reader.facts() | {"sources": sources, "files": [path.name], "problems": self.problems})
        return path


Input = str | Path | Image | Iterable[Image]


@overload
def analyze(inputs: Input | Sequence[str | Path], *, stream: Literal[True], **options: Any) -> Generator[Reading, None, None]: ...
@overload
def analyze(inputs: Input | Sequence[str | Path], *, stream: Literal[False] = False, **options: Any) -> Analysis: ...
def analyze(inputs: Input | Sequence[str | Path], *, stream: bool = False, **options: Any) -> Analysis | Generator[Reading, None, None]:
    """Read faces from photos, videos, folders, a camera or arrays.

    inputs: a path, folder, glob or ``camera:0``, a list of those, one RGB uint8 picture (H, W, 3), or an iterable of such.
    stream: return an iterator of `Reading` in constant memory, for live use, instead of an `Analysis`.
    options: the fields of `Options`.
    Raises SourceError for what is not there, UnknownNameError, BundleError or MissingExtraError at once, ValueError or TypeError for a
    wrong option. With several inputs, one that cannot be read raises SourceError when its turn comes; `mien.batch.run` goes on instead.

    >>> from mien.demo import portrait
    >>> table = analyze(portrait()).frame
    >>> table[["status", "expression"]].values.tolist()
    [['ok', 'happiness']]
    """
    reader = Reader(Options(**options))
    if isinstance(inputs, (str, Path)):
        inputs = [inputs]
    if isinstance(inputs, Sequence) and inputs and all(isinstance(one, (str, Path)) for one in inputs):
        names = expand(inputs)
        analysis = Analysis([open_source(names[0])] if len(names) == 1 else names, reader)
    else:
        analysis = Analysis([open_source(inputs)], reader)
    return analysis.readings() if stream else analysis
