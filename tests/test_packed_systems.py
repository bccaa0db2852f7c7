"""Systems in one file: packed, added, verified and removed like other bundles, and refused where they are not whole."""

import hashlib
import json
import shutil
import stat
import zipfile

import numpy as np
import pytest
from test_systems import DAMAGE, RUN, system  # noqa: F401

import mien
from mien import doctor, zoo
from mien.bundles.contents import read_contents
from mien.bundles.store import embedded, installed
from mien.cli import app
from mien.errors import BundleError, UnknownNameError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty folder of bundles."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def info(name, kind=0, how=zipfile.ZIP_STORED):
    """A member of an archive with a Unix mode and a compression."""
    member = zipfile.ZipInfo(name)
    member.external_attr = kind << 16
    member.compress_type = how
    return member


def with_content(members, name, content):
    return [(n, content if n == name else c) for n, c in members]


def renamed(members, name, new):
    return [(new if n == name else n, c) for n, c in members]


def run_cli(*args):
    done = RUN.invoke(app, ["bundles", *map(str, args)])
    return done.exit_code, done.output


@pytest.fixture
def packed(system, tmp_path):  # noqa: F811
    mine = tmp_path / "mine"
    shutil.copytree(embedded()["mien-xs"], mine)
    card = json.loads((mine / "card.json").read_text())
    (mine / "card.json").write_text(json.dumps(card | {"name": "mine"}))
    return zoo.pack([mine, system], tmp_path / "carry" / "both.zip")


@pytest.fixture
def alone(system, tmp_path):  # noqa: F811
    return zoo.pack([system], tmp_path / "carry" / "two.zip")


def rewrite(path, change):
    """The file with its members (name, content) changed; it is packed anew, as anybody could."""
    with zipfile.ZipFile(path) as source:
        members = [(member.filename, source.read(member)) for member in source.infolist()]
    with zipfile.ZipFile(path, "w") as target:
        for name, content in change(members):
            target.writestr(name, content)
    return path


def test_a_system_is_carried_whole(system, alone):  # noqa: F811
    assert zoo.pack([system], alone.with_name("again.zip")).read_bytes() == alone.read_bytes()
    code, line = run_cli("add", alone)
    assert (code, line.count("\n")) == (0, 1)
    draw = np.random.default_rng(0)
    crops = [draw.integers(0, 255, (80, 80, 3), np.uint8) for _ in range(3)]
    np.testing.assert_array_equal(
        mien.load("two").score(crops)["va"], mien.load(system).score(crops)["va"]
    )
    assert run_cli("verify", "two") == (0, "two: verified\n")
    code, table = run_cli("list")
    [row] = [line.split("\t") for line in table.splitlines() if line.startswith("two\t")]
    assert (code, row[1], row[3]) == (0, "installed", "va")
    assert "smooth (the answer)" in run_cli("show", "two")[1]
    [finding] = [found for found in doctor.examine() if found.what == "bundle two"]
    assert finding.ok
    assert zoo.add(alone) == ["two"]  # that very bundle is there
    # Packed from where it was installed, it is the same file.
    assert zoo.pack(["two"], alone.with_name("third.zip")).read_bytes() == alone.read_bytes()
    assert run_cli("remove", "two") == (0, "two: removed\n")
    assert not installed()


def test_a_system_and_another_bundle_go_together(packed):
    assert zoo.add(packed) == ["mine", "two"]


def test_a_system_in_a_folder_is_added(system):  # noqa: F811
    assert zoo.add(system) == ["two"]
    assert read_contents("two") == read_contents(system)


def test_another_system_of_the_name_is_replaced_only_when_told(system, alone, tmp_path):  # noqa: F811
    zoo.add(alone)
    other = tmp_path / "other"
    shutil.copytree(system, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps(card | {"summary": "Another."}))
    with pytest.raises(BundleError, match="another bundle named two is here"):
        zoo.add(other)
    assert zoo.add(other, replace=True) == ["two"]
    assert read_contents("two").card.summary == "Another."


def test_a_damaged_installed_system_is_named_and_mended(alone, home):
    zoo.add(alone)
    network = home / "bundles/two/members/small/model.onnx"
    network.write_bytes(network.read_bytes()[:-9])
    code, line = run_cli("verify", "two")
    assert (code, line.count("\n")) == (1, 1)
    assert "two: members/small/model.onnx: altered" in line
    with pytest.raises(BundleError, match=r"members/small/model\.onnx: sha256"):
        zoo.pack(["two"], alone.with_name("again.zip"))
    zoo.add(alone)
    assert zoo.verify("two") == "two"


def test_a_system_of_an_entrys_name_is_not_pulled_over(system, tmp_path):  # noqa: F811
    name = next(iter(zoo.entries()))
    mine = tmp_path / "mine"
    shutil.copytree(system, mine)
    card = json.loads((mine / "card.json").read_text())
    (mine / "card.json").write_text(json.dumps(card | {"name": name}))
    zoo.add(mine)
    with pytest.raises(BundleError, match=f"another bundle named {name} is here"):
        zoo.pull(name, source=tmp_path)


def other_head(members):
    [head] = [content for name, content in members if name == "two/heads/heads-0.onnx"]
    return with_content(members, "two/heads/heads-0.onnx", head[:-1] + bytes([head[-1] ^ 1]))


def other_member(members):
    """A member's network and its card, which fit each other but not the system."""
    content = dict(members)
    for file in ("card.json", "model.onnx"):
        members = with_content(
            members, f"two/members/small/{file}", content[f"two/members/smaller/{file}"]
        )
    return members


def face_finder(members):
    """A member that finds faces, with all hashes right."""
    folder = embedded()["mien-face"]
    card = (folder / "card.json").read_bytes()
    system_card = json.loads(dict(members)["two/card.json"])
    system_card["members"]["smaller"] = hashlib.sha256(card).hexdigest()
    lines = [
        f"{sha256}  members/{name}/card.json\n" for name, sha256 in system_card["members"].items()
    ]
    lines.append(f"{system_card['steps']['heads']['heads'][0]['sha256']}  heads/heads-0.onnx\n")
    by_path = sorted(lines, key=lambda line: line.split()[1])
    system_card["sha256"] = hashlib.sha256("".join(by_path).encode()).hexdigest()
    members = with_content(members, "two/card.json", json.dumps(system_card).encode())
    members = with_content(members, "two/members/smaller/card.json", card)
    return with_content(
        members, "two/members/smaller/model.onnx", (folder / "model.onnx").read_bytes()
    )


SMALL = "two/members/small/model.onnx"
EVIL = {
    "a member is missing": (lambda m: [(n, c) for n, c in m if "/small/" not in n], "two has no members/small/card.json and no"),
    "a network is missing": (lambda m: [(n, c) for n, c in m if n != SMALL], "two has no members/small/model.onnx"),
    "a head is missing": (lambda m: [(n, c) for n, c in m if "heads/" not in n], "two has no heads/heads-0.onnx"),
    "a network is altered": (lambda m: with_content(m, SMALL, b"x"), "members/small/model.onnx: sha256 is"),
    "a head is altered": (other_head, "heads/heads-0.onnx: sha256 is"),
    "a member is another": (other_member, "members/small/card.json: sha256 is"),
    "a member finds faces": (face_finder, "two/members/smaller: reads frames"),
    "a member more": (lambda m: [*m, ("two/members/more/model.onnx", b"x")], "two/members/more/model.onnx has no place"),
    "a network beside": (lambda m: [*m, ("two/model.onnx", b"x")], "two/model.onnx has no place"),
    "a head more": (lambda m: [*m, ("two/heads/heads-1.onnx", b"x")], "heads-1.onnx has no place"),
    "up": (lambda m: [*m, ("two/members/../../evil/model.onnx", b"x")], "has no place"),
    "deep": (lambda m: [*m, ("two/members/a/members/b/model.onnx", b"x")], "has no place"),
    "a script": (lambda m: [*m, ("two/members/small/run.py", b"x")], "has no place"),
    "a link": (lambda m: renamed(m, SMALL, info(SMALL, stat.S_IFLNK | 0o777)), "has no place"),
    "compressed": (lambda m: renamed(m, SMALL, info(SMALL, how=zipfile.ZIP_DEFLATED)), "compressed"),
    "twice": (lambda m: [*m, (SMALL, b"x")], "comes twice"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", EVIL)
def test_a_system_that_is_not_whole_is_refused_in_one_line(kind, packed, home, tmp_path):
    change, why = EVIL[kind]
    before = {path for path in tmp_path.rglob("*") if home not in path.parents}
    # The other bundle of the file is whole, and is not installed either.
    code, line = run_cli("add", rewrite(packed, change))
    assert (code, line.count("\n")) == (1, 1)
    assert why in line
    assert not installed()
    after = {path for path in tmp_path.rglob("*") if home not in path.parents}
    assert after - {home} == before - {home}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_folder_is_neither_packed_nor_added(what, system, tmp_path):  # noqa: F811
    folder = tmp_path / "two"
    shutil.copytree(system, folder)
    DAMAGE[what][0](folder)
    code, line = run_cli("add", folder)
    assert (code, line.count("\n")) == (1, 1)
    assert not installed()


def test_a_folder_without_a_bundle_cannot_be_packed(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownNameError):
        zoo.pack([tmp_path / "empty"], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
