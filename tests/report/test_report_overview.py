"""Reports on several data sets: what the first screen says of each claim across them, and in which order."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from report_folders import MODELS, PROTOCOL, edit, make_run
from report_folders import make_matrix as make_full_matrix

from mpdvae import report
from mpdvae.report.claims import CLAIMS
from mpdvae.report.collect import collect
from mpdvae.report.looks import Look
from mpdvae.report.opening import opening
from mpdvae.report.overview import Overview, overview
from mpdvae.report.titles import titles
from mpdvae.report.verdicts import Verdict, judge_all

make_matrix = partial(make_full_matrix, pictures=False, explored=False)
THREE = ("mnist", "omniglot", "cifar10")
CLAIM = {claim.id: claim for claim in CLAIMS}
H, N, O, T = "holds", "does not hold", "cannot tell", "not tested"  # noqa: E741


def write(folders: list[Path], out: Path, **options) -> report.Results:
    return report.write(folders, html=out / "report.html", command="mpdvae report runs/*", **options)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> report.Results:
    """The report of three data sets, on one of which fewer models were run."""
    root = tmp_path_factory.mktemp("three")
    models = {"omniglot": ["mae", "vlae"]}
    return write([f for d in THREE for f in make_matrix(root / d, models.get(d, tuple(MODELS)), dataset=d)], root)


def said(made: report.Results, **words: str) -> Overview:
    """The overview if the claims had these words, one letter for each data set; the others are not tested."""

    def given(verdict: Verdict, place: int) -> Verdict:
        letters = words.get(verdict.claim.id, "TTT")
        return replace(verdict, word={"H": H, "N": N, "O": O, "T": T}[letters[place]])

    verdicts = [[given(v, place) for v in found] for place, found in enumerate(made.verdicts)]
    found = overview(made.collection.studies, verdicts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"C1": "HHH"}, "C1 holds on all three data sets."),
        ({"C1": "NNN"}, "C1 does not hold on any of the three data sets."),
        ({"C1": "OOO", "C4": "OOO"}, "C1 and C4 are open on all three data sets."),
        ({"C1": "HOO"}, "C1 holds on mnist, and is open on omniglot and cifar10."),
        ({"C1": "ONN", "V1": "ONN"}, "C1 and V1 do not hold on omniglot or cifar10, and are open on mnist."),
        ({"C1": "HNO"}, "C1 holds on mnist, does not hold on omniglot and is open on cifar10."),
        ({"C1": "HTH"}, "C1 holds on mnist and cifar10."),
        ({"C2": "HOT"}, "C2 holds on mnist, and is open on omniglot."),
        ({"C3": "TTH"}, "C3 holds on cifar10."),
        ({"C1": "HHH"}, "C2, C3, C4, C5, C6, V1 and V2 could not be tested."),
        ({"C5": "NHH"}, "C5 is a reviewer's doubt: refuting it speaks for the paper."),
        ({}, "None of the claims can be tested with these runs."),
    ],
)
def test_claims_with_the_same_verdicts_share_a_sentence(three: report.Results, words, sentence: str) -> None:
    assert sentence in said(three, **words).found


@pytest.mark.parametrize(
    ("datasets", "claim", "note"),
    [
        (("mnist", "cifar10"), "C2", "C2 is about OMNIGLOT, too, which was not run."),
        (("mnist", "omniglot-burda-lying"), "C2", ""),
        (("mnist", "omniglot"), "C3", "C3 is about CIFAR-10, which was not run."),
        (("digits", "sprites"), "C2", "C2 is about MNIST and OMNIGLOT, which were not run."),
        (("digits", "sprites"), "C1", ""),
    ],
)
def test_data_sets_that_were_not_run_are_named(tmp_path: Path, datasets, claim: str, note: str) -> None:
    folders = [f for d in datasets for f in make_matrix(tmp_path / d, ["mae", "vlae"], seeds=2, dataset=d)]
    made = write(folders, tmp_path)
    found = overview(made.collection.studies, made.verdicts)
    assert found is not None
    assert next(line.note for line in found.claims if line.claim.id == claim) == note
    for text in (made.html.read_text(), made.markdown.read_text().replace("\\", "")):
        assert f"{claim} is about" not in text if not note else note in text


def test_half_of_what_a_claim_is_about_is_said_on_one_data_set_too(tmp_path: Path) -> None:
    made = write(make_matrix(tmp_path / "runs", ["mae", "vlae"], seeds=2), tmp_path)
    note = "C2 is about OMNIGLOT, too, which was not run."
    assert note in opening(made.collection.studies[0], made.verdicts[0]).found
    assert made.html.read_text().count(note) == made.markdown.read_text().count(note) == 2
    assert "C3 is about" not in made.html.read_text()


def test_every_form_has_the_same_verdicts(three: report.Results) -> None:
    """In the order of the claims and of the papers' data sets."""
    found = overview(three.collection.studies, three.verdicts)
    assert found is not None
    assert found.titles == THREE
    page, text = three.html.read_text(), three.markdown.read_text()
    rows = re.findall(r'<tr><th scope="row"><span class="id">(\w\d).*?</tr>', page, re.DOTALL)
    assert rows == [line.claim.id for line in found.claims] == list(CLAIM)
    entries = json.loads(three.json.read_text())["claims"]
    for line in found.claims:
        (row,) = [r for r in text.splitlines() if r.startswith(f"| {line.claim.id} |")]
        shown = re.findall(r"\*\*(.+?)\*\*|(not its data set)", row)
        words = {e["dataset"]: e["verdict"] for e in entries if e["id"] == line.claim.id}
        expected = [
            ("", "not its data set") if c is None else (words[d], "") for d, c in zip(THREE, line.cells, strict=True)
        ]
        assert shown == expected
        assert {tuple(e["about"]) for e in entries if e["id"] == line.claim.id} == {line.claim.about}
    assert text.count(CLAIM["C6"].statement) == 1
    assert text.count("Each condition compares two models") == page.count("Each condition compares two models") == 1
    assert "Not every model was run on every data set." in found.asked


def test_every_link_leads_to_something_in_the_page(three: report.Results) -> None:
    text = three.html.read_text().split('id="plotly"')[0]
    links, names = re.findall(r' href="([^"]+)"', text), re.findall(r' id="([^"]+)"', text)
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(names)
    assert len(names) == len(set(names))
    assert {f"#study{i}-C1" for i in (1, 2, 3)} <= set(links)


def test_one_data_set_has_no_overview(tmp_path: Path) -> None:
    (study,) = collect(make_matrix(tmp_path, ["mae", "vlae"], seeds=1)).studies
    assert overview([study], [judge_all(study)]) is None


def test_titles_tell_studies_on_one_data_set_apart(tmp_path: Path) -> None:
    static = PROTOCOL.replace("dynamic", "static")
    for name, options in {
        "a": {},
        "b": {"protocol": static},
        "c": {"samples": 4096},
        "d": {"scale": "hours"},
        "e": {"dataset": "digits"},
    }.items():
        make_run(tmp_path / name, pictures=False, **options)
    edit(make_run(tmp_path / "f", pictures=False) / "diagnostics.json", images=50)
    edit(
        make_run(tmp_path / "g", pictures=False) / "manifest.json",
        data={"name": "mnist", "sha256": "cd" * 32, "protocol": ""},
    )
    found = titles([study.setting for study in collect(sorted(tmp_path.iterdir())).studies])
    assert len(set(found)) == 7
    assert found[-1] == "digits"
    assert sum("static binarisation" in title for title in found) == 1
    pair = titles([study.setting for study in collect([tmp_path / "a", tmp_path / "b"]).studies])
    assert pair == ["mnist (dynamic binarisation)", "mnist (static binarisation)"]
    assert titles([study.setting for study in collect([tmp_path / "a", tmp_path / "e"]).studies]) == ["mnist", "digits"]


def test_few_seeds_and_unreliable_likelihoods_are_said(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path / "a", ["mae", "vlae"], seeds=3)
    folders += make_matrix(tmp_path / "b", ["mae", "vlae"], seeds=1, dataset="omniglot")
    heavy = {"median": 0.6, "share_above_0.7": 0.01, "threshold": 0.58, "share_above_threshold": 0.4}
    edit(folders[-1] / "density.json", pareto_k=heavy)
    made = write(folders, tmp_path)
    found = overview(made.collection.studies, made.verdicts)
    assert found is not None
    assert "Some likelihoods on omniglot are not reliable" in found.trust
    assert "With one seed, as on omniglot, no claim is decided." in found.trust
    assert "(the least certain: " in found.trust
    assert "40% (vlae)" in opening(made.collection.studies[1], made.verdicts[1]).glance
    cells = {line.claim.id: line.cells for line in found.claims}
    assert [bool(cell and cell.caution) for cell in cells["C2"]] == [False, True]
    assert made.html.read_text().count("rests on unreliable likelihoods") == 2
    assert made.markdown.read_text().count("rests on unreliable likelihoods") == 2


def test_each_rule_names_its_data_sets(tmp_path: Path) -> None:
    folders = [f for d in ("mnist", "omniglot") for f in make_matrix(tmp_path / d, ["mae", "vlae"], seeds=2, dataset=d)]
    for looks, starts in (({}, ["Each"]), ({"mnist": Look(2, (1, 2))}, ["On mnist: Each", "On omniglot: Each"])):
        made = write(folders, tmp_path, looks=looks)
        found = overview(made.collection.studies, made.verdicts)
        assert found is not None
        assert [text.partition(" condition")[0] for text in found.rules] == starts
