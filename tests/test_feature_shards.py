"""Features computed in parts by several processes: the joined cache is that of one process, byte by byte."""

import os
import shutil
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mien.bundles.store import load
from mien.cli import app
from mien.data.drawn.faces import load_drawn
from mien.errors import DataError
from mien.tasks import TASKS
from mien.train.inputs import feature_cache, feature_shards
from mien.train.inputs.feature_cache import build
from mien.train.inputs.feature_shards import build_part, join_parts, parts_of

FACES = 30
BATCH = 4


@cache
def faces() -> pd.DataFrame:
    return load_drawn(FACES, size=64, tasks=[TASKS["va"]])


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    """Thirty faces are eight batches, the last of which is not whole."""
    for module in (feature_cache, feature_shards):
        monkeypatch.setattr(module, "BATCH", BATCH)
    monkeypatch.setitem(build.__kwdefaults__, "batch", BATCH)


@pytest.fixture
def data(tmp_path) -> Path:
    """Settings over thirty drawn faces as files, without points; one is listed twice, one is damaged."""
    names = [f"faces/{i:02d}.png" for i in range(FACES)]
    (tmp_path / "faces").mkdir()
    for name, image in zip(names, faces()["image"], strict=True):
        cv2.imwrite(str(tmp_path / name), image[..., ::-1])
    (tmp_path / names[7]).write_bytes(b"not a picture")
    table = faces()[["valence", "arousal"]].assign(image=names, split="train")
    pd.concat([table, table.iloc[:1]]).to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "settings.yaml").write_text(
        "{name: parts, tasks: [va], data: [{set: file, path: labels.parquet}], fit: {skip_unreadable: true}}"
    )
    return tmp_path / "settings.yaml"


def features(data: Path, out: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        app,
        ["features", "mien-xs", "--data", str(data), "--out", str(out), "--skip-unreadable", *more],
    )
    return done.exit_code, " ".join(done.output.split())


def content(folder: Path) -> dict[str, bytes]:
    """All files by their place, but the lock, which is empty or a page of SQLite."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_parts_join_to_what_one_process_makes(data, tmp_path, monkeypatch):
    code, said = features(data, tmp_path / "one")
    assert code == 0, said
    assert f"of {FACES} faces" in said  # one of thirty is damaged, one comes twice
    for number in (3, 1):
        code, said = features(data, tmp_path / "cache", "--shard", f"{number}/3")
        assert code == 0, said
        assert f"part {number} of 3: features of" in said
    code, said = features(data, tmp_path / "cache")
    assert code == 1
    assert "parts-3: part 2 of 3 is missing; run the same command with --shard 2/3" in said
    # The last part by an array of Slurm, which counts from 0.
    with monkeypatch.context() as array:
        for name, value in {"ID": "1", "MIN": "0", "MAX": "2", "COUNT": "3"}.items():
            array.setenv(f"SLURM_ARRAY_TASK_{name}", value)
        assert "part 2 of 3, by SLURM_ARRAY_TASK_ID" in features(data, tmp_path / "cache")[1]
    code, said = features(data, tmp_path / "cache")
    assert code == 0, said
    assert f"of {FACES} faces" in said
    assert "1 pictures could not be read and were left out: faces/07.png" in said
    assert "looking for the face" not in said
    assert content(tmp_path / "cache") == content(tmp_path / "one")


@pytest.fixture
def parts(data, tmp_path):
    """A bundle, a table, and a function that makes parts of its cache and one that joins them."""
    model = load("mien-xs", "onnxruntime")
    images = [str(path) for path in sorted((tmp_path / "faces").iterdir()) if "07" not in path.name]
    table = pd.DataFrame({"image": images, "points": None})
    shared = {"root": tmp_path, "complete": lambda rows, memory: rows}

    def make(*numbers: int, count: int = 3, rows: pd.DataFrame = table, **more) -> None:
        for number in numbers:
            build_part(model, rows, tmp_path / "cache", (number, count), **shared, **more)

    def join(rows: pd.DataFrame = table):
        return join_parts(model, rows, tmp_path / "cache", **shared)[0]

    return model, table, make, join


def refusal(join, *args) -> str:
    with pytest.raises(DataError) as caught:
        join(*args)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("count", [1, 8, 11])
def test_any_number_of_parts(parts, tmp_path, count):
    """More than there are batches, too: some parts are empty."""
    model, table, make, join = parts
    make(*range(count, 0, -1), count=count)
    join()
    build(model, table, tmp_path / "one", root=tmp_path)
    assert content(tmp_path / "cache") == content(tmp_path / "one")


def test_a_damaged_part_is_named_and_made_again(parts, tmp_path):
    model, table, make, join = parts
    make(1, 2, 3)
    (rows,) = (tmp_path / "cache").glob("*/parts-3/2/*/rows.npy")
    values = bytearray(rows.read_bytes())
    values[200] ^= 1
    rows.write_bytes(values)
    assert f"part 2 of 3 is damaged ({rows}); run the same command with --shard 2/3" in refusal(
        join
    )
    shutil.rmtree(rows.parents[1])
    assert "part 2 of 3 is missing" in refusal(join)
    make(2)
    join()
    build(model, table, tmp_path / "one", root=tmp_path)
    assert content(tmp_path / "cache") == content(tmp_path / "one")


def test_a_part_that_was_stopped_goes_on(parts, tmp_path):
    model, table, make, join = parts

    def stop(done: int, _: int) -> None:
        if done == 2 * BATCH:
            raise KeyboardInterrupt

    make(1, 3)
    with pytest.raises(KeyboardInterrupt):
        make(2, progress=stop)
    assert "part 2 of 3 is not finished" in refusal(join)
    seen = []
    make(2, progress=lambda *step: seen.append(step))
    assert seen == [(4, 4)]
    join()
    build(model, table, tmp_path / "one", root=tmp_path)
    assert content(tmp_path / "cache") == content(tmp_path / "one")


def test_parts_of_other_pictures_are_named(parts, tmp_path):
    _, table, make, join = parts
    make(1, 2, 3)
    os.utime(table["image"][20], ns=(1, 1))
    assert "part 3 of 3 was made of other pictures" in refusal(join)
    make(3)
    line = refusal(join, table.iloc[1:])
    assert "part 1 of 3 was made of other pictures (not usable either: 2, 3)" in line
    make(1, count=2)
    assert "has parts of 2 and of 3; delete the folder parts-2 or parts-3" in refusal(join)


def test_what_no_part_could_read_is_named(parts, tmp_path):
    _, table, make, join = parts
    rows = pd.concat([table, pd.DataFrame({"image": [str(tmp_path / "faces" / "07.png")]})])
    make(1, 2, 3, rows=rows, skip_unreadable=True)
    assert "faces/07.png: could not be read when its part was made" in refusal(join, rows)


def test_parts_that_are_none_are_refused(data, parts, tmp_path):
    model, _, make, _ = parts
    with pytest.raises(ValueError, match="from 1/3 to 3/3, got 4"):
        make(4)
    assert parts_of(model.card, tmp_path / "cache") == 0
    assert features(data, tmp_path / "cache", "--shard", "0/2")[0] == 2
    code, said = features(data, tmp_path / "cache", "--shard", "2")
    assert code == 2
    assert "--shard must be such as 3/100" in said


def test_numbers_do_not_depend_on_the_company_of_a_picture():
    """The last batch of a part may be smaller than those of one process; mien's own networks do not mind."""
    model = load("mien-xs", "onnxruntime")
    crops = [np.asarray(image) for image in faces()["image"]]
    together = model.features(crops)
    alone = np.concatenate([model.features(crops[:7]), model.features(crops[7:])])
    np.testing.assert_array_equal(together, alone)
