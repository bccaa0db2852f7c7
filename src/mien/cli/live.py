"""The command that reads faces while they happen."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer

from mien.analysis.options import Options
from mien.bundles.store import AFFECT, FACES, QUALITY
from mien.cli.reading import (
    BundleOption,
    DetectorOption,
    FacesOption,
    NoAbstainOption,
    QualityOption,
    faces_of,
)
from mien.cli.terminal import SteadyStream, err, fail, handle_errors
from mien.realtime.keys import keys_marked
from mien.realtime.lsl import keep_local
from mien.realtime.session import Live
from mien.realtime.session import live as begin
from mien.temporal.one_euro import OneEuro

__all__ = ["live"]


def live(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="camera:0, rtsp://… of a camera, or a film, played at its own speed.",
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="A table (.csv, .parquet, .jsonl) with a dictionary that names the clocks.",
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the film, too, beside the table.")
    ] = False,
    lines: Annotated[
        bool,
        typer.Option(
            "--json", help="JSON lines on the standard output, as without any other output."
        ),
    ] = False,
    websocket: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Serve rows as JSON to pages and programs of this computer; 0: any free port.",
        ),
    ] = None,
    osc: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Send numbers there as Open Sound Control."),
    ] = None,
    lsl: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Streams of Lab Streaming Layer: NAME-0 for the first face, NAME-markers.",
        ),
    ] = None,
    markers_from: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also keep the markers of an LSL stream."),
    ] = None,
    baseline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Measure first what is normal for who is in view, and give scores without it.",
        ),
    ] = None,
    smoothing: Annotated[
        str,
        typer.Option(
            "--smooth",
            metavar="SECONDS|one-euro",
            help=(
                "Smoothing of the past: a Gaussian by its full width at half maximum, or a filter "
                "that follows fast movement."
            ),
        ),
    ] = "0",
    faces: FacesOption = "all",
    bundle: BundleOption = AFFECT,
    detector: DetectorOption = FACES,
    rotate: Annotated[
        int, typer.Option(metavar="0|90|180|270", help="Turn pictures clockwise.")
    ] = 0,
    quality: QualityOption = QUALITY,
    no_abstain: NoAbstainOption = False,
) -> None:
    """Read faces while they happen, until the source ends or Ctrl-C; keys are markers.

    Frames that come while others are read are left out, and counted, so that readings do not fall
    behind. Nothing leaves this machine unless you name an address, and no picture is kept unless
    you say --record.
    """
    with handle_errors():
        options = Options(
            bundle=bundle,
            detector=detector,
            faces=faces_of(faces),
            rotate=rotate,  # type: ignore[arg-type]
            smoothing=_smoothing(smoothing),
            quality=quality,
            abstain=not no_abstain,
        )
        # Something must show what is read.
        is_silent = table is None and websocket is None and osc is None and lsl is None
        if lsl is not None or markers_from is not None:
            keep_local()
        session = begin(
            source,
            out=table,
            record=record,
            lines=cast(TextIO, sys.stdout) if lines or is_silent else None,
            websocket=websocket,
            osc=osc,
            lsl=lsl,
            markers_from=markers_from,
            baseline=baseline,
            options=options,
        )
        for line in session.where:
            err.print(f"mien: {line}", markup=False)
        try:
            _read(session)
        finally:
            _tell(session)
    if session.problem:
        raise fail(f"{session.name}: {session.problem}", 1)


def _smoothing(text: str) -> OneEuro | float:
    """The value of ``--smooth``."""
    if text == "one-euro":
        return OneEuro()
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"--smooth must be seconds or one-euro, got {text!r}") from error


def _read(session: Live) -> None:
    """Read until the end, or Ctrl-C, or until nobody reads the standard output any more.

    Raises:
        typer.Exit: The standard output cannot be written.
    """
    try:
        with session, keys_marked(partial(session.mark, origin="key")) as has_keys:
            if has_keys:
                err.print("mien: each key you press is a marker; Ctrl-C ends the reading")
            for _ in session:
                if isinstance(sys.stdout, SteadyStream) and sys.stdout.lost is not None:
                    break
    # A camera has no end of its own: an interrupt is how a reading is finished.
    except KeyboardInterrupt:
        session.close()
    if isinstance(sys.stdout, SteadyStream) and sys.stdout.failed:
        raise fail("stopped: the standard output cannot be written", 1)


def _tell(session: Live) -> None:
    """Say how the reading went, also where it ended with an error."""
    for note in session.notes:
        err.print(f"mien: note: {note}", style="yellow", markup=False)
    files = "".join(f"; {path}" for path in session.files[:1])
    err.print(f"mien: {session.summary}{files}", markup=False)
