"""The check that a class of the application does not take names that its bases use for themselves."""

from __future__ import annotations

import dis
import inspect
import re
import types
from collections.abc import Iterator
from functools import cache

from ...errors import ConfigurationError

_PACKAGE = __name__.partition(".")[0]


def check_private_names(cls: type) -> None:
    """Raise ConfigurationError for a private name of the framework's bases that `cls` defines or sets on `self`.

    It would replace a part of the base, which then fails elsewhere. Names that begin with two underscores are
    Python's.
    """
    if _is_ours(cls):
        return
    ours = {name: base for base in reversed(cls.__mro__) if _is_ours(base) for name in _private_names(base)}
    for own in cls.__mro__:
        if own is object or _is_ours(own):
            continue
        for name in sorted(_private_names(own) & ours.keys()):
            raise ConfigurationError(
                f"{own.__name__} uses the name {name!r}, which {ours[name].__name__} uses for itself: choose another"
            )


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _PACKAGE


@cache
def _private_names(cls: type) -> frozenset[str]:
    """Return the private names that a class itself defines, and that its methods set on `self`."""
    names = {*cls.__dict__, *inspect.get_annotations(cls)}
    for value in cls.__dict__.values():
        for code in _codes(value):
            names.update(_names_set_on_self(code))
    return frozenset(filter(re.compile(r"_(?!_)(?!\w*?[A-Z]\w*__)").match, names))  # not those that Python mangles


def _codes(value: object) -> Iterator[types.CodeType]:
    functions = (value.fget, value.fset) if isinstance(value, property) else (value,)
    for function in functions:
        function = getattr(function, "__func__", function)  # of a class method
        if isinstance(function, types.FunctionType):
            yield function.__code__


def _names_set_on_self(code: types.CodeType) -> Iterator[str]:
    me, before = code.co_varnames[:1], None
    for step in dis.get_instructions(code):
        if step.opname == "STORE_ATTR" and before is not None and before.opname == "LOAD_FAST" and before.argval in me:
            yield str(step.argval)
        before = step
