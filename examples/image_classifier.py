"""A Gluon image classifier: trained, validated after each epoch, and the best of it kept.

    python examples/image_classifier.py [--data DIR]
"""

from pathlib import Path

import namsg_mx  # isort: skip  (before mxnet, as NumPy may be newer than MXNet knows)
import digits
import matplotlib.pyplot as plt
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, init
from mxnet.gluon import nn
from mxnet.gluon.data import ArrayDataset, DataLoader

BATCH = 64
VALIDATION = 6   # one image in so many

options = digits.parser(__doc__.splitlines()[0], epochs=4).parse_args()
output = Path(options.output)
output.mkdir(parents=True, exist_ok=True)
mx.random.seed(0)
np.random.seed(0)   # by which MXNet shuffles

train, test = digits.load(options.data)
split = len(train.images) // VALIDATION
loaders = {
    "training": DataLoader(ArrayDataset(train.images[split:], train.labels[split:]), BATCH, shuffle=True),
    "validation": DataLoader(ArrayDataset(train.images[:split], train.labels[:split]), BATCH),
    "test": DataLoader(ArrayDataset(*test), BATCH),
}

net = nn.HybridSequential()
net.add(nn.Conv2D(8, 5), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(2),
        nn.Conv2D(16, 5), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(2),
        nn.Dense(100, activation="relu"), nn.Dense(10))
net.initialize(init.Xavier())
net.hybridize(static_alloc=True)

loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
trainer = gluon.Trainer(net.collect_params(), "namsg", {
    "learning_rate": 0.002, "eta": namsg_mx.ObservationDistance(len(loaders["training"]))})


def evaluate(loader):
    """Accuracy on all images of a loader."""
    accuracy = mx.metric.Accuracy()
    for images, labels in loader:
        accuracy.update(labels, net(images))
    return accuracy.get()[1]


losses, accuracies = [], []
for epoch in range(1, options.epochs + 1):
    loss_sum = mx.metric.Loss()
    for images, labels in loaders["training"]:
        with autograd.record():
            loss = loss_of(net(images), labels)
        loss.backward()
        trainer.step(len(images))
        loss_sum.update(0, loss)
    losses.append(loss_sum.get()[1])
    accuracies.append(evaluate(loaders["validation"]))
    print(f"epoch {epoch}: train loss {losses[-1]:.4f}, validation accuracy {accuracies[-1]:.4f}", flush=True)
    if accuracies[-1] == max(accuracies):
        net.save_parameters(str(output / "best.params"))

net.load_parameters(str(output / "best.params"))
print(f"test accuracy of the best: {evaluate(loaders['test']):.4f}")

epochs = range(1, options.epochs + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(epochs, losses, marker="o")
left.set(xlabel="epoch", ylabel="train loss")
right.plot(epochs, accuracies, marker="o")
right.set(xlabel="epoch", ylabel="validation accuracy")
figure.savefig(output / "image_classifier.png")
