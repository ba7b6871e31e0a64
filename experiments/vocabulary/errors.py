"""The errors whose message is all that a user needs: one line, without a traceback."""


class UsageError(Exception):
    """A bad option, configuration or data file: nothing can start (exit status 2)."""


class RecordError(Exception):
    """Records that are missing, damaged or of another setting: one run or figure cannot go on (exit status 1)."""
