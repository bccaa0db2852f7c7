"""Systems of several networks: a film read frame by frame gives what whole tables give, and damage is refused."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from small_judge import make_bundle
from typer.testing import CliRunner

import mien
from mien.bundles.card import SystemCard, hash_of_files, head_path, read_card
from mien.bundles.card_parts import NOT_FOR, Made, TaskCard, Terms
from mien.bundles.engines import available
from mien.bundles.plan import (
    BlendStep,
    CompoundStep,
    Head,
    HeadsStep,
    Kernel,
    OverrideStep,
    ScoreStep,
    SmoothStep,
    ThresholdStep,
    Window,
)
from mien.bundles.store import embedded, load
from mien.cli import app
from mien.data.drawn.faces import load_drawn
from mien.data.images import read_picture
from mien.errors import BundleError, UnknownNameError
from mien.evaluation.nested_tuning import decide
from mien.evaluation.predict import evaluate_bundle
from mien.evaluation.report import Report
from mien.metrics import ccc
from mien.records import Face, Reading, Status
from mien.systems.apply import apply_plan, centre_thresholds, plan_reach
from mien.systems.compounds import fill_and_smooth, zero_shot_compounds
from mien.systems.film import FilmCompounds, FrameFaces
from mien.systems.recording import Recording, WindowHead
from mien.systems.stream import compounds_of_frames
from mien.tasks import TASKS
from mien.train.bundle.measure_system import speed, system_tolerance
from mien.train.bundle.pack import write_bundle_files
from mien.train.inputs.windows import windows
from mien.train.open_model import table_for
from mien.train.settings.features import WindowSettings
from mien.train.settings.training import read_settings

RUN = CliRunner()
VA, AU, EXPR = TASKS["va"], TASKS["au.abaw12"], TASKS["expr.abaw8"]


def task_card(task):
    return TaskCard(
        key=task.key, names=task.names, kind=task.kind, low=task.low, high=task.high, supervised_by="nobody"
    )  # fmt: skip


def source(*tasks):
    columns = {task.family: tuple(range(len(task.names))) for task in tasks}
    return ScoreStep(do="score", member="one", tasks=tuple(map(task_card, tasks)), columns=columns)


PLANS = {
    "box": {"a": source(VA), "answer": SmoothStep(do="smooth", of="a", kernels={"va": Kernel(window=7)})},
    "gaussian": {
        "a": source(VA),
        "answer": SmoothStep(do="smooth", of="a", kernels={"va": Kernel(window=9, sigma=20.0, unit="frames")}),
    },
    "running mean": {
        "a": source(VA, AU),
        "answer": SmoothStep(do="smooth", of="a", kernels={"va": Kernel(alpha=9), "au": Kernel(alpha=7)}),
    },
    "chain": {
        "a": source(VA, EXPR, AU),
        "b": source(VA, EXPR, AU),
        "mean": BlendStep(do="blend", of=("a", "b"), weights={"va": (0.8, 0.2), "expr": (1, 1)}),
        "smooth": SmoothStep(do="smooth", of="mean", kernels={"expr": Kernel(window=5), "va": Kernel(alpha=2)}),
        "again": SmoothStep(do="smooth", of="smooth", kernels={"expr": Kernel(window=3, sigma=9.0)}),
        "sure": OverrideStep(do="override", of="again", by="b", threshold=0.4, columns=(0, 1, 2, 3, 4, 5, 6)),
        "answer": ThresholdStep(do="threshold", of="sure", values=tuple(np.linspace(0.1, 0.9, 12))),
    },
}  # fmt: skip


def signals(plan, rows, seed):
    """Scores (N, K) of the steps that run networks, as from networks."""
    draw = np.random.default_rng(seed)
    given = {}
    for name, step in plan.items():
        if isinstance(step, ScoreStep):
            given[name] = {}
            for spec in step.tasks:
                values = draw.normal(size=(rows, len(spec.names)))
                given[name][spec.task.family] = spec.task.decode(values)
    return given


@pytest.mark.parametrize("rows", [1, 2, 63, 400])
@pytest.mark.parametrize("name", PLANS)
def test_a_stream_gives_what_the_whole_table_gives(name, rows):
    plan = PLANS[name]
    given = signals(plan, rows, seed=rows)
    # With gaps, which matter to windows in frames.
    frames = np.cumsum(np.random.default_rng(1).integers(1, 4, rows))
    whole = apply_plan(plan, "answer", given, np.zeros(rows), frames)
    recording = Recording(plan, "answer")
    answers = []
    for row in range(rows):
        one = {step: {f: v[row] for f, v in by.items()} for step, by in given.items()}
        answers += recording.add(int(frames[row]), one, {})
    answers += recording.close()
    assert len(answers) == rows
    for family, values in whole.items():
        streamed = np.stack([answer[family] for answer in answers])
        np.testing.assert_allclose(streamed, values, atol=1e-10)


def test_memory_does_not_grow_with_the_film():
    plan = PLANS["chain"]
    recording = Recording(plan, "answer")
    before, after = plan_reach(plan, "answer")
    given = signals(plan, 50, seed=0)
    for row in range(3_000):
        one = {step: {f: v[row % 50] for f, v in by.items()} for step, by in given.items()}
        recording.add(row, one, {})
        assert len(recording._ready) + len(recording._waiting) <= before + after + 2 * 64


def cumulative(numbers):
    """A head that depends on the whole window: running sums, and those from behind."""
    return {"va": np.cumsum(numbers, axis=0)[:, :2] + np.cumsum(numbers[::-1], axis=0)[::-1, :2]}


@pytest.mark.parametrize("length", [2, 5, 32])
@pytest.mark.parametrize("gap", [1, 3])
def test_windows_are_those_of_training(length, gap):
    """Whatever the gaps: every row gets what the first window that holds it says."""
    draw = np.random.default_rng(length)
    frames = np.cumsum(draw.choice([1, 1, 1, 1, 2, 5], size=150))
    numbers = draw.normal(size=(150, 3))
    table = pd.DataFrame({"video": "a", "frame": frames})
    expected = np.full((150, 2), np.nan)
    for window in windows(table, WindowSettings(length=length, gap=gap)):
        held = window[window >= 0]
        scores = cumulative(numbers[held])["va"]
        fresh = np.isnan(expected[held, 0])
        expected[held[fresh]] = scores[fresh]
    head = WindowHead("a", "one", Window(length=length, gap=gap), cumulative)
    recording = Recording({"a": HeadsStep.model_construct(do="heads", member="one")}, "a", [head])
    answers = []
    for row in range(150):
        answers += recording.add(int(frames[row]), {}, {"one": numbers[row]})
    answers += recording.close()
    np.testing.assert_allclose(np.stack([answer["va"] for answer in answers]), expected, atol=1e-9)


def test_live_answers_come_at_once_and_look_back_only():
    plan = PLANS["box"]
    given = signals(plan, 30, seed=3)["a"]["va"]
    recording = Recording(plan, "answer", live=True)
    for row in range(30):
        [answer] = recording.add(row, {"a": {"va": given[row]}}, {})
        np.testing.assert_allclose(answer["va"], given[max(0, row - 7) : row + 1].mean(axis=0))


def test_centred_thresholds_decide_alike():
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 11, (500, 9)) / 10
    limits = np.arange(1, 10) / 10
    moved = centre_thresholds(scores, limits)
    assert ((moved >= 0) & (moved <= 1)).all()
    np.testing.assert_array_equal(decide(moved), decide(scores, limits))
    for column in range(9):  # and the order of faces stays
        order = np.argsort(scores[:, column], kind="stable")
        assert (np.diff(moved[order, column]) >= 0).all()


@pytest.mark.parametrize(("window", "sigma"), [(0, None), (10, None), (25, 1000.0)])
@pytest.mark.parametrize("aggregation", ["max", "largest", "mean"])
def test_compounds_of_a_film_are_those_of_its_whole_list(window, sigma, aggregation):
    """Frames with two faces, one or none: filled, smoothed, in blocks, equal to all at once."""
    step = CompoundStep(do="compounds", of="a", aggregation=aggregation, window=window, sigma=sigma)
    draw = np.random.default_rng(window)
    film = FilmCompounds(step, EXPR.names)
    counts = draw.choice([0, 0, 1, 2], size=500)
    counts[:7], counts[100:260], counts[-5:] = 0, 0, 0  # at both ends, and a long stretch
    whole, answers = np.full((500, 7), np.nan), []
    for number, count in enumerate(counts):
        expressions = draw.dirichlet(np.ones(8), size=count)
        areas = draw.uniform(1, 9, count)
        answers += film.add(FrameFaces(number, expressions, areas))
        if count:
            of_faces = zero_shot_compounds(expressions, EXPR.names)
            reduced = {
                "max": of_faces.max(0),
                "mean": of_faces.mean(0),
                "largest": of_faces[areas.argmax()],
            }
            whole[number] = reduced[aggregation]
        assert len(film._scores) <= 160 + 2 * window + 3 * 64
    answers += film.close()
    expected = fill_and_smooth(whole, np.zeros(500, int), np.arange(500), window, sigma)
    np.testing.assert_allclose(np.stack(answers), expected, atol=1e-9)


def test_a_film_without_a_face_has_no_compounds():
    film = FilmCompounds(CompoundStep(do="compounds", of="a", window=3), EXPR.names)
    answers = []
    for number in range(7_000):
        answers += film.add(FrameFaces(number))
        assert len(film._scores) <= 3_001
    assert answers + film.close() == [None] * 7_000


def linear_head(width, outputs, path, *, seed):
    """A network of one layer in ONNX, (N, D) or (N, T, D) -> (N, K) or (N, T, K) for each output."""
    draw = np.random.default_rng(seed)
    nodes, weights, values = [], [], []
    for family, count in outputs.items():
        weight = draw.normal(size=(width, count)).astype(np.float32) / width
        weights.append(numpy_helper.from_array(weight, f"{family}.weight"))
        nodes.append(helper.make_node("MatMul", ["numbers", f"{family}.weight"], [family]))
        values.append(helper.make_tensor_value_info(family, TensorProto.FLOAT, ["n", "t", family]))
    numbers = helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", "t", "d"])
    graph = helper.make_graph(nodes, "heads", [numbers], values, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A system of mien-s and mien-xs: heads over windows, blended with their own scores, smoothed."""
    folder = tmp_path_factory.mktemp("system") / "two"
    members = {}
    for name, bundle in {"small": "mien-s", "smaller": "mien-xs"}.items():
        shutil.copytree(embedded()[bundle], folder / "members" / name)
        card = folder / "members" / name / "card.json"
        members[name] = hashlib.sha256(card.read_bytes()).hexdigest()
    (folder / "heads").mkdir()
    wide = read_card(folder / "members" / "small" / "card.json")
    width = wide.exposed()
    over_time = Head(
        sha256=linear_head(width, {"va": 2}, folder / head_path("heads", 0), seed=0),
        first=0, end=width, tasks=(task_card(VA),), window=Window(length=8, gap=1),
    )  # fmt: skip
    own = {spec.task.family: spec for spec in wide.tasks}
    xs = {spec.task.family: spec for spec in read_card(folder / "members/smaller/card.json").tasks}
    assert own["va"].names == xs["va"].names
    steps = {
        "heads": HeadsStep(do="heads", member="small", heads=(over_time,)),
        "own": ScoreStep(do="score", member="smaller", tasks=(xs["va"],), columns={"va": (0, 1)}),
        "mean": BlendStep(do="blend", of=("heads", "own"), weights={"va": (0.5, 0.5)}),
        "smooth": SmoothStep(do="smooth", of="mean", kernels={"va": Kernel(window=4)}),
    }
    draft = SystemCard.model_construct(members=members, steps=steps)
    card = SystemCard(
        card=1, name="two", summary="Two networks.", sha256=hash_of_files(draft.files), licence="Apache-2.0",
        trained_on=(Terms(data="nothing", used_for="training", terms="none"),), scores=(), limits=("a test",),
        not_for=NOT_FOR, made=Made(recipe="none", seed=0, commit="none", cost="none"), reads="films",
        tasks=(task_card(VA),), tolerance=0.001, members=members, steps=steps, answer="smooth",
    )  # fmt: skip
    write_bundle_files(card, folder)
    return folder


def test_a_film_is_read_as_its_crops_are(system, clip):
    """The film's rows equal those of the crops of its faces, cut out one by one and read as a table."""
    loaded = mien.load(system)
    # Doubtful frames would be no part of the recording.
    readings = mien.analyze(clip, bundle=system, quality="none", stream=True)
    rows = [row for row in readings if row.face]
    assert len(rows) > 20
    found = []
    frames = {row.frame: row for row in rows}
    from mien.sources import open_source

    for frame in open_source(clip).frames():
        if frame.index in frames:
            found.append(loaded.cut(frame.pixels, frames[frame.index].face))
    table = loaded.finish(loaded.score_cuts(found), [row.face.track for row in rows], list(frames))
    streamed = np.stack([row.scores["va"] for row in rows])
    np.testing.assert_allclose(streamed, table["va"], atol=1e-5)
    assert np.abs(np.diff(streamed, axis=0)).max() > 0


def test_a_photo_is_a_film_of_one_frame(system):
    from mien.demo import portrait

    table = mien.analyze(portrait(), bundle=system).table
    assert table["status"].tolist() == ["ok"]
    assert table[["valence", "arousal"]].notna().all(axis=None)


def test_a_face_that_comes_back_begins_anew(system):
    """What was held back for a lost face is given when it is lost, in order."""
    loaded = mien.load(system)
    draw = np.random.default_rng(0)
    times = [*(np.arange(20) / 25), *(9 + np.arange(20) / 25)]
    crops = [draw.integers(0, 255, (80, 80, 3), np.uint8) for _ in times]
    given = loaded.signals(crops)
    face = Face((0, 0, 9, 9), np.zeros((5, 2)), 1.0, track=1)
    readings = []
    for i, time_s in enumerate(times):
        scores = {key: values[i] for key, values in given.items()}
        readings.append(Reading("a", i, float(time_s), Status.ok, face, scores, {}))
    streamed = list(loaded.over_time(readings))
    assert [reading.frame for reading in streamed] == list(range(40))
    apart = loaded.finish(given, np.repeat([0, 1], 20), range(40))
    np.testing.assert_allclose([r.scores["va"] for r in streamed], apart["va"], atol=1e-6)


def test_doubtful_readings_reach_no_other_row_of_a_system(system):
    loaded = mien.load(system)
    draw = np.random.default_rng(0)
    crops = [draw.integers(0, 255, (80, 80, 3), np.uint8) for _ in range(14)]
    given = loaded.signals(crops)
    face = Face((0, 0, 9, 9), np.zeros((5, 2)), 1.0, track=1)
    readings = []
    for i in range(14):
        status = Status.doubtful if i in {3, 4, 9} else Status.ok
        scores = {key: values[i] for key, values in given.items()}
        readings.append(Reading("a", i, i / 25, status, face, scores, {}))
    sound = [reading for reading in readings if reading.status is Status.ok]
    alone = [reading for reading in readings if reading.status is Status.doubtful]
    by_frame = {reading.frame: reading.scores["va"] for reading in loaded.over_time(sound)}
    for reading in alone:
        [photo] = loaded.over_time([reading])
        by_frame[reading.frame] = photo.scores["va"]
    streamed = list(loaded.over_time(readings))
    assert [reading.frame for reading in streamed] == list(range(14))
    # Windows of heads end at missing frames in both.
    for reading in streamed:
        np.testing.assert_allclose(reading.scores["va"], by_frame[reading.frame], atol=1e-6)


def test_compounds_of_a_frame_are_those_of_its_sound_faces():
    step = CompoundStep(do="compounds", of="x", mean="harmonic", window=1)
    names = TASKS["expr.ferplus8"].names
    new_film = partial(FilmCompounds, step, names)
    draw = np.random.default_rng(1)
    readings = []
    for frame in range(6):
        for track in (1, 2):
            at = Face((0, 0, 9.0 * track, 9), np.zeros((5, 2)), 1.0, track)
            is_doubtful = track == 2 or frame == 3
            status = Status.doubtful if is_doubtful else Status.ok
            scores = {"expr": draw.dirichlet(np.ones(len(names)))}
            readings.append(Reading("a", frame, frame / 25, status, at, scores, {}))
    sound = [reading for reading in readings if reading.status is Status.ok]
    both = list(compounds_of_frames(readings, new_film))
    streamed = [reading for reading in both if reading.status is Status.ok]
    missing = Reading("a", 3, 3 / 25, Status.no_face, None, {}, {})
    alone = list(compounds_of_frames([*sound[:3], missing, *sound[3:]], new_film))
    expected = [reading for reading in alone if reading.scores]
    for reading, other in zip(streamed, expected, strict=True):
        np.testing.assert_array_equal(reading.scores["ce"], other.scores["ce"])
    for reading, before in zip(both, readings, strict=True):
        if reading.status is Status.doubtful:
            [photo] = compounds_of_frames([replace(before, status=Status.ok)], new_film)
            np.testing.assert_array_equal(reading.scores["ce"], photo.scores["ce"])


def test_a_system_s_rows_are_judged_like_a_network_s(system, face, tmp_path):
    """Quality belongs to the face, whoever reads it, and passes through the steps over time."""
    judge = make_bundle(tmp_path / "judge")
    dark = np.asarray(face * 0.3, np.uint8)
    film = [(i / 25, picture) for i, picture in enumerate([face, dark, face])]
    tables = [mien.analyze(film, bundle=name, quality=judge).table for name in (system, "mien-s")]
    columns = ["status", "quality", "occlusion", "pose_roll", "face_size", "sharpness", "light"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    assert tables[0]["status"].tolist() == ["ok", "doubtful", "ok"]


def test_a_live_source_is_answered_frame_by_frame(system, clip):
    """Each frame before the next one is taken, from the past alone; the first as if it were a photo."""
    from mien.sources import open_source

    taken = []

    def frames():
        for frame in list(open_source(clip).frames())[:20]:
            taken.append(frame.index)
            yield frame.time_s, frame.pixels

    rows = []
    for row in mien.analyze(frames(), bundle=system, live=True, stream=True):
        assert row.frame == len(taken) - 1
        rows.append(row)
    assert len(rows) == 20
    first = mien.analyze(next(open_source(clip).frames()).pixels, bundle=system).table
    np.testing.assert_allclose(
        rows[0].scores["va"], first[["valence", "arousal"]].iloc[0], atol=1e-4
    )


def test_single_crops_are_videos_of_their_own(system):
    draw = np.random.default_rng(0)
    crops = [draw.integers(0, 255, (80, 80, 3), np.uint8) for _ in range(5)]
    together = mien.load(system).score(crops)["va"]
    apart = np.concatenate([mien.load(system).score([crop])["va"] for crop in crops])
    np.testing.assert_allclose(together, apart, atol=1e-6)


@pytest.mark.skipif("openvino" not in available(), reason="OpenVINO is not here")
def test_another_engine_reads_it_with_the_same_scores(system, clip, tmp_path):
    """Members run with the engine that is asked for, heads over windows with ONNX Runtime."""
    draw = np.random.default_rng(0)
    crops = [draw.integers(0, 255, (80, 80, 3), np.uint8) for _ in range(20)]
    answers = []
    for engine in ("onnxruntime", "openvino"):
        loaded = mien.load(system, engine=engine)
        assert loaded.engine == engine
        answers.append(loaded.finish(loaded.signals(crops), [0] * 20, range(20))["va"])
    tolerance = max(load(name).card.tolerance for name in ("mien-s", "mien-xs"))
    np.testing.assert_allclose(*answers, atol=tolerance)
    command = ["analyze", str(clip), "--bundle", str(system), "--every", "0.2"]
    done = RUN.invoke(app, [*command, "--engine", "openvino", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    [table] = tmp_path.glob("*.csv")
    assert pd.read_csv(table)["valence"].notna().any()


def test_an_engine_that_is_none_is_named(system):
    with pytest.raises(UnknownNameError, match="tensorflow"):
        mien.load(system, engine="tensorflow")


def damage_head(folder):
    path = folder / "heads" / "heads-0.onnx"
    path.write_bytes(path.read_bytes()[:-9])


def change_card(folder, change):
    path = folder / "card.json"
    card = json.loads(path.read_text())
    change(card)
    files = SystemCard.model_construct(
        members=card["members"],
        steps={
            name: HeadsStep.model_validate(step) if step["do"] == "heads" else step
            for name, step in card["steps"].items()
        },
    ).files
    card["sha256"] = hash_of_files(files)
    path.write_text(json.dumps(card))


DAMAGE = {
    "a member is missing": (lambda f: shutil.rmtree(f / "members" / "small"), "members/small: missing"),
    "a member's network is altered": (
        lambda f: (f / "members/small/model.onnx").write_bytes((f / "members/smaller/model.onnx").read_bytes()),
        "members/small/model.onnx: altered",
    ),
    "a member is another": (
        lambda f: shutil.copyfile(f / "members/smaller/card.json", f / "members/small/card.json"),
        "members/small/card.json: altered",
    ),
    "a head is cut off": (damage_head, "heads-0.onnx: altered or incomplete"),
    "a head is missing": (lambda f: (f / "heads/heads-0.onnx").unlink(), "heads-0.onnx"),
    "a step reads a later one": (
        lambda f: change_card(f, lambda card: card["steps"]["mean"].update(of=["smooth", "own"])),
        "steps.mean: smooth is no step before it",
    ),
    "a member that is none": (
        lambda f: change_card(f, lambda card: card["steps"]["own"].update(member="nobody")),
        "steps.own: nobody is no member",
    ),
    "a family that nobody gives": (
        lambda f: change_card(f, lambda card: card["steps"]["smooth"].update(kernels={"au": {"window": 2}})),
        "steps.smooth: mean gives no au",
    ),
    "a column that is not there": (
        lambda f: change_card(f, lambda card: card["steps"]["own"].update(columns={"va": [0, 99]})),
        "steps.own: smaller does not give va",
    ),
    "too many numbers": (
        lambda f: change_card(f, lambda card: card["steps"]["heads"]["heads"][0].update(end=60_000)),
        "heads-0.onnx: reads the numbers 0 to 60000",
    ),
    "an answer that is none": (lambda f: change_card(f, lambda card: card.update(answer="none")), "answer: none is no step"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_system_is_refused_before_any_film(what, system, tmp_path, clip):
    folder = tmp_path / "two"
    shutil.copytree(system, folder)
    damage, message = DAMAGE[what]
    damage(folder)
    with pytest.raises(BundleError, match=message) as caught:
        mien.load(folder)
    assert "\n" not in str(caught.value)
    done = RUN.invoke(app, ["analyze", str(clip), "--bundle", str(folder), "--out", str(tmp_path / "out")])  # fmt: skip
    assert done.exit_code != 0
    assert not list((tmp_path / "out").glob("*.csv")) if (tmp_path / "out").exists() else True


def test_a_system_is_no_single_network(system):
    from mien.bundles.store import open_bundle

    with pytest.raises(BundleError, match="a system of several networks"):
        open_bundle(system)
    shown = RUN.invoke(app, ["bundles", "show", str(system)])
    assert shown.exit_code == 0
    assert "smooth (the answer)" in shown.output


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Settings of a label file: two recordings, their frames in no order and with gaps, and single faces."""
    folder = tmp_path_factory.mktemp("labelled")
    table = load_drawn(60, seed=4, size=80, tasks=[VA])
    names = [f"{i}.png" for i in range(60)]
    for name, image in zip(names, table["image"], strict=True):
        Image.fromarray(image).save(folder / name)
    draw = np.random.default_rng(0)
    video = [*"a" * 25, *"b" * 25, *[None] * 10]
    frame = np.r_[draw.choice(40, 25, replace=False), draw.permutation(25), np.full(10, np.nan)]
    columns = table.drop(columns=["image", "points", "video", "frame"])
    columns = columns.assign(image=names, video=video, frame=frame, split="test")
    columns.sample(frac=1, random_state=0).to_csv(folder / "labels.csv", index=False)
    page = {"name": "x", "data": [{"set": "file", "path": "labels.csv"}], "tasks": ["va"]}
    (folder / "settings.yaml").write_text(json.dumps(page | {"fit": {"find_points": False}}))
    return folder / "settings.yaml"


def test_a_label_table_is_read_recording_by_recording(system, labelled):
    """Each recording alone and in order gives the same scores; faces of none are read like photos."""
    loaded = mien.load(system)
    table = table_for(read_settings(labelled), [VA], loaded.pixels[0], "test")
    scored = evaluate_bundle(loaded, table)
    assert loaded.temporal_steps == ("heads", "smooth")
    for video, rows in scored.table.groupby("video"):
        ordered = rows.sort_values("frame")
        crops = [read_picture(image) for image in ordered["image"]]
        expected = loaded.finish(loaded.signals(crops), [video] * len(crops), ordered["frame"])
        actual = scored.scores["va"][scored.table.index.get_indexer(ordered.index)]
        np.testing.assert_allclose(actual, expected["va"], atol=1e-6)
    alone = scored.table["video"].isna().to_numpy()
    crops = [read_picture(image) for image in scored.table["image"][alone]]
    np.testing.assert_allclose(scored.scores["va"][alone], loaded.score(crops)["va"], atol=1e-6)
    _, recordings, single = scored.notes
    assert "50 faces of 2 recordings in the order of their frames (heads, smooth)" in recordings
    assert single.startswith("10 faces are of no recording: two read each by itself")


@pytest.mark.skipif("openvino" not in available(), reason="OpenVINO is not here")
def test_the_tolerance_is_half_as_much_again_as_the_engines_differ(system, labelled):
    loaded = [mien.load(system, engine=engine) for engine in ("onnxruntime", "openvino")]
    table = table_for(read_settings(labelled), [VA], loaded[0].pixels[0], "test")
    tolerance, limits = system_tolerance(system, table)
    one, other = (evaluate_bundle(each, table).scores["va"] for each in loaded)
    assert tolerance == pytest.approx(max(1.5 * np.abs(one - other).max(), 0.001), abs=5e-4)
    assert limits == ()


def test_speed_is_stated_beside_the_usual_network(system):
    """The system has mien-s as a member, and another network and a head besides."""
    stated = re.fullmatch(
        r"(\d+\.\d) ms per face on one thread of .+, (\d+\.\d) times mien-s", speed(system)
    )
    assert stated is not None
    assert float(stated[1]) > 0
    assert float(stated[2]) > 0


def test_a_system_is_evaluated_like_a_bundle(system, labelled, tmp_path):
    command = ["evaluate", str(system), "--data", str(labelled), "--split", "test"]
    done = RUN.invoke(app, [*command, "--out", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report" / "evaluation.json").read_text()
    [evaluation] = Report.model_validate_json(page).evaluations
    loaded = mien.load(system)
    table = table_for(read_settings(labelled), [VA], loaded.pixels[0], "test")
    scored = evaluate_bundle(loaded, table)
    truth = scored.table[["valence", "arousal"]].to_numpy(np.float64)
    for column, name in enumerate(VA.names):
        value = evaluation.tasks[0].by_name[name]["ccc"].value
        assert value == pytest.approx(ccc(scored.scores["va"][:, column], truth[:, column]))
    assert "of no recording" in done.output
    # A damaged system is refused before any picture is read.
    broken = tmp_path / "broken"
    shutil.copytree(system, broken)
    damage_head(broken)
    command[1] = str(broken)
    done = RUN.invoke(app, command)
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "heads-0.onnx: altered or incomplete" in done.output
