"""A checkpoint is read back as it was written; what nothing but damage can leave is an error with its name."""

import json
import zipfile

import pytest

from experiments.vocabulary.checkpoint import POSITION, Checkpoint
from experiments.vocabulary.digests import digest
from experiments.vocabulary.errors import DamagedError, RecordError

FILES = {"config.json": digest(b"{}"), "epochs.csv": digest(b"")}


@pytest.fixture
def checkpoint(tmp_path):
    """One of epoch 2, with one member beside its position."""
    written = Checkpoint(tmp_path / "checkpoint.zip", "run")
    written.write(2, FILES, {"net": b"weights"})
    return written


def with_position(checkpoint, content):
    """Replace the checkpoint by one with this position."""
    with zipfile.ZipFile(checkpoint.path, "w") as archive:
        archive.writestr(POSITION, content)


def test_what_is_written_is_read_back(checkpoint):
    assert checkpoint.position() == (2, {**FILES, "net": digest(b"weights")})
    assert checkpoint.members("net") == {"net": b"weights"}
    members = checkpoint.members()
    assert list(members) == [POSITION, "net"]
    assert checkpoint.parse(members[POSITION]) == checkpoint.position()


def test_the_format_stays_what_it_is(checkpoint):
    """Checkpoints outlive the code that wrote them."""
    with zipfile.ZipFile(checkpoint.path) as archive:
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read(POSITION).decode() == json.dumps(
            {"run": "run", "epoch": 2, "sha256": {**FILES, "net": digest(b"weights")}})


def test_without_a_file_there_is_neither_position_nor_member(tmp_path):
    missing = Checkpoint(tmp_path / "checkpoint.zip", "run")
    assert missing.position() is None and missing.members() is None and missing.members("net") is None


def test_a_member_that_is_not_there_is_damage(checkpoint):
    with pytest.raises(DamagedError, match=r"checkpoint.zip: damaged \(.*no item named 'trainer.states'"):
        checkpoint.members("trainer.states")


def test_a_changed_byte_is_noticed(checkpoint):
    with zipfile.ZipFile(checkpoint.path) as archive:
        place = archive.getinfo("net").header_offset + 30 + len("net")
    content = bytearray(checkpoint.path.read_bytes())
    content[place] ^= 1
    checkpoint.path.write_bytes(bytes(content))
    with pytest.raises(RecordError, match="checkpoint.zip: damaged"):
        checkpoint.members()


@pytest.mark.parametrize("position", [{"epoch": 2}, {"run": "run", "epoch": 2}])
def test_older_positions_have_no_digests(checkpoint, position):
    with_position(checkpoint, json.dumps(position))
    assert checkpoint.position() == (2, None)


def test_a_position_of_another_run_is_refused(checkpoint):
    with_position(checkpoint, json.dumps({"run": "other", "epoch": 2, "sha256": FILES}))
    with pytest.raises(DamagedError, match="checkpoint.zip: is of another run, other"):
        checkpoint.position()


@pytest.mark.parametrize("content", [
    "", "{", "[" * 100_000, "[]", "{}", '{"epoch": 0}', '{"epoch": -1}', '{"epoch": "2"}', '{"epoch": true}',
    '{"epoch": 2, "more": 1}', '{"run": "run", "epoch": 2, "sha256": []}', '{"run": "run", "epoch": 2, "sha256": {}}',
    '{"epoch": 2, "sha256": {"config.json": "", "epochs.csv": ""}}'])
def test_a_position_that_is_not_what_was_written_is_damage(checkpoint, content):
    with_position(checkpoint, content)
    with pytest.raises(DamagedError, match=r"checkpoint.zip: damaged \(position.json is not what was written\)"):
        checkpoint.position()
