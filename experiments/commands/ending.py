"""How commands end: exit statuses, and errors as one line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Callable

from experiments.vocabulary.errors import RecordError, UsageError


def exit_status(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; an error becomes one line on stderr."""
    try:
        return command()
    except UsageError as error:
        return fail(2, str(error))
    except RecordError as error:
        return fail(1, str(error))
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in ("experiments", "namsg_mx"):   # not what pip installs
            raise
        return fail(2, f"needs {error.name}: pip install -e '.[experiments,cluster,tensorboard]' installs all that "
                       "commands need")
    except BrokenPipeError:   # the reader, for instance `head`, has closed the pipe
        _flush_or_close()
        return 1
    except OSError as error:
        _flush_or_close()
        return fail(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt as interrupt:
        return fail(130, "; ".join(["interrupted", *interrupt.args]))


def _flush_or_close() -> None:
    """Flush standard output, or redirect it to the null device.

    The interpreter flushes it again at its end, where a second error would change the exit status.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(status: int, message: str) -> int:
    """Print the message on stderr and return the status."""
    with contextlib.suppress(OSError):   # stderr is closed
        print(f"experiments: {message}", file=sys.stderr, flush=True)
    return status
