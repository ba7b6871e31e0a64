"""YAML -> checked specification -> runs, each with an id. Needs no MXNet, so that asking for a status is quick.

A configuration fixes data, model, batch size, weight decay and epochs of one experiment once; its methods differ only
in their own block. An unknown key is an error.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import reprlib
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

import yaml

from experiments.vocabulary.errors import UsageError

# Names as MXNet registers the optimizers, and the arguments that a configuration may give them.
OPTIMIZERS = {
    "averagedsgd": ("learning_rate", "beta1"),
    "adam": ("learning_rate", "beta1", "beta2", "epsilon"),
    "nadam": ("learning_rate", "beta1", "beta2", "epsilon", "schedule_decay"),
    "dozatnadam": ("learning_rate", "beta1", "beta2", "epsilon", "schedule_decay"),
    "amsgrad": ("learning_rate", "beta1", "beta2", "epsilon"),
    "namsg": ("learning_rate", "beta1", "beta2", "epsilon", "eta", "mu", "switch_to_sgd"),
    "namsb": ("learning_rate", "beta1", "beta2", "epsilon", "eta", "sgd_learning_rate", "gamma"),
    "amsbound": ("learning_rate", "beta1", "beta2", "epsilon", "sgd_learning_rate", "gamma"),
}
# Classes of namsg_mx.schedules and their arguments; `epochs` stands for the class's `updates`, and `at` is one update.
SCHEDULES = {"ObservationDistance": ("epochs", "start", "end"), "StepDecay": ("initial", "at", "factor"),
             "InverseSquareRoot": ("initial",), "HarmonicDecay": ("initial",)}
INTEGERS = ("switch_to_sgd", "at")   # among the arguments of optimizers and schedules; both count updates
SCHEDULED = ("learning_rate", "beta1", "eta", "mu", "sgd_learning_rate")   # the arguments that may be schedules
OF_CONSTANT_BETA1 = ("adam", "nadam", "dozatnadam")
# Where numbers lie: from the first on, below the second. NONNEGATIVE where nothing stands here.
NONNEGATIVE = (0.0, math.inf)
POSITIVE = (float.fromhex("0x1p-126"), math.inf)   # float32's smallest normal number
RANGES = {"beta1": (0.0, 1.0), "beta2": (0.0, 1.0), "epsilon": POSITIVE, "gamma": POSITIVE,
          "sgd_learning_rate": POSITIVE, "decay": (0.0, 1.0)}
SEEDS = 2**32       # NumPy takes those below
MOST_SEEDS = 10_000   # in one range
UNPRINTABLE = ("Cc", "Cs")   # Unicode's controls and halves of characters, which figures, pages and LaTeX do not take
NAME = re.compile(r"[A-Za-z0-9_.-]+")   # of experiments and methods, which are names of files
DATA_SETS = {"mnist": (), "cifar10": (), "rendered_digits": ("train", "test", "seed")}
MODELS = {"logistic_regression": (), "mnist_cnn": (), "cifar_resnet20_v1": ()}
AUGMENTATIONS = {"random_crops": ("size",)}

EXPERIMENT_KEYS = ("title", "data", "augmentation", "model", "batch_size", "weight_decay", "epochs", "seeds", "tuning",
                   "train_loss_full_every", "methods")
METHOD_KEYS = ("optimizer", "parameters", "averaging", "source", "grid", "by_default")


@dataclass(frozen=True)
class Method:
    """One method of an experiment.

    ``parameters`` are the optimizer's arguments, numbers or ``{"schedule": name, ...}``; ``averaging`` is None
    where evaluation takes the network's parameters as they are, else the ``decay`` of their average, which it takes
    then, and the number of batches that give it BatchNorm statistics of its own; ``source`` says where these values
    come from; ``grid`` holds those that the protocol searches; ``by_default`` is False for a method that runs on
    request only, and is shown in tables once it is recorded, in figures on request.
    """

    name: str
    optimizer: str
    parameters: Mapping[str, Any]
    averaging: Mapping[str, float] | None
    source: str
    grid: Mapping[str, Sequence[float]]
    by_default: bool

    def at(self, point: Mapping[str, float]) -> dict[str, Any]:
        """The parameters with those of a point of the grid; a schedule takes the point's value for its ``initial``."""
        return {**self.parameters, **{name: {**self.parameters[name], "initial": value}
                                      if isinstance(self.parameters.get(name), dict) else value
                                      for name, value in point.items()}}

    def points(self) -> list[dict[str, float]]:
        """All the points of the grid."""
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())] if self.grid else []


@dataclass(frozen=True)
class Tuning:
    """How long and with which seeds the grids are searched.

    ``selects`` is False for a grid that only shows how sensitive the methods are, and may share the reported seeds.
    """

    epochs: int
    seeds: Sequence[int]
    selects: bool


class Options(NamedTuple):
    """How runs are made; only ``threads``, ``device`` ('cpu' or 'gpu:N') and ``distributed`` change their numbers.

    ``epochs`` is how far they go; ``results``, ``data`` and ``tensorboard`` are folders: ``data`` None for the default,
    ``tensorboard`` None for no such log. ``distributed`` is None for one process, else its kvstore, number of workers
    and where updates are made.
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
    """One training: what is fixed by ``settings`` (all that fixes its numbers but the seed), and the seed."""

    experiment: str
    method: str
    settings: Mapping[str, Any]
    seed: int
    source: str

    @property
    def id(self) -> str:
        return run_id(self.settings, self.seed)

    @property
    def folder(self) -> Path:
        """Its folder, relative to the results folder; also its name in messages."""
        return Path(self.experiment, self.method, self.id)

    def as_config(self, options: Options) -> dict[str, Any]:
        """What its config.json holds."""
        record = {"experiment": self.experiment, "method": self.method, "settings": self.settings, "seed": self.seed,
                  "source": self.source, "threads": options.threads, "device": options.device}
        # Only where it is used, so that the records of runs without it stay what they are.
        return {**record, "distributed": options.distributed} if options.distributed else record


class GridRun(NamedTuple):
    """A run of a grid search and its point of the grid."""

    run: Run
    point: Mapping[str, float]


@dataclass(frozen=True)
class Experiment:
    """A checked configuration file; ``name`` is the file's. See the files in ``configs/``.

    ``augmentation`` is None where training sees the images as they are. ``train_loss_full_every`` is the number of
    epochs between evaluations on the whole training set, None for one after each.
    """

    name: str
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

    def select(self, names: Iterable[str] | None = None) -> list[Method]:
        """The methods of these names in the configuration's order, or those by default; UsageError if there is none."""
        names = dict.fromkeys(names or ())
        for name in names:
            if name not in self.methods:
                raise UsageError(f"method {name!r}: {self.name} has {', '.join(self.methods)}")
        return [m for m in self.methods.values() if (m.name in names if names else m.by_default)]

    def tuned(self, points: Mapping[str, Mapping[str, float]]) -> Experiment:
        """This experiment with those methods only that have a point of their grid here, by name, and at that point."""
        methods = {name: replace(self.methods[name], parameters=self.methods[name].at(point), source="our grid search")
                   for name, point in points.items()}
        return replace(self, title=f"{self.title}, our grid search's values", methods=methods)

    def runs(self, methods: Iterable[str] | None = None, seeds: Iterable[int] | None = None) -> list[Run]:
        """The reported runs, seed by seed; by default of the default methods and all the configuration's seeds."""
        chosen, seeds = self.select(methods), self.seeds if seeds is None else list(seeds)
        tuned = self.tuning and self.tuning.selects and sorted(set(seeds) & set(self.tuning.seeds))
        if tuned:
            raise UsageError(f"seed {tuned[0]}: {self.name} keeps seeds {seed_range(self.tuning.seeds)} for tuning")
        return [self._run(method, seed, method.parameters, method.source)
                for seed, method in itertools.product(seeds, chosen)]

    def grid(self, methods: Iterable[str] | None = None, seeds: Iterable[int] | None = None) -> list[GridRun]:
        """The runs of the grid search, seed by seed: each point of each method's grid."""
        if self.tuning is None:
            raise UsageError(f"{self.name}: has no block 'tuning', and so no grid search")
        seeds = self.tuning.seeds if seeds is None else list(seeds)
        reported = self.tuning.selects and sorted(set(seeds) & set(self.seeds))
        if reported:
            raise UsageError(f"seed {reported[0]}: {self.name} keeps seeds {seed_range(self.seeds)} for reported runs")
        return [GridRun(self._run(method, seed, method.at(point), self._source(method, point)), point)
                for seed, method in itertools.product(seeds, self.select(methods)) for point in method.points()]

    def _source(self, method: Method, point: Mapping[str, float]) -> str:
        """That of a run of the grid search, which is a reported one if the two share their seeds."""
        is_reported = not self.tuning.selects and method.at(point) == method.parameters
        return method.source if is_reported else "grid search"

    def _run(self, method: Method, seed: int, parameters: Mapping[str, Any], source: str) -> Run:
        settings = {
            "data": self.data, "model": self.model, "batch_size": self.batch_size, "method": method.name,
            "optimizer": method.optimizer, "parameters": {**parameters, "wd": self.weight_decay},
        }
        # Only where they are used, so that the ids of runs without them stay what they are.
        optional = {"augmentation": self.augmentation, "train_loss_full_every": self.train_loss_full_every,
                    "averaging": method.averaging}
        settings.update({name: value for name, value in optional.items() if value is not None})
        return Run(self.name, method.name, settings, seed, source)


def run_id(settings: Mapping[str, Any], seed: int) -> str:
    """A run's name among those of its method: initial step size, digest of all the settings, seed.

    The digest is of canonical JSON, so the order of keys changes nothing. Epochs and threads are not settings: the one
    says how far a run goes, the other stands in its record.
    """
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:10]
    learning_rate = settings["parameters"]["learning_rate"]
    initial = learning_rate["initial"] if isinstance(learning_rate, dict) else learning_rate
    return f"lr{initial:g}-{digest}-seed{seed}"


def updates_per_epoch(examples: int, batch_size: int) -> int:
    """Updates of one epoch; the last batch may be smaller and counts (235 for MNIST in batches of 256)."""
    return math.ceil(examples / batch_size)


def parse_seeds(text: str) -> list[int]:
    """'3' -> [3], '0,2,5-7' -> [0, 2, 5, 6, 7]: increasing, each seed once.

    ValueError for anything else, seeds from 2^32 on, or more than 10,000 of them.
    """
    seeds = set()
    for part in text.split(","):
        match = re.fullmatch("(0|[1-9][0-9]{0,18})(?:-(0|[1-9][0-9]{0,18}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ValueError(f"{_readable(text)} is not a seed (3), a range (0-9) or a list of them (0,2,5-7)")
        if last >= SEEDS:
            raise ValueError(f"{_readable(text)} has a seed from 2^32 on, which NumPy takes no more")
        if last - first + len(seeds) >= MOST_SEEDS:
            raise ValueError(f"{_readable(text)} is more than {MOST_SEEDS} seeds")
        seeds.update(range(first, last + 1))
    return sorted(seeds)


def seed_range(seeds: Sequence[int]) -> str:
    """[0, 2, 5, 6, 7] -> '0,2,5-7': the inverse of `parse_seeds`."""
    ranges = [[seed for _, seed in group]
              for _, group in itertools.groupby(enumerate(seeds), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{each[0]}-{each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges)


def load(path: str | Path) -> Experiment:
    """The experiment that a YAML file describes; UsageError naming the file and the key where it is not right."""
    path = Path(path)
    _check_name(str(path), path.stem)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return _experiment(path.stem, _Block(str(path), content, EXPERIMENT_KEYS))


def _check_name(where: str, name: str) -> None:
    """UsageError where a name, as that of a folder, would lead out of the results folder."""
    if not NAME.fullmatch(name) or not name.strip("."):
        raise UsageError(f"{where}: {_readable(name)} is no name: letters, digits, '_', '.' and '-', not dots alone")


def _experiment(name: str, block: _Block) -> Experiment:
    seeds = block.seeds("seeds")
    methods = block.block("methods", None)
    if not methods.content:
        raise UsageError(f"{methods.where}: must name at least one method")
    for key in methods.content:
        _check_name(methods.where, key)
    checked = {key: _method(key, methods.block(key, METHOD_KEYS)) for key in methods.content}
    if not any(method.by_default for method in checked.values()):
        raise UsageError(f"{methods.where}: by_default: must not be false in all of them")
    return Experiment(
        name, block.text("title"), block.named("data", DATA_SETS),
        block.optional("augmentation", lambda key: block.named(key, AUGMENTATIONS)), block.named("model", MODELS),
        block.integer("batch_size", at_least=1), block.number("weight_decay"), block.integer("epochs", at_least=1),
        seeds, block.optional("tuning", lambda key: _tuning(block, seeds)),
        block.optional("train_loss_full_every", lambda key: block.integer(key, at_least=1)), checked)


def _tuning(experiment: _Block, reported_seeds: Sequence[int]) -> Tuning:
    block = experiment.block("tuning", ("epochs", "seeds", "selects"))
    seeds, selects = block.seeds("seeds"), block.flag("selects", default=True)
    if selects and set(seeds) & set(reported_seeds):
        raise UsageError(f"{block.where}: seeds: must not be among the reported seeds {seed_range(reported_seeds)}")
    return Tuning(block.integer("epochs", at_least=1), seeds, selects)


def _method(name: str, block: _Block) -> Method:
    optimizer = block.choice("optimizer", OPTIMIZERS)
    parameters = block.block("parameters", OPTIMIZERS[optimizer])
    grid = block.block("grid", OPTIMIZERS[optimizer], default={})
    if "learning_rate" not in parameters.content:
        raise UsageError(f"{parameters.where}: learning_rate is missing")
    values = {key: _parameter(optimizer, parameters, key) for key in parameters.content}
    for key in ("learning_rate", *grid.content):   # a run's name has the one, a point of the grid replaces the others
        if isinstance(values.get(key), dict) and "initial" not in values[key]:
            raise UsageError(f"{parameters.where}: {key}: {values[key]['schedule']} has no initial value; "
                             "the learning_rate's schedule, and those of a grid, must have one")
    return Method(name, optimizer, values,
                  block.optional("averaging", lambda key: _averaging(block)), block.text("source"),
                  {key: grid.numbers(key) for key in grid.content}, block.flag("by_default", default=True))


def _averaging(method: _Block) -> dict[str, float]:
    block = method.block("averaging", ("decay", "batch_norm_batches"))
    return {"decay": block.number("decay", RANGES["decay"]),
            "batch_norm_batches": block.integer("batch_norm_batches", at_least=0)}


def _parameter(optimizer: str, parameters: _Block, key: str) -> float | dict:
    if not isinstance(parameters.content[key], dict):
        return _argument(parameters, key, RANGES.get(key, NONNEGATIVE))
    if key not in SCHEDULED or key == "beta1" and optimizer in OF_CONSTANT_BETA1:
        raise UsageError(f"{parameters.where}: {key}: must be a number, as {optimizer} takes no schedule for it")
    name = parameters.block(key, None).choice("schedule", SCHEDULES)
    schedule = parameters.block(key, ("schedule", *SCHEDULES[name]))
    values = {argument: RANGES.get(key, NONNEGATIVE) for argument in ("initial", "start", "end")}
    return {"schedule": name, **{k: _argument(schedule, k, values.get(k, NONNEGATIVE)) for k in SCHEDULES[name]}}


def _argument(block: _Block, key: str, interval: tuple[float, float]) -> float:
    return block.integer(key, at_least=1) if key in INTEGERS else block.number(key, interval)


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: a key is a text and stands once, numbers are decimal, and dates are texts.

    What looks like a number to YAML 1.1 alone (010, 1:30, 0x1F, 1_000) is a text, too, which no number's key takes.
    """

    DEEPEST = 10   # mappings and lists in each other

    def __init__(self, stream: str):
        super().__init__(stream)
        self._within = []   # keys, and numbers in lists, of the nodes that are being composed

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        self._within.append(index.value if isinstance(index, yaml.ScalarNode) else index)
        if getattr(event, "tag", None) is not None:   # an alias has none
            self._refuse(f"tag {event.tag}: no tags here", event)
        if len(self._within) > self.DEEPEST:
            self._refuse("nested too deeply", event)
        node = super().compose_node(parent, index)
        self._within.pop()
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            kind = key.tag.rpartition(":")[2]
            if kind not in ("str", "merge"):
                self._refuse(f"key {_readable(key.value)} is a {kind} to YAML, not a text; quote it", key)
            if key.value in seen:
                self._refuse(f"key {key.value!r} stands twice", key)
            seen.add(key.value)
        return node

    def _refuse(self, problem: str, place: yaml.Event | yaml.Node) -> None:
        where = ": ".join(str(key) for key in self._within if key is not None)
        raise yaml.MarkedYAMLError(problem=f"{problem} (in {where})" if where else problem,
                                   problem_mark=place.start_mark)

    def construct_integer(self, node: yaml.ScalarNode) -> int | str:
        return int(node.value) if re.fullmatch("[-+]?(0|[1-9][0-9]{0,17})", node.value) else node.value

    def construct_float(self, node: yaml.ScalarNode) -> float | str:
        is_odd = re.search("[_:]|^[-+]?0[0-9]", node.value)
        return node.value if is_odd else self.construct_yaml_float(node)

    def construct_date(self, node: yaml.ScalarNode) -> str:
        return node.value


for _kind, _construct in (("int", _Loader.construct_integer), ("float", _Loader.construct_float),
                          ("timestamp", _Loader.construct_date)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct)


class _Block:
    """One mapping of a configuration file, with its place in the file for error messages.

    ``keys`` are the allowed keys; None allows any.
    """

    def __init__(self, where: str, content: Any, keys: Iterable[str] | None):
        if not isinstance(content, dict):
            raise UsageError(f"{where}: must be a mapping of keys to values, not {_readable(content)}")
        for key in content:
            if keys is not None and key not in keys:
                raise UsageError(f"{where}: unknown key {_readable(key)}; allowed: {', '.join(keys)}")
        self.where, self.content = where, content

    def value(self, key: str) -> Any:
        if key not in self.content:
            raise UsageError(f"{self.where}: {key} is missing")
        return self.content[key]

    def block(self, key: str, keys: Iterable[str] | None, default: dict | None = None) -> _Block:
        content = self.value(key) if default is None else self.content.get(key, default)
        return _Block(f"{self.where}: {key}", content, keys)

    def text(self, key: str) -> str:
        value = self._typed(key, str, "a text")
        if any(unicodedata.category(letter) in UNPRINTABLE for letter in value if letter not in "\n\t"):
            raise UsageError(f"{self.where}: {key}: {_readable(value)} has characters that cannot be printed")
        return value

    def choice(self, key: str, choices: Iterable[str]) -> str:
        value = self.value(key)
        if not isinstance(value, str) or value not in choices:
            raise UsageError(f"{self.where}: {key}: {_readable(value)} is not one of {', '.join(choices)}")
        return value

    def named(self, key: str, choices: Mapping[str, Sequence[str]]) -> dict:
        """A block with a ``name`` from ``choices`` and the integers that belong to it."""
        name = self.block(key, None).choice("name", choices)
        block = self.block(key, ("name", *choices[name]))
        return {"name": name, **{k: block.seed(k) if k == "seed" else block.integer(k, at_least=1)
                                 for k in choices[name]}}

    def optional(self, key: str, read: Callable[[str], Any]) -> Any:
        """What ``read`` makes of the key; None where the key is not there."""
        return read(key) if key in self.content else None

    def integer(self, key: str, at_least: int) -> int:
        value = self._typed(key, int, "an integer")
        if value < at_least:
            raise UsageError(f"{self.where}: {key}: {value} is below {at_least}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise UsageError(f"{self.where}: {key}: {_readable(value)} is not true or false")
        return value

    def number(self, key: str, interval: tuple[float, float] = NONNEGATIVE) -> float:
        return self._float(key, self.value(key), interval)

    def numbers(self, key: str) -> list[float]:
        values = [self._float(key, value, RANGES.get(key, NONNEGATIVE)) for value in self._typed(key, list, "a list")]
        if not values:
            raise UsageError(f"{self.where}: {key}: must have at least one value")
        for i, value in enumerate(values):
            if value in values[:i]:   # its runs would count twice
                raise UsageError(f"{self.where}: {key}: {value:g} stands twice")
        return values

    def seed(self, key: str) -> int:
        value = self.integer(key, at_least=0)
        if value >= SEEDS:
            raise UsageError(f"{self.where}: {key}: {value} is not below 2^32")
        return value

    def seeds(self, key: str) -> list[int]:
        value = self.value(key)
        try:
            return parse_seeds(value if isinstance(value, str) else str(self._typed(key, int, "a seed (3) or a range")))
        except ValueError as error:
            raise UsageError(f"{self.where}: {key}: {error}") from error

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self.value(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{self.where}: {key}: {_readable(value)} is not {name}")
        return value

    def _float(self, key: str, value: Any, interval: tuple[float, float]) -> float:
        # YAML reads 1e-8 as a text, and 1.0e-8 as a number.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"{self.where}: {key}: {_readable(value)} is not a number (YAML's form is 1.0e-8)")
        low, high = interval
        if not low <= value < high:
            raise UsageError(f"{self.where}: {key}: {value!r} is not in [{low:g}, {high:g})")
        return float(value)


def _readable(value: Any) -> str:
    """A value for a message, shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxlevel = 2
    return short.repr(value)
