"""Run folders: nothing is overwritten, files are whole or not there, and what is damaged is said or passed over."""

import json
import os
import shutil

import pytest
import torch
from small_runs import digits, files, replace_weights, tiny, trained

import mpdvae
from mpdvae.errors import InputError, RunError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.runs.model_folder import save_model
from mpdvae.runs.run_folder import Run, differing_fields, manifest_sha256
from mpdvae.system.atomic_files import read_json, write_atomically, write_json
from mpdvae.system.closed_folder import Inside

# -- making a folder ---------------------------------------------------------------------------------------------------


def test_a_new_folder_holds_the_experiment(tmp_path):
    run = Run.create(tmp_path / "a" / "b", tiny())
    assert run.experiment == tiny()
    assert run.status == "new"
    assert run.history == []
    assert run.load_checkpoint() is None
    assert files(run.path).keys() == {"experiment.json"}


def test_the_same_run_is_returned_and_left_alone(own_copy):
    before = files(own_copy)
    assert Run.create(own_copy, tiny()).status == "finished"
    assert files(own_copy) == before


def test_another_run_is_refused_by_its_differing_fields(own_copy):
    before = files(own_copy)
    with pytest.raises(
        InputError, match=r"already holds another run \(it differs in prior\.blocks and seed\); choose another"
    ):
        Run.create(own_copy, tiny(seed=1, prior__blocks=2))
    assert files(own_copy) == before


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and not a run; choose another --out"):
        Run.create(tmp_path, tiny())
    assert files(tmp_path) == {"thesis.tex": b"years of work"}


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_way_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be a folder, .*file is a file; choose another --out"):
        Run.create(tmp_path / name, tiny())


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.create(tmp_path, tiny()).status == "new"


def test_what_is_no_run_folder(tmp_path):
    with pytest.raises(InputError, match=r"no such folder; give the folder that `mpdvae train"):
        Run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not a run folder \(it has no experiment\.json\)"):
        Run(tmp_path)


def test_differing_fields_of_different_kinds():
    one, other = tiny("vae-digits-smoke"), with_changes(tiny(), name="vae-digits-smoke", model="vae", reproduces="")
    differing = differing_fields(one, with_changes(other, prior={"kind": "standard-normal"}))
    assert {"decoder.kind", "decoder.kernel_sizes", "decoder.channels", "objective.diversity_weight"} <= set(differing)
    assert "encoder.channels" not in differing
    assert differing_fields(one, one) == []


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, call, failure):
    def fail(*arguments, **options):
        raise failure

    path = tmp_path / "results.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(failure)):
        write_atomically(path, "new")
    assert files(tmp_path) == {"results.json": b"old"}


def test_json_holds_finite_numbers_only(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert files(tmp_path) == {}


def test_broken_json_is_told(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{\xff")
    with pytest.raises(InputError, match=r"a\.json: cannot be read as JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: no such file; is .* the folder of a run\?"):
        read_json(tmp_path / "b.json")


def test_a_broken_line_of_the_history_is_told(own_copy):
    history = own_copy / "history.jsonl"
    assert [entry["step"] for entry in Run(own_copy).history] == [3, 6]
    history.write_bytes(history.read_bytes()[:-20])
    with pytest.raises(
        InputError, match=r"history\.jsonl: line 2 is damaged \(not JSON\); delete .* to train this run again"
    ):
        _ = Run(own_copy).history


@pytest.mark.parametrize("content", [b"", b"{}{", b"\xff\xfe", b'{"seed": -1}'])
def test_a_damaged_experiment_is_told(own_copy, content):
    (own_copy / "experiment.json").write_bytes(content)
    with pytest.raises(InputError, match=r"experiment\.json: "):
        Run(own_copy)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def checkpoint(step: int) -> tuple[dict[str, torch.Tensor], dict]:
    return {"w": torch.full((3,), float(step))}, {"learning_rate": 0.1 * step}


@pytest.fixture
def three(tmp_path):
    """A run with checkpoints after 1, 2 and 3 steps."""
    run = Run.create(tmp_path / "run", tiny())
    for step in (1, 2, 3):
        run.save_checkpoint(step, *checkpoint(step))
    return run


def loaded(run: Run) -> int:
    """The step of the checkpoint that is loaded, after a look at its tensors."""
    found = run.load_checkpoint()
    assert found is not None
    tensors, state = found
    assert torch.equal(tensors["w"], checkpoint(state["step"])[0]["w"])
    assert state["learning_rate"] == checkpoint(state["step"])[1]["learning_rate"]
    return state["step"]


def test_the_last_two_checkpoints_are_kept(three):
    names = {f"step-0000000{step}.{ending}" for step in (2, 3) for ending in ("json", "safetensors")}
    assert files(three.path / "checkpoints").keys() == names
    assert loaded(three) == 3


DAMAGES = {
    "tensors truncated": lambda path: path.with_suffix(".safetensors").write_bytes(b"\x08"),
    "tensors missing": lambda path: path.with_suffix(".safetensors").unlink(),
    "one bit": lambda path: path.with_suffix(".safetensors").write_bytes(
        path.with_suffix(".safetensors").read_bytes()[:-1] + b"\x01"
    ),
    "state truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "state empty": lambda path: path.write_bytes(b"{}"),
    "state no dictionary": lambda path: path.write_bytes(b"3"),
    "state missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_previous_checkpoint_is_used_where_the_newest_is_damaged(three, damage):
    DAMAGES[damage](three.path / "checkpoints" / "step-00000003.json")
    assert loaded(three) == 2


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - {"state missing"}))
def test_only_damaged_checkpoints_are_told(three, damage):
    for step in (2, 3):
        DAMAGES[damage](three.path / "checkpoints" / f"step-0000000{step}.json")
    with pytest.raises(
        RunError, match=r"every checkpoint is damaged .*; delete that folder to train this run from the"
    ):
        three.load_checkpoint()


def test_a_checkpoint_of_another_experiment_is_refused(three):
    (three.path / "experiment.json").write_text(tiny(latent_dim=9, seed=4).to_json())
    with pytest.raises(
        InputError, match=r"step-00000003\.json: belongs to another experiment .*\(it differs in latent_dim and seed\)"
    ):
        Run(three.path).load_checkpoint()


def test_a_checkpoint_copied_from_another_run_is_refused(three, tmp_path):
    other = Run.create(tmp_path / "other", tiny(training__learning_rate=0.5))
    shutil.copytree(three.path / "checkpoints", other.path / "checkpoints")
    with pytest.raises(InputError, match=r"belongs to another experiment .*training\.learning_rate"):
        other.load_checkpoint()


# -- models ------------------------------------------------------------------------------------------------------------


def test_load_gives_the_averaged_model_in_eval_mode(tmp_path):
    """The weights at the end are those of the checkpoint's average, not of the model that was trained."""
    run = trained(tmp_path / "run", tiny(training__steps=3, training__averaging=0.99))
    found = run.load_checkpoint()
    assert found is not None
    vae = mpdvae.load(tmp_path / "run")
    assert not vae.training
    averages = {name: found[0][f"average/module.{name}"] for name, _ in vae.named_parameters()}
    assert all(torch.equal(parameter, averages[name]) for name, parameter in vae.named_parameters())
    assert not all(torch.equal(parameter, found[0][f"model/{name}"]) for name, parameter in vae.named_parameters())


def test_a_model_folder_can_go_anywhere(finished, tmp_path):
    x = digits().test.pixels[:3].float() / 255
    shutil.copytree(finished / "model", tmp_path / "elsewhere")
    assert torch.equal(mpdvae.load(tmp_path / "elsewhere").encode(x), mpdvae.load(finished).encode(x))
    assert torch.equal(mpdvae.load(str(finished / "model")).encode(x), mpdvae.load(finished).encode(x))


def test_the_model_card_names_the_model(finished):
    card = (finished / "model" / "README.md").read_text()
    assert "\n# mae-digits-smoke\n" in card
    assert "pixelcnn decoder" in card
    assert 'mpdvae.load(".")' in card


BAD_MODELS = {
    "no model": (lambda f: shutil.rmtree(f / "model"), r"has no model\.safetensors; has the run reached its first"),
    "no weights": (lambda f: (f / "model" / "model.safetensors").unlink(), r"has no model\.safetensors"),
    "no experiment": (lambda f: (f / "model" / "experiment.json").unlink(), r"model/experiment\.json: no such file"),
    "truncated": (
        lambda f: (f / "model" / "model.safetensors").write_bytes(
            (f / "model" / "model.safetensors").read_bytes()[:999]
        ),
        r"model\.safetensors: not a readable safetensors file",
    ),
    "empty": (lambda f: (f / "model" / "model.safetensors").write_bytes(b""), r"not a readable safetensors file"),
    "a pickle": (lambda f: torch.save({}, f / "model" / "model.safetensors"), r"not a readable safetensors file"),
    "other format": (
        lambda f: replace_weights(f, mpdvae='{"format": "99", "image_shape": [1, 8, 8]}'),
        r"is of model format 99, written by mpdvae \?, but mpdvae .* reads format 1 only: pip install --upgrade mpdvae",
    ),
    "no metadata": (replace_weights, r"has no valid model metadata in its header; was it written by mpdvae"),
    "no image shape": (lambda f: replace_weights(f, mpdvae='{"format": "1"}'), r"has no valid model metadata"),
    "metadata of another program": (lambda f: replace_weights(f, format="pt"), r"has no valid model metadata"),
    "broken image shape": (
        lambda f: replace_weights(f, mpdvae='{"format": "1", "image_shape": [8, 8]}'),
        r"has no valid model metadata",
    ),
    "other latent_dim": (
        lambda f: (f / "model" / "experiment.json").write_text(tiny(latent_dim=5).to_json()),
        r"model\.safetensors: does not fit experiment\.json beside it: ",
    ),
    "other decoder": (
        lambda f: (f / "model" / "experiment.json").write_text(tiny("vae-digits-smoke").to_json()),
        r"does not fit experiment\.json beside it: for decoder\.\S+ the file has none, the configuration \d+ numbers \[",
    ),
    "broken experiment": (
        lambda f: (f / "model" / "experiment.json").write_text("{"),
        r"model/experiment\.json: not the JSON of an experiment",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models_whose_files_do_not_fit_are_refused(own_copy, case):
    damage, message = BAD_MODELS[case]
    damage(own_copy)
    with pytest.raises(InputError, match=message) as refusal:
        mpdvae.load(own_copy)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("change", [{"latent_dim": 4_000}, {"decoder__channels": 1_000}], ids=str)
def test_a_network_that_is_not_that_of_the_weights_takes_no_memory(own_copy, monkeypatch, change):
    """The configuration asks for far more than the file has: shapes are compared on a device without memory."""
    (own_copy / "model" / "experiment.json").write_text(tiny(**change).to_json())
    devices, build = [], Experiment.build

    def watched(self, image_shape):
        devices.append(torch.empty(0).device.type)
        return build(self, image_shape)

    monkeypatch.setattr(Experiment, "build", watched)
    with pytest.raises(InputError, match=r"the file has [\d,]+ numbers \[.*\], the configuration [\d,]+ numbers \["):
        mpdvae.load(own_copy)
    assert devices == ["meta"]


def test_load_of_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder; give the folder of a run or of a model"):
        mpdvae.load(tmp_path / "nowhere")


def test_a_model_saved_is_the_model_loaded(tmp_path):
    experiment = tiny("vae-digits-smoke")
    vae = experiment.build((1, 8, 8)).eval()
    save_model(Inside(tmp_path / "m"), vae, experiment, (1, 8, 8))
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(mpdvae.load(tmp_path / "m").encode(x), vae.encode(x))


def test_notes_are_added_and_replaced(tmp_path):
    run = Run.create(tmp_path / "run", tiny())
    run.note(a=1, b=2)
    run.note(b=3)
    assert json.loads((run.path / "manifest.json").read_text()) == {
        "a": 1,
        "b": 3,
        "sha256": manifest_sha256({"a": 1, "b": 3}),
    }
