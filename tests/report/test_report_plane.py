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
from mpdvae.report.charts import charts
from mpdvae.report.collect import Study, collect
from mpdvae.report.contours import contours
from mpdvae.report.families import families
from mpdvae.report.figures import Chart
from mpdvae.report.palette import symbol, variant_styles
from mpdvae.report.plane import Plane, plane, points
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


def figure(chart: Chart | Plane | None, panel: int = 0) -> dict[str, Any]:
    assert chart is not None
    return json.loads((chart.panel if isinstance(chart, Plane) else chart.panels[panel]).figure)


def traces(chart: Chart | Plane | None, panel: int = 0) -> list[dict[str, Any]]:
    return figure(chart, panel)["data"]


def texts(chart: Plane | None) -> list[str]:
    """All labels of the plane, and the numbers of its contours."""
    return [annotation["text"] for annotation in figure(chart)["layout"]["annotations"]]


def test_families_are_models_that_differ_in_one_dial(tmp_path):
    found = {f.title: [(s, v.label) for s, v in f.members] for f in families(study_of(swept(tmp_path)))}
    assert found == {
        "KL weight": [(0.5, "beta-0.5"), (1.0, "vae-pixelcnn"), (2.0, "beta-2")],
        "free bits": [(0.0, "vae-pixelcnn"), (9.6, "free-bits")],
        "committed rate": [(0.0, "vae-pixelcnn"), (3.2, "delta")],
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
    large = {
        c: xy
        for t in drawn
        if t["marker"]["size"] == 11
        for c, *xy in zip(t["customdata"], t["x"], t["y"], strict=True)
    }
    assert large == {f"{m}-0": [pytest.approx(p.rate_nats), pytest.approx(p.distortion_nats)] for m, p in found.items()}
    small = {
        c: xy for t in drawn if t["marker"]["size"] < 11 for c, *xy in zip(t["customdata"], t["x"], t["y"], strict=True)
    }
    assert small == {name: [d["kl_nats"]["mean"], d["reconstruction_nats"]["mean"]] for name, d in measured.items()}


def test_lines_join_families_in_the_order_of_their_strength(tmp_path):
    study = study_of(swept(tmp_path))
    place = {p.variant.label: (p.rate_nats, p.distortion_nats) for p in points(study)}
    drawn = traces(plane(study, str))
    lines = {t["name"]: list(zip(t["x"], t["y"], strict=True)) for t in drawn if t["mode"] == "lines" and "name" in t}
    assert lines["KL weight"] == [place[m] for m in ("beta-0.5", "vae-pixelcnn", "beta-2")]
    # vae-pixelcnn is in three families and drawn once, by name; a family of two has names, too.
    chart = plane(study, str)
    assert chart is not None
    names = [text for text in texts(chart) if not text.isdigit() or text == "2"]
    assert sorted(names) == ["0.5", "2", "delta", "free-bits", "vae-pixelcnn"]
    assert chart.legend == ()
    joined = (
        "Joined: models that differ only in KL weight (solid), free bits (dashed) and committed rate (long-dashed)."
    )
    assert joined in chart.note


def test_varied_settings_are_said_in_words(tmp_path):
    found = {p.variant.label: p.varied for p in points(study_of(swept(tmp_path / "swept")))}
    assert found == {
        "beta-0.5": "KL weight 0.5",
        "vae-pixelcnn": "KL weight 1; free bits 0 nats; committed rate 0 nats",
        "beta-2": "KL weight 2",
        "free-bits": "free bits 9.6 nats",
        "delta": "committed rate 3.2 nats",
    }
    found = {p.variant.label: p.varied for p in points(study_of(grid_folders(tmp_path / "grid", GRID[:5])))}
    assert found["mae-1.0-0.1"] == "diversity weight 1 at smoothness 0.1"


def test_the_plane_repeats_no_number_of_the_tables(tmp_path):
    """The page lists the models of the plane with their settings and links; Markdown only those that differ in a setting."""
    made = report.write(swept(tmp_path / "swept"), html=tmp_path / "swept.html", command="x")
    listed = made.html.read_text().split('id="study1-points"')[1].split("</details>")[0]
    assert re.findall(r'<th scope="col"[^>]*>(.*?)</th>', listed) == ["model", "varied setting", "runs"]
    assert "| delta | committed rate 3.2 nats |" in made.markdown.read_text()
    made = report.write(
        make_matrix(tmp_path / "three", ["vae", "vlae", "mae"], seeds=1), html=tmp_path / "r.html", command="x"
    )
    listed = made.html.read_text().split('id="study1-points"')[1].split("</details>")[0]
    assert re.findall(r'<th scope="col"[^>]*>(.*?)</th>', listed) == ["model", "runs"]
    assert "differ in one setting" not in made.markdown.read_text()


def test_a_model_has_one_colour_in_all_charts(tmp_path):
    study = study_of(make_matrix(tmp_path, seeds=2))
    styles = variant_styles(study)
    drawn = [t for t in traces(plane(study, str)) if "markers" in t["mode"]]
    assert {t["name"] for t in drawn} == set(styles)
    assert all(t["marker"]["color"] == styles[t["name"]][0] for t in drawn)
    assert all(t["marker"]["symbol"] == symbol(styles[t["name"]][1]) for t in drawn if t["marker"]["size"] == 11)
    curves = [t for chart in charts(study, str) if chart.name == "learning" for t in traces(chart)]
    assert {t["name"]: t["line"]["color"] for t in curves} == {name: colour for name, (colour, _) in styles.items()}


@pytest.mark.parametrize("count", [3, 11, 26])
def test_every_model_is_named_once_in_the_plane_or_its_legend(tmp_path, count):
    models = [f"remedy-{i:02d}" for i in range(count)]
    random = np.random.default_rng(count)
    folders = [
        make_run(tmp_path / m, m, numbers={"kl": 3 + random.normal(), "nll": 88 + random.normal() / 4}) for m in models
    ]
    for i, folder in enumerate(folders):
        edit(folder / "experiment.json", latent_dim=8 + i)  # otherwise they would be one model
    chart = plane(study_of(folders), str)
    assert chart is not None
    in_plane, in_legend = [t for t in texts(chart) if t in models], [model for _, model in chart.legend]
    assert sorted(in_plane + in_legend) == models
    letters = [letter for letter, _ in chart.legend if letter]
    assert sorted(t for t in texts(chart) if t.isalpha()) == sorted(letters) == sorted(set(letters))


@pytest.mark.parametrize(("rates", "distortions"), [((0.0, 20.0), (70.0, 95.0)), ((0.1, 0.4), (-3.0, 40.0))])
def test_lines_of_equal_elbo(rates, distortions):
    lines = contours(rates, distortions)
    assert 3 <= len(lines) <= 12
    for line in lines:
        x, y = np.array(line.rates), np.array(line.distortions)
        np.testing.assert_allclose(np.diff(y) / np.diff(x), -1, rtol=1e-6)
        np.testing.assert_allclose(x + y, line.total, atol=1e-6)
        # From border to border.
        assert np.isclose(x[0], rates[0]) or np.isclose(y[0], distortions[1])
        assert np.isclose(x[-1], rates[1]) or np.isclose(y[-1], distortions[0])
    totals = [line.total for line in lines]
    np.testing.assert_allclose(np.diff(totals), totals[1] - totals[0])


def test_numbers_of_lines_stand_on_them(tmp_path):
    annotations = figure(plane(study_of(make_matrix(tmp_path, seeds=1)), str))["layout"]["annotations"]
    marks = [a for a in annotations if a["text"].isdigit()]
    assert len(marks) >= 3
    for mark in marks:
        assert mark["x"] + mark["y"] == pytest.approx(float(mark["text"]))


def test_hover_names_the_run_and_its_likelihood(tmp_path):
    drawn = traces(plane(study_of(make_matrix(tmp_path, ["vae", "vlae", "mae"], seeds=1, noise=0.0)), str))
    assert "mae: NLL 87.00 nats" in [text for t in drawn for text in t.get("hovertext") or []]


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


def test_names_in_the_plane_are_no_markup(tmp_path):
    folders = [make_run(tmp_path / f"{i}", f"<b>{i}&", numbers={"kl": 3.0 * i, "nll": 88.0 + i}) for i in range(3)]
    for i, folder in enumerate(folders):
        edit(folder / "experiment.json", latent_dim=8 + i)
    assert {t for t in texts(plane(study_of(folders), str)) if "b" in t} == {f"&lt;b>{i}&amp;" for i in range(3)}


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
    folders = grid_folders(tmp_path, GRID[:6], seeds=2)
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
    "pairs",
    [GRID[:2] + GRID[3:5], GRID[:3], [(0.5, 0.1), (1.0, 0.5), (2.0, 1.0)], [(0.5, 0.1), (0.5, 0.5), (1.0, 0.1)]],
)
def test_two_by_two_or_less_is_no_heat_map(tmp_path, pairs):
    assert sensitivity(study_of(grid_folders(tmp_path, pairs)), str) is None


def test_other_networks_are_no_part_of_a_grid(tmp_path):
    folders = grid_folders(tmp_path, GRID[:2] + GRID[3:5])
    assert len(grids(study_of(folders))) == 1
    edit(folders[0] / "experiment.json", latent_dim=8)
    assert grids(study_of(folders)) == []


def test_without_labels_there_is_no_map_of_accuracy(tmp_path):
    folders = grid_folders(tmp_path, GRID[:6])
    for folder in folders:
        (folder / "representation.json").unlink()
    chart = sensitivity(study_of(folders), str)
    assert chart is not None
    assert len(chart.panels) == 2
