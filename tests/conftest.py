"""Imports namsg_mx before any test module imports MXNet, as Python 3.12 needs it (namsg_mx/compat.py)."""

import namsg_mx  # noqa: F401
