"""Distributions that torch lacks: autoregressive pixels, discretised logistic mixtures, densities by a flow, the Gaussian
AR(1) process.

Each is a `torch.distributions.Distribution`. Parts of a model return them, so a new distribution needs no change anywhere
else. Their log-densities are fixed by the formulas at the heads of the files.
"""
