"""One attempt at a run: made in a training process, and concluded in the process that started it."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import Any, Callable, NamedTuple, Tuple

from experiments.running.tensorboard import Log
from experiments.vocabulary.config import Run, RunOptions
from experiments.vocabulary.errors import RecordError, UsageError, explain, one_line
from experiments.vocabulary.records import Busy, RunRecord

# Messages of a process that makes a run: (EPOCH, number) after each epoch, at the end one of the others with a text.
EPOCH, ENDED, BUSY, FAILED, UNUSABLE = "epoch", "ended", "busy", "failed", "unusable"
Message = Tuple[str, Any]


class Outcome(NamedTuple):
    """How a run ended: status 'done', 'diverged', 'busy' or 'failed', and why it is busy or failed."""

    run: Run
    status: str
    reason: str = ""


def try_run(run: Run, options: RunOptions, report: Callable[[int], None], workers: Any = None) -> Message:
    """Make a run in this process; returns the closing message, never raises an Exception.

    MXNet must have been loaded here with the run's number of threads, or not yet. ``report`` gets the number of each
    epoch once it is recorded. ``workers``: the run's `experiments.training.workers.Workers`; None: this process alone.
    """
    try:
        from experiments.training.loop import train  # here, as they load MXNet
        from experiments.training.workers import ONE_WORKER

        with Log(Path(options.tensorboard, run.folder)) if options.tensorboard else contextlib.nullcontext() as log:
            def recorded(row):
                if log is not None:
                    log.add(row)
                report(row["epoch"])

            train(run, options, recorded, workers or ONE_WORKER)
        return ENDED, ""
    except Busy:
        return BUSY, "another process is making it"
    except UsageError as error:
        return UNUSABLE, str(error)
    except RecordError as error:
        return FAILED, explain(error, options.results / run.folder)
    except OSError as error:   # a full disk, a folder that is read-only
        return FAILED, f"{error.filename or options.results / run.folder}: {error.strerror or error}"
    except MemoryError as error:
        return FAILED, f"not enough memory: {error}"
    except Exception as error:
        traceback.print_exc()
        return FAILED, _reason(error)


def _reason(error: Exception) -> str:
    """An error in one line, beginning with its type."""
    line, name = one_line(error), type(error).__name__
    return line if line == name or line.startswith(f"{name}: ") else f"{name}: {line}"


def conclude(run: Run, options: RunOptions, kind: str, text: str) -> Outcome:
    """The outcome of a run, from its closing message. Records a failure in the run's folder; raises UNUSABLE's error.
    """
    record = RunRecord(options.results / run.folder)
    if kind == UNUSABLE:
        raise UsageError(text)
    if kind in (ENDED, FAILED):
        try:
            completion = record.completion()
            if completion and record.is_complete(options.epochs):   # also if FAILED: killed after its last file
                return Outcome(run, completion["status"])
            missing = f"{record.folder}: its process has completed the run, but it is not complete here"
        except RecordError as error:
            missing = explain(error, record.folder)
        if kind == ENDED:
            kind, text = FAILED, missing
    if kind == FAILED:
        record.fail(text)
    return Outcome(run, kind, text)
