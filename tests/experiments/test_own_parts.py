"""Parts of users: functions become kinds, with options that are checked; a file never chooses what is executed."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mpdvae
from mpdvae.errors import InputError
from mpdvae.experiments import own_parts
from mpdvae.experiments.experiment import Experiment, from_json, with_changes
from mpdvae.experiments.own_part_configs import OwnPart
from mpdvae.experiments.own_parts import OF_PACKAGE, find, known, part, read_file
from mpdvae.models import FlowPrior, GaussianEncoder, IndependentDecoder, StandardNormal
from mpdvae.models.flows import vector_flow
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.vae import VAE

SHAPE = (1, 4, 4)
FILE = '''
import mpdvae
from mpdvae.models import IndependentDecoder
from torch import nn

@mpdvae.part("decoder")
def from_a_file(image_shape, latent_dim, *, width: int = 5):
    """Of a file."""
    return IndependentDecoder(nn.Sequential(nn.Linear(latent_dim, 16), nn.Unflatten(-1, image_shape)))
'''


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    monkeypatch.delenv(own_parts.PATHS, raising=False)


@pytest.fixture
def parts() -> None:
    """One part of each role."""

    @part("encoder")
    def flat(image_shape, latent_dim, *, bias: bool = True):
        return GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * latent_dim, bias=bias)), image_shape)

    @part("decoder", name="linear")
    def some_decoder(image_shape, latent_dim, *, width: int, slope: float = 0.5):
        body = nn.Sequential(nn.Linear(latent_dim, width), nn.LeakyReLU(slope), nn.Linear(width, 16))
        return IndependentDecoder(nn.Sequential(body, nn.Unflatten(-1, image_shape)))

    @part("prior")
    def own_flow(latent_shape, *, blocks: int = 1):
        return FlowPrior(vector_flow(latent_shape[0], blocks, 8, 1), latent_shape)

    @part("regulariser")
    def short_codes(*, weight: float = 0.1):
        return lambda forward, step: weight * forward.q.mean.square().sum(-1).mean()


def experiment(**changes: object) -> Experiment:
    fields = {
        "latent_dim": 3,
        "encoder": {"kind": "flat"},
        "decoder": {"kind": "linear", "width": 7},
        "prior": {"kind": "own-flow"},
        "objective": {"regulariser": {"kind": "short-codes", "weight": 0.3}},
    }
    return Experiment.model_validate(fields | changes)


def test_a_model_of_own_parts_is_built_from_its_options(parts):
    vae = experiment().build(SHAPE)
    assert vae.decoder.body[0][0].weight.shape == (7, 3)
    assert vae.sample(2).shape == (2, *SHAPE)
    assert with_changes(experiment(), encoder__bias=False).build(SHAPE).encoder.body[1].bias is None


def test_weights_are_a_function_of_the_seed(parts):
    one, same, other = (experiment(seed=seed).build(SHAPE).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_regulariser_is_a_term_of_the_loss(parts):
    e = experiment()
    vae, x = e.build(SHAPE), torch.bernoulli(torch.full((6, *SHAPE), 0.4))
    loss = e.objective.build()(vae, x, 0)
    assert list(loss.terms) == ["reconstruction", "kl", "short-codes"]
    expected = 0.3 * ForwardPass(vae, x).q.mean.square().sum(-1).mean()
    torch.testing.assert_close(loss.terms["short-codes"], expected)
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))


def test_an_experiment_survives_json_and_pickling(parts):
    e = experiment()
    assert from_json(e.to_json(), "x") == e
    assert pickle.loads(pickle.dumps(e)) == e
    assert with_changes(e) == e
    assert json.loads(e.to_json())["decoder"] == {
        "kind": "linear",
        "defined_in": f"{__name__}.parts.<locals>.some_decoder",
        "codes": "vectors",
        "doublings": 0,
        "pixel_values": "binary",
        "width": 7,
        "slope": 0.5,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": {"kind": "linear"}}, r"decoder.*width: this field is required"),
        ({"decoder": {"kind": "linear", "width": "wide"}}, r"width: .*valid integer"),
        ({"decoder": {"kind": "linear", "width": 3, "depth": 2}}, r"depth: there is no such field"),
        ({"decoder": {"kind": "unheard-of", "width": 3}}, r"decoder: .*unheard-of.*'pixelcnn'"),
        ({"objective": {"regulariser": {"kind": "unheard-of"}}}, r"regulariser"),
        ({"encoder": {"kind": "linear"}}, r"encoder: .*'linear'"),
    ],
)
def test_wrong_options_and_kinds_are_refused(parts, changes, message):
    with pytest.raises(InputError, match=message):
        with_changes(experiment(), **changes)


def test_maps_must_fit(parts):
    @part("decoder", codes="maps", halvings=2)
    def of_maps(image_shape, latent_dim):
        raise AssertionError("is not built")

    with pytest.raises(InputError, match="takes codes that are maps, but encoder flat makes vectors"):
        with_changes(experiment(), decoder={"kind": "of-maps"})


def test_a_decoder_of_levels_needs_levels(parts):
    @part("decoder", pixel_values="levels")
    def of_levels(image_shape, latent_dim):
        raise AssertionError("is not built")

    with pytest.raises(
        InputError, match=r"^decoder: of-levels is a distribution of pixels of levels, .*; choose another decoder"
    ):
        with_changes(experiment(), decoder={"kind": "of-levels"})
    with_changes(experiment(), decoder={"kind": "of-levels"}, data__binarisation="levels", data__evaluation_draws=1)


def test_a_whole_model_fills_all_roles(parts):
    @part("model")
    def whole(image_shape, latent_dim, *, width: int = 4):
        encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * latent_dim)), image_shape)
        body = nn.Sequential(nn.Linear(latent_dim, width), nn.Linear(width, 16), nn.Unflatten(-1, image_shape))
        return VAE(encoder, IndependentDecoder(body), StandardNormal((latent_dim,)))

    kinds = {"decoder": {"kind": "whole"}, "prior": {"kind": "whole"}}
    e = experiment(encoder={"kind": "whole", "width": 9}, **kinds)
    assert e.build(SHAPE).decoder.body[0].weight.shape == (9, 3)
    assert pickle.loads(pickle.dumps(e)) == e
    with pytest.raises(ValueError, match="whole is a whole model; choose it for encoder, decoder and prior alike"):
        experiment(encoder={"kind": "whole"})


# -- what becomes a part -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["encoder", "decoder", "prior", "regulariser"])
def test_kinds_of_the_package_stay_its_own(role):
    for kind in OF_PACKAGE[role]:
        with pytest.raises(InputError, match=r"the package has an? \w+ of this name"):
            part(role, name=kind)(lambda *_: None)


def test_what_cannot_be_a_part_is_refused():
    def no_annotation(latent_shape, *, width=3): ...
    def any_options(latent_shape, **options: int): ...
    def taken(latent_shape, *, kind: str = "x"): ...
    def without_shape(): ...
    def unheard_of(latent_shape, *, width: "NoSuchType" = 3): ...  # pyright: ignore[reportUndefinedVariable]
    def no_field(latent_shape, *, width: object() = 3): ...  # pyright: ignore[reportInvalidTypeForm]

    for function, message in (
        (no_annotation, "cannot make an option of its parameter width=3"),
        (any_options, "cannot make an option of its parameter"),
        (taken, "not called codes, defined_in, kind"),
        (without_shape, r"expected a function of \(latent_shape, \*, options ...\), got \(\)"),
        (unheard_of, "NoSuchType"),
        (no_field, "no-field: cannot make options"),
    ):
        with pytest.raises(InputError, match=message):
            part("prior")(function)
    with pytest.raises(InputError, match="role: expected one of encoder"):
        part("encodr")
    with pytest.raises(InputError, match="expected a name of small letters"):
        part("prior", name="../x")(lambda latent_shape: None)
    assert known("prior") == {}


@pytest.mark.parametrize(
    ("role", "made", "message"),
    [
        ("decoder", 3, "expected a function that returns a torch module, got a int"),
        ("prior", None, "expected a function that returns a torch module, got a NoneType"),
        ("model", nn.Identity(), "expected a function that returns an mpdvae.VAE, got a Identity"),
        ("regulariser", 0.5, "expected a function that returns a term"),
    ],
)
def test_what_a_function_returns_is_checked(parts, role, made, message):
    positional = own_parts.POSITIONAL[role]
    wrong = eval(f"lambda {', '.join(positional)}: made", {"made": made})  # a function of that many arguments
    part(role, name="wrong")(wrong)
    wrong_kind = {"kind": "wrong"}
    if role == "regulariser":
        e = with_changes(experiment(), objective__regulariser=wrong_kind)
    elif role == "model":
        e = with_changes(experiment(), encoder=wrong_kind, decoder=wrong_kind, prior=wrong_kind)
    else:
        e = with_changes(experiment(), **{role: wrong_kind})
    with pytest.raises(InputError, match=message):
        e.build(SHAPE), e.objective.build()


# -- where parts come from -----------------------------------------------------------------------------------------------


def test_a_file_is_executed_once(tmp_path, monkeypatch):
    path = tmp_path / "some_parts.py"
    path.write_text(FILE)
    monkeypatch.setenv(own_parts.PATHS, str(path))
    assert find("decoder", "from-a-file") is known("decoder")["from-a-file"]
    assert find("encoder", "from-a-file") is None
    monkeypatch.delitem(sys.modules, "some_parts")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\nx = nothing\n", "line 2: NameError: name 'nothing' is not defined"),
        ("x = 1\n\ndef (:\n", "line 3: SyntaxError"),
        ("import no_such_module_at_all\n", "line 1: ModuleNotFoundError"),
        ("import mpdvae\n@mpdvae.part('encodr')\ndef f(): ...\n", "role: expected one of"),
    ],
)
def test_a_file_that_fails_is_told_by_its_line(tmp_path, content, message):
    path = tmp_path / "failing.py"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_file(path)
    assert "failing" not in sys.modules


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file; give a Python file"):
        read_file(tmp_path / "none.py")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="expected a Python file"):
        read_file(tmp_path / "a.txt")


def test_installed_packages_offer_parts(tmp_path, monkeypatch):
    (tmp_path / "offering.py").write_text(FILE)
    (tmp_path / "offering-1.0.dist-info").mkdir()
    (tmp_path / "offering-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n"
    )
    entry = "[mpdvae.parts]\nfrom-a-file = offering\nbroken = no_such_module\n"
    (tmp_path / "offering-1.0.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "offering" not in sys.modules
    assert find("decoder", "of-nobody") is None
    assert "offering" not in sys.modules  # of other names nothing is loaded
    assert find("decoder", "from-a-file") is not None
    with pytest.raises(InputError, match=r"entry point broken = no_such_module.*ModuleNotFoundError"):
        find("decoder", "broken")
    monkeypatch.delitem(sys.modules, "offering")


# -- files of strangers --------------------------------------------------------------------------------------------------


def test_an_unknown_part_is_kept_but_not_built(parts, monkeypatch):
    text = experiment().to_json()
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    read = from_json(text, "x")
    assert json.loads(read.to_json()) == json.loads(text)
    assert pickle.loads(pickle.dumps(read)) == read
    with pytest.raises(InputError, match=r"the kind flat \(.*flat\) is not one of the package's and not known here"):
        read.build(SHAPE)
    with pytest.raises(InputError, match="short-codes"):
        read.objective.build()


@pytest.mark.parametrize("kind", ["os:system", "os.system", "subprocess", "../../x.py", "builtins.eval"])
def test_no_import_path_in_a_file_is_followed(tmp_path, kind):
    """In a process of its own, where every import and execution is seen."""
    fields = {"kind": kind, "defined_in": kind, "command": "touch hurt", "codes": "vectors"}
    (tmp_path / "experiment.json").write_text(json.dumps(dict.fromkeys(("encoder", "decoder", "prior"), fields)))
    code = """
import sys, json
from mpdvae.experiments.experiment import Experiment, from_json
Experiment().build((1, 28, 28))  # imports what building needs
before = set(sys.modules)
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in ("os.system", "subprocess.Popen", "exec") else None)
try:
    from_json(open("experiment.json").read(), "experiment.json").build((1, 4, 4))
except ValueError as error:
    print(type(error).__name__)
print(seen, sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert done[0] == "InputError"
    assert done[1] == "[] []"
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.json"]


def test_options_of_unknown_parts_are_bounded():
    def read(value: object) -> OwnPart:
        fields = {"kind": "x", "defined_in": "y", "option": value}
        return own_parts.UNKNOWN["prior"].model_validate(fields)

    for value in (1, 2.5, True, None, "text", [1, 2, 3]):
        assert read(value).model_dump()["option"] == value
    for value in ("\x1b[2J", "x" * 2_000, {"deep": {"deeper": 1}}, [[[1]]], list(range(200)), float("nan")):
        with pytest.raises(ValueError, match="option"):
            read(value)


def test_the_decorator_is_public():
    assert mpdvae.part is part
    assert Path(own_parts.__file__).name == "own_parts.py"
