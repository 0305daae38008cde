"""The version of the package, in one place."""

__version__ = "0.1.0"
"""Major, minor and patch; CHANGELOG.md says what each version changed."""
