"""Pictures that stay in their Parquet file: the same training as from memory, single pictures read when needed, changes noticed."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien.data import stored_pictures
from mien.data.drawn.faces import load_drawn
from mien.data.images import read_picture
from mien.data.label_checks import check
from mien.data.registry import File, load_set
from mien.data.stored_pictures import Cells, is_stored
from mien.errors import DataError
from mien.tasks import TASKS

VA = TASKS["va"]
COUNT = 60


@pytest.fixture(scope="module")
def faces() -> pd.DataFrame:
    """Sixty drawn faces as PNG; the last shows the first again, in the same split."""
    table = load_drawn(COUNT, size=32, tasks=[VA])
    images = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in table["image"]]
    images[-1] = images[0]
    table = table.assign(image=images)
    table.loc[COUNT - 1, ["split", "subject"]] = table.loc[0, ["split", "subject"]].to_numpy()
    return table


def written(folder: Path, faces: pd.DataFrame, rows: int = 7) -> File:
    path = folder / "labels.parquet"
    pq.write_table(pa.Table.from_pandas(faces), path, row_group_size=rows)
    return File(set="file", path=path)


@pytest.fixture
def stored(monkeypatch) -> None:
    """As if the pictures were too many for memory."""
    monkeypatch.setattr(stored_pictures, "IN_MEMORY", 0)


def test_few_pictures_are_held_in_memory(faces, tmp_path):
    table = load_set(written(tmp_path, faces), [VA])
    assert not is_stored(table["image"])
    assert table["image"].tolist() == faces["image"].tolist()


def test_many_stay_in_their_file_and_are_the_same(faces, tmp_path, stored):
    data = written(tmp_path, faces)
    table = load_set(data, [VA])
    assert is_stored(table["image"])
    assert table.drop(columns="image").equals(load_set(data, [VA]).drop(columns="image"))
    cells = Cells(table["image"])
    assert [cells[row]["row"] for row in (0, 59)] == [0, 59]
    order = np.random.default_rng(0).permutation(COUNT)
    for row in order.tolist():
        np.testing.assert_array_equal(read_picture(cells[row]), read_picture(faces["image"][row]))
    # A part of the table, and several tables as one, refer to the same pictures.
    twice = pd.concat([table[table["split"] == "val"], table.iloc[:2]], ignore_index=True)
    assert is_stored(twice["image"])
    np.testing.assert_array_equal(
        read_picture(twice["image"].iloc[-1]), read_picture(faces["image"][1])
    )


def test_what_is_said_of_a_table_is_the_same(faces, tmp_path, monkeypatch):
    data = written(tmp_path, faces)
    held = check(load_set(data, [VA]), [VA], "faces")
    monkeypatch.setattr(stored_pictures, "IN_MEMORY", 0)
    table = load_set(data, [VA])
    assert check(table, [VA], "faces") == held == ["1 rows repeat a picture of another row"]
    with pytest.raises(DataError, match=r"row 3 \(.*labels\.parquet, row 3\)"):
        check(table.assign(valence=table["valence"].where(table.index != 3, 7.0)), [VA], "faces")


def test_large_row_groups_are_read_whole_and_that_is_said(faces, tmp_path, stored, monkeypatch):
    monkeypatch.setattr(stored_pictures, "LARGEST_GROUP", 30_000)
    assert is_stored(load_set(written(tmp_path, faces, rows=4), [VA])["image"])
    table = load_set(written(tmp_path, faces, rows=60), [VA])
    assert not is_stored(table["image"])
    (note,) = table.attrs["notes"]
    assert "GB of pictures are held in memory, since its row groups have up to" in note


@pytest.mark.parametrize("change", ["other", "shorter", "gone", "damaged"])
def test_a_file_that_changes_is_noticed(faces, tmp_path, stored, change):
    data = written(tmp_path, faces)
    cell = Cells(load_set(data, [VA])["image"])[50]
    if change == "other":
        written(tmp_path, faces.iloc[::-1])
    elif change == "shorter":
        written(tmp_path, faces.iloc[:10])
    elif change == "gone":
        data.path.unlink()
    else:
        data.path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"labels\.parquet, row 50: ") as caught:
        read_picture(cell)
    assert "\n" not in str(caught.value)


def test_a_cell_without_a_picture_is_refused_as_before(faces, tmp_path, stored):
    images = faces["image"].tolist()
    images[5] = None
    table = load_set(written(tmp_path, faces.assign(image=images)), [VA])
    with pytest.raises(DataError, match="the image of row 5 is None"):
        check(table, [VA], "faces")


def test_a_damaged_picture_is_named(faces, tmp_path, stored):
    images = faces["image"].tolist()
    images[5] = b"no picture"
    table = load_set(written(tmp_path, faces.assign(image=images)), [VA])
    with pytest.raises(DataError, match=r"labels\.parquet, row 5: "):
        read_picture(table["image"].iloc[5])


def test_training_and_features_are_the_same_as_from_memory(faces, tmp_path, monkeypatch):
    """To the last bit, with pictures loaded by another process; the cache has the same names."""
    torch = pytest.importorskip("torch", reason="training needs torch")
    from mien.bundles.store import load
    from mien.train.inputs.feature_cache import build
    from mien.train.loop import fit
    from mien.train.settings.training import Settings

    pixels = {"size": 32, "colour": "grey", "alignment": "box", "mean": [127.0], "std": [64.0]}
    fits = {"epochs": 1, "batch": 8, "accelerator": "cpu", "workers": 1, "find_points": False}
    settings = Settings.model_validate(
        {
            "name": "tiny", "data": [written(tmp_path, faces)], "tasks": ["va"], "pixels": pixels,
            "network": {"backbone": "test_resnet"}, "fit": fits,
        }
    )  # fmt: skip
    model = load("mien-xs", "onnxruntime")
    nets, rows = {}, {}
    for limit in (0, 1 << 40):
        monkeypatch.setattr(stored_pictures, "IN_MEMORY", limit)
        table = load_set(settings.data[0], [VA])
        assert is_stored(table["image"]) == (limit == 0)
        nets[limit] = fit(settings, tmp_path / f"run{limit}").load("last.pt")["net"]
        cache = build(model, table, tmp_path / f"cache{limit}", root=tmp_path)
        rows[limit] = {
            path.name: path.read_bytes() for path in cache.folder.iterdir() if path.name != "lock"
        }
    first, second = nets.values()
    assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = rows.values()
    assert first == second
