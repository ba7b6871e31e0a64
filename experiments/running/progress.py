"""Shows how far many runs are and how long the rest will take: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Mapping

from tqdm import tqdm

from experiments.vocabulary.config import Run

SECONDS_BETWEEN_LINES = 30


class Progress:
    """The display, a context manager; `epoch` and `ended` tell it what has happened.

    ``recorded``: by a run's folder, its epochs that are recorded already. ``epochs``: how many each run will have.
    Threads may call both at once.
    """

    def __init__(self, recorded: Mapping[Path, int], epochs: int):
        # A run may have more rows than the epochs that are asked for now.
        self._epochs, self._recorded = epochs, {run: min(rows, epochs) for run, rows in recorded.items()}
        self._runs, self._ended = len(recorded), 0
        self._start = self._last_line = time.monotonic()
        total, initial = len(recorded) * epochs, sum(self._recorded.values())
        tqdm.monitor_interval = 0   # or its thread takes Ctrl-C, and interrupts the main thread where that blocks it
        self._bar = tqdm(total=total, initial=initial, unit="epoch", disable=not sys.stderr.isatty())
        self._left, self._made = total - initial, 0
        self._turn = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def epoch(self, run: Run, epoch: int) -> None:
        """An epoch of a run was recorded. Ignored if the run has ended: a cluster's message may come late."""
        with self._turn:
            if run.folder not in self._recorded:
                return
            gained = epoch - self._recorded[run.folder]   # usually 1; 0 or less if recorded rows are made again
            self._recorded[run.folder] = epoch
            self._left -= gained
            self._made += 1
            self._bar.update(gained)
            if self._bar.disable and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
                self.line(f"{run.name}: epoch {epoch} of {self._epochs}")

    def ended(self, run: Run, status: str, reason: str) -> None:
        """A run ended; the arguments are the fields of `experiments.running.attempt.Outcome`."""
        with self._turn:
            self._ended += 1
            skipped = self._epochs - self._recorded.pop(run.folder)   # epochs that will not be made here
            self._left -= skipped
            self._bar.total -= skipped
            self.line(f"{run.name}: {status}" + (f": {reason}" if reason else ""))

    def line(self, text: str) -> None:
        """Print a line, with how many runs have ended before it."""
        self._last_line = time.monotonic()
        left = ""
        if self._bar.disable and self._made and self._left:
            left = f"; {duration((self._last_line - self._start) / self._made * self._left)} left"
        tqdm.write(f"[{self._ended}/{self._runs}] {text}{left}", file=sys.stdout)
        sys.stdout.flush()


def duration(seconds: float) -> str:
    """'40 s', '12 min' or '3.5 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
