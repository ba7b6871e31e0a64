"""What results/ holds, for the tests of what the pages say of it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis.intervals import interval
from experiments.analysis.measures import by_seed
from experiments.claims.evidence import Evidence

CHECKOUT = Path(__file__).parents[1]
RESULTS = CHECKOUT / "results"
EVIDENCE = Evidence(RESULTS, CHECKOUT / "configs")


def text(page):
    """A page's words, with one space between them."""
    return " ".join((CHECKOUT / page).read_text(encoding="utf-8").split())


def minus(told):
    """With minus signs, as the pages have them."""
    return told.replace("-", "\N{MINUS SIGN}")


def table(name, index="method"):
    return pd.read_csv(RESULTS / "tables" / f"{name}.csv").set_index(index)


def claims():
    """The table of claims by their names."""
    return table("claims", index="name")


def curves(experiment):
    return EVIDENCE.curves(experiment)


def benchmark(name):
    """The content of a benchmark's report."""
    return json.loads((RESULTS / "benchmarks" / f"{name}.json").read_text())


def environments(run):
    return json.loads((RESULTS / run.folder / "environment.json").read_text())


def difference(experiment, method, other, measure, epochs):
    """The mean difference of two methods and its interval: of losses relative and in per cent."""
    of_all = curves(experiment)
    values, others = (by_seed(of_all[of_all["method"] == name], measure, epochs) for name in (method, other))
    if "loss" not in measure:
        return interval(values - others)
    found = interval(np.log(values / others))
    return found._replace(**{name: 100 * np.expm1(getattr(found, name)) for name in ("mean", "low", "high")})


def arrays_over_adam(contenders):
    """The median over the rounds of the array operations' time as a share of MXNet's adam's."""
    rounds = (contenders[name]["rounds"] for name in ("namsg, ndarray kernel", "MXNet adam"))
    return np.median(np.divide(*rounds))


def step_on_resnet50():
    """The contenders of the benchmark's step on ResNet-50's weights, on the most threads."""
    return max((m for m in benchmark("optimizer_step")["measurements"] if m["shapes"] == "ResNet-50"),
               key=lambda m: m["threads"])["contenders"]


def accuracy_between_namsg_and_amsgrad():
    """On the CNN: the end of the interval of the best test accuracy's difference that is farther from 0."""
    low, high = map(float, re.search(r"AMSGRAD [\d.]+: [-+.\d]+ \(([-+.\d]+) to ([-+.\d]+)\)",
                                     claims().loc["mnist_cnn-generalizes", "finding"]).groups())
    return max(-low, high)
