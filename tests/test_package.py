"""The wheel holds all that the package needs, and says of itself what is true."""

import os
import re
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import mpdvae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("what belongs to the package is told by git, and this is no checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        if name.startswith(("mpdvae/", "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source], check=True
    )
    (made,) = folder.glob("*.whl")
    return made


def run(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "mpdvae", cwd=ROOT).stdout.split()
    assert set(tracked) - inside == set()
    assert {"mpdvae/py.typed", "mpdvae/troubleshooting.md"} <= inside


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which finds the dependencies of this one, but not this checkout."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    assert run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel).returncode == 0
    packages = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])").stdout.strip())
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    where = run(python, "-c", "import mpdvae; print(mpdvae.__file__)", cwd=tmp_path, env=environment).stdout
    assert Path(where.strip()).is_relative_to(packages)
    command = tmp_path / "env" / "bin" / "mpdvae"
    done = run(command, "reproduce", "--scale", "smoke", "--seeds", "1", "--out", "out", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "<html" in (tmp_path / "out" / "report.html").read_text()[:200]
    assert run(command, "explain", "memory", cwd=tmp_path, env=environment).returncode == 0


def test_version_is_in_one_place_and_in_the_changelog() -> None:
    assert "version" in PROJECT["dynamic"]
    assert f"## {mpdvae.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    elsewhere = [path for path in (ROOT / "mpdvae").rglob("*.py") if f'"{mpdvae.__version__}"' in path.read_text()]
    assert [path.name for path in elsewhere] == ["version.py"]


def test_extras_that_messages_name_exist() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "mpdvae").rglob("*.py"))
    named = set(re.findall(r"mpdvae\[([a-z]+)\]", sources))
    assert named <= PROJECT["optional-dependencies"].keys()
