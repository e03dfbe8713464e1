/* Sums of products in CNTK's order: torch_port/products.py says what the order is.
 *
 * One function makes all products of both kinds of convolution. An output is ROWS x LANES values of
 * a tile: a row reads single values of one array wherever they lie (an image is never unfolded), the
 * lanes are vectors of another array, which `pack` has laid side by side. A sum is made in steps: a
 * step adds `count` products up one by one, from 0, and its sum is added to that of its group. When
 * the group is done, its sum is added to the output.
 *
 * Compiled without fused multiply-add. WIDTH is the vector's, 1 for a compiler without vectors; no
 * sum crosses lanes, so that it changes no bit.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#ifndef WIDTH
#define WIDTH 4
#endif

#if WIDTH == 1
typedef float vector, loose;
#else
typedef float vector __attribute__((vector_size(4 * WIDTH)));
typedef float loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
#endif

#ifndef ROWS
#define ROWS (WIDTH == 16 ? 8 : 3)
#define VECTORS (WIDTH == 16 ? 2 : 4)
#endif
enum { LANES = WIDTH * VECTORS, MOST_ROWS = 96, MOST_PANELS = 256 / LANES, LINE = 16 };

enum { FRESH = 1, JOIN = 2 };  /* begins a group; ends it, so that its sum goes to the output */

typedef struct {
    const float *values;      /* where `rows` and `offsets` count from */
    const ptrdiff_t *rows;    /* of each row of the output; -1: the row has no such step */
    const ptrdiff_t *offsets; /* of each product in the step */
    const float *packed;      /* the first panel of lanes: count x LANES, one panel ... */
    size_t panel;             /* ... so many values after the other */
    size_t count;
    size_t how;
} Step;

size_t lanes(void) { return LANES; }

#ifdef __x86_64__
/* By CPUID itself: __builtin_cpu_supports says no to everything where Zig's library answers it. */
static unsigned saved_registers(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0; /* OSXSAVE */
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static const char *fastest_of_x86(void) {
    const unsigned ymm = 0x06, zmm = 0xe6, saved = saved_registers();
    unsigned a = 0, b = 0, c = 0, d = 0, wide = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) wide = b;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 28) || (saved & ymm) != ymm) return "narrow";
    if (wide & 1u << 16 && (saved & zmm) == zmm) return "avx512";
    const unsigned family = (a >> 8 & 15) + (a >> 20 & 255), model = (a >> 4 & 15) | (a >> 12 & 240);
    if (family == 0x17 && model < 0x30) return "avx"; /* Zen makes two halves of AVX2's vectors */
    return wide & 1u << 5 ? "avx2" : "avx";
}
#endif

/* What is fastest on this processor. */
const char *fastest(void) {
#ifdef __x86_64__
    return fastest_of_x86();
#else
    return "narrow";
#endif
}

#define EACH_VECTOR for (int v = 0; v < VECTORS; v++)
#define EACH_ROW for (int r = 0; r < ROWS; r++)

static inline vector load(const float *at) { return *(const loose *)at; }
static inline void store(float *at, vector v) { *(loose *)at = v; }

static inline void add(float *to, const vector *sum) {
    EACH_VECTOR store(to + v * WIDTH, load(to + v * WIDTH) + sum[v]);
}

/* One step of one tile. row[r] is where the values of row r are met; `own` and `made` are the tile's
 * first value in the group's sum and in the output, whose rows are row_size apart; valid[r] says
 * whether row r has this step at all. */
static inline void tile(const Step *step, const float *const *row, const float *packed,
                        const unsigned char *valid, int all, float *own, float *made,
                        size_t row_size) {
    vector sum[ROWS][VECTORS];
    const float *at[ROWS];
    EACH_ROW {
        at[r] = row[r];
        EACH_VECTOR sum[r][v] = (vector){0};
    }
    const ptrdiff_t *offsets = step->offsets;
    for (size_t k = 0; k < step->count; k++, packed += LANES) {
        const ptrdiff_t offset = offsets[k];
        vector factor[VECTORS];
        EACH_VECTOR factor[v] = load(packed + v * WIDTH);
        EACH_ROW {
            const float value = at[r][offset];
            EACH_VECTOR sum[r][v] += value * factor[v];
        }
    }
    if (!(step->how & FRESH))
        EACH_ROW EACH_VECTOR sum[r][v] = load(own + r * row_size + v * WIDTH) + sum[r][v];
    if (!(step->how & JOIN)) {
        EACH_ROW EACH_VECTOR store(own + r * row_size + v * WIDTH, sum[r][v]);
    } else if (all) {
        EACH_ROW add(made + r * row_size, sum[r]);
    } else {
        EACH_ROW if (valid[r]) add(made + r * row_size, sum[r]);
    }
}

/* What one call of `some` is to make: at most MOST_ROWS x MOST_PANELS tiles, to stay in the cache. */
typedef struct { size_t from, to, first, last; } Part;

static void some(const Step *steps, size_t step_count, Part part, float *made, float *group) {
    const size_t panels = part.last - part.first, row_size = panels * LANES;
    memset(made, 0, (part.to - part.from) * row_size * sizeof *made);
    for (const Step *step = steps; step < steps + step_count; step++)
        for (size_t p = 0; p < panels; p++) {
            const float *packed = step->packed + (part.first + p) * step->panel;
            for (size_t i = part.from; i < part.to; i += ROWS) {
                const float *row[ROWS];
                unsigned char valid[ROWS];
                int count = 0;
                for (size_t r = 0; r < ROWS; r++) {
                    const ptrdiff_t at = i + r < part.to ? step->rows[i + r] : -1;
                    count += valid[r] = at >= 0;
                    row[r] = step->values + (at < 0 ? 0 : at);
                }
                const size_t place = (i - part.from) * row_size + p * LANES;
                if (count)
                    tile(step, row, packed, valid, count == ROWS, group + place, made + place,
                         row_size);
            }
        }
}

/* From made[row][lane] to output[places[row] + lane * stride], a cache's line at a time. */
static void spread(Part part, const float *made, const ptrdiff_t *places, size_t stride,
                   size_t width, float *output) {
    const size_t end = part.last * LANES < width ? part.last * LANES : width;
    const size_t row_size = (part.last - part.first) * LANES;
    for (size_t i = part.from; i < part.to; i += LINE)
        for (size_t lane = part.first * LANES; lane < end; lane++) {
            const size_t stop = i + LINE < part.to ? i + LINE : part.to;
            const float *from = made + (i - part.from) * row_size + lane - part.first * LANES;
            float *to = output + lane * stride;
            for (size_t row = i; row < stop; row++, from += row_size) to[places[row]] = *from;
        }
}

size_t scratch_size(void) { return 2 * MOST_ROWS * MOST_PANELS * LANES; }

/* The rows from..to-1 of the output, panels first..last-1 of it. `scratch` is scratch_size() values.
 * places[row] + lane * stride is the value's place in the output; there are `width` lanes. */
void products(const Step *steps, size_t step_count, size_t from, size_t to, size_t first,
              size_t last, float *scratch, const ptrdiff_t *places, size_t stride, size_t width,
              float *output) {
    float *made = scratch, *group = scratch + scratch_size() / 2;
    for (size_t p = first; p < last; p += MOST_PANELS)
        for (size_t i = from; i < to; i += MOST_ROWS) {
            const Part part = {i, i + MOST_ROWS < to ? i + MOST_ROWS : to,
                               p, p + MOST_PANELS < last ? p + MOST_PANELS : last};
            some(steps, step_count, part, made, group);
            spread(part, made, places, stride, width, output);
        }
}

/* Lays `width` lanes side by side: tap t's panel p is the count x LANES values from
 * packed + (t * panels + p) * count * LANES on; lanes beyond the last are 0. Value k of a lane is
 * values[lane * lane_stride + k * stride + t]. Of the panels first..last-1. */
void pack(const float *values, size_t width, size_t lane_stride, size_t count, size_t stride,
          size_t taps, size_t first, size_t last, float *packed) {
    const size_t panels = (width + LANES - 1) / LANES, tap_size = panels * count * LANES;
    for (size_t p = first; p < last; p++) {
        const size_t lanes_here = width - p * LANES < LANES ? width - p * LANES : LANES;
        const float *from = values + p * LANES * lane_stride;
        float *to = packed + p * count * LANES;
        if (lanes_here < LANES)
            for (size_t t = 0; t < taps; t++)
                memset(to + t * tap_size, 0, count * LANES * sizeof *to);
        for (size_t some = 0; some < count; some += LINE) {
            const size_t end = some + LINE < count ? some + LINE : count;
            for (size_t lane = 0; lane < lanes_here && taps == 1; lane++)
                for (size_t k = some; k < end; k++)
                    to[k * LANES + lane] = from[lane * lane_stride + k * stride];
            for (size_t lane = 0; lane < lanes_here && taps > 1; lane++)
                for (size_t k = some; k < end; k++)
                    for (size_t t = 0; t < taps; t++)
                        to[t * tap_size + k * LANES + lane] =
                            from[lane * lane_stride + k * stride + t];
        }
    }
}
