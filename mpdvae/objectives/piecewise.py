r"""The gradient of an objective on a batch that is too large to pass through the networks at once.

The terms of MAE compare the posteriors of all pairs of images of a batch, so that sums over smaller batches (the usual
accumulation of gradients) would be another objective. But a loss L depends on the networks only through the moments of the
posteriors and the likelihoods,

.. math:: L = L(m, s, \ell), \qquad \ell_i = \log p(x_i|z_i), \quad z_i = m_i + s_i \epsilon_i ,

so that the chain rule gives its exact gradient from pieces of the batch:

1. m, s and l of all images, piece by piece, without gradients;
2. L and its gradient with respect to m, s (through z, too, where L depends on it directly) and l, and to the prior;
3. each piece again, with gradients, backpropagating its part of what step 2 found.

Only one piece's activations are in memory. The price is a second forward pass, about a third of a step. The loss is that of
the whole batch, with the same noise; networks that draw noise of their own (dropout) draw it piece by piece, the same both
times. The idea is that of Gao, Zhang, Han & Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", 2021, https://arxiv.org/abs/2101.06983.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.seeding import seeded
from mpdvae.system.batch_sharding import is_divided
from mpdvae.vae import VAE, Estimator


class PiecewisePass(ForwardPass):
    """A forward pass whose networks see so many images at once; its arguments are those of `ForwardPass`.

    Raises:
        InputError: for fewer than one image at once, or if several processes share the batch.
    """

    def __init__(
        self,
        vae: VAE,
        x: Float[Tensor, "batch channel height width"],
        samples: int,
        noise: bool,
        estimator: Estimator,
        images_at_once: int,
    ) -> None:
        if images_at_once < 1:
            raise InputError(f"images_at_once: expected a number >= 1, got {images_at_once}.")
        if is_divided():
            raise InputError("images_at_once: several processes divide the batch already; leave it out.")
        self.rows = [slice(i, i + images_at_once) for i in range(0, len(x), images_at_once)]
        self.likelihoods: Tensor | None = None
        super().__init__(vae, x, samples, noise, estimator)

    def backward(self, loss: Float[Tensor, ""], moving: list[nn.Parameter]) -> None:
        leaves = [self.mean, self.scale, *([] if self.likelihoods is None else [self.likelihoods])]
        loss.backward(inputs=[*moving, *leaves])
        for number, rows in enumerate(self.rows):
            outputs = self._piece(number, rows)
            gradients = [self.mean.grad, self.scale.grad, None if self.likelihoods is None else self.likelihoods.grad]
            parts = [None if g is None else g[rows] if i < 2 else g[:, rows] for i, g in enumerate(gradients)]
            used = [(output, part) for output, part in zip(outputs, parts, strict=True) if part is not None]
            torch.autograd.backward([output for output, _ in used], [part for _, part in used], inputs=list(moving))

    def _piece(self, number: int, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Returns means, standard deviations and log-likelihoods of a piece, with gradients."""
        with _noise_of("encoder", number):
            normal = diagonal_normal(self.vae.encoder(self.x[rows]))
        z = normal.loc + normal.scale * self.epsilon[:, rows]
        with _noise_of("decoder", number):
            return normal.loc, normal.scale, self.vae.decoder(z).log_prob(self.x[rows])

    def _encoded(self) -> Distribution:
        means, scales = [], []
        with torch.no_grad():
            for number, rows in enumerate(self.rows):
                with _noise_of("encoder", number):
                    normal = diagonal_normal(self.vae.encoder(self.x[rows]))
                means.append(normal.loc)
                scales.append(normal.scale)
        self.mean, self.scale = (torch.cat(parts).requires_grad_() for parts in (means, scales))
        return diagonal_gaussian(self.mean, self.scale)

    def _codes(self, samples: int, noise: bool) -> Tensor:
        draw = torch.randn if noise else torch.zeros
        shape = (samples if noise else 1, *self.mean.shape)
        self.epsilon = draw(shape, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + self.scale * self.epsilon

    def _log_likelihood_of_own(self) -> Tensor:
        found = []
        with torch.no_grad():
            for number, rows in enumerate(self.rows):
                with _noise_of("decoder", number):
                    found.append(self.vae.decoder(self.own_z[:, rows]).log_prob(self.x[rows]))
        self.likelihoods = torch.cat(found, 1).requires_grad_()
        return self.likelihoods


@contextmanager
def _noise_of(part: str, number: int) -> Iterator[None]:
    """Gives the noise of a network, for a piece, to both of its passes; the noise of z does not depend on it."""
    with seeded(torch.initial_seed(), part, number):
        yield
