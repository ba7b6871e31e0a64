"""Trains one run: epochs, evaluation, checkpoints, and going on from the last checkpoint.

All randomness comes from the seed (initial weights) or from seed and epoch (the order of the examples, their crops), so
an interrupted run gives the same numbers as one that was never interrupted.
"""

from __future__ import annotations

from namsg_mx import ParameterAverage, schedules, update_batch_norm  # isort: skip  (MXNet on newer versions of NumPy)

import contextlib
import errno
import hashlib
import inspect
import itertools
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from experiments.training import data, environment, models
from experiments.training.batches import RandomCrops, batches, prefetch
from experiments.training.workers import ONE_WORKER, Workers
from experiments.vocabulary.config import Run, RunOptions, updates_per_epoch
from experiments.vocabulary.errors import UsageError, one_line
from experiments.vocabulary.files import naming
from experiments.vocabulary.records import RunRecord
from namsg_mx.optimizers.base import ScheduledLearningRate

EVALUATION_BATCH = 1000
WAITING = 8   # batches that MXNet may have queued: an epoch's batches would take hundreds of megabytes
LOSSES = ("train_loss", "train_loss_full", "test_loss")


def train(run: Run, options: RunOptions, report: Callable[[Mapping[str, Any]], None],
          workers: Workers = ONE_WORKER) -> None:
    """Make a run, or the rest of it, in its folder; ``report`` gets each epoch's row once it is recorded.

    All ``workers`` of the run call this together. Raises `experiments.vocabulary.records.Busy` if another process is
    making the run, UsageError for missing data or a missing device, RecordError for records that it cannot go on from.
    """
    code = environment.code()
    own = RunRecord(options.results / run.folder)
    record = workers.record(own)
    with record.lock():
        if record.is_complete(options.epochs):   # another process has made it meanwhile
            return
        training = workers.agree(lambda: Training(run, data.load(run.settings["data"], options.data),
                                                  find_context(options.device), workers))
        config = {**run.config_json(options), "choices": training.choices()}
        last, state = record.begin(config, not workers.updates_on_servers)
        if last:
            try:
                training.restore(state)
            except Exception as error:
                if isinstance(error, OSError) or is_of_memory(error):   # a full disk, say: the checkpoint is whole
                    raise
                # From MXNet, pickle, ...: a member is not what was written.
                raise own.checkpoint.damaged(error) from error
        for epoch in range(last + 1, options.epochs + 1):
            row, seconds = training.epoch(epoch)
            if epoch == last + 1:
                made_with = {**code, **environment.describe(options.device), "kernel": training.kernel()}
                record.add_environment(epoch, made_with)
            if not all(row[loss] is None or math.isfinite(row[loss]) for loss in LOSSES):
                record.finish(epoch - 1, "diverged")
                return
            record.add_epoch(row, seconds, training.state())
            report(row)
        record.finish(max(last, options.epochs), "done")


class Training:
    """A run's network, Trainer and data; `epoch` trains for one epoch, `state` and `restore` serve checkpoints."""

    def __init__(self, run: Run, data_set: data.DataSet, context: mx.Context, workers: Workers = ONE_WORKER):
        self._workers = workers
        self._seed, self._batch_size = run.seed, run.settings["batch_size"]
        self._augmentation = run.settings.get("augmentation")
        self._train_loss_full_every = run.settings.get("train_loss_full_every", 1)
        self._data, self._context = data_set, context
        self._updates_per_epoch = workers.updates_per_batch * updates_per_epoch(len(data_set.train.labels),
                                                                                self._batch_size)
        if len(data_set.test.labels) < workers.count:
            raise UsageError(f"--kvstore: {len(data_set.test.labels)} test images are too few for {workers.count} "
                             "workers")
        self._net = models.build(run.settings["model"], run.seed, context)
        self._loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self._loss.hybridize(static_alloc=True, static_shape=True)
        try:
            arguments = optimizer_arguments(run.settings["parameters"], self._updates_per_epoch)
            self._trainer = workers.trainer(self._net.collect_params(), run.settings["optimizer"], arguments)
            averaging = run.settings.get("averaging")
            if averaging and workers.count > 1:
                raise ValueError("averaging: not with --kvstore, as each worker's average would have BatchNorm "
                                 "statistics of its own")
            self._average = averaging and ParameterAverage(self._net.collect_params(), averaging["decay"])
            self._batch_norm_batches = averaging and averaging["batch_norm_batches"]
        except ValueError as error:   # its message names argument, value and range
            raise UsageError(f"{run.experiment}: {run.method}: {error}") from error

    def choices(self) -> dict[str, Any]:
        """What the code fixes besides the configuration; called before the first epoch.

        Recorded, and not compared when a run goes on. `analysis.results` refuses runs that differ in what all share.

        The network's layers, a digest of its initial weights, the optimizer's defaults, shapes and range of the images.
        """
        weights = hashlib.sha256()
        for parameter in self._net.collect_params().values():
            weights.update(parameter.data().asnumpy().tobytes())
        defaults = {name: parameter.default for name, parameter
                    in inspect.signature(type(self._trainer.optimizer)).parameters.items()
                    if parameter.default is not parameter.empty}
        images = self._data.train.images
        return {
            "layers": [repr(layer) for layer in _leaves(self._net)],
            "initial_weights": weights.hexdigest(),
            "optimizer": defaults,
            "pixels": [float(images.min()), float(images.max())],
            "train_images": [len(images), *images.shape[1:]],
            "test_images": list(self._data.test.images.shape),
            "evaluation_batch": EVALUATION_BATCH,
        }

    def epoch(self, epoch: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Train for one epoch (1, 2, ...) and evaluate; returns the rows of epochs.csv and seconds.csv.

        Evaluation takes whole images, and the averaged parameters if the method averages them.
        """
        start = time.perf_counter()
        train_loss = self._train(epoch)
        # BatchNorm's running statistics: each worker has seen only its own examples.
        self._workers.average([p.data() for p in self._net.collect_params().values() if p.grad_req == "null"])
        trained = time.perf_counter()
        with self._averaged(epoch):
            full = epoch % self._train_loss_full_every == 0
            train_loss_full = self._evaluate(self._data.train)[0] if full else None
            test_loss, test_accuracy = self._evaluate(self._data.test)
        updates = epoch * self._updates_per_epoch
        row = {
            "epoch": epoch, "updates": updates, **self._rates(updates),
            "train_loss": train_loss, "train_loss_full": train_loss_full,
            "test_loss": test_loss, "test_accuracy": test_accuracy,
        }
        return row, {"epoch": epoch, "training": trained - start, "evaluation": time.perf_counter() - trained}

    def kernel(self) -> str:
        """The kernel that made the latest update; 'mxnet' for MXNet's own optimizers."""
        if self._workers.updates_on_servers:
            return "of the servers"
        optimizer = self._trainer.optimizer
        return optimizer.last_update().kernel if hasattr(optimizer, "last_update") else "mxnet"

    def state(self) -> dict[str, bytes]:
        """What the next epoch depends on besides the run's settings, as files by name; without what servers keep.

        OSError, naming the folder for temporary files, if that is full.
        """
        return {name: _saved(save, is_arrays=name.endswith(".params")) for name, (save, _) in self._parts().items()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Restore what `state` returned. ValueError if parts are missing or unknown, MXNet's errors if unreadable.
        """
        parts = self._parts()
        if state.keys() != parts.keys():
            raise ValueError(f"has {', '.join(sorted(state)) or 'nothing'} instead of {', '.join(sorted(parts))}")
        with naming(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as folder:
            for name, (_, load) in parts.items():
                path = Path(folder, name)
                path.write_bytes(state[name])
                load(str(path))

    def _parts(self) -> dict[str, tuple[Callable[[str], None], Callable[[str], None]]]:
        """By name, the functions that write and read each part of the state as a file."""
        parts = {"net.params": (self._net.save_parameters, self._net.load_parameters)}
        if not self._workers.updates_on_servers:
            parts["trainer.states"] = (self._trainer.save_states, self._trainer.load_states)
        if self._average:
            parts["average.params"] = (self._average.save, self._average.load)
        return parts

    def _train(self, epoch: int) -> float:
        """Make one epoch's updates; returns the mean loss of its examples, each taken just before its own update."""
        examples = len(self._data.train.labels)
        losses = []
        for k, (images, labels) in enumerate(self._training_batches(epoch)):
            with autograd.record():
                loss = self._loss(self._net(images), labels)
            in_batch = min(self._batch_size, examples - k * self._batch_size)   # all workers' examples
            self._workers.step(self._trainer, loss, in_batch, self._batch_size)
            if self._average:
                self._average.update()
            losses.append(loss)
            _wait_for_earlier(losses)
        mx.nd.waitall()   # for the last update and BatchNorm's statistics: MXNet does not make their readers wait
        return self._mean(losses)

    @contextlib.contextmanager
    def _averaged(self, epoch: int) -> Iterator[None]:
        """Inside, the network has the averaged parameters, and BatchNorm statistics from this epoch's batches.

        Without an average, it stays as it is.
        """
        if self._average is None:
            yield
            return
        with self._average.in_place():
            seen = itertools.islice(self._training_batches(epoch), self._batch_norm_batches)
            update_batch_norm(self._net, (images for images, _ in seen))
            yield

    def _evaluate(self, part: data.Part) -> tuple[float, float]:
        """Mean loss and accuracy over a part, in inference mode."""
        losses, hits = [], []
        order = np.arange(self._workers.rank, len(part.labels), self._workers.count)
        for images, labels in self._batches(part, order, EVALUATION_BATCH):
            logits = self._net(images)
            losses.append(self._loss(logits, labels))
            hits.append(logits.argmax(axis=1) == labels)
            _wait_for_earlier(losses)
        return self._mean(losses), self._mean(hits)

    def _training_batches(self, epoch: int) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """This worker's share of the epoch's batches, in the epoch's order and with its crops."""
        train = self._data.train
        order, size = self._workers.part(epoch_order(self._seed, epoch, len(train.labels)), self._batch_size)
        crops = None
        if self._augmentation:
            crops = RandomCrops(train.images, self._augmentation["size"], self._seed, epoch)
        return self._batches(train, order, size, crops)

    def _batches(self, part: data.Part, order: np.ndarray, size: int, crops: RandomCrops | None = None
                 ) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        for images, labels in prefetch(batches(part, order, size, crops)):
            yield mx.nd.array(images, self._context), mx.nd.array(labels, self._context, dtype="float32")

    def _mean(self, arrays: list) -> float:
        """The mean over all elements of these arrays, on all workers."""
        return self._workers.mean(mx.nd.concat(*arrays, dim=0).asnumpy())

    def _rates(self, updates: int) -> dict[str, float | None]:
        """Step size, eta and SGD's step size of the last of these updates; None if a method has no such thing."""
        optimizer = self._trainer.optimizer
        if hasattr(optimizer, "settings"):   # one of ours
            made = optimizer.settings(updates - 1)
            return {"learning_rate": made.learning_rate, "eta": made.eta, "sgd_learning_rate": made.sgd_learning_rate}
        if self._workers.updates_on_servers:
            optimizer.num_update = updates   # which only its copies on the servers have counted
        return {"learning_rate": optimizer.learning_rate, "eta": None, "sgd_learning_rate": None}


def _leaves(block: gluon.Block) -> Iterator[gluon.Block]:
    """The innermost layers of a network, in order."""
    children = block._children.values()
    if not children:
        yield block
    for child in children:
        yield from _leaves(child)


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of ``count`` examples in an epoch. Also seeds the global generators, which networks draw from."""
    random = np.random.RandomState([seed, epoch])   # its stream is the same in all versions of NumPy
    np.random.seed(random.randint(2**31))
    mx.random.seed(int(random.randint(2**31)))
    return random.permutation(count)


def optimizer_arguments(parameters: Mapping[str, Any], updates_per_epoch: int) -> dict[str, Any]:
    """A configuration's hyper-parameters as arguments of an optimizer: schedules become objects that count updates.

    A schedule of the step size becomes an ``lr_scheduler``, which MXNet's own optimizers take, too.
    """
    arguments = {name: _schedule(updates_per_epoch, **value) if isinstance(value, dict) else value
                 for name, value in parameters.items()}
    if callable(arguments["learning_rate"]):
        # None, else MXNet overwrites an attribute of the scheduler by the default learning rate, and warns.
        arguments.update(learning_rate=None, lr_scheduler=ScheduledLearningRate(arguments["learning_rate"]))
    return arguments


def _schedule(updates_per_epoch: int, schedule: str, **arguments: Any) -> Callable[[int], float]:
    if "epochs" in arguments:
        arguments["updates"] = max(1, round(arguments.pop("epochs") * updates_per_epoch))
    if "at" in arguments:
        arguments["at"] = (arguments["at"],)
    return getattr(schedules, schedule)(**arguments)


def find_context(device: str) -> mx.Context:
    """The context of 'cpu' or 'gpu:N'; UsageError if MXNet has no such GPU."""
    if device == "cpu":
        return mx.cpu()
    index = int(device.partition(":")[2])
    if index >= mx.context.num_gpus():
        raise UsageError(f"--device {device}: MXNet {mx.__version__} sees {mx.context.num_gpus()} GPUs here")
    return mx.gpu(index)


def _wait_for_earlier(results: list) -> None:
    """Wait for all but the last WAITING results: MXNet's engine would queue any number, and keep all their inputs."""
    if len(results) > WAITING:
        results[-WAITING - 1].wait_to_read()


def is_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, which MXNet tells in words."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or isinstance(error, mx.MXNetError) and any(
        words in said for words in ("failed to allocate", "bad_alloc", "out of memory"))


def _saved(save: Callable[[str], None], is_arrays: bool) -> bytes:
    """The bytes that ``save`` writes; MXNet saves only to files. OSError if the disk is full."""
    with naming(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved")
        try:
            save(str(path))
            content = path.read_bytes()
            if is_arrays:
                mx.nd.load_frombuffer(content)   # fails if the file is cut off, which MXNet does not notice in saving
        except mx.MXNetError as error:
            if is_of_memory(error):
                raise
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, or a limit on the size of files "
                                        f"({one_line(error)})") from error
        return content
