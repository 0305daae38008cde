"""From command line options to an experiment: any field, under its dotted name, validated as a whole.

tyro reads fields, defaults and help from the configuration's types and would validate each group where it is made, with
pydantic's message in its own frame. Here it only collects what was given; the experiment is validated afterwards, in one
place, so that the sentence about a wrong value names the whole field: `objective.diversity_weight`. Kinds of parts are chosen
before (`mpdvae.commands.kind_options`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import tyro
from pydantic import ValidationError
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from mpdvae.commands.kind_options import kinds_beside
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Config, Experiment, in_words
from mpdvae.runs.trackers import Name

Options = TypeVar("Options")
Track = tyro.conf.UseAppendAction[tuple[Name, ...]]
"""Of `--track`, which can be given several times."""


def parse(collect: Callable[..., Options], arguments: Sequence[str], command: str, description: str) -> Options:
    """What `collect` returns for the options in `arguments`. Configurations among them are not validated yet.

    Exits with 0 after printing help, with 2 after saying which option is unknown, missing or of the wrong type.
    """
    with _unvalidated():
        return tyro.cli(
            collect,
            args=arguments,
            prog=command,
            config=(tyro.conf.AvoidSubcommands,),
            description=description,
        )


def validated(experiment: Experiment) -> Experiment:
    """The experiment that `parse` put together. Raises `InputError`, naming the field, where it is not a valid one."""
    try:
        return Experiment.model_validate(experiment.model_dump(warnings=False))
    except ValidationError as error:
        raise InputError(in_words(error), topic="options") from None


def _unvalidated() -> ConstructorRegistry:
    """Inside, tyro makes configurations without validating them."""
    registry, types = ConstructorRegistry(), set()

    @registry.struct_rule
    def make_unvalidated(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type in types or not (isinstance(info.type, type) and issubclass(info.type, Config)):
            return None
        types.add(info.type)  # tyro's own rule answers the same question below
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            types.discard(info.type)
        if not isinstance(spec, StructConstructorSpec):
            return None
        kinds = kinds_beside(info.type)
        fields = tuple(
            replace(field, type=Literal[kinds]) if kinds and field.name == "kind" else field for field in spec.fields
        )
        return replace(spec, instantiate=_maker(info.type), fields=fields)

    return registry


def _maker(config: type[Config]) -> Callable[..., Config]:
    def make(**fields: Any) -> Config:
        return config.model_construct(**fields)

    make.__doc__ = config.__doc__  # which the help shows
    return make
