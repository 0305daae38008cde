"""What a report says of the codes during training."""

import pytest

from mpdvae.report.schema import Probed

RATIOS = [
    ({"reconstruction": 2.0, "kl": 1.0, "total": 9.0}, 2.0),
    ({"reconstruction": 2.0, "kl": 1.0, "diversity": 4.0, "total": 0.0}, 0.5),
    ({"reconstruction": 2.0, "kl": 0.0, "diversity": 0.01, "total": 2.0}, None),  # the KL may pull harder than 0.01
    ({"reconstruction": 0.0, "kl": 1.0, "total": 1.0}, None),
    ({"reconstruction": 2.0, "kl": None, "total": 1.0}, None),
    ({"reconstruction": 2.0, "total": 2.0}, None),
    ({"kl": 1.0, "total": 1.0}, None),
    ({}, None),
]


@pytest.mark.parametrize(("norms", "ratio"), RATIOS)
def test_the_ratio_of_gradients_is_unknown_where_a_norm_is_lost_in_its_noise(norms, ratio):
    assert Probed(gradient_norms=norms).pull_ratio == ratio
