"""A run's folder: what a kill can leave is gone on from, what nothing but damage can leave is an error with a name."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_experiment import hide_members, make_older, small_disk

from experiments.display import report
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS
from experiments.vocabulary.errors import DamagedError, RecordError, UsageError
from experiments.vocabulary.files import make_folder, write_atomically
from experiments.vocabulary.records import Busy, RunRecord

CONFIG = {"experiment": "tiny", "method": "namsg", "settings": {"batch_size": 64}, "seed": 0, "source": "a test",
          "threads": 1, "device": "cpu"}


def row(epoch):
    return {**dict.fromkeys(EPOCH_COLUMNS, 0.1 + epoch / 3), "epoch": epoch, "updates": 5 * epoch, "eta": None}


def record_of(folder, epochs, name="run"):
    """A run with so many epochs, still under way."""
    record = RunRecord(folder / name)
    record.folder.mkdir()
    record.begin(CONFIG)
    for epoch in range(1, epochs + 1):
        record.add_epoch(row(epoch), {"epoch": epoch, "training": 1.0, "evaluation": 0.5}, {"net": b"%d" % epoch})
    return record


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    record = record_of(tmp_path, 3)
    assert record.epochs.rows() == [row(epoch) for epoch in (1, 2, 3)]
    assert record.begin(CONFIG) == (3, {"net": b"3"})
    assert record.completion() is None
    record.finish(3, "done")
    assert record.is_complete(3)
    assert not record.is_complete(4)


def test_a_run_that_diverged_stays_complete_for_any_number_of_epochs(tmp_path):
    record = record_of(tmp_path, 2)
    record.finish(2, "diverged")
    assert record.is_complete(100)


@pytest.mark.parametrize("cut", range(1, 30, 7))
def test_a_line_that_was_cut_off_is_made_again(tmp_path, cut):
    """A kill while an epoch's row is written: the checkpoint is still that of the epoch before."""
    record = record_of(tmp_path, 2)
    whole = record.epochs.path.read_bytes()
    record.epochs.append(row(3))
    record.epochs.path.write_bytes(record.epochs.path.read_bytes()[:len(whole) + cut])
    assert record.begin(CONFIG) == (2, {"net": b"2"})
    assert record.epochs.path.read_bytes() == whole


def test_a_row_past_the_checkpoint_is_made_again(tmp_path):
    record = record_of(tmp_path, 2)
    record.epochs.append(row(3))
    assert record.begin(CONFIG)[0] == 2
    assert len(record.epochs.rows()) == 2


def test_a_kill_in_the_first_epoch_leaves_nothing_that_is_in_the_way(tmp_path):
    record = record_of(tmp_path, 0)
    record.epochs.append(row(1))
    assert record.begin(CONFIG) == (0, {})
    assert not record.epochs.path.exists()


def test_a_temporary_file_that_a_kill_left_is_no_checkpoint(tmp_path):
    record = record_of(tmp_path, 1)
    left = record.folder / "checkpoint.zip.1.tmp"
    left.write_bytes(b"half")
    assert record.begin(CONFIG) == (1, {"net": b"1"})
    assert not left.exists()


KILLED_AT_EACH_CALL = """
import itertools, os, shutil, sys
from pathlib import Path
from experiments.vocabulary.records import RunRecord

place, goes_on, is_begun = Path(sys.argv[1]), sys.argv[2] == "True", sys.argv[3] == "True"

def make(folder, epochs=3):
    global told
    record = RunRecord(folder)
    with record.lock():
        if record.is_complete(3):
            return 3
        last, _ = record.begin({"settings": {}, "seed": 0, "threads": 1, "device": "cpu"}, goes_on)
        for epoch in range(last + 1, epochs + 1):
            row = {**dict.fromkeys(record.epochs.columns, 1 / epoch), "epoch": epoch, "updates": epoch}
            record.add_epoch(row, {"epoch": epoch, "training": 1.0, "evaluation": 0.5}, {"net": b"%d" % epoch})
            told = epoch   # add_epoch has returned
        if epochs == 3:
            record.finish(3, "done")
    return last

def die_at(number):
    def call(event, _=()):
        if event in ("open", "os.rename", "os.remove", "fsync") and next(calls) == number:
            os._exit(100 + told)

    calls = itertools.count(1)
    os.fsync = lambda file: call("fsync")
    sys.addaudithook(call)

def contents(folder):
    checkpoint = RunRecord(folder).checkpoint
    return {path.name: checkpoint.members() if path == checkpoint.path else path.read_bytes()
            for path in folder.iterdir()}

os.fsync = lambda file: None   # the machine does not go down
whole, begun = place / "whole" / "run", place / "begun" / "run"
make(whole)
if is_begun:
    make(begun, epochs=1)
    for table in (RunRecord(begun).epochs, RunRecord(begun).seconds):
        table.append(dict.fromkeys(table.columns, 2))
    (begun / "checkpoint.zip.0.tmp").write_text("half")
for number in itertools.count(1):
    folder, told = place / str(number) / "run", int(is_begun)
    if is_begun:
        shutil.copytree(begun, folder)
    child = os.fork()
    if child == 0:
        die_at(number)
        make(folder)
        os._exit(0)
    status = os.waitpid(child, 0)[1] >> 8
    RunRecord(folder).check_goes_on()
    found = len(RunRecord(folder).read(3)[1]), make(folder)
    assert min(found) >= (status - 100 if goes_on else 0), (number, status)
    assert contents(folder) == contents(whole), number
    if status < 100:
        print(number, status)
        break
"""


@pytest.mark.parametrize("is_begun", [False, True], ids=["new", "killed before"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "begins anew"])
def test_a_kill_at_any_call_of_the_system_loses_no_epoch(tmp_path, goes_on, is_begun):
    """Before each call that opens, replaces, removes or syncs a file: what is there is read, and goes on to the same.
    """
    made = subprocess.run([sys.executable, "-c", KILLED_AT_EACH_CALL, str(tmp_path), str(goes_on), str(is_begun)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert made.returncode == 0, made.stderr
    calls, status = map(int, made.stdout.split())
    assert calls > 50 and status == 0, made.stderr   # the last child has come to its end


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_a_truncated_checkpoint_is_named_and_left_as_it_is(tmp_path, keep):
    record = record_of(tmp_path, 2)
    path = record.folder / "checkpoint.zip"
    path.write_bytes(path.read_bytes()[:keep])
    left = path.read_bytes()
    with pytest.raises(RecordError, match="checkpoint.zip: damaged"):
        record.begin(CONFIG)
    assert path.read_bytes() == left
    assert len(record.epochs.rows()) == 2


@pytest.mark.parametrize(("epochs", "is_done"), [(2, False), (1, True)])
def test_a_missing_checkpoint_is_named(tmp_path, epochs, is_done):
    record = record_of(tmp_path, epochs)
    if is_done:   # one epoch that was asked for is none that a kill left
        record.finish(epochs, "done")
    (record.folder / "checkpoint.zip").unlink()
    with pytest.raises(RecordError, match="checkpoint.zip: missing"):
        record.begin(CONFIG)


def test_rows_that_the_checkpoint_promises_must_be_there(tmp_path):
    record = record_of(tmp_path, 3)
    record.epochs.trim(2)
    with pytest.raises(RecordError, match="epochs.csv: has 2 epochs, but the checkpoint has 3"):
        record.begin(CONFIG)


def test_times_that_the_checkpoint_promises_must_be_there(tmp_path):
    record = record_of(tmp_path, 3)
    record.seconds.trim(2)
    with pytest.raises(DamagedError, match="seconds.csv: has 2 epochs, but the checkpoint has 3"):
        record.begin(CONFIG)


def test_a_checkpoint_that_is_older_than_the_mark_of_completion_is_not_gone_on_from(tmp_path):
    record = record_of(tmp_path, 1)
    checkpoint = record.folder / "checkpoint.zip"
    older = checkpoint.read_bytes()
    record.add_epoch(row(2), {"epoch": 2, "training": 1.0, "evaluation": 0.5}, {"net": b"2"})
    record.finish(2, "done")
    checkpoint.write_bytes(older)
    for refuse in (lambda: record.begin(CONFIG), record.check_goes_on):
        with pytest.raises(DamagedError, match="checkpoint.zip: is of epoch 1, but 2 are complete"):
            refuse()


def test_a_run_that_ends_while_it_is_looked_at_is_not_damaged(tmp_path, monkeypatch):
    """As the mark of completion is written last, it is read first."""
    running, reader = record_of(tmp_path, 1), RunRecord(tmp_path / "run")
    read = reader.checkpoint.members

    def read_before_the_end(*names):
        members = read(*names)
        running.add_epoch(row(2), {"epoch": 2, "training": 1.0, "evaluation": 0.5}, {"net": b"2"})
        running.finish(2, "done")
        return members

    monkeypatch.setattr(reader.checkpoint, "members", read_before_the_end)
    reader.check_goes_on()
    assert running.is_complete(2)


@pytest.mark.parametrize("damage", [
    b"2,10,x,,,1,1,1,1", b"7,10,1,,,1,1,1,1", b"2,10,1", b"\xff", b"2,10,1,,,nan,1,1,1", b"2,10,1,,,1e400,1,1,1",
    b"2,10,1,,,,1,1,1", b"2,10,,,,1,1,1,1", b"2,,1,,,1,1,1,1", b"2,10,1_0,,,1,1,1,1", b"2,+10,1,,,1,1,1,1"])
def test_a_damaged_row_is_named_with_its_line(tmp_path, damage):
    record = record_of(tmp_path, 3)
    lines = record.epochs.path.read_bytes().split(b"\n")
    record.epochs.path.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]))
    with pytest.raises(RecordError, match="epochs.csv: damaged: line 3 is not the row of epoch 2"):
        record.epochs.rows()


def test_a_file_with_another_header_is_not_taken_for_records(tmp_path):
    record = record_of(tmp_path, 1)
    record.epochs.path.write_text("some,other\n1,2\n")
    with pytest.raises(RecordError, match="epochs.csv: damaged: does not begin with epoch,updates"):
        record.epochs.rows()


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "{\"epochs\": 3}", "[" * 100_000])
def test_a_damaged_mark_of_completion_is_named(tmp_path, content):
    record = record_of(tmp_path, 1)
    (record.folder / "done.json").write_text(content)
    with pytest.raises(RecordError, match="done.json: damaged"):
        record.completion()


def test_another_thread_count_is_refused_with_the_option_to_use(tmp_path):
    record = record_of(tmp_path, 1)
    with pytest.raises(UsageError, match="use --threads 1"):
        record.check(dict(CONFIG, threads=2))
    with pytest.raises(RecordError, match="not the configuration of this run"):
        record.check(dict(CONFIG, seed=1))


def test_one_process_at_a_time(tmp_path):
    record, other = record_of(tmp_path, 0), RunRecord(tmp_path / "run")
    assert not other.is_running()
    with record.lock():
        assert other.is_running()
        with pytest.raises(Busy), other.lock():
            pass
    with other.lock():
        pass


def test_a_failure_stands_until_the_next_attempt(tmp_path):
    record = record_of(tmp_path, 0)
    record.fail("no reason")
    assert record.failure() == "no reason"
    record.begin(CONFIG)
    assert record.failure() is None


def test_a_note_of_failure_that_is_damaged_costs_no_epoch(tmp_path):
    record = record_of(tmp_path, 1)
    (record.folder / "failed.json").write_text("{")
    assert re.fullmatch(r".*/failed\.json: damaged: not what was written", record.failure())
    assert record.begin(CONFIG)[0] == 1 and record.failure() is None


def test_the_environment_of_each_attempt_is_kept(tmp_path):
    record = record_of(tmp_path, 0)
    for first_epoch, commit in ((1, "a"), (3, "b"), (3, "c")):   # the second attempt at epoch 3 replaces the first
        record.add_environment(first_epoch, {"commit": commit})
    assert json.loads((record.folder / "environment.json").read_text()) == \
        [{"first_epoch": 1, "commit": "a"}, {"first_epoch": 3, "commit": "c"}]


def test_a_damaged_environment_is_named_before_an_epoch_is_made_and_costs_no_run(tmp_path):
    record = record_of(tmp_path, 1)
    (record.folder / "environment.json").write_text("")
    with pytest.raises(RecordError, match="environment.json: damaged.* delete it alone$") as raised:
        record.check_goes_on()   # as `status` asks
    assert not isinstance(raised.value, DamagedError)   # or the advice were to delete the run
    with pytest.raises(RecordError, match="environment.json: damaged.* delete it alone$"):
        record.begin(CONFIG)
    (record.folder / "environment.json").unlink()
    assert record.begin(CONFIG)[0] == 1


@pytest.mark.parametrize("content", ["null", "5", "{}", "[1]", "[{}]", '[{"first_epoch": "1"}]', "[", ""])
def test_an_environment_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "tiny" / "adam" / "run" / "environment.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(RecordError, match="environment.json: damaged"):
        report._machines(tmp_path)
    told = {**dict.fromkeys(report.MACHINE), "versions": {}}
    path.write_text(json.dumps([{"first_epoch": 1, **told}]))
    assert report._machines(tmp_path) == [{**told, "runs": 1}]


def replace_many_times(path, digit):
    """Replace the file by many of the digit; returns what was wrong with the file that was there then."""
    for _ in range(100):
        write_atomically(path, digit * 200_000)
        content = path.read_bytes()
        if len(content) != 200_000 or len(set(content)) != 1:
            return f"{len(content)} bytes of {set(content)}"
    return None


@pytest.mark.slow
def test_of_processes_that_replace_a_file_at_once_each_does(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.starmap(replace_many_times, [(tmp_path / "file", b"1"), (tmp_path / "file", b"2")], 1) == [None] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_waits_for_no_process_that_was_stopped_while_it_replaced_it(tmp_path):
    code = ("import os, signal; from pathlib import Path; from experiments.vocabulary import files; "
            "files.sync = lambda file: os.kill(os.getpid(), signal.SIGSTOP); "
            f"files.write_atomically(Path({str(tmp_path / 'file')!r}), b'1')")
    with subprocess.Popen([sys.executable, "-c", code]) as stopped:
        os.waitpid(stopped.pid, os.WUNTRACED)
        write_atomically(tmp_path / "file", b"2")
        assert (tmp_path / "file").read_bytes() == b"2"
        os.kill(stopped.pid, signal.SIGCONT)
    assert (stopped.returncode, (tmp_path / "file").read_bytes()) == (0, b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def synced(monkeypatch):
    """The files, with their sizes, and the folders for which somebody waits until they are on the disk, in order."""
    def fsync(file):
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        waited.append(path if path.is_dir() else (path, os.fstat(file).st_size))

    waited = []
    monkeypatch.setattr(os, "fsync", fsync)
    return waited


def test_the_names_of_replaced_files_are_on_the_disk_too(tmp_path, synced):
    write_atomically(tmp_path / "file", b"new")
    (first, size), second = synced
    assert first.name.startswith("file.") and (first.parent, size, second) == (tmp_path, 3, tmp_path)


def test_rows_are_on_the_disk_when_they_were_appended_or_trimmed(tmp_path, synced):
    epochs = RunRecord(tmp_path).epochs
    sizes = []
    for change in (lambda: epochs.append(row(1)), lambda: epochs.append(row(2)), lambda: epochs.trim(1)):
        change()
        sizes.append(epochs.path.stat().st_size)
    assert synced == [(epochs.path, size) for size in sizes]
    assert sizes[0] == sizes[2] < sizes[1]


def test_the_names_of_new_folders_are_on_the_disk(tmp_path, synced):
    for _ in range(2):   # the second time none is new
        make_folder(tmp_path / "results" / "tiny")
    assert synced == [tmp_path / "results", tmp_path]


def test_a_file_is_replaced_or_left(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("other", "message"), [
    ({"threads": 2}, "recorded with threads 1, which fixes its numbers; asked for 2"),
    ({"device": "gpu:0"}, "recorded with device cpu"), ({"settings": {}}, "is not the configuration of this run")])
def test_a_run_goes_on_only_as_it_was_begun(tmp_path, other, message):
    """Another command may have begun it after this one was checked."""
    record = record_of(tmp_path, 2)
    with pytest.raises((UsageError, RecordError), match=message):
        record.begin({**CONFIG, **other})
    assert len(record.epochs.rows()) == 2


def flipped(content, step):
    """The content with every ``step``-th bit turned over, one at a time."""
    for place in range(0, 8 * len(content), step):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def outcome(read):
    """What it returns, or the error's text."""
    try:
        return read()
    except RecordError as error:
        return str(error)


def test_no_bit_of_a_checkpoint_changes_what_it_holds(tmp_path):
    """Every one is either noticed, or one of those that say nothing, as the date of a member."""
    record = record_of(tmp_path, 2)
    path = record.folder / "checkpoint.zip"
    whole = path.read_bytes()
    for content in flipped(whole, 11):
        path.write_bytes(content)
        found = outcome(lambda: record.begin(CONFIG))
        assert found == (2, {"net": b"2"}) or f"{path}: " in found
    path.write_bytes(whole)
    assert record.begin(CONFIG) == (2, {"net": b"2"})


@pytest.mark.parametrize("is_older", [False, True])
def test_members_that_the_directory_hides_are_missed(tmp_path, is_older):
    """The record notices it; for an older record, training does, which knows the members it needs (test_loop.py)."""
    record = record_of(tmp_path, 2)
    if is_older:
        make_older(record.folder)
    hide_members(record.folder / "checkpoint.zip")
    found = outcome(lambda: record.begin(CONFIG))
    assert found == (2, {}) if is_older else "checkpoint.zip: damaged (its members are not what was written" in found


def test_another_runs_checkpoint_is_refused(tmp_path):
    record, other = record_of(tmp_path, 2), record_of(tmp_path, 2, "other")
    shutil.copy(other.folder / "checkpoint.zip", record.folder)
    for read in (lambda: record.begin(CONFIG), lambda: record.read(3)):
        with pytest.raises(RecordError, match="run/checkpoint.zip: is of another run, other"):
            read()


@pytest.mark.parametrize("is_done", [False, True])
def test_no_bit_of_the_rows_changes_unnoticed(tmp_path, is_done):
    record = record_of(tmp_path, 2)
    if is_done:
        record.finish(2, "done")
    path = record.epochs.path
    whole = path.read_bytes()
    for content in flipped(whole, 5):
        path.write_bytes(content)
        for read in (lambda: record.read(2), *([lambda: record.is_complete(2)] if is_done else [])):
            assert f"{path}: " in outcome(read)
    path.write_bytes(whole)
    assert record.read(2) == ("done", [row(1), row(2)])


@pytest.mark.parametrize("name", ["done.json", "config.json"])
def test_no_bit_of_what_says_what_the_rows_are_changes_it(tmp_path, name):
    record = record_of(tmp_path, 2)
    record.finish(2, "done")
    path = record.folder / name
    whole = path.read_bytes()
    for content in flipped(whole, 7):
        path.write_bytes(content)
        found = outcome(lambda: (record.is_complete(2), record.read(2)))
        assert found == (True, ("done", [row(1), row(2)])) or str(record.folder) in found
        if name == "config.json":
            assert "damaged" in found


@pytest.mark.parametrize(("gone", "message"), [
    ("epochs.csv", "epochs.csv: has 0 epochs, but 2 were complete"), ("config.json", "config.json: missing")])
@pytest.mark.parametrize("is_older", [False, True])
def test_a_mark_of_completion_alone_completes_nothing(tmp_path, gone, message, is_older):
    record = record_of(tmp_path, 2)
    record.finish(2, "done")
    if is_older:
        make_older(record.folder)
    (record.folder / gone).unlink()
    for read in (lambda: record.is_complete(1), lambda: record.read(1), lambda: record.begin(CONFIG)):
        assert message in outcome(read)


@pytest.mark.parametrize("kept", ["epochs.csv", "checkpoint.zip", "done.json"])
def test_records_without_a_configuration_are_not_gone_on_from_with_another(tmp_path, kept):
    record = record_of(tmp_path, 2)
    record.finish(2, "done")
    for path in record.folder.iterdir():
        if path.name != kept:
            path.unlink()
    with pytest.raises(RecordError, match="config.json: missing"):
        record.begin({**CONFIG, "threads": 2})
    assert [path.name for path in record.folder.iterdir()] == [kept]


def test_rows_of_another_run_are_refused_with_their_mark_of_completion(tmp_path):
    record, other = record_of(tmp_path, 2), RunRecord(tmp_path / "other")
    other.folder.mkdir()
    other.begin(dict(CONFIG, seed=1))
    for epoch in (1, 2):
        other.add_epoch(row(epoch), {"epoch": epoch, "training": 1.0, "evaluation": 0.5}, {})
    for one in (record, other):
        one.finish(2, "done")
    for name in ("epochs.csv", "done.json"):
        shutil.copy(other.folder / name, record.folder)
    assert "config.json: damaged" in outcome(lambda: record.is_complete(2))


@pytest.mark.parametrize("distributed", [None, [], "dist_sync", {"kvstore": "dist_sync"}, 3])
def test_a_config_with_another_kind_of_distributed_is_damaged(tmp_path, distributed):
    record = record_of(tmp_path, 2)
    config = record.folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "distributed": distributed}))
    assert f"{config}: damaged" in outcome(lambda: record.made_with(CONFIG["settings"], CONFIG["seed"]))


@pytest.mark.parametrize("done", [0, 2, 3])
def test_older_records_without_digests_keep_working(tmp_path, done):
    record = record_of(tmp_path, 3)
    if done:
        record.finish(done, "done")
    make_older(record.folder)
    assert record.read(2) == ("done", [row(1), row(2)])
    assert record.read(4) == ("short", [row(1), row(2), row(3)])
    assert record.is_complete(2) == (done >= 2)
    assert record.begin(CONFIG) == (3, {"net": b"3"})
    record.add_epoch(row(4), {"epoch": 4, "training": 1.0, "evaluation": 0.5}, {"net": b"4"})
    record.finish(4, "done")
    assert "sha256" in json.loads((record.folder / "done.json").read_text())
    assert record.is_complete(4)


def test_a_damaged_row_of_older_records_is_named(tmp_path):
    record = record_of(tmp_path, 3)
    make_older(record.folder)
    record.epochs.path.write_bytes(record.epochs.path.read_bytes().replace(b"\n2,", b"\n7,"))
    for read in (lambda: record.begin(CONFIG), lambda: record.read(3)):
        assert "epochs.csv: damaged: line 3 is not the row of epoch 2" in outcome(read)


def test_a_run_under_way_has_the_epochs_up_to_its_checkpoint(tmp_path):
    """As a grid search asks for, which shares runs with longer curves."""
    record = record_of(tmp_path, 3)
    for epochs, status in ((1, "done"), (3, "done"), (4, "short")):
        assert record.read(epochs) == (status, [row(1), row(2), row(3)][:epochs])
    (record.folder / "checkpoint.zip").unlink()   # what remains of the rows is no evidence that they are all right
    assert record.read(1) == ("short", [row(1)])


def test_rows_past_the_checkpoint_are_no_records_yet(tmp_path):
    record = record_of(tmp_path, 2)
    record.epochs.append(row(3))
    assert record.read(5) == ("short", [row(1), row(2)])
    (record.folder / "checkpoint.zip").unlink()   # as in git, which keeps the rows alone
    assert record.read(5) == ("short", [row(1), row(2), row(3)])


@pytest.mark.parametrize("name", ["epochs.csv", "config.json"])
def test_what_changes_while_a_run_is_made_ends_it(tmp_path, name):
    record = record_of(tmp_path, 2)
    path = record.folder / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    for write in (lambda: record.finish(2, "done"),
                  lambda: record.add_epoch(row(3), {"epoch": 3, "training": 1.0, "evaluation": 0.5}, {})):
        assert f"{path}: damaged" in outcome(write)
    assert not (record.folder / "done.json").exists()


def test_rows_of_another_process_end_a_run_that_has_none(tmp_path):
    record = record_of(tmp_path, 0)
    RunRecord(record.folder).epochs.append(row(1))
    with pytest.raises(RecordError, match="epochs.csv: another process has written to it; give the command again"):
        record.add_epoch(row(1), {}, {})
    assert record.begin(CONFIG) == (0, {})


@pytest.mark.parametrize("epoch", [3, 4])
def test_rows_of_another_process_end_a_run_that_goes_on_later(tmp_path, epoch):
    """Two work on one run if the lock's file was deleted."""
    record = record_of(tmp_path, 3)
    RunRecord(record.folder).epochs.append(row(epoch))
    for end in (lambda: record.add_epoch(row(4), {}, {}), lambda: record.finish(3, "done")):
        with pytest.raises(RecordError, match="epochs.csv: another process has written to it; give the command again"):
            end()
    assert record.completion() is None
    assert record.read(4) == ("short", [row(1), row(2), row(3)])
    assert record.begin(CONFIG) == (3, {"net": b"3"})


@pytest.mark.parametrize("change", [{"threads": 2}, {"settings": {"batch_size": 1}}, {"choices": {"layers": []}}])
def test_before_its_first_epoch_a_run_is_bound_to_nothing(tmp_path, change):
    """A kill, or an older commit, may have left config.json alone."""
    record = RunRecord(tmp_path / "run")
    record.folder.mkdir()
    record.begin({**CONFIG, **change})
    record.check(CONFIG)
    assert record.made_with(CONFIG["settings"], 0) is None
    assert record.begin(CONFIG) == (0, {})
    assert json.loads((record.folder / "config.json").read_text()) == CONFIG


def test_rows_after_those_that_are_complete_must_be_rows(tmp_path):
    record = record_of(tmp_path, 3)
    record.finish(2, "done")   # and later one more
    assert record.read(2)[0] == "done"
    with open(record.epochs.path, "a") as file:
        file.write("garbage\n")
    with pytest.raises(DamagedError, match="epochs.csv: damaged: line 5 is not the row of epoch 4"):
        record.completion()


READERS = {"check": lambda record: record.check(CONFIG), "begin": lambda record: record.begin(CONFIG),
           "read": lambda record: record.read(2), "goes on": RunRecord.check_goes_on,
           "completion": RunRecord.completion, "failure": RunRecord.failure, "is running": RunRecord.is_running}


@pytest.mark.parametrize(("name", "readers"), [
    ("config.json", ("check", "read", "begin")), ("epochs.csv", ("read", "begin")),
    ("checkpoint.zip", ("read", "goes on", "begin")), ("done.json", ("completion", "read", "goes on", "begin")),
    ("seconds.csv", ("goes on", "begin")), ("environment.json", ("goes on", "begin")), ("failed.json", ("failure",)),
    ("run.lock", ("is running",))])
def test_a_folder_in_place_of_a_file_is_named(tmp_path, name, readers):
    record = record_of(tmp_path, 2)
    path = record.folder / name
    path.unlink(missing_ok=True)
    path.mkdir()
    for reader in readers:
        with pytest.raises(RecordError, match=f"{name}: Is a directory"):
            READERS[reader](record)


def test_a_file_in_place_of_a_runs_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RecordError, match="run/.*: Not a directory"):
        RunRecord(tmp_path / "run").read(2)


def test_a_link_to_a_folder_that_is_not_there_is_named(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "unmounted" / "run")
    with pytest.raises(NotADirectoryError, match="is not a folder: .*run"), RunRecord(tmp_path / "run").lock():
        pass


def test_a_full_disk_leaves_the_old_file_and_no_other_and_is_named(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "file"
        write_atomically(path, bytes(40_000))
        with pytest.raises(OSError, match="No space left on device") as raised:
            write_atomically(path, bytes(40_001))
        assert raised.value.filename == str(path)
        assert [(one.name, one.stat().st_size) for one in disk.iterdir()] == [("file", 40_000)]
