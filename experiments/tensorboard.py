"""A copy of the records for TensorBoard. The records stay the truth: this is written after them and never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from experiments.errors import UsageError


def log(folder: Path, row: Mapping[str, Any]) -> None:
    """Add an epoch's numbers to a run's log; UsageError where tensorboardX is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise UsageError(f"--tensorboard: needs {error.name}: pip install tensorboardX") from error
    # purge_step: an epoch that was logged before a kill and is made again counts once.
    with SummaryWriter(str(folder), purge_step=row["epoch"]) as writer:
        for name, value in row.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, row["epoch"])
