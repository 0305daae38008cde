"""The benchmarks' entry point lists what there is, and their tables go where the pages have room for them."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPICS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef main(" in path.read_text())


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_lists_every_topic():
    done = benchmarks()
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert sorted(listed) == [topic for topic in TOPICS if topic != "__main__"]
    unknown = benchmarks("nothing")
    assert (unknown.returncode, unknown.stdout, unknown.stderr) == (2, "", done.stdout)


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != "__main__"])
def test_a_topic_explains_itself(topic, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{topic}").main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m benchmarks {topic} ")


def test_a_table_replaces_the_one_before_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.pages import fill, table

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\nlines\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n")
    fill(page, one=table(["x", "y"], [["1", r"\2"]], numbers_from=1))
    new = "| x | y |\n| --- | ---: |\n| 1 | \\2 |"
    assert page.read_text() == f"a\n<!-- one -->\n{new}\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n"
    with pytest.raises(ValueError, match="has no part <!-- three -->"):
        fill(page, three="")
    assert "<!-- three -->" not in page.read_text()
