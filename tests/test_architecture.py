"""Imports go down only, never in a circle, and `import mpdvae` is quick. Reads whatever modules exist."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mpdvae

PACKAGE = Path(mpdvae.__file__).parent

WINGS = (
    "errors",
    "version",
    "seeding",
    "system",
    "divergence",
    "data",
    "distributions",
    "networks",
    "vae",
    "models",
    "measures",
    "objectives",
    "experiments",
    "runs",
    "report",
    "sharing",
    "training",
    "evaluation",
    "workflows",
    "density",
    "interop",
    "sklearn",
    "commands",
    "__main__",
)
"""From the bottom up: a module imports from its own wing and from those before it."""

FLOOR = {wing: floor for floor, wing in enumerate(WINGS)}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}


def wing(module: str) -> str:
    """The second part of a dotted name: mpdvae.data.mnist -> data."""
    return module.split(".")[1]


def resolved(name: str) -> str | None:
    """The module behind a dotted name: itself, or the one that defines it; None for a name that no module has."""
    while name not in MODULES:
        name, _, last = name.rpartition(".")
        if name == "mpdvae":
            return getattr(getattr(mpdvae, last, None), "__module__", None)
        if not name:
            return None
    return name


def imports_of(module: str, source: str) -> set[str]:
    """Modules of ours that `source` imports anywhere: at its head, within functions, for type checking."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    found = {resolved(name) for name in names if name.split(".")[0] == "mpdvae"}
    return {target for target in found if target is not None} - {module}


IMPORTS = {module: imports_of(module, path.read_text()) for module, path in MODULES.items()}


def test_every_module_is_in_a_wing():
    assert {wing(module) for module in MODULES} - FLOOR.keys() == set()


def test_the_page_states_the_rule():
    """The same packages in the same order; it leaves out the modules that only keep an address."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    listed = re.search(r"^    errors .*?\n\n", page, flags=re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert listed[0].split() == [wing for wing in WINGS if wing not in {"density", "interop", "sklearn", "__main__"}]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module):
    upwards = {target for target in IMPORTS[module] if FLOOR[wing(target)] > FLOOR[wing(module)]}
    assert upwards == set()


def test_imports_make_no_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_the_vae_receives_its_parts():
    """vae.py, and what it imports, knows no encoder, decoder, prior or flow, of distributions only that they have a support,
    and of data only how an image carries its class."""
    reached, new = set(), {"mpdvae.vae"}
    while new:
        reached |= new
        new = set().union(*(IMPORTS[module] for module in new)) - reached
    known = {"mpdvae.distributions.support", "mpdvae.distributions.given_condition", "mpdvae.data.conditions"}
    assert {wing(module) for module in reached - known} <= {"vae", "networks", "errors"}


def test_imports_are_found_in_every_form():
    """Of the test itself: a walk that finds nothing would let everything pass."""
    source = """
import mpdvae.models.flows
from mpdvae import load, report, InputError
from mpdvae.data import mnist
from mpdvae.divergence import diagonal_normal
from .errors import InputError
import torch
def f():
    from mpdvae.networks.masked import causal_mask
"""
    found = {"models.flows", "sharing.pretrained", "report", "data.mnist", "divergence", "errors", "networks.masked"}
    assert imports_of("mpdvae.vae", source) == {f"mpdvae.{name}" for name in found}
    assert "mpdvae.networks.weight_norm" in IMPORTS["mpdvae.vae"]


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    return done.stdout.strip()


def test_importing_the_package_does_not_import_torch():
    code = "import sys, mpdvae; print(sorted({'torch', 'sklearn', 'scipy', 'numpy', 'plotly'} & sys.modules.keys()))"
    assert run(code) == "[]"


PACKAGES = ["mpdvae", *sorted(f"mpdvae.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py"))]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_introduces_itself(name):
    """With a paragraph and with names that exist, that `dir` lists, and that no submodule takes once it is imported."""
    package = import_module(name)
    assert len(package.__doc__.split()) >= 30
    assert package.__all__
    assert set(package.__all__) <= set(dir(package))
    for path in Path(package.__file__).parent.glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            import_module(f"{name}.{path.stem}")
    submodules = {member for member in package.__all__ if isinstance(getattr(package, member), ModuleType)}
    stub = Path(package.__file__).with_suffix(".pyi")
    if stub.exists():
        listed: set[str] = set()
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module is None:
                listed |= {alias.name for alias in node.names}
        assert submodules == listed


def test_the_package_offers_what_most_users_need():
    offered = {"VAE", "MPDVAE", "load", "mutual_posterior_divergence", "PosteriorDivergence", "InputError", "RunError"}
    assert offered <= set(dir(mpdvae))
    from mpdvae.divergence import mutual_posterior_divergence
    from mpdvae.vae import VAE

    assert mpdvae.VAE is VAE
    assert mpdvae.mutual_posterior_divergence is mutual_posterior_divergence
    with pytest.raises(AttributeError, match="mpdvae attribute vaes"):
        _ = mpdvae.vaes


def test_documented_addresses_stay():
    from mpdvae.density import estimate
    from mpdvae.interop import from_official
    from mpdvae.measures import estimate_density
    from mpdvae.sharing import from_official as shared
    from mpdvae.sklearn import MPDVAE

    assert (estimate, from_official, MPDVAE) == (estimate_density, shared, mpdvae.MPDVAE)


def test_a_missing_dependency_is_named():
    """Not hidden behind "mpdvae has no attribute": the user must learn what to install."""
    code = """
import sys, mpdvae
sys.modules["pydantic"] = None
try:
    from mpdvae.experiments import experiment
except ModuleNotFoundError as error:
    print(error.name.split(".")[0])
"""
    assert run(code) == "pydantic"


ENTRY_POINTS = "mpdvae.parts"
"""A group of entry points, not a module."""
PROSE = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "docs").glob("*.md"), PACKAGE.parent / "README.md"]


def exists(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    known, rest = "mpdvae", name.split(".")[1:]
    while rest and f"{known}.{rest[0]}" in MODULES:
        known, rest = f"{known}.{rest[0]}", rest[1:]
    found: Any = import_module(known)
    for part in rest:
        found = getattr(found, part, None)
    return found is not None


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_names_in_the_prose_exist(path):
    """`mpdvae.package.module.name`, as docstrings, comments, messages and pages write it."""
    named = set(re.findall(r"`(mpdvae(?:\.[A-Za-z_]\w*)+)(?:\(\S*\))?`", path.read_text()))
    files = {name for name in named if re.search(r"\.(json|css|md|html|jsonl)$", name)}
    assert {name for name in named - files - {ENTRY_POINTS} if not exists(name)} == set()


PRINTS = {
    "mpdvae.system.untrusted_text",  # escapes what it prints
    "mpdvae.system.devices",
    "mpdvae.commands.cli",
    "mpdvae.commands.completion",
    "mpdvae.commands.explorer_page",
    "mpdvae.workflows.matrix",
}
"""Modules that call `print`: with text of their own, or with escaped text."""


def test_lines_are_printed_in_one_place():
    """`tell` escapes names of files, which may be chosen by strangers; `print` does not."""
    printing = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= PRINTS


FOLDER_NAMES = (
    "checkpoints",
    "model",
    "figures",
    "partial",
    "trackers",
    "manifest.json",
    "history.jsonl",
    "density.json",
)


def test_files_of_a_run_are_named_by_a_closed_folder():
    """`run.path / "density.json"` would be opened through a link; `run.folder / "density.json"` is not."""
    found = re.compile(rf"\.path / f?\"({'|'.join(map(re.escape, FOLDER_NAMES))})\"")
    named = {module: found.findall(path.read_text()) for module, path in MODULES.items()}
    assert {module: names for module, names in named.items() if names} == {}
    assert found.findall('read_json(run.path / "density.json")') == ["density.json"]
