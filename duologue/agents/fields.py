"""Checks of the definitions that people write by hand: each error names the field and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, TypeVar

from ..errors import ConfigurationError

T = TypeVar("T")


def named_fields(cls: type[T]) -> type[T]:
    """Let a dataclass raise ConfigurationError, with the mend, for wrong arguments of its constructor."""
    make: Callable[..., None] = cls.__init__
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    needed = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING]

    @wraps(make)
    def checked(self: Any, *values: Any, **named: Any) -> None:
        if values:
            first = next(iter(known))
            raise ConfigurationError(
                f"the fields of {cls.__name__} have names: {cls.__name__}({first}={brief(values[0])}, …)"
            )
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                mend = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
                raise ConfigurationError(f"{cls.__name__} has no field {name!r}: {mend}")
        if missing := [name for name in needed if name not in named]:
            raise ConfigurationError(f"{cls.__name__} needs {', '.join(missing)}")
        make(self, **named)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


def check_strings(owner: object, *names: str) -> None:
    """Raise ConfigurationError for a field that is not a text."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, str):
            continue
        mend = f": give its name, {value.name!r}" if isinstance(getattr(value, "name", None), str) else ""
        raise ConfigurationError(f"{type(owner).__name__}.{name} is {brief(value)}, not a text{mend}")


def check_several(owner: str, name: str, value: object, example: str) -> None:
    """Raise ConfigurationError for a single thing where several are meant: a text, a function, or another object."""
    if isinstance(value, str) or not hasattr(type(value), "__iter__"):
        raise ConfigurationError(f"{name} of {owner} is {brief(value)}: give several, {example}")


def brief(value: object) -> str:
    """Return the name of a thing, else its text, of at most 60 characters."""
    name = getattr(value, "__name__", "")
    text = name or repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
