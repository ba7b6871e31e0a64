"""Names that several rooms use: the configurations' folder, and what a results folder holds beside its records."""

from pathlib import Path

CONFIGS = Path("configs")   # in the checkout, where commands are given
RESULTS = Path("results")   # there, too: where records are unless a command says otherwise
OTHERS = FIGURES, TABLES, BENCHMARKS, ROUNDING = ("figures", "tables", "benchmarks", "rounding")   # in a results folder
SELECTION = "selection.json"   # in an experiment's folder there, beside its methods' folders


def config_files(folder: Path) -> list[Path]:
    """The configurations in a folder, by name."""
    return sorted(folder.glob("[!.]*.yaml"))   # an editor's files begin with a dot
