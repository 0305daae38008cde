"""Configuration of the objective: its terms and their weights.

Its `build` method makes the objective; torch is imported only there. The theory is in `mpdvae.objectives.terms`,
`mpdvae.objectives.aggregate_terms` and `mpdvae.objectives.latent_reconstruction`. What was built in Python becomes a
configuration in `mpdvae.experiments.objective_in_python`.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SerializeAsAny, WrapValidator, model_validator

from mpdvae.distributions.pixel_values import PixelValues
from mpdvae.experiments.decoder_config import DecoderConfig
from mpdvae.experiments.encoder_config import EncoderConfig
from mpdvae.experiments.fields import Config, Count, GrownConfig, Nats, Weight
from mpdvae.experiments.head_config import BY_BATCH
from mpdvae.experiments.kl_weight_config import ADAPTIVE, ConstantWeight, KLWeightConfig
from mpdvae.experiments.own_part_configs import OwnEncoder, OwnPart, OwnRegulariser
from mpdvae.experiments.own_parts import own_or_builtin
from mpdvae.experiments.prior_config import PriorConfig

if TYPE_CHECKING:
    from mpdvae.objectives.terms import Objective, Term


class NoRegulariser(Config):
    """No regulariser of the user's."""

    kind: Literal["none"] = "none"


Regulariser = SerializeAsAny[Annotated[NoRegulariser, WrapValidator(own_or_builtin("regulariser"))]]


class ObjectiveConfig(GrownConfig):
    """The terms of the loss, in nats per image; a weight of 0 leaves its term out."""

    later = frozenset(
        {
            "latent_reconstruction_weight",
            "density_gap_weight",
            "density_gap_over",
            "elbo_terms",
            "further_regularisers",
        }
    )

    diversity_weight: Weight = 0.0
    """The paper's eta: makes posteriors differ in every latent dimension."""
    smoothness_weight: Weight = 0.0
    """The paper's gamma: makes the pairwise divergences similar."""
    mpd_form: Literal["released", "paper", "submitted"] = "released"
    """Form of the diversity term; see mpdvae/divergence.py."""
    smoothness_over: Literal["total", "dimensions"] = "total"
    """Spread of the total divergence (released code), or the sum of the spreads of each dimension."""
    kl_weight: Annotated[KLWeightConfig, Field(discriminator="kind")] = ConstantWeight()
    free_bits_nats: Nats = 0.0
    """Floor of the batch mean of the total KL (released code)."""
    free_bits_per_dimension_nats: Nats = 0.0
    """Floor of the batch mean of each dimension's KL; standard-normal prior only."""
    mmd_weight: Weight = 0.0
    """InfoVAE: alpha + lambda - 1, weight of the squared MMD of aggregate posterior and prior; kl_weight is 1 - alpha."""
    mmd_kernel: Literal["imq", "rbf"] = "imq"
    total_correlation_weight: Weight = 0.0
    """beta-TC-VAE: beta - 1, weight of the aggregate posterior's total correlation in addition to its part in the KL."""
    mpd_weight: Weight = 0.0
    """Mutual posterior divergence as a plain loss, subtracted; diversity_weight is the paper's bounded form."""
    mpd_limit_nats: Annotated[float, Field(gt=0)] = 100.0
    """Limit above which the plain divergence no longer counts."""
    latent_reconstruction_weight: Weight = 0.0
    """Weight of the squared distance between a code and the encoding of its decoded image; 0.5 is in nats."""
    density_gap_weight: Weight = 0.0
    """DG-VAE: weight of KL(q(z) || p(z)) of the batch's aggregate posterior; with kl_weight 0, in place of the KL."""
    density_gap_over: Literal["dimensions", "total"] = "dimensions"
    """Sum of the KL of each dimension of the aggregate posterior (standard-normal prior only), or the KL of the whole."""
    importance_weighted: bool = False
    """IWAE: the importance-weighted bound of all samples instead of reconstruction and KL."""
    samples: Count = 1
    """Draws of z per image (L of Kingma & Welling; k of IWAE)."""
    estimator: Literal["analytic-if-possible", "generic"] = "analytic-if-possible"
    autoencoder: bool = False
    """No noise and no KL: a plain autoencoder."""
    regulariser: Regulariser = NoRegulariser()
    """A term of the user's, see `mpdvae.experiments.own_parts`."""
    further_regularisers: tuple[Regulariser, ...] = ()
    """More of them, where `mpdvae.fit` was given several; the command line has no option for these."""
    elbo_terms: Literal["both", "reconstruction", "kl", "none"] = "both"
    """Terms of the ELBO that are in the loss; regularisers of the user's may take the place of the others."""

    @model_validator(mode="after")
    def _autoencoder_is_alone(self) -> "ObjectiveConfig":
        if self.autoencoder and self.model_copy(update={"autoencoder": False}) != ObjectiveConfig():
            raise ValueError("autoencoder: has only a reconstruction term; leave the other fields at their defaults")
        return self

    @model_validator(mode="after")
    def _importance_weighted_has_no_kl(self) -> "ObjectiveConfig":
        if not self.importance_weighted:
            return self
        if self.samples < 2:
            raise ValueError(
                f"importance_weighted: with {self.samples} sample the bound is the ELBO; set samples to 2 or more"
            )
        without_kl = ("kl_weight", "free_bits_nats", "free_bits_per_dimension_nats", "estimator")
        changed = [name for name in without_kl if getattr(self, name) != type(self).model_fields[name].default]
        if changed:
            raise ValueError(f"importance_weighted: the bound has no KL of its own; leave {changed[0]} at its default")
        return self

    @model_validator(mode="after")
    def _elbo_is_whole_or_replaced(self) -> "ObjectiveConfig":
        if self.elbo_terms == "both":
            return self
        if self.importance_weighted:
            raise ValueError("elbo_terms: the importance-weighted bound has neither of them; leave it at its default")
        if self.elbo_terms != "reconstruction" and not self.own_terms:
            raise ValueError(
                f"elbo_terms: {self.elbo_terms} leaves out the reconstruction, and no term of your own replaces it; choose a "
                "regulariser, or both"
            )
        kl = ("kl_weight", "free_bits_nats", "free_bits_per_dimension_nats")
        changed = [name for name in kl if getattr(self, name) != type(self).model_fields[name].default]
        if self.elbo_terms != "kl" and changed:
            raise ValueError(
                f"elbo_terms: {self.elbo_terms} leaves out the KL; leave {changed[0]} at its default, or choose both or kl"
            )
        return self

    @model_validator(mode="after")
    def _own_terms_have_names(self) -> "ObjectiveConfig":
        kinds = [part.kind for part in self.own_terms]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise ValueError(
                f"further_regularisers: two terms are called {twice[0]}, which is their column in the learning curves; give "
                "their functions different names"
            )
        return self

    @model_validator(mode="after")
    def _one_floor(self) -> "ObjectiveConfig":
        if self.kl_weight.kind in ADAPTIVE and max(self.free_bits_nats, self.free_bits_per_dimension_nats) > 0:
            raise ValueError(
                f"kl_weight: {self.kl_weight.kind} controls the KL itself; set the free-bits floors to 0, or the kind to "
                "constant"
            )
        return self

    @property
    def last_kl_weight(self) -> float | None:
        """Weight of the KL at the end of training; None if it adapts, or if the loss is no reconstruction and KL."""
        if self.kl_weight.kind in ADAPTIVE or self.importance_weighted or self.autoencoder:
            return None
        if self.elbo_terms != "both":
            return None
        return self.kl_weight.value if isinstance(self.kl_weight, ConstantWeight) else 1.0

    @property
    def own_terms(self) -> list[OwnRegulariser]:
        """The terms that code of the user's computes."""
        parts = (self.regulariser, *self.further_regularisers)
        return [part for part in parts if isinstance(part, OwnRegulariser)]

    def check_parts(
        self,
        encoder: EncoderConfig | OwnEncoder,
        decoder: DecoderConfig | OwnPart,
        prior: PriorConfig | OwnPart,
        values: PixelValues,
    ) -> None:
        """Raises `ValueError` for a term that cannot be computed with these parts and such values of pixels."""
        if prior.kind != "standard-normal":
            needs = f"needs a factorised prior (standard-normal), got {prior.kind}"
            if self.free_bits_per_dimension_nats > 0:
                raise ValueError(f"objective.free_bits_per_dimension_nats: {needs}; use objective.free_bits_nats")
            if self.density_gap_weight > 0 and self.density_gap_over == "dimensions":
                raise ValueError(f"objective.density_gap_over: dimensions {needs}; set it to total")
        if self.latent_reconstruction_weight > 0:
            _check_encoding_again(encoder, decoder, values)

    def build(self) -> "Objective":
        from mpdvae.objectives import terms as o

        if self.autoencoder:
            return o.Objective({"reconstruction": o.reconstruction}, noise=False)
        if self.importance_weighted:
            terms: dict[str, o.Term] = {"importance_weighted": o.importance_weighted}
            return o.Objective(terms | self._regularisers(), self.samples)
        weight = self.kl_weight.build()
        kl = o.KL(weight, self.free_bits_nats, self.free_bits_per_dimension_nats)
        elbo: dict[str, o.Term] = {"reconstruction": o.reconstruction, "kl": kl}
        terms = {name: term for name, term in elbo.items() if self.elbo_terms in ("both", name)} | self._regularisers()
        adaptive = weight if isinstance(weight, o.AdaptiveWeight) else None
        return o.Objective(terms, self.samples, estimator=self.estimator, adaptive=adaptive)

    def _regularisers(self) -> "dict[str, Term]":
        """Returns the terms beyond the bound on the likelihood, by name; terms of weight 0 are left out."""
        from mpdvae.objectives import aggregate_terms as a
        from mpdvae.objectives import terms as o
        from mpdvae.objectives.latent_reconstruction import LatentReconstruction

        terms: dict[str, Term] = {}
        if self.diversity_weight > 0:
            terms["diversity"] = o.Diversity(self.diversity_weight, self.mpd_form)
        if self.smoothness_weight > 0:
            terms["smoothness"] = o.Smoothness(self.smoothness_weight, self.smoothness_over)
        if self.mmd_weight > 0:
            terms["mmd"] = a.MMD(self.mmd_weight, self.mmd_kernel)
        if self.total_correlation_weight > 0:
            terms["total_correlation"] = a.TotalCorrelation(self.total_correlation_weight)
        if self.mpd_weight > 0:
            terms["mpd"] = o.MutualPosteriorDivergence(self.mpd_weight, self.mpd_limit_nats)
        if self.latent_reconstruction_weight > 0:
            terms["latent_reconstruction"] = LatentReconstruction(self.latent_reconstruction_weight)
        if self.density_gap_weight > 0:
            terms["density_gap"] = a.DensityGap(self.density_gap_weight, self.density_gap_over)
        return terms | {part.kind: part.build() for part in self.own_terms}


def _check_encoding_again(
    encoder: EncoderConfig | OwnEncoder, decoder: DecoderConfig | OwnPart, values: PixelValues
) -> None:
    """Raises `ValueError` for parts whose decoded images cannot be encoded again in training."""
    field = "objective.latent_reconstruction_weight"
    if encoder.head.kind in BY_BATCH:
        raise ValueError(
            f"{field}: encodes decoded images, which head {encoder.head.kind} would include in the batch statistics; choose "
            "another head, or set it to 0"
        )
    if encoder.refinement_steps:
        raise ValueError(
            f"{field}: encodes decoded images, which have no likelihood to refine their posteriors by; set "
            "encoder.refinement_steps or it to 0"
        )
    distribution = getattr(decoder, "pixel_distribution", None)  # a decoder of the user's has none
    if distribution is not None and distribution(values) == "discretised-logistic-mixture":
        raise ValueError(
            f"{field}: needs the mean of p(x|z), which pixels of a discretised-logistic-mixture have no formula for; choose "
            "another decoder.pixels, or set it to 0"
        )
