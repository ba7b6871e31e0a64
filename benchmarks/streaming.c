/* About the least that a step of NAMSG can take: its memory traffic, 5 arrays read and 4 of them written, and no
   arithmetic. Where the arrays lie in memory counts too, so that a step elsewhere may take a little less. */
#include <stdint.h>

void stream(int64_t arrays, const int64_t *sizes, float **w, float **g, float **m, float **v, float **v_hat) {
#pragma omp parallel
  for (int64_t array = 0; array < arrays; ++array) {
    float *const a = w[array], *const b = m[array], *const c = v[array], *const d = v_hat[array];
    const float *const read_only = g[array];
#pragma omp for simd nowait schedule(static)
    for (int64_t i = 0; i < sizes[array]; ++i) {
      const float first = a[i];
      a[i] = b[i];
      b[i] = c[i];
      c[i] = d[i];
      d[i] = first > 0 ? read_only[i] : first;
    }
  }
}
