"""Gradients of input-convex networks: convex potentials, monotone maps, and the isometry between two of them."""

import math

import pytest
import torch
from constructors import shaken
from torch.func import jacrev, vmap

from mpdvae.errors import InputError
from mpdvae.networks.convex import ConvexPotential, ExpansiveMap
from mpdvae.networks.cosines import SmoothIsometry, lowest_cosines
from mpdvae.networks.weight_norm import initialising_by_data

pytestmark = pytest.mark.usefixtures("float64")

FEATURES, PAIRS = 4, 200
SIZES = [(3, 1), (7, 2), (5, 3)]
sizes = pytest.mark.parametrize(("hidden", "layers"), SIZES)


def pairs(distance: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    z = distance * torch.randn(PAIRS, FEATURES)
    return z, z + distance * torch.rand(PAIRS, 1) * torch.randn(PAIRS, FEATURES)


@sizes
def test_the_potential_is_convex(hidden, layers):
    """On every chord, at every fraction of it; strictly somewhere."""
    phi, (one, other) = shaken(ConvexPotential(FEATURES, hidden, layers), 1.0), pairs()
    for share in (0.1, 0.5, 0.8):
        below = share * phi(one) + (1 - share) * phi(other) - phi(share * one + (1 - share) * other)
        assert below.min() > -1e-10
        assert below.max() > 1e-3


@sizes
def test_the_gradient_is_that_of_the_potential(hidden, layers):
    phi, z = shaken(ConvexPotential(FEATURES, hidden, layers)), torch.randn(6, FEATURES, requires_grad=True)
    (expected,) = torch.autograd.grad(phi(z).sum(), z)
    torch.testing.assert_close(phi.gradient(z), expected)
    with torch.no_grad():
        torch.testing.assert_close(phi.gradient(z), expected)


@sizes
def test_the_gradient_has_gradients_of_first_and_second_order(hidden, layers):
    """In z and in all parameters: a decoder is trained through it, and refined posteriors need the second order."""
    f = shaken(ExpansiveMap(FEATURES, hidden, layers))
    z = torch.randn(3, FEATURES, requires_grad=True)
    assert torch.autograd.gradcheck(f, z)
    assert torch.autograd.gradgradcheck(f, z)
    (f(z) * torch.randn(3, FEATURES)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in f.parameters())


@pytest.mark.parametrize("expansion", [0.0, 0.5, 2.0])
@sizes
def test_the_map_is_strongly_monotone_and_expands(hidden, layers, expansion):
    """<f(z) - f(z'), z - z'> >= (c + e^t) |z - z'|^2, hence |f(z) - f(z')| >= c |z - z'|, far and near."""
    f = shaken(ExpansiveMap(FEATURES, hidden, layers, expansion), 1.0)
    slope = expansion + f.log_slope.exp()
    for distance in (1e-3, 1.0, 30.0):
        one, other = pairs(distance)
        apart, moved = one - other, f(one) - f(other)
        squares = apart.square().sum(1)
        assert ((moved * apart).sum(1) >= slope * squares * (1 - 1e-9)).all()
        assert (moved.norm(dim=1) >= slope * apart.norm(dim=1) * (1 - 1e-9)).all()


def test_the_bound_is_attained():
    """Without a potential the map is its linear part: no larger factor can be promised."""
    f = ExpansiveMap(FEATURES, 3, expansion=0.5)
    with torch.no_grad():
        f.potential.last.fill_(-1_000.0)
        f.log_slope.fill_(-1_000.0)
    z = torch.randn(5, FEATURES)
    torch.testing.assert_close(f(z), 0.5 * z)


def test_the_jacobian_is_symmetric_and_positive_definite():
    """f is a gradient, of a strongly convex function."""
    f = shaken(ExpansiveMap(FEATURES, 6, 2, 0.3))
    jacobian = vmap(jacrev(lambda z: f(z[None])[0]))(torch.randn(10, FEATURES))
    torch.testing.assert_close(jacobian, jacobian.mT)
    assert torch.linalg.eigvalsh(jacobian).min() > 0.3


def test_initialisation_by_data_gives_hidden_units_of_unit_deviation():
    f, z = ExpansiveMap(FEATURES, 6, 2), 5 + 3 * torch.randn(300, FEATURES)
    with initialising_by_data(f):
        f(z)
    for layer in f.potential.of_input:
        torch.testing.assert_close(layer(z).std(0), torch.ones(6), rtol=1e-4, atol=0)
        torch.testing.assert_close(layer(z).mean(0), torch.zeros(6), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 5, 4), (3, 2, 3), (7,)])
def test_the_basis_is_orthonormal(shape):
    whole = math.prod(shape)
    for count in {1, 3, whole}:
        basis = lowest_cosines(count, shape)
        assert basis.shape == (whole, count)
        torch.testing.assert_close(basis.mT @ basis, torch.eye(count))
        torch.testing.assert_close(basis, lowest_cosines(whole, shape)[:, :count])
    torch.testing.assert_close(lowest_cosines(1, shape), torch.full((whole, 1), whole**-0.5))


def test_the_basis_is_as_smooth_as_it_can_be():
    """Neighbours differ less in earlier columns; those of a square image that are each other's transpose, equally."""
    basis = lowest_cosines(64, (1, 8, 8)).mT.unflatten(1, (8, 8))
    differences = basis.diff(dim=1).square().sum((1, 2)) + basis.diff(dim=2).square().sum((1, 2))
    rough = differences[:20]
    assert (rough[1:] >= rough[:-1] - 0.1).all()
    torch.testing.assert_close(basis[1], basis[2].mT)


def test_the_isometry_keeps_distances_and_saves_nothing():
    isometry, z = SmoothIsometry(3, (1, 5, 4)), torch.randn(6, 3)
    torch.testing.assert_close(isometry(z).norm(dim=1), z.norm(dim=1))
    assert not isometry.state_dict()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvexPotential(3, 0), "expected at least one hidden layer of at least one feature, got 2 of 0"),
        (lambda: ConvexPotential(3, 4, 0), "expected at least one hidden layer of at least one feature, got 0 of 4"),
        (lambda: ExpansiveMap(3, 4, expansion=-0.1), "expansion: expected a number >= 0, got -0.1"),
        (lambda: ExpansiveMap(3, 4, expansion=math.inf), "expansion: expected a number >= 0, got inf"),
        (lambda: SmoothIsometry(5, (1, 2, 2)), "a code of 5 numbers cannot be told from maps of 4"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
