"""A study whose truth is known: films of drawn people, at rest and while they hear jokes.

Its people are made up: every frame is drawn by `mien.data.drawn`. A smile is there from one
moment to the next, faster than a face can be, so that its onset is one moment, which no threshold
moves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.geometry import five_points
from mien.data.drawn.occluders import occlude
from mien.data.drawn.painter import draw
from mien.data.drawn.people import drawn_person
from mien.data.drawn.portrayal import UNITS, Person, Portrayal, Shot
from mien.errors import OutputError
from mien.files import Transaction, wrap_os_errors
from mien.outputs.video_writer import VideoWriter

__all__ = ["RECORDINGS", "DrawnRecording", "Span", "draw_study"]

Image = NDArray[np.uint8]

# Seeds of people whose smiles mien-s reads as such, by participant.
_PEOPLE: Final = {"01": 104, "02": 103, "03": 76, "04": 50, "05": 100}
_BYSTANDER: Final = 40
_SMILE: Final = {"AU06": 0.8, "AU12": 1.0, "AU25": 0.5}
# When the first joke is told, and how long after it the next one, s.
_JOKE_S: Final = 0.8
_EVERY_S: Final = 4.0
_SMILE_S: Final = 1.1
# At rest everybody smiles once.
_REST_SMILE_S: Final = (1.23, 1.83)
# When a mask is worn, the light is off, or the bystander smiles: after the first smile.
_DISTURBED_S: Final = (2.81, 3.79)
_DARKNESS: Final = 0.03
# Share of the film's height that a bystander's picture has.
_ASIDE: Final = 0.75
_ASPECT: Final = 16 / 9

_SETTINGS: Final = """\
# Written by `mien study demo`: drawn people, at rest and while they hear jokes. The session is the
# camera. What is shown when stands in truth.csv, which the study does not read.
study: 1
name: jokes
recordings:
  pattern: sub-{participant}_ses-{session}_task-{condition}.mp4
people:
  faces: largest
events: events.tsv
baseline:
  of: condition
  condition: rest
summaries:
  block_s: 2
epochs:
  before_s: 0.5
  after_s: 2.5
  baseline: [-0.5, 0]
groups:
  by: [condition]
contrasts:
  pairs: [[rest, jokes]]
  measures: [valence_corrected_mean, expr_happiness_share, smile_per_min, smile_present_share]
"""


@dataclass(frozen=True, slots=True)
class DrawnRecording:
    """A film of the study.

    Attributes:
        participant: Who is filmed.
        condition: ``rest`` or ``jokes``.
        rate: Frames per second.
        disturbance: What happens besides: ``mask``, ``dark`` or ``bystander``, or nothing.
    """

    participant: str
    condition: str
    rate: int
    disturbance: str = ""

    @property
    def session(self) -> str:
        """The camera, by its rate."""
        return f"{self.rate}fps"

    @property
    def name(self) -> str:
        """Its file's name, as BIDS has it."""
        return f"sub-{self.participant}_ses-{self.session}_task-{self.condition}.mp4"


RECORDINGS: Final = (
    DrawnRecording("01", "rest", 15),
    DrawnRecording("01", "jokes", 15),
    DrawnRecording("01", "jokes", 25),
    DrawnRecording("01", "jokes", 50),
    DrawnRecording("02", "rest", 25),
    DrawnRecording("02", "jokes", 25, "bystander"),
    DrawnRecording("03", "rest", 30),
    DrawnRecording("03", "jokes", 30, "mask"),
    DrawnRecording("04", "rest", 15),
    DrawnRecording("04", "jokes", 15, "dark"),
    DrawnRecording("05", "rest", 25),
    DrawnRecording("05", "jokes", 25),
)
"""The films; three cameras of different rates film the first participant's jokes at once."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a film shows for a while.

    Attributes:
        kind: ``smile``, or as `DrawnRecording.disturbance`.
        onset_s: When it begins, s.
        offset_s: When it ends, s.
    """

    kind: str
    onset_s: float
    offset_s: float

    def holds(self, time_s: float) -> bool:
        """Whether it is there.

        Args:
            time_s: Time from the film's start, s.

        Returns:
            True from the onset on, until the offset.
        """
        return self.onset_s <= time_s < self.offset_s


def draw_study(
    folder: str | Path,
    seconds: float = 12.0,
    height: int = 240,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Draw the films of a study, and write its settings, its events and its truth.

    Args:
        folder: Where to; made if missing.
        seconds: Duration of each film, s; every 4 s there is a joke.
        height: Height of the films, px.
        say: Hears the path of each film once it is drawn, which takes seconds.

    Returns:
        The study file: ``study.yaml``, beside ``events.tsv``, ``truth.csv`` (``participant``,
        ``condition``, ``session``, ``kind``, ``onset_s``, ``offset_s``) and the films.

    Raises:
        OutputError: There is a study already, or something cannot be written.
        ValueError: The films would be too short for a joke.
    """
    folder = Path(folder)
    path = folder / "study.yaml"
    if not seconds >= _EVERY_S:
        raise ValueError(f"seconds is {seconds}; give at least {_EVERY_S:g}, for one joke")
    if path.exists():
        raise OutputError(f"{path}: is there already; choose another folder, or move it away")
    with Transaction() as files:
        for recording in RECORDINGS:
            target = folder / recording.name
            _write_film(target, recording, (seconds, height), files)
            if say is not None:
                say(str(target))
        files.write(folder / "truth.csv", _truth(seconds).encode())
        files.write(folder / "events.tsv", _events(seconds).encode())
        files.write(path, _SETTINGS.encode())
        files.commit()
    return path


def _write_film(
    path: Path, recording: DrawnRecording, size: tuple[float, int], files: Transaction
) -> None:
    """Write a film of so many seconds and pixels of height."""
    seconds, height = size
    with wrap_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    writer = VideoWriter(path, None, (round(height * _ASPECT), height), recording.rate, files)
    writer.begin()
    try:
        for number, picture in enumerate(_pictures(recording, seconds, height)):
            writer.add(picture, number / recording.rate)
        writer.finish()
    finally:
        writer.drop()


def _jokes(seconds: float) -> list[float]:
    """When jokes are told, s: as many as there is time to smile at."""
    return [_JOKE_S + _EVERY_S * number for number in range(int(seconds // _EVERY_S))]


def _spans(recording: DrawnRecording, seconds: float) -> list[Span]:
    """All that a film shows for a while, in order of kind and time."""
    spans = [Span("smile", *_REST_SMILE_S)]
    if recording.condition == "jokes":
        spans = []
        for number, joke_s in enumerate(_jokes(seconds)):
            # Everybody takes a time of their own, and no onset falls on a frame of any camera.
            latency_s = 0.35 + 0.06 * int(recording.participant) + 0.04 * number
            onset_s = round(joke_s + latency_s, 2)
            spans.append(Span("smile", onset_s, round(onset_s + _SMILE_S, 2)))
    if recording.disturbance:
        spans.append(Span(recording.disturbance, *_DISTURBED_S))
    return spans


def _events(seconds: float) -> str:
    lines = ["onset\tduration\ttrial_type\tparticipant_id\tcondition"]
    for participant in _PEOPLE:
        for joke_s in _jokes(seconds):
            lines.append(f"{joke_s:g}\t0.3\tjoke\tsub-{participant}\tjokes")
    return "\n".join(lines) + "\n"


def _truth(seconds: float) -> str:
    lines = ["participant,condition,session,kind,onset_s,offset_s"]
    for recording in RECORDINGS:
        keys = f"{recording.participant},{recording.condition},{recording.session}"
        for span in _spans(recording, seconds):
            lines.append(f"{keys},{span.kind},{span.onset_s:.2f},{span.offset_s:.2f}")
    return "\n".join(lines) + "\n"


def _pictures(recording: DrawnRecording, seconds: float, height: int) -> Iterator[Image]:
    """The frames of a film, RGB uint8 (height, width, 3)."""
    person = drawn_person(np.random.default_rng(_PEOPLE[recording.participant]))
    bystander = drawn_person(np.random.default_rng(_BYSTANDER))
    spans = _spans(recording, seconds)
    for number in range(round(seconds * recording.rate)):
        time_s = number / recording.rate
        kinds = {span.kind for span in spans if span.holds(time_s)}
        shot = _shot(time_s, int(recording.participant))
        picture = _drawn(person, shot, "smile" in kinds, height, "mask" in kinds)
        aside = None
        if recording.disturbance == "bystander":
            shot = _shot(time_s, _BYSTANDER)
            aside = _drawn(bystander, shot, "bystander" in kinds, round(height * _ASIDE))
        frame = _composed(picture, aside)
        if "dark" in kinds:
            frame = np.asarray(frame * _DARKNESS, np.uint8)
        yield frame


def _shot(time_s: float, who: int) -> Shot:
    """How a frame is taken: the head sways, by the clock and not by the frame."""
    sway = np.sin(2 * np.pi * time_s * np.array([0.23, 0.31, 0.17]) + who)
    yaw, roll, x = (sway * (4, 3, 0.015)).tolist()
    return Shot(yaw=yaw, roll=roll, x=x, scale=0.8)


def _drawn(person: Person, shot: Shot, smiles: bool, size: int, masked: bool = False) -> Image:
    """A person, RGB uint8 (size, size, 3)."""
    units = _SMILE if smiles else {}
    portrayal = Portrayal(person, shot, tuple(units.get(name, 0.0) for name in UNITS))
    picture = draw(portrayal, size)
    if masked:
        points = five_points(portrayal) * size
        # The same seed in every frame, for it is the same mask.
        picture, _ = occlude(picture, points, "mask", np.random.default_rng(1))
    return picture


def _composed(picture: Image, aside: Image | None) -> Image:
    """The film's frame: one person in the middle, or at the left with another one beside."""
    height = len(picture)
    room = round(height * _ASPECT) - height
    left = 0 if aside is not None else room // 2
    edge = cv2.BORDER_REPLICATE
    frame = cv2.copyMakeBorder(picture, 0, 0, left, room - left, edge)
    if aside is not None:
        width = min(room, len(aside))
        middle = (len(aside) - width) // 2
        frame[height - len(aside) :, height : height + width] = aside[:, middle : middle + width]
    return np.asarray(frame, np.uint8)
