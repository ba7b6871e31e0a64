"""Many runs in real processes: kills, interrupts, two runners at once, failures that are not the others'."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import mxnet as mx
import pytest
from tiny_experiment import CONFIG, command, experiments, numbers, record, small_disk, write_config

from experiments.running.attempt import ENDED, FAILED, conclude, try_run
from experiments.running.pool import train_in_pool
from experiments.training import loop
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS
from experiments.vocabulary.records import RunRecord

# Long enough to be killed in any part of it.
SLOW = CONFIG.replace("train: 300", "train: 3000").replace("seeds: 0-1", "seeds: 0-0")
SLOW = SLOW.replace("epochs: 3", "epochs: 30")
TINY_CNN = CONFIG.replace("logistic_regression", "mnist_cnn").replace("seeds: 0-1", "seeds: 0-2")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    path = write_config(folder, SLOW)
    result = experiments("run", path, "--results", folder / "results", "--jobs", "2")
    assert result.returncode == 0, result.stderr
    return path, numbers(folder / "results")


def epochs_made(results):
    return sum(path.read_bytes().count(b"\n") - 1 for path in results.glob("*/*/*/epochs.csv"))


def wait_for_another_epoch(process, results):
    before = epochs_made(results)
    while epochs_made(results) <= before and process.poll() is None:
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again_it_is_the_same_to_the_byte(tmp_path, uninterrupted):
    """Half of the kills come while the processes start, half while they train."""
    path, expected = uninterrupted
    moments = random.Random(0)
    kills = 0
    for i in range(4):
        process = subprocess.Popen(**command("run", path, "--results", tmp_path, "--jobs", "2", start_new_session=True,
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        if i % 2:
            wait_for_another_epoch(process, tmp_path)
        try:
            process.wait(moments.uniform(0, 0.3 if i % 2 else 3))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)   # parent and workers at once: nobody has a last word
            process.wait()
            kills += 1
    assert kills > 0
    result = experiments("run", path, "--results", tmp_path, "--jobs", "2")
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path) == expected


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed(tmp_path, uninterrupted):
    path, expected = uninterrupted
    process = subprocess.Popen(**command("run", path, "--results", tmp_path, "--jobs", "2",
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    wait_for_another_epoch(process, tmp_path)
    process.kill()
    process.wait()
    result = experiments("run", path, "--results", tmp_path)   # finds no run locked
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path) == expected


@pytest.mark.slow
def test_two_runners_share_the_work_and_make_each_run_once(tmp_path, uninterrupted):
    path, expected = uninterrupted
    runners = [subprocess.Popen(**command("run", path, "--results", tmp_path, "--jobs", "1")) for _ in range(2)]
    outputs = [runner.communicate() for runner in runners]
    # The first that ends may leave the other at its last run, and says so.
    assert sorted(runner.returncode for runner in runners) in ([0, 0], [0, 1]), outputs
    for runner, (_, error) in zip(runners, outputs):
        assert ("1 of 2 runs are not complete: another process is making them" in error) == (runner.returncode == 1)
    assert numbers(tmp_path) == expected
    for folder in tmp_path.glob("*/*/*"):
        assert len(RunRecord(folder).seconds.rows()) == 30


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_complete_and_exits_130(tmp_path, uninterrupted):
    path, expected = uninterrupted
    process = subprocess.Popen(**command("run", path, "--results", tmp_path, "--jobs", "2", start_new_session=True))
    wait_for_another_epoch(process, tmp_path)
    os.killpg(process.pid, signal.SIGINT)   # as a terminal does
    _, error = process.communicate()
    assert process.returncode == 130
    assert error.strip() == "experiments: interrupted; the same command makes the rest"
    assert experiments("run", path, "--results", tmp_path).returncode == 0
    assert numbers(tmp_path) == expected


def test_no_worker_sees_ctrl_c():
    """Not the first either: the parent here has started no process before."""
    code = """if True:
        import multiprocessing, signal
        from experiments.running.pool import _interrupts_blocked
        for _ in range(2):
            worker = multiprocessing.get_context("spawn").Process(target=signal.raise_signal, args=(signal.SIGINT,))
            with _interrupts_blocked():
                worker.start()
            worker.join()
            print(worker.exitcode)"""
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            check=False)
    assert (result.stdout, result.stderr) == ("0\n0\n", "")


def test_the_display_has_no_thread_that_would_take_ctrl_c():
    """Where the main thread blocks it, the system gives it to another."""
    code = """if True:
        import threading
        from experiments.running.progress import Progress
        with Progress({"run": 0}, 1):
            print(threading.enumerate() == [threading.main_thread()])"""
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            check=False)
    assert (result.stdout, result.stderr) == ("True\n", "")


@pytest.mark.slow
def test_one_run_that_fails_is_reported_and_the_others_go_on(tmp_path):
    path = write_config(tmp_path)
    assert experiments("run", path, "--results", tmp_path, "--seeds", "0", "--epochs", "1", "--method", "adam"
                       ).returncode == 0
    checkpoint = next(tmp_path.glob("tiny/adam/*seed0/checkpoint.zip"))
    checkpoint.write_bytes(b"no zip file")
    result = experiments("run", path, "--results", tmp_path, "--seeds", "0")
    assert result.returncode == 1
    assert result.stderr.strip() == "experiments: 1 of 2 runs failed"
    assert f"adam seed 0: failed: {checkpoint}: damaged" in result.stdout
    assert len(list(tmp_path.glob("tiny/*/*/done.json"))) == 2
    status = experiments("status", path, "--results", tmp_path)
    assert "failed: tiny/adam/" in status.stdout
    assert checkpoint.read_bytes() == b"no zip file"


@pytest.mark.parametrize("file", ["done.json", "config.json", "epochs.csv"])
def test_a_run_whose_records_are_damaged_does_not_stop_the_others(tmp_path, file):
    path = write_config(tmp_path)
    adam, namsg = config.load(path).runs(seeds=[0])
    record(tmp_path, adam, [1.0, 0.5, 0.25], 3)
    whole = (tmp_path / adam.folder / file).read_bytes()
    (tmp_path / adam.folder / file).write_bytes(whole[:20] + b"\n" + whole[20:30])
    result = experiments("run", path, "--results", tmp_path, "--seeds", "0")
    assert (result.returncode, result.stderr) == (1, "experiments: 1 of 2 runs failed\n")
    assert "A tiny experiment: 2 runs of 3 epochs, 0 already complete" in result.stdout
    assert f"adam seed 0: failed: {tmp_path / adam.folder / file}: " in result.stdout
    assert f"; to make the run anew, delete {tmp_path / adam.folder}\n" in result.stdout
    assert RunRecord(tmp_path / namsg.folder).is_complete(3)
    assert (tmp_path / adam.folder / file).read_bytes() == whole[:20] + b"\n" + whole[20:30]


def test_the_records_of_another_run_are_left_as_they_are(tmp_path):
    path = write_config(tmp_path)
    one, other = config.load(path).runs(["adam"])
    record(tmp_path, one, [1.0, 0.5, 0.25], 3)
    (tmp_path / one.folder).rename(tmp_path / other.folder)
    result = experiments("run", path, "--results", tmp_path, "--method", "adam", "--seeds", "1")
    assert (result.returncode, result.stderr) == (1, "experiments: 1 of 1 runs failed\n")
    assert "config.json: is not the configuration of this run" in result.stdout
    assert not (tmp_path / other.folder / "failed.json").exists()


@pytest.mark.parametrize(("error", "reason"), [
    (AssertionError(), "AssertionError"), (ValueError("\nfirst\nsecond"), "ValueError: first"),
    (OSError("libquadmath.so.0: cannot open shared object file"), "libquadmath.so.0: cannot open shared object file"),
    (PermissionError(13, "Permission denied", "a file"), "a file: Permission denied"),
    (MemoryError("711 PiB"), "not enough memory: 711 PiB")])
def test_every_error_has_a_reason_of_one_line(tmp_path, monkeypatch, error, reason):
    def fail(*_):
        raise error

    monkeypatch.setattr(loop, "train", fail)
    run = config.load(write_config(tmp_path)).runs()[0]
    kind, text = try_run(run, RunOptions(tmp_path, 1, None, "cpu", 1), lambda epoch: None)
    assert kind == FAILED
    assert text.endswith(reason)
    assert "\n" not in text and "None" not in text


def test_mxnets_errors_are_told_by_their_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *arguments: mx.nd.ones((2, 3)).reshape((5, 5)))
    run = config.load(write_config(tmp_path)).runs()[0]
    kind, text = try_run(run, RunOptions(tmp_path, 1, None, "cpu", 1), lambda epoch: None)
    assert kind == FAILED
    assert text.startswith("MXNetError: ") and "Check failed" in text and "\n" not in text


def test_a_run_that_is_killed_as_it_ends_is_done(tmp_path):
    """Its mark is set, and stays the last word."""
    run = config.load(write_config(tmp_path)).runs()[0]
    record(tmp_path, run, [1.0, 0.5, 0.25], 3)
    how = RunOptions(tmp_path, 3, None, "cpu", 1)
    assert conclude(run, how, FAILED, "its process was killed by signal 9").status == "done"
    assert RunRecord(tmp_path / run.folder).failure() is None
    assert conclude(run, how._replace(epochs=4), FAILED, "a reason").status == "failed"
    assert RunRecord(tmp_path / run.folder).failure() == "a reason"
    (tmp_path / run.folder / "done.json").write_text("damaged")
    assert conclude(run, how, FAILED, "a reason").reason == "a reason"


def test_a_run_whose_record_is_damaged_as_it_ends_has_failed_for_that(tmp_path):
    run = config.load(write_config(tmp_path)).runs()[0]
    record(tmp_path, run, [1.0, 0.5, 0.25], 3)
    folder = tmp_path / run.folder
    (folder / "epochs.csv").write_text((folder / "epochs.csv").read_text().replace("0.25", "0.75"))
    ended = conclude(run, RunOptions(tmp_path, 3, None, "cpu", 1), ENDED, "")
    assert ended.status == "failed"
    assert ended.reason == (f"{folder / 'epochs.csv'}: damaged: not what was written; to make the run anew, "
                            f"delete {folder}")


def test_a_run_whose_records_are_elsewhere_has_failed(tmp_path):
    """This happens on a cluster whose workers see other folders under the same paths."""
    run = config.load(write_config(tmp_path)).runs()[0]
    ended = conclude(run, RunOptions(tmp_path, 3, None, "cpu", 1), ENDED, "")
    assert ended.status == "failed"
    assert ended.reason == f"{tmp_path / run.folder}: its process has completed the run, but it is not complete here"


def test_a_failure_ends_with_success(tmp_path):
    """Also the failure of another process that failed meanwhile."""
    run = config.load(write_config(tmp_path)).runs()[0]
    record(tmp_path, run, [1.0, 0.5], 3)
    folder = RunRecord(tmp_path / run.folder)
    with folder.lock():
        folder.begin(run.config_json(RunOptions(tmp_path, 2, None, "cpu", 1)))
        RunRecord(folder.folder).fail("a full disk")
        folder.finish(2, "done")
    assert folder.failure() is None


def test_runs_that_another_process_is_at_are_not_complete(tmp_path):
    path = write_config(tmp_path)
    run = config.load(path).runs(["adam"], [0])[0]
    with RunRecord(tmp_path / run.folder).lock():
        result = experiments("run", path, "--results", tmp_path, "--seeds", "0", "--method", "adam")
    assert result.returncode == 1
    assert result.stderr == "experiments: 1 of 1 runs are not complete: another process is making them\n"


def test_a_run_that_another_process_makes_with_other_threads_is_not_what_was_asked_for(tmp_path):
    """It began after this command had looked."""
    path = write_config(tmp_path)
    run = config.load(path).runs(["adam"], [0])[0]
    folder = RunRecord(tmp_path / run.folder)
    with folder.lock():
        process = subprocess.Popen(**command("run", path, "--results", tmp_path, "--seeds", "0"))
        while not (tmp_path / "tiny" / "namsg").exists():   # it makes the other run
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        folder.begin(run.config_json(RunOptions(tmp_path, 3, None, "cpu", 2)))
        folder.add_epoch({**dict.fromkeys(EPOCH_COLUMNS, 0.1), "epoch": 1, "updates": 5},
                         {"epoch": 1, "training": 1.0, "evaluation": 1.0}, {})
        _, error = process.communicate()
    assert process.returncode == 2
    assert "recorded with threads 2, which fixes its numbers; asked for 1" in error


def test_diverged_runs_are_no_failure_and_are_counted(tmp_path):
    path = write_config(tmp_path, CONFIG.replace("learning_rate: 0.005, beta1", "learning_rate: 1.0e+30, beta1"))
    result = experiments("run", path, "--results", tmp_path, "--seeds", "0")
    assert result.returncode == 0, result.stderr
    assert "adam seed 0: diverged" in result.stdout
    assert "namsg seed 0: done" in result.stdout
    table = experiments("table", path, "--results", tmp_path, "--seeds", "0")
    assert "1 diverged" in table.stdout


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    one = ("--seeds", "0", "--method", "namsg")
    path = write_config(tmp_path)
    with small_disk(tmp_path / "disk", "400k") as disk:
        assert experiments("run", path, "--results", disk, *one, "--epochs", "1").returncode == 0
        before = numbers(disk)
        filler = disk / "filler"
        with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        result = experiments("run", path, "--results", disk, *one)
        assert result.returncode == 1
        assert f"{disk / 'tiny'}" in result.stdout and "No space left on device" in result.stdout
        assert "Traceback" not in result.stdout + result.stderr
        assert not list(disk.rglob("*.tmp"))
        filler.unlink()
        complete = {name: content for name, content in numbers(disk).items() if name.endswith("done.json")}
        assert all(before[name] == content for name, content in complete.items())
        assert experiments("run", path, "--results", disk, *one).returncode == 0
        assert experiments("run", path, "--results", tmp_path / "whole", *one).returncode == 0
        assert numbers(disk) == numbers(tmp_path / "whole")


class Watch:
    """What a pool tells its progress: the process that made each epoch. ``at_epoch`` is called after each."""

    def __init__(self, at_epoch=lambda run: None):
        self.processes, self._at_epoch = {}, at_epoch

    def epoch(self, run, _):
        # None is left, if this is the last message of one that was killed.
        self.processes.setdefault(run.seed, set()).update(child.pid for child in multiprocessing.active_children())
        self._at_epoch(run)

    def ended(self, *_):
        pass


def test_a_process_makes_one_run_after_the_other_and_each_as_if_it_were_alone(tmp_path):
    path = write_config(tmp_path, TINY_CNN)
    watch, runs = Watch(), config.load(path).runs(["namsg"])
    outcomes = train_in_pool(runs, RunOptions(tmp_path / "one", 3, None, "cpu", 1, None, None), 1, watch)
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    first, *others = watch.processes.values()
    assert len(first) == 1 and all(other == first for other in others)
    for run in runs:
        alone = experiments("run", path, "--method", "namsg", "--seeds", run.seed, "--results", tmp_path / "alone")
        assert alone.returncode == 0, alone.stderr
    assert numbers(tmp_path / "one") == numbers(tmp_path / "alone")


def test_a_process_that_is_killed_fails_its_run_alone_and_another_makes_the_rest(tmp_path):
    def kill(run):
        if run.seed == 1:
            for child in multiprocessing.active_children():
                child.kill()

    path = write_config(tmp_path, SLOW.replace("seeds: 0-0", "seeds: 0-2"))
    watch, runs = Watch(kill), config.load(path).runs(["adam"])
    outcomes = train_in_pool(runs, RunOptions(tmp_path, 30, None, "cpu", 1, None, None), 1, watch)
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [
        ("done", ""), ("failed", "its process was killed by signal 9"), ("done", "")]
    assert watch.processes[0] == watch.processes[1] != watch.processes[2]
