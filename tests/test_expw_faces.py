"""Faces of ExpW are cut out by their boxes, with the points of the face in the box, and a fifth is kept aside."""

import cv2
import numpy as np
import pandas as pd

from mien.bundles.store import load_detector
from mien.data.images import read_picture
from mien.demo import portrait
from mien.train.builtin.expw_faces import is_kept_aside, make_expw_table


def test_faces_are_cut_out_with_their_points(tmp_path):
    picture = portrait()
    face, *_ = load_detector().find(picture)
    x, y, w, h = map(round, face.box)
    folder = tmp_path / "image" / "origin"
    folder.mkdir(parents=True)
    names = [f"{number}.png" for number in range(20)]
    lines = []
    for number, name in enumerate(names):
        # No two pictures are the same.
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) // 2 + number)
        # The last box lies where nobody is.
        left, top = (x, y) if number < 19 else (380, 380)
        lines.append(f"{name} 0 {top} {left} {left + w} {top + h} 90.0 {number % 7}")
    (tmp_path / "label.lst").write_text("\n".join(lines))
    table = make_expw_table(tmp_path, "image/origin", tmp_path / "expw.parquet")
    assert (
        pd.read_parquet(tmp_path / "expw.parquet")["subject"].tolist() == table["subject"].tolist()
    )
    assert set(table["subject"]) == {name for name in names[:19] if not is_kept_aside(name)}
    assert (table.filter(like="expr_").sum(axis=1) == 1).all()
    for row in table.itertuples():
        image = read_picture(row.image)
        points = np.reshape(row.points, (5, 2))
        again, *_ = load_detector().find(image)
        assert np.abs(again.points - points).max() < 2


def test_about_a_fifth_is_kept_aside():
    share = np.mean([is_kept_aside(f"picture {number}.jpg") for number in range(3000)])
    assert 0.17 < share < 0.23
