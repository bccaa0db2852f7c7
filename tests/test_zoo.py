"""The zoo: files are verified before use, and bundles tested before they get their names.

Bad connections leave nothing half-done.
"""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import zipfile
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from typer.testing import CliRunner
from zoo_server import COMMIT, affect_network, face_network, serving

from mien import zoo
from mien.bundles.card import AffectCard
from mien.bundles.card_parts import NOT_FOR
from mien.bundles.gate import MOST_BYTES
from mien.bundles.store import bundles, embedded, home, installed, load, load_detector, open_bundle
from mien.cli import app
from mien.demo import portrait
from mien.errors import BundleError, MienError, OutputError, UnknownNameError
from mien.faces.detect import STRIDES
from mien.tasks import TASKS
from mien.zoo.archive import _unpacked
from mien.zoo.fetch import RetryPolicy, fetch
from mien.zoo.index import File

ROOT = Path(__file__).parents[1]
QUICK = RetryPolicy(timeout=5, tries=3, pause=0.01)
HASTY = RetryPolicy(timeout=0.5, tries=3, pause=0.01, least=256)
AFFECT = affect_network()
TASK_ENTRIES = [
    {
        "key": "expr.affectnet8",
        "names": list(TASKS["expr.affectnet8"].names),
        "kind": "one_of",
        "low": 0.0,
        "high": 1.0,
        "supervised_by": "chance",
        "columns": list(range(8)),
    },
    {
        "key": "va",
        "names": ["valence", "arousal"],
        "kind": "scalar",
        "low": -1.0,
        "high": 1.0,
        "supervised_by": "chance",
        "columns": [8, 9],
    },
]
PIXELS = {
    "size": 32,
    "colour": "rgb",
    "alignment": "box",
    "template": None,
    "margin": 0.0,
    "mean": [127.5] * 3,
    "std": [127.5] * 3,
    "resize": "area",
}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """A home of its own, and no proxy of this machine between."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def shelf():
    with serving() as shelf:
        yield shelf


def blob_id(content: bytes) -> str:
    """As `git hash-object` has it."""
    if not shutil.which("git"):
        pytest.skip("needs git, which knows the id")
    return (
        subprocess.run(
            ["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True
        )
        .stdout.decode()
        .strip()
    )


def file_entry(shelf, content: bytes = AFFECT, name: str = "net.onnx", **changes) -> dict:
    """A file of an entry, put on the shelf."""
    hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    return {
        "name": name,
        "role": "network",
        "url": shelf.put(name, content),
        "most": len(content) + 1000,
        **hashes,
        **changes,
    }


def entry(
    folder: Path, files: list[dict], name: str = "tiny", tasks: list[dict] | None = None, **changes
) -> Path:
    """The file of an index entry."""
    score = {
        "metric": "expr accuracy",
        "value": 0.5,
        "data": "nothing",
        "protocol": "a guess",
        "source": "nowhere",
    }
    seen = [{"data": "noise", "used_for": "training", "terms": "free"}]
    network = {"reads": "crops", "pixels": PIXELS, "outputs": tasks or TASK_ENTRIES}
    page = {
        "index": 1,
        "name": name,
        "summary": "A tiny network.",
        "files": files,
        "commit": COMMIT,
        "code_licence": "MIT",
        "licence": "CC0-1.0",
        "trained_on": seen,
        "network": network,
        "architectures": [],
        "published": [score],
        "limits": ["it is random"],
        **changes,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(page))
    return path


def run_cli(*args) -> tuple[int, str]:
    """Exit code and all that was printed."""
    result = CliRunner().invoke(app, ["bundles", *map(str, args)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def left() -> set[str]:
    """Files under the home folder, without locks, records of pulls and entries of weights."""
    files = [
        path.relative_to(home())
        for path in home().rglob("*")
        if path.is_file() and path.name != ".entry.json"
    ]
    return {str(path) for path in files if path.parts[0] not in {"locks", "pulled"}}


WHOLE = {f"bundles/tiny/{file}" for file in ("card.json", "model.onnx", "README.md")}


# the index


def test_every_entry_is_pinned_to_the_published_content():
    known = zoo.entries()
    ids = {file.name: file.blob or file.sha256 for each in known.values() for file in each.files}
    assert ids == {
        "enet_b0_8_best_afew.onnx": "d87faf71e8756d68c701ffd88b4cde4be460f57d",
        "enet_b0_8_best_vgaf.onnx": "49772db4e87ee6df57087fba131832a959e5c64d",
        "enet_b0_8_va_mtl.onnx": "7ce9d6dd5b82b260bc19bfe7822a6ffa1abb6011",
        "enet_b2_7.onnx": "cdd6a6070b72ed2e59e15e810ae0ecdbcb0f7626",
        "enet_b2_8.onnx": "a7cb612cbab1ce3d50dd52e57285fb2c7ea6d0d9",
        "mbf_va_mtl.onnx": "194db927ec135679e5cd0a267c5605e2e9d68e7e",
        "mobilevit_va_mtl.onnx": "bed5781a1af9924536638ac3786603e124ee900e",
        "enet_b0_8_best_afew.pt": "9540c8beff661f1c2fca16de63b530cce24bb17d",
        "enet_b0_8_best_vgaf.pt": "7219cfb037209b253ea8b81cf969e60a00e9181c",
        "enet_b0_8_va_mtl.pt": "b7223bd1ab092a1b5a42bc04a5f4fbfe4d9f8b9b",
        "enet_b2_7.pt": "5a8ccbb17913461296003be726a22b6fc40d602b",
        "enet_b2_8.pt": "eed81e6368877e89f8a99cfabadae7c3ddc3a949",
        "mbf_va_mtl.pt": "522bdabca7c655a7abde9cfca17e3dfcceadf9a0",
        "mobilevit_va_mtl.pt": "d648cb1a20a5b1ab0af64192ec9be39e5cdd3961",
        "state_vggface2_enet0_new.pt": "496a7036adeb300a6371d99bcccb28404f2f52d5",
        "state_vggface2_enet2.pt": "be6ad8550fc0043d1ee90553eee654252167322a",
        "yunet_n_dynamic.onnx": "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
    }
    for name, each in known.items():
        assert each.name == name
        assert name not in embedded()
        for file in each.files:
            assert file.url.startswith(
                (
                    "https://raw.githubusercontent.com/sb-ai-lab/",
                    "https://raw.githubusercontent.com/ShiqiYu/",
                )
            )
            assert file.url.endswith(f"/{file.name}")


def test_label_orders_are_those_of_the_networks():
    seven = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    for each in zoo.entries().values():
        for spec in each.tasks:
            assert spec.task == TASKS.get(spec.key, spec.task)
            if spec.task.family == "expr":
                assert spec.names == (seven if "7" in each.name else TASKS["expr.affectnet8"].names)
        assert each.not_for == NOT_FOR


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"index": 2}, "newer mien"),
        ({"index": 2, "files": "of another form"}, "newer mien"),
        ({"index": 0}, "index"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"licence": None}, "licence"),
        ({"published": []}, "published"),
        ({"network": None}, "network"),
        ({"commit": "0" * 40}, "not pinned to the commit"),
        ({"name": "../up"}, "name"),
    ],
)
def test_a_wrong_entry_is_named_with_its_key(changes, why, shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    page = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(page))
    with pytest.raises(BundleError, match=re.escape(str(path)) + ".*" + why) as raised:
        zoo.pull(path)
    assert "\n" not in str(raised.value)
    assert not shelf.asked
    assert not left()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": None}, "cannot be verified"),
        ({"url": "ftp://a/b"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"name": "../up"}, "name"),
        ({"name": ".part"}, "name"),
        ({"most": 0}, "most"),
    ],
)
def test_a_wrong_file_of_an_entry_is_refused(changes, why, shelf, tmp_path):
    with pytest.raises(BundleError, match=why):
        zoo.pull(entry(tmp_path, [file_entry(shelf, **changes)]))


def test_what_is_no_entry_is_refused(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        zoo.entry("not-there.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BundleError, match="no JSON"):
        zoo.entry(tmp_path / "bad.json")
    with pytest.raises(UnknownNameError, match="mt-emotieffnet-b0"):
        zoo.entry("mt-emotiefnet-b0")


# pulling


def test_a_pulled_bundle_gives_the_numbers_of_the_original(shelf, tmp_path):
    seen = []
    pulled = zoo.pull(
        entry(tmp_path, [file_entry(shelf, blob=blob_id(AFFECT))]),
        progress=lambda *now: seen.append(now),
    )
    assert (pulled.name, pulled.fresh, pulled.weights) == ("tiny", True, None)
    assert left() == WHOLE
    assert seen[-1] == ("net.onnx", len(AFFECT), len(AFFECT))
    model = load("tiny")
    crops = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    features, raw = model.features_and_raw(list(crops))
    batch = (crops.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    expected = onnxruntime.InferenceSession(AFFECT, providers=["CPUExecutionProvider"]).run(
        None, {"input": batch}
    )[0]
    np.testing.assert_allclose(np.hstack([raw["expr"], raw["va"]]), expected, atol=1e-4)
    assert features.shape == (5, 6)
    scores = model.score(list(crops))
    np.testing.assert_allclose(scores["va"], np.clip(expected[:, 8:], -1, 1), atol=1e-4)
    np.testing.assert_allclose(
        scores["expr"],
        np.exp(expected[:, :8]) / np.exp(expected[:, :8]).sum(axis=1, keepdims=True),
        atol=1e-4,
    )


def test_the_card_says_where_it_comes_from_and_what_nobody_measured(shelf, tmp_path):
    zoo.pull(entry(tmp_path, [file_entry(shelf)]))
    card = open_bundle("tiny").card
    assert isinstance(card, AffectCard)
    assert card.scores == ()
    assert card.published[0].value == 0.5
    assert (card.made.commit, card.made.seed, card.licence, card.not_for) == (
        COMMIT,
        None,
        "CC0-1.0",
        NOT_FOR,
    )
    assert hashlib.sha256(AFFECT).hexdigest() in card.made.cost
    page = (home() / "bundles/tiny/README.md").read_text()
    assert "published by its authors, not measured by mien" in page
    assert "seed" not in page


def test_columns_are_taken_in_the_order_of_the_entry(shelf, tmp_path):
    turned = [
        {**TASK_ENTRIES[1], "columns": [9, 8]},
        {**TASK_ENTRIES[0], "columns": list(range(7, -1, -1))},
    ]
    zoo.pull(entry(tmp_path, [file_entry(shelf)], tasks=turned))
    raw = load("tiny").features_and_raw([np.zeros((32, 32, 3), np.uint8)])[1]
    batch = np.full((1, 3, 32, 32), -1, np.float32)
    expected = onnxruntime.InferenceSession(AFFECT, providers=["CPUExecutionProvider"]).run(
        None, {"input": batch}
    )[0]
    assert list(raw) == ["va", "expr"]
    np.testing.assert_allclose(np.hstack([raw["va"], raw["expr"]]), expected[:, ::-1], atol=1e-4)


def test_a_face_finder_of_yunets_form_is_adapted(shelf, tmp_path):
    content = face_network()
    search = {"least": 0.5, "keep": 0.4, "overlap": 0.4, "side": 640, "window": 160}
    zoo.pull(
        entry(tmp_path, [file_entry(shelf, content)], network={"reads": "frames", "search": search})
    )
    luma = np.random.default_rng(0).uniform(0, 255, (1, 1, 64, 32)).astype(np.float32)
    network = open_bundle("tiny").network()
    (grid,) = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"]).run(
        None, {"image": luma}
    )
    original = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [out.name for out in original.get_outputs()]
    parts = dict(
        zip(names, original.run(names, {"input": np.repeat(luma, 3, axis=1)}), strict=True)
    )
    for part, columns in (("bbox", slice(1, 5)), ("kps", slice(5, 15))):
        np.testing.assert_allclose(
            grid[..., columns],
            np.concatenate([parts[f"{part}_{s}"] for s in STRIDES], axis=1),
            atol=1e-5,
        )
    score = np.concatenate(
        [np.sqrt(parts[f"cls_{s}"] * parts[f"obj_{s}"]) for s in STRIDES], axis=1
    )
    np.testing.assert_allclose(grid[..., :1], score, atol=1e-5)
    load_detector("tiny")
    with pytest.raises(BundleError, match="cannot read affect"):
        load("tiny")


def test_the_official_yunet_finds_what_mien_face_finds(shared):
    zoo.pull("yunet", source=shared / "models")
    frame = portrait()
    (ours, *_), (theirs, *_) = (
        load_detector("mien-face").find(frame),
        load_detector("yunet").find(frame),
    )
    eyes = np.hypot(*(ours.points[0] - ours.points[1]))
    assert np.abs(ours.points - theirs.points).max() < 0.2 * eyes


def test_a_second_pull_verifies_and_asks_nobody(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    assert run_cli("pull", path) == (0, f"tiny: pulled and verified; {home() / 'bundles/tiny'}\n")
    assert len(shelf.asked) == 1
    assert run_cli("pull", path) == (
        0,
        f"tiny: is here already, verified; {home() / 'bundles/tiny'}\n",
    )
    assert len(shelf.asked) == 1


def test_a_damaged_or_older_bundle_is_pulled_again(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    folder = zoo.pull(path).bundle
    (folder / "model.onnx").write_bytes(b"damaged")
    assert zoo.pull(path).fresh
    before = open_bundle("tiny").card.sha256
    newer = entry(tmp_path, [file_entry(shelf, affect_network(seed=1), "newer.onnx")])
    assert zoo.pull(newer).fresh
    assert open_bundle("tiny").card.sha256 != before
    assert left() == WHOLE


def test_weights_are_verified_and_kept_unopened(shelf, tmp_path):
    evil = b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR."
    files = [file_entry(shelf), file_entry(shelf, evil, "net.pt", role="weights")]
    path = entry(tmp_path, files)
    assert zoo.pull(path).weights is None
    with pytest.raises(BundleError, match="--weights"):
        zoo.weights(path)
    pulled = zoo.pull(path, weights=True)
    assert pulled.fresh
    assert pulled.weights.read_bytes() == evil
    assert zoo.weights(path) == pulled.weights
    assert not zoo.pull(path, weights=True).fresh
    pulled.weights.write_bytes(b"altered")
    with pytest.raises(BundleError, match="not whole"):
        zoo.weights(path)
    assert zoo.pull(path, weights=True).fresh
    assert not (tmp_path / "run").exists()


def test_an_entry_of_weights_alone_makes_no_bundle(shelf, tmp_path):
    path = entry(
        tmp_path,
        [file_entry(shelf, b"numbers", "start.pt", role="weights")],
        network=None,
        published=[],
    )
    pulled = zoo.pull(path)
    assert (pulled.bundle, pulled.weights.read_bytes()) == (None, b"numbers")
    assert not installed()
    assert list(zoo.kept()) == ["tiny"]
    zoo.remove("tiny")
    assert not left()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A MobileFaceNet as it is published: the ONNX file, and the whole pickled network."""
    zoo_forms = pytest.importorskip("zoo_forms", exc_type=ImportError)
    net = zoo_forms.mobilefacenet(10)
    path = zoo_forms.pt_file(net, tmp_path_factory.mktemp("published") / "net.pt")
    return zoo_forms.onnx_bytes(net, 112), path.read_bytes()


def test_weights_become_a_file_that_training_starts_from(published, shelf, tmp_path):
    from mien.train.networks.backbones import backbone
    from mien.train.networks.starting_weights import load_start

    network, pickled = published
    reads = {"reads": "crops", "pixels": {**PIXELS, "size": 112}, "outputs": TASK_ENTRIES}
    files = [file_entry(shelf, network), file_entry(shelf, pickled, "net.pt", role="weights")]
    code, lines = run_cli(
        "pull",
        entry(tmp_path, files, network=reads, architectures=["mobilefacenet-large"]),
        "--weights",
    )
    assert code == 1
    assert "do not fit mobilefacenet-large" in lines
    path = entry(
        tmp_path, files, network=reads, architectures=["mobilefacenet-large", "mobilefacenet"]
    )
    code, lines = run_cli("pull", path, "--weights")
    assert code == 0, lines
    start = home() / "weights/tiny/net.safetensors"
    assert lines.splitlines()[1] == f"tiny: every tensor in its place; start: {start}"
    assert load_start(backbone("mobilefacenet", 3, 112), start).fresh == ()
    model = onnx.load_model_from_string(network)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, "fc.bias"))
    other = file_entry(shelf, model.SerializeToString(), "other.onnx")
    code, lines = run_cli(
        "pull",
        entry(tmp_path, [other, files[1]], network=reads, architectures=["mobilefacenet"]),
        "--weights",
    )
    assert code == 1
    assert "not the same network" in lines


def test_a_pickle_that_asks_for_more_is_refused_by_name(shelf, tmp_path):
    evil = b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR."
    path = entry(
        tmp_path,
        [file_entry(shelf, evil, "net.pt", role="weights")],
        network=None,
        published=[],
        architectures=["mobilefacenet"],
    )
    code, lines = run_cli("pull", path)
    assert code == 1
    assert "Traceback" not in lines
    assert not (tmp_path / "run").exists()
    assert left() == {"weights/tiny/net.pt"}


def test_no_weights_to_have_is_told(shelf, tmp_path):
    with pytest.raises(BundleError, match="no weights"):
        zoo.pull(entry(tmp_path, [file_entry(shelf)]), weights=True)


@pytest.mark.parametrize("by", ["folder", "address"])
def test_files_come_from_a_mirror_with_the_same_hashes(by, shelf, tmp_path):
    path = entry(tmp_path, [{**file_entry(shelf), "url": f"http://127.0.0.1:1/{COMMIT}/net.onnx"}])
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net.onnx").write_bytes(AFFECT)
    mirror = tmp_path / "mirror" if by == "folder" else f"{shelf.address}/{COMMIT}/"
    assert run_cli("pull", path, "--from", mirror)[0] == 0
    zoo.remove("tiny")
    (tmp_path / "mirror" / "net.onnx").write_bytes(AFFECT[:-1] + b"x")
    shelf.put("net.onnx", AFFECT[:-1] + b"x")
    code, line = run_cli("pull", path, "--from", mirror)
    assert (code, line.count("\n")) == (1, 1)
    assert "not the file of the index" in line
    assert not left()


def test_a_mirror_without_the_file(shelf, tmp_path):
    code, line = run_cli("pull", entry(tmp_path, [file_entry(shelf)]), "--from", tmp_path)
    assert code == 1
    assert "net.onnx" in line
    assert "No such file" in line


# bad connections


def fails(path: Path, match: str, kind: type[MienError] = BundleError, **options) -> None:
    """The pull ends with one clear line, and no bundle of it is to be seen."""
    with pytest.raises(kind, match=match) as raised:
        zoo.pull(path, **{"patience": QUICK, **options})
    assert "\n" not in str(raised.value)
    assert not any(name.startswith("bundles/tiny/") for name in left())


ALTERED = AFFECT[:500] + bytes([AFFECT[500] ^ 1]) + AFFECT[501:]
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 16000000\n"
)


@pytest.mark.parametrize("hashed", ["sha256", "blob"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (ALTERED, "not the file of the index"),
        (AFFECT[:-7], "not the file of the index"),
        (b"", "not the file"),
        (POINTER, "LFS pointer"),
        (b"\n<!DOCTYPE HTML>\n<html>log in</html>", "a web page came"),
        (b"<html>no such page</html>", "a web page came"),
    ],
    ids=["altered", "truncated", "empty", "pointer", "login", "page"],
)
def test_what_is_not_the_file_is_thrown_away_unopened(  # noqa: PLR0917
    content, why, hashed, shelf, tmp_path, monkeypatch
):
    file = file_entry(shelf)
    if hashed == "blob":
        file = {
            **{key: value for key, value in file.items() if key != "sha256"},
            "blob": blob_id(AFFECT),
        }
    shelf.put("net.onnx", content)
    monkeypatch.setattr("mien.zoo.install.convert", lambda *_: pytest.fail("it was opened"))
    fails(entry(tmp_path, [file]), why)
    assert not left()


def test_a_wrong_size_is_told_as_such(shelf, tmp_path):
    fails(
        entry(tmp_path, [file_entry(shelf, size=len(AFFECT) + 1)]),
        f"{len(AFFECT)} bytes came, the index says {len(AFFECT) + 1}",
    )
    fails(
        entry(tmp_path, [file_entry(shelf, size=len(AFFECT) - 1)]),
        f"{len(AFFECT)} bytes are offered, more than",
    )
    assert not left()


def test_an_answer_without_end_is_cut(shelf, tmp_path):
    shelf.claimed_length = lambda _: None
    file = file_entry(shelf)
    shelf.put("net.onnx", AFFECT * 100)
    fails(entry(tmp_path, [file]), "more than")
    assert not left()


def test_a_length_that_nobody_tells_is_no_harm(tmp_path):
    with serving(claimed_length=lambda _: None) as shelf:
        assert zoo.pull(entry(tmp_path, [file_entry(shelf)])).fresh


@pytest.mark.parametrize("tag", ['"one"', 'W/"weak"', None])
def test_what_broke_off_is_gone_on_from(tag, tmp_path):
    with serving(cut=[600, 256], tag=tag) as shelf:
        zoo.pull(entry(tmp_path, [file_entry(shelf)]), patience=QUICK)
        assert shelf.ranges_asked == [None, "bytes=600-", "bytes=856-"]
        conditions = [headers.get("If-Range") for _, headers in shelf.asked]
        assert conditions[1:] == (['"one"'] * 2 if tag == '"one"' else [None] * 2)
    assert left() == WHOLE


def test_a_server_that_cannot_go_on_begins_again(tmp_path):
    with serving(cut=[600], ranges=False) as shelf:
        zoo.pull(entry(tmp_path, [file_entry(shelf)]), patience=QUICK)
        assert shelf.ranges_asked == [None, "bytes=600-"]
    assert left() == WHOLE


def test_a_server_that_goes_on_elsewhere_is_asked_anew(tmp_path):
    with serving(cut=[600], wrong_place=True) as shelf:
        zoo.pull(entry(tmp_path, [file_entry(shelf)]), patience=QUICK)
        assert shelf.ranges_asked == [None, "bytes=600-", None]


def test_a_connection_that_always_breaks_keeps_what_came_for_the_next_pull(tmp_path):
    with serving(cut=[600, 0, 0, 0]) as shelf:
        path = entry(tmp_path, [file_entry(shelf)])
        fails(path, "cut off after 600 of .* 3 times in a row; the 600 bytes that came are kept")
        assert left() == {"downloads/tiny/net.onnx.part", "downloads/tiny/net.onnx.part.tag"}
        shelf.cut.clear()
        zoo.pull(path, patience=QUICK)
        assert shelf.ranges_asked[-1] == "bytes=600-"
    assert left() == WHOLE


def test_a_half_that_does_not_fit_is_fetched_anew_once(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    half = home() / "downloads/tiny/net.onnx.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"of another file")
    zoo.pull(path, patience=QUICK)
    assert shelf.ranges_asked == ["bytes=15-", None]
    zoo.remove("tiny")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"x" * (len(AFFECT) + 1))
    zoo.pull(path, patience=QUICK)
    assert left() == WHOLE


def test_another_version_on_the_server_is_not_glued_to_the_first(tmp_path):
    with serving(cut=[600]) as shelf:
        path = entry(tmp_path, [file_entry(shelf)])
        seen = []

        def progress(_name, done, _total):
            if not seen:
                shelf.tag = '"two"'
            seen.append(done)

        zoo.pull(path, patience=QUICK, progress=progress)
        assert shelf.asked[1][1]["If-Range"] == '"one"'
    assert left() == WHOLE


def test_a_silent_server_is_given_up(tmp_path):
    with serving(stall=0) as shelf:
        path = entry(tmp_path, [file_entry(shelf)])
        fails(path, "no answer in time, 3 times in a row; try again later", patience=HASTY)
        assert len(shelf.asked) == 3
        shelf.stall = 512  # silent in the middle, again and again
        assert zoo.pull(path, patience=HASTY).fresh
        assert shelf.ranges_asked[3:5] == [None, "bytes=512-"]


def test_a_server_that_drips_is_given_up(tmp_path):
    patience = RetryPolicy(timeout=5, tries=2, pause=0.01, least=10_000, span=0.1)
    with serving(pause=0.02) as shelf:
        path = entry(tmp_path, [file_entry(shelf, AFFECT * 100)])
        fails(
            path,
            r"too slow: \d+ bytes in 0.1 s, 2 times in a row; the \d+ bytes that came are kept",
            patience=patience,
        )
        assert len(shelf.asked) == 2
        slow_enough = RetryPolicy(timeout=5, tries=1, least=100, span=0.1)
        zoo.pull(entry(tmp_path, [file_entry(shelf)], name="steady"), patience=slow_enough)
    with serving(drips=True) as shelf:
        fails(
            entry(tmp_path, [file_entry(shelf)], name="silent"),
            "no whole header in 0.1 s, 2 times in a row; try again",
            patience=patience,
        )


def test_a_redirection_without_end_is_not_read(tmp_path):
    with serving(endless=True) as shelf:
        path = entry(tmp_path, [file_entry(shelf)])
        (where,) = shelf.files
        shelf.files["/elsewhere"] = shelf.files.pop(where)
        shelf.to[where] = "/elsewhere"
        zoo.pull(path, patience=RetryPolicy(tries=1, least=1 << 30, span=0.3))


@pytest.mark.parametrize("how", ["a byte each", "anew each time"])
def test_little_steps_are_no_progress(how, tmp_path):
    with serving(
        cut=[700, *[1] * 9] if how == "a byte each" else [700, 0] * 9,
        wrong_place=how != "a byte each",
    ) as shelf:
        fails(
            entry(tmp_path, [file_entry(shelf)]),
            "3 times in a row",
            patience=RetryPolicy(tries=3, pause=0.01, least=500),
        )
        assert len(shelf.asked) == 3


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 30, "-5", "\u00b2", "many"])
def test_a_length_that_is_no_number(length, tmp_path):
    with serving(claimed_length=lambda _: length) as shelf:
        fails(entry(tmp_path, [file_entry(shelf)]), "a length that is no number, 3 times in a row")


def test_a_busy_server_says_when_to_come_again(shelf, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("mien.zoo.fetch.time", SimpleNamespace(sleep=waits.append))
    shelf.status, shelf.headers = [503, 429], {"Retry-After": "2"}
    path = entry(tmp_path, [file_entry(shelf)])
    zoo.pull(path, patience=QUICK)
    assert waits == [2, 2]
    zoo.remove("tiny")
    waits.clear()
    shelf.status, shelf.headers = [429] * 2, {"Retry-After": "3600"}
    fails(
        path,
        "429 Too Many Requests, and to wait 3600 s, 2 times in a row",
        patience=RetryPolicy(timeout=5, tries=2),
    )
    assert waits == [5]
    shelf.status, shelf.headers = [503], {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
    zoo.pull(path, patience=QUICK)
    assert waits == [5, QUICK.pause]


def test_a_packed_answer_is_told(tmp_path):
    with serving(headers={"Content-Encoding": "gzip"}) as shelf:
        fails(entry(tmp_path, [file_entry(shelf)]), "Content-Encoding: gzip")
        assert len(shelf.asked) == 1
    assert not left()


def test_what_is_whole_already_is_asked_for_no_more(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    half = home() / "downloads/tiny/net.onnx.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(AFFECT)
    assert zoo.pull(path).fresh
    assert not shelf.asked
    assert left() == WHOLE


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(shelf, tmp_path):
    shelf.status = [503, 429]
    path = entry(tmp_path, [file_entry(shelf)])
    zoo.pull(path, patience=QUICK)
    assert len(shelf.asked) == 3
    zoo.remove("tiny")
    shelf.status = [500, 502, 504]
    fails(path, "504 .* 3 times in a row; try again later")
    shelf.files.clear()
    shelf.asked.clear()
    fails(path, "the server says 404 .*--from")
    assert len(shelf.asked) == 1


def test_redirections_are_followed_to_web_addresses_only(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    (where,) = shelf.files
    shelf.files["/elsewhere"] = shelf.files.pop(where)
    shelf.to[where] = "/elsewhere"
    zoo.pull(path, patience=QUICK)
    zoo.remove("tiny")
    (tmp_path / "net").write_bytes(AFFECT)
    shelf.to[where] = f"file://{tmp_path / 'net'}"
    fails(path, "302|not allowed")
    shelf.to[where] = where
    fails(path, "302")
    for nowhere in ("http://[::1", "http://127.0.0.1:no/x", "ftp://127.0.0.1/x"):
        shelf.to[where] = nowhere
        shelf.asked.clear()
        fails(path, "where it leads to, is no address")
        assert len(shelf.asked) == 1


def test_no_network(tmp_path, shelf, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/{COMMIT}/net.onnx"
    fails(
        entry(tmp_path, [file_entry(shelf, url=dead)]),
        "no connection to 127.0.0.1.*mien bundles add",
    )

    def nowhere(*_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    fails(entry(tmp_path, [file_entry(shelf)]), "no connection to .*Name or service not known")
    assert not left()


def test_a_proxy_is_used_and_its_refusal_told(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", shelf.address)
    monkeypatch.setenv("https_proxy", shelf.address.replace("http://", "http://me:secret@"))
    path = entry(tmp_path, [{**file_entry(shelf), "url": f"http://far.invalid/{COMMIT}/net.onnx"}])
    zoo.pull(path, patience=QUICK)
    assert shelf.asked[0][0].startswith("http://far.invalid/")
    zoo.remove("tiny")
    shelf.status = [407]
    fails(path, "the proxy asks for a name and a password; set them in HTTP_PROXY: ")
    far = entry(tmp_path, [{**file_entry(shelf), "url": f"https://far.invalid/{COMMIT}/net.onnx"}])
    fails(far, "the proxy refuses: .*403")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(BundleError, match=r"no connection to the proxy 127\.0\.0\.1") as raised:
        zoo.pull(far, patience=QUICK)
    assert "secret" not in str(raised.value)
    for wrong in (
        "http://me:secret@127.0.0.1:abc",
        "socks5://me:secret@127.0.0.1:1080",
        "http://",
        "http://[::1",
    ):
        monkeypatch.setenv("https_proxy", wrong)
        with pytest.raises(BundleError, match="HTTPS_PROXY names no proxy") as raised:
            zoo.pull(far, patience=QUICK)
        assert "secret" not in str(raised.value)


def test_a_proxy_before_a_safe_address_is_told_and_asked_as_a_server_is(
    shelf, tmp_path, monkeypatch
):
    monkeypatch.setenv("https_proxy", shelf.address)
    far = entry(tmp_path, [{**file_entry(shelf), "url": f"https://far.invalid/{COMMIT}/net.onnx"}])
    shelf.tunnel = 407
    fails(
        far,
        "asks for a name and a password; set them in HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT",
    )
    shelf.tunnel = 503
    fails(far, "the proxy says 503 Service Unavailable, 3 times in a row; try again later")


def test_a_proxy_that_is_not_used_is_not_blamed(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/{COMMIT}/net.onnx"
    fails(entry(tmp_path, [file_entry(shelf, url=dead)]), r"no connection to 127\.0\.0\.1: ")


def test_an_unsafe_connection_is_told_in_one_line(shelf, tmp_path):
    fails(
        entry(
            tmp_path,
            [
                {
                    **file_entry(shelf),
                    "url": f"{shelf.address.replace('http', 'https')}/{COMMIT}/net.onnx",
                }
            ],
        ),
        "no safe connection",
    )


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_certificate_counts_when_the_user_says_so(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(tls=context) as shelf:
        path = entry(tmp_path, [file_entry(shelf)])
        fails(path, "no safe connection to 127.0.0.1: .*certificate.*SSL_CERT_FILE")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert zoo.pull(path, patience=QUICK).fresh


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:no/x",
        "http://",
        "http:///x",
        "http://[::1",
        "ftp://127.0.0.1",
        "http://me:secret@127.0.0.1",
    ],
)
def test_a_strange_address_of_a_mirror(source, shelf, tmp_path):
    code, line = run_cli("pull", entry(tmp_path, [file_entry(shelf)]), "--from", source)
    assert (code, line.count("\n")) == (1, 1)
    assert f"{source}: no address of a file; give one that begins with http" in line


@pytest.mark.parametrize("path", ["\u00fc", "a b"])
def test_an_address_that_cannot_be_sent(path, shelf, tmp_path):
    fails(
        entry(tmp_path, [file_entry(shelf)]),
        "no address that can be asked",
        source=f"{shelf.address}/{path}",
    )
    assert not shelf.asked


def test_an_address_in_capitals(shelf, tmp_path):
    zoo.pull(
        entry(tmp_path, [file_entry(shelf)]),
        source=f"{shelf.address}/{COMMIT}".replace("http", "HTTP"),
    )


@pytest.mark.skipif(
    not Path("/dev/null").exists(), reason="needs a device that is harmless to read"
)
def test_a_mirror_of_what_is_no_file(shelf, tmp_path):
    (tmp_path / "net.onnx").symlink_to("/dev/null")
    fails(
        entry(tmp_path, [file_entry(shelf)]),
        "net.onnx: Not a regular file; --from needs",
        source=tmp_path,
    )


def test_a_mirror_that_cannot_be_read_is_blamed_itself(shelf, tmp_path, monkeypatch):
    class Scratched(io.RawIOBase):
        def read(self, _size=-1):
            raise OSError(errno.EIO, "Input/output error")

    mirror = tmp_path / "mirror/net.onnx"
    mirror.parent.mkdir()
    mirror.write_bytes(AFFECT)
    path, opened = entry(tmp_path, [file_entry(shelf)]), Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **o: Scratched() if path == mirror else opened(path, *a, **o)
    )
    fails(
        path,
        f"{mirror}: Input/output error; copy net.onnx again, or name another place with --from",
        source=mirror.parent,
    )


def test_a_file_that_grows_while_it_is_read(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf, AFFECT, most=200_000)])
    growing = tmp_path / "mirror" / "net.onnx"
    growing.parent.mkdir()
    growing.write_bytes(AFFECT)

    def grow(*_):
        assert growing.stat().st_size < 1 << 20
        with growing.open("ab") as more:
            more.write(b"x" * (1 << 17))

    fails(path, "more than the 200000 bytes", source=growing.parent, progress=grow)
    assert not left()


# disks, processes and interruptions


def test_stopping_in_the_middle_keeps_what_came(shelf, tmp_path):
    shelf.cut = [1024]
    path = entry(tmp_path, [file_entry(shelf)])

    def stop(_name, _done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.pull(path, progress=stop)
    assert all(name.startswith("downloads/") for name in left())
    zoo.pull(path)
    assert left() == WHOLE


@pytest.fixture
def old_version(shelf, tmp_path):
    """A bundle that is here, and the entry of its next version."""
    zoo.pull(entry(tmp_path, [file_entry(shelf)]))
    card = open_bundle("tiny").card
    newer = entry(tmp_path, [file_entry(shelf, affect_network(seed=1), "newer.onnx")])
    yield newer
    assert open_bundle("tiny").card == card
    assert len(load("tiny").score([np.zeros((32, 32, 3), np.uint8)])["va"]) == 1
    assert not [name for name in left() if name.startswith("bundles/.")]


def full(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_fetching(old_version, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full") as raised:
            zoo.pull(old_version)
    assert "\n" not in str(raised.value)


def test_a_file_larger_than_is_allowed_here(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf, bytes(20_000))])
    code = (
        "import resource, sys; from pathlib import Path; from mien import zoo\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "zoo.pull(Path(sys.argv[1]))"
    )
    pytest.importorskip("resource")
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "OutputError" in ended.stderr.splitlines()[-1]
    assert "the disk is full" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["net.onnx.part", "net.onnx.part.tag"])
def test_a_folder_in_the_place_of_the_half_file(name, shelf, tmp_path):
    (home() / "downloads/tiny" / name).mkdir(parents=True)
    fails(
        entry(tmp_path, [file_entry(shelf)]),
        rf"{name}: something that is no file is in the way",
        kind=OutputError,
    )
    assert not shelf.asked


def test_a_full_disk_while_installing(old_version, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("mien.zoo.install.write_card", full)
        with pytest.raises(OutputError, match="tiny: the disk is full"):
            zoo.pull(old_version)


def test_a_network_of_another_form_leaves_the_old_one(old_version, shelf, tmp_path):
    strange = [{**TASK_ENTRIES[0], "columns": list(range(3, 11))}]
    with pytest.raises(BundleError, match=r"tiny: .*nothing was installed"):
        zoo.pull(
            entry(tmp_path, [file_entry(shelf, affect_network(9), "strange.onnx")], tasks=strange)
        )
    for content in (b"no network at all", face_network()):
        with pytest.raises(BundleError, match=r"tiny: .*nothing was installed"):
            zoo.pull(entry(tmp_path, [file_entry(shelf, content, "strange.onnx")]))
    assert not (home() / "downloads/tiny/strange.onnx.part").exists()


def test_numbers_that_differ_leave_the_old_one(old_version, shelf, monkeypatch):
    from mien.zoo import onnx_split as split

    right = split._cut_last_layer

    def off(graph):
        weight, bias, features = right(graph)
        return weight + 1e-3, bias, features

    monkeypatch.setattr(split, "_cut_last_layer", off)
    for _ in range(2):
        with pytest.raises(
            BundleError,
            match=r"tiny: the network answers otherwise once it is split, by .*; "
            r"nothing was installed",
        ):
            zoo.pull(old_version)
    assert len(shelf.asked) == 2  # the verified file is kept for the next try


def test_a_home_that_cannot_be_written(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "file" / "home"))
    code, line = run_cli("pull", entry(tmp_path, [file_entry(shelf)]))
    assert (code, line.count("\n")) == (1, 1)
    assert "MIEN_HOME" in line
    assert not shelf.asked


def test_a_home_without_permission(shelf, tmp_path, monkeypatch):
    def refuse(self, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="Permission denied; make it writable, or set MIEN_HOME"):
        zoo.pull(entry(tmp_path, [file_entry(shelf)]))


def test_two_at_once_fetch_it_once(tmp_path):
    with serving(pause=0.3) as shelf:
        path = entry(tmp_path, [file_entry(shelf)])
        command = [sys.executable, "-m", "mien", "bundles", "pull", str(path)]
        both = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    lines = sorted(out.splitlines()[-1] for out, _ in answers)
    assert ["is here already" in lines[0], "pulled and verified" in lines[1]] == [True, True]
    assert any("waiting" in out for out, _ in answers)
    assert len(shelf.asked) == 1
    assert left() == WHOLE


def test_a_power_cut_between_two_names_loses_nothing(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    folder = zoo.pull(path).bundle
    folder.rename(folder.with_name(".tiny.old"))
    (folder.with_name(".tiny.part")).mkdir()
    assert not installed()
    assert zoo.pull(path).bundle == folder
    assert left() == WHOLE


# names


def test_known_but_not_here_says_how_to_get_it(shelf):
    with pytest.raises(
        BundleError,
        match="mt-emotieffnet-b0 is not on this machine; "
        "get it with: mien bundles pull mt-emotieffnet-b0",
    ):
        load("mt-emotieffnet-b0")
    with pytest.raises(UnknownNameError, match="mt-emotieffnet-b0"):
        load("mt-emotieffnet-b00")
    with pytest.raises(BundleError, match="faces-efficientnet-b0 is weights to train from"):
        load("faces-efficientnet-b0")


def test_a_bundle_that_comes_with_mien_keeps_its_name(shelf, tmp_path):
    with pytest.raises(BundleError, match="comes with mien"):
        zoo.pull(entry(tmp_path, [file_entry(shelf)], name="mien-s"))
    shutil.copytree(embedded()["mien-s"], home() / "bundles" / "mien-s")
    assert bundles()["mien-s"] == embedded()["mien-s"]
    assert "mien-s" not in installed()


def test_pull_does_not_replace_a_bundle_of_somebodys_own(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    card = zoo.pull(path).bundle / "card.json"
    page = json.loads(card.read_text())
    page["made"]["recipe"] = "my own"
    card.write_text(json.dumps(page))
    with pytest.raises(BundleError, match="another bundle named tiny is here"):
        zoo.pull(path)


def test_several_names_are_pulled_as_far_as_that_goes(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    code, lines = run_cli("pull", "no-such", path)
    assert code == 2
    assert "no bundle in the index named 'no-such'" in lines
    assert "tiny: pulled and verified" in lines


def test_list_and_show_tell_of_all_three_kinds(shelf, tmp_path):
    zoo.pull(entry(tmp_path, [file_entry(shelf)]))
    code, table = run_cli("list")
    assert code == 0
    rows = {line.split()[0]: line for line in table.splitlines() if not line.startswith(" ")}
    assert {"mien-s", "mien-face", "tiny", *zoo.entries()} < set(rows)
    assert "with mien" in rows["mien-s"]
    assert "installed" in rows["tiny"]
    assert "can be pulled" in rows["mt-emotieffnet-b0"]
    assert "expr.affectnet8" in rows["mt-emotieffnet-b0"]
    assert "0.3" in rows["yunet"]
    for name in ("tiny", "mien-s", "mt-emotieffnet-b0", "yunet", "faces-efficientnet-b0"):
        code, page = run_cli("show", name)
        assert code == 0
        assert {"## Where it fails", "## Must not be used for", "## Data it has seen"} <= set(
            page.splitlines()
        )
    assert "mien bundles pull mt-emotieffnet-b0" in run_cli("show", "mt-emotieffnet-b0")[1]


def test_remove(shelf, tmp_path):
    zoo.pull(
        entry(
            tmp_path, [file_entry(shelf), file_entry(shelf, b"numbers", "net.pt", role="weights")]
        ),
        weights=True,
    )
    assert run_cli("remove", "tiny") == (0, "tiny: removed\n")
    assert not left()
    for name in ("tiny", "../home", "mien-s", ""):
        code, line = run_cli("remove", name)
        assert (code, line.count("\n")) == (1, 1)
    assert embedded()["mien-s"].is_dir()
    zoo.pull(entry(tmp_path, [file_entry(shelf)]))
    code, line = run_cli("remove", "tny")
    assert code == 2
    assert "did you mean tiny?" in line


# carrying


@pytest.fixture
def packed(shelf, tmp_path):
    """A file with a pulled bundle, which is gone from here."""
    zoo.pull(entry(tmp_path, [file_entry(shelf)]))
    assert run_cli("pack", "tiny", "--out", tmp_path / "carry.zip")[0] == 0
    shutil.rmtree(home())
    return tmp_path / "carry.zip"


def test_pack_and_add_carry_a_bundle(packed):
    assert run_cli("add", packed) == (
        0,
        "tiny: installed; whole and harmless, but not compared with its authors' file\n",
    )
    assert left() == WHOLE
    assert run_cli("verify", "tiny") == (0, "tiny: verified\n")
    assert run_cli("add", packed)[0] == 0
    again = zoo.pack(["tiny"], packed.with_name("again.zip"))
    assert again.read_bytes() == packed.read_bytes()


def test_several_bundles_and_a_folder(packed, tmp_path):
    with pytest.raises(BundleError, match="mien-s comes with mien"):
        zoo.add(zoo.pack(["mien-s"], tmp_path / "own.zip"))
    mine = tmp_path / "mine"
    shutil.copytree(embedded()["mien-s"], mine)
    card = json.loads((mine / "card.json").read_text())
    (mine / "card.json").write_text(json.dumps({**card, "name": "mine"}))
    assert zoo.add(mine) == ["mine"]
    zoo.add(packed)
    both = zoo.pack(["mine", "tiny"], tmp_path / "both.zip")
    shutil.rmtree(home())
    assert zoo.add(both) == ["mine", "tiny"]
    with pytest.raises(BundleError, match="comes twice"):
        zoo.pack(["tiny", "tiny"], tmp_path / "twice.zip")


def test_add_replaces_only_when_told(packed, shelf, tmp_path):
    zoo.pull(entry(tmp_path, [file_entry(shelf, affect_network(seed=1), "other.onnx")]))
    before = open_bundle("tiny").card
    code, line = run_cli("add", packed)
    assert code == 1
    assert "--replace" in line
    assert open_bundle("tiny").card == before
    assert run_cli("add", packed, "--replace")[0] == 0
    assert open_bundle("tiny").card != before


def rewrite(packed: Path, change) -> Path:
    """The file again, its members (name, content) changed."""
    with zipfile.ZipFile(packed) as source:
        members = [(info.filename, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(packed, "w") as target:
        for info, content in change(members):
            target.writestr(info, content)
    return packed


def named(members, old: str, new) -> list:
    return [(new if name == old else name, content) for name, content in members]


def info(name: str, kind: int = 0, how: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = kind << 16
    member.compress_type = how
    return member


EVIL = {
    "up": (lambda m: named(m, "tiny/README.md", "../evil"), "has no place"),
    "up inside": (lambda m: named(m, "tiny/README.md", "tiny/../../evil"), "has no place"),
    "root": (lambda m: named(m, "tiny/README.md", "/etc/evil"), "has no place"),
    "drive": (lambda m: named(m, "tiny/README.md", "C:\\evil"), "has no place"),
    "strange file": (lambda m: [*m, ("tiny/run.py", b"evil")], "has no place"),
    "hidden": (lambda m: named(m, "tiny/README.md", ".tiny/README.md"), "has no place"),
    "link": (
        lambda m: named(m, "tiny/README.md", info("tiny/README.md", stat.S_IFLNK | 0o777)),
        "has no place",
    ),
    "compressed": (
        lambda m: named(m, "tiny/README.md", info("tiny/README.md", how=zipfile.ZIP_DEFLATED)),
        "compressed",
    ),
    "large": (
        lambda m: [(n, b" " * (4 << 20) + c if n == "tiny/card.json" else c) for n, c in m],
        "more than a bundle's can have",
    ),
    "no network": (lambda m: m[:2], "has no model.onnx"),
    "empty": (lambda _: [], "no bundle in it"),
    "altered": (
        lambda m: [(n, c[:-1] + b"x" if n.endswith("onnx") else c) for n, c in m],
        "sha256",
    ),
    "another name": (
        lambda m: [(n.replace("tiny", "other"), c) for n, c in m],
        "is the card of tiny",
    ),
    "wrong card": (
        lambda m: [
            (n, c.replace(b'"card": 1', b'"card": 9') if n.endswith("json") else c) for n, c in m
        ],
        "card",
    ),
}


@pytest.mark.parametrize("kind", EVIL)
def test_what_an_enemy_packed_is_refused(kind, packed, tmp_path):
    change, why = EVIL[kind]
    before = set(tmp_path.rglob("*"))
    code, line = run_cli("add", rewrite(packed, change))
    assert (code, line.count("\n")) == (1, 1)
    assert why in line
    assert not left()
    assert {path for path in set(tmp_path.rglob("*")) - before if "home" not in path.parts} == set()


def test_members_that_share_their_bytes_are_refused(packed):
    with zipfile.ZipFile(packed, "a") as target:
        network = next(info for info in target.filelist if info.filename == "tiny/model.onnx")
        for i in range(5):
            twin = copy(network)
            twin.filename = f"tiny{i}/model.onnx"
            target.filelist.append(twin)
        target._didModify = True
    with pytest.raises(BundleError, match="larger than the file itself"):
        zoo.add(packed)


def test_members_that_come_twice_are_refused(packed):
    with zipfile.ZipFile(packed, "a") as target, pytest.warns(UserWarning, match="Duplicate"):
        target.writestr("tiny/README.md", b"again")
    with pytest.raises(BundleError, match="comes twice"):
        zoo.add(packed)


def test_what_is_no_file_of_pack_is_refused(packed, tmp_path):
    (tmp_path / "half.zip").write_bytes(packed.read_bytes()[:-50])
    (tmp_path / "text.zip").write_text("hello")
    for name in ("half.zip", "text.zip", "not-there.zip"):
        code, line = run_cli("add", tmp_path / name)
        assert (code, line.count("\n")) == (1, 1)
        assert name in line
    assert run_cli("add", tmp_path)[0] == 1
    assert not left()


def test_a_damaged_bundle_is_not_packed(packed, tmp_path):
    zoo.add(packed)
    (home() / "bundles/tiny/model.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="altered or incomplete"):
        zoo.pack(["tiny"], tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()
    assert run_cli("verify", "tiny")[0] == 1
    (home() / "bundles/tiny/card.json").write_text("{}")
    code, table = run_cli("list")
    assert code == 0
    assert "broken" in table
    assert "mien-s" in table


def test_a_place_that_cannot_be_packed_to(packed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    zoo.add(packed)
    code, line = run_cli("pack", "tiny", "--out", tmp_path / "file" / "b.zip")
    assert (code, line.count("\n")) == (1, 1)
    assert "name another place" in line


def bundle_of(folder: Path, packed: Path, network: bytes, change) -> Path:
    """A bundle in a folder, with another network and a card that knows its hash."""
    with zipfile.ZipFile(packed) as source:
        card = json.loads(source.read("tiny/card.json"))
    change(card)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(network)
    (folder / "card.json").write_text(
        json.dumps({**card, "sha256": hashlib.sha256(network).hexdigest()})
    )
    return folder


def network_of(packed: Path) -> onnx.ModelProto:
    with zipfile.ZipFile(packed) as source:
        return onnx.load_model_from_string(source.read("tiny/model.onnx"))


def test_an_output_order_that_is_not_the_cards_is_refused(packed, tmp_path):
    model = network_of(packed)
    twin = bundle_of(
        tmp_path / "twin", packed, model.SerializeToString(), lambda card: card["tasks"].reverse()
    )
    with pytest.raises(
        BundleError, match="the network gives expr, va, features, the card says va, expr, features"
    ):
        zoo.add(twin)
    assert run_cli("verify", twin)[0] == 1
    assert not left()


def test_a_network_that_reads_other_files_is_refused(packed, tmp_path):
    model = network_of(packed)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(BundleError, match="reads other files"):
        zoo.add(bundle_of(tmp_path / "reader", packed, model.SerializeToString(), lambda _: None))
    inside = network_of(packed)
    inside.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
    with pytest.raises(BundleError, match="reads other files"):
        zoo.add(bundle_of(tmp_path / "inside", packed, inside.SerializeToString(), lambda _: None))
    assert not left()


# nothing else reaches for the network


def test_only_pull_reaches_for_the_network(packed, photo, tmp_path, monkeypatch):
    def refuse(*args, **_options):
        raise AssertionError(f"reached for the network: {args}")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/net.onnx").write_bytes(AFFECT)
    commands = [
        ["list"],
        ["show", "mt-emotieffnet-b0"],
        ["show", "mien-s"],
        ["verify"],
        ["add", packed],
        ["verify", "tiny"],
        ["pack", "tiny", "--out", tmp_path / "b.zip"],
        ["remove", "tiny"],
        ["pull", tmp_path / "tiny.json", "--from", tmp_path / "mirror"],
        ["pull", tmp_path / "tiny.json"],
    ]
    for command in commands:
        code, line = run_cli(*command)
        assert code == 0, line
    result = CliRunner().invoke(
        app, ["analyze", str(photo), "--bundle", "tiny", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
    with pytest.raises(BundleError, match="mien bundles pull"):
        load("mt-emotieffnet-b0")
    with pytest.raises(AssertionError, match="reached for the network"):
        fetch(
            File(name="x", role="network", url="http://127.0.0.1:1/x", most=1, sha256="0" * 64),
            tmp_path,
        )


def test_importing_the_command_line_loads_nothing_of_the_network():
    code = "import mien.cli, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"onnx", "mien.zoo", "http.client", "filelock"} & set(loaded)


def test_the_zoo_needs_no_torch():
    code = "import mien.zoo, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "timm"} & set(loaded)


# what is here and who brought it


@pytest.mark.parametrize(
    "change",
    [
        {"licence": "MIT"},
        {"limits": ["it is small"]},
        {"summary": "A network."},
        {"not_for": ["anything"]},
        {"code_licence": "BSD"},
        {
            "network": {
                "reads": "crops",
                "pixels": {**PIXELS, "margin": 0.5},
                "outputs": TASK_ENTRIES,
            }
        },
        {"tasks": [{**TASK_ENTRIES[0], "columns": list(range(7, -1, -1))}, TASK_ENTRIES[1]]},
        {
            "tasks": [
                {**TASK_ENTRIES[0], "key": "expr.mine", "names": TASK_ENTRIES[0]["names"][::-1]},
                TASK_ENTRIES[1],
            ]
        },
        {
            "published": [
                {
                    "metric": "expr accuracy",
                    "value": 0.25,
                    "data": "nothing",
                    "protocol": "a guess",
                    "source": "nowhere",
                }
            ]
        },
    ],
    ids=[
        "licence",
        "limits",
        "summary",
        "not_for",
        "code_licence",
        "pixels",
        "columns",
        "names",
        "published",
    ],
)
def test_a_corrected_entry_is_applied(change, shelf, tmp_path):
    zoo.pull(entry(tmp_path, [file_entry(shelf)], **change))
    right = entry(tmp_path, [file_entry(shelf)])
    right.write_text(json.dumps(json.loads(right.read_text()), indent=3, sort_keys=True))
    assert zoo.pull(right).fresh
    card = open_bundle("tiny").card
    pixels = card.pixels.model_dump(mode="json")
    assert (card.licence, card.limits, card.summary, card.not_for) == (
        "CC0-1.0",
        ("it is random",),
        "A tiny network.",
        NOT_FOR,
    )
    assert (card.tasks[0].names, pixels, card.published[0].value) == (
        TASKS["expr.affectnet8"].names,
        PIXELS,
        0.5,
    )
    raw = load("tiny").features_and_raw([np.zeros((32, 32, 3), np.uint8)])[1]
    batch = np.full((1, 3, 32, 32), -1, np.float32)
    expected = onnxruntime.InferenceSession(AFFECT, providers=["CPUExecutionProvider"]).run(
        None, {"input": batch}
    )[0]
    np.testing.assert_allclose(np.hstack([raw["expr"], raw["va"]]), expected, atol=1e-4)
    assert not zoo.pull(right).fresh


def test_what_was_carried_is_not_taken_for_what_was_pulled(packed, shelf, tmp_path):
    """A card can claim to come from the index; the record of this machine cannot be packed."""
    model = network_of(packed)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "expr.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    forged = bundle_of(
        tmp_path / "forged",
        packed,
        model.SerializeToString(),
        lambda card: card.update(licence="do what you like"),
    )
    carried = zoo.pack([forged], tmp_path / "forged.zip")
    path = entry(tmp_path, [file_entry(shelf)])
    zoo.add(carried)
    assert zoo.pull(path).fresh
    card = open_bundle("tiny").card
    assert card.licence == "CC0-1.0"
    assert not zoo.pull(path).fresh
    zoo.add(carried, replace=True)  # what was pulled before it vouches for nothing
    assert zoo.pull(path).fresh
    assert open_bundle("tiny").card == card
    zoo.remove("tiny")
    assert not list((home() / "pulled").iterdir())


def test_a_card_altered_after_the_pull_is_pulled_again(shelf, tmp_path):
    path = entry(tmp_path, [file_entry(shelf)])
    card = zoo.pull(path).bundle / "card.json"
    card.write_text(card.read_text().replace("CC0-1.0", "MIT"))
    assert zoo.pull(path).fresh
    assert open_bundle("tiny").card.licence == "CC0-1.0"


def test_what_is_whole_is_only_looked_at(shelf, tmp_path, monkeypatch):
    """As in a home folder that cannot be written to."""
    path = entry(
        tmp_path, [file_entry(shelf), file_entry(shelf, b"numbers", "net.pt", role="weights")]
    )
    zoo.pull(path, weights=True)

    def refuse(*_args, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    for module, name in ((Path, "mkdir"), (Path, "write_text"), (os, "replace"), (os, "fsync")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("mien.zoo.install.FileLock", refuse)
    assert not zoo.pull(path, weights=True).fresh
    (home() / "bundles/tiny/model.onnx").unlink()
    with pytest.raises(OutputError, match="Read-only file system; make it writable"):
        zoo.pull(path)


def test_all_is_on_the_disk_before_it_has_its_name(shelf, tmp_path, monkeypatch):
    settled = set()
    monkeypatch.setattr(os, "fsync", lambda number: settled.add(os.fstat(number).st_ino))
    named = []
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda path, to: named.append({*settled}) or rename(path, to)
    )
    folder = zoo.pull(entry(tmp_path, [file_entry(shelf)])).bundle
    assert {path.stat().st_ino for path in (*folder.iterdir(), folder)} <= named[-1]
    assert {
        path.stat().st_ino for path in (folder.parent, *(home() / "pulled").iterdir())
    } <= settled


def test_a_file_for_training_that_is_whole_is_not_written_again(shelf, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    published = pytest.importorskip("mien.train.networks.checkpoints.published")
    net = torch.nn.Linear(2, 3)
    monkeypatch.setattr(published, "_transplanted", lambda *_: net)
    path = entry(
        tmp_path,
        [file_entry(shelf, b"numbers", "start.pt", role="weights")],
        network=None,
        published=[],
    )
    zoo.pull(path)
    start = published.start_file(path)
    content = start.read_bytes()
    for wrong in (content[:-4] + b"ruin", content[:-4], b""):
        start.write_bytes(wrong)
        assert published.start_file("tiny").read_bytes() == content
    monkeypatch.setattr(published, "save", lambda *_: pytest.fail("it was written again"))
    assert published.start_file(path) == start


def test_weights_by_an_entry_of_ones_own_are_known_by_name(shelf, tmp_path):
    path = entry(
        tmp_path,
        [file_entry(shelf, b"numbers", "start.pt", role="weights")],
        name="mine",
        network=None,
        published=[],
    )
    weights = zoo.pull(path).weights
    path.unlink()
    assert zoo.weights("mine") == weights
    code, lines = run_cli("verify")
    assert code == 0
    assert "mine: verified" in lines
    assert [
        line.split("\t") for line in run_cli("list")[1].splitlines() if line.startswith("mine\t")
    ] == [["mine", "installed", "< 0", "weights to train from", "CC0-1.0"]]
    code, page = run_cli("show", "mine")
    assert code == 0
    assert f"Here: `{weights.parent}`" in page
    assert "Not on this machine" not in page
    assert not zoo.pull("mine").fresh
    weights.write_bytes(b"altered")
    code, line = run_cli("verify", "mine")
    assert code == 1
    assert "get them with: mien bundles pull mine" in line
    assert zoo.pull("mine").fresh
    (weights.parent / ".entry.json").write_text("{")
    assert "mine\tinstalled\t\tbroken" in run_cli("list")[1]
    assert run_cli("verify")[0] == 1
    zoo.remove("mine")
    assert "mine\t" not in run_cli("list")[1]


@pytest.mark.parametrize("change", ["gone", "reworded"])
def test_weights_with_the_right_hash_stay_whatever_tells_of_them(change, shelf, tmp_path):
    files = [file_entry(shelf, b"numbers", "start.pt", role="weights")]
    pulled = zoo.pull(entry(tmp_path, files, network=None, published=[]))
    kept = pulled.weights.with_name(".entry.json")
    if change == "gone":
        kept.unlink()
    path = entry(tmp_path, files, network=None, published=[], licence="MIT")
    again = zoo.pull(path, source=tmp_path / "nowhere")
    assert (again.weights, again.fresh) == (pulled.weights, False)
    assert zoo.weights("tiny") == pulled.weights
    assert json.loads(kept.read_text())["licence"] == "MIT"


def test_weights_without_their_entry_are_told_how_to_get_it(shelf, tmp_path):
    path = entry(
        tmp_path,
        [file_entry(shelf, b"numbers", "start.pt", role="weights")],
        network=None,
        published=[],
    )
    zoo.pull(path).weights.with_name(".entry.json").unlink()
    code, line = run_cli("verify", "tiny")
    assert (code, line.count("\n")) == (1, 1)
    assert "weights without their entry, which holds their hash; pull by it again: " in line
    assert (
        "tiny\tinstalled\t\twithout its entry: mien bundles pull ENTRY.json\t\n"
        in run_cli("list")[1]
    )
    with pytest.raises(UnknownNameError):
        zoo.weights("tny")


def test_removed_is_removed_also_after_a_power_cut(shelf, tmp_path):
    folder = zoo.pull(entry(tmp_path, [file_entry(shelf)])).bundle
    shutil.copytree(folder, folder.with_name(".tiny.old"))
    zoo.remove("tiny")
    with pytest.raises(UnknownNameError):
        open_bundle("tiny")
    assert not left()


def test_weights_beside_a_bundle_are_verified_too(shelf, tmp_path):
    path = entry(
        tmp_path, [file_entry(shelf), file_entry(shelf, b"numbers", "net.pt", role="weights")]
    )
    zoo.pull(path, weights=True).weights.write_bytes(b"altered")
    code, line = run_cli("verify", "tiny")
    assert code == 1
    assert "the weights of tiny are not whole" in line


def test_what_comes_with_mien_is_not_pulled(shelf):
    code, line = run_cli("pull", "mien-s")
    assert (code, line) == (1, "mien: mien-s comes with mien; nothing is to be pulled\n")


def test_a_bundle_that_cannot_be_run_is_called_by_its_name(packed, tmp_path):
    for name, change in {
        "size": lambda card: card["pixels"].update(size=16),
        "width": lambda card: card.update(features=7),
    }.items():
        with pytest.raises(
            BundleError, match=r"^tiny: the network (does not take|gives)"
        ) as raised:
            zoo.add(
                bundle_of(tmp_path / name, packed, network_of(packed).SerializeToString(), change)
            )
        assert ".part" not in str(raised.value)


@pytest.mark.parametrize("meanwhile", ["pulled", "removed"])
def test_who_waits_to_remove_looks_again(meanwhile, packed):
    zoo.add(packed)
    folder = home() / "bundles/tiny"
    half = home() / "downloads/tiny"
    if meanwhile == "pulled":
        half.parent.mkdir()
        folder.rename(half)
    lock = FileLock(home() / "locks/tiny.lock", thread_local=False)
    lock.acquire()

    def note(_line):
        if meanwhile == "pulled":
            half.rename(folder)
        else:
            shutil.rmtree(folder)
        lock.release()

    zoo.remove("tiny", note)
    assert not left()


def test_a_folder_that_is_busy_for_a_moment_is_renamed(packed, monkeypatch):
    """As on Windows, while another process reads in it."""
    rename, busy = Path.rename, [None] * 3

    def refuse(path, to):
        if busy:
            busy.pop()
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr("mien.files._RETRY_PAUSE_S", 0)
    monkeypatch.setattr("mien.files._RENAME_RETRIES", 2)
    with pytest.raises(OutputError, match="Access is denied"):
        zoo.add(packed)
    busy.extend([None] * 2)
    zoo.add(packed)
    assert left() == WHOLE


@pytest.mark.parametrize("work", ["remove", "add"])
def test_who_waits_says_so(work, packed, shelf, tmp_path):
    zoo.add(packed)
    lock, said_so = FileLock(home() / "locks/tiny.lock", thread_local=False), []
    lock.acquire()

    def note(line):
        said_so.append(line)
        lock.release()

    if work == "remove":
        zoo.remove("tiny", note)
    else:
        zoo.add(packed, note=note)
    assert said_so == ["another process is at work on tiny; waiting for it"]


# tables of what is known


def test_in_a_pipe_a_bundle_is_a_line_and_nothing_is_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    rows = [line.split("\t") for line in run_cli("list")[1].splitlines()]
    assert {len(row) for row in rows} == {5}
    assert [row[0] for row in rows] == [*embedded(), *zoo.entries()]
    assert {row[0]: row[4] for row in rows}["mt-mobilevit"] == zoo.entry("mt-mobilevit").licence


@pytest.mark.parametrize("width", [40, 70, 200])
def test_in_a_narrow_terminal_names_stay_whole_and_all_is_told(width, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        sys.modules["mien.cli.bundles"],
        "out",
        Console(file=screen, force_terminal=True, color_system=None, width=width),
    )
    assert run_cli("list")[0] == 0
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names == ["name", *embedded(), *zoo.entries()]
    told_of = "".join(lines).replace(" ", "")
    for name in zoo.entries():
        assert name in told_of
    if width == 40:  # one column beside the name, so that it can be read back
        assert told_of.count("nottrained") == 0
        assert told_of.count("researchdata") == sum(
            "research data" in each.licence for each in zoo.entries().values()
        )
    assert "…" not in told_of


def test_a_size_that_nobody_knows_is_told_as_such():
    page = run_cli("show", "mt-emotieffnet-b0")[1]
    assert "not known, below 64 MB; the hash pins the content, and so its size" in page
    assert f"{zoo.entry('yunet').files[0].size} bytes" in run_cli("show", "yunet")[1]


# what is no bundle at all


def test_any_bytes_give_bundles_or_one_line(packed, tmp_path):
    right, random = packed.read_bytes(), np.random.default_rng(0)
    directory = right.index(b"PK\x01\x02")
    says_unicode = re.sub(
        rb"(PK\x01\x02.{5}).", lambda head: head[1] + b"\x08", right[directory:], flags=re.DOTALL
    )  # of its names
    path, told_of = tmp_path / "fuzzed.zip", set()
    for i in range(2000):
        wrong = bytearray(right if i % 4 else right[:directory] + says_unicode)
        for place in random.integers(
            0 if i % 2 else directory, len(right), size=random.integers(1, 4)
        ):
            wrong[place] = random.choice([0, 255, random.integers(256)])
        path.write_bytes(wrong)
        try:
            assert len(_unpacked(path)) == 1
        except BundleError as error:
            line = str(error)
            assert line.startswith(f"{path}: ")
            assert line.isprintable()
            told_of.add(line)
    assert len(told_of) > 100


def test_a_name_that_is_no_text_is_refused_in_one_line(packed):
    content = packed.read_bytes()
    place = content.index(b"PK\x01\x02")
    header = bytearray(content[place:])
    header[9] |= 0x08  # the name is UTF-8, it says
    header[46] = 0xFF
    packed.write_bytes(content[:place] + header)
    code, line = run_cli("add", packed)
    assert (code, line.count("\n")) == (1, 1)
    assert line.startswith(f"mien: {packed}: no file of `mien bundles pack`, or damaged: ")


DEEP = (
    b'{"index": 1, "card": 1, "reads": "crops", "name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
)


def test_what_is_nested_without_end_is_refused(packed, tmp_path):
    (tmp_path / "deep.json").write_bytes(DEEP)
    rewrite(
        packed,
        lambda members: [
            (name, DEEP if name.endswith("json") else content) for name, content in members
        ],
    )
    for command, file in (("pull", tmp_path / "deep.json"), ("add", packed)):
        code, line = run_cli(command, file)
        assert (code, line.count("\n")) == (1, 1)
        assert str(file) in line
        assert "recursion limit" in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have names")
def test_nobody_waits_for_what_is_no_file(packed, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    folder = bundle_of(
        tmp_path / "folder", packed, network_of(packed).SerializeToString(), lambda _: None
    )
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    endless = bundle_of(
        tmp_path / "endless", packed, network_of(packed).SerializeToString(), lambda _: None
    )
    (endless / "card.json").unlink()
    (endless / "card.json").symlink_to("/dev/zero")
    for path, why in (
        (tmp_path / "pipe", "neither a file nor a folder"),
        (folder, "no regular file"),
        (endless, "no regular file"),
    ):
        code, line = run_cli("add", path)
        assert (code, line.count("\n")) == (1, 1)
        assert why in line


@pytest.mark.parametrize("file", ["card.json", "model.onnx"])
def test_a_file_too_large_for_a_bundle_is_not_read(file, packed, tmp_path, monkeypatch):
    folder = bundle_of(
        tmp_path / "folder", packed, network_of(packed).SerializeToString(), lambda _: None
    )
    most = (folder / file).stat().st_size - 1
    monkeypatch.setitem(MOST_BYTES, file, most)
    if file == "card.json":
        monkeypatch.setattr("mien.bundles.card.MOST_CARD", most)
    code, line = run_cli("add", folder)
    assert (code, line.count("\n")) == (1, 1)
    assert f"{folder / file}: " in line
    assert "more than it can have" in line
