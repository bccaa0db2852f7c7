"""Whether `mien study run` finds what a study is known to hold: found against truth, for films of drawn people.

    python bench/study.py --folder SCRATCH [--out bench/results/study.json]

`mien study demo` draws the films and writes what is shown when (`truth.csv`); `mien study run` reads them. Compared are the difference
between conditions, the onset of every smile in frames and from its joke, shares of time, stretches that are not usable, the numbers of one
film at 15, 25 and 50 frames a second, and of two people in one film. The last comparison is of the study layer alone: the readings of the
film of 50 frames, every one, every second and every third of them. Films and tables that lie in SCRATCH are used again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

import mien
from mien.demo.study import draw_study
from mien.study.episodes.segments import find_segments
from mien.study.project.run import run_study
from mien.study.rows.people import People, participant_rows
from mien.study.statistics.summaries import summarize

Entry = dict[str, object]
KEYS = ["participant", "condition", "session"]
UNSEEN = ("mask", "dark")
# Numbers of one person that should not depend on the frame rate.
SUMMARY = (
    "valence_mean",
    "arousal_mean",
    "AU12_mean",
    "expr_happiness_share",
    "expr_happiness_label_share",
    "smile_count",
    "smile_present_share",
    "smile_segment_s",
    "smile_latency_s",
)


def rounded(values: "dict[str, float]") -> Entry:
    """Numbers to four places."""
    return {name: round(float(value), 4) for name, value in values.items()}


def truth_of(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """What each film shows: number of smiles, seconds of smiles, and seconds that can be seen at all."""
    truth = pd.read_csv(folder / "truth.csv", dtype={"participant": "str"})
    truth["length_s"] = truth["offset_s"] - truth["onset_s"]
    films = rows.groupby(KEYS, sort=False)["duration_s"].sum().rename("seconds").reset_index()
    smiles = truth[truth["kind"] == "smile"].groupby(KEYS)["length_s"].agg(["size", "sum"])
    hidden = truth[truth["kind"].isin(UNSEEN)].groupby(KEYS)["length_s"].sum().rename("hidden_s")
    known = films.merge(smiles.reset_index(), "left", KEYS).merge(
        hidden.reset_index(), "left", KEYS
    )
    seen_s = known["seconds"] - known["hidden_s"].fillna(0)
    known["smile_present_share"] = known["sum"] / seen_s
    known["smile_per_min"] = 60 * known["size"] / seen_s
    return known


def contrasts(out: Path, known: pd.DataFrame) -> Entry:
    """Each contrast with its interval, and the true difference where it is known."""
    table = mien.read_table(out / "contrasts.parquet").set_index("measure")
    result: Entry = {}
    for measure, row in table.iterrows():
        entry = rounded({name: row[name] for name in ("difference", "low", "high", "effect_size")})
        entry["people"] = int(row["people"])
        if measure in known:
            cells = known.groupby(["condition", "participant"])[measure].mean()
            entry["truth"] = round(float((cells["jokes"] - cells["rest"]).mean()), 4)
        result[str(measure)] = entry
    return result


def onsets(folder: Path, out: Path, rows: pd.DataFrame) -> Entry:
    """How many frames after its first moment a smile begins, and its latency from the joke."""
    truth = pd.read_csv(folder / "truth.csv", dtype={"participant": "str"})
    segments = mien.read_table(out / "segments.parquet")
    frame_s = rows.groupby(KEYS)["duration_s"].median()
    smiles = segments[segments["name"] == "smile"]
    known = truth[truth["kind"] == "smile"]
    late: list[float] = []
    long: list[float] = []
    for keys, expected in known.groupby(KEYS):
        found = smiles[(smiles[KEYS] == list(keys)).all(axis=1)].sort_values("onset_s")
        if len(found) != len(expected):
            raise SystemExit(f"{keys}: {len(found)} smiles of {len(expected)}")
        begun = found["onset_from_start_s"].to_numpy() - expected["onset_s"].to_numpy()
        lasted = (
            found["duration_s"].to_numpy() - (expected["offset_s"] - expected["onset_s"]).to_numpy()
        )
        late += (begun / frame_s[keys]).tolist()
        long += (lasted / frame_s[keys]).tolist()
    trials = mien.read_table(out / "epoch_summaries.parquet").sort_values([*KEYS, "trial"])
    jokes = known[known["condition"] == "jokes"].sort_values([*KEYS, "onset_s"])
    latency = jokes["onset_s"].to_numpy() - trials["event_onset_s"].to_numpy()
    frames = (trials["smile_latency_s"].to_numpy() - latency) / frame_s.reindex(
        pd.MultiIndex.from_frame(trials[KEYS])
    ).to_numpy()
    errors = {"onset": late, "duration": long, "latency from the joke": frames}
    return {
        "smiles": len(known),
        "found": len(late),
        "errors in frames, lowest and highest": {
            name: [round(float(np.min(values)), 3), round(float(np.max(values)), 3)]
            for name, values in errors.items()
        },
    }


def unusable(folder: Path, rows: pd.DataFrame) -> Entry:
    """How much of masks and darkness is marked as not usable, and how much of the rest is."""
    truth = pd.read_csv(folder / "truth.csv", dtype={"participant": "str"})
    hidden = pd.Series(False, index=rows.index)
    result: Entry = {}
    for span in truth[truth["kind"].isin(UNSEEN)].itertuples():
        theirs = (rows[KEYS] == [span.participant, span.condition, span.session]).all(axis=1)
        # The frames whose first moment lies in the span; frames show one moment.
        inside = theirs & rows["time_from_start_s"].between(
            span.onset_s, span.offset_s, inclusive="left"
        )
        lost = rows[inside & ~rows["usable"]]
        reasons = lost["unusable_because"].value_counts().to_dict()
        result[span.kind] = {
            "frames": int(inside.sum()),
            "not usable": len(lost),
            "because": reasons,
        }
        hidden |= inside
    free = rows[~hidden]
    lost = float(free.loc[~free["usable"], "duration_s"].sum() / free["duration_s"].sum())
    return {**result, "not usable of all other time": round(lost, 4)}


def rates(out: Path) -> Entry:
    """The same film at three frame rates, and the readings of the fastest one thinned out."""
    table = mien.read_table(out / "summaries.parquet")
    theirs = table[(table["participant"] == "01") & (table["condition"] == "jokes")]
    films = {
        row["session"]: rounded({name: row[name] for name in SUMMARY})
        for _, row in theirs.iterrows()
    }
    film = mien.read_table(out / "tables" / "sub-01_ses-50fps_task-jokes.parquet")
    thinned: Entry = {}
    for step in (1, 2, 3):
        part = film[film["frame"] % step == 0]
        part.attrs = film.attrs
        rows = participant_rows(
            part, {"participant": "01", "recording": "a"}, People(faces="largest")
        )
        summary = summarize(rows, find_segments(rows), intervals=False).iloc[0]
        thinned[f"{50 / step:.3g} frames a second"] = rounded(
            {name: summary[name] for name in SUMMARY}
        )
    return {"three films": films, "readings of one film": thinned}


def two_people(folder: Path, out: Path) -> Entry:
    """When each of the two in one film smiles, told apart by where they sit."""
    film = mien.read_table(out / "tables" / "sub-02_ses-25fps_task-jokes.parquet")
    truth = pd.read_csv(folder / "truth.csv", dtype={"participant": "str"})
    theirs = truth[(truth["participant"] == "02") & (truth["condition"] == "jokes")]
    kinds = {"02": "smile", "bystander": "bystander"}
    result: Entry = {}
    for person, kind in kinds.items():
        keys = {"participant": person, "recording": "two people"}
        rows = participant_rows(film, keys, People(faces="seats", seats=tuple(kinds)))
        segments = find_segments(rows)
        smiles = segments[segments["name"] == "smile"]
        result[person] = {
            "truth": theirs.loc[theirs["kind"] == kind, ["onset_s", "offset_s"]]
            .to_numpy()
            .tolist(),
            "found": smiles[["onset_s", "offset_s"]].round(2).to_numpy().tolist(),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="for films and tables")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder, out = args.folder / "films", args.folder / "out"
    if not (folder / "study.yaml").exists():
        draw_study(folder)
    run_study(folder / "study.yaml", out)
    rows = mien.read_table(out / "rows.parquet")
    result = {
        "recordings": int(rows["recording"].nunique()),
        "people": int(rows["participant"].nunique()),
        "contrasts": contrasts(out, truth_of(folder, rows)),
        "smiles": onsets(folder, out, rows),
        "not usable": unusable(folder, rows),
        "frame rates": rates(out),
        "two people in one film": two_people(folder, out),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
