"""ONNX graphs give the model's numbers, for any batch; what no graph can hold is refused in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from exported_models import CONDITIONAL, GRAPHS, SHAPE, model_of
from small_runs import tiny

from mpdvae.data.conditions import known_from, split_condition, with_condition
from mpdvae.distributions import (
    CategoricalPixels,
    ContinuousBernoulliPixels,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    GaussianPixels,
)
from mpdvae.errors import InputError
from mpdvae.sharing.onnx_export import export
from mpdvae.vae import VAE

TOOLS = ("onnx", "onnxruntime", "onnxscript")


def need_tools() -> None:
    for tool in TOOLS:
        pytest.importorskip(tool, reason="the extra `export` is not installed")


QUICK = ("encoder convnet-2", "decoder convnet-2", "encoder given both", "decoder given both")

# The graphs are made in one process of their own: torch's tracer does not go through the tests' type checks of shapes.
SCRIPT = """
import json, sys
import torch
sys.path.insert(0, {support!r})
from exported_models import model_of
from mpdvae.sharing.onnx_export import export
for name in {names!r}:
    part, vae = model_of(name)
    export(vae, {folder!r} + "/" + name + ".onnx", part)
"""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, request) -> Path:
    need_tools()
    folder = tmp_path_factory.mktemp("graphs")
    chosen = [
        name for name in (*GRAPHS, *CONDITIONAL) if any(f"[{name}]" in item.name for item in request.session.items)
    ]
    code = SCRIPT.format(support=str(Path(__file__).parents[1] / "support"), names=chosen, folder=str(folder))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def expected_of(part: str, vae: VAE, x: torch.Tensor) -> dict[str, torch.Tensor]:
    if part == "encoder":
        q = vae.encoder(x)
        return {"mean": q.mean, "log_variance": q.stddev.log() * 2}
    p = vae.decoder(x)
    match p:
        case DiscretisedLogisticMixture():
            names = ["log_weights", "means", "log_scales", *(["coefficients"] if p.event_shape[0] > 1 else [])]
            return {name: getattr(p, name) for name in names}
        case DiscretisedLogistic():
            return {"means": p.location, "log_scales": p.log_scale}
        case CategoricalPixels() | ContinuousBernoulliPixels():
            return {"logits": p.logits}
        case GaussianPixels():
            return {"means": p.mean, "log_sigma": p.log_sigma}
    return {"probabilities": p.mean}


def quick_and_slow(names) -> list:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quick_and_slow(GRAPHS))
def test_a_graph_gives_the_numbers_of_the_model(graphs, name):
    import onnxruntime

    part, vae = model_of(name)
    session = onnxruntime.InferenceSession(graphs / f"{name}.onnx", providers=["CPUExecutionProvider"])
    shape = GRAPHS[name][1].takes[-1] if part == "encoder" else tuple(vae.prior().event_shape)
    for batch in (1, 5):
        x = torch.randn(batch, *shape)
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            expected = expected_of(part, vae, x)
        assert [output.name for output in session.get_outputs()] == list(expected)
        for theirs, ours in zip(found, expected.values(), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", quick_and_slow(CONDITIONAL))
def test_a_graph_of_a_conditional_model_is_told_the_condition_beside_the_image_or_code(graphs, name):
    import onnxruntime

    part, vae = model_of(name)
    session = onnxruntime.InferenceSession(graphs / f"{name}.onnx", providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]
    told_as = [told for told, there in zip(("labels", "covariates"), vae.condition, strict=True) if there]
    assert inputs == ["x" if part == "encoder" else "z", *told_as]
    about = json.loads(session.get_modelmeta().custom_metadata_map["mpdvae"])
    assert about.get("class_names") == (["cat", "dog", "owl"] if vae.classes else None)
    for batch in (1, 5):
        given = torch.rand(batch, *(SHAPE if part == "encoder" else vae.latent_shape))
        told = vae.decoder.draw_told(torch.Size((batch,)))
        known = known_from(told, vae.condition)
        feeds = dict(zip(inputs, [given, *(numbers for numbers in known if numbers is not None)], strict=True))
        found = session.run(None, {name: numbers.numpy() for name, numbers in feeds.items()})
        with torch.no_grad():
            if part == "encoder":
                expected = expected_of(part, vae, with_condition(given, told))
            else:
                p = vae.decoder.decoder(vae.decoder.with_features(given, told))
                expected = {"means": p.location, "log_scales": p.log_scale}
                shown = split_condition(
                    vae.decode(given, labels=known.labels, covariates=known.covariates), vae.condition
                )
                torch.testing.assert_close(p.mean, shown.images)
        assert [output.name for output in session.get_outputs()] == list(expected)
        for theirs, ours in zip(found, expected.values(), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-3, atol=1e-4)


def test_a_model_is_left_as_it_was(tmp_path, monkeypatch):
    need_tools()
    vae, x = tiny("vae-digits-smoke").build((1, 8, 8)), torch.zeros(2, 1, 8, 8)
    codes, images = vae.encode(x), vae.decode(torch.zeros(2, vae.latent_dim))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    for part in ("encoder", "decoder"):
        with pytest.raises(ZeroDivisionError):
            export(vae, tmp_path / "x.onnx", part)
    assert torch.equal(vae.encode(x), codes)
    assert torch.equal(vae.decode(torch.zeros(2, vae.latent_dim)), images)


@pytest.mark.slow
def test_the_command_writes_a_graph_that_says_what_it_is(finished, tmp_path):
    need_tools()
    import onnxruntime

    out = tmp_path / "encoder.onnx"
    done = subprocess.run(
        [sys.executable, "-m", "mpdvae.commands.cli", "export", finished, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["mpdvae"])
    assert about["part"] == "encoder"
    assert about["image_range"] == [0, 1]
    assert about["experiment"]["latent_dim"] == session.get_outputs()[0].shape[1] == 8


REFUSED = {
    "autoregressive": ("vae-pixelcnn-digits-smoke", "decoder", "a loop, which a graph cannot hold; export the encoder"),
    "refined": ("semi-amortised-digits-smoke", "encoder", "a graph has no gradients; train with"),
    "no part": ("vae-digits-smoke", "prior", "unknown part 'prior': expected one of: encoder, decoder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_graph_can_hold_is_refused(case, tmp_path):
    recipe, part, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        export(tiny(recipe).build((1, 8, 8)), tmp_path / "x.onnx", part)
    assert list(tmp_path.iterdir()) == []


def test_without_the_tools_a_sentence_says_how_to_get_them(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, error = call(capsys, "export", finished, "--out", tmp_path / "x.onnx")
    assert code == 2
    assert "pip install 'mpdvae[export]'" in error
