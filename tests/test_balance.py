"""Class folders become equally full: counts by hand, every original used equally often, and the same files however they come about."""

import hashlib
import importlib
import os
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter
from torchvision.transforms import v2

from mien.data.balance import PLAN, balance, lacking
from mien.data.registry import Drawn
from mien.data.sets.lsd import LSD, Lsd, load_lsd
from mien.data.standins import make_standin
from mien.errors import DataError, OutputError
from mien.recipes.steps import AnyStep
from mien.recipes.steps.base import StepContext
from mien.recipes.steps.data_files import PICTURES
from mien.recipes.steps.training import Train
from mien.train.inputs.randaugment import RandAugment

SHADE = """
class Shade:
    def facts(self):
        return {"change": "shade"}

    def __call__(self, image, seed):
        out = image.copy()
        out[..., 0] = seed % 251
        return out
"""


@pytest.fixture
def shade(tmp_path, monkeypatch):
    """Turns a picture's red by its seed; blue, which says which picture it was, stays. Other processes load it without torch."""
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "shade.py").write_text(SHADE)
    monkeypatch.syspath_prepend(tmp_path / "module")
    monkeypatch.delitem(sys.modules, "shade", raising=False)
    return importlib.import_module("shade").Shade()


def folders(root: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture = np.full((12, 12, 3), (7 * i, 0, 0), np.uint8)  # BGR
            cv2.imwrite(str(root / name / f"{i}{suffix}"), picture)
    return root


def digests(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_the_counts_of_the_real_set():
    counts = (18_286, 15_150, 10_923, 73_285, 144_631, 14_976)
    more = lacking(counts)
    assert more == (126_345, 129_481, 133_708, 71_346, 0, 129_655)
    assert sum(counts) + sum(more) == 867_786 == 6 * 144_631
    assert lacking(counts, 20_000) == (1_714, 4_850, 9_077, 0, 0, 5_024)


def test_every_original_is_kept_and_used_equally_often(tmp_path, shade):
    source, out = (
        folders(tmp_path / "in", {"ANGRER": 3, "FEAR": 11, "SADNESS": 1}),
        tmp_path / "out",
    )
    told = []
    found = balance(source, out, shade, workers=1, progress=lambda *now: told.append(now))
    assert found.before == {"ANGRER": 3, "FEAR": 11, "SADNESS": 1}
    assert found.after == {"ANGRER": 11, "FEAR": 11, "SADNESS": 11}
    assert told == [(i, 33) for i in range(1, 34)]
    for name, before in found.before.items():
        names = sorted(path.name for path in (out / name).iterdir())
        assert len(names) == 11
        originals = [one for one in names if not one.startswith("randaugment-")]
        assert originals == sorted(path.name for path in (source / name).iterdir())
        assert all(os.path.samefile(source / name / one, out / name / one) for one in originals)
        copies = [cv2.imread(str(out / name / one))[0, 0] for one in names if one not in originals]
        assert found.made == 18
        used = Counter(int(pixel[0]) // 7 for pixel in copies)
        assert sum(used.values()) == 11 - before
        if used:
            assert set(used) <= set(range(before))
            assert max(used.values()) - min(used.get(i, 0) for i in range(before)) <= 1
            assert len({int(pixel[2]) for pixel in copies}) > 1, "no two seeds alike"


def test_one_seed_makes_the_same_files_however_many_work_and_wherever_it_stopped(tmp_path, shade):
    source = folders(tmp_path / "in", {"A": 40, "B": 2}, ".jpg")
    change = shade
    balance(source, tmp_path / "one", change, workers=1)
    whole = digests(tmp_path / "one")
    balance(source, tmp_path / "two", change, workers=2)
    assert digests(tmp_path / "two") == whole
    assert len(whole) == 81

    def stop(done, total):
        if done == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        balance(source, tmp_path / "stopped", change, workers=1, progress=stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "stopped").rglob("*.jpg")}
    assert len(before) == 60
    told = []
    again = balance(
        source, tmp_path / "stopped", change, workers=1, progress=lambda *now: told.append(now)
    )
    assert (again.made, told[-1]) == (20, (20, 20))
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), (
        "what was there was not made again"
    )
    assert digests(tmp_path / "stopped") == whole
    assert balance(source, tmp_path / "stopped", change, workers=1).made == 0
    balance(source, tmp_path / "other", change, seed=1, workers=1)
    assert [one for name, one in digests(tmp_path / "other").items() if "rand" in name] != [
        whole[n] for n in whole if "rand" in n
    ]


def test_where_links_do_not_work_files_are_copied(tmp_path, monkeypatch, shade):
    source = folders(tmp_path / "in", {"A": 2, "B": 1})

    def refused(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    for made in (1, 0):
        assert balance(source, tmp_path / "out", shade, workers=1).made == made
    assert not os.path.samefile(source / "A" / "0.png", tmp_path / "out" / "A" / "0.png")
    assert (source / "A" / "0.png").read_bytes() == (tmp_path / "out" / "A" / "0.png").read_bytes()
    assert not list((tmp_path / "out").rglob(".*.part"))


def test_what_was_made_otherwise_is_not_mixed_in(tmp_path):
    source = folders(tmp_path / "in", {"A": 2, "B": 1})
    balance(source, tmp_path / "out", RandAugment(), workers=1)
    with pytest.raises(OutputError, match="was made with other ops; choose another folder"):
        balance(source, tmp_path / "out", RandAugment(ops=3), workers=1)
    (source / "A" / "9.png").write_bytes((source / "A" / "0.png").read_bytes())
    with pytest.raises(OutputError, match="was made with other originals"):
        balance(source, tmp_path / "out", RandAugment(), workers=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").touch()
    with pytest.raises(OutputError, match="is not empty"):
        balance(source, tmp_path / "mine", RandAugment())
    with pytest.raises(DataError, match="is a copy itself"):
        balance(tmp_path / "out", tmp_path / "twice", RandAugment())
    with pytest.raises(DataError, match="holds no class folders"):
        balance(tmp_path / "nowhere", tmp_path / "twice", RandAugment())
    with pytest.raises(ValueError, match="most and workers must be 1 or more"):
        balance(source, tmp_path / "twice", RandAugment(), most=0)
    (source / "B" / "0.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"0\.png"):
        balance(source, tmp_path / "twice", RandAugment(), workers=1)
    assert not list((tmp_path / "twice").rglob("randaugment-*"))
    assert (tmp_path / "out" / PLAN).is_file()


def test_randaugment_is_torchvisions_with_a_seed_of_its_own():
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    torch.manual_seed(5)
    expected = (
        v2.RandAugment(3, 12)(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    )
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = RandAugment(3, 12)(image, 5)
    assert (torch.get_rng_state() == before).all()
    assert found.dtype == np.uint8
    assert (found == expected).all()
    assert any((RandAugment()(image, seed) != image).any() for seed in range(3))


@pytest.fixture(scope="module")
def lsd(tmp_path_factory):
    return make_standin("lsd", tmp_path_factory.mktemp("lsd") / "lsd", size=90)


def step(place_of: Path, settings: dict, earlier: dict[str, Path], root: Path) -> list[str]:
    notes: list[str] = []
    place_of.mkdir()
    data = {"lsd": Lsd(set="lsd", root=root)}
    TypeAdapter(AnyStep).validate_python(settings).run(
        StepContext("even", place_of, earlier, {}, data, (0,), notes.append)
    )
    return notes


@pytest.mark.parametrize("before", [None, "sharper"])
def test_the_step_leaves_what_training_reads(lsd, tmp_path, before):
    official, earlier = lsd / "training_set_synthetic_images", {}
    if before:  # what super-resolution leaves: the same names, other endings
        earlier["sharper"] = tmp_path / "sharper"
        for path in official.rglob("*.jpg"):
            target = (
                tmp_path / "sharper" / PICTURES / path.relative_to(official).with_suffix(".png")
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), np.zeros((20, 20, 3), np.uint8))
    [note] = step(
        tmp_path / "even",
        {"do": "balance", "data": "lsd", "pictures": before, "most": 20},
        earlier,
        lsd,
    )
    counts = Counter(path.parent.name for path in official.rglob("*.jpg"))
    after = {name: max(count, 20) for name, count in counts.items()}
    assert note.startswith(f"even: ANGRER {counts['ANGRER']} to 20, ")
    assert note.endswith(f"in all 90 to {sum(after.values())}")
    train = Train(do="train", data=("lsd",), tasks=("expr.lsd6",), pictures="even")
    spec = train._spec(
        StepContext(
            "t", tmp_path, {"even": tmp_path / "even"}, {}, {"lsd": Lsd(set="lsd", root=lsd)}
        ),
        "lsd",
    )
    table = load_lsd(spec.root, spec.train)
    rows = table[table["split"] == "train"]
    assert rows[list(LSD.columns)].sum().astype(int).tolist() == [
        after[{"anger": "ANGRER"}.get(name, name.upper())] for name in LSD.names
    ]
    assert set(rows["image"].str.rsplit(".", n=1).str[-1]) == ({"png"} if before else {"jpg"})
    plain = load_lsd(lsd)
    pd.testing.assert_frame_equal(
        table[table["split"] != "train"].reset_index(drop=True),
        plain[plain["split"] != "train"].reset_index(drop=True),
    )


def test_the_step_wants_synthetic_faces(tmp_path):
    made = TypeAdapter(AnyStep).validate_python({"do": "balance", "data": "x"})
    with pytest.raises(DataError, match="of kind lsd, not drawn"):
        made.run(
            StepContext(
                "even", tmp_path, {}, {}, {"x": Drawn(set="drawn", count=2, seed=0, size=16)}
            )
        )
