"""The workers that make a run, as training sees them: usually one; `KVStoreWorkers` are several processes."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np
from mxnet import gluon, nd

from experiments.vocabulary.records import RunRecord


class Workers:
    """What training asks of its workers, answered for a run in one process; a subclass has several workers.

    This process is worker ``rank`` of ``count``. ``updates_per_batch``: usually 1, as workers share each batch's
    update; ``count`` if each makes an update of its own. ``updates_on_servers``: usually False; if True, servers make
    the updates and keep the optimizer's states, which cannot be saved, so a run cannot go on from a checkpoint.
    """

    rank, count, updates_per_batch, updates_on_servers = 0, 1, 1, False

    def record(self, record: RunRecord) -> Any:
        """The record that training writes to, with all methods that `experiments.training.loop` calls."""
        return record

    def agree(self, make: Callable[[], Any]) -> Any:
        """``make()`` on this worker. An error that a user can mend, on any worker, is raised on all of them."""
        return make()

    def trainer(self, params: gluon.ParameterDict, optimizer: str, arguments: Mapping[str, Any]) -> gluon.Trainer:
        """A Trainer for these parameters."""
        return gluon.Trainer(params, optimizer, arguments)

    def part(self, order: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
        """This worker's share of an epoch: its examples in order, and how many of them a full batch has."""
        return order, batch_size

    def step(self, trainer: gluon.Trainer, loss: nd.NDArray, examples: int, batch_size: int) -> None:
        """Run backward from the losses of this worker's examples, then update.

        ``examples`` is the number of all workers' examples in this batch, ``batch_size`` in a full batch.
        """
        loss.backward()
        trainer.step(examples)

    def average(self, arrays: Sequence[nd.NDArray]) -> None:
        """Replace the arrays by their mean over the workers."""

    def mean(self, elements: np.ndarray) -> float:
        """The mean over all elements of all workers, added in float64."""
        return float(elements.mean(dtype=np.float64))


ONE_WORKER = Workers()
