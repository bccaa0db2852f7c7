"""External features: looked up by film and frame, refused where they do not fit, learned from, and read with films."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError
from small_standins import cut
from test_windows import make_place, settings_of, table_of
from typer.testing import CliRunner

import mien
from mien.bundles.card import read_card
from mien.bundles.plan import External
from mien.cli import app
from mien.data.registry import load_set
from mien.data.sets.s_affwild2 import SAffWild2
from mien.data.standins.make import make_standin
from mien.errors import DataError
from mien.metrics import ccc
from mien.recipes.reproduce import reproduce
from mien.sources import open_source
from mien.temporal.external import ExternalFeatures, report_fit
from mien.train.loop import Progress, fit, network_of
from mien.train.open_model import open_model
from mien.train.runs.inference import inputs_of, raw_scores
from mien.train.settings.features import FeatureSettings
from mien.train.settings.head_run import HeadRun
from mien.train.settings.training import read_settings, write_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.usefixtures("one_thread"),
]
RUN = CliRunner()


def rows_of(draw, films, share=0.6, longest=40):
    """Features of a part of the frames of films, in no order."""
    parts = []
    for film in films:
        frames = np.flatnonzero(draw.random(longest) < share)
        values = draw.normal(size=(len(frames), 3)).astype(np.float32)
        parts.append(pd.DataFrame(values, columns=["a", "b", "c"]).assign(video=film, frame=frames))
    return pd.concat(parts).sample(frac=1, random_state=0)


@pytest.mark.parametrize("hold", [0, 1, 5])
@pytest.mark.parametrize("seed", range(10))
def test_a_frame_reads_the_nearest_earlier_row_within_reach(tmp_path, seed, hold):
    draw = np.random.default_rng(seed)
    rows = rows_of(draw, ["x", "y", "z"])
    path = tmp_path / "audio.parquet"
    # Names as pandas writes those that come often, and a column that is not read.
    rows.astype({"video": "category"}).assign(time_s=0.5).to_parquet(path)
    features = ExternalFeatures(path)
    assert features.columns == ("a", "b", "c")
    video = draw.choice(np.array(["x", "y", "z", "nobody", None], object), 200)
    frame = draw.integers(0, 50, 200).astype(float)
    frame[:5] = np.nan
    aligned = features.aligned(video, frame, hold)
    by_frame = {(row.video, row.frame): [row.a, row.b, row.c, 1] for row in rows.itertuples()}
    for name, number, values in zip(video, frame, aligned, strict=True):
        expected = [0, 0, 0, 0]
        for age in range(hold + 1):
            if (name, number - age) in by_frame:
                expected = by_frame[name, number - age]
                break
        np.testing.assert_array_equal(values, np.float32(expected))


def test_what_fits_is_counted(tmp_path):
    path = tmp_path / "audio.parquet"
    frames = [*range(2, 50), *range(52, 102)]
    pd.DataFrame({"video": "x", "frame": frames, "a": 1.0}).to_parquet(path)
    table = pd.DataFrame({"video": ["x"] * 100 + ["y"] * 10, "frame": [*range(100), *range(10)]})
    assert report_fit([path], table, 1) == [
        "audio.parquet: of 110 frames, 96 have external features, 1 hold those of an earlier one, "
        "13 have none; 1 of 2 films have none at all; 2 of 98 rows are of other frames"
    ]


def one_film(frames, **columns):
    return pd.DataFrame({"video": "x", "frame": frames, "a": 1.0} | columns)


UNUSABLE = {
    "no file": (None, "no such file"),
    "no Parquet": (b"video,frame,a\nx,0,1\n", "cannot be read as Parquet"),
    "a pickle": (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", "cannot be read as Parquet"),
    "no video": (one_film([0]).drop(columns="video"), "need a column video of text"),
    "numbered videos": (one_film([0], video=7), "need a column video of text"),
    "no frame": (one_film([0]).drop(columns="frame"), "need a column frame of whole numbers"),
    "frames in seconds": (one_film([0.5]), "need a column frame of whole numbers"),
    "no numbers": (one_film([0]).drop(columns="a"), "has no column of numbers"),
    "a vector in one column": (one_film([0, 1], a=[[1.0, 2.0]] * 2), "the column a holds list"),
    "words": (one_film([0], a="loud"), "the column a holds"),
    "no rows": (one_film([0]).iloc[:0].astype({"video": str}), "need a column video|has no rows"),
    "a nameless film": (one_film([0, 1], video=["x", None]), "1 of 2 rows have no video"),
    "before the start": (one_film([-1, 0]), "frames go from -1 to 0"),
    "a frame twice": (one_film([3, 4, 3]), "'x': frame 3 comes twice"),
    "NaN": (one_film([0, 1], a=[1.0, np.nan]), "a: 1 of 2 rows hold NaN"),
    "infinity": (one_film([0, 1], a=[1.0, np.inf]), "a: 1 of 2 rows hold NaN or infinity"),
    "too large": (one_film([0, 1], a=[1.0, 1e300]), "a: 1 of 2 rows hold NaN or infinity"),
    "other films": (one_film([0], video="y"), "has features of none of the 100 frames"),
    "at 25 instead of 30 a second": (one_film(np.arange(83)), "'x' end at frame 82, the film at 99"),
    "at 50 instead of 30 a second": (one_film(np.arange(166)), "'x' end at frame 165, the film at"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("what", UNUSABLE)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, what):
    content, message = UNUSABLE[what]
    path = tmp_path / "audio.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content.to_parquet(path)
    with pytest.raises(DataError, match=message) as caught:
        report_fit([path], one_film(np.arange(100)), 0)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_column_that_comes_twice_is_refused(tmp_path):
    table = pa.table([["x"], [0], [1.0], [2.0]], names=["video", "frame", "a", "a"])
    pq.write_table(table, tmp_path / "audio.parquet")
    with pytest.raises(DataError, match="the column a is there twice"):
        ExternalFeatures(tmp_path / "audio.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = make_place(tmp_path_factory.mktemp("external"), train=[30] * 8, val=[30] * 4)
    table = table_of(folder)
    # The label itself, for all frames but each tenth.
    heard = table[["video", "frame"]].assign(loud=table["valence"], high=table["arousal"])
    heard[heard["frame"] % 10 > 0].to_parquet(folder / "audio.parquet", index=False)
    return folder


@pytest.mark.parametrize("window", [None, 12])
def test_heads_read_external_features_behind_the_others(place, window):
    features = {"external": (place / "audio.parquet",), "hold": 1}
    settings = settings_of(place, window=window, features=features)
    alone = settings_of(place, window=window)
    assert settings.features.width == alone.features.width + 3
    table = table_of(place, "val")
    inputs = inputs_of(table, settings.named_tasks(), settings)
    values, targets, _ = inputs.__getitems__(range(len(inputs)))
    before, _, _ = inputs_of(table, alone.named_tasks(), alone).__getitems__(range(len(inputs)))
    is_frame = np.isfinite(values[..., 0].numpy())
    np.testing.assert_array_equal(values[..., :-3], before)
    heard, flag = values[..., -3:-1].numpy()[is_frame], values[..., -1].numpy()[is_frame]
    # Frame 0 has no earlier one; all other gaps hold the frame before.
    starts = np.abs(heard).sum(axis=1) == 0
    assert flag.tolist() == (~starts).astype(float).tolist()
    exact = np.isclose(heard, targets.numpy()[is_frame]).all(axis=1)
    assert 0.85 < exact.mean() <= 0.9


def test_a_run_learns_from_them_and_says_how_they_fit(place, tmp_path):
    lines = []

    class Log(Progress):
        def note(self, line):
            lines.append(line)

    features = {"external": (place / "audio.parquet",), "hold": 1}
    scores = {}
    for name, more in (("with", features), ("without", {})):
        settings = settings_of(place, window=None, features=more, fit={"epochs": 40})
        run = fit(settings, tmp_path / name, Log())
        table = table_of(place, "val")
        raw, _ = raw_scores(network_of(run), inputs_of(table, settings.named_tasks(), settings))
        scores[name] = ccc(raw["va"][:, 0], table["valence"].to_numpy())
    assert scores["with"] > 0.95 > scores["without"] + 0.2
    [line] = [line for line in lines if line.startswith("audio.parquet")]
    assert "of 360 frames, 324 have external features, 24 hold those of an earlier one, 12" in line
    assert line in (tmp_path / "with" / "run.json").read_text()
    with pytest.raises(DataError, match=r"read external features \(audio.parquet\)"):
        open_model(tmp_path / "with")


def test_features_of_another_length_are_refused_before_training(place, tmp_path):
    frames = pd.read_parquet(place / "audio.parquet")
    frames[frames["frame"] < 20].to_parquet(tmp_path / "audio.parquet")
    settings = settings_of(place, features={"external": (tmp_path / "audio.parquet",)})
    with pytest.raises(DataError, match="features of another length than the film"):
        fit(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "last.pt").exists()


def test_only_external_features_are_held_and_paths_are_of_the_file(place, tmp_path):
    for kind in (HeadRun, FeatureSettings):
        given = {"tasks": ["va"]} if kind is HeadRun else {"bundle": "mien-s", "cache": "cache"}
        with pytest.raises(ValidationError, match="only external features are held"):
            kind.model_validate({**given, "hold": 2})
    # Relative to the file of settings, like other paths.
    settings = settings_of(place, features={"external": (place / "audio.parquet",)})
    text = write_settings(settings).replace(str(place / "audio.parquet"), "audio.parquet")
    (tmp_path / "settings.yaml").write_text(text)
    assert read_settings(tmp_path / "settings.yaml").features.external == (
        tmp_path / "audio.parquet",
    )


FIT = {"epochs": 2, "batch": 32, "keep": "last", "workers": 0}


def recipe(folder, audio):
    """Heads on external features, one frame at a time and over windows, and a system of both."""
    heads = {"do": "heads", "features": "features", "data": "faces"}
    reads = {"external": [str(audio)], "hold": 2}
    window = {"window": {"length": 8, "gap": 50}, "heads": {"va": {"kind": "sequence", "width": 4}}}
    steps = {
        "features": {"do": "features", "data": "faces", "bundle": "mien-xs"},
        "frames": {**heads, "runs": [{"tasks": ["va"], "fit": FIT, **reads}]},
        "gru": {**heads, "runs": [{"tasks": ["va"], "fit": FIT, **reads, **window}]},
        "mean": {"do": "blend", "of": ["frames", "gru"], "weights": {"va": [0.5, 0.5]}},
        "export": {"do": "system", "of": "mean", "name": "heard"},
    }
    content = {
        "name": "heard",
        "title": "Heads that hear",
        "paper": "Nobody (2000), Nothing",
        "data": {"faces": {"set": "s-aff-wild2", "get": "from nobody"}},
        "protocol": "abaw2022.va",
        "steps": steps,
        "rows": [{"name": "heard", "of": "mean", "networks": ["features", "frames", "gru"]}],
    }
    path = folder / "heard.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """The data, the audio, and what was noted when the recipe ran."""
    folder = tmp_path_factory.mktemp("heard")
    root = make_standin("s-aff-wild2", folder / "faces", size=300)
    cut(root)
    table = load_set(SAffWild2(set="s-aff-wild2", root=root), ())
    audio = folder / "audio.parquet"
    last = table.groupby("video")["frame"].max()
    draw = np.random.default_rng(0)
    parts = []
    for video, end in last.items():
        frames = np.arange(0, end + 1, 2)
        loud = draw.normal(size=len(frames)).astype(np.float32)
        parts.append(pd.DataFrame({"video": video, "frame": frames, "loud": loud}))
    pd.concat(parts).to_parquet(audio, index=False)
    notes = []
    reproduce(recipe(folder, audio), {"faces": root}, folder / "run", note=notes.append)
    return folder, notes


def ran(notes):
    lines = [line for line in notes if line.startswith("step ") and line.endswith(" s")]
    return [line.split(", ")[1].split(":")[0] for line in lines]


def test_a_system_of_such_heads_gives_the_rows_scores(heard):
    folder, notes = heard
    assert ran(notes) == ["features", "frames", "gru", "mean", "export"]
    assert any("export: differs from the step mean by" in line for line in notes)
    assert sum(line.startswith("audio.parquet: of ") for line in notes) >= 1
    card = read_card(folder / "run/bundles/heard/card.json")
    for step in ("frames", "gru"):
        assert card.steps[step].heads[0].external == (External(columns=("loud",), hold=2),)
    assert any("audio.parquet" in limit for limit in card.limits)


def test_only_steps_that_read_a_file_depend_on_its_content(heard, tmp_path):
    folder, _ = heard
    notes = []
    moved = (folder / "audio.parquet").read_bytes()
    (tmp_path / "moved.parquet").write_bytes(moved)
    reproduce(
        recipe(tmp_path, tmp_path / "moved.parquet"), {"faces": folder / "faces"}, folder / "run",
        note=notes.append,
    )  # fmt: skip
    assert ran(notes) == []
    louder = pd.read_parquet(folder / "audio.parquet").assign(loud=lambda rows: rows["loud"] + 1)
    louder.to_parquet(tmp_path / "moved.parquet", index=False)
    reproduce(
        recipe(tmp_path, tmp_path / "moved.parquet"), {"faces": folder / "faces"}, folder / "run",
        note=notes.append,
    )  # fmt: skip
    assert ran(notes) == ["frames", "gru", "mean", "export"]


def test_a_recipe_refuses_unfit_features_before_its_first_step(heard, tmp_path):
    folder, _ = heard
    rows = pd.read_parquet(folder / "audio.parquet")
    rows[rows["frame"] < 5].to_parquet(tmp_path / "short.parquet", index=False)
    notes = []
    with pytest.raises(DataError, match="features of another length than the film"):
        reproduce(
            recipe(tmp_path, tmp_path / "short.parquet"), {"faces": folder / "faces"},
            tmp_path / "run", note=notes.append,
        )  # fmt: skip
    assert ran(notes) == []


@pytest.fixture(scope="module")
def sound(clip, tmp_path_factory):
    """Features of the clip, with gaps."""
    draw = np.random.default_rng(3)
    frames = np.delete(np.arange(150), [40, 41, 42, 43, 90])
    path = tmp_path_factory.mktemp("sound") / "sound.parquet"
    loud = draw.normal(size=len(frames)).astype(np.float32)
    pd.DataFrame({"video": clip.stem, "frame": frames, "loud": loud}).to_parquet(path)
    return path


def test_a_film_is_read_with_its_features(heard, sound, clip, tmp_path):
    """The film's rows are those of the crops of its faces with the features of their frames, as a table."""
    system = heard[0] / "run/bundles/heard"
    rows = [
        row
        for row in mien.analyze(clip, bundle=system, features=sound, stream=True, quality="none")
        if row.face
    ]
    loaded = mien.load(system).with_features([sound])
    by_frame = {row.frame: row for row in rows}
    cuts = []
    for frame in open_source(clip).frames():
        if frame.index in by_frame:
            cuts.append(loaded.cut(frame.pixels, by_frame[frame.index].face))
    signals = loaded.score_cuts(cuts)
    streamed = np.stack([row.scores["va"] for row in rows])
    tracks = np.array([row.face.track for row in rows])
    for track in np.unique(tracks):
        rows_of_track = np.flatnonzero(tracks == track)
        part = {key: values[rows_of_track] for key, values in signals.items()}
        frames = [rows[row].frame for row in rows_of_track]
        table = loaded.finish(part, [clip.stem] * len(frames), frames)
        np.testing.assert_allclose(streamed[rows_of_track], table["va"], atol=1e-5)
    silent = pd.read_parquet(sound).assign(loud=0.0)
    silent.to_parquet(tmp_path / "silent.parquet")
    other = mien.analyze(
        clip,
        bundle=system,
        features=tmp_path / "silent.parquet",
        stream=True,
        quality="none",
    )
    unheard = np.stack([row.scores["va"] for row in other if row.face])
    assert np.abs(unheard - streamed).max() > 1e-3


def test_the_command_reads_a_film_with_its_features(heard, sound, clip, tmp_path):
    system = str(heard[0] / "run/bundles/heard")
    arguments = ["analyze", str(clip), "--bundle", system, "--out", str(tmp_path)]
    done = RUN.invoke(app, [*arguments, "--features", str(sound)])
    assert done.exit_code == 0, done.output
    assert (
        "of 150 frames, 145 have external features, 3 hold those of an earlier one, 2"
        in done.output.replace("\n", " ")
    )
    [dictionary] = tmp_path.glob("*.dictionary.json")
    assert "sound.parquet" in dictionary.read_text()
    again = RUN.invoke(app, [*arguments, "--features", str(sound)])
    assert "done before" in again.output


REFUSED = {
    "none": ([], "learned from external features and needs them"),
    "another film": (lambda rows: [rows.assign(video="other")], "has no features of 'clip'"),
    "other columns": (lambda rows: [rows.rename(columns={"loud": "high"})], "the columns high, which heard does not read; it reads loud"),
    "another length": (lambda rows: [rows[rows["frame"] < 100]], "another length than the film"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_films_without_fitting_features_are_refused(heard, sound, clip, tmp_path, what):
    given, message = REFUSED[what]
    files = []
    for number, rows in enumerate(given(pd.read_parquet(sound)) if callable(given) else given):
        files.append(tmp_path / f"{number}.parquet")
        rows.to_parquet(files[-1])
    with pytest.raises(DataError, match=message) as caught:
        _ = mien.analyze(clip, bundle=heard[0] / "run/bundles/heard", features=files).table
    assert "\n" not in str(caught.value)


def test_features_for_a_bundle_that_reads_none_are_refused(heard, sound, clip):
    with pytest.raises(DataError, match="mien-s reads no external features"):
        mien.analyze(clip, features=sound)
    with pytest.raises(DataError, match="which single crops do not have"):
        mien.load(heard[0] / "run/bundles/heard").score([np.zeros((80, 80, 3), np.uint8)])
    with pytest.raises(ValueError, match="features must be Parquet files, got 7"):
        mien.Options(features=7)
