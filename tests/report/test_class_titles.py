"""Classes in the report: every class has a title of its own, its name where runs record one."""

import html
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_folders import make_run

from mpdvae import report
from mpdvae.report.class_titles import LONGEST, class_titles, names_in
from mpdvae.report.collect import collect

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@given(st.lists(st.integers(-2, 12), max_size=12), st.lists(st.text(max_size=60), max_size=10))
def test_every_class_has_one_short_title_that_no_other_has(labels, names):
    titles = class_titles(labels, names)
    assert list(titles) == sorted(set(labels))
    assert len(set(titles.values())) == len(titles)
    assert all(title.isprintable() for title in titles.values())


@pytest.mark.parametrize(
    ("names", "expected"),
    {
        (): {0: "0", 1: "1", 3: "3"},
        ("cat", "dog", "emu", "owl"): {0: "cat", 1: "dog", 3: "owl"},
        ("cat", "dog"): {0: "cat", 1: "dog", 3: "3"},
        ("cat", "cat"): {0: "cat (0)", 1: "cat (1)", 3: "3 (3)"},
        ("x" * LONGEST, "x" * (LONGEST + 1)): {0: "x" * LONGEST, 1: "x" * (LONGEST - 3) + "...", 3: "3"},
    }.items(),
)
def test_titles_are_names_or_numbers(names, expected):
    assert class_titles([3, 0, 1, 1], names) == expected


def page_of(folder: Path, *names: tuple[str, ...]) -> str:
    """The report of runs whose classes have these names, by run."""
    runs = [make_run(folder / str(i), seed=i, class_names=own) for i, own in enumerate(names)]
    report.write(runs, html=folder / "r.html", command="mpdvae report")
    return (folder / "r.html").read_text()


def shown(page: str) -> tuple[list[str], list[str], set[str]]:
    """The legend of the map of codes, the titles of the explorer, and the names of the map's traces."""
    (chart,) = re.findall(r'<details class="[^"]*" id="study1-map".*?</details>', page, flags=re.DOTALL)
    legend = [html.unescape(entry) for entry in re.findall(r'data-entry="([^"]*)"', chart)]
    figure = json.loads(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', chart, flags=re.DOTALL)[0])
    (explored,) = re.findall(r'class="explore-data">(.*?)</script>', page, flags=re.DOTALL)
    return legend, list(json.loads(explored)[0]["titles"].values()), {trace["meta"] for trace in figure["data"]}


def test_legends_and_maps_show_the_names(tmp_path):
    assert shown(page_of(tmp_path, DIGITS)) == ([*DIGITS], [*DIGITS], {*DIGITS})


@pytest.mark.parametrize("names", [((), ()), (DIGITS, DIGITS[::-1])])
def test_classes_without_names_that_all_runs_share_are_numbers(tmp_path, names):
    numbers = [str(i) for i in range(10)]
    assert shown(page_of(tmp_path, *names)) == (numbers, numbers, {*numbers})


def test_runs_that_record_no_names_do_not_disagree(tmp_path):
    runs = [make_run(tmp_path / str(i), seed=i, class_names=own) for i, own in enumerate([DIGITS, ()])]
    assert names_in(collect(runs).runs) == DIGITS
