r"""Maps of codes: two coordinates per code, so that neighbouring codes stay close, as far as a plane allows.

    pca    projection on the two directions of largest variance: the overall shape, seen from one side
    tsne   minimises KL(P || Q), P the neighbourhoods of the codes at a perplexity, Q those in the plane with a Student's t
           kernel: preserves neighbourhoods; sizes of groups and distances between them carry no meaning
           (van der Maaten & Hinton, JMLR 9, 2008, https://www.jmlr.org/papers/v9/vandermaaten08a.html)
    umap   if umap-learn is installed (McInnes, Healy & Melville 2018, https://arxiv.org/abs/1802.03426)

All are seeded, run in one thread, and use codes that are centred and divided by a single number, their spread, which
preserves neighbours. Codes that are all identical have no spread: all their points lie at 0.
"""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

PERPLEXITY = 30.0
"""Neighbours that t-SNE and UMAP consider: scikit-learn's default, the middle of the range advised by t-SNE's authors."""
ITERATIONS = 500
LEAST_CODES = 5
"""Minimum number of codes for t-SNE and UMAP: fewer have no neighbourhoods to preserve."""


@dataclass(frozen=True)
class CodeMap:
    """Position of each code in the plane."""

    points: Float[np.ndarray, "n 2"]
    explained_variance: tuple[float, ...] = ()
    """Fractions of the variance along the two axes; empty for t-SNE and UMAP."""


def maps(codes: Float[np.ndarray, "n latent"]) -> dict[str, CodeMap]:
    """Computes all available maps of the codes, by name; deterministic."""
    with threadpool_limits(limits=1):  # sums over several threads have no fixed order
        z = _standardised(codes)
        found = {"pca": _principal_components(z)}
        if len(z) >= LEAST_CODES:
            found["tsne"] = CodeMap(_tsne(z) if z.any() else np.zeros((len(z), 2)))
            if find_spec("umap") is not None:
                found["umap"] = CodeMap(_umap(z) if z.any() else np.zeros((len(z), 2)))
    return found


def principal_map(codes: Float[np.ndarray, "n latent"]) -> CodeMap:
    """Computes only the cheapest map, PCA."""
    with threadpool_limits(limits=1):
        return _principal_components(_standardised(codes))


def nearest(codes: Float[np.ndarray, "n latent"], count: int) -> list[list[int]]:
    """Returns for each code the indices of its nearest other codes by Euclidean distance, nearest first: `count`, or as
    many as there are."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=min(count, len(codes) - 1)).fit(codes)
    return neighbours.kneighbors(return_distance=False).tolist()


def _standardised(codes: np.ndarray) -> np.ndarray:
    """Centres and scales the codes; pads them to at least two dimensions."""
    centred = codes.astype(np.float64) - codes.mean(0, dtype=np.float64)
    padded = np.pad(centred, ((0, 0), (0, max(0, 2 - codes.shape[1]))))
    spread = padded.std()
    return padded / spread if spread > 0 else padded


def _principal_components(z: np.ndarray) -> CodeMap:
    if not z.any():
        return CodeMap(np.zeros((len(z), 2)), (0.0, 0.0))
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full").fit(z)
    return CodeMap(pca.transform(z), tuple(pca.explained_variance_ratio_.tolist()))


def _perplexity(count: int) -> float:
    return min(PERPLEXITY, (count - 1) / 3)


def _tsne(z: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    fitted = TSNE(perplexity=_perplexity(len(z)), init="pca", max_iter=ITERATIONS, random_state=0)
    return fitted.fit_transform(z).astype(np.float64)


def _umap(z: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing tensorflow, and a seed that implies one thread
        import umap  # pyright: ignore[reportMissingImports] - optional

        fitted = umap.UMAP(n_neighbors=max(2, int(_perplexity(len(z)))), random_state=0)
        return np.asarray(fitted.fit_transform(z), np.float64)
