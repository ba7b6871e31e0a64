"""The command line: arguments, what each command does with them, and exit statuses.

0: done. 1: a run failed, or records that a command needs are missing or damaged. 2: a bad option, configuration or data
file. 130: Ctrl-C. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Callable, Iterator, Sequence

from experiments import config
from experiments.config import Experiment, Options, Run
from experiments.errors import RecordError, UsageError
from experiments.progress import Progress
from experiments.records import RunRecord
from experiments.status import describe, survey
from experiments.sweep import sweep

CONFIGS = Path("configs")
CIFAR = CONFIGS / "cifar10_resnet20.yaml"
COMPUTED = ("1", "theory")   # figures, which need no runs
EXAMPLES = """examples:
  python -m experiments run configs/demo.yaml --results build/demo
  python -m experiments run configs/mnist_logistic.yaml --method namsg adam --seeds 0-1 --data DIR
  python -m experiments status
  python -m experiments figure 2
  python -m experiments table configs/mnist_logistic.yaml
  python -m experiments grid configs/mnist_logistic.yaml --data DIR
A command that was interrupted goes on where it was when it is given again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    def command():
        options = _parser().parse_args(arguments)
        status = options.command(options)
        sys.stdout.flush()   # what cannot be written is an error here, and not at the interpreter's end
        return status
    return _status(command)


def _status(command: Callable[[], int]) -> int:
    """The exit status of a command, after a line on stderr where it fails."""
    try:
        return command()
    except UsageError as error:
        return _fail(2, str(error))
    except RecordError as error:
        return _fail(1, str(error))
    except BrokenPipeError:   # the reader, `head` for instance, has seen enough
        _flush_or_close()
        return 1
    except OSError as error:
        _flush_or_close()
        return _fail(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt as interrupt:
        return _fail(130, "; ".join(["interrupted", *interrupt.args]))


def _flush_or_close() -> None:
    """Standard output, which the interpreter flushes at its end: a second error would change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(options: argparse.Namespace) -> int:
    """Train what is not complete yet."""
    if options.kvstore:
        return _take_part(options)
    experiment, runs = _plan(options)
    if options.update_on_servers:
        raise UsageError("--update-on-servers: only with --kvstore")
    return _make(experiment, runs, _how(options, experiment.epochs), options)


def grid(options: argparse.Namespace) -> int:
    """Train what a grid search lacks, and write what it selects."""
    experiment = config.load(options.config)
    runs = [run for run, point in experiment.grid(options.method, options.seeds)
            if all(point.get(name) == value for name, value in options.at)]
    if not runs:
        raise UsageError(f"--at {' '.join(f'{n}={v:g}' for n, v in options.at)}: {experiment.name} has no such point")
    status = _make(experiment, runs, _how(options, experiment.tuning.epochs), options)
    if status or options.at or (options.epochs or experiment.tuning.epochs) < experiment.tuning.epochs:
        return status
    from experiments import selection

    found = _collect_grid(experiment, options)
    print(selection.describe(found))
    if experiment.tuning.selects and options.method is None and options.seeds is None:
        _print_paths([selection.write(found, Path(options.results))])
    return 0


def _take_part(options: argparse.Namespace) -> int:
    """This process's part in training by MXNet's kvstore: worker 0 leads, with the group of all; the exit status."""
    if options.scheduler or options.jobs:
        raise UsageError("--kvstore: makes one run at a time on all its workers; not with --scheduler or --jobs")
    from experiments import parameter_server

    parameter_server.check_environment()
    on_servers = options.update_on_servers or options.kvstore == "dist_async"
    with parameter_server.joined(options.kvstore, on_servers, options.threads) as group:
        if group is None:
            return 0

        def take_part() -> int:
            experiment, runs = group.agree(lambda: _plan(options))
            how = _how(options, experiment.epochs, group)
            group.begin({**how.distributed, **how._asdict(), "number of runs": len(runs),
                         **{f"run {i}": str(run.folder) for i, run in enumerate(runs, start=1)}})
            return _make(experiment, runs, how, options, group) if group.rank == 0 else group.follow()

        status = _status(take_part)
        group.leave(status)
        return status


def _plan(options: argparse.Namespace) -> tuple[Experiment, list[Run]]:
    """The experiment and the runs that are asked for."""
    experiment = _load(options.config, options)
    return experiment, experiment.runs(options.method, options.seeds)


def _how(options: argparse.Namespace, epochs: int, group=None) -> Options:
    """How runs are made, by default so many epochs of them."""
    distributed = group and {"kvstore": options.kvstore, "workers": group.count,
                             "updates_on": "servers" if group.updates_on_servers else "workers"}
    return Options(Path(options.results), options.epochs or epochs, options.data, options.device, options.threads,
                   options.tensorboard, distributed)


def _make(experiment: Experiment, chosen: Sequence[Run], how: Options, options: argparse.Namespace, group=None) -> int:
    """Train those of the runs that are not complete, with the other workers of a group if any; the exit status."""
    if not group and "DMLC_ROLE" in os.environ:
        raise UsageError("--kvstore is missing: a launcher (DMLC_ROLE) has started this as one process of many")
    recorded = {}
    for one in chosen:
        record = RunRecord(how.results / one.folder)
        record.check(one.record(how))
        if not record.is_complete(how.epochs):
            recorded[one.folder] = len(record.epochs.rows())
    todo = [one for one in chosen if one.folder in recorded]
    print(f"{experiment.title}: {len(chosen)} runs of {how.epochs} epochs, {len(chosen) - len(todo)} already complete",
          flush=True)
    with _resumable(), Progress(recorded, how.epochs) as progress:
        if group:
            outcomes = group.sweep(todo, how, progress)
        elif options.scheduler:
            from experiments.cluster import sweep_on_cluster

            outcomes = sweep_on_cluster(todo, how, options.scheduler, progress)
        else:
            outcomes = sweep(todo, how, options.jobs or _default_jobs(how), progress)
    print(f"records: {how.results / experiment.name}")
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if failed:
        return _fail(1, f"{failed} of {len(chosen)} runs failed")
    busy = sum(outcome.status == "busy" and not RunRecord(how.results / outcome.run.folder).is_complete(how.epochs)
               for outcome in outcomes)
    return _fail(1, f"{busy} of {len(chosen)} runs are not complete: another process is at them") if busy else 0


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from the last epoch of each run") from None


def get_data(options: argparse.Namespace) -> int:
    """Download what is missing of the data sets, and read all of it."""
    from experiments import data  # which imports NumPy

    folder = data.find_folder(options.data)
    for name in data.FILES:
        data.download_missing(name, folder / name)
        train, test = data.load({"name": name}, str(folder))
        print(f"{folder / name}: {len(train.labels)} training and {len(test.labels)} test images, the official ones")
    return 0


def show_list(options: argparse.Namespace) -> int:
    """Print experiments and methods with their sources."""
    for path in _configs():
        experiment = config.load(path)
        print(f"{path}: {experiment.title}\n  {experiment.epochs} epochs, batch {experiment.batch_size}, "
              f"seeds {config.seed_range(experiment.seeds)}, weight decay {experiment.weight_decay:g}")
        for method in experiment.methods.values():
            parameters = ", ".join(f"{name} {_readable(value)}" for name, value in method.parameters.items())
            on_request = "" if method.by_default else "; on request only"
            print(f"  {method.name:24}{method.optimizer}: {parameters} ({method.source}{on_request})")
    return 0


def show_status(options: argparse.Namespace) -> int:
    """Print what is done and what is not."""
    paths = options.config or _configs()
    surveys = [survey(config.load(path), Path(options.results)) for path in paths]
    print(json.dumps(surveys, indent=2) if options.json else "\n".join(describe(s) for s in surveys))
    return 0


def figure(options: argparse.Namespace) -> int:
    """Draw a figure from records."""
    from experiments import figures  # here, as a training process imports this module and needs no matplotlib

    folder = Path(options.results, "figures")
    _check_options(options.figure, options)
    if options.figure in COMPUTED:
        from experiments import theory_figures  # the only ones that need SciPy and MXNet

        draw = theory_figures.draw_gain if options.figure == "1" else theory_figures.draw_theory
        _print_paths(draw(folder))
        return 0
    if options.figure in figures.PAPER:
        rows = [figures.Row(_collect(config.load(CONFIGS / f"{experiment}.yaml"), options, methods), part)
                for experiment, methods, part in figures.PAPER[options.figure]]
        paths = figures.draw(rows, f"figure{options.figure}", folder)
    elif options.figure == "sensitivity":
        paths = figures.draw_sensitivity(_collect_grids(options), "sensitivity", folder)
    elif _is_config(options.figure):
        experiment = _load(options.figure, options)
        paths = figures.draw([figures.Row(_collect(experiment, options))], _name(experiment, options), folder)
    else:
        raise UsageError(f"figure {options.figure}: neither a configuration (.yaml) nor one of "
                         f"1, {', '.join(figures.PAPER)}, sensitivity, theory")
    _print_paths(paths)
    return 0


def table(options: argparse.Namespace) -> int:
    """Write a table from records."""
    from experiments import tables

    _check_options(options.table, options)
    if options.table == "A1":
        made = {"tableA1": tables.table_a1(_collect_a1(options))}
    elif options.table == "A2":
        experiment = config.load(CIFAR)
        methods = _recorded(experiment, options, is_grid=True)
        made = {"tableA2": tables.table_a2(_collect_grid(experiment, options, methods))}
    elif options.table == "A3":
        experiment = config.load(CIFAR)
        made = {"tableA3": tables.table_a3(_collect(experiment, options, _recorded(experiment, options)))}
    elif _is_config(options.table):
        experiment = _load(options.table, options)
        results = _collect(experiment, options, _recorded(experiment, options))
        name = _name(results.experiment, options)
        made = {f"{name}{ending}": content for ending, content in tables.of_experiment(results).items()}
    else:
        raise UsageError(f"table {options.table}: neither a configuration (.yaml) nor one of A1, A2, A3")
    for name, content in made.items():
        paths = tables.write(content, name, Path(options.results, "tables"))
        print(paths[0].read_text(encoding="utf-8"))
        _print_paths(paths)
    return 0


def show_claims(options: argparse.Namespace) -> int:
    """Judge the paper's claims by the records; of all of them also write the table."""
    from experiments import claims, tables
    from experiments.evidence import Evidence

    known = [claim.name for claim in claims.CLAIMS]
    for name in options.claim:
        if name not in known:
            raise UsageError(f"claim {name!r}: there are {', '.join(known)}")
    verdicts = claims.judge(Evidence(Path(options.results), CONFIGS), options.claim)
    if options.json:
        print(json.dumps([claims.as_json(verdict) for verdict in verdicts], indent=2))
        return 0
    print("\n".join(claims.describe(verdict) for verdict in verdicts))
    if not options.claim:
        _print_paths(tables.write(claims.as_table(verdicts), "claims", Path(options.results, "tables")))
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the page of all results."""
    from experiments import report

    _print_paths([report.write(Path(options.results), CONFIGS)])
    return 0


# The imports stand where they are used, as pandas takes longer to load than most commands.

def _load(path: str, options: argparse.Namespace) -> Experiment:
    """The experiment, with --tuned at the values that its own grid search selected."""
    experiment = config.load(path)
    if not options.tuned:
        return experiment
    from experiments import selection

    chosen = selection.chosen(experiment, Path(options.results))
    if not chosen:
        raise RecordError(f"{path}: nothing is selected in {options.results}; python -m experiments grid does it")
    return experiment.tuned(chosen)


def _configs() -> list[Path]:
    if not CONFIGS.is_dir():
        raise UsageError(f"{CONFIGS}: no such folder here; commands are given in the checkout")
    return sorted(CONFIGS.glob("*.yaml"))


def _check_options(what: str, options: argparse.Namespace) -> None:
    """UsageError for an option of figures or tables that this one would ignore."""
    if options.tuned and not _is_config(what):
        raise UsageError(f"--tuned: only with a configuration (.yaml), not with {what}")
    if options.config and what not in ("A1", "sensitivity"):
        raise UsageError(f"--config: only with A1 (the table) and sensitivity, not with {what}")
    if what in COMPUTED and (options.method or options.seeds or options.partial):
        raise UsageError(f"--method, --seeds, --partial: not with {what}, which is computed")


def _name(experiment: Experiment, options: argparse.Namespace) -> str:
    """That of its figure and table."""
    return experiment.name + ("_tuned" if options.tuned else "")


def _collect(experiment: Experiment, options: argparse.Namespace, methods: Sequence[str] | None = None):
    from experiments.results import collect

    return collect(experiment, Path(options.results), options.method or methods, options.seeds, options.partial)


def _collect_grid(experiment: Experiment, options: argparse.Namespace, methods: Sequence[str] | None = None):
    from experiments.results import collect_grid

    return collect_grid(experiment, Path(options.results), options.method or methods, options.seeds,
                        getattr(options, "partial", False))


def _recorded(experiment: Experiment, options: argparse.Namespace, is_grid: bool = False) -> list[str]:
    """The methods that a table shows where none is asked for."""
    from experiments.results import recorded_methods

    return recorded_methods(experiment, Path(options.results), options.seeds, options.partial, is_grid)


def _collect_grids(options: argparse.Namespace):
    """The grid searches of --config, or all that select."""
    from experiments.results import collect_grids

    chosen = [config.load(path) for path in options.config or _configs()]
    if not options.config:
        chosen = [experiment for experiment in chosen if experiment.tuning and experiment.tuning.selects]
    return collect_grids(chosen, Path(options.results), lambda experiment: options.method, options.seeds,
                         options.partial)


def _collect_a1(options: argparse.Namespace):
    """The grid searches of --config, or the paper's; also of MXNet's NADAM, where it is recorded."""
    from experiments import paper
    from experiments.results import collect_grids

    def methods(experiment):
        return options.method or [name for name in _recorded(experiment, options, is_grid=True)
                                  if experiment.methods[name].by_default or paper.printed_name(name) != name]

    chosen = options.config or [path for name in paper.TABLE_A1 for path in _configs() if path.stem == name]
    return collect_grids([config.load(path) for path in chosen], Path(options.results), methods, options.seeds,
                         options.partial)


def _is_config(text: str) -> bool:
    return Path(text).suffix in (".yaml", ".yml")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(f"{message} ({self.prog} --help shows what is possible)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m experiments", description="The experiments of the NAMSG paper.", epilog=EXAMPLES,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, command, help):
        added = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=EXAMPLES,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
        added.set_defaults(command=command)
        return added

    def add_results(command):
        command.add_argument("--results", default="results", metavar="DIR", help="where records are (default: results)")

    def add_tuned(command):
        command.add_argument("--tuned", action="store_true",
                             help="with the values that our grid search selected, instead of the configuration's")

    def add_selection(command):
        command.add_argument("--method", nargs="+", metavar="M", help="only these methods of the configuration")
        command.add_argument("--seeds", type=_seeds, metavar="LIST",
                             help="instead of the configuration's seeds: 3, 0-9 or 0,2,5-7")
        add_results(command)

    def add_reading(command):
        add_selection(command)
        command.add_argument("--partial", action="store_true", help="show what is there where runs are missing")

    def add_grids(command):
        command.add_argument("--config", nargs="+", metavar="CONFIG",
                             help="grid searches of sensitivity and A1 (default: all that select; the paper's)")

    def add_training(training):
        training.add_argument("config", metavar="CONFIG", help="YAML file of an experiment")
        add_selection(training)
        training.add_argument("--epochs", type=_positive, metavar="N",
                              help="how far to go (default: the configuration's)")
        training.add_argument("--jobs", type=_positive, metavar="N", help="runs at a time (default: one per core)")
        training.add_argument("--data", metavar="DIR", help="folder of the data sets (default: NAMSG_DATA, else "
                                                            "MXNet's own, to which missing files are downloaded)")
        training.add_argument("--device", type=_device, default="cpu", metavar="cpu|gpu:N", help="(default: cpu)")
        training.add_argument("--threads", type=_positive, default=1, metavar="N",
                              help="threads of each run; a run's numbers depend on it (default: 1)")
        training.add_argument("--scheduler", metavar="ADDR",
                              help="train on the Dask cluster of this scheduler (tcp://...), whose workers must see "
                                   "--results and --data under the same paths")
        training.add_argument("--tensorboard", metavar="DIR", help="log each epoch for TensorBoard, too")

    running = add("run", run, "train an experiment's runs, or the rest of them")
    add_training(running)
    add_tuned(running)
    running.add_argument("--kvstore", choices=("dist_sync", "dist_async"),
                         help="train each run on many processes, which MXNet's launcher starts (docs/scaling.md)")
    running.add_argument("--update-on-servers", action="store_true",
                         help="with --kvstore: the optimizer runs on the servers, and an interrupted run begins anew; "
                              "dist_async has no other way (default: on the workers)")
    searching = add("grid", grid, "search the grids of an experiment, or the rest of them, and select")
    add_training(searching)
    searching.add_argument("--at", nargs="+", type=_coordinate, default=[], metavar="NAME=VALUE",
                           help="only these points (learning_rate=0.001), and no selection")

    getting = add("data", get_data, "download MNIST and CIFAR-10, and check them")
    getting.add_argument("--data", metavar="DIR",
                         help="folder of the data sets (default: NAMSG_DATA, else MXNet's own)")

    add("list", show_list, "show experiments, methods and their sources")

    status = add("status", show_status, "show what is done, running, failed or missing")
    status.add_argument("config", nargs="*", metavar="CONFIG", help="YAML files (default: all in configs/)")
    status.add_argument("--json", action="store_true", help="for programs")
    add_results(status)

    drawing = add("figure", figure, "draw a figure from records, as PNG and SVG")
    drawing.add_argument("figure", metavar="FIGURE|CONFIG",
                         help="1, 2, 3, A1, theory, sensitivity (to α, in the grid searches), or a YAML file")
    add_grids(drawing)
    add_tuned(drawing)
    add_reading(drawing)

    tabulating = add("table", table, "write a table from records, as Markdown, CSV and LaTeX")
    tabulating.add_argument("table", metavar="TABLE|CONFIG",
                            help="A1, A2, A3, or a YAML file for an experiment's results and epochs to a train loss")
    add_grids(tabulating)
    add_tuned(tabulating)
    add_reading(tabulating)

    judging = add("claims", show_claims, "judge the paper's sentences by what is recorded")
    judging.add_argument("claim", nargs="*", metavar="CLAIM", help="names of claims (default: all, and their table)")
    judging.add_argument("--json", action="store_true", help="for programs, with all the numbers")
    add_results(judging)

    add_results(add("report", report, "write one HTML page of all results"))
    return parser


def _default_jobs(how: Options) -> int:
    if how.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // how.threads)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _seeds(text: str) -> list[int]:
    try:
        return config.parse_seeds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _coordinate(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE") from error


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|gpu:\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor gpu:N")
    return text


def _readable(value) -> str:
    if not isinstance(value, dict):
        return f"{value:g}"
    arguments = ", ".join(f"{key} {number:g}" for key, number in value.items() if key != "schedule")
    return f"{value['schedule']}({arguments})"


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"written: {path}")


def _fail(status: int, message: str) -> int:
    with contextlib.suppress(OSError):   # nobody reads it
        print(f"experiments: {message}", file=sys.stderr, flush=True)
    return status
