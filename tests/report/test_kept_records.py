"""Reports in the documentation are those of the records that are kept beside them."""

import json
import re
import tarfile
from pathlib import Path

import pytest

from mpdvae import report
from mpdvae.report.looks import looks_of

OMNIGLOT = Path(__file__).parents[2] / "docs" / "results" / "omniglot"


@pytest.mark.slow
def test_the_report_on_omniglot_is_that_of_its_records(tmp_path, monkeypatch):
    for archive in sorted(OMNIGLOT.glob("runs-*.tar.xz")):
        with tarfile.open(archive) as records:
            records.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    folders = sorted(Path("runs").iterdir())
    command = json.loads((OMNIGLOT / "results.json").read_text())["command"]
    report.write(
        folders,
        html=Path("r.html"),
        markdown=Path("r.md"),
        results=Path("r.json"),
        command=command,
        looks=looks_of(folders),
    )
    assert Path("r.md").read_text() == (OMNIGLOT / "report.md").read_text()


def test_the_numbers_of_the_readme_on_omniglot_are_those_of_the_report():
    readme, found = (OMNIGLOT.parents[2] / "README.md").read_text(), (OMNIGLOT / "report.md").read_text()
    paragraph = readme.split("On OMNIGLOT at scale")[1].split("\n\n")[0].replace("\n", " ")
    numbers = re.findall(r"\d+\.\d+ ± \d+\.\d+", paragraph)
    assert len(numbers) == 5
    assert [number for number in numbers if f"| {number} " not in found] == []
