"""Errors that end a command with one line instead of a traceback."""

import reprlib
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """A bad option, configuration or data file, so that nothing can start (exit status 2)."""


class RecordError(Exception):
    """Records that are missing, damaged or made with other settings, so that one run or figure fails (exit status 1).
    """


class DamagedError(RecordError):
    """A file whose content is not what was written."""


def explain(error: RecordError, folder: Path) -> str:
    """The error of the run in this folder, with what to do about damage."""
    return f"{error}; to make the run anew, delete {folder}" if isinstance(error, DamagedError) else str(error)


def one_line(error: BaseException) -> str:
    """An error in one line: its first, or the last of MXNet's, which begin with a traceback; without any, its type."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if lines[0].startswith("Traceback") else 0]


def quoted(value: Any) -> str:
    """A value as a message quotes it, shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxlevel = 2
    return short.repr(value)
