"""Representation: what the codes of images know about their labels.

The protocol of MAE (Ma, Zhou & Hovy, ICLR 2019, https://arxiv.org/abs/1901.01498), as its released evaluation code has
it (branch `classify`):

- the code of an image is the mean of 50 posterior samples, from grey levels cut at 0.5 (here: the posterior mean of a
  fixed binary draw; both are switches);
- k-means with K = 10, 20, 30, fitted without labels (clusters.py);
- k-nearest neighbours, a linear probe, linear and RBF SVM, trained on 100, 1,000, 10,000 and all labels, the former on
  five random subsets (classifiers.py).

Every accuracy is the share of *test* images that get their true label. `std` is the population standard deviation over
subsets (or k-means seeds), as the authors give it, and `half_width_95` belongs to Student's interval of the mean over
them: noise of the evaluation, not of training. Subsets that are a large part of the training set overlap, which makes
either too small, and all share one test set.

What differs from the released code, because there it is a mistake:

==================  ==============================================  =================================================
matter              there                                           here
==================  ==============================================  =================================================
linear probe        SGD whose best weights are a live reference     logistic regression: one optimum, no schedule
                    that restores nothing
its step size       falls at every check after the third bad one,   there is none
                    since the counter is not set back
its loss            a sum over the batch, so that the step depends  a mean, with an L2 penalty
                    on the batch size
RBF kernel          gamma = 1 / dimensions, whatever the scale of   gamma = 1 / (dimensions x variance), scikit-learn's
                    the codes                                       present default
k-means accuracy    majority vote alone, which grows with K         beside it one class per cluster, NMI and ARI
baselines           none                                            raw pixels, PCA, an untrained encoder
==================  ==============================================  =================================================
"""

from mpdvae.measures.representation.classifiers import CLASSIFIERS, NEIGHBOURS, LabelCount
from mpdvae.measures.representation.clusters import Clustering, cluster
from mpdvae.measures.representation.codes import codes, posteriors, principal_components
from mpdvae.measures.representation.scores import Labelled, classifier_scores, cluster_scores, evaluate, merged

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
    "evaluate",
    "merged",
    "posteriors",
    "principal_components",
]
