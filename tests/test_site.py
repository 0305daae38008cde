"""The documentation site builds without a warning, asks no other host for anything, draws its formulas and its notebooks."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

import mpdvae

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(DOCS).with_suffix("").as_posix() for path in [*DOCS.glob("*.md"), *DOCS.glob("notebooks/*.md")]
)
PICTURES = {"collapse": 2, "pictures": 3, "own-parts": 2, "gallery": 17}
"""How many pictures the cells of each notebook show."""
PACKAGES = ["mpdvae", *(info.name for info in pkgutil.walk_packages(mpdvae.__path__, "mpdvae.") if info.ispkg)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--conf-dir", DOCS / "site", DOCS, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def html(site: Path, page: str) -> str:
    return (site / f"{page}.html").read_text()


@pytest.mark.slow
def test_every_page_is_in_the_site_and_is_reached_from_its_start(site: Path) -> None:
    reached, ahead = set(), {(site / "index.html").resolve()}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        article = page.read_text().split("<article")[-1]
        links = re.findall(r'href="([^"#:]+\.html)', article)
        ahead |= {(page.parent / link).resolve() for link in links} - reached
    assert {(site / f"{page}.html").resolve() for page in PAGES} <= reached


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Neither pages nor the styles and scripts that come with them; links that a reader may follow are no loading."""
    loaded = (
        r'<(?:script|img|iframe|source|embed|object|video)\b[^>]*(?:src|data)="([^"]+)"|<link\b(?=[^>]*rel="'
        r'(?:stylesheet|preconnect|dns-prefetch|preload|prefetch|modulepreload|icon|manifest)")[^>]*href="([^"]+)"'
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        addresses = [found[1] or found[2] for found in re.finditer(loaded, page.read_text())]
        assert [a for a in addresses if re.match(r"(\w+:)?//", a)] == [], page.name
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)]*", style.read_text()) == [], style.name
    for script in {found for page in pages for found in re.findall(r'<script[^>]*src="([^"?]+)', page.read_text())}:
        assert not re.search(r"(mathjax|require)(\.min)?\.js", script)


@pytest.mark.slow
def test_formulas_are_drawn(site: Path) -> None:
    pages = {page: html(site, page) for page in ["mathematics", *(f"reference/{name}" for name in PACKAGES)]}
    assert pages["mathematics"].count("<math") > 10
    assert "<math" in pages["reference/mpdvae"]
    for name, text in pages.items():
        assert not re.search(r"\\(mathbb|frac|sum|log|[bB]ig[lr]?)\b|\\\||\.\. math::|:math:", text), name


@pytest.mark.slow
def test_docstrings_are_not_shown_as_markup(site: Path) -> None:
    """Backticks became code or links, shapes code, and signs that look like markup themselves."""
    for package in PACKAGES:
        text = re.sub(r"<(script|pre)\b.*?</\1>", "", html(site, f"reference/{package}"), flags=re.S)
        shown = unescape(re.sub(r"<[^>]+>", "", text))
        assert not re.search(r"`|:py:obj:|\.\. \w+::|\\[*|_]", shown), package
        assert "system-message" not in text
    assert re.search(
        r'<code class="[^"]*literal[^"]*">\s*<span class="pre">\[\*', html(site, "reference/mpdvae.measures")
    )


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_of_a_package_are_in_the_reference(package: str, site: Path) -> None:
    module = importlib.import_module(package)
    everywhere = "".join(html(site, f"reference/{name}") for name in PACKAGES)
    assert module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            assert f'id="module-{value.__name__}"' in everywhere, name
        else:
            assert re.search(rf">(\w+\.)*{name}(\(\))?<", html(site, f"reference/{package}")), name
            defined_as = value.__name__ if inspect.isclass(value) or inspect.isroutine(value) else name
            assert re.search(rf'id="mpdvae\.[\w.]*\b{defined_as}"', everywhere), name


def test_all_notebooks_are_tested() -> None:
    assert {path.stem for path in (DOCS / "notebooks").glob("*.md")} == set(PICTURES)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", PICTURES)
def test_notebooks_show_what_they_compute(notebook: str, site: Path) -> None:
    """Cells that fail end the build."""
    shown = html(site, f"notebooks/{notebook}")
    pictures = re.findall(r'<img[^>]*src="([^"]+)"', shown.split("<article")[-1])
    assert len(set(pictures)) == PICTURES[notebook]
    assert "Traceback" not in shown
    assert "output stderr" not in shown


@pytest.mark.slow
def test_links_within_the_site_lead_to_files_and_headings(site: Path) -> None:
    found = 0
    for page in site.rglob("*.html"):
        for target, anchor in re.findall(r'href="([^"#:?]*)(?:#([^"]*))?"', page.read_text()):
            there = (page.parent / unquote(target)).resolve() if target else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor and there.suffix == ".html":
                assert f'id="{unquote(anchor)}"' in there.read_text(), f"{page.name}: {target}#{anchor}"
            found += 1
    assert found > 1000
