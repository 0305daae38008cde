"""`python -m mpdvae`, which is how torchrun and accelerate start it."""

import sys

from mpdvae.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
