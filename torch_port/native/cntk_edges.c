/* The sums at the edges of a product of matrices, in MKL's order, one value after the other.
 * torch_port/edges.py says which sums those are and how they go; compiled without fused
 * multiply-add.
 *
 * The product is m x n, a sum over k: a row of the left matrix is a[rows[row] + offsets[k]], a column
 * of the right one b[column * b_column + k * b_k]; c[column * m + row] is the product; `a_place`,
 * `b_place` and `c_place` are the places of the three, modulo 4, in MKL's memory. */
#include <stddef.h>

typedef struct {
    const float *a;
    const ptrdiff_t *rows, *offsets;
    const float *b;
    size_t b_column, b_k;
    float *c;
    size_t m, n, k, a_place, b_place, c_place;
    size_t add;    /* 1: the product is added to what c holds */
    float *values; /* scratch of k values */
} Product;

typedef struct { size_t from, to, first, last; } Region;  /* rows, columns */

enum { BLOCK = 112 };

static size_t to_aligned(size_t place) { return (4 - place % 4) % 4; }
static size_t to_aligned_or_4(size_t place) { return 4 - place % 4; }

/* How many of `count` values from `place` on come before the first place that is a multiple of four,
 * if four are left there. */
static size_t above_of(size_t place, size_t count) {
    const size_t above = to_aligned(place);
    return above + 4 > count ? 0 : above;
}

/* One after the other, k of start..end-1, onto c. MKL goes down a column of c in vectors of four from
 * the first place that is a multiple of four, if four rows are left there; the rows above it add
 * every second four of k up before they go to c, unless the product is `plain`. A single row it goes
 * along in the same way. */
static void chains(const Product *of, Region region, size_t start, size_t end, int fresh,
                   int plain) {
    const size_t along = of->m == 1 ? above_of(of->c_place, of->n) : 0;
    for (size_t column = region.first; column < region.last; column++) {
        const float *b = of->b + column * of->b_column;
        const size_t above = plain ? 0 : above_of(of->c_place + column * of->m + region.from,
                                                  region.to - region.from);
        for (size_t row = region.from; row < region.to; row++) {
            const float *a = of->a + of->rows[row];
            float *c = of->c + column * of->m + row;
            float sum = fresh ? 0.0f : *c;
            size_t k = start;
#define AT(k) (a[of->offsets[k]] * b[(k) * of->b_k])
            if (row - region.from < above || column < along)
                for (; k + 8 <= end; k += 8) {
                    for (size_t i = k; i < k + 4; i++) sum += AT(i);
                    float four = AT(k + 4);
                    for (size_t i = k + 5; i < k + 8; i++) four += AT(i);
                    sum += four;
                }
            for (; k < end; k++) sum += AT(k);
#undef AT
            *c = sum;
        }
    }
}

/* The first `alone` products one by one; then `lanes` running sums, the first of which goes on from
 * those, as long as there are `unit` products more; the upper half of the lanes is added to the lower
 * one until one is left; what remains is added one by one. */
static inline float dot(const float *a, const float *b, size_t count, size_t alone, size_t lanes,
                        size_t unit) {
    float lane[8] = {0};
    size_t k = 0;
    for (; k < count && k < alone; k++) lane[0] += a[k] * b[k];
    for (; k + unit <= count; k += unit)
        for (size_t part = 0; part < unit; part += lanes)
            for (size_t l = 0; l < lanes; l++) lane[l] += a[k + part + l] * b[k + part + l];
    for (size_t half = lanes / 2; half; half /= 2)
        for (size_t l = 0; l < half; l++) lane[l] += lane[l + half];
    for (; k < count; k++) lane[0] += a[k] * b[k];
    return lane[0];
}

static float dot_of(const float *a, const float *b, size_t count, size_t alone, size_t lanes,
                    size_t unit) {
    if (lanes == 8) return dot(a, b, count, alone, 8, 8);
    return unit == 8 ? dot(a, b, count, alone, 4, 8) : dot(a, b, count, alone, 4, 4);
}

static const float *row_of(const Product *of, size_t row, size_t start, size_t end) {
    const float *a = of->a + of->rows[row];
    for (size_t k = start; k < end; k++) of->values[k] = a[of->offsets[k]];
    return of->values + start;
}

static void put(const Product *of, size_t row, size_t column, float sum, int fresh) {
    float *c = of->c + column * of->m + row;
    *c = fresh ? sum : *c + sum;
}

/* Dot products: four rows at a time in four lanes, the rows that are left in eight; alone are the
 * products before b's place is a multiple of four. */
static void dots(const Product *of, Region region, size_t start, size_t end, int fresh) {
    const size_t fours = region.from + (region.to - region.from) / 4 * 4;
    for (size_t row = region.from; row < region.to; row++) {
        const float *a = row_of(of, row, start, end);
        const size_t lanes = row < fours ? 4 : 8;
        for (size_t column = region.first; column < region.last; column++) {
            const size_t at = column * of->b_column + start;
            put(of, row, column, dot_of(a, of->b + at, end - start, to_aligned(of->b_place + at),
                                        lanes, lanes), fresh);
        }
    }
}

/* Dot products of a matrix's lines with one vector: four lines at a time in four lanes; of the lines
 * that are left the second in four, eight products at a time, the others in eight. `four` products
 * are alone in fours, `one` in the lines that are left. */
static float line(const float *a, const float *b, size_t k, size_t at, size_t count, size_t four,
                  size_t one) {
    const size_t fours = count / 4 * 4;
    if (at < fours) return dot_of(a, b, k, four, 4, 4);
    return dot_of(a, b, k, one, at == fours + 1 ? 4 : 8, 8);
}

/* All rows of a column by lines: the left matrix's rows, which lie k apart in MKL's memory. */
static void column_by_lines(const Product *of, size_t column) {
    const size_t at = column * of->b_column;
    for (size_t row = 0; row < of->m; row++)
        put(of, row, column,
            line(row_of(of, row, 0, of->k), of->b + at, of->k, row, of->m,
                 to_aligned_or_4(of->a_place + 3 * of->k), to_aligned_or_4(of->b_place + at)),
            !of->add);
}

/* The only row by lines: the right matrix's columns. */
static void row_by_lines(const Product *of, size_t first, size_t last) {
    const float *a = row_of(of, 0, 0, of->k);
    for (size_t column = first; column < last; column++)
        put(of, 0, column,
            line(a, of->b + column * of->b_column, of->k, column, of->n,
                 to_aligned_or_4(of->b_place + 3 * of->k), to_aligned_or_4(of->a_place)),
            !of->add);
}

/* Columns first..last-1 of the values that are not blocks of k: all but the first m - m % 8 rows of
 * the first n - n % 4 columns, or, if m, n or k are below 8, all. The left matrix lies in MKL's
 * memory with k (`dotted`) or with rows side by side; `spread`: the right one with columns. */
void edges(const Product *of, size_t first, size_t last, size_t dotted, size_t spread) {
    const size_t m = of->m, n = of->n, k = of->k;
    if (m == 1 && !spread) {
        row_by_lines(of, first, last);
    } else if (m == 1) {
        chains(of, (Region){0, 1, first, last}, 0, k, !of->add, 1);
    } else if (n == 1 || m < 8 || n < 8 || k < 8) {
        const Region all = {0, m, first, last};
        if (n == 1 && dotted) column_by_lines(of, 0);
        else if (dotted) dots(of, all, 0, k, !of->add);
        else chains(of, all, 0, k, !of->add, 0);
    } else {
        const size_t whole = n - n % 4, end = last < whole ? last : whole;
        const Region below = {m - m % 8, m, first, end};
        const size_t before = (k - 1) / BLOCK;  /* the last block comes first */
        for (size_t i = 0; m % 8 && i <= before; i++) {
            const size_t start = (i ? i - 1 : before) * BLOCK, stop = i ? start + BLOCK : k;
            const int fresh = !of->add && !i;
            if (dotted) dots(of, below, start, stop, fresh);
            else chains(of, below, start, stop, fresh, 0);
        }
        for (size_t column = first > whole ? first : whole; column < last; column++) {
            if (dotted) column_by_lines(of, column);
            else chains(of, (Region){0, m, column, column + 1}, 0, k, !of->add, (int)spread);
        }
    }
}
