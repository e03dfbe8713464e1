/* What CNTK 2.7 computes value by value on the CPU.
 *
 * expf, logf and tanhf are the C library's own, in CNTK as here: each is its own rounding of the
 * true value, and neither PyTorch's vector code nor double precision rounded gives the same bits.
 */
#include <math.h>
#include <stddef.h>

void exp_all(const float *x, float *y, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = expf(x[i]);
}

void log_all(const float *x, float *y, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = logf(x[i]);
}

void tanh_all(const float *x, float *y, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = tanhf(x[i]);
}

/* One update of CNTK's Adam, as torch_port/adam.py has it: of each operation one rounding. */
void adam(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
          size_t count, float b1, float b2, float one_less_b2, float gain, float correction,
          float rate, float epsilon) {
    for (size_t i = 0; i < count; i++) {
        v[i] = v[i] * b2 + one_less_b2 * g[i] * g[i];
        m[i] = m[i] * b1 + gain * g[i];
        w[i] -= 1 / (sqrtf(v[i]) + epsilon) * correction * m[i] * rate;
    }
}
