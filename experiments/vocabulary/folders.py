"""Names of folders that several rooms use: the configurations, and a results folder's folders beside its records."""

from pathlib import Path

CONFIGS = Path("configs")   # in the checkout, where commands are given
OTHERS = FIGURES, TABLES, BENCHMARKS, ROUNDING = ("figures", "tables", "benchmarks", "rounding")   # in a results folder
SELECTION = "selection.json"   # in an experiment's folder there, beside its methods' folders
