"""A page of the reference for each package, written before Sphinx reads the pages: what it offers, by defining module.

The public names are those of `__init__.pyi` (or of `__init__.py`, where there is no stub). Each is described once, on the
page of its own package, or on that of the package above if it offers it alone; other pages link to it.
"""

import ast
import inspect
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

ROOT = "mpdvae"


@dataclass(frozen=True)
class Name:
    """A public name: where it is defined, and what it is."""

    module: str
    name: str
    value: Any

    @property
    def address(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def directive(self) -> str:
        if inspect.isclass(self.value):
            return f".. autoclass:: {self.address}\n   :members:\n"
        if inspect.isroutine(self.value):
            return f".. autofunction:: {self.address}\n"
        return f".. autodata:: {self.address}\n   :no-value:\n"


def packages() -> list[str]:
    """Returns the packages that offer names, the deepest first, the root last."""
    root = import_module(ROOT)
    found = [info.name for info in pkgutil.walk_packages(root.__path__, f"{ROOT}.") if info.ispkg]
    return [*sorted(found, key=lambda name: (-name.count("."), name)), ROOT]


def origins(package: ModuleType) -> dict[str, str]:
    """Returns the module from which a package imports each of its names, as its stub or its source says."""
    source = Path(str(package.__file__))
    stub = source.with_suffix(".pyi")
    imports = [
        node
        for node in ast.parse((stub if stub.exists() else source).read_text()).body
        if isinstance(node, ast.ImportFrom)
    ]
    modules = {
        node: ".".join(filter(None, [package.__name__ if node.level else None, node.module])) for node in imports
    }
    return {alias.asname or alias.name: modules[node] for node in imports for alias in node.names}


def public_names(package: str) -> dict[str, Name]:
    """Returns what a package offers, by name; a class or function with the module that defines it, however it came here."""
    offering = import_module(package)
    imported_from = origins(offering)
    return {
        name: _name(name, getattr(offering, name), imported_from.get(name, package))
        for name in sorted(offering.__all__)
    }


def _name(name: str, value: Any, module: str) -> Name:
    if inspect.isclass(value) or inspect.isroutine(value):
        return Name(value.__module__, value.__name__, value)
    return Name(module, name, value)


def _is_module_of(package: str, value: Any) -> bool:
    """Whether a name stands for a module of the package, but not for another package, which has its own page."""
    return isinstance(value, ModuleType) and value.__name__.startswith(f"{package}.") and not hasattr(value, "__path__")


def _members(module: ModuleType) -> list[Name]:
    """The classes and functions that a module defines."""
    values = [value for name, value in vars(module).items() if not name.startswith("_")]
    names = [_name("", value, "") for value in values if inspect.isclass(value) or inspect.isroutine(value)]
    return [name for name in names if name.module == module.__name__]


def page(package: str, described: set[str]) -> str:
    """Returns the page of a package; `described` are the addresses of names on other pages, to which it adds its own."""
    names = public_names(package)
    offered = {public: name for public, name in names.items() if not isinstance(name.value, ModuleType)}
    modules = [name.value for name in names.values() if _is_module_of(package, name.value)]
    by_module: dict[str, list[Name]] = {module.__name__: [] for module in modules}
    for name in [*offered.values(), *(member for module in modules for member in _members(module))]:
        if name.address not in described and f"{name.module}.".startswith(f"{package}."):
            by_module.setdefault(name.module, []).append(name)
            described.add(name.address)
    return "\n".join(
        [
            f"{package}\n{'=' * len(package)}\n",
            _head(package),
            ".. currentmodule:: None\n",
            ".. autosummary::\n   :nosignatures:\n",
            *(f"   ~{name.address}" for name in offered.values()),
            "",
            *(
                f"``{public}`` is another name of :py:obj:`~{name.address}`.\n"
                for public, name in offered.items()
                if public != name.name
            ),
            *(_section(module, members, package) for module, members in sorted(by_module.items())),
        ]
    )


def _section(module: str, members: list[Name], package: str) -> str:
    heading = module.removeprefix(f"{package}.")
    head = "" if module == package else f"{heading}\n{'-' * len(heading)}\n\n{_head(module)}"
    return "\n".join([head, *(name.directive for name in members)])


def _head(module: str) -> str:
    return f".. automodule:: {module}\n   :no-members:\n"


def write(folder: Path) -> None:
    """Writes the pages of all packages, and touches none that would not change, so that Sphinx reads it once."""
    folder.mkdir(exist_ok=True)
    described: set[str] = set()
    pages = {folder / f"{package}.rst": page(package, described) for package in packages()}
    for stale in set(folder.glob("*.rst")) - set(pages):
        stale.unlink()
    for path, content in pages.items():
        if not path.exists() or path.read_text() != content:
            path.write_text(content)


def _of_others(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out methods that a library puts into our classes, as scikit-learn does with `set_fit_request`."""
    return True if inspect.isroutine(obj) and not f"{obj.__module__}.".startswith(f"{ROOT}.") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx; ahead of autosummary, which reads the pages at the default priority."""
    app.connect("autodoc-skip-member", _of_others)
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference"), priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
