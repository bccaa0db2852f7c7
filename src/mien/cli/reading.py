"""The options of reading, which commands that read, or plan to, have in common."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.options import Choice, Options
from mien.bundles.store import AFFECT, FACES, QUALITY
from mien.faces.people import Count
from mien.outputs.anonymise.hiding import Anonymise, check_anonymise

__all__ = [
    "BundleOption",
    "DetectorOption",
    "FacesOption",
    "NoAbstainOption",
    "QualityOption",
    "Reading",
    "faces_of",
    "refuse_reading_options",
    "takes_reading_options",
]


# Options that other commands have, too.
FacesOption = Annotated[
    str, typer.Option(metavar="largest|all|N", help="Which faces of each frame to read.")
]
BundleOption = Annotated[
    str, typer.Option(metavar="NAME|PATH", help="The network that reads affect.")
]
DetectorOption = Annotated[
    str, typer.Option(metavar="NAME|PATH", help="The network that finds faces.")
]
QualityOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH|none",
        help="The network that says how far readings can be trusted; none leaves it out.",
    ),
]
NoAbstainOption = Annotated[
    bool,
    typer.Option(
        "--no-abstain",
        help="Keep the labels of doubtful rows, and action units of covered regions.",
    ),
]


@dataclass(frozen=True, slots=True)
class Reading:
    """How inputs are to be read, and what is to be written.

    Attributes:
        options: The options of the analysis.
        formats: The formats of each table.
        overlay: Whether overlays are drawn as well.
        anonymise: How overlays hide faces; None shows them.
    """

    options: Options
    formats: list[str]
    overlay: bool
    anonymise: Anonymise | None


def _reading(
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help=(
                "Formats, comma-separated: csv, parquet, jsonl, csv:de, openface, fex; beside a "
                "table eaf, textgrid, boris, mne, xlsx, sav, dta, bids."
            ),
        ),
    ] = "csv",
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Also draw what was read: a video (with sound) or a picture."
        ),
    ] = False,
    anonymise: Annotated[
        str | None,
        typer.Option(
            metavar="blur|drawn",
            help=(
                "Hide all faces that were found in overlays, blurred or under a drawn face that "
                "shows what was read."
            ),
        ),
    ] = None,
    smoothing: Annotated[
        float,
        typer.Option(
            "--smooth",
            metavar="SECONDS",
            help=(
                "Gaussian smoothing per face, by its full width at half maximum; "
                "at most 0.15 keeps short events; AU45 stays as it is."
            ),
        ),
    ] = 0.0,
    faces: FacesOption = "all",
    every: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Read one frame per so many seconds; 0 reads all."),
    ] = 0.0,
    compounds: Annotated[
        bool,
        typer.Option(
            "--compounds", help="Also score compound expressions, e.g. happily surprised."
        ),
    ] = False,
    bundle: BundleOption = AFFECT,
    detector: DetectorOption = FACES,
    stream: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Which video stream to read where a file holds several, from 0."
        ),
    ] = None,
    rotate: Annotated[
        str,
        typer.Option(
            metavar="auto|0|90|180|270",
            help="Turn pictures clockwise; by default mien only says when film seems turned.",
        ),
    ] = "check",
    min_face: Annotated[
        int | None,
        typer.Option(
            "--min-face",
            metavar="PX",
            help=(
                "Look closer, for faces from PX px wide; by default about 5% of the frame's longer "
                "side, at most 96. Half the width costs four times as much per search."
            ),
        ),
    ] = None,
    features: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE.parquet",
            help="External features of the films, for a system that learned from such.",
        ),
    ] = [],  # noqa: B006
    quality: QualityOption = QUALITY,
    no_abstain: NoAbstainOption = False,
    points: Annotated[
        bool, typer.Option("--points", help="Also write the five points of each face.")
    ] = False,
    landmarks: Annotated[
        bool,
        typer.Option(
            "--landmarks",
            help=(
                "Also write 68 points of each face (x and y, in pixels), and how far eyes and "
                "mouth are open; overlays draw them."
            ),
        ),
    ] = False,
    people: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help=(
                "Number the people of each film across cuts: how many there are, or auto. Computes "
                "biometric data, in memory alone; docs/howto/people.md says what the law asks."
            ),
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=(
                "What runs the network that reads affect: onnxruntime (auto) or openvino on the "
                "CPU; cuda, tensorrt, coreml, directml or openvino:GPU on other processors."
            ),
        ),
    ] = "auto",
) -> Reading:
    """How inputs are to be read, from the words of the command line."""
    # Options check themselves, and name the nearest of what they know.
    turn = int(rotate) if rotate.isdecimal() else rotate
    chosen, abstain = faces_of(faces), not no_abstain
    options = Options(
        bundle=bundle,
        detector=detector,
        engine=engine,
        faces=chosen,
        every=every,
        video_stream=stream,
        min_face=min_face,
        rotate=turn,  # type: ignore[arg-type]
        smoothing=smoothing,
        compounds=compounds,
        features=features,
        quality=quality,
        abstain=abstain,
        points=points,
        landmarks=landmarks,
        people=_people(people),
    )
    names = list(filter(None, map(str.strip, formats.split(","))))
    return Reading(options, names, overlay, check_anonymise(anonymise))


def faces_of(text: str) -> Choice:
    """Read the value of ``--faces``.

    Args:
        text: What the user gave.

    Returns:
        What `Options.faces` takes.

    Raises:
        ValueError: It is neither a known word nor a number.
    """
    if text in ("all", "largest"):
        return text  # type: ignore[return-value]
    if not text.isdecimal():
        raise ValueError(f"--faces must be largest, all or a number from 1 up, got {text!r}")
    return int(text)


def _people(text: str | None) -> Count | None:
    """The value of ``--people``."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    if not text.isdecimal():
        raise ValueError(f"--people must be auto or a number from 1 up, got {text!r}")
    return int(text)


def takes_reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading.

    Args:
        command: A command, whose parameter `reading` is a function that checks them.

    Returns:
        The command with the options after its own.
    """
    parameters = dict(inspect.signature(command).parameters)
    del parameters["reading"]
    shared = inspect.signature(_reading).parameters

    def run(**values: Any) -> None:
        words = {name: values.pop(name) for name in shared}
        command(**values, reading=partial(_reading, **words))

    parameters |= shared
    for name, parameter in parameters.items():
        parameters[name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
    # Typer reads the signature, older versions of it the annotations.
    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: value.annotation for name, value in parameters.items()}
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    return run


def refuse_reading_options(context: typer.Context, instead: str) -> None:
    """Refuse options of reading where something else says how inputs are read.

    Args:
        context: The command's context.
        instead: What says it, and the next step.

    Raises:
        ValueError: One of them was given.
    """
    shared = inspect.signature(_reading).parameters
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in shared and source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"{parameter.opts[0]}: {instead}")
