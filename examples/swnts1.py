"""SWNTS1: NAMSG at first, SGD after a switch, and a test on the average of the parameters.

    python examples/swnts1.py [--data DIR]

In the paper's 75 epochs of CIFAR-10 the switch is at update 3000, and the step size is divided by 10 at update 12000:
after a fifth and four fifths of the way, as here.
"""

from pathlib import Path

import namsg_mx  # isort: skip  (before mxnet, as NumPy may be newer than MXNet knows)
import digits
import matplotlib.pyplot as plt
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, init, nd
from mxnet.gluon import nn
from mxnet.gluon.data import ArrayDataset, DataLoader

BATCH = 64

options = digits.parser(__doc__.splitlines()[0], epochs=10).parse_args()
output = Path(options.output)
output.mkdir(parents=True, exist_ok=True)
mx.random.seed(0)
np.random.seed(0)   # by which MXNet shuffles

train, test = digits.load(options.data)
training = DataLoader(ArrayDataset(*train), BATCH, shuffle=True, last_batch="discard")
test_images, test_labels = nd.array(test.images), nd.array(test.labels)
updates = options.epochs * len(training)

net = nn.HybridSequential()
net.add(nn.Conv2D(8, 5, strides=2), nn.BatchNorm(), nn.Activation("relu"),
        nn.Conv2D(16, 5, strides=2), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(10))
net.initialize(init.Xavier())
net(test_images[:1])   # gives the parameters their shapes
net.hybridize(static_alloc=True)

trainer = gluon.Trainer(net.collect_params(), "namsg", {
    "learning_rate": namsg_mx.StepDecay(0.0015, at=(4 * updates // 5,)), "switch_to_sgd": updates // 5,
    "eta": namsg_mx.ObservationDistance(len(training))})
average = namsg_mx.ParameterAverage(net.collect_params(), decay=0.99)
loss_of = gluon.loss.SoftmaxCrossEntropyLoss()


def test_accuracy():
    accuracy = mx.metric.Accuracy()
    accuracy.update(test_labels, net(test_images))
    return accuracy.get()[1]


rows = []
for epoch in range(1, options.epochs + 1):
    for images, labels in training:
        with autograd.record():
            loss = loss_of(net(images), labels)
        loss.backward()
        trainer.step(BATCH)
        average.update()
    plain = test_accuracy()
    with average.in_place():
        namsg_mx.update_batch_norm(net, (images for images, _ in training))
        rows.append((plain, test_accuracy()))
    made = trainer.optimizer.last_update()
    method = "NAMSG" if made.sgd_learning_rate is None else f"SGD, step size {made.sgd_learning_rate:.3g}"
    print(f"epoch {epoch}: test accuracy {plain:.4f}, of the average {rows[-1][1]:.4f} ({method})", flush=True)
print(f"test accuracy: {rows[-1][1]:.4f}")

figure, panel = plt.subplots(figsize=(6, 3.5), layout="constrained")
for curve, label in zip(zip(*rows), ("parameters", "their average")):
    panel.plot(range(1, options.epochs + 1), curve, marker="o", label=label)
panel.axvline(options.epochs / 5, color="gray", linestyle=":", label="switch to SGD")
panel.set(xlabel="epoch", ylabel="test accuracy")
panel.legend()
figure.savefig(output / "swnts1.png")
