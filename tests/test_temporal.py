"""Smoothing and gap filling: against formulas, against a brute-force copy, and as streams."""

import math
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import SourceError
from mien.records import Face, Reading, Status
from mien.tasks import Task
from mien.temporal.gaps import fill_gaps
from mien.temporal.readings import Kernel, Smoothing, smooth

Array = NDArray[np.float64]
KERNELS: list[Kernel] = ["gaussian", "box", "exponential"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def face(track: int | None = 1, x: float = 0.0, confidence: float = 0.9) -> Face:
    return Face((x, 2 * x, 50.0 + x, 60.0), np.full((5, 2), x), confidence, track)


def ok(frame: int, time_s: float, track: int | None = 1, x: float = 0.0, **scores: Any) -> Reading:
    return Reading(
        "clip",
        frame,
        time_s,
        Status.ok,
        face(track, x),
        {k: np.atleast_1d(v) for k, v in scores.items()},
        {},
    )


def blank(frame: int, time_s: float, status: Status = Status.no_face) -> Reading:
    return Reading("clip", frame, time_s, status, None, {}, {})


def clip(values: Iterable[float], fps: float = 25.0, track: int = 1) -> list[Reading]:
    return [ok(i, i / fps, track, va=float(v)) for i, v in enumerate(values)]


def va(readings: Iterable[Reading], track: int = 1) -> Array:
    return np.array(
        [r.scores["va"][0] for r in readings if r.face and r.face.track == track and r.scores]
    )


def kernel_at(smoothing: Smoothing, dt: float) -> float:
    """The kernel's formula once more, with its cut, for one distance in seconds."""
    distance, s = abs(dt), smoothing.seconds
    cut = {"gaussian": 3 * s, "box": s, "exponential": 5 * s}[smoothing.kernel]
    if distance > cut + 1e-6 or (smoothing.causal and dt > 0):
        return 0.0
    return {
        "gaussian": math.exp(-(distance**2) / (2 * s**2)),
        "box": 1.0,
        "exponential": math.exp(-distance / s),
    }[smoothing.kernel]


def brute_force(readings: list[Reading], smoothing: Smoothing) -> list[Array]:
    """Every pair of readings is looked at; a stretch number per track stands for the gap rule."""
    stretch: dict[int, tuple[int, float]] = {}
    rows = []
    for r in readings:
        assert r.face is not None
        track = r.face.track or 0
        number, last = stretch.get(track, (0, r.time_s))
        number += r.time_s - last > smoothing.longest_gap_s + 1e-6
        stretch[track] = (number, r.time_s)
        rows.append((track, number, r.time_s, np.concatenate(list(r.scores.values()))))
    out = []
    for track, number, time_s, _ in rows:
        found = [
            (kernel_at(smoothing, t - time_s), v)
            for k, n, t, v in rows
            if (k, n) == (track, number)
        ]
        out.append(sum(w * v for w, v in found) / sum(w for w, _ in found))
    return out


def wild(seed: int, frames: int = 160) -> list[Reading]:
    """Three tracks that come and go, at irregular times, with a few long breaks."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(
        rng.uniform(0.01, 0.07, frames)
        + (rng.random(frames) < 0.03) * rng.uniform(0.2, 1.0, frames)
    )
    rows = []
    for i, time_s in enumerate(times.tolist()):
        for track in (1, 2, 3):
            if rng.random() < (0.9, 0.5, 0.15)[track - 1]:
                rows.append(
                    ok(
                        i,
                        time_s,
                        track,
                        expr=rng.dirichlet(np.ones(8)),
                        va=rng.uniform(-1, 1, 2),
                        au=rng.random(16),
                    )
                )
    return rows


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_brute_force(kernel: Kernel, causal: bool, seed: int) -> None:
    readings = wild(seed)
    smoothing = Smoothing(0.12, kernel, causal)
    found = [np.concatenate(list(r.scores.values())) for r in smooth(readings, smoothing)]
    np.testing.assert_allclose(found, brute_force(readings, smoothing), atol=1e-12)


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_order_originals_and_sums_are_kept(kernel: Kernel, causal: bool) -> None:
    readings = wild(2)
    smoothed = list(smooth(readings, Smoothing(0.2, kernel, causal)))
    assert len(smoothed) == len(readings)
    for before, after in zip(readings, smoothed, strict=True):
        assert (after.frame, after.time_s, after.face, after.status) == (
            before.frame,
            before.time_s,
            before.face,
            before.status,
        )
        assert after.raw is before.scores
        assert list(after.scores) == list(before.scores)
        assert {k: v.shape for k, v in after.scores.items()} == {
            k: v.shape for k, v in before.scores.items()
        }
        assert after.scores["expr"].sum() == pytest.approx(1, abs=1e-12)
        assert after.scores["expr"].min() >= 0
        assert np.abs(after.scores["va"]).max() <= 1


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_a_constant_stays_exactly(kernel: Kernel, causal: bool) -> None:
    assert set(va(smooth(clip([0.1] * 80), Smoothing(0.3, kernel, causal)))) == {0.1}


@every_kernel
def test_a_ramp_keeps_its_interior(kernel: Kernel) -> None:
    smoothing = Smoothing(0.1, kernel)
    ramp = np.linspace(-1, 1, 100)
    margin = math.ceil(smoothing.reach_s * 25)
    np.testing.assert_allclose(
        va(smooth(clip(ramp), smoothing))[margin:-margin], ramp[margin:-margin], atol=1e-12
    )


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_impulse_response_is_the_kernel(kernel: Kernel, causal: bool) -> None:
    smoothing = Smoothing(0.2, kernel, causal)
    impulse = np.zeros(201)
    impulse[100] = 1
    found = va(smooth(clip(impulse), smoothing))
    total = sum(kernel_at(smoothing, k / 25) for k in range(-100, 101))
    expected = [kernel_at(smoothing, (100 - i) / 25) / total for i in range(201)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(1, abs=1e-12)


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_25_and_60_frames_a_second_agree(kernel: Kernel, causal: bool) -> None:
    smoothing = Smoothing(0.3, kernel, causal)

    def at_whole_seconds(fps: int) -> Array:
        times = np.arange(12 * fps) / fps
        return va(smooth(clip(np.sin(1.5 * times), fps), smoothing))[3 * fps : 9 * fps : fps]

    slow, fast = at_whole_seconds(25), at_whole_seconds(60)
    np.testing.assert_allclose(slow, fast, atol=0.02 if causal else 2e-3)
    assert np.abs(slow - np.sin(1.5 * np.arange(3, 9))).max() > 0.01


@every_kernel
def test_tracks_do_not_mix(kernel: Kernel) -> None:
    rng = np.random.default_rng(3)
    one, two = (clip(rng.random(60), track=track) for track in (1, 2))
    together = list(
        smooth([r for pair in zip(one, two, strict=True) for r in pair], Smoothing(0.2, kernel))
    )
    np.testing.assert_array_equal(va(together, 1), va(smooth(one, Smoothing(0.2, kernel))))
    np.testing.assert_array_equal(va(together, 2), va(smooth(two, Smoothing(0.2, kernel)), 2))


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_long_gaps_are_not_bridged_and_short_ones_are(kernel: Kernel, causal: bool) -> None:
    def after_break(seconds: float) -> Array:
        readings = [ok(i, i / 25, va=0.0) for i in range(10)] + [
            ok(99 + i, 9 / 25 + seconds + i / 25, va=1.0) for i in range(10)
        ]
        return va(smooth(readings, Smoothing(1.0, kernel, causal, longest_gap_s=0.5)))

    np.testing.assert_array_equal(after_break(0.51), [0.0] * 10 + [1.0] * 10)
    assert after_break(0.5)[10] < 1


def test_a_gap_is_seen_even_while_other_rows_go_on() -> None:
    rows = [
        ok(0, 0.0, va=0.0),
        *[ok(i, i / 10, 2, va=0.5) for i in range(1, 7)],
        blank(7, 0.7),
        ok(8, 0.8, va=1.0),
    ]
    assert va(smooth(rows, Smoothing(2.0, "box"))).tolist() == [0.0, 1.0]


@every_kernel
@pytest.mark.parametrize("seed", [4, 5])
def test_causal_never_reads_the_future(kernel: Kernel, seed: int) -> None:
    readings, smoothing = wild(seed, 60), Smoothing(0.2, kernel, causal=True)
    whole = list(smooth(readings, smoothing))
    for cut in range(1, len(readings), 7):
        other = [
            replace(r, scores={k: np.zeros_like(v) for k, v in r.scores.items()})
            for r in readings[cut:]
        ]
        for future in ([], other):
            for before, after in zip(
                whole[:cut], smooth(readings[:cut] + future, smoothing), strict=False
            ):
                np.testing.assert_array_equal(before.scores["va"], after.scores["va"])


def test_causal_holds_nothing_back() -> None:
    taken: list[Reading] = []

    def watched() -> Iterator[Reading]:
        for r in wild(6):
            taken.append(r)
            yield r

    for emitted, _ in enumerate(smooth(watched(), Smoothing(0.5, causal=True)), start=1):
        assert len(taken) == emitted


@every_kernel
def test_look_ahead_is_the_reach_and_no_more(kernel: Kernel) -> None:
    smoothing = Smoothing(0.1, kernel)
    latest = 0.0

    def watched() -> Iterator[Reading]:
        nonlocal latest
        for r in clip(np.zeros(200)):
            latest = r.time_s
            yield r

    for r in smooth(watched(), smoothing):
        assert latest - r.time_s < smoothing.reach_s + 0.04 + 1e-5
        assert latest - r.time_s > smoothing.reach_s or latest == 199 / 25


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_doubtful_readings_reach_no_other_row(kernel: Kernel, causal: bool) -> None:
    """Sound rows are smoothed as if the doubtful ones were not there, gaps beside them included."""
    rng = np.random.default_rng(5)
    rows: list[Reading] = []
    for row in wild(5):
        rows.append(replace(row, status=Status.doubtful) if rng.random() < 0.3 else row)
    others: list[Reading] = []
    for row in rows:
        scores = {key: 1 - values for key, values in row.scores.items()}
        others.append(replace(row, scores=scores) if row.status is Status.doubtful else row)
    # A track that is doubtful for long starts over, as an unseen one does.
    smoothing = Smoothing(0.12, kernel, causal)
    out = list(smooth(fill_gaps(rows, 0.5), smoothing))
    out_of_others = list(smooth(fill_gaps(others, 0.5), smoothing))
    assert {Status.ok, Status.doubtful, Status.gap} == {row.status for row in out}
    for row, other in zip(out, out_of_others, strict=True):
        if row.status is not Status.doubtful:
            assert_same_scores(row, other)
    doubtful = [row for row in rows if row.status is Status.doubtful]
    smoothed = [row for row in out if row.status is Status.doubtful]
    for row, before in zip(smoothed, doubtful, strict=True):
        assert row.scores == row.raw == before.scores
    sound = [row for row in rows if row.status is Status.ok]
    smoothed = [row for row in smooth(rows, smoothing) if row.status is Status.ok]
    for row, expected in zip(smoothed, smooth(sound, smoothing), strict=True):
        assert_same_scores(row, expected)


def assert_same_scores(row: Reading, other: Reading) -> None:
    assert row.scores.keys() == other.scores.keys()
    for family, values in row.scores.items():
        np.testing.assert_array_equal(values, other.scores[family])


def test_gaps_beside_doubtful_readings_have_a_face_and_no_scores() -> None:
    rows = [ok(0, 0.0, x=0.0, va=0.0), blank(1, 0.1), ok(2, 0.2, x=8.0, va=1.0)]
    for end in (0, 2):
        marked = list(rows)
        marked[end] = replace(rows[end], status=Status.doubtful)
        gap = list(fill_gaps(marked, 0.5))[1]
        assert gap.status is Status.gap
        assert gap.face is not None
        assert gap.face.box[0] == 4.0
        assert (gap.scores, gap.raw) == ({}, {})


def test_rows_without_scores_or_track_pass_through() -> None:
    rows = [
        ok(0, 0.0, va=0.0),
        blank(1, 0.04),
        blank(2, 0.08, Status.unreadable),
        ok(3, 0.12),
        ok(4, 0.16, None, va=0.7),
        ok(5, 0.2, va=1.0),
    ]
    out = list(smooth(rows, Smoothing(1.0, "box")))
    assert all(a is b for a, b in zip(out[1:5], rows[1:5], strict=True))
    assert va(out).tolist() == [0.5, 0.5]


def test_smoothing_twice_keeps_the_first_originals() -> None:
    rows = clip([0, 1, 0, 1])
    twice = smooth(smooth(rows, Smoothing(0.1)), Smoothing(0.1))
    assert [r.raw["va"][0] for r in twice] == [0, 1, 0, 1]


def test_float32_scores_and_any_order_of_tasks() -> None:
    one = {"expr": np.array([0.25, 0.75], np.float32), "va": np.array([0.5], np.float32)}
    rows = [
        replace(ok(0, 0.0), scores=one),
        replace(ok(1, 0.04), scores=dict(reversed(one.items()))),
    ]
    for r in smooth(rows, Smoothing(1.0)):
        assert r.scores["expr"].tolist() == [0.25, 0.75]
        assert r.scores["va"].tolist() == [0.5]


@pytest.mark.parametrize("later", [{"va": 0.1, "au": 0.5}, {"va": [0.1, 0.2]}, {"expr": 0.1}])
def test_a_track_cannot_change_its_tasks(later: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="clip, frame 1: a track cannot change its tasks"):
        list(smooth([ok(0, 0.0, va=0.1), ok(1, 0.04, **later)], Smoothing(1.0)))


@pytest.mark.parametrize(
    "stage", [lambda rows: smooth(rows, Smoothing(1.0)), lambda rows: fill_gaps(rows, 0.5)]
)
def test_time_running_backwards_is_an_error(
    stage: Callable[[list[Reading]], Iterator[Reading]],
) -> None:
    with pytest.raises(
        SourceError, match=r"clip, frame 1: time runs backwards, 0\.4 s after 0\.5 s"
    ):
        list(stage([ok(0, 0.5, va=0.1), ok(1, 0.4, va=0.2)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 0.0}, "seconds must be a positive number, got 0.0"),
        ({"seconds": math.nan}, "seconds must be a positive number"),
        ({"seconds": math.inf}, "seconds must be a positive number"),
        ({"seconds": 1.0, "longest_gap_s": 0.0}, "longest_gap_s must be positive"),
        ({"seconds": 1.0, "longest_gap_s": math.nan}, "longest_gap_s must be positive"),
        (
            {"seconds": 1.0, "kernel": "median"},
            "kernel must be one of gaussian, box, exponential, got 'median'",
        ),
    ],
)
def test_smoothing_checks_itself(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Smoothing(**settings)


def test_empty_streams() -> None:
    assert list(smooth([], Smoothing(1.0))) == []
    assert list(fill_gaps([], 1.0)) == []


def endless(every_s: float = 0.04) -> Iterator[Reading]:
    """A camera that never stops: a new track every 20 frames, a face missing now and then."""
    for i in count():
        yield (
            blank(i, i * every_s)
            if i % 9 == 8
            else ok(i, i * every_s, i // 20, expr=np.ones(8) / 8, au=np.ones(16))
        )


@pytest.mark.parametrize(
    "stage",
    [
        lambda s: smooth(s, Smoothing(0.2)),
        lambda s: smooth(s, Smoothing(0.2, causal=True)),
        lambda s: fill_gaps(s, 0.5),
    ],
    ids=["smooth", "causal", "fill_gaps"],
)
def test_an_endless_stream_runs_in_flat_memory(
    stage: Callable[[Iterator[Reading]], Iterator[Reading]],
) -> None:
    stream = stage(endless())
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(4):
            tracemalloc.reset_peak()
            assert sum(1 for _ in islice(stream, 1500)) == 1500
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert max(peaks[1:]) < 1.1 * peaks[0] + 20_000


def test_one_track_for_hours_keeps_a_window_only() -> None:
    stream = smooth((ok(i, i / 25, va=0.5) for i in count()), Smoothing(0.5))
    tracemalloc.start()
    try:
        sizes = [
            tracemalloc.get_traced_memory()[0]
            for _ in range(4)
            if sum(1 for _ in islice(stream, 2000))
        ]
    finally:
        tracemalloc.stop()
    assert max(sizes) - sizes[0] < 50_000


def statuses(readings: Iterable[Reading]) -> list[tuple[int, str, int | None]]:
    return [(r.frame, str(r.status), r.face.track if r.face else None) for r in readings]


def test_a_short_gap_is_filled_on_the_straight_line() -> None:
    first = replace(ok(0, 0.0, 1, 0.0, va=[0.0, 1.0]), face=face(1, 0.0, 0.9))
    last = replace(ok(3, 0.4, 1, 8.0, va=[0.8, -1.0]), face=face(1, 8.0, 0.6))
    out = list(fill_gaps([first, blank(1, 0.1), blank(2, 0.3), last], 0.5))
    assert statuses(out) == [(0, "ok", 1), (1, "gap", 1), (2, "gap", 1), (3, "ok", 1)]
    assert out[0] is first
    assert out[3] is last
    for row, share in zip(out[1:3], (0.25, 0.75), strict=True):
        assert row.face is not None
        np.testing.assert_allclose(
            row.face.box, [8 * share, 16 * share, 50 + 8 * share, 60], atol=1e-12
        )
        np.testing.assert_allclose(row.face.points, np.full((5, 2), 8 * share), atol=1e-12)
        np.testing.assert_allclose(row.scores["va"], [0.8 * share, 1 - 2 * share], atol=1e-12)
        assert row.face.confidence == 0.6
    assert [r.time_s for r in out] == [0.0, 0.1, 0.3, 0.4]


def test_a_long_gap_stays_blank() -> None:
    rows = [ok(0, 0.0, va=0.0), *[blank(i, i / 10) for i in range(1, 6)], ok(6, 0.6, va=1.0)]
    assert [a is b for a, b in zip(fill_gaps(rows, 0.5), rows, strict=True)] == [True] * 7
    assert statuses(fill_gaps(rows, 0.6))[1:6] == [(i, "gap", 1) for i in range(1, 6)]


def test_beginning_and_end_are_never_filled() -> None:
    rows = [blank(0, 0.0), ok(1, 0.1, va=0.0), blank(2, 0.2)]
    assert list(fill_gaps(rows, 0.5)) == rows


def test_an_unreadable_frame_is_filled_or_stays() -> None:
    rows = [
        ok(0, 0.0, va=0.0),
        blank(1, 0.1, Status.unreadable),
        ok(2, 0.2, va=1.0),
        blank(3, 0.3, Status.unreadable),
    ]
    assert statuses(fill_gaps(rows, 0.5)) == [
        (0, "ok", 1),
        (1, "gap", 1),
        (2, "ok", 1),
        (3, "unreadable", None),
    ]


def test_rows_of_a_frame_come_by_track() -> None:
    rows = [
        ok(0, 0.0, 3, va=0.0),
        ok(0, 0.0, 1, va=0.0),
        ok(0, 0.0, None, va=0.0),
        ok(0, 0.0, 2, va=0.0),
        ok(1, 0.1, 3, va=0.0),
        ok(1, 0.1, None, va=0.0),
        ok(2, 0.2, 1, va=1.0),
        ok(2, 0.2, 3, va=0.0),
        ok(3, 0.3, 2, va=0.9),
    ]
    out = list(fill_gaps(rows, 0.5))
    assert statuses(out) == [
        (0, "ok", 1),
        (0, "ok", 2),
        (0, "ok", 3),
        (0, "ok", None),
        (1, "gap", 1),
        (1, "gap", 2),
        (1, "ok", 3),
        (1, "ok", None),
        (2, "ok", 1),
        (2, "gap", 2),
        (2, "ok", 3),
        (3, "ok", 2),
    ]
    assert [r.scores["va"][0] for r in out if r.status == "gap"] == pytest.approx([0.5, 0.3, 0.6])


def test_only_tasks_of_both_ends_are_filled() -> None:
    out = list(fill_gaps([ok(0, 0.0, va=0.0, au=1.0), blank(1, 0.1), ok(2, 0.2, va=1.0)], 0.5))
    assert list(out[1].scores) == ["va"]
    assert list(fill_gaps([ok(0, 0.0), blank(1, 0.1), ok(2, 0.2)], 0.5))[1].scores == {}


def test_smoothed_rows_are_filled_with_their_originals() -> None:
    rows = list(
        smooth([ok(0, 0.0, va=0.0), blank(1, 0.1), ok(2, 0.2, va=1.0)], Smoothing(1.0, "box"))
    )
    row = list(fill_gaps(rows, 0.5))[1]
    assert (row.scores["va"].tolist(), row.raw["va"].tolist()) == ([0.5], [0.5])


def test_filled_rows_take_part_in_smoothing() -> None:
    rows = [ok(0, 0.0, va=0.0), blank(1, 0.1), ok(2, 0.2, va=1.0)]
    out = list(smooth(fill_gaps(rows, 0.5), Smoothing(0.1, "box")))
    assert va(out).tolist() == pytest.approx([0.25, 0.5, 0.75])
    assert [r.raw["va"][0] for r in out] == [0.0, 0.5, 1.0]


def test_a_gap_of_exactly_the_limit_is_short_whatever_the_rounding() -> None:
    for start in np.linspace(0.1, 99.7, 50).tolist():
        rows = [ok(0, start, va=0.0), blank(1, start + 0.15), ok(2, start + 0.3, va=1.0)]
        assert statuses(fill_gaps(rows, 0.3))[1] == (1, "gap", 1)
        assert va(smooth(rows, Smoothing(9.0, "box", longest_gap_s=0.3)))[0] == 0.5


def test_equal_times_do_not_divide_by_zero() -> None:
    out = list(fill_gaps([ok(0, 1.0, va=0.2), blank(1, 1.0), ok(2, 1.0, va=0.4)], 0.5))
    assert out[1].scores["va"].tolist() == [0.2]


def test_frames_are_held_only_while_a_track_is_missing() -> None:
    latest = -1

    def watched(rows: list[Reading]) -> Iterator[Reading]:
        nonlocal latest
        for r in rows:
            latest = r.frame
            yield r

    for r in fill_gaps(watched(clip(np.zeros(50))), 0.5):
        assert latest - r.frame <= 1
    rows = [ok(0, 0.0, va=0.0)] + [blank(i, i / 10) for i in range(1, 40)]
    for r in fill_gaps(watched(rows), 0.5):
        assert latest - r.frame <= 7


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_filling_wild_streams(seed: int) -> None:
    rows = wild(seed)
    out = list(fill_gaps(rows, 0.3))
    kept = [r for r in out if r.status == "ok"]
    assert sorted(map(id, kept)) == sorted(map(id, rows))
    keys = [(r.frame, r.face.track or 0) for r in out if r.face]
    assert keys == sorted(set(keys))
    present = sorted({r.frame for r in rows})
    times = {r.frame: r.time_s for r in rows}
    for track in (1, 2, 3):
        seen = [r.frame for r in rows if r.face and r.face.track == track]
        wanted = {
            f
            for a, b in pairwise(seen)
            if times[b] - times[a] <= 0.3 + 1e-6
            for f in present
            if a < f < b
        }
        assert wanted == {
            r.frame for r in out if r.status == "gap" and r.face and r.face.track == track
        }


@pytest.mark.parametrize("longest_s", [0.0, -1.0, math.nan])
def test_fill_gaps_checks_its_limit_at_once(longest_s: float) -> None:
    with pytest.raises(ValueError, match="longest_s must be positive"):
        fill_gaps([], longest_s)


@every_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_the_width_is_where_the_weight_is_half(kernel: Kernel, causal: bool) -> None:
    smoothing = Smoothing(0.2, kernel, causal)
    far = np.linspace(-1.2, 1.2, 240_001)
    weights = np.array([kernel_at(smoothing, dt) for dt in far[::100]])
    wide = np.ptp(far[::100][weights >= 0.5 * weights.max()])
    assert smoothing.fwhm_s == pytest.approx(wide, abs=0.0025)
    assert Smoothing.of_width(0.3, kernel, causal).fwhm_s == pytest.approx(0.3)


def test_kept_columns_are_not_smoothed_and_the_rest_is() -> None:
    task = Task("au.two", ("AU12", "AU45"), "any_of")
    rows = [ok(i, i / 25, au=np.array([i % 2, i % 2], float)) for i in range(20)]
    both = [list(smooth(rows, Smoothing(0.1), tasks)) for tasks in ([task], [])]
    for before, kept, smoothed in zip(rows, *both, strict=True):
        assert kept.scores["au"][1] == before.scores["au"][1]
        assert (
            kept.scores["au"][0]
            == smoothed.scores["au"][0]
            == smoothed.scores["au"][1]
            != before.scores["au"][0]
        )


@pytest.mark.parametrize("width_s", [0.0, -0.1, math.nan, math.inf])
def test_a_width_is_a_positive_number(width_s: float) -> None:
    with pytest.raises(
        ValueError, match="the width of a smoothing must be a positive number of seconds"
    ):
        Smoothing.of_width(width_s)


@pytest.mark.parametrize("keep", ["AU45", (45,)])
def test_columns_to_keep_are_names(keep: Any) -> None:
    with pytest.raises(ValueError, match="keep must be names of columns"):
        Smoothing(0.1, keep=keep)
    assert Smoothing(0.1, keep=["AU25"]).keep == ("AU25",)  # type: ignore[arg-type]
