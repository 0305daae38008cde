"""From one run to many: a job from start to end, the matrix of the reproduction, searches, verification, and the scikit-learn
estimator.

Everything a command does beyond parsing options is here, so that a notebook can do the same.
"""
