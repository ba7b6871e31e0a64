"""The parts of the claims, by subject. They stand apart from the claims, as figures name them and must not load MXNet.
"""

from __future__ import annotations

from experiments.vocabulary.paper import CIFAR, CNN, LOGISTIC

GAIN, REGRET = "gain", "regret"
STRATEGIES, BOUNDED, PUBLISHED, COST, BESIDE = "strategies", "bounded", "published", "cost", "beside"
PARTS = {GAIN: "Section 3: remote observation", REGRET: "Section 4: regret", LOGISTIC: "Logistic regression on MNIST",
         CNN: "CNN on MNIST", CIFAR: "ResNet-20 on CIFAR-10", STRATEGIES: "ResNet-20: strategies",
         BOUNDED: "ResNet-20: bounded step sizes", PUBLISHED: "ResNet-20: published numbers",
         COST: "Cost in time and memory",
         BESIDE: "Beside the paper: what its reproduction rests on, and later work"}
