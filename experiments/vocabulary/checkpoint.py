"""A run's checkpoint: the state after its last epoch in one file, written and read back with checks.

The file also has the run's id, the epoch, and digests: of the run's files, and of the checkpoint's other members. Older
checkpoints have no digests, and some no id. In all of them zipfile checks each member's CRC-32.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Mapping

from experiments.vocabulary.digests import digest, has_digests, is_number_of_epochs
from experiments.vocabulary.errors import DamagedError, one_line
from experiments.vocabulary.files import reading, write_atomically

POSITION = "position.json"   # the member with the run's id, the epoch and the digests


class Checkpoint:
    """checkpoint.zip of one run: members by name, among them `POSITION`. It is replaced whole."""

    def __init__(self, path: Path, run: str):
        self.path, self._run = path, run

    def members(self, *names: str) -> dict[str, bytes] | None:
        """These members, or all members; None without a checkpoint. RecordError if one cannot be read."""
        try:
            with reading(self.path), open(self.path, "rb") as file:
                try:
                    with zipfile.ZipFile(file) as archive:
                        return {name: archive.read(name) for name in names or archive.namelist()}
                except Exception as error:   # zipfile lets through zlib.error, struct.error, ...
                    raise self.damaged(error) from error
        except FileNotFoundError:
            return None

    def position(self) -> tuple[int, dict[str, str] | None] | None:
        """What `parse` finds; None without a checkpoint. RecordError as from `members` and `parse`."""
        members = self.members(POSITION)
        return None if members is None else self.parse(members[POSITION])

    def parse(self, content: bytes) -> tuple[int, dict[str, str] | None]:
        """The epoch and the digests, if there are any, in the content of `POSITION`.

        RecordError if it is damaged or of another run.
        """
        with contextlib.suppress(ValueError, RecursionError):
            position = json.loads(content)
            if isinstance(position, dict) and is_number_of_epochs(position.get("epoch")) and position["epoch"] and (
                    position.keys() == {"epoch"} or has_digests(position, {"run", "epoch"})):
                if position.get("run", self._run) != self._run:
                    raise DamagedError(f"{self.path}: is of another run, {position['run']}")
                return position["epoch"], position.get("sha256")
        raise self.damaged(ValueError(f"{POSITION} is not what was written"))

    def write(self, epoch: int, digests: Mapping[str, str], state: Mapping[str, bytes]) -> None:
        """Replace the checkpoint. ``digests`` are of the run's files; ``state`` has the other members by name."""
        digests = {**digests, **{name: digest(data) for name, data in state.items()}}
        position = json.dumps({"run": self._run, "epoch": epoch, "sha256": digests}).encode()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:   # stored, as weights hardly compress
            for name, data in {POSITION: position, **state}.items():
                archive.writestr(name, data)
        write_atomically(self.path, content.getvalue())

    def damaged(self, error: Exception) -> DamagedError:
        """The error to raise for a checkpoint that cannot be read or restored, with its cause."""
        return DamagedError(f"{self.path}: damaged ({one_line(error)})")
