"""Times the updates of one pattern in a process of its own: `update_patterns.py` is the other end."""

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

from functools import partial

import mxnet as mx
import numpy as np
from mxnet import gluon, nd

from benchmarks.turns import serve, timed

ROWS, COLUMNS, ROWS_OF_A_BATCH = 20_000, 64, 500
CONTENDERS = {"MXNet adam": ("adam", {}), "namsg, cpu kernel": ("namsg", {"kernel": "cpu"}),
              "namsg, ndarray kernel": ("namsg", {"kernel": "ndarray"})}


def new_gradients(shapes, optimizer, options):
    """``updater(i, gradient, weight)``, an array after the other, each gradient a new one that is then let go."""
    weights, gradients = normal_arrays(shapes), normal_arrays(shapes)
    updater = mx.optimizer.get_updater(mx.optimizer.create(optimizer, learning_rate=0.001, **options))

    def prepare():
        return [gradient.copy() for gradient in reversed(gradients)]

    def step(new):
        for i, weight in enumerate(weights):
            updater(i, new.pop(), weight)
    return prepare, step


def two_contexts(shapes, optimizer, options, on_kvstore):
    """A ``Trainer`` step of two replicas, on cpu(0) and cpu(1)."""
    contexts, gradients = [mx.cpu(0), mx.cpu(1)], normal_arrays(shapes)
    parameters = [gluon.Parameter(f"p{i}", shape=shape) for i, shape in enumerate(shapes)]
    for parameter in parameters:
        parameter.initialize(mx.init.Normal(), ctx=contexts)
    trainer = gluon.Trainer(parameters, optimizer, dict(options, learning_rate=0.001), kvstore="local",
                            update_on_kvstore=on_kvstore)

    def prepare():   # what a backward pass does: a step on workers leaves the sum in each gradient
        for parameter, values in zip(parameters, gradients):
            for weight, gradient in zip(parameter.list_data(), parameter.list_grad()):
                values.copyto(gradient)
                weight._fresh_grad = True

    def step(_):
        trainer.step(1)
    return prepare, step


def embedding(shapes, optimizer, options, is_sparse, lazy=False, is_denormal=False):
    """The gradient of an embedding's batch. The ``shapes`` of dense parameters have no part in it."""
    weight = nd.random.normal(shape=(ROWS, COLUMNS))
    rows = nd.array(range(0, ROWS, ROWS // ROWS_OF_A_BATCH), dtype="int64")
    values = nd.random.normal(0, 0.01, shape=(ROWS_OF_A_BATCH, COLUMNS))
    gradient = nd.sparse.row_sparse_array((values, rows), (ROWS, COLUMNS))
    if not is_sparse:
        gradient = gradient.tostype("default")
    updater = mx.optimizer.get_updater(
        mx.optimizer.create(optimizer, learning_rate=0.001, lazy_update=lazy, **options))
    if is_denormal:
        updater(0, gradient, weight)   # creates the state
        m = updater.states[0][0]
        m[:] = np.where(m.asnumpy() == 0, np.float32(1e-39), m.asnumpy())
    return lambda: None, lambda _: updater(0, gradient, weight)


def normal_arrays(shapes):
    return [nd.random.normal(0, 0.01, shape=shape) for shape in shapes]


# By name: a function of the dense parameters' shapes, an optimizer and its options, which returns two: what prepares a
# step, and the step.
PATTERNS = {"new gradients, one array a call": new_gradients,
            "two contexts": partial(two_contexts, on_kvstore=False),
            "two contexts, update on the kvstore": partial(two_contexts, on_kvstore=True),
            "row_sparse gradient, standard": partial(embedding, is_sparse=True),
            "row_sparse gradient, lazy": partial(embedding, is_sparse=True, lazy=True),
            "dense gradient of an embedding": partial(embedding, is_sparse=False),
            "dense gradient of an embedding, m denormal": partial(embedding, is_sparse=False, is_denormal=True)}


def contenders(question):
    """By contender: a function of a number of steps that returns seconds per step.

    ``question`` is a name of `PATTERNS` and the shapes of the dense parameters.
    """
    pattern, shapes = question
    made = {name: PATTERNS[pattern](shapes, optimizer, options) for name, (optimizer, options) in CONTENDERS.items()}
    return {name: timed(step, nd.waitall, prepare) for name, (prepare, step) in made.items()}


if __name__ == "__main__":
    serve({"mxnet": contenders})
