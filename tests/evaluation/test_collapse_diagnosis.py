"""Collapse in words, since when, and what to try: hand-made histories, and remedies that the command line accepts."""

import re
from pathlib import Path

import pytest
from command_line import asked_for, call
from small_runs import finish, tiny

from mpdvae.evaluation.advice import ADVISED, advise
from mpdvae.evaluation.collapse_diagnosis import diagnose
from mpdvae.experiments.experiment import with_changes
from mpdvae.experiments.recipes import all_recipes, recipe
from mpdvae.experiments.remedies import CAUSES, REMEDIES, as_options
from mpdvae.measures import collapse
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json
from mpdvae.workflows.progress_display import RunProgress, Watcher, sparkline

UNITS = 4


def entry(step: int, *information: float, **fields) -> dict:
    """A history entry whose units carry `information`."""
    idle = sum(nats < 0.01 for nats in information)
    return {
        "step": step,
        "negative_elbo_nats": 90.0,
        "reconstruction_nats": 88.0,
        "kl_nats": 2.0,
        "active_units": 1,
        "latent_dim": len(information),
        "mpd_mean_nats": 5.0,
        "mpd_std_nats": 2.0,
        "idle_units": idle,
        "verdict": collapse.judge(idle, len(information), 1.5, 6.2, 12.0).sentence,
        "active_units_by_variance": {"0.001": 3, "0.01": 1},
        "information_per_dimension_nats": list(information),
        "mutual_information_nats": 1.5,
        "mutual_information_ceiling_nats": 6.2,
        "mutual_information_saturated": False,
        "mutual_information_upper_nats": 1.7,
        "gradient_norms": {"reconstruction": 2.0, "kl": 1.0, "total": 1.1},
        "encoder_lag": {"gain_nats": 0.2, "gain_standard_error_nats": 0.1, "moved_nats": 0.1, "images": 16, "steps": 10},
        "code_use_nats": 12.0,
    } | fields  # fmt: skip


def noted(*entries: dict) -> list[dict]:
    """A history as training writes it."""
    history: list[dict] = []
    for one in entries:
        history.append(one | {"verdict_since_step": collapse.since([*history, one])})
    return history


# -- words and onset ---------------------------------------------------------------------------------------------------


NO, PARTLY, WEAK, COLLAPSED = "no collapse: ...", "partly collapsed: ...", "weak code: ...", "collapsed: ..."


@pytest.mark.parametrize(
    ("course", "since"),
    [
        ([(NO, 0)], 10),
        ([(NO, 0), (NO, 0), (NO, 0)], 10),
        ([(NO, 0), (NO, 5), (NO, 0)], 10),
        ([(PARTLY, 2), (NO, 0), (NO, 0)], 20),
        ([(NO, 0), (WEAK, 2), (NO, 0)], 30),
        ([(NO, 0), (PARTLY, 28), (PARTLY, 28)], 20),
        ([(PARTLY, 20), (PARTLY, 28), (PARTLY, 28)], 20),
        ([(PARTLY, 20), (PARTLY, 30), (PARTLY, 28)], 20),
        ([(PARTLY, 30), (PARTLY, 5), (PARTLY, 28)], 30),
        ([(WEAK, 0), (PARTLY, 30), (PARTLY, 28)], 10),
        ([(COLLAPSED, 0), (WEAK, 30), (WEAK, 0)], 10),
        ([(COLLAPSED, 32), (WEAK, 30), (COLLAPSED, 32)], 30),
        ([(WEAK, 0), (NO, 0), (WEAK, 0)], 30),
        ([(WEAK, None), (WEAK, 0), (WEAK, 0)], 20),
        ([(WEAK, 0), (WEAK, None), (WEAK, 0)], 30),
        ([(WEAK, 0), (WEAK, 0), (WEAK, None)], None),
        ([(NO, 0), ("not known", 0)], None),
        ([], None),
    ],
    ids=str,
)
def test_a_verdict_became_true_where_it_or_a_worse_one_has_held_ever_since(course, since):
    history = [
        {"step": 10 * k, "verdict": verdict} | ({} if idle is None else {"idle_units": idle})
        for k, (verdict, idle) in enumerate(course, 1)
    ]
    assert collapse.since(history) == since


def test_the_words_of_a_verdict_with_its_step():
    assert collapse.sentence("weak code: 0.87 nats", 150) == "since step 150: weak code: 0.87 nats"
    assert collapse.sentence("weak code: 0.87 nats", 20, first=True) == (
        "since step 20 (the first measured): weak code: 0.87 nats"
    )
    assert (
        collapse.sentence("partly collapsed: 1 of 2", None)
        == "partly collapsed: 1 of 2 (since which step is not known)"
    )


# -- findings ----------------------------------------------------------------------------------------------------------


def findings(*history: dict, diagnostics: dict | None = None) -> dict[str, str]:
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), noted(*history), diagnostics)
    assert found is not None
    return {finding.matter: finding.sentence for finding in found.findings}


def test_units_that_were_lost_are_told_from_those_that_never_carried_anything():
    history = [
        entry(50, 0.001, 0.3, 2.0, 0.04),
        entry(100, 0.001, 0.004, 2.0, 0.002),
        entry(150, 0.001, 0.001, 2.5, 0.0),
    ]
    assert findings(*history)["units"] == (
        "the 4 units carry at most 2.50 nats in all, one at most 2.5; 3 are idle (0-1, 3), of which 2 carried more before, "
        "the last until step 50 (the most: unit 1, 0.3 nats at step 50)"
    )
    assert findings(entry(50, 0.001, 1.0))["units"].endswith(
        "1 is idle (0), and never carried more at any evaluation point"
    )
    assert findings(entry(50, 0.5, 1.0))["units"].endswith("none is idle")


def test_a_collapse_is_explained():
    history = [
        entry(50, 1.0, 1.0, 1.0, 0.2),
        entry(100, 0.0, 0.0, 0.0, 0.2, gradient_norms={"reconstruction": 0.2, "kl": 0.4, "total": 0.3}),
        entry(
            150, 0.0, 0.0, 0.0, 0.1, code_use_nats=0.3, mutual_information_saturated=True,
            gradient_norms={"reconstruction": 0.01, "kl": 0.02, "diversity": 0.7, "total": 0.6},
            encoder_lag={"gain_nats": 3.0, "gain_standard_error_nats": 0.4, "images": 16, "steps": 10},
        ),
    ]  # fmt: skip
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), noted(*history), None)
    assert found is not None
    assert found.verdict.startswith("since step 100: partly collapsed: 3 of 4 units carry less than 0.01 nats; ")
    assert found.causes == ("decoder", "encoder", "price")
    assert found.unknown == ()
    said = {finding.matter: finding.sentence for finding in found.findings}
    assert said["gradients"].endswith("by all together 0.6: diversity outweighs the reconstruction, since step 100")
    assert "gain 3.00 ± 0.40 nats of ELBO: the encoder lags behind the decoder" in said["encoder"]
    assert said["decoder"].endswith("it loses 0.30 nats of log p(x|z): the decoder could almost do without z")
    assert "share at least 1.50 nats, of the 6.20 that so many images can show" in said["information"]
    assert "(saturated: it may be far more), and at most 1.70" in said["information"]
    assert said["active units"].endswith("3 above 0.001, 1 above 0.01")


def test_a_norm_that_is_lost_in_its_noise_is_not_called_zero():
    norms = {"reconstruction": 0.9, "kl": 0.0, "total": 0.0}
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), noted(entry(50, 1.0, 1.0, gradient_norms=norms)), None)
    assert found is not None
    (said,) = [finding.sentence for finding in found.findings if finding.matter == "gradients"]
    assert "pulled by reconstruction 0.9, kl too little to tell; by all together too little to tell" in said


def test_a_healthy_code_calls_for_nothing():
    history = [
        entry(50, 1.0, 1.0, encoder_lag={"gain_nats": 9.0, "gain_standard_error_nats": 1.0, "images": 16, "steps": 10}),
        entry(100, 1.0, 1.0),
    ]
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), noted(*history), None)
    assert found is not None
    assert found.causes == ()
    said = {finding.matter: finding.sentence for finding in found.findings}
    assert said["gradients"].endswith("the reconstruction pulls hardest")
    assert said["encoder"].endswith("keeps up with the decoder (the most was 9.00 nats, at step 50)")
    assert said["decoder"].endswith("the decoder uses z")


@pytest.mark.parametrize(
    ("nats", "units", "causes"),
    [(0.9, [1.0, 1.0], ("price",)), (5.9, [0.0, 3.0], ()), (3.0, [0.0, 3.0], ("price",)), (3.0, [1.0, 3.0], ())],
    ids=["weak code", "saturated with an idle unit", "an idle unit", "no collapse"],
)
def test_little_information_has_a_cause_and_idle_units_alone_need_not(nats, units, causes):
    found = diagnose(tiny(), noted(entry(50, *units, mutual_information_nats=nats)), None)
    assert found is not None
    assert found.causes == causes


def test_a_lag_within_its_noise_is_none():
    noisy = {"gain_nats": 1.5, "gain_standard_error_nats": 1.0, "images": 16, "steps": 10}
    assert "keeps up" in findings(entry(50, 1.0, encoder_lag=noisy))["encoder"]


def test_what_the_end_measured_counts_more_than_the_last_point():
    measured = {"code_use_nats": 7.0, "information_per_dimension_nats": [0.5, 0.5]}
    said = findings(entry(50, 1.0, 1.0), diagnostics=measured)
    assert "loses 7.00 nats" in said["decoder"]
    assert "at most 1.00 nats in all" in said["units"]
    only = diagnose(tiny(), [], {"verdict": "collapsed: 3 of 4", **measured})
    assert only is not None
    assert only.verdict == "collapsed: 3 of 4 (since which step is not known)"


def test_whole_numbers_in_a_file_are_information_too():
    """JSON written elsewhere may have 0 where 0.0 is meant."""
    found = diagnose(tiny(), [], {"verdict": "partly collapsed: 1 of 2", "information_per_dimension_nats": [0, 1]})
    assert found is not None
    assert found.information_per_dimension_nats == (0.0, 1.0)


def test_what_a_run_did_not_note_is_said():
    old = {"step": 50, "verdict": "no collapse", "active_units": 3, "kl_nats": 2.0}
    found = diagnose(tiny(), [old], None)
    assert found is not None
    assert found.findings == ()
    assert found.unknown == (
        "information per dimension",
        "mutual information",
        "active units over thresholds",
        "gradient norms",
        "encoder lag",
        "use of the code by the decoder",
    )
    assert found.verdict == "no collapse (since which step is not known)"
    assert diagnose(tiny(), [], None) is None


@pytest.mark.parametrize(
    ("above", "sentence"),
    [
        (0, "0 directions of the images have more variance (at most 2.5) than beta sigma^2 = 0.4: a linear decoder would "
            "collapse, too, however it is trained"),
        (1, "1 direction of the images has more variance (at most 2.5) than beta sigma^2 = 0.4: a linear decoder would "
            "code 3.2 nats and leave 7 of 8 idle"),
        (9, "9 directions of the images have more variance (at most 2.5) than beta sigma^2 = 0.4: a linear decoder would "
            "code 3.2 nats with all 8 units"),
    ],
)  # fmt: skip
def test_the_noise_of_gaussian_pixels_is_compared_with_the_spectrum(above, sentence):
    linear = {
        "threshold": 0.4, "largest_eigenvalue": 2.5, "directions_above": above, "units": 8, "linear_rate_nats": 3.21
    }  # fmt: skip
    found = diagnose(recipe("vae-digits-smoke"), noted(entry(5, 1.0)), {"linear_threshold": linear})
    assert found is not None
    assert {finding.matter: finding.sentence for finding in found.findings}["noise"] == sentence
    assert "noise" not in findings(entry(5, 1.0))


# -- remedies ----------------------------------------------------------------------------------------------------------

CONTINUOUS = {"data__binarisation": "intensities", "data__evaluation_draws": 1}
BASES: dict[str, dict] = {
    "vae-pixelcnn-digits-smoke": {},
    "vae-digits-smoke": CONTINUOUS,
    "vae-pixelcnn-cifar10-paper": {},
}
"""Recipes, and changes to them."""


@pytest.mark.parametrize("remedy", ADVISED, ids=lambda remedy: remedy.title)
def test_every_remedy_suits_a_recipe_and_its_options_are_accepted_by_train(remedy, tmp_path, monkeypatch):
    """And train what `with_changes` makes of the experiment."""
    experiments = {base: with_changes(all_recipes()[base], **changes) for base, changes in BASES.items()}
    advised = {base: {one.remedy: one for one in advise(experiments[base])} for base in BASES}
    base = next(base for base in BASES if remedy in advised[base])
    advice, experiment = advised[base][remedy], experiments[base]
    expected = with_changes(experiment, **remedy.changes(experiment))
    options = [*as_options(BASES[base]), *advice.options]
    assert asked_for(monkeypatch, base, "--out", tmp_path / "run", *options) == expected


def advised(name: str) -> set[str]:
    """Titles of the remedies that a recipe is advised."""
    return {one.remedy.title for one in advise(all_recipes()[name])}


def test_what_is_applied_with_another_strength_is_not_advised():
    stronger = with_changes(all_recipes()["mae-digits-smoke"], objective__diversity_weight=2.0)
    assert not any("diversity" in one.remedy.title for one in advise(stronger))


def test_what_is_applied_already_is_not_advised():
    titles = advised("mae-digits-smoke")
    assert "diversity and smoothness of posteriors" not in titles
    assert "free bits per dimension" not in titles  # which a flow prior refuses
    assert "an autoregressive-flow prior" not in titles  # of other sizes, but a flow
    assert "free bits for the whole code" in titles


@pytest.mark.parametrize("name", [name for name, remedy in REMEDIES.items() if remedy.against is not None])
def test_a_recipe_of_a_remedy_is_advised_the_others(name):
    titles, others = advised(f"{name}-digits-smoke"), advised("vae-pixelcnn-digits-smoke")
    assert REMEDIES[name].title in others - titles
    assert titles & others


def test_what_is_not_against_collapse_is_not_advised():
    assert REMEDIES["beta-tc-vae"].against is None
    assert REMEDIES["beta-tc-vae"].title not in advised("vae-pixelcnn-digits-smoke")


def test_data_without_a_known_reconstruction_are_not_advised_to_reach_one():
    assert REMEDIES["geco"].title in advised("vae-pixelcnn-mnist-minutes")
    assert REMEDIES["geco"].title not in advised("vae-pixelcnn-cifar10-paper")


def test_a_learned_standard_deviation_is_advised_for_continuous_pixels_only():
    title, base = "pixels with a learned standard deviation", all_recipes()["vae-digits-smoke"]
    continuous = with_changes(base, **CONTINUOUS)
    learned = with_changes(continuous, decoder__pixels="gaussian")
    titles = [{one.remedy.title for one in advise(e)} for e in (base, continuous, learned)]
    assert [title in found for found in titles] == [False, True, False]


def test_an_injective_decoder_keeps_what_the_run_has_chosen():
    """Its size, and its pixels; of one that is injective already, the constraint alone is advised."""
    base = with_changes(all_recipes()["vae-pixelcnn-digits-smoke"], **CONTINUOUS, decoder__pixels="gaussian")
    injective = with_changes(base, **REMEDIES["lidvae"].changes(base))
    assert injective.decoder.model_dump(include={"channels", "kernel_sizes", "pixels"}) == base.decoder.model_dump(
        include={"channels", "kernel_sizes", "pixels"}
    )
    advice = {one.remedy.source: one.options for one in advise(injective)}
    assert advice["Kinoshita et al. 2023"] == ("--decoder.inverse-lipschitz", "1.813")
    assert "Wang et al. 2021" not in advice


LAGS = {"encoder_lag": {"gain_nats": 3.0, "gain_standard_error_nats": 0.4, "images": 16, "steps": 10}}
UNUSED, LITTLE = {"code_use_nats": 0.1}, {"mutual_information_nats": 0.5}
FIRST = {
    "price": ["diversity and smoothness of posteriors", "free bits for the whole code", "free bits per dimension"],
    "decoder": [
        "codes that come back when decoded and encoded again",
        "the code at every layer of the decoder",
        "a smaller receptive field",
    ],
    "encoder": ["an encoder that catches up first", "posteriors refined by gradient steps"],
}


@pytest.mark.parametrize(
    ("measured", "causes"),
    [
        ({}, ()),
        (LAGS, ()),  # costs likelihood, but nothing collapsed
        (LITTLE, ("price",)),
        (UNUSED, ("decoder",)),
        (UNUSED | LITTLE, ("decoder", "price")),
        (LAGS | LITTLE, ("encoder", "price")),
        (LAGS | UNUSED, ("decoder", "encoder")),
        (LAGS | UNUSED | LITTLE, ("decoder", "encoder", "price")),
    ],
    ids=str,
)
def test_remedies_against_what_was_found_come_first(measured, causes):
    """One against each cause before two against the same, the best against each first."""
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), noted(entry(5, 1.0, **measured)), None)
    assert found is not None
    assert found.causes == causes
    in_turn = [FIRST[cause][rank] for rank in range(2) for cause in causes]
    assert [one.remedy.title for one in found.advice[: len(in_turn)]] == in_turn
    against = [one.remedy.against in causes for one in found.advice]
    assert against == sorted(against, reverse=True)


def test_no_advice_is_lost_or_doubled_by_its_order():
    assert len(set(ADVISED)) == len(ADVISED)
    assert {remedy for remedy in REMEDIES.values() if remedy.against is not None} <= set(ADVISED)


def measured() -> dict[str, tuple[float, float]]:
    """Information and NLL of each remedy against the price, from the first table of docs/remedies.md."""
    page = (Path(__file__).parents[2] / "docs" / "remedies.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    rows = {row[0]: (float(row[3]), float(row[7])) for row in cells if len(row) == 9 and row[0] in REMEDIES}
    return {name: found for name, found in rows.items() if REMEDIES[name].against == "price"}


def test_the_order_of_remedies_is_that_of_the_measured_table():
    """What raised little, or broke the likelihood, comes after all that did better, and a high cost after a low one."""
    table, place = measured(), ADVISED.index
    assert len(table) >= 15
    poor = {name for name, (information, nll) in table.items() if information < 4.6 or nll > 95}
    cheap = {name for name, (_, nll) in table.items() if nll < 90.02 + 0.4} - poor
    assert len(poor) >= 4
    assert len(cheap) >= 6
    assert max(place(REMEDIES[name]) for name in table.keys() - poor) < min(place(REMEDIES[name]) for name in poor)
    dear = table.keys() - poor - cheap - {"beta-vae"}  # which costs nothing with fitted proposals
    assert max(place(REMEDIES[name]) for name in cheap) < min(place(REMEDIES[name]) for name in dear)


@pytest.mark.parametrize(
    ("course", "longer"),
    [
        ({100: 99.0, 225: 90.0, 300: 89.0}, True),
        ({100: 99.0, 225: 90.0, 300: 89.8}, False),
        ({100: 99.0, 225: 90.0, 300: 91.0}, False),
        ({200: 90.0, 300: 89.0}, True),  # 0.75 of 1 nat
        ({200: 89.5, 300: 89.0}, False),  # 0.375 nats
        ({240: 90.0, 300: 89.0}, True),
        ({300: 89.0}, False),
        ({100: 99.0, 225: 90.0, 280: 80.0}, False),  # not at the end yet
    ],
)
def test_a_loss_that_still_fell_calls_for_a_longer_training(course, longer):
    history = noted(*(entry(step, 1.0, negative_elbo_nats=nats) for step, nats in course.items()))
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), history, None)
    assert found is not None
    assert found.longer == (("--training.steps", "600") if longer else ())


def test_a_longer_training_keeps_the_last_learning_rate():
    experiment = recipe("mae-mnist-hours")
    steps, decay = experiment.training.steps, experiment.training.decay_per_step
    history = noted(*(entry(step, 1.0, negative_elbo_nats=-step / 100) for step in (int(0.8 * steps), steps)))
    found = diagnose(experiment, history, None)
    assert found is not None
    options = dict(zip(found.longer[::2], found.longer[1::2], strict=True))
    new_steps, new_decay = int(options["--training.steps"]), float(options["--training.decay-per-step"])
    assert new_steps == 2 * steps
    assert new_decay**new_steps == pytest.approx(decay**steps, rel=1e-3)


# -- the command -------------------------------------------------------------------------------------------------------


def shown_remedies(out: str) -> int:
    return len(re.findall(r"^(?:price|encoder|decoder) ", out.split("What to try")[1], flags=re.M))


def test_diagnose_explains_a_finished_run(finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    code, out, err = call(capsys, "diagnose", finished)
    assert (code, err) == (0, "")
    assert out.startswith("mae-digits-smoke, seed 0: finished, measured at step 6 of 6\n")
    assert Run(finished).history[-1]["verdict"] in out
    measured = read_json(finished / "diagnostics.json")
    assert f"it loses {measured['code_use_nats']:.2f} nats of log p(x|z)" in out
    assert f"gain {measured['encoder_lag']['gain_nats']:.2f} ± " in out
    assert "not known" not in out
    assert shown_remedies(out) == 3
    assert "The verdict is of validation images, the findings are of test images:" in out
    for cause in set(re.findall(r"^(price|encoder|decoder) ", out, flags=re.M)):
        assert f"against {cause}  {CAUSES[cause]}" in re.sub(r"  +", "  ", out)
    code, everything, _ = call(capsys, "diagnose", finished, "--all")
    assert code == 0
    assert everything.count("--objective.free-bits-nats 2.4 ") == 1
    more = int(re.search(r"(\d+) more: `mpdvae diagnose", out)[1])
    assert shown_remedies(everything) == 3 + more


def test_diagnose_compares_the_noise_of_gaussian_pixels_with_the_images(tmp_path, capsys):
    """Measured by the evaluation: with more variance than any direction has, the linear theory tells the collapse."""
    run = finish(tmp_path / "run", tiny("vae-digits-smoke", **CONTINUOUS, decoder__pixels="gaussian"))
    linear = read_json(run / "diagnostics.json")["linear_threshold"]
    assert linear["threshold"] == linear["decoder_variance"] > 0
    assert linear["units"] == 8
    code, out, err = call(capsys, "diagnose", run)
    assert (code, err) == (0, "")
    assert f"than beta sigma^2 = {linear['threshold']:.3g}" in " ".join(out.split())


def test_diagnose_of_a_healthy_run_advises_nothing(own_copy, capsys):
    run = Run(own_copy)
    carried = {"information_per_dimension_nats": [1.0] * 8, "mutual_information_nats": 4.0, "code_use_nats": 20.0}
    lag = {"encoder_lag": {"gain_nats": 0.1, "gain_standard_error_nats": 0.1, "images": 16, "steps": 10}}
    run.write_history([entry | carried | lag | {"mutual_information_ceiling_nats": 4.4} for entry in run.history])
    (own_copy / "diagnostics.json").unlink()
    code, out, _ = call(capsys, "diagnose", own_copy)
    assert code == 0
    assert "Nothing here calls for a remedy" in out
    assert "OPTIONS" not in out.split("Nothing here")[1]


def test_diagnose_of_a_run_under_way_and_of_an_earlier_version(own_copy, capsys):
    run = Run(own_copy)
    run.note(status="training")
    (own_copy / "diagnostics.json").unlink()
    known = {"step", "verdict", "kl_nats", "active_units", "latent_dim"}
    run.write_history([{key: value for key, value in old.items() if key in known} for old in run.history[:1]])
    code, out, _ = call(capsys, "diagnose", own_copy)
    assert code == 0
    assert "training, measured at step 3 of 6" in out
    assert "(since which step is not known)" in out
    assert "not known  information per dimension, mutual information" in out


def test_diagnose_of_what_was_not_measured(own_copy, tmp_path, capsys):
    (own_copy / "diagnostics.json").unlink()
    (own_copy / "history.jsonl").unlink()
    code, _, err = call(capsys, "diagnose", own_copy)
    assert code == 2
    assert "nothing has been measured yet; the first evaluation point comes after 3 steps" in err
    for folder, message in ((tmp_path / "no", "no such folder"), (tmp_path, "not a run folder")):
        assert call(capsys, "diagnose", folder)[0] == 2, message


@pytest.mark.parametrize("content", ["{", "[]"])
def test_diagnose_of_a_damaged_file(own_copy, capsys, content):
    (own_copy / "diagnostics.json").write_text(content)
    code, _, err = call(capsys, "diagnose", own_copy)
    assert code == 2
    assert "diagnostics.json" in err
    assert "Traceback" not in err


# -- the panel ---------------------------------------------------------------------------------------------------------


def test_a_sparkline_is_logarithmic_and_of_bounded_length():
    assert sparkline([0.0, 0.001, 0.1, 10.0, 1e9]) == "▁▁▅██"
    assert len(sparkline([1.0] * 32)) == 32
    many = sparkline([10.0] * 100 + [0.0] * 924)
    assert len(many) == 64
    assert many == "".join(sorted(many, reverse=True))
    assert sparkline([]) == ""


def shown(progress: RunProgress, monkeypatch, width: int) -> str:
    """What a terminal of this width shows of one run."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr("mpdvae.workflows.progress_display.stdout", lambda: console)
    with Watcher("run") as watcher:
        watcher.update(0.5, {"run": progress})
        assert watcher.live is not None
        with console.capture() as captured:
            console.print(watcher.live.renderable)
    return captured.get()


def test_the_panel_shows_the_newest_point_at_80_columns(monkeypatch):
    newest = noted(entry(50, 1.0, 1.0), entry(100, *[0.0] * 28, *[0.5] * 4))[-1]
    out = shown(RunProgress("training", 120, 300, newest), monkeypatch, 80)
    assert max(map(len, out.splitlines())) <= 80
    for words in (
        "step 120/300, measured at step 100",
        "▁" * 28 + "▆▆▆▆",
        "MI 1.50 (of 6.20) to 1.70",
        "reconstruction 2  kl 1  total 1.1",
        "lag 0.20 ± 0.10",
        "a wrong code costs 12.0",
        "3 > 0.001, 1 > 0.01",
        "since step 100: partly collapsed: 28 of 32 units carry less than 0.01 nats",
    ):
        assert words in out, words


def test_the_panel_shows_what_an_entry_of_an_earlier_version_has(monkeypatch):
    full = entry(50, 1.0)
    keys = ["step", "negative_elbo_nats", "reconstruction_nats", "kl_nats", "mpd_mean_nats", "mpd_std_nats", "verdict",
            "active_units", "latent_dim"]  # fmt: skip
    old = RunProgress("training", 60, 300, {key: full[key] for key in keys})
    out = shown(old, monkeypatch, 80)
    assert "-ELBO 90.00, reconstruction 88.00, KL 2.00" in out
    assert "gradients" not in out
    assert old.in_words() == (f"step 60/300  -ELBO 90.0  KL 2.0 nats  active 1/1  {full['verdict']}")


def test_the_plain_line_has_the_numbers_too():
    newest = noted(entry(50, 0.0, 1.0))[-1]
    assert RunProgress("training", 60, 300, newest).in_words() == (
        "step 60/300  -ELBO 90.0  KL 2.0 nats  active 1/2  MI 1.50 (of 6.20) to 1.70  lag 0.20 ± 0.10  "
        f"since step 50: {newest['verdict']}"
    )


def test_without_a_terminal_lines_are_short_and_a_verdict_is_told_when_it_changes(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    history = noted(
        entry(10, *[1.0] * 32),
        entry(20, *[0.0] * 12, *[1.0] * 20),
        entry(30, *[0.0] * 13, *[1.0] * 19),
        entry(40, *[1.0] * 32),
    )
    with Watcher("run") as watcher:
        follow = watcher.following("run", 40)
        for one in history:
            follow(one["step"], one)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    told = [line for line in out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in told] == ["10/40", "20/40", "30/40", "40/40"]
    assert re.findall(r"^  since step (\d+).*?: (no collapse|partly collapsed): ", out, flags=re.M) == [
        ("10", "no collapse"),
        ("20", "partly collapsed"),
        ("40", "no collapse"),
    ]


def test_a_number_is_never_a_negative_zero():
    tiny_numbers = {
        "negative_elbo_nats": -0.001, "reconstruction_nats": -0.001, "kl_nats": -0.001, "mutual_information_nats": -0.001,
        "mutual_information_upper_nats": -0.001, "mpd_mean_nats": -0.001, "mpd_std_nats": -0.0, "code_use_nats": -0.001,
        "encoder_lag": {"gain_nats": -0.001, "gain_standard_error_nats": 0.0, "images": 16, "steps": 10},
        "verdict": collapse.judge(0, 2, -0.001, 6.2, -0.001).sentence,
    }  # fmt: skip
    newest = noted(entry(50, -0.0, -0.0, **tiny_numbers))[-1]
    found = diagnose(recipe("vae-pixelcnn-mnist-minutes"), [newest], None)
    assert found is not None
    shown = [RunProgress("training", 60, 300, newest).in_words(), found.verdict]
    for text in (*shown, *(finding.sentence for finding in found.findings)):
        assert not re.search(r"-0(\.0*)?(?![\d.])", text), text
