"""The training loop, and what it needs beside it: the state of the learner, sums of the loss, evaluation points, and recovery
from non-finite steps.

There is one loop. What varies from run to run comes from the `Experiment`: terms and step rules are in `mpdvae.objectives`.
Every change here must keep the law of `tests/training`: an interrupted and resumed run ends with the same bytes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
