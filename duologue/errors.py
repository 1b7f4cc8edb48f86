"""Typed errors. Each message names the input at fault; nothing that can be ignored is raised."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.util import find_spec
from typing import Any


class DuologueError(Exception):
    """Base of every error that this package raises. Error policies decide by its `category`."""

    category = "internal"


class BadInput(DuologueError, ValueError):
    """Data from outside (a frame, a file, a grammar, a schema) is malformed. The message names it."""

    category = "bad_input"


class ConfigurationError(DuologueError, ValueError):
    """A setting cannot be applied: unknown voice, two agents of one name, a processor used twice."""

    category = "configuration"


class MissingExtra(DuologueError, ImportError):
    """An optional dependency is not installed. The message names the extra that brings it."""

    category = "configuration"

    def __init__(self, what: str, extra: str, cause: str = "") -> None:
        detail = f" ({cause})" if cause else ""
        super().__init__(f"{what} is not available{detail}: pip install 'duologue[{extra}]'")
        self.extra = extra


CONTAINED = (Exception, SystemExit)
"""What code of the application may raise in a call: `sys.exit()` in one call must not end the program of all calls."""


def contained(error: Exception | SystemExit) -> Exception:
    """Return the error itself, or for SystemExit an error that says that the program goes on."""
    if isinstance(error, Exception):
        return error
    made = DuologueError(f"SystemExit({error.code!r}) does not end the program: session.end() ends the call")
    made.__cause__ = error
    return made


def check_installed(extra: str, *modules: str) -> None:
    """Raise MissingExtra, naming the `extra`, for the first of these modules that is not installed. Loads none."""
    for module in modules:
        try:
            found = find_spec(module)
        except ModuleNotFoundError:  # not even its package
            found = None
        if found is None:
            raise MissingExtra(module, extra)


class IncompatiblePackage(ConfigurationError):
    """An installed package lacks a part that Duologue uses. The message names the part, the version and the extra."""

    def __init__(self, distribution: str, missing: str, extra: str) -> None:
        from importlib.metadata import version as installed  # slow to import

        version = installed(distribution)
        super().__init__(f"{distribution} {version} has no {missing}: pip install 'duologue[{extra}]'")
        self.distribution, self.version, self.missing = distribution, version, missing


class BudgetUsedUp(DuologueError):
    """A call has cost as much as it may: see `Session(budget_usd=…)`. It ends the call."""

    category = "budget"


class ServiceError(DuologueError):
    """A service (speech-to-text, language model, text-to-speech, engine) failed.

    `retry_after_s` is the time in seconds after which the vendor takes the request again, None if it is not known: a
    model's answer is asked for once more then.
    """

    category = "service"

    def __init__(self, *args: object, retry_after_s: float | None = None) -> None:
        super().__init__(*args)
        self.retry_after_s = retry_after_s


class ToolError(DuologueError):
    """A tool was called wrongly or failed."""

    category = "tool"


class DeadlineExceeded(DuologueError, TimeoutError):
    """A phase or a call took longer than its limit. The message names both."""

    category = "timeout"


class IllegalState(DuologueError, RuntimeError):
    """An operation does not fit the state of its object. The message names both."""

    category = "internal"


def error_text(error: BaseException) -> str:
    """Return the text of an error; the name of its type if it has none, or cannot tell it."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def without_credentials(text: str) -> str:
    """Return a text without the user names, passwords and queries of the addresses in it."""
    return re.sub(r"""(?<=//)[^\s'"]*@|\?[^\s'"]*=[^\s'"]*""", "", text)


def public_address(url: str) -> str:
    """Return an address without its credentials and its query. "" if it has no scheme: anything in it may be secret."""
    return without_credentials(url) if "//" in url else ""


def check_limits(limits: Any) -> None:
    """Raise ConfigurationError, naming the field, if a field of a dataclass of limits is not positive."""
    for field in fields(limits):
        if not getattr(limits, field.name) > 0:
            raise ConfigurationError(f"{field.name} is {getattr(limits, field.name)!r}: a limit must be positive")


def check_range(settings: object, **bounds: tuple[float, float]) -> None:
    """Raise ConfigurationError, naming the field, if a field is not a number within its bounds, both included.

    `check_range(self, stall_s=(1, 300))` checks `self.stall_s`. NaN is outside all bounds.
    """
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if not (isinstance(value, int | float) and low <= value <= high):
            raise ConfigurationError(f"{name} is {value!r}: it lies between {low} and {high}")
