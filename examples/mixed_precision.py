"""Mixed precision by MXNet's AMP, with gradients accumulated over several batches and clipped by their common norm.

    python examples/mixed_precision.py [--data DIR] [--gpu]

On a CPU it takes bfloat16, for which MXNet needs AVX-512; on a GPU float16.
"""

import namsg_mx  # isort: skip  (before mxnet, as NumPy may be newer than MXNet knows)
import digits
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, init, nd
from mxnet.contrib import amp
from mxnet.gluon import nn
from mxnet.gluon.data import ArrayDataset, DataLoader

BATCH, ACCUMULATED = 32, 4   # a step for each 128 images
MAX_NORM = 1.0               # of the gradient of the mean loss, over all parameters together

parser = digits.parser(__doc__.splitlines()[0], epochs=4, writes=False)
parser.add_argument("--gpu", action="store_true", help="float16 on the first GPU, instead of bfloat16 on the CPU")
options = parser.parse_args()
context = mx.gpu(0) if options.gpu else mx.cpu()
amp.init("float16" if options.gpu else "bfloat16")   # before the network is made
mx.random.seed(0)
np.random.seed(0)   # by which MXNet shuffles

train, test = digits.load(options.data)
training = DataLoader(ArrayDataset(*train), BATCH, shuffle=True, last_batch="discard")

net = nn.HybridSequential()
net.add(nn.Conv2D(16, 5, strides=2), nn.BatchNorm(), nn.Activation("relu"),
        nn.Dense(100, activation="relu"), nn.Dense(10))
net.initialize(init.Xavier(), ctx=context)
net(mx.nd.zeros((1, 1, 28, 28), ctx=context))   # gives the parameters their shapes
net.hybridize(static_alloc=True)

loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
# AMP leaves the parameters in float32, so NAMSG's state is, too. A step whose scaled gradients overflow is left out.
trainer = gluon.Trainer(net.collect_params(), "namsg", {
    "learning_rate": 0.002, "eta": namsg_mx.ObservationDistance(len(training) // ACCUMULATED)})
amp.init_trainer(trainer)
gradients = [p.grad(context) for p in net.collect_params().values() if p.grad_req != "null"]
# Not by grad_req="add": with bfloat16, MXNet leaves 0 then in the gradients of all that it casts.
sums = [nd.zeros_like(gradient) for gradient in gradients]

for epoch in range(1, options.epochs + 1):
    mean_loss = mx.metric.Loss()
    for total in sums:
        total[:] = 0   # the last batches of the epoch before, if they were too few for a step
    for i, (images, labels) in enumerate(training, start=1):
        images, labels = images.as_in_context(context), labels.as_in_context(context)
        with autograd.record():
            loss = loss_of(net(images), labels)
            with amp.scale_loss(loss, trainer) as scaled:
                autograd.backward(scaled)
        for total, gradient in zip(sums, gradients):
            total += gradient
        mean_loss.update(0, loss)
        if i % ACCUMULATED == 0:
            for total, gradient in zip(sums, gradients):
                total.copyto(gradient)
                total[:] = 0
            amp.unscale(trainer)
            gluon.utils.clip_global_norm(gradients, MAX_NORM * BATCH * ACCUMULATED, check_isfinite=False)
            trainer.step(BATCH * ACCUMULATED)
    print(f"epoch {epoch}: train loss {mean_loss.get()[1]:.4f}, {trainer.optimizer.num_update} steps", flush=True)

accuracy = mx.metric.Accuracy()
for images, labels in DataLoader(ArrayDataset(*test), BATCH):
    accuracy.update(labels, net(images.as_in_context(context)).as_in_context(mx.cpu()))
print(f"test accuracy: {accuracy.get()[1]:.4f}")
