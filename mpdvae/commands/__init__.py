"""The commands of `mpdvae`: each is a function whose signature is its usage, which tyro reads.

Nothing heavy is imported before a command needs it. `mpdvae.commands.cli` finds them and turns errors into exit codes.
"""
