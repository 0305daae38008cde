"""How long the estimator takes to fit 2,000 MNIST digits with its defaults, and how good its codes are.

python -m benchmarks estimator [SEED]

Accuracy is that of 5 nearest neighbours among the codes of the 2,000, on 2,000 digits of the test set; `score` is of
150 of them."""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from mpdvae.data import Images, load
from mpdvae.sklearn import MPDVAE

DIGITS, SCORED = 2000, 150


def main(arguments: Sequence[str]) -> None:
    """Prints both."""
    parser = argparse.ArgumentParser("python -m benchmarks estimator", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seed", nargs="?", type=int, default=0)
    seed = parser.parse_args(arguments).seed
    splits, generator = load("mnist"), np.random.default_rng(seed)
    (x, labels), (others, their_labels) = (_some(images, generator) for images in (splits.train, splits.test))
    wall, processor = time.perf_counter(), time.process_time()
    model = MPDVAE(random_state=seed).fit(x)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    right = KNeighborsClassifier(5).fit(model.transform(x), labels).score(model.transform(others), their_labels)
    print(f"fit: {wall:.1f} s, {processor:.1f} s of processor time, {model.n_iter_} epochs")
    print(f"5 nearest neighbours: {right:.2%} right   score: {model.score(others[:SCORED]):.2f} nats")


def _some(images: Images, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [digits height width] and classes."""
    chosen = generator.permutation(len(images))[:DIGITS]
    assert images.labels is not None
    return images.pixels[chosen, 0].numpy(), images.labels[chosen].numpy()
