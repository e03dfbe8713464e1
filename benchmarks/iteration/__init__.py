"""Seconds of one iteration of the article's training, everybody in turn. ``python -m
benchmarks.iteration --help``."""
