"""The box of the projection, in the precision of the weights, in every kernel."""

import numpy as np
import pytest
from comparison import CPU_KERNEL, array, assert_equal_bits

import namsg_mx

pytestmark = CPU_KERNEL
INFINITE = float("inf")
BOXES = {   # dtype, bounds: the largest box inside them that the dtype has
    "float16": (np.float16, (-0.3, 0.3), (-0.2998046875, 0.2998046875)),
    "float16, large": (np.float16, (-1e5, 70000), (-65504, 65504)),
    "float16, small": (np.float16, (1e-9, 0.5), (2.0**-24, 0.5)),
    "float16, open": (np.float16, (-INFINITE, 0.1), (-INFINITE, 0.0999755859375)),
    "float32": (np.float32, (0, 1 - 1e-8), (0, 1 - 2.0**-24)),
    "float32, exact": (np.float32, (-0.25, 0.5), (-0.25, 0.5)),
    "float32, open": (np.float32, (-0.1, INFINITE), (-0.0999999940395355224609375, INFINITE)),
    "float32, one number": (np.float32, (1, 1 + 1e-9), (1, 1)),
    "float64": (np.float64, (-0.1, 1 - 1e-12), (-0.1, 1 - 1e-12)),
    # MXNet's operators read these digits as other numbers.
    "float64, digits": (np.float64, (-7.62544562091512e-06, 0.9535221763806743),
                        (-7.62544562091512e-06, 0.9535221763806743)),
    "float64, subnormal": (np.float64, (-8.33e-321, 8.073e-321), (-8.33e-321, 8.073e-321)),
}


@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
@pytest.mark.parametrize(("dtype", "bounds", "box"), BOXES.values(), ids=BOXES)
def test_weights_stay_inside_the_box(kernel, dtype, bounds, box):
    """On their way to each end they stop at the last number of their precision, and so does their master copy."""
    if kernel == "cpu" and dtype == np.float64:
        pytest.skip("the CPU kernel takes no float64 weights")
    optimizer = namsg_mx.AveragedSGD(learning_rate=1.0, beta1=0.0, bounds=bounds, kernel=kernel, multi_precision=True)
    weight = array([0.0, 0.0, np.nan], dtype)
    state = optimizer.create_state_multi_precision(0, weight)
    for _ in range(2):   # the step's size is that of the gradient
        optimizer.update(0, weight, array([6e4, -6e4, 0], dtype), state)
    for values in (weight, *state[1:]):
        low, high, unknown = values.asnumpy().astype(np.float64)
        with np.errstate(over="ignore"):
            assert (low, high) == tuple(np.clip([-1.2e5, 1.2e5], *box).astype(values.dtype))
        assert np.isnan(unknown)


@pytest.mark.parametrize("kernel", ["cpu", "ndarray"])
def test_a_box_without_a_number_is_refused(kernel):
    for dtype, bounds in ((np.float16, (0.30001, 0.30002)), (np.float32, (1 + 1e-9, 1 + 2e-9)),
                          (np.float16, (1e5, INFINITE)), (np.float32, (-INFINITE, -1e39))):
        optimizer = namsg_mx.NAMSG(kernel=kernel, multi_precision=True)
        weight = array([1.0], dtype)
        state = optimizer.create_state_multi_precision(0, weight)
        optimizer.bounds = bounds
        for refuse, *arrays in ((optimizer.update, weight, weight.copy(), state),
                                (optimizer.create_state_multi_precision, weight)):
            with pytest.raises(ValueError, match=f"^bounds=.*: there is no {dtype.__name__} number between them"):
                refuse(0, *arrays)
        assert (weight.asscalar(), optimizer.num_update) == (1, 0)


def test_zeros_keep_their_sign_at_a_limit_of_zero_in_every_kernel():
    for bounds, expected in (((0, 1), [0.0, -0.0, 0.0, 0.25]), ((-0.0, 1), [0.0, -0.0, 0.0, 0.25]),
                             ((-1, 0), [0.0, -0.0, -0.25, 0.0]), ((-1, -0.0), [0.0, -0.0, -0.25, 0.0])):
        for kernel in ("cpu", "ndarray"):
            optimizer = namsg_mx.AveragedSGD(learning_rate=0.5, beta1=0.0, bounds=bounds, kernel=kernel)
            weight = array([0.0, -0.0, 0.0, -0.0])
            optimizer.update(0, weight, array([0, 0, 0.5, -0.5]), optimizer.create_state(0, weight))
            assert_equal_bits([weight.asnumpy()], [np.float32(expected)])
