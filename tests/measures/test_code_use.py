"""Use of the code on decoders that use known dimensions of it, or none."""

import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from mpdvae.errors import InputError, RunError
from mpdvae.measures.code_use import increase_by_another, measure
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE


class Encoder(nn.Module):
    """Mean: the pixels; standard deviation `stddev`."""

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def forward(self, x: Tensor) -> Distribution:
        z = x.flatten(1)
        return Independent(Normal(z, torch.full_like(z, self.stddev), validate_args=False), 1)


class Decoder(nn.Module):
    """Pixel k is N(`use`_k z_k, 1)."""

    def __init__(self, use: tuple[float, ...]) -> None:
        super().__init__()
        self.use = torch.tensor(use)

    def forward(self, z: Tensor) -> Distribution:
        mean = (z * self.use).unflatten(-1, (1, 1, len(self.use)))
        return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 3)


def model(*use: float, stddev: float = 1e-4) -> VAE:
    return VAE(Encoder(stddev), Decoder(use), StandardNormal((len(use),)))


def test_squared_errors_of_a_linear_decoder():
    """-log p = |x - use z|^2 / 2 + constant, so that every increase has a closed form."""
    x = 3 * torch.randn(400, 1, 1, 3) + 1
    use = measure(model(1.0, 0.5, 0.0), x)
    pixels = x.flatten(1).double()
    constant = 1.5 * math.log(2 * math.pi)
    assert use.own.mean().item() == pytest.approx((0.125 * pixels[:, 1] ** 2 + pixels[:, 2] ** 2 / 2).mean() + constant)
    away = (pixels[:, 0] - pixels[:, 0].mean()).square().mean() / 2
    averaged = use.averaged_increase.mean(1)
    assert averaged[0].item() == pytest.approx(away.item(), rel=1e-3)
    assert averaged[2].item() == 0
    swapped = use.swapped_increase.mean(1)
    assert swapped[0].item() == pytest.approx(2 * away.item(), rel=0.2)
    assert swapped[2].item() == 0
    together = use.averaged_increase.sum(0) + use.own
    torch.testing.assert_close(use.mean, together, rtol=1e-4, atol=1e-4)


def test_another_code_is_that_of_another_image():
    x = torch.arange(7.0)[:, None, None, None].expand(7, 1, 1, 2).contiguous()
    use = measure(model(1.0, 1.0), x)
    assert (use.another - use.own > 0.9).all()
    torch.testing.assert_close(use.swapped_increase.sum(0), use.another - use.own, rtol=1e-3, atol=1e-3)


def test_an_evaluation_point_sees_what_the_end_sees():
    """The same circle and the same draws, whether the other codes are tried or not."""
    vae, x = model(1.0, 0.3, stddev=0.5), torch.randn(23, 1, 1, 2)
    use = measure(vae, x, seed=4)
    assert torch.equal(increase_by_another(vae, x, seed=4), use.another - use.own)


def test_a_decoder_that_ignores_the_code_has_one_distortion():
    use = measure(model(0.0, 0.0), torch.randn(20, 1, 1, 2))
    for other in (use.another, use.prior, use.mean):
        torch.testing.assert_close(other, use.own, rtol=0, atol=0)
    assert use.swapped_increase.abs().max() == use.averaged_increase.abs().max() == 0


def test_batches_change_nothing_and_draws_are_a_function_of_the_seed():
    vae, x = model(1.0, 0.3, stddev=0.5).train(), torch.randn(23, 1, 1, 2)
    whole = measure(vae, x).to_dict()
    assert measure(vae, x, batch_size=5).to_dict()["distortion_nats"] == whole["distortion_nats"]
    assert measure(vae, x, seed=1).to_dict() != whole
    assert vae.training
    assert whole["images"] == 23
    json.dumps(whole, allow_nan=False)


def test_a_dimension_of_a_map_is_a_channel():
    class MapEncoder(nn.Module):
        def forward(self, x: Tensor) -> Distribution:
            z = torch.cat([x, -x], 1)
            return Independent(Normal(z, 0.01 * torch.ones_like(z)), 3)

    class MapDecoder(nn.Module):
        def forward(self, z: Tensor) -> Distribution:
            return Independent(Normal(z[..., :1, :, :], torch.ones_like(z[..., :1, :, :])), 3)

    use = measure(VAE(MapEncoder(), MapDecoder(), StandardNormal((2, 3, 3))), torch.randn(10, 1, 3, 3))
    assert use.swapped_increase.shape == (2, 10)
    torch.testing.assert_close(use.swapped_increase[0], use.another - use.own)
    assert use.swapped_increase[1].abs().max() == 0


def test_bad_input_gets_a_sentence():
    x = torch.randn(5, 1, 1, 2)
    with pytest.raises(InputError, match=r"x: expected images .* at least 2, got shape \(1, 1, 1, 2\)"):
        measure(model(1.0, 1.0), x[:1])
    with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
        measure(model(1.0, 1.0), x, batch_size=0)
    broken = x.clone()
    broken[3] = math.nan
    with pytest.raises(RunError, match="the posterior of image 3 is not finite"):
        measure(model(1.0, 1.0), broken)
    with pytest.raises(RunError, match=r"the distortion of image 0 is not finite \(5 of 5 are not\)"):
        measure(model(math.nan, 1.0), x)
