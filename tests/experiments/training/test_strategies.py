"""What strategies add to a run: step decay, the switch to SGD, the average of the parameters, crops; and resuming."""

import dataclasses
import zipfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from experiments.training import data, loop, models
from experiments.training.batches import RandomCrops
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.records import RunRecord
from namsg_mx import StepDecay

# Five updates per epoch: the switch is in the second epoch, the drop in the third.
CONFIG = """
title: A short experiment
data: {name: rendered_digits, train: 300, test: 100, seed: 0}
model: {name: logistic_regression}
augmentation: {name: random_crops, size: 28}
batch_size: 64
weight_decay: 0.001
epochs: 4
seeds: 0-1
train_loss_full_every: 2
methods:
  swnts1:
    optimizer: namsg
    parameters:
      learning_rate: &step_decay {schedule: StepDecay, initial: 0.005, at: 12, factor: 0.1}
      eta: {schedule: ObservationDistance, start: 0.9, end: 3.0, epochs: 1}
      switch_to_sgd: 7
    averaging: {decay: 0.8, batch_norm_batches: 0}
    source: a test
  adam:
    optimizer: adam
    parameters: {learning_rate: *step_decay}
    source: a test
  namsb:
    optimizer: namsb
    parameters: {learning_rate: 0.005, sgd_learning_rate: *step_decay, gamma: 0.1}
    source: a test
"""


def make(folder, method, epochs, text=CONFIG):
    path = folder / "short.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    run, = config.load(path).runs([method], [0])
    loop.train(run, RunOptions(folder, epochs, None, "cpu", 1), lambda epoch: None)
    return run, RunRecord(folder / run.folder)


def write_checkpoint(record, folder):
    with zipfile.ZipFile(record.folder / "checkpoint.zip") as checkpoint:
        checkpoint.extractall(folder)


def mean_loss(images, labels, weight, bias):
    """The mean loss of logistic regression, by NumPy in float64."""
    weight, bias = weight.asnumpy().astype(np.float64), bias.asnumpy()
    logits = images.reshape(len(labels), -1) @ weight.T + bias
    return (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), labels]).mean()


@pytest.mark.parametrize("method", ["swnts1", "adam", "namsb"])
def test_a_run_goes_on_from_each_checkpoint_to_the_bit(tmp_path, method):
    _, whole = make(tmp_path / "whole", method, 4)
    for epochs in (1, 2, 3, 4):
        _, parts = make(tmp_path / "parts", method, epochs)
    assert parts.epochs.path.read_bytes() == whole.epochs.path.read_bytes()
    assert len(whole.epochs.rows()) == 4


def test_the_recorded_step_size_drops_where_the_configuration_says(tmp_path):
    """Epochs end with the updates k = 4, 9, 14, 19, and k = 12 is the first smaller one."""
    for method in ("swnts1", "adam"):
        _, record = make(tmp_path, method, 4)
        assert [row["learning_rate"] for row in record.epochs.rows()] == pytest.approx([0.005, 0.005, 0.0005, 0.0005])


def test_the_recorded_step_size_of_sgd_is_that_of_the_epochs_last_update(tmp_path):
    """SWNTS switches at k = 7, and its step size follows the drop; NAMSB's has a schedule of its own."""
    def sgd_learning_rates(method):
        return [row["sgd_learning_rate"] for row in make(tmp_path, method, 4)[1].epochs.rows()]

    before, measured, *dropped = sgd_learning_rates("swnts1")
    assert before is None and measured > 0.005
    assert dropped == pytest.approx([measured / 10] * 2)
    assert sgd_learning_rates("namsb") == pytest.approx([0.005, 0.005, 0.0005, 0.0005])
    assert sgd_learning_rates("adam") == [None] * 4


def test_the_full_train_loss_is_there_in_its_epochs_only(tmp_path):
    _, record = make(tmp_path, "adam", 4)
    assert [row["train_loss_full"] is None for row in record.epochs.rows()] == [True, False, True, False]


def test_evaluation_is_with_the_average_and_training_without(tmp_path):
    """The recorded losses, by NumPy from the checkpoint: its average for the test, its weights for what comes next."""
    run, record = make(tmp_path, "swnts1", 2)
    write_checkpoint(record, tmp_path)
    net = mx.nd.load(str(tmp_path / "net.params"))
    average = mx.nd.load(str(tmp_path / "average.params"))
    test = data.load(run.settings["data"], None).test
    row = record.epochs.rows()[-1]
    assert row["test_loss"] == pytest.approx(mean_loss(test.images, test.labels, *average), rel=1e-5)
    assert row["test_loss"] != pytest.approx(mean_loss(test.images, test.labels, net["weight"], net["bias"]), rel=1e-3)


def test_the_average_is_of_the_parameters_after_each_update(tmp_path, monkeypatch):
    """Two epochs of five updates: the average of parameters, in float64, with the configuration's decay."""
    step, expected, updates = gluon.Trainer.step, [], []

    def recorded(trainer, *arguments):
        if not expected:
            expected.extend(p.data().asnumpy().astype(np.float64) for p in trainer._params)
        step(trainer, *arguments)
        updates.append(1)
        expected[:] = [0.8 * average + 0.2 * p.data().asnumpy() for average, p in zip(expected, trainer._params)]

    monkeypatch.setattr(gluon.Trainer, "step", recorded)
    _, record = make(tmp_path, "swnts1", 2)
    write_checkpoint(record, tmp_path)
    assert len(updates) == 10
    weight, bias = mx.nd.load(str(tmp_path / "average.params"))
    for average, array in zip(expected, (bias, weight)):   # a Trainer has them in the order of their names
        np.testing.assert_allclose(array.asnumpy(), average, rtol=1e-5, atol=1e-7)


def test_the_average_is_evaluated_with_statistics_of_its_own(tmp_path):
    """BatchNorm statistics equal the ones that the epoch's first batches leave in a network with the averages."""
    text = CONFIG.replace("logistic_regression", "mnist_cnn")
    text = text.replace("batch_norm_batches: 0", "batch_norm_batches: 3")
    run, record = make(tmp_path, "swnts1", 1, text)
    write_checkpoint(record, tmp_path)
    net = models.build(run.settings["model"], 0, mx.cpu())
    for p, average in zip(net.collect_params().values(), mx.nd.load(str(tmp_path / "average.params"))):
        p.set_data(average)
    train, test = data.load(run.settings["data"], None)
    images, labels = mx.nd.array(test.images), mx.nd.array(test.labels)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    with_averaged_statistics = loss(net(images), labels).mean().asscalar()
    order, crops = loop.epoch_order(0, 1, 300), RandomCrops(train.images, 28, 0, 1)
    for k in range(3):
        with autograd.record():
            outputs = net(mx.nd.array(crops[order[64 * k:64 * (k + 1)]]))
        outputs.backward()
    found = record.epochs.rows()[-1]["test_loss"]
    assert found == pytest.approx(loss(net(images), labels).mean().asscalar(), rel=1e-5)
    assert found != pytest.approx(with_averaged_statistics, rel=1e-3)


def test_training_sees_the_crops_of_its_epoch_and_evaluation_the_images(tmp_path):
    """Without steps, the recorded losses are the losses of the initial weights."""
    text = CONFIG.replace("train_loss_full_every: 2\n", "").replace("initial: 0.005", "initial: 0.0")
    text = text.replace("sgd_learning_rate: *step_decay", "sgd_learning_rate: 0.1")   # that may not be 0
    run, record = make(tmp_path, "adam", 2, text)
    train, _ = data.load(run.settings["data"], None)
    weight, bias = (p.data() for p in models.build(run.settings["model"], 0, mx.cpu()).collect_params().values())
    for row in record.epochs.rows():
        crops = RandomCrops(train.images, 28, 0, row["epoch"])[np.arange(300)]
        assert row["train_loss"] == pytest.approx(mean_loss(crops, train.labels, weight, bias), rel=1e-6)
        assert row["train_loss_full"] == pytest.approx(mean_loss(train.images, train.labels, weight, bias), rel=1e-6)
        assert row["train_loss"] != pytest.approx(row["train_loss_full"], rel=1e-4)


def test_a_schedule_of_the_step_size_rules_mxnets_optimizers_too(capsys):
    """Adam's step is alpha times something that does not depend on it: at k = 2 it is a tenth."""
    schedule = {"schedule": "StepDecay", "initial": 0.01, "at": 2, "factor": 0.1}
    moves = []
    for learning_rate in (schedule, 0.01):
        arguments = loop.optimizer_arguments({"learning_rate": learning_rate}, 5)
        adam = mx.optimizer.create("adam", **arguments)
        weight = mx.nd.array([1.0])
        state, path = adam.create_state(0, weight), [1.0]
        for _ in range(4):
            adam.update(0, weight, mx.nd.array([0.5]), state)
            path.append(weight.asscalar())
        moves.append(np.diff(path))
    np.testing.assert_allclose(moves[0] / moves[1], [1, 1, 0.1, 0.1], rtol=1e-3)   # of differences of float32
    assert capsys.readouterr().out == ""   # MXNet prints a warning if it overwrites a scheduler's step size


def test_schedules_as_objects():
    arguments = loop.optimizer_arguments(
        {"learning_rate": 0.001,
         "sgd_learning_rate": {"schedule": "StepDecay", "initial": 0.5, "at": 12000, "factor": 0.1}}, 196)
    assert arguments == {"learning_rate": 0.001, "sgd_learning_rate": StepDecay(0.5, at=(12000,))}


@pytest.fixture
def few_images(monkeypatch):
    """80 and 20 random images in the shape of CIFAR-10's, in its place."""
    random = np.random.RandomState(0)
    parts = [data.Part(random.standard_normal((n, 3, 32, 32)).astype(np.float32),
                       (np.arange(n) % 10).astype(np.int32)) for n in (80, 20)]
    monkeypatch.setattr(data, "load", lambda settings, folder: data.DataSet(*parts))


CIFAR = config.load(Path(__file__).parents[3] / "configs" / "cifar10_resnet20.yaml")


@pytest.mark.parametrize("method", CIFAR.methods)
def test_every_method_of_cifar10_trains_resnet(tmp_path, few_images, method):
    """Two updates, with the batches, the switch and the drop moved into them."""
    run, = CIFAR.runs([method], [0])
    parameters = {name: dict(value, at=1) if isinstance(value, dict) and "at" in value else value
                  for name, value in run.settings["parameters"].items()}
    if "switch_to_sgd" in parameters:
        parameters["switch_to_sgd"] = 1
    run = dataclasses.replace(run, settings=dict(run.settings, batch_size=64, parameters=parameters))
    loop.train(run, RunOptions(tmp_path, 1, None, "cpu", 1), lambda epoch: None)
    row, = RunRecord(tmp_path / run.folder).epochs.rows()
    assert (row["updates"], row["train_loss_full"]) == (2, None)
    assert 1 < row["train_loss"] < 10   # log(10) = 2.3 at chance
    assert np.isfinite(row["test_loss"])
    drops = isinstance(parameters["learning_rate"], dict)
    expected = parameters["learning_rate"]["initial"] * 0.1 if drops else parameters["learning_rate"]
    assert row["learning_rate"] == pytest.approx(expected)


def test_weight_decay_acts_on_all_the_parameters_of_resnet():
    """As in Gluon, also on biases and BatchNorm's gamma and beta: with gradients of 0, only weight decay moves them."""
    run, = CIFAR.runs(["sgd"], [0])
    net = models.build(run.settings["model"], 0, mx.cpu())
    for p in net.collect_params().values():
        p.set_data(mx.nd.ones(p.shape))
    arguments = loop.optimizer_arguments(run.settings["parameters"], 196)
    trainer = gluon.Trainer(net.collect_params(), run.settings["optimizer"], arguments)
    with autograd.record():
        loss = 0 * net(mx.nd.ones((2, 3, 28, 28))).sum()
    loss.backward()
    trainer.step(1)
    for name, p in net.collect_params().items():
        if p.grad_req != "null":
            # w - alpha * m, m = (1 - beta) * wd * w
            np.testing.assert_allclose(p.data().asnumpy(), 1 - 0.2 * 0.1 * 0.001, rtol=1e-6, err_msg=name)
