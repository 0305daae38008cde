"""`mpdvae.fit`: models made in Python get everything that recipes have."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import zuko
from command_line import call
from PIL import Image
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal

import mpdvae
from mpdvae.data import load
from mpdvae.data.own import from_dataset, images_of_array, split_own
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError
from mpdvae.experiments import own_parts
from mpdvae.experiments.experiment import origin_of
from mpdvae.models import StandardNormal, mlp_decoder
from mpdvae.objectives import reconstruction
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.training import loop
from mpdvae.vae import VAE
from mpdvae.workflows.job import data_of
from mpdvae.workflows.own_models import fit

TRAINING = {"epochs": 2, "batch_size": 20, "learning_rate": 1e-3}
EVALUATION = {
    "density_images": 4, "density_samples": 3, "representation_images": 20, "label_counts": (2,), "label_subsets": 1,
    "clusters": (2,), "information_samples": 10, "code_use_images": 4, "explored_images": 4,
}  # fmt: skip


class Decoder(nn.Module):
    """Nothing of the package."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent_dim, 64), nn.Unflatten(-1, (1, 8, 8)))

    def forward(self, z: torch.Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.net(z), validate_args=False), 3)


class Encoder(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent_dim))

    def forward(self, x: torch.Tensor) -> Independent:
        mean, log_variance = self.net(x).chunk(2, -1)
        return Independent(Normal(mean, (log_variance / 2).exp()), 1)


def foreign(image_shape, latent_dim):
    return VAE(Encoder(latent_dim), Decoder(latent_dim), StandardNormal((latent_dim,)))


def foreign_of_three():
    return foreign((1, 8, 8), 3)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((120, 8, 8))


def weights(vae: VAE) -> dict[str, torch.Tensor]:
    return vae.state_dict()


def same(one: VAE, other: VAE) -> bool:
    return all(torch.equal(weights(one)[name], weights(other)[name]) for name in weights(one))


READY = foreign((1, 8, 8), 3)
FUNCTIONS = {"of shapes": foreign, "of nothing": foreign_of_three, "ready made": READY, "without a name": lambda: READY}


@pytest.mark.parametrize("vae", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_model_is_trained_in_a_run_folder(vae, images, tmp_path):
    made = fit(vae, images, {"diversity_weight": 0.1}, out=tmp_path / "run", latent_dim=3, **TRAINING)
    run = Run(tmp_path / "run")
    assert run.status == "trained"
    assert [entry["epoch"] for entry in run.history] == [1.0, 2.0]
    assert set(run.history[0]["terms_nats"]) == {"reconstruction", "kl", "diversity"}
    assert made.latent_shape == (3,)
    assert not made.training
    assert same(mpdvae.load(tmp_path / "run"), made)
    assert origin_of(made).run == tmp_path / "run"
    assert made.encode(made.preprocess(images[:2])).shape == (2, 3)


def test_a_ready_made_model_starts_with_its_weights(images, tmp_path):
    vae = foreign((1, 8, 8), 3)
    before = {name: tensor.clone() for name, tensor in weights(vae).items()}
    after = weights(fit(vae, images, out=tmp_path / "run", latent_dim=3, learning_rate=1e-12, averaging=0.0, epochs=1))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)
        assert torch.equal(weights(vae)[name], tensor)  # the one that was given is left as it was


def activated(name):
    """A function called `changing`, whose model has this activation."""

    def changing(image_shape, latent_dim):
        encoder = Encoder(latent_dim)
        encoder.net.append(getattr(nn, name)())
        return VAE(encoder, Decoder(latent_dim), StandardNormal((latent_dim,)))

    return changing


@pytest.mark.parametrize("finished", [True, False])
def test_code_that_has_changed_is_told_from_the_code_that_was_trained(images, tmp_path, monkeypatch, finished):
    """The name is the same, and so are the shapes of all weights."""
    original = loop.training_step

    def run(activation: str) -> VAE:
        monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
        return fit(activated(activation), images, out=tmp_path / "run", latent_dim=3, **TRAINING)

    def stopping(learner, data):
        if learner.progress.step == 7:  # after the first evaluation point
            raise KeyboardInterrupt
        return original(learner, data)

    if finished:
        run("SiLU")
    else:
        monkeypatch.setattr(loop, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("SiLU")
        monkeypatch.setattr(loop, "training_step", original)
    told = r"code of changing \(.*changing\) has changed since these weights were saved: log q\(z\|x\) of a fixed image"
    with pytest.raises(InputError, match=told):
        run("Sigmoid")
    with pytest.raises(InputError, match=told):
        mpdvae.load(tmp_path / "run")
    assert run("SiLU").latent_shape == (3,)


CHANGING = '''
import mpdvae
from mpdvae.models import GaussianEncoder, StandardNormal, mlp_decoder
from torch import nn

@mpdvae.part("model")
def activated_file(image_shape, latent_dim):
    """A model of a file."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.SiLU(), nn.Linear(5, 2 * latent_dim))
    decoder = mlp_decoder(image_shape, latent_dim, (4,))
    return mpdvae.VAE(GaussianEncoder(net, image_shape), decoder, StandardNormal((latent_dim,)))
'''


def test_resuming_does_not_replace_weights_of_code_that_has_changed(images, tmp_path, monkeypatch, capsys):
    """By the command line, too, and though another evaluation point would come before the end."""
    original = loop.training_step

    def stopping(learner, data):
        if learner.progress.step == 7:  # after the first evaluation point
            raise KeyboardInterrupt
        return original(learner, data)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(own_parts.PATHS, "")
    Path("mine.py").write_text(CHANGING)
    np.save("images.npy", images)
    own_parts.read_file(Path("mine.py"))
    function = sys.modules.pop("mine").activated_file
    monkeypatch.setattr(loop, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(function, Path("images.npy"), out="run", latent_dim=3, **TRAINING)
    monkeypatch.setattr(loop, "training_step", original)
    before = Path("run/model/model.safetensors").read_bytes()
    Path("changed.py").write_text(CHANGING.replace("SiLU", "Sigmoid"))
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    code, _, err = call(capsys, "resume", "run", "--parts", "changed.py")
    assert code == 2
    assert "has changed since these weights were saved" in err
    assert Path("run/model/model.safetensors").read_bytes() == before
    sys.modules.pop("changed", None)


def with_flow(image_shape, latent_dim):
    """The prior computes with numbers while it is built."""
    return VAE(Encoder(latent_dim), Decoder(latent_dim), zuko.flows.MAF(latent_dim, transforms=1, hidden_features=(8,)))


def test_a_flow_of_another_library_is_a_prior(images, tmp_path):
    made = fit(with_flow, images, out=tmp_path / "run", latent_dim=3, **TRAINING)
    assert same(mpdvae.load(tmp_path / "run"), made)


def with_frozen_encoder(image_shape, latent_dim):
    vae = foreign(image_shape, latent_dim)
    vae.encoder.requires_grad_(False)
    return vae


@pytest.mark.parametrize("inference", [{}, {"inference": {"kind": "lagging", "encoder_steps": 2, "check_every": 1}}])
def test_frozen_parameters_keep_their_values(images, tmp_path, inference):
    """As those of a backbone that was trained before; the lagging encoder has a layer that is trained."""

    def made(image_shape, latent_dim):
        vae = with_frozen_encoder(image_shape, latent_dim)
        vae.encoder.net[1].bias.requires_grad_(bool(inference))
        return vae

    trained = fit(made, images, out=tmp_path / "run", latent_dim=3, **TRAINING, **inference)
    with seeded(0, "weights"):
        before = weights(made((1, 8, 8), 3))
    changed = {name for name, tensor in weights(trained).items() if not torch.equal(tensor, before[name])}
    moving = {name for name, parameter in trained.named_parameters() if parameter.requires_grad}
    assert changed == moving
    assert "encoder.net.1.weight" not in changed


def test_another_ready_made_model_is_another_run(images, tmp_path):
    fit(foreign((1, 8, 8), 3), images, out=tmp_path / "run", latent_dim=3, **TRAINING)
    with pytest.raises(InputError, match=r"already holds another run \(it differs in .*encoder\.kind"):
        fit(foreign((1, 8, 8), 3), images, out=tmp_path / "run", latent_dim=3, **TRAINING)


def test_a_finished_run_is_not_trained_again_and_other_data_are_refused(images, tmp_path):
    first = fit(foreign, images, out=tmp_path / "run", latent_dim=3, **TRAINING)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    assert same(first, fit(foreign, images, out=tmp_path / "run", latent_dim=3, **TRAINING))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(InputError, match="was made on other data"):
        fit(foreign, images[::-1].copy(), out=tmp_path / "run", latent_dim=3, **TRAINING)


def test_a_stopped_run_ends_with_the_same_bytes(images, tmp_path, monkeypatch):
    """Stopped before its third step, which is before any checkpoint, and again before its eighth."""

    def run(name: str) -> VAE:
        return fit(foreign, images, {"smoothness_weight": 0.1}, out=tmp_path / name, latent_dim=3, **TRAINING)

    whole, original = run("whole"), loop.training_step
    for stop in (2, 7):

        def stopping(learner, data, stop=stop):
            if learner.progress.step == stop:
                raise KeyboardInterrupt
            return original(learner, data)

        monkeypatch.setattr(loop, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("parts")
    monkeypatch.setattr(loop, "training_step", original)
    assert same(run("parts"), whole)
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()


def test_the_precision_is_chosen_if_that_is_asked_for(images, tmp_path):
    made = fit(foreign, images, out=tmp_path / "run", latent_dim=3, precision="auto", **TRAINING)
    assert origin_of(made).experiment.training.precision in ("float32", "bfloat16")
    assert "fastest_step" in Run(tmp_path / "run").manifest


def test_everything_is_measured_if_asked_for(images, tmp_path):
    fit(foreign, images, out=tmp_path / "run", latent_dim=3, evaluation=EVALUATION, **TRAINING)
    assert Run(tmp_path / "run").status == "finished"
    assert {"density.json", "diagnostics.json", "information.json"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_data_by_name_and_by_path(images, tmp_path):
    np.savez(tmp_path / "mine.npz", x=images)
    for data in (tmp_path / "mine.npz", str(tmp_path / "mine.npz")):
        fit(foreign, data, out=tmp_path / "run", latent_dim=3, **TRAINING)
    made = fit(foreign, "digits", out=tmp_path / "digits", latent_dim=3, epochs=1)
    assert origin_of(made).experiment.data.dataset == "digits"


class Pairs:
    """A map-style data set of images and labels."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], index % 2


def test_a_data_set_of_another_library_is_data_too(images, tmp_path):
    given = fit(foreign, Pairs(images), out=tmp_path / "set", **TRAINING)
    assert same(given, fit(foreign, images, out=tmp_path / "array", **TRAINING))


def test_data_that_are_split_are_data_too(images, tmp_path):
    """With what was done to them: what is encoded later is prepared alike."""
    larger = Pairs(np.kron(images, np.ones((2, 2))))
    options = {"split_seed": 3, "preparation": Preparation(size=(8, 8), fit="stretch"), "covariates": np.arange(120.0)}
    splits = from_dataset(larger, **options)
    made = fit(foreign, splits, out=tmp_path / "own", latent_dim=3, **TRAINING)
    recorded = origin_of(made).experiment.data
    assert (recorded.dataset, recorded.preparation(), recorded.split_seed) == ("own", options["preparation"], 3)
    assert made.preprocess(np.zeros((2, 16, 16))).shape == (2, 1, 8, 8)
    assert splits.train.covariates is not None
    with pytest.raises(InputError, match=r"^images: resize is for data that are not split yet, got own images"):
        fit(foreign, splits, images={"resize": "8"}, out=tmp_path / "again", latent_dim=3, **TRAINING)


def test_a_data_set_that_was_loaded_is_that_of_its_name(tmp_path):
    loaded = load("digits", validation_size=100)
    given = fit(foreign, loaded, out=tmp_path / "loaded", latent_dim=3, epochs=1)
    assert data_of(Run(tmp_path / "loaded")).sha256 == loaded.sha256
    named = fit(foreign, "digits", images={"validation_size": 100, "split_seed": 524287}, out=tmp_path / "named",
                latent_dim=3, epochs=1)  # fmt: skip
    assert same(given, named)


@pytest.mark.parametrize("part", [slice(None), slice(10, 110)], ids=["whole", "part"])
def test_a_mapped_file_stays_on_disk(part, images, tmp_path, monkeypatch):
    monkeypatch.setattr("mpdvae.data.own.IN_MEMORY", 0)
    np.save(tmp_path / "x.npy", (images * 255).astype(np.uint8))
    mapped, held = np.load(tmp_path / "x.npy", mmap_mode="r")[part], []
    monkeypatch.setattr(
        "mpdvae.workflows.own_models.split_own", lambda parts, *a: held.append(parts) or split_own(parts, *a)
    )
    given = fit(foreign, mapped, out=tmp_path / "mapped", latent_dim=3, **TRAINING)
    assert not held[0]["all"].in_memory
    assert same(given, fit(foreign, np.array(mapped), out=tmp_path / "array", latent_dim=3, **TRAINING))


def test_a_map_that_differs_from_its_file_is_read(images, tmp_path):
    """A private copy with changes, and a part in columns."""
    np.save(tmp_path / "x.npy", images)
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0] = 0
    for x in (private, np.load(tmp_path / "x.npy", mmap_mode="r")[:, :, ::2]):
        assert (images_of_array(x, "x").pixels[:, 0].numpy() == np.round(np.array(x) * 255)).all()


def test_pictures_of_every_size_are_prepared_for_a_model_made_in_python(images, tmp_path):
    for number, image in enumerate(images):
        height, width = 8 + number % 3, 9 + number % 2
        path = tmp_path / "pictures" / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.resize((image * 255).astype(np.uint8), (height, width))).save(path)
    (tmp_path / "pictures" / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match=r"pictures: left out 1 file without pictures: notes\.txt"):
        vae = fit(foreign, tmp_path / "pictures", images={"resize": 8}, out=tmp_path / "run", **TRAINING)
    assert vae.preprocess(Image.new("L", (30, 20))).shape == (1, 1, 8, 8)


def test_options_are_recorded_and_passed_on(images, tmp_path):
    def sized(image_shape, latent_dim, *, width: int = 2):
        return VAE(Encoder(latent_dim), mlp_decoder(image_shape, latent_dim, (width,)), StandardNormal((latent_dim,)))

    made = fit(sized, images, out=tmp_path / "run", latent_dim=3, options={"width": 5}, **TRAINING)
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["encoder"]["width"] == 5
    assert any(tensor.shape[0] == 5 for tensor in weights(made).values() if tensor.ndim)
    with pytest.raises(InputError, match=r"encoder\.widht: there is no such field"):
        fit(sized, images, out=tmp_path / "other", latent_dim=3, options={"widht": 5}, **TRAINING)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae": 3}, "vae: expected an mpdvae.VAE or a function that returns one, got a int"),
        ({"vae": nn.Identity}, "expected a function that returns an mpdvae.VAE, got a Identity"),
        ({"vae": partial(foreign, latent_dim=3)}, r"expected a function of \(image_shape, latent_dim\), or of nothing"),
        ({"data": "no-such-set"}, "no-such-set"),
        ({"data": np.zeros((5, 5))}, "data has 2 axes"),
        ({"data": np.zeros((5, 8, 8))}, "data has too few images: 5"),
        ({"data": object()}, "data has"),
        ({"data": b"no-such-set"}, "no-such-set"),
        ({"out": None}, "out: expected the path of a run folder, .* got None"),
        ({"out": 3}, "out: expected the path of a run folder, .* got 3"),
        ({"options": 3}, "options: expected a dictionary of fields, or None, got 3; give"),
        ({"images": "levels"}, "images: expected a dictionary of fields, or None, got 'levels'; give"),
        ({"evaluation": True}, "evaluation: expected a dictionary of fields, or None, got True; give"),
        ({"objective": {"diversity": 1}}, r"objective\.diversity: there is no such field"),
        (
            {"objective": {"regulariser": reconstruction}},
            r"got a dictionary with the term regulariser; put it in mpdvae",
        ),
        ({"epochs": 0}, "epochs: expected a whole number from 1, got 0"),
        ({"stepz": 3}, r"training\.stepz: there is no such field"),
        ({"batch_size": "many"}, r"training\.batch_size"),
        ({"images": {"binarisation": "none"}}, r"data\.binarisation"),
        ({"device": "tpu9"}, "device"),
    ],
)
def test_what_cannot_be_fitted_is_told(images, tmp_path, changes, message):
    given = {"vae": foreign, "data": images, "out": tmp_path / "run", "latent_dim": 3, "epochs": 1} | changes
    with pytest.raises(InputError, match=message):
        fit(given.pop("vae"), given.pop("data"), given.pop("objective", None), **given)
    assert not (tmp_path / "run").exists()


PARTS = '''
import mpdvae
from mpdvae.models import GaussianEncoder, StandardNormal, mlp_decoder
from torch import nn

@mpdvae.part("model")
def shared_file(image_shape, latent_dim, *, width: int = 6):
    """A model of a file."""
    encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * latent_dim)), image_shape)
    return mpdvae.VAE(encoder, mlp_decoder(image_shape, latent_dim, (width,)), StandardNormal((latent_dim,)))

if __name__ == "__main__":
    import sys
    vae = mpdvae.fit(shared_file, "digits", out="run", epochs=1, latent_dim=3, options={"width": 4})
    print(vae.encode(vae.preprocess([[[0.5] * 8] * 8])).shape)
'''


UNDECORATED = (
    PARTS.replace('@mpdvae.part("model")\n', "").replace(", *, width: int = 6", "").replace("(width,)", "(4,)")
)
UNDECORATED = UNDECORATED.replace(', options={"width": 4}', "")


@pytest.mark.parametrize("content", [PARTS, UNDECORATED], ids=["decorated", "undecorated"])
def test_the_command_line_takes_what_a_script_trained(tmp_path, monkeypatch, capsys, content):
    """With `--parts` every command, without it those that build nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(own_parts.PATHS, "")
    Path("mine.py").write_text(content)
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([1, 3])\n", done.stderr
    options = ["--samples", "3", "--images", "4"]
    code, _, err = call(capsys, "evaluate", "run", *options)
    assert code == 2
    assert "the kind shared-file (mine.shared_file) is not one of the package's and not known here" in err
    named = ["--parts", "mine.py"]  # before the command, or after it
    for words in (
        [*named, "evaluate", "run", *options],
        ["sample", "run", *named, "--out", "x.png"],
        ["diagnose", "run"],
    ):
        code, _, err = call(capsys, *words)
        assert code == 0, err
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    monkeypatch.setenv(own_parts.PATHS, "")
    code, _, err = call(capsys, "report", "run", "--out", "report.html")
    assert code == 0, err
    assert "shared-file" in Path("report.html").read_text()
    sys.modules.pop("mine", None)


def test_pictures_in_a_list_are_trained_on_as_they_look(images, tmp_path):
    pixels = np.round(images * 255).astype(np.uint8)
    pictures = [Image.fromarray(255 - image) for image in pixels]
    for picture in pictures:
        picture.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    of_arrays = fit(foreign, pixels, out=tmp_path / "arrays", **TRAINING)
    assert same(fit(foreign, pictures, out=tmp_path / "pictures", **TRAINING), of_arrays)
    assert torch.equal(of_arrays.preprocess(pictures), of_arrays.preprocess(pixels))


@pytest.mark.parametrize("form", [memoryview, lambda x: torch.from_numpy(x).to_sparse()], ids=["memory", "sparse"])
def test_images_in_other_forms_are_trained_on_as_the_array(form, images, tmp_path):
    x = np.asarray(images)
    given, array = (
        fit(foreign, data, out=bytes(tmp_path / name), latent_dim=3, epochs=1)
        for name, data in (("given", form(x)), ("array", x))
    )
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), array.parameters(), strict=True))


@pytest.mark.parametrize("count", [9, 10, 11, 19])
def test_the_fewest_images_are_enough(count, images, tmp_path):
    def trained():
        return fit(foreign, np.asarray(images)[:count], out=tmp_path / "run", latent_dim=3, epochs=1)

    if count < 10:
        with pytest.raises(InputError, match=r"too few images: 9, but at least 10 are needed .* give more images"):
            trained()
        assert not (tmp_path / "run").exists()
    else:
        assert isinstance(trained(), VAE)


def test_messages_name_arguments(images, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and not a run; choose another out\."):
        fit(foreign, images, out=tmp_path / "full", latent_dim=3, epochs=1)
    with pytest.raises(
        InputError, match=r"^images=\{\"condition_classes\": \.\.\.\}: expected images with labels 0 to 1"
    ):
        fit(foreign, images, out=tmp_path / "run", latent_dim=3, epochs=1, images={"condition_classes": 2})
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
