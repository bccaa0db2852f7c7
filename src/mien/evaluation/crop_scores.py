"""Scores of faces that are cut out already, from a Parquet table that may be larger than memory.

The table is read and scored a part at a time, by this process or by the nodes of a Ray cluster, and
the scores become one table with a row for each row, in the same order.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mien.batch.machines.ray_cluster import connected_to_ray
from mien.bundles.store import load, open_bundle
from mien.data.images import read_picture
from mien.errors import BundleError, DataError
from mien.evaluation.predict import Image, five_points, score_pictures
from mien.files import Transaction, wrap_os_errors
from mien.outputs.arrays import batch_of
from mien.outputs.columns import Column, columns
from mien.outputs.dictionary import dictionary_bytes
from mien.progress import ItemProgress
from mien.records import Reading, Status
from mien.tasks import Floats

__all__ = ["Counts", "CropScorer", "score_crops"]

_BATCH: Final = 256
"""Rows that are held at a time, by each process."""
_INPUTS: Final = ("image", "points")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a table.

    Attributes:
        rows: How many there are.
        unreadable: How many of them have a picture that cannot be read.
    """

    rows: int
    unreadable: int


class CropScorer:
    """Scores parts of a table; on a cluster each worker has one of its own."""

    def __init__(self, bundle: str, engine: str, sha256: str | None = None) -> None:
        """Load the bundle.

        Args:
            bundle: Name or folder of a bundle that reads affect.
            engine: As for `mien.load`.
            sha256: Of the network that is expected; None takes any.

        Raises:
            BundleError: The bundle is damaged, does not read affect, or is another one.
        """
        self.sha256 = open_bundle(bundle).card.sha256
        if sha256 is not None and self.sha256 != sha256:
            raise BundleError(
                f"{bundle}: this worker has another version of it ({self.sha256[:12]}, not "
                f"{sha256[:12]}); install the same mien and bundles on all nodes"
            )
        self.model = load(bundle, engine)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its scores, with the status first."""
        card = self.model.card
        made = columns(
            self.model.tasks, uncertain_below=card.uncertain_below, presence=card.presence
        )
        return tuple(column for column in made if column.name == "status" or column.task)

    def __call__(self, rows: pa.Table, start: int = 0) -> pa.Table:
        """Score rows.

        Args:
            rows: With the column `image` (encoded pictures or paths) and, where the faces shall be
                aligned, `points` (five points in px of the picture, 10 numbers or null).
            start: Which row of the whole table is the first, for the error message.

        Returns:
            The other columns, the status, and the scores; null where a picture cannot be read.

        Raises:
            DataError: Points are no 10 finite numbers.
        """
        cells = rows["points"].to_pylist() if "points" in rows.column_names else [None] * len(rows)
        pictures: list[Image] = []
        points: list[Floats | None] = []
        places = []
        for place, (image, five) in enumerate(zip(rows["image"].to_pylist(), cells, strict=True)):
            try:
                pictures.append(read_picture(image))
            except DataError:
                continue
            points.append(five_points(five, start + place))
            places.append(place)
        scores = score_pictures(self.model.score, pictures, points) if pictures else {}
        of_row = {}
        for number, place in enumerate(places):
            of_row[place] = {family: values[number] for family, values in scores.items()}
        readings = [_reading(of_row.get(place)) for place in range(len(rows))]
        made = pa.table(batch_of(readings, self.columns))
        kept = [name for name in rows.column_names if name not in _INPUTS]
        for index, name in enumerate(kept):
            made = made.add_column(index, rows.schema.field(name), rows[name])
        return made


def score_crops(
    table: Path,
    out: Path,
    bundle: str,
    *,
    engine: str = "auto",
    ray: str | None = None,
    progress: ItemProgress | None = None,
) -> Counts:
    """Score all faces of a Parquet table.

    Args:
        table: The table, with the columns that `CropScorer` reads. Its other columns are kept.
        out: The Parquet table of the scores; its data dictionary appears with it.
        bundle: Name or folder of a bundle that reads affect.
        engine: As for `mien.load`.
        ray: Address of a Ray cluster that does it, as for `mien.batch.run_plan`; None for this
            process.
        progress: Called with the rows done and their total.

    Returns:
        What became of the rows.

    Raises:
        DataError: The table cannot be read, has no column `image`, or has columns that the scores
            have, too; or points are no 10 finite numbers.
        BundleError: The bundle is damaged, or does not read affect.
        MissingExtraError: The engine or Ray is not installed.
        OutputError: The scores cannot be written, or no cluster answers.
    """
    scorer = CropScorer(bundle, engine)
    if out.suffix != ".parquet":
        raise DataError(f"{out}: scores are written as Parquet; give a name that ends in .parquet")
    if out.resolve() == table.resolve():
        raise DataError(f"{out}: is the table of pictures; give the scores another name")
    try:
        source = pq.ParquetFile(table)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{table}: cannot be read as Parquet ({error}); check the file") from error
    with closing(source):
        _check_columns(table, source.schema_arrow.names, scorer.columns)
        total = source.metadata.num_rows
        parts = _on_ray(table, scorer, bundle, engine, ray) if ray else _here(source, scorer)
        if progress is not None:
            parts = _reported(parts, total, progress)
        return _write(parts, table, out, scorer)


def _check_columns(table: Path, names: list[str], made: tuple[Column, ...]) -> None:
    if "image" not in names:
        listed = ", ".join(names)
        raise DataError(f"{table}: has no column image; it has {listed}")
    twice = [column.name for column in made if column.name in names]
    if twice:
        listed = ", ".join(twice)
        raise DataError(
            f"{table}: has columns that the scores have, too: {listed}; rename or drop them"
        )


def _here(source: pq.ParquetFile, scorer: CropScorer) -> Iterator[pa.Table]:
    start = 0
    for batch in source.iter_batches(_BATCH):
        yield scorer(pa.Table.from_batches([batch]), start)
        start += len(batch)


def _on_ray(
    table: Path, scorer: CropScorer, bundle: str, engine: str, address: str
) -> Iterator[pa.Table]:
    """The scores of all rows, in their order, computed by the cores of a cluster."""
    with connected_to_ray(address) as ray:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        scored = ray.data.read_parquet(str(table.resolve())).map_batches(
            CropScorer,
            fn_constructor_args=(bundle, engine, scorer.sha256),
            batch_size=_BATCH,
            batch_format="pyarrow",
            concurrency=(1, max(1, int(ray.cluster_resources().get("CPU", 1)))),
        )
        yield from scored.iter_batches(batch_size=_BATCH, batch_format="pyarrow")


def _reported(parts: Iterator[pa.Table], total: int, progress: ItemProgress) -> Iterator[pa.Table]:
    done = 0
    for part in parts:
        done += len(part)
        progress(done, total)
        yield part


def _write(parts: Iterator[pa.Table], table: Path, out: Path, scorer: CropScorer) -> Counts:
    """Write the scores and their dictionary, together or not at all."""
    done = unreadable = 0
    writer: Any = None
    with Transaction() as files:
        file = files.add(out)
        with wrap_os_errors(out):
            try:
                for part in parts:
                    if writer is None:
                        writer = pq.ParquetWriter(file.part, part.schema, compression="zstd")
                    writer.write_table(part)
                    done += len(part)
                    lost = pc.equal(part["status"], Status.unreadable.value)
                    # 0, not null, of a part without rows.
                    unreadable += pc.sum(lost, min_count=0).as_py()
            finally:
                if writer is not None:
                    writer.close()
        if not done:
            raise DataError(f"{table}: has no rows")
        card = scorer.model.card
        facts = {
            "table": str(table),
            "bundle": {"name": card.name, "version": card.version, "sha256": scorer.sha256},
            "rows": {"all": done, "unreadable": unreadable},
        }
        dictionary = dictionary_bytes(scorer.columns, facts)
        files.write(out.with_suffix(".dictionary.json"), dictionary)
        files.commit()
    return Counts(done, unreadable)


def _reading(scores: dict[str, Floats] | None) -> Reading:
    status = Status.unreadable if scores is None else Status.ok
    return Reading("", 0, 0.0, status, None, scores or {}, {})
