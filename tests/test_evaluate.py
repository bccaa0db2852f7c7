"""Evaluation: measures and intervals against scikit-learn and `mien.metrics`, protocols, groups, reports, temperature, robustness."""

import json
import math
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mien import metrics, protocols
from mien.bundles.store import load
from mien.errors import DataError, LabelMismatchError, OutputError, UnknownNameError
from mien.evaluation import group_sums as tallies
from mien.evaluation.calibration import HOTTEST, cross_fitted, loss_at, temperature
from mien.evaluation.corruptions import (
    CONDITIONS,
    apply,
    robustness,
    robustness_markdown,
    square_of,
)
from mien.evaluation.judge import evaluate_bundle, headline, judge, mean_over_runs
from mien.evaluation.plots import WIDTH, draw
from mien.evaluation.predict import score_pictures
from mien.evaluation.report import About, Report, markdown, write_report
from mien.evaluation.results import Evaluation
from mien.tasks import TASKS, Task

NAN = float("nan")
EXPR, VA, AU = TASKS["expr.abaw8"], TASKS["va"], TASKS["au.abaw12"]
GRADES = Task("au.grades", ("AU01", "AU12", "AU45"), "any_of")
ALL = (EXPR, VA, AU)
ABOUT = About(data="drawn numbers", split="val", run="run-1", date="2026-03-01")


def numbers(n=240, seed=0):
    """A label table of three tasks with gaps, in 12 videos, and scores that go some way with it."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(8, 0.3), n)
    va = rng.uniform(-1, 1, (n, 2))
    au = (rng.random((n, 12)) < 0.3).astype(float)
    scores = {
        "expr": EXPR.decode(2 * shares + rng.normal(0, 0.5, (n, 8))),
        "va": np.clip(0.6 * va + rng.normal(0, 0.3, va.shape), -1, 1),
        "au": np.clip(0.5 * au + rng.uniform(0, 0.55, au.shape), 0, 1),
    }
    shares[rng.random(n) < 0.2] = NAN
    va[rng.random(va.shape) < 0.1] = NAN
    au[rng.random(au.shape) < 0.3] = NAN
    columns = dict(
        zip([*EXPR.columns, *VA.columns, *AU.columns], np.hstack([shares, va, au]).T, strict=True)
    )
    video = [f"v{i:02d}" for i in np.sort(rng.integers(0, 12, n))]
    people = {
        "video": video,
        "subject": None,
        "sex": rng.choice(["f", "m"], n),
        "age": rng.choice(["old", "young"], n, p=[0.05, 0.95]),
    }
    return scores, pd.DataFrame({"image": "none.png", **people, **columns})


@pytest.fixture(scope="module")
def judged():
    scores, table = numbers()
    return (
        scores,
        table,
        judge(ALL, scores, table, rounds=300, protocols=["abaw2022.mtl"], by="age"),
    )


def of(evaluation, key):
    return next(result for result in evaluation.tasks if result.task == key)


def test_classes_are_counted_as_scikit_learn_counts_them(judged):
    scores, table, evaluation = judged
    result = of(evaluation, EXPR.key)
    seen = table[list(EXPR.columns)].notna().all(axis=1)
    truth = table.loc[seen, list(EXPR.columns)].to_numpy().argmax(axis=1)
    guess = scores["expr"][seen].argmax(axis=1)
    assert result.faces == seen.sum()
    assert result.confusion == tuple(map(tuple, sk.confusion_matrix(truth, guess, labels=range(8))))
    assert result.measures["accuracy"].value == pytest.approx(
        sk.accuracy_score(truth, guess), abs=1e-12
    )
    assert result.measures["macro_f1"].value == pytest.approx(
        sk.f1_score(truth, guess, average="macro", labels=range(8)), abs=1e-12
    )
    precision, recall, f1, count = sk.precision_recall_fscore_support(truth, guess, labels=range(8))
    for i, name in enumerate(EXPR.names):
        found = result.by_name[name]
        assert [found[m].value for m in ("precision", "recall", "f1")] == pytest.approx(
            [precision[i], recall[i], f1[i]], abs=1e-12
        )
        assert found["f1"].faces == count[i]


def test_reliability_bins_are_scikit_learns_and_make_ece(judged):
    scores, table, evaluation = judged
    result = of(evaluation, EXPR.key)
    seen = table[list(EXPR.columns)].notna().all(axis=1)
    probabilities, truth = (
        scores["expr"][seen],
        table.loc[seen, list(EXPR.columns)].to_numpy().argmax(axis=1),
    )
    right = probabilities.argmax(axis=1) == truth
    share, mean = calibration_curve(right, probabilities.max(axis=1), n_bins=15)
    bins = [b for b in result.reliability if b.faces]
    np.testing.assert_allclose([b.accuracy for b in bins], share, atol=1e-12)
    np.testing.assert_allclose([b.confidence for b in bins], mean, atol=1e-12)
    assert result.measures["ece"].value == pytest.approx(
        sum(b.faces * abs(b.accuracy - b.confidence) for b in bins) / seen.sum(), abs=1e-12
    )
    assert result.measures["ece"].value == pytest.approx(
        metrics.ece(probabilities, truth), abs=1e-12
    )


def test_units_are_judged_on_their_own_annotated_faces(judged):
    scores, table, evaluation = judged
    result = of(evaluation, AU.key)
    for i, name in enumerate(AU.names):
        seen = table[name].notna()
        truth, guess = table.loc[seen, name], scores["au"][seen, i] >= 0.5
        found = {m: one.value for m, one in result.by_name[name].items()}
        assert found == pytest.approx({
            "f1": sk.f1_score(truth, guess), "precision": sk.precision_score(truth, guess), "recall": sk.recall_score(truth, guess),
            "prevalence": truth.mean(),
        }, abs=1e-12)  # fmt: skip
    assert result.measures["mean_f1"].value == pytest.approx(
        np.mean([one["f1"].value for one in result.by_name.values()]), abs=1e-12
    )


def test_thresholds_move_decisions():
    scores, table = numbers()
    each = np.linspace(0.3, 0.7, 12)
    result = of(judge([AU], scores, table, thresholds={"au": each}, rounds=0), AU.key)
    target = table[list(AU.columns)].to_numpy()
    assert result.measures["mean_f1"].value == pytest.approx(
        metrics.mean_au_f1(scores["au"] >= each, target), abs=1e-12
    )
    protocol = judge(
        [AU], scores, table, thresholds={"au": each}, rounds=0, protocols=["abaw2021.au"]
    ).protocols["abaw2021.au"]
    expected = protocols.PROTOCOLS["abaw2021.au"].score(
        {AU.key: scores["au"] >= each}, {AU.key: target}
    )
    assert protocol.value == pytest.approx(expected, abs=1e-12)


def test_scalars_follow_their_formulas(judged):
    scores, table, evaluation = judged
    result = of(evaluation, "va")
    for i, name in enumerate(VA.names):
        seen = table[name].notna()
        t, p = table.loc[seen, name].to_numpy(), scores["va"][seen, i]
        found = {m: one.value for m, one in result.by_name[name].items()}
        rmse, mae = sk.root_mean_squared_error(t, p), sk.mean_absolute_error(t, p)
        expected = {
            "ccc": metrics.ccc(p, t),
            "r": np.corrcoef(t, p)[0, 1],
            "rmse": rmse,
            "mae": mae,
        }
        assert found == pytest.approx(expected, abs=1e-6)  # labels are float32
        assert np.sum(result.density[name]) == seen.sum()
    assert result.measures["mean_ccc"].value == pytest.approx(
        np.mean([one["ccc"].value for one in result.by_name.values()]), abs=1e-12
    )


def test_grades_are_judged_by_correlation():
    rng = np.random.default_rng(1)
    target, pred = rng.random((50, 3)), rng.random((50, 3))
    pred[:, 2] = 0.25
    table = pd.DataFrame(target, columns=list(GRADES.columns))
    result = of(judge([GRADES], {"au": pred}, table, rounds=50), GRADES.key)
    r = [np.corrcoef(pred[:, i], target[:, i])[0, 1] for i in range(2)]
    assert result.graded
    assert [result.by_name[name]["r"].value for name in GRADES.names[:2]] == pytest.approx(
        r, abs=1e-6
    )
    assert math.isnan(result.by_name["AU45"]["r"].value)
    assert result.measures["mean_r"].value == pytest.approx(
        sum(r) / 3, abs=1e-6
    )  # a constant guess of what varies earns 0
    assert result.by_name["AU45"]["rmse"].value == pytest.approx(
        sk.root_mean_squared_error(target[:, 2], pred[:, 2]), abs=1e-6
    )


def test_intervals_are_those_of_the_plain_bootstrap(judged):
    scores, table, evaluation = judged
    assert evaluation.intervals_over == "video"
    seen = table[list(EXPR.columns)].notna().all(axis=1)
    truth, guess = (
        table.loc[seen, list(EXPR.columns)].to_numpy().argmax(axis=1),
        scores["expr"][seen].argmax(axis=1),
    )
    plain = metrics.bootstrap(
        lambda p, t: metrics.macro_f1(p, t, range(8)),
        guess,
        truth,
        groups=table["video"][seen],
        rounds=300,
    )
    found = of(evaluation, EXPR.key).measures["macro_f1"]
    assert (found.low, found.high) == pytest.approx(plain, abs=1e-12)
    known = table["valence"].notna()
    plain = metrics.bootstrap(
        lambda p, t, all_p, all_t: metrics.ccc(p, t), *(scores["va"][known, 0], table["valence"][known].astype(np.float32)) * 2,
        groups=table["video"][known], rounds=300,
    )  # fmt: skip
    found = of(judge([VA], scores, table.assign(arousal=NAN), rounds=300), "va").by_name["valence"][
        "ccc"
    ]
    assert (found.low, found.high) == pytest.approx(plain, abs=1e-6)
    units = table[list(AU.columns)].to_numpy()
    plain = metrics.bootstrap(
        metrics.mean_au_f1, scores["au"] >= 0.5, units, groups=table["video"], rounds=300
    )
    found = of(evaluation, AU.key).measures["mean_f1"]
    assert (found.low, found.high) == pytest.approx(plain, abs=1e-12)


def test_many_groups_are_drawn_in_steps_with_the_same_result():
    parts = np.random.default_rng(0).random((1500, 3))
    rng = np.random.default_rng(7)
    plain = [parts[rng.integers(1500, size=1500)].sum(axis=0) for _ in range(4000)]
    np.testing.assert_allclose(tallies.resampled(parts, 4000, 7), plain)


def test_groups_are_video_else_subject_else_the_face():
    scores, table = numbers(60)
    table["subject"] = "s1"
    table.loc[:29, "video"] = None
    table.loc[:9, "subject"] = None
    found = judge([VA], scores, table, rounds=10)
    assert found.intervals_over == "video, else subject, else face"
    assert of(found, "va").groups == table["video"].nunique() + 1 + 10
    assert judge([VA], scores, table, rounds=10, groups="sex").intervals_over == "sex"
    alone = judge([VA], scores, table, rounds=10, groups="face")
    assert of(alone, "va").groups == of(alone, "va").faces
    assert "too narrow" in alone.notes[-1]
    with pytest.raises(DataError, match=r"no column 'team'; it has image, video"):
        judge([VA], scores, table, groups="team")
    one = judge([VA], scores, table.assign(video="only"), rounds=10)
    assert math.isnan(of(one, "va").measures["mean_ccc"].low)


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_every_protocol_is_its_own_formula(name):
    scores, table = numbers()
    protocol = protocols.PROTOCOLS[name]
    keys = {term.task for term in protocol.terms}
    if keys & {"expr.lsd6", "expr.abaw7", "ce.abaw7"}:
        task = TASKS[min(keys)]
        k = len(task.names)
        rng = np.random.default_rng(2)
        scores = {task.family: rng.dirichlet(np.ones(k), 90)}
        table = pd.DataFrame(np.eye(k)[rng.integers(0, k, 90)], columns=list(task.columns))
        tasks, target, pred = (
            [task],
            {task.key: table.to_numpy().argmax(axis=1)},
            {task.key: scores[task.family].argmax(axis=1)},
        )
    elif name == "abaw2026.ah":
        (task,) = (TASKS[key] for key in keys)
        rng = np.random.default_rng(2)
        values = rng.integers(0, 2, (90, 1)).astype(float)
        table = pd.DataFrame(values, columns=list(task.columns))
        scores = {"ah": rng.random((90, 1))}
        tasks, target, pred = [task], {task.key: values}, {task.key: scores["ah"] >= 0.5}
    elif name.endswith(("emi", "eri")):
        (task,) = (TASKS[key] for key in keys)
        values = np.random.default_rng(2).random((90, len(task.names)))
        table = pd.DataFrame(values, columns=list(task.columns))
        scores = {"emi": 0.5 * values + 0.5 * np.random.default_rng(3).random(values.shape)}
        tasks, target, pred = [task], {task.key: values}, {task.key: scores["emi"]}
    else:
        shares = table[list(EXPR.columns)].to_numpy()
        truth = np.where(np.isnan(shares[:, 0]), NAN, shares.argmax(axis=1))
        tasks, target = (
            ALL,
            {
                EXPR.key: truth,
                "va": table[["valence", "arousal"]].to_numpy(),
                AU.key: table[list(AU.columns)].to_numpy(),
            },
        )
        pred = {
            EXPR.key: scores["expr"].argmax(axis=1),
            "va": scores["va"],
            AU.key: scores["au"] >= 0.5,
        }
    found = judge(tasks, scores, table, protocols=[name], rounds=20).protocols[name]
    assert found.value == pytest.approx(protocol.score(pred, target), abs=1e-6)
    assert found.low <= found.high
    assert headline(tasks, scores, table, name) == pytest.approx(found.value, abs=1e-12)


def test_a_protocol_takes_expressions_by_name_and_leaves_out_what_it_does_not_know():
    own, six = TASKS["expr.affectnet8"], TASKS["expr.lsd6"]
    rng = np.random.default_rng(3)
    shares, scores = rng.dirichlet(np.full(8, 0.3), 200), rng.dirichlet(np.ones(8), 200)
    table = pd.DataFrame(shares, columns=list(own.columns))
    truth = np.array(own.names)[shares.argmax(axis=1)]
    inside = np.isin(truth, six.names)
    guess = np.array(six.names)[
        [
            [p[own.names.index(name)] for name in six.names].index(
                max(p[own.names.index(n)] for n in six.names)
            )
            for p in scores
        ]
    ]
    expected = sk.f1_score(truth[inside], guess[inside], labels=six.names, average="macro")
    found = judge([own], {"expr": scores}, table, protocols=["abaw2022.lsd"], rounds=5).protocols[
        "abaw2022.lsd"
    ]
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.faces == inside.sum()
    with pytest.raises(
        LabelMismatchError,
        match=r"protocol abaw2023.expr does not fit expr.affectnet8: .* needs other",
    ):
        judge([own], {"expr": scores}, table, protocols=["abaw2023.expr"], rounds=5)


def test_a_protocol_that_cannot_be_had_says_why():
    scores, table = numbers(40)
    with pytest.raises(
        UnknownNameError, match=r"no protocol named 'abaw2022.mlt'; did you mean abaw2022.mtl"
    ):
        judge(ALL, scores, table, protocols=["abaw2022.mlt"], rounds=0)
    with pytest.raises(DataError, match=r"needs the task au.abaw12; here are va"):
        judge([VA], scores, table, protocols=["abaw2022.au"], rounds=0)
    with pytest.raises(DataError, match=r"needs labels of au.abaw12; the table has none"):
        judge(
            ALL, scores, table.drop(columns=list(AU.columns)), protocols=["abaw2022.au"], rounds=0
        )
    with pytest.raises(DataError, match="as on or off"):
        judge(ALL, scores, table.assign(AU01=0.5), protocols=["abaw2022.au"], rounds=0)


def test_the_watched_number(judged):
    scores, table, evaluation = judged
    parts = [
        of(evaluation, key).measures[m].value
        for key, m in ((EXPR.key, "macro_f1"), ("va", "mean_ccc"), (AU.key, "mean_f1"))
    ]
    assert headline(ALL, scores, table) == pytest.approx(np.mean(parts), abs=1e-12)
    assert (
        headline(ALL, scores, table, "expr.accuracy")
        == of(evaluation, EXPR.key).measures["accuracy"].value
    )
    assert headline(ALL, scores, table, "va.ccc_arousal") == pytest.approx(
        of(evaluation, "va").by_name["arousal"]["ccc"].value, abs=1e-12
    )
    bare = table.drop(columns=list(EXPR.columns)).assign(**dict.fromkeys(AU.columns, NAN))
    assert headline(ALL, scores, bare) == pytest.approx(parts[1], abs=1e-12)
    with pytest.raises(DataError, match="has no label for expr, va, au"):
        headline(ALL, scores, table[["image"]])
    with pytest.raises(DataError, match=r"expr.accuracy cannot be watched: .* no label for expr"):
        headline(ALL, scores, bare, "expr.accuracy")
    for wrong in ("expr.acuracy", "va.rmse_valence", "expr.ece", "nothing"):
        with pytest.raises(UnknownNameError, match="no measure to watch named"):
            headline(ALL, scores, table, wrong)


def test_scores_and_table_must_fit():
    scores, table = numbers(40)
    with pytest.raises(DataError, match=r"no scores for au.abaw12; the scores hold expr, va"):
        judge(ALL, {k: scores[k] for k in ("expr", "va")}, table, rounds=0)
    with pytest.raises(
        DataError, match=r"scores are \(39, 2\), the label table asks for \(40, 2\)"
    ):
        judge([VA], {"va": scores["va"][1:]}, table, rounds=0)
    with pytest.raises(DataError, match="scores of annotated faces are NaN"):
        judge([VA], {"va": np.full((40, 2), NAN)}, table, rounds=0)
    with pytest.raises(DataError, match="decode raw output"):
        judge([EXPR], {"expr": scores["expr"] * 30}, table, rounds=0)
    with pytest.raises(DataError, match=r"labels reach outside -1..1"):
        judge([VA], scores, table.assign(valence=-5.0), rounds=0)
    with pytest.raises(DataError, match="lacks expr_other"):
        judge([EXPR], scores, table.drop(columns="expr_other"), rounds=0)
    with pytest.raises(DataError, match="more than numbers"):
        judge([VA], scores, table.assign(valence="high"), rounds=0)
    some = judge(ALL, scores, table.drop(columns=["AU01", *VA.columns]), rounds=0)
    assert some.notes[0] == "va: the table has no labels for it"
    assert math.isnan(of(some, AU.key).by_name["AU01"]["f1"].value)


def test_undefined_is_never_nought(tmp_path):
    table = pd.DataFrame({"valence": [0.3, 0.3], "arousal": [0.1, NAN]})
    evaluation = judge([VA], {"va": np.full((2, 2), 0.3)}, table, rounds=20)
    result = of(evaluation, "va")
    assert math.isnan(result.measures["mean_ccc"].value)
    assert math.isnan(result.by_name["valence"]["ccc"].value)
    assert result.by_name["valence"]["rmse"].value == pytest.approx(0, abs=1e-7)
    assert "| valence | 2 | – | – |" in markdown([evaluation], ABOUT)
    write_report([evaluation], ABOUT, tmp_path / "r")
    assert (
        json.loads((tmp_path / "r.json").read_text())["evaluations"][0]["tasks"][0]["measures"][
            "mean_ccc"
        ]["value"]
        is None
    )
    draw(evaluation, ABOUT, tmp_path / "r.png")
    constant = judge([VA], {"va": np.array([[0.1, 0], [0.9, 0]])}, table, rounds=0)
    assert (
        of(constant, "va").by_name["valence"]["ccc"].value == 0
    )  # by Lin's formula: the guess varies, the truth does not


def test_groups_of_people(judged):
    scores, table, evaluation = judged
    assert [part.name for part in evaluation.parts] == ["old", "young"]
    young = judge(
        ALL,
        {k: v[table["age"] == "young"] for k, v in scores.items()},
        table[table["age"] == "young"],
        rounds=300,
    )
    found = evaluation.parts[1].measures
    assert found["expr.macro_f1"].model_dump() == pytest.approx(
        of(young, EXPR.key).measures["macro_f1"].model_dump()
    )
    assert found["va.mean_ccc"].model_dump() == pytest.approx(
        of(young, "va").measures["mean_ccc"].model_dump()
    )
    assert not evaluation.gaps  # the old are too few
    assert any("no face shows" in note and note.startswith("age old") for note in evaluation.notes)
    text = markdown([evaluation], ABOUT)
    assert "fewer than 30 faces" in text

    by_sex = judge(
        ALL, scores, table.assign(sex=table["sex"].where(table.index > 4)), rounds=50, by="sex"
    )
    gap = by_sex.gaps["expr.accuracy"]
    values = {part.name: part.measures["expr.accuracy"].value for part in by_sex.parts}
    assert gap.difference == pytest.approx(max(values.values()) - min(values.values()))
    assert (values[gap.best], values[gap.worst]) == (max(values.values()), min(values.values()))
    assert "sex: 5 faces have no value and stand in no group" in by_sex.notes
    with pytest.raises(DataError, match=r"no column 'skin'; it has image, video, subject, sex"):
        judge(ALL, scores, table, by="skin", rounds=0)
    with pytest.raises(DataError, match="makes 240 groups of faces"):
        judge(ALL, scores, table.assign(id=range(240)), by="id", rounds=0)


def test_the_same_input_gives_the_same_evaluation_and_json_gives_it_back(judged):
    scores, table, evaluation = judged
    again = judge(ALL, scores, table, rounds=300, protocols=["abaw2022.mtl"], by="age")
    text = evaluation.model_dump_json()
    assert again.model_dump_json() == text
    assert Evaluation.model_validate_json(text).model_dump_json() == text


def test_runs_are_put_together():
    runs = [
        judge(ALL, *numbers(seed=seed), rounds=0, protocols=["abaw2022.va"]) for seed in range(3)
    ]
    found = mean_over_runs(runs).set_index(["task", "name", "measure"])
    accuracies = [of(run, EXPR.key).measures["accuracy"].value for run in runs]
    row = found.loc[EXPR.key, "", "accuracy"]
    assert (row["mean"], row["sd"], row["runs"]) == pytest.approx(
        (np.mean(accuracies), np.std(accuracies, ddof=1), 3)
    )
    assert found.loc["protocol", "", "abaw2022.va"]["runs"] == 3
    assert f"{np.mean(accuracies):.3f} ± {np.std(accuracies, ddof=1):.3f}" in markdown(runs, ABOUT)
    with pytest.raises(DataError, match="same tasks"):
        mean_over_runs([runs[0], judge([VA], *numbers(), rounds=0)])
    with pytest.raises(DataError, match="at least"):
        mean_over_runs([])


def test_a_report_is_written_whole_or_not_at_all(judged, tmp_path):
    *_, evaluation = judged
    text, data = write_report([evaluation], ABOUT, tmp_path / "seed.0")
    assert (text.name, data.name) == ("seed.0.md", "seed.0.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed.0.json", "seed.0.md"]
    page = text.read_text(encoding="utf-8")
    for said in (
        "# run-1 on drawn numbers, val",
        "2026-03-01",
        "| faces | 240 |",
        "abaw2022.mtl",
        "| drawn again, whole | video |",
    ):
        assert said in page
    lines = [line for line in page.splitlines() if line.startswith("|---")]
    assert lines
    assert Report.model_validate_json(data.read_text(encoding="utf-8")).about == ABOUT
    with pytest.raises(OutputError):
        write_report([evaluation], ABOUT, tmp_path / "none" / "report")
    with pytest.raises(ValueError, match="date"):
        About(data="d", split="val", run="r", date="yesterday")


@pytest.mark.parametrize("people", [None, "sex"])
def test_the_picture_is_whole_and_not_blank(people, tmp_path):
    scores, table = numbers()
    evaluation = judge(ALL, scores, table, rounds=100, by=people, protocols=["abaw2022.mtl"])
    draw(evaluation, ABOUT, tmp_path / "a.png")
    if people:
        draw(evaluation, ABOUT, tmp_path / "b.png")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        (tmp_path / "b.png").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image.shape[1] == WIDTH
    for band in np.array_split(image, 10):
        assert (band < 250).any()  # ink from top to bottom
    with pytest.raises(OutputError):
        draw(evaluation, ABOUT, tmp_path / "none" / "a.png")


def test_evaluation_needs_neither_torch_nor_pyplot():
    code = "import mien.evaluation.corruptions, mien.evaluation.plots, mien.evaluation.calibration, sys; print(*sys.modules)"
    modules = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert not {"torch", "timm", "matplotlib.pyplot"} & modules


def test_temperature_is_the_minimum_that_another_search_finds():
    rng = np.random.default_rng(0)
    raw, target = rng.normal(0, 3, (400, 5)), rng.integers(0, 5, 400).astype(float)
    target[::2] = raw.argmax(axis=1)[
        ::2
    ]  # half of it right, or the best temperature would be endless
    target[7] = NAN
    seen = ~np.isnan(target)

    def loss(log):
        return sk.log_loss(target[seen], EXPR.decode(raw[seen] / np.exp(log[0])), labels=range(5))

    found = temperature(raw, target)
    assert found == pytest.approx(
        float(np.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-7}).x[0])),
        rel=1e-4,
    )
    assert temperature(3 * raw, target) == pytest.approx(3 * found, rel=1e-4)
    hard = np.eye(5)[np.nan_to_num(target).astype(int)]
    hard[7] = NAN
    assert temperature(raw, hard) == pytest.approx(found, rel=1e-6)
    assert loss_at(found, raw[seen], hard[seen]) == pytest.approx(loss([np.log(found)]), abs=1e-9)
    assert temperature(raw, np.full((400, 5), 0.2)) == pytest.approx(HOTTEST, rel=1e-3)
    for bad, told in ((raw, np.full(400, NAN)), (raw, target[:5]), (raw * NAN, target)):
        with pytest.raises(DataError):
            temperature(bad, told)


def test_cross_fitting_never_fits_a_group_on_itself():
    rng = np.random.default_rng(1)
    raw, target = rng.normal(0, 2, (300, 4)), rng.integers(0, 4, 300).astype(float)
    groups = np.array([f"p{i // 10}" for i in range(300)])
    found = cross_fitted(raw, target, groups)
    first = (np.arange(300) // 10) % 2 == 0
    np.testing.assert_allclose(
        found[first], EXPR.decode(raw[first] / temperature(raw[~first], target[~first]))
    )
    np.testing.assert_allclose(
        found[~first], EXPR.decode(raw[~first] / temperature(raw[first], target[first]))
    )
    plain, even = cross_fitted(raw, target), np.arange(300) % 2 == 0
    np.testing.assert_allclose(
        plain[even], EXPR.decode(raw[even] / temperature(raw[~even], target[~even]))
    )
    with pytest.raises(DataError, match="two halves"):
        cross_fitted(raw, target, np.zeros(300))


@pytest.fixture(scope="module")
def portrait_points(face):
    """The face of the portrait, about 110 px between brow and chin, with its points."""
    return face[40:200, 140:300].copy(), np.array(
        [[59.0, 71.0], [99.0, 67.0], [84.0, 92.0], [65.0, 113.0], [99.0, 111.0]]
    )


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("known", [True, False])
def test_conditions_are_deterministic_and_leave_the_picture_alone(name, known, portrait_points):
    image, points = portrait_points
    points = points if known else None
    before = image.copy()
    (one, five), (two, _) = (
        apply(CONDITIONS[name], image, points),
        apply(CONDITIONS[name], image, points),
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(image, before)
    assert one.dtype == np.uint8
    assert one.flags.c_contiguous
    assert (five is None) == (CONDITIONS[name].whole or not known)
    if not CONDITIONS[name].whole:
        assert one.shape == image.shape
        assert (one != image).any() == (name != "clean")


@pytest.mark.parametrize(
    "name", ["blur", "noise", "jpeg30", "grey", "tiny", "no upper half", "no left half"]
)
def test_small_and_large_faces_suffer_alike(name, portrait_points):
    image, points = portrait_points
    harm = []
    for size in (80, 320):
        scale = size / image.shape[0]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture, five = (
            cv2.resize(image, (size, size), interpolation=how),
            (points + 0.5) * scale - 0.5,
        )
        changed, _ = apply(CONDITIONS[name], picture, five)
        # Seen at one size, as a network sees them.
        seen = [
            cv2.resize(one.astype(np.float32), (40, 40), interpolation=cv2.INTER_AREA)
            for one in (picture, changed)
        ]
        harm.append(np.sqrt(np.mean((seen[0] - seen[1]) ** 2)))
    assert harm[0] > 0.3
    assert harm[0] == pytest.approx(harm[1], rel=0.25)


def test_points_turn_with_the_picture():
    image, points = (
        np.zeros((200, 220, 3), np.uint8),
        np.array([[80.0, 80], [130, 82], [106, 108], [86, 134], [128, 135]]),
    )
    for x, y in points.astype(int):
        cv2.circle(image, (int(x), int(y)), 4, (255, 255, 255), -1)
    for name in ("roll+30", "roll-30"):
        turned, five = apply(CONDITIONS[name], image, points)
        for x, y in five:
            assert turned[round(y), round(x)].min() > 200
        angle = np.degrees(
            np.arctan2(*(five[1] - five[0])[::-1]) - np.arctan2(*(points[1] - points[0])[::-1])
        )
        assert angle == pytest.approx(
            CONDITIONS[name].roll, abs=1e-6
        )  # y points down, so clockwise as seen
        square, after = square_of(image, points), square_of(turned, five)
        np.testing.assert_allclose(
            [*after.centre, after.side], [*square.centre, square.side], rtol=0.08
        )


def test_halves_cover_what_they_say(portrait_points):
    image, points = portrait_points
    inside = {"upper": [0, 1], "lower": [3, 4], "left": [0, 3], "right": [1, 4]}
    for half, covered in inside.items():
        out, _ = apply(CONDITIONS[f"no {half} half"], image, points)
        for i in (0, 1, 3, 4):
            x, y = points[i].astype(int)
            assert (out[y, x] == 127).all() == (i in covered)
    out, _ = apply(CONDITIONS["no left half"], image)
    assert (out[:, :79] == 127).all()
    np.testing.assert_array_equal(out[:, 82:], image[:, 82:])


def test_odd_pictures_and_points():
    speck = np.full((1, 3, 3), 90, np.uint8)
    for condition in CONDITIONS.values():
        assert apply(condition, speck)[0].size
        assert apply(condition, speck, np.zeros((5, 2)))[0].size
    with pytest.raises(ValueError, match="RGB uint8"):
        apply(CONDITIONS["blur"], np.zeros((4, 4), np.uint8))


def pictures_table(face, points, folder):
    paths = []
    for i in range(3):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), np.roll(face, i, axis=1)[..., ::-1])
        paths.append(str(path))
    va = dict(zip(VA.columns, np.random.default_rng(0).uniform(-1, 1, (2, 4)), strict=True))
    five = [points.ravel().tolist(), None, points.ravel(), None]
    return pd.DataFrame(
        {
            "image": pd.Series([*paths, face], dtype=object),
            "points": pd.Series(five, dtype=object),
            **va,
        }
    )


def test_a_bundle_is_run_over_a_label_table(portrait_points, tmp_path):
    face, points = portrait_points
    model, table, seen = load("mien-s"), pictures_table(face, points, tmp_path), []
    found = evaluate_bundle(model, table, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 4)]
    assert found.notes == ("2 faces were aligned by five points, 2 read as whole pictures",)
    np.testing.assert_allclose(
        found.scores["va"][0], model.score([face], points=points[None])["va"][0], atol=1e-6
    )
    np.testing.assert_allclose(found.scores["expr"][3], model.score([face])["expr"][0], atol=1e-6)
    seven = evaluate_bundle(model, table, [TASKS["expr.abaw7"]]).scores["expr"]
    own = found.scores["expr"][:, TASKS["expr.abaw7"].column_index(model.tasks[0].names)]
    np.testing.assert_allclose(seven, own / own.sum(axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(LabelMismatchError, match="needs other"):
        evaluate_bundle(model, table, [EXPR])
    with pytest.raises(LabelMismatchError, match="does not predict ce"):
        evaluate_bundle(model, table, [TASKS["ce.abaw7"]])


def test_a_picture_that_cannot_be_read_is_named(portrait_points, tmp_path):
    face, points = portrait_points
    model, table = load("mien-s"), pictures_table(face, points, tmp_path)
    broken = tmp_path / "1.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"row 1 of the label table: .*1\.png"):
        evaluate_bundle(model, table)
    found = evaluate_bundle(model, table, skip_unreadable=True)
    assert len(found.table) == len(found.scores["va"]) == 3
    assert found.notes[1] == f"1 of 4 pictures could not be read and were left out: {broken}"
    assert judge([VA], found.scores, found.table, rounds=0).faces == 3
    with pytest.raises(DataError, match="none of the 1 pictures"):
        evaluate_bundle(model, table.iloc[[1]], skip_unreadable=True)
    with pytest.raises(DataError, match="no column image; it has points"):
        evaluate_bundle(model, table.drop(columns="image"))
    wrong = table.assign(points=pd.Series([[1.0, 2.0], None, None, None], dtype=object))
    with pytest.raises(
        DataError, match="row 0 of the label table: points must be 10 finite numbers or None"
    ):
        evaluate_bundle(model, wrong)


def test_scores_come_back_in_order_whatever_has_points(portrait_points):
    _, points = portrait_points

    def score(pictures, five):
        return {
            "x": np.array(
                [[len(p), -1 if five is None else five[i, 0, 0]] for i, p in enumerate(pictures)],
                float,
            )
        }

    pictures = [np.zeros((n, 5, 3), np.uint8) for n in (3, 4, 5)]
    assert score_pictures(score, pictures, [None, points, None])["x"].tolist() == [
        [3, -1],
        [4, points[0, 0]],
        [5, -1],
    ]


def test_robustness_scores_every_condition(portrait_points, tmp_path):
    face, points = portrait_points
    model, table = load("mien-s"), pictures_table(face, points, tmp_path)
    found = robustness(
        model.score,
        table,
        model.tasks,
        ["clean", "clean whole", "grey", "blur", "roll+30 whole"],
        rounds=0,
    )
    direct = evaluate_bundle(model, table).scores["va"]
    expected = judge([VA], {"va": direct}, table, rounds=0).tasks[0].measures["mean_ccc"].value
    assert found["clean"]["va.mean_ccc"].value == pytest.approx(expected, abs=1e-6)
    blurred = model.score([apply(CONDITIONS["blur"], face)[0]])["va"][0]
    assert np.abs(blurred - model.score([face])["va"][0]).max() > 1e-3
    text = robustness_markdown(found)
    change = found["blur"]["va.mean_ccc"].value - found["clean"]["va.mean_ccc"].value
    assert f"| blur | {found['blur']['va.mean_ccc'].value:.3f} ({change:+.3f}) |" in text
    with pytest.raises(UnknownNameError, match="no condition named 'fog'"):
        robustness(model.score, table, model.tasks, ["fog"])
    with pytest.raises(DataError, match="no label"):
        robustness(model.score, table[["image", "points"]], model.tasks, ["clean"], rounds=0)
