"""The workers of a training on many processes, connected by MXNet's kvstore.

Worker 0 leads: it decides which run is next and writes the records; the others follow. Their messages to each other go
through the kvstore, the only connection that surely reaches all machines.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np
from mxnet import gluon, nd
from mxnet.kvstore import KVStore

from experiments.running.attempt import FAILED, UNUSABLE, Message, Outcome, conclude, try_run
from experiments.running.kvstore_exit import exit_now
from experiments.running.progress import Progress
from experiments.training.workers import Workers
from experiments.vocabulary.config import Run, RunOptions
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.records import Busy, RunRecord
from namsg_mx.distributed import DistributedTrainer

TO_SERVERS = 0          # the only command that MXNet's servers pass to Python; its content is BEGIN or an optimizer
BEGIN = "begin"         # all processes have joined
FIRST_MESSAGE = 2**20   # kvstore keys from here on are messages, which servers add up; lower keys are parameters


class KVStoreWorkers(Workers):
    """This process's worker of ``kvstore``, connected with all the others.

    ``updates_on_servers``: if True, servers hold the optimizer and its states; else each worker makes the same update.
    """

    def __init__(self, kvstore: KVStore, updates_on_servers: bool):
        self._kvstore, self.updates_on_servers = kvstore, updates_on_servers
        self._is_asynchronous = "async" in kvstore.type
        self._messages = FIRST_MESSAGE   # the last key of a message; the kvstore takes no key twice
        self._is_begun = self._is_training = False
        self.rank, self.count = kvstore.rank, kvstore.num_workers
        self.updates_per_batch = self.count if self._is_asynchronous else 1
        if self.rank == 0:
            self._tell_servers(BEGIN)
            if self._is_asynchronous:   # such servers take no message before they have an updater
                self._tell_servers(None)

    # Runs

    def begin(self, command: Mapping[str, Any]) -> None:
        """Begin, before the first run. UsageError on all workers if an option of ``command`` differs between them."""
        first, *others = self.exchange(command)
        for rank, other in enumerate(others, start=1):
            for option, value in first.items():
                if other.get(option) != value:
                    raise UsageError(f"--kvstore: all workers must be given the same command: worker {rank} has "
                                     f"{option} {other.get(option)}, and worker 0 {value}")
        self._is_begun = True

    def train(self, runs: Sequence[Run], options: RunOptions, progress: Progress) -> list[Outcome]:
        """On worker 0: make the runs in turn, each with all workers; returns how each ended.

        Stops after a run that failed, as the workers may have failed in different steps of it. UsageError as from
        `experiments.running.pool.train_in_pool`.
        """
        outcomes = []
        for run in runs:
            self.share((run, options._replace(tensorboard=None)))
            message = self._try_run(run, options, functools.partial(progress.epoch, run))
            outcomes.append(conclude(run, options, *message))
            progress.ended(*outcomes[-1])
            if outcomes[-1].status == FAILED:
                break
        return outcomes

    def follow(self) -> int:
        """On the other workers: take part in worker 0's runs until it has no more; returns exit status 0."""
        while True:
            task = self.share(None)
            if task is None:
                return 0
            run, options = task
            kind, text = self._try_run(run, options, lambda epoch: None)
            if kind in (FAILED, UNUSABLE):
                raise (UsageError if kind == UNUSABLE else RecordError)(text)

    def leave(self, status: int) -> None:
        """End this worker's part. In the middle of a run, exits at once with the status.

        The others notice that (`experiments.running.kvstore_process`); MXNet's normal exit would wait for them.
        """
        if self._is_training:
            exit_now(status)
        if self._is_begun and self.rank == 0:
            self.share(None)

    def _try_run(self, run: Run, options: RunOptions, report: Callable[[int], None]) -> Message:
        self._is_training = True
        message = try_run(run, options, report, self)
        self._is_training = message[0] in (FAILED, UNUSABLE)   # the others may still be in the middle of the run
        return message

    # Messages

    def _tell_servers(self, content: Any) -> None:
        self._kvstore._send_command_to_servers(TO_SERVERS, pickle.dumps(content, 0).decode())

    def share(self, content: Any) -> Any:
        """Worker 0's ``content``, returned on all workers; all call this together. It must be picklable."""
        data = pickle.dumps(content) if self.rank == 0 else b""
        size = int(self.gather(np.array([len(data)]))[0, 0])
        # Sent as float32, as servers take no integers. Nothing computes with them, so all bits arrive as they are.
        packed = nd.array(np.frombuffer(data.ljust(-(-size // 4) * 4, b"\0"), np.float32))
        self._kvstore.broadcast(self._next_message(), packed, out=packed)
        return pickle.loads(packed.asnumpy().tobytes()[:size])

    def exchange(self, content: Any) -> list[Any]:
        """All workers' contents in the order of their ranks; all call this together. They must be picklable."""
        data = pickle.dumps(content)
        sizes = self.gather(np.array([len(data)]))[:, 0].astype(int)
        numbers = np.zeros(max(sizes))
        numbers[:len(data)] = np.frombuffer(data, np.uint8)
        return [pickle.loads(one[:size].astype(np.uint8).tobytes()) for one, size in zip(self.gather(numbers), sizes)]

    def agree(self, make: Callable[[], Any]) -> Any:
        result = error = None
        try:
            result = make()
        except (RecordError, UsageError, OSError) as raised:
            error = raised
        errors = [one for one in self.exchange(error) if one is not None]
        if errors:
            raise errors[0]
        return result

    def gather(self, numbers: np.ndarray) -> np.ndarray:
        """All workers' numbers, float64 of shape (workers, n); each worker gives n numbers.

        Each number travels as two float32 parts, which keep 48 bits; one beyond float32's range arrives as infinite.
        The servers add arrays in which each worker has filled a row of its own, so the order of additions does not
        matter.
        """
        parts = np.zeros((self.count, 2, len(numbers)), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            parts[self.rank, 0] = numbers
            rest = numbers - parts[self.rank, 0]
        parts[self.rank, 1] = np.where(np.isfinite(parts[self.rank, 0]), rest, 0)   # not infinity less infinity
        key, parts = self._next_message(), nd.array(parts)
        self._kvstore.init(key, nd.zeros_like(parts))
        self._kvstore.push(key, parts)
        nd.waitall()
        self._kvstore._barrier()   # with dist_async, a pull may return before the others have pushed
        self._kvstore.pull(key, out=parts)
        return parts.asnumpy().astype(np.float64).sum(axis=1)

    def _next_message(self) -> int:
        self._messages += 1
        return self._messages

    # Training

    def record(self, record: RunRecord) -> LeaderRecord:
        return LeaderRecord(record, self)

    def trainer(self, params: gluon.ParameterDict, optimizer: str, arguments: Mapping[str, Any]) -> gluon.Trainer:
        return DistributedTrainer(params, optimizer, arguments, kvstore=self._kvstore,
                                  update_on_kvstore=self.updates_on_servers)

    def part(self, order: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
        """Every count-th example of each batch, beginning with the rank-th. UsageError if a batch has too few."""
        smallest = len(order) % batch_size or batch_size
        if smallest < self.count:
            raise UsageError(f"--kvstore: the last batch of an epoch has {smallest} examples, too few for "
                             f"{self.count} workers")
        mine = np.arange(len(order)) % batch_size % self.count == self.rank
        return order[mine], len(range(self.rank, batch_size, self.count))

    def step(self, trainer: gluon.Trainer, loss: nd.NDArray, examples: int, batch_size: int) -> None:
        if not self.updates_on_servers:
            super().step(trainer, loss, examples, batch_size)
            return
        # Servers keep the scale of their first update, so smaller batches are scaled here. With dist_async, each
        # worker's examples make an update of their own.
        examples = len(loss) if self._is_asynchronous else examples
        loss.backward(nd.full(loss.shape, batch_size / examples, loss.context))
        trainer.step(batch_size)

    def average(self, arrays: Sequence[nd.NDArray]) -> None:
        if arrays:
            numbers = self.gather(np.concatenate([array.asnumpy().ravel() for array in arrays])).mean(axis=0)
            ends = np.cumsum([array.size for array in arrays])
            for array, its_numbers in zip(arrays, np.split(numbers, ends[:-1])):
                array[:] = its_numbers.reshape(array.shape)

    def mean(self, elements: np.ndarray) -> float:
        total, count = self.gather(np.array([elements.sum(dtype=np.float64), elements.size])).sum(axis=0)
        return float(total / count)


class LeaderRecord:
    """A run's record that worker 0 reads and writes for all workers.

    The methods are methods of `experiments.vocabulary.records.RunRecord`. All workers call them together; worker 0 does
    the work, and its result or error is every worker's.
    """

    def __init__(self, record: RunRecord, workers: KVStoreWorkers):
        self._record, self._workers = record, workers

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self._on_worker_0(lambda: stack.enter_context(self._record.lock()))
            yield

    def is_complete(self, epochs: int) -> bool:
        return self._on_worker_0(self._record.is_complete, epochs)

    def begin(self, config: Mapping[str, Any], goes_on: bool) -> tuple[int, dict[str, bytes]]:
        return self._on_worker_0(self._record.begin, config, goes_on)

    def add_environment(self, *arguments: Any) -> None:
        self._on_worker_0(self._record.add_environment, *arguments)

    def add_epoch(self, *arguments: Any) -> None:
        self._on_worker_0(self._record.add_epoch, *arguments)

    def finish(self, *arguments: Any) -> None:
        self._on_worker_0(self._record.finish, *arguments)

    def _on_worker_0(self, do: Callable[..., Any], *arguments: Any) -> Any:
        result = error = None
        if self._workers.rank == 0:
            try:
                result = do(*arguments)
            except (Busy, RecordError, UsageError, OSError) as raised:
                error = raised
        result, error = self._workers.share((result, error))
        if error is not None:
            raise error
        return result
