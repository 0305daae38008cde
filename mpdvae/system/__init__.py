"""What a run asks of the machine, and nothing of the field: files that appear whole or not at all, a folder's lock, signals,
the processes of one run, and input that cannot be trusted.

For anyone who writes a file, starts a process or reads what came from outside: use these, not the standard library, because
the promises of docs/reliability.md are kept here. The format of `owner.json` (`folder_lock`) is shared between versions and
machines; everything else may be changed freely.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
