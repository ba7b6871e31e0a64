"""Configurations: what is wrong in one is named, and what a run's id depends on."""

from pathlib import Path

import pytest
from tiny_experiment import CONFIG, write_config

from experiments.vocabulary import config
from experiments.vocabulary.errors import UsageError

CONFIGS = Path(__file__).parents[3] / "configs"
WRONG = [
    ("epochs: 3", "epoch: 3", "unknown key 'epoch'; allowed: title, data"),
    ("epochs: 3", "epochs: 0", "epochs: 0 is below 1"),
    ("epochs: 3", "epochs: many", "epochs: 'many' is not an integer"),
    ("epochs: 3\n", "", "epochs is missing"),
    ("optimizer: adam", "optimizer: adagrad", "'adagrad' is not one of"),
    ("optimizer: adam", "optimizer: averagedsgd", "unknown key 'beta2'; allowed: learning_rate, beta1"),
    ("epsilon: 1.0e-8", "epsilon: 1e-8", r"epsilon: '1e-8' is not a number (YAML's form is 1.0e-8)"),
    ("epsilon: 1.0e-8", "epsilon: .nan", "epsilon: nan is not a number"),
    ("schedule: ObservationDistance", "schedule: Cosine", "'Cosine' is not one of"),
    ("name: logistic_regression", "name: transformer", "'transformer' is not one of"),
    ("name: logistic_regression", "name: cifar_resnet20_v1",
     "model: cifar_resnet20_v1 takes images of any size with 3 channels, not 28 x 28 with 1"),
    ("name: rendered_digits, train: 300, test: 100, seed: 0", "name: cifar10",
     "model: logistic_regression takes images of 28 x 28 with 1 channels, not 32 x 32 with 3"),
    ("batch_size: 64", "batch_size: 64\naugmentation: {name: random_crops, size: 29}",
     "augmentation: size: 29 is above 28, the side of rendered_digits's images"),
    ("batch_size: 64", "batch_size: 64\naugmentation: {name: random_crops, size: 20}",
     "model: logistic_regression takes images of 28 x 28 with 1 channels, not 20 x 20 with 1"),
    ("learning_rate: [0.001, 0.005]", "learning_rate: [0.001, 1.0e-3]", "learning_rate: 0.001 stands twice"),
    ("learning_rate: 0.005, ", "", "methods: adam: parameters: learning_rate is missing"),
    ("seeds: 100-100", "seeds: 100-100, selects: 3", "tuning: selects: 3 is not true or false"),
    ("optimizer: namsg\n    parameters:\n      learning_rate: 0.005",
     "optimizer: namsb\n    parameters:\n      learning_rate: 0",
     "namsg: parameters: learning_rate: 0 is not in [1.17549e-38, inf)"),
    ("seeds: 0-1", "seeds: 1-0", "'1-0' is not a seed (3), a range"),
    ("seeds: 100-100", "seeds: 1-2", "must not be among the reported seeds 0-1"),
    ("title: A tiny experiment", "title: [", "not YAML"),
    ("  namsg:", "  adam:", "not YAML: key 'adam' stands twice"),
    ("source: a test", "source: 5", "source: 5 is not a text"),
    ("seeds: 0-1", "seeds: 010", "seeds: '010' is not a seed"),
    ("seeds: 0-1", "seeds: 0x10", "seeds: '0x10' is not a seed"),
    ("seeds: 0-1", "seeds: 00-01", "seeds: '00-01' is not a seed"),
    ("seeds: 0-1", "seeds: 4294967296", "seeds: '4294967296' has a seed of 2^32 or more"),
    ("seeds: 0-1", "seeds: 0-4294967295", "seeds: '0-4294967295' is more than 10000 seeds"),
    ("seeds: 0-1", "seeds: [0, 1]", "seeds: [0, 1] is not a seed"),
    ("seeds: 0-1", "seeds: true", "seeds: True is not a seed"),
    ("epochs: 3", "epochs: 1:30", "epochs: '1:30' is not an integer"),
    ("epochs: 3", "epochs: 1_000", "epochs: '1_000' is not an integer"),
    ("epochs: 3", "epochs: 2020-01-01", "epochs: '2020-01-01' is not an integer"),
    ("epochs: 3", "epochs: 2020-13-45", "epochs: '2020-13-45' is not an integer"),
    ("epochs: 3", "epochs: !!int 3", "tag tag:yaml.org,2002:int: no tags here (in epochs)"),
    ("epochs: 3", f"epochs: {'9' * 5000}", "epochs: '99999"),
    ("epochs: 3", f"epochs: {'[' * 5000}{']' * 5000}", "nested too deeply (in epochs: 0: 0"),
    ("weight_decay: 0.001", "weight_decay: -1", "weight_decay: -1 is not in [0, inf)"),
    ("weight_decay: 0.001", "weight_decay: 1.0e-46", "weight_decay: 1e-46 is beyond what float32 holds"),
    ("weight_decay: 0.001", "weight_decay: 1.0e-40", "weight_decay: 1e-40 is beyond what float32 holds"),
    ("weight_decay: 0.001", "weight_decay: 3.5e+38", "weight_decay: 3.5e+38 is beyond what float32 holds"),
    ("weight_decay: 0.001", "weight_decay: 01.5", "weight_decay: '01.5' is not a number"),
    ("weight_decay: 0.001", f"weight_decay: {'9' * 5000}", "weight_decay: '99999"),
    ("weight_decay: 0.001", f"weight_decay: {'9' * 5000}.0", "weight_decay: inf is not a number"),
    ("train: 300", "train: 0", "data: train: 0 is below 1"),
    ("seed: 0}", "seed: 4294967296}", "data: seed: 4294967296 is not below 2^32"),
    ("name: logistic_regression", "name: [mnist_cnn]", "model: name: ['mnist_cnn'] is not one of"),
    ("beta1: 0.9", "beta1: 1.0", "methods: adam: parameters: beta1: 1.0 is not in [0, 1)"),
    ("beta1: [0.9]", "beta1: [0.9, -0.1]", "methods: adam: grid: beta1: -0.1 is not in [0, 1)"),
    ("[0.001, 0.005]", "[0.0, 0.005]", "methods: adam: grid: learning_rate: 0.0 is not in [1.17549"),
    ("beta2: 0.99", "beta2: {schedule: HarmonicDecay, initial: 0.9}", "beta2: must be a number, as adam takes"),
    ("start: 0.9", "start: -0.9", "methods: namsg: parameters: eta: start: -0.9 is not in [0, inf)"),
    ("end: 3.0, epochs: 1", "end: 3.0, epochs: 0", "eta: epochs: 0 is not in [1e-06, 1e+06)"),
    ("end: 3.0, epochs: 1", "end: 3.0, epochs: 1.7e+308", "eta: epochs: 1.7e+308 is not in [1e-06, 1e+06)"),
    ("optimizer: namsg\n    parameters:\n      learning_rate: 0.005",
     "optimizer: namsb\n    parameters:\n      learning_rate: {schedule: StepDecay, initial: 0.1, at: 9, factor: 0}",
     "learning_rate: factor: 0 takes learning_rate from 0.1 out of [1.17549e-38, inf)"),
    ("eta: {schedule: ObservationDistance", "mu: 0.1\n      eta: {schedule: ObservationDistance",
     "methods: namsg: eta and mu: must not both be given"),
    ("beta2: [0.99]}\n", "beta2: [0.99]}\n  other:\n    optimizer: namsg\n    source: a test\n    grid: {eta: [0.1]}\n"
     "    parameters: {learning_rate: 1, mu: 0.1}\n", "methods: other: eta and mu: must not both be given"),
    ("beta1: 0.9\n", "beta1: {schedule: StepDecay, initial: 0.5, at: 9, factor: 2}\n",
     "beta1: factor: 2 takes beta1 from 0.5 out of [0, 1)"),
    ("beta1: 0.9\n", "beta1: {schedule: StepDecay, initial: 0.5, at: 9, factor: 1.5}\n",
     "namsg: grid: factor: 1.5 takes beta1 from 0.9 out of [0, 1)"),
    ("  namsg:", "  selection.json:", "methods: selection.json cannot be a name: results have a file of that name"),
    ("  namsg:", "  no:", "key 'no' is a bool to YAML, not a text; quote it (in methods)"),
    ("  namsg:", "  1:", "key '1' is a int to YAML"),
    ("  namsg:", "  2020-01-01:", "key '2020-01-01' is a timestamp to YAML"),
    ("  namsg:", "  [a, b]:", "a key is a list or mapping, not a text (in methods)"),
    ("  namsg:", "  ? {a: b}\n  :", "a key is a list or mapping, not a text (in methods)"),
    ("  namsg:", f"  {'n' * 101}:", "cannot be a name: allowed are up to 100 letters"),
    ("[0.001, 0.005]", "[]", "methods: adam: grid: learning_rate: must have at least one value"),
    ("learning_rate: 0.005", "learning_rate: {schedule: ObservationDistance, start: 0, end: 1, epochs: 1}",
     "methods: adam: parameters: learning_rate: ObservationDistance has no initial value"),
    ("beta2: [0.99]}\n", "beta2: [0.99]}\n  other:\n    optimizer: namsg\n    source: a test\n    grid: {eta: [0.1]}\n"
     "    parameters: {learning_rate: 1, eta: {schedule: ObservationDistance, start: 0, end: 1, epochs: 1}}\n",
     "methods: other: parameters: eta: ObservationDistance has no initial value"),
    *[("A tiny experiment", f'"{title}"', "has characters that cannot be printed")
      for title in (r"\uD800", r"a\0", r"\e[31m", r"\x7f")],
    *[("  namsg:", f"  '{name}':", "methods: '") for name in ("../../evil", "/etc", "a/b", "..", ".", "", "a b", "-p")],
]


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG, ids=[wrong[:40] for _, wrong, _ in WRONG])
def test_what_is_wrong_is_named_with_the_file(tmp_path, right, wrong, message):
    assert right in CONFIG
    path = write_config(tmp_path, CONFIG.replace(right, wrong, 1))
    with pytest.raises(UsageError) as error:
        config.load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_there_is_a_method(tmp_path):
    with pytest.raises(UsageError, match="tiny.yaml: methods: must name at least one method"):
        config.load(write_config(tmp_path, CONFIG.partition("methods:")[0] + "methods: {}"))


def test_some_method_runs_by_default(tmp_path):
    path = write_config(tmp_path, CONFIG.replace("source: a test", "source: a test\n    by_default: false"))
    with pytest.raises(UsageError, match="tiny.yaml: methods: by_default: must not be false for all methods"):
        config.load(path)


@pytest.mark.parametrize("name", ["tables", "rounding", "claims", "sensitivity", "tableA1", "figure2", "a_tuned",
                                  "report.html", "README.md"])
def test_a_name_that_results_have_already_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=f"{name} cannot be a name: results have something else of that name"):
        config.load(write_config(tmp_path, name=name))


@pytest.mark.parametrize("name", ["..", "a b", "a:b", "ü", "-tiny"])
def test_a_file_whose_name_is_no_folders_is_refused(tmp_path, name):
    path = write_config(tmp_path, name=name)
    with pytest.raises(UsageError, match="cannot be a name: allowed are up to 100 letters, digits"):
        config.load(path)


def test_what_only_looks_like_a_number_is_a_text_where_one_belongs(tmp_path):
    for text in ("010", "2020-13-45", "1:30"):
        assert config.load(write_config(tmp_path, CONFIG.replace("A tiny experiment", text))).title == text


def test_unknown_methods_and_tuning_seeds_are_refused(tmp_path):
    experiment = config.load(write_config(tmp_path))
    with pytest.raises(UsageError, match="method 'sgd': tiny has adam, namsg"):
        experiment.runs(["sgd"])
    with pytest.raises(UsageError, match="seed 100: tiny keeps seeds 100 for tuning"):
        experiment.runs(seeds=[0, 100])


def test_run_ids_depend_on_every_setting_and_on_nothing_else():
    settings = {"data": {"name": "mnist"}, "batch_size": 256, "parameters": {"learning_rate": 0.005, "beta1": 0.9}}
    reordered = {"parameters": {"beta1": 0.9, "learning_rate": 0.005}, "batch_size": 256, "data": {"name": "mnist"}}
    assert config.run_id(settings, 3) == config.run_id(reordered, 3) == "lr0.005-e72131b668-seed3"
    others = [dict(settings, batch_size=128), dict(settings, data={"name": "rendered_digits"}),
              dict(settings, parameters={"learning_rate": 0.005, "beta1": 0.8})]
    assert len({config.run_id(other, 3) for other in [settings, *others]}) == 4


@pytest.mark.parametrize(("examples", "updates"), [(60000, 235), (50000, 196), (256, 1), (257, 2)])
def test_the_last_smaller_batch_counts(examples, updates):
    assert config.updates_per_epoch(examples, 256) == updates


def with_grid(tmp_path, values):
    """ResNet-20's configuration, whose SWNTS has a grid of updates at which it switches."""
    text = (CONFIGS / "cifar10_resnet20.yaml").read_text()
    path = tmp_path / "grid.yaml"
    block = "switch_to_sgd: 3000}"
    path.write_text(text.replace(block, f"{block}\n    grid: {{switch_to_sgd: {values}}}", 1))
    return path


def test_integers_stay_integers_in_a_grid(tmp_path):
    runs = config.load(with_grid(tmp_path, "[2, 30]")).grid_runs(["swnts"], [0])
    points = [run.settings["parameters"]["switch_to_sgd"] for run in runs]
    assert points == [2, 30] and all(type(point) is int for point in points)


@pytest.mark.parametrize("values, message", [
    ("[2, 30.0]", "30.0 is not an integer"), ("[2, 2]", "2 stands twice"), ("[2, 0]", "0 is below 1"),
    ("[]", "must have at least one value"), ("3", "3 is not a list")])
def test_a_grid_of_wrong_integers_is_named(tmp_path, values, message):
    with pytest.raises(UsageError, match=f"swnts: grid: switch_to_sgd: {message}"):
        config.load(with_grid(tmp_path, values))


@pytest.mark.parametrize(("right", "wrong", "message"), [
    ("name: random_crops", "name: rotations", "augmentation: name: 'rotations' is not one of random_crops"),
    ("size: 28", "width: 28", "augmentation: unknown key 'width'; allowed: name, size"),
    ("switch_to_sgd: 3000}\n    source: Section 5.2, supplement\n", "switch_to_sgd: 3000.5}\n    source: ours\n",
     "swnts: parameters: switch_to_sgd: 3000.5 is not an integer"),
    ("at: 12000", "at: 0", "learning_rate: at: 0 is below 1"),
    ("factor: 0.1", "by: 0.1", "learning_rate: unknown key 'by'; allowed: schedule, initial, at, factor"),
    ("{decay: 0.999, batch_norm_batches: 40}", "0.999", "averaging: must be a mapping of keys to values, not 0.999"),
    ("decay: 0.999", "decay: most", "averaging: decay: 'most' is not a number"),
    ("batch_norm_batches: 40", "batch_norm_batches: -1", "averaging: batch_norm_batches: -1 is below 0"),
    ("train_loss_full_every: 75", "train_loss_full_every: 0", "train_loss_full_every: 0 is below 1"),
])
def test_what_is_wrong_in_schedules_and_strategies_is_named(tmp_path, right, wrong, message):
    text = (CONFIGS / "cifar10_resnet20.yaml").read_text()
    assert right in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(right, wrong, 1))
    with pytest.raises(UsageError) as error:
        config.load(path)
    assert message in str(error.value)
