"""`open_store`: the store at an address."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigurationError
from .redis import RedisStore
from .sqlite import SqliteStore
from .store import FolderStore, Store


def open_store(where: str | os.PathLike[str]) -> Store:
    """Return the store at an address: a folder, `sqlite:///calls.db`, or `redis://host:6379/0`.

    `sqlite:///` goes before the path of a file, which begins with a slash of its own if it is absolute. Also takes
    `rediss://` and `unix://`, as redis-py does. Raises ConfigurationError for another address, and MissingExtra.
    """
    text: Any = os.fspath(where)
    if not isinstance(text, str) or not text:
        raise ConfigurationError(f"a store is a folder or an address, not {where!r}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FolderStore(text)
    if scheme in ("redis", "rediss", "unix"):
        return RedisStore(text)
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        return SqliteStore(rest[1:])
    if scheme == "sqlite":
        raise ConfigurationError(f"{text!r} is not the address of a file: sqlite:///calls.db")
    raise ConfigurationError(f"no store has addresses of {scheme!r}: a folder, sqlite:///FILE or redis://HOST")
