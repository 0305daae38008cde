"""The command line: `mpdvae COMMAND ...`. Dispatches commands and maps errors to messages and exit codes.

Exit codes: 0 success; 1 failure while running (the state is saved, and the message says how to resume); 2 invalid usage or
input.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import tyro
from pydantic import ValidationError

from mpdvae.commands.compare import compare
from mpdvae.commands.completion import Shell, print_completion
from mpdvae.commands.data import data
from mpdvae.commands.diagnose import diagnose
from mpdvae.commands.draw import reconstruct, sample, traverse
from mpdvae.commands.encode import encode
from mpdvae.commands.explain import explain
from mpdvae.commands.explore import explore
from mpdvae.commands.help_text import one_default_each
from mpdvae.commands.matrix import list_recipes, report, reproduce
from mpdvae.commands.models import list_models
from mpdvae.commands.option_names import unknown_option
from mpdvae.commands.own_parts import with_own_parts
from mpdvae.commands.repeat import rerun, verify
from mpdvae.commands.run import evaluate, import_official, resume, train
from mpdvae.commands.several import SHARED, how_to_go_on, processes_asked_for, run_in_processes
from mpdvae.commands.share import export
from mpdvae.commands.tune import tune
from mpdvae.commands.usage_errors import parsed
from mpdvae.errors import InputError, RunError, ToldToStop, refuse_unknown, said_by
from mpdvae.errors import in_words as refused_by_system
from mpdvae.experiments.experiment import in_words
from mpdvae.system import process_group
from mpdvae.system.signals import heeded
from mpdvae.system.untrusted_files import in_short
from mpdvae.version import __version__

HELP = """\
mpdvae {version}: variational autoencoders whose latent code stays informative

  mpdvae reproduce                          the paper on MNIST: train, measure, report (26 minutes)
  mpdvae train mae-mnist-minutes --out DIR  train one model
  mpdvae sample DIR --count 64 --out x.png  sample images from it, or from one of `mpdvae models`

commands
{commands}

mpdvae COMMAND --help lists the options of a command.
mpdvae --parts FILE.py COMMAND adds parts of your own; `mpdvae explain own-parts` says how.
"""


def completion(shell: tyro.conf.Positional[Shell]) -> None:
    """Print a shell script that completes commands and options.

    bash: mpdvae completion bash > ~/.local/share/bash-completion/completions/mpdvae

    zsh: mpdvae completion zsh > FOLDER/_mpdvae, for a FOLDER in $fpath

    fish: mpdvae completion fish > ~/.config/fish/completions/mpdvae.fish

    Args:
        shell: Shell that reads the script.
    """
    print_completion(shell, COMMANDS)


COMMANDS: dict[str, Callable[..., None]] = {
    "reproduce": reproduce,
    "recipes": list_recipes,
    "models": list_models,
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "diagnose": diagnose,
    "verify": verify,
    "rerun": rerun,
    "encode": encode,
    "sample": sample,
    "reconstruct": reconstruct,
    "traverse": traverse,
    "tune": tune,
    "explore": explore,
    "report": report,
    "compare": compare,
    "export": export,
    "data": data,
    "import-official": import_official,
    "explain": explain,
    "completion": completion,
}


OPTIONS = ("--help", "--version", "--parts")
"""Options that stand in place of a command, or before it."""
OTHERS_SECONDS = 5
"""Delay before a process other than the first reports an error: if all fail in the same way, it is ended before that."""
LOST_SECONDS = 10
"""Delay before a process reports a lost process: long enough for the parent process to report which one was lost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        arguments = with_own_parts(arguments)
        size = processes_asked_for(arguments)
        if size > 1 and not process_group.started_with_others():
            return run_in_processes(arguments, size)
        with heeded(), process_group.joined():
            return _dispatch(arguments)
    except (InputError, ValidationError) as error:
        _tell(in_words(error) if isinstance(error, ValidationError) else str(error), getattr(error, "topic", "options"))
        return 2
    except RunError as error:
        if not (isinstance(error, ToldToStop) and process_group.started_with_others()):  # the parent process reports it
            _tell(str(error), error.topic, by_any=True)
        return 1
    except process_group.LostProcess as error:
        time.sleep(LOST_SECONDS)
        _tell(f"{error}; {how_to_go_on(arguments)}.", "workers")
        return 1
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        words = refused_by_system(error)
        _tell(
            f"{words}; everything written before is intact, run the same command again to resume.",
            "disk",
            by_any=True,
        )
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _tell("out of memory; close other programs, or ask for less", "memory", by_any=True)
        return 1
    except KeyboardInterrupt:
        _tell("interrupted; finished work is saved, run the same command again to resume.")
        return 1


def _is_out_of_memory(error: Exception) -> bool:
    from mpdvae.measures.memory_budget import is_out_of_memory  # needs torch

    return is_out_of_memory(error)


def _tell(sentence: str, topic: str = "", by_any: bool = False) -> None:
    """Reports an error. Of several processes only the first reports, or any process if the error may concern it alone."""
    if not process_group.is_first():
        if not by_any:
            return
        time.sleep(OTHERS_SECONDS)
    more = f" {said_by(topic)}" if topic else ""
    stop = "" if sentence.endswith((".", "?", "!")) else "."
    print(f"mpdvae: {_shown(sentence)}{stop}{more}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        width = max(map(len, COMMANDS))
        commands = "\n".join(f"  {name:{width}}  {_summary(command)}" for name, command in COMMANDS.items())
        print(HELP.format(version=__version__, commands=commands), end="")
        return 0
    if arguments[0] in {"-V", "--version"}:
        print(__version__)
        return 0
    name, *rest = arguments
    if name.startswith("-"):
        unknown = unknown_option([name], OPTIONS) or f"expected a command, got {name!r}"
        raise InputError(
            f"{unknown}{'' if unknown.endswith('?') else ';'} `mpdvae --help` lists commands.", topic="options"
        )
    if name not in COMMANDS:
        refuse_unknown("command", name, list(COMMANDS), "`mpdvae --help` lists them all.")
    if process_group.world() > 1 and name not in SHARED:
        raise InputError(
            f"{name}: expected a single process, got {process_group.world()}; start this command only once."
        )
    command = COMMANDS[name]
    if command is train:
        train(rest)
    else:
        called = f"mpdvae {name}"
        prepared = one_default_each(_prepared(command))
        parsed(lambda: tyro.cli(prepared, args=rest, prog=called), called, rest, command)()
    return 0


def _prepared(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Returns a function with the options of `command` that returns the call instead of making it, so that only errors in
    the options are taken for such."""

    @wraps(command)
    def prepare(*arguments: Any, **options: Any) -> Callable[[], None]:
        return partial(command, *arguments, **options)

    return prepare


def _shown(text: str) -> str:
    """Returns `text` without terminal control sequences, keeping its line breaks: each failed job has a line."""
    return "\n".join(in_short(line, len(line)) if line else "" for line in text.split("\n"))


def _summary(command: Callable[..., None]) -> str:
    return (command.__doc__ or "").split("\n")[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
