"""Reports: pages that say what the tables say, hold no face unasked, and need no network; figures for papers."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from film_tables import EVIL, readings, write
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.errors import SourceError, TableError
from mien.exports.recording import Recording
from mien.records import Face, Reading, Status
from mien.report import figures
from mien.report.methods import methods
from mien.report.packing import MISSING, hundredths
from mien.report.pages import report
from mien.report.people import people_of
from mien.report.pictures import affect_path, binned, sparkline
from mien.report.tables import tables_below
from mien.study.episodes.segments import Segments, find_segments
from mien.study.project.run import run_study
from mien.study.rows.people import People, participant_rows
from mien.study.rows.usable import Usable
from mien.study.tables import save

pytest.importorskip("jinja2", reason="reports need jinja2")


@pytest.fixture
def film(tmp_path):
    return write(tmp_path / "made", readings())


class Page(HTMLParser):
    """What a page refers to, and what it says."""

    def __init__(self, text):
        super().__init__()
        self.links, self.texts, self.tags, self._skip = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._skip = tag in ("script", "style")
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        self._skip = False

    def handle_data(self, data):
        if not self._skip:
            self.texts.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def unpacked(data, person):
    """The scores as the page's script gets them, by plain loops."""
    raw = zlib.decompress(base64.b64decode(data["people"][person]["packed"]))
    names = [*data["affect"], *(f"expr_{name}" for name in data["expressions"])]
    names += [*data["units"], data["sure"]]
    scores = {}
    for column, name in enumerate(names):
        value, values = 0, []
        for byte in raw[column * data["count"] : (column + 1) * data["count"]]:
            value = (value + byte) % 256
            signed = value - 256 if value > 127 else value
            values.append(np.nan if signed == MISSING else signed / 100)
        scores[name] = values
    assert len(raw) == len(names) * data["count"]
    return scores


def test_a_page_holds_what_the_table_holds(film):
    (page,) = report(film).pages
    assert page == film.with_name("clip.report.html")
    data = data_of(page.read_text())
    table = mien.read_table(film)
    times = np.frombuffer(zlib.decompress(base64.b64decode(data["times"])), "<i4")
    np.testing.assert_allclose(times.cumsum() / 1e4, table["time_s"].unique(), atol=6e-5)
    for face in (0, 1):
        rows = table[table["face"] == face].set_index("frame").reindex(range(90))
        for name, values in unpacked(data, face).items():
            np.testing.assert_allclose(values, rows[name].astype(float), atol=0.00501)
    reasons = {reason: start for start, _, reason in data["people"][1]["spans"]}
    assert list(reasons) == ["low_confidence", "no_face"]
    assert reasons["low_confidence"] == pytest.approx(table["time_s"].unique()[20], abs=1e-3)
    assert not data["people"][0]["spans"]


def test_a_page_needs_nothing_else_and_shows_no_face(film):
    text = report(film).pages[0].read_text()
    page = Page(text)
    assert page.links == []
    assert not {"img", "link", "iframe"} & set(page.tags)
    assert "default-src 'none'" in text
    assert "data:image" not in text
    # Nothing is fetched either: the script has no address to fetch from.
    script = re.search(r"<script>\n(.*?)</script>", text, re.DOTALL)[1]
    assert not re.search(r"https?:|fetch\(|XMLHttp|import\(", script)


def test_the_film_is_linked_where_it_lies_beside(tmp_path):
    film = write(tmp_path / "made", readings(source="a b.mp4"), source="a b.mp4")
    assert "video" not in Page(report(film).pages[0].read_text()).tags
    (tmp_path / "made" / "a b.mp4").write_bytes(b"film")
    assert Page(report(film).pages[0].read_text()).links == ["a%20b.mp4"]


def test_names_are_escaped(tmp_path):
    film = write(tmp_path / "made", readings(source=EVIL), problems=[EVIL])
    text = report(film.parent).pages[0].read_text()
    page = Page(text)
    assert 'alert("&")' not in text
    assert page.words.count(EVIL) == 2
    assert "<b>few faces</b>" in page.words
    assert page.tags.count("script") == 2


def test_thumbnails_only_if_asked(tmp_path, clip):
    table = mien.analyze(clip, every=0.2).save(tmp_path / "clip.csv")
    assert "img" not in Page(report(table).pages[0].read_text()).tags
    page = Page(report(table, pictures=True).pages[0].read_text())
    rows = mien.read_table(table)
    # Whose readings are all doubtful is left out.
    faces = rows[rows["status"] == "ok"]["face"].nunique()
    assert page.tags.count("img") == faces > 0
    pictures = [link for link in page.links if link.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == faces
    assert base64.b64decode(pictures[0].partition(",")[2]).startswith(b"\xff\xd8")
    missing = write(tmp_path / "missing", readings())
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        report(missing, pictures=True)


def test_means_and_shares_are_over_usable_time(film):
    recording = Recording.open(film)
    people, left_out = people_of(recording)
    assert ([person.number for person in people], left_out) == ([0, 1], 0)
    person = people[1]
    table = recording.table
    times = table["time_s"].unique()
    steps = np.append(np.diff(times), np.median(np.diff(times)))
    weights = dict(enumerate(steps))
    rows = table[(table["face"] == 1) & (table["confidence"] >= 0.6)]
    total = sum(weights[frame] for frame in rows["frame"])
    assert person.usable_s == pytest.approx(total)
    mean = sum(weights[f] * v for f, v in zip(rows["frame"], rows["valence"], strict=True)) / total
    square = sum(weights[f] * v * v for f, v in zip(rows["frame"], rows["valence"], strict=True))
    assert person.moments("valence")[0] == pytest.approx(mean)
    assert person.moments("valence")[1] == pytest.approx((square / total - mean**2) ** 0.5)
    assert sum(person.shares().values()) == pytest.approx(1)
    lost = person.lost()
    assert list(lost) == ["no_face", "low_confidence"]
    assert sum(lost.values()) + person.usable_s == pytest.approx(person.recorded_s)


@pytest.mark.parametrize("count", [1, 7, 40, 1000])
def test_thinned_out_scores_keep_their_mean(film, count):
    person = people_of(Recording.open(film))[0][1]
    edges, means = binned(person.rows, ["valence"], count)
    assert len(edges) == len(means) + 1
    assert (np.diff(edges) > 0).all()
    used = person.rows[person.rows["usable"]]
    stretch = np.searchsorted(edges, used["time_s"], "right") - 1
    for number in range(len(means)):
        inside = used["valence"][stretch == number]
        if len(inside):
            assert means[number, 0] == pytest.approx(inside.mean(), abs=1e-6)
        else:
            assert np.isnan(means[number, 0])


def test_small_pictures(film):
    person = people_of(Recording.open(film))[0][1]
    lines = sparkline(person, "valence")
    # The break of the unsure frames makes two lines.
    assert len(lines) == 2
    for line in lines:
        points = np.array([pair.split(",") for pair in line.split()], float)
        assert (np.diff(points[:, 0]) > 0).all()
        assert ((points >= 0) & (points <= [200, 40])).all()
    path = affect_path(person)
    strengths = [part["opacity"] for part in path]
    assert strengths == sorted(strengths)
    assert strengths[-1] == 1


def test_a_study_has_a_page_of_its_own(tmp_path, photo):
    write(tmp_path / "sub-01", readings())
    write(tmp_path / "sub-02", readings(faces=1))
    mien.analyze(photo).save(tmp_path / "photos.csv")
    written = report(tmp_path)
    assert [str(page.relative_to(tmp_path)) for page in written.pages] == [
        "sub-01/clip.report.html",
        "sub-02/clip.report.html",
        "report.html",
    ]
    (line,) = written.left_out
    assert "photos.csv: holds no film" in line
    page = Page(written.pages[-1].read_text())
    assert page.links == ["sub-01/clip.report.html", "sub-02/clip.report.html"]
    assert all((tmp_path / link).is_file() for link in page.links)
    assert "holds no film" in page.words
    assert re.search(r"\b2 recordings\b.*\b3 faces or people\b", page.words)
    # Made again, its own pages are no tables, and nothing changes.
    assert len(report(tmp_path).pages) == 3


def test_many_faces_are_cut_to_those_seen_longest(tmp_path):
    rows = []
    for reading in readings(frames=60, faces=1):
        number = reading.frame // 4
        face = Face(reading.face.box, reading.face.points, 0.9, number)
        rows.append(Reading(*list(vars_of(reading))[:4], face, reading.scores, {}))
    people, left_out = people_of(Recording.open(write(tmp_path, rows)))
    assert (len(people), left_out) == (12, 3)


def vars_of(reading):
    return (getattr(reading, name) for name in reading.__slots__)


def test_a_film_without_faces_has_a_page(tmp_path):
    rows = [Reading("clip.mp4", n, n / 25, Status.no_face, None, {}, {}) for n in range(30)]
    film = write(tmp_path, rows)
    pages = report(tmp_path).pages
    assert "No face was read" in Page(pages[0].read_text()).words
    assert Page(pages[1].read_text()).links == ["clip.report.html"]
    with pytest.raises(TableError, match="has no face"):
        figures.timeline(mien.read_table(film))


def test_what_is_no_table_of_a_recording(tmp_path):
    with pytest.raises(TableError, match="holds no table of a recording"):
        report(tmp_path)
    film = write(tmp_path, readings())
    # Of two formats one is taken, and a converted table is none.
    (tmp_path / "clip.openface.dictionary.json").write_text('{"columns": [], "mien": "1"}')
    (tmp_path / "broken.dictionary.json").write_text("{")
    assert tables_below(tmp_path) == [film]


def test_methods_say_how_it_was_done(film):
    dictionary = Recording.open(film).dictionary
    (text,) = methods([dictionary, dictionary])
    for fact in ("mien-s", "1" * 64, "mien-face", "2" * 64, mien.__version__, "not smoothed"):
        assert fact in text
    smoothing = {"kernel": "gaussian", "seconds": 0.06, "fwhm_s": 0.15, "keep": ["AU45"]}
    options = {"smoothing": smoothing, "every": 0.5, "faces": "largest"}
    texts = methods([dictionary, {**dictionary, "options": options}, dictionary])
    # Tables that were made in two ways are told apart.
    assert ["made so: 2" in text for text in texts] == [True, False]
    for fact in ("0.15 s wide", "AU45", "per 0.5 s", "largest first: 1"):
        assert fact in texts[1]
    # Dictionaries are files that anyone may edit.
    assert "unknown" in methods([{"bundle": 3, "options": []}])[0]


def test_hundredths():
    values = np.array([-1.0, -0.004, 0.126, 1.0, 1.3, np.nan])
    assert hundredths(values).tolist() == [-100, 0, 13, 100, 100, MISSING]


def test_figures_show_the_table(film):
    table = mien.read_table(film)
    figure = table.mien.timeline(face=1, columns=("valence", "AU12"))
    # 85 mm.
    assert figure.get_figwidth() == pytest.approx(85 / 25.4, abs=0.01)
    (axes,) = figure.axes
    valence, unit = (line.get_ydata() for line in axes.lines[:2])
    rows = table[table["face"] == 1]
    known = rows["confidence"] >= 0.6
    np.testing.assert_allclose(valence[~np.isnan(valence)], rows["valence"][known], atol=1e-6)
    np.testing.assert_allclose(unit[~np.isnan(unit)], rows["AU12"][known], atol=1e-6)
    assert len(axes.patches) == 2
    shares = figures.expression_shares(table, face=0).axes[0].patches
    assert sum(bar.get_width() for bar in shares) == pytest.approx(100)
    assert figures.unit_map(table, width="page").get_figwidth() == 7
    assert len(figures.affect_path(table).axes[0].lines) > 3


def test_figures_are_vectors(film, tmp_path):
    figures.timeline(mien.read_table(film)).savefig(tmp_path / "timeline.svg")
    text = (tmp_path / "timeline.svg").read_text()
    assert "<path" in text
    assert "<image" not in text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"face": 7}, TableError, "no face 7; it has 0, 1"),
        ({"columns": ("pride",)}, TableError, "no column pride"),
        ({"columns": tuple("abcde")}, ValueError, "1 to 4 scores, not 5"),
    ],
)
def test_figures_refuse_what_the_table_lacks(film, options, error, message):
    with pytest.raises(error, match=message):
        figures.timeline(mien.read_table(film), **options)


def test_figures_of_valence_and_arousal_alone(film):
    table = mien.read_table(film)
    plain = table[[name for name in table if not name.startswith(("AU", "expr"))]]
    assert isinstance(plain, pd.DataFrame)
    figures.timeline(plain)
    for draw in (figures.unit_map, figures.expression_shares):
        with pytest.raises(TableError, match="plot what it has"):
            draw(plain)


def test_command_line(film, tmp_path):
    run = CliRunner().invoke(app, ["report", str(film.parent)])
    assert run.exit_code == 0, run.output
    lines = run.output.split()
    assert lines == [str(film.parent / name) for name in ("clip.report.html", "report.html")]
    run = CliRunner().invoke(app, ["report", str(tmp_path / "none.csv")])
    assert run.exit_code == 1
    assert "no such table" in run.output


def test_people_who_were_told_apart_are_shown_as_such(film):
    """Faces 0 and 1 of one person are one line; without such a column they are two."""
    recording = Recording.open(film)
    table = recording.table
    assert recording.who == "face"
    merged = table.assign(person=table["face"].where(table["frame"] >= 40, 0) * 0)
    told = Recording(film, merged, recording.dictionary, recording.columns)
    (person,), _ = people_of(told)
    assert (told.who, person.name) == ("person", "Person 0")
    assert person.seen_s == pytest.approx(person.recorded_s)
    unknown = table.assign(person=pd.array([pd.NA] * len(table), "Int64"))
    assert Recording(film, unknown, recording.dictionary, ()).who == "face"


def test_the_page_of_a_study_shows_its_tables(film):
    groups = pd.DataFrame(
        {
            "condition": ["rest", "film", *["film"] * 60],
            "session": "",
            "measure": ["valence_mean", "valence_corrected_mean", *["AU01_q10"] * 60],
            "people": 3,
            "mean": [-0.25, 0.5, *[0.1] * 60],
            "sd": 0.1,
            "low": [-0.3, 0.4, *[0.0] * 60],
            "high": [-0.2, np.nan, *[0.2] * 60],
        }
    )
    save(groups, film.parent / "groups.parquet", "groups")
    contrasts = pd.DataFrame({"measure": ["smile_present_share"], "difference": [0.25]})
    save(contrasts, film.parent / "contrasts.parquet", "contrasts")
    written = report(film.parent)
    # A table of the study is about no recording, and gets no page.
    assert [page.name for page in written.pages] == ["clip.report.html", "report.html"]
    said = Page(written.pages[-1].read_text()).words
    assert "Shown are 2 of 62 rows" in said
    assert "rest valence mean 3 −0.25 0.1 −0.3 −0.2" in said
    assert "film valence corrected mean 3 0.5 0.1 0.4 –" in said
    assert "session" not in said
    # A few measures are those that were chosen: all of them are shown.
    assert "smile present share 0.25" in said


def test_films_of_one_name_in_several_folders_are_those_of_the_study(tmp_path):
    for participant in ("anna", "ben"):
        folder = tmp_path / "out" / "tables" / participant
        write(folder, readings(faces=1), name="rest", mien=mien.__version__)
    settings = {
        "study": 1,
        "name": "Jokes & <b>",
        "recordings": {"pattern": "out/tables/{participant}/{condition}.parquet"},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(settings))
    run_study(tmp_path / "study.yaml", tmp_path / "out")
    pages = {page.parent.name: page for page in report(tmp_path / "out").pages}
    for participant in ("anna", "ben"):
        (person,) = data_of(pages[participant].read_text())["people"]
        assert person["name"] == participant
    said = Page(pages["out"].read_text()).words
    assert "2 participants" in said
    assert said.count("Report on Jokes & <b>") == 2
    # The default name says nothing: the folder's does.
    (tmp_path / "study.yaml").write_text(json.dumps({**settings, "name": "study"}))
    run_study(tmp_path / "study.yaml", tmp_path / "out")
    report(tmp_path / "out")
    assert said.replace("Jokes & <b>", "out") == Page(pages["out"].read_text()).words


def test_a_study_s_participants_and_rules_are_shown(film):
    """Rows and segments of the study, not those of the page's own defaults."""
    table = mien.read_table(film)
    keys = {"participant": "anna", "recording": "clip"}
    strict = Usable(confidence=0.95)
    rows = participant_rows(table, keys, People(faces="largest"), strict)
    rows.attrs = {}
    save(rows, film.parent / "rows.parquet", "rows")
    save(find_segments(rows), film.parent / "segments.parquet", "segments")
    settings = {"usable": strict.model_dump(), "segments": Segments(on=0.9).model_dump(mode="json")}
    events = pd.DataFrame(
        {
            "participant": ["anna", "anna"],
            "recording": "clip",
            "trial": [1, 2],
            "trial_type": ["look", "listen"],
            "event_onset_s": [0.5, 1.0],
            "event_duration_s": [0.25, np.nan],
        }
    )
    save(events, film.parent / "epoch_summaries.parquet", "epoch_summaries")
    record = film.parent / "study.json"
    tables = {"clip": film.name}
    record.write_text(json.dumps({"settings": settings, "tables": tables}))
    pages = report(film.parent).pages
    data = data_of(pages[0].read_text())
    assert [person["name"] for person in data["people"]] == ["anna"]
    assert [span[2] for span in data["people"][0]["spans"]] == ["low_confidence"]
    start = round(float(table["time_s"].min()), 6)
    for event, expected in zip(
        data["events"], [(0.5, 0.75, "look"), (1.0, 1.0, "listen")], strict=True
    ):
        assert event[:2] == pytest.approx([start + expected[0], start + expected[1]], abs=1e-3)
        assert event[2] == expected[2]
    assert "1 person" in Page(pages[0].read_text()).words
    assert "1 participant" in Page(pages[-1].read_text()).words
    for page in pages:
        said = Page(page.read_text()).words
        # Pages are sent to others, who need not know where they lay.
        assert str(film.parent) not in page.read_text()
        assert "confidence of at least 0.95" in said
        assert "Segments reach 0.9" in said
    record.write_text("{}")
    with pytest.raises(TableError, match=r"study\.json: is no record.*run the study again"):
        report(film.parent)
