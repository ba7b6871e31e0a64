"""One run: it is the protocol's mathematics, and the same to the bit whether it was interrupted or not."""

import errno
import math
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from tiny_experiment import CONFIG, REAL_DATA, hide_members, make_older, numbers, small_disk, write_config

from experiments.training import data, models
from experiments.training.loop import Training, epoch_order, optimizer_arguments, train
from experiments.training.workers import Workers
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.records import RunRecord
from namsg_mx import ObservationDistance, reference

CHECKOUT = Path(__file__).parents[3]


def options(folder, epochs):
    return RunOptions(folder, epochs, None, "cpu", 1)


def tiny_run(folder, method="namsg", text=CONFIG):
    return config.load(write_config(folder, text)).runs([method], [0])[0]


def make(run, folder, epochs):
    train(run, options(folder, epochs), lambda epoch: None)
    return RunRecord(folder / run.folder)


def logistic_regression_in_float64(data_set, weight, bias, seed, batch_size, updates, alpha, beta1, beta2, eta):
    """Running mean of the loss over the first updates of NAMSG, by NumPy and the reference alone."""
    order = epoch_order(seed, 1, len(data_set.train.labels))
    state_w, state_b = reference.initial_moments(weight), reference.initial_moments(bias)
    losses = []
    for k in range(updates):
        chosen = order[k * batch_size:(k + 1) * batch_size]
        x = data_set.train.images[chosen].reshape(len(chosen), -1).astype(np.float64)
        y = data_set.train.labels[chosen]
        logits = x @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(y)), y]))
        error = (p - np.eye(10)[y]) / len(y)
        weight, state_w = reference.namsg(weight, error.T @ x, state_w, alpha, beta1, beta2, eta(k))
        bias, state_b = reference.namsg(bias, error.sum(axis=0), state_b, alpha, beta1, beta2, eta(k))
    return np.concatenate(losses).mean(), weight, bias


def test_an_epoch_is_the_papers_algorithm_in_float64(tmp_path):
    """Data, order, batches, loss, schedule and update in one: train loss and parameters are those of NumPy alone.

    The last batch has 44 examples, by which its gradient is divided.
    """
    run = tiny_run(tmp_path, text=CONFIG.replace("weight_decay: 0.001", "weight_decay: 0"))
    data_set = data.load(run.settings["data"], None)
    net = models.build(run.settings["model"], run.seed, mx.cpu())
    weight, bias = (p.data().asnumpy().astype(np.float64) for p in net.collect_params().values())
    expected, *parameters = logistic_regression_in_float64(data_set, weight, bias, 0, 64, 5, 0.005, 0.9, 0.99,
                                                           ObservationDistance(5))
    record = make(run, tmp_path, 1)
    row, = record.epochs.rows()
    assert row["train_loss"] == pytest.approx(expected, rel=1e-5)
    with zipfile.ZipFile(record.folder / "checkpoint.zip") as checkpoint:
        net.load_parameters(checkpoint.extract("net.params", tmp_path))
    for p, trained in zip(net.collect_params().values(), parameters):
        np.testing.assert_allclose(p.data().asnumpy(), trained, atol=1e-5)
    assert row["updates"] == 5
    assert row["eta"] == pytest.approx(ObservationDistance(5)(4))
    assert row["learning_rate"] == 0.005


def test_the_recorded_losses_are_those_of_the_network(tmp_path):
    """Test loss and accuracy, and the loss over the whole training set, from the checkpoint's weights by NumPy."""
    run = tiny_run(tmp_path)
    record = make(run, tmp_path, 2)
    net = models.build(run.settings["model"], 5, mx.cpu())
    with zipfile.ZipFile(record.folder / "checkpoint.zip") as checkpoint:
        net.load_parameters(checkpoint.extract("net.params", tmp_path))
    weight, bias = (p.data().asnumpy().astype(np.float64) for p in net.collect_params().values())
    train_part, test_part = data.load(run.settings["data"], None)

    def evaluate(part):
        logits = part.images.reshape(len(part.labels), -1) @ weight.T + bias
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), part.labels]
        return losses.mean(), (logits.argmax(axis=1) == part.labels).mean()

    row = record.epochs.rows()[-1]
    assert (row["test_loss"], row["test_accuracy"]) == pytest.approx(evaluate(test_part), rel=1e-5)
    assert row["train_loss_full"] == pytest.approx(evaluate(train_part)[0], rel=1e-5)


@pytest.mark.parametrize("method", ["namsg", "adam"])
def test_more_epochs_go_on_from_the_checkpoint_to_the_bit(tmp_path, method):
    run = tiny_run(tmp_path, method)
    make(run, tmp_path / "whole", 3)
    for epochs in (1, 2, 3):
        make(run, tmp_path / "parts", epochs)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


class OnServers(Workers):
    """One worker, whose optimizer's states are in no checkpoint."""

    updates_on_servers = True


def test_an_interrupted_run_whose_servers_keep_its_states_begins_anew(tmp_path):
    """Going on, it would have the weights of its checkpoint, and moments of 0."""
    run, whole = tiny_run(tmp_path), make(tiny_run(tmp_path), tmp_path / "whole", 2)

    def interrupt(row):
        raise KeyboardInterrupt

    made = []
    with pytest.raises(KeyboardInterrupt):
        train(run, options(tmp_path, 2), interrupt, OnServers())
    train(run, options(tmp_path, 2), lambda row: made.append(row["epoch"]), OnServers())
    assert made == [1, 2]
    assert RunRecord(tmp_path / run.folder).epochs.path.read_bytes() == whole.epochs.path.read_bytes()


def test_a_network_with_batchnorm_goes_on_to_the_bit_whatever_the_process_built_before(tmp_path):
    """A checkpoint has the states in the order of the parameters' names, which Gluon counts in each process."""
    run = tiny_run(tmp_path, text=CONFIG.replace("logistic_regression", "mnist_cnn"))
    make(run, tmp_path / "whole", 2)
    for epochs in (1, 2):
        for _ in range(2):
            models.build(run.settings["model"], 0, mx.cpu())
        make(run, tmp_path / "parts", epochs)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_asked_for_fewer_epochs_nothing_that_was_complete_is_lost(tmp_path):
    run = tiny_run(tmp_path)
    make(run, tmp_path, 2)
    before = numbers(tmp_path)
    make(run, tmp_path, 1)
    assert numbers(tmp_path) == before


def test_a_damaged_checkpoint_stops_the_run_and_nothing_is_replaced(tmp_path):
    run = tiny_run(tmp_path)
    record = make(run, tmp_path, 1)
    checkpoint = record.folder / "checkpoint.zip"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    before = numbers(tmp_path)
    with pytest.raises(RecordError, match="checkpoint.zip: damaged"):
        make(run, tmp_path, 2)
    assert numbers(tmp_path) == before


@pytest.mark.parametrize("error", [MemoryError("711 PiB"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_too_little_memory_or_disk_is_no_damage(tmp_path, monkeypatch, error):
    """Which would tell the user to delete the run."""
    run = tiny_run(tmp_path)
    make(run, tmp_path, 1)
    before = numbers(tmp_path)

    def restore(self, state):
        raise error

    with monkeypatch.context() as patched, pytest.raises(type(error), match="711 PiB|No space left on device"):
        patched.setattr(Training, "restore", restore)
        make(run, tmp_path, 2)
    assert numbers(tmp_path) == before
    make(run, tmp_path, 2)


TOO_LARGE = """
import resource
from experiments.training.loop import is_of_memory
import mxnet as mx
mx.nd.save("zeros", {arrays})
content = open("zeros", "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {more}, resource.RLIM_INFINITY))
try:
    mx.nd.load_frombuffer(content)
except Exception as error:
    print(type(error).__name__, is_of_memory(error))
"""


@pytest.mark.parametrize(("arrays", "more"), [("mx.nd.zeros(2**24)", 2**24), ("[mx.nd.zeros(3)] * 60000", 2**10)])
def test_too_little_memory_is_known_by_mxnets_words(tmp_path, arrays, more):
    """More is loaded than the process may take: one large array, or many small ones."""
    ended = subprocess.run([sys.executable, "-c", TOO_LARGE.format(arrays=arrays, more=more)], cwd=tmp_path,
                           check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=dict(os.environ, PYTHONPATH=str(CHECKOUT)))
    assert ended.stdout in ("MXNetError True\n", "MemoryError True\n"), ended.stderr


@pytest.mark.parametrize("is_older", [False, True])
def test_a_checkpoint_whose_members_are_hidden_is_never_a_start_from_initial_weights(tmp_path, is_older):
    run = tiny_run(tmp_path)
    record = make(run, tmp_path, 1)
    if is_older:
        make_older(record.folder)
    hide_members(record.folder / "checkpoint.zip")
    before = numbers(tmp_path)
    with pytest.raises(RecordError, match="checkpoint.zip: damaged"):
        make(run, tmp_path, 2)
    assert numbers(tmp_path) == before


def replace_member(checkpoint, name, content):
    with zipfile.ZipFile(checkpoint) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(checkpoint, "w") as archive:
        for each, old in members.items():
            archive.writestr(each, content if each == name else old)


@pytest.mark.parametrize("name", ["net.params", "trainer.states"])
@pytest.mark.parametrize("content", [b"", b"half", bytes(200)])
@pytest.mark.parametrize("is_older", [False, True])
def test_a_member_that_mxnet_cannot_read_is_damage(tmp_path, name, content, is_older):
    run = tiny_run(tmp_path)
    record = make(run, tmp_path, 1)
    if is_older:
        make_older(record.folder)
    replace_member(record.folder / "checkpoint.zip", name, content)
    with pytest.raises(RecordError, match="checkpoint.zip: damaged") as raised:
        make(run, tmp_path, 2)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("other", [("namsg", 1), ("adam", 0)])
def test_another_runs_checkpoint_is_not_gone_on_from(tmp_path, other):
    run, (method, seed) = tiny_run(tmp_path), other
    record = make(run, tmp_path, 1)
    another = config.load(tmp_path / "tiny.yaml").runs([method], [seed])[0]
    make(another, tmp_path, 1)
    shutil.copy(tmp_path / another.folder / "checkpoint.zip", record.folder)
    with pytest.raises(RecordError, match=f"checkpoint.zip: is of another run, {another.id}"):
        make(run, tmp_path, 2)


def test_an_older_checkpoint_is_gone_on_from_to_the_bit(tmp_path):
    run = tiny_run(tmp_path)
    make(run, tmp_path / "whole", 3)
    make_older(make(run, tmp_path / "parts", 2).folder)
    make(run, tmp_path / "parts", 3)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


class UpdatesElsewhere(Workers):
    updates_on_servers = True   # so that the state is the network alone


@pytest.mark.parametrize("size", ["4k", "28k"])
def test_a_full_folder_for_temporary_files_is_noticed_and_named(tmp_path, monkeypatch, size):
    """The weights have 31 KB; of a disk of 28, MXNet fails to write no more than the rest, which it does not notice."""
    run = tiny_run(tmp_path)
    training = Training(run, data.load(run.settings["data"], None), mx.cpu(), UpdatesElsewhere())
    assert len(training.state()["net.params"]) > 28 * 1024
    with small_disk(tmp_path / "disk", size) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(OSError, match=r"No space left on device, or a limit on .* \(.+\)") as raised:
            training.state()
        assert raised.value.filename == str(disk)
        assert list(disk.iterdir()) == []


def test_a_run_that_diverges_is_recorded_with_its_last_finite_epoch(tmp_path):
    text = CONFIG.replace("learning_rate: 0.005, beta1", "learning_rate: 1.0e+30, beta1")
    run = tiny_run(tmp_path, "adam", text)
    record = make(run, tmp_path, 3)
    done = record.completion()
    assert done["status"] == "diverged"
    rows = record.epochs.rows()
    assert len(rows) == done["epochs"] < 3
    assert all(math.isfinite(row["train_loss"]) for row in rows)


@pytest.mark.parametrize("loss", ["train_loss", "train_loss_full", "test_loss"])
def test_a_run_that_diverges_late_has_exactly_the_epochs_before(tmp_path, monkeypatch, loss):
    def epoch(self, number):
        row, seconds = finite_epoch(self, number)
        return {**row, loss: math.nan if number == 3 else row[loss]}, seconds

    finite_epoch = Training.epoch
    monkeypatch.setattr(Training, "epoch", epoch)
    record = make(tiny_run(tmp_path), tmp_path, 4)
    done = record.completion()
    assert (done["status"], done["epochs"]) == ("diverged", 2)
    assert [row["epoch"] for row in record.epochs.rows()] == [1, 2]


def test_hyper_parameters_out_of_range_are_a_usage_error(tmp_path):
    run = tiny_run(tmp_path)
    run.settings["parameters"]["eta"]["start"] = -0.9   # which a configuration refuses
    with pytest.raises(UsageError, match=r"tiny: namsg: start=-0\.9: must be a number in \[0, inf\)"):
        make(run, tmp_path, 1)


def test_epochs_of_a_schedule_become_updates():
    arguments = optimizer_arguments(
        {"learning_rate": 0.1, "eta": {"schedule": "ObservationDistance", "start": 0.9, "end": 3.0, "epochs": 2}}, 235)
    assert arguments == {"learning_rate": 0.1, "eta": ObservationDistance(470, 0.9, 3.0)}


def test_the_order_derives_from_seed_and_epoch():
    orders = {pair: tuple(epoch_order(*pair, 50)) for pair in ((0, 1), (0, 2), (1, 1))}
    assert len(set(orders.values())) == 3
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert tuple(epoch_order(0, 1, 50)) == orders[0, 1]
    assert list(epoch_order(3, 2, 8)) == [0, 7, 3, 5, 6, 4, 1, 2]   # which recorded runs have


@pytest.mark.parametrize("draw", [lambda: mx.nd.random.uniform(shape=3).asnumpy(), lambda: np.random.rand(3)],
                         ids=["MXNet", "NumPy"])
def test_what_a_network_draws_derives_from_the_seed_and_the_epoch(draw):
    """As a network with Dropout does, from the global generators."""
    drawn = []
    for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1)):
        epoch_order(seed, epoch, 50)
        drawn.append(tuple(draw()))
    assert drawn[0] == drawn[3] and len(set(drawn)) == 3


def test_a_mean_is_added_in_float64():
    assert Workers().mean(np.array([1e8, 1, 1, 1], np.float32)) == 25_000_000.75


def test_initial_weights_derive_from_the_seed():
    nets = [models.build({"name": "logistic_regression"}, seed, mx.cpu()) for seed in (0, 0, 1)]
    a, b, c = (net.weight.data().asnumpy() for net in nets)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert 0.06 < abs(a).max() <= 0.07


@REAL_DATA
def test_ten_updates_on_real_mnist_are_those_of_numpy(tmp_path):
    experiment = config.load(CHECKOUT / "configs" / "mnist_logistic.yaml")
    run = experiment.runs(["namsg"], [0])[0]
    data_set = data.load(run.settings["data"], None)
    first = data.DataSet(data.Part(data_set.train.images[:2560], data_set.train.labels[:2560]),
                         data.Part(data_set.test.images[:1000], data_set.test.labels[:1000]))
    net = models.build(run.settings["model"], 0, mx.cpu())
    weight, bias = (p.data().asnumpy().astype(np.float64) for p in net.collect_params().values())
    expected, weight, bias = logistic_regression_in_float64(first, weight, bias, 0, 256, 10, 0.005, 0.9, 0.999,
                                                         ObservationDistance(10))
    training = Training(run, first, mx.cpu())
    row, _ = training.epoch(1)
    assert row["train_loss"] == pytest.approx(expected, rel=1e-5)
    (tmp_path / "net.params").write_bytes(training.state()["net.params"])
    trained = mx.nd.load(str(tmp_path / "net.params"))
    for name, values in (("weight", weight), ("bias", bias)):   # after the last update, which no train loss is of
        np.testing.assert_allclose(trained[name].asnumpy(), values, rtol=0, atol=1e-5)
