"""What is installed holds all that the package needs, works where nothing else is, and says of itself what is true."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import mpdvae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_DISTRIBUTED = (".ci/", ".gitignore", ".dockerignore")
MADE_BY_SETUPTOOLS = ("PKG-INFO", "setup.cfg", "mpdvae.egg-info/")


def run(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, **options)


def tracked() -> list[str]:
    listed = run("git", "ls-files", "-z", cwd=ROOT)
    if listed.returncode:
        pytest.skip("what belongs to the package is told by git, and this is no checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is tracked, so that nothing else can slip in."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def wheel_of(source: Path, folder: Path) -> Path:
    done = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment in which there is the wheel and what it asks for, in the versions that CI installs."""
    folder = tmp_path_factory.mktemp("empty") / "env"
    venv.create(folder, with_pip=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    for what in ("torch", wheel):  # torch first, so that nothing else pulls a larger build in
        done = run(*install, what)
        assert done.returncode == 0, done.stderr
    return folder / "bin"


def outside(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command that cannot see this checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return run(*arguments, cwd=folder, env=environment)


@pytest.fixture(scope="module")
def trained_outside(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `out`, which `mpdvae reproduce` made in the empty environment."""
    folder = tmp_path_factory.mktemp("outside")
    command = ("reproduce", "--scale", "smoke", "--seeds", "1", "--out", "out")
    done = outside(empty / "mpdvae", *command, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {name for name in tracked() if name.startswith("mpdvae/")}
    assert {"mpdvae/py.typed", "mpdvae/commands/troubleshooting.md"} <= inside


@pytest.mark.slow
def test_source_distribution_holds_what_is_tracked_and_makes_the_same_wheel(
    source: Path, wheel: Path, tmp_path: Path
) -> None:
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    done = run(sys.executable, "-c", build, tmp_path, cwd=source)
    assert done.returncode == 0, done.stderr
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / packed.name.removesuffix(".tar.gz")
    inside = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {name for name in inside if not name.startswith(MADE_BY_SETUPTOOLS)} == {
        name for name in tracked() if not name.startswith(NOT_DISTRIBUTED)
    }
    again = wheel_of(unpacked, tmp_path / "again")
    one, other = zipfile.ZipFile(wheel), zipfile.ZipFile(again)
    assert {name: one.read(name) for name in one.namelist()} == {name: other.read(name) for name in other.namelist()}


@pytest.mark.slow
def test_wheel_reproduces_outside_the_checkout(empty: Path, trained_outside: Path) -> None:
    where = outside(empty / "python", "-c", "import mpdvae; print(mpdvae.__file__)", folder=trained_outside).stdout
    assert Path(where.strip()).is_relative_to(empty.parent)
    assert "<html" in (trained_outside / "out" / "report.html").read_text()[:200]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "recipes",
        "explain memory",
        "completion bash",
        "data list",
        "train vae-digits-smoke --out trained",
        "evaluate RUN --samples 8 --images 10",
        "diagnose RUN",
        "verify RUN --quick",
        "encode RUN digits --out c.csv --samples 1",
        "sample RUN --count 4 --out s.png",
        "reconstruct RUN --count 4 --out r.png",
        "traverse RUN --dimensions 2 --out t.png",
        "report RUN --out report.html",
    ],
)
def test_commands_need_no_extra(empty: Path, trained_outside: Path, command: str) -> None:
    done = outside(empty / "mpdvae", *_words(command, trained_outside), folder=trained_outside)
    assert done.returncode == 0, done.stderr


EXTRAS = {
    "hub": ["export owner/name --out x.onnx"],
    "export": ["export RUN --out x.onnx"],
    "explore": ["explore RUN"],
    "tune": ["tune vae-digits-smoke --out tuned --trials 1"],
    "ray": ["reproduce --scale smoke --out r --backend ray", "tune vae-digits-smoke --out t --trials 1 --backend ray"],
    "dask": ["reproduce --scale smoke --out r --backend dask"],
    "parquet": ["encode RUN digits --out x.parquet"],
    "track": ["train vae-digits-smoke --out tracked --track tensorboard", "resume RUN --track tensorboard"],
}
"""Commands that need an extra."""
OF_DEVELOPERS = {"test", "docs", "lint", "test-browser", "test-launch"}
WITHOUT_A_WORD = {"report"}
"""A map of codes more in the report, where it is there."""


def test_the_table_of_extras_is_whole() -> None:
    assert EXTRAS.keys() | OF_DEVELOPERS | WITHOUT_A_WORD == PROJECT["optional-dependencies"].keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "command"), [(extra, command) for extra, commands in EXTRAS.items() for command in commands]
)
def test_a_missing_extra_is_named_with_the_line_that_brings_it(
    empty: Path, trained_outside: Path, extra: str, command: str
) -> None:
    done = outside(empty / "mpdvae", *_words(command, trained_outside), folder=trained_outside)
    assert done.returncode == 2, done.stderr
    brings = {extra, "tune"} if command.startswith("tune") else {extra}
    assert any(f"pip install 'mpdvae[{name}]'" in done.stderr for name in brings)
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("`mpdvae explain extras` says more.\n")


def _words(command: str, folder: Path) -> list[str]:
    run_folder = next((folder / "out").glob("runs/*/manifest.json")).parent
    return [str(run_folder) if word == "RUN" else word for word in command.split()]


def test_version_is_in_one_place_and_in_the_changelog() -> None:
    assert "version" in PROJECT["dynamic"]
    assert f"## {mpdvae.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    elsewhere = [path for path in (ROOT / "mpdvae").rglob("*.py") if f'"{mpdvae.__version__}"' in path.read_text()]
    assert [path.name for path in elsewhere] == ["version.py"]


def test_oldest_versions_are_those_that_the_package_asks_for() -> None:
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    floors = dict(re.match(r"([\w-]+)>=([\d.]+)$", line).groups() for line in asked)  # type: ignore[union-attr]
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints-oldest.txt").read_text(), flags=re.M))
    assert {name.lower() for name in pinned} == floors.keys()
    for name, version in pinned.items():
        if name != "torch":
            assert re.fullmatch(rf"{re.escape(floors[name.lower()])}(\.0)*", version), name


def test_extras_that_messages_name_exist() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "mpdvae").rglob("*.py"))
    named = set(re.findall(r"mpdvae\[([a-z]+)\]", sources))
    assert named <= PROJECT["optional-dependencies"].keys()
