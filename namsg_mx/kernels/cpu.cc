/* The step on the CPU: one operation of MXNet's engine updates all the arrays of a step.
 *
 * The engine runs it asynchronously, in order with all else that reads or writes the arrays. OpenMP threads divide the
 * elements among them. cpu.py is the other half of this file.
 */
#include <fenv.h>
#include <omp.h>
#include <pthread.h>

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

/* MXNet's functions, as cpu.py finds them in the loaded library. All but `reorder` are from mxnet/c_api.h. */
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

/* One parameter. `handles` are MXNet's, null for arrays that its method lacks. If the gradient has only some rows,
 * `rows` has their numbers in ascending order; else it is null, and all the elements are one row. `size` is the number
 * of elements that a step updates: the gradient's in a lazy update; else the weight's, with gradient 0 in the rows that
 * the gradient lacks. */
struct namsg_parameter {
  void *handles[ARRAYS];
  const int64_t *rows;
  int64_t row_count, row_length, size;
};
}

namespace {

namsg_mxnet mxnet;
/* A fork's child has none of the OpenMP threads, and would wait for them without end: it takes one, as in MXNet. */
bool is_forked = false;
constexpr int64_t kElementsPerThread = 16384; /* another thread does not pay for fewer */
constexpr int64_t kVector = 64;               /* elements: threads split at multiples of it, not inside a vector */
constexpr int64_t kZeros = 4096;
alignas(64) char zeros[kZeros * sizeof(float)]; /* a gradient of kZeros elements */

/* Handles of some arrays, owned by this object: the caller may drop the arrays. */
class Handles {
 public:
  Handles() = default;
  Handles(const Handles &) = delete;
  ~Handles() {
    for (void *handle : handles_) mxnet.free(handle);
  }

  /* Replace the caller's handle of an array by one of this object's; false if MXNet refuses. */
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

/* The memory that an array and its views share: a chunk, to which the first word of an NDArray points (memory.py checks
 * it). */
void *chunk(void *handle) { return *static_cast<void **>(handle); }

bool chunk_before(void *a, void *b) { return std::less<void *>()(chunk(a), chunk(b)); }

/* One array of each memory, ordered by chunk: the engine takes no memory twice. */
std::vector<void *> one_of_each(std::vector<void *> arrays) {
  std::sort(arrays.begin(), arrays.end(), chunk_before);
  const auto same = [](void *a, void *b) { return chunk(a) == chunk(b); };
  arrays.erase(std::unique(arrays.begin(), arrays.end(), same), arrays.end());
  return arrays;
}

/* The arrays of a step that stay: weights and states. */
struct Kept {
  std::vector<namsg_parameter> parameters; /* without their gradients */
  std::vector<std::vector<int64_t>> rows;
  Handles handles;
  std::vector<void *> memories;
  int64_t size = 0;
};

/* The gradients of a step (some programs make new ones for each step), and those of their memories that no weight or
 * state shares. */
struct Gradients {
  Handles handles;
  std::vector<void *> memories;

  void find_memories(const Kept &kept) {
    const std::vector<void *> all = one_of_each(handles.all());
    std::set_difference(all.begin(), all.end(), kept.memories.begin(), kept.memories.end(),
                        std::back_inserter(memories), chunk_before);
  }
};

/* What the caller holds. */
struct Binding {
  std::shared_ptr<const Kept> kept;
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

/* The addresses of a parameter's arrays. */
struct Addresses {
  char *array[ARRAYS];

  /* The same arrays from element `state` of the weight and its state, and element `gradient` of the gradient, on. */
  Addresses at(int64_t state, int64_t gradient) const {
    Addresses moved;
    for (int i = 0; i < ARRAYS; ++i) {
      const int64_t width = array[MASTER] && (i == WEIGHT || i == GRAD) ? sizeof(uint16_t) : sizeof(float);
      moved.array[i] = array[i] ? array[i] + width * (i == GRAD ? gradient : state) : nullptr;
    }
    return moved;
  }
};

/* While it lives, this thread rounds by IEEE 754. Loading a library that was linked with -ffast-math makes all later
 * threads flush subnormal numbers to zero. */
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

/* One step of n consecutive elements; returns the number of non-finite gradients. */
NAMSG_FOR_EACH_CPU
int64_t step_elements(const Addresses &a, int64_t n, const namsg_scalars &s, const namsg_coefficients &c, int division,
                      int skip) {
  return a.array[MASTER] ? choose<uint16_t>(a, n, s, c, division, skip) : choose<float>(a, n, s, c, division, skip);
}

/* The address of an array's elements in their plain order, for an operation that has the array to itself. Throws if
 * MXNet does not give it, for instance for lack of memory. Whoever waits for an array of the step then gets the error.
 */
char *address(void *handle) {
  if (handle == nullptr) return nullptr;
  /* oneDNN may have left the array in a layout of its own, for instance weights after an inference pass. The C API
   * cannot undo it inside an operation, but a member function of the chunk can. It returns at once if there is nothing
   * to undo. */
  if (mxnet.reorder != nullptr) mxnet.reorder(chunk(handle));
  void *data = nullptr;
  if (mxnet.get_data(handle, &data) != 0) throw std::runtime_error(mxnet.last_error());
  return static_cast<char *>(data);
}

/* One step of the elements from `begin` to `end` of a parameter's gradient. */
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

/* One step of the elements from `begin` to `end` of a weight. Its gradient has some of its rows, and is 0 elsewhere. */
int64_t step_weight(const Addresses &addresses, const namsg_parameter &parameter, int64_t begin, int64_t end,
                    const Job &job, const namsg_coefficients &coefficients) {
  const int64_t length = parameter.row_length;
  const int64_t *const last = parameter.rows + parameter.row_count;
  const int64_t *row = std::lower_bound(parameter.rows, last, begin / length);   /* the gradient's next row */
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
  const std::vector<namsg_parameter> &parameters = job.binding.kept->parameters;
  std::vector<Addresses> addresses(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::transform(parameters[i].handles, parameters[i].handles + ARRAYS, addresses[i].array, address);
    addresses[i].array[GRAD] = address(job.binding.gradients->handles[i]);
  }
  int64_t *const total = reinterpret_cast<int64_t *>(address(job.count));
  const int64_t size = job.binding.kept->size;
  const int64_t most = is_forked ? 1 : omp_get_max_threads();
  const int threads = static_cast<int>(std::min<int64_t>(most, 1 + size / kElementsPerThread));
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

/* Whether two arrays differ only in memory and elements. */
bool alike(void *one, void *other) {
  struct Form {
    int storage, dtype, device_type, device_id, dimensions;
    const int64_t *shape; /* MXNet's memory, until the next call */
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

/* The digest of the sources that this library is built of (setup.py). */
const char *namsg_sources() { return NAMSG_SOURCES; }

/* Give this library MXNet's functions, and say whether the process is another's fork. To be called before the rest. */
void namsg_load(const namsg_mxnet *functions, int in_a_fork) {
  mxnet = *functions;
  is_forked = in_a_fork;
  pthread_atfork(nullptr, nullptr, [] { is_forked = true; });
}

/* A new Binding of `count` parameters, to be given back to namsg_release; null if MXNet refuses a handle. */
void *namsg_bind(int count, const namsg_parameter *parameters) {
  const std::shared_ptr<Kept> kept(new Kept);
  const std::shared_ptr<Gradients> gradients(new Gradients);
  for (int i = 0; i < count; ++i) {
    namsg_parameter parameter = parameters[i];
    if (!gradients->handles.share(&parameter.handles[GRAD])) return nullptr;
    parameter.handles[GRAD] = nullptr;
    for (void *&handle : parameter.handles)
      if (handle != nullptr && !kept->handles.share(&handle)) return nullptr;
    if (parameter.rows != nullptr) {
      kept->rows.emplace_back(parameter.rows, parameter.rows + parameter.row_count);
      parameter.rows = kept->rows.back().data();   /* stays where it is when `rows` grows */
    }
    kept->parameters.push_back(parameter);
    kept->size += parameter.size;
  }
  kept->memories = one_of_each(kept->handles.all());
  gradients->find_memories(*kept);
  return new Binding{kept, gradients};
}

/* Take other gradients, one for each parameter, and return 1; steps under way keep theirs. Returns 0, and keeps the
 * former ones, if they differ in more than memory and elements, or share memory with other arrays. */
int namsg_rebind(void *binding, void *const *grads) {
  Binding &held = *static_cast<Binding *>(binding);
  const std::shared_ptr<Gradients> gradients(new Gradients);
  for (size_t i = 0; i < held.kept->parameters.size(); ++i) {
    void *handle = grads[i];
    if (!alike(handle, held.gradients->handles[i]) || !gradients->handles.share(&handle)) return 0;
  }
  gradients->find_memories(*held.kept);
  if (gradients->memories.size() < held.kept->parameters.size()) return 0;
  held.gradients = gradients;
  return 1;
}

void namsg_release(void *binding) { delete static_cast<Binding *>(binding); }

/* Push one step to the engine. `coefficients` has an entry for each parameter. The number of non-finite gradients is
 * added to `count`, an int64 array of one element. Returns MXNet's status. */
int namsg_step(void *binding, void *count, int32_t device, const namsg_scalars *scalars,
               const namsg_coefficients *coefficients, int division, int skip) {
  const Binding &held = *static_cast<Binding *>(binding);
  std::unique_ptr<Job> job(new Job{held, nullptr, *scalars,
                                   {coefficients, coefficients + held.kept->parameters.size()}, division, skip});
  if (const int status = mxnet.share(count, &job->count)) return status;
  std::vector<void *> memories = held.kept->memories;
  memories.insert(memories.end(), held.gradients->memories.begin(), held.gradients->memories.end());
  memories.push_back(job->count);
  const struct { int32_t type, id; } cpu = {1, device}; /* mxnet::Context */
  /* Gradients are among the mutable arrays: a layout of oneDNN's is undone in place. Their values stay. */
  return mxnet.push(run, job.release(), delete_job, const_cast<void *>(static_cast<const void *>(&cpu)), nullptr, 0,
                    memories.data(), static_cast<int>(memories.size()), nullptr, 0, "namsg_step");
}
}
