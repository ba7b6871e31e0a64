"""The symbolic API: Module.fit with NAMSG, a checkpoint after each epoch, and the last one loaded again.

    python examples/module_fit.py [--data DIR]
"""

import logging
from pathlib import Path

import namsg_mx  # isort: skip  (before mxnet, as NumPy may be newer than MXNet knows)
import digits
import mxnet as mx
import numpy as np

BATCH = 64

options = digits.parser(__doc__.splitlines()[0], epochs=5).parse_args()
output = Path(options.output)
output.mkdir(parents=True, exist_ok=True)
logging.basicConfig(level=logging.INFO, format="%(message)s")
mx.random.seed(0)
np.random.seed(0)   # by which MXNet shuffles

train, test = digits.load(options.data)
training = mx.io.NDArrayIter(*train, batch_size=BATCH, shuffle=True, last_batch_handle="discard")
testing = mx.io.NDArrayIter(*test, batch_size=100)   # divides 500 and 10,000: score() counts padding, too

net = mx.sym.flatten(mx.sym.Variable("data"))
net = mx.sym.Activation(mx.sym.FullyConnected(net, num_hidden=128, name="hidden"), "relu")
net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10, name="logits"), name="softmax")

module = mx.mod.Module(net)
checkpoints = str(output / "module_fit")
module.fit(training, eval_data=testing, num_epoch=options.epochs, initializer=mx.init.Xavier(), optimizer="namsg",
           optimizer_params={"learning_rate": 0.002, "wd": 1e-4,
                             "eta": namsg_mx.ObservationDistance(len(train.images) // BATCH)},
           epoch_end_callback=mx.callback.do_checkpoint(checkpoints))

loaded = mx.mod.Module.load(checkpoints, options.epochs)
loaded.bind(testing.provide_data, testing.provide_label, for_training=False)
print(f"test accuracy: {loaded.score(testing, 'acc')[0][1]:.4f}")
