"""Optimizers with settings of their own, stepped by themselves and beside the float64 reference."""

import mxnet as mx
import numpy as np
import pytest

from namsg_mx import ExponentialDecay, InverseSquareRoot, ObservationDistance, StepDecay, kernels, reference

METHODS = ("namsg", "amsgrad", "namsb", "amsbound", "averagedsgd", "dozatnadam")
# Every hyper-parameter away from its default at once; the clip acts on some gradients, the box on some weights.
EVERYTHING = {"rescale_grad": 0.25, "wd": 0.03, "clip_gradient": 1.5, "bounds": (-1.2, 0.9)}
ULPS = 32   # of the largest term added on the way to a value: signed sums cancel


def create(method, **options):
    """The optimizer and, for each k, the step size and the reference's hyper-parameters at that update."""
    settings = {"learning_rate": InverseSquareRoot(0.02)}
    if method == "namsg":
        settings.update(beta1=ExponentialDecay(0.85, 0.99), beta2=0.97, epsilon=1e-6,
                        eta=ObservationDistance(7, 0.5, 2.0))
    elif method == "amsgrad":
        settings.update(beta1=ExponentialDecay(0.85, 0.99), beta2=0.97, epsilon=1e-6)
    elif method in ("namsb", "amsbound"):
        settings.update(beta1=ExponentialDecay(0.85, 0.99), beta2=0.97, epsilon=1e-6, gamma=0.2,
                        sgd_learning_rate=StepDecay(0.5, at=(6,)))
        if method == "namsb":
            settings["eta"] = ObservationDistance(7, 0.5, 2.0)
    elif method == "averagedsgd":
        settings.update(beta1=ExponentialDecay(0.85, 0.99))
    elif method == "dozatnadam":
        settings.update(beta1=0.85, beta2=0.97, epsilon=1e-4, schedule_decay=0.1)
    else:
        raise ValueError(f"there are no settings for {method}")
    optimizer = mx.optimizer.create(method, **settings, **options)

    def at(k):
        hyper = {name: value(k) if callable(value) else value for name, value in settings.items()}
        hyper.update({name: value for name, value in options.items() if name != "nonfinite"})
        return hyper.pop("learning_rate"), hyper

    return optimizer, at


def reference_step(method, x, grad, state, t, lr, hyper):
    """One step of ``method`` in float64; ``state`` is a dict by name; returns the new x and state.

    ``hyper``: beta1, beta2, epsilon, eta, sgd_learning_rate, gamma of this step, and rescale_grad, wd, clip_gradient,
    bounds, decoupled_wd.
    """
    decoupled = hyper.get("decoupled_wd", False)
    wd = hyper.get("wd", 0.0)
    g = reference.gradient(grad, x, hyper.get("rescale_grad", 1.0), 0.0 if decoupled else wd,
                           hyper.get("clip_gradient"))
    bounds = hyper.get("bounds")
    start = reference.decouple_decay(x, lr, wd) if decoupled else x
    if "v_hat" in state:
        moments = reference.Moments(state["m"], state["v"], state["v_hat"])
        settings = {"alpha": lr, "beta1": hyper["beta1"], "beta2": hyper["beta2"], "bounds": bounds}
        if method in ("namsg", "namsb"):
            settings["eta"] = hyper["eta"]
        if method in ("namsb", "amsbound"):
            settings.update(t=t, alpha_sgd=hyper["sgd_learning_rate"], gamma=hyper["gamma"])
        x, moments = getattr(reference, method)(start, g, moments, **settings)
        return x, moments._asdict()
    if method == "averagedsgd":
        x, m = reference.sgd(start, state["m"], g, lr, hyper["beta1"], bounds=bounds)
        return x, {"m": m}
    if method != "dozatnadam":
        raise ValueError(f"there is no reference for {method}")
    x, m, v = reference.nadam(start, state["m"], state["v"], g, t, lr, hyper["beta1"], hyper["beta2"],
                              hyper["epsilon"], hyper["schedule_decay"])
    return reference.project(x, bounds), {"m": m, "v": v}


def largest_terms(x, grad, state, new_state, lr, hyper, t=None):
    """The largest term added on the way to each new value: a dict by name, ``x`` among them; NAMSB needs its ``t``."""
    g = np.abs(hyper.get("rescale_grad", 1.0) * grad) + np.abs(hyper.get("wd", 0.0) * x)
    terms = {"m": np.maximum(hyper["beta1"] * np.abs(state["m"]), (1 - hyper["beta1"]) * g)}
    size = terms["m"] + g
    if "v" in state:
        terms["v"] = np.maximum(hyper["beta2"] * state["v"], (1 - hyper["beta2"]) * g**2)
        root = np.sqrt(new_state.get("v_hat", new_state["v"]))
        if "gamma" in hyper:
            xi_l, xi_u = reference.step_limits(t, hyper["sgd_learning_rate"], hyper["gamma"])
            root = root.clip(lr / xi_u, lr / xi_l)
        size = size / root
    if "v_hat" in state:
        terms["v_hat"] = np.maximum(state["v_hat"], terms["v"])
    eta_factor = 1 + abs(hyper.get("eta", 0.0)) * (1 - hyper["beta1"]) / hyper["beta1"] if hyper["beta1"] else 1
    terms["x"] = np.maximum(np.abs(x), lr * eta_factor * size)
    return terms


def assert_close(name, value, expected, largest_term, ulps=ULPS):
    spacing = np.spacing(np.abs(largest_term).astype(value.dtype)).astype(np.float64)
    error = np.abs(value.astype(np.float64) - expected) / spacing
    worst = np.unravel_index(np.argmax(error), error.shape) if error.size else ()
    assert not error.size or error[worst] <= ulps, (
        f"{name}{list(worst)}: {value[worst]!r} is {error[worst]:.1f} units from {expected[worst]!r}")


def numpy_state(names, state):
    """The optimizer's state as float64 arrays by name."""
    return {name: array.asnumpy().astype(np.float64) for name, array in zip(names, state)}


def step_beside_reference(optimizer, method, weight, grad, state, t, lr, hyper, index=0):
    """One update by ``optimizer``, compared with the reference's from the same state."""
    names = optimizer.STATE
    x = weight.asnumpy().astype(np.float64)
    before = numpy_state(names, state)
    g = grad.asnumpy()
    expected_x, expected_state = reference_step(method, x, g.astype(np.float64), before, t, lr, hyper)
    terms = largest_terms(x, g, before, expected_state, lr, hyper, t)
    optimizer.update(index, weight, grad, state)
    np.testing.assert_array_equal(grad.asnumpy(), g)   # the caller's gradient stays as it was
    assert_close("weight", weight.asnumpy(), expected_x, terms["x"])
    for name, array in zip(names, state):
        assert_close(name, array.asnumpy(), expected_state[name], terms[name])


def signed_gradients(shape, steps, seed=0, scale=1.0):
    """Seeded gradients of both signs, over some orders of magnitude."""
    random = np.random.RandomState(seed)
    return [(scale * random.standard_normal(shape) * 10.0 ** random.uniform(-3, 1, shape)).astype(np.float32)
            for _ in range(steps)]


def weights_and_gradients(sizes, steps, seed=0):
    """A weight of each size, and for each step their gradients."""
    weights = [np.random.RandomState(seed + n).standard_normal(n).astype(np.float32) for n in sizes]
    return weights, list(zip(*(signed_gradients(n, steps, seed=seed + n) for n in sizes)))


def run(optimizer, weights, gradients, together=True):
    """Weights and states after a step with each of ``gradients`` (lists of arrays), all at once or one by one."""
    weights = [array(w) for w in weights]
    states = [optimizer.create_state(i, w) for i, w in enumerate(weights)]
    for grads in gradients:
        grads = [array(g) for g in grads]
        if together:
            optimizer.update(list(range(len(weights))), weights, grads, states)
        else:
            for i, arrays in enumerate(zip(weights, grads, states)):
                optimizer.update(i, *arrays)
    return [a.asnumpy() for w, s in zip(weights, states) for a in [w, *s]]


def shapes_and_gradients(steps=10):
    shapes = [(3,), (4, 5), (1,), (2, 3, 3)]
    random = np.random.RandomState(3)
    weights = [random.standard_normal(s).astype(np.float32) for s in shapes]
    return weights, list(zip(*[signed_gradients(s, steps, seed=i) for i, s in enumerate(shapes)]))


def assert_equal_bits(a, b):
    """Lists of arrays, or of numbers: dtypes, shapes, and all bits but those of NaN, which is equal to NaN."""
    assert len(a) == len(b)
    for one, other in zip(map(np.asarray, a), map(np.asarray, b)):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
        if one.dtype.kind == "f":
            is_number = ~np.isnan(one)
            np.testing.assert_array_equal(np.signbit(one[is_number]), np.signbit(other[is_number]))   # -0.0 is not 0.0


def array(values, dtype=np.float32):
    return mx.nd.array(values, dtype=dtype)


CPU_KERNEL = pytest.mark.skipif(bool(kernels.cpu.unsupported(mx.cpu(), np.float32)),
                                reason=f"the CPU kernel {kernels.cpu.unsupported(mx.cpu(), np.float32)}")
KERNELS = [pytest.param("cpu", marks=CPU_KERNEL), "ndarray"]
