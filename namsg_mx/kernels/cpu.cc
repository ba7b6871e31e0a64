/* The step on the CPU: one operation of MXNet's engine updates all the arrays of a step.
 *
 * The engine runs it asynchronously and in order with everything else that reads or writes the arrays; OpenMP threads
 * share it out by elements. cpu.py is the other half of this file.
 */
#include <fenv.h>
#include <omp.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "step.h"

#if defined(__x86_64__) && defined(__linux__)
#define NAMSG_FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define NAMSG_FOR_EACH_CPU
#endif

extern "C" {

/* MXNet's functions, as cpu.py finds them in the library that is loaded. All but `reorder` are of mxnet/c_api.h. */
struct namsg_mxnet {
  int (*push)(void (*function)(void *, void *), void *argument, void (*deleter)(void *), void *context,
              void **const_arrays, int const_count, void **mutable_arrays, int mutable_count, const void *property,
              int priority, const char *name);
  int (*get_data)(void *array, void **data);
  int (*share)(void *array, void **copy);
  int (*free)(void *array);
  const char *(*last_error)();
  void (*reorder)(void *chunk); /* NDArray::Chunk::Reorder2Default; null in an MXNet without oneDNN */
};

/* A parameter's arrays. Weight and gradient are float16 where there is a float32 master, else all are float32. */
enum { WEIGHT, GRAD, M, V, V_HAT, MASTER, ARRAYS };

/* One parameter: MXNet's handles of its arrays, null for those that its method lacks. A gradient of some rows has their
 * numbers in `rows`; else `rows` is null, and all the elements are one row. */
struct namsg_parameter {
  void *handles[ARRAYS];
  const int64_t *rows;
  int64_t row_count, row_length;
};
}

namespace {

namsg_mxnet mxnet;
constexpr int64_t kElementsPerThread = 16384; /* fewer are not worth another thread */
constexpr int64_t kVector = 64;               /* elements: threads meet at multiples of it, and cut no vector */

/* The parameters of a step, bound once for many steps. Their handles are its own: the caller may drop the arrays. */
struct Bound {
  std::vector<namsg_parameter> parameters;
  std::vector<std::vector<int64_t>> rows;
  std::vector<void *> handles;
  int64_t size = 0;

  ~Bound() {
    for (void *handle : handles) mxnet.free(handle);
  }
};

/* One step of a Bound, on its way through the engine. */
struct Job {
  std::shared_ptr<const Bound> bound;
  void *count;
  namsg_scalars scalars;
  std::vector<namsg_coefficients> coefficients;
  int division, skip;
};

/* Where the elements of a parameter's arrays are. */
struct Addresses {
  char *array[ARRAYS];

  /* The same from element `state` of the weight and its state, and element `gradient` of the gradient, on. */
  Addresses at(int64_t state, int64_t gradient) const {
    Addresses moved;
    for (int i = 0; i < ARRAYS; ++i) {
      const int64_t width = array[MASTER] && (i == WEIGHT || i == GRAD) ? sizeof(uint16_t) : sizeof(float);
      moved.array[i] = array[i] ? array[i] + width * (i == GRAD ? gradient : state) : nullptr;
    }
    return moved;
  }
};

/* While it lives, this thread rounds as IEEE 754 has it. A library linked with -ffast-math has subnormal numbers flushed
 * to zero in all threads that are made after it is loaded. */
class DefaultRounding {
 public:
  DefaultRounding() {
    fegetenv(&before_);
    fesetenv(FE_DFL_ENV);
  }
  ~DefaultRounding() { fesetenv(&before_); }

 private:
  fenv_t before_;
};

NAMSG_INLINE float load(const float *grad, int64_t i) { return grad[i]; }
NAMSG_INLINE float load(const uint16_t *grad, int64_t i) { return namsg_from_half(grad[i]); }
NAMSG_INLINE void store_half(float *, const float *, int64_t) {}
NAMSG_INLINE void store_half(uint16_t *weight, const float *master, int64_t i) { weight[i] = namsg_to_half(master[i]); }

template <typename T, int division, int skip>
__attribute__((always_inline)) inline int64_t loop(const Addresses &a, int64_t n, const namsg_scalars &scalars,
                                                   const namsg_coefficients &coefficients) {
  T *const weight = reinterpret_cast<T *>(a.array[WEIGHT]);
  const T *const grad = reinterpret_cast<const T *>(a.array[GRAD]);
  float *const w = reinterpret_cast<float *>(a.array[a.array[MASTER] ? MASTER : WEIGHT]);
  float *const m = reinterpret_cast<float *>(a.array[M]);
  float *const v = reinterpret_cast<float *>(a.array[V]);
  float *const v_hat = reinterpret_cast<float *>(a.array[V_HAT]);
  const namsg_scalars s = scalars;
  const namsg_coefficients c = coefficients;
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; ++i) {
    float unused = 0;
    count += namsg_element(load(grad, i), w + i, m + i, division ? v + i : &unused,
                           division == NAMSG_BY_V_HAT ? v_hat + i : &unused, &s, &c, division, skip);
    store_half(weight, w, i);
  }
  return count;
}

template <typename T>
__attribute__((always_inline)) inline int64_t choose(const Addresses &a, int64_t n, const namsg_scalars &s,
                                                     const namsg_coefficients &c, int division, int skip) {
  switch (2 * division + skip) {
    case 2 * NAMSG_NO_DIVISION: return loop<T, NAMSG_NO_DIVISION, 0>(a, n, s, c);
    case 2 * NAMSG_NO_DIVISION + 1: return loop<T, NAMSG_NO_DIVISION, 1>(a, n, s, c);
    case 2 * NAMSG_BY_V: return loop<T, NAMSG_BY_V, 0>(a, n, s, c);
    case 2 * NAMSG_BY_V + 1: return loop<T, NAMSG_BY_V, 1>(a, n, s, c);
    case 2 * NAMSG_BY_V_HAT: return loop<T, NAMSG_BY_V_HAT, 0>(a, n, s, c);
    default: return loop<T, NAMSG_BY_V_HAT, 1>(a, n, s, c);
  }
}

/* One step of n consecutive elements; returns how many of their gradients are not finite. */
NAMSG_FOR_EACH_CPU
int64_t step_elements(const Addresses &a, int64_t n, const namsg_scalars &s, const namsg_coefficients &c, int division,
                      int skip) {
  return a.array[MASTER] ? choose<uint16_t>(a, n, s, c, division, skip) : choose<float>(a, n, s, c, division, skip);
}

/* The address of an array's elements in their plain order. The array is this operation's alone while it runs. Throws if
 * MXNet cannot give it, when there is no memory for instance: the engine tells whoever waits for an array of the step. */
char *address(void *handle) {
  if (handle == nullptr) return nullptr;
  /* oneDNN may have left the array in a layout of its own, weights after an inference pass for instance. The C API has
   * no way to undo that inside an operation. MXNet's own function has: a member of the chunk that the first word of an
   * NDArray points to (fused.py checks that it does). It returns at once where there is nothing to undo. */
  if (mxnet.reorder != nullptr) mxnet.reorder(*static_cast<void **>(handle));
  void *data = nullptr;
  if (mxnet.get_data(handle, &data) != 0) throw std::runtime_error(mxnet.last_error());
  return static_cast<char *>(data);
}

/* The elements from `begin` to `end` of a parameter's gradient. */
int64_t step_part(const Addresses &addresses, const namsg_parameter &parameter, int64_t begin, int64_t end,
                  const Job &job, const namsg_coefficients &coefficients) {
  int64_t count = 0;
  for (int64_t i = begin; i < end;) {
    const int64_t row = i / parameter.row_length, column = i % parameter.row_length;
    const int64_t n = std::min(parameter.row_length - column, end - i);
    const int64_t state = (parameter.rows ? parameter.rows[row] : row) * parameter.row_length + column;
    count += step_elements(addresses.at(state, i), n, job.scalars, coefficients, job.division, job.skip);
    i += n;
  }
  return count;
}

void run(void *, void *argument) {
  const Job &job = *static_cast<const Job *>(argument);
  const std::vector<namsg_parameter> &parameters = job.bound->parameters;
  std::vector<Addresses> addresses(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i)
    std::transform(parameters[i].handles, parameters[i].handles + ARRAYS, addresses[i].array, address);
  int64_t *const total = reinterpret_cast<int64_t *>(address(job.count));
  const int64_t size = job.bound->size;
  const int threads = static_cast<int>(std::min<int64_t>(omp_get_max_threads(), 1 + size / kElementsPerThread));
  int64_t count = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : count) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) {
    const DefaultRounding rounding;
    const int64_t first = size * thread / threads, last = size * (thread + 1) / threads;
    int64_t start = 0;
    for (size_t i = 0; i < parameters.size() && start < last; ++i) {
      const int64_t n = parameters[i].row_count * parameters[i].row_length;
      const auto cut = [&](int64_t position) {
        const int64_t local = std::min(std::max<int64_t>(position - start, 0), n);
        return local == n ? n : local / kVector * kVector;
      };
      count += step_part(addresses[i], parameters[i], cut(first), cut(last), job, job.coefficients[i]);
      start += n;
    }
  }
  *total += count;
}

void delete_job(void *argument) {
  Job *job = static_cast<Job *>(argument);
  mxnet.free(job->count);
  delete job;
}

}  // namespace

extern "C" {

/* Give this library MXNet's functions; to be called first. */
void namsg_load(const namsg_mxnet *functions) { mxnet = *functions; }

/* A new Bound of `count` parameters, to be given back to namsg_release; null if MXNet refuses a handle. */
void *namsg_bind(int count, const namsg_parameter *parameters) {
  std::unique_ptr<std::shared_ptr<Bound>> shared(new std::shared_ptr<Bound>(new Bound));
  Bound &bound = **shared;
  for (int i = 0; i < count; ++i) {
    namsg_parameter parameter = parameters[i];
    for (void *&handle : parameter.handles) {
      if (handle == nullptr) continue;
      if (mxnet.share(handle, &handle) != 0) return nullptr;
      bound.handles.push_back(handle);
    }
    if (parameter.rows != nullptr) {
      bound.rows.emplace_back(parameter.rows, parameter.rows + parameter.row_count);
      parameter.rows = bound.rows.back().data();   /* stays where it is when `rows` grows */
    }
    bound.parameters.push_back(parameter);
    bound.size += parameter.row_count * parameter.row_length;
  }
  return shared.release();
}

void namsg_release(void *bound) { delete static_cast<std::shared_ptr<Bound> *>(bound); }

/* Push one step to the engine: `coefficients` has one entry for each parameter, and `count`, an int64 array of one
 * element, grows by the number of gradients that are not finite. Returns MXNet's status. */
int namsg_step(void *bound, void *count, int32_t device, const namsg_scalars *scalars,
               const namsg_coefficients *coefficients, int division, int skip) {
  const std::shared_ptr<Bound> &shared = *static_cast<std::shared_ptr<Bound> *>(bound);
  std::unique_ptr<Job> job(new Job{shared, nullptr, *scalars, {coefficients, coefficients + shared->parameters.size()},
                                   division, skip});
  if (const int status = mxnet.share(count, &job->count)) return status;
  std::vector<void *> handles = shared->handles;
  handles.push_back(job->count);
  const struct { int32_t type, id; } cpu = {1, device}; /* mxnet::Context */
  /* Gradients are among the mutable arrays, as a layout of oneDNN's is undone in place; their values stay. */
  return mxnet.push(run, job.release(), delete_job, const_cast<void *>(static_cast<const void *>(&cpu)), nullptr, 0,
                    handles.data(), static_cast<int>(handles.size()), nullptr, 0, "namsg_step");
}
}
