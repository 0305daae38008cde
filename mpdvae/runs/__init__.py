"""The run folder: what is in it, how it is read and written, and whom a run reports to.

For anyone who reads results or adds a file to a run. The names and formats are documented in docs/reference.md and are read
by later versions; `records` checks every file that is read.
"""
