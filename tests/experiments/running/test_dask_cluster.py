"""A sweep on a real Dask cluster of processes on loopback: a worker is killed in mid-run, another joins late."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_experiment import CONFIG, command, experiments, numbers, write_config

from experiments.running.attempt import UNUSABLE
from experiments.vocabulary import config
from experiments.vocabulary.config import RunOptions
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.records import RunRecord

distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra 'cluster')")
CHECKOUT = Path(__file__).parents[3]
EPOCHS = 30   # long enough that a worker is still in the middle of its run when it is killed
LONG = CONFIG.replace("train: 300", "train: 3000").replace("seeds: 0-1", "seeds: 0-2").replace(
    "epochs: 3", f"epochs: {EPOCHS}")


@pytest.fixture
def scheduler(tmp_path):
    address_file = tmp_path / "scheduler.json"
    process = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port",
                                "0", "--no-dashboard", "--scheduler-file", str(address_file)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not address_file.exists():
            assert process.poll() is None
            time.sleep(0.1)
        with distributed.Client(scheduler_file=str(address_file)) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def start_worker(client, name, path=None):
    """A worker that imports from ``path``, the checkout by default."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=path or str(CHECKOUT))
    return subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--name",
                             name, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=path)


def under_way(results):
    return [path.parent for path in results.glob("tiny/*/*/checkpoint.zip") if not (path.parent / "done.json").exists()]


def has_just_begun(worker, results):
    """Whether a worker is in the first half of a run: it holds the run's lock, and has recorded two epochs."""
    for descriptor in Path(f"/proc/{worker.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):   # closed meanwhile
            path = Path(os.readlink(descriptor))
            if results in path.parents and path.name == "run.lock":
                return 2 <= len(RunRecord(path.parent).seconds.rows()) < EPOCHS // 2
    return False


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_and_one_that_joins_late_helps(tmp_path, scheduler):
    """Four workers and a late fifth make six runs, each once and as one process makes them."""
    path = write_config(tmp_path, LONG)
    results = tmp_path / "results"
    workers = {name: start_worker(scheduler, name) for name in ("one", "two", "three", "four")}
    try:
        scheduler.wait_for_workers(4)
        sweep = subprocess.Popen(**command("run", path, "--results", results, "--scheduler",
                                           scheduler.scheduler.address))
        while not (begun := [worker for worker in workers.values() if has_just_begun(worker, results)]):
            assert sweep.poll() is None, sweep.communicate()
            time.sleep(0.05)
        begun[0].kill()
        workers["late"] = start_worker(scheduler, "late")
        output, error = sweep.communicate()
        assert sweep.returncode == 0, error
        assert output.count(": done") == 6
        assert all(len(RunRecord(folder).seconds.rows()) == EPOCHS for folder in results.glob("tiny/*/*"))
        begun = [len(json.loads(path.read_text())) for path in results.glob("tiny/*/*/environment.json")]
        assert sorted(begun) == [1] * 5 + [2]   # the run of the worker that was killed has gone on elsewhere
        assert experiments("run", path, "--results", tmp_path / "local").returncode == 0
        assert numbers(results) == numbers(tmp_path / "local")
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()


def test_no_scheduler_is_one_line(tmp_path):
    result = experiments("run", write_config(tmp_path), "--results", tmp_path, "--scheduler", "tcp://127.0.0.1:9")
    assert result.returncode == 2
    assert "--scheduler tcp://127.0.0.1:9: no Dask scheduler answers there" in result.stderr


@pytest.mark.slow
def test_a_worker_that_cannot_import_the_experiments_is_one_line(tmp_path, scheduler):
    (tmp_path / "experiments.py").write_text("")
    worker = start_worker(scheduler, "elsewhere", str(tmp_path))
    try:
        scheduler.wait_for_workers(1)
        address = scheduler.scheduler.address
        result = experiments("run", write_config(tmp_path), "--results", tmp_path, "--scheduler", address)
        assert result.returncode == 2
        assert f"--scheduler {address}: a worker cannot import experiments.running.dask_cluster (" in result.stderr
        assert result.stderr.count("\n") == 1
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.slow
def test_the_command_says_that_no_worker_is_left_and_goes_on_with_the_next(tmp_path, scheduler):
    """The first joins late, so that nothing has asked whether it can import the experiments."""
    (tmp_path / "experiments.py").write_text("")
    path, results = write_config(tmp_path), tmp_path / "results"
    workers = []
    try:
        with subprocess.Popen(**command("run", path, "--results", results, "--scheduler",
                                        scheduler.scheduler.address)) as sweep:
            lines = iter(sweep.stdout.readline, "")
            next(line for line in lines if "no worker yet; the runs begin when one joins" in line)
            workers.append(start_worker(scheduler, "elsewhere", str(tmp_path)))
            next(line for line in lines if "no worker is left (the last one's output says why); the runs go on" in line)
            workers.append(start_worker(scheduler, "here"))
            output, error = sweep.communicate()
        assert sweep.returncode == 0, error
        assert output.count(": done") == 4
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.mark.slow
def test_a_workers_address_is_no_schedulers(tmp_path, scheduler):
    worker = start_worker(scheduler, "one")
    try:
        scheduler.wait_for_workers(1)
        address, = scheduler.scheduler_info()["workers"]
        result = experiments("run", write_config(tmp_path), "--results", tmp_path, "--scheduler", address)
        assert result.returncode == 2
        assert result.stderr == (f"experiments: --scheduler {address}: a Dask worker answers there, not a scheduler\n")
    finally:
        worker.kill()
        worker.wait()


def test_a_worker_that_has_loaded_mxnet_with_other_threads_makes_no_run(monkeypatch, tmp_path):
    """Its numbers would be those of its own threads."""
    from experiments.running import dask_cluster

    assert "mxnet" in sys.modules
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run, *_ = config.load(write_config(tmp_path)).runs()
    status, reason = dask_cluster._train_on_worker(run, RunOptions(tmp_path, 3, None, "cpu", threads=2), "a topic")
    assert status == UNUSABLE
    assert reason == "--threads 2: a worker has loaded MXNet with OMP_NUM_THREADS=1; restart the workers"
    assert not (tmp_path / "tiny").exists()


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_one_line(tmp_path, scheduler):
    results = tmp_path / "results"
    worker = start_worker(scheduler, "one")
    try:
        sweep = subprocess.Popen(**command("run", write_config(tmp_path, LONG), "--results", results, "--scheduler",
                                           scheduler.scheduler.address))
        while not under_way(results):
            assert sweep.poll() is None, sweep.communicate()
            time.sleep(0.05)
        address = scheduler.scheduler.address
        os.kill(scheduler.run_on_scheduler(os.getpid), signal.SIGKILL)
        _, error = sweep.communicate()
        assert sweep.returncode == 1
        assert error.strip() == (f"experiments: --scheduler {address}: the scheduler is lost; with another one, the "
                                 "same command makes the rest")
    finally:
        worker.kill()
        worker.wait()


def test_what_answers_otherwise_or_not_at_all_is_no_scheduler(monkeypatch):
    from experiments.running import dask_cluster

    monkeypatch.setattr(dask_cluster, "ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:   # accepts, in its backlog
        for address in (f"tcp://127.0.0.1:{silent.getsockname()[1]}", "tcp://no such host:1", "nonsense://", ""):
            with pytest.raises(UsageError, match="no Dask scheduler answers there"):
                dask_cluster._check_scheduler(address)
