/* The element step: what one update does to one element of a parameter. C, C++ and CUDA take it as it is.
 *
 * All the methods of this package are one formula with other coefficients:
 *
 *     g      = clip(rescale_grad * grad + wd * w)
 *     update = m_factor * m + g_factor * g                      Algorithm 1, line 7
 *     m      = beta1 * m + (1 - beta1) * g                      line 4
 *     v      = beta2 * v + (1 - beta2) * g^2                    line 5
 *     v_hat  = max(v_hat, v)                                    line 6
 *     w      = project(w - (lr * update / clip(sqrt(v_scale * v_hat) + epsilon) + decay * w))   line 8
 *
 * SGD       m_factor = beta1 and g_factor = 1 - beta1, so that the update is the new m; no v and no division
 * AMSGRAD   SGD's update; v_scale = 1 and epsilon = 0
 * NAMSG     AMSGRAD with m_factor = beta1 - mu beta1 and g_factor = 1 - beta1 + mu beta1
 * NAMSB, AMSBound   NAMSG and AMSGRAD with limits of the divisor
 * NADAM     v instead of v_hat; the coefficients include its bias corrections
 *
 * NAMSG's update is line 7's (1 - mu) m + mu g, written with the m before line 4. With the new m, a large mu (from a
 * small beta1) would leave only rounding errors. Decoupled weight decay has decay = lr * wd and wd = 0. It is added to
 * the step: in float32, (1 - decay) * w would round to another rate, or to none.
 *
 * Every operation is rounded by itself. Compiled without contraction to fused multiply-add and without fast-math, it
 * gives the same bits with all compilers and on all machines.
 */
#ifndef NAMSG_STEP_H_
#define NAMSG_STEP_H_

#ifdef __CUDACC_RTC__ /* NVRTC has the functions built in, and no headers */
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
#else
#include <math.h>
#include <stdint.h>
#include <string.h>
#endif

#ifdef __CUDACC__
#define NAMSG_INLINE __device__ __forceinline__
#else
#define NAMSG_INLINE static inline __attribute__((always_inline))
#endif

/* What divides the step. */
enum { NAMSG_NO_DIVISION = 0, NAMSG_BY_V = 1, NAMSG_BY_V_HAT = 2 };

/* The numbers that all the arrays of a step share. Without clipping, clip_gradient is infinite; without projection, low
 * and high are; without limits of the divisor, these are 0 and infinite. */
typedef struct {
  float rescale_grad, clip_gradient;
  float beta1, one_minus_beta1, beta2, one_minus_beta2;
  float epsilon, low, high;
  float divisor_low, divisor_high;
} namsg_scalars;

/* The numbers of one array. wd or decay is 0. */
typedef struct {
  float lr, wd, decay, m_factor, g_factor, v_scale;
} namsg_coefficients;

NAMSG_INLINE uint32_t namsg_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

NAMSG_INLINE float namsg_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The exact value of an IEEE 754 half. No intermediate number is a subnormal float: some programs flush these to 0. */
NAMSG_INLINE float namsg_from_half(uint16_t half) {
  const uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;                 /* infinity and NaN */
  const uint32_t normal = (magnitude + 0x38000000u) | special;                          /* another bias */
  const float subnormal = (float)(int)(half & 0x3ff) * namsg_float(0x33800000u);        /* times 2^-24 */
  const uint32_t bits = magnitude < 0x00800000u ? namsg_bits(subnormal) : normal;
  return namsg_float(bits | (uint32_t)(half & 0x8000) << 16);
}

/* The nearest half, ties to even. */
NAMSG_INLINE uint16_t namsg_to_half(float x) {
  const uint32_t magnitude = namsg_bits(x) & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  const uint32_t subnormal = namsg_bits(namsg_float(magnitude) + 0.5f) - 0x3f000000u; /* rounds to 2^-24 */
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  return (uint16_t)(half | (namsg_bits(x) >> 16 & 0x8000u));
}

/* The larger of two numbers, or NaN if one is NaN, as in numpy.maximum. */
NAMSG_INLINE float namsg_maximum(float a, float b) {
  const float larger = a >= b ? a : b;
  return a != a ? a : larger;
}

/* NaN stays NaN. */
NAMSG_INLINE float namsg_clip(float x, float low, float high) {
  x = x > high ? high : x;
  return x < low ? low : x;
}

/* One step of one element. Returns 1 if the gradient is not finite, else 0; with `skip`, such an element keeps its
 * weight and state. If the method has a v, a gradient with an infinite square counts as not finite: v would be
 * infinite, and the weight would never move again. v and v_hat are used only as far as `division` needs them.
 * `division` and `skip` are meant to be compile-time constants.
 */
NAMSG_INLINE int namsg_element(float grad, float *w, float *m, float *v, float *v_hat, const namsg_scalars *s,
                               const namsg_coefficients *c, int division, int skip) {
  float g = s->rescale_grad * grad;
  const float size = division == NAMSG_NO_DIVISION ? g : g * g;
  const int nonfinite = (namsg_bits(size) & 0x7f800000u) == 0x7f800000u;
  const int keep = skip && nonfinite;
  g = namsg_clip(g + c->wd * *w, -s->clip_gradient, s->clip_gradient);
  float update = c->m_factor * *m + c->g_factor * g;
  const float m_new = s->beta1 * *m + s->one_minus_beta1 * g;
  if (division != NAMSG_NO_DIVISION) {
    const float v_new = s->beta2 * *v + s->one_minus_beta2 * g * g;
    const float moment = division == NAMSG_BY_V_HAT ? namsg_maximum(*v_hat, v_new) : v_new;
    update = update / namsg_clip(sqrtf(c->v_scale * moment) + s->epsilon, s->divisor_low, s->divisor_high);
    *v = keep ? *v : v_new;
    if (division == NAMSG_BY_V_HAT) *v_hat = keep ? *v_hat : moment;
  }
  const float w_new = namsg_clip(*w - (c->lr * update + c->decay * *w), s->low, s->high);
  *m = keep ? *m : m_new;
  *w = keep ? *w : w_new;
  return nonfinite;
}

#endif /* NAMSG_STEP_H_ */
