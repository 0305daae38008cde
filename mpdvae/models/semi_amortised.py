r"""Semi-amortised inference: the encoder's posterior, refined by a few gradient steps on the ELBO of its own image.

With lambda = (m, log s) and z = m + s e for fixed noise e,

.. math:: \lambda_0 = \mathrm{encoder}(x), \qquad \lambda_{t+1} = \lambda_t + \rho\, c_t \nabla_\lambda \Big[
          \log p(x|z) + \log p(z) + \sum_k \log s_k \Big], \qquad c_t = \min\Big(1, \frac{c}{\lVert \nabla \rVert}\Big),

where the bracket is the image's ELBO up to a constant, with the entropy of q in closed form. Training differentiates
through the steps, so that encoder and decoder learn for the refined posterior (Kim et al., "Semi-Amortized Variational
Autoencoders", ICML 2018, https://arxiv.org/abs/1802.02550; bound c = 5 as there). All uses of q(z|x), evaluation included,
get the refined posterior.

The noise is a pair e, -e: the gradient of m is exact where the ELBO is quadratic. In training it is drawn for each image;
in evaluation it is always the same, so that an image's posterior depends only on the image.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.seeding import derive_seed
from mpdvae.system.batch_sharding import like_all, own
from mpdvae.system.devices import back

GRADIENT_BOUND = 5.0
"""c: bound on the norm of one image's gradient, in nats."""
TINY_NORM = 1e-12


class SemiAmortised(nn.Module):
    """q(z|x) refined by gradient steps.

    Arguments:
        encoder: images -> diagonal Gaussian.
        decoder, prior: of the same VAE, which owns them: they are not part of this module's state.
        steps: gradient steps, >= 1.
        rate: rho, > 0.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module, steps: int, rate: float) -> None:
        super().__init__()
        if steps < 1 or not rate > 0:
            raise InputError(f"refinement: expected steps >= 1 and a rate > 0, got {steps} and {rate}.")
        self.encoder, self.steps, self.rate = encoder, steps, rate
        self._model = (decoder, prior)  # in a tuple, so that they are not registered as submodules

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Distribution:
        q = diagonal_normal(self.encoder(x))
        learning = torch.is_grad_enabled()
        mean, log_deviation = q.loc, q.scale.log()
        noise = self._noise(mean)
        with torch.enable_grad():
            for _ in range(self.steps):
                mean, log_deviation = self._refined(x, mean, log_deviation, noise, learning)
        return diagonal_gaussian(mean, log_deviation.exp())

    def _refined(
        self, x: Tensor, mean: Tensor, log_deviation: Tensor, noise: Tensor, learning: bool
    ) -> tuple[Tensor, Tensor]:
        """The moments after one step."""
        if not (learning and mean.requires_grad):
            mean, log_deviation = mean.detach().requires_grad_(), log_deviation.detach().requires_grad_()
        elbo = self._elbo(x, mean, log_deviation, noise)
        gradients = torch.autograd.grad(elbo.sum(), (mean, log_deviation), create_graph=learning)
        squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
        bound = (GRADIENT_BOUND / squares.sqrt().clamp_min(TINY_NORM)).clamp_max(1).detach()
        step = self.rate * bound.view(-1, *[1] * (mean.ndim - 1))
        moved = mean + step * gradients[0], log_deviation + step * gradients[1]
        return moved if learning else (moved[0].detach(), moved[1].detach())

    def _elbo(self, x: Tensor, mean: Tensor, log_deviation: Tensor, noise: Tensor) -> Float[Tensor, " batch"]:
        """The ELBO of each image up to a constant, in nats."""
        decoder, prior = self._model
        draws = [mean + log_deviation.exp() * e for e in noise]
        joint = torch.stack([decoder(z).log_prob(x) + prior().log_prob(z) for z in draws])
        return joint.mean(0) + log_deviation.flatten(1).sum(1)

    def _noise(self, mean: Tensor) -> Float[Tensor, "two #batch *latent"]:
        if self.training:
            noise = own(torch.randn_like(like_all(mean)))
        else:
            generator = torch.Generator().manual_seed(derive_seed("refinement"))
            noise = torch.randn(1, *mean.shape[1:], generator=generator, dtype=torch.float64)
            noise = back(noise, mean)
        return torch.stack([noise, -noise])

    def extra_repr(self) -> str:
        return f"steps={self.steps}, rate={self.rate:g}"
