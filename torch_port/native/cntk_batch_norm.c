/* Batch normalisation as CNTK 2.7 rounds it on the CPU: every sum in float32, in a fixed order.
 *
 * Arrays are N x C x H x W; a call works on the channels from..to-1. Compiled without fused
 * multiply-add and without reassociation: each line's operations are rounded as they stand here.
 *
 * The order of a sum over a channel's values, found by cancellation: of values 2^60, -2^60 and
 * ones, exactly the ones that are added after both survive (Xie et al. 2025, FPRev).
 *   Samples one after the other, and in them rows. Row by row, the even columns are added to the
 *   sum so far and the odd ones to a sum of their own; the two are added, and then the last column
 *   where W is odd.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

typedef struct { size_t samples, channels, rows, columns; } Shape;
#ifdef PLAIN  /* for a compiler that makes no vectors: the same operations, one by one */
typedef struct { float first, second; } pair;
#else
typedef float pair __attribute__((vector_size(8)));
#endif
typedef enum { VALUE, SQUARE, PRODUCT } Term;  /* x, (x - mean)^2, (x - mean) * g */

/* A sum waits for its last addition, so the sums of several channels go on side by side. */
enum { TOGETHER = 8 };

#ifdef PLAIN
#define INLINE static inline
#else
#define INLINE static inline __attribute__((always_inline))
#endif

INLINE pair two(const float *at) {
    pair values;
    memcpy(&values, at, sizeof values);
    return values;
}

#ifdef PLAIN
INLINE pair plus(pair a, pair b) { return (pair){a.first + b.first, a.second + b.second}; }
INLINE pair minus(pair a, float b) { return (pair){a.first - b, a.second - b}; }
INLINE pair times(pair a, pair b) { return (pair){a.first * b.first, a.second * b.second}; }
INLINE float total(pair a) { return a.first + a.second; }
#else
INLINE pair plus(pair a, pair b) { return a + b; }
INLINE pair minus(pair a, float b) { return a - (pair){b, b}; }
INLINE pair times(pair a, pair b) { return a * b; }
INLINE float total(pair a) { return a[0] + a[1]; }
#endif

INLINE pair term_of_two(Term term, const float *x, const float *g, float mean) {
    if (term == VALUE) return two(x);
    pair d = minus(two(x), mean);
    return times(d, term == SQUARE ? d : two(g));
}

INLINE float term_of_one(Term term, const float *x, const float *g, float mean) {
    if (term == VALUE) return *x;
    float d = *x - mean;
    return term == SQUARE ? d * d : d * *g;
}

/* The sums of `count` neighbouring channels; x and g point at the first one of sample 0. */
INLINE void sum_some(Term term, Shape shape, size_t count, const float *x, const float *g,
                     const float *mean, float *sums) {
    const size_t plane = shape.rows * shape.columns, sample = shape.channels * plane;
    const size_t even = shape.columns & ~(size_t)1;
    float sum[TOGETHER] = {0}, centre[TOGETHER] = {0};
    if (term != VALUE) memcpy(centre, mean, count * sizeof *centre);
    for (size_t n = 0; n < shape.samples; n++) {
        for (size_t row = 0; row < shape.rows; row++) {
            const size_t start = n * sample + row * shape.columns;
            if (even) {
                pair both[TOGETHER];
                for (size_t k = 0; k < count; k++) both[k] = (pair){sum[k], 0.0f};
                for (size_t w = 0; w < even; w += 2)
                    for (size_t k = 0; k < count; k++) {
                        const size_t at = start + k * plane + w;
                        both[k] = plus(both[k], term_of_two(term, x + at, g + at, centre[k]));
                    }
                for (size_t k = 0; k < count; k++) sum[k] = total(both[k]);
            }
            for (size_t w = even; w < shape.columns; w++)
                for (size_t k = 0; k < count; k++) {
                    const size_t at = start + k * plane + w;
                    sum[k] += term_of_one(term, x + at, g + at, centre[k]);
                }
        }
    }
    memcpy(sums, sum, count * sizeof *sums);
}

/* One sum for each channel from..to-1, into sums[from..to-1]. */
INLINE void sum_channels(Term term, Shape shape, size_t from, size_t to, const float *x,
                         const float *g, const float *mean, float *sums) {
    const size_t plane = shape.rows * shape.columns;
    size_t c = from;
    for (; c + TOGETHER <= to; c += TOGETHER)
        sum_some(term, shape, TOGETHER, x + c * plane, g + c * plane, mean + c, sums + c);
    for (; c < to; c++) sum_some(term, shape, 1, x + c * plane, g + c * plane, mean + c, sums + c);
}

static float values_per_channel(Shape shape) {
    return (float)(shape.samples * shape.rows * shape.columns);
}

/* y, and the minibatch's mean and biased variance. */
void batch_norm_forward(Shape shape, size_t from, size_t to, const float *x, const float *scale,
                        const float *bias, float epsilon, float *y, float *mean, float *variance) {
    const size_t plane = shape.rows * shape.columns;
    const float values = values_per_channel(shape);
    for (size_t c = from; c < to; c += TOGETHER) {  /* few channels at once, to stay in the cache */
        const size_t end = c + TOGETHER < to ? c + TOGETHER : to;
        sum_channels(VALUE, shape, c, end, x, x, mean, mean);
        for (size_t k = c; k < end; k++) mean[k] /= values;
        sum_channels(SQUARE, shape, c, end, x, x, mean, variance);
        for (size_t k = c; k < end; k++) variance[k] /= values;
        for (size_t n = 0; n < shape.samples; n++)
            for (size_t k = c; k < end; k++) {
                const float factor = scale[k] * (1.0f / sqrtf(variance[k] + epsilon));
                const float centre = mean[k], shift = bias[k];
                const float *restrict in = x + (n * shape.channels + k) * plane;
                float *restrict out = y + (n * shape.channels + k) * plane;
                for (size_t i = 0; i < plane; i++) out[i] = factor * (in[i] - centre) + shift;
            }
    }
}

/* The gradients of x, scale and bias from g, that of y; mean and variance are the forward's. */
void batch_norm_backward(Shape shape, size_t from, size_t to, const float *x, const float *g,
                         const float *scale, const float *mean, const float *variance,
                         float epsilon, float *x_gradient, float *scale_gradient,
                         float *bias_gradient) {
    const size_t plane = shape.rows * shape.columns;
    const float values = values_per_channel(shape);
    for (size_t c = from; c < to; c += TOGETHER) {
        const size_t end = c + TOGETHER < to ? c + TOGETHER : to;
        float inverse[TOGETHER];
        sum_channels(VALUE, shape, c, end, g, g, mean, bias_gradient);
        sum_channels(PRODUCT, shape, c, end, x, g, mean, scale_gradient);
        for (size_t k = c; k < end; k++) {
            /* CNTK keeps the inverse deviation and makes a variance of it again for MKL. */
            const float kept = 1.0f / sqrtf(variance[k] + epsilon);
            const float again = 1.0f / (kept * kept) - epsilon;
            inverse[k - c] = 1.0f / sqrtf(again + epsilon);
            scale_gradient[k] *= inverse[k - c];
        }
        for (size_t n = 0; n < shape.samples; n++)
            for (size_t k = c; k < end; k++) {
                const float factor = scale[k] * inverse[k - c], centre = mean[k];
                const float g_mean = bias_gradient[k] / values;
                const float slope = scale_gradient[k] * inverse[k - c];
                const size_t at = (n * shape.channels + k) * plane;
                const float *restrict in = x + at, *restrict upstream = g + at;
                float *restrict out = x_gradient + at;
                for (size_t i = 0; i < plane; i++)
                    out[i] = factor * ((upstream[i] - g_mean) - (in[i] - centre) * slope / values);
            }
    }
}
