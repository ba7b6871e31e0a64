/* The step on the CPU: one operation of MXNet's engine updates all the arrays of a step.
 *
 * The engine runs it asynchronously and in order with everything else that reads or writes the arrays; OpenMP threads
 * share it out by elements. cpu.py is the other half of this file.
 */
#include <fenv.h>
#include <omp.h>

#include <algorithm>
#include <functional>
#include <iterator>
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
  int (*get_storage)(void *array, int *type);
  int (*get_dtype)(void *array, int *dtype);
  int (*get_context)(void *array, int *device_type, int *device_id);
  int (*get_shape)(void *array, int *dimensions, const int64_t **shape);
  int (*share)(void *array, void **copy);
  int (*free)(void *array);
  const char *(*last_error)();
  void (*reorder)(void *chunk); /* NDArray::Chunk::Reorder2Default; null in an MXNet without oneDNN */
};

/* A parameter's arrays. Weight and gradient are float16 where there is a float32 master, else all are float32. */
enum { WEIGHT, GRAD, M, V, V_HAT, MASTER, ARRAYS };

/* One parameter: MXNet's handles of its arrays, null for those that its method lacks. A gradient of some rows has their
 * numbers, which ascend, in `rows`; else `rows` is null, and all the elements are one row. `size` is the number of
 * elements that a step updates: the gradient's, or all the weight's, and then the other rows have gradient 0. */
struct namsg_parameter {
  void *handles[ARRAYS];
  const int64_t *rows;
  int64_t row_count, row_length, size;
};
}

namespace {

namsg_mxnet mxnet;
constexpr int64_t kElementsPerThread = 16384; /* fewer are not worth another thread */
constexpr int64_t kVector = 64;               /* elements: threads meet at multiples of it, and cut no vector */
constexpr int64_t kZeros = 4096;
alignas(64) char zeros[kZeros * sizeof(float)]; /* as many elements of a gradient */

/* MXNet's handles of some arrays. They are its own: the caller may drop the arrays. */
class Handles {
 public:
  Handles() = default;
  Handles(const Handles &) = delete;
  ~Handles() {
    for (void *handle : handles_) mxnet.free(handle);
  }

  /* Put its own handle of an array in the place of the caller's; false if MXNet refuses. */
  bool share(void **handle) {
    if (mxnet.share(*handle, handle) != 0) return false;
    handles_.push_back(*handle);
    return true;
  }
  void *operator[](size_t i) const { return handles_[i]; }
  const std::vector<void *> &all() const { return handles_; }

 private:
  std::vector<void *> handles_;
};

/* The memory that an array may share with views of it: a chunk, to which the first word of an NDArray points (memory.py
 * checks that it does). */
void *chunk(void *handle) { return *static_cast<void **>(handle); }

bool chunk_before(void *a, void *b) { return std::less<void *>()(chunk(a), chunk(b)); }

/* One array of each memory, in the order of chunks, as the engine takes no memory twice. */
std::vector<void *> one_of_each(std::vector<void *> arrays) {
  std::sort(arrays.begin(), arrays.end(), chunk_before);
  const auto same = [](void *a, void *b) { return chunk(a) == chunk(b); };
  arrays.erase(std::unique(arrays.begin(), arrays.end(), same), arrays.end());
  return arrays;
}

/* The arrays of a step that stay: weights and states. */
struct Bound {
  std::vector<namsg_parameter> parameters; /* without their gradients */
  std::vector<std::vector<int64_t>> rows;
  Handles handles;
  std::vector<void *> memories;
  int64_t size = 0;
};

/* The gradients of a step, of which some programs make new ones for each; and their memories that no weight or state
 * has a part of. */
struct Gradients {
  Handles handles;
  std::vector<void *> memories;

  void find_memories(const Bound &bound) {
    const std::vector<void *> all = one_of_each(handles.all());
    std::set_difference(all.begin(), all.end(), bound.memories.begin(), bound.memories.end(),
                        std::back_inserter(memories), chunk_before);
  }
};

/* What the caller holds. */
struct Binding {
  std::shared_ptr<const Bound> bound;
  std::shared_ptr<const Gradients> gradients;
};

/* One step, on its way through the engine. */
struct Job {
  Binding binding;
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
   * no way to undo that inside an operation. MXNet's own function has, a member of the chunk. It returns at once where
   * there is nothing to undo. */
  if (mxnet.reorder != nullptr) mxnet.reorder(chunk(handle));
  void *data = nullptr;
  if (mxnet.get_data(handle, &data) != 0) throw std::runtime_error(mxnet.last_error());
  return static_cast<char *>(data);
}

/* The elements from `begin` to `end` of a parameter's gradient. */
int64_t step_gradient(const Addresses &addresses, const namsg_parameter &parameter, int64_t begin, int64_t end,
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

/* The elements from `begin` to `end` of a weight whose gradient has some of its rows, and is 0 in the others. */
int64_t step_weight(const Addresses &addresses, const namsg_parameter &parameter, int64_t begin, int64_t end,
                    const Job &job, const namsg_coefficients &coefficients) {
  const int64_t length = parameter.row_length;
  const int64_t *const last = parameter.rows + parameter.row_count;
  const int64_t *row = std::lower_bound(parameter.rows, last, begin / length);   /* the next one that there is */
  int64_t count = 0;
  for (int64_t i = begin, n; i < end; i += n) {
    const int64_t next = row == last ? end : *row * length;
    if (i < next) {
      n = std::min(std::min(next, end) - i, kZeros);
      Addresses missing = addresses.at(i, 0);
      missing.array[GRAD] = zeros;
      count += step_elements(missing, n, job.scalars, coefficients, job.division, job.skip);
    } else {
      n = std::min(next + length, end) - i;
      const int64_t gradient = (row - parameter.rows) * length + i - next;
      count += step_elements(addresses.at(i, gradient), n, job.scalars, coefficients, job.division, job.skip);
      ++row;
    }
  }
  return count;
}

void run(void *, void *argument) {
  const Job &job = *static_cast<const Job *>(argument);
  const std::vector<namsg_parameter> &parameters = job.binding.bound->parameters;
  std::vector<Addresses> addresses(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::transform(parameters[i].handles, parameters[i].handles + ARRAYS, addresses[i].array, address);
    addresses[i].array[GRAD] = address(job.binding.gradients->handles[i]);
  }
  int64_t *const total = reinterpret_cast<int64_t *>(address(job.count));
  const int64_t size = job.binding.bound->size;
  const int threads = static_cast<int>(std::min<int64_t>(omp_get_max_threads(), 1 + size / kElementsPerThread));
  int64_t count = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : count) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) {
    const DefaultRounding rounding;
    const int64_t first = size * thread / threads, last = size * (thread + 1) / threads;
    int64_t start = 0;
    for (size_t i = 0; i < parameters.size() && start < last; ++i) {
      const int64_t n = parameters[i].size;
      const auto step_part = n == parameters[i].row_count * parameters[i].row_length ? step_gradient : step_weight;
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

/* Whether MXNet has two arrays for alike in all but their memory and elements. */
bool alike(void *one, void *other) {
  struct Form {
    int storage, dtype, device_type, device_id, dimensions;
    const int64_t *shape; /* MXNet's, until it is asked again */
  };
  const auto get = [](void *array, Form *form) {
    return mxnet.get_storage(array, &form->storage) == 0 && mxnet.get_dtype(array, &form->dtype) == 0 &&
           mxnet.get_context(array, &form->device_type, &form->device_id) == 0 &&
           mxnet.get_shape(array, &form->dimensions, &form->shape) == 0 && form->dimensions >= 0;
  };
  Form a, b;
  if (!get(one, &a)) return false;
  const std::vector<int64_t> shape(a.shape, a.shape + a.dimensions);
  return get(other, &b) && a.storage == b.storage && a.dtype == b.dtype && a.device_type == b.device_type &&
         a.device_id == b.device_id && std::equal(shape.begin(), shape.end(), b.shape, b.shape + b.dimensions);
}

}  // namespace

extern "C" {

/* Give this library MXNet's functions; to be called first. */
void namsg_load(const namsg_mxnet *functions) { mxnet = *functions; }

/* A new Binding of `count` parameters, to be given back to namsg_release; null if MXNet refuses a handle. */
void *namsg_bind(int count, const namsg_parameter *parameters) {
  const std::shared_ptr<Bound> bound(new Bound);
  const std::shared_ptr<Gradients> gradients(new Gradients);
  for (int i = 0; i < count; ++i) {
    namsg_parameter parameter = parameters[i];
    if (!gradients->handles.share(&parameter.handles[GRAD])) return nullptr;
    parameter.handles[GRAD] = nullptr;
    for (void *&handle : parameter.handles)
      if (handle != nullptr && !bound->handles.share(&handle)) return nullptr;
    if (parameter.rows != nullptr) {
      bound->rows.emplace_back(parameter.rows, parameter.rows + parameter.row_count);
      parameter.rows = bound->rows.back().data();   /* stays where it is when `rows` grows */
    }
    bound->parameters.push_back(parameter);
    bound->size += parameter.size;
  }
  bound->memories = one_of_each(bound->handles.all());
  gradients->find_memories(*bound);
  return new Binding{bound, gradients};
}

/* Take other gradients, one for each parameter; steps under way keep theirs. Returns 1, or 0, and keeps those of before,
 * where the others differ from these in more than elements, or share memory with other arrays. */
int namsg_rebind(void *binding, void *const *grads) {
  Binding &held = *static_cast<Binding *>(binding);
  const std::shared_ptr<Gradients> gradients(new Gradients);
  for (size_t i = 0; i < held.bound->parameters.size(); ++i) {
    void *handle = grads[i];
    if (!alike(handle, held.gradients->handles[i]) || !gradients->handles.share(&handle)) return 0;
  }
  gradients->find_memories(*held.bound);
  if (gradients->memories.size() < held.bound->parameters.size()) return 0;
  held.gradients = gradients;
  return 1;
}

void namsg_release(void *binding) { delete static_cast<Binding *>(binding); }

/* Push one step to the engine: `coefficients` has one entry for each parameter, and `count`, an int64 array of one
 * element, grows by the number of gradients that are not finite. Returns MXNet's status. */
int namsg_step(void *binding, void *count, int32_t device, const namsg_scalars *scalars,
               const namsg_coefficients *coefficients, int division, int skip) {
  const Binding &held = *static_cast<Binding *>(binding);
  std::unique_ptr<Job> job(new Job{held, nullptr, *scalars,
                                   {coefficients, coefficients + held.bound->parameters.size()}, division, skip});
  if (const int status = mxnet.share(count, &job->count)) return status;
  std::vector<void *> memories = held.bound->memories;
  memories.insert(memories.end(), held.gradients->memories.begin(), held.gradients->memories.end());
  memories.push_back(job->count);
  const struct { int32_t type, id; } cpu = {1, device}; /* mxnet::Context */
  /* Gradients are among the mutable arrays, as a layout of oneDNN's is undone in place; their values stay. */
  return mxnet.push(run, job.release(), delete_job, const_cast<void *>(static_cast<const void *>(&cpu)), nullptr, 0,
                    memories.data(), static_cast<int>(memories.size()), nullptr, 0, "namsg_step");
}
}
