"""The commands of `mpdvae`: each is a function whose signature and docstring are its usage, read by tyro; and the explorer,
a local web page.

`cli.main` finds the command and turns errors into exit codes. Nothing heavy is imported before a command needs it, so that
`mpdvae --help` is quick. Names of commands and options are a contract with users; a command holds no logic that a notebook
might want, which belongs in `mpdvae.workflows`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
