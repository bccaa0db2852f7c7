"""A run's curves, by Lightning's loggers: curve.csv, and TensorBoard's where it is installed."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lightning_fabric import Fabric
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from mien.files import wrap_os_errors

__all__ = ["CURVE", "Curves", "make_loggers"]

CURVE: Final = "curve.csv"
"""One row per epoch, in the run's folder."""


def make_loggers(folder: Path) -> list[Logger]:
    """Make the loggers of a run, for Fabric.

    Args:
        folder: The run's folder; nothing is written there before the first epoch has ended.

    Returns:
        The logger of ``curve.csv``, and that of TensorBoard's ``events`` where it is installed.
    """
    curve = CSVLogger(folder, name=None, version="", flush_logs_every_n_steps=1)
    if find_spec("tensorboard") is None:
        return [curve]
    # Every session logs all epochs again, and what earlier ones logged is discarded.
    return [curve, TensorBoardLogger(folder, name=None, version="events", purge_step=0)]


class Curves:
    """Logs each epoch once, also where a run is resumed from an earlier epoch.

    Args:
        fabric: With the loggers that `make_loggers` made.
        folder: The run's folder.
    """

    def __init__(self, fabric: Fabric, folder: Path) -> None:
        self._fabric = fabric
        self._path = folder / CURVE
        self._logged = 0

    def log(self, rows: Sequence[dict[str, float]], steps: int) -> None:
        """Log the epochs that this session has not logged yet; for the first process only.

        Args:
            rows: One row per epoch, from the run's first.
            steps: Steps of an epoch.

        Raises:
            OutputError: A file cannot be written.
        """
        with wrap_os_errors(self._path):
            if not self._logged:
                self._begin()
            for epoch in range(self._logged, len(rows)):
                self._fabric.log_dict(rows[epoch], step=(epoch + 1) * steps)
            for logger in self._fabric.loggers:
                logger.save()
        self._logged = len(rows)

    def _begin(self) -> None:
        """Let the first logger write ``curve.csv`` from its first line on."""
        curve = self._fabric.loggers[0]
        assert isinstance(curve, CSVLogger)
        self._path.unlink(missing_ok=True)
        with warnings.catch_warnings():
            # The folder holds the other files of the run, and the logger deletes none of them.
            warnings.filterwarnings("ignore", "Experiment logs directory", UserWarning)
            curve.experiment.metrics_file_path = str(self._path)

    def close(self) -> None:
        """End the threads that write."""
        for logger in self._fabric.loggers:
            logger.finalize("success")
