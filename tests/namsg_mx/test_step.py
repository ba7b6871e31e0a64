"""The element step of step.h, compiled by itself: with and without vector instructions, and its half precision."""

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from comparison import CPU_KERNEL, array, assert_equal_bits, signed_gradients

import namsg_mx
from namsg_mx import kernels

PACKAGE = Path(namsg_mx.__file__).parent
pytestmark = CPU_KERNEL


@pytest.fixture(scope="module")
def scalar_step(tmp_path_factory):
    """step.h as plain C, one element at a time and without optimization: no vector instruction, no thread."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("scalar")
    (folder / "scalar.c").write_text("""
        #include "step.h"
        int step(long n, const float *g, float *w, float *m, float *v, float *v_hat, const namsg_scalars *s,
                 const namsg_coefficients *c, int division, int skip) {
          int count = 0;
          for (long i = 0; i < n; ++i)
            count += namsg_element(g[i], w + i, m + i, v + i, v_hat + i, s, c, division, skip);
          return count;
        }
        void from_halves(long n, const uint16_t *h, float *x) {
          for (long i = 0; i < n; ++i) x[i] = namsg_from_half(h[i]);
        }
        void to_halves(long n, const float *x, uint16_t *h) {
          for (long i = 0; i < n; ++i) h[i] = namsg_to_half(x[i]);
        }
        #ifdef __SSE2__
        #include <xmmintrin.h>
        void from_halves_flushed(long n, const uint16_t *h, float *x) {
          const unsigned before = _mm_getcsr();
          _mm_setcsr(before | 0x8040);   /* flush to zero, denormals are zeros */
          from_halves(n, h, x);
          _mm_setcsr(before);
        }
        #endif
    """)
    library = folder / "scalar.so"
    subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O0", "-ffp-contract=off",
                    "-shared", "-fPIC", f"-I{PACKAGE / 'kernels'}", str(folder / "scalar.c"), "-o", str(library),
                    "-lm"], check=True)
    return ctypes.CDLL(str(library))


def pointer(values):
    return values.ctypes.data_as(ctypes.c_void_p)


@pytest.mark.parametrize("limits", [None, (0.2, 0.9)])
@pytest.mark.parametrize(("division", "skip"), [(d, s) for d in (0, 1, 2) for s in (0, 1)])
def test_vector_instructions_change_no_bit(scalar_step, division, skip, limits):
    """What this processor runs, AVX-512 perhaps, is what every processor computes."""
    n = 1000
    random = np.random.RandomState(0)
    w, m = random.standard_normal((2, n)).astype(np.float32)
    v = (random.standard_normal(n) ** 2).astype(np.float32)
    v_hat = np.maximum(v, (random.standard_normal(n) ** 2).astype(np.float32))
    g = signed_gradients(n, 1)[0]
    g[::97], g[1::97], v[2::97], g[2::97] = np.nan, np.inf, 1e-42, 1e-22
    scalars = kernels.Scalars(0.3, 1.3, 0.85, 0.97, 1e-4 if division == 1 else 0.0, ("none", "v", "v_hat")[division],
                              False, (-1.125, 0.75), bool(skip), limits)
    coefficients = kernels.Coefficients([0.01], [0.07], 0.7, 0.3, 1.1)
    arrays = [array(a) for a in (w, m, v, v_hat)]
    count = mx.nd.zeros((1,), dtype=np.int64)
    state = arrays[1:2 + division] if division else arrays[1:2]
    kernels.cpu.bind(arrays[:1], [array(g)], [state], False).step(scalars, coefficients, count)

    c_scalars = (ctypes.c_float * 11)(0.3, 1.3, 0.85, 1 - 0.85, 0.97, 1 - 0.97, scalars.epsilon, -1.125, 0.75,
                                      *limits or (0, np.inf))
    c_coefficients = (ctypes.c_float * 6)(0.01, 0.07, 0.0, 0.7, 0.3, 1.1)
    expected_count = scalar_step.step(ctypes.c_long(n), pointer(g), pointer(w), pointer(m), pointer(v), pointer(v_hat),
                                      c_scalars, c_coefficients, division, skip)
    assert count.asscalar() == expected_count > 0
    for value, expected in zip(arrays, (w, m, v, v_hat)):
        np.testing.assert_array_equal(value.asnumpy(), expected)


def test_half_precision_conversions_are_numpys(scalar_step):
    halves = np.arange(65536, dtype=np.uint16)
    floats = np.empty(65536, np.float32)
    scalar_step.from_halves(ctypes.c_long(65536), pointer(halves), pointer(floats))
    assert_equal_bits([floats], [halves.view(np.float16).astype(np.float32)])
    if platform.machine() == "x86_64":
        flushed = np.empty(65536, np.float32)
        scalar_step.from_halves_flushed(ctypes.c_long(65536), pointer(halves), pointer(flushed))
        np.testing.assert_array_equal(flushed.view(np.uint32), floats.view(np.uint32))

    edges = halves.view(np.float16)[:0x7c00].astype(np.float64)
    ties = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
    random = np.random.RandomState(0).randint(0, 2**32, 300_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([ties, -ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf)), random,
                        np.float32([65519.99, 65520, 65536, np.inf, -np.inf, np.nan, 0, -0.0, 2**-25, 2**-24])])
    converted = np.empty(len(x), np.uint16)
    scalar_step.to_halves(ctypes.c_long(len(x)), pointer(x), pointer(converted))
    with np.errstate(over="ignore"):
        assert_equal_bits([converted.view(np.float16)], [x.astype(np.float16)])
