"""What can be measured of any VAE: its likelihood, the information in its code, collapse, and how well the code represents
classes.

Functions of a model and of images; they know no configuration and no run folder, so they serve models made elsewhere. Each
result has named fields with their units. A change of a number here is a change of results: say so in the changelog.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
