"""ONNX graphs give the model's numbers, for any batch; what no graph can hold is refused in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from exported_models import GRAPHS, model_of
from small_runs import tiny

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


QUICK = ("encoder convnet-2", "decoder convnet-2")

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
    chosen = [name for name in GRAPHS if any(f"[{name}]" in item.name for item in request.session.items)]
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


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GRAPHS]
)
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
