"""Representation: how much the codes of images reveal about their labels.

The protocol of MAE (Ma, Zhou & Hovy, ICLR 2019, https://arxiv.org/abs/1901.01498), as implemented in its released
evaluation code (branch `classify`):

- the code of an image is the mean of 50 posterior samples, computed from grey levels thresholded at 0.5 (here: the
  posterior mean of a fixed binary draw; both are options);
- k-means with K = 10, 20, 30, fitted without labels (clusters.py);
- k-nearest neighbours, a linear probe, linear and RBF SVMs, trained on 100, 1,000, 10,000 and all labels, all but the last
  on five random subsets (classifiers.py).

Every accuracy is the fraction of *test* images that are given their true label. `std` is the population standard deviation
over subsets (or k-means seeds), as the authors report it, and `half_width_95` is the half-width of Student's interval of
the mean over them: noise of the evaluation, not of training. Subsets that are a large part of the training set overlap,
which makes both too small, and all subsets share one test set.

Differences from the released code, where its behaviour is a mistake:

==================  ==============================================  =================================================
aspect              released code                                   here
==================  ==============================================  =================================================
linear probe        SGD whose saved best weights are a live         logistic regression: one optimum, no schedule
                    reference, so that nothing is restored
its step size       falls at every check after the third bad one,   none
                    since the counter is not reset
its loss            a sum over the batch, so that the step depends  a mean, with an L2 penalty
                    on the batch size
RBF kernel          gamma = 1 / dimensions, whatever the scale of   gamma = 1 / (dimensions x variance), scikit-learn's
                    the codes                                       current default
k-means accuracy    majority vote only, which grows with K          also one-to-one class assignment, NMI and ARI
baselines           none                                            raw pixels, PCA, an untrained encoder
==================  ==============================================  =================================================
"""

from mpdvae.measures.representation.classifiers import CLASSIFIERS, NEIGHBOURS, LabelCount
from mpdvae.measures.representation.clusters import Clustering, cluster
from mpdvae.measures.representation.codes import codes, codes_of, posteriors, principal_components
from mpdvae.measures.representation.labelled import Labelled
from mpdvae.measures.representation.scores import classifier_scores, cluster_scores, evaluate, merged

__all__ = [
    "CLASSIFIERS",
    "NEIGHBOURS",
    "Clustering",
    "LabelCount",
    "Labelled",
    "classifier_scores",
    "cluster",
    "cluster_scores",
    "codes",
    "codes_of",
    "evaluate",
    "merged",
    "posteriors",
    "principal_components",
]
