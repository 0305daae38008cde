"""The plane of rate and distortion, families of models, and heat maps over the two weights, of made-up run folders."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_folders import edit, make_matrix, make_run

from mpdvae import report
from mpdvae.report import labels
from mpdvae.report.collect import Study, collect
from mpdvae.report.families import families
from mpdvae.report.figures import Chart
from mpdvae.report.labels import placed
from mpdvae.report.plane import equal_elbo, plane, points
from mpdvae.report.sensitivity import grids, sensitivity

GRID = [(eta, gamma) for eta in (0.5, 1.0, 2.0) for gamma in (0.1, 0.5, 1.0)]


def weights(eta: object, gamma: object, **more: Any) -> dict[str, Any]:
    return {"diversity_weight": eta, "smoothness_weight": gamma, **more}


def numbers(eta: float, gamma: float) -> dict[str, float]:
    """Different in every cell."""
    return {"nll": 80 + eta + gamma / 10, "kl": 10 * eta + gamma, "knn": 0.5 + eta / 10 + gamma / 100}


def grid_folders(root: Path, pairs: list[tuple[float, float]], seeds: int = 1) -> list[Path]:
    return [
        make_run(
            root / f"mae-{eta}-{gamma}-{seed}",
            f"mae-{eta}-{gamma}",
            seed,
            objective=weights(eta, gamma),
            numbers=numbers(eta, gamma),
            noise=0.1 if seeds > 1 else 0.0,
        )
        for eta, gamma in pairs
        for seed in range(seeds)
    ]


def swept(root: Path) -> list[Path]:
    """Three weights of the KL, two floors, and one committed rate, from one base."""
    objectives: dict[str, dict[str, Any]] = {
        "vae-pixelcnn": weights(0.0, 0.0, free_bits_nats=0.0),
        "beta-2": weights(0.0, 0.0, free_bits_nats=0.0, kl_weight={"kind": "constant", "value": 2.0}),
        "beta-0.5": weights(0.0, 0.0, free_bits_nats=0.0, kl_weight={"kind": "constant", "value": 0.5}),
        "free-bits": weights(0.0, 0.0, free_bits_nats=9.6),
        "delta": weights(0.0, 0.0, free_bits_nats=0.0),
    }
    folders = []
    for i, (model, objective) in enumerate(objectives.items()):
        folder = make_run(root / model, model, objective=objective, numbers={"kl": 3.0 + i, "nll": 88.0 + i / 4})
        edit(folder / "experiment.json", prior={"kind": "standard-normal"})
        folders.append(folder)
    edit(folders[-1] / "experiment.json", encoder={"kind": "convnet", "channels": [32, 64], "head": DELTA})
    return folders


DELTA = {"kind": "delta", "rate_nats": 3.2}


def study_of(folders: list[Path]) -> Study:
    (study,) = collect(folders).studies
    return study


def traces(chart: Chart | None, panel: int = 0) -> list[dict[str, Any]]:
    assert chart is not None
    return json.loads(chart.panels[panel].figure)["data"]


def test_families_are_models_that_differ_in_one_dial(tmp_path):
    found = {f.title: [(s, v.label) for s, v in f.members] for f in families(study_of(swept(tmp_path)))}
    assert found == {
        "KL weight": [(0.5, "beta-0.5"), (1.0, "vae-pixelcnn"), (2.0, "beta-2")],
        "free bits (nats)": [(0.0, "vae-pixelcnn"), (9.6, "free-bits")],
        "committed rate (nats)": [(0.0, "vae-pixelcnn"), (3.2, "delta")],
    }


def test_what_has_no_strength_is_in_no_family(tmp_path):
    """An annealed weight, and values that are no numbers."""
    objectives = [
        weights(0.0, 0.0, kl_weight={"kind": "linear", "warm_up_steps": 3, "start": 0.0}),
        weights("much", 0.0),
        weights(True, 0.0),
        weights(None, 0.0),
    ]
    folders = [make_run(tmp_path / f"{i}", f"model-{i}", objective=o) for i, o in enumerate(objectives)]
    assert families(study_of(folders)) == []


def test_families_of_one_dial_are_told_apart(tmp_path):
    folders = []
    for latent_dim in (8, 16):
        for value in (0.5, 2.0):
            weight = {"kind": "constant", "value": value}
            model = f"beta-{value}-{latent_dim}"
            folders.append(make_run(tmp_path / model, model, objective=weights(0.0, 0.0, kl_weight=weight)))
            edit(folders[-1] / "experiment.json", latent_dim=latent_dim)
    titles = [family.title for family in families(study_of(folders))]
    assert sorted(titles) == ["KL weight, from beta-0.5-16", "KL weight, from beta-0.5-8"]


def test_points_lie_at_rate_and_distortion(tmp_path):
    folders = make_matrix(tmp_path, seeds=2)
    measured = {f.name: json.loads((f / "density.json").read_text()) for f in folders}
    found = {p.variant.label: p for p in points(study_of(folders))}
    assert len(found) == 6
    for model, point in found.items():
        of_seeds = [measured[f"{model}-{seed}"] for seed in (0, 1)]
        assert point.rate_nats == pytest.approx(np.mean([d["kl_nats"]["mean"] for d in of_seeds]))
        assert point.distortion_nats == pytest.approx(np.mean([d["reconstruction_nats"]["mean"] for d in of_seeds]))
    drawn = [t for t in traces(plane(study_of(folders), lambda f: f.name)) if t.get("customdata")]
    large = {c: xy for t in drawn if "text" in t for c, *xy in zip(t["customdata"], t["x"], t["y"], strict=True)}
    assert large == {f"{m}-0": [pytest.approx(p.rate_nats), pytest.approx(p.distortion_nats)] for m, p in found.items()}
    small = {c: xy for t in drawn if "text" not in t for c, *xy in zip(t["customdata"], t["x"], t["y"], strict=True)}
    assert small == {name: [d["kl_nats"]["mean"], d["reconstruction_nats"]["mean"]] for name, d in measured.items()}


def test_lines_join_families_in_the_order_of_their_strength(tmp_path):
    study = study_of(swept(tmp_path))
    place = {p.variant.label: (p.rate_nats, p.distortion_nats) for p in points(study)}
    drawn = traces(plane(study, str))
    lines = {t["name"]: list(zip(t["x"], t["y"], strict=True)) for t in drawn if t["mode"] == "lines"}
    assert lines["KL weight"] == [place[m] for m in ("beta-0.5", "vae-pixelcnn", "beta-2")]
    labels = [text for t in drawn if t["mode"] == "markers+text" for text in t["text"]]
    # vae-pixelcnn is in three families and drawn once, by name; a family of two has names, too.
    assert sorted(labels) == ["0.5", "2", "delta", "free-bits", "vae-pixelcnn"]


@pytest.mark.parametrize(("rates", "distortions"), [((0.0, 20.0), (70.0, 95.0)), ((0.1, 0.4), (-3.0, 40.0))])
def test_lines_of_equal_elbo(rates, distortions):
    lines = equal_elbo(rates, distortions)
    assert 3 <= len(lines) <= 12
    totals = []
    for line in lines:
        x, y = np.array(line["x"]), np.array(line["y"])
        np.testing.assert_allclose(np.diff(y) / np.diff(x), -1, rtol=1e-6)
        np.testing.assert_allclose(x + y, float(line["text"][1]), atol=1e-6)
        totals.append(float(line["text"][1]))
        # From border to border.
        assert np.isclose(x[0], rates[0]) or np.isclose(y[0], distortions[1])
        assert np.isclose(x[-1], rates[1]) or np.isclose(y[-1], distortions[0])
    np.testing.assert_allclose(np.diff(totals), totals[1] - totals[0])


def test_hover_names_the_run_and_its_likelihood(tmp_path):
    drawn = traces(plane(study_of(make_matrix(tmp_path, ["vae", "vlae", "mae"], seeds=1, noise=0.0)), str))
    assert "mae: NLL 87.00 nats" in [text for t in drawn for text in t.get("hovertext") or []]


@pytest.mark.parametrize("count", [1, 6, 20])
def test_names_cover_neither_points_nor_each_other_where_there_is_room(count):
    """Points on a line with room above; the places that are chosen have no overlap."""
    size, names = (900.0, 300.0), [f"model-{i}" for i in range(count)]
    points = [((i + 1) / (count + 1), 0.4 + 0.02 * (i % 3)) for i in range(count)]
    places = placed(points, names, size)
    centres = [(x * size[0], y * size[1]) for x, y in points]
    boxes = [labels._box(c, n, labels.PLACES[p]) for c, n, p in zip(centres, names, places, strict=True)]
    markers = [(x - 7, y - 7, x + 7, y + 7) for x, y in centres]
    covered = sum(
        labels._overlap(a, b) for i, a in enumerate(boxes) for b in (*boxes[:i], *markers[:i], *markers[i + 1 :])
    )
    assert covered == 0 if count < 20 else covered < 20 * 200
    assert placed(points, names, size) == places


def test_a_name_at_the_edge_stays_inside():
    assert placed([(0.0, 0.5)], ["a long name"], (400.0, 300.0)) == ["middle right"]
    assert placed([(1.0, 0.5)], ["a long name"], (400.0, 300.0)) == ["middle left"]


def test_too_few_models_make_no_plane(tmp_path):
    folders = make_matrix(tmp_path, ["vae", "vlae", "mae"], seeds=1)
    assert plane(study_of(folders), str) is not None
    assert plane(study_of(folders[:2]), str) is None
    density = json.loads((folders[0] / "density.json").read_text())
    edit(folders[0] / "density.json", kl_nats=density["kl_nats"] | {"mean": None})
    assert plane(study_of(folders), str) is None
    made = report.write(folders, html=tmp_path / "r.html", command="x")
    assert "Rate and distortion" not in made.html.read_text() + made.markdown.read_text()


def test_points_lead_to_their_runs_within_the_page(tmp_path):
    """A folder's name is no markup, and neither is a model's."""
    names = ["javascript:alert(1)", 'a "b" <i>?x#y&z', "c"]
    folders = [make_run(tmp_path / "runs" / n, f"<b>{i}&", objective=weights(i, 0.0)) for i, n in enumerate(names)]
    odd = make_run(tmp_path / "javascript:alert(2)", "last")
    text = report.write([*folders, odd], html=tmp_path / "r.html", command="x").html.read_text()
    links = set(re.findall(r'<a href="([^"]*)">seed', text))
    assert links == {"#run1", "#run2", "#run3", "#run4"}
    for folder in (*folders, odd):
        shown = html.escape(folder.relative_to(tmp_path).as_posix()).replace("&quot;", "&#34;")
        assert re.search(rf'<h4 id="run\d">seed 0 <small>{re.escape(shown)},', text)
    figures = [json.loads(s) for s in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    clicked = {link for f in figures for t in f["data"] for link in t.get("customdata") or []}
    assert clicked == links
    assert "<b>0&" not in text
    assert any("&lt;b>0&amp;: NLL" in str(t.get("hovertext")) for f in figures for t in f["data"])


def test_heat_maps_show_each_pair_of_weights(tmp_path):
    study = study_of(grid_folders(tmp_path, GRID))
    chart = sensitivity(study, lambda folder: folder.name)
    assert chart is not None
    assert [panel.title for panel in chart.panels] == [
        "NLL, importance-weighted (nats)",
        "KL from prior (rate) (nats)",
        "10-NN, 10,000 labels",
    ]
    for i, (name, digits) in enumerate((("nll", 2), ("kl", 2), ("knn", 3))):
        (trace,) = traces(chart, i)
        assert (trace["x"], trace["y"]) == (["0.5", "1", "2"], ["0.1", "0.5", "1"])
        for row, gamma in enumerate((0.1, 0.5, 1.0)):
            for column, eta in enumerate((0.5, 1.0, 2.0)):
                assert trace["z"][row][column] == pytest.approx(numbers(eta, gamma)[name], abs=0.002)
                assert trace["text"][row][column] == f"{trace['z'][row][column]:.{digits}f}"
                assert trace["customdata"][row][column] == f"mae-{eta}-{gamma}-0"


def test_cells_are_means_over_seeds(tmp_path):
    folders = grid_folders(tmp_path, GRID[:5], seeds=2)
    (trace, *_) = traces(sensitivity(study_of(folders), str))
    measured = [json.loads((f / "density.json").read_text())["nll_nats"]["mean"] for f in folders[:2]]
    assert trace["z"][0][0] == pytest.approx(np.mean(measured))


@pytest.mark.parametrize(
    ("pairs", "shape"),
    [
        (GRID, (3, 3)),
        (GRID[:5], (2, 2)),  # the third gamma was combined with eta 0.5 only
        ([*GRID, (0.0, 0.0)], (3, 3)),
        ([(0.0, 0.0), (0.0, 0.5), (1.0, 0.0), (1.0, 0.5)], (2, 2)),
    ],
)
def test_grids_leave_out_weights_that_stand_alone(tmp_path, pairs, shape):
    (grid,) = grids(study_of(grid_folders(tmp_path, pairs)))
    assert (len(grid.etas), len(grid.gammas)) == shape


@pytest.mark.parametrize(
    "pairs", [GRID[:3], [(0.5, 0.1), (1.0, 0.5), (2.0, 1.0)], [(0.5, 0.1), (0.5, 0.5), (1.0, 0.1)]]
)
def test_less_than_two_by_two_is_no_heat_map(tmp_path, pairs):
    assert sensitivity(study_of(grid_folders(tmp_path, pairs)), str) is None


def test_other_networks_are_no_part_of_a_grid(tmp_path):
    folders = grid_folders(tmp_path, GRID[:2] + GRID[3:5])
    assert len(grids(study_of(folders))) == 1
    edit(folders[0] / "experiment.json", latent_dim=8)
    assert grids(study_of(folders)) == []


def test_without_labels_there_is_no_map_of_accuracy(tmp_path):
    folders = grid_folders(tmp_path, GRID[:2] + GRID[3:5])
    for folder in folders:
        (folder / "representation.json").unlink()
    chart = sensitivity(study_of(folders), str)
    assert chart is not None
    assert len(chart.panels) == 2
