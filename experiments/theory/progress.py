"""Shows how far a simulation is."""

from __future__ import annotations

import sys
from typing import Collection, Iterator, TypeVar

from tqdm import tqdm

Step = TypeVar("Step")


def follow(steps: Collection[Step], what: str) -> Iterator[Step]:
    """Yield the steps, with a progress bar on a terminal; elsewhere print a line as each step begins."""
    is_terminal = sys.stderr.isatty()
    for i, step in enumerate(tqdm(steps, desc=what, disable=not is_terminal), start=1):
        if not is_terminal:
            print(f"[{i}/{len(steps)}] {what}", flush=True)
        yield step
