"""Finished recordings in the app: asked for over a real port, edited, exported, restarted, broken."""

import json
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from film_tables import EVIL, readings, write
from PIL import Image
from test_app_server import BEARER, served
from typer.testing import CliRunner

import mien
from mien import batch
from mien.analysis.options import Options
from mien.cli import app
from mien.demo import film, portrait

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A film of a real face, and what a browser does not play."""
    folder = tmp_path_factory.mktemp("media")
    film(folder / "clip.mp4", seconds=2.0)
    # A Matroska file of the same packets.
    import av

    with av.open(folder / "clip.mp4") as source, av.open(folder / "other.mkv", "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    for number in range(2):
        Image.fromarray(portrait()).save(folder / f"photo{number}.png")
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, media):
    folder = tmp_path_factory.mktemp("workspace")
    films = [str(media / name) for name in ("clip.mp4", "other.mkv")]
    batch.run(films, folder / "results", options=Options(points=True), formats=["parquet"])
    photos = folder / "results" / "photos.parquet"
    mien.analyze([str(media / "photo0.png"), str(media / "photo1.png")], photos=True).save(photos)
    write(folder / "results" / "two", readings(), "two", source=EVIL)
    return folder


@pytest.fixture(scope="module")
def client(workspace):
    with served(workspace) as client:
        yield client


def by_name(client):
    return {item["name"]: item for item in client.get("/api/recordings").json()}


def id_of(client, name):
    return by_name(client)[name]["id"]


def got(client, path, status=200, **query):
    answer = client.get(path, params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert list(answer.json()["error"]) == ["message"]
    return answer.json()["error"]["message"]


def test_the_list_says_what_each_recording_is(client, media):
    items = by_name(client)
    assert set(items) == {"clip", "other", "photos", "two/two"}
    clip = items["clip"]
    assert clip["film"] == str(media / "clip.mp4")
    assert (clip["kind"], clip["faces"] > 0, clip["has_edits"]) == ("film", True, False)
    assert clip["seconds"] == pytest.approx(2, abs=0.05)
    assert clip["width"] > 0
    assert items["photos"]["kind"] == "photos"
    assert items["photos"]["faces"] == 2
    assert items["two/two"]["film"] is None


def test_a_recording_says_what_a_page_needs(client):
    detail = got(client, f"/api/recordings/{id_of(client, 'clip')}")
    assert detail["playable"]
    assert detail["fps"] == pytest.approx(25, abs=0.5)
    columns = {column["name"]: column for column in detail["columns"]}
    assert columns["valence"]["group"] == "affect"
    assert columns["expr_happiness"]["group"] == "expression"
    assert columns["AU12"]["title"] == "AU12 lip corner puller"
    assert columns["pose_yaw"]["group"] == "pose"
    assert columns["quality"]["group"] == "quality"
    assert not {"box_x", "time_s", "left_eye_x"} & set(columns)
    assert detail["tracks"][0]["name"] == "face 0"
    assert "happiness" in detail["expressions"]
    assert {"csv", "xlsx", "eaf"} <= set(detail["formats"])
    assert detail["edits"]["version"] == 0


def test_series_are_those_of_the_table(client, workspace):
    address = f"/api/recordings/{id_of(client, 'two/two')}/series"
    series = got(client, address, columns="valence,AU12")
    table = mien.read_table(workspace / "results" / "two" / "two.parquet")
    for track in series["tracks"]:
        rows = table[table["face"] == track["track"]]
        assert track["time"] == pytest.approx(
            (rows["time_s"] - table["time_s"].min()).tolist(), abs=1e-6
        )
        assert track["columns"]["AU12"] == pytest.approx(rows["AU12"].tolist(), abs=1e-4)
        assert {series["status_names"][code] for code in track["status"]} == {"ok"}
    part = got(client, address, columns="valence", tracks="1", start=0.5, end=1.0)
    assert [track["track"] for track in part["tracks"]] == [1]
    assert all(0.5 <= at <= 1.0 for at in part["tracks"][0]["time"])
    assert len(got(client, address, columns="valence", points=20)["tracks"][0]["time"]) <= 22
    assert "no column" in refused(client.get(address, params={"columns": "expression"}), 404)
    assert "no track 9" in refused(
        client.get(address, params={"columns": "AU12", "tracks": 9}), 404
    )
    refused(client.get(address, params={"columns": "AU12", "tracks": "a"}), 422)
    refused(client.get(address, params={"columns": "AU12", "points": 1}), 422)
    refused(client.get(address, params={"columns": "AU12", "start": "nan"}), 422)
    refused(client.get("/api/recordings/0000000000000000"), 404)
    refused(client.get("/api/recordings/..%2f..%2fetc"), 404)


def test_no_peak_is_thinned_away():
    from mien.app.recordings.series import thinned

    values = np.zeros((2, 100_003))
    values[0, 77_777] = 5
    values[1, 12_345] = -5
    values[1, 50_000:60_000] = np.nan
    times, kept, status = thinned(np.arange(100_003.0), values, np.zeros(100_003, int), 4000)
    assert len(times) == len(status) == kept.shape[1]
    assert len(times) <= 4002
    assert (np.diff(times) > 0).all()
    assert np.nanmax(kept[0]) == 5
    assert np.nanmin(kept[1]) == -5
    assert abs(times[kept[0].argmax()] - 77_777) < 60
    assert np.isnan(kept[1]).sum() == pytest.approx(390, abs=12)


def test_boxes_are_in_step_with_the_film(client, workspace):
    clip = id_of(client, "clip")
    boxes = got(client, f"/api/recordings/{clip}/boxes", start=0.2, end=0.6)
    table = mien.read_table(workspace / "results" / "clip.parquet")
    rows = table[table["time_s"].between(0.2 - 1e-6, 0.6 + 1e-6)]
    assert boxes["times"] == pytest.approx(sorted(set(rows["time_s"])))
    face = boxes["faces"][0][0]
    assert face["box"] == pytest.approx(
        rows[["box_x", "box_y", "box_w", "box_h"]].iloc[0].tolist(), abs=0.01
    )
    assert np.shape(face["points"]) == (5, 2)
    every = got(client, f"/api/recordings/{clip}/boxes")["faces"]
    sure = [face for faces in every for face in faces if face["expression"] == "happiness"]
    assert all(0 < face["probability"] <= 1 for face in sure)
    assert sure
    photos = got(client, f"/api/recordings/{id_of(client, 'photos')}/boxes")
    assert photos["times"] == [0, 1]
    assert [len(faces) for faces in photos["faces"]] == [1, 1]


def test_films_come_in_ranges_and_photos_upright(client, media):
    clip = id_of(client, "clip")
    content = (media / "clip.mp4").read_bytes()
    answer = client.get(f"/api/recordings/{clip}/film", headers={"range": "bytes=100-199"})
    assert answer.status_code == 206
    assert answer.content == content[100:200]
    assert answer.headers["content-type"] == "video/mp4"
    assert client.get(f"/api/recordings/{clip}/film").content == content
    assert client.head(f"/api/recordings/{clip}/film").headers["content-length"] == str(
        len(content)
    )
    photo = client.get(f"/api/recordings/{id_of(client, 'photos')}/photo/1")
    assert photo.headers["content-type"] == "image/jpeg"
    assert photo.content[:2] == b"\xff\xd8"
    assert "no photo 2" in refused(
        client.get(f"/api/recordings/{id_of(client, 'photos')}/photo/2"), 404
    )
    assert "not where" in refused(
        client.get(f"/api/recordings/{id_of(client, 'two/two')}/film"), 404
    )


def test_a_film_of_3_gb_is_sent_in_pieces(workspace, client, tmp_path):
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(3 << 30)
        file.seek(-4, 2)
        file.write(b"last")
    folder = workspace / "results" / "long"
    table = write(folder, readings(10), "long")
    dictionary = folder / "long.dictionary.json"
    content = json.loads(dictionary.read_text())
    content["sources"][0]["path"] = str(path)
    dictionary.write_text(json.dumps(content))
    address = f"/api/recordings/{id_of(client, 'long/long')}/film"
    answer = client.get(address, headers={"range": "bytes=-4"})
    assert (answer.status_code, answer.content) == (206, b"last")
    assert answer.headers["content-range"] == f"bytes {(3 << 30) - 4}-{(3 << 30) - 1}/{3 << 30}"
    # Who asks for all the rest gets a part of it, and then the next: no answer waits for long for
    # a browser that has read enough for now.
    size = 3 << 30
    for first, asked in ((0, ""), (0, str(size)), (2 << 30, ""), (1 << 20, str((1 << 29) - 1))):
        answer = client.get(address, headers={"range": f"bytes={first}-{asked}"})
        assert answer.status_code == 206
        assert len(answer.content) == int(answer.headers["content-length"]) == 2 << 20
        assert answer.headers["content-range"] == f"bytes {first}-{first + (2 << 20) - 1}/{size}"
    answer = client.get(address, headers={"range": f"bytes={size - 100}-"})
    assert answer.headers["content-range"] == f"bytes {size - 100}-{size - 1}/{size}"
    assert answer.content == bytes(96) + b"last"
    assert client.get(address, headers={"range": f"bytes={size}-"}).status_code == 416
    with client.stream("GET", address) as whole:
        assert (whole.status_code, whole.headers["content-length"]) == (200, str(size))
    # A dictionary that names what is no film gives nothing away.
    content["sources"][0]["path"] = "/etc/passwd"
    dictionary.write_text(json.dumps(content))
    assert "no film" in refused(client.get(address), 404)
    assert client.delete(address.removesuffix("/film")).status_code == 204
    assert not table.exists()
    assert path.exists()


def test_what_browsers_do_not_play_comes_as_a_copy(client, workspace):
    name = "other"
    address = f"/api/recordings/{id_of(client, name)}"
    assert not got(client, address)["playable"]
    assert got(client, f"{address}/proxy/state")["state"] in ("making", "ready")
    answer = client.get(f"{address}/proxy")
    assert answer.status_code == 200
    import io

    import av

    with av.open(io.BytesIO(answer.content)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name.startswith("h264")
    table = mien.read_table(next(workspace.glob(f"results/{name}.parquet")))
    expected = sorted(set(table["time_s"] - table["time_s"].min()))
    assert times == pytest.approx(expected, abs=1e-3)
    assert got(client, f"{address}/proxy/state") == {"state": "ready", "share": 1, "problem": None}


def test_a_copy_that_cannot_be_made_is_told_and_deleting_leaves_nothing(
    client, workspace, media, tmp_path
):
    film = tmp_path / "spoilt.mkv"
    film.write_bytes((media / "other.mkv").read_bytes())
    batch.run([str(film)], workspace / "results", formats=["parquet"])
    identity = id_of(client, "spoilt")
    address = f"/api/recordings/{identity}"
    assert client.post(f"{address}/export", json={"format": "csv"}).status_code == 200
    film.write_bytes(b"no film any more")
    state = got(client, f"{address}/proxy/state")
    end = time.monotonic() + 60
    while state["state"] == "making" and time.monotonic() < end:
        time.sleep(0.1)
        state = got(client, f"{address}/proxy/state")
    assert state["state"] == "failed"
    assert "spoilt.mkv" in state["problem"]
    # It is tried again, and fails again.
    assert "spoilt.mkv" in refused(client.get(f"{address}/proxy"), 422)
    assert client.delete(address).status_code == 204
    assert film.is_file()
    assert not (workspace / "exports" / identity).exists()
    assert not list((workspace / "results").glob("spoilt*"))


def test_an_edit_is_seen_though_its_file_has_the_time_and_size_of_the_one_before(tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    import os

    from mien.app.recordings.editing import change, redo, undo
    from mien.app.recordings.models import NameRequest
    from mien.app.recordings.opened import Shelf
    from mien.study.edits.beside import edits_path

    table = write(tmp_path, readings(10))
    shelf = Shelf()
    change(shelf, table, NameRequest(track=0, name="Anna"))
    for step, names in ((undo, {}), (redo, {0: "Anna"}), (undo, {})):
        step(shelf, table)
        os.utime(edits_path(table), ns=(1, 1))
        assert shelf.open(table).history.edits.names == names


def test_a_study_whose_file_names_another_folder_is_none(tmp_path):
    pytest.importorskip("fastapi", reason="needs mien[app]")
    from mien.app.errors import NotFoundError
    from mien.app.recordings.studies import NewStudy, create_study, list_studies
    from mien.app.recordings.study_runs import StudyRuns

    other = tmp_path / "other"
    other.mkdir()
    new = NewStudy.model_validate({"name": "one", "recordings": [{"id": "x"}]})
    study = create_study(tmp_path / "studies", new, lambda _: tmp_path)
    facts = tmp_path / "studies" / study.id / "study.json"
    facts.write_text(facts.read_text().replace(f'"id": "{study.id}"', '"id": "../other"'))
    assert list_studies(tmp_path / "studies") == []
    with pytest.raises(NotFoundError, match="no study 'one'"):
        StudyRuns(tmp_path / "studies", lambda _: tmp_path, print).delete(study.id)
    assert other.is_dir()


def test_edits_undo_and_versions(client):
    address = f"/api/recordings/{id_of(client, 'two/two')}"
    edits = client.post(
        f"{address}/edits", json={"op": "name", "track": 0, "name": EVIL, "version": 0}
    )
    assert edits.json()["names"] == {"0": EVIL}
    assert (edits.json()["version"], edits.json()["can_undo"]) == (1, True)
    old = {"op": "exclude", "start": 0, "end": 1, "version": 0}
    assert "another page" in refused(client.post(f"{address}/edits", json=old), 409)
    split = client.post(f"{address}/edits", json={"op": "split", "track": 1, "at": 1.0}).json()
    assert split["splits"] == [{"track": 1, "at": 1.0, "into": 2}]
    excluded = client.post(f"{address}/edits", json=old | {"version": 2, "note": "<i>"}).json()
    assert excluded["excluded"] == [{"start": 0.0, "end": 1.0, "track": None, "note": "<i>"}]
    coded = client.post(
        f"{address}/edits", json={"op": "code", "start": 1, "end": 2, "code": "x", "track": 2}
    )
    assert coded.json()["codes"] == [{"start": 1.0, "end": 2.0, "track": 2, "code": "x"}]
    assert by_name(client)["two/two"]["has_edits"]
    detail = got(client, address)
    assert {track["track"]: track["name"] for track in detail["tracks"]} == {
        0: EVIL,
        1: "face 1",
        2: "face 2",
    }
    boxes = got(client, f"{address}/boxes", start=0, end=0.1)
    assert all(face["excluded"] for face in boxes["faces"][0])
    labels = got(client, f"{address}/segments")["segments"]
    assert {"kind": "code", "label": "x"}.items() <= next(
        s for s in labels if s["kind"] == "code"
    ).items()
    for _ in range(4):
        state = client.post(f"{address}/undo").json()
    assert (state["names"], state["can_undo"], state["can_redo"]) == ({}, False, True)
    assert "nothing to undo" in refused(client.post(f"{address}/undo"), 409)
    assert client.post(f"{address}/redo", json={"version": state["version"]}).json()["names"]
    refused(client.post(f"{address}/redo", json={"version": 0}), 409)


@pytest.mark.parametrize(
    "operation",
    [
        {},
        {"op": "erase"},
        {"op": "name", "track": 0},
        {"op": "name", "track": 99, "name": "Anna"},
        {"op": "name", "track": 0, "name": "a\nb"},
        {"op": "merge", "track": 0, "into": 1},
        {"op": "split", "track": 0, "at": 0.5, "into": 7},
        {"op": "exclude", "start": 2, "end": 1},
        {"op": "exclude", "start": 0, "end": 1, "track": -1},
        {"op": "include", "index": 70},
        {"op": "code", "start": 0, "end": 1, "code": ""},
        [],
    ],
)
def test_edits_that_make_no_sense_are_refused(client, operation):
    address = f"/api/recordings/{id_of(client, 'two/two')}/edits"
    refused(client.post(address, json=operation), 422)


def test_exports_reports_and_summaries_have_the_edits(client):
    address = f"/api/recordings/{id_of(client, 'two/two')}"
    client.post(f"{address}/edits", json={"op": "name", "track": 0, "name": EVIL})
    client.post(f"{address}/edits", json={"op": "exclude", "start": 0, "end": 0.5})
    for name in ("csv", "parquet", "xlsx", "openface", "bids", "eaf"):
        answer = client.post(f"{address}/export", json={"format": name})
        assert answer.status_code == 200, answer.text
        for file in answer.json()["files"]:
            content = client.get(file["url"])
            assert content.status_code == 200
            assert len(content.content) == file["size"]
            assert "attachment" in content.headers["content-disposition"]
    summary = got(client, f"{address}/summary")
    people = [row[summary["columns"].index("participant")] for row in summary["rows"]]
    assert people == [EVIL, "face 1"]
    assert summary["rows"][0][summary["columns"].index("excluded_s")] > 0.4
    page = client.get(f"{address}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert EVIL not in page.text
    assert "no format" in refused(client.post(f"{address}/export", json={"format": "doc"}), 404)
    refused(client.get(f"{address}/exports/..%2f..%2fstudy.json"), 404)
    refused(client.get(f"{address}/exports/nothing.csv"), 404)


def test_a_file_in_the_way_of_exports_is_no_full_disk(client, workspace):
    identity = id_of(client, "photos")
    in_the_way = workspace / "exports" / identity
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("mine")
    answer = client.post(f"/api/recordings/{identity}/export", json={"format": "csv"})
    assert str(in_the_way) in refused(answer, 409)
    in_the_way.unlink()


def test_a_restart_keeps_edits(workspace, client):
    address = f"/api/recordings/{id_of(client, 'two/two')}"
    before = client.post(
        f"{address}/edits", json={"op": "code", "start": 0, "end": 1, "code": "kept"}
    ).json()
    with served(workspace) as again:
        assert got(again, address)["edits"] == before
        assert again.post(f"{address}/undo").json()["codes"] == before["codes"][:-1]
    # The other server sees it, too.
    assert got(client, address)["edits"]["version"] == before["version"] + 1


def test_broken_tables_are_named_and_the_rest_is_there(workspace, client):
    folder = workspace / "results" / "broken"
    table = write(folder, readings(10), "broken")
    identity = id_of(client, "broken/broken")
    table.write_bytes(table.read_bytes()[:200])
    assert "broken/broken" not in by_name(client)
    assert "cut off" in refused(client.get(f"/api/recordings/{identity}"), 422)
    (folder / "broken.dictionary.json").write_text("{")
    refused(client.get(f"/api/recordings/{identity}/series?columns=AU12"), 404)
    (folder / "broken.dictionary.json").unlink()
    refused(client.get(f"/api/recordings/{identity}"), 404)
    assert "clip" in by_name(client)
    # Edits that are damaged are no reason not to show the table.
    table = write(folder, readings(10), "fine")
    (folder / "fine.edits.json").write_text("{}")
    address = f"/api/recordings/{id_of(client, 'broken/fine')}"
    assert "move it away" in got(client, address)["edits"]["problem"]
    edit = {"op": "name", "track": 0, "name": "Anna"}
    assert "move it away" in refused(client.post(f"{address}/edits", json=edit), 409)
    assert (folder / "fine.edits.json").read_text() == "{}"


def test_an_hour_of_rows_answers_at_once(workspace, client):
    from mien.outputs.read import read_table
    from mien.study.tables import save

    small = read_table(workspace / "results" / "clip.parquet")
    import pandas as pd

    count = 100_000
    rows = pd.concat([small] * (count // len(small) + 1), ignore_index=True).iloc[:count].copy()
    rows["frame"] = np.arange(count)
    rows["time_s"] = np.arange(count) / 25
    rows.attrs = {"dictionary": small.attrs["dictionary"]}
    path = workspace / "results" / "hour.parquet"
    save(rows, path, "film")
    dictionary = path.with_suffix(".dictionary.json")
    content = json.loads(dictionary.read_text()) | {"sources": [], "media": []}
    dictionary.write_text(json.dumps(content))
    address = f"/api/recordings/{id_of(client, 'hour')}"
    got(client, address)
    names = ",".join(
        [
            "valence",
            "arousal",
            "AU12",
            *[c for c in rows if str(c).startswith("expr_") and "raw" not in c],
        ]
    )
    seconds = []
    for query in ({}, {"start": 1000, "end": 1200}):
        began = time.perf_counter()
        series = got(client, f"{address}/series", columns=names, points=4000, **query)
        seconds.append(time.perf_counter() - began)
    assert len(series["tracks"][0]["time"]) <= 5002
    began = time.perf_counter()
    got(client, f"{address}/boxes", start=1000, end=1010)
    seconds.append(time.perf_counter() - began)
    print("series of 100,000 rows, of 200 s of it, boxes of 10 s:", [f"{s:.3f} s" for s in seconds])
    assert min(seconds) < 2
    path.unlink()


def test_a_study_from_recordings_to_exports(client):
    two, clip = id_of(client, "two/two"), id_of(client, "clip")
    recordings = [
        {"id": two, "participant": "01", "condition": "rest"},
        {"id": clip, "participant": "01", "condition": "task"},
    ]
    new = {"name": "Smiles <b>", "recordings": recordings}
    refused(client.post("/api/studies", json=new | {"recordings": []}), 422)
    refused(client.post("/api/studies", json=new | {"recordings": [recordings[0]] * 2}), 422)
    refused(client.post("/api/studies", json=new | {"recordings": [{"id": "0" * 16}]}), 404)
    study = client.post("/api/studies", json=new).json()
    address = f"/api/studies/{study['id']}"
    assert study["state"] == "new"
    assert "run it first" in refused(client.get(f"{address}/summary"), 409)
    # Tables that were read with different networks cannot be compared, and that is said.
    failed = client.post(f"{address}/run").json()
    assert failed["state"] == "failed"
    assert "cannot be compared" in failed["problem"]
    recordings[1] |= {"participant": "02"}
    recordings[0] |= {"id": id_of(client, "other")}
    good = client.post(
        "/api/studies",
        json={
            "name": "Smiles <b>",
            "recordings": recordings,
            "baseline": {"of": "span", "span": [0, 1]},
        },
    ).json()
    assert good["id"] != study["id"]
    address = f"/api/studies/{good['id']}"
    done = client.post(f"{address}/run").json()
    assert (done["state"], done["problem"]) == ("done", None)
    summary = got(client, f"{address}/summary")
    assert len(summary["rows"]) == 2
    measures = {measure["name"]: measure for measure in got(client, f"{address}/plots")["measures"]}
    assert len(measures["valence_mean"]["values"]) == 2
    assert {mean["condition"] for mean in measures["valence_mean"]["means"]} == {"rest", "task"}
    assert "<html" in client.get(f"{address}/report").text
    for name in ("csv", "xlsx", "sav", "eaf"):
        answer = client.post(f"{address}/export", json={"format": name})
        assert answer.status_code == 200, answer.text
        (file,) = answer.json()["files"]
        assert client.get(file["url"]).content[:2] == b"PK"
    refused(client.post(f"{address}/export", json={"format": "mp3"}), 422)
    assert [item["id"] for item in client.get("/api/studies").json()] == [good["id"], study["id"]]
    assert client.delete(address).status_code == 204
    refused(client.get(address), 404)
    assert "clip" in by_name(client)


def made_study(client, name):
    members = [
        {"id": id_of(client, table), "participant": person, "condition": "task"}
        for person, table in (("01", "clip"), ("02", "other"))
    ]
    return client.post("/api/studies", json={"name": name, "recordings": members}).json()["id"]


def told_of(client, study, begun):
    """What the server tells of a study's run, until its end."""
    with client.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        next(lines)
        begun.set()
        for line in lines:
            if line == "event: study":
                progress = json.loads(next(lines).removeprefix("data: "))
                assert progress.pop("id") == study
                yield progress
                if progress["has_ended"]:
                    return


def test_a_run_of_a_study_says_how_far_it_is(client):
    study = made_study(client, "Progress")
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(lambda: list(told_of(client, study, begun)))
        assert begun.wait(60)
        assert got(client, f"/api/studies/{study}/progress") is None
        assert client.post(f"/api/studies/{study}/run").json()["state"] == "done"
        steps = heard.result(60)
    counts = [(step["read"], step["summarised"]) for step in steps if not step["has_ended"]]
    assert {step["total"] for step in steps[:-1]} == {2}
    assert list(dict.fromkeys(counts)) == [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    assert got(client, f"/api/studies/{study}/progress") is None
    refused(client.get("/api/studies/nobody/progress"), 404)
    assert client.delete(f"/api/studies/{study}").status_code == 204


def test_who_comes_later_is_told_how_far_a_run_is(client, workspace):
    from mien.app.recordings.study_runs import StudyRuns

    study = made_study(client, "Later")
    tables = {item["id"]: item["name"] for item in client.get("/api/recordings").json()}

    def find(identity):
        return workspace / "results" / f"{tables[identity]}.parquet"

    pairs = []
    runs = StudyRuns(
        workspace / "studies",
        find,
        lambda progress: pairs.append((progress, runs.progress(progress.id))),
    )
    assert runs.run(study).state == "done"
    *during, (last, after) = pairs
    assert during
    assert all(told == known for told, known in during)
    assert (last.has_ended, after) == (True, None)


def test_a_study_that_another_process_runs_is_left_to_it(client, workspace):
    from mien.study.project.run import study_claim

    study = made_study(client, "Twice")
    home = workspace / "studies" / study
    (home / "out").mkdir()
    with study_claim(home / "study.yaml", home / "out"):
        text = refused(client.post(f"/api/studies/{study}/run"), 409)
        assert "Twice: is being computed by" in text
        assert "wait until that is done" in text
        assert "try again" in refused(client.delete(f"/api/studies/{study}"), 409)
        # Nothing was changed under its hands.
        assert sorted(path.name for path in home.iterdir()) == ["out", "study.json"]
        assert got(client, f"/api/studies/{study}")["state"] == "new"
    assert client.post(f"/api/studies/{study}/run").json()["state"] == "done"
    # And the other way round: while the app has it, the command line is refused.
    with study_claim(home / "study.yaml", home / "out", "Twice"):
        command = ["study", "run", str(home / "study.yaml"), "--out", str(home / "out")]
        answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 1
    assert "run the study again once that is done" in answer.stderr
    assert client.delete(f"/api/studies/{study}").status_code == 204
    assert not home.exists()


def camera(client):
    pytest.importorskip("websockets", reason="needs mien[websocket]")
    from websockets.sync.client import connect

    address = str(client.base_url).replace("http", "ws")
    return connect(f"{address}/api/live", additional_headers=BEARER, max_size=None)


def jpeg():
    from simplejpeg import encode_jpeg

    return encode_jpeg(np.ascontiguousarray(portrait()), quality=90, colorspace="RGB")


def test_a_camera_of_a_page_is_read_and_kept(client, workspace):
    picture = jpeg()
    with camera(client) as socket:
        socket.send(json.dumps({"start": {"table": True, "record": True}}))
        frames = []
        start = time.time()
        first_read = 0.0
        for number in range(12):
            # A tenth of a second apart, however slow or fast this machine reads them: the baseline
            # ends where it should, and the face keeps its track.
            captured = start + number / 10
            time.sleep(max(0.0, first_read + number / 10 - time.monotonic()))
            socket.send(struct.pack("<d", captured) + picture)
            if number == 5:
                socket.send(json.dumps({"marker": "stimulus <b>"}))
                socket.send(json.dumps({"baseline": 0.25}))
            frames.append(json.loads(socket.recv(timeout=60)))
            assert frames[-1]["time"] == pytest.approx(captured, abs=1e-3)
            if number == 0:
                first_read = time.monotonic()
        socket.send(json.dumps({"stop": True}))
        end = json.loads(socket.recv(timeout=60))
    face = frames[0]["faces"][0]
    assert face["expression"] == "happiness"
    assert len(face["points"]) == 5
    assert set(face["scores"]) >= {"valence", "arousal", "AU12", "expr_happiness"}
    assert "valence" in frames[-1]["faces"][0]["corrected"]
    assert abs(frames[-1]["faces"][0]["corrected"]["valence"]) < 0.2
    assert end["frames"] == 12
    assert end["problem"] is None
    assert 0 < end["lag_p50_ms"] <= end["lag_p99_ms"]
    address = f"/api/recordings/{end['saved']}"
    detail = got(client, address)
    assert detail["rows"] == 12
    assert detail["playable"]
    assert client.get(f"{address}/film").status_code == 200
    # What mien recorded goes with its recording, unless it was chosen to be read once more.
    assert by_name(client)[detail["name"]]["owns_film"]
    kept = Path(detail["film"])
    assert kept.is_file()
    batch.run([str(kept)], workspace / "results" / "again", formats=["parquet"])
    assert not by_name(client)[detail["name"]]["owns_film"]
    again = by_name(client)[f"again/{kept.stem}"]
    assert (again["film"], again["owns_film"]) == (str(kept), False)
    assert client.delete(f"/api/recordings/{again['id']}").status_code == 204
    assert kept.is_file()
    assert by_name(client)[detail["name"]]["owns_film"]
    assert client.delete(address).status_code == 204
    assert not list((workspace / "results").glob(f"{kept.stem}*"))


def test_a_film_beside_its_table_that_mien_did_not_record_stays(client, workspace, media):
    folder = workspace / "results" / "mine"
    folder.mkdir()
    (folder / "mine.mp4").write_bytes((media / "clip.mp4").read_bytes())
    batch.run([str(folder / "mine.mp4")], folder, formats=["parquet"])
    # Not even where somebody wrote into the dictionary that it is one of the files.
    dictionary = folder / "mine.dictionary.json"
    content = json.loads(dictionary.read_text())
    dictionary.write_text(json.dumps(content | {"files": [*content["files"], "mine.mp4"]}))
    mine = by_name(client)["mine/mine"]
    assert (mine["film"], mine["owns_film"]) == (str(folder / "mine.mp4"), False)
    assert client.delete(f"/api/recordings/{mine['id']}").status_code == 204
    assert [path.name for path in folder.iterdir()] == ["mine.mp4"]


def test_pictures_that_come_too_fast_are_dropped_and_counted(client):
    picture = jpeg()
    with camera(client) as socket:
        socket.send(json.dumps({"start": {}}))
        for number in range(40):
            socket.send(struct.pack("<d", 5.0 + number / 1000) + picture)
        socket.send(b"12345678no jpeg")
        socket.send(json.dumps({"stop": True}))
        messages = [json.loads(socket.recv(timeout=60))]
        while "saved" not in messages[-1]:
            messages.append(json.loads(socket.recv(timeout=60)))
    end = messages[-1]
    assert end["saved"] is None
    assert end["frames"] >= 1
    assert end["dropped"] > 0
    assert end["frames"] + end["dropped"] >= 40


@pytest.mark.parametrize(
    "message",
    [
        '{"stop": true}',
        "[",
        "null",
        '{"start": {"baseline_s": -1}}',
        '{"start": {"record": true}}',
        b"x",
    ],
)
def test_a_camera_that_begins_wrongly_is_told_why(client, message):
    with camera(client) as socket:
        socket.send(message)
        answer = json.loads(socket.recv(timeout=60))
    assert list(answer) == ["error"]


def test_a_page_that_goes_away_keeps_its_table(client):
    before = set(by_name(client))
    with camera(client) as socket:
        socket.send(json.dumps({"start": {"table": True}}))
        for _ in range(3):
            socket.send(struct.pack("<d", time.time()) + jpeg())
            socket.recv(timeout=60)
    until = time.monotonic() + 20
    while set(by_name(client)) == before and time.monotonic() < until:
        time.sleep(0.1)
    (added,) = set(by_name(client)) - before
    assert by_name(client)[added]["rows"] == 3
