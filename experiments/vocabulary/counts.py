"""Whole numbers from 1 on, as users write them in options and variables."""

from __future__ import annotations

import argparse

MOST = 999_999_999


def is_count(text: str, most: int = MOST) -> bool:
    """Whether the text is a whole number from 1 to ``most``, in the digits 0 to 9."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(MOST)) and 1 <= int(text) <= most


def count(text: str) -> int:
    """The number that an option gives. argparse.ArgumentTypeError if `is_count` does not hold."""
    if not is_count(text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a positive whole number")
    return int(text)
