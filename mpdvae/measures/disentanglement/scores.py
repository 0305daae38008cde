"""All measures of disentanglement of one set of codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpdvae.measures.disentanglement.binned_information import BINS, BinnedInformation, information_per_unit
from mpdvae.measures.disentanglement.factored import Factored, check_names, checked_both
from mpdvae.measures.disentanglement.importance import Importance, measure_importance
from mpdvae.measures.disentanglement.information_gap import InformationGap, gap_of
from mpdvae.measures.disentanglement.modularity import Explicitness, Modularity, measure_explicitness, modularity_of
from mpdvae.measures.disentanglement.separability import Separability, measure_separability
from mpdvae.measures.tables import Table, array_of


@dataclass(frozen=True)
class Disentanglement:
    """The measures of the package, each as its module defines it."""

    names: tuple[str, ...]
    """Names of the factors."""
    train_images: int
    test_images: int
    information: BinnedInformation
    mig: InformationGap
    dci: Importance
    sap: Separability
    modularity: Modularity
    explicitness: Explicitness

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers for JSON, by name of the factor."""
        entropy = dict(zip(self.names, self.information.entropy.tolist(), strict=True))
        return {
            "factors": list(self.names),
            "train_images": self.train_images,
            "test_images": self.test_images,
            "mig": self.mig.to_dict(self.names),
            "dci": self.dci.to_dict(self.names),
            "sap": self.sap.to_dict(self.names),
            "modularity": self.modularity.to_dict(),
            "explicitness": self.explicitness.to_dict(self.names),
            "information_nats": self.information.information.tolist(),
            "entropy_nats": entropy,
        }


def measure(
    train_codes: Table,
    train_factors: Table,
    test_codes: Table,
    test_factors: Table,
    names: Sequence[str] | None = None,
    ordered: Sequence[bool] | None = None,
    bins: int = BINS,
    seed: int = 0,
) -> Disentanglement:
    """Computes all measures: MIG, DCI, SAP, modularity and explicitness. Codes and factors are arrays, tensors or lists.

    Arguments:
        train_codes: codes [image unit] that predictors are trained on.
        train_factors: numbers of the values of the factors of the training images, as integers [image factor].
        test_codes: codes on which predictors are scored, and of which MIG and modularity are measured.
        test_factors: numbers of the values of the factors of the test images, as integers.
        names: names of the factors; None: "0", "1", ...
        ordered: for each factor, whether its numbers are steps of a quantity, which SAP distinguishes; None: none is.
        bins: number of bins of equal width into which MIG and modularity cut each unit.
        seed: seed of the random forests of DCI.

    Raises:
        InputError: for codes and factors that do not match, fewer than two units or factors, non-finite codes, a factor with
            a single value, values that only one set has, or too few images.
    """
    train = Factored(array_of(train_codes, "train_codes"), array_of(train_factors, "train_factors"))
    test = Factored(array_of(test_codes, "test_codes"), array_of(test_factors, "test_factors"))
    train, test = checked_both(train, test)
    count = train.factors.shape[1]
    names = tuple(map(str, range(count)) if names is None else names)
    kinds = [False] * count if ordered is None else list(ordered)
    check_names(names, kinds, count)
    known = information_per_unit(test, bins)
    return Disentanglement(
        names=names,
        train_images=len(train.codes),
        test_images=len(test.codes),
        information=known,
        mig=gap_of(known),
        dci=measure_importance(train, test, seed),
        sap=measure_separability(train, test, kinds),
        modularity=modularity_of(known),
        explicitness=measure_explicitness(train, test),
    )


measure_disentanglement = measure
"""Name of `measure` in `mpdvae.measures`."""
