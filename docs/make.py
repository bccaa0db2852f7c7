"""Writes the pages made from the code, all in docs/: columns.md, bundles.md, cards/, submissions.md; given the demo's folder, demo.jpg.

python docs/make.py [DEMO]     (DEMO: where `make demo` left clip.csv and clip.overlay.mp4)
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
from typer.testing import CliRunner

from mien import zoo
from mien.bundles.card import AffectCard, FaceCard, IdentityCard
from mien.bundles.card_parts import TaskCard
from mien.bundles.readme import bullets, published_page, scores_page, seen_page, table, worse_page
from mien.bundles.store import AFFECT, FACES, embedded, load, open_bundle
from mien.cli import app
from mien.data.submissions.check import KINDS
from mien.data.submissions.formats import DIGITS, markdown
from mien.outputs.columns import columns
from mien.records import STATUSES
from mien.tasks import COMPOUND_SCORES, LANDMARK_FAMILY, QUALITY_FAMILIES, TASKS
from mien.temporal.widths import BEARABLE_S, OTHER_S, bearable_s
from mien.train.settings.template import template
from mien.zoo.index import Faces

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"

SUBMISSIONS = """# Submission files

The files that the ABAW challenges take; made by `docs/make.py` from the code that writes and checks them. A format has the name of its
protocol in `mien.protocols.PROTOCOLS`, by year. The edition does as well: `abaw7.mtl` is `abaw2024.mtl`. `mien submit formats` prints this
table.

{table}

A row is the name as the official list has it and then the fields; in a file per video there are no names, and line *k* below the header
is frame *k*. Headers do not always count the fields: twelve units stand below `aus`, one class number below eight names.
Values have {digits} decimals.

Layouts are those of the organisers' lists and pages of each edition, where no other source is named. Of ABAW9 no file could be read,
of ABAW10 and ABAW11 only ambivalence and hesitancy of whole films, and those only in code of entrants, who also name macro-F1 as its
measure. Other tracks of these editions are refused by name rather than guessed: give the year of an edition whose layout is the same,
once the organisers' page says so.

A listed film (emotional mimicry, ambivalence and hesitancy) is answered by the mean over its frames of the largest face.

## Check

    mien submit check FILE --list OFFICIAL [--format NAME]

OFFICIAL is the challenge's own list. Without `--format` the layout and the first line tell the format; equal formats of two years are
checked alike, and `abaw2025.ah`, which has no header, must be named. The list for a file per video names every frame,
`<video>/00001.jpg` first, because the names of the videos alone do not say how many lines they need. The command ends with 0 and one
line where nothing is wrong, else with 1 and the first examples of each kind of defect: {kinds}.

In a file per video a doubled row shows as a surplus row, and rows in another order cannot be seen.

## Write

```python
from pathlib import Path

from mien.data.frame_lists import read_list
from mien.data.submissions.write import write

listed = read_list(Path("MTL_Challenge_test_set_release.txt"))
write("abaw2022.mtl", listed, scores, Path("predictions.txt"), thresholds={{"au": 0.5}})
```

`scores` is a data frame with `image` and the columns of the tasks (`valence`, `arousal`, `expr_neutral`, …, `AU01`, …), in any order of
rows. Every listed row is answered in the official order, and rows listed twice are answered twice. A frame that was not measured,
because it is not in `scores` or its columns are NaN, lies on the straight line between the measured frames around it, by frame number;
before the first and after the last measured frame that one is held. A video without any measured frame is an error, and so is a missing
picture (`abaw2022.lsd`) or clip (`…emi`), which have no neighbours. Then the highest expression becomes the class, units become 1 from
their threshold on (0.5), and values are clipped to their range. What `write` returns says how many rows were filled and which scored
images are not on the list.

## Left out

The emotional reactions of ABAW5 (seven emotions) and the valence, arousal and units of ABAW8 have no format here, and ambivalence
(`abaw2025.ah`) has no protocol: their exact rules are not at hand. The units of ABAW2 have a protocol but no format.
"""


RECORDINGS = """
## What the dictionary says of the recording

`problems` are damage: frames that cannot be decoded, files that end early. They make the exit code 1. `notes` are facts about how an
input was read that say nothing against the numbers, such as a clock that was set back, or which of several video streams was read.
`media` has an entry for each input, in the order of `sources`; what a file does not say is null or missing.

| fact | meaning |
| --- | --- |
| `width`, `height` | the size as stored, pixels |
| `pixel_aspect` | shape of a stored pixel, such as 64:45; frames are stretched to square pixels before a face is looked for |
| `frame_width`, `frame_height` | the size of the frames that boxes and points refer to: pixels square, frames upright |
| `rotation`, `mirrored` | degrees clockwise by which the file's own tag turned the frames, and whether it mirrored them |
| `turned` | degrees clockwise by which `--rotate` turned them besides |
| `frame_rate`, `duration_s`, `start_s` | frames a second, length, and the time of the clock at the beginning, as the file states them |
| `codec`, `container`, `created` | what the pictures are coded with and kept in, and when the file says it was made |
| `stream`, `video_streams` | number of the video stream that was read, from 0, of how many |
| `interlaced`, `deinterlaced` | whether frames hold two fields, and whether these were made whole, one for one, at the same times |
| `overlay_scale` | how many times as large as the frames the overlay is drawn, where there is one: labels need 360 pixels |
| `pages`, `scale` | of pictures: how many the file holds, and by how much a very large one was shrunk |

## What the dictionary says of inputs and files

`sources` has an entry for each input, in the order of the table's rows; `folder` is the folder whose photos these are, or null. The form
of the dictionary has a number, `dictionary`.

| fact | meaning |
| --- | --- |
| `name`, `path` | the input as it was named, and its absolute path; `path` is null for cameras and arrays |
| `bytes`, `modified` | its size, and when it was last changed, in seconds since 1970 |
| `fingerprint` | SHA-256 of its size and content: all of it up to 16 MiB, 16 blocks of 64 KiB spread evenly over a larger file |
| `rows` | rows that were read from it, by status |
| `overlay` | its overlay, for a folder's photos |

`tables` holds the `rows`, `bytes` and `sha256` of each table, `files` the names of tables and overlays, `rows` all rows by status,
`formats` and `overlay` what was asked for (`overlay` is `blur` or `drawn` where [faces are hidden](../howto/anonymise.md)). A later run compares them before it says that an input was done. `path` holds the names of
your folders: look at it before you publish a dictionary.
"""
DAMAGE = """
Damage of a photo is told where its format or a decoder notices it, and a photo that is cut off is refused. Where a format carries
checksums nothing passes; elsewhere a wrong bit is often just another valid picture. Of {count} damaged files of each kind (a bit or byte
turned, 64 bytes zeroed or replaced, 8 taken out, the end cut off), this share of those that look different was told or refused:

| kind | told or refused |
| --- | --- |
{rows}

Measured by `python bench/photo_damage.py`. Keep checksums of your own beside photos that matter.
"""

VALUES = """
## Shares of time

How much of its time a face shows an expression is the mean of that expression's probabilities, not the share of rows with its label. The
label names the likeliest, and a rare expression is seldom that. These are {faces} faces of FER+'s validation split (which also chose the
networks' best epochs), read by `mien-s`, and what ten people said of each:

{shares}

Over 200 draws of 300 faces the shares are wrong by {mean_error} of the faces by mean probabilities, by {label_error} by labels
(95 % of the draws in brackets). In pandas, with the scores before smoothing (`_raw`) left out:
`table[[name for name in table if name.startswith("expr_") and not name.endswith("_raw")]].mean()`.

**Contempt is not called** by the bundles that come with mien. Faces that get the label `contempt`: {called};
most people said it of {voted} of them. Use its probability, and compare groups rather than single faces. The dictionary lists
under `bundle.never_right` the names for which a bundle's card knows an F1 of 0, and on which faces.

## Valence and arousal

What `mien-s` learned them from, as its card has it: *{derived}*.
Nobody rated how pleasant these faces are: valence is a weighted sum of the shares of votes for each expression, 0.81 for happiness,
−0.63 for sadness, 0 for neutral (`mien.data.sets.ferplus.VA_OF_EXPRESSION`). It says little that the expressions do not. The dictionary
says of every task what its bundle learned it from, under `bundle.learned_from`.

## Compound expressions

A `ce_` column is a score to rank faces by, and no probability: 0 where a member is missing, .5 where two members share all. No labels
of compound expressions were at hand. Faces on which people disagreed stand in for them: a face is a positive where at least .3 of its
votes went to each member. Positives among the {faces} faces: {positives};
compounds with fewer than five are left out of the means. *Plain* is the largest score, as a share of the form's scale, on faces on which
one member has a probability above .95; *happy* is the mean of `ce_happily_surprised` on the {happy} faces with a happiness above .95.
Chosen is the form of the highest average precision among those that stay below a quarter of their scale on plain faces.

{forms}

Recipes keep the means of the papers (`mien.tasks.compound_scores`). A bundle that has learned compound expressions gives its own, which are
probabilities.

## Smoothing

Every width is a full width at half maximum, in seconds. This is what a Gaussian leaves of the height of the median event of each column
with at least four events in a real clip of 20 seconds with one face, at 24 frames a second:

{left}

A column *bears* at most {other_s:g} s, which leaves more than half of an expression of half a second, and less where that would take away
more than half of what was seen. Not seen here: {others}, as lips move 2 to 7 times a second in speech.
Wider smoothing is a note on the terminal and in the dictionary. `AU45` is left as it is.

The figures on this page are printed by

    python bench/values.py --ferplus FOLDER --clip CLIP

## In spreadsheets

Spreadsheets run cells that begin with `=`, `+`, `-`, `@`, a tab or a line break as formulas, and a file can be called anything. In CSV
files such texts and column names have an apostrophe in front, also behind a `;` or a tab, where some spreadsheets begin a new cell; a text
that begins with an apostrophe gets a second one. `mien.read_table` takes them away again and gives back every name exactly. Numbers are as
they are; Parquet and JSON lines need none of this.
"""


def _photo_damage() -> str:
    measured = json.loads(
        (HERE.parent / "bench" / "results" / "photo_damage.json").read_text(encoding="utf-8")
    )
    rows = "\n".join(
        f"| {kind} | {int(100 * result['share'])} % |"
        for kind, result in measured["formats"].items()
    )
    return DAMAGE.format(count=measured["count"], rows=rows)


def columns_page() -> str:
    """Every column of the default table, as its data dictionary has it."""
    lines = [
        "# Columns",
        "",
        "One row per face per frame; made by `docs/make.py` from the code that writes the tables.",
        "",
    ]
    lines += ["| column | type | unit | range | meaning |", "|---|---|---|---|---|"]
    judged = [task for task in TASKS.values() if task.family in QUALITY_FAMILIES]
    shown = (*load().tasks, COMPOUND_SCORES)
    made = columns(
        shown, quality=judged, points=True, landmarks=True, uncertain_below=0.0, people=True
    )
    for column in made:
        # The other points are described alike.
        if column.name.startswith("landmark_") and "_0_" not in column.name:
            continue
        span = (
            ""
            if column.low is None
            else f"{column.low:g} to {'' if column.high is None else format(column.high, 'g')}"
        )
        lines.append(
            f"| `{column.name}` | {column.dtype} | {column.unit or ''} | {span} | {column.meaning} |"
        )
    lines += [
        "",
        "The `ce_` columns are there with `--compounds`, the points (`left_eye_x` …) with `--points`, `eye_opening_left` … `mouth_width` and 68 points",
        "(`landmark_0_x`, `landmark_0_y` to `landmark_67_y`) with [`--landmarks`](../howto/landmarks.md), `quality` … `light` unless",
        "[`--quality none`](../howto/quality.md) leaves them out, and `person` with `--people` ([what the law asks](../howto/people.md)). With `--smooth`, all",
        "score columns come again with the suffix `_raw`, as they were before smoothing. Doubtful rows take no part in it, and hold the same in both.",
        "",
    ]
    lines += ["| status | meaning |", "|---|---|"] + [
        f"| `{status}` | {meaning} |" for status, meaning in STATUSES.items()
    ]
    measured = json.loads(
        (HERE.parent / "bench" / "results" / "values.json").read_text(encoding="utf-8")
    )
    return "\n".join(lines) + "\n" + _values_page(measured) + RECORDINGS + _photo_damage()


def _values_page(measured: dict[str, Any]) -> str:
    """How the values of the columns may be read, with the figures of `bench/values.py`."""
    shares, compounds, smoothing = (measured[part] for part in ("shares", "compounds", "smoothing"))
    ways = ["votes", "mean probabilities", "labels"]
    share_rows = [
        [name, *(f"{100 * shares[AFFECT]['share'][way][name]:.1f} %" for way in ways)]
        for name in shares[AFFECT]["share"]["votes"]
    ]
    errors = {
        way: "{} % [{}, {}]".format(*values)
        for way, values in shares[AFFECT]["error of shares, percent of faces"].items()
    }
    called = [
        f"`{name}` {found['called']['contempt']} of {found['faces']:,}"
        for name, found in shares.items()
    ]
    forms = [
        [
            f"**{name}**" if name == compounds["chosen"] else name,
            *(
                "{:.3f} [{:.3f}, {:.3f}]".format(*entry[measure])
                for measure in ("average precision", "area under ROC", "F1")
            ),
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(
                *entry["average precision minus the chosen form's"]
            ),
            f"{entry['highest on plain faces, share of the scale']:.2f}",
            f"{entry['mean of happily_surprised on plainly happy faces']:.3f}",
        ]
        for name, entry in compounds["forms"].items()
    ]
    widths = list(next(iter(smoothing.values()))["height left"])
    left = [
        [
            f"`{name}`",
            f"{bearable_s(name):g} s",
            str(entry["events"]),
            *(f"{entry['height left'][width]:.2f}" for width in widths),
        ]
        for name, entry in smoothing.items()
    ]
    positives = ", ".join(
        f"{count} {name.replace('_', ' ')}" for name, count in compounds["positives"].items()
    )
    others = ", ".join(
        f"`{name}` {width_s:g} s" for name, width_s in BEARABLE_S.items() if name not in smoothing
    )
    return VALUES.format(
        shares=table(["expression", "by the votes", "by mean probabilities", "by labels"], share_rows),
        faces=f"{shares[AFFECT]['faces']:,}", mean_error=errors["mean probabilities"], label_error=errors["labels"],
        voted=shares[AFFECT]["largest share by votes"]["contempt"], called=", ".join(called),
        derived=next(spec.supervised_by for spec in open_bundle(AFFECT).card.tasks if spec.key == "va"),
        forms=table(["form", "average precision", "area under ROC", "F1", "precision minus the chosen's", "plain", "happy"], forms),
        happy=compounds["plainly happy faces"], positives=positives,
        left=table(["column", "bears", "events", *widths], left), others=others, other_s=OTHER_S,
    )  # fmt: skip


Known = AffectCard | FaceCard | IdentityCard | zoo.Entry
GIVES = {
    "expr": "which expression the face shows, as a probability of each",
    "va": "how pleasant (valence) and how stirred (arousal) the face looks",
    "au": "which parts of the face move (action units)",
    "quality": "the chance that a reading is that of an undisturbed picture",
    "occlusion": "how far something covers each region (left and right as in the picture)",
    "pose": "how the head is turned, in degrees",
    "gaze": "where the eyes look, relative to the head",
}
SHORT = {
    "expr": "{} expressions",
    "va": "valence and arousal",
    "au": "{} action units",
    "quality": "how far readings can be trusted",
    "occlusion": "occlusion of {} regions",
    "pose": "head pose",
    "gaze": "direction of gaze",
    "landmarks": "68 points of a face",
}
USE = """## Use it

```sh
{command}
```

```python
{code}
```
"""
MEASURES = {
    "accuracy": "expr accuracy",
    "macro-F1": "expr macro-F1",
    "valence-arousal, CCC": "va mean CCC",
    "action units, r": "au mean r",
}
COMPARED = {
    "accuracy": "expr.ferplus8",
    "valence-arousal, r": "va",
    "action units, r": "au.blendshapes",
}
TRIED = {
    "mien-s-before": "an EfficientNet, the `mien-s` before it",
    "efficientnet-lite0": "EfficientNet-Lite0 from ImageNet's weights, four passes with the same teachers",
    "mien-s-144": "`mien-s` gone on from for four passes with its teachers, on crops of 144 px",
}
"""What was tried as a larger network, by its name in bench/results/together.json."""
SIZES = """
## Which size

The networks of mien's own on the validation split of FER+, with 95 % intervals; milliseconds a face in batches of 16, preparation included
(`bench/zoo.py`). `mien-s` is what `mien analyze` takes; `mien-xs` is for [browsers and phones](../howto/devices.md), and for slow machines.

{table}

There is no larger one, because none has earned its place on these data. These are differences to `mien-s` in pairs on the same validation
faces, with 95 % intervals (`bench/together.py`); the last row is the set of networks whose averaged answers had most expressions right,
and what networks do not know together, a student of theirs does not learn either. Larger crops read action units a hundredth better and
expressions no better, for two thirds more work; how much of it is owed to the size and how much to further passes was not tried.

{larger}

## What is checked before a network runs

Whoever opens a bundle (`--bundle`, `load`, `bundles add`, `pull`, `verify`), with either engine, passes one gate. Its files are regular
files of known sizes and the network is the one whose hash the card holds. The network keeps to standard operations, at most 4,000, one
after the other, without branches, loops, functions or other files; its numbers and its work for one picture are found from its shapes and
bounded before anything runs. A network whose outputs are others than the card's, or NaN or infinite, is refused, also while scoring. A
card with a key that comes twice, or a number out of range, is refused by name.

## Beside other packages

![Score against milliseconds](../images/zoo.png)

The table behind the picture, with calibration and memory, is `bench/results/zoo.md`. It holds what was at hand where it was
made: a package whose model files must be downloaded takes part once they are there (`python bench/zoo.py --help`), and so does every
bundle that was pulled. `fer` learned from FER2013's own labels, which FER+'s votes replaced; that is part of its distance.
"""
DUTY = """Tell people when you read their faces: Article 50(3) asks for it. An expression is what a face shows, not what a person feels, and
this page is no legal advice."""
OFFLINE = "For a machine without a network: `mien bundles pack {name} --out FILE` on one that has it, `mien bundles add FILE` there."


def known_bundles() -> dict[str, Known]:
    """What is known of each bundle, whatever lies on this machine: cards of those that come with mien, then entries of the index."""
    # Former versions have the pages that they had.
    newest = {name: folder for name, folder in embedded().items() if "@" not in name}
    own = {name: open_bundle(folder).card for name, folder in newest.items()}
    return own | {name: entry for name, entry in zoo.entries().items() if name not in own}


def tasks_of(known: Known) -> tuple[TaskCard, ...]:
    """What it predicts."""
    return () if isinstance(known, FaceCard | IdentityCard) else known.tasks


def finds_faces(known: Known) -> bool:
    """Whether it finds faces in frames."""
    return isinstance(known, FaceCard) or (
        isinstance(known, zoo.Entry) and isinstance(known.network, Faces)
    )


def judges(known: Known) -> bool:
    """Whether it judges readings."""
    return any(spec.task.family in QUALITY_FAMILIES for spec in tasks_of(known))


def finds_points(known: Known) -> bool:
    """Whether it finds points of faces."""
    return any(spec.task.family == LANDMARK_FAMILY for spec in tasks_of(known))


def trains_only(known: Known) -> bool:
    """Whether it is weights to start a training from, and no network."""
    return isinstance(known, zoo.Entry) and known.network is None


def megabytes(known: Known) -> str:
    """Size of the network, or of the weights where there is none."""
    if not isinstance(known, zoo.Entry):
        return f"{(embedded()[known.name] / 'model.onnx').stat().st_size / 1e6:.1f}"
    file = known.file("network") or known.files[0]
    return f"{file.size / 1e6:.1f}" if file.size else f"below {file.most / 1e6:.0f}"


def bundles_page() -> str:
    """All bundles in a table, with links to their pages."""
    rows = []
    for name, known in known_bundles().items():
        gives = (
            ", ".join(
                SHORT.get(spec.task.family, spec.key).format(len(spec.names))
                for spec in tasks_of(known)
            )
            or "features"
        )
        if finds_faces(known) or trains_only(known):
            gives = (
                "faces and five points in each" if finds_faces(known) else "weights to train from"
            )
        if isinstance(known, IdentityCard):
            gives = "which tracks of a film are one person's"
        where = "to be pulled" if isinstance(known, zoo.Entry) else "comes with mien"
        rows.append([f"[{name}](cards/{name}.md)", gives, megabytes(known), known.licence, where])
    head = "# The bundles\n\nWhat each is, how good, where it fails and who must not use it stands on its page; made by `docs/make.py`.\n"
    head += "Former versions stay by their number: `--detector mien-face@1`; `mien bundles list` shows all, `mien bundles show mien-face@1` one.\n\n"
    head += "Whether groups of people are read and found alike is [measured apart](../howto/groups.md).\n\n"
    overview = table(["name", "what it gives", "MB", "licence of the weights", "where"], rows)
    return f"{head}{overview}\n{SIZES.format(table=sizes_page(), larger=larger_page())}"


def sizes_page() -> str:
    """The networks of mien's own that read affect, side by side: scores from their cards, time from the benchmark."""
    timed = json.loads(
        (HERE.parent / "bench" / "results" / "zoo.json").read_text(encoding="utf-8")
    )["networks"]
    cards = [known for known in known_bundles().values() if isinstance(known, AffectCard)]
    own = [card for card in cards if not judges(card) and not finds_points(card)]
    rows = []
    for known in sorted(own, key=megabytes):
        told = {
            s.metric: s
            for s in known.scores
            if not s.condition and s.data.startswith("validation split of FER+")
        }
        scores = [
            f"{told[m].value:.3f} [{told[m].low:.3f}, {told[m].high:.3f}]"
            for m in MEASURES.values()
        ]
        spent = [f"{timed[known.name]['threads'][cores]['ms']:.2f}" for cores in ("1", "2")]
        rows.append([f"[{known.name}](cards/{known.name}.md)", megabytes(known), *scores, *spent])
    return table(["name", "MB", *MEASURES, "ms, one core", "ms, two cores"], rows)


def larger_page() -> str:
    """Other networks, alone and together, against mien-s."""
    lines = json.loads(
        (HERE.parent / "bench" / "results" / "together.json").read_text(encoding="utf-8")
    )["differences"]
    found = {
        (tuple(line["networks"]), line["data"], line["task"]): line["difference"] for line in lines
    }
    asked = {
        f"{data}: {what}": (data, key)
        for data in ("FER+", "portraits")
        for what, key in COMPARED.items()
    }
    first = next(iter(asked.values()))
    best = max(
        (networks for networks, *where in found if tuple(where) == first),
        key=lambda networks: found[(networks, *first)][0],
    )
    rows = []
    for networks in [*((name,) for name in TRIED), best]:
        differences = [found[(networks, *where)] for where in asked.values()]
        rows.append(["; together with ".join(TRIED.get(name, f"`{name}`") for name in networks)])
        rows[-1] += ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*one) for one in differences]
    return table(["network", *asked], rows)


def card_page(name: str) -> str:
    """All that people should know of a bundle, from its card or its entry in the index."""
    known = known_bundles()[name]
    parts = [f"# {name}", known.summary, bullets(facts(known))]
    if tasks_of(known):
        parts += ["## What it gives", bullets([told(spec) for spec in tasks_of(known)])]
    parts += ["## Who must not use it", "Whoever would use it for:", bullets(known.not_for), DUTY]
    parts += [
        how_to_get(known),
        how_to_use(known),
        *how_good(known),
        "## Where it fails",
        bullets(known.limits),
    ]
    return (
        "\n\n".join(
            [*parts, "## What it was trained on", seen_page(known.trained_on), *how_made(known)]
        ).replace("\n\n\n", "\n\n")
        + "\n"
    )


def facts(known: Known) -> list[str]:
    """What it is, in a few lines."""
    network = known.network if isinstance(known, zoo.Entry) else known
    if finds_faces(known):
        reads = [f"Reads: frames of any size, searched at up to {network.search.side} px"]
    elif trains_only(known):
        reads = ["Reads: nothing by itself; a training starts from it"]
    else:
        pixels = network.pixels
        how = (
            "aligned by five points"
            if pixels.alignment == "similarity5"
            else "cut out by the face's box"
        )
        reads = [
            f"Reads: one face at a time, {how}, {pixels.size}x{pixels.size} px, {pixels.colour}"
        ]
    licences = [f"Licence of the weights: {known.licence}"]
    if isinstance(known, zoo.Entry):
        licences += [f"Licence of its authors' code: {known.code_licence}"]
        licences += [f"Architecture: {' or '.join(known.architectures)}"] * bool(
            known.architectures
        )
    elif isinstance(known, AffectCard):
        reads += [f"Exposes features: {known.features} numbers a face"] * bool(known.features)
        if known.doubtful_below is not None:
            reads += [f"A reading is doubtful where its quality is below {known.doubtful_below:g}"]
        if known.uncertain_below is not None:
            below = f"{known.uncertain_below:g}"
            reads += [f"The expression is uncertain where no probability reaches {below}"]
    return [*reads, f"Size: {megabytes(known)} MB", *licences]


def told(spec: TaskCard) -> str:
    """A task in words."""
    words = f"{GIVES[spec.task.family]}: " if spec.task.family in GIVES else ""
    return f"`{spec.key}`: {words}{', '.join(spec.names)}; {spec.low:g} to {spec.high:g}. Supervised by: {spec.supervised_by}."


def how_to_get(known: Known) -> str:
    """How it comes to a machine, with and without a network."""
    if not isinstance(known, zoo.Entry):
        return "## Get it\n\nIt comes with mien."
    more = []
    if known.network is not None:
        more = [OFFLINE.format(name=known.name)]
        more += [
            f"`mien bundles pull {known.name} --weights` also fetches weights to train from."
        ] * bool(known.file("weights"))
    return "\n\n".join(["## Get it", f"```sh\nmien bundles pull {known.name}\n```", *more])


def how_to_use(known: Known) -> str:
    """One command and three lines of Python, or the lines of a training's settings."""
    name = known.name
    if trains_only(known):
        lines = f"network:\n  backbone: {known.architectures[0]}\n  start: FILE"
        return f"## Use it\n\n`mien bundles pull {name}` prints the FILE for a training's settings:\n\n```yaml\n{lines}\n```"
    if finds_faces(known):
        code = f'from mien.bundles.store import load_detector\n\ndetector = load_detector("{name}")\nfaces = detector.find(frame)'
        command = "mien analyze clip.mp4 --out tables/" + (
            "" if name == FACES else f" --detector {name}"
        )
        return USE.format(command=command, code=f"{code}  # in an RGB uint8 picture (H, W, 3)")
    if isinstance(known, IdentityCard):
        code = 'import mien\n\ntable = mien.analyze("clip.mp4", people="auto").table  # with the column person'
        command = "mien analyze clip.mp4 --out tables/ --people auto"
        return (
            f"{USE.format(command=command, code=code)}\n[What the law asks](../../howto/people.md)."
        )
    found = ", ".join(f'"{spec.task.family}": (N, {len(spec.names)})' for spec in tasks_of(known))
    last = (
        f"scores = model.score(crops)  # RGB uint8 pictures, each one face; {{{found}}}"
        if found
        else "features = model.features(crops)"
    )
    if finds_points(known):
        code = 'import mien\n\ntable = mien.analyze("clip.mp4", landmarks=True).table'
        return USE.format(command="mien analyze clip.mp4 --out tables/ --landmarks", code=code)
    option = "quality" if judges(known) else "bundle"
    command = (
        f"mien analyze clip.mp4 --out tables/ --{option} {name}"
        if found
        else f"mien features {name} --data settings.yaml --out cache"
    )
    return USE.format(command=command, code=f'import mien\n\nmodel = mien.load("{name}")\n{last}')


def how_good(known: Known) -> list[str]:
    """Scores: of the whole tasks first, then of single names and of the network before it was made smaller."""
    scores = () if isinstance(known, zoo.Entry) else known.scores
    names = {name for spec in tasks_of(known) for name in spec.names}
    plain, worse = [s for s in scores if not s.condition], [s for s in scores if s.condition]
    single = [s for s in plain if s.metric.split()[-1] in names or " before " in s.metric]
    parts = ["## How good it is"] * bool(scores or known.published)
    if scores:
        parts += ["Measured by mien.", scores_page([s for s in plain if s not in single])]
    if known.published:
        parts += [
            "Published by its authors; mien has not measured these, and they have no intervals.",
            published_page(known.published),
        ]
    parts += ["### One by one", scores_page(single)] if single else []
    return parts + (["### On worse pictures", worse_page(worse)] if worse else [])


def how_made(known: Known) -> list[str]:
    """How to make it again, or where it comes from."""
    if not isinstance(known, zoo.Entry):
        seed = f", seed {known.made.seed}" if known.made.seed is not None else ""
        line = f"`{known.made.recipe}`{seed}, commit {known.made.commit}; {known.made.cost}."
        return ["## How it was made", line, f"sha256 of its network: `{known.sha256}`"]
    how = (
        "its network is converted, compared with the original, and nothing is trained"
        if known.network
        else "its tensors are read, nothing else"
    )
    rows = [[file.role, f"[{file.name}]({file.url})", file.hashes] for file in known.files]
    return [
        "## How it was made",
        f"By its authors. Here {how}. Files, at commit {known.commit}:",
        table(["role", "file", "hash"], rows),
    ]


def submissions_page() -> str:
    """What submissions look like, how to check and how to write one."""
    return SUBMISSIONS.format(
        table="\n".join(markdown()), digits=DIGITS, kinds=", ".join(f"`{kind}`" for kind in KINDS)
    )


COMPARISON = """# The systems side by side

The systems of four papers on one protocol, one network and the same starting weights, with what each costs. These commands made the
tables; `FERPLUS` is the folder of FER+, `faces.yaml` names real faces for the stand-ins (see [stand-ins](../howto/standins.md)):

```sh
mien data standin s-aff-wild2 REAL --size 3000 --face-table faces.yaml
mien data standin lsd SYNTHETIC --size 400 --face-table faces.yaml
mien reproduce comparison-mtl --data ferplus=FERPLUS --data affwild2=REAL --out RUN --set size=64 --set base_epochs=2 --set epochs=4
mien reproduce comparison-lsd --data ferplus=FERPLUS --data lsd=SYNTHETIC --out RUN --set size=64 --set base_epochs=2
python docs/make.py
```

Without any data, `mien reproduce comparison-mtl --standin --size 1500 --out RUN` rehearses it on drawn faces. Stand-ins say nothing about
the real data, and small ones little about which system is best: read the intervals, which are over recordings. Frozen features do well
here because the first weights were trained on faces of the same collection as the stand-ins'; a few thousand faces are little for
networks that learn whole. Milliseconds and seconds were read on two cores that other work shared.

Both recipes end in systems, in `RUN/bundles`, which read films by `mien analyze FILM --bundle RUN/bundles/comparison-hse-abaw7`. On the
validation recordings their scores are those of their rows in the tables: they differ by 7e-8 to 3e-6 at most, and by more than 1e-4 the
recipe would have stopped.

![The multi-task table as bars](../images/comparison-mtl.png)

"""


def comparison_page() -> str:
    """Both tables as they were made last, with data, options, seeds and date."""
    pages = [
        (HERE.parent / "bench" / "results" / f"comparison-{track}.md").read_text(encoding="utf-8")
        for track in ("mtl", "lsd")
    ]
    return COMPARISON + "\n".join(
        page.replace("\n## ", "\n### ").replace("# ", "## ", 1) for page in pages
    )


def picture(demo: Path) -> np.ndarray:
    """A frame of the overlay above the rows of the table around it, RGB."""
    with av.open(str(demo / "clip.overlay.mp4")) as film:
        frame = next(frame for i, frame in enumerate(film.decode(video=0)) if i == 36).to_ndarray(
            format="rgb24"
        )
    names = [
        "frame",
        "time_s",
        "status",
        "face",
        "confidence",
        "expression",
        "expr_happiness",
        "valence",
        "arousal",
        "AU12",
        "AU25",
    ]
    table = pd.read_csv(demo / "clip.csv")[names]
    rows = table[table["frame"].between(33, 39)].astype({"face": "Int64"}).round(2).astype(str)
    page = np.full((24 * (len(rows) + 1) + 12, 2 * frame.shape[1], 3), 255, np.uint8)
    for i, cells in enumerate([names, *rows.to_numpy().tolist()]):
        for k, cell in enumerate(cells):
            where, shade = (12 + k * 114, 24 * (i + 1)), (20, 20, 20) if i else (110, 110, 110)
            cv2.putText(page, cell, where, cv2.FONT_HERSHEY_SIMPLEX, 0.44, shade, 1, cv2.LINE_AA)
    return np.vstack([cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), page])


COMMANDS = (
    "analyze", "plan", "status", "live", "app", "serve", "demo", "doctor",
    "bundles", "bundles list", "bundles show", "bundles pull", "bundles verify", "bundles add",
    "bundles remove", "bundles pack",
    "train", "evaluate", "export", "features",
    "reproduce", "submit", "submit check", "submit formats",
    "data", "data standin", "data render", "data superres",
    "study", "study demo", "study init", "study run", "study rows", "study baseline", "study segments", "study summaries", "study epochs", "study resample",
    "study groups", "study contrasts", "study synchrony",
)  # fmt: skip


def cli_page() -> str:
    """The help of every command, as a terminal 100 columns wide shows it."""
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    lines = [
        "# Command line",
        "",
        "The help of every command; made by `docs/make.py`. Exit codes: 0 all done, 1 something",
        "failed or was damaged, 2 wrong usage, 3 another run is still working, 130 stopped.",
    ]
    for command in COMMANDS:
        result = runner.invoke(app, [*command.split(), "--help"], prog_name="mien")
        if result.exit_code:
            raise SystemExit(f"mien {command} --help ended with {result.exit_code}")
        shown = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        lines += ["", f"## mien {command}", "", "```text", shown, "```"]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every key of a settings file with its default and meaning."""
    return f"""# Settings of a training run

Every key of `settings.yaml` with its default and meaning, as `mien train --show` prints them; made by
`docs/make.py`. Keys that you leave out have these values. [How to train](../howto/train.md) explains the
choices.

```yaml
{template()}```
"""


STUDY = """# A study whose truth is known

`mien study demo films` draws {recordings} films of {people} people, at rest and while they hear jokes, and writes down what they show when.
`mien study run films/study.yaml --out out` reads them. This page compares the two; `bench/study.py` made the figures.

![Three people at rest and smiling, a mask, the dark, and somebody beside](../images/study-films.jpg)

**What it proves, and what it does not.** All people in the films are drawn, so that everything is known. Smiles are there
from one moment to the next, faster than a face can be, so that an onset is one moment which no threshold moves. The people are among those
whose smiles `mien-s` reads as smiles and whom `mien-quality` does not doubt, and they behave alike, so that effects (d_z) are larger than in any living sample. So this is a proof of the study's arithmetic from films to contrasts; how well faces are read
stands on [the bundles' cards](../reference/bundles.md).

## The difference between conditions

Jokes minus rest, within people, with 95 % intervals by drawing people. What `mien-s` makes of a smile's valence and probability is not
known beforehand, so only the sign is.

{contrasts}

## When smiles begin

{onsets}

All {smiles} smiles are found, and nothing else is taken for one. No onset falls on a frame of any camera, so the first frame that shows
a smile comes up to one frame late.

## What cannot be seen

{unusable}

Of all other time, {false} is marked as not usable.

## 15, 25 and 50 frames a second

Three cameras film the first participant's jokes at once. Each film is compressed and read by itself, and a smile is seen up to one frame
late, so the numbers differ a little.

{films}

The same from one film's readings, of which every one, every second and every third is used: the study's own share of these differences.

{thinned}

## Two people in one film

Somebody sits beside participant 02. The study takes the largest face (`faces: largest`); told apart by seats (`faces: seats`), both are
found, and nobody has the other's smiles.

{both}

## The report

`mien report out` writes a page of each recording and one of the study.

![The page of the recording with the mask](../images/study-recording.png)

![The page of the study](../images/study-report.png)

## A figure for a paper

From [the notebook](../start/notebooks.md) that walks through this study:

![Happiness around the joke, as a mean over people](../images/study-epochs.png)
"""
MEASURES_SHOWN = {
    "valence_corrected_mean": "valence, baseline taken off",
    "expr_happiness_share": "share of time of happiness",
    "smile_per_min": "smiles per minute",
    "smile_present_share": "share of time that smiles",
}
RATES_SHOWN = {
    "smile_count": "smiles",
    "smile_present_share": "share smiling",
    "smile_segment_s": "length, s",
    "smile_latency_s": "first smile, s",
    "expr_happiness_share": "happiness",
    "AU12_mean": "AU12",
    "valence_mean": "valence",
}


def study_page() -> str:
    """What was found in the drawn study, beside what it is known to hold."""
    path = HERE.parent / "bench" / "results" / "study.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    contrasts = []
    for name, label in MEASURES_SHOWN.items():
        entry = result["contrasts"][name]
        interval = f"{entry['difference']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
        truth = f"{entry['truth']:.3f}" if "truth" in entry else "above 0"
        contrasts.append([label, interval, truth, f"{entry['effect_size']:.1f}"])
    errors = result["smiles"]["errors in frames, lowest and highest"]
    onsets = [[name, *(f"{value:+.2f}" for value in ends)] for name, ends in errors.items()]
    hidden = dict(result["not usable"])
    false = hidden.pop("not usable of all other time")
    unusable = []
    for name, entry in hidden.items():
        because = ", ".join(f"`{reason}` {count}" for reason, count in entry["because"].items())
        unusable.append([name, str(entry["frames"]), str(entry["not usable"]), because])
    rates = result["frame rates"]
    both = []
    for name, entry in result["two people in one film"].items():
        spans = [
            ", ".join(f"{first:.2f} to {last:.2f}" for first, last in entry[what])
            for what in ("truth", "found")
        ]
        both.append([name, *spans])
    return STUDY.format(
        recordings=result["recordings"], people=result["people"], smiles=result["smiles"]["smiles"], false=f"{100 * false:.1f} %",
        contrasts=table(["measure", "found", "truth", "d_z"], contrasts),
        onsets=table(["error, in frames", "lowest", "highest"], onsets),
        unusable=table(["shown", "frames", "not usable", "because"], unusable),
        films=table(["film", *RATES_SHOWN.values()], rate_rows(rates["three films"])),
        thinned=table(["readings", *RATES_SHOWN.values()], rate_rows(rates["readings of one film"])),
        both=table(["person", "smiles, s", "found, s"], both),
    )  # fmt: skip


def rate_rows(entries: dict[str, dict[str, float]]) -> list[list[str]]:
    """A row of numbers per frame rate."""
    rows = []
    for name, entry in entries.items():
        rows.append([name, *(f"{entry[column]:.3g}" for column in RATES_SHOWN)])
    return rows


def main() -> None:
    """Write the pages."""
    (REFERENCE / "cli.md").write_text(cli_page(), encoding="utf-8")
    (REFERENCE / "settings.md").write_text(settings_page(), encoding="utf-8")
    (REFERENCE / "columns.md").write_text(columns_page(), encoding="utf-8")
    (REFERENCE / "bundles.md").write_text(bundles_page(), encoding="utf-8")
    shutil.rmtree(REFERENCE / "cards", ignore_errors=True)
    (REFERENCE / "cards").mkdir()
    for name in known_bundles():
        (REFERENCE / "cards" / f"{name}.md").write_text(card_page(name), encoding="utf-8")
    (REFERENCE / "submissions.md").write_text(submissions_page(), encoding="utf-8")
    (HERE / "explanation" / "comparison.md").write_text(comparison_page(), encoding="utf-8")
    (HERE / "explanation" / "study-truth.md").write_text(study_page(), encoding="utf-8")
    if len(sys.argv) > 1:
        drawn = cv2.cvtColor(picture(Path(sys.argv[1])), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(HERE / "images" / "demo.jpg"), drawn, [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
