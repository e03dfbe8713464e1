"""Scores of generated pictures: Inception Score, FID and KID, from any classifier, on any runtime.

``inception_score``, ``errors`` and ``resize`` are plain Python 3.6 and numpy: CNTK's side runs the
same lines.
"""
