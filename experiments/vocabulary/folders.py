"""Folders that several rooms read or write: the configurations, and what a results folder has besides the records."""

from pathlib import Path

CONFIGS = Path("configs")   # in the checkout, where commands are given
FIGURES, TABLES, BENCHMARKS = "figures", "tables", "benchmarks"   # in a results folder
