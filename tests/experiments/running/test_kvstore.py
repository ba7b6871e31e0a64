"""Runs on MXNet's kvstore, with real processes on loopback: trajectories, kills, and what is refused."""

import contextlib
import csv
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from loopback import cluster, free_port
from tiny_experiment import CONFIG, experiments, numbers, write_config

from experiments.commands import cli
from experiments.running import kvstore_process
from experiments.running.kvstore_workers import KVStoreWorkers
from experiments.training import data
from experiments.training.loop import Training
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.errors import RecordError, UsageError
from experiments.vocabulary.records import RunRecord

CHECKOUT = Path(__file__).parents[3]
ONE_RUN = CONFIG.replace("seeds: 0-1", "seeds: 0-0")
SILENT_SECONDS = 10   # also while they start, on a busy machine


def run_arguments(path, results, *more):
    return ["-m", "experiments", "run", path, "--results", results, "--kvstore", "dist_sync", *more]


def rows(results, method="namsg"):
    path, = results.glob(f"tiny/{method}/*/epochs.csv")
    with open(path) as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def assert_same_trajectory(results, expected):
    """Float32 sums in another order: the tolerance is some hundred roundings."""
    assert len(rows(results)) == len(rows(expected)) == 3
    for row, expected_row in zip(rows(results), rows(expected)):
        assert row == pytest.approx(expected_row, rel=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A configuration, and its results from one process without a kvstore."""
    folder = tmp_path_factory.mktemp("alone")
    path = write_config(folder, ONE_RUN)
    result = experiments("run", path, "--results", folder / "results", "--method", "namsg")
    assert result.returncode == 0, result.stderr
    return path, folder / "results"


def test_two_workers_started_by_the_launcher_follow_the_trajectory_of_one_process(tmp_path, alone):
    """All methods of the configuration, one after the other in the same processes, by MXNet's local launcher."""
    path, expected = alone
    result = subprocess.run([sys.executable, "-m", "experiments.launch", "-n", "2", "-s", "2", "--launcher", "local",
                             sys.executable, *map(str, run_arguments(path, tmp_path))], text=True, check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=dict(os.environ, PYTHONPATH=str(CHECKOUT)))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(": done") == 2   # worker 0 alone speaks
    assert_same_trajectory(tmp_path, expected)
    assert len(rows(tmp_path, "adam")) == 3


@pytest.mark.slow
def test_updates_on_servers_with_four_workers_follow_the_trajectory_of_one_process(tmp_path, alone):
    path, expected = alone
    arguments = run_arguments(path, tmp_path, "--update-on-servers", "--method", "namsg")
    with cluster(arguments, workers=4, servers=2) as processes:
        outputs = [worker.communicate() for worker in processes["worker"]]
        assert [process.wait() for process in sum(processes.values(), [])] == [0] * 7, outputs
    assert_same_trajectory(tmp_path, expected)


@pytest.mark.slow
def test_an_average_with_batch_norm_of_each_workers_own_is_refused(tmp_path):
    text = ONE_RUN.replace("    source:", "    averaging: {decay: 0.9, batch_norm_batches: 1}\n    source:")
    with cluster(run_arguments(write_config(tmp_path, text), tmp_path, "--method", "namsg")) as processes:
        outputs = [worker.communicate() for worker in processes["worker"]]
        assert all("averaging: not with --kvstore" in error for _, error in outputs), outputs


@pytest.mark.slow
def test_dist_async_trains(tmp_path, alone):
    """Each worker's part of a batch is an update of its own, so that there are twice as many."""
    path, expected = alone
    arguments = run_arguments(path, tmp_path, "--kvstore", "dist_async", "--method", "namsg")
    with cluster(arguments) as processes:
        outputs = [worker.communicate() for worker in processes["worker"]]
        assert [worker.returncode for worker in processes["worker"]] == [0, 0], outputs
    made = rows(tmp_path)
    assert [row["updates"] for row in made] == [2 * row["updates"] for row in rows(expected)]
    assert [row["eta"] for row in made] == [pytest.approx(0.9 + 2.1 * 9 / 10), 3, 3]
    assert made[2]["train_loss_full"] < rows(expected)[2]["train_loss_full"]


@pytest.mark.slow
def test_a_worker_is_killed_the_others_stop_and_the_run_goes_on_to_the_same_bytes(tmp_path):
    """With BatchNorm, whose statistics are each worker's own within an epoch."""
    text = ONE_RUN.replace("train: 300", "train: 600").replace("logistic_regression", "mnist_cnn")
    text = text.replace("epochs: 3", "epochs: 15")
    path = write_config(tmp_path, text)
    results = tmp_path / "results"
    arguments = run_arguments(path, results, "--method", "namsg")
    with cluster(arguments, NAMSG_SILENT_SECONDS=str(SILENT_SECONDS)) as processes:
        while not list(results.glob("tiny/*/*/checkpoint.zip")):
            assert processes["worker"][0].poll() is None, processes["worker"][0].communicate()
            time.sleep(0.02)
        processes["worker"][1].kill()
        others = [*processes["scheduler"], *processes["server"], processes["worker"][0]]
        errors = [process.communicate()[1] for process in others]
        assert [process.returncode for process in others] == [1] * 3   # 0: the run was complete before
        assert "nothing heard of worker" in errors[0]
        assert all("nothing heard of the scheduler" in error for error in errors[1:])
        assert all(error.strip().count("\n") == 0 for error in errors), errors
    assert not list(results.glob("tiny/*/*/done.json"))
    for folder in (results, tmp_path / "whole"):
        with cluster(run_arguments(path, folder, "--method", "namsg")) as processes:
            ended = [worker.communicate() for worker in processes["worker"]]
            assert [worker.returncode for worker in processes["worker"]] == [0, 0], ended
    assert numbers(results) == numbers(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("content", "more", "message"), [
    (ONE_RUN, ["--update-on-servers"], "all workers must be given the same command: worker 1 has updates_on "),
    ("title: nothing", [], "other.yaml: seeds is missing")])
def test_one_worker_with_another_command_ends_all_at_once_and_trains_nothing(tmp_path, content, more, message):
    path, other = write_config(tmp_path, ONE_RUN), write_config(tmp_path, content, "other")
    arguments = run_arguments(path, tmp_path / "results", "--method", "namsg")
    last = run_arguments(other if content != ONE_RUN else path, tmp_path / "results", "--method", "namsg", *more)
    with cluster(arguments, last=last) as processes:
        outputs = [worker.communicate() for worker in processes["worker"]]
        assert [worker.returncode for worker in processes["worker"]] == [2, 2], outputs
        assert [process.wait() for process in processes["scheduler"] + processes["server"]] == [0, 0]
    for output, error in outputs:
        assert output == ""
        assert message in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "results").exists()


VARIABLES = {"DMLC_ROLE": "worker", "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": "9091",
             "DMLC_NUM_WORKER": "2", "DMLC_NUM_SERVER": "1"}


@pytest.mark.parametrize("name, value", [
    ("DMLC_ROLE", "foo"), ("DMLC_ROLE", ""), ("DMLC_NUM_SERVER", "0"), ("DMLC_NUM_SERVER", "-1"),
    ("DMLC_NUM_WORKER", "two"), ("DMLC_NUM_WORKER", "\u0662"), ("DMLC_PS_ROOT_PORT", "abc"),
    ("DMLC_PS_ROOT_PORT", "65536"), ("DMLC_PS_ROOT_URI", "no such host"), ("NAMSG_SILENT_SECONDS", "0"),
    ("NAMSG_SILENT_SECONDS", "9" * 5000)])
def test_what_a_launcher_sets_is_checked(tmp_path, monkeypatch, capsys, name, value):
    for each in {**VARIABLES, name: value}.items():
        monkeypatch.setenv(*each)
    assert cli.main(["run", str(write_config(tmp_path)), "--results", str(tmp_path), "--kvstore", "dist_sync"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"experiments: {name}=") and error.count("\n") == 1


def test_on_kubernetes_the_schedulers_name_may_come_later(monkeypatch):
    for each in {**VARIABLES, "DMLC_PS_ROOT_URI": "no such host", "DMLC_USE_KUBERNETES": "1"}.items():
        monkeypatch.setenv(*each)
    kvstore_process.check_environment()


def test_a_port_that_is_taken_is_one_line(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for each in {**VARIABLES, "DMLC_ROLE": "scheduler", "DMLC_PS_ROOT_PORT": str(port)}.items():
            monkeypatch.setenv(*each)
        arguments = ["run", str(write_config(tmp_path)), "--results", str(tmp_path), "--kvstore", "dist_sync"]
        assert cli.main(arguments) == 2
    assert capsys.readouterr().err == f"experiments: DMLC_PS_ROOT_PORT={port}: taken by another process\n"


def test_a_command_for_one_process_is_refused_where_a_launcher_starts_many(tmp_path):
    result = subprocess.run([sys.executable, "-m", "experiments.launch", "-n", "2", sys.executable, "-m", "experiments",
                             "run", str(write_config(tmp_path)), "--results", str(tmp_path / "results")], check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("experiments: --kvstore is missing") and result.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_process_that_is_still_joining_notices_that_the_scheduler_is_gone(tmp_path):
    """A scheduler that was there when the process first asked, as told by a call that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = dict(os.environ, **{**VARIABLES, "DMLC_PS_ROOT_PORT": str(listener.getsockname()[1]),
                                          "DMLC_NODE_HOST": "127.0.0.1"})
        process = subprocess.Popen([sys.executable, *map(str, run_arguments(write_config(tmp_path), tmp_path))],
                                   env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        calls = []
        while True:
            calls.append(listener.accept()[0])   # kept, as ps-lite would call again
            calls[-1].settimeout(0.5)
            with contextlib.suppress(socket.timeout):
                if not calls[-1].recv(1):
                    break
    for call in calls:
        call.close()
    output, error = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert error == "experiments: worker: the scheduler is gone; start all the processes again\n"


@pytest.mark.slow
@pytest.mark.parametrize("role", ["scheduler", "server"])
def test_a_process_that_is_slow_to_start_ps_lite_is_not_asked_for_heartbeats_before(role):
    """MXNet crashes then: the process ended with 255, and all the others with it."""
    script = ("import os, time; from experiments.running import kvstore_process, kvstore_server\n"
              f"os.environ['DMLC_ROLE'] = {role!r}\n"
              "kvstore_server.Server.run = lambda self: time.sleep(2.5)\n"
              "with kvstore_process.join('dist_sync', False, 1): print('served')")
    result = subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **VARIABLES, "DMLC_PS_ROOT_PORT": str(free_port()),
                                 "PYTHONPATH": str(CHECKOUT)})
    assert (result.returncode, result.stdout) == (0, "served\n")


@pytest.mark.parametrize("call", ["_set_optimizer(None)", "_controller()(TO_SERVERS, b'no pickle', None)"])
def test_a_server_ends_with_its_first_error(call):
    """In an update, or in taking an optimizer. MXNet's would go on, with weights that do not move."""
    script = ("from types import SimpleNamespace; from experiments.running.kvstore_server import TO_SERVERS, Server\n"
              "kvstore = SimpleNamespace(handle=None, _set_updater=lambda update: update(0, 1, 1))\n"
              f"Server(kvstore, None).{call}\nprint('goes on')")
    result = subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("experiments: a server fails: ")


@pytest.mark.slow
def test_a_process_that_never_comes_ends_the_others():
    script = ("from experiments.running import kvstore_process; kvstore_process.JOINING_SECONDS = 1\n"
              "with kvstore_process.join('dist_sync', False, 1): print('served')")
    result = subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, **VARIABLES, "DMLC_ROLE": "server",
                                            "DMLC_PS_ROOT_PORT": str(free_port()), "PYTHONPATH": str(CHECKOUT)})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "experiments: a process is missing after 1 s"


def group_of(count, rank=0):
    return KVStoreWorkers(SimpleNamespace(type="dist_sync", rank=rank, num_workers=count,
                                 _send_command_to_servers=lambda command, content: None), False)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_workers_share_each_batch_without_overlap_or_loss(count):
    groups = [group_of(count, rank) for rank in range(count)]
    order = np.random.RandomState(0).permutation(300)
    parts = [group.part(order, 64) for group in groups]
    for k in range(5):
        shares = [part[k * size:(k + 1) * size] for part, size in parts]
        assert sorted(np.concatenate(shares)) == sorted(order[k * 64:(k + 1) * 64])
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(UsageError, match="the last batch of an epoch has 3 examples, too few for 4 workers"):
        group_of(4).part(order[:67], 64)


def test_each_worker_has_a_test_image(tmp_path):
    run, *_ = config.load(write_config(tmp_path, ONE_RUN.replace("test: 100", "test: 2"))).runs()
    data_set = data.load(run.settings["data"], None)
    with pytest.raises(UsageError, match="--kvstore: 2 test images are too few for 3 workers"):
        Training(run, data_set, mx.cpu(), group_of(3))


COMMAND = {"kvstore": "dist_sync", "epochs": 3, "number of runs": 1, "run 1": "tiny/adam/a"}


@pytest.mark.parametrize(("other", "message"), [
    ({}, None), ({"epochs": 4}, "worker 2 has epochs 4, and worker 0 3"),
    ({"run 1": "tiny/namsg/b"}, "worker 2 has run 1 tiny/namsg/b, and worker 0 tiny/adam/a"),
    ({"number of runs": 2, "run 2": "tiny/namsg/b"}, "worker 2 has number of runs 2, and worker 0 1")])
def test_commands_are_compared(monkeypatch, other, message):
    group = group_of(3)
    monkeypatch.setattr(group, "exchange", lambda command: [command, dict(command), {**command, **other}])
    if message is None:
        group.begin(COMMAND)
    else:
        with pytest.raises(UsageError, match=message):
            group.begin(COMMAND)


def test_what_one_worker_cannot_use_none_goes_on_with(monkeypatch):
    def fail():
        raise UsageError("no data here")

    group = group_of(2)
    monkeypatch.setattr(group, "exchange", lambda error: [None, error])
    assert group.agree(lambda: "ready") == "ready"
    with pytest.raises(UsageError, match="no data here"):
        group.agree(fail)
    monkeypatch.setattr(group, "exchange", lambda error: [error, UsageError("no data there")])
    with pytest.raises(UsageError, match="no data there"):
        group.agree(lambda: "ready")


class Adding:
    """What one worker needs of a kvstore to gather its own numbers."""

    type, rank, num_workers = "dist_sync", 0, 1

    def __init__(self):
        self.sums = {}

    def init(self, key, value):
        self.sums[key] = value.copy()

    def push(self, key, value):
        self.sums[key] += value

    def pull(self, key, out):
        self.sums[key].copyto(out)

    def _barrier(self):
        pass

    def _send_command_to_servers(self, command, content):
        pass


def test_numbers_are_gathered_as_they_are_and_infinite_ones_stay_infinite():
    numbers = np.array([0.1, 1 / 3, -2.5e-20, 3e38, np.inf, -np.inf, np.nan, 1e39])
    gathered = KVStoreWorkers(Adding(), False).gather(numbers)[0]
    np.testing.assert_allclose(gathered[:4], numbers[:4], rtol=2.0**-47)
    np.testing.assert_array_equal(gathered[4:], [np.inf, -np.inf, np.nan, np.inf])


def test_statistics_are_averaged_array_by_array(monkeypatch):
    group = group_of(2)
    monkeypatch.setattr(group, "gather", lambda numbers: np.stack([numbers, numbers + 2]))
    arrays = [mx.nd.array([[1.0, 2.0], [3.0, 4.0]]), mx.nd.array([5.0])]
    group.average(arrays)
    assert [array.asnumpy().tolist() for array in arrays] == [[[2, 3], [4, 5]], [6]]
    group.average([])


@pytest.mark.parametrize("arguments, message", [
    (["--kvstore", "dist_sync"], "--kvstore: DMLC_ROLE is not set; python -m experiments.launch starts the processes"),
    (["--kvstore", "dist_sync", "--jobs", "2"], "not with --scheduler or --jobs"),
    (["--kvstore", "local"], "invalid choice: 'local'"),
    (["--update-on-servers"], "--update-on-servers: only with --kvstore"),
])
def test_bad_options_are_one_line(tmp_path, capsys, arguments, message):
    assert cli.main(["run", str(write_config(tmp_path)), "--results", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_records_know_their_workers(tmp_path):
    run = config.load(write_config(tmp_path)).runs(["namsg"], [0])[0]
    how = RunOptions(tmp_path, 3, None, "cpu", 1)
    two = how._replace(distributed={"kvstore": "dist_sync", "workers": 2, "updates_on": "workers"})
    assert "distributed" not in run.config_json(how)   # what was recorded before there were any stays as it is
    for made, asked in ((how, two), (two, how)):
        record = RunRecord(tmp_path / str(made.distributed))
        with record.lock():
            record.begin(run.config_json(made))
            row = dict.fromkeys([*record.epochs.columns, *record.seconds.columns], 1)
            record.add_epoch(row, row, {})
        record.check(run.config_json(made))
        with pytest.raises(UsageError, match="recorded with .*--kvstore.*asked for .*--kvstore.*another --results"):
            record.check(run.config_json(asked))


def test_a_run_whose_states_are_not_saved_begins_anew_but_never_over_a_complete_one(tmp_path):
    record = RunRecord(tmp_path)
    row = dict.fromkeys([*record.epochs.columns, *record.seconds.columns], 1)
    run = config.load(write_config(tmp_path)).runs(["namsg"], [0])[0]
    made = run.config_json(RunOptions(tmp_path, 1, None, "cpu", 1))
    with record.lock():
        record.begin(made, goes_on=False)
        record.add_epoch(row, row, {})
        assert record.begin(made, goes_on=False) == (0, {})
        assert record.epochs.rows() == []
        record.add_epoch(row, row, {})
        record.finish(1, "done")
        with pytest.raises(RecordError, match="complete, and cannot go on, as its servers did not save their states"):
            record.begin(made, goes_on=False)
        assert len(record.epochs.rows()) == 1
