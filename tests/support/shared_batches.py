"""Evaluates every objective and every kind of model on a batch that is sharded among processes, and on the whole batch.

test_batch_sharding.py runs it as each of several processes. Prints as JSON, by case, the largest difference of loss, terms,
gradients and running statistics, relative to the largest value of each.
"""

import copy
import json
import sys
from collections.abc import Callable

import torch
from constructors import DECODERS, ENCODERS, FLOWS, HEADED_ENCODERS, MAP_DECODERS, MAP_ENCODERS, colour_images, shaken
from torch import Tensor

from mpdvae.experiments.kl_weight_config import CyclicalWeight, SoftFreeBitsWeight
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.models.priors import AR1Prior, FlowPrior, StandardNormal, VampPrior
from mpdvae.models.semi_amortised import SemiAmortised
from mpdvae.seeding import seeded
from mpdvae.system import gradient_sums, process_group
from mpdvae.system.batch_sharding import divided, is_divided, own
from mpdvae.vae import VAE

IMAGES, SHAPE, LATENT = 8, (1, 5, 4), 3
MAE = ObjectiveConfig(diversity_weight=2.0, smoothness_weight=0.5)

OBJECTIVES = {
    "elbo": ObjectiveConfig(),
    "several samples, generic": ObjectiveConfig(samples=3, estimator="generic"),
    "beta and free bits": ObjectiveConfig(kl_weight=CyclicalWeight(total_steps=8), free_bits_nats=0.5),
    "free bits per dimension": ObjectiveConfig(free_bits_per_dimension_nats=0.5),
    "soft free bits": ObjectiveConfig(kl_weight=SoftFreeBitsWeight(target_nats=1.0)),
    "autoencoder": ObjectiveConfig(autoencoder=True),
    "importance weighted": ObjectiveConfig(importance_weighted=True, samples=3),
    "mpd": ObjectiveConfig(mpd_weight=0.3),
    "mmd": ObjectiveConfig(mmd_weight=5.0),
    "mmd, rbf": ObjectiveConfig(mmd_weight=5.0, mmd_kernel="rbf"),
    "total correlation": ObjectiveConfig(total_correlation_weight=2.0),
    "density gap of dimensions": ObjectiveConfig(density_gap_weight=2.0, samples=2),
    "density gap of the total": ObjectiveConfig(density_gap_weight=2.0, density_gap_over="total"),
    "latent reconstruction": ObjectiveConfig(latent_reconstruction_weight=2.0, samples=2),
    **{f"diversity, {form}": MAE.model_copy(update={"mpd_form": form}) for form in ("released", "paper", "submitted")},
    "smoothness over dimensions": MAE.model_copy(update={"smoothness_over": "dimensions"}),
    "all terms": MAE.model_copy(
        update={"mpd_weight": 0.1, "mmd_weight": 1.0, "total_correlation_weight": 1.0, "samples": 2}
    ),
}


def plain(encoder: str = "mlp", prior: Callable[[int], torch.nn.Module] | None = None) -> VAE:
    encode = (ENCODERS | HEADED_ENCODERS)[encoder].build(SHAPE, LATENT)
    return VAE(encode, DECODERS["mlp"].build(SHAPE, LATENT), prior(LATENT) if prior else StandardNormal((LATENT,)))


def vamp() -> VAE:
    encoder = ENCODERS["mlp"].build(SHAPE, LATENT)
    return VAE(encoder, DECODERS["mlp"].build(SHAPE, LATENT), VampPrior(encoder, SHAPE, 4))


def refined() -> VAE:
    vae = plain()
    return VAE(SemiAmortised(vae.encoder, vae.decoder, vae.prior, 2, 0.1), vae.decoder, vae.prior)


def maps() -> VAE:
    """A model whose codes are maps, with dropout in a PixelCNN++."""
    encoder, decoder = MAP_ENCODERS["colour-resnet-2"][1], MAP_DECODERS["pixelcnn++-2"][1]
    return VAE(encoder.build((3, 4, 6), 4), decoder.build((3, 4, 6), 4), StandardNormal((4, 2, 3)))


MODELS: dict[str, Callable[[], VAE]] = {
    **{f"head {name}": lambda name=name: plain(name) for name in HEADED_ENCODERS},
    "flow prior": lambda: plain(prior=lambda n: FlowPrior(FLOWS["affine"](n), (n,))),
    "AR(1) prior": lambda: plain(prior=lambda n: AR1Prior((n,), 0.6)),
    "VampPrior": vamp,
    "refined posteriors": refined,
    "maps": maps,
}

CASES = {name: (plain, objective) for name, objective in OBJECTIVES.items()} | {
    name: (model, OBJECTIVES["all terms"]) for name, model in MODELS.items()
}


def outcome(vae: VAE, config: ObjectiveConfig, x: Tensor, images: int) -> dict[str, Tensor]:
    """Returns everything that a training step computes from a batch `x` of `images` images."""
    vae.train()
    objective = config.build()
    with seeded(0, "noise"), divided(images):
        assert is_divided() == (process_group.world() > 1)
        loss = objective(vae, own(x), step=3)
    moving = list(vae.parameters())
    gradient_sums.backward(loss.total, moving)
    objective.adapt(loss)
    found = {f"term {name}": value.detach() for name, value in loss.terms.items()}
    found |= {f"gradient {name}": p.grad for name, p in vae.named_parameters() if p.grad is not None}
    found |= {f"state {name}": buffer for name, buffer in vae.named_buffers()}
    return found | {f"adapted {name}": torch.tensor(value) for name, value in objective.state.items()}


def alone(vae: VAE, config: ObjectiveConfig, x: Tensor) -> dict[str, Tensor]:
    """Returns the same, computed by a single process."""
    with process_group._at(process_group.Place()):
        return outcome(vae, config, x, len(x))


def difference(build: Callable[[], VAE], config: ObjectiveConfig) -> float:
    torch.manual_seed(0)
    vae = shaken(build().double())
    x = colour_images(IMAGES, 3, 4, 6).double() if build is maps else torch.randint(2, (IMAGES, *SHAPE)).double()
    expected = alone(copy.deepcopy(vae), config, x)
    found = outcome(vae, config, x, len(x))
    assert found.keys() == expected.keys()
    scale = max(value.abs().max().item() for name, value in expected.items() if name.startswith("gradient"))
    return max(
        ((found[name].double() - value.double()).abs().max() / max(scale, 1e-12)).item()
        if name.startswith("gradient")
        else ((found[name].double() - value.double()).abs() / value.double().abs().clamp_min(1e-12)).max().item()
        for name, value in expected.items()
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    gradient_sums.MESSAGE_BYTES = 512  # several messages, even of these small models
    with process_group.joined():
        assert process_group.world() == 3
        assert process_group.agree(7)
        assert not process_group.agree(process_group.rank())
        json.dump({name: difference(*case) for name, case in CASES.items()}, sys.stdout)
