"""Importing models of the released code: what is refused, and a round trip through the command line."""

import collections
import copy
import json
import pickle
from typing import Any

import pytest
import torch
from command_line import call
from data_files import grey_images
from released import Numbers, description, filled
from safetensors.torch import save_file
from small_runs import files

import mpdvae
from mpdvae.data import Splits
from mpdvae.errors import InputError
from mpdvae.runs.run_folder import Run
from mpdvae.sharing.released_config import experiment_of
from mpdvae.sharing.released_import import from_official, read_state

PARTS = {"train": 150, "validation": 4, "test": 6}
SMALL = description("binary_resnet")
COLOUR = description("colour_pixelcnnpp")["config"]


@pytest.fixture(scope="module")
def state() -> Numbers:
    return filled(SMALL["parameters"] | SMALL["buffers"], SMALL["gain"], SMALL["phase"])


@pytest.fixture
def with_masks() -> tuple[dict[str, Any], Numbers, Numbers]:
    """A model with masked layers: configuration, weights, and the masks that the released code saves with them."""
    about = description("binary_small")
    masks = {name: torch.ones(shape, dtype=torch.uint8) for name, shape in about["buffers"].items()}
    return about["config"], filled(about["parameters"] | about["buffers"], about["gain"], about["phase"]), masks


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `config` with the field at the dotted `path` replaced, or taken out if the value is ...."""
    config = copy.deepcopy(config)
    *sections, field = path.split(".")
    node = config
    for section in sections:
        node = node[section]
    if value is ...:
        del node[field]
    else:
        node[field] = value
    return config


def assert_same_model(one: torch.nn.Module, other: torch.nn.Module) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# Configurations

AF = {"type": "af_made", "input_size": 32, "num_blocks": 4}


@pytest.mark.parametrize(
    ("config", "path", "value", "message"),
    [
        (SMALL, "encoder", ..., "encoder: expected a section of the released configuration, got None"),
        (SMALL, "encoder", 3, "encoder: expected a section of the released configuration, got 3"),
        (SMALL, "encoders", {}, "unknown section of a released configuration 'encoders': did you mean 'encoder'"),
        (SMALL, "encoder.type", "gausian", "unknown encoder.type 'gausian': did you mean 'gaussian'"),
        (SMALL, "encoder.core", None, "encoder.core: expected a section"),
        (SMALL, "encoder.core.type", "resnet_binary_28x82", "unknown encoder.core.type .* 'resnet_binary_28x28'"),
        (SMALL, "encoder.core.type", ..., "unknown encoder.core.type ''"),
        (SMALL, "encoder.core.type", [], r"unknown encoder.core.type '\[\]'"),
        (SMALL, "encoder.core.nz", ..., "encoder.core.nz: expected a whole number >= 1, got None"),
        (SMALL, "encoder.core.nz", 32.0, "encoder.core.nz: expected a whole number >= 1, got 32.0"),
        (SMALL, "encoder.core.nz", "32", "encoder.core.nz: expected a whole number >= 1, got '32'"),
        (SMALL, "encoder.core.nz", True, "encoder.core.nz: expected a whole number >= 1, got True"),
        (SMALL, "encoder.core.nz", 0, "encoder.core.nz: expected a whole number >= 1, got 0"),
        (SMALL, "encoder.core.nx", 32, "unknown option of encoder.core 'nx': did you mean 'nz'"),
        (SMALL, "encoder.posterior_flow", AF, "encoder.posterior_flow: no released model has one"),
        (SMALL, "encoder.prior_flow", "af_made", "encoder.prior_flow: expected a section"),
        (SMALL, "encoder.prior_flow", AF | {"type": "iaf_made"}, "unknown encoder.prior_flow.type 'iaf_made'"),
        (SMALL, "encoder.prior_flow", AF | {"num_blocks": 0}, "num_blocks: expected a whole number >= 1, got 0"),
        (SMALL, "encoder.prior_flow", AF | {"num_hiddens": 1.5}, "num_hiddens: expected a whole number >= 1, got 1.5"),
        (SMALL, "encoder.prior_flow", AF | {"hidden_size": -1}, "hidden_size: expected a whole number >= 1, got -1"),
        (SMALL, "encoder.prior_flow", AF | {"input_size": 16}, "input_size: expected 32 as in encoder.core, got 16"),
        (SMALL, "encoder.prior_flow", AF | {"bias": False}, "bias: only flows with biases can be imported, got False"),
        (SMALL, "encoder.prior_flow", AF | {"kernel_size": 3}, "unknown option of encoder.prior_flow 'kernel_size'"),
        (SMALL, "encoder.prior_flow", COLOUR["encoder"]["prior_flow"], "in_channels: expected 32 as in encoder.core"),
        (SMALL, "decoder.type", "resnet_binary", "unknown decoder.type 'resnet_binary'"),
        (SMALL, "decoder.nz", 16, "decoder.nz: expected 32 as in encoder.core, got 16"),
        (SMALL, "decoder", COLOUR["decoder"], "decoder.type: .* does not fit the encoder's 28x28 images of 1 channels"),
        (SMALL, "decoder.type", "pixelcnn_binary_28x28", "unknown decoder.mode '': expected one of: small, large"),
        (COLOUR, "decoder.nmix", 2.5, "decoder.nmix: expected a whole number >= 1, got 2.5"),
        (COLOUR, "decoder.h_channels", ..., "decoder.h_channels: expected a whole number >= 1, got None"),
        (COLOUR, "decoder.activation", "relu", "unknown decoder.activation 'relu'"),
        (COLOUR, "decoder.dropout", 1.5, "dropout: expected less than 1, got 1.5"),
        (COLOUR, "decoder.dropout", "much", "dropout: expected a valid number.* got 'much'"),
        (COLOUR, "decoder.type", "pixelcnn++_color_64x64", "does not fit the encoder's 32x32 images of 3 channels"),
        (
            COLOUR,
            "encoder.prior_flow.hidden_kernels",
            [3, 5, 3],
            "hidden_kernels: expected kernel_size 3 for each of 3",
        ),
        (COLOUR, "encoder.prior_flow.hidden_kernels", 3, "hidden_kernels: expected kernel_size 3 for each of 3"),
        (COLOUR, "encoder.prior_flow", AF | {"input_size": 16}, "prior: flow takes codes that are vectors"),
    ],
)
def test_refused_configurations(config, path, value, message):
    with pytest.raises(InputError, match=message):
        experiment_of(changed(config.get("config", config), path, value))


def test_large_colour_configuration_and_its_defaults():
    """Shipped for 64x64; without mode, dropout, activation, hidden sizes where the released code has defaults."""
    core = {"type": "densenet_color_64x64", "z_channels": 32}
    flow = {"type": "af2d_made", "in_channels": 32, "height": 8, "width": 8, "num_blocks": 4, "kernel_size": 3}
    decoder = {"type": "pixelcnn++_color_64x64", "z_channels": 32, "h_channels": 16, "nmix": 5}
    encoder = {"type": "gaussian", "core": core, "prior_flow": flow, "ngpu": 2}
    experiment, image_shape = experiment_of({"encoder": encoder, "decoder": decoder})
    assert image_shape == (3, 64, 64)
    assert experiment.encoder.latent_shape(image_shape, experiment.latent_dim) == (32, 8, 8)
    assert (experiment.decoder.levels, experiment.decoder.channels, experiment.decoder.blocks) == (4, 64, 4)
    assert (experiment.decoder.dropout, experiment.decoder.activation) == (0.0, "elu")
    assert (experiment.prior.hidden_layers, experiment.prior.hidden_channels) == (0, 256)


def test_defaults_of_flows_over_vectors():
    experiment, _ = experiment_of(changed(SMALL["config"], "encoder.prior_flow", AF | {"var": False}))
    prior = experiment.prior
    assert (prior.hidden_features, prior.hidden_layers, prior.mean_only) == (320, 1, True)


# State dicts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.core.0.deconv.bias"), "1 tensors are missing .first: decoder.core.0.deconv.bias"),
        (
            lambda s: s.update({"decoder.core.0.deconv.b": torch.zeros(1)}),
            "1 do not belong to this model .first: .*deconv.b",
        ),
        (
            lambda s: s.clear(),
            r"63 tensors are missing \(first: decoder.core.0.deconv.bias\); check that it belongs to",
        ),
        (
            lambda s: s.update({"decoder.core.0.deconv.bias": torch.zeros(63)}),
            r"decoder.core.0.deconv.bias has shape \(63,\), expected \(64,\)",
        ),
        (
            lambda s: s.update({"decoder.core.0.deconv.bias": torch.zeros(64, dtype=torch.int64)}),
            "decoder.core.0.deconv.bias holds torch.int64 .*, expected a dense floating-point tensor",
        ),
    ],
    ids=["missing", "surplus", "empty", "shape", "type"],
)
def test_refused_state_dicts(state, change, message):
    state = dict(state)
    change(state)
    with pytest.raises(InputError, match=message):
        from_official(SMALL["config"], state)


def test_state_dict_of_another_model(state):
    with pytest.raises(InputError, match=r"tensors are missing .* do not belong to this model .* check that it "):
        from_official(description("binary_small")["config"], state)


def test_names_from_several_devices(state):
    parallel = {name.replace(".core.", ".core.module.", 1): tensor for name, tensor in state.items()}
    assert parallel.keys() != state.keys()
    assert_same_model(from_official(SMALL["config"], parallel), from_official(SMALL["config"], state))


def test_masks_may_be_there_or_not(with_masks):
    """They are made anew: what is in the file does not matter."""
    config, state, masks = with_masks
    assert_same_model(from_official(config, state | masks), from_official(config, state))


def test_imported_model_is_in_eval_mode_and_shares_nothing_with_its_source(state):
    state = {name: tensor.clone() for name, tensor in state.items()}
    vae = from_official(SMALL["config"], state)
    before = copy.deepcopy(vae.state_dict())
    for tensor in state.values():
        tensor.zero_()
    assert not vae.training
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.state_dict().items())


# Files


class Harmful:
    """What runs code of its own when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


def write_pickle(path, value):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: torch.save(Harmful(), path),
            "holds more than tensors and would execute its own code when loaded",
        ),
        (lambda path: torch.save({"x": torch.zeros(1), "y": Harmful()}, path), "holds more than tensors"),
        (lambda path: write_pickle(path, Harmful()), "state.pt: "),
        (lambda path: torch.save(torch.nn.Linear(1, 1), path), "holds more than tensors"),
        (lambda path: torch.save((torch.zeros(1),), path), r"expected a state dict \(tensors by name\), got a tuple"),
        (lambda path: torch.save(torch.zeros(1), path), r"expected a state dict \(tensors by name\), got a Tensor"),
        (lambda path: torch.save({"epoch": 3}, path), "got a int under 'epoch'; save model.state_dict.. alone"),
        (lambda path: torch.save({"model": {"w": torch.zeros(1)}}, path), "got a dict under 'model'"),
        (lambda path: torch.save({3: torch.zeros(1)}, path), "got a Tensor under 3"),
        (lambda path: path.write_bytes(b""), "state.pt: not readable as the output of torch.save"),
        (lambda path: path.write_bytes(b"weights"), "state.pt: "),
        (lambda path: path.write_text('{"encoder": 3}'), "state.pt: "),
    ],
)
def test_refused_files(tmp_path, capsys, write, message):
    path = tmp_path / "state.pt"
    write(path)
    with pytest.raises(InputError, match=message) as refusal:
        read_state(path)
    assert "\n" not in str(refusal.value)
    assert "weights_only" not in str(refusal.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_files(tmp_path, suffix, kept):
    path, state = tmp_path / f"state{suffix}", {"x": torch.randn(1000)}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=f"state{suffix}: (not )?.*") as refusal:
        read_state(path)
    assert "\n" not in str(refusal.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"state.pt: no such file; expected a state dict saved by torch.save"):
        read_state(tmp_path / "state.pt")


@pytest.mark.parametrize("zipped", [True, False], ids=["now", "before-2020"])
def test_both_formats_of_torch(tmp_path, zipped):
    """The released code was run with torch 0.4, which wrote no zip files."""
    state = collections.OrderedDict(x=torch.randn(3), y=torch.nn.Parameter(torch.randn(2)))
    torch.save(state, tmp_path / "state.pt", _use_new_zipfile_serialization=zipped)
    read = read_state(tmp_path / "state.pt")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


# The command line


@pytest.fixture
def released_files(tmp_path, state):
    (tmp_path / "config.json").write_text(json.dumps(SMALL["config"]))
    torch.save(state, tmp_path / "model.pt")
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_round_trip_through_the_command_line(released_files, capsys, state, file):
    folder, config = released_files / "run", released_files / "config.json"
    code, out, err = call(capsys, "import-official", config, released_files / file, "--out", folder)
    assert (code, err) == (0, "")
    assert f"run folder: {folder}" in out
    vae, expected = mpdvae.load(folder), from_official(SMALL["config"], state)
    assert_same_model(vae, expected)
    x, z = torch.randint(2, (3, 1, 28, 28)).float(), torch.randn(3, 32)
    assert torch.equal(vae.encoder(x).mean, expected.encoder(x).mean)
    assert torch.equal(vae.decoder(z).log_prob(x), expected.decoder(z).log_prob(x))
    run = Run(folder)
    assert run.status == "trained"
    assert run.history == []
    assert run.experiment == experiment_of(SMALL["config"])[0]
    manifest = run.manifest
    assert manifest["version"] == mpdvae.__version__
    assert manifest["parameters"]["total"] == SMALL["parameter_count"]
    assert manifest["command"].startswith("mpdvae")
    assert manifest["imported"]["state"].endswith(file)
    assert len(manifest["imported"]["sha256"]) == 64


def test_data_set_is_named_on_the_command_line(released_files, capsys):
    folder = released_files / "run"
    given = [released_files / "config.json", released_files / "model.pt", "--out", folder]
    assert call(capsys, "import-official", *given, "--dataset", "omniglot")[0] == 0
    assert Run(folder).experiment.data.dataset == "omniglot"


def test_a_folder_with_something_in_it_is_left_alone(released_files, capsys):
    given = ["import-official", released_files / "config.json", released_files / "model.pt", "--out"]
    assert call(capsys, *given, released_files / "run")[0] == 0
    before = files(released_files)
    for folder, message in {
        released_files / "run": "run: exists and is not empty; choose another --out.",
        released_files: "exists and is not empty",
        released_files / "config.json": "cannot be a folder",
    }.items():
        code, _, err = call(capsys, *given, folder)
        assert code == 2
        assert message in err
    assert files(released_files) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "expected a JSON object with the sections encoder and decoder"),
        ("{", "cannot be read as JSON"),
        ("{}", "encoder: expected a section of the released configuration, got None"),
        (None, "config.json: no such file"),
    ],
)
def test_refusals_on_the_command_line(released_files, capsys, config, message):
    path, folder = released_files / "config.json", released_files / "run"
    path.unlink() if config is None else path.write_text(config)
    code, _, err = call(capsys, "import-official", path, released_files / "model.pt", "--out", folder)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not folder.exists()


def test_weights_that_do_not_fit_on_the_command_line(released_files, capsys):
    torch.save({"x": torch.zeros(1)}, released_files / "model.pt")
    given = [released_files / "config.json", released_files / "model.pt", "--out", released_files / "run"]
    code, _, err = call(capsys, "import-official", *given)
    assert code == 2
    assert "63 tensors are missing" in err
    assert not (released_files / "run").exists()


def test_an_imported_model_is_measured_and_drawn_from_like_any_other(released_files, capsys, monkeypatch):
    """evaluate, sample, reconstruct, traverse, resume and report, on a stand-in for its data."""
    folder = released_files / "run"
    call(capsys, "import-official", released_files / "config.json", released_files / "model.pt", "--out", folder)
    images = {part: grey_images(n, 28, 28, seed, labels=False) for seed, (part, n) in enumerate(PARTS.items())}
    data = Splits.of("mnist", "MNIST", **images)
    monkeypatch.setattr("mpdvae.workflows.job.load_data", lambda experiment, root=None: data)
    code, out, err = call(capsys, "evaluate", folder, "--samples", "2")
    assert (code, err) == (0, "")
    assert "released" in out
    run = Run(folder)
    assert run.status == "finished"
    assert run.manifest["data"]["sha256"] == data.sha256
    assert run.manifest["imported"]["config"] == str(released_files / "config.json")
    for command in ("sample", "reconstruct", "traverse"):
        amount = {"traverse": "--columns"}.get(command, "--count")
        assert call(capsys, command, folder, "--out", released_files / f"{command}.png", amount, "2")[0] == 0
    assert call(capsys, "resume", folder)[0] == 0
    assert call(capsys, "report", folder, "--out", released_files / "report.html")[0] == 0
