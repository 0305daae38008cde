"""Models of the authors' released code, at the address that they were documented at: see `mpdvae.sharing.released_import`."""

from mpdvae.sharing.released_import import from_official

__all__ = ["from_official"]
