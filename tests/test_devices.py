"""GPUs, without one: on a device that refuses what they refuse (`second_device`), everything gives the bytes of the CPU."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from command_line import call
from hypothesis import given
from hypothesis import strategies as st
from small_runs import TINY_OPTIONS, digits, files, tiny, trained

from mpdvae.experiments import recipes
from mpdvae.runs.run_folder import Run
from mpdvae.system import devices
from mpdvae.workflows import gpu_assignment
from mpdvae.workflows.job import how_to_resume, made_on

SUPPORT = Path(__file__).parent / "support"
THERE = ("--device", "elsewhere")
RECIPE = "mae-digits-smoke"
WRITTEN_AT = {"manifest.json", "checksums.json"}
"""Files that tell when, where and by which command a run was made."""


def program(*arguments: str | Path) -> str:
    """Output of a program of tests/support, which ends well and has nothing to complain of."""
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as in the tests' own process: last digits depend on it
    done = subprocess.run(
        command, cwd=SUPPORT, env=one_thread, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def mpdvae(*arguments: str | Path) -> str:
    """Output of `mpdvae ARGUMENTS` where there is the second device."""
    return program("second_device.py", *arguments)


def content(folder: Path) -> dict[str, bytes]:
    """Of a run, whatever its folder and device are called."""
    return {
        name: data.replace(str(folder).encode(), b"DIR")
        for name, data in files(folder).items()
        if name not in WRITTEN_AT
    }


def test_the_second_device_is_strict():
    mixtures = {
        "torch.ones(2) + far": "a tensor of the CPU",
        "torch.cat([far, torch.ones(2)])": "a tensor of the CPU",
        "torch.ones(2).mul_(far)": "a tensor of the CPU",
        "torch.randn(2, device='elsewhere', generator=torch.Generator())": "a generator of the CPU",
        "far.numpy()": "numpy",
    }
    lines = ["import second_device, torch", "far = torch.ones(2, device='elsewhere')"]
    for mixed in mixtures:
        lines += ["try:", f"    print({mixed})", "except (RuntimeError, TypeError) as error:", "    print(error)"]
    said = program("-c", "\n".join(lines)).splitlines()
    for line, refused in zip(said, mixtures.values(), strict=True):
        assert refused in line


def test_a_device_without_float64_refuses_it():
    lines = ["import os", "os.environ['STAND_IN_WITHOUT_FLOAT64'] = '1'", "import second_device, torch"]
    lines += ["from mpdvae.system.devices import back, to_float64"]
    lines += ["x = torch.ones(2, device='elsewhere', requires_grad=True)"]
    lines += ["try:", "    x.double()", "except TypeError as error:", "    print(error)"]
    lines += ["y = back(to_float64(x).square().sum(), x)", "y.backward()"]
    lines += ["print(y.device.type, y.dtype, x.grad.cpu().tolist())"]
    assert program("-c", "\n".join(lines)).splitlines() == [
        "device 'elsewhere' has no float64",
        "elsewhere torch.float32 [2.0, 2.0]",
    ]


GPUS = {"no GPU": (0, False), "two GPUs": (2, False), "Apple": (0, True)}
"""Number of CUDA devices, and whether there is MPS."""


@pytest.mark.parametrize(
    ("here", "asked", "made", "device"),
    [
        ("no GPU", "auto", None, None),
        ("no GPU", "auto", "cuda", None),
        ("no GPU", "cuda:1", None, "cuda:1"),
        ("two GPUs", "auto", None, "cuda"),
        ("two GPUs", "auto", "cpu", None),
        ("two GPUs", "auto", "cuda", "cuda"),
        ("two GPUs", "cpu", "cuda", "cpu"),
        ("Apple", "auto", None, "mps"),
        ("Apple", "auto", "cpu", None),
    ],
)
def test_the_device_of_choice(monkeypatch, capsys, here, asked, made, device):
    """New runs take a GPU, other runs what they were made on; a GPU that nobody asked for is named, once."""
    count, apple = GPUS[here]
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda i: f"Card {i}")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: apple)
    devices._say.cache_clear()
    assert devices.device_for(asked, made, told=False) == device
    assert capsys.readouterr().err == ""
    assert [devices.device_for(asked, made) for _ in range(2)] == [device, device]
    said = capsys.readouterr().err.splitlines()
    names, advice = (
        {"cuda": "Card 0, Card 1", "mps": "Apple GPU"},
        "--device cpu, in Python device='cpu', takes the CPU",
    )
    found = asked == "auto" and device in names
    assert said == ([f"device: {device} ({names[device]}); {advice}"] if found else [])


def test_the_device_of_a_run_is_read_from_its_manifest(finished, tmp_path):
    assert made_on(finished) == "cpu"
    assert made_on(tmp_path / "none") is None


@pytest.mark.slow
@pytest.mark.parametrize("without_float64", ["", "1"])
def test_a_run(tmp_path, finished, monkeypatch, without_float64):
    """Also on a device that has no float64, as Apple's GPUs: what needs it is computed on the CPU."""
    monkeypatch.setenv("STAND_IN_WITHOUT_FLOAT64", without_float64)
    mpdvae("train", RECIPE, *TINY_OPTIONS, "--out", tmp_path / "run", *THERE, "--threads", "1")
    assert content(tmp_path / "run") == content(finished)
    (environment,) = Run(tmp_path / "run").manifest["environments"]
    assert environment["fields"]["device"] == "elsewhere"


@pytest.mark.slow
def test_what_the_cpu_began_goes_on_there(tmp_path, finished):
    def interrupt(done: int, entry: object) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", tiny(), interrupt)
    mpdvae("resume", tmp_path / "run", *THERE, "--threads", "1")
    assert content(tmp_path / "run") == content(finished)
    assert "agrees" in mpdvae("verify", tmp_path / "run", *THERE)


@pytest.mark.slow
def test_a_measurement_with_a_referee(tmp_path, finished, capsys):
    options = ("--images", "6", "--tolerance", "0.5", "--referee", "2", "--referee-steps", "5")
    here, there = (Path(shutil.copytree(finished, tmp_path / place)) for place in ("here", "there"))
    assert call(capsys, "evaluate", here, *options)[0] == 0
    mpdvae("evaluate", there, *options, *THERE)
    assert content(here) == content(there)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sample", "reconstruct", "traverse"])
def test_a_picture(command, tmp_path, finished, capsys):
    assert call(capsys, command, finished, "--out", tmp_path / "here.png")[0] == 0
    mpdvae(command, finished, "--out", tmp_path / "there.png", *THERE)
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()


@pytest.mark.slow
def test_every_part():
    assert program("on_both_devices.py", "parts") == ""


@pytest.mark.slow
def test_every_recipe(tmp_path):
    sweeps = {
        experiment.name for experiment in recipes.figure_matrix("rate-distortion", "smoke", ("digits",))
    }  # the same with other weights
    names = [name for name in recipes.all_recipes() if name.endswith("-digits-smoke") and name not in sweeps]
    assert len(names) > 20
    assert program("on_both_devices.py", "recipes", tmp_path, *names) == ""


def test_the_estimator():
    """The same codes, likelihoods and images on the device that is here; and a pickle opens where there is none such."""
    lines = """
        import pickle, second_device, numpy, torch
        from mpdvae.sklearn import MPDVAE
        from mpdvae.system import devices
        devices._gpu_here, devices._say = lambda: second_device.NAME, print
        torch.set_num_threads(1)
        X = numpy.random.default_rng(0).random((40, 6, 6))
        first, second = (
            MPDVAE(3, max_iter=2, batch_size=20, importance_samples=4, random_state=0, device=device).fit(X)
            for device in ("cpu", "auto")
        )
        assert second.vae_.sample(1).device.type == second_device.NAME
        again = pickle.loads(pickle.dumps(second))
        for estimator in (second, again):
            Z = first.transform(X)
            assert (estimator.transform(X) == Z).all()
            assert (estimator.score_samples(X) == first.score_samples(X)).all()
            assert (estimator.inverse_transform(Z[:2]) == first.inverse_transform(Z[:2])).all()
            assert (estimator.sample(2, random_state=1) == first.sample(2, random_state=1)).all()
    """
    assert program("-c", textwrap.dedent(lines)) == ""  # without `verbose`


def test_the_command_that_resumes_names_the_device(tmp_path):
    run = Run.create(tmp_path / "run", tiny())
    assert how_to_resume(run, digits()) == f"mpdvae resume {tmp_path / 'run'}"
    assert how_to_resume(run, digits().to("meta")) == f"mpdvae resume {tmp_path / 'run'} --device meta"


# Several GPUs


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("cuda", ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]),
        ("cuda:1", ["cuda:1"] * 5),
        ("cpu", ["cpu"] * 5),
        (None, [None] * 5),
    ],
)
def test_workers_take_gpus_in_turn(asked, found, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert [gpu_assignment.of_worker(asked, worker) for worker in range(5)] == found


@given(workers=st.integers(1, 40), count=st.integers(1, 12))
def test_every_worker_finds_room(workers, count):
    share = gpu_assignment.share(workers, count)
    per_gpu = int(1 / share + 1e-9)
    assert per_gpu * share <= 1 + 1e-9
    assert per_gpu * count >= workers
    assert per_gpu == 1 or (per_gpu - 1) * count < workers  # no more on one GPU than need be


@pytest.mark.parametrize(
    "command", [("reproduce", "--scale", "smoke"), ("tune", "mae-digits-smoke", "--trials", "1")], ids=lambda c: c[0]
)
def test_a_matrix_refuses_a_device_that_is_not_there(command, tmp_path, capsys):
    code, _, err = call(capsys, *command, "--device", "cuda:77", "--out", tmp_path / "new")
    assert code == 2
    assert err.startswith("mpdvae: --device: torch cannot use 'cuda:77' here (")
    assert list(tmp_path.glob("new/runs/*/checkpoints")) == []
