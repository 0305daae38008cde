"""Reading run folders and writing the report: grouping, errors, escaping, one file that needs no network."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_folders import PROTOCOL, add_referee, edit, make_matrix, make_run

from mpdvae import report
from mpdvae.distributions.pixel_values import AS_DENSITY
from mpdvae.errors import InputError
from mpdvae.report.collect import collect
from mpdvae.report.opening import opening, unreliable
from mpdvae.report.published import comparable, reasons_against
from mpdvae.report.setup import differences

EVIL = "<script>alert('x')</script>|`"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Text of tables, addresses that a browser would load, and whether elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs) -> None:
        values = dict(attrs)
        addresses = [v for k in ("src", "href", "srcset", "data", "poster") if (v := values.get(k))]
        (self.links if tag == "a" else self.loads).extend(addresses)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def write(folders: list[Path], out: Path) -> report.Results:
    return report.write(folders, html=out / "report.html", command="mpdvae report runs/* --out report.html")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> report.Results:
    """The report of six models with three seeds."""
    root = tmp_path_factory.mktemp("matrix")
    return write(make_matrix(root / "runs"), root)


def test_page_is_one_small_file_without_requests(matrix: report.Results) -> None:
    text = matrix.html.read_text()
    assert matrix.html.stat().st_size < 10e6
    page = Page(text)
    assert page.loads
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    assert all(link.startswith("#") for link in page.links)  # a mailed file has no folders beside it
    assert {link[1:] for link in page.links} <= set(re.findall(r' id="([^"]+)"', text))
    assert {link for link in page.links if link.startswith("#run")} == {f"#run{i}" for i in range(1, 19)}
    assert "default-src 'none'" in text
    assert "@import" not in text.split("</style>")[0]
    assert "url(" not in text.split("</style>")[0]
    assert text.count("plotly.js v") == 1


def test_figures_are_json_with_every_panel(matrix: report.Results) -> None:
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', matrix.html.read_text())
    figures = [json.loads(script) for script in scripts]
    assert len(figures) == 1 + 2 + 6 + 2 + 6 + 2 + 5
    assert all(figure["data"] and figure["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)" for figure in figures)


def test_markdown_and_page_show_the_same_numbers(matrix: report.Results) -> None:
    page = Page(matrix.html.read_text())
    shown = {(row[0].strip(), *map(str.strip, row[1:])) for row in page.rows}
    text = matrix.markdown.read_text().split("### All models")[1].split("### Comparison")[0]
    tables = [[line for line in part.splitlines() if line.startswith("| ")] for part in text.split("\n\n")]
    lines = [line for table in tables for line in table[2:]]
    assert len(lines) > 40
    for line in lines:
        cells = [c.strip().replace("\\", "").replace("&gt;", ">") for c in line.strip("| ").split(" | ")]
        assert tuple(cells) in shown


def test_the_first_screen_answers_in_three_lines(matrix: report.Results) -> None:
    """The same in the page and in Markdown; the numbers are those of the tables."""
    first = opening(matrix.collection.studies[0], matrix.verdicts[0])
    page, text = matrix.html.read_text(), matrix.markdown.read_text()
    for title, line in first.lines:
        assert f"<dt>{title}</dt><dd>{html.escape(line)}</dd>".replace("&#x27;", "&#39;") in page
        assert f"**{title}.** {line.replace('*', '')}" in text.replace("\\", "")
    nll = [cell.strip() for cell in next(r for r in Page(page).rows if r[0].startswith("NLL, imp"))]
    assert f"NLL (lower is better): {nll[1]} against {nll[2]} nats" in first.found
    words = {v.claim.id: v.word for v in matrix.verdicts[0]}
    assert list(words) == ["C1", "C2", "C3", "C4", "C5", "C6", "V1", "V2"]
    assert re.findall(r'<span class="id">(\w+)</span>', page) == list(words)
    assert f"Of {sum(word != 'not tested' for word in words.values())} claims tested" in first.found
    assert ("C5 is a reviewer's doubt" in first.found) == (words["C5"] == "does not hold")
    assert "Likelihoods are of 1,000 test images with 128 importance samples each." in first.trust
    assert [picture.model for picture in first.samples] == ["vae-pixelcnn", "vlae", "mae"]


def test_verdicts_on_unreliable_likelihoods_say_so(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path / "runs")
    for folder in folders:
        if folder.name.startswith("mae-"):
            edit(
                folder / "density.json",
                pareto_k={"median": 0.6, "share_above_0.7": 0.01, "threshold": 0.58, "share_above_threshold": 0.4},
            )
    made = write(folders, tmp_path)
    study, verdicts = made.collection.studies[0], {v.claim.id: v for v in made.verdicts[0]}
    assert unreliable(verdicts["C2"], study) == "Rests on likelihoods of which 40% (mae) are unreliable."
    assert unreliable(verdicts["V1"], study) == unreliable(verdicts["V2"], study) == ""
    assert made.html.read_text().count('<p class="caution">') == 4 == made.markdown.read_text().count("Rests on")
    assert "The weights of 40% (mae)" in opening(study, made.verdicts[0]).trust


@pytest.mark.parametrize("models", [["vae"], ["mae", "vae"], ["mae", "vlae"]])
def test_fewer_models_have_a_first_screen_too(tmp_path: Path, models: list[str]) -> None:
    made = write(make_matrix(tmp_path / "runs", models, seeds=1), tmp_path)
    first = opening(made.collection.studies[0], made.verdicts[0])
    assert ("mae against vlae" in first.found) == ("vlae" in models)
    assert "With one seed there are no intervals" in first.trust
    assert ("None of the claims can be tested" in first.found) == ("vlae" not in models)


def test_verdicts_have_their_step_in_every_form(matrix: report.Results) -> None:
    row = ["mae", "partly collapsed", "50", "1.86 ± 0.00", "27.60 ± 0.00", "0.80 ± 0.00"]
    assert row in [[cell.strip() for cell in shown] for shown in Page(matrix.html.read_text()).rows]
    assert "| " + " | ".join(row) + " |" in matrix.markdown.read_text()


def test_runs_of_earlier_versions_show_what_they_noted(tmp_path: Path) -> None:
    """Beside newer ones, whose curves are drawn alone."""
    old = make_run(tmp_path / "old", "vae", probed=False)
    alone = write([old], tmp_path)
    page = Page(alone.html.read_text())
    verdict = "partly collapsed: 12 of 32 units carry less than 0.01 nats (since which step is not known)"
    assert f"<dt>collapse</dt><dd>{verdict}</dd>" in alone.html.read_text()
    assert ["vae", "partly collapsed", "–", "–", "–", "–"] in [[cell.strip() for cell in shown] for shown in page.rows]
    assert "Codes during training" not in alone.html.read_text()
    both = write([old, make_run(tmp_path / "new", "mae")], tmp_path)
    figures = [
        json.loads(s) for s in re.findall(r'<script type="application/json">(.*?)</script>', both.html.read_text())
    ]
    lag = [figure for figure in figures if any(trace["y"][:1] == [7.0] for trace in figure["data"])]
    assert [{trace["meta"] for trace in figure["data"]} for figure in lag] == [{"mae"}]


def test_what_went_wrong_in_training_is_told(tmp_path: Path) -> None:
    folder, intact = make_run(tmp_path / "mae", "mae"), make_run(tmp_path / "vae", "vae")
    edit(
        folder / "manifest.json", skipped_steps=3, rollbacks=["from step 9 <b>back</b>"], damaged_checkpoints=["step-9"]
    )
    report.write([folder, intact], html=tmp_path / "r.html", command="mpdvae report")
    assert (tmp_path / "r.html").read_text().count("<dt>problems</dt>") == 1
    assert "from step 9 &lt;b&gt;back&lt;/b&gt;; checkpoint step-9 was damaged" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "r.md").read_text().count("  - problems: 3 steps skipped") == 1


def test_results_hold_what_the_table_shows(matrix: report.Results) -> None:
    content = json.loads(matrix.json.read_text())
    assert content["format"] == 1
    assert [row["model"] for row in content["rows"]][:2] == ["mae", "vlae"]
    row = content["rows"][0]
    nll = row["metrics"]["nll_nats"]
    assert set(nll) == {"mean", "half_width_95", "covers", "values", "unit"}
    knn = row["metrics"]["knn10_accuracy/1000"]["noise"]
    assert knn["subsets"] == pytest.approx(0.004)
    assert knn["both"] ** 2 == pytest.approx(knn["subsets"] ** 2 + knn["seeds"] ** 2)
    assert [b["label"] for b in content["baselines"]] == ["raw pixels", "PCA, 32 dimensions", "untrained encoder"]
    assert content["baselines"][0]["metrics"]["knn10_accuracy/10000"]["mean"] == pytest.approx(0.91)
    assert nll["mean"] == pytest.approx(sum(nll["values"].values()) / 3)
    assert f"{nll['mean']:.2f} ± {nll['half_width_95']:.2f}" in matrix.markdown.read_text()
    assert row["runs"] == ["runs/mae-0", "runs/mae-1", "runs/mae-2"]
    assert {claim["verdict"] for claim in content["claims"]} <= {"holds", "does not hold", "cannot tell", "not tested"}
    assert content["environments"][0]["torch"] == "2.13.0+cpu"


def test_no_published_number_beside_another_protocol(matrix: report.Results) -> None:
    for path in (matrix.html, matrix.markdown):
        text = path.read_text()
        assert "No published number is comparable" in text
        assert "78.53" not in text
    assert json.loads(matrix.json.read_text())["published"] == []


def test_published_numbers_stand_beside_the_same_protocol(tmp_path: Path) -> None:
    made = write(make_matrix(tmp_path / "runs", ["vlae"], scale="paper", samples=4096, images=50_000), tmp_path)
    assert "78.53" in made.html.read_text()
    assert "78.53" in made.markdown.read_text()
    static = make_run(
        tmp_path / "s", "vlae", scale="paper", samples=4096, images=10_000, protocol="MNIST 28x28, static"
    )
    assert comparable(collect([static]).studies[0].setting) == ()


def test_a_density_stands_beside_no_published_probability(tmp_path: Path) -> None:
    levels = "CIFAR-10 32x32 colour, 256 levels"
    for name, protocol, reason in [
        ("density", f"{levels}; {AS_DENSITY}", "likelihoods are densities instead of probabilities"),
        ("fewer", levels.replace("256", "32"), "the binarisation is not levels"),
        ("levels", levels, None),
    ]:
        run = make_run(tmp_path / name, "vlae", scale="paper", samples=4096, dataset="cifar10", protocol=protocol)
        found = reasons_against(collect([run]).studies[0].setting)
        assert (reason in found) == (reason is not None)
        assert reason is not None or not any("densit" in text or "binarisation" in text for text in found)


def test_names_from_run_folders_are_escaped(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", EVIL, protocol=EVIL, dataset=EVIL, torch=EVIL, command=EVIL)
    unfinished = make_run(tmp_path / "other", EVIL, 1, status=EVIL)
    made = report.write([folder, unfinished], html=tmp_path / "r.html", command=EVIL, title=EVIL)
    text = made.html.read_text()
    Page(text)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    outside_code = re.sub(r"(`+).*?\1", "", made.markdown.read_text())
    assert "<script>" not in outside_code
    assert json.loads(made.json.read_text())["rows"][0]["model"] == EVIL


def test_protocols_are_never_in_one_table(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path / "a", ["vae", "mae"], seeds=2)
    folders += make_matrix(tmp_path / "b", ["vae"], seeds=2, protocol=PROTOCOL.replace("dynamic", "static"))
    folders += make_matrix(tmp_path / "c", ["vae"], seeds=2, samples=4096)
    folders += make_matrix(tmp_path / "d", ["vae"], seeds=2, scale="hours")
    made = write(folders, tmp_path)
    assert sorted(len(study.variants) for study in made.collection.studies) == [1, 1, 1, 2]
    assert made.html.read_text().count('aria-label="Table of all models: Density"') == 4
    assert len(json.loads(made.json.read_text())["claims"]) == 4 * len(made.verdicts[0])


def test_the_sandwich_stands_beside_the_estimate_where_a_run_has_it(tmp_path: Path) -> None:
    judged, other = make_run(tmp_path / "a", "mae"), make_run(tmp_path / "b", "vlae")
    add_referee(judged)
    made = write([judged, other], tmp_path)
    rows = {tuple(cell.strip() for cell in row) for row in Page(made.html.read_text()).rows}
    assert ("Simulated images: NLL, lower bound (nats)", "84.50", "–") in rows
    assert ("Simulated images: NLL, importance-weighted (nats)", "84.88", "–") in rows
    assert ("Simulated images: NLL, upper bound (nats)", "85.25", "–") in rows
    assert ("Real images: NLL, annealed (nats)", "86.75", "–") in rows
    for path in (made.html, made.markdown):
        assert "16 chains of 200 steps on 10 images" in path.read_text()
    metrics = json.loads(made.json.read_text())["rows"][0]["metrics"]
    assert metrics["referee_simulated_nll_at_most_nats"]["values"] == {"0": 85.25}
    assert "Simulated images" not in write([other], tmp_path).html.read_text()


def test_a_tolerance_makes_another_study(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a", "mae"), make_run(tmp_path / "b", "vlae")]
    edit(folders[0] / "density.json", tolerance_nats=0.05)
    studies = collect(folders).studies
    assert len(studies) == 2
    assert sum("or an error of 0.05 nats" in study.setting.measured for study in studies) == 1


def test_data_sets_are_in_the_order_of_the_papers(tmp_path: Path) -> None:
    named = ["sprites", "cifar10", "digits", "omniglot", "mnist"]
    found = collect([make_run(tmp_path / name, dataset=name, pictures=False) for name in named]).studies
    assert [study.setting.dataset for study in found] == ["mnist", "omniglot", "cifar10", "digits", "sprites"]


def test_one_seed_shows_no_interval(tmp_path: Path) -> None:
    made = write([make_run(tmp_path / "run")], tmp_path)
    table = made.markdown.read_text().split("### All models")[1].split("###")[0]
    assert "±" not in table
    assert "One seed only" in table
    assert json.loads(made.json.read_text())["rows"][0]["metrics"]["nll_nats"]["half_width_95"] is None


def test_unfinished_runs_are_listed_not_used(tmp_path: Path) -> None:
    unfinished = make_run(tmp_path / "b", "mae", 1, status="interrupted")
    (unfinished / "density.json").unlink()
    made = write([make_run(tmp_path / "a"), unfinished], tmp_path)
    assert len(made.collection.runs) == 1
    assert "interrupted" in made.html.read_text()
    assert "interrupted" in report.console(made)
    only = report.write([unfinished], html=tmp_path / "only.html", command="x")
    assert "No run has finished yet" in only.html.read_text()


def test_an_imported_model_that_was_not_measured_yet_is_listed(tmp_path: Path) -> None:
    imported = make_run(tmp_path / "imported", status="trained")
    manifest = json.loads((imported / "manifest.json").read_text())
    del manifest["data"]
    (imported / "manifest.json").write_text(json.dumps(manifest))
    made = write([make_run(tmp_path / "a"), imported], tmp_path)
    assert [run.status for run in made.collection.unfinished] == ["trained"]


@pytest.mark.parametrize(
    "name", ["experiment.json", "manifest.json", "history.jsonl", "density.json", "diagnostics.json"]
)
def test_missing_and_broken_files_are_named(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / name).write_text('{"step": ')
    with pytest.raises(InputError, match=rf"{re.escape(name)}.* is broken \(.*\): .+\."):
        collect([folder])
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(name)} is missing: .+\."):
        collect([folder])


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    edit(folder / "density.json", samples="many")
    with pytest.raises(InputError, match=r"density\.json is broken \(samples: .*mpdvae evaluate"):
        collect([folder])


def test_optional_parts_may_be_absent(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", labels=False, pictures=False)
    for name in ("codes", "information", "code_use"):
        (folder / f"{name}.json").unlink()
    text = write([folder], tmp_path).html.read_text()
    assert "Map of the codes" not in text
    assert "Test accuracy" not in text
    assert "Use of the code" not in text
    assert "No representation scores: they require labels of at least two classes." in text
    (folder / "figures" / "samples.png").write_bytes(b"no picture")
    assert ">Samples<" not in write([folder], tmp_path).html.read_text()


def test_bad_input_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(InputError, match="no run folder was given"):
        collect([])
    with pytest.raises(InputError, match="is not a folder"):
        collect([tmp_path / "nothing"])
    with pytest.raises(InputError, match="same configuration with the same seed 0"):
        collect([folder, make_run(tmp_path / "twin")])
    with pytest.raises(InputError, match=r"ends in \.html"):
        report.write([folder], html=tmp_path / "report.txt", command="x")
    assert len(collect([folder, tmp_path / "run" / ".." / "run"]).runs) == 1


def test_nothing_but_a_report_is_overwritten(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match="was not written by a report"):
        report.write([folder], html=tmp_path / "README.html", command="x")
    assert not (tmp_path / "README.html").exists()
    assert write([folder], tmp_path).html.read_bytes() == write([folder], tmp_path).html.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_environments_that_differ_are_said_to(tmp_path: Path) -> None:
    made = write([make_run(tmp_path / "a", seed=0), make_run(tmp_path / "b", seed=1, torch="2.6.0")], tmp_path)
    assert "2 environments, which differ in torch" in made.html.read_text()
    assert "The environments differ in torch." in made.markdown.read_text()


def test_only_differing_fields_of_environments_are_in_the_table(tmp_path: Path) -> None:
    """Of runs of now and of an earlier version, of one that went on elsewhere, and with text that nobody should believe."""
    fields = {"torch": "2.13.0+cpu", "platform": "Linux x86_64", "cpu": "this", "release": "6.1", "threads": 1}
    others = [fields, fields | {"cpu": EVIL, "release": "6.2"}, fields | {"threads": 2}]
    folders = [make_run(tmp_path / "runs" / str(seed), seed=seed) for seed in range(4)]
    for folder, of in zip(folders, [others[:1], others[1:2], [others[0], others[2]]], strict=False):
        noted = [{"used_for": ["training"], "from_step": 0, "fields": environment} for environment in of]
        edit(folder / "manifest.json", environments=noted)
    made = write(folders, tmp_path)
    page = Page(made.html.read_text())
    assert "4 environments, which differ in cpu, threads." in made.html.read_text()
    assert EVIL not in made.html.read_text()
    assert EVIL not in made.markdown.read_text()
    assert [row for row in page.rows if row[0].startswith("runs/")][-4:] == [
        ["runs/0", "this", "1"],
        ["runs/1", EVIL, "1"],
        ["runs/2", "this", "1, then 2"],
        ["runs/3", "not recorded", "not recorded"],
    ]
    assert "| runs/2 | this | 1, then 2 |" in made.markdown.read_text()
    assert "platform Linux x86\\_64" in made.markdown.read_text()
    (only,) = [folders[2]]
    text = write([only], tmp_path / "one").html.read_text()
    assert "The environment changed during the runs, in threads." in text


def test_setup_compares_like_with_like(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "mae")
    pixelcnn = {"kind": "pixelcnn", "channels": 64, "kernel_sizes": [7, 7, 7, 5, 5, 3, 3], "condition_channels": 4}
    edit(folder / "experiment.json", decoder=pixelcnn)
    same = {row.title: row.same for row in differences(collect([folder]).studies[0])}
    assert same["Decoder"]
    assert same["Latent dimension"]
    assert not same["Encoder"]


def test_console_fits_its_width(matrix: report.Results) -> None:
    text = report.console(matrix, width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "does not hold" in text
    assert "mae-no-" in text


def test_baselines_stand_beside_the_codes(matrix: report.Results) -> None:
    text = matrix.markdown.read_text().split("### Representation")[1].split("### Comparison")[0]
    assert "| raw pixels | PCA, 32 dimensions | untrained encoder | mae |" in text
    row = next(
        line for line in text.splitlines() if line.startswith("| 10-NN, 10,000 labels | 0.910 | 0.930 | 0.852 ± ")
    )
    assert len(row.split(" | ")) == 1 + 3 + 6
    noise = text.split("over both")[1]
    assert "| 10-NN, 10,000 labels | 0.004 / – / – | 0.004 / – / – | 0.004 / 0.002 / 0.004 |" in noise
    assert "SVMs with 10,000 labels: too many." in text
    assert "PCA" in report.console(matrix)


def test_encoders_that_differ_have_their_own_untrained_ones(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path / "runs", ["vae", "mae"], seeds=2)
    for folder in folders[2:]:
        edit(folder / "experiment.json", encoder={"kind": "mlp"})
    text = write(folders, tmp_path).markdown.read_text()
    assert "| raw pixels | PCA, 32 dimensions | untrained encoder (of mae) | untrained encoder (of vae) |" in text


def test_many_models_are_rows(tmp_path: Path) -> None:
    """A table whose columns would be too narrow for names is turned, and sorted by its columns; notes say whose baseline."""
    models = [f"latent-reconstruction-{i:02d}" for i in range(12)]
    folders = [make_run(tmp_path / "runs" / m, m, numbers={"nll": 80 + i / 2}) for i, m in enumerate(models)]
    for i, folder in enumerate(folders):
        edit(folder / "experiment.json", encoder={"kind": "mlp", "hidden_features": [64 if i < 10 else 32 + i]})
        edit(folder / "experiment.json", optimiser={"kind": "adam", "learning_rate": i + 1})
    made = write(folders, tmp_path)
    text, rows = made.markdown.read_text(), [[c.strip() for c in row] for row in Page(made.html.read_text()).rows]
    density = next(row for row in rows if row[1:2] == ["NLL, importance-weighted (nats)"])
    assert [row[0] for row in rows if row[1:2] and len(row) == len(density) and row[1][:1] == "8"] == models
    assert "| Density | NLL, importance-weighted (nats) |" in text
    assert "| untrained encoder |" in text
    assert "| untrained encoder (of latent-reconstruction-11) |" in text
    assert f"“untrained encoder” is that of {', '.join(models[:9])} and {models[9]}." in text


def test_any_number_of_untrained_encoders_is_drawn(tmp_path: Path) -> None:
    """More than there are styles for baselines."""
    models = ["vae", "vae-pixelcnn", "vlae", "mae"]
    folders = make_matrix(tmp_path / "runs", models, seeds=1)
    for features, folder in enumerate(folders, start=1):
        edit(folder / "experiment.json", encoder={"kind": "mlp", "hidden_features": [features]})
    text = write(folders, tmp_path).html.read_text()
    assert all(f'data-entry="untrained encoder (of {model})"' in text for model in models)


def test_runs_without_anything_to_explore_are_named(tmp_path: Path) -> None:
    old, new = make_run(tmp_path / "old", "vae", explored=False), make_run(tmp_path / "new", "mae")
    text = write([old, new], tmp_path).html.read_text()
    assert "Nothing to explore for vae:" in text
    assert '<option value="0">mae, seed 0</option>' in text
    alone = write([old], tmp_path).html.read_text()
    assert "No codes to explore: these runs" in alone
    assert "study1-explore" not in alone
    assert "explore-data" not in alone.split("<script>")[0]


def test_models_share_the_sheet_of_their_points(matrix: report.Results) -> None:
    text = matrix.html.read_text()
    models = json.loads(text.split('class="explore-data">')[1].split("</script>")[0])
    assert len(models) == 6
    assert len({model["sheets"]["points"] for model in models}) == 1
    assert text.count("data-sheet=") == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbours": [[0]]}, r"explore\.json is broken \(its lists do not all have 1 points\)"),
        (
            {"image": {"height": 27, "width": 28}},
            r"points\.png is broken \(expected 40 images of 27x28, got a picture of",
        ),
        ({"neighbours": [[40]] * 40}, r"explore\.json is broken \(a neighbour is not one of its 40 points\)"),
        ({"maps": {}}, r"explore\.json is broken \(maps: "),
    ],
)
def test_what_cannot_be_explored_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    folder = make_run(tmp_path / "run")
    edit(folder / "explore.json", **change)
    with pytest.raises(InputError, match=message):
        write([folder], tmp_path)
