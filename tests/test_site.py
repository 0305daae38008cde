"""The documentation site builds without a warning, asks no other host for anything, and draws its formulas."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} - {"404"} == pages
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    assert {page for page in pages if f"{page}.md" not in navigation} == set()


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = (
        r'<(?:script|img|iframe)[^>]*src="([^"]+)"|<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"'
    )
    for page in site.rglob("*.html"):
        for found in re.finditer(loaded, page.read_text()):
            assert "://" not in (found[1] or found[2]), page.name


@pytest.mark.slow
def test_formulas_are_drawn(site: Path) -> None:
    mathematics, reference = ((site / f"{name}.html").read_text() for name in ("mathematics", "reference"))
    assert mathematics.count("<math") > 10
    assert "<math" in reference
    assert not re.search(r"\\(mathbb|frac|sum|log)\b|\.\. math::|:math:", mathematics + reference)
    assert "<code>[*, latent...]</code>" in reference


@pytest.mark.slow
def test_links_between_pages_lead_to_their_headings(site: Path) -> None:
    for page in site.glob("*.html"):
        for target, anchor in re.findall(r'href="([\w/.-]*\.html)?#([\w.-]+)"', page.read_text()):
            there = (page.parent / target).resolve() if target else page
            assert f'id="{anchor}"' in there.read_text(), f"{page.name}: {target}#{anchor}"
