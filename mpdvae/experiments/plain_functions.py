"""Functions without a decorator, which `mpdvae.fit` takes as well: called like those under `@mpdvae.part`.

    model         (image_shape, latent_dim, *, options ...), or ()             -> mpdvae.VAE
    regulariser   (forward, step, *, options ...), or (forward, *, options ...) -> nats

A decorated regulariser is called once, with its options, and returns a term; a plain one is the term. Parameters after the
first ones are options in either case.

A plain function is a kind by its name. It is found again by that name in a file that `--parts` names, if it is one of the
file's own functions: a lambda, or a function within another, is known only to the process that has it.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mpdvae.errors import InputError
from mpdvae.experiments.fields import ImageShape

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def kind_named(name: str, role: str = "model") -> str:
    """Returns the kind that `mpdvae.fit` makes of a function of this name; that of a lambda is its role."""
    return name.strip("_").replace("_", "-").lower() if name.isidentifier() else role


def parameters_of(function: Callable[..., Any], kind: str) -> list[inspect.Parameter]:
    """Returns the parameters of a function, with types in place of their names. Raises `InputError` if they are unknown."""
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"{kind}: its parameters cannot be read ({error}).", topic="own-parts") from None


def of_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that makes a model as one of (image_shape, latent_dim), which one of nothing is not.

    Raises `InputError` for a function of anything else.
    """
    if takes(function, 2):
        return function
    if not takes(function, 0):
        raise InputError(
            f"vae: expected a function of (image_shape, latent_dim), or of nothing, got one of "
            f"{inspect.signature(function)}.",
            topic="own-parts",
        )

    def called(image_shape: ImageShape, latent_dim: int) -> Any:
        return function()

    return _called_like(function, called)


def of_options(term: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of the options of a term, which returns the term with these options as one of (forward, step).

    Raises `InputError` for a function that is no term.
    """
    name = getattr(term, "__name__", "term")
    parameters = parameters_of(term, name)
    if not parameters or parameters[0].kind not in POSITIONAL:
        raise InputError(
            f"objective: expected {name} to be a term, a function of (forward) or (forward, step) that returns nats, got one "
            f"of {inspect.signature(term)}; a function that returns a term needs @mpdvae.part('regulariser').",
            topic="own-parts",
        )
    stepped = len(parameters) > 1 and _is_step(parameters[1])
    options = sorted(map(_by_name, parameters[1 + stepped :]), key=lambda p: p.kind)

    def called(**given: Any) -> Callable[..., Any]:
        def with_options(forward: Any, step: int) -> Any:
            return term(forward, step, **given) if stepped else term(forward, **given)

        return with_options

    setattr(called, "__signature__", inspect.Signature(options))  # noqa: B010 - unknown to type checkers
    return _called_like(term, called)


def takes(function: Callable[..., Any], count: int) -> bool:
    """Returns whether a function can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def _is_step(parameter: inspect.Parameter) -> bool:
    """Returns whether the second parameter of a term is the step: it has that name, or has to be given."""
    return parameter.kind in POSITIONAL and (parameter.name == "step" or parameter.default is parameter.empty)


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    """Returns a parameter as one that is given by name, unless it cannot be."""
    either = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) if either else parameter


def _called_like(function: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `other` under the name of `function`, by which it is found again."""
    for about in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(other, about, getattr(function, about, getattr(other, about)))
    return other
