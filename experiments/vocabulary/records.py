"""A run's folder: its files, written so that a kill at any moment loses nothing, and read back with checks.

    config.json        what fixes the run's numbers: settings, seed, threads, device and kvstore; besides, the source
                       of its hyper-parameters, and what the code chooses
    environment.json   commit, versions and machine of each process that worked on the run
    epochs.csv         one row per epoch; equal to the byte whenever the run is repeated
    seconds.csv        the time that each epoch took
    checkpoint.zip     the state after the last epoch, from which the run goes on; with the run's id and that epoch
    run.lock           held by the process that works on the run; never to be deleted while one does
    done.json          written last: how many epochs are complete, and whether the run diverged in the next one
    failed.json        why the last attempt failed, until the next one begins

After each epoch, rows are appended first, then the checkpoint is replaced. A kill can leave rows past the checkpoint's
epoch, or a line that was cut off: these are trimmed, and the epoch is made again. Any other file that cannot be read is
an error that names it. Floats are written so that they are read back to the bit.

The checkpoint and done.json hold SHA-256 digests of config.json and of epochs.csv up to their epoch; the checkpoint
also has digests of its members. Every reader of a record compares them first.

Older records have no digests. Then config.json must be of this run, epochs.csv must have as many well-formed rows as
the checkpoint or done.json says, and the checkpoint must have the members that the run needs, each with its right
CRC-32. An unfinished run may have no checkpoint, as git does not keep them: then its rows are checked for their form.
"""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import Any, Iterator, Mapping

from filelock import FileLock, Timeout

from experiments.vocabulary.checkpoint import POSITION, Checkpoint
from experiments.vocabulary.digests import CONFIG, EPOCHS, digest, has_digests, is_number_of_epochs
from experiments.vocabulary.epoch_table import EPOCH_COLUMNS, SECONDS_COLUMNS, EpochTable
from experiments.vocabulary.errors import DamagedError, RecordError, UsageError
from experiments.vocabulary.files import (
    UNFINISHED,
    damaged,
    make_folder,
    read_json,
    reading,
    remove,
    write_json,
)

DISTRIBUTED = {"kvstore", "workers", "updates_on"}   # keys of config.json's 'distributed', for runs on a kvstore


class Busy(Exception):
    """Another process is making this run."""


class RunRecord:
    """The folder of one run. Writing needs `lock`, except for `fail`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.epochs = EpochTable(self.folder / EPOCHS, EPOCH_COLUMNS)
        self.seconds = EpochTable(self.folder / "seconds.csv", SECONDS_COLUMNS)
        self.checkpoint = Checkpoint(self.folder / "checkpoint.zip", self.folder.name)
        self._config = self.folder / CONFIG
        self._environment = self.folder / "environment.json"
        self._done = self.folder / "done.json"
        self._failed = self.folder / "failed.json"
        self._lock = self.folder / "run.lock"
        self._made: tuple[int, Mapping[str, str]] = 0, {}   # epochs that this process knows, their digests

    # Reading. The run may go on meanwhile, so what is written last is read first.

    def completion(self) -> dict[str, Any] | None:
        """``{"epochs": complete epochs, "status": "done" or "diverged", ...}``, or None before the run's end.

        RecordError if the records have changed since then.
        """
        done = read_json(self._done, ("epochs", "status"))
        if done is not None:
            if not (is_number_of_epochs(done["epochs"]) and done["status"] in ("done", "diverged") and
                    has_digests(done, {"epochs", "status"})):
                raise damaged(self._done)
            self._check_files(f"{done['epochs']} were complete", done["epochs"], done.get("sha256"))
            if self.epochs.count() > done["epochs"]:
                self.epochs.rows()   # those after them have no digest
        return done

    def is_complete(self, epochs: int) -> bool:
        """Whether the run has this many epochs, or diverged before."""
        done = self.completion()
        return done is not None and (done["status"] == "diverged" or done["epochs"] >= epochs)

    def read(self, epochs: int) -> tuple[str, list[dict[str, Any]]]:
        """The run's status up to this many epochs ('done', 'diverged' or 'short'), and its rows up to there.

        The rows of a run under way end with its checkpoint, if it has one. RecordError as from `completion`.
        """
        done = self.completion()
        if done and done["epochs"] >= epochs:
            return "done", self.epochs.rows(epochs)
        if done and done["status"] == "diverged":
            return "diverged", self.epochs.rows(done["epochs"])
        position = self.checkpoint.position()
        if position is None:
            return "short", self.epochs.rows()[:epochs]   # all are checked: without done.json, nothing else has
        last, digests = position
        self._check_files(f"the checkpoint has {last}", last, digests)
        return "done" if last >= epochs else "short", self.epochs.rows(min(last, epochs))

    def check_goes_on(self) -> None:
        """RecordError if `begin` would refuse the run for what this reads.

        That is a damaged environment.json, or a checkpoint whose epoch does not fit done.json or seconds.csv.
        """
        read_environments(self._environment)
        done = self.completion()
        position = self.checkpoint.position()
        if position is not None:
            self._check_position(position[0], done)

    def failure(self) -> str | None:
        """Why the last attempt failed; None if it did not."""
        try:
            failed = read_json(self._failed, ("reason",))
        except DamagedError as error:
            return str(error)   # the run itself is not: its next attempt removes this file
        return failed and failed["reason"]

    def is_running(self) -> bool:
        """Whether a process holds the lock."""
        try:
            with reading(self._lock), open(self._lock, "rb") as file:   # not for writing, in another user's folder
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        except FileNotFoundError:
            return False
        return False

    def made_with(self, settings: Mapping[str, Any], seed: int) -> tuple[str, dict[str, Any]] | None:
        """The kvstore and workers of the recorded run, in words, and its choices; None if no epoch is recorded.

        RecordError if the record has other settings or another seed.
        """
        recorded = self._read_config()
        return (self._made_with(recorded, settings, seed), recorded.get("choices") or {}) if recorded else None

    def _made_with(self, recorded: Mapping[str, Any], settings: Mapping[str, Any], seed: int) -> str:
        if (recorded["settings"], recorded["seed"]) != (settings, seed):
            self._check_digests()
            of = "other settings" if recorded["seed"] == seed else f"seed {recorded['seed']}"
            raise RecordError(f"{self._config}: is not the configuration of this run, but of one with {of}; move "
                              f"{self.folder} elsewhere")
        return _describe(recorded.get("distributed"))

    def check(self, config: Mapping[str, Any]) -> None:
        """UsageError if the record has other threads, device or workers; RecordError if it is of another run."""
        recorded = self._read_config()
        if recorded is None:
            return
        made = self._made_with(recorded, config["settings"], config["seed"])
        for key, option in (("threads", "--threads"), ("device", "--device")):
            if recorded[key] != config[key]:
                self._check_digests()
                raise UsageError(f"{self.folder}: recorded with {key} {recorded[key]}, which fixes its numbers; asked "
                                 f"for {config[key]}: use {option} {recorded[key]}, or another --results")
        if made != _describe(config.get("distributed")):
            self._check_digests()
            raise UsageError(f"{self.folder}: recorded with {made}, which fixes its numbers; asked for "
                             f"{_describe(config.get('distributed'))}: use another --results")

    def _check_digests(self) -> None:
        """RecordError if config.json or the epochs are not what was written."""
        self.read(0)

    def _read_config(self) -> dict[str, Any] | None:
        """The content of config.json; None if no epoch is recorded, as it then fixes no number."""
        with reading(self.folder):
            if not (self.checkpoint.path.exists() or self._done.exists() or self.epochs.count()):
                return None
        config = read_json(self._config, ("settings", "seed", "threads", "device"))
        if config and "distributed" in config and not (
                isinstance(config["distributed"], dict) and set(config["distributed"]) == DISTRIBUTED):
            raise damaged(self._config)
        if config is None:
            raise self._without_config()
        return config

    def _without_config(self) -> DamagedError:
        return DamagedError(f"{self._config}: missing, so nothing says what {self.folder} holds")

    def _check_files(self, where: str, epochs: int, digests: Mapping[str, str] | None) -> None:
        """RecordError unless this many epochs are recorded and match ``digests``, if there are any.

        ``where`` says for the message who had so many: 'the checkpoint has 3'.
        """
        self._read_config()
        recorded = self.epochs.count() if digests else len(self.epochs.rows())
        if recorded < epochs:
            raise DamagedError(f"{self.epochs.path}: has {recorded} epochs, but {where}")
        if digests:
            for name, found in self._digests(epochs).items():
                if digests[name] != found:
                    raise damaged(self.folder / name)

    def _digests(self, epochs: int) -> dict[str, str]:
        """By name, the digests of config.json, and of epochs.csv up to this many epochs."""
        if not self._config.exists():
            raise self._without_config()
        files = {self._config: self._config.read_bytes(), self.epochs.path: self.epochs.content(epochs)}
        return {path.name: digest(content) for path, content in files.items()}

    # Writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's lock; `Busy` if another process holds it. The system releases it when the process ends."""
        make_folder(self.folder)
        try:
            # Wait a little: a status command may hold it for a moment.
            lock = FileLock(str(self._lock)).acquire(timeout=1)
        except Timeout:
            raise Busy(str(self.folder)) from None
        with lock:
            yield

    def begin(self, config: Mapping[str, Any], goes_on: bool = True) -> tuple[int, dict[str, bytes]]:
        """Begin or go on with a run that is not complete: write config.json, trim what a kill has left.

        Returns the checkpoint's epoch and members, or 0 and no members for a new run. ``goes_on`` is False for a run
        whose checkpoints do not hold all of its state: it begins anew, and RecordError if a complete run would be lost.
        Calls `check` again, as another command may have begun the run meanwhile.
        """
        self.check(config)
        read_environments(self._environment)
        if not goes_on and self.completion():
            raise RecordError(f"{self.folder}: complete, and cannot go on, as its servers did not save their states; "
                              "train it anew in another --results")
        epoch, members = self._read_checkpoint() if goes_on else (0, {})
        if epoch == 0:
            remove(self.checkpoint.path)   # it promises rows
            write_json(self._config, config)   # an attempt before this one may have left another commit's
        for unfinished in self.folder.glob(f"*{UNFINISHED}"):   # by a kill
            remove(unfinished)
        for table in (self.epochs, self.seconds):
            table.trim(epoch)
        remove(self._failed)
        self._made = epoch, self._digests(epoch)
        return epoch, members

    def add_environment(self, first_epoch: int, environment: Mapping[str, Any]) -> None:
        """Record the environment in which the epochs from ``first_epoch`` on are made."""
        earlier = [e for e in read_environments(self._environment) if e["first_epoch"] < first_epoch]
        write_json(self._environment, [*earlier, {"first_epoch": first_epoch, **environment}])

    def add_epoch(self, row: Mapping[str, Any], seconds: Mapping[str, Any], state: Mapping[str, bytes]) -> None:
        """Append an epoch's rows, then replace the checkpoint; ``state`` has the contents of its members by name.

        RecordError if the records were changed by others since `begin`.
        """
        self._check_made()
        self.epochs.append(row)
        self.seconds.append(seconds)
        self._made = row["epoch"], self._digests(row["epoch"])
        self.checkpoint.write(*self._made, state)

    def finish(self, epochs: int, status: str) -> None:
        """Write done.json with the status 'done' or 'diverged'. RecordError as from `add_epoch`."""
        self._check_made()
        write_json(self._done, {"epochs": epochs, "status": status, "sha256": self._digests(epochs)})
        remove(self._failed)   # by another process that failed meanwhile

    def fail(self, reason: str) -> None:
        """Record why an attempt failed, if the disk takes it."""
        with contextlib.suppress(OSError):
            make_folder(self.folder)
            write_json(self._failed, {"reason": reason})

    def _check_made(self) -> None:
        epochs, digests = self._made
        self._check_files(f"this process had made {epochs}", epochs, digests)
        if not self.epochs.is_of(epochs):   # without the lock's file, another process could write, too
            raise RecordError(f"{self.epochs.path}: another process has written to it; give the command again once "
                              "none works on the run")

    def _read_checkpoint(self) -> tuple[int, dict[str, bytes]]:
        members = self.checkpoint.members()
        if members is None:
            recorded = len(self.epochs.rows())
            # One row without a checkpoint is what a kill in the first epoch leaves.
            if recorded > 1 or self.completion():
                raise RecordError(f"{self.checkpoint.path}: missing (git does not keep checkpoints), so the run cannot "
                                  f"go on after its {recorded} epochs; to make it anew, delete {self.folder}, or take "
                                  "another --results")
            return 0, {}
        epoch, digests = self.checkpoint.parse(members.pop(POSITION, b""))
        self._check_position(epoch, self.completion())
        self._check_files(f"the checkpoint has {epoch}", epoch, digests)
        if digests and {**self._digests(epoch), **{name: digest(data) for name, data in members.items()}} != digests:
            raise self.checkpoint.damaged(ValueError("its members are not what was written"))
        return epoch, members

    def _check_position(self, epoch: int, done: Mapping[str, Any] | None) -> None:
        if done and epoch < done["epochs"]:
            raise DamagedError(f"{self.checkpoint.path}: is of epoch {epoch}, but {done['epochs']} are complete")
        timed = len(self.seconds.rows())
        if timed < epoch:
            raise DamagedError(f"{self.seconds.path}: has {timed} epochs, but the checkpoint has {epoch}")


def _describe(distributed: Mapping[str, Any] | None) -> str:
    if not distributed:
        return "no --kvstore"
    return "--kvstore {kvstore}, {workers} workers and updates on the {updates_on}".format(**distributed)


def read_environments(path: Path) -> list[dict[str, Any]]:
    """The environments of an environment.json, oldest first; none without the file. RecordError if it is damaged."""
    try:
        content = read_json(path, None) if path.exists() else []
    except DamagedError as error:
        raise damaged_environment(path) from error
    if not isinstance(content, list) or not all(isinstance(one, dict) and is_number_of_epochs(one.get("first_epoch"))
                                                for one in content):
        raise damaged_environment(path)
    return content


def damaged_environment(path: Path) -> RecordError:
    """The error to raise for an environment.json that is not what was written. No DamagedError, which costs the run."""
    return RecordError(f"{damaged(path)}; it fixes no number: delete it alone")
