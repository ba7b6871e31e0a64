"""Times training steps in a process of its own, with one framework: `training_step.py` is the other end."""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.turns import CHECKOUT, serve, timed

BATCH = 256
IMAGES = {"ResNet-20": (BATCH, 3, 28, 28), "CNN": (BATCH, 1, 28, 28)}


def batch(network):
    random = np.random.RandomState(0)
    return random.standard_normal(IMAGES[network]).astype(np.float32), random.randint(10, size=BATCH)


def mxnet_contenders(question):
    """Our network with namsg, and the stock network with MXNet's adam; ``question``: network, and 'ours' or 'stock'."""
    network, whose = question
    import namsg_mx  # noqa: F401  # isort: skip
    import mxnet as mx
    from mxnet import autograd, gluon

    from experiments.training import models

    if whose == "ours":
        name = {"ResNet-20": "cifar_resnet20_v1", "CNN": "mnist_cnn"}[network]
        net, optimizer = models.build({"name": name}, 0, mx.cpu()), "namsg"
    else:
        net, optimizer = stock_network(network), "adam"
        net.initialize(mx.init.Xavier())
        net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.001})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    loss.hybridize()
    images, labels = map(mx.nd.array, batch(network))

    def step():
        with autograd.record():
            value = loss(net(images), labels)
        value.backward()
        trainer.step(BATCH)

    return {f"{whose}, {optimizer}": timed(step, mx.nd.waitall)}


def stock_network(network):
    """As a user of gluoncv or Gluon writes it."""
    from mxnet.gluon import nn
    if network == "ResNet-20":
        from gluoncv.model_zoo import cifar_resnet20_v1
        return cifar_resnet20_v1()
    net = nn.HybridSequential()
    net.add(nn.Conv2D(20, 5), nn.BatchNorm(), nn.MaxPool2D(2), nn.Conv2D(50, 5), nn.BatchNorm(), nn.MaxPool2D(2),
            nn.Dense(500), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(10))
    return net


def torch_contenders(question):
    """The same networks, eager, with fused Adam (amsgrad); channels_last."""
    network, = question
    import torch
    from torch import nn

    net = (torch_resnet20() if network == "ResNet-20" else nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.BatchNorm2d(20), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.BatchNorm2d(50),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 500), nn.BatchNorm1d(500), nn.ReLU(), nn.Linear(500, 10)))
    net = net.to(memory_format=torch.channels_last)
    images, labels = map(torch.from_numpy, batch(network))
    images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001, amsgrad=True, fused=True)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return {"PyTorch, eager, channels_last, fused AMSGrad": timed(step)}


def torch_resnet20():
    """gluoncv's cifar_resnet20_v1: no ReLU before the first block, 1x1 convolutions on shortcuts to more filters."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, filters, stride):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(inputs, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters),
                                      nn.ReLU(), nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                                      nn.BatchNorm2d(filters))
            self.shortcut = nn.Identity() if inputs == filters else nn.Sequential(
                nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

        def forward(self, x):
            return nn.functional.relu(self.body(x) + self.shortcut(x))

    blocks = [Block(inputs if i == 0 else filters, filters, stride if i == 0 else 1)
              for inputs, filters, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)) for i in range(3)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), *blocks, nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(64, 10))


def real_epochs(folder):
    """A real run of ResNet-20, an epoch a turn, in seconds per update: training with records, and the test pass."""
    import namsg_mx  # noqa: F401  # isort: skip
    import mxnet as mx

    from experiments.training import data
    from experiments.training.loop import Training
    from experiments.vocabulary import config
    from experiments.vocabulary.config import RunOptions
    from experiments.vocabulary.records import RunRecord

    run, = config.load(CHECKOUT / "configs" / "cifar10_resnet20.yaml").runs(["namsg"], [0])
    training = Training(run, data.load(run.settings["data"], folder), mx.cpu())
    results = tempfile.TemporaryDirectory()
    record = RunRecord(Path(results.name))
    record.begin(run.config_json(RunOptions(Path(results.name), 1, folder, "cpu", 1)))
    passes = []

    def train(_):
        row, seconds = training.epoch(len(passes) + 1)
        passes.append(seconds["evaluation"] / row["updates"] * row["epoch"])
        start = time.perf_counter()
        record.add_epoch(row, seconds, training.state())
        return (seconds["training"] + time.perf_counter() - start) / row["updates"] * row["epoch"]

    train.results = results   # which would be gone with this call
    return {"training": train, "test pass": lambda _: passes[-1]}


if __name__ == "__main__":
    serve({"mxnet": mxnet_contenders, "torch": torch_contenders, "epochs": real_epochs})
