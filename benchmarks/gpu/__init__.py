"""What a GPU computes and how fast: CNTK's order against the C kernels, bit for bit, and the fast
arithmetics against the twin on the CPU. ``python -m benchmarks.gpu --help``."""
