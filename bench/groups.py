"""Whether faces of all groups are read and found alike, on people that the networks did not learn from.

    python bench/groups.py --data SETTINGS.yaml --attributes faceres.json [--bundle mien-s] [--detector mien-face]
        [--quality mien-quality] [--out bench/results/groups.json]

SETTINGS: as for `mien evaluate`; each of its sets is measured apart, by its split val. Nobody said how old these people are, or what sex:
groups are what a network (`bench/apparent.py`) and the pixels say. Skin is the individual typology angle of both cheeks (ITA, degrees in
CIELAB; lighter above 41, darker below 10), which grey pictures do not have; in all pictures, cheeks are in thirds by their lightness L*,
which is that of the light as well. How steady these measures are in several pictures of one person is printed with them.

By group: how often the likeliest expression is the label, the distance of valence from that of the label (Russell & Mehrabian 1977), the
share of faces that are found, in the picture as it is, in the dark, and with 4 to 16 pixels between the eyes, and the share of readings
that are doubtful. Groups smile unlike often in such pictures: all figures are means over neutral, happy and other labels, weighted alike in
all groups. The gap is between the best and the worst group; one above .03 has a mark, and two where its interval is above 0. Intervals:
95 %, bootstrap over people.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from apparent import Apparent

from mien.analysis.quality import load_judge
from mien.bundles.store import AFFECT, FACES, load, load_detector, open_bundle
from mien.data.drawn.damage import damage, intact
from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.registry import load_set, set_name, unmixed
from mien.data.sets.ferplus import VA_OF_EXPRESSION
from mien.metrics import bootstrap
from mien.tasks import Task
from mien.train.builtin.quality_table import nearest_face
from mien.train.settings.training import read_settings

AGES = {"under 30": (0, 30), "30 to 49": (30, 50), "50 and over": (50, 200)}
# Chardon, Cretois & Hourseau 1991, six classes in three.
SKINS = {"darker": (-200, 10), "medium": (10, 41), "lighter": (41, 200)}
# Chroma in CIELAB; cheeks of less are those of grey or tinted pictures.
LEAST_CHROMA = 4.0
LEAST_FACES = 25
LARGE_GAP = 0.03
ROUNDS = 400
# Measure: whether more of it is better.
MEASURES = {
    "agreement": True,
    "valence error": False,
    "found": True,
    "found in the dark": True,
    "found small": True,
    "doubtful": False,
}
# Those left are one stratum.
STRATA = {"neutral": 0, "happiness": 1}


def cheeks(image, points) -> tuple[float, float, float]:
    """Lightness L*, chroma and ITA (degrees) of both cheeks, medians."""
    unit = float(np.hypot(*(points[1] - points[0])))
    reach = max(round(0.1 * unit), 1)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    pixels = []
    for eye, mouth in ((0, 3), (1, 4)):
        # Under the eye, a little outwards.
        x, y = (points[eye] + points[mouth]) / 2 + 0.05 * (points[eye] - points[1 - eye])
        column, row = max(int(x), reach), max(int(y), reach)
        patch = lab[row - reach : row + reach + 1, column - reach : column + reach + 1]
        pixels.append(patch.reshape(-1, 3))
    lightness, red, yellow = np.median(np.concatenate(pixels), axis=0)
    angle = np.degrees(np.arctan2(lightness - 50, yellow))
    return float(lightness), float(np.hypot(red, yellow)), float(angle)


def read_faces(table: pd.DataFrame, task: Task, args: argparse.Namespace) -> pd.DataFrame:
    """A row for each face: its groups' measures, and what was found and read."""
    apparent, model = Apparent(args.attributes), load(args.bundle)
    detector, judge = load_detector(args.detector), load_judge(args.quality, "onnxruntime")
    shares = labels(table, task)
    is_known = table["points"].notna().to_numpy() & ~np.isnan(shares).any(axis=1)
    table, shares = table[is_known], shares[is_known]
    rows = []
    for number, (face, share) in enumerate(zip(table.itertuples(), shares, strict=True)):
        image = read_picture(face.image)
        points = np.asarray(face.points, float).reshape(5, 2)
        age, sex = apparent(image, points)
        lightness, chroma, angle = cheeks(image, points)
        row = {
            "subject": face.subject,
            "label": task.names[int(share.argmax())],
            "age": age,
            "sex": sex,
        }
        row |= {"lightness": lightness, "ita": angle if chroma >= LEAST_CHROMA else np.nan}
        shown = intact(image, points)
        rng = np.random.default_rng(number)
        for measure, kinds in (("found in the dark", ["dark"]), ("found small", ["small"])):
            changed = damage(shown, kinds, rng)
            row[measure] = find(detector, changed) is not None
        found = find(detector, shown)
        row["found"] = found is not None
        if found is not None:
            scores = model.score_cuts([model.cut(image, found)])
            read = task.names[int(scores["expr"][0].argmax())]
            [quality] = judge.judge([judge.cut(image, found)], scores)
            row |= {"agreement": read == row["label"], "doubtful": judge.is_doubtful(quality)}
            truth = VA_OF_EXPRESSION.get(row["label"], (np.nan,))[0]
            row["valence error"] = abs(float(scores["va"][0, 0]) - truth)
        rows.append(row)
    return pd.DataFrame(rows)


def find(detector, shown):
    unit = max(float(np.hypot(*(shown.points[1] - shown.points[0]))), 4.0)
    return nearest_face(detector.find(shown.image), shown.points.mean(axis=0), unit)


def groupings(faces: pd.DataFrame) -> dict[str, pd.Series]:
    """The group of each face, by each measure; missing where it is in none."""
    thirds = pd.qcut(faces["lightness"], 3, labels=["dark third", "middle third", "light third"])
    sex = pd.Series(np.where(faces["sex"] >= 0.5, "male", "female"), faces.index)
    return {
        "apparent age": ranges(faces["age"], AGES),
        "apparent sex": sex,
        "skin (ITA)": ranges(faces["ita"], SKINS),
        "cheek lightness": thirds.astype(object),
    }


def ranges(values: pd.Series, bounds: dict[str, tuple[float, float]]) -> pd.Series:
    names = pd.Series(None, values.index, object)
    for name, (low, high) in bounds.items():
        names[(values >= low) & (values < high)] = name
    return names


def mean_of(values, strata, weights) -> float:
    """Mean of the strata's means; NaN where one is missing."""
    total = 0.0
    for number, weight in enumerate(weights):
        is_in = strata == number
        total += weight * values[is_in].mean() if is_in.any() else np.nan
    return float(total)


def compare(faces: pd.DataFrame, group: pd.Series) -> dict:
    """The measures by group, and the gap of each between the best and the worst."""
    sizes = group.value_counts()
    names = sorted(sizes.index[sizes >= LEAST_FACES])
    if len(names) < 2:
        return {"groups": {}, "gaps": {}}
    groups: dict = {}
    gaps: dict = {}
    for name in names:
        part = faces[group == name]
        groups[name] = {"faces": len(part), "people": part["subject"].nunique()}
    for measure, more_is_better in MEASURES.items():
        known = faces[faces[measure].notna() & group.isin(names)]
        values = known[measure].to_numpy(float)
        strata = known["label"].map(STRATA).fillna(len(STRATA)).to_numpy(int)
        weighted = partial(mean_of, weights=np.bincount(strata) / len(strata))
        of_group = group[known.index].to_numpy()
        people = known["subject"].to_numpy()
        scores = {}
        for name in names:
            own = of_group == name
            scores[name] = weighted(values[own], strata[own])
            ends = bootstrap(weighted, values[own], strata[own], groups=people[own], rounds=ROUNDS)
            groups[name][measure] = rounded((scores[name], *ends))
        ordered = sorted(scores, key=scores.__getitem__, reverse=more_is_better)
        best, worst = ordered[0], ordered[-1]

        def lead(values, strata, of_group, ends=(best, worst), weighted=weighted) -> float:
            means = [weighted(values[of_group == end], strata[of_group == end]) for end in ends]
            return float(means[0] - means[1])

        apart = lead(values, strata, of_group)
        ends = bootstrap(lead, values, strata, of_group, groups=people, rounds=ROUNDS)
        low, high = sorted(np.sign(apart) * end for end in ends)
        gaps[measure] = {"gap": rounded((abs(apart), low, high)), "best": best, "worst": worst}
    return {"groups": groups, "gaps": gaps}


def rounded(values) -> list[float | None]:
    """Three digits; None where a group lacks a kind of label."""
    return [round(float(value), 3) if np.isfinite(value) else None for value in values]


def cell(values: list[float | None]) -> str:
    if None in values:
        return "-"
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def steadiness(faces: pd.DataFrame) -> dict:
    """How alike a measure is in the pictures of one person, of whom there are three or more."""
    several = faces[faces.groupby("subject")["subject"].transform("size") >= 3]
    if len(several) < LEAST_FACES:
        return {}
    male = several["sex"] >= 0.5
    most = male.groupby(several["subject"]).transform("mean") >= 0.5
    result = {"faces": len(several), "same sex as most": round(float((male == most).mean()), 3)}
    for name in ("age", "lightness", "ita"):
        if several[name].isna().all():
            continue
        by_person = several.groupby("subject")[name]
        result[f"{name}, deviation within people"] = round(float(by_person.std().mean()), 1)
        result[f"{name}, deviation between people"] = round(float(by_person.mean().std()), 1)
    return result


def markdown(result: dict) -> str:
    """All figures as tables; large gaps have a mark, and two where chance does not explain them."""
    lines = []
    for set_of, part in result["sets"].items():
        lines += ["", f"## {set_of}: {part['faces']} faces", "", str(part["steadiness"])]
        for by, compared in part["by"].items():
            if not compared["groups"]:
                continue
            lines += ["", "| " + " | ".join([by, "faces", *MEASURES]) + " |"]
            lines.append("|---" * (2 + len(MEASURES)) + "|")
            for name, group in compared["groups"].items():
                cells = [name, str(group["faces"]), *[cell(group[key]) for key in MEASURES]]
                lines.append("| " + " | ".join(cells) + " |")
            cells = ["gap", ""]
            for gap in [compared["gaps"][key]["gap"] for key in MEASURES]:
                is_large = None not in gap and gap[0] > LARGE_GAP
                is_clear = is_large and gap[1] > 0
                cells.append(cell(gap) + " !" * is_large + " !" * is_clear)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--attributes", type=Path, required=True)
    parser.add_argument("--bundle", default=AFFECT)
    parser.add_argument("--detector", default=FACES)
    parser.add_argument("--quality", default="mien-quality")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    settings = read_settings(args.data)
    [task] = [task for task in load(args.bundle).tasks if task.family == "expr"]
    result: dict = {"bundles": {}, "sets": {}}
    for name in (args.bundle, args.detector, args.quality):
        card = open_bundle(name).card
        result["bundles"][card.name] = card.sha256[:12]
    for spec in unmixed(settings.data):
        table = load_set(spec, [task])
        faces = read_faces(table[table["split"] == "val"], task, args)
        by_measure = {}
        for measure, group in groupings(faces).items():
            by_measure[measure] = compare(faces, group)
        result["sets"][set_name(spec)] = {
            "faces": len(faces),
            "steadiness": steadiness(faces),
            "by": by_measure,
        }
    print(markdown(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
