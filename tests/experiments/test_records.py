"""A run's folder: what a kill can leave is gone on from, what nothing but damage can leave is an error with a name."""

import json
import zipfile

import pytest

from experiments.errors import RecordError, UsageError
from experiments.records import EPOCH_COLUMNS, Busy, RunRecord, write_atomically

CONFIG = {"experiment": "tiny", "method": "namsg", "settings": {"batch_size": 64}, "seed": 0, "source": "a test",
          "threads": 1, "device": "cpu"}


def row(epoch):
    return {**dict.fromkeys(EPOCH_COLUMNS, 0.1 + epoch / 3), "epoch": epoch, "updates": 5 * epoch, "eta": None}


def record_of(folder, epochs):
    """A run with so many epochs, still under way."""
    record = RunRecord(folder / "run")
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
    (record.folder / "checkpoint.zip.tmp").write_bytes(b"half")
    assert record.begin(CONFIG) == (1, {"net": b"1"})


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


def test_a_changed_byte_in_a_checkpoint_is_noticed(tmp_path):
    record = record_of(tmp_path, 1)
    path = record.folder / "checkpoint.zip"
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("net").header_offset + 30 + len("net")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RecordError, match="checkpoint.zip: damaged"):
        record.begin(CONFIG)


def test_a_missing_checkpoint_is_named(tmp_path):
    record = record_of(tmp_path, 2)
    (record.folder / "checkpoint.zip").unlink()
    with pytest.raises(RecordError, match="checkpoint.zip: missing"):
        record.begin(CONFIG)


def test_rows_that_the_checkpoint_promises_must_be_there(tmp_path):
    record = record_of(tmp_path, 3)
    record.epochs.trim(2)
    with pytest.raises(RecordError, match="epochs.csv: has 2 epochs where the checkpoint has 3"):
        record.begin(CONFIG)


@pytest.mark.parametrize("damage", [b"2,10,x,,,1,1,1,1", b"7,10,1,,,1,1,1,1", b"2,10,1", b"\xff"])
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


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "{\"epochs\": 3}"])
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


def test_the_environment_of_each_attempt_is_kept(tmp_path):
    record = record_of(tmp_path, 0)
    for first_epoch, commit in ((1, "a"), (3, "b"), (3, "c")):   # the second attempt at epoch 3 replaces the first
        record.add_environment(first_epoch, {"commit": commit})
    assert json.loads((record.folder / "environment.json").read_text()) == \
        [{"first_epoch": 1, "commit": "a"}, {"first_epoch": 3, "commit": "c"}]


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
