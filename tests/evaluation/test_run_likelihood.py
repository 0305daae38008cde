"""Likelihoods of a run: which images, what is written, that a killed measurement goes on, and the referee."""

import csv
import math
import shlex
from typing import Any

import pytest
import torch
from command_line import call, start, wait_for
from small_runs import digits, files, tiny

import mpdvae
from mpdvae.data import Images, Splits, evaluation_images
from mpdvae.errors import InputError
from mpdvae.evaluation import run_likelihood
from mpdvae.evaluation.likelihood_check import judge
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.evaluation.run_likelihood import (
    Request,
    measure,
    partial_results,
    prepare,
    summary,
    table,
    unsettled_in_words,
)
from mpdvae.measures import annealed_importance, density
from mpdvae.measures.fitted_proposal import FIT_COST
from mpdvae.measures.random_subsets import random_subset
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json


def silent(_: str, __: float) -> None:
    """No one looks on."""


# -- which images ------------------------------------------------------------------------------------------------------


def test_by_default_it_is_what_the_experiment_says(finished):
    m = prepare(Run(finished), digits(), "test", Request())
    assert (len(m.x), m.samples, m.draws, m.tolerance, m.images_of_split) == (10, 4, 1, None, 300)
    assert m.proposal == "fitted"
    assert "1 fixed test draw, split" in m.protocol
    assert prepare(Run(finished), digits(), "test", Request(proposal="encoder")).proposal == "encoder"
    x, _ = evaluation_images(digits().test, Run(finished).experiment.data.protocol(), "test", 1)
    assert torch.equal(m.indices, random_subset(10, 300))
    assert torch.equal(m.x, x[m.indices])


def test_the_papers_protocol_is_all_images_with_five_draws(finished):
    m = prepare(Run(finished), digits(), "test", Request(protocol="paper"))
    assert (len(m.x), m.samples, m.draws) == (5 * 300, 4096, 5)
    assert "5 fixed test draws" in m.protocol
    assert torch.equal(m.indices, torch.arange(1500))
    assert not torch.equal(m.x[:300], m.x[300:600])


def test_the_papers_protocol_of_colour_images_has_fewer_samples_and_nothing_to_draw(finished, tmp_path):
    levels = tiny(data__binarisation="levels", data__evaluation_draws=1, decoder={"kind": "mlp"})
    m = prepare(Run.create(tmp_path / "run", levels), digits(), "validation", Request(protocol="paper"))
    assert (len(m.x), m.samples, m.draws) == (200, 512, 1)


def test_an_experiment_for_more_images_than_there_are_takes_all(finished):
    few = Images(digits().test.pixels[:4], None)
    data = Splits.of("own", "own", digits().train, few, few, digits().split_seed)
    assert sorted(prepare(Run(finished), data, "test", Request()).indices.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(samples=0), r"samples: expected a number >= 1, got 0"),
        (Request(images=301), r"images: expected a number from 1 to 300, .*, got 301"),
        (Request(images=0), r"images: expected a number from 1 to 300, .*, got 0"),
        (Request(tolerance=0.0), r"tolerance: expected a number of nats > 0, got 0"),
        (Request(tolerance=math.nan), r"tolerance: expected a number of nats > 0, got nan"),
        (Request(protocol="paper", samples=5), r"--protocol paper: .* leave out --samples, --images and --tolerance"),
        (Request(referee=11), r"--referee: expected 1 to 10 images, .*, got 11"),
        (Request(referee=0), r"--referee: expected 1 to 10 images, .*, got 0"),
        (Request(referee=1, referee_steps=0), r"--referee-steps: expected a number >= 1, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(finished, request_, message):
    before = files(finished)
    with pytest.raises(InputError, match=message):
        prepare(Run(finished), digits(), "test", request_)
    assert files(finished) == before


# -- what is written ---------------------------------------------------------------------------------------------------


def test_every_image_has_a_line(finished):
    m = prepare(Run(finished), digits(), "test", Request())
    estimate = density.estimate(mpdvae.load(finished), m.x, 4, indices=m.indices.tolist())
    lines = list(csv.DictReader((finished / "density.csv").read_text().splitlines()))
    assert [int(line["image"]) for line in lines] == m.indices.tolist()
    assert [float(line["log_prob_nats"]) for line in lines] == estimate.log_prob.tolist()
    assert {line["pareto_k"] for line in lines} == {""}  # four samples have no tail
    assert {line["interval_95_upper_nats"] for line in lines} == {""}  # nor an upper end
    assert [float(line["interval_95_lower_nats"]) for line in lines] == estimate.interval_lower.tolist()
    assert {int(line["decoder_evaluations"]) for line in lines} == {FIT_COST + 4}
    found = read_json(finished / "density.json")
    assert (found["proposal"], found["decoder_evaluations_per_image"], found["open_intervals"]) == (
        "fitted",
        FIT_COST + 4,
        10,
    )
    assert {line["draw"] for line in lines} == {"0"}
    assert read_json(finished / "density.json")["nll_nats"]["mean"] == pytest.approx(-estimate.log_prob.mean().item())


def test_each_draw_of_an_image_has_a_line(finished, monkeypatch):
    monkeypatch.setattr(run_likelihood, "PAPER_SAMPLES", 1)
    m = prepare(Run(finished), digits(), "validation", Request(protocol="paper"))
    assert m.proposal == "encoder"
    estimate = density.estimate(mpdvae.load(finished), m.x, 1, indices=m.indices.tolist(), proposal=m.proposal)
    lines = list(csv.DictReader(table(m, estimate).splitlines()))
    assert [(line["draw"], line["image"]) for line in lines[199:201]] == [("0", "199"), ("1", "0")]
    found = summary(m, estimate)
    assert (found["images"], found["draws"], found["images_of_split"]) == (1000, 5, 200)
    per_image = estimate.log_prob.unflatten(0, (5, 200)).mean(0)
    assert found["nll_nats"]["standard_error"] == pytest.approx(per_image.std().item() / 200**0.5)


def test_another_split_has_files_of_its_own(own_copy):
    before = files(own_copy)
    evaluate(Run(own_copy), digits(), split="validation", images=20, samples=3, tolerance=0.5)
    after = files(own_copy)
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: content for name, content in before.items() if name != "manifest.json"
    }  # that notes the hashes of the new files
    names = {"density-validation.json", "density-validation.csv", "diagnostics-validation.json"}
    names |= {"information-validation.json", "code_use-validation.json"}
    assert after.keys() - before.keys() == names | {"codes-validation.json", "representation-validation.json"}
    found = read_json(own_copy / "density-validation.json")
    assert (found["split"], found["images"], found["samples"], found["tolerance_nats"]) == ("validation", 20, 3, 0.5)
    command = f"mpdvae evaluate {own_copy} --samples 3 --images 20 --tolerance 0.5 --split validation --proposal fitted"
    assert shlex.split(found["command"]) == shlex.split(command)


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch):
    """Three images in a part."""
    monkeypatch.setattr(run_likelihood, "PART_PAIRS", 12)


class Killed(Exception):
    """The power is gone."""


@pytest.mark.parametrize("tolerance", [None, 0.4])
def test_a_killed_measurement_goes_on_and_ends_with_the_same_bytes(own_copy, small_parts, monkeypatch, tolerance):
    run = Run(own_copy)
    m = prepare(run, digits(), "test", Request(tolerance=tolerance, samples=4))
    vae, kept = mpdvae.load(own_copy), partial_results(run, m)
    calls: list[list[int]] = []
    estimate = density.estimate

    def counted(*arguments, **options):
        calls.append(options["indices"])
        if len(calls) == 3:
            raise Killed
        return estimate(*arguments, **options)

    monkeypatch.setattr(density, "estimate", counted)
    with pytest.raises(Killed):
        measure(vae, m, kept, silent)
    assert len(list(kept.folder.path.iterdir())) == 2
    shares = []
    again = measure(vae, m, partial_results(run, m), lambda _, share: shares.append(share))
    assert calls[3:] == [m.indices[at : at + 3].tolist() for at in (6, 9)]
    assert shares[0] == 0.6
    assert shares == sorted(shares)
    assert shares[-1] == 1
    kept.remove()
    assert not (own_copy / "partial").exists()
    whole = measure(vae, m, kept, silent)
    for name, value in whole.tensors().items():
        assert torch.equal(getattr(again, name).nan_to_num(), value.nan_to_num())


def test_parts_of_another_measurement_are_not_taken(own_copy):
    run = Run(own_copy)

    def folder(**request: Any) -> str:
        return partial_results(run, prepare(run, digits(), "test", Request(**request))).folder.name

    one = folder(samples=4)
    assert folder(samples=4) == one
    weights = own_copy / "model" / "model.safetensors"
    others = {folder(samples=5), folder(samples=4, images=9), folder(samples=4, tolerance=0.1)}
    others.add(folder(samples=4, proposal="encoder"))
    weights.write_bytes(weights.read_bytes() + b" ")
    others.add(folder(samples=4))
    assert len(others) == 5
    assert one not in others


def test_parts_of_other_code_are_not_used(own_copy, monkeypatch):
    """A measurement that began before the package was updated begins again."""
    run = Run(own_copy)
    m = prepare(run, digits(), "test", Request(samples=5))
    before = partial_results(run, m).folder.name
    assert partial_results(run, m).folder.name == before
    monkeypatch.setattr("mpdvae.evaluation.run_likelihood.source_hash", lambda: "other code")
    assert partial_results(run, m).folder.name != before


def test_a_damaged_part_is_computed_again(own_copy, small_parts):
    run = Run(own_copy)
    m = prepare(run, digits(), "test", Request())
    vae, kept = mpdvae.load(own_copy), partial_results(run, m)
    whole = measure(vae, m, kept, silent)
    part = sorted(kept.folder.path.iterdir())[1]
    part.write_bytes(part.read_bytes()[:50])
    assert torch.equal(measure(vae, m, kept, silent).log_prob, whole.log_prob)


def test_images_that_do_not_come_to_the_tolerance_are_told(own_copy, capsys):
    code, out, _ = call(capsys, "evaluate", own_copy, "--images", "7", "--samples", "16", "--tolerance", "1e-6")
    assert code == 0
    assert (
        "7 of 7 images: an error above 1e-06 nats, or an unreliable one (Pareto k above 0.17), after 16 samples" in out
    )
    assert read_json(own_copy / "density.json")["unsettled_images"] == 7
    m = prepare(Run(own_copy), digits(), "test", Request(tolerance=0.1, images=7))
    assert m.samples == 4096  # enough to come to a tolerance, where nobody says how many
    assert unsettled_in_words({"images": 5, "unsettled_images": 0}) == ""


@pytest.mark.slow
def test_a_killed_process_goes_on(own_copy, capsys, monkeypatch):
    """Killed as hard as can be, at a moment that nobody chose."""
    command = ("evaluate", own_copy, "--samples", "700", "--images", "46", "--split", "validation")
    process = start(*command, OMP_NUM_THREADS="1")
    wait_for(own_copy / "partial", process)
    process.kill()
    process.communicate(timeout=60)
    assert not (own_copy / "density-validation.json").exists()
    run = Run(own_copy)
    m = prepare(run, digits(), "validation", Request(samples=700, images=46))
    kept = partial_results(run, m)
    assert any(kept.folder.path.iterdir())
    again = table(m, measure(mpdvae.load(own_copy), m, kept, silent))
    kept.remove()
    assert table(m, measure(mpdvae.load(own_copy), m, kept, silent)) == again


# -- the referee -------------------------------------------------------------------------------------------------------


def test_the_referee_stands_beside_the_estimate_of_the_same_images(own_copy, capsys):
    code, out, err = call(
        capsys, "evaluate", own_copy, "--samples", "100", "--referee", "2", "--referee-steps", "10",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "Simulated images: NLL, upper bound" in out
    found = read_json(own_copy / "density.json")
    referee = found["referee"]
    assert (referee["images"], referee["steps"]) == (2, 10)
    assert referee["of_split"]["indices"] == random_subset(2, 300).tolist()
    lines = {line["image"]: line for line in csv.DictReader((own_copy / "density.csv").read_text().splitlines())}
    weighted = [-float(lines[str(index)]["log_prob_nats"]) for index in referee["of_split"]["indices"]]
    assert referee["of_split"]["importance_weighted_nll_nats"]["per_image"] == weighted
    # The encoder saw six batches: its estimate is the worse one.
    assert sum(weighted) / 2 - 5 < referee["of_split"]["annealed_nll_nats"]["mean"] < sum(weighted) / 2 + 1
    simulated = referee["simulated"]
    least, most = (simulated[name]["mean"] for name in ("nll_at_least_nats", "nll_at_most_nats"))
    assert least < most
    assert simulated["importance_weighted_nll_nats"]["mean"] > least
    assert simulated["gap_nats"]["mean"] == pytest.approx(most - least)
    assert found["command"].endswith("--samples 100 --split test --referee 2 --referee-steps 10 --proposal fitted")


def test_the_referee_goes_on_too(own_copy, monkeypatch):
    run = Run(own_copy)
    request = Request(referee=1, referee_steps=2)
    m = prepare(run, digits(), "test", request)
    vae, kept = mpdvae.load(own_copy), partial_results(run, m)
    estimate = measure(vae, m, kept, silent)
    first = judge(vae, m, estimate, request, kept, silent)
    monkeypatch.setattr(annealed_importance, "estimate", None)
    monkeypatch.setattr(annealed_importance, "sandwich", None)
    assert judge(vae, m, estimate, request, kept, silent) == first
