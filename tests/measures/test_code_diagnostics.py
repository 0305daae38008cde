"""Diagnostics against torch's divergences, brute-force loops, and posteriors whose information is known."""

import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

from mpdvae.divergence import mutual_posterior_divergence
from mpdvae.errors import InputError, RunError
from mpdvae.measures import collapse
from mpdvae.measures.code_diagnostics import (
    Diagnostics,
    idle_units,
    information_per_dimension,
    measure,
    mutual_information,
)
from mpdvae.seeding import seeded
from mpdvae.vae import VAE


class Encoder(nn.Module):
    """Reads the posterior off the image: the first row is the mean, the second the standard deviation."""

    def forward(self, x: Tensor) -> Distribution:
        return Independent(Normal(x[:, 0, 0], x[:, 0, 1], validate_args=False), 1)


class Prior(nn.Module):
    def __init__(self, law: Distribution) -> None:
        super().__init__()
        self.law = law

    def forward(self) -> Distribution:
        return self.law


def gaussian_prior(latent: int) -> Independent:
    return Independent(Normal(torch.full((latent,), 0.3), torch.full((latent,), 1.5)), 1)


def model(law: Distribution) -> VAE:
    return VAE(Encoder(), nn.Identity(), Prior(law))


def posteriors(images: int, latent: int, spread: float = 1.0) -> Independent:
    with seeded("posteriors", images, latent):
        mean = spread * torch.randn(images, latent, dtype=torch.float64)
        stddev = 0.3 + torch.rand(images, latent, dtype=torch.float64)
    return Independent(Normal(mean, stddev), 1)


def as_images(q: Independent) -> Tensor:
    return torch.stack([q.mean, q.stddev], 1)[:, None]


def test_measure_gathers_all_over_the_whole_set():
    q = posteriors(50, 4)
    prior = gaussian_prior(4)
    d = measure(model(prior), as_images(q), batch_size=7)
    oracle = kl_divergence(Normal(q.mean, q.stddev), Normal(0.3, 1.5)).mean(0)
    torch.testing.assert_close(d.kl_per_dimension, oracle, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(d.kl_per_dimension.sum(), kl_divergence(q, prior).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(d.information_per_dimension, information_per_dimension(q))
    mpd = mutual_posterior_divergence(q)
    assert (d.mpd_mean, d.mpd_std) == pytest.approx((mpd.mean.item(), mpd.std.item()))
    torch.testing.assert_close(d.mpd_per_dimension, mpd.per_dimension)
    assert d.bracket.lower == pytest.approx(mutual_information(q))
    assert d.bracket.ceiling == pytest.approx(math.log(50))
    assert (d.images, d.latent_dim, d.active_units) == (50, 4, 4)
    assert d.verdict == collapse.judge(0, 4, d.bracket.lower.nats, math.log(50)).sentence
    assert d.judged(0.01).word == "collapsed"
    again = measure(model(prior), as_images(q), batch_size=50)
    assert again.to_dict() == d.to_dict()


def test_modes_come_back():
    vae = model(gaussian_prior(2)).train()
    vae.encoder.eval()
    measure(vae, as_images(posteriors(3, 2)))
    assert vae.training
    assert not vae.encoder.training


def test_a_prior_that_is_no_gaussian_has_no_kl_per_dimension():
    components = Independent(Normal(torch.randn(5, 3), torch.ones(5, 3)), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(5)), components)
    d = measure(model(mixture), as_images(posteriors(10, 3)))
    assert d.kl_per_dimension is None
    assert d.to_dict()["kl_per_dimension_nats"] is None


def test_latent_maps_are_flattened():
    q = posteriors(20, 6)

    class MapEncoder(Encoder):
        def forward(self, x: Tensor) -> Distribution:
            return Independent(Normal(x[:, 0, 0].unflatten(1, (1, 2, 3)), x[:, 0, 1].unflatten(1, (1, 2, 3))), 3)

    prior = Independent(Normal(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)), 3)
    d = measure(VAE(MapEncoder(), nn.Identity(), Prior(prior)), as_images(q))
    torch.testing.assert_close(d.information_per_dimension, information_per_dimension(q))
    assert d.kl_per_dimension is not None
    assert d.kl_per_dimension.shape == (6,)


def test_information_is_the_divergence_from_the_best_gaussian():
    q = posteriors(300, 3)
    base = Normal(q.mean, q.stddev)
    information = information_per_dimension(q)
    aggregate = Normal(q.mean.mean(0), (q.variance.mean(0) + q.mean.var(0, correction=0)).sqrt())
    torch.testing.assert_close(information, kl_divergence(base, aggregate).mean(0))
    for loc, scale in ((0.1, 1.0), (0.0, 1.05), (-0.1, 0.95)):
        other = Normal(aggregate.loc + loc, aggregate.scale * scale)
        assert (kl_divergence(base, other).mean(0) > information).all()


def test_information_bounds_the_mutual_information_of_a_unit():
    for spread in (0.3, 1.0, 5.0):
        q = posteriors(1000, 1, spread)
        estimate, error = mutual_information(q)
        assert estimate < information_per_dimension(q).item() + 4 * error


def test_nothing_is_carried_at_collapse():
    q = Independent(Normal(torch.full((40, 5), 1e3), torch.full((40, 5), 0.7)), 1)
    assert information_per_dimension(q).max() == 0
    assert mutual_information(q)[0] == pytest.approx(0, abs=1e-9)
    d = measure(model(gaussian_prior(5)), as_images(q))
    assert d.active_units == 0
    assert not d.bracket.saturated
    assert d.judged().word == "collapsed"
    assert "5 of 5 units carry less than 0.01 nats" in d.verdict


def test_mutual_information_of_separate_posteriors_is_the_ceiling():
    mean = 1e4 * torch.arange(64, dtype=torch.float64)[:, None] + 1e7
    q = Independent(Normal(mean, torch.ones(64, 1, dtype=torch.float64)), 1)
    assert mutual_information(q) == pytest.approx((math.log(64), 0), abs=1e-6)
    d = measure(model(gaussian_prior(1)), as_images(q))
    assert d.bracket.saturated
    assert d.to_dict()["mutual_information_saturated"] is True


@pytest.mark.parametrize("pairs_at_once", [1, 100, 2**19])
def test_mutual_information_against_a_double_loop(monkeypatch, pairs_at_once):
    monkeypatch.setattr("mpdvae.measures.aggregate_posterior.ELEMENTS_AT_ONCE", pairs_at_once)
    q = posteriors(30, 3)
    drawn: list[Tensor] = []
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: drawn.append(randn(*a, **k)) or drawn[-1])
    value, error = mutual_information(q, seed=3)
    z = q.mean + q.stddev * drawn[0]
    terms = []
    for i in range(30):
        densities = [Normal(q.mean[j], q.stddev[j]).log_prob(z[i]).sum().exp().item() for j in range(30)]
        terms.append(math.log(densities[i]) - math.log(sum(densities) / 30))
    assert value == pytest.approx(sum(terms) / 30, rel=1e-10)
    assert error == pytest.approx(torch.tensor(terms).std().item() / math.sqrt(30), rel=1e-5)


def test_mutual_information_of_two_gaussians_is_that_of_the_channel():
    # z = m + noise with m ~ N(0, 1) and noise of variance 1/3: I = 1/2 log(1 + 3) = log 2.
    with seeded("channel"):
        mean = torch.randn(3000, 1, dtype=torch.float64)
    q = Independent(Normal(mean, torch.full_like(mean, 3**-0.5)), 1)
    value, error = mutual_information(q)
    assert value == pytest.approx(math.log(2), abs=4 * error + 0.01)
    assert information_per_dimension(q).item() == pytest.approx(math.log(2), abs=0.05)


def test_results_are_ready_for_json():
    d = measure(model(gaussian_prior(2)), as_images(posteriors(10, 2)))
    parsed = json.loads(json.dumps(d.to_dict(), allow_nan=False))
    assert set(parsed) == {
        "mutual_information_nats",
        "mutual_information_standard_error_nats",
        "mutual_information_ceiling_nats",
        "mutual_information_saturated",
        "mutual_information_upper_nats",
        "mutual_information_upper_standard_error_nats",
        "mpd_per_dimension_nats",
        "mpd_mean_nats",
        "mpd_std_nats",
        "active_units",
        "active_units_by_variance",
        "idle_units",
        "kl_per_dimension_nats",
        "information_per_dimension_nats",
        "latent_dim",
        "images",
        "verdict",
    }
    assert isinstance(d, Diagnostics)
    with pytest.raises(AttributeError):
        d.images = 3


def test_units_are_counted_below_the_threshold():
    assert idle_units(torch.tensor([0.001, 0.0099, 0.01, 1.0])) == 2
    assert idle_units(torch.tensor([0.3, 2.0]), threshold=0.5) == 1
    with pytest.raises(InputError, match="information_per_dimension: unit 1 of 2 is not a number"):
        idle_units(torch.tensor([1.0, math.nan]))


def test_bad_input_gets_a_sentence():
    vae = model(gaussian_prior(2))
    x = as_images(posteriors(5, 2))
    with pytest.raises(InputError, match=r"x: expected images .* at least 2, got shape \(1, 1, 2, 2\)"):
        measure(vae, x[:1])
    with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
        measure(vae, x, batch_size=0)
    broken = x.clone()
    broken[3, 0, 0, 1] = math.nan
    with pytest.raises(RunError, match=r"the posterior of image 3 is not finite \(1 of 5 are not\)"):
        measure(vae, broken, batch_size=2)
