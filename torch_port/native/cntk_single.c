/* What CNTK 2.7 computes value by value on the CPU, and the one sum that is no matrix product.
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

/* MKL's product of a row and a column in SSE. The first four products one after the other; then
 * eight running sums, the first of which goes on from those four; of these 1 + 5, 2 + 6, 3 + 7 and
 * 4 + 8, then (1 + 3) + (2 + 4); and what is left over one after the other. At least 12 values. */
float dot(const float *a, const float *b, size_t count) {
    enum { ALONE = 4, LANES = 8 };
    const size_t end = ALONE + (count - ALONE) / LANES * LANES;
    float lane[LANES] = {0}, sum = a[0] * b[0];
    for (size_t i = 1; i < ALONE; i++) sum += a[i] * b[i];
    for (size_t l = 0; l < LANES; l++) lane[l] = a[ALONE + l] * b[ALONE + l];
    lane[0] += sum;
    for (size_t i = ALONE + LANES; i < end; i += LANES)
        for (size_t l = 0; l < LANES; l++) lane[l] += a[i + l] * b[i + l];
    for (size_t l = 0; l < LANES / 2; l++) lane[l] += lane[l + LANES / 2];
    sum = (lane[0] + lane[2]) + (lane[1] + lane[3]);
    for (size_t i = end; i < count; i++) sum += a[i] * b[i];
    return sum;
}
