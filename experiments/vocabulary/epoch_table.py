"""A run's epochs as a CSV file, which is appended to and never believed where it is not what was written.

A kill can leave a line that was cut off; it does not count. Floats are written so that they are read back to the bit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Mapping, Sequence

from experiments.vocabulary.errors import DamagedError
from experiments.vocabulary.files import naming, reading, remove, sync

# learning_rate, eta and sgd_learning_rate are of the epoch's last update (`namsg_mx.optimizers.base.LastUpdate`).
# train_loss is the running loss: the mean over the epoch's examples as they were trained on. train_loss_full is the
# mean over the whole training set after the epoch, in inference mode.
EPOCH_COLUMNS = ("epoch", "updates", "learning_rate", "eta", "sgd_learning_rate", "train_loss", "train_loss_full",
                 "test_loss", "test_accuracy")
SECONDS_COLUMNS = ("epoch", "training", "evaluation")
INTEGER_COLUMNS = ("epoch", "updates")
OPTIONAL_COLUMNS = ("eta", "sgd_learning_rate", "train_loss_full")   # their cells may be empty


class EpochTable:
    """A CSV file with one row per epoch, 1, 2, ...; rows are appended, and removed only by `trim`."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, columns

    def rows(self, count: int | None = None) -> list[dict[str, Any]]:
        """The complete rows, or the first ``count``; an empty cell is None.

        RecordError if `append` would not have written them so.
        """
        return [self._parse(number, line) for number, line in enumerate(self._lines()[1:][:count], start=1)]

    def count(self) -> int:
        """The number of complete rows."""
        return max(0, len(self._lines()) - 1)

    def content(self, count: int) -> bytes:
        """The header and the first ``count`` rows as the file has them; empty if ``count`` is 0."""
        return b"".join(line + b"\n" for line in self._lines()[:count + 1]) if count else b""

    def is_of(self, count: int) -> bool:
        """Whether the file has ``count`` rows, and nothing after them."""
        return not self.path.exists() if count == 0 else self.path.read_bytes() == self.content(count)

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row (before the first, also the header) and wait until it is on the disk."""
        lines = [] if self.path.exists() else [self._header()]
        lines.append(",".join("" if row[c] is None else repr(row[c]) for c in self.columns).encode())
        with naming(self.path), open(self.path, "ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            sync(file)

    def trim(self, count: int) -> None:
        """Keep only the first ``count`` rows."""
        if count == 0:
            remove(self.path)
            return
        with naming(self.path), open(self.path, "r+b") as file:
            file.truncate(len(self.content(count)))
            sync(file)

    def _header(self) -> bytes:
        return ",".join(self.columns).encode()

    def _lines(self) -> list[bytes]:
        """The complete lines, first the header."""
        try:
            with reading(self.path):
                *lines, rest = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        if (lines[0] != self._header()) if lines else not self._header().startswith(rest):
            raise DamagedError(f"{self.path}: damaged: does not begin with {','.join(self.columns)}")
        return lines

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        cells = line.split(b",")
        try:
            row = {c: _value(c, cell.decode("ascii")) for c, cell in zip(self.columns, cells)}
        except ValueError:
            row = {}
        if len(cells) != len(self.columns) or row.get("epoch") != number:
            raise DamagedError(f"{self.path}: damaged: line {number + 1} is not the row of epoch {number}")
        return row


def _value(column: str, cell: str) -> int | float | None:
    """A cell's number, or None if it is empty. ValueError if `EpochTable.append` would not have written it so."""
    if not cell and column in OPTIONAL_COLUMNS:
        return None
    value = int(cell) if column in INTEGER_COLUMNS else float(cell)
    if not math.isfinite(value) or (repr(value) != cell and f"{value:g}" != cell):   # Python also reads 1_0 and +1
        raise ValueError(cell)
    return value
