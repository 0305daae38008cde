"""Measures of disentanglement are in the report of runs on data with known factors, and nowhere else."""

import pytest
from report_folders import make_run

from mpdvae.report import collect
from mpdvae.report.metrics import metric, value
from mpdvae.report.tables import FACTORS, console_table, table

STATED = {
    "mig": 0.125,
    "dci_disentanglement": 0.25,
    "dci_completeness": 0.375,
    "dci_informativeness": 0.75,
    "sap": 0.0625,
    "modularity": 0.875,
    "explicitness": 0.8125,
}


@pytest.mark.parametrize("known", [True, False])
def test_a_study_has_the_measures_if_factors_are_known(tmp_path, known) -> None:
    make_run(tmp_path / "run", "mae", factors=known, noise=0.0)
    (study,) = collect([tmp_path / "run"]).studies
    (run,) = study.runs
    assert {name: value(run, name) for name in FACTORS} == {name: STATED[name] if known else None for name in FACTORS}
    sections = [section for section in table(study).sections if section.title.startswith("Disentanglement")]
    assert [row.label for section in sections for row in section.rows] == [metric(n).label for n in FACTORS] * known
    assert ("DCI: completeness" in console_table(study)) == known
