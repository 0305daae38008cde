from .atomic_files import read_json, write_atomically, write_json
from .batch_sharding import divided, share_of
from .folder_lock import InUse, Owner, owned, owner_of
from .process_group import is_first, rank, usable_cores, world
from .signals import heeded
from .untrusted_files import parse_json, read_bytes
from .untrusted_text import code, escape, printable

__all__ = [
    "InUse",
    "Owner",
    "code",
    "divided",
    "escape",
    "heeded",
    "is_first",
    "owned",
    "owner_of",
    "parse_json",
    "printable",
    "rank",
    "read_bytes",
    "read_json",
    "share_of",
    "usable_cores",
    "world",
    "write_atomically",
    "write_json",
]
