"""The command line: commands, options and their checks.

Exit status 0: done. 1: a run failed, or records that a command needs are missing or damaged. 2: a bad option,
configuration or data file. 130: Ctrl-C. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Sequence

from experiments.commands import show, train
from experiments.commands.ending import exit_status
from experiments.vocabulary.counts import count
from experiments.vocabulary.errors import UsageError
from experiments.vocabulary.folders import RESULTS
from experiments.vocabulary.seeds import parse_seeds

EXAMPLES = {   # of each command, and of all
    "": ("run configs/demo.yaml --results build/demo", "status", "figure 2", "claims"),
    "run": ("run configs/demo.yaml --results build/demo",
            "run configs/mnist_logistic.yaml --method namsg adam --seeds 0-1 --data DIR",
            "run configs/mnist_cnn.yaml --jobs 4 --threads 2 --results build/threads",
            "run configs/cifar10_resnet20.yaml --scheduler tcp://HOST:8786 --results /shared/results"),
    "grid": ("grid configs/mnist_logistic.yaml --data DIR",
             "grid configs/mnist_cnn.yaml --method namsg --at learning_rate=0.001 beta2=0.99 --seeds 102-109"),
    "data": ("data", "data --data DIR"),
    "list": ("list",),
    "status": ("status", "status configs/mnist_cnn.yaml --results build/cnn", "status --json",
               "status configs/mnist_cnn.yaml --tuned --method namsg adam"),
    "figure": ("figure 2", "figure 3 --partial", "figure configs/demo.yaml --results build/demo", "figure theory",
               "figure sensitivity --config configs/mnist_cnn.yaml --method namsg adam --output build/figures"),
    "table": ("table A3 --partial", "table configs/mnist_logistic.yaml", "table configs/mnist_cnn.yaml --tuned"),
    "claims": ("claims", "claims mnist_cnn-lowest cost", "claims --json"),
    "report": ("report", "report --results build/demo"),
}
GOES_ON = "Give an interrupted command again, and it continues.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    def command():
        try:
            options = _parser().parse_args(arguments)
        except SystemExit:   # --help has been printed
            status = 0
        else:
            status = options.command(options)
        sys.stdout.flush()   # output that cannot be written is an error here, not at the interpreter's end
        return status
    return exit_status(command)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(f"{message} ({self.prog} --help shows what is possible)")


def _examples(name: str) -> str:
    lines = ["examples:", *(f"  python -m experiments {example}" for example in EXAMPLES[name])]
    return "\n".join(lines) + "\n" + (GOES_ON if name in ("", "run", "grid") else "")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m experiments", description="The experiments of the NAMSG paper.",
                     epilog=_examples(""), formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, command, help):
        added = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.",
                                    epilog=_examples(name), formatter_class=argparse.RawDescriptionHelpFormatter)
        added.set_defaults(command=command)
        return added

    running = add("run", train.run, "train an experiment's runs, or the rest of them")
    _add_training(running)
    _add_tuned(running)
    running.add_argument("--kvstore", choices=("dist_sync", "dist_async"),
                         help="train each run on many processes, which a launcher starts (docs/scaling.md)")
    running.add_argument("--update-on-servers", action="store_true",
                         help="with --kvstore: the optimizer runs on the servers, and an interrupted run begins anew; "
                              "dist_async has no other way (default: on the workers)")
    searching = add("grid", train.grid, "search the grids of an experiment, or the rest of them, and select")
    _add_training(searching)
    searching.add_argument("--at", nargs="+", action="extend", type=_coordinate, default=[], metavar="NAME=VALUE",
                           help="only these points (learning_rate=0.001), and no selection")

    getting = add("data", train.get_data, "download MNIST and CIFAR-10, and check them")
    getting.add_argument("--data", type=_folder, metavar="DIR",
                         help="folder of the data sets (default: NAMSG_DATA, else MXNet's own)")

    add("list", show.show_list, "show experiments, methods and their sources")

    status = add("status", show.show_status, "show what is done, running, failed or missing")
    status.add_argument("config", nargs="*", metavar="CONFIG", help="YAML files (default: all in configs/)")
    status.add_argument("--json", action="store_true", help="print JSON, for programs")
    _add_tuned(status)
    _add_selection(status)

    drawing = add("figure", show.figure, "draw a figure from records, as PNG and SVG")
    drawing.add_argument("figure", metavar="FIGURE|CONFIG",
                         help="1, 2, 3, A1, theory, sensitivity (to α, in the grid searches), distance (α and η), or a "
                              "YAML file")
    _add_drawing(drawing, "for sensitivity: whose grid searches (default: the paper's that select values)")

    tabulating = add("table", show.table, "write a table from records, as Markdown, CSV and LaTeX")
    tabulating.add_argument("table", metavar="TABLE|CONFIG",
                            help="A1, A2, A3, rounding (how much rounding alone changes), or a YAML file for an "
                                 "experiment's results and epochs to a train loss")
    _add_drawing(tabulating, "for A1: whose grid searches (default: the paper's); for rounding: whose runs (default: "
                             "all in configs/)")

    judging = add("claims", show.show_claims, "judge the paper's sentences by what is recorded")
    judging.add_argument("claim", nargs="*", metavar="CLAIM",
                         help="names of claims, as this command prints them (default: all, and their table)")
    judging.add_argument("--json", action="store_true", help="print JSON with all numbers, for programs")
    _add_results(judging)

    _add_results(add("report", show.report, "write one HTML page of all results"))
    return parser


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("--results", type=_folder, default=str(RESULTS), metavar="DIR",
                         help=f"where records are (default: {RESULTS})")


def _add_tuned(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tuned", action="store_true",
                         help="use the values that our grid search selected, not the configuration's")


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", nargs="+", action="extend", metavar="M",
                         help="only these methods of the configuration")
    command.add_argument("--seeds", type=_seeds, action="extend", metavar="LIST",
                         help="seeds, such as 3, 0-9 or 0,2,5-7 (default: the configuration's)")
    _add_results(command)


def _add_drawing(command: argparse.ArgumentParser, config: str) -> None:
    command.add_argument("--config", nargs="+", action="extend", metavar="CONFIG", help=config)
    _add_tuned(command)
    _add_selection(command)
    command.add_argument("--partial", action="store_true", help="if runs are missing, show those that are there")
    command.add_argument("--output", type=_folder, metavar="DIR",
                         help="where to write (default: figures/ or tables/ in the results folder)")


def _add_training(training: argparse.ArgumentParser) -> None:
    training.add_argument("config", metavar="CONFIG", help="YAML file of an experiment")
    _add_selection(training)
    training.add_argument("--epochs", type=count, metavar="N",
                          help="how far to go (default: as the configuration says)")
    training.add_argument("--jobs", type=count, metavar="N",
                          help="runs in parallel (default: cores / threads; on a GPU 1)")
    training.add_argument("--data", type=_folder, metavar="DIR",
                          help="folder of the data sets (default: NAMSG_DATA, else MXNet's own, to which missing "
                               "files are downloaded)")
    training.add_argument("--device", type=_device, default="cpu", metavar="cpu|gpu:N",
                          help="what to train on (default: cpu)")
    training.add_argument("--threads", type=count, default=1, metavar="N",
                          help="threads of each run, which change its numbers by roundings (default: 1)")
    training.add_argument("--scheduler", type=_text, metavar="ADDR",
                          help="train on the Dask cluster of this scheduler (tcp://...), whose workers must see "
                               "--results and --data under the same paths")
    training.add_argument("--tensorboard", type=_folder, metavar="DIR", help="also log each epoch for TensorBoard "
                               "(pip install '.[tensorboard]')")


def _text(text: str) -> str:
    """A text that is not empty: an empty one, from an unset shell variable, would count as an option not given."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def _folder(text: str) -> str:
    """The path of a folder, or of one that can be made."""
    path = Path(_text(text)).absolute()
    try:
        while not path.exists() and not path.is_symlink():
            path = path.parent
        if not path.is_dir():
            raise argparse.ArgumentTypeError(f"{path}: is not a folder")
    except OSError as error:   # too long a name, no permission
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from error
    return text


def _seeds(text: str) -> list[int]:
    try:
        return parse_seeds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _coordinate(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE") from error


def _device(text: str) -> str:
    if not re.fullmatch("cpu|gpu:[0-9]{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor gpu:N")
    return text
