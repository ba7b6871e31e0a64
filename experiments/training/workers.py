"""The workers that make one run together, as training sees them: here one alone; `KVStoreWorkers` are many."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np
from mxnet import gluon, nd

from experiments.vocabulary.records import RunRecord


class Workers:
    """One worker alone; a subclass has more.

    ``rank`` of ``count`` workers is this one. ``updates_per_batch`` is the number of updates that a batch, of which
    each worker has its part, leads to. ``updates_on_servers``: other processes make the updates, with an optimizer
    whose states cannot be saved, so that a run cannot go on from a checkpoint.
    """

    rank, count, updates_per_batch, updates_on_servers = 0, 1, 1, False

    def record(self, record: RunRecord) -> Any:
        """The record to which training writes: all the methods that `experiments.training.loop.train` uses of it."""
        return record

    def agree(self, make: Callable[[], Any]) -> Any:
        """What ``make`` returns on this worker. An error on one worker that a user can mend is raised on all."""
        return make()

    def trainer(self, params: gluon.ParameterDict, optimizer: str, arguments: Mapping[str, Any]) -> gluon.Trainer:
        """A Trainer of these parameters."""
        return gluon.Trainer(params, optimizer, arguments)

    def part(self, order: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
        """This worker's examples of all the batches, in order, and its number of them in a full batch."""
        return order, batch_size

    def step(self, trainer: gluon.Trainer, loss: nd.NDArray, examples: int, batch_size: int) -> None:
        """Backward from the losses of this worker's examples, and the update by all the workers' ``examples``."""
        loss.backward()
        trainer.step(examples)

    def average(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace the arrays by their mean over the workers."""

    def mean(self, elements: np.ndarray) -> float:
        """The mean over all elements of all workers, added in float64."""
        return float(elements.mean(dtype=np.float64))


ONE_WORKER = Workers()
