"""Copies each recorded epoch to a log for TensorBoard, which is never read here: the records are the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.files import naming


class Log:
    """A run's log in a folder of its own; UsageError where tensorboardX is not installed."""

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise UsageError(f"--tensorboard: needs {error.name}: pip install tensorboardX") from error
        self._folder, self._new_writer = folder, SummaryWriter
        self._writer: SummaryWriter | None = None   # before the first row

    def add(self, row: Mapping[str, Any]) -> None:
        """Add an epoch's row, with the columns `experiments.vocabulary.epoch_table.EPOCH_COLUMNS`."""
        with naming(self._folder):
            if self._writer is None:   # purge_step hides what an earlier attempt logged from this epoch on
                self._writer = self._new_writer(str(self._folder), purge_step=row["epoch"])
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    self._writer.add_scalar(name, value, row["epoch"])
            self._writer.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error) -> None:
        if self._writer is not None:
            with naming(self._folder):
                self._writer.close()   # unlike flush, waits for the writing thread
