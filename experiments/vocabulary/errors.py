"""The errors whose message is all that a user needs: one line, without a traceback."""

import reprlib
from typing import Any


class UsageError(Exception):
    """A bad option, configuration or data file: nothing can start (exit status 2)."""


class RecordError(Exception):
    """Records that are missing, damaged or made with other settings: a run or figure cannot go on (exit status 1)."""


def quoted(value: Any) -> str:
    """A value as a message quotes it, shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxlevel = 2
    return short.repr(value)
