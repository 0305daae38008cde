"""The run folder: the files of a run, how they are read and written, and where a run reports its progress.

For anyone who reads results or adds a file to a run. `run_folder` documents the files, which later versions must keep
reading; `records` checks every file that is read.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
