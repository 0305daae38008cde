"""The README is true: its example runs, its commands run, its table is the one that was generated."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import asked_for, code_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REPORT = ROOT / "docs" / "results" / "minutes.md"


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.S)


def test_python_example_runs() -> None:
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert blocks("python")


def test_example_has_the_promised_loss_terms() -> None:
    namespace: dict = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), namespace)
    assert set(namespace["loss"].terms) == {"reconstruction", "kl", "diversity", "smoothness"}
    assert namespace["log_weights"].shape == (4, 16)
    assert namespace["images"].shape == (2, 1, 28, 28)


def test_commands_run(tmp_path: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "mpdvae"
        done = subprocess.run(
            [sys.executable, "-m", "mpdvae.cli", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    for made in ("samples.png", "reconstructions.png", "traversal.png", "report.html", "report.md", "report.json"):
        assert (tmp_path / made).stat().st_size > 0


@pytest.mark.slow
def test_commands_about_repetition_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: each is quick, imports are not."""
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "repeat.md").read_text()
    commands = [line for block in blocks("sh", page) for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        assert code_of(shlex.split(command)[1:]) == 0, command
    assert list(tmp_path.glob("runs/tracked/trackers/tensorboard/events*"))


def test_table_is_the_generated_one() -> None:
    generated = set(REPORT.read_text().splitlines())
    section = README.split("## What came out")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in generated] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M)


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


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
