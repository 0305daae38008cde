"""Laws that hold for everything in the table: shapes, gradients, precision, saving, refusals, repr."""

import math

import pytest
import torch
from constructors import (
    DECODERS,
    ENCODERS,
    FLOWS,
    MAP_CHANNELS,
    MAP_DECODERS,
    MAP_ENCODERS,
    MAP_FLOWS,
    PRIORS,
    binary_images,
    by_name,
    colour_images,
    shaken,
    with_maps,
    with_refusals,
    with_shapes,
)
from torch import nn

from mpdvae.errors import InputError
from mpdvae.models.priors import FlowPrior, StandardNormal

LATENT = 3
LEADING = [(), (5,), (3, 5)]
encoders = pytest.mark.parametrize(("build", "shape"), with_shapes(ENCODERS))
decoders = pytest.mark.parametrize(("build", "shape"), with_shapes(DECODERS))
encoders_and_decoders = pytest.mark.parametrize(
    ("build", "shape", "message"), with_refusals(ENCODERS) + with_refusals(DECODERS)
)
priors = pytest.mark.parametrize("build", by_name(PRIORS))
map_encoders = pytest.mark.parametrize(("build", "shape", "code"), with_maps(MAP_ENCODERS))
map_decoders = pytest.mark.parametrize(("build", "shape", "code"), with_maps(MAP_DECODERS))
map_priors = pytest.mark.parametrize(
    "build",
    [
        lambda code: StandardNormal(code),
        *(lambda code, flow=flow: FlowPrior(flow(code[0]), code) for flow in MAP_FLOWS.values()),
    ],
    ids=["standard-normal", *MAP_FLOWS],
)
leading_axes = pytest.mark.parametrize("leading", LEADING, ids=str)


def assert_gradient_reaches_everything(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The direction of a unit with a single weight is a sign, on which nothing depends continuously.
        single = name.endswith("original1") and parameter[0].numel() == 1
        assert single or parameter.grad.abs().max() > 0, name


def assert_restored_by_state_dict(module: nn.Module, other: nn.Module, value) -> None:
    """`other`, built alike with other numbers, gives the same `value` once it has the state of `module`."""
    expected = value(module)
    if module.state_dict():
        assert not torch.equal(value(other), expected)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(value(other), expected, rtol=0, atol=0)


@encoders
def test_encoder_shapes(build, shape):
    q = build(shape, LATENT)(binary_images(5, *shape))
    assert (q.batch_shape, q.event_shape) == ((5,), (LATENT,))
    assert q.rsample((2,)).shape == (2, 5, LATENT)
    assert q.stddev.min() > 0


@encoders
def test_encoder_gradients(build, shape):
    encoder, x = shaken(build(shape, LATENT)), binary_images(5, *shape)
    q = encoder(x)
    (q.mean * torch.randn(5, LATENT) + q.stddev.log() * torch.randn(5, LATENT)).sum().backward()
    assert_gradient_reaches_everything(encoder)


@encoders
def test_encoder_keeps_float64_and_state(build, shape):
    encoder, other = build(shape, LATENT).double().eval(), build(shape, LATENT).double().eval()
    x = binary_images(2, *shape).double()
    assert encoder(x).mean.dtype == encoder(x).stddev.dtype == torch.float64
    assert_restored_by_state_dict(encoder, other, lambda e: torch.stack([e(x).mean, e(x).stddev]))


@encoders
def test_encoder_treats_images_alone(build, shape):
    encoder, x = shaken(build(shape, LATENT).double()), binary_images(4, *shape).double()
    torch.testing.assert_close(encoder(x).mean[2:3], encoder(x[2:3]).mean)


@encoders
def test_encoder_refuses_other_images(build, shape):
    channels, height, width = shape
    with pytest.raises(InputError, match=r"this encoder takes images .* got shape \(2, "):
        build(shape, LATENT)(torch.zeros(2, channels, height + 1, width))
    with pytest.raises(InputError, match="this encoder takes images"):
        build(shape, LATENT)(torch.zeros(2, channels + 1, height, width))


@leading_axes
@decoders
def test_decoder_shapes(build, shape, leading):
    p = build(shape, LATENT)(torch.randn(*leading, LATENT))
    assert (p.batch_shape, p.event_shape) == (leading, shape)
    assert p.log_prob(binary_images(*leading, *shape)).shape == leading
    assert p.log_prob(binary_images(*shape)).shape == leading
    assert p.log_prob(binary_images(2, *(1 for _ in leading), *shape)).shape == (2, *leading)
    x = p.sample()
    assert x.shape == (*leading, *shape)
    assert set(x.unique().tolist()) <= {0.0, 1.0}


@decoders
def test_decoder_pairs_codes_with_images(build, shape):
    """log_prob of [samples batch] codes and [batch] images is that of each pair alone."""
    decoder = shaken(build(shape, LATENT).double())
    z, x = torch.randn(3, 5, LATENT).double(), binary_images(5, *shape).double()
    log_prob = decoder(z).log_prob(x)
    assert (log_prob < 0).all()
    for sample, image in [(0, 0), (2, 1), (1, 4)]:
        alone = decoder(z[sample, image]).log_prob(x[image])
        torch.testing.assert_close(alone, log_prob[sample, image])


@decoders
def test_decoder_gradients_reach_parameters_and_code(build, shape):
    decoder, z = shaken(build(shape, LATENT)), torch.randn(2, 5, LATENT, requires_grad=True)
    (decoder(z).log_prob(binary_images(5, *shape)) * torch.randn(2, 5)).sum().backward()
    assert_gradient_reaches_everything(decoder)
    assert z.grad is not None
    assert (z.grad != 0).all()


@decoders
def test_decoder_keeps_float64_and_state(build, shape):
    decoder, other = build(shape, LATENT).double().eval(), build(shape, LATENT).double().eval()
    z, x = torch.randn(2, LATENT).double(), binary_images(2, *shape).double()
    assert decoder(z).sample().dtype == decoder(z).log_prob(x).dtype == torch.float64
    assert_restored_by_state_dict(decoder, other, lambda d: d(z).log_prob(x))


@encoders_and_decoders
def test_refused_image_shapes(build, shape, message):
    with pytest.raises(InputError, match=message):
        build(shape, LATENT)


@pytest.mark.parametrize(("build", "shape"), with_shapes(ENCODERS, (1, 8, 8)) + with_shapes(DECODERS, (1, 8, 8)))
def test_latent_dimension_zero_is_refused(build, shape):
    with pytest.raises(InputError, match="latent_dim: expected a number >= 1, got 0"):
        build(shape, 0)


@leading_axes
@priors
def test_prior_shapes(build, leading):
    p = build(LATENT)()
    assert (p.batch_shape, p.event_shape) == ((), (LATENT,))
    z = p.sample(leading)
    assert z.shape == (*leading, LATENT)
    assert not z.requires_grad
    assert p.log_prob(z).shape == leading


@priors
def test_prior_gradients_reach_parameters_and_code(build):
    prior, z = shaken(build(LATENT)), torch.randn(64, LATENT, requires_grad=True)
    prior().log_prob(z).sum().backward()
    assert_gradient_reaches_everything(prior)
    assert z.grad is not None
    assert (z.grad != 0).any(0).all()


@priors
def test_prior_keeps_float64_and_state(build):
    prior, other, z = build(LATENT).double(), build(LATENT).double(), torch.randn(4, LATENT).double()
    assert prior().sample().dtype == prior().log_prob(z).dtype == torch.float64
    assert_restored_by_state_dict(prior, other, lambda p: p().log_prob(z))


@pytest.mark.usefixtures("float64")
@priors
def test_prior_density_integrates_to_one(build):
    prior = shaken(build(2))
    grid = torch.arange(-12, 12, 0.05)
    z = torch.cartesian_prod(grid, grid)
    assert prior().log_prob(z).logsumexp(0).item() + 2 * math.log(0.05) == pytest.approx(0, abs=1e-3)


@pytest.mark.usefixtures("float64")
@priors
def test_prior_samples_follow_the_density(build):
    """First and second moments of samples against integrals of the density, within 4 standard errors."""
    prior = shaken(build(2))
    grid = torch.arange(-12, 12, 0.05)
    z = torch.cartesian_prod(grid, grid)
    density = prior().log_prob(z).softmax(0)
    moments = lambda z: torch.stack([z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], 1)  # noqa: E731
    expected, drawn = density @ moments(z), moments(prior().sample((20_000,)))
    assert ((drawn.mean(0) - expected).abs() < 4 * drawn.std(0) / math.sqrt(len(drawn))).all()


# Codes that are maps


@map_encoders
def test_map_encoder(build, shape, code):
    """Shapes, limits of the variance, gradients, images treated alone, precision, state, other images refused."""
    encoder, x = shaken(build()), 2 * torch.rand(5, *shape) - 1
    q = encoder(x)
    assert (q.batch_shape, q.event_shape) == ((5,), code)
    assert q.rsample((2,)).shape == (2, 5, *code)
    (q.mean * torch.randn(5, *code) + q.stddev.log() * torch.randn(5, *code)).sum().backward()
    assert_gradient_reaches_everything(encoder)
    encoder, x = encoder.double().eval(), x.double()
    assert encoder(x).mean.dtype == encoder(x).stddev.dtype == torch.float64
    torch.testing.assert_close(encoder(x).mean[2:3], encoder(x[2:3]).mean)
    extreme = encoder(1e6 * x).stddev.log() * 2
    assert extreme.min().item() == pytest.approx(-7)
    assert extreme.max().item() == pytest.approx(7)
    assert_restored_by_state_dict(encoder, build().double(), lambda e: torch.stack([e(x).mean, e(x).stddev]))
    with pytest.raises(InputError, match=r"this encoder takes images .* got shape \(2, "):
        encoder(torch.zeros(2, shape[0], shape[1] + 4, shape[2]))


@leading_axes
@map_decoders
def test_map_decoder_shapes(build, shape, code, leading):
    p = build().eval()(torch.randn(*leading, *code))
    assert (p.batch_shape, p.event_shape) == (leading, shape)
    assert p.log_prob(colour_images(*leading, *shape)).shape == leading
    assert p.log_prob(colour_images(*shape)).shape == leading
    assert p.log_prob(colour_images(2, *(1 for _ in leading), *shape)).shape == (2, *leading)
    for x in (p.sample(), p.mode):
        assert x.shape == (*leading, *shape)
        torch.testing.assert_close((x + 1) * 127.5, ((x + 1) * 127.5).round(), rtol=0, atol=1e-3)
        assert x.abs().max() <= 1


@map_decoders
def test_map_decoder(build, shape, code):
    """Codes paired with images, gradients, precision, state."""
    decoder = shaken(build(), 0.1).eval()
    z, x = torch.randn(2, 5, *code, requires_grad=True), colour_images(5, *shape)
    (decoder(z).log_prob(x) * torch.randn(2, 5)).sum().backward()
    assert_gradient_reaches_everything(decoder)
    assert z.grad is not None
    assert (z.grad != 0).all()
    decoder, z, x = decoder.double(), z.detach().double(), x.double()
    log_prob = decoder(z).log_prob(x)
    assert decoder(z).sample().dtype == log_prob.dtype == torch.float64
    for sample, image in [(0, 0), (1, 4)]:
        torch.testing.assert_close(decoder(z[sample, image]).log_prob(x[image]), log_prob[sample, image])
    assert_restored_by_state_dict(decoder, build().double().eval(), lambda d: d(z[0]).log_prob(x))


@pytest.mark.parametrize(
    ("build", "shape", "message"),
    [
        case
        for table in (MAP_ENCODERS, MAP_DECODERS)
        for case in with_refusals({name: images for name, (_, images) in table.items()})
    ],
)
def test_refused_colour_image_shapes(build, shape, message):
    with pytest.raises(InputError, match=message):
        build(shape, MAP_CHANNELS)


@map_priors
def test_map_prior(build):
    """Shapes, gradients, precision, state."""
    code = (2, 3, 2)
    prior, other = shaken(build(code)), build(code).double()
    p, z = prior(), torch.randn(64, *code, requires_grad=True)
    assert (p.batch_shape, p.event_shape) == ((), code)
    for leading in LEADING:
        drawn = p.sample(leading)
        assert drawn.shape == (*leading, *code)
        assert not drawn.requires_grad
        assert p.log_prob(drawn).shape == leading
    p.log_prob(z).sum().backward()
    assert_gradient_reaches_everything(prior)
    assert z.grad is not None
    assert (z.grad != 0).any(0).all()
    prior, z = prior.double(), z.detach().double()
    assert prior().sample().dtype == prior().log_prob(z).dtype == torch.float64
    assert_restored_by_state_dict(prior, other, lambda p: p().log_prob(z))


EVERYTHING = [
    *(pytest.param(lambda images=images: images.build((1, 8, 8), LATENT), id=n) for n, images in ENCODERS.items()),
    *(pytest.param(lambda images=images: images.build((1, 8, 8), LATENT), id=n) for n, images in DECODERS.items()),
    *(pytest.param(lambda build=build: build(LATENT), id=n) for n, build in (PRIORS | FLOWS).items()),
    *(pytest.param(case.values[0], id=case.id) for case in with_maps(MAP_ENCODERS) + with_maps(MAP_DECODERS)),
    *(pytest.param(lambda build=build: build(LATENT), id=f"map-{n}") for n, build in MAP_FLOWS.items()),
]


@pytest.mark.parametrize("build", EVERYTHING)
def test_repr_shows_the_parts(build):
    module = build()
    text = repr(module)
    assert type(module).__name__ in text
    assert all(type(part).__name__ in text for part in module.modules())
    assert " object at 0x" not in text


@pytest.mark.parametrize("build", EVERYTHING)
def test_state_dict_holds_parameters_only(build):
    """Masks are rebuilt from the configuration, so that a file of weights holds what was learned."""
    module = build()
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}
