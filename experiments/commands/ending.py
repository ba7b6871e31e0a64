"""How a command ends: its exit status, and an error's one line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Callable

from experiments.vocabulary.errors import RecordError, UsageError


def exit_status(command: Callable[[], int]) -> int:
    """The exit status of a command, after a line on stderr where it fails."""
    try:
        return command()
    except UsageError as error:
        return fail(2, str(error))
    except RecordError as error:
        return fail(1, str(error))
    except BrokenPipeError:   # the reader, `head` for instance, has seen enough
        _flush_or_close()
        return 1
    except OSError as error:
        _flush_or_close()
        return fail(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt as interrupt:
        return fail(130, "; ".join(["interrupted", *interrupt.args]))


def _flush_or_close() -> None:
    """Standard output, which the interpreter flushes at its end: a second error would change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(status: int, message: str) -> int:
    """Say why, and return the status."""
    with contextlib.suppress(OSError):   # nobody reads it
        print(f"experiments: {message}", file=sys.stderr, flush=True)
    return status
