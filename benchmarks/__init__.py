"""Benchmarks: how fast `mpdvae` is, what its options do, and how much it needs. Each topic is a module with a `main`.

python -m benchmarks              # lists the topics
python -m benchmarks speed        # from the root of a checkout
"""
