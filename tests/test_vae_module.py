"""The VAE as a module among others: one pass with a named result, in torch's and accelerate's wrappers, with gradients where
they are wanted, and one sentence for what it does not take."""

import math

import pytest
import torch
from small_runs import tiny
from torch import nn
from unchecked_types import as_users_run_it

import mpdvae
from mpdvae.errors import InputError

IMAGE_SHAPE = (1, 8, 8)


def a_model() -> mpdvae.VAE:
    return tiny("vae-digits-smoke").build(IMAGE_SHAPE)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *IMAGE_SHAPE).round()


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    return -model(x).elbo.mean()


def gradients(vae: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in vae.named_parameters() if p.grad is not None}


def test_a_pass_gives_the_elbo_and_what_it_is_made_of(x):
    vae = a_model()
    torch.manual_seed(1)
    output = vae(x, samples=3)
    torch.manual_seed(1)
    torch.testing.assert_close(output.elbo, vae.elbo(x, 3))
    torch.testing.assert_close(output.elbo, output.p.log_prob(x).mean(0) - vae.kl(output.q, output.z))
    torch.testing.assert_close(output.q.mean, vae.encode(x))
    assert output.z.shape == (3, 6, *vae.latent_shape)
    assert vae.latent_dim == vae.latent_shape[0] == vae.origin.experiment.latent_dim


def test_codes_have_gradients_where_they_are_asked_for(x):
    vae = a_model()
    x.requires_grad_()
    assert not vae.encode(x).requires_grad
    codes = vae.encode(x, gradients=True)
    assert torch.equal(codes, vae.encode(x))
    codes.sum().backward()
    assert x.grad.abs().sum() > 0
    assert gradients(vae).keys() == {f"encoder.{name}" for name, _ in vae.encoder.named_parameters()}
    with torch.no_grad():
        assert not vae.encode(x, gradients=True).requires_grad


def wrapped_by_ddp(vae):
    return nn.parallel.DistributedDataParallel(vae)


def wrapped_by_accelerate(vae):
    accelerate = pytest.importorskip("accelerate", reason="the extra `test-launch` is not installed")
    return accelerate.Accelerator(cpu=True).prepare(vae)


@pytest.fixture
def process_group(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [wrapped_by_ddp, wrapped_by_accelerate])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_wrapped_it_has_the_same_loss_and_gradients(wrap, x, process_group):
    vae = a_model()
    expected = loss_of(vae, x)
    expected.backward()
    before = gradients(vae)
    vae.zero_grad()
    loss = loss_of(wrap(vae), x)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    after = gradients(vae)
    assert before.keys() == after.keys() == dict(vae.named_parameters()).keys()
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient)


def test_compiled_it_has_the_same_loss_and_gradients():
    code = """
vae = tiny("vae-digits-smoke").build((1, 8, 8))
x, losses, gradients = torch.rand(6, 1, 8, 8).round(), [], []
for model in (vae, torch.compile(vae, backend="eager")):
    torch.manual_seed(1)
    vae.zero_grad()
    loss = -model(x).elbo.mean()
    loss.backward()
    losses.append(loss.item())
    gradients.append([p.grad.abs().sum().item() for p in vae.parameters()])
print(json.dumps([losses, gradients]))
"""
    losses, gradients = as_users_run_it(code)
    assert losses[0] == pytest.approx(losses[1])
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-4)


def test_operations_of_a_pass_are_counted(x):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        a_model()(x)
    assert counter.get_total_flops() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_images_of_any_precision_are_taken(dtype, x):
    vae = a_model()
    assert torch.equal(vae.encode(x.to(dtype)), vae.encode(x))
    assert torch.equal(vae.decode(vae.encode(x).double()), vae.decode(vae.encode(x)))
    assert torch.equal(
        mpdvae.density.estimate(vae, x.to(dtype), 4).log_prob, mpdvae.density.estimate(vae, x, 4).log_prob
    )


def test_grey_images_have_a_code_and_no_likelihood():
    grey = torch.full((2, *IMAGE_SHAPE), 0.5)
    assert a_model().encode(grey).isfinite().all()
    with pytest.raises(InputError, match=r"expected images of 0 and 1.* has the value 0\.5"):
        a_model()(grey)


def test_models_are_built_in_float32_whatever_the_default_is(float64, x):
    vae = a_model()
    assert {p.dtype for p in vae.parameters()} == {torch.float32}
    assert vae(x).elbo.dtype == vae.encode(x).dtype == vae.sample(2).dtype == torch.float32
    assert torch.get_default_dtype() == torch.float64


REFUSED = {
    "np.zeros((2, 1, 8, 8))": "x: expected a tensor of floating-point images in the model's value range, got a ndarray; ",
    "[[0.0]]": "got a list; vae.preprocess(images)",
    "zeros.byte()": "got torch.uint8; vae.preprocess(images)",
    "zeros.long()": "got torch.int64; vae.preprocess(images)",
    "zeros.bool()": "got torch.bool; vae.preprocess(images)",
    "zeros[0]": "x: expected images [batch 1 8 8] (batch, channel, height, width), at least one, got shape (1, 8, 8)",
    "zeros[:0]": "got shape (0, 1, 8, 8)",
    "zeros[..., :7]": "got shape (2, 1, 8, 7)",
    "zeros.expand(2, 3, 8, 8)": "got shape (2, 3, 8, 8)",
    "zeros + 255": "has the value 255",
    "zeros - 0.1": "has the value -0.1",
    "zeros / 0": " image 0 has ",
    "zeros.to('meta')": "x: expected a tensor on the model's device, cpu, got one on meta; move it there with x.to('cpu').",
}


def test_what_is_no_image_of_the_model_is_refused_in_one_sentence_by_every_method():
    code = f"""
vae = tiny("vae-digits-smoke").build((1, 8, 8))
zeros = torch.zeros(2, 1, 8, 8)
calls = {{
    "forward": vae, "elbo": vae.elbo, "log_weights": vae.log_weights, "bound": vae.importance_weighted_bound,
    "encode": vae.encode, "reconstruct": vae.reconstruct, "initialise": vae.initialise,
    "estimate": lambda x: mpdvae.density.estimate(vae, x, 2),
}}
said = {{}}
for given in {list(REFUSED)!r}:
    for name, call in calls.items():
        try:
            call(eval(given))
        except mpdvae.InputError as error:
            said[f"{{name}} {{given}}"] = str(error)
for given in ("np.zeros((2, 8))", "torch.zeros(2, 8).long()", "torch.zeros(2, 9)", "[1.0]"):
    try:
        vae.decode(eval(given))
    except mpdvae.InputError as error:
        said[f"decode {{given}}"] = str(error)
print(json.dumps(said))
"""
    said = as_users_run_it(code)
    assert len(said) == 8 * len(REFUSED) + 4
    for given, message in said.items():
        name, _, image = given.partition(" ")
        assert "\n" not in message
        assert (
            REFUSED[image] if name != "decode" else "z: expected a tensor of floating-point codes [... "
        ) in message, given


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_codes_that_are_not_finite_are_refused_by_every_method_that_decodes(wrong, shape):
    vae = a_model()
    z = torch.zeros(*shape, vae.latent_dim)
    z[..., -1] = wrong
    at = ", ".join(map(str, [*[0] * len(shape), vae.latent_dim - 1]))
    for call in (
        vae.decode,
        lambda z: vae.decode(z, greedy=False),
        lambda z: vae.decode_told(z, None),
        lambda z: vae.decoded(z),
    ):
        with pytest.raises(InputError, match=rf"z: expected finite codes, got {wrong} at z\[{at}\]; "):
            call(z)


@pytest.mark.parametrize("name", ["log_prob", "save", "load", "fit", "loss", "generate", "transform"])
def test_names_of_other_libraries_point_to_what_does_it(name):
    with pytest.raises(AttributeError, match=rf"VAE has no '{name}': .*\.$"):
        getattr(a_model(), name)


@pytest.mark.parametrize("name", ["train", "encode", "from_pretrained", "load_dataset"])
def test_names_that_the_package_does_not_have_point_to_what_does_it(name):
    with pytest.raises(AttributeError, match=rf"mpdvae has no '{name}': .*\.$"):
        getattr(mpdvae, name)
    assert not hasattr(mpdvae, "no_such_thing")
