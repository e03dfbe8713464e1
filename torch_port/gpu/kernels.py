"""The kernels of this folder in Triton. Multiplications and additions are rounded apart: every
launch says ``enable_fp_fusion=False``, and no sum is left to ``tl.sum`` or ``tl.dot``.

Triton's interpreter (TRITON_INTERPRET=1, set before this is imported) runs them without a GPU.
"""
# mypy: ignore-errors
# (what Triton compiles is a language of its own)
import triton
import triton.language as tl

FRESH = tl.constexpr(1)  # a step begins a group
JOIN = tl.constexpr(2)  # a step ends it: the group's sum is added to the value
STEP = tl.constexpr(6)  # values of a step's description


@triton.jit
def _sums_of(at, values, rows, offsets, packed, r, lane, padded_lanes,
             ROWS: tl.constexpr, LANES: tl.constexpr, UNROLL: tl.constexpr):
    """The sums of one step: ``count`` products one by one, from 0."""
    place = tl.load(rows + tl.load(at + 1) + r)
    here = values + tl.load(at) + tl.maximum(place, 0)
    offset = offsets + tl.load(at + 2)
    factor = packed + tl.load(at + 3) * padded_lanes + lane
    count = tl.load(at + 4).to(tl.int32)
    whole = count // UNROLL * UNROLL
    sums = tl.zeros((ROWS, LANES), tl.float32)
    for k in range(0, whole, UNROLL):
        for i in tl.static_range(UNROLL):
            a = tl.load(here + tl.load(offset + k + i))
            b = tl.load(factor + (k + i) * padded_lanes)
            sums += a[:, None] * b[None, :]
    for k in range(whole, count):
        a = tl.load(here + tl.load(offset + k))
        b = tl.load(factor + k * padded_lanes)
        sums += a[:, None] * b[None, :]
    return sums


@triton.jit(do_not_specialize=["step_count", "row_count", "lane_count", "lane_stride",
                               "padded_lanes"])
def whole_sums(values, rows, offsets, packed, steps, step_count, made, places, row_count,
               lane_count, lane_stride, padded_lanes,
               ROWS: tl.constexpr, LANES: tl.constexpr, UNROLL: tl.constexpr):
    """A tile of values, all its steps one after the other. ``made`` holds zeros before."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    inside = (r < row_count)[:, None] & (lane < lane_count)[None, :]
    target = made + tl.load(places + r)[:, None] + lane[None, :] * lane_stride
    group = tl.zeros((ROWS, LANES), tl.float32)
    for s in range(step_count):
        at = steps + s * STEP
        how = tl.load(at + 5)
        sums = _sums_of(at, values, rows, offsets, packed, r, lane, padded_lanes, ROWS, LANES,
                        UNROLL)
        group = tl.where((how & FRESH) != 0, sums, group + sums)
        if (how & JOIN) != 0:
            valid = (tl.load(rows + tl.load(at + 1) + r) >= 0)[:, None] & inside
            tl.store(target, tl.load(target, valid, 0.0) + group, valid)


@triton.jit(do_not_specialize=["padded_rows", "padded_lanes"])
def one_step(values, rows, offsets, packed, steps, parts, padded_rows, padded_lanes,
             ROWS: tl.constexpr, LANES: tl.constexpr, UNROLL: tl.constexpr):
    """One step of a tile, for ``join``: steps x rows x lanes."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    s = tl.program_id(2).to(tl.int64)
    sums = _sums_of(steps + s * STEP, values, rows, offsets, packed, r, lane, padded_lanes, ROWS,
                    LANES, UNROLL)
    tl.store(parts + (s * padded_rows + r[:, None]) * padded_lanes + lane[None, :], sums)


@triton.jit(do_not_specialize=["step_count", "row_count", "lane_count", "lane_stride",
                               "padded_rows", "padded_lanes"])
def join(parts, rows, steps, step_count, made, places, row_count, lane_count, lane_stride,
         padded_rows, padded_lanes, ROWS: tl.constexpr, LANES: tl.constexpr):
    """The steps' sums that lie in ``parts``, added in their order."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    group = tl.zeros((ROWS, LANES), tl.float32)
    total = tl.zeros((ROWS, LANES), tl.float32)
    part = parts + r.to(tl.int64)[:, None] * padded_lanes + lane[None, :]
    for s in range(step_count):
        how = tl.load(steps + s * STEP + 5)
        valid = tl.load(rows + tl.load(steps + s * STEP + 1) + r) >= 0
        group = tl.where((how & FRESH) != 0, tl.load(part), group + tl.load(part))
        total = tl.where(((how & JOIN) != 0) & valid[:, None], total + group, total)
        part += padded_rows * padded_lanes
    place = tl.load(places + r)
    tl.store(made + place[:, None] + lane[None, :] * lane_stride, total,
             (r < row_count)[:, None] & (lane < lane_count)[None, :])


# ------------------------------------------------------------------------------------ edges


@triton.jit(do_not_specialize=["job_count", "padded_jobs"])
def dots(a, b, offsets, jobs, job_count, steps, parts, padded_jobs, JOBS: tl.constexpr):
    """Dot products in lanes (torch_port/edges.py), a step of each: steps x jobs.

    A job: row of a, column of b, place, how the products before a multiple of four are counted,
    lanes, products taken at a time. A step: where a and b begin, their places, start and end of k.
    """
    e = tl.program_id(0) * JOBS + tl.arange(0, JOBS)
    s = tl.program_id(1)
    there = e < job_count
    at = jobs + e * 6
    row, column = tl.load(at, there, 0), tl.load(at + 1, there, 0)
    place, rule = tl.load(at + 2, there, 0), tl.load(at + 3, there, 0)
    lanes, unit = tl.load(at + 4, there, 8), tl.load(at + 5, there, 8)
    step = steps + s * 6
    left = a + tl.load(step) + row
    right = b + tl.load(step + 1) + column
    start = tl.load(step + 4).to(tl.int32)
    count = tl.load(step + 5).to(tl.int32) - start
    # rule: 1 = b's place counts; 2 = a place that is a multiple of four has four products before;
    # 4 = a's place counts.
    place += tl.where((rule & 4) != 0, tl.load(step + 2).to(tl.int32), 0)
    place += tl.where((rule & 1) != 0, tl.load(step + 3).to(tl.int32), 0)
    alone = (4 - place % 4) % 4
    alone = tl.where(((rule & 2) != 0) & (alone == 0), 4, alone)
    alone = tl.minimum(alone, count)
    left_over = count - alone
    trips = tl.where(unit > lanes, left_over // unit * (unit // lanes), left_over // lanes)
    lane = tl.arange(0, 8)
    sums = tl.zeros((JOBS, 8), tl.float32)
    for i in range(4):
        x = tl.load(left + tl.load(offsets + start + i, i < count, 0), there & (i < alone), 0.0)
        y = tl.load(right + start + i, there & (i < alone), 0.0)
        mine = (lane == 0)[None, :] & (i < alone)[:, None]
        sums = tl.where(mine, sums + (x * y)[:, None], sums)
    for t in range(tl.max(trips, 0)):
        k = start + alone[:, None] + t * lanes[:, None] + lane[None, :]
        mine = (t < trips)[:, None] & (lane[None, :] < lanes[:, None]) & there[:, None]
        x = tl.load(left[:, None] + tl.load(offsets + k, mine, 0), mine, 0.0)
        y = tl.load(right[:, None] + k, mine, 0.0)
        sums = tl.where(mine, sums + x * y, sums)
    # Each sum here has one value that is not left out, so its order is no matter.
    l0 = tl.sum(tl.where((lane == 0)[None, :], sums, 0.0), 1)
    l1 = tl.sum(tl.where((lane == 1)[None, :], sums, 0.0), 1)
    l2 = tl.sum(tl.where((lane == 2)[None, :], sums, 0.0), 1)
    l3 = tl.sum(tl.where((lane == 3)[None, :], sums, 0.0), 1)
    l4 = tl.sum(tl.where((lane == 4)[None, :], sums, 0.0), 1)
    l5 = tl.sum(tl.where((lane == 5)[None, :], sums, 0.0), 1)
    l6 = tl.sum(tl.where((lane == 6)[None, :], sums, 0.0), 1)
    l7 = tl.sum(tl.where((lane == 7)[None, :], sums, 0.0), 1)
    total = ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
    done = alone + trips * lanes
    for i in range(7):
        mine = there & (done + i < count)
        k = start + done + i
        x = tl.load(left + tl.load(offsets + k, mine, 0), mine, 0.0)
        y = tl.load(right + k, mine, 0.0)
        total = tl.where(mine, total + x * y, total)
    tl.store(parts + s * padded_jobs + e, total)


@triton.jit(do_not_specialize=["b_k", "job_count", "step_count"])
def chains(a, b, b_k, offsets, jobs, job_count, steps, step_count, made, places,
           JOBS: tl.constexpr):
    """One product after the other onto the value (torch_port/edges.py). A job: row of a, column of
    b, whether every second four products are added up first. A step: start and end of k."""
    e = tl.program_id(0) * JOBS + tl.arange(0, JOBS)
    there = e < job_count
    left = a + tl.load(jobs + e * 3, there, 0)
    right = b + tl.load(jobs + e * 3 + 1, there, 0)
    above = tl.load(jobs + e * 3 + 2, there, 0) != 0
    plain = tl.zeros((JOBS,), tl.float32)
    paired = tl.zeros((JOBS,), tl.float32)
    for s in range(step_count):
        start = tl.load(steps + s * 2).to(tl.int32)
        end = tl.load(steps + s * 2 + 1).to(tl.int32)
        whole = start + (end - start) // 8 * 8
        for k in range(start, whole, 8):
            for i in tl.static_range(4):
                p = (tl.load(left + tl.load(offsets + k + i), there, 0.0)
                     * tl.load(right + (k + i) * b_k, there, 0.0))
                plain += p
                paired += p
            four = (tl.load(left + tl.load(offsets + k + 4), there, 0.0)
                    * tl.load(right + (k + 4) * b_k, there, 0.0))
            plain += four
            for i in tl.static_range(5, 8):
                p = (tl.load(left + tl.load(offsets + k + i), there, 0.0)
                     * tl.load(right + (k + i) * b_k, there, 0.0))
                plain += p
                four += p
            paired += four
        for k in range(whole, end):
            p = (tl.load(left + tl.load(offsets + k), there, 0.0)
                 * tl.load(right + k * b_k, there, 0.0))
            plain += p
            paired += p
    tl.store(made + tl.load(places + e, there, 0), tl.where(above, paired, plain), there)


# ------------------------------------------------------------------------- batch normalisation


@triton.jit
def _term(x, g, there, centre, TERM: tl.constexpr):
    value = tl.load(x, there, 0.0)
    if TERM > 0:
        value = value - centre
    if TERM == 1:
        value = value * value
    if TERM == 2:
        value = value * tl.load(g, there, 0.0)
    return value


@triton.jit(do_not_specialize=["channels", "samples", "height", "width"])
def channel_sums(x, g, mean, sums, channels, samples, height, width, TERM: tl.constexpr,
                 CHANNELS: tl.constexpr, UNROLL: tl.constexpr):
    """A sum for each channel in the order of native/cntk_batch_norm.c. TERM 0: x; 1: (x - mean)^2;
    2: (x - mean) * g."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    side = tl.arange(0, 2)
    both_there = there[:, None] & (side >= 0)[None, :]
    centre = tl.load(mean + c, there, 0.0)
    plane = height * width
    even = width // 2 * 2
    unrolled = width // (2 * UNROLL) * (2 * UNROLL)
    total = tl.zeros((CHANNELS,), tl.float32)
    for n in range(samples):
        for row in range(height):
            start = (n * channels + c) * plane + row * width
            both = tl.where((side == 0)[None, :], total[:, None], 0.0)
            pair = start[:, None] + side[None, :]
            for w in range(0, unrolled, 2 * UNROLL):
                for i in tl.static_range(UNROLL):
                    at = pair + w + 2 * i
                    both += _term(x + at, g + at, both_there, centre[:, None], TERM)
            for w in range(unrolled, even, 2):
                both += _term(x + pair + w, g + pair + w, both_there, centre[:, None], TERM)
            if even > 0:
                total = tl.sum(both, 1)  # of two: no order to choose
            for w in range(even, width):
                total += _term(x + start + w, g + start + w, there, centre, TERM)
    tl.store(sums + c, total, there)
