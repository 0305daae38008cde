"""The command line: `mpdvae COMMAND ...`. Finds the command and turns errors into sentences and exit codes.

0 done; 1 failed while running (state saved, the message says how to go on); 2 bad usage or bad input.
"""

import sys
from collections.abc import Callable, Sequence

import tyro
from pydantic import ValidationError

from mpdvae.commands.data import data
from mpdvae.commands.diagnose import diagnose
from mpdvae.commands.draw import reconstruct, sample, traverse
from mpdvae.commands.explore import explore
from mpdvae.commands.matrix import list_recipes, report, reproduce
from mpdvae.commands.run import evaluate, import_official, resume, train
from mpdvae.errors import InputError, RunError, refuse_unknown
from mpdvae.experiment import in_words
from mpdvae.version import __version__

HELP = """\
mpdvae {version}: variational autoencoders whose latent code stays informative

  mpdvae reproduce                          the paper on MNIST: train, measure, report (15 minutes)
  mpdvae train mae-mnist-minutes --out DIR  train one model
  mpdvae sample DIR --count 64 --out x.png  images drawn from it

commands
{commands}

mpdvae COMMAND --help tells the options of a command.
"""


COMMANDS: dict[str, Callable[..., None]] = {
    "reproduce": reproduce,
    "recipes": list_recipes,
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "diagnose": diagnose,
    "sample": sample,
    "reconstruct": reconstruct,
    "traverse": traverse,
    "explore": explore,
    "report": report,
    "data": data,
    "import-official": import_official,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except (InputError, ValidationError) as error:
        print(f"mpdvae: {in_words(error) if isinstance(error, ValidationError) else error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"mpdvae: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = (error.strerror or str(error)).lower()
        print(f"mpdvae: {where}{reason}; what was written before is whole, the same command goes on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nmpdvae: interrupted; what is done is saved, and the same command goes on where it stopped.",
            file=sys.stderr,
        )
        return 1


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
    if name not in COMMANDS:
        refuse_unknown("command", name, list(COMMANDS), "`mpdvae --help` lists them all.")
    command = COMMANDS[name]
    if command is train:
        train(rest)
    else:
        tyro.cli(command, args=rest, prog=f"mpdvae {name}")
    return 0


def _summary(command: Callable[..., None]) -> str:
    return (command.__doc__ or "").split("\n")[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
