"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str], namespace: dict[str, Any]) -> tuple[list[str], Callable[[str], Any]]:
    """The names of a package and its `__getattr__`: `homes` maps each module below the package to its public names.

    A name is imported when it is first asked for, and kept in `namespace`, the package's own globals. The function
    raises AttributeError for an unknown name.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(f"{package}.{home}"), name)
        return value

    return sorted(home_of), get
