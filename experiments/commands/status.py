"""The survey of an experiment's records as lines to read."""

from __future__ import annotations

from typing import Any

from experiments.analysis.survey import STATES, counted
from experiments.running.progress import duration


def describe(status: dict[str, Any]) -> str:
    """The survey as lines to read."""
    tuned = ", tuned" if status["tuned"] else ""
    lines = [f"{status['experiment']}{tuned}, {status['epochs']} epochs, in {status['results']}",
             "  {:24}".format("method") + "".join(f"{state:>11}" for state in STATES) + f"{'time of one':>13}"]
    for method, counts in status["methods"].items():
        seconds = status["seconds_per_run"][method]
        lines.append(f"  {method:24}" + "".join(f"{counts[state] or '-':>11}" for state in STATES)
                     + f"{'-' if seconds is None else duration(seconds):>13}")
    failed = {**status["failed"], **(status["grid"] or {"failed": {}})["failed"]}
    lines += [f"  failed: {folder}: {reason}" for folder, reason in failed.items()]
    lines.append(f"  time left: {_time_left(status['seconds_left'])}")
    if status["grid"]:
        lines.append(f"  grid search, {status['grid']['epochs']} epochs: {counted(status['grid']['runs'])}; time left: "
                     f"{_time_left(status['grid']['seconds_left'])}")
    return "\n".join(lines)


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return "unknown, as no epoch is recorded"
    return f"{duration(seconds)} in one process" if seconds else "none"
