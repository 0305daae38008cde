r"""Agreement of k-means clusters with classes.

Clusters are fitted to training codes without labels (k-means++, ten restarts; kmeans.py). Test codes are assigned to the
nearest centre and compared with their labels in four ways:

    majority     each cluster is assigned the most frequent class of its training codes: the protocol of MAE. Grows with K,
                 up to the accuracy of a nearest-neighbour classifier, so scores at different K are not comparable.
    Hungarian    clusters and classes are matched one to one, so that as many training codes as possible agree; a cluster
                 without a class is wrong on all its codes (Kuhn 1955, https://doi.org/10.1002/nav.3800020109).
    NMI          mutual information of cluster and class divided by the mean of their entropies, in [0, 1].
    ARI          fraction of pairs of codes on which clusters and classes agree, adjusted so that chance gives 0 and
                 identity 1 (Hubert & Arabie 1985, https://doi.org/10.1007/BF01908075).

The last two need no training labels.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mpdvae.measures.representation import kmeans


class Clustering(NamedTuple):
    """Agreement of clusters of training codes with the classes of test codes."""

    majority_accuracy: float
    hungarian_accuracy: float
    nmi: float
    ari: float


def cluster(
    train_codes: Float[np.ndarray, "_train _latent"],
    train_labels: Integer[np.ndarray, " _train"],
    test_codes: Float[np.ndarray, "_test _latent"],
    test_labels: Integer[np.ndarray, " _test"],
    clusters: int,
    seed: int,
    restarts: int = 10,
) -> Clustering:
    """Returns the four scores of one k-means run, the best of `restarts` starts by inertia. Tied votes go to the smallest
    label."""
    fitted = kmeans.fit(train_codes, clusters, restarts, seed)
    train_clusters, test_clusters = fitted.labels, fitted.assign(test_codes)
    classes, label_index = np.unique(train_labels, return_inverse=True)
    votes = np.zeros((clusters, len(classes)), dtype=np.int64)
    np.add.at(votes, (train_clusters, label_index), 1)
    majority = classes[votes.argmax(1)][test_clusters] == test_labels
    return Clustering(
        float(majority.mean()),
        float(_paired(votes, classes, test_clusters, test_labels).mean()),
        float(normalized_mutual_info_score(test_labels, test_clusters)),
        float(adjusted_rand_score(test_labels, test_clusters)),
    )


def _paired(votes: np.ndarray, classes: np.ndarray, clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns whether each code's cluster is assigned its label when clusters and classes are matched one to one."""
    paired, index = linear_sum_assignment(votes, maximize=True)
    has_class = np.zeros(len(votes), dtype=bool)
    has_class[paired] = True
    class_of = np.full(len(votes), classes[0])
    class_of[paired] = classes[index]
    return has_class[clusters] & (class_of[clusters] == labels)
