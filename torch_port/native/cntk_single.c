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
