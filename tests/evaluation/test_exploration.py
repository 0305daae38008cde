"""What the report lets one explore: maps and neighbours of codes, walks between them, and the files that hold them."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import digits, tiny

import mpdvae
from mpdvae.data import evaluation_images
from mpdvae.evaluation import interpolation
from mpdvae.evaluation.exploration import BILINEAR, LINEAR_WALKS, NEIGHBOURS, STEPS
from mpdvae.measures import density
from mpdvae.measures.random_subsets import random_subset
from mpdvae.measures.representation.maps import LEAST_CODES, maps, nearest
from mpdvae.report.explored import read_explored
from mpdvae.system.atomic_files import read_json
from mpdvae.system.closed_folder import Inside

RNG = np.random.default_rng(0)
GROUPS = RNG.integers(3, size=60)
CODES = (10.0 * np.eye(3, 8)[GROUPS] + RNG.normal(size=(60, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def of_groups():
    return maps(CODES)


@pytest.mark.parametrize("name", ["pca", "tsne"])
def test_maps_keep_groups_that_are_apart(of_groups, name):
    points = of_groups[name].points
    assert points.shape == (60, 2)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (GROUPS[distance.argmin(1)] == GROUPS).all()


def test_the_principal_map_is_the_projection_of_most_variance(of_groups):
    found = of_groups["pca"]
    centred = CODES.astype(np.float64) - CODES.mean(0)
    values = np.linalg.svd(centred / centred.std(), compute_uv=False)
    np.testing.assert_allclose((found.points**2).sum(0), values[:2] ** 2, rtol=1e-5)
    np.testing.assert_allclose(found.explained_variance, values[:2] ** 2 / (values**2).sum(), rtol=1e-5)


def test_maps_are_the_same_again_and_do_not_depend_on_the_scale_of_codes(of_groups):
    again = maps(CODES * 4)
    for name, found in of_groups.items():
        np.testing.assert_array_equal(again[name].points, found.points)


@pytest.mark.parametrize(
    "codes",
    [
        np.ones((8, 4)),
        np.arange(9.0)[:, None],
        1e-9 * RNG.normal(size=(8, 4)),
        RNG.normal(size=(2, 3)),
        np.zeros((4, 1)),
    ],
    ids=["collapsed", "one dimension", "nearly collapsed", "two codes", "four equal codes"],
)
def test_maps_of_odd_codes_are_finite(codes):
    found = maps(codes)
    assert ("tsne" in found) == (len(codes) >= LEAST_CODES)
    assert all(np.isfinite(m.points).all() and m.points.shape == (len(codes), 2) for m in found.values())
    assert all(np.isfinite(m.explained_variance).all() for m in found.values())
    assert (found["pca"].points == 0).all() == (codes.std() == 0)


def test_umap_where_it_is_installed(monkeypatch):
    class UMAP:
        def __init__(self, n_neighbors: int, random_state: int) -> None:
            assert (n_neighbors, random_state) == (19, 0)

        def fit_transform(self, z):
            return z[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP, __spec__=SimpleNamespace()))
    expected = CODES[:, :2] - CODES[:, :2].mean(0)
    np.testing.assert_allclose(maps(CODES)["umap"].points, expected / (CODES - CODES.mean(0)).std(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("umap") is None, reason="needs umap-learn: pip install 'mpdvae[report]'")
def test_umap_itself_keeps_neighbourhoods_and_is_the_same_again():
    group = np.arange(90) % 3
    codes = (6 * np.eye(3, 8)[group] + np.random.default_rng(1).normal(size=(90, 8))).astype(np.float32)
    found = maps(codes)["umap"].points
    near = np.array(nearest(found, 5))
    assert (group[near] == group[:, None]).mean() > 0.95
    np.testing.assert_array_equal(found, maps(codes)["umap"].points)


@pytest.mark.parametrize("count", [3, 100])
def test_the_nearest_are_those_of_the_least_distance(count):
    distance = np.linalg.norm(CODES[:, None].astype(np.float64) - CODES[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    expected = distance.argsort(1)[:, : min(count, 59)]
    assert nearest(CODES, count) == expected.tolist()


# -- walks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", [(5,), (2, 3, 3)], ids=["vector", "map"])
def test_a_surface_has_its_corners_and_straight_edges(latent):
    corners = torch.randn(4, *latent)
    z = interpolation.bilinear(corners, rows=3, columns=5)
    assert z.shape == (3, 5, *latent)
    for code, corner in zip((z[0, 0], z[0, -1], z[-1, 0], z[-1, -1]), corners, strict=True):
        torch.testing.assert_close(code, corner)
    torch.testing.assert_close(z[0], interpolation.linear(corners[0], corners[1], 5))
    torch.testing.assert_close(z[:, 0], interpolation.linear(corners[0], corners[2], 3))
    torch.testing.assert_close(z[1, 2], corners.mean(0))


def test_a_walk_of_one_step_stays():
    a, b = torch.randn(2, 4)
    torch.testing.assert_close(interpolation.linear(a, b, 1), a[None])


# -- files -------------------------------------------------------------------------------------------------------------


def points() -> torch.Tensor:
    """The images that tiny runs have on their map."""
    x, _ = evaluation_images(digits().test, tiny().data.protocol(), "test", draws=1)
    return x[random_subset(20, len(x))]


def test_the_files_fit_together_and_the_report_reads_them(finished):
    found = read_explored(Inside(finished), "do something")
    assert found is not None
    assert len(found.file.neighbours) == 20
    assert all(len(row) == NEIGHBOURS and i not in row for i, row in enumerate(found.file.neighbours))
    assert set(found.file.maps) >= {"pca", "tsne"}
    assert found.file.points.labels == digits().test.labels[random_subset(20, 300)].tolist()
    assert found.file.walks_drawn
    content = read_json(finished / "explore.json")
    assert content["command"] == read_json(finished / "density.json")["command"]
    assert (content["linear_walks"], content["bilinear_walk"]) == (
        {"walks": LINEAR_WALKS, "steps": STEPS},
        {"rows": BILINEAR, "columns": BILINEAR},
    )


def test_points_are_the_images_their_rates_and_neighbours(finished):
    x, vae = points(), mpdvae.load(finished)
    content = read_json(finished / "explore.json")
    with Image.open(finished / "figures" / "points.png") as sheet:
        for i, image in enumerate(x):
            left, top = i % 5 * 8, i // 5 * 8
            cut = np.asarray(sheet.crop((left, top, left + 8, top + 8)))
            assert np.array_equal(cut, (image[0] * 255).byte().numpy())
    measured = density.estimate(vae, x, samples=1, proposal="encoder")
    assert content["points"]["kl_nats"] == pytest.approx(measured.kl.tolist(), abs=0.006)
    assert content["points"]["reconstruction_nats"] == pytest.approx(measured.reconstruction.tolist(), abs=0.006)
    assert content["neighbours"] == nearest(vae.encode(x).numpy(), NEIGHBOURS)
