"""Configuration: everything a run depends on, as frozen pydantic models, and the experiments that have a name.

`Experiment` is written to `experiment.json` and read back by later versions: add fields with a default that keeps the old
behaviour, and never change what a value means. The options of the command line are made from these models.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
