"""Commands that read write nothing, need no right to, and say where there is nothing to read."""

import contextlib
import json
import shutil
import subprocess

import pytest
from tiny_experiment import CONFIG, experiments, make_older, record, write_config

from experiments.analysis.survey import survey
from experiments.claims.evidence import CsvFile, Evidence
from experiments.vocabulary import config
from experiments.vocabulary.errors import RecordError
from experiments.vocabulary.records import RunRecord


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


@contextlib.contextmanager
def for_reading_alone(folder):
    """The same folder at another place, where nothing can be written; skips where there is no right to mount it."""
    place = folder.with_name("for_reading")
    place.mkdir()
    mounted = [subprocess.run(["mount", *options, str(place)], check=False, stderr=subprocess.DEVNULL).returncode == 0
               for options in (["--bind", str(folder)], ["-o", "remount,bind,ro"])]
    try:
        if not all(mounted):
            pytest.skip("to mount a folder for reading needs the right to")
        yield place
    finally:
        if mounted[0]:
            subprocess.run(["umount", str(place)], check=True)


def test_status_tells_how_long_a_complete_run_took(tmp_path):
    path, _ = made(tmp_path / "results")   # two seconds an epoch
    status, = json.loads(experiments("status", path, "--results", tmp_path / "results", "--json").stdout)
    assert status["seconds_per_run"] == {"adam": 6.0, "namsg": None}
    assert status["seconds_left"] == 2.0 * (1 + 2 + 3)   # of the runs that are unfinished, failed and missing
    adam, namsg = experiments("status", path, "--results", tmp_path / "results").stdout.splitlines()[2:4]
    assert (adam.split()[-2:], namsg.split()[-2:]) == (["6", "s"], ["1", "-"])   # one run of namsg is missing


def test_the_time_left_is_by_each_methods_mean_epoch(tmp_path):
    """Of a method without any epoch, by the mean of all epochs: here of 1, 1, 1 and 10 s."""
    other = CONFIG.partition("methods:\n")[2].partition("  namsg:")[0].replace("  adam:", "  other:")
    experiment = config.load(write_config(tmp_path, CONFIG + other))
    record(tmp_path, experiment.runs(["adam"])[0], [0.5] * 3, 3, seconds=1.0)
    record(tmp_path, experiment.runs(["namsg"])[0], [0.5], 3, seconds=10.0)
    assert survey(experiment, tmp_path)["seconds_left"] == 3 * 1.0 + (2 + 3) * 10.0 + (3 + 3) * 3.25
    assert survey(experiment, tmp_path, ["adam"])["seconds_left"] == 3 * 1.0
    assert survey(experiment, tmp_path, ["other"])["seconds_left"] is None


@pytest.mark.parametrize("content", [None, "epoch,training,evaluation\n1,1.0,1.0\n", "garbage"])
def test_a_complete_run_whose_time_is_unknown_is_complete_and_has_no_time(tmp_path, content):
    path, _ = made(tmp_path / "results")
    seconds = next((tmp_path / "results").glob("tiny/*/*/done.json")).with_name("seconds.csv")
    seconds.unlink()
    if content is not None:
        seconds.write_text(content)
    assert states(path, tmp_path / "results")["done"] == 1
    status, = json.loads(experiments("status", path, "--results", tmp_path / "results", "--json").stdout)
    assert status["seconds_per_run"] == {"adam": None, "namsg": None}


def test_status_says_how_to_mend_a_damaged_run_as_run_does(tmp_path):
    path, _ = made(tmp_path / "results")
    done = next((tmp_path / "results").glob("tiny/*/*/done.json")).parent
    with open(done / "epochs.csv", "a") as file:
        file.write("garbage\n")
    status, = json.loads(experiments("status", path, "--results", tmp_path / "results", "--json").stdout)
    reason = status["failed"][str(done.relative_to(tmp_path / "results"))]
    assert reason.endswith(f"line 5 is not the row of epoch 4; to make the run anew, delete {done}")
    run = experiments("run", path, "--results", tmp_path / "results", "--method", "adam", "--seeds", "0")
    assert (run.returncode, f"failed: {reason}" in run.stdout) == (1, True)


@pytest.mark.parametrize("content", [None, "", "epoch,training,evaluation\n1,1.0,1.0\n"])
@pytest.mark.parametrize("is_done", [False, True], ids=["killed", "more epochs"])
def test_status_says_that_a_run_cannot_go_on_without_its_times(tmp_path, content, is_done):
    """As `run` does. With all epochs complete nobody needs them."""
    text = CONFIG.replace("seeds: 0-1", "seeds: 0-0")
    experiment = config.load(write_config(tmp_path, text))
    run, _ = experiment.runs()
    record(tmp_path, run, [0.5, 0.4], 2 if is_done else 3)
    seconds = tmp_path / run.folder / "seconds.csv"
    seconds.unlink()
    if content is not None:
        seconds.write_text(content)
    status, = json.loads(experiments("status", tmp_path / "tiny.yaml", "--results", tmp_path, "--json").stdout)
    reason = status["failed"][str(run.folder)]
    assert "seconds.csv" in reason and reason.endswith(f"; to make the run anew, delete {tmp_path / run.folder}")
    made = experiments("run", tmp_path / "tiny.yaml", "--results", tmp_path, "--method", "adam")
    assert (made.returncode, f"failed: {reason}" in made.stdout) == (1, True)


def test_status_says_that_a_run_cannot_go_on_from_an_older_checkpoint(tmp_path):
    path = write_config(tmp_path, CONFIG.replace("seeds: 0-1", "seeds: 0-0"))
    run, _ = config.load(path).runs()
    record(tmp_path / "older", run, [0.5], 3)
    record(tmp_path / "results", run, [0.5, 0.4], 2)
    shutil.copy(tmp_path / "older" / run.folder / "checkpoint.zip", tmp_path / "results" / run.folder)
    status, = json.loads(experiments("status", path, "--results", tmp_path / "results", "--json").stdout)
    assert "checkpoint.zip: is of epoch 1, but 2 are complete" in status["failed"][str(run.folder)]


def test_a_table_of_named_methods_reads_no_others(tmp_path):
    """Also where another that does not run by default is damaged."""
    text = CONFIG + "".join(CONFIG.partition("methods:\n")[2].partition("  namsg:")[0]).replace(
        "  adam:", "  extra:").replace("    grid:", "    by_default: false\n    grid:")
    path = write_config(tmp_path, text)
    runs = config.load(path).runs(["adam", "extra"])
    for run in runs:
        record(tmp_path, run, [0.5] * 3, 3)
    damaged = tmp_path / runs[1].folder / "epochs.csv"
    damaged.write_text(damaged.read_text().replace("0.5", "0.6", 1))
    whole = experiments("table", path, "--results", tmp_path, "--partial")
    assert (whole.returncode, f"{damaged}: damaged" in whole.stderr) == (1, True)
    made = experiments("table", path, "--method", "adam", "--results", tmp_path)
    assert (made.returncode, "| ADAM | " in made.stdout) == (0, True), made.stderr


def test_a_table_of_fewer_methods_leaves_no_half_of_the_one_before(tmp_path):
    path = write_config(tmp_path)
    for run in config.load(path).runs():
        record(tmp_path, run, [0.5] * 3, 3)
    tables = tmp_path / "tables"
    assert experiments("table", path, "--results", tmp_path).returncode == 0
    assert (tables / "tiny_epochs_to_loss.md").exists()
    assert experiments("table", path, "--results", tmp_path, "--method", "namsg").returncode == 0
    assert sorted(file.name for file in tables.iterdir()) == ["tiny.csv", "tiny.md", "tiny.tex"]


def test_a_configuration_that_is_named_twice_counts_once(tmp_path):
    path = write_config(tmp_path)
    status = experiments("status", path, path, "--results", tmp_path, "--json")
    assert len(json.loads(status.stdout)) == 1


def test_a_note_of_failure_says_nothing_of_a_run_that_is_complete(tmp_path):
    path, _ = made(tmp_path / "results")
    next((tmp_path / "results").glob("tiny/*/*/done.json")).with_name("failed.json").write_text("{")
    assert states(path, tmp_path / "results")["done"] == 1


def test_a_note_of_failure_that_cannot_be_read_is_no_reason_to_delete_a_run(tmp_path):
    path, running = made(tmp_path / "results")
    (running / "failed.json").write_text("{")
    found, = json.loads(experiments("status", path, "--results", tmp_path / "results", "--json").stdout)
    assert f"{running / 'failed.json'}: damaged: not what was written" in found["failed"].values()


def test_status_reads_where_nothing_can_be_written(tmp_path):
    """And sees there, too, whether a run is under way."""
    path, running = made(tmp_path / "results")
    with for_reading_alone(tmp_path / "results") as results:
        with pytest.raises(OSError, match="Read-only"):
            (results / "file").touch()
        with RunRecord(running).lock():
            assert states(path, results) == {"done": 1, "running": 1, "failed": 1, "unfinished": 0, "missing": 1}
        assert states(path, results) == {"done": 1, "running": 0, "failed": 1, "unfinished": 1, "missing": 1}


def test_status_leaves_no_trace(tmp_path):
    path, _ = made(tmp_path / "results")
    before = contents(tmp_path / "results")
    states(path, tmp_path / "results")
    assert contents(tmp_path / "results") == before


@pytest.mark.parametrize("is_older", [False, True])
def test_status_and_tables_say_what_is_damaged(tmp_path, is_older):
    """The damaged file is of a complete run, then of an unfinished one, which --partial would show."""
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


@pytest.mark.parametrize("content", [
    b"", b"\xff", b"a,b\n1,2\n", b"method,t\nadam,1\nadam,1,2\n", b"method,t\nadam,x\n"])
def test_numbers_that_cannot_be_read_are_named(tmp_path, content):
    table = CsvFile("", "numbers.csv", texts=("method",), numbers=("t",))
    (tmp_path / "numbers.csv").write_bytes(content)
    with pytest.raises(RecordError, match="numbers.csv: damaged"):
        Evidence(tmp_path, tmp_path).table(table)
    (tmp_path / "numbers.csv").write_text("method,t\nadam,1\n")
    assert Evidence(tmp_path, tmp_path).table(table)["t"].tolist() == [1]
