/* The random numbers that CNTK draws on the CPU: std::mt19937_64, and on it the normal
 * distribution of the Boost that CNTK 2.7 was built with.
 *
 *   Matsumoto and Nishimura 1998, Nishimura 2000 (the 64-bit twister; the constants are its own);
 *   Marsaglia and Tsang 2000 (the ziggurat).
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { WORDS = 312, SHIFT = 156, LAYERS = 128 };

typedef struct {
    uint64_t state[WORDS], output[WORDS];
    size_t next;     /* the output that is given out next */
    uint64_t given;  /* how many numbers were given out so far */
} Mersenne64;

size_t mersenne64_size(void) { return sizeof(Mersenne64); }

void mersenne64_seed(Mersenne64 *m, uint64_t seed) {
    m->state[0] = seed;
    for (uint64_t i = 1; i < WORDS; i++) {
        uint64_t before = m->state[i - 1];
        m->state[i] = UINT64_C(6364136223846793005) * (before ^ (before >> 62)) + i;
    }
    m->next = WORDS;
    m->given = 0;
}

static uint64_t twist(uint64_t high, uint64_t low, uint64_t far) {
    uint64_t word = (high & UINT64_C(0xFFFFFFFF80000000)) | (low & UINT64_C(0x7FFFFFFF));
    return far ^ (word >> 1) ^ (-(word & 1) & UINT64_C(0xB5026F5AA96619E9));
}

static uint64_t tempered(uint64_t x) {
    x ^= (x >> 29) & UINT64_C(0x5555555555555555);
    x ^= (x << 17) & UINT64_C(0x71D67FFFEDA60000);
    x ^= (x << 37) & UINT64_C(0xFFF7EEE000000000);
    return x ^ (x >> 43);
}

static void refill(Mersenne64 *m) {
    uint64_t *s = m->state;
    size_t i = 0;
    for (; i < WORDS - SHIFT; i++) s[i] = twist(s[i], s[i + 1], s[i + SHIFT]);
    for (; i < WORDS - 1; i++) s[i] = twist(s[i], s[i + 1], s[i + SHIFT - WORDS]);
    s[i] = twist(s[i], s[0], s[i + SHIFT - WORDS]);
    for (i = 0; i < WORDS; i++) m->output[i] = tempered(s[i]);
    m->next = 0;
}

static inline uint64_t draw(Mersenne64 *m) {
    if (m->next == WORDS) refill(m);
    m->given++;
    return m->output[m->next++];
}

void mersenne64_outputs(Mersenne64 *m, uint64_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = draw(m);
}

/* A 64-bit number as a fraction in [0, 1); one that rounds up to 1 is drawn again. */
static double fraction(Mersenne64 *m) {
    double u;
    do u = (double)draw(m) * 0x1p-64; while (u >= 1.0);
    return u;
}

/* By the inverse distribution function. Boost draws it otherwise from 2016 on, CNTK does not. */
static double exponential(Mersenne64 *m, double rate) {
    return -1.0 / rate * log(1.0 - fraction(m));
}

/* Beyond the first layer's edge, by Marsaglia's method. */
static double tail(Mersenne64 *m, double edge) {
    for (;;) {
        double a = exponential(m, edge);
        double b = exponential(m, 1.0);
        if (2.0 * b > a * a) return a + edge;
    }
}

/* Boost means to clear the bits that a double cannot hold, and clears this one bit instead. That
 * changes two of a hundred million weights, by the last bit: generator and discriminator from seed
 * 0 on have one of them, in the discriminator's sixth layer. */
#define LOST_BIT (UINT64_C(1) << 11)

static double standard_normal(Mersenne64 *m, const double *x, const double *y) {
    for (;;) {
        uint64_t bits = draw(m);
        double sign = (bits & 1) ? 1.0 : -1.0;
        unsigned layer = (bits >> 1) & (LAYERS - 1);
        double at = (double)((bits & ~LOST_BIT) >> 8) * 0x1p-56 * x[layer];
        if (at < x[layer + 1]) return sign * at;
        if (layer == 0) return sign * tail(m, x[1]);
        double height = y[layer] + fraction(m) * (y[layer + 1] - y[layer]);
        if (height < exp(-(at * at / 2.0))) return sign * at;
    }
}

/* count normal numbers of standard deviation sigma; x and y are the ziggurat's LAYERS + 1 corners.
 * Returns how many 64-bit numbers they took. */
uint64_t normal_fill(Mersenne64 *m, const double *x, const double *y, double sigma, float *out,
                     size_t count) {
    uint64_t before = m->given;
    for (size_t i = 0; i < count; i++) out[i] = (float)(standard_normal(m, x, y) * sigma);
    return m->given - before;
}
