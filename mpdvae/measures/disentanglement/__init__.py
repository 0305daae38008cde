"""Disentanglement: whether single units of a code stand for single factors of variation.

Needs images whose factors of variation - shape, position, ... - are known, such as the data set `sprites`. Let a code have J
units z_j and the images K factors v_k, each with a few values.

==================  ============================================  ====================================
measure             question                                      range; of a code that tells nothing
==================  ============================================  ====================================
MIG                 does one unit alone know a factor?            0 to 1; 0
DCI disentangled    is a unit used for one factor only?           0 to 1; about 0
DCI complete        is a factor found in one unit only?           0 to 1; about 0
DCI informative     can forests predict the factors?              0 to 1; the largest share of a value
SAP                 does one unit predict a factor best by far?   0 to 1; about 0
modularity          does a unit tell something of one factor?     0 to 1; depends on noise
explicitness        do linear classifiers find the factors?       0.5 to 1; 0.5
==================  ============================================  ====================================

Sources: Chen et al. 2018, Eastwood & Williams 2018, Kumar et al. 2018, Ridgeway & Mozer 2018; see the modules.
MIG and modularity come from the same mutual informations (binned_information.py), those of DCI from random forests. None
depends on the order of the units or on their scale, all but explicitness and informativeness on the axes of the code: an
isotropic prior does not prefer any axes, so that nothing in the ELBO alone makes a code disentangled (Locatello et al. 2019,
https://arxiv.org/abs/1811.12359, prove it and find that seeds matter more than objectives).

Factors are numbers of values: which number stands for which value matters to the R^2 of SAP alone, and only for factors that
are said to be ordered.
"""

from mpdvae.measures.disentanglement.binned_information import BinnedInformation, information_per_unit
from mpdvae.measures.disentanglement.factored import Factored
from mpdvae.measures.disentanglement.importance import Importance, measure_importance
from mpdvae.measures.disentanglement.information_gap import InformationGap, measure_gap
from mpdvae.measures.disentanglement.modularity import (
    Explicitness,
    Modularity,
    measure_explicitness,
    measure_modularity,
)
from mpdvae.measures.disentanglement.scores import Disentanglement, measure
from mpdvae.measures.disentanglement.separability import Separability, measure_separability

__all__ = [
    "BinnedInformation",
    "Disentanglement",
    "Explicitness",
    "Factored",
    "Importance",
    "InformationGap",
    "Modularity",
    "Separability",
    "information_per_unit",
    "measure",
    "measure_explicitness",
    "measure_gap",
    "measure_importance",
    "measure_modularity",
    "measure_separability",
]
