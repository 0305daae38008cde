'''Parts that users write: encoders, decoders, priors, regularisers and models, chosen by name like those of the package.

    @mpdvae.part("decoder")
    def tiles(image_shape, latent_dim, *, width: int = 32):
        """Decoder of my own."""
        return mpdvae.models.IndependentDecoder(...)

In a file `my_parts.py`, this function becomes the kind `tiles`, and its keyword parameters become options:

    mpdvae --parts my_parts.py train mae-mnist-minutes --decoder.kind tiles --decoder.width 64 --out DIR

A kind is found if this process knows it: because the decorator ran, because the file is named by `--parts` or the environment
variable `MPDVAE_PARTS`, or because an installed package has an entry point of that name in the group `mpdvae.parts`
(https://packaging.python.org/en/latest/specifications/entry-points/).

A run folder or a model holds the kind's name, its options and where it was defined. No import path is ever taken from a file,
so a folder from a stranger cannot choose what is executed: a kind that is not known here can be reported on but not built.
Functions without a decorator, which `mpdvae.fit` takes too, are found by where they were defined, but only in files that were
named by `--parts` or MPDVAE_PARTS (`mpdvae.experiments.plain_functions`).
'''

import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from copyreg import pickle
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args

from pydantic import create_model
from pydantic.errors import PydanticUserError

from mpdvae.distributions.pixel_values import PixelValues
from mpdvae.errors import InputError
from mpdvae.experiments.decoder_config import DecoderConfig
from mpdvae.experiments.encoder_config import EncoderConfig
from mpdvae.experiments.fields import Codes, Config, Text
from mpdvae.experiments.own_part_configs import BASES, UNKNOWN, OwnPart
from mpdvae.experiments.plain_functions import kind_named, of_options, of_shapes, parameters_of
from mpdvae.experiments.prior_config import PriorConfig

Made = TypeVar("Made", bound=Callable[..., Any])
PATHS = "MPDVAE_PARTS"
"""Environment variable: files of parts, separated as in PATH. Processes that a command starts inherit it."""
GROUP = "mpdvae.parts"
POSITIONAL: Mapping[str, tuple[str, ...]] = {
    "encoder": ("image_shape", "latent_dim"),
    "decoder": ("image_shape", "latent_dim"),
    "model": ("image_shape", "latent_dim"),
    "prior": ("latent_shape",),
    "regulariser": (),
}
"""What a function is called with, by position, before its options."""
OF_MODEL = ("encoder", "decoder", "prior")
"""The roles that a whole model fills."""
OF_PACKAGE: Mapping[str, frozenset[str]] = {
    "encoder": frozenset(member.model_fields["kind"].default for member in get_args(EncoderConfig)),
    "decoder": frozenset(member.model_fields["kind"].default for member in get_args(DecoderConfig)),
    "prior": frozenset(member.model_fields["kind"].default for member in get_args(PriorConfig)),
    "regulariser": frozenset({"none", "reconstruction", "kl", "diversity", "smoothness", "mmd", "mpd", "total"}),
}
"""The kinds of each role that the package has; of regularisers, the names of columns that theirs would be taken for."""


@dataclass
class _Known:
    """What this process knows."""

    members: dict[tuple[str, str], type[OwnPart]] = field(default_factory=dict)
    """Configurations by role and kind."""
    read: set[str] = field(default_factory=set)
    """Files that were executed, and names of entry points that were loaded."""
    modules: dict[str, ModuleType] = field(default_factory=dict)
    """The modules that executing the files made, by the files' names."""


_KNOWN = _Known()


def part(
    role: str,
    *,
    name: str | None = None,
    codes: Codes | None = None,
    halvings: int = 0,
    pixel_values: PixelValues = "binary",
) -> Callable[[Made], Made]:
    """Makes a function a kind of encoder, decoder, prior, regulariser or model, under its name with hyphens.

    The function is called with the arguments that `POSITIONAL` lists for its role; its further parameters, which need type
    annotations, become options. It returns, in the terms of `mpdvae.vae`: a module (encoder, decoder, prior), an `mpdvae.VAE`
    (model), or a term of the objective (regulariser), see `mpdvae.objectives.terms`. Modules are built in float32 with the
    seed of the run; whatever is drawn within the function is therefore a function of the seed.

    Arguments:
        role: encoder, decoder, prior, regulariser, or model.
        name: another name than that of the function.
        codes: whether codes are vectors, or maps of the image's size; default: vectors, for a prior both.
        halvings: how many times maps are halved by an encoder, or doubled by a decoder, between image and code.
        pixel_values: values of the pixels that the decoder, or model, has a distribution of: binary, levels (256, unless
            data.levels says otherwise, in [-1, 1]), or intensities (in [0, 1]).

    Raises:
        InputError: for a role or a name that cannot be, and for parameters that cannot become options.
    """
    if role not in POSITIONAL:
        raise InputError(f"role: expected one of {', '.join(POSITIONAL)}, got {role!r}.", topic="own-parts")
    values = {"codes": codes, "halvings": halvings, "doublings": halvings, "pixel_values": pixel_values}

    def register(function: Made) -> Made:
        kind = name or function.__name__.strip("_").replace("_", "-")
        if not re.fullmatch(r"[a-z0-9][a-z0-9+-]{0,60}", kind):
            raise InputError(
                f"{kind!r}: expected a name of small letters, digits and hyphens; give @mpdvae.part(role, name=...).",
                topic="own-parts",
            )
        roles = OF_MODEL if role == "model" else (role,)
        if taken := [filled for filled in roles if kind in OF_PACKAGE[filled]]:
            raise InputError(
                f"{kind}: the package has {'an' if taken[0] == 'encoder' else 'a'} {taken[0]} of this name; give another "
                "with @mpdvae.part(role, name=...).",
                topic="own-parts",
            )
        options = _options(function, role, kind)
        for filled in roles:
            own = options if filled == role or filled == "encoder" else {}
            _KNOWN.members[filled, kind] = _member(filled, kind, function, own, values, role == "model")
        return function

    return register


def known(role: str) -> dict[str, type[OwnPart]]:
    """Returns the configurations of all own parts of this role that are known here, by kind. Executes the files that
    MPDVAE_PARTS names and loads all entry points. Raises `InputError` for those that fail."""
    _read_files()
    for entry in entry_points(group=GROUP):
        _load_entry(entry)
    return {kind: member for (of, kind), member in _KNOWN.members.items() if of == role}


def find(role: str, kind: str) -> type[OwnPart] | None:
    """Returns the configuration of this kind, or None if it is not known here. Executes files and loads entry points as
    `known` does, those of other names excepted."""
    if (role, kind) not in _KNOWN.members:
        _read_files()
        for entry in entry_points(group=GROUP, name=kind):
            _load_entry(entry)
    return _KNOWN.members.get((role, kind))


def regulariser_of(function: object) -> str | None:
    """Returns the kind of regulariser that a decorated function is; None if it is none."""
    kinds = (
        kind for (role, kind), member in _KNOWN.members.items() if role == "regulariser" and member.make is function
    )
    return next(kinds, None)


def kind_of(function: object) -> tuple[str, PixelValues] | None:
    """Returns the kind of model that a function is, and the values of the pixels that it models; None if it is none."""
    for (role, kind), member in _KNOWN.members.items():
        if role == "encoder" and member.whole and member.make is function:
            decoder = _KNOWN.members["decoder", kind]
            return kind, decoder.model_fields["pixel_values"].default
    return None


def read_file(path: Path) -> None:
    """Executes a Python file, once, so that its decorators make its functions kinds. Raises `InputError` if it fails."""
    key = str(path.resolve())
    if key in _KNOWN.read:
        return
    if not path.is_file():
        raise InputError(
            f"--parts: {path}: no such file; give a Python file that uses @mpdvae.part.", topic="own-parts"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--parts: {path}: expected a Python file, NAME.py.", topic="own-parts")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        _told(partial(spec.loader.exec_module, module), str(path), path)
    except InputError:
        sys.modules.pop(path.stem)
        if before is not None:
            sys.modules[path.stem] = before
        raise
    _KNOWN.read.add(key)
    _KNOWN.modules[path.stem] = module


def own_or_builtin(role: str) -> Callable[[Any, Callable[[Any], Any]], Any]:
    """Returns a validator that takes own parts of this role, and leaves everything else to the union of the package's.

    A part that was recorded (its `defined_in` tells) but is not known here is kept as it is, so that reports need no code."""

    def validate(value: Any, builtin: Callable[[Any], Any]) -> Any:
        if isinstance(value, OwnPart):
            value = value.model_dump()
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or kind in OF_PACKAGE[role]:
            return builtin(value)
        member = find(role, kind)
        if member is None and "defined_in" in value:
            member = _undecorated(role, kind, value["defined_in"]) or UNKNOWN[role]
        return builtin(value) if member is None else member.model_validate(value)

    return validate


def _undecorated(role: str, kind: str, defined_in: Any) -> type[OwnPart] | None:
    """Returns the configuration of a model or term that `mpdvae.fit` was given as a function without a decorator, if that
    function is one of a file that the user named; None if there is no such function."""
    module, _, name = str(defined_in).rpartition(".")
    function = vars(_KNOWN.modules[module]).get(name) if module in _KNOWN.modules else None
    if not inspect.isfunction(function) or function.__module__ != module or kind_named(name, role) != kind:
        return None
    if role == "regulariser":
        part(role, name=kind)(of_options(function))
    else:
        part("model", name=kind)(of_shapes(function))
    return _KNOWN.members.get((role, kind))


def check_model(*parts: Config) -> None:
    """Raises `ValueError` if one of encoder, decoder and prior is part of a whole model and the others are not."""
    wholes = {part.role: part for part in parts if isinstance(part, OwnPart) and part.whole}
    kinds = {part.kind for part in wholes.values()}
    if wholes and (len(kinds) > 1 or len(wholes) < len(parts)):
        raise ValueError(
            f"{next(iter(wholes))}: the kind {min(kinds)} is a whole model; choose it for encoder, decoder and prior alike"
        )


def _options(function: Callable[..., Any], role: str, kind: str) -> dict[str, Any]:
    """Returns the options of a function: names, with types and defaults as pydantic takes them."""
    parameters = parameters_of(function, kind)
    count = len(POSITIONAL[role])
    positional, rest = parameters[:count], parameters[count:]
    if len(positional) < count or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in positional):
        raise InputError(
            f"{kind}: expected a function of ({', '.join(POSITIONAL[role])}{', ' if count else ''}*, options ...), got "
            f"{inspect.signature(function)}.",
            topic="own-parts",
        )
    taken = set(OwnPart.model_fields) | set(BASES["encoder" if role == "model" else role].model_fields)
    for p in rest:
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL, p.POSITIONAL_ONLY) or p.annotation is p.empty or p.name in taken:
            raise InputError(
                f"{kind}: cannot make an option of its parameter {p}; options are named, have a type annotation, and are not "
                f"called {', '.join(sorted(taken))}.",
                topic="own-parts",
            )
    return {p.name: (p.annotation, ... if p.default is p.empty else p.default) for p in rest}


def _member(
    role: str, kind: str, function: Callable[..., Any], options: dict[str, Any], values: dict[str, Any], whole: bool
) -> type[OwnPart]:
    """Makes the configuration of a kind."""
    base = BASES[role]
    told = {name: value for name, value in values.items() if name in base.model_fields and value is not None}
    fixed = {name: (base.model_fields[name].annotation, value) for name, value in told.items()}
    make: Any = create_model  # its overloads know no computed types
    about = f"{_module_of(function)}.{getattr(function, '__qualname__', kind)}"
    try:
        member = make(
            kind,
            __base__=base,
            __doc__=inspect.getdoc(function) or base.__doc__,
            kind=(Literal[kind], kind),
            defined_in=(Text, about),
            **fixed,
            **options,
        )
    except (PydanticUserError, TypeError, ValueError) as error:
        raise InputError(f"{kind}: cannot make options of its parameters ({error}).", topic="own-parts") from None
    member.make, member.options, member.whole = staticmethod(function), tuple(options), whole
    pickle(member, _reduced)
    return member


def _module_of(function: Callable[..., Any]) -> str:
    """Returns the name of the module that defines a function; of a script, that of its file, as for those who import it."""
    module = function.__module__
    script = getattr(sys.modules.get("__main__"), "__file__", None) if module == "__main__" else None
    return Path(script).stem if script else str(module)


def _reduced(part: OwnPart) -> tuple[Any, ...]:
    """Pickles a part by role and kind: its class exists only where its function is known."""
    return _restored, (part.role, part.model_dump())


def _restored(role: str, fields: dict[str, Any]) -> OwnPart:
    return (find(role, fields["kind"]) or UNKNOWN[role]).model_validate(fields)


def _read_files() -> None:
    for path in os.environ.get(PATHS, "").split(os.pathsep):
        if path:
            read_file(Path(path).expanduser())


def _load_entry(entry: Any) -> None:
    if f"entry point {entry.name}" not in _KNOWN.read:
        _told(entry.load, f"the entry point {entry.name} = {entry.value}")
        _KNOWN.read.add(f"entry point {entry.name}")


def _told(execute: Callable[[], Any], what: str, path: Path | None = None) -> None:
    """Executes code of the user. Raises `InputError`, naming the last line of the file `path` that was reached, if it
    fails."""
    try:
        execute()
    except InputError:
        raise
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line_in(path, error)
        where = f", line {line}" if line else ""
        raise InputError(f"{what}{where}: {type(error).__name__}: {error}.", topic="own-parts") from error


def _line_in(path: Path | None, error: BaseException) -> int | None:
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if path and Path(frame.filename) == path]
    return lines[-1] if lines else None
