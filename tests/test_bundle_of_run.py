"""From a run to a bundle: what is shipped answers as the run did, and its card says only what was measured."""

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError

import mien
from mien.bundles.card import AffectCard, parse_card
from mien.bundles.card_parts import Terms
from mien.bundles.engines import available
from mien.bundles.store import open_bundle
from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.registry import AnySet, Drawn, File, Folder, Portraits, set_name
from mien.errors import BundleError, DataError, OutputError
from mien.evaluation.calibration import cross_fitted, temperature
from mien.evaluation.corruptions import CONDITIONS
from mien.evaluation.judge import judge
from mien.evaluation.predict import evaluate_bundle
from mien.evaluation.report import Report
from mien.faces.prepare import normalise
from mien.metrics import f1
from mien.tasks import TASKS
from mien.train.builtin import mien_s, mien_xs, robust
from mien.train.bundle.make import make_bundle
from mien.train.bundle.provenance import data_terms, supervision
from mien.train.evaluate_models import judge_models, tasks_for, write_judged
from mien.train.features import cache_features, root_of
from mien.train.inputs.crops import CropDataset
from mien.train.onnx.portability import portability_issues
from mien.train.open_model import open_model, table_for
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import network_of, raw_scores
from mien.train.runs.tables import load_tables
from mien.train.settings.card import CardSettings
from mien.train.settings.template import template
from mien.train.settings.training import Settings, TaskSettings, read_settings, write_settings

TASKS_OF_RUN = ("expr.abaw8", "va", "au.abaw12")


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def made(tiny_run, tmp_path_factory):
    """The run's bundle with features, and the lines that were told."""
    told: list[str] = []
    folder = make_bundle(
        tiny_run, tmp_path_factory.mktemp("bundle") / "tiny", features=True, note=told.append
    )
    return folder, told


@pytest.fixture(scope="module")
def val(tiny_run):
    return load_tables(tiny_run.settings, tiny_run.folder, silent)[0]["val"]


def score_of(card: AffectCard, metric: str):
    found = [score for score in card.scores if score.metric == metric and not score.condition]
    assert len(found) == 1, [score.metric for score in card.scores]
    return found[0]


def test_the_bundle_answers_as_the_network_of_the_run(made, tiny_run, val):
    net = network_of(tiny_run)
    model = mien.load(made[0], "onnxruntime")
    crops = [np.ascontiguousarray(image) for image in val["image"][:20]]
    points = np.stack(val["points"][:20]).reshape(-1, 5, 2)
    batch = torch.from_numpy(normalise(model.prepare(crops, points), model.card.pixels))
    with torch.no_grad():
        raw, features = net(batch), net.features(batch)
    heat = model.card.temperature
    for task, mine in zip(net.tasks, raw, strict=True):
        theirs = model.score(crops, points)[task.family]
        np.testing.assert_allclose(
            theirs, task.decode(mine.numpy() / heat.get(task.family, 1)), atol=2e-3
        )
    np.testing.assert_allclose(
        model.features(crops, points), features.numpy(), atol=5e-3 * features.abs().max().item()
    )


def test_a_bundle_reads_a_clip_and_a_photo(made, clip, photo):
    table = mien.analyze(clip, bundle=made[0], every=0.5).table
    assert (table["status"] == "ok").sum() >= 5
    seen_in = table[table["status"] == "ok"]
    np.testing.assert_allclose(
        seen_in[[f"expr_{name}" for name in TASKS["expr.abaw8"].names]].sum(axis=1), 1, atol=1e-3
    )
    assert seen_in["AU12"].between(0, 1).all()
    assert len(mien.analyze(photo, bundle=str(made[0])).table) == 1


def test_the_card_says_what_the_file_is(made, tiny_run):
    card = open_bundle(made[0]).card
    network = (made[0] / "model.onnx").read_bytes()
    assert card.sha256 == hashlib.sha256(network).hexdigest()
    assert card.features == network_of(tiny_run).backbone.num_features
    assert f"{len(network) / 1e6:.2f} MB" in card.summary
    assert any(f"{len(network) / 1e6:.2f} MB" in line for line in made[1])
    assert {path.name for path in made[0].iterdir()} == {"card.json", "model.onnx", "README.md"}
    assert card.made.seed == tiny_run.settings.fit.seed
    assert tiny_run.facts["device"] in card.made.cost
    assert "--features" in card.made.recipe
    assert card.licence == "not stated"
    assert "drawn faces" in (made[0] / "README.md").read_text()
    assert str(tiny_run.folder) not in (made[0] / "card.json").read_text()


def test_the_cards_scores_are_those_of_judge(made, tiny_run, val):
    card = open_bundle(made[0]).card
    model = mien.load(made[0], "onnxruntime")
    scored = evaluate_bundle(model, val)
    results = {result.family: result for result in judge(model.tasks, scored.scores, val).tasks}
    wanted = {
        "expr accuracy": results["expr"].measures["accuracy"], "expr macro-F1": results["expr"].measures["macro_f1"],
        "va mean CCC": results["va"].measures["mean_ccc"], "au mean F1": results["au"].measures["mean_f1"],
        "va CCC valence": results["va"].by_name["valence"]["ccc"], "au F1 AU25": results["au"].by_name["AU25"]["f1"],
        "expr F1 happiness": results["expr"].by_name["happiness"]["f1"],
    }  # fmt: skip
    for metric, one in wanted.items():
        score = score_of(card, metric)
        assert (score.value, score.low, score.high) == pytest.approx(
            (one.value, one.low, one.high), abs=1e-4
        ), metric
        assert score.faces == one.faces
    assert "intervals over subject" in score_of(card, "expr accuracy").data


def test_temperature_and_calibration_error_come_from_the_majority_class(made, tiny_run, val):
    card = open_bundle(made[0]).card
    task = TASKS["expr.abaw8"]
    raw = evaluate_bundle(open_model(tiny_run.folder), val).scores["expr"]
    target = labels(val, task).argmax(axis=1)
    assert card.temperature["expr"] == pytest.approx(temperature(np.log(raw), target), rel=0.02)
    fair = cross_fitted(np.log(raw), target, val["subject"])
    ece = judge([task], {"expr": fair}, val).tasks[0].measures["ece"]
    assert score_of(card, "expr ECE (cross-fitted temperature)").value == pytest.approx(
        ece.value, abs=0.01
    )


def test_action_units_are_present_from_where_f1_is_highest(made, tiny_run, val, clip, tmp_path):
    card = open_bundle(made[0]).card
    task = TASKS["au.abaw12"]
    scores = evaluate_bundle(mien.load(made[0], "onnxruntime"), val).scores["au"]
    target = labels(val, task)
    varied = [name for name, unit in zip(task.names, target.T, strict=True) if 0 < unit.mean() < 1]
    assert list(card.presence) == varied
    for name, threshold in card.presence.items():
        column = task.names.index(name)
        score, truth = scores[:, column], target[:, column]
        by_threshold = [f1(score >= limit, truth) for limit in np.arange(1, 10) / 10]
        assert f1(score >= threshold, truth) == pytest.approx(max(by_threshold))
    path = mien.analyze(clip, bundle=made[0], every=1).save(tmp_path / "clip.csv")
    assert mien.read_table(path).attrs["dictionary"]["bundle"]["presence"] == card.presence
    content = json.loads((made[0] / "card.json").read_text()) | {"presence": {"AU99": 0.5}}
    with pytest.raises(BundleError, match="presence: AU99 is no action unit"):
        parse_card(json.dumps(content).encode(), "card.json")


def test_the_tolerance_holds_between_the_installed_engines(made, val):
    card = open_bundle(made[0]).card
    answers = [evaluate_bundle(mien.load(made[0], engine), val).scores for engine in available()]
    for family in answers[0]:
        assert np.ptp([one[family] for one in answers], axis=0).max() <= card.tolerance
    assert any("that other engines agree" in limit for limit in card.limits) == (len(answers) == 1)


def test_eight_bits_are_smaller_and_their_cost_is_told(made, tiny_run, tmp_path):
    told: list[str] = []
    folder = make_bundle(tiny_run, tmp_path / "eight", bits=8, robustness=True, note=told.append)
    card, plain = open_bundle(folder).card, open_bundle(made[0]).card
    assert portability_issues(onnx.load(folder / "model.onnx")) == []
    assert card.features is None
    for metric in ("expr accuracy", "expr macro-F1", "va mean CCC", "au mean F1"):
        before = score_of(card, f"{metric} before 8-bit quantisation")
        assert before.value == pytest.approx(score_of(plain, metric).value, abs=1e-4)
        assert any(f"{metric}: {before.value:.4f} before" in line for line in told)
    worse = {
        (score.condition.partition(":")[0], score.metric): score
        for score in card.scores
        if score.condition
    }
    assert {condition for condition, _ in worse} == set(CONDITIONS)
    assert worse["clean", "expr accuracy"].value == pytest.approx(
        score_of(card, "expr accuracy").value, abs=1e-4
    )
    assert "painted grey" in worse["no upper half", "va mean CCC"].condition
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page.count("| no upper half |") == 1
    assert mien.load(folder).score([np.zeros((50, 40, 3), np.uint8)])["va"].shape == (1, 2)


def test_a_bundle_is_replaced_and_anything_else_is_left_alone(tiny_run, tmp_path):
    place = tmp_path / "out" / "tiny"
    first = (make_bundle(tiny_run, place) / "model.onnx").read_bytes()
    assert (make_bundle(tiny_run, place) / "model.onnx").read_bytes() == first
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        make_bundle(tiny_run, place)
    with pytest.raises(OutputError, match="is a file"):
        make_bundle(tiny_run, place / "thesis.txt")
    with pytest.raises(OutputError, match="cannot be written"):
        make_bundle(tiny_run, place / "thesis.txt" / "deeper")
    assert (place / "thesis.txt").read_text() == "mine"
    assert [path.name for path in place.parent.iterdir()] == ["tiny"]


def test_a_full_disk_leaves_the_old_bundle_whole(made, tiny_run, tmp_path):
    place = tmp_path / "tiny"
    shutil.copytree(made[0], place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            make_bundle(tiny_run, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def unfinished(tiny_run, folder: Path) -> RunFolder:
    shutil.copytree(tiny_run.folder, folder)
    facts = json.loads((folder / "run.json").read_text())
    del facts["finished"]
    (folder / "run.json").write_text(json.dumps(facts))
    return RunFolder(folder)


def test_a_run_that_is_none_or_not_finished_is_refused(tiny_run, tmp_path):
    with pytest.raises(DataError, match=r"no settings\.yaml"):
        make_bundle(RunFolder(tmp_path), tmp_path / "out")
    run = unfinished(tiny_run, tmp_path / "half")
    with pytest.raises(DataError, match="has not finished"):
        make_bundle(run, tmp_path / "out")
    assert open_model(run.folder).score([np.zeros((8, 8, 3), np.uint8)])["expr"].shape == (1, 8)
    (run.folder / "best.pt").unlink()
    with pytest.raises(DataError, match=r"no best\.pt"):
        open_model(run.folder)
    assert not (tmp_path / "out").exists()


def test_a_card_speaks_of_known_families_only(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    settings = tiny_run.settings.model_copy(
        update={"card": CardSettings(supervised_by={"gaze": "nobody"})}
    )
    (folder / "settings.yaml").write_text(write_settings(settings))
    with pytest.raises(DataError, match="gaze"):
        make_bundle(RunFolder(folder), tmp_path / "out")


def test_what_the_maker_says_stands_on_the_card(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    said = CardSettings(
        summary="Reads drawings.", licence="CC0-1.0", limits=("left-handed drawings",), supervised_by={"va": "a formula"},
        terms=(Terms(data="drawn faces", used_for="training", terms="mine"), Terms(data="pens", used_for="teacher", terms="bought")),
        recipe="make drawings",
    )  # fmt: skip
    (folder / "settings.yaml").write_text(
        write_settings(tiny_run.settings.model_copy(update={"card": said}))
    )
    card = open_bundle(make_bundle(RunFolder(folder), tmp_path / "out")).card
    assert card.summary.startswith("Reads drawings. ")
    assert (card.licence, card.limits[0], card.made.recipe) == (
        "CC0-1.0",
        "left-handed drawings",
        "make drawings",
    )
    assert [spec.supervised_by for spec in card.tasks] == [
        "what the faces were drawn from",
        "a formula",
        "what the faces were drawn from",
    ]
    assert [(terms.data, terms.used_for, terms.terms) for terms in card.trained_on][:2] == [
        ("drawn faces", "training", "mine"), ("pens", "teacher", "bought"),
    ]  # fmt: skip


def with_data(*sets, **changes) -> Settings:
    return Settings(
        name="x",
        data=sets,
        tasks=changes.pop("tasks", ("expr.ferplus8", "va", "au.blendshapes")),
        **changes,
    )


def test_known_data_bring_their_terms_and_unknown_ones_say_so():
    faces = Folder(set="folder", root="somewhere/smiles")
    mixed = with_data(
        Portraits(set="portraits", folder="p"),
        faces,
        network={"backbone": "face-resnet", "start": "faces"},
    )
    told = {
        (terms.data, terms.used_for): terms.terms
        for terms in data_terms(mixed, mixed.named_tasks())
    }
    assert told["smiles", "training"] == "given by the maker of this bundle; terms not stated"
    assert "Labeled Faces in the Wild" in told["portraits", "training"]
    assert told["MediaPipe face landmarker (blend shapes)", "teacher"] == "Apache-2.0"
    assert any("FaceScrub" in data and "CC0" in terms for (data, _), terms in told.items())
    assert ("smiles, validation split", "selection") in told
    assert "MediaPipe" in supervision(mixed, mixed.named_tasks()[2])
    trained_only = with_data(Folder(set="folder", root="smiles", split="train"))
    assert [terms.used_for for terms in data_terms(trained_only, trained_only.named_tasks())] == [
        "training"
    ]


def test_teachers_and_runs_to_start_from_bring_what_they_have_seen(tiny_run, made):
    losses = {"expr": {"distill": {}}}
    own = with_data(
        Portraits(set="portraits", folder="p"), teachers=(tiny_run.folder,), losses=losses
    )
    assert ("drawn faces", "teacher") in {
        (terms.data, terms.used_for) for terms in data_terms(own, own.named_tasks())
    }
    assert "1 teacher" in supervision(own, own.named_tasks()[0])
    by_bundle = own.model_copy(update={"teachers": (made[0],)})
    assert ("drawn faces", "teacher") in {
        (terms.data, terms.used_for) for terms in data_terms(by_bundle, own.named_tasks())
    }
    start = {"backbone": "test_efficientnet", "start": tiny_run.folder / "best.pt"}
    later = with_data(Portraits(set="portraits", folder="p"), network=start)
    assert ("drawn faces", "training") in {
        (terms.data, terms.used_for) for terms in data_terms(later, later.named_tasks())
    }
    bare = with_data(
        Portraits(set="portraits", folder="p"), network={**start, "start": "elsewhere/weights.pt"}
    )
    assert any(
        "weights.pt" in terms.data and "not stated" in terms.terms
        for terms in data_terms(bare, bare.named_tasks())
    )


# judging


def test_a_run_is_judged_as_its_own_loop_judged_it(tiny_run, val):
    net = network_of(tiny_run)
    raw, _ = raw_scores(net, CropDataset(val, net.tasks, tiny_run.settings.pixels), workers=0)
    expected = judge(
        net.tasks, {task.family: task.decode(raw[task.family]) for task in net.tasks}, val
    )
    (found,), about = judge_models([tiny_run.folder], tiny_run.settings)
    for mine, theirs in zip(found.tasks, expected.tasks, strict=True):
        for name, one in theirs.measures.items():
            assert mine.measures[name].value == pytest.approx(one.value, abs=1e-4), name
    assert (about.data, about.split, about.run) == ("drawn faces", "val", "tiny")


def test_runs_of_several_seeds_get_mean_and_spread(tiny_run, made, tmp_path):
    evaluations, about = judge_models([tiny_run.folder, made[0]], tiny_run.settings)
    paths = write_judged(evaluations, about, tmp_path / "new" / "report")
    assert sorted(path.name for path in paths) == [
        "evaluation-1.png",
        "evaluation-2.png",
        "evaluation.json",
        "evaluation.md",
    ]
    page = Report.model_validate_json((tmp_path / "new" / "report" / "evaluation.json").read_text())
    assert len(page.evaluations) == 2
    assert "Over 2 runs" in (tmp_path / "new" / "report" / "evaluation.md").read_text()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, tiny_run):
    """A label file of 48 drawn faces with a column that mien has no word for, and its settings."""
    folder = tmp_path_factory.mktemp("labelled")
    table = table_for(
        tiny_run.settings, [TASKS[key] for key in TASKS_OF_RUN], tiny_run.settings.pixels, "val"
    )
    (folder / "faces").mkdir()
    names = [f"faces/{i}.png" for i in range(len(table))]
    for name, image in zip(names, table["image"], strict=True):
        Image.fromarray(image).save(folder / name)
    rest = table.drop(columns=["image", "points", "video", "frame"])
    rest.assign(
        image=names, age=["old" if i % 3 else "young" for i in range(len(table))], split="test"
    ).to_csv(folder / "l.csv", index=False)
    page = {
        "name": "x",
        "data": [{"set": "file", "path": "l.csv"}],
        "tasks": list(TASKS_OF_RUN),
        "fit": {"find_points": False},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(page))
    return read_settings(folder / "settings.yaml")


def test_groups_of_people_go_by_any_column_of_a_label_file(labelled, made):
    (found,), _ = judge_models([made[0]], labelled, split="test", by="age")
    assert [part.name for part in found.parts] == ["old", "young"]
    assert sum(part.measures["expr.accuracy"].faces for part in found.parts) == found.faces
    with pytest.raises(DataError, match="wage"):
        judge_models([made[0]], labelled, split="test", by="wage")


def test_a_column_is_brought_along_without_moving_the_split(labelled, made):
    spec = File(
        set="file",
        path=labelled.data[0].path,
        split={"by": "subject", "shares": {"train": 0.5, "val": 0.5}, "seed": 0},
    )
    tasks = labelled.named_tasks()
    raw = pd.read_csv(spec.path)
    raw.drop(columns="split").to_csv(spec.path.with_name("bare.csv"), index=False)
    cut = labelled.model_copy(
        update={"data": (spec.model_copy(update={"path": spec.path.with_name("bare.csv")}),)}
    )
    with_age = table_for(cut, tasks, labelled.pixels, by="age")
    pd.testing.assert_frame_equal(
        with_age.drop(columns="age"), table_for(cut, tasks, labelled.pixels)
    )
    assert with_age["age"].tolist() == raw["age"].tolist()


def test_what_cannot_be_judged_is_said(labelled, made, tiny_run):
    with pytest.raises(DataError, match="no face is in split val"):
        judge_models([made[0]], labelled)
    lines: list[str] = []
    model = open_model(made[0])
    other = labelled.model_copy(update={"tasks": ("va", "ce.abaw7")})
    assert [task.key for task in tasks_for(model, other, lines.append)] == ["va"]
    assert "ce.abaw7" in lines[0]
    with pytest.raises(DataError, match="ask for none"):
        tasks_for(model, labelled.model_copy(update={"tasks": ("ce.abaw7",)}), silent)


def test_a_picture_that_is_gone_is_named_or_skipped(labelled, made):
    gone = Path(labelled.data[0].path).parent / "faces" / "3.png"
    kept = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(DataError, match=r"3\.png"):
            judge_models([made[0]], labelled, split="test")
        (found,), about = judge_models([made[0]], labelled, split="test", skip_unreadable=True)
        assert any("3.png" in line for line in about.notes)
    finally:
        gone.write_bytes(kept)
    assert found.faces == len(pd.read_csv(labelled.data[0].path)) - 1


def test_features_of_a_settings_file_are_cached_once(labelled, made, tmp_path):
    calls: list[tuple[str, int, int]] = []
    cache, faces = cache_features(
        made[0], labelled, tmp_path / "cache", progress=lambda *told: calls.append(told)
    )
    assert calls[-1][1:] == (faces, faces) == (48, 48)
    table = table_for(labelled, labelled.named_tasks(), labelled.pixels)
    model = mien.load(made[0], "onnxruntime")
    direct = model.features([read_picture(image) for image in table["image"]])
    np.testing.assert_allclose(cache.features[cache.rows(table)], direct, atol=1e-5)
    assert (
        cache_features(
            made[0],
            labelled,
            tmp_path / "cache",
            progress=lambda *told: pytest.fail("computed again"),
        )[1]
        == 48
    )
    with pytest.raises(BundleError, match="cannot read affect"):
        cache_features("mien-face", labelled, tmp_path / "other")


def test_the_root_of_pictures_holds_them_all(labelled, tmp_path):
    base = Path(labelled.data[0].path).parent
    assert root_of(labelled.data) == base
    assert root_of((*labelled.data, Folder(set="folder", root=base / "faces"))) == base
    assert root_of((Drawn(set="drawn", count=1, seed=0, size=16),)) == Path.cwd()
    assert set_name(labelled.data[0]) == "l.csv"


# settings to start from


def test_the_template_holds_every_default_and_can_be_trained_on():
    text = template()
    content = yaml.safe_load(text)
    assert content.pop("settings") == 1  # the version of the form is none of the settings
    found = Settings.model_validate(content)
    assert found == Settings(name=found.name, data=found.data, tasks=found.tasks)

    def keys(tree: object) -> set[str]:
        return (
            set(tree) | {key for value in tree.values() for key in keys(value)}
            if isinstance(tree, dict)
            else set()
        )

    for key in keys(found.model_dump(mode="json")) - {"key"}:
        assert f"{key}:" in text, key
    for line in text.splitlines():
        assert "`" not in line


def test_every_alternative_data_set_of_the_template_is_yaml():
    text = template()
    block = text[text.index("data:") : text.index("tasks:")]
    lines = [
        line.replace("  # - ", "  - ").replace("  #   ", "    ") for line in block.splitlines()
    ]
    sets = yaml.safe_load("\n".join(line for line in lines if not line.lstrip().startswith("#")))[
        "data"
    ]
    kinds = [get_args(kind.model_fields["set"].annotation)[0] for kind in get_args(AnySet)]
    assert [one["set"] for one in sets] == ["drawn", *kinds]


def test_importing_the_commands_imports_no_torch():
    code = "import mien.cli, sys; print(bool({'torch', 'timm', 'matplotlib', 'scipy'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


def test_a_task_spelled_out_cannot_go_by_a_key_of_mien():
    """It would be refused on the card, once all is learned."""
    mine = {"names": ("sleepy", "awake"), "kind": "one_of"}
    assert TaskSettings(key="expr.mine", **mine).task.names == ("sleepy", "awake")
    with pytest.raises(
        ValueError,
        match=r"names: expr\.abaw7 has neutral, .*, not sleepy, awake; labels of one's own need a key",
    ):
        TaskSettings(key="expr.abaw7", **mine)


def test_what_no_card_can_say_is_found_before_training():
    with pytest.raises(ValidationError, match=r"summary\n.*cannot be shown"):
        CardSettings(summary="\x1b[2J")
    with pytest.raises(ValidationError, match="supervised_by"):
        CardSettings(supervised_by={"expr": "\u202e"})


@pytest.mark.parametrize(
    "settings",
    [
        mien_s.first_settings(Path("data")),
        mien_s.second_settings(Path("data"), Path("first"), Path("teacher")),
        mien_s.third_settings(Path("data"), Path("first"), Path("second"), None),
        mien_xs.settings(Path("data"), Path("before"), Path("teacher")),
        robust.settings(
            "mien-xs", Path("data"), Path("expw.parquet"), Path("start.pt"), [Path("mien-s")]
        ),
    ],
    ids=lambda settings: settings.name,
)
def test_what_made_the_bundles_that_come_with_mien_can_be_read_back(settings, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(write_settings(settings))
    found = read_settings(path)
    for part in ("name", "tasks", "pixels", "losses", "augment", "optim", "fit", "card"):
        assert getattr(found, part) == getattr(settings, part)
    assert found.network.backbone == settings.network.backbone
    assert [folder.name for folder in found.teachers] == [
        folder.name for folder in settings.teachers
    ]
