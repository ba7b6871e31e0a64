/* The step on a GPU: one launch updates a group of parameters. cuda.py is the other half of this file.
 *
 * MXNet compiles it at run time and passes every array as an argument of its own. So cuda.py puts definitions for one
 * kind of group before this text:
 *
 *     NAMSG_TYPE                    float, or unsigned short (the bits) for float16 weights
 *     NAMSG_DIVISION, NAMSG_SKIP    of namsg_element
 *     NAMSG_GROUP                   the number of parameters
 *     NAMSG_PARAMETERS              the pointers to all their arrays, as the kernel declares them
 *     NAMSG_CASES                   case 0: return {the pointers of parameter 0}; case 1: ...
 *     NAMSG_THREADS, NAMSG_TILE     threads of a block, and elements that it updates
 */
#include "step.h"

namespace {

/* A parameter's arrays; null if its method lacks one. The master of float32 weights is the weight itself. */
struct Addresses {
  NAMSG_TYPE *weight;
  const NAMSG_TYPE *grad;
  float *m, *v, *v_hat, *master;
};

/* A parameter's first block in its launch, and its number of elements. */
struct Place {
  long long block, size;
};

/* Elements that are loaded and stored in one instruction. */
template <typename T, int width>
struct alignas(width * sizeof(T)) Pack {
  T x[width];
};

template <int width, typename T>
__device__ inline Pack<T, width> load(const T *array, long long i) {
  return *reinterpret_cast<const Pack<T, width> *>(array + i);
}

template <int width, typename T>
__device__ inline void store(T *array, long long i, const Pack<T, width> &values) {
  *reinterpret_cast<Pack<T, width> *>(array + i) = values;
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(unsigned short half) { return namsg_from_half(half); }

template <int width>
__device__ inline void store_half(float *, long long, const Pack<float, width> &) {}

template <int width>
__device__ inline void store_half(unsigned short *weight, long long i, const Pack<float, width> &master) {
  Pack<unsigned short, width> halves;
  for (int j = 0; j < width; ++j) halves.x[j] = namsg_to_half(master.x[j]);
  store(weight, i, halves);
}

/* One step of `width` elements; returns how many of their gradients are not finite. */
template <int width>
__device__ inline int step(const Addresses &a, long long i, const namsg_scalars &s, const namsg_coefficients &c) {
  const Pack<NAMSG_TYPE, width> grad = load<width>(a.grad, i);
  Pack<float, width> w = load<width>(a.master, i), m = load<width>(a.m, i), v = {}, v_hat = {};
  if (NAMSG_DIVISION != NAMSG_NO_DIVISION) v = load<width>(a.v, i);
  if (NAMSG_DIVISION == NAMSG_BY_V_HAT) v_hat = load<width>(a.v_hat, i);
  int nonfinite = 0;
#pragma unroll
  for (int j = 0; j < width; ++j)
    nonfinite += namsg_element(to_float(grad.x[j]), &w.x[j], &m.x[j], &v.x[j], &v_hat.x[j], &s, &c, NAMSG_DIVISION,
                               NAMSG_SKIP);
  store(a.master, i, w);
  store(a.m, i, m);
  if (NAMSG_DIVISION != NAMSG_NO_DIVISION) store(a.v, i, v);
  if (NAMSG_DIVISION == NAMSG_BY_V_HAT) store(a.v_hat, i, v_hat);
  store_half(a.weight, i, w);
  return nonfinite;
}

/* Whether four elements can be loaded at once: MXNet's own arrays can, a view may begin anywhere. */
__device__ inline bool aligned(const Addresses &a) {
  const size_t floats = reinterpret_cast<size_t>(a.master) | reinterpret_cast<size_t>(a.m) |
                        reinterpret_cast<size_t>(a.v) | reinterpret_cast<size_t>(a.v_hat);
  const size_t others = reinterpret_cast<size_t>(a.weight) | reinterpret_cast<size_t>(a.grad);
  return floats % alignof(Pack<float, 4>) == 0 && others % alignof(Pack<NAMSG_TYPE, 4>) == 0;
}

/* The parameter that this block updates: the last one whose first block is not after this block. */
__device__ inline int find(const Place *places) {
  int low = 0, high = NAMSG_GROUP - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (places[middle].block <= blockIdx.x)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

}  // namespace

/* `places`: a Place for each parameter. `numbers`: namsg_scalars, then namsg_coefficients for each parameter.
 * `nonfinite`: the number of non-finite gradients is added to it. */
extern "C" __global__ void __launch_bounds__(NAMSG_THREADS)
namsg_step(const Place *places, const float *numbers, unsigned long long *nonfinite, NAMSG_PARAMETERS) {
  const int parameter = find(places);
  const Addresses a = [&]() -> Addresses {
    switch (parameter) { NAMSG_CASES }
    return {};
  }();
  const namsg_scalars s = *reinterpret_cast<const namsg_scalars *>(numbers);
  const namsg_coefficients c =
      reinterpret_cast<const namsg_coefficients *>(numbers + sizeof s / sizeof *numbers)[parameter];

  const long long begin = (blockIdx.x - places[parameter].block) * NAMSG_TILE;
  const long long size = places[parameter].size;
  const long long end = begin + NAMSG_TILE < size ? begin + NAMSG_TILE : size;
  const long long packs_end = aligned(a) ? end - (end - begin) % 4 : begin;
  int count = 0;
  for (long long i = begin + 4 * threadIdx.x; i < packs_end; i += 4 * NAMSG_THREADS) count += step<4>(a, i, s, c);
  for (long long i = packs_end + threadIdx.x; i < end; i += NAMSG_THREADS) count += step<1>(a, i, s, c);
  if (count != 0) atomicAdd(nonfinite, count);
}
