"""A run's folder: what is written while it trains, in an order that a kill at any moment cannot spoil, and read back.

    config.json        the run's settings, seed, source, threads and device: all that fixes its numbers; and what
                       the code chooses besides
    environment.json   commit, versions and machine of each process that worked on it
    epochs.csv         one row per epoch; equal to the byte whenever the run is repeated
    seconds.csv        the time that each epoch took
    checkpoint.zip     the state after the last epoch, from which the run goes on; and the run's id and that epoch
    done.json          written last: how many epochs are complete, and whether the run diverged in the next one
    failed.json        why the last attempt failed, until the next one begins

An epoch's rows are appended first, then the checkpoint is replaced. Rows past the checkpoint's epoch, or a line that
was cut off, are what a kill leaves: they are trimmed and made again. Anything else that cannot be read is an error that
names the file. Floats are written so that they are read back to the bit.

The checkpoint and done.json hold the SHA-256 of config.json and of epochs.csv up to their epoch, the checkpoint also
that of each of its members. Whatever reads a record compares them first.

Older records have none, and keep working by this rule: config.json must be that of the run, epochs.csv must have as
many rows as the checkpoint or done.json says, in the form that is written here, and the checkpoint must have the
members that the run needs, with the CRC-32 of a zip file. The rows of an unfinished run whose checkpoint is not there,
as git does not keep it, are checked for their form alone, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from filelock import FileLock, Timeout

from experiments.vocabulary.errors import RecordError, UsageError

# Step sizes and eta are those of the epoch's last update (`namsg_mx.optimizers.base.LastUpdate`). train_loss is the
# mean over the epoch's examples as they were trained on, train_loss_full that over the whole training set after the
# epoch, in inference mode.
EPOCH_COLUMNS = ("epoch", "updates", "learning_rate", "eta", "sgd_learning_rate", "train_loss", "train_loss_full",
                 "test_loss", "test_accuracy")
SECONDS_COLUMNS = ("epoch", "training", "evaluation")
INTEGER_COLUMNS = ("epoch", "updates")
OPTIONAL_COLUMNS = ("eta", "sgd_learning_rate", "train_loss_full")   # whose cells may be empty
DISTRIBUTED = {"kvstore", "workers", "updates_on"}   # what a configuration has of a run on MXNet's kvstore
POSITION = "position.json"   # the member of a checkpoint that says of which run it is, and after which epoch


class Busy(Exception):
    """Another process is at this run."""


class RunRecord:
    """The folder of one run. All that writes, but `fail`, needs `lock`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.epochs = EpochTable(self.folder / "epochs.csv", EPOCH_COLUMNS)
        self.seconds = EpochTable(self.folder / "seconds.csv", SECONDS_COLUMNS)
        self._config = self.folder / "config.json"
        self._environment = self.folder / "environment.json"
        self._checkpoint = self.folder / "checkpoint.zip"
        self._done = self.folder / "done.json"
        self._failed = self.folder / "failed.json"
        self._lock = self.folder / "run.lock"
        self._made: tuple[int, Mapping[str, str] | None] = (0, None)   # epochs and their digests, as this process knows

    # Reading. What is written last is read first, as the run may go on meanwhile.

    def completion(self) -> dict[str, Any] | None:
        """``{"epochs": complete epochs, "status": "done" or "diverged", ...}``, or None before the run's end.

        RecordError if the records are not those that were complete then.
        """
        done = read_json(self._done, ("epochs", "status"))
        if done is not None:
            if not (_is_count(done["epochs"]) and done["status"] in ("done", "diverged") and
                    self._has_digests(done, {"epochs", "status"})):
                raise damaged(self._done)
            self._check_files(f"{done['epochs']} were complete", done["epochs"], done.get("sha256"))
        return done

    def is_complete(self, epochs: int) -> bool:
        """Whether nothing is left to do for this many epochs; a run that diverged stays so."""
        done = self.completion()
        return done is not None and (done["status"] == "diverged" or done["epochs"] >= epochs)

    def read(self, epochs: int) -> tuple[str, list[dict[str, Any]]]:
        """The status, 'done', 'diverged' or 'short' of this many epochs, and the rows up to there.

        Those of a run that is short end with its checkpoint, where it has one. RecordError as from `completion`.
        """
        done = self.completion()
        if done and done["epochs"] >= epochs:
            return "done", self.epochs.rows()[:epochs]
        if done and done["status"] == "diverged":
            return "diverged", self.epochs.rows()[:done["epochs"]]
        members = self._read_members(POSITION)
        if members is None:
            return "short", self.epochs.rows()[:epochs]
        last, digests = self._position(members[POSITION])
        self._check_files(f"the checkpoint has {last}", last, digests)
        return "short", self.epochs.rows()[:min(last, epochs)]

    def failure(self) -> str | None:
        """Why the last attempt failed, if it did."""
        failed = read_json(self._failed, ("reason",))
        return failed and failed["reason"]

    def is_running(self) -> bool:
        """Whether some process holds the lock."""
        try:
            with open(self._lock, "rb") as file:   # for reading alone, as the folder may be another user's
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def made_with(self, settings: Mapping[str, Any], seed: int) -> str | None:
        """In words, the kvstore and workers that the run is recorded with; None where nothing is recorded.

        RecordError if it is recorded with other settings or another seed.
        """
        recorded = self._read_config()
        if recorded is None:
            return None
        if (recorded["settings"], recorded["seed"]) != (settings, seed):
            raise RecordError(f"{self._config}: is not the configuration of this run")
        return _describe(recorded.get("distributed"))

    def check(self, config: Mapping[str, Any]) -> None:
        """UsageError if the run is recorded with other threads, device or workers, RecordError if it is another run."""
        recorded, made = self._read_config(), self.made_with(config["settings"], config["seed"])
        if recorded is None:
            return
        for key, option in (("threads", "--threads"), ("device", "--device")):
            if recorded[key] != config[key]:
                raise UsageError(f"{self.folder}: recorded with {key} {recorded[key]}, which fixes its numbers; asked "
                                 f"for {config[key]}: use {option} {recorded[key]}, or another --results")
        if made != _describe(config.get("distributed")):
            raise UsageError(f"{self.folder}: recorded with {made}, which fixes its numbers; asked for "
                             f"{_describe(config.get('distributed'))}: use another --results")

    def _read_config(self) -> dict[str, Any] | None:
        config = read_json(self._config, ("settings", "seed", "threads", "device"))
        if config and set(config.get("distributed", DISTRIBUTED)) != DISTRIBUTED:
            raise damaged(self._config)
        if config is None and any(path.exists() for path in (self.epochs.path, self._checkpoint, self._done)):
            raise RecordError(f"{self._config}: missing, so that nothing says what {self.folder} holds")
        return config

    def _check_files(self, where: str, epochs: int, digests: Mapping[str, str] | None) -> None:
        """RecordError unless so many epochs are recorded, and, as far as ``digests`` tell, as they were written."""
        self._read_config()
        recorded = self.epochs.count() if digests else len(self.epochs.rows())
        if recorded < epochs:
            raise RecordError(f"{self.epochs.path}: has {recorded} epochs where {where}")
        if digests:
            for name, digest in self._digests(epochs).items():
                if digests[name] != digest:
                    raise RecordError(f"{self.folder / name}: damaged: is not what it was where {where}")

    def _digests(self, epochs: int) -> dict[str, str]:
        """By name, those of the files that fix and hold the rows of so many epochs."""
        files = {self._config: self._config.read_bytes(), self.epochs.path: self.epochs.content(epochs)}
        return {path.name: _digest(content) for path, content in files.items()}

    def _has_digests(self, content: Mapping[str, Any], others: set[str]) -> bool:
        """Whether a checkpoint or mark of completion holds these keys and digests, or, an older one, these keys alone.
        """
        if content.keys() == others:
            return True
        return content.keys() == {*others, "sha256"} and isinstance(content["sha256"], dict) and (
            {self._config.name, self.epochs.path.name} <= content["sha256"].keys())

    # Writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; raises `Busy` if another process does. The system releases it when the process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            # Not at once: a status command may hold it for a moment.
            lock = FileLock(str(self._lock)).acquire(timeout=1)
        except Timeout:
            raise Busy(str(self.folder)) from None
        with lock:
            yield

    def begin(self, config: Mapping[str, Any], goes_on: bool = True) -> tuple[int, dict[str, bytes]]:
        """Write the configuration of a run that is not complete, trim what a kill has left, return the checkpoint.

        Returns its epoch and its members; 0 and none where nothing has been done yet, or where the run does not go on
        from checkpoints (``goes_on``), as they do not hold all of its state: it begins anew then, unless a complete run
        would be lost by that, which is a RecordError. Raises what `check` does: another command may have begun the run
        since that was asked.
        """
        self.check(config)
        if not goes_on and self.completion():
            raise RecordError(f"{self.folder}: complete, and cannot go on, as its servers did not save their states; "
                              "train it anew in another --results")
        if not self._config.exists():
            write_json(self._config, config)
        epoch, members = self._read_checkpoint() if goes_on else (0, {})
        if epoch == 0:   # a checkpoint promises rows
            _remove(self._checkpoint)
        for table in (self.epochs, self.seconds):
            table.trim(epoch)
        _remove(self._failed)
        self._made = epoch, self._digests(epoch)
        return epoch, members

    def add_environment(self, first_epoch: int, environment: Mapping[str, Any]) -> None:
        """Note what the epochs from ``first_epoch`` on are made with."""
        earlier = [e for e in read_environments(self._environment) if e["first_epoch"] < first_epoch]
        write_json(self._environment, [*earlier, {"first_epoch": first_epoch, **environment}])

    def add_epoch(self, row: Mapping[str, Any], seconds: Mapping[str, Any], state: Mapping[str, bytes]) -> None:
        """Append an epoch's rows, then replace the checkpoint by ``state``, named members of a zip file.

        RecordError if somebody has changed what was recorded since `begin`.
        """
        self._check_made()
        self.epochs.append(row)
        self.seconds.append(seconds)
        self._made = row["epoch"], self._digests(row["epoch"])
        self._write_checkpoint(row["epoch"], state)

    def finish(self, epochs: int, status: str) -> None:
        """Set the mark of completion; status 'done' or 'diverged'. RecordError as from `add_epoch`."""
        self._check_made()
        write_json(self._done, {"epochs": epochs, "status": status, "sha256": self._digests(epochs)})
        _remove(self._failed)   # of another process, which has failed meanwhile

    def fail(self, reason: str) -> None:
        """Note why an attempt failed, where that is possible."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._failed, {"reason": reason})

    def damaged_checkpoint(self, error: Exception) -> RecordError:
        """What to raise where a checkpoint cannot be gone on from because of this."""
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]   # MXNet's begin with a traceback
        return RecordError(f"{self._checkpoint}: damaged ({reason}); to train the run anew, delete {self.folder}")

    def _check_made(self) -> None:
        epochs, digests = self._made
        self._check_files(f"this process had made {epochs}", epochs, digests)

    def _write_checkpoint(self, epoch: int, state: Mapping[str, bytes]) -> None:
        digests = {**self._made[1], **{name: _digest(data) for name, data in state.items()}}
        position = json.dumps({"run": self.folder.name, "epoch": epoch, "sha256": digests}).encode()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:   # stored, as weights hardly compress
            for name, data in {POSITION: position, **state}.items():
                archive.writestr(name, data)
        write_atomically(self._checkpoint, content.getvalue())

    def _read_checkpoint(self) -> tuple[int, dict[str, bytes]]:
        members = self._read_members()
        if members is None:
            recorded = len(self.epochs.rows())
            # One row without a checkpoint is what a kill in the first epoch leaves.
            if recorded > 1 or self.completion():
                raise RecordError(f"{self._checkpoint}: missing (git does not keep checkpoints), so the run cannot go "
                                  f"on after its {recorded} epochs; train it anew in another --results")
            return 0, {}
        epoch, digests = self._position(members.pop(POSITION, b""))
        done = self.completion()
        if done and epoch < done["epochs"]:
            raise RecordError(f"{self._checkpoint}: is of epoch {epoch} where {done['epochs']} are complete")
        self._check_files(f"the checkpoint has {epoch}", epoch, digests)
        timed = len(self.seconds.rows())
        if timed < epoch:
            raise RecordError(f"{self.seconds.path}: has {timed} epochs where the checkpoint has {epoch}")
        if digests and {**self._digests(epoch), **{name: _digest(data) for name, data in members.items()}} != digests:
            raise self.damaged_checkpoint(ValueError("its members are not those that were written"))
        return epoch, members

    def _read_members(self, *names: str) -> dict[str, bytes] | None:
        """These members of the checkpoint, or all; None where there is no checkpoint."""
        try:
            with open(self._checkpoint, "rb") as file:
                try:
                    with zipfile.ZipFile(file) as archive:
                        return {name: archive.read(name) for name in names or archive.namelist()}
                except Exception as error:   # zipfile raises what it comes across: zlib.error, struct.error, ...
                    raise self.damaged_checkpoint(error) from error
        except FileNotFoundError:
            return None

    def _position(self, content: bytes) -> tuple[int, dict[str, str] | None]:
        """The epoch of a checkpoint, and the digests that it holds; RecordError if it is of another run."""
        with contextlib.suppress(ValueError, RecursionError):
            position = json.loads(content)
            if isinstance(position, dict) and _is_count(position.get("epoch")) and position["epoch"] and (
                    position.keys() == {"epoch"} or self._has_digests(position, {"run", "epoch"})):
                if position.get("run", self.folder.name) != self.folder.name:
                    raise RecordError(f"{self._checkpoint}: is of another run, {position['run']}")
                return position["epoch"], position.get("sha256")
        raise self.damaged_checkpoint(ValueError(f"{POSITION} is not what was written"))


class EpochTable:
    """A CSV file with one row per epoch, 1, 2, ..., that only grows, but for `trim`."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, columns

    def rows(self) -> list[dict[str, Any]]:
        """The complete rows; empty cells are None. RecordError if the file is not as `append` writes it."""
        return [self._parse(number, line) for number, line in enumerate(self._lines()[1:], start=1)]

    def count(self) -> int:
        """How many rows are complete."""
        return max(0, len(self._lines()) - 1)

    def content(self, count: int) -> bytes:
        """The first ``count`` rows with the header, as they stand in the file; nothing for none."""
        return b"".join(line + b"\n" for line in self._lines()[:count + 1]) if count else b""

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, and the header before the first, and wait until it is on the disk."""
        lines = [] if self.path.exists() else [self._header()]
        lines.append(",".join("" if row[c] is None else repr(row[c]) for c in self.columns).encode())
        with naming(self.path), open(self.path, "ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            _sync(file)

    def trim(self, count: int) -> None:
        """Keep the first ``count`` rows."""
        if count == 0:
            _remove(self.path)
            return
        with naming(self.path), open(self.path, "r+b") as file:
            file.truncate(len(self.content(count)))
            _sync(file)

    def _header(self) -> bytes:
        return ",".join(self.columns).encode()

    def _lines(self) -> list[bytes]:
        """The lines that are complete, the header first."""
        try:
            *lines, rest = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        if (lines[0] != self._header()) if lines else not self._header().startswith(rest):
            raise RecordError(f"{self.path}: damaged: does not begin with {','.join(self.columns)}")
        return lines

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        cells = line.split(b",")
        try:
            row = {c: _value(c, cell.decode("ascii")) for c, cell in zip(self.columns, cells)}
        except ValueError:
            row = {}
        if len(cells) != len(self.columns) or row.get("epoch") != number:
            raise RecordError(f"{self.path}: damaged: line {number + 1} is not the row of epoch {number}")
        return row


def _describe(distributed: Mapping[str, Any] | None) -> str:
    if not distributed:
        return "no --kvstore"
    return "--kvstore {kvstore}, {workers} workers and updates on the {updates_on}".format(**distributed)


def _value(column: str, cell: str) -> int | float | None:
    """ValueError if the cell is not one that `EpochTable.append` writes."""
    if not cell and column in OPTIONAL_COLUMNS:
        return None
    value = int(cell) if column in INTEGER_COLUMNS else float(cell)
    if not math.isfinite(value) or (repr(value) != cell and f"{value:g}" != cell):   # Python reads 1_0 and +1, too
        raise ValueError(cell)
    return value


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def damaged(path: Path) -> RecordError:
    """What to raise where a file cannot be read as it was written."""
    return RecordError(f"{path}: damaged: not what was written")


def read_json(path: Path, keys: Sequence[str] | None) -> Any:
    """A JSON file's content, an object with these keys if any are given; None without the file."""
    try:
        content = json.loads(path.read_bytes())
        if keys is None or isinstance(content, dict) and all(key in content for key in keys):
            return content
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):   # the latter where it is nested too deeply
        pass
    raise damaged(path)


def read_environments(path: Path) -> list[dict[str, Any]]:
    """What an environment.json holds, oldest first; none without the file."""
    content = read_json(path, None) if path.exists() else []
    if not isinstance(content, list) or not all(isinstance(one, dict) and _is_count(one.get("first_epoch"))
                                                for one in content):
        raise damaged(path)
    return content


def write_json(path: Path, content: Any) -> None:
    """Replace a file by this content."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file such that at any moment either the old or the new content is there, and complete.

    Of several processes that do so at once, one does it after the other.
    """
    temporary = path.with_name(path.name + ".tmp")
    with naming(path), _only_writer(temporary) as file:
        try:
            file.write(content)
            _sync(file)
            os.replace(temporary, path)
        except BaseException:
            _remove(temporary)
            raise


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[io.BufferedIOBase]:
    """The file, open for writing and empty, when no other process has it so."""
    while True:
        with open(path, "ab") as file:   # which leaves what another process may be writing there
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file):   # and not where another process has put it meanwhile
                file.truncate(0)
                yield file
                return


def _is_at(path: Path, file: io.BufferedIOBase) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system name this path; those of a full disk name none."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = str(path)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _sync(file: io.BufferedIOBase) -> None:
    file.flush()
    os.fsync(file.fileno())
