"""Checking a run and making it again: what is changed is found, what is the same is the same to the last bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import call
from small_runs import RUN_FILES, digits, files, finish, tiny, trained

from mpdvae.errors import InputError
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.runs import environment
from mpdvae.runs.checksums import recording, run_files
from mpdvae.runs.run_folder import Run, manifest_sha256
from mpdvae.seeding import derive_seed
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.closed_folder import Inside
from mpdvae.workflows import repetition
from mpdvae.workflows.result_comparison import OTHER_METHOD, Pair, compare, leaves
from mpdvae.workflows.verification import Check, _check_environment, measurements, verify

RECORDED = sorted(RUN_FILES - {"manifest.json"})


def edit(folder: Path, **entries: object) -> None:
    """Changes the manifest as another program would, with a hash that is right again."""
    content = read_json(folder / "manifest.json") | entries
    content = {name: value for name, value in content.items() if value is not None}
    write_json(folder / "manifest.json", content | {"sha256": manifest_sha256(content)})


def quick(folder: Path) -> list[str]:
    return verify(folder, quick=True).faults


# -- files -------------------------------------------------------------------------------------------------------------


def test_every_file_of_a_finished_run_is_recorded(finished):
    assert sorted(read_json(finished / "manifest.json")["files"]) == RECORDED == sorted(run_files(finished))
    assert quick(finished) == []


@pytest.mark.parametrize("name", [*RECORDED, "manifest.json"])
def test_any_byte_that_changes_is_found(own_copy, name):
    """At three places of each file, chosen by its name."""
    content = (own_copy / name).read_bytes()
    for draw in range(3):
        place = derive_seed(name, draw) % len(content)
        changed = bytearray(content)
        changed[place] = ord("7") if content[place] != ord("7") else ord("8")
        (own_copy / name).write_bytes(changed)
        found = quick(own_copy)
        assert ("manifest" if name == "manifest.json" else f"file {name}") in found, place
        (own_copy / name).write_bytes(content)


@pytest.mark.parametrize("name", RECORDED)
def test_a_file_that_is_gone_is_found(own_copy, name):
    (own_copy / name).unlink()
    assert f"file {name}" in quick(own_copy)


def test_what_does_not_belong_to_the_results_is_left_alone(own_copy):
    for name in ("progress.json", "owner.json", "error.log", "x.lock", "trackers/a/b", "partial/c", ".density.json.1"):
        (own_copy / name).parent.mkdir(parents=True, exist_ok=True)
        (own_copy / name).write_text("x")
    assert sorted(run_files(own_copy)) == RECORDED
    (own_copy / "thesis.txt").write_text("x")
    found = verify(own_copy, quick=True)
    assert [(c.name, c.verdict) for c in found.checks if c.name == "thesis.txt"] == [("thesis.txt", "not recorded")]
    assert found.agrees


def test_damage_before_another_measurement_stays_found_out(own_copy):
    """Only what a measurement writes gets a new hash."""
    history = own_copy / "history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"step", b"Step", 1))
    evaluate(Run(own_copy), digits(), samples=2, split="validation")
    assert quick(own_copy) == ["file history.jsonl"]
    assert "density-validation.json" in read_json(own_copy / "manifest.json")["files"]


def test_what_fails_records_nothing(own_copy):
    @recording
    def fail(run: Run) -> None:
        (run.path / "density.json").write_text("{}")
        raise KeyError

    before = read_json(own_copy / "manifest.json")
    with pytest.raises(KeyError):
        fail(Run(own_copy))
    assert read_json(own_copy / "manifest.json") == before
    assert quick(own_copy) == ["file density.json"]


def test_a_run_of_an_earlier_version_says_what_was_not_recorded(own_copy):
    old = read_json(own_copy / "manifest.json")
    for name in ("files", "sha256", "environments"):
        del old[name]
    write_json(own_copy / "manifest.json", old)
    found = verify(own_copy, quick=True)
    assert found.agrees
    assert {c.matter for c in found.checks if c.verdict == "not recorded"} == {"manifest", "file", "environment"}


# -- configuration, data, environment ----------------------------------------------------------------------------------


def test_another_model_than_that_of_the_experiment_is_found(own_copy):
    changed = tiny(seed=5).to_json()
    (own_copy / "experiment.json").write_text(changed)
    assert quick(own_copy) == ["file experiment.json", "configuration"]


def test_other_data_is_found(own_copy):
    edit(own_copy, data=read_json(own_copy / "manifest.json")["data"] | {"sha256": "0" * 64})
    found = verify(own_copy)
    assert found.faults == ["data digits"]
    assert found.unmeasured


def test_another_environment_is_told_and_is_no_fault(own_copy):
    (entry,) = read_json(own_copy / "manifest.json")["environments"]
    edit(own_copy, environments=[entry | {"fields": entry["fields"] | {"torch": "2.6.0", "release": "old"}}])
    found = verify(own_copy, quick=True)
    assert found.agrees
    assert found.tolerance > 0
    assert [(c.name, c.noted, c.found) for c in found.checks if c.verdict == "other"] == [
        ("torch", "2.6.0", entry["fields"]["torch"])
    ]


def test_a_manifest_with_the_least_in_it_is_enough(own_copy):
    write_json(own_copy / "manifest.json", {"data": None, "environments": None, "files": {}, "status": "finished"})
    assert quick(own_copy) == []
    environments = [{"used_for": ["training", "evaluation"], "fields": {"threads": "many"}}]
    write_json(own_copy / "manifest.json", {"environments": environments})
    assert quick(own_copy) == []
    assert repetition.threads_of(Run(own_copy)) is None


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{", b'{"files": 3}', b'{"environments": [{}]}', b'{"data": {"sha256": []}}', b"\xff"]
)
def test_a_damaged_manifest_is_one_fault(own_copy, manifest):
    (own_copy / "manifest.json").write_bytes(manifest)
    assert quick(own_copy) == ["manifest"]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_are_equal_in_the_same_environment(capsys, finished):
    before = files(finished)
    code, out, err = call(capsys, "verify", finished)
    assert (code, err) == (0, "")
    assert files(finished) == before
    assert "Numbers must agree to the last bit (the environment is the same)." in out
    assert "DIFFERS" not in out
    for name in ("density.json", "density.csv", "representation.json", "codes.json", "figures/samples.png"):
        assert name in out
    assert out.splitlines()[-1] == f"{finished}: agrees."


def test_a_number_that_the_weights_do_not_give_is_found(capsys, own_copy):
    """Even where whoever changed it changed the hashes too."""
    density = read_json(own_copy / "density.json")
    noted = density["nll_nats"]["mean"]
    density["nll_nats"]["mean"] = noted - 2
    write_json(own_copy / "density.json", density)
    record = read_json(own_copy / "manifest.json")["files"]
    from mpdvae.runs.checksums import sha256_of

    edit(own_copy, files=record | {"density.json": sha256_of(Inside(own_copy) / "density.json")})
    code, out, err = call(capsys, "verify", own_copy)
    assert code == 1
    assert err == f"mpdvae: {own_copy}: does not agree: numbers of density.json. `mpdvae explain differs` says more.\n"
    (line,) = [line for line in out.splitlines() if "nll_nats.mean" in line]
    assert line.split()[1:] == ["nll_nats.mean", str(noted - 2), str(noted), "+2"]


def test_weights_that_cannot_be_read_are_a_fault(own_copy):
    (own_copy / "model" / "model.safetensors").write_bytes(b"x")
    found = verify(own_copy)
    assert found.faults == ["file model/model.safetensors", "numbers"]


def test_each_measurement_is_repeated_with_its_own_options(own_copy):
    evaluate(Run(own_copy), digits(), samples=3, tolerance=0.5, images=7, split="validation")
    assert measurements(own_copy) == [
        {"samples": 3, "images": 7, "tolerance": 0.5, "split": "validation", "proposal": "fitted"},
        {"samples": 4, "split": "test", "proposal": "fitted"},
    ]
    evaluate(Run(own_copy), digits(), samples=4, proposal="encoder")
    assert measurements(own_copy)[1] == {"samples": 4, "split": "test", "proposal": "encoder"}


@pytest.mark.parametrize("compiled", [False, True])
def test_compiled_networks_are_noted_and_compiled_again(own_copy, monkeypatch, compiled):
    asked = []
    monkeypatch.setattr("mpdvae.evaluation.run_evaluation.compile_networks", asked.append)
    run = Run(own_copy)
    evaluate(run, digits(), compiled=compiled)
    noted = read_json(own_copy / "density.json")
    assert noted.get("compiled", False) == compiled == ("--compiled" in noted["command"])
    assert len(asked) == compiled
    (again, *_) = [options for options in measurements(run.path) if options.get("split") == "test"]
    assert again.get("compiled", False) == compiled


@pytest.mark.parametrize("command", ["", "rm -rf /", "mpdvae evaluate X --samples", "mpdvae evaluate X --device 1"])
def test_a_command_that_measures_nothing_is_refused(own_copy, command):
    write_json(own_copy / "density.json", {"command": command})
    with pytest.raises(InputError, match=r"density\.json: records no command that can measure it again"):
        measurements(own_copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "nowhere"), "nowhere: not a run folder"),
        (("verify", "nowhere", "--tolerance", "-1"), "--tolerance: expected a number >= 0"),
        (("verify", "nowhere", "--device", "abacus"), "--device: torch cannot use 'abacus'"),
        (("rerun", "nowhere", "--out", "x"), "nowhere: no such folder"),
    ],
)
def test_bad_input_exits_with_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert message in err
    assert files(tmp_path) == {}


# -- comparing ---------------------------------------------------------------------------------------------------------


def test_leaves_of_a_tree():
    tree = {"a": [1, {"b": None}], "command": "x", "c": {"command": "y", "d": True}}
    assert list(leaves(tree)) == [("a[0]", 1), ("a[1].b", None), ("c.d", True)]


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "agree"),
    [
        (1.0, 1.0, 0.0, True),
        (1.0, 1.0 + 2e-16, 0.0, False),
        (1000.0, 1004.0, 0.005, True),
        (1000.0, 1006.0, 0.005, False),
        (0.0, 0.005, 0.005, True),
        (1, True, 0.5, False),
        (None, 0.0, 0.5, False),
        ("a", "b", 0.5, False),
        (None, None, 0.0, True),
    ],
)
def test_when_two_values_agree(one, other, tolerance, agree):
    assert Pair("x", one, other).agrees(tolerance) is agree
    assert Pair("x", other, one).agrees(tolerance) is agree


def test_protocols_that_differ_in_the_draws_named_agree_elsewhere():
    one, other = "MNIST, 5 fixed test draws, split 3", "MNIST, 1 fixed test draw, split 3"
    assert Pair("protocol", one, other).agrees(1e-4)
    assert not Pair("protocol", one, other).agrees(0.0)
    assert not Pair("protocol", one, other.replace("split 3", "split 4")).agrees(1e-4)
    assert not Pair("command", one, other).agrees(1e-4)


def test_what_another_version_measures_besides_is_no_fault(tmp_path):
    """But a number that is gone is one, and so is every difference in the same environment (tolerance 0)."""
    for folder, text in (("one", '{"x": 1}'), ("other", '{"x": 1, "y": 2}')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_text(text)
    more = compare("a.json", tmp_path / "one", tmp_path / "other")
    fewer = compare("a.json", tmp_path / "other", tmp_path / "one")
    assert (more.agrees(0.1), more.agrees(0.0)) == (True, False)
    assert (fewer.agrees(0.1), fewer.agrees(0.0)) == (False, False)


@pytest.mark.parametrize(("now", "compared"), [(', "method": 2', False), (', "method": 1', True), ("", True)])
def test_numbers_of_another_method_are_not_compared(tmp_path, now, compared):
    for folder, text in (("one", '{"x": 1}'), ("other", '{"x": 5' + now + "}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_text(text)
    found = compare("a.json", tmp_path / "one", tmp_path / "other")
    assert (found.note == OTHER_METHOD) is not compared
    assert found.agrees(0.1) is not compared
    assert not found.agrees(0.0)


def test_files_are_compared_by_what_they_hold(tmp_path):
    contents = {
        "a.json": ('{"x": 1.5, "y": [2]}', '{"x": 1.5, "y": [3]}', ["y[0]"]),
        "h.jsonl": ('{"step": 3, "k": 1}\n', '{"step": 3, "k": 2}\n{"step": 6}\n', ["step 3: k", "step 6: step"]),
        "t.csv": ("image,nll\n0,\n1,2.5\n", "image,nll\n0,\n1,2.25\n", ["nll[1]"]),
    }
    for name, (one, other, differing) in contents.items():
        for folder, text in (("one", one), ("other", other)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        found = compare(name, tmp_path / "one", tmp_path / "other")
        assert [pair.name for pair in found.differing()] == differing
        assert compare(name, tmp_path / "one", tmp_path / "one").equal
    (tmp_path / "one" / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: cannot be read as json"):
        compare("a.json", tmp_path / "one", tmp_path / "other")


# -- again -------------------------------------------------------------------------------------------------------------


def test_a_run_made_again_is_equal_byte_for_byte(capsys, finished, tmp_path):
    code, out, err = call(capsys, "rerun", finished, "--out", tmp_path / "again", "--threads", "1")
    assert (code, err) == (0, "")
    assert "The histories are equal, byte for byte." in out
    assert "The weights are equal, byte for byte." in out
    assert out.splitlines()[-1] == f"{tmp_path / 'again'}: agrees with {finished}."


def test_where_a_run_departs_from_the_first_is_told(capsys, monkeypatch, own_copy, finished, tmp_path):
    """A first run that was tampered with: its second point is another, and so is a weight."""
    monkeypatch.setenv("COLUMNS", "1000")
    from safetensors.torch import load, save

    run, again = Run(own_copy), Path(shutil.copytree(finished, tmp_path / "again"))
    run.write_history([entry | {"kl_nats": entry["kl_nats"] + (entry["step"] == 6)} for entry in run.history])
    weights = own_copy / "model" / "model.safetensors"
    tensors = load(weights.read_bytes())
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 0.5
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
    weights.write_bytes(save(tensors, metadata))
    code, out, err = call(capsys, "rerun", own_copy, "--out", again)
    assert code == 1
    sentence = f"{again}: differs from {own_copy}: history.jsonl and model/model.safetensors."
    assert err == f"mpdvae: {sentence} `mpdvae explain differs` says more.\n"
    assert "The histories first differ at step 6: kl_nats: " in out
    assert ", a difference of -1." in out
    assert f"1 of {len(tensors)} weight tensors differ, {name} the most, by up to 0.5." in out


def test_what_cannot_be_made_again(own_copy, tmp_path):
    with pytest.raises(InputError, match="expected a folder other than that of the run"):
        repetition.original(own_copy, own_copy / "model" / "..")
    Run(own_copy).note(status="training")
    with pytest.raises(InputError, match=r"this run is not finished; `mpdvae resume"):
        repetition.original(own_copy, tmp_path / "new")
    Run(own_copy).note(status="finished", imported={})
    with pytest.raises(InputError, match="was imported and not trained here"):
        repetition.original(own_copy, tmp_path / "new")


# -- environments ------------------------------------------------------------------------------------------------------


def test_a_run_notes_the_environment_of_both_stages_once(finished):
    (entry,) = read_json(finished / "manifest.json")["environments"]
    assert entry == {
        "used_for": ["training", "evaluation"],
        "from_step": 0,
        "fields": json.loads(json.dumps(environment.describe())),
    }


def test_equal_bits_are_asked_for_where_all_measurements_were_made_here(own_copy):
    """Which of several environments an old number comes from is not noted."""
    (entry,) = read_json(own_copy / "manifest.json")["environments"]
    elsewhere = entry | {"fields": entry["fields"] | {"threads": 77}}
    for environments in ([elsewhere, entry], [entry, elsewhere]):
        checks: list[Check] = []
        assert not _check_environment({"environments": environments}, entry["fields"], checks)
        assert [(check.name, check.noted) for check in checks] == [("threads", "77")]
    assert _check_environment({"environments": [entry]}, entry["fields"], [])


def test_a_run_that_goes_on_elsewhere_keeps_both_environments(tmp_path, monkeypatch):
    experiment = tiny("vae-digits-smoke")

    class Stop(Exception):
        pass

    def stop(done: int, entry: object) -> None:
        if done == 3:
            raise Stop

    from mpdvae.workflows import job

    run = Run.create(tmp_path / "run", experiment)
    with pytest.raises(Stop):
        job.complete(run, digits(), "mpdvae train", watch=stop)
    here = environment.describe()
    monkeypatch.setattr(job, "describe", lambda device: here | {"cpu": "another"})
    finish(run.path, experiment)
    entries = run.manifest["environments"]
    assert [(e["used_for"], e["from_step"], e["fields"]["cpu"]) for e in entries] == [
        (["training"], 0, here["cpu"]),
        (["training", "evaluation"], 3, "another"),
    ]
    found, exact = repetition._environments(run, run)
    assert (found, exact) == (["cpu"], False)


def test_what_is_known_of_an_environment():
    fields = environment.describe()
    assert environment.same(fields, fields | {"release": "another", "cores": 99})
    assert not environment.same(fields, fields | {"threads": 99})
    assert environment.differing(fields, {"torch": "0", "cores": 99}) == ["torch"]
    assert not environment.same({"torch": "0"}, fields)
    for name in ("numpy", "scipy", "scikit-learn", "joblib", "pillow", "source", "cpu_capability", "blas", "device"):
        assert fields[name]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda patch: patch.setenv("MKL_CBWR", "COMPATIBLE"), "$MKL_CBWR"),
        (lambda patch: torch.set_flush_denormal(True), "flush_denormal"),
        (lambda patch: torch.use_deterministic_algorithms(True), "deterministic_algorithms"),
        (lambda patch: torch.set_num_threads(2), "threads"),
        (lambda patch: torch.set_float32_matmul_precision("high"), "float32_matmul_precision"),
    ],
)
def test_settings_that_change_results_are_noted(monkeypatch, change: Callable[[pytest.MonkeyPatch], object], field):
    before = environment.describe()
    try:
        change(monkeypatch)
        after = environment.describe()
    finally:
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")
    assert {name for name in after if after[name] != before.get(name)} == {field}


def test_training_alone_records_its_files(tmp_path):
    run = trained(tmp_path / "run", tiny("vae-digits-smoke"))
    assert sorted(run.manifest["files"]) == sorted(run_files(run.path))
    found = verify(run.path)
    assert found.agrees
    assert found.unmeasured == "the run is not finished (trained)"
