"""Imports namsg_mx before any test module imports MXNet, as Python 3.12 needs it (namsg_mx/compat.py)."""

import signal

import namsg_mx  # noqa: F401

# A shell's background jobs ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
