"""Bundles hold what they promise: card, hash, engines and numbers; errors are one clear line."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from mien import demo, doctor
from mien.bundles import store
from mien.bundles.card import AffectCard, FaceCard, read_card, write_card
from mien.bundles.card_parts import TaskCard
from mien.bundles.engines import ENGINES, TOLERANCE, available, choose, open_engine
from mien.bundles.readme import readme
from mien.bundles.store import (
    AFFECT,
    FACES,
    QUALITY,
    bundles,
    load,
    load_detector,
    open_bundle,
    read_bundle,
)
from mien.errors import BundleError, MienError, MissingExtraError, UnknownNameError
from mien.faces.prepare import normalise, prepare
from mien.tasks import TASKS

NAMES = sorted(bundles())
EACH = pytest.mark.parametrize("name", NAMES)
EACH_ENGINE = pytest.mark.parametrize("engine", available())
READERS = [name for name in NAMES if isinstance(open_bundle(name).card, AffectCard)]
# mien-face has the width that faces half covered or on their sides take.
SIZES = {AFFECT: 6_000_000, FACES: 600_000}
RANDOM = np.random.default_rng(5)


@cache
def inputs(name: str) -> np.ndarray:
    """Input of a bundle's network: 16 real crops of the portrait, or 16 parts of it in luma."""
    card, portrait = open_bundle(name).card, demo.portrait()
    if isinstance(card, FaceCard):
        luma = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
        corners = np.random.default_rng(1).integers(0, 250, (16, 2))
        return np.stack([luma[y : y + 192, x : x + 256] for y, x in corners])[:, None].astype(
            np.float32
        )
    return normalise(crops(card, 16), card.pixels)


def crops(card: AffectCard, count: int) -> list[np.ndarray]:
    """Real crops: the portrait's face, first as it is, then in different lights and sharpness."""
    (face, *_) = load_detector(engine="onnxruntime").find(demo.portrait())
    random = np.random.default_rng(2)
    crop, made = prepare(demo.portrait(), face, card.pixels), []
    for i in range(count):
        light = np.clip(crop * random.uniform(0.5, 1.3) + random.uniform(-30, 30), 0, 255).astype(
            np.uint8
        )
        made.append(cv2.GaussianBlur(light, (0, 0), random.uniform(0.3, 3)) if i else crop)
    return made


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of a bundle in a folder of its own, its card changed."""

    def make(
        name: str = AFFECT,
        change: Callable[[dict[str, Any]], object] = lambda _: None,
        folder: str = "copy",
    ) -> Path:
        target = tmp_path / folder
        shutil.copytree(bundles()[name], target)
        card = json.loads((target / "card.json").read_text(encoding="utf-8"))
        change(card)
        (target / "card.json").write_text(json.dumps(card), encoding="utf-8")
        return target

    return make


@pytest.fixture
def no_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an engine was given the network")

    monkeypatch.setattr("mien.bundles.store.open_engine", refuse)


# every bundle that comes with mien


def test_the_two_bundles_are_here():
    assert {AFFECT, FACES} <= set(NAMES)
    assert isinstance(open_bundle(AFFECT).card, AffectCard)
    assert isinstance(open_bundle(FACES).card, FaceCard)


@EACH
def test_the_card_names_its_folder_and_its_network(name):
    bundle = open_bundle(name)
    content = (bundle.folder / "model.onnx").read_bytes()
    # A former version lies in a folder with its number.
    assert bundle.card.name == bundle.folder.name.partition("@")[0] == name.partition("@")[0]
    assert bundle.card.sha256 == hashlib.sha256(content).hexdigest()
    assert bundle.network() == content


@EACH
def test_the_network_is_small_and_carries_nothing_from_outside(name):
    content = open_bundle(name).network()
    assert len(content) <= SIZES.get(name, 6_000_000)
    assert b"external_data" not in content


@EACH
def test_the_readme_is_made_from_the_card(name):
    bundle = open_bundle(name)
    assert (bundle.folder / "README.md").read_text(encoding="utf-8") == readme(bundle.card)


@EACH
def test_the_card_comes_back_as_it_was_written(name, tmp_path):
    card = open_bundle(name).card
    write_card(card, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == card
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


@EACH
def test_the_readme_says_all_that_the_card_says(name):
    card = open_bundle(name).card
    text = readme(card)
    said = [
        card.summary,
        card.licence,
        card.sha256,
        *card.limits,
        *card.not_for,
        *(terms.terms for terms in card.trained_on),
    ]
    said += [f"{score.value:.3f}" for score in card.scores] + [score.data for score in card.scores]
    if isinstance(card, AffectCard):
        said += [spec.supervised_by for spec in card.tasks] + [
            one for spec in card.tasks for one in spec.names
        ]
    assert [one for one in said if one not in text] == []
    assert text.startswith(f"# {card.name}\n")
    assert text.endswith(".\n")


def test_a_bar_in_a_card_does_not_break_the_readme_s_table():
    card = open_bundle(FACES).card
    odd = card.model_copy(
        update={
            "trained_on": (card.trained_on[0].model_copy(update={"terms": "one | two\nthree"}),)
        }
    )
    (row,) = [line for line in readme(odd).splitlines() if "one" in line and "two" in line]
    assert row.replace("\\|", "").count("|") == 4
    assert "three" in row


@pytest.mark.parametrize("name", READERS)
def test_tasks_on_the_card_are_mien_s_own_where_the_keys_agree(name):
    for task in load(name, "onnxruntime").tasks:
        assert task == TASKS.get(task.key, task)
        assert task.low < task.high
        assert len(set(task.names)) == len(task.names)


# engines


@EACH
@EACH_ENGINE
def test_every_engine_gives_the_same_numbers_on_real_input(name, engine):
    network, batch = open_bundle(name).network(), inputs(name)
    card = open_bundle(name).card
    scores = (
        len(card.tasks) if isinstance(card, AffectCard) else None
    )  # features in 8 bits are nobody's score
    reference, found = (
        open_engine(network, one).run(batch, scores) for one in ("onnxruntime", engine)
    )
    assert len(found) == len(reference)
    for i, (ours, theirs) in enumerate(zip(found, reference, strict=True)):
        assert ours.dtype == np.float32
        assert np.isfinite(ours).all()
        if isinstance(
            card, AffectCard
        ):  # scores are what people compare, and the card promises how far they may differ
            task = card.tasks[i].task
            np.testing.assert_allclose(
                task.decode(ours), task.decode(theirs), rtol=0, atol=card.tolerance
            )
        else:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@EACH
@EACH_ENGINE
@pytest.mark.parametrize("threads", [1, 2])
def test_one_by_one_is_the_same_as_sixteen_together(name, engine, threads):
    running, batch = open_engine(open_bundle(name).network(), engine, threads), inputs(name)
    together = running.run(batch)
    alone = [running.run(batch[i : i + 1]) for i in range(len(batch))]
    for i, output in enumerate(together):
        np.testing.assert_allclose(
            np.concatenate([one[i] for one in alone]), output, rtol=0, atol=TOLERANCE
        )
    again = running.run(batch)
    assert all(np.array_equal(a, b) for a, b in zip(together, again, strict=True))


@EACH_ENGINE
def test_results_stay_when_the_engine_runs_again(engine):
    running, batch = open_engine(open_bundle(AFFECT).network(), engine), inputs(AFFECT)
    first = running.run(batch[:4])
    kept = [output.copy() for output in first]
    running.run(batch[4:8])
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))


@EACH_ENGINE
@pytest.mark.parametrize(
    "content", [b"", b"not a network", bytes(range(256)) * 9], ids=["empty", "words", "bytes"]
)
def test_what_is_no_network_is_one_clear_line(engine, content):
    with pytest.raises(
        BundleError, match=f"{engine} cannot read this network.*get the bundle again"
    ) as caught:
        open_engine(content, engine)
    assert str(caught.value).isprintable()
    assert ".cpp" not in str(caught.value)


@EACH_ENGINE
def test_half_a_network_is_one_clear_line(engine):
    network = open_bundle(FACES).network()
    with pytest.raises(BundleError, match="cannot read this network"):
        open_engine(network[: len(network) // 2], engine)


@EACH_ENGINE
def test_the_engine_itself_prints_nothing(engine, copy, capfd):
    with pytest.raises(BundleError, match="does not take"):
        load(copy(AFFECT, lambda c: c["pixels"].update(size=16)), engine)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_engine_is_told_the_nearest():
    with pytest.raises(
        UnknownNameError, match="no engine named 'onnxruntme'; did you mean onnxruntime"
    ):
        load(AFFECT, "onnxruntme")


@pytest.mark.parametrize(
    "installed",
    [["onnxruntime"], ["openvino", "onnxruntime"], ["onnxruntime", "openvino"]],
    ids="+".join,
)
def test_auto_is_onnx_runtime_whatever_else_is_installed(installed, monkeypatch):
    monkeypatch.setattr("mien.bundles.engines.available", lambda: installed)
    assert choose() == choose("auto") == "onnxruntime"
    assert load(AFFECT).engine == load(AFFECT, "onnxruntime").engine == "onnxruntime"


def test_installed_engines_are_known_ones_and_auto_s_comes_first():
    assert set(available()) <= set(ENGINES)
    assert available()[0] == choose()


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose() == "onnxruntime"
    with pytest.raises(MissingExtraError, match=r'pip install "mien\[openvino\]"'):
        load(AFFECT, "openvino")


def test_another_engine_never_stands_in_for_onnx_runtime(monkeypatch):
    monkeypatch.setattr("mien.bundles.engines.available", lambda: ["openvino"])
    for name in ("auto", "onnxruntime"):
        with pytest.raises(MienError, match=r"onnxruntime.*install mien again"):
            choose(name)


def test_without_any_engine_the_error_says_to_install_mien_again(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("auto", "onnxruntime"):
        with pytest.raises(MienError, match=r"onnxruntime.*install mien again"):
            choose(name)


# a bundle that is not what it says


@EACH
@pytest.mark.usefixtures("no_engine_runs")
def test_one_changed_byte_is_refused_before_any_engine_sees_it(name, copy):
    folder = copy(name)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(
        BundleError, match=r"model\.onnx: altered or incomplete.*get the bundle again"
    ):
        (load_detector if name == FACES else load)(folder)


@pytest.mark.usefixtures("no_engine_runs")
def test_a_network_that_is_cut_off_or_gone_is_named(copy):
    folder = copy()
    network = folder / "model.onnx"
    network.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(BundleError, match="altered or incomplete"):
        load(folder)
    network.unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: No such file"):
        load(folder)


def test_a_folder_that_is_no_bundle_is_a_wrong_name(tmp_path):
    with pytest.raises(
        UnknownNameError,
        match=r"a bundle is a folder with card\.json and model\.onnx.*did you mean",
    ):
        load(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(
        BundleError,
        match=r"card\.json: No such file.*a bundle is a folder with card\.json and model\.onnx",
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: c.update(temprature={}), "temprature"),
        (lambda c: c.pop("licence"), "licence"),
        (lambda c: c.pop("pixels"), "pixels"),
        (lambda c: c.pop("reads"), "reads"),
        (lambda c: c.update(reads="minds"), "reads"),
        (lambda c: c.update(card=2), "card"),
        (lambda c: c.update(sha256="abc"), "sha256"),
        (lambda c: c.update(sha256=c["sha256"].upper()), "sha256"),
        (lambda c: c.update(name="../up"), "name"),
        (lambda c: c.update(summary=3), "summary"),
        (lambda c: c.update(limits=[]), "limits"),
        (lambda c: c.update(tasks=[], presence=None, uncertain_below=None), "tasks"),
        (lambda c: c.update(search={}), "search"),
        (lambda c: c["pixels"].update(size="112"), r"pixels\.size"),
        (lambda c: c["pixels"].update(siez=112), r"pixels\.siez"),
        (lambda c: c["pixels"].update(mean=[127, 127]), "pixels"),
        (
            lambda c: c["pixels"].update(mean=[float("nan")] * len(c["pixels"]["mean"])),
            r"pixels\.mean\.0",
        ),
        (lambda c: c["tasks"][1].update(kind="guess"), r"tasks\.1\.kind"),
        (lambda c: c["tasks"][0].pop("names"), r"tasks\.0\.names"),
        (lambda c: c["tasks"].append(c["tasks"][0]), "tasks"),
        (
            lambda c: c["tasks"][0]["names"].reverse(),
            r"tasks\.0: .*names: expr\.ferplus8 has neutral, .*, contempt, not contempt, ",
        ),
        (
            lambda c: c["tasks"][1].update(names=["arousal", "valence"]),
            r"tasks\.1: .*names: va has valence, arousal, not arousal, valence",
        ),
        (
            lambda c: c["tasks"][1].update(low=0),
            r"tasks\.1: .*low: va has -1\.0, not 0\.0; labels of one's own need a key of their own",
        ),
        (
            lambda c: c["tasks"][1].update(kind="any_of"),
            r"tasks\.1: .*kind: va has scalar, not any_of",
        ),
        (
            lambda c: c["tasks"][0].update(key="expr.mine", names=["a"] * 8),
            r"tasks\.0: .*names: one comes twice",
        ),
        (
            lambda c: c.update(summary="\x1b[2J\x1b]0;mine\x07"),
            r"summary: .*cannot be shown: \\x1b\[2J",
        ),
        (
            lambda c: c["limits"].append("\u202eback to front"),
            r"limits: .*cannot be shown: \\u202eback",
        ),
        (lambda c: c["trained_on"][0].update(data="\x1b[2J"), r"trained_on\.0\.data"),
        (lambda c: c.update({"\x1b[2J": 1}), r"\\x1b\[2J: Extra"),
        (lambda c: c["made"].update(seed="0"), r"made\.seed"),
        (lambda c: c["trained_on"][0].update(used_for="fun"), r"trained_on\.0\.used_for"),
        (lambda c: c.update(temperature={"expr": 0}), r"temperature\.expr"),
        (lambda c: c.update(temperature={"expression": 1.5}), "temperature"),
        (lambda c: c.update(features=0), "features"),
        (lambda c: c.update(features="320"), "features"),
        (lambda c: c.update(features=True), "features"),
    ],
)
@pytest.mark.usefixtures("no_engine_runs")
def test_a_wrong_card_is_an_error_that_names_file_and_key(change, key, copy):
    folder = copy(AFFECT, change)
    with pytest.raises(BundleError, match=rf"card\.json: .*{key}") as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "crops." not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: c["search"].update(least=1), r"search\.least"),
        (lambda c: c["search"].update(window=100), r"search\.window"),
        (lambda c: c["search"].pop("side"), r"search\.side"),
        (lambda c: c.update(tasks=[], presence=None, uncertain_below=None), "tasks"),
    ],
)
def test_a_wrong_card_of_a_face_finder_is_too(change, key, copy):
    folder = copy(FACES, change)
    with pytest.raises(BundleError, match=rf"card\.json: {key}: "):
        load_detector(folder)


@pytest.mark.parametrize("change", [{}, {"reads": "minds"}, {"tasks": "of another form"}])
def test_a_card_of_a_newer_mien_says_so(change, copy):
    folder = copy(AFFECT, lambda c: c.update(card=2, **change))
    with pytest.raises(
        BundleError,
        match=r"card\.json: written for a newer mien \(card 2; this one reads 1\); "
        "update mien: pip install",
    ):
        load(folder)


def test_line_breaks_in_a_card_become_spaces(copy):
    assert (
        open_bundle(
            copy(AFFECT, lambda c: c.update(licence="one\n\ttwo\u00a0three \n"))
        ).card.licence
        == "one two three"
    )


@pytest.mark.parametrize(
    "text", ["می\u200cخواهم", "👩\u200d🔬 café", "\U0001fae9"], ids=["Persian", "joined", "new"]
)
def test_texts_of_any_language_can_be_on_a_card(copy, text):
    assert open_bundle(copy(AFFECT, lambda c: c.update(summary=text))).card.summary == text


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_every_task_of_mien_can_be_on_a_card(task):
    facts = {
        "key": task.key,
        "names": task.names,
        "kind": task.kind,
        "low": task.low,
        "high": task.high,
    }
    assert TaskCard(**facts, supervised_by="people").task == task


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"card": 1}'])
def test_a_card_that_is_no_card_is_one_clear_line(text, copy):
    folder = copy()
    (folder / "card.json").write_bytes(text)
    with pytest.raises(
        BundleError, match=r"card\.json: the file: .*get the bundle again"
    ) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@EACH_ENGINE
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda c: c["pixels"].update(colour="rgb", mean=[0, 0, 0], std=[1, 1, 1]),
            "does not take",
        ),
        (
            lambda c: c["tasks"][0].update(key="expr.mine", names=c["tasks"][0]["names"][:-1]),
            "the network gives",
        ),
        (lambda c: (c["tasks"].pop(), c.pop("presence")), "the network gives"),
        (lambda c: c["tasks"].reverse(), "the network gives"),
        (lambda c: c.update(features=320), "the network gives"),
    ],
    ids=["colour", "names", "fewer", "order", "features"],
)
def test_a_card_that_speaks_of_another_network_is_found_out_on_loading(change, why, engine, copy):
    folder = copy(AFFECT, change)
    with pytest.raises(BundleError, match=why):
        load(folder, engine)


def with_a_twin(
    copy: Callable[..., Path], order: Sequence[str], told: Sequence[str], made_by: str = "Neg"
) -> Path:
    """A bundle whose network also gives `ce`, as wide as its expressions and made of them."""
    folder = copy(folder="-".join((*order, *told, made_by)))
    network = onnx.load(folder / "model.onnx")
    network.graph.node.append(onnx.helper.make_node(made_by, ["expr"], ["ce"]))
    del network.graph.output[:]
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 8])
        for name in order
    ]
    network.graph.output.extend(outputs)
    content = network.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    tasks = {"expr": card["tasks"][0], "ce": {**card["tasks"][0], "key": "ce.mine"}}
    card.update(
        tasks=[tasks[name] for name in told],
        presence=None,
        uncertain_below=None,
        sha256=hashlib.sha256(content).hexdigest(),
        features=None,
        temperature={},
    )
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


@EACH_ENGINE
def test_outputs_of_one_width_in_another_order_are_found_out_on_loading(engine, copy):
    assert load(with_a_twin(copy, ["ce", "expr"], ["ce", "expr"]), engine).score([])[
        "ce"
    ].shape == (0, 8)
    # An engine may take both names for one thing.
    assert load(with_a_twin(copy, ["ce"], ["ce"], "Identity"), engine).tasks[0].key == "ce.mine"
    for told in (["expr", "ce"], ["ce"]):
        with pytest.raises(
            BundleError,
            match=f"the network gives ce, expr, the card says {', '.join(told)}; do not use it",
        ):
            load(with_a_twin(copy, ["ce", "expr"], told), engine)


def test_loading_a_bundle_imports_no_tool_that_only_looks_into_it():
    code = f"import mien, sys; mien.load({AFFECT!r}); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"onnx", "mien.zoo", "torch"} & set(loaded)


@EACH_ENGINE
def test_an_affect_network_with_a_face_finder_s_card_is_found_out_on_loading(engine, copy):
    folder = copy(FACES, lambda c: c.update(sha256=open_bundle(AFFECT).card.sha256))
    shutil.copy(bundles()[AFFECT] / "model.onnx", folder)
    with pytest.raises(BundleError, match="the network"):
        load_detector(folder, engine)


def test_each_loader_refuses_the_other_kind_and_names_one_that_fits():
    with pytest.raises(
        BundleError,
        match=f"{FACES} finds faces and cannot read affect; use a bundle such as {AFFECT}",
    ):
        load(FACES)
    with pytest.raises(
        BundleError,
        match=f"{AFFECT} reads affect and cannot find faces; use a bundle such as {FACES}",
    ):
        load_detector(AFFECT)


@pytest.mark.parametrize(
    ("name", "near"),
    [("mien-z", "mien-s"), ("mien-fac", "mien-face"), ("/no/such/folder", "mien-face or ")],
)
def test_an_unknown_name_is_told_the_nearest(name, near):
    with pytest.raises(UnknownNameError, match=f"no bundle named '{name}'; did you mean {near}"):
        load(name)


@pytest.fixture
def mine(copy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a bundle that is installed by the name `mine`."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    return copy(AFFECT, lambda c: c.update(name="mine"), "bundles/mine")


def test_a_bundle_whose_place_nothing_has_taken_is_still_there(mine):
    mine.rename(mine.with_name(".mine.old"))
    assert open_bundle("mine").card.name == load("mine", "onnxruntime").card.name == "mine"
    shutil.copytree(mine.with_name(".mine.old"), mine)
    assert open_bundle("mine").folder == mine
    with pytest.raises(UnknownNameError):
        open_bundle("../bundles/.mine.old")


@pytest.mark.parametrize("when", ["before it is seen", "before it is read"])
def test_a_bundle_that_is_replaced_while_it_is_looked_for_is_found(when, mine, monkeypatch):
    away, look = mine.with_name("away"), store.bundles

    def in_between() -> dict[str, Path]:
        if away.exists():
            away.rename(mine)
            return look()
        found = look() if when == "before it is read" else {}
        mine.rename(away)
        return found

    monkeypatch.setattr(store, "bundles", in_between)
    assert open_bundle("mine").folder == mine


@pytest.mark.parametrize(
    "read",
    [lambda: read_bundle("mine")[0], lambda: load("mine", "onnxruntime")],
    ids=["bytes", "network"],
)
def test_a_card_and_a_network_go_together_while_their_bundle_is_replaced(
    read, mine, copy, monkeypatch
):
    newer = copy(AFFECT, lambda c: c.update(name="mine"), "newer")
    network = onnx.load(newer / "model.onnx")
    network.doc_string = "newer"
    (newer / "model.onnx").write_bytes(network.SerializeToString())
    card = json.loads((newer / "card.json").read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256((newer / "model.onnx").read_bytes()).hexdigest()
    (newer / "card.json").write_text(json.dumps(card), encoding="utf-8")
    look = store.read_card

    def in_between(path: Path) -> AffectCard | FaceCard:
        found = look(path)
        if newer.exists():
            shutil.rmtree(mine)
            newer.rename(mine)
        return found

    monkeypatch.setattr(store, "read_card", in_between)
    assert read().card.sha256 == card["sha256"]
    (mine / "model.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered or incomplete"):
        read()


def test_an_empty_name_is_no_folder(monkeypatch):
    monkeypatch.chdir(bundles()[AFFECT])
    for read in (load, load_detector, open_bundle):
        with pytest.raises(
            UnknownNameError, match="no bundle named ''; did you mean mien-face or "
        ):
            read("")
    assert open_bundle(Path()).card.name == AFFECT


@EACH_ENGINE
@pytest.mark.parametrize("folder", ["with space", "лицо 顔 é", "quote'and%percent"])
def test_a_folder_of_any_name_works(folder, engine, copy):
    path = copy(AFFECT, lambda c: c.update(summary=folder), folder)
    assert load(str(path), engine).card.summary == folder


def test_a_path_is_a_folder_even_when_a_bundle_has_that_name(copy, monkeypatch):
    folder = copy(AFFECT, lambda c: c.update(summary="mine"), folder=AFFECT)
    monkeypatch.chdir(folder.parent)
    assert open_bundle(Path(AFFECT)).card.summary == "mine"
    assert open_bundle(f"./{AFFECT}").card.summary == "mine"
    assert open_bundle(AFFECT).card.summary == read_card(bundles()[AFFECT] / "card.json").summary


# what it reads


@cache
def model() -> store.Model:
    return load(AFFECT, "onnxruntime")


def named(scores: dict[str, Any], family: str, row: int = 0) -> dict[str, float]:
    (task,) = [task for task in model().tasks if task.family == family]
    return dict(zip(task.names, scores[family][row].tolist(), strict=True))


@EACH_ENGINE
def test_the_portrait_smiles(engine):
    scores = load(AFFECT, engine).score_prepared(crops(model().card, 1))
    expr, va, au = (named(scores, family) for family in ("expr", "va", "au"))
    assert max(expr, key=lambda name: expr[name]) == "happiness"
    assert expr["happiness"] > 0.7
    assert va["valence"] > 0.3
    assert au["AU12"] > 0.4
    assert au["AU12"] > 3 * max(au["AU15"], au["AU04"])


def test_scores_are_what_the_tasks_say():
    scores = model().score_prepared(crops(model().card, 16))
    for task in model().tasks:
        values = scores[task.family]
        assert values.shape == (16, len(task.names))
        assert values.min() >= task.low
        assert values.max() <= task.high
        if task.kind == "one_of":
            np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


def test_a_temperature_softens_its_own_family_only(copy):
    folder = copy(AFFECT, lambda c: c.update(temperature={"expr": 3.0}))
    made = crops(model().card, 4)
    hot, usual = (
        load(folder, "onnxruntime").score_prepared(made),
        load(copy(folder="cold", change=lambda c: c.update(temperature={})), "onnxruntime"),
    )
    usual = usual.score_prepared(made)
    softer = usual["expr"].astype(float) ** (1 / 3)
    np.testing.assert_allclose(hot["expr"], softer / softer.sum(axis=1, keepdims=True), atol=1e-3)
    np.testing.assert_allclose(hot["au"], usual["au"], atol=1e-3)


def test_points_align_a_crop_as_the_whole_frame_would_be():
    portrait = demo.portrait()
    (face, *_) = load_detector(engine="onnxruntime").find(portrait)
    whole = model().score_prepared([prepare(portrait, face, model().card.pixels)])
    left, top = 100, 10
    part = portrait[top:300, left:400]
    found = model().score(
        [part, portrait], points=np.stack([face.points - (left, top), face.points])
    )
    for family, values in whole.items():
        # OpenCV rounds a pixel's position to a 32nd, so the two crops differ by a grey level at
        # some pixels.
        np.testing.assert_allclose(found[family], np.repeat(values, 2, axis=0), atol=0.02)


def test_crops_of_any_size_score_as_each_does_alone():
    portrait = demo.portrait()[60:190, 165:290]
    sizes = [(48, 48), (112, 112), (300, 280), (20, 200), (1, 1), (500, 90)]
    mixed = [cv2.resize(portrait, size, interpolation=cv2.INTER_AREA) for size in sizes]
    together = model().score(mixed)
    for i, crop in enumerate(mixed):
        for family, values in model().score([crop]).items():
            np.testing.assert_allclose(together[family][i], values[0], atol=TOLERANCE)
    assert named(together, "expr", 2)["happiness"] > 0.5


def test_very_many_crops_come_out_in_order():
    made = crops(model().card, 5)
    found = model().score_prepared([made[i % 5] for i in range(150)])
    for family, values in model().score_prepared(made).items():
        np.testing.assert_allclose(found[family], np.tile(values, (30, 1)), atol=TOLERANCE)


@pytest.mark.parametrize("score", ["score", "score_prepared"])
def test_no_crops_give_empty_scores_of_the_right_width(score):
    found = getattr(model(), score)([])
    assert {family: values.shape for family, values in found.items()} == {
        t.family: (0, len(t.names)) for t in model().tasks
    }


OK = np.zeros((112, 112, 3), np.uint8)


@pytest.mark.parametrize(
    ("crops", "points", "why"),
    [
        ([OK, OK.astype(np.float32)], None, "crop 1 must be RGB uint8.*float32"),
        ([OK[..., 0]], None, r"crop 0 must be RGB uint8.*\(112, 112\)"),
        ([OK[..., :1]], None, "crop 0 must be"),
        ([np.zeros((9, 9, 4), np.uint8)], None, "crop 0 must be"),
        ([np.zeros((0, 9, 3), np.uint8)], None, "crop 0 must be"),
        (OK, None, "crop 0 must be"),
        (["photo.jpg"], None, "crop 0 must be RGB uint8.*got str"),
        ([OK], np.zeros((2, 5, 2)), r"points must be \(1, 5, 2\)"),
        ([OK], np.zeros((1, 4, 2)), "points must be"),
        ([OK, OK], np.zeros((5, 2)), "points must be"),
        ([OK], np.full((1, 5, 2), np.nan), "points must be finite"),
    ],
)
def test_what_is_no_crop_is_refused_with_its_number(crops, points, why):
    with pytest.raises(ValueError, match=why):
        model().score(crops, points=points)


@pytest.mark.parametrize(
    "crops",
    [[OK[:56]], [OK.astype(np.float32)], [OK[..., :1]], OK],
    ids=["size", "dtype", "grey", "one"],
)
def test_what_is_not_prepared_is_refused(crops):
    with pytest.raises(ValueError, match="must be uint8"):
        model().score_prepared(crops)


# doctor


def findings() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine()}


def test_the_doctor_lists_everything_and_finds_it_well():
    found = findings()
    parts = {
        "mien",
        "python",
        "cores",
        "numpy",
        "onnxruntime",
        "opencv-python-headless",
        "engine",
        "openvino",
        "torch",
    }
    assert parts | {f"bundle {name}" for name in NAMES} | {
        "reading h264",
        "writing libx264",
    } <= set(found)
    assert [finding.what for finding in found.values() if finding.ok is False] == []
    for name in NAMES:
        assert open_bundle(name).card.sha256 in found[f"bundle {name}"].state
    assert choose() in found["engine"].state


def test_the_doctor_points_at_a_broken_bundle_and_only_at_it(copy, monkeypatch):
    folder = copy(AFFECT, folder=f"embedded/{AFFECT}")
    for name in {*bundles()} - {AFFECT}:
        shutil.copytree(bundles()[name], folder.parent / name)
    (folder / "model.onnx").write_bytes(b"\0" + (folder / "model.onnx").read_bytes()[1:])
    monkeypatch.setattr(store, "_EMBEDDED", folder.parent)
    found = findings()
    assert [what for what, finding in found.items() if finding.ok is False] == [f"bundle {AFFECT}"]
    assert "altered or incomplete" in found[f"bundle {AFFECT}"].state


def test_the_doctor_misses_bundles_that_are_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_EMBEDDED", tmp_path)
    assert {what for what, finding in findings().items() if finding.ok is False} == {
        f"bundle {AFFECT}",
        f"bundle {FACES}",
        f"bundle {QUALITY}",
    }


def test_the_doctor_survives_without_engines(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert findings()["engine"].ok is False
