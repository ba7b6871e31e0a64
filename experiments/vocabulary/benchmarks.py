"""The words of a benchmark's verdict, the same in its own table and in the report."""

from __future__ import annotations

from typing import Any, Mapping


def describe(verdict: Mapping[str, Any]) -> str:
    """'one array of 25 M: our time / copy is 1.014, wanted at most 1.176: holds', of a verdict in a benchmark's JSON.

    It has the keys shapes, what, share, 'at most' and holds.
    """
    return (f"{verdict['shapes']}: {verdict['what']} is {verdict['share']:.3f}, wanted at most "
            f"{verdict['at most']:.3f}: {'holds' if verdict['holds'] else 'does not hold'}")
