"""Builds an experiment from command line options: any field by its dotted name, validated as a whole.

tyro reads fields, defaults and help from the configuration's types. By default it would validate each group when it is
created, and print pydantic's message in a frame of its own. Here tyro only collects the values; the experiment is validated
afterwards, in one place, so that an error message names the full field: `objective.diversity_weight`. Kinds of parts are
selected beforehand (`mpdvae.commands.kind_options`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import tyro
from pydantic import ValidationError
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from mpdvae.commands.help_text import ALL, IN_PYTHON, asked_for_all, is_common, joined, one_default_each
from mpdvae.commands.kind_options import kinds_beside
from mpdvae.commands.usage_errors import parsed
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Config, Experiment, in_words
from mpdvae.experiments.own_part_configs import DECLARED, OwnPart
from mpdvae.runs.trackers import Name

Options = TypeVar("Options")
Track = tyro.conf.UseAppendAction[tuple[Name, ...]]
"""Type of `--track`, which can be given several times."""


def parse(collect: Callable[..., Options], arguments: Sequence[str], command: str, description: str) -> Options:
    """Returns the result of `collect` for the options in `arguments`. Configurations in it are not validated yet.

    Exits with code 0 after printing help: of the common options, or with `--help-all` of all. Raises `InputError` for an
    option that is unknown, missing or of the wrong type.
    """
    arguments, every_option = asked_for_all(arguments)
    short = not every_option and bool({"-h", "--help"} & set(arguments))
    if short:
        description = f"{description}\n\nThese are the common options; {ALL} shows all."

    def read() -> Options:
        with _unvalidated(short):
            return tyro.cli(
                one_default_each(collect),
                args=arguments,
                prog=command,
                config=(tyro.conf.AvoidSubcommands,),
                description=description,
            )

    return parsed(read, command, arguments, collect)


def validated(experiment: Experiment) -> Experiment:
    """Validates the experiment built by `parse`. Raises `InputError`, naming the option, if it is invalid."""
    try:
        return Experiment.model_validate(experiment.model_dump(warnings=False))
    except ValidationError as error:
        raise InputError(_of_option(in_words(error), experiment), topic="options") from None


def _of_option(sentence: str, experiment: Experiment) -> str:
    """Returns a sentence about a field as one about its option; groups of fields have none."""
    field, colon, rest = sentence.partition(": ")
    value: Any = experiment
    for name in field.split("."):
        value = getattr(value, name, None)
    is_option = bool(colon) and value is not None and not isinstance(value, Config)
    return f"--{field.replace('_', '-')}: {rest}" if is_option else sentence


def _unvalidated(short: bool) -> ConstructorRegistry:
    """Returns a registry that makes tyro create configurations without validating them; for a `short` help, with uncommon
    fields hidden."""
    registry, types = ConstructorRegistry(), set()

    @registry.struct_rule
    def make_unvalidated(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type in types or not (isinstance(info.type, type) and issubclass(info.type, Config)):
            return None
        types.add(info.type)  # tyro's own rule handles this type in the call below
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            types.discard(info.type)
        if not isinstance(spec, StructConstructorSpec):
            return None
        kinds = kinds_beside(info.type)

        def typed(field: StructFieldSpec) -> StructFieldSpec:
            field = replace(field, helptext=_in_paragraphs(field.helptext))
            required = field.default is tyro.MISSING
            if short and not required and not is_common(info.type, field.name):
                return replace(field, type=Annotated[field.type, tyro.conf.Suppress])
            if field.name in IN_PYTHON.get(info.type, ()):
                return replace(field, type=Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress])
            if kinds and field.name == "kind":
                return replace(field, type=Literal[kinds])
            own = isinstance(field.default, OwnPart)
            return replace(field, type=type(field.default)) if own else field  # no member of the union

        offered = [field for field in spec.fields if not (issubclass(info.type, OwnPart) and field.name in DECLARED)]
        return replace(spec, instantiate=_maker(info.type), fields=tuple(map(typed, offered)))

    return registry


def _in_paragraphs(help_text: str | Callable[[], str | None] | None) -> Callable[[], str]:
    """Returns a description, which tyro may read later, without line breaks of its own."""
    return lambda: joined((help_text() if callable(help_text) else help_text) or "")


def _maker(config: type[Config]) -> Callable[..., Config]:
    def make(**fields: Any) -> Config:
        return config.model_construct(**fields)

    make.__doc__ = joined(config.__doc__ or "")  # shown in the help
    return make
