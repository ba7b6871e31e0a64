"""Commands that read write nothing, need no right to, and say where there is nothing to read."""

import json
import subprocess

import pytest
from tiny_experiment import experiments, make_older, record, small_disk, write_config

from experiments import config
from experiments.records import RunRecord


def contents(folder):
    """What would tell that something was written: names, times, bytes."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def made(folder):
    """A configuration, and its runs: done, running, failed and missing."""
    experiment = config.load(write_config(folder.parent))
    done, running, failed, _ = experiment.runs()
    record(folder, done, [0.5] * 3, 3)
    record(folder, running, [0.5] * 2, 3)
    record(folder, failed, [0.5], 3)
    RunRecord(folder / failed.folder).fail("no reason")
    return folder.parent / "tiny.yaml", folder / running.folder


def states(path, results):
    result = experiments("status", path, "--results", results, "--json")
    assert result.returncode == 0, result.stderr
    survey, = json.loads(result.stdout)
    return {state: sum(method[state] for method in survey["methods"].values()) for state in
            ("done", "running", "failed", "unfinished", "missing")}


def test_status_reads_where_nothing_can_be_written(tmp_path):
    """Another user's folder, or a disk that is mounted for reading; a run that is under way is seen there, too."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        path, running = made(disk)
        before = contents(disk)
        with RunRecord(running).lock():
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
            remounted = states(path, disk)
        assert remounted == {"done": 1, "running": 1, "failed": 1, "unfinished": 0, "missing": 1}
        assert states(path, disk) == {"done": 1, "running": 0, "failed": 1, "unfinished": 1, "missing": 1}
        assert {name: content for name, content in contents(disk).items() if name.name != "run.lock"} == \
            {name: content for name, content in before.items() if name.name != "run.lock"}


def test_status_leaves_no_trace(tmp_path):
    path, _ = made(tmp_path / "results")
    before = contents(tmp_path / "results")
    states(path, tmp_path / "results")
    assert contents(tmp_path / "results") == before


@pytest.mark.parametrize("is_older", [False, True])
def test_status_and_tables_say_what_is_damaged(tmp_path, is_older):
    """Of a run that is done and of one that is not, which --partial would show."""
    path, running = made(tmp_path / "results")
    done = next(path.parent for path in (tmp_path / "results").glob("tiny/*/*/done.json"))
    for folder in (done, running):
        whole = (folder / "epochs.csv").read_bytes()
        if is_older:
            make_older(folder)
        damaged = whole.replace(b"0.5", b"nan" if is_older else b"0.6", 1)
        (folder / "epochs.csv").write_bytes(damaged)
        assert states(path, tmp_path / "results")["failed"] == 2   # with the one that failed
        shown = experiments("table", path, "--partial", "--results", tmp_path / "results")
        assert (shown.returncode, shown.stdout) == (1, "")
        assert f"{folder / 'epochs.csv'}: damaged" in shown.stderr
        (folder / "epochs.csv").write_bytes(whole)
    assert experiments("table", path, "--partial", "--results", tmp_path / "results").returncode == 0


@pytest.mark.parametrize("name", ["claims", "report"])
def test_results_that_are_not_there_are_said_and_not_made(tmp_path, name):
    result = experiments(name, "--results", tmp_path / "reslts")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"experiments: --results {tmp_path / 'reslts'}: no such folder\n"
    assert list(tmp_path.iterdir()) == []
