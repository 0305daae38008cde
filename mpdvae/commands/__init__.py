"""The commands of `mpdvae`, and the explorer, a local web page.

Each command is a function; tyro builds its command line from the signature and the docstring. `cli.main` dispatches
commands and maps errors to exit codes. Heavy imports are deferred until a command needs them, so that `mpdvae --help` is
fast. Names of commands and options are a contract with users. Commands contain no logic that would be useful in a notebook:
such logic belongs in `mpdvae.workflows`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
