"""A run's folder: what is written while it trains, in an order that a kill at any moment cannot spoil, and read back.

    config.json        the run's settings, seed, source, threads and device: all that fixes its numbers; and what
                       the code chooses besides
    environment.json   commit, versions and machine of each process that worked on it
    epochs.csv         one row per epoch; equal to the byte whenever the run is repeated
    seconds.csv        the time that each epoch took
    checkpoint.zip     the state after the last epoch, from which the run goes on
    done.json          written last: how many epochs are complete, and whether the run diverged in the next one
    failed.json        why the last attempt failed, until the next one begins

An epoch's rows are appended first, then the checkpoint is replaced. Rows past the checkpoint's epoch, or a line that
was cut off, are what a kill leaves: they are trimmed and made again. Anything else that cannot be read is an error that
names the file. Floats are written so that they are read back to the bit.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from filelock import FileLock, Timeout

from experiments.errors import RecordError, UsageError

# Step sizes and eta are those of the epoch's last update (`namsg_mx.optimizers.base.LastUpdate`). train_loss is the
# mean over the epoch's examples as they were trained on, train_loss_full that over the whole training set after the
# epoch, in inference mode.
EPOCH_COLUMNS = ("epoch", "updates", "learning_rate", "eta", "sgd_learning_rate", "train_loss", "train_loss_full",
                 "test_loss", "test_accuracy")
SECONDS_COLUMNS = ("epoch", "training", "evaluation")
INTEGER_COLUMNS = ("epoch", "updates")
POSITION = "position.json"   # the member of a checkpoint that says after which epoch it was taken


class Busy(Exception):
    """Another process is at this run."""


class RunRecord:
    """The folder of one run. All that writes, but `fail`, needs `lock`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.epochs = Table(self.folder / "epochs.csv", EPOCH_COLUMNS)
        self.seconds = Table(self.folder / "seconds.csv", SECONDS_COLUMNS)
        self._config = self.folder / "config.json"
        self._environment = self.folder / "environment.json"
        self._checkpoint = self.folder / "checkpoint.zip"
        self._done = self.folder / "done.json"
        self._failed = self.folder / "failed.json"
        self._lock = self.folder / "run.lock"

    # Reading

    def completion(self) -> dict[str, Any] | None:
        """``{"epochs": complete epochs, "status": "done" or "diverged"}``, or None before the run's end."""
        return read_json(self._done, ("epochs", "status"))

    def is_complete(self, epochs: int) -> bool:
        """Whether nothing is left to do for this many epochs; a run that diverged stays so."""
        done = self.completion()
        return done is not None and (done["status"] == "diverged" or done["epochs"] >= epochs)

    def failure(self) -> str | None:
        """Why the last attempt failed, if it did."""
        failed = read_json(self._failed, ("reason",))
        return failed and failed["reason"]

    def is_running(self) -> bool:
        """Whether some process holds the lock."""
        if not self._lock.exists():
            return False
        try:
            with FileLock(str(self._lock), timeout=0):
                return False
        except Timeout:
            return True

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
        return read_json(self._config, ("settings", "seed", "threads", "device"))

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
        for table in (self.epochs, self.seconds):
            table.trim(epoch)
        with contextlib.suppress(FileNotFoundError):
            self._failed.unlink()
        return epoch, members

    def add_environment(self, first_epoch: int, environment: Mapping[str, Any]) -> None:
        """Note what the epochs from ``first_epoch`` on are made with."""
        earlier = [e for e in read_json(self._environment, None) or [] if e["first_epoch"] < first_epoch]
        write_json(self._environment, [*earlier, {"first_epoch": first_epoch, **environment}])

    def add_epoch(self, row: Mapping[str, Any], seconds: Mapping[str, Any], state: Mapping[str, bytes]) -> None:
        """Append an epoch's rows, then replace the checkpoint by ``state``, named members of a zip file."""
        self.epochs.append(row)
        self.seconds.append(seconds)
        self._write_checkpoint(row["epoch"], state)

    def finish(self, epochs: int, status: str) -> None:
        """Set the mark of completion; status 'done' or 'diverged'."""
        write_json(self._done, {"epochs": epochs, "status": status})

    def fail(self, reason: str) -> None:
        """Note why an attempt failed, where that is possible."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._failed, {"reason": reason})

    def _write_checkpoint(self, epoch: int, state: Mapping[str, bytes]) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:   # stored, as weights hardly compress
            for name, data in {POSITION: json.dumps({"epoch": epoch}).encode(), **state}.items():
                archive.writestr(name, data)
        write_atomically(self._checkpoint, content.getvalue())

    def _read_checkpoint(self) -> tuple[int, dict[str, bytes]]:
        recorded = len(self.epochs.rows())
        try:
            with zipfile.ZipFile(self._checkpoint) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            epoch = json.loads(members.pop(POSITION))["epoch"]
        except FileNotFoundError:
            # One row without a checkpoint is what a kill in the first epoch leaves.
            if recorded > 1 or self.completion():
                raise RecordError(f"{self._checkpoint}: missing (git does not keep checkpoints), so the run cannot go "
                                  f"on after its {recorded} epochs; train it anew in another --results") from None
            return 0, {}
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError, NotImplementedError) as error:
            raise RecordError(f"{self._checkpoint}: damaged ({error}); to train the run anew, delete {self.folder}"
                              ) from error
        done = self.completion()
        if done and epoch < done["epochs"]:
            raise RecordError(f"{self._checkpoint}: is of epoch {epoch} where {done['epochs']} are complete")
        for table in (self.epochs, self.seconds):
            if len(table.rows()) < epoch:
                raise RecordError(f"{table.path}: has {len(table.rows())} epochs where the checkpoint has {epoch}")
        return epoch, members


class Table:
    """A CSV file with one row per epoch, 1, 2, ..., that only grows, but for `trim`."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, columns

    def rows(self) -> list[dict[str, Any]]:
        """The complete rows; empty cells are None. RecordError if the file is not as `append` writes it."""
        return [self._parse(number, line) for number, line in enumerate(self._lines()[1:], start=1)]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, and the header before the first, and wait until it is on the disk."""
        lines = [] if self.path.exists() else [self._header()]
        lines.append(",".join("" if row[c] is None else repr(row[c]) for c in self.columns).encode())
        with open(self.path, "ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            _sync(file)

    def trim(self, count: int) -> None:
        """Keep the first ``count`` rows."""
        if count == 0:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            return
        with open(self.path, "r+b") as file:
            file.truncate(sum(len(line) + 1 for line in self._lines()[:count + 1]))
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
    if column in INTEGER_COLUMNS:
        return int(cell)
    return float(cell) if cell else None


def read_json(path: Path, keys: Sequence[str] | None) -> Any:
    """A JSON file's content, an object with these keys if any are given; None without the file."""
    try:
        content = json.loads(path.read_bytes())
        if keys is None or isinstance(content, dict) and all(key in content for key in keys):
            return content
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    raise RecordError(f"{path}: damaged: not the JSON that was written")


def write_json(path: Path, content: Any) -> None:
    """Replace a file by this content."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file such that at any moment either the old or the new content is there, and complete."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        _sync(file)
    os.replace(temporary, path)


def _sync(file: io.BufferedIOBase) -> None:
    file.flush()
    os.fsync(file.fileno())
