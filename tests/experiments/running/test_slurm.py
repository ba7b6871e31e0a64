"""The programs for SLURM as they stand in docs/scaling.md, on a cluster of two nodes, which are this machine."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm
from tiny_experiment import CONFIG, experiments, numbers, write_config

CHECKOUT = Path(__file__).parents[3]
PAGE = (CHECKOUT / "docs" / "scaling.md").read_text(encoding="utf-8")
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not slurm.is_here(), reason="needs root, and Debian's slurmctld, slurmd and munge")]
EPOCHS, LONGER = 30, 300
LONG = CONFIG.replace("seeds: 0-1", "seeds: 0-0").replace("train: 300", "train: 2000").replace(
    "epochs: 3", f"epochs: {EPOCHS}")


def program(language, start):
    """The block of the page that begins so, with the path of the project and its Python as they are here."""
    block, = (block for block in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if start in block)
    return block


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def call(environment, *command):
    ended = subprocess.run([*map(str, command)], env=environment, check=False, cwd=CHECKOUT, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def state(environment, job):
    return call(environment, "scontrol", "--oneliner", "show", "job", job).partition("JobState=")[2].split()[0]


def wait_for(environment, job, *states):
    while (now := state(environment, job)) not in states:
        assert now in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED"), now
        time.sleep(0.2)


def begin_now(environment, job, *more):
    """SLURM lets a job that is queued again wait for two minutes."""
    wait_for(environment, job, "PENDING")
    call(environment, "scontrol", "update", f"jobid={job}", "starttime=now", *more)


def submit(environment, folder, results, seconds=None, count=EPOCHS):
    """The page's script for this configuration; ``seconds``: it is signalled so long before a limit of a minute.
    ``count``: of epochs.
    """
    script = program("bash", "#SBATCH").replace(".venv/bin/python", sys.executable).replace(
        "configs/mnist_logistic.yaml", f"{write_config(folder, LONG)} --method namsg --epochs {count}").replace(
        "/shared/results", str(results))
    if seconds is not None:
        script = script.replace("--time=04:00:00 --signal=B:USR1@120", f"--time=1 --signal=B:USR1@{seconds}")
    path = folder / "job.sh"
    path.write_text(script)
    return call(environment, "sbatch", "--parsable", f"--output={folder}/job.log", path)


def test_a_job_is_cancelled_and_requeued_and_the_run_goes_on_to_the_same_rows(environment, tmp_path):
    """With 4 workers the last digits may differ: the rows are compared by their number and their losses."""
    results = tmp_path / "results"
    job = submit(environment, tmp_path, results)
    wait_for_epochs(environment, job, results, 3)
    call(environment, "scontrol", "requeue", job)
    begin_now(environment, job)
    wait_for_epochs(environment, job, results, 6)
    call(environment, "scancel", job)
    wait_for(environment, job, "CANCELLED")
    assert not list(results.glob("tiny/*/*/done.json"))
    job = submit(environment, tmp_path, results)
    wait_for(environment, job, "COMPLETED")
    whole = experiments("run", tmp_path / "tiny.yaml", "--method", "namsg", "--results", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    made, alone = (epochs(folder) for folder in (results, tmp_path / "whole"))
    assert len(made) == len(alone) == EPOCHS
    for row, expected in zip(made, alone):
        assert [float(cell or 0) for cell in row] == pytest.approx([float(cell or 0) for cell in expected], rel=1e-4)


def test_a_job_near_its_time_limit_puts_itself_into_the_queue_again(environment, tmp_path):
    results = tmp_path / "results"
    job = submit(environment, tmp_path, results, seconds=50, count=LONGER)   # it has not ended when it is signalled
    while "Restarts=0" in call(environment, "scontrol", "--oneliner", "show", "job", job):
        assert state(environment, job) != "COMPLETED"
        time.sleep(0.5)
    begin_now(environment, job, "timelimit=10")
    wait_for(environment, job, "COMPLETED")
    assert len(epochs(results)) == LONGER


def test_many_runs_by_dask(environment, tmp_path):
    pytest.importorskip("dask_jobqueue")
    results = tmp_path / "results"
    script = program("python", "SLURMCluster").replace("cd /shared/namsg-mx", f"cd {CHECKOUT}").replace(
        "source .venv/bin/activate", f"export PATH={Path(sys.executable).parent}:$PATH").replace(
        "jobs=40", "jobs=2").replace('"python", "-m"', f'{sys.executable!r}, "-m"').replace(
        "configs/mnist_logistic.yaml", str(write_config(tmp_path))).replace("/shared/results", str(results))
    call(environment, sys.executable, "-c", script)
    alone = experiments("run", tmp_path / "tiny.yaml", "--results", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert numbers(results) == numbers(tmp_path / "alone")


def epochs(results):
    path, = results.glob("tiny/namsg/*/epochs.csv")
    return [line.split(",") for line in path.read_text().splitlines()[1:]]


def wait_for_epochs(environment, job, results, count):
    while not list(results.glob("tiny/namsg/*/epochs.csv")) or len(epochs(results)) < count:
        assert state(environment, job) in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED")
        time.sleep(0.1)
