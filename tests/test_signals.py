"""Events in the films themselves: beeps and flashes, found at their time; and tiers of ELAN files."""

from fractions import Fraction

import av
import numpy as np
import pytest
from pympi import Elan

from mien.errors import SourceError, StudyError
from mien.study.episodes.events import read_events
from mien.study.episodes.signals import find_beeps, find_flashes, read_signals
from mien.study.project.settings import StudySettings, read_study
from mien.study.project.study import Study

RATE = 25
FRAME_S = 1 / RATE


def film(
    path,
    seconds=4.0,
    *,
    beeps=(),
    hz=1000.0,
    noise=0.02,
    flashes=(),
    luma=90,
    codec="aac",
    start_s=0.0,
    sound_rate=48_000,
):
    """A film of a noisy room; `beeps` and `flashes` are (onset, duration) from its first frame."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, time_base=Fraction(1, 1000))
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream(codec, rate=sound_rate, layout="mono") if codec else None
        for n in range(round(seconds * RATE)):
            time_s = n / RATE
            bright = any(on <= time_s + 1e-9 < on + long for on, long in flashes)
            level = luma[n] if np.ndim(luma) else luma
            pixels = np.full((120, 160, 3), level + 60 * bright, float)
            pixels += random.normal(0, 3, pixels.shape)
            picture = np.clip(pixels, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * (time_s + start_s)), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            wave = sound(seconds, beeps, hz, noise, sound_rate)
            for at in range(0, len(wave), 1024):
                part = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], "s16", "mono")
                part.sample_rate, part.time_base = sound_rate, Fraction(1, sound_rate)
                part.pts = at + round(start_s * sound_rate)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def sound(seconds, beeps, hz, noise, rate):
    random = np.random.default_rng(1)
    time = np.arange(round(seconds * rate)) / rate
    wave = random.normal(0, noise, len(time))
    # A voice: harmonics of 200 Hz that come and go, one of them at the frequency of the beep.
    voice = sum(np.sin(2 * np.pi * 200 * k * time) / k for k in range(1, 12))
    wave += 0.05 * voice * (np.sin(2 * np.pi * 1.3 * time) > 0)
    for onset, duration in beeps:
        wave += 0.3 * np.sin(2 * np.pi * hz * time) * ((time >= onset) & (time < onset + duration))
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mkv", {"codec": "pcm_s16le", "start_s": 3.0}),
        ("a.mp4", {"hz": 440.0, "sound_rate": 44_100}),
        ("a.mkv", {"hz": 3000.0, "sound_rate": 16_000, "codec": "libopus"}),
        ("a.mp4", {"noise": 0.08}),
    ],
    ids=str,
)
def test_beeps_are_found_at_their_time(tmp_path, name, options):
    beeps = [(0.613, 0.1), (1.5, 0.25), (3.017, 0.05)]
    path = film(tmp_path / name, beeps=beeps, **options)
    events = read_signals(path, "beep", options.get("hz", 1000.0), 3)
    assert list(events) == ["onset", "duration", "trial_type"]
    errors = events["onset"].to_numpy() - [onset for onset, _ in beeps]
    assert np.abs(errors).max() < 0.5 * FRAME_S
    assert events["duration"].tolist() == pytest.approx([long for _, long in beeps], abs=0.02)
    assert set(events["trial_type"]) == {"beep"}


def test_voices_and_hums_are_no_beeps(tmp_path):
    assert not len(find_beeps(film(tmp_path / "voice.mp4")))
    assert not len(find_beeps(film(tmp_path / "hum.mp4", beeps=[(0, 4)])))
    assert not len(find_beeps(film(tmp_path / "other.mp4", beeps=[(1, 0.2)], hz=1500.0)))
    assert not len(find_beeps(film(tmp_path / "tick.mp4", beeps=[(1, 0.01)])))


def test_an_echo_is_part_of_its_beep(tmp_path):
    path = film(tmp_path / "a.mp4", beeps=[(1, 0.1), (1.2, 0.1), (2, 0.1)])
    assert find_beeps(path)[:, 0] == pytest.approx([1, 2], abs=0.01)


def test_flashes_are_found_at_their_frame(tmp_path):
    flashes = [(0.64, 0.04), (1.2, 0.12), (2.8, 0.8)]
    path = film(tmp_path / "a.mkv", flashes=flashes, start_s=2.0, codec=None)
    events = read_signals(path, "flash", count=3)
    assert events["onset"].tolist() == pytest.approx([on for on, _ in flashes], abs=FRAME_S / 2)
    assert events["duration"].tolist() == pytest.approx([long for _, long in flashes], abs=FRAME_S)


def test_cuts_lamps_and_clouds_are_no_flashes(tmp_path):
    cut = np.where(np.arange(100) < 50, 60, 160)
    cloud = 100 + 50 * np.sin(np.arange(100) / 8)
    for name, luma in {"cut": cut, "cloud": cloud}.items():
        path = film(tmp_path / f"{name}.mp4", luma=luma, codec=None)
        assert not len(find_flashes(path)), name


def test_a_wrong_number_of_signals_is_one_line_with_their_times(tmp_path):
    path = film(tmp_path / "a.mp4", beeps=[(1, 0.1), (2, 0.1)], flashes=[(3, 0.1)])
    with pytest.raises(StudyError, match=r"1 beep of 1000 Hz expected .* found 2, at 1\.00\d, 2"):
        read_signals(path, "beep")
    with pytest.raises(StudyError, match="no beep of 2000 Hz is found; check the recording"):
        read_signals(path, "beep", 2000.0)
    assert len(read_signals(path, "beep", count="any")) == 2
    assert len(read_signals(path, "flash")) == 1
    silent = film(tmp_path / "b.mp4", codec=None)
    with pytest.raises(SourceError, match="has no sound"):
        read_signals(silent, "beep")
    with pytest.raises(StudyError, match="no flash is found"):
        read_signals(silent, "flash")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({}, "either file or signal"),
        ({"file": "a.eaf", "signal": "beep"}, "either file or signal"),
        ({"signal": "clap"}, "signal: Input should be 'beep' or 'flash'"),
        ({"signal": "flash", "hz": 900}, "hz: belongs to `signal: beep`"),
        ({"signal": "beep", "hz": 9000}, "hz: Input should be less than"),
        ({"signal": "beep", "tier": "a"}, "tier: belongs to a file"),
        ({"file": "a.csv", "count": 2}, "count: belongs to a signal"),
        ({"signal": "beep", "count": 0}, "count"),
        ({"signal": "beep", "tone": 900}, "tone: there is no such key"),
    ],
)
def test_keys_of_events_are_strict(events, message):
    with pytest.raises(ValueError, match=message):
        StudySettings(recordings={"pattern": "{participant}.mp4"}, events=events)


def test_signals_are_timed_from_the_start():
    with pytest.raises(ValueError, match="signals have times from the start"):
        StudySettings(
            recordings={"pattern": "{participant}.mp4"},
            events={"signal": "beep"},
            epochs={"clock": "container"},
        )


def elan_file(path):
    document = Elan.Eaf(author="somebody")
    document.remove_tier("default")
    document.add_tier("stimuli")
    document.add_annotation("stimuli", 2500, 3000, "joke")
    document.add_annotation("stimuli", 500, 1000, "")
    document.add_tier("notes")
    document.to_file(str(path))
    return path


def test_events_are_read_from_a_tier_of_elan(tmp_path):
    events = read_events(elan_file(tmp_path / "a.eaf"), "stimuli")
    assert events["onset"].tolist() == [0.5, 2.5]
    assert events["duration"].tolist() == [0.5, 0.5]
    assert events["trial_type"].tolist() == ["n/a", "joke"]
    assert read_events(tmp_path / "a.eaf", "notes").empty


def test_elan_files_that_cannot_be_read(tmp_path):
    path = elan_file(tmp_path / "a.eaf")
    with pytest.raises(StudyError, match="no tier 'stimulus', only stimuli, notes"):
        read_events(path, "stimulus")
    with pytest.raises(StudyError, match="a tier is named for ELAN files"):
        read_events(path)
    with pytest.raises(StudyError, match="a tier is named for ELAN files"):
        read_events(tmp_path / "a.tsv", "stimuli")
    with pytest.raises(StudyError, match="No such file"):
        read_events(tmp_path / "none.eaf", "stimuli")
    (tmp_path / "bad.eaf").write_text("<xml>")
    with pytest.raises(StudyError, match="no ELAN file that can be read"):
        read_events(tmp_path / "bad.eaf", "stimuli")


def test_a_study_finds_signals_in_its_films_before_it_reads_them(tmp_path):
    for person, onset in {"01": 1.2, "02": 2.4}.items():
        film(tmp_path / f"sub-{person}.mp4", beeps=[(onset, 0.1)])
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: 1\nrecordings: {pattern: 'sub-{participant}.mp4'}\nevents: {signal: beep}\n"
    )
    events = Study(path, read_study(path)).events
    onsets = {name: table["onset"].tolist() for name, table in events.items()}
    assert onsets == {
        "sub-01": [pytest.approx(1.2, abs=FRAME_S / 2)],
        "sub-02": [pytest.approx(2.4, abs=FRAME_S / 2)],
    }
    (tmp_path / "sub-03.csv").write_text("a\n")
    path.write_text(
        "study: 1\nrecordings: {pattern: 'sub-{participant}.csv'}\nevents: {signal: flash}\n"
    )
    with pytest.raises(StudyError, match="is a table, and signals are found in films"):
        Study(path, read_study(path))


def test_a_study_reads_elan_files(tmp_path):
    film(tmp_path / "sub-01.mp4", 1.0)
    elan_file(tmp_path / "sub-01.eaf")
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: 1\nrecordings: {pattern: 'sub-{participant}.mp4'}\n"
        "events: {file: 'sub-{participant}.eaf', tier: stimuli}\nepochs: {after_s: 1}\n"
    )
    assert Study(path, read_study(path)).events["sub-01"]["onset"].tolist() == [0.5, 2.5]
