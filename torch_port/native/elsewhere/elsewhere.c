/* Prints a hash of what cntk_products.c and cntk_edges.c compute of numbers that this file draws: a
 * program of its own, to be run where no Python is (another processor, an emulator). */
#include "../cntk_products.c"
#include "../cntk_edges.c"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 43, OUT = 41, SUM = 261, PANEL = (OUT + LANES - 1) / LANES };

static uint64_t state = 88172645463325252u;

/* In (-1, 1), exact in float32. */
static float drawn(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)((int32_t)(state >> 40) - (1 << 23)) / (float)(1 << 23);
}

static float *many(size_t count) {
    float *values = malloc(count * sizeof *values);
    if (!values) abort();
    for (size_t i = 0; i < count; i++) values[i] = drawn();
    return values;
}

static void add_to(uint64_t *hash, const float *values, size_t count) {
    const unsigned char *bytes = (const unsigned char *)values;
    for (size_t i = 0; i < count * sizeof *values; i++) *hash = (*hash ^ bytes[i]) * 1099511628211u;
}

int main(void) {
    uint64_t hash = 14695981039346656037u;
    float *left = many(PIXELS * SUM), *right = many(OUT * SUM), *made = many(PIXELS * OUT);
    float *packed = many((size_t)PANEL * LANES * SUM), *scratch = many(scratch_size());
    ptrdiff_t rows[PIXELS], some_rows[PIXELS], places[PIXELS], offsets[SUM];
    for (int i = 0; i < PIXELS; i++) {
        rows[i] = i * SUM;
        some_rows[i] = i % 5 ? rows[i] : -1;
        places[i] = i;
    }
    for (int k = 0; k < SUM; k++) offsets[k] = k;
    pack(right, OUT, SUM, SUM, 1, 1, 0, PANEL, packed);
    /* Two groups of blocks, the last block first; not every row has the second group. */
    Step steps[6];
    for (int i = 0; i < 6; i++) {
        const size_t start = i % 3 ? (size_t)(i % 3 - 1) * BLOCK : 2 * BLOCK;
        steps[i] = (Step){left, i < 3 ? rows : some_rows, offsets + start, packed + start * LANES,
                          (size_t)SUM * LANES, i % 3 ? BLOCK : SUM - 2 * BLOCK,
                          (i % 3 == 0) * FRESH + (i % 3 == 2) * JOIN};
    }
    products(steps, 6, 0, PIXELS, 0, PANEL, scratch, places, PIXELS, OUT, made);
    add_to(&hash, made, PIXELS * OUT);
    /* Every kind of edge: sizes by their remainders, both layouts of either matrix. */
    const size_t sizes[][3] = {{PIXELS, OUT, SUM}, {PIXELS, OUT, 224}, {1, OUT, SUM},
                               {PIXELS, 1, SUM}, {5, 3, 20}, {16, 9, 9}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t kind = 0; kind < 4; kind++) {
            const size_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2], dotted = kind & 1;
            const Product product = {left, rows, offsets, right, kind < 2 ? k : 1,
                                     kind < 2 ? 1 : n, made, m, n, k, (i + kind) % 4, i % 4, kind,
                                     kind & 1, scratch};
            edges(&product, 0, n, kind < 2 ? dotted : 0, kind >= 2);
            add_to(&hash, made, PIXELS * OUT);
        }
    printf("%016llx\n", (unsigned long long)hash);
    return 0;
}
