"""An experiment's YAML file, checked, and the runs that it asks for, each with an id.

The file fixes data, model, batch size, weight decay and epochs once; its methods differ only in their own blocks. An
unknown key is an error. MXNet is not loaded here, so `status` is quick.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

import yaml

from experiments.vocabulary.errors import UsageError, quoted
from experiments.vocabulary.folders import OTHERS, SELECTION
from experiments.vocabulary.seeds import seed_range
from experiments.vocabulary.yaml_blocks import FLOAT32, NONNEGATIVE, ConfigBlock, ConfigLoader

# By an optimizer's registered name, the arguments that a configuration may give it.
OPTIMIZERS = {
    "averagedsgd": ("learning_rate", "beta1"),
    "adam": ("learning_rate", "beta1", "beta2", "epsilon"),
    "nadam": ("learning_rate", "beta1", "beta2", "epsilon", "schedule_decay"),
    "dozatnadam": ("learning_rate", "beta1", "beta2", "epsilon", "schedule_decay"),
    "amsgrad": ("learning_rate", "beta1", "beta2", "epsilon"),
    "namsg": ("learning_rate", "beta1", "beta2", "epsilon", "eta", "mu", "switch_to_sgd"),
    "namsb": ("learning_rate", "beta1", "beta2", "epsilon", "eta", "mu", "sgd_learning_rate", "gamma"),
    "amsbound": ("learning_rate", "beta1", "beta2", "epsilon", "sgd_learning_rate", "gamma"),
}
# By a class of namsg_mx.schedules, its arguments; `epochs` replaces the class's `updates`, and `at` is one update.
SCHEDULES = {"ObservationDistance": ("epochs", "start", "end"), "StepDecay": ("initial", "at", "factor"),
             "InverseSquareRoot": ("initial",), "HarmonicDecay": ("initial",)}
INTEGERS = ("switch_to_sgd", "at")   # arguments that count updates; all others are real numbers
SCHEDULED = ("learning_rate", "beta1", "eta", "mu", "sgd_learning_rate")   # arguments that may be schedules
OF_CONSTANT_BETA1 = ("adam", "nadam", "dozatnadam")
# Intervals of arguments, from the first number up to but without the second; NONNEGATIVE for all others.
NORMAL = (FLOAT32[0], math.inf)   # from float32's smallest normal number on
EPOCHS = (1e-6, 1e6)   # of a schedule, which may have a part of one
RANGES = {"beta1": (0.0, 1.0), "beta2": (0.0, 1.0), "epsilon": NORMAL, "gamma": NORMAL,
          "sgd_learning_rate": NORMAL, "decay": (0.0, 1.0)}
NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,99}")   # an experiment's or a method's: they also name files
# Names of other folders, tables and figures in the results folder, and the endings of an experiment's own.
RESERVED = re.compile("|".join((*OTHERS, "claims", "distance", "original_form", "sensitivity", "figure.*", "table.*",
                                "theory.*", ".*_tuned", ".*_epochs_to_loss", r"report\.html", r"README\.md")))
DATA_SETS = {"mnist": (), "cifar10": (), "rendered_digits": ("train", "test", "seed")}
MODELS = {"logistic_regression": (), "mnist_cnn": (), "cifar_resnet20_v1": ()}
AUGMENTATIONS = {"random_crops": ("size",)}
# Channels, and pixels of a side: of a data set's images, and of those that a network takes. None: any.
IMAGES = {"mnist": (1, 28), "cifar10": (3, 32), "rendered_digits": (1, 28)}
INPUTS = {"logistic_regression": (1, 28), "mnist_cnn": (1, 28), "cifar_resnet20_v1": (3, None)}

EXPERIMENT_KEYS = ("title", "data", "augmentation", "model", "batch_size", "weight_decay", "epochs", "seeds", "tuning",
                   "train_loss_full_every", "methods")
SEARCHED = "our grid search"   # the source of hyper-parameters that it selected
METHOD_KEYS = ("optimizer", "parameters", "averaging", "source", "grid", "by_default")


@dataclass(frozen=True)
class Method:
    """One method of an experiment.

    ``parameters``: the optimizer's arguments, numbers or ``{"schedule": name, ...}``. ``source``: where they come from.
    ``grid``: by argument, the values that the grid search tries. ``averaging``: usually None; else evaluation uses a
    moving average of the network's parameters with this ``decay``, and BatchNorm statistics from
    ``batch_norm_batches`` batches. ``by_default``: False for a method that runs only when it is named; tables show it
    once it is recorded, figures only when it is named.
    """

    name: str
    optimizer: str
    parameters: Mapping[str, Any]
    averaging: Mapping[str, float] | None
    source: str
    grid: Mapping[str, Sequence[float]]
    by_default: bool

    def at(self, point: Mapping[str, float]) -> dict[str, Any]:
        """The parameters, with the values of a grid point in place of their own; of a schedule, of its ``initial``."""
        return {**self.parameters, **{name: {**self.parameters[name], "initial": value}
                                      if isinstance(self.parameters.get(name), dict) else value
                                      for name, value in point.items()}}

    def points(self) -> list[dict[str, float]]:
        """All points of the grid, each as values by argument."""
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())] if self.grid else []


@dataclass(frozen=True)
class Tuning:
    """The grid search of an experiment: how many epochs, and which seeds.

    Usually it selects hyper-parameters, on seeds that no reported run has. ``selects`` is False for a search that only
    shows the methods' sensitivity, which may share seeds with reported runs.
    """

    epochs: int
    seeds: Sequence[int]
    selects: bool


class RunOptions(NamedTuple):
    """How runs are made: where, how far, and on what.

    ``results``, ``data`` (None: the default) and ``tensorboard`` (None: no such log) are folders. ``epochs`` is the
    last epoch. Only these change a run's numbers: ``threads``, ``device`` ('cpu' or 'gpu:N') and ``distributed``, which
    is None for training in one process, else the kvstore, its number of workers, and where updates are made.
    """

    results: Path
    epochs: int
    data: str | None
    device: str
    threads: int
    tensorboard: str | None = None
    distributed: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """One training. ``settings`` and ``seed`` fix its numbers; ``source`` says where its hyper-parameters come from.

    ``point``: in a grid search, the point of the grid.
    """

    experiment: str
    method: str
    settings: Mapping[str, Any]
    seed: int
    source: str
    point: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run in messages: 'adam seed 0', in a grid search 'adam learning_rate=0.001 beta1=0.9 seed 100'."""
        point = (f"{name}={value}" for name, value in self.point.items())
        return " ".join([self.method, *point, f"seed {self.seed}"])

    @property
    def id(self) -> str:
        return run_id(self.settings, self.seed)

    @property
    def folder(self) -> Path:
        """The run's folder inside the results folder; messages name the run by it."""
        return Path(self.experiment, self.method, self.id)

    def config_json(self, options: RunOptions) -> dict[str, Any]:
        """The content of the run's config.json."""
        record = {"experiment": self.experiment, "method": self.method, "settings": self.settings, "seed": self.seed,
                  "source": self.source, "threads": options.threads, "device": options.device}
        # Records of runs in one process have no such key, and stay what they were before there was one.
        return {**record, "distributed": options.distributed} if options.distributed else record


@dataclass(frozen=True)
class Experiment:
    """A checked configuration file (`configs/` has examples); ``name`` is the file's name without its ending.

    ``path``: the file's. ``augmentation``: None for training on the images as they are. ``tuning``: None without a
    grid search.
    ``train_loss_full_every``: the whole training set is evaluated every so many epochs; None for every epoch.
    ``is_tuned``: the methods have the values that the grid search selected (`tuned`), not the file's.
    """

    name: str
    path: str
    title: str
    data: Mapping[str, Any]
    augmentation: Mapping[str, Any] | None
    model: Mapping[str, Any]
    batch_size: int
    weight_decay: float
    epochs: int
    seeds: Sequence[int]
    tuning: Tuning | None
    train_loss_full_every: int | None
    methods: Mapping[str, Method]
    is_tuned: bool = False

    @property
    def search(self) -> Tuning:
        """The grid search. UsageError without one."""
        if self.tuning is None:
            raise UsageError(f"{self.name}: has no block 'tuning', and so no grid search")
        return self.tuning

    @property
    def selects(self) -> bool:
        """Whether a grid search selects hyper-parameters; False without one."""
        return self.tuning is not None and self.tuning.selects

    def select(self, names: Iterable[str] | None = None) -> list[Method]:
        """The named methods, or the default ones, in the configuration's order. UsageError for an unknown name."""
        names = dict.fromkeys(names or ())
        for name in names:
            if name not in self.methods:
                raise UsageError(f"method {name!r}: {self.name} has {', '.join(self.methods)}")
        return [m for m in self.methods.values() if (m.name in names if names else m.by_default)]

    def tuned(self, points: Mapping[str, Mapping[str, float]]) -> Experiment:
        """The experiment with other hyper-parameters: only the methods named in ``points``, each at its grid point."""
        methods = {name: replace(self.methods[name], parameters=self.methods[name].at(point), source=SEARCHED)
                   for name, point in points.items()}
        return replace(self, title=f"{self.title}, our grid search's values", methods=methods, is_tuned=True)

    def runs(self, methods: Iterable[str] | None = None, seeds: Iterable[int] | None = None) -> list[Run]:
        """The reported runs, seed by seed; without arguments, the default methods with all the configuration's seeds.

        UsageError for an unknown method, or for a seed that is kept for tuning.
        """
        chosen = self.select(methods)
        seeds = self.seeds if seeds is None else list(dict.fromkeys(seeds))
        tuned = self.selects and sorted(set(seeds) & set(self.search.seeds))
        if tuned:
            raise UsageError(f"seed {tuned[0]}: {self.name} keeps seeds {seed_range(self.search.seeds)} for tuning")
        return [self._run(method, seed, method.parameters, method.source)
                for seed, method in itertools.product(seeds, chosen)]

    def grid_runs(self, methods: Iterable[str] | None = None, seeds: Iterable[int] | None = None) -> list[Run]:
        """The runs of the grid search, seed by seed: every point of every method's grid.

        A default method without a grid is left out. UsageError without a grid search, for a named method that is
        unknown or has no grid, or for a seed kept for reported runs.
        """
        seeds = self.search.seeds if seeds is None else list(dict.fromkeys(seeds))
        reported = self.search.selects and sorted(set(seeds) & set(self.seeds))
        if reported:
            raise UsageError(f"seed {reported[0]}: {self.name} keeps seeds {seed_range(self.seeds)} for reported runs")
        chosen = self.select(methods)
        without = [method.name for method in chosen if not method.grid]
        if methods and without:
            raise UsageError(f"method {without[0]!r}: has no grid in {self.name}")
        return [self._run(method, seed, method.at(point), self._source(method, point), point)
                for seed, method in itertools.product(seeds, chosen) for point in method.points()]

    def _source(self, method: Method, point: Mapping[str, float]) -> str:
        """The source of a grid search's run; a reported run may be one of them where the two share seeds."""
        is_reported = not self.selects and method.at(point) == method.parameters
        return method.source if is_reported else "grid search"

    def _run(self, method: Method, seed: int, parameters: Mapping[str, Any], source: str,
             point: Mapping[str, float] | None = None) -> Run:
        settings = {
            "data": self.data, "model": self.model, "batch_size": self.batch_size, "method": method.name,
            "optimizer": method.optimizer, "parameters": {**parameters, "wd": self.weight_decay},
        }
        # Settings that a run does not use are left out, so ids are what they were before there were such settings.
        optional = {"augmentation": self.augmentation, "train_loss_full_every": self.train_loss_full_every,
                    "averaging": method.averaging}
        settings.update({name: value for name, value in optional.items() if value is not None})
        return Run(self.name, method.name, settings, seed, source, point or {})


def run_id(settings: Mapping[str, Any], seed: int) -> str:
    """The name of a run's folder: initial step size, digest of all settings, seed.

    The digest is of canonical JSON, so the order of keys does not matter. Epochs and threads are no settings: epochs
    say how far a run goes, and its record holds the threads.
    """
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    return f"lr{initial(settings['parameters']['learning_rate']):g}-{digest}-seed{seed}"


def initial(value: Any) -> Any:
    """A hyper-parameter's value; of a schedule, its first value."""
    return value.get("initial", value.get("start")) if isinstance(value, dict) else value


def updates_per_epoch(examples: int, batch_size: int) -> int:
    """Updates in one epoch, counting a smaller last batch: 235 for MNIST's 60,000 images in batches of 256."""
    return math.ceil(examples / batch_size)


def load(path: str | Path) -> Experiment:
    """Read an experiment from its YAML file. UsageError, naming file and key, for what is wrong in it."""
    path = Path(path)
    _check_name(str(path), path.stem)
    if RESERVED.fullmatch(path.stem):
        raise UsageError(f"{path}: {path.stem} cannot be a name: results have something else of that name")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), ConfigLoader)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return _experiment(path.stem, ConfigBlock(str(path), content, EXPERIMENT_KEYS))


def _check_name(where: str, name: str) -> None:
    """UsageError for a name that cannot name a folder inside the results folder."""
    if not NAME.fullmatch(name) or not name.strip("."):
        raise UsageError(f"{where}: {quoted(name)} cannot be a name: allowed are up to 100 letters, digits, '_', '.' "
                         "and '-', but not only dots, and no '-' at the beginning")


def _experiment(name: str, block: ConfigBlock) -> Experiment:
    seeds = block.seeds("seeds")
    methods = block.block("methods", None)
    if not methods.content:
        raise UsageError(f"{methods.where}: must name at least one method")
    for key in methods.content:
        _check_name(methods.where, key)
        if key == SELECTION:
            raise UsageError(f"{methods.where}: {key} cannot be a name: results have a file of that name")
    checked = {key: _method(key, methods.block(key, METHOD_KEYS)) for key in methods.content}
    if not any(method.by_default for method in checked.values()):
        raise UsageError(f"{methods.where}: by_default: must not be false for all methods")
    data, model = block.named("data", DATA_SETS), block.named("model", MODELS)
    augmentation = block.optional("augmentation", lambda key: block.named(key, AUGMENTATIONS))
    _check_images(block.where, data["name"], augmentation, model["name"])
    return Experiment(
        name, block.where, block.text("title"), data, augmentation, model, block.integer("batch_size", at_least=1),
        block.number("weight_decay"), block.integer("epochs", at_least=1), seeds,
        block.optional("tuning", lambda key: _tuning(block, seeds)),
        block.optional("train_loss_full_every", lambda key: block.integer(key, at_least=1)), checked)


def _check_images(where: str, data: str, augmentation: Mapping[str, Any] | None, model: str) -> None:
    """UsageError if the network does not take the data set's images, or what crops leave of them."""
    (channels, side), (channels_taken, side_taken) = IMAGES[data], INPUTS[model]
    crop = augmentation["size"] if augmentation else side
    if crop > side:
        raise UsageError(f"{where}: augmentation: size: {crop} is above {side}, the side of {data}'s images")
    if channels != channels_taken or side_taken not in (None, crop):
        size = f"{side_taken} x {side_taken}" if side_taken else "any size"
        raise UsageError(f"{where}: model: {model} takes images of {size} with {channels_taken} channels, not "
                         f"{crop} x {crop} with {channels}")


def _tuning(experiment: ConfigBlock, reported_seeds: Sequence[int]) -> Tuning:
    block = experiment.block("tuning", ("epochs", "seeds", "selects"))
    seeds, selects = block.seeds("seeds"), block.flag("selects")
    if selects and set(seeds) & set(reported_seeds):
        raise UsageError(f"{block.where}: seeds: must not be among the reported seeds {seed_range(reported_seeds)}")
    return Tuning(block.integer("epochs", at_least=1), seeds, selects)


def _method(name: str, block: ConfigBlock) -> Method:
    optimizer = block.choice("optimizer", OPTIMIZERS)
    parameters = block.block("parameters", OPTIMIZERS[optimizer])
    grid = block.block("grid", OPTIMIZERS[optimizer], default={})
    if "learning_rate" not in parameters.content:
        raise UsageError(f"{parameters.where}: learning_rate is missing")
    values: dict[str, Any] = {key: _parameter(optimizer, parameters, key) for key in parameters.content}
    for key in ("learning_rate", *grid.content):   # run ids show the step size's initial value; grid points replace it
        if isinstance(values.get(key), dict) and "initial" not in values[key]:
            raise UsageError(f"{parameters.where}: {key}: {values[key]['schedule']} has no initial value; "
                             "schedules of learning_rate and of parameters in the grid must have one")
    points = {key: grid.integers(key, at_least=1) if key in INTEGERS else
              grid.numbers(key, NORMAL if key == "learning_rate" else range_of(optimizer, key))   # figures show its log
              for key in grid.content}
    if {"eta", "mu"} <= {*values, *points}:
        raise UsageError(f"{block.where}: eta and mu: must not both be given, as one fixes the other")
    for key, initials in points.items():
        for initial_value in initials if isinstance(values.get(key), dict) else ():
            _check_decay(grid.where, key, initial_value, values[key].get("factor", 1), range_of(optimizer, key))
    return Method(name, optimizer, values, block.optional("averaging", lambda key: _averaging(block)),
                  block.text("source"), points, block.flag("by_default"))


def _averaging(method: ConfigBlock) -> dict[str, float]:
    block = method.block("averaging", ("decay", "batch_norm_batches"))
    return {"decay": block.number("decay", RANGES["decay"]),
            "batch_norm_batches": block.integer("batch_norm_batches", at_least=0)}


def _parameter(optimizer: str, parameters: ConfigBlock, key: str) -> float | dict:
    if not isinstance(parameters.content[key], dict):
        return _argument(parameters, key, range_of(optimizer, key))
    if key not in SCHEDULED or key == "beta1" and optimizer in OF_CONSTANT_BETA1:
        raise UsageError(f"{parameters.where}: {key}: must be a number, as {optimizer} takes no schedule for it")
    name = parameters.block(key, None).choice("schedule", SCHEDULES)
    schedule = parameters.block(key, ("schedule", *SCHEDULES[name]))
    interval = range_of(optimizer, key)
    intervals = {"initial": interval, "start": interval, "end": interval, "epochs": EPOCHS}
    values = {k: _argument(schedule, k, intervals.get(k, NONNEGATIVE)) for k in SCHEDULES[name]}
    if name == "StepDecay":
        _check_decay(schedule.where, key, values["initial"], values["factor"], interval)
    return {"schedule": name, **values}


def _check_decay(where: str, key: str, initial: float, factor: float, interval: tuple[float, float]) -> None:
    """UsageError if a StepDecay leaves the interval of the argument ``key``."""
    low, high = interval
    if not low <= initial * factor < high:
        raise UsageError(f"{where}: factor: {factor:g} takes {key} from {initial:g} out of [{low:g}, {high:g})")


def range_of(optimizer: str, argument: str) -> tuple[float, float]:
    """The interval of an optimizer's argument."""
    if argument == "learning_rate" and "sgd_learning_rate" in OPTIMIZERS[optimizer]:
        return NORMAL   # the limits of the step divide by it
    return RANGES.get(argument, NONNEGATIVE)


def _argument(block: ConfigBlock, key: str, interval: tuple[float, float]) -> float:
    return block.integer(key, at_least=1) if key in INTEGERS else block.number(key, interval)
