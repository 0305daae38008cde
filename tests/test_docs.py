"""README and pages are true: code runs, commands run or are accepted, links lead somewhere, tables are generated ones."""

import re
import runpy
import shlex
from functools import wraps
from itertools import pairwise
from pathlib import Path

import pytest
from command_line import asked_for, code_of

from mpdvae.commands import cli
from mpdvae.commands.completion import offered_by
from mpdvae.experiments import own_parts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
HOURS, MINUTES = ROOT / "docs" / "results" / "hours" / "report.md", ROOT / "docs" / "results" / "minutes.md"


DOCS = ROOT / "docs"
NOTEBOOKS = {page.name: page for page in sorted((DOCS / "notebooks").glob("*.md"))}
PAGES = {page.name: page for page in [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]} | NOTEBOOKS
WORDS = {
    "DIR": "run",
    "NEW": "new",
    "FILE": "file.png",
    "OUT": "out",
    "FOLDER": "folder",
    "RECIPE": "mae-digits-smoke",
    "N": "3",
}
WORDS["EXPERIMENT.json"] = WORDS["RECIPE"]
"""Words that stand for something of the reader's in commands within a line."""


OF_OTHER_PROGRAMS = {"--build-arg", "--max-restarts", "--page", "--show"}
"""Options of docker, torchrun and `python -m benchmarks` that pages name on their own."""


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(), flags=re.S)


def files(page: str) -> dict[str, str]:
    """Files that the reader is asked to save, by name."""
    return dict(re.findall(r'```python title="([\w.]+)"\n(.*?)```', PAGES[page].read_text(), flags=re.S))


def commands_within_lines(page: str) -> list[str]:
    """`mpdvae COMMAND ...` as it stands in the text; those that leave something open, by ... or | or [, are left out."""
    text = re.sub(r"```.*?```", "", PAGES[page].read_text(), flags=re.S)
    found = re.findall(r"`(mpdvae [a-z][^`]*)`", re.sub(r"\s+", " ", text))
    return sorted({command for command in found if not re.search(r"\.\.\.|[|\[]", command)})


@pytest.fixture(scope="module")
def folder_of_all_commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of all pages were run, page by page; one that pages share is run once."""
    folder = tmp_path_factory.mktemp("pages")
    commands = [line for page in PAGES for block in blocks("sh", page) for line in block.splitlines() if line]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MPDVAE_PARTS", "")
        patch.setattr(own_parts, "_KNOWN", own_parts._Known())
        for name, content in [item for page in PAGES for item in files(page).items()]:
            (folder / name).write_text(content)
        for command in dict.fromkeys(commands):
            name, *arguments = shlex.split(command)
            assert name in ("mpdvae", "python")
            if name == "python":
                runpy.run_path(*arguments)
            else:
                assert code_of(arguments) == 0, command
    return folder


@pytest.mark.parametrize("page", [name for name in PAGES if blocks("python", name)])
def test_code_of_a_page_runs(page: str, folder_of_all_commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page as one program, after the commands."""
    monkeypatch.chdir(folder_of_all_commands)
    namespace: dict = {}
    for block in blocks("python", page):
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_code_of_a_notebook_is_in_cells(page: str) -> None:
    """Cells are what building the site executes (test_site.py): no other block holds code that nothing runs."""
    fences = re.findall(r"^```(\S+.*)$", NOTEBOOKS[page].read_text(), flags=re.M)
    assert fences.count("{code-cell} ipython3") >= 3
    assert set(fences) <= {"{code-cell} ipython3", "sh"}


def test_example_has_the_promised_loss_terms() -> None:
    namespace: dict = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), namespace)
    assert set(namespace["loss"].terms) == {"reconstruction", "kl", "diversity", "smoothness"}
    assert namespace["log_weights"].shape == (4, 16)
    assert namespace["images"].shape == (2, 1, 28, 28)


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_lines_are_accepted(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """They are read as the command line reads them, and not carried out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "processes_asked_for", lambda arguments: 1)  # one is enough to read options
    for number, command in enumerate(commands_within_lines(page)):
        _, name, *arguments = [WORDS.get(word, word) for word in shlex.split(command)]
        if {"--help", "--help-all"} & set(arguments) or not arguments:
            assert name in cli.COMMANDS
        elif name == "train":
            named = [
                str(tmp_path / f"{number}") if before == "--out" else word
                for before, word in pairwise(["", *arguments])
            ]
            asked_for(monkeypatch, *named, *([] if "--out" in named else ["--out", tmp_path / f"{number}"]))
        else:
            monkeypatch.setitem(cli.COMMANDS, name, wraps(cli.COMMANDS[name])(lambda *_, **__: None))
            assert code_of([name, *arguments]) == 0, f"{command}\n{capsys.readouterr().err}"


def verdicts_in(report: Path) -> dict[str, str]:
    """By claim, the row of its verdict in a report, without its end."""
    rows = re.findall(r"^(\| ([CV]\d) \| .*) \|$", report.read_text(), flags=re.M)
    return {claim: row for row, claim in rows}


def test_tables_are_the_generated_ones() -> None:
    generated, hours, minutes = set(HOURS.read_text().splitlines()), verdicts_in(HOURS), verdicts_in(MINUTES)
    section = README.split("## What came out")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    with_verdicts = [f"{row} | {minutes[claim].rsplit(' | ', 1)[1]} |" for claim, row in hours.items()]
    assert rows[-len(with_verdicts) :] == with_verdicts
    numbers = rows[: -len(with_verdicts) - 2]  # without the head of the claims
    assert len(numbers) > 10
    assert [row for row in numbers if row not in generated] == []


@pytest.mark.parametrize("name", ["comparison.md", "precision.md"])
def test_the_comparison_of_two_matrices_is_the_generated_one(
    capsys, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "results" / name).read_text()
    (block,) = re.findall(r"```text\n\$ (mpdvae compare .*?)\n(.*?)```", page, flags=re.S)
    command, printed = block
    assert code_of(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == printed
    assert "no verdict contradicts another" in printed


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)", PAGES[page].read_text())
    missing = [t for t in targets if "://" not in t and not (PAGES[page].parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_options_named_exist(page: str) -> None:
    """Options of some command, `--name` or `training.name`, wherever a page names them."""
    found = offered_by(cli.COMMANDS).values()
    known = {
        "--help",
        "--help-all",
        "--parts",
        *(option for offers in found for option in (*offers.options, *offers.flags)),
    }
    known |= options_of_files(page)
    named = {option for span in spans_about_us(page) for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*[\w]", span)}
    groups = "objective|training|encoder|decoder|prior|posterior|data|evaluation"
    fields = re.findall(rf"`((?:{groups})\.[a-z][a-z.-]*[a-z])(?: [^`/]*)?(?: / [^`]*)?`", PAGES[page].read_text())
    assert sorted({*named, *(f"--{name}" for name in fields if "." in name)} - known - OF_OTHER_PROGRAMS) == []


def options_of_files(page: str) -> set[str]:
    """The options that parts in files of the page add."""
    parts = [
        found
        for content in files(page).values()
        for found in re.findall(r'part\("(\w+)"\)\s*def .*\*, (.*)\):', content)
    ]
    prefixes = {"regulariser": "objective.regulariser"}
    return {
        f"--{prefixes.get(role, role)}.{name}" for role, options in parts for name in re.findall(r"(\w+):", options)
    }


def spans_about_us(page: str) -> list[str]:
    """Commands of ours, in blocks and within lines, and options that stand alone."""
    text = PAGES[page].read_text()
    within = re.findall(r"`((?:mpdvae |--)[^`]*)`", re.sub(r"\s+", " ", re.sub(r"```.*?```", "", text, flags=re.S)))
    return [*within, *re.findall(r"^ *(mpdvae .*)$", text, flags=re.M)]


def test_options_in_the_documents_are_those_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options on the page about performance, as they stand there, with `train`."""
    written = re.findall(r"`(--training\.[^`]+)`", (ROOT / "docs" / "performance.md").read_text())
    assert len(set(written)) >= 2
    for number, options in enumerate(sorted(set(written))):
        training = asked_for(
            monkeypatch, "mae-digits-smoke", "--out", tmp_path / str(number), *options.split()
        ).training
        assert training.compile or training.precision == "bfloat16"
