"""The pipeline: frames, find, follow, prepare, score, smooth.

`Pipeline.read` runs it; the rest of this module are its stages. Frames of recordings are decoded in
one thread, faces are found in the caller's, cut out in a third and scored in batches in a fourth.
Single pictures and live frames take the shortest way, through the caller's thread alone; a camera
and what else must not fall behind has a thread of its own, in which only the newest frame waits.
"""

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.analysis.cutting import (
    Cutting,
    Detections,
    FrameFaces,
    batches,
    cut_ahead,
    cut_out,
)
from mien.analysis.decoding import newest, read_ahead
from mien.analysis.landmarks import CutFace, leave_out_covered_points
from mien.analysis.networks import Networks
from mien.analysis.options import Choice, Options
from mien.analysis.quality import JudgedFace, leave_out_covered
from mien.bundles.card import AffectCard, AnyCard
from mien.bundles.identity import Identity, load_identity
from mien.bundles.model import Cut
from mien.errors import LabelMismatchError, SourceError, UnknownNameError
from mien.faces.lookback import look_back
from mien.faces.orientation import SPACING_S, TurnSampler
from mien.faces.people import People, check_installed
from mien.faces.track import Tracker
from mien.outputs.columns import Column, columns
from mien.records import Face, Frame, Quality, Reading, Status
from mien.sources import Kind, Source, open_source
from mien.systems.system import System
from mien.tasks import COMPOUND_SCORES, COMPOUNDS, Floats, Task, both_members
from mien.temporal.gaps import fill_gaps
from mien.temporal.one_euro import OneEuro, one_euro
from mien.temporal.readings import Smoothing, smooth

__all__ = ["Pipeline"]

# Faces scored together.
BATCH: Final = 16

# Batches that may wait to be scored. Where several faces are in view, looking back passes on the
# frames of half a second at once, and the caller's thread should not wait for all of them.
WAITING_BATCHES: Final = 8

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Scored:
    """Consecutive frames, and for all their faces in order the scores (N, K) and the rest."""

    frames: list[Detections]
    scores: dict[str, Floats]
    quality: list[Quality] | None
    landmarks: list[Floats] | None


class Pipeline:
    """Networks and options that read any number of sources, one at a time.

    Args:
        networks: The face detector and the network that reads affect.
        options: The options of the analysis.

    Raises:
        LabelMismatchError: Compound expressions are asked for and cannot be computed from the
            bundle's expressions.
        DataError: External features cannot be read, are missing, or are none the bundle reads.
        UnknownNameError: `Smoothing.keep` names a column that the bundle does not have.
        MissingExtraError: People are asked for, and what joins them is not installed.
    """

    def __init__(self, networks: Networks, options: Options) -> None:
        assert isinstance(options.features, tuple)
        self.networks = networks.with_features(options.features)
        # By content: a table of other features is another table.
        self._features = {path: _sha256(path) for path in options.features}
        self.options = options
        self._identity: Identity | None = None
        if options.people is not None:
            check_installed()
            self._identity = load_identity()
        tasks = networks.model.tasks
        if isinstance(options.smoothing, Smoothing | OneEuro):
            columns = list(chain.from_iterable(task.columns for task in tasks))
            # AU45 is kept by default, so it must be allowed for bundles without it.
            unknown = set(options.smoothing.keep) - {*columns, "AU45"}
            if unknown:
                raise UnknownNameError("score column", min(unknown), columns)
        # A bundle that has learned compound expressions reads them itself, asked or not.
        has_compounds = any(task.family == "ce" for task in tasks)
        self._composes = options.compounds and not has_compounds
        if self._composes and networks.expressions is None:
            needed = ", ".join(dict.fromkeys(chain.from_iterable(COMPOUNDS.values())))
            raise LabelMismatchError(
                f"{networks.model.card.name}: compound expressions need scores of {needed}; "
                "leave compounds out, or name another bundle"
            )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the readings: the bundle's, then compound expressions if asked for."""
        tasks = self.networks.model.tasks
        return (*tasks, COMPOUND_SCORES) if self._composes else tasks

    @property
    def uncertain_below(self) -> float | None:
        """Probability below which labels are left open, as on doubtful rows; None: they never are.

        0 where only those of doubtful rows are.
        """
        threshold = self.networks.model.card.uncertain_below
        if not self.options.abstain or (threshold is None and self.networks.judge is None):
            return None
        return threshold or 0.0

    def columns(self, live: bool = False) -> tuple[Column, ...]:
        """The columns of the tables of these readings.

        Args:
            live: For a live source, whose future cannot be waited for.

        Returns:
            The columns in table order, with what the data dictionary says of them.
        """
        judge = self.networks.judge
        card = self.networks.model.card
        presence = card.presence if isinstance(card, AffectCard) else None
        return columns(
            self.tasks,
            self.smoothing(live),
            quality=None if judge is None else judge.tasks,
            points=self.options.points,
            landmarks=self.options.landmarks,
            uncertain_below=self.uncertain_below,
            people=self._identity is not None,
            presence=presence,
        )

    def smoothing(self, live: bool = False) -> Smoothing | OneEuro | None:
        """How scores are smoothed over time.

        Args:
            live: For a live source, whose future cannot be waited for.

        Returns:
            The smoothing, causal for live sources; None where scores stay as they are.
        """
        smoothing = self.options.smoothing
        if isinstance(smoothing, Smoothing):
            return replace(smoothing, causal=True) if live else smoothing
        return smoothing if isinstance(smoothing, OneEuro) else None

    def facts(self) -> dict[str, object]:
        """What decides the numbers besides the source.

        Returns:
            The bundles with their hashes and the options, as the data dictionary records them.
        """
        card, finder = self.networks.model.card, self.networks.finder
        options = asdict(self.options)
        del options["features"]
        # Tables without people or landmarks stay as they were before there were such options.
        if self._identity is None:
            del options["people"]
        landmarker = self.networks.landmarker
        if landmarker is None:
            del options["landmarks"]
        # The engine that runs, not "auto".
        options["engine"] = self.networks.model.engine
        smoothing = self.smoothing()
        if isinstance(smoothing, Smoothing):
            options["smoothing"] = asdict(smoothing) | {"fwhm_s": round(smoothing.fwhm_s, 4)}
        elif smoothing is not None:
            options["smoothing"] = asdict(smoothing) | {"kernel": "one_euro"}
        bundle: dict[str, object] = {
            **_identity_of(card),
            "learned_from": {spec.key: spec.supervised_by for spec in card.tasks},
            "never_right": card.never_right(),
            "uncertain_below": card.uncertain_below,
            "limits": list(card.limits),
        }
        # A system's units are moved so that 0.5 is their threshold.
        if isinstance(card, AffectCard) and card.presence:
            bundle["presence"] = card.presence
        facts: dict[str, object] = {
            "bundle": bundle,
            "faces": _identity_of(finder),
            "options": options,
        }
        judge = self.networks.judge
        if judge is not None:
            facts["quality"] = {
                **_what_it_learned(judge.card),
                "doubtful_below": judge.card.doubtful_below,
            }
        if landmarker is not None:
            facts["landmarks"] = _what_it_learned(landmarker.card)
        if self._features:
            facts["features"] = self._features
        if self._identity is not None:
            facts["people"] = _identity_of(self._identity.card)
        return facts

    def open(self, item: object, *, name: str | None = None, photos: bool = False) -> Source:
        """Open an input, with the video stream and the turn that the options ask for.

        Args:
            item: An input, as `open_source` takes it, or an open source.
            name: Its name in the rows.
            photos: A sequence of pictures is photos rather than a video.

        Returns:
            The open source.

        Raises:
            SourceError: It cannot be read.
        """
        stream = self.options.video_stream
        if isinstance(item, Source):
            source = item
        else:
            source = open_source(item, name=name, photos=photos, stream=stream)
        rotate = self.options.rotate
        if isinstance(rotate, int):
            source.turn(rotate)
        elif rotate == "auto" and source.kind == "video":
            degrees = self._needed_turn(source)
            if degrees:
                source.turn(degrees)
                source.note(
                    f"was turned clockwise by {degrees} degrees: only so do faces stand upright in "
                    "most of the frames that were looked at"
                )
        return source

    def _needed_turn(self, source: Source) -> int:
        """By how many degrees a video must be turned, judged by frames at its start."""
        tracker = self._tracker()
        sampler = TurnSampler()
        with closing(source.frames(SPACING_S)) as frames:
            for frame in frames:
                if frame.pixels is not None:
                    sampler.add(tracker.update(frame.pixels, frame.time_s), frame.time_s)
                if sampler.done:
                    break
        return sampler.turn

    def _tracker(self) -> Tracker:
        return Tracker(self.networks.detector, self.options.min_face)

    def read(self, source: Source) -> Generator[Reading, None, None]:
        """Read a source, in time order.

        Of a live source each frame's readings come before the next frame is taken.

        Args:
            source: An open source.

        Yields:
            One reading per face per frame; one without a face where none is in view or the frame
            is unreadable.

        Raises:
            SourceError: Nothing of the source can be read, or people are asked for and it is live.
            DataError: External features are not of this film.
        """
        if isinstance(self.networks.model, System):
            for line in self.networks.model.fit_of(source.name, source.frame_hint):
                source.note(line)
        detected = self._find(_frames(source, self.options.every), source)
        if source.live or source.kind == "image":
            readings = self._score_each(detected)
        else:
            readings = self._score(detected)
        readings = iter(self.networks.model.over_time(readings, live=source.live))
        if self._composes:
            readings = self._composed(readings)
        # Before gaps are filled and scores smoothed, which would spread what is not seen.
        if self.networks.judge is not None and self.options.abstain:
            readings = leave_out_covered_points(leave_out_covered(readings, self.tasks))
        smoothing = self.smoothing(source.live)
        if smoothing:
            # Filling a gap needs its far side, which a live source has not reached yet.
            if not source.live:
                readings = fill_gaps(readings, smoothing.longest_gap_s)
            if isinstance(smoothing, OneEuro):
                readings = one_euro(readings, smoothing, self.tasks)
            else:
                readings = smooth(readings, smoothing, self.tasks)
        yield from readings

    def _find(self, frames: Iterator[Frame], source: Source) -> Iterator[FrameFaces]:
        """Each frame with the faces asked for; a note on turned film comes at the end."""
        tracker = self._tracker()
        sampler = TurnSampler()
        people = self._people_of(source)
        for frame, faces in _track(frames, tracker, source):
            chosen = _chosen(faces, self.options.faces)
            if frame.pixels is not None:
                sampler.add(faces, frame.time_s)
                if people is not None:
                    people.add(frame.pixels, frame.time_s, chosen)
            yield frame, chosen
        if people is not None:
            source.people = people.join()
        if self.options.rotate == "check" and source.kind == "video" and sampler.turn:
            source.note(
                "seems to be turned: in most frames that were looked at, faces stand upright only "
                f"after --rotate {sampler.turn} (or auto); they were read upright all the same"
            )

    def _people_of(self, source: Source) -> People | None:
        """What joins the tracks of a film; None where no people are asked for, or it is no film."""
        if self._identity is None:
            return None
        if source.live:
            raise SourceError(
                f"{source.name}: people are joined at the end of a film, and what is live has "
                "none; leave people out, or record it first"
            )
        if source.kind == "image":
            source.note("people are joined within one film; for photos `person` stays empty")
            return None
        assert self.options.people is not None
        card = self._identity.card
        return People(self._identity.describe, card.pixels, self.options.people, card.same_person)

    def _score(self, detected: Iterator[FrameFaces]) -> Iterator[Reading]:
        """Cut faces out and score them in threads, while the caller's finds the next."""
        with ThreadPoolExecutor(1) as cutter, ThreadPoolExecutor(1) as scorer:
            waiting: deque[Future[_Scored]] = deque()
            try:
                for batch in batches(cut_ahead(detected, self.networks, cutter), BATCH):
                    waiting.append(scorer.submit(self._scored, batch))
                    while waiting and (waiting[0].done() or len(waiting) > WAITING_BATCHES):
                        yield from self._readings(waiting.popleft().result())
                while waiting:
                    yield from self._readings(waiting.popleft().result())
            finally:
                # Whoever stops early waits for the batch that is being scored alone.
                for scored in waiting:
                    scored.cancel()

    def _score_each(self, detected: Iterator[FrameFaces]) -> Iterator[Reading]:
        """Score each frame at once, in the caller's thread."""
        for frame, faces in detected:
            detections = cut_out(frame, faces, self.networks)
            yield from self._readings(self._scored_together([detections]))

    def _scored(self, batch: list[Cutting]) -> _Scored:
        """Score all faces of these frames, once they are cut out."""
        return self._scored_together([cutting.future.result() for cutting in batch])

    def _scored_together(self, frames: list[Detections]) -> _Scored:
        """Score all faces of these frames, one call per network."""
        crops: list[Cut] = []
        judged: list[JudgedFace] = []
        cut: list[CutFace] = []
        for frame in frames:
            crops += frame.crops
            judged += frame.judged
            cut += frame.landmarks
        scores = self.networks.model.score_cuts(crops)
        judge, landmarker = self.networks.judge, self.networks.landmarker
        quality = None if judge is None else judge.judge(judged, scores)
        return _Scored(
            frames, scores, quality, None if landmarker is None else landmarker.locate(cut)
        )

    def _readings(self, scored: _Scored) -> Iterator[Reading]:
        """The readings of consecutive frames."""
        row = 0
        for detections in scored.frames:
            frame = detections.frame
            source, index, time_s = frame.source, frame.index, frame.time_s
            if not detections.faces:
                status = Status.unreadable if frame.pixels is None else Status.no_face
                yield Reading(source, index, time_s, status, None, {}, {})
            for number, face in enumerate(detections.faces, start=1):
                scores = {family: values[row] for family, values in scored.scores.items()}
                quality = None if scored.quality is None else scored.quality[row]
                status = self._status(quality)
                yield Reading(
                    source,
                    index,
                    time_s,
                    status,
                    face,
                    scores,
                    {},
                    quality,
                    remaining=len(detections.faces) - number,
                    landmarks=None if scored.landmarks is None else scored.landmarks[row],
                )
                row += 1

    def _status(self, quality: Quality | None) -> Status:
        """The status of a face that was scored."""
        judge = self.networks.judge
        if judge is None or quality is None or not judge.is_doubtful(quality):
            return Status.ok
        return Status.doubtful

    def _composed(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """The readings with compound expressions computed from their expressions."""
        names = self.networks.expressions
        assert names is not None
        for reading in readings:
            if not reading.scores:
                yield reading
                continue
            [compounds] = both_members(reading.scores["expr"][None], names)
            yield replace(reading, scores={**reading.scores, "ce": compounds})


def _identity_of(card: AnyCard) -> dict[str, object]:
    """Which bundle it is, as the data dictionary records it."""
    facts: dict[str, object] = {"name": card.name, "sha256": card.sha256}
    if card.version is not None:
        facts["version"] = card.version
    return facts


def _what_it_learned(card: AffectCard) -> dict[str, object]:
    """A bundle beside the one that reads affect, as the data dictionary records it."""
    return {
        **_identity_of(card),
        "learned_from": {spec.key: spec.supervised_by for spec in card.tasks},
        "limits": list(card.limits),
    }


def _sha256(path: str) -> str:
    """Hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _track(frames: Iterator[Frame], tracker: Tracker, source: Source) -> Iterator[FrameFaces]:
    """Each frame with its faces, tracked in the way that suits the source."""
    # Live, nothing may be held back, so a face that a search finds has no rows before it.
    if source.live or source.kind == "image":
        return _track_at_once(frames, tracker, source.kind)
    return look_back(frames, tracker)


def _track_at_once(frames: Iterator[Frame], tracker: Tracker, kind: Kind) -> Iterator[FrameFaces]:
    """Each frame with its faces at once; frames that are separate pictures share no face."""
    for frame in frames:
        if kind == "image":
            tracker.forget()
        faces: list[Face] = []
        if frame.pixels is not None:
            faces = tracker.update(frame.pixels, frame.time_s)
        yield frame, faces


def _area(face: Face) -> float:
    return face.box[2] * face.box[3]


def _chosen(faces: list[Face], choice: Choice) -> list[Face]:
    """The faces asked for, still in track order."""
    if choice == "all":
        return faces
    count = 1 if choice == "largest" else choice
    # By identity: faces hold arrays, which `in` cannot compare.
    largest = {id(face) for face in sorted(faces, key=_area, reverse=True)[:count]}
    return [face for face in faces if id(face) in largest]


def _frames(source: Source, every: float) -> Iterator[Frame]:
    """The frames of a source, from the thread that suits it."""
    frames = source.frames(every)
    if source.newest:
        return newest(frames, source)
    if source.live or source.kind == "image":
        return frames
    return read_ahead(frames)
