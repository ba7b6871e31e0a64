"""row_sparse gradients and weights: standard updates are dense ones with rows of zeros; lazy ones leave rows alone."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, METHODS, array, assert_equal_bits, signed_gradients
from loopback import run_cluster
from mxnet import autograd, gluon

import namsg_mx
from namsg_mx import kernels

KERNELS = [pytest.param("cpu", marks=CPU_KERNEL), "ndarray"]
ROWS = [1, 4]
SETTINGS = {"learning_rate": 0.05, "wd": 0.02, "clip_gradient": 2.0}


def sparse_gradients(dtype=np.float32):
    dense = np.zeros((10, 6, 3), np.float32)
    dense[:, ROWS] = signed_gradients((10, 2, 3), 1)[0]
    return dense, [mx.nd.sparse.row_sparse_array((mx.nd.array(g[ROWS], dtype=dtype), ROWS), shape=g.shape, dtype=dtype)
                   for g in dense]


def train(optimizer, gradients, dtype=np.float32, stype="default"):
    weight = array(np.linspace(-1, 1, 18).reshape(6, 3), dtype=dtype).tostype(stype)
    state = optimizer.create_state_multi_precision(0, weight)
    for g in gradients:
        optimizer.update(0, weight, g, state)
    return [a.asnumpy() for a in [weight, *state]]


@pytest.mark.parametrize("method", METHODS)
def test_standard_updates_equal_dense_ones_to_the_bit(method):
    dense, sparse = sparse_gradients()
    expected = train(mx.optimizer.create(method, **SETTINGS), [array(g) for g in dense])
    assert_equal_bits(train(mx.optimizer.create(method, **SETTINGS), sparse), expected)


@CPU_KERNEL
def test_the_cpu_kernel_fills_in_rows_of_zeros_wherever_they_are():
    """At both ends, in gaps longer than it has zeros for, in all rows, and where threads cut a row."""
    script = textwrap.dedent("""
        import namsg_mx, mxnet as mx, numpy as np
        random, shape = np.random.RandomState(0), (2000, 37)
        start = random.standard_normal(shape)
        picks = [[], [0], [1999], [0, 1, 700, 1203, 1999], list(range(2000)), [3, 4, 5, 1000]]
        for options in ({}, {'rescale_grad': 0.5, 'wd': 0.1, 'nonfinite': 'skip', 'decoupled_wd': True}):
            for dtype in (np.float32, np.float16):
                results = []
                for is_sparse in (False, True):
                    values = np.random.RandomState(1)
                    optimizer = namsg_mx.NAMSG(kernel='cpu', multi_precision=True, **options)
                    weight = mx.nd.array(start, dtype=dtype)
                    state = optimizer.create_state_multi_precision(0, weight)
                    for rows in picks:
                        gradient = mx.nd.sparse.zeros('row_sparse', shape, dtype=dtype)
                        if rows:
                            some = mx.nd.array(values.standard_normal((len(rows), 37)), dtype=dtype)
                            some *= float('inf') if len(rows) == 5 else 1
                            gradient = mx.nd.sparse.row_sparse_array((some, rows), shape, dtype=dtype)
                        optimizer.update(0, weight, gradient if is_sparse else gradient.tostype('default'), state)
                    results.append([a.asnumpy().tobytes() for a in [weight, *state]])
                    assert optimizer.last_update().nonfinite == 5 * 37
                assert results[0] == results[1]
    """)
    subprocess.run([sys.executable, "-c", script], check=True, env=dict(os.environ, OMP_NUM_THREADS="3"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_lazy_updates_touch_the_gradients_rows_alone(method, dtype):
    dense, sparse = sparse_gradients(dtype)
    options = dict(SETTINGS, multi_precision=True)
    expected = train(mx.optimizer.create(method, **options), [array(g, dtype=dtype) for g in dense], dtype)
    start = train(mx.optimizer.create(method, **options), [], dtype)
    lazy = train(mx.optimizer.create(method, lazy_update=True, **options), sparse, dtype)
    others = [row for row in range(6) if row not in ROWS]
    for value, dense_value, initial in zip(lazy, expected, start):
        assert np.array_equal(value[ROWS], dense_value[ROWS])
        assert np.array_equal(value[others], initial[others])


@CPU_KERNEL
@pytest.mark.parametrize("lazy", [False, True])
def test_a_weight_takes_dense_and_row_sparse_gradients_in_turn(lazy):
    """Of one shape, so that the second is not taken in the place of the first."""
    ones, row = array(np.ones((4, 3))), mx.nd.sparse.row_sparse_array((array(np.full((1, 3), 5)), [2]), shape=(4, 3))
    results = []
    for kernel in ("cpu", "ndarray"):
        optimizer, weight = namsg_mx.NAMSG(kernel=kernel, lazy_update=lazy), array(np.ones((4, 3)))
        state = optimizer.create_state(0, weight)
        for gradient in (ones, row, -ones, row):
            optimizer.update(0, weight, gradient, state)
        results.append([each.asnumpy() for each in (weight, *state)])
    assert_equal_bits(*results)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_rows_that_a_gradient_has_twice_are_added_up(dtype, lazy, kernel):
    """No operator of MXNet makes such a gradient, nor one whose rows do not ascend: users do."""
    values = np.array([[1, 2, 3], [4, 5, 6], [-7, 8, 9.5], [0.25, 0.5, 1], [1, 1, 1]])
    rows = [4, 1, 4, 4, 0]
    dense = np.zeros((6, 3))
    np.add.at(dense, rows, values)
    if kernel == "cpu" and dtype == np.float64:
        pytest.skip("the CPU kernel takes no float64 weights")

    def gradient(values, rows):
        return mx.nd.sparse.row_sparse_array((mx.nd.array(values, dtype=dtype), rows), shape=(6, 3), dtype=dtype)

    results = []
    for grad in (gradient(values, rows), gradient(dense[[0, 1, 4]], [0, 1, 4])):
        optimizer = mx.optimizer.create("namsg", kernel=kernel, lazy_update=lazy, multi_precision=True, wd=0.1)
        results.append(train(optimizer, [grad, grad], dtype))
        assert optimizer.last_update().kernel == kernel
    assert all(map(np.array_equal, *results))


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_that_a_float16_gradient_has_thrice_are_added_up_in_float32(kernel):
    """In float16, 2048 + 1 is 2048."""
    def trained(values, rows):
        grad = mx.nd.sparse.row_sparse_array((mx.nd.array(values, dtype=np.float16), rows), (6, 3), dtype=np.float16)
        return train(mx.optimizer.create("namsg", kernel=kernel, multi_precision=True), [grad], np.float16)

    assert_equal_bits(trained([[2048] * 3, [1] * 3, [1] * 3], [4, 4, 4]), trained([[2050] * 3], [4]))


def test_lazy_update_can_be_set_at_any_time():
    grad = sparse_gradients()[1][0]
    weight = array(np.ones((6, 3)))
    optimizer = mx.optimizer.create("namsg", wd=0.1)
    state = optimizer.create_state(0, weight)
    for lazy in (False, True, False):
        optimizer.lazy_update, before = lazy, weight.asnumpy()
        optimizer.update(0, weight, grad, state)
        moved = (weight.asnumpy() != before).any(axis=1)
        assert moved.tolist() == [row in ROWS if lazy else True for row in range(6)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_lazy_update_leaves_what_a_program_has_put_into_other_rows(kernel):
    """Not even float16 weights' are written anew from their master copy."""
    grad = mx.nd.sparse.row_sparse_array((np.ones((1, 2), np.float16), [0]), shape=(3, 2), dtype=np.float16)
    weight = mx.nd.ones((3, 2), dtype=np.float16)
    optimizer = mx.optimizer.create("namsg", kernel=kernel, lazy_update=True, multi_precision=True)
    state = optimizer.create_state_multi_precision(0, weight)
    optimizer.update(0, weight, grad, state)
    weight[1:] = 5
    optimizer.update(0, weight, grad, state)
    assert (weight[1:].asnumpy() == 5).all() and (weight[0].asnumpy() < 1).all()
    assert weight[0].asnumpy().tolist() == state[-1][0].astype(np.float16).asnumpy().tolist()


def test_lazy_update_without_rows_changes_nothing():
    empty = mx.nd.sparse.zeros("row_sparse", (6, 3))
    optimizer = mx.optimizer.create("namsg", lazy_update=True, **SETTINGS)
    assert all(map(np.array_equal, train(optimizer, [empty]), train(optimizer, [])))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("method", "dtype"), [("namsg", np.float32), ("namsg", np.float16),
                                               ("averagedsgd", np.float32)])
def test_row_sparse_weights_train_like_dense_ones_to_the_bit(method, dtype, lazy, kernel):
    _, gradients = sparse_gradients(dtype)
    options = dict(SETTINGS, lazy_update=lazy, kernel=kernel, multi_precision=True)
    dense, sparse = (train(mx.optimizer.create(method, **options), gradients, dtype, stype)
                     for stype in ("default", "row_sparse"))
    assert_equal_bits(sparse, dense)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_row_sparse_weights_of_a_subclass_with_an_update_of_its_own(dtype, lazy):
    class Own(namsg_mx.NAMSG):
        def update(self, index, weight, grad, state):
            super().update(index, weight, grad, state)

    def trained(stype, kind):
        updater = mx.optimizer.get_updater(kind(lazy_update=lazy, multi_precision=True, **SETTINGS))
        weight = array(np.linspace(-1, 1, 18).reshape(6, 3), dtype=dtype).tostype(stype)
        for g in sparse_gradients(dtype)[1]:
            updater(0, g, weight)
        return weight.asnumpy()

    assert np.array_equal(trained("row_sparse", Own), trained("default", namsg_mx.NAMSG))


def test_a_row_sparse_weight_with_a_dense_gradient():
    dense, _ = sparse_gradients()
    gradients = [array(g) for g in dense]
    assert all(map(np.array_equal, train(mx.optimizer.create("namsg"), gradients, stype="row_sparse"),
                   train(mx.optimizer.create("namsg"), gradients)))


@pytest.mark.parametrize("rows", [[], [0, 3]])
def test_rows_of_zeros_that_a_weight_lacks_are_made(rows):
    values = np.ones((len(rows), 3), np.float32)
    weight = mx.nd.sparse.row_sparse_array((values, rows), shape=(6, 3)) if rows else \
        mx.nd.sparse.zeros("row_sparse", (6, 3))
    dense = weight.tostype("default")
    gradient = sparse_gradients()[1][0]
    for each in (weight, dense):
        optimizer = mx.optimizer.create("namsg", wd=0.1)
        optimizer.update(0, each, gradient, optimizer.create_state(0, each))
    assert np.array_equal(weight.asnumpy(), dense.asnumpy())
    assert (weight.asnumpy()[ROWS] != 0).all()
    assert weight.indices.asnumpy().tolist() == list(range(6))


def test_csr_weights_are_refused():
    optimizer = mx.optimizer.create("namsg")
    weight = mx.nd.ones((6, 3))
    with pytest.raises(TypeError, match="weights of storage type 'csr' are not supported"):
        optimizer.update(0, weight.tostype("csr"), weight, optimizer.create_state(0, weight))


class Embedding(gluon.nn.Block):
    """Rows of a parameter that is wholly row_sparse, or of a dense one."""

    def __init__(self, stype):
        super().__init__()
        self.is_sparse = stype == "row_sparse"
        self.weight = self.params.get("weight", shape=(20, 4), init=mx.init.Uniform(1), dtype="float32",
                                      stype=stype, grad_stype="row_sparse", allow_deferred_init=True)

    def forward(self, tokens):
        weight = self.weight.row_sparse_data(tokens) if self.is_sparse else self.weight.data()
        return mx.nd.Embedding(tokens, weight, input_dim=20, output_dim=4, sparse_grad=True)


def train_embedding(stype, options, kvstore="local", folder=None, method="namsg"):
    """All rows after 6 steps, of 2 of which the states are saved and loaded in a fresh Trainer."""
    mx.random.seed(0)
    np.random.seed(0)
    net = Embedding(stype)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), method, options, kvstore=kvstore)
    for k in range(6):
        with autograd.record():
            loss = ((net(mx.nd.array([1, 3, 5 + k, 3])) - 1) ** 2).sum()
        loss.backward()
        trainer.step(1)   # no other number, where servers have the optimizer since the first rows were asked for
        if k == 1 and folder:
            trainer.save_states(str(folder / "states"))
            net.save_parameters(str(folder / "net"))
            net = Embedding(stype)
            net.load_parameters(str(folder / "net"))
            trainer = gluon.Trainer(net.collect_params(), method, kvstore=kvstore)
            trainer.load_states(str(folder / "states"))
    rows = mx.nd.arange(20, dtype="int64")
    return (net.weight.row_sparse_data(rows) if net.is_sparse else net.weight.data()).asnumpy()


@pytest.mark.parametrize("kvstore", ["local", "device"])
@pytest.mark.parametrize("lazy", [False, True])
def test_gluons_row_sparse_parameters_train(lazy, kvstore, tmp_path):
    """MXNet updates them in its kvstore, which prints an error and goes on."""
    options = {"learning_rate": 0.1, "wd": 0.01, "lazy_update": lazy}
    expected = train_embedding("default", options)
    start = train_embedding("default", dict(options, learning_rate=0.0, wd=0.0))
    moved = (expected != start).any(axis=1)
    assert moved.tolist() == [not lazy or row in (1, 3, 5, 6, 7, 8, 9, 10) for row in range(20)]
    assert np.array_equal(train_embedding("row_sparse", options, kvstore), expected)
    assert np.array_equal(train_embedding("row_sparse", options, kvstore, tmp_path), expected)


@pytest.mark.slow
@pytest.mark.timeout(1800, method="signal")   # so that a test whose servers wait without end kills them
def test_servers_update_row_sparse_weights():
    """Each server of two has a part of the rows."""
    script = textwrap.dedent("""
        import sys
        sys.path[:0] = {path!r}
        import namsg_mx
        from test_sparse import train_embedding
        print('weights', *train_embedding('row_sparse', {options!r}, 'dist_sync').ravel().tolist())
    """)
    options = {"learning_rate": 0.1, "wd": 0.01}
    script = script.format(path=[*sys.path, str(Path(__file__).parent)], options=options)
    outputs, statuses = run_cluster(script, workers=1, servers=2)
    assert statuses == [0], outputs
    found = np.float32(outputs[0][0].split("weights ")[1].split())
    assert np.array_equal(found, train_embedding("default", options).ravel())


def test_csr_gradients_are_refused():
    optimizer, weight = mx.optimizer.create("namsg"), mx.nd.ones((6, 3))
    with pytest.raises(TypeError, match="gradients of storage type 'csr' are not supported"):
        optimizer.update(0, weight, weight.tostype("csr"), optimizer.create_state(0, weight))


@pytest.mark.parametrize("lazy", [False, True])
def test_an_embedding_with_sparse_gradients_trains(lazy):
    mx.random.seed(0)
    net = gluon.nn.Embedding(20, 4, sparse_grad=True)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": 0.1, "lazy_update": lazy})
    tokens = mx.nd.array([1, 3, 5, 3])
    before = net.weight.data().asnumpy()
    losses = []
    for _ in range(20):
        with autograd.record():
            loss = ((net(tokens) - 1) ** 2).sum()
        loss.backward()
        trainer.step(4)
        losses.append(loss.asscalar())
    assert losses[-1] < 0.1 * losses[0]
    untouched = [row for row in range(20) if row not in (1, 3, 5)]
    assert np.array_equal(net.weight.data().asnumpy()[untouched], before[untouched])


@CPU_KERNEL
@pytest.mark.parametrize("lazy", [False, True])
def test_dense_arrays_beside_a_sparse_one_are_stepped_as_alone_and_bound_once(lazy, monkeypatch):
    bound = []

    class Noted(kernels.cpu.BoundArrays):
        def __init__(self, weights, *arguments):
            bound.append([weight.shape for weight in weights])
            super().__init__(weights, *arguments)

    monkeypatch.setattr(kernels.cpu, "BoundArrays", Noted)

    def trained(together):
        optimizer = namsg_mx.NAMSG(lazy_update=lazy, wd=0.1, kernel="cpu")
        optimizer.set_lr_mult({0: 0.5, 1: 2.0})
        weights = [array(np.ones((3, 2))), array(np.ones((4, 2))), array(np.ones(5))]
        states = [optimizer.create_state(i, weight) for i, weight in enumerate(weights)]
        grads = [array(np.zeros((3, 2))), mx.nd.sparse.zeros("row_sparse", (4, 2)), array(np.full(5, -0.2))]
        for k in range(3):
            grads[0][:] = 0.1 + k
            mx.nd.sparse.row_sparse_array((np.full((2, 2), 0.3 + k, np.float32), [k % 2, 3]), (4, 2)).copyto(grads[1])
            if together:
                optimizer.update([0, 1, 2], weights, grads, states)
            else:
                for i in range(3):
                    optimizer.update(i, weights[i], grads[i], states[i])
        return [each.asnumpy() for each in (*weights, *(moment for state in states for moment in state))]

    together = trained(True)
    assert bound == [[(3, 2), (5,)], *[[(4, 2)]] * 3]
    assert_equal_bits(together, trained(False))


@CPU_KERNEL
@pytest.mark.parametrize("lazy_update", [False, True])
def test_a_sparse_gradient_of_two_weights_and_beside_parts_of_a_buffer(lazy_update):
    def trained(**options):
        updater = mx.optimizer.get_updater(mx.optimizer.create("namsg", lazy_update=lazy_update, **options))
        gradient = mx.nd.sparse.row_sparse_array((np.ones((2, 2), "float32"), [0, 2]), shape=(4, 2))
        weights, flat, gradients = [mx.nd.ones((4, 2)), mx.nd.ones((4, 2))], mx.nd.ones(8), mx.nd.ones(8)
        for _ in range(2):
            updater([0, 1, 2, 3], [gradient, gradient, gradients[:4], gradients[4:]], [*weights, flat[:4], flat[4:]])
        assert updater.optimizer.last_update().kernel == options.get("kernel", "cpu")
        return [array.asnumpy() for array in (*weights, flat)]

    assert_equal_bits(trained(), trained(kernel="ndarray"))


@CPU_KERNEL
def test_sparse_gradients_of_weights_that_overlap():
    """Under 'auto' the ndarray kernel steps them one after the other."""
    def trained(kernel):
        weights = [mx.nd.ones((4, 2))] * 2
        gradients = [mx.nd.sparse.row_sparse_array((np.ones((1, 2), "float32"), [row]), (4, 2)) for row in (1, 2)]
        updater = mx.optimizer.get_updater(namsg_mx.NAMSG(kernel=kernel))
        updater([0, 1], gradients, weights)
        assert updater.optimizer.last_update().kernel == "ndarray"
        return [weights[0].asnumpy()]

    assert_equal_bits(trained("auto"), trained("ndarray"))
    with pytest.raises(mx.MXNetError, match="overlap; take kernel='ndarray'"):
        trained("cpu")


def test_a_sparse_gradient_of_a_weight_without_rows():
    with mx.util.np_shape(True):
        weight = mx.nd.zeros((0, 3))
        mx.optimizer.get_updater(mx.optimizer.create("namsg"))(0, mx.nd.sparse.zeros("row_sparse", (0, 3)), weight)
        assert weight.shape == (0, 3)
