"""The committed configurations beside the paper: Table A1, the protocol, the strategies; their runs' ids."""

from pathlib import Path
from unittest.mock import ANY

import pytest

from experiments.analysis import selection
from experiments.analysis.results import read_grid
from experiments.vocabulary import config

CONFIGS = Path(__file__).parents[3] / "configs"
FIVE = ["sgd", "adam", "nadam", "amsgrad", "namsg"]
# (alpha, beta1, beta2) by experiment, logistic regression, CNN, ResNet-20.
TABLE_A1 = {
    "sgd": [(1.0, 0.9, None), (1.0, 0.9, None), (0.2, 0.9, None)],
    "adam": [(0.005, 0.9, 0.99), (0.001, 0.9, 0.999), (0.001, 0.9, 0.99)],
    "nadam": [(0.005, 0.9, 0.99), (0.001, 0.9, 0.999), (0.001, 0.9, 0.999)],
    "amsgrad": [(0.005, 0.9, 0.999), (0.002, 0.9, 0.99), (0.001, 0.9, 0.99)],
    "namsg": [(0.005, 0.9, 0.999), (0.002, 0.9, 0.99), (0.001, 0.9, 0.99)],
}
TABLE_A1["nadam_mxnet"] = TABLE_A1["nadam"]
EXPERIMENTS = ["mnist_logistic", "mnist_cnn", "cifar10_resnet20"]
OPTIMIZERS = {"sgd": "averagedsgd", "adam": "adam", "nadam": "dozatnadam", "nadam_mxnet": "nadam", "amsgrad": "amsgrad",
              "namsg": "namsg"}
DECREASING = ("namsg_decreasing_alpha", "namsg_theorem1")
ETA = {"schedule": "ObservationDistance", "start": 0.9, "end": 3.0, "epochs": 1}
STRATEGIES = {   # optimizer, alpha, what else they add to NAMSG or AMSGRAD
    "namsg1": ("namsg", 0.0015, {}),
    "swnts": ("namsg", 0.001, {"switch_to_sgd": 3000}),
    "swnts1": ("namsg", 0.0015, {"switch_to_sgd": 3000}),
    "namsb1": ("namsb", 0.001, {"alpha_sgd": 0.1}),
    "namsb2": ("namsb", 0.001, {"alpha_sgd": 0.5}),
    "amsb1": ("amsbound", 0.001, {"alpha_sgd": 0.1}),
    "amsb2": ("amsbound", 0.001, {"alpha_sgd": 0.5}),
}


def load(name):
    return config.load(CONFIGS / f"{name}.yaml")


def step_decay(initial):
    return {"schedule": "StepDecay", "initial": initial, "at": 12000, "factor": 0.1}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_six_methods_have_table_a1s_values(name):
    experiment = load(name)
    for method, rows in TABLE_A1.items():
        alpha, beta1, beta2 = rows[EXPERIMENTS.index(name)]
        expected = {"learning_rate": step_decay(alpha) if name == "cifar10_resnet20" else alpha, "beta1": beta1}
        if beta2:
            expected.update(beta2=beta2, epsilon=1e-8)
        if method == "namsg":
            expected["eta"] = ETA
        assert experiment.methods[method].parameters == expected
        assert experiment.methods[method].optimizer == OPTIMIZERS[method]
        assert "Table A1" in experiment.methods[method].source


def test_what_stands_beside_the_papers_methods_is_made_on_request_only():
    """SGD's step size in its other reading, which is 1 / (1 - beta) times as large; the authors' later settings."""
    logistic, cnn = load("mnist_logistic").methods, load("mnist_cnn").methods
    assert logistic["sgd_mxnet"].parameters == {"learning_rate": pytest.approx(1.0 / (1 - 0.9)), "beta1": 0.9}
    for methods, alpha in ((logistic, 0.05), (cnn, 0.01)):
        assert methods["namsg_2019"].parameters == {"learning_rate": alpha, "beta1": 0.999, "beta2": 0.99,
                                                    "epsilon": 1e-8, "mu": 0.1}
        assert [name for name, method in methods.items() if method.by_default] == FIVE


def test_decreasing_hyper_parameters_are_searched_with_as_many_points_as_the_constant_ones():
    """The first differs from NAMSG only in its step size; Theorem 1 admits the schedules of the second."""
    methods = load("mnist_logistic").methods
    root, harmonic = ({"schedule": name, "initial": initial} for name, initial in
                      (("InverseSquareRoot", ANY), ("HarmonicDecay", 0.9)))
    for name, others in zip(DECREASING, ({"eta": ETA, "beta1": 0.9}, {"eta": harmonic, "beta1": harmonic})):
        method = methods[name]
        assert method.parameters == {"learning_rate": root, "beta2": ANY, "epsilon": 1e-8, **others}
        chosen = {"learning_rate": method.parameters["learning_rate"]["initial"], "beta1": 0.9,
                  "beta2": method.parameters["beta2"]}
        assert len(method.points()) == len(methods["namsg"].points())
        committed = read_grid(load("mnist_logistic"), CONFIGS.parent / "results", [name])[0]
        assert selection.select(committed)[name]["chosen"] == chosen


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_grids_are_the_supplements(name):
    for method, found in load(name).methods.items():
        if method == "sgd":
            assert found.grid == {"learning_rate": [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0], "beta1": [0.9]}
        elif method in TABLE_A1:
            assert found.grid == {"learning_rate": [0.0005, 0.001, 0.002, 0.005, 0.01], "beta1": [0.9],
                                  "beta2": [0.99, 0.999]}
        elif method not in DECREASING:
            assert found.grid == {}


@pytest.mark.parametrize(("name", "epochs", "runs", "grid_epochs", "weight_decay"), [
    ("mnist_logistic", 20, 10, 10, 0), ("mnist_cnn", 10, 10, 6, 0), ("cifar10_resnet20", 75, 5, 30, 0.001)])
def test_protocol(name, epochs, runs, grid_epochs, weight_decay):
    experiment = load(name)
    assert (experiment.batch_size, experiment.epochs, experiment.weight_decay) == (256, epochs, weight_decay)
    assert experiment.seeds == list(range(runs))
    assert experiment.tuning.epochs == grid_epochs
    assert experiment.tuning.seeds == ([100, 101] if experiment.tuning.selects else [0, 1])   # Table A2 selects nothing
    assert experiment.tuning.selects == (name != "cifar10_resnet20")


def test_data_and_models():
    cnn, resnet = load("mnist_cnn"), load("cifar10_resnet20")
    assert (cnn.data, cnn.model, cnn.augmentation) == ({"name": "mnist"}, {"name": "mnist_cnn"}, None)
    assert (resnet.data, resnet.model) == ({"name": "cifar10"}, {"name": "cifar_resnet20_v1"})
    assert resnet.augmentation == {"name": "random_crops", "size": 28}
    assert resnet.train_loss_full_every == resnet.epochs   # after the last epoch only


def test_strategies_on_cifar10_are_the_supplements():
    methods = load("cifar10_resnet20").methods
    assert list(methods) == ["sgd", "adam", "nadam", "nadam_mxnet", "amsgrad", "namsg", *STRATEGIES]
    for name, (optimizer, alpha, others) in STRATEGIES.items():
        bounded = optimizer in ("namsb", "amsbound")   # SGD's step size drops, and alpha stays
        expected = {"learning_rate": alpha if bounded else step_decay(alpha), "beta1": 0.9, "beta2": 0.99,
                    "epsilon": 1e-8, **others}
        if optimizer != "amsbound":
            expected["eta"] = ETA
        if bounded:
            expected.update(sgd_learning_rate=step_decay(expected.pop("alpha_sgd")), gamma=0.001)
        assert (methods[name].optimizer, methods[name].parameters) == (optimizer, expected)
        assert methods[name].averaging == ({"decay": 0.999, "batch_norm_batches": 40} if name == "swnts1" else None)
    assert [name for name, method in methods.items() if not method.by_default] == ["nadam_mxnet"]


def test_integers_stay_integers():
    """NAMSG's switch takes nothing else, and 3000 and 3000.0 have different ids."""
    parameters = load("cifar10_resnet20").methods["swnts"].parameters
    assert type(parameters["switch_to_sgd"]) is type(parameters["learning_rate"]["at"]) is int


def test_ids_of_runs_without_the_later_settings_stay():
    """Records are found by them."""
    ids = {run.method: run.id for run in load("mnist_logistic").runs(["sgd", "adam", "namsg"], [0])}
    assert ids == {"sgd": "lr1-54366f46b5-seed0", "adam": "lr0.005-9f5ded2476-seed0",
                   "namsg": "lr0.005-ea69361b02-seed0"}


def test_ids_of_runs_with_a_schedule_begin_with_its_first_step_size():
    ids = {run.method: run.id for run in load("cifar10_resnet20").runs(seeds=[3])}
    assert ids["sgd"].startswith("lr0.2-")
    assert ids["swnts1"].startswith("lr0.0015-")
    assert len({run_id.partition("-")[2] for run_id in ids.values()}) == len(ids)


def test_settings_are_there_only_where_they_are_used():
    later = {"augmentation", "train_loss_full_every", "averaging"}
    settings = {run.method: set(run.settings) & later for run in load("cifar10_resnet20").runs(seeds=[0])}
    assert settings["swnts1"] == later
    assert settings["swnts"] == later - {"averaging"}
    assert not any(set(run.settings) & later for run in load("mnist_cnn").runs(seeds=[0]))


def test_the_default_methods_of_logistic_regression_are_the_papers_five():
    experiment = config.load(CONFIGS / "mnist_logistic.yaml")
    assert [m.name for m in experiment.select()] == ["sgd", "adam", "nadam", "amsgrad", "namsg"]
    assert len(experiment.runs()) == 50


def test_the_demo_says_that_its_digits_are_not_mnist():
    experiment = config.load(CONFIGS / "demo.yaml")
    assert experiment.data["name"] == "rendered_digits"
    assert "not MNIST" in experiment.title


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("[!.]*.yaml")), ids=lambda path: path.stem)
def test_committed_configurations_give_runs_with_ids_of_their_own(path):
    experiment = config.load(path)
    runs = experiment.runs(list(experiment.methods))
    assert len({run.folder for run in runs}) == len(runs)
    assert all(method.source for method in experiment.methods.values())
