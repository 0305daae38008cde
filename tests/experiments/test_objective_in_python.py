"""The configuration of what a configuration builds is that configuration."""

import pytest

from mpdvae.experiments.kl_weight_config import (
    ConstantWeight,
    CyclicalWeight,
    GECOWeight,
    LinearWeight,
    SoftFreeBitsWeight,
)
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.objective_in_python import configuration
from mpdvae.experiments.recipes import all_recipes
from mpdvae.objectives import KL, Objective, reconstruction

WEIGHTS = [
    ConstantWeight(value=0.3),
    LinearWeight(warm_up_steps=7, start=0.2),
    CyclicalWeight(total_steps=9, cycles=3, rising_fraction=0.2),
    SoftFreeBitsWeight(target_nats=2.0, change=0.2, tolerance=0.1),
    GECOWeight(goal_nats=30.0, rate=1e-2, smoothing=0.5),
]
CONFIGURATIONS = [
    *(ObjectiveConfig(kl_weight=weight, samples=2) for weight in WEIGHTS),
    ObjectiveConfig(diversity_weight=1.0, mpd_form="paper", smoothness_weight=0.5, smoothness_over="dimensions"),
    ObjectiveConfig(mmd_weight=3.0, mmd_kernel="rbf", total_correlation_weight=2.0, mpd_weight=0.1, mpd_limit_nats=7.0),
    ObjectiveConfig(latent_reconstruction_weight=0.5, density_gap_weight=0.2, density_gap_over="total"),
    ObjectiveConfig(free_bits_nats=1.0, estimator="generic"),
    ObjectiveConfig(free_bits_per_dimension_nats=0.1),
    ObjectiveConfig(elbo_terms="reconstruction", mmd_weight=1.0),
    ObjectiveConfig(importance_weighted=True, samples=4),
    ObjectiveConfig(autoencoder=True),
]
RECIPES = {recipe.objective.model_dump_json(): recipe.objective for recipe in all_recipes().values()}


@pytest.mark.parametrize("config", [*CONFIGURATIONS, *RECIPES.values()], ids=str)
def test_the_configuration_of_what_is_built_is_the_same(config):
    assert ObjectiveConfig.model_validate(configuration(config.build())) == config


def test_terms_are_known_by_what_they_are_not_by_their_names():
    objective = Objective({"fit": reconstruction, "rate": KL()})
    assert ObjectiveConfig.model_validate(configuration(objective)) == ObjectiveConfig()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"elbo_terms": "none"}, "elbo_terms: none leaves out the reconstruction, and no term"),
        (
            {"elbo_terms": "reconstruction", "free_bits_nats": 1.0},
            "leaves out the KL; leave free_bits_nats at its default",
        ),
        ({"elbo_terms": "reconstruction", "importance_weighted": True, "samples": 2}, "bound has neither of them"),
    ],
)
def test_what_is_left_out_of_the_elbo_is_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig.model_validate(fields)
