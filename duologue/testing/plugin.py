"""The pytest plugin: runs `async def` tests under virtual time.

pytest loads it wherever the package is installed, so it acts on request only: in a project whose pytest configuration
says `duologue_virtual_clock = true`, and elsewhere on async tests with one of its markers. It leaves tests of other
plugins alone (markers anyio, asyncio, trio; the anyio_backend fixture).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from ..errors import ConfigurationError, IllegalState

_MARKERS = (
    "virtual_clock(limit_s=7200): run this async test under virtual time, for at most limit_s virtual seconds.",
    "seeds(n): run this async test under virtual time for the seeds 0 to n-1, each with its own order of tasks.",
    "real_clock: run this async test in real time, on asyncio's own event loop.",
)
_OTHER_PLUGINS = ("anyio", "asyncio", "trio")


class Clock:
    """The `clock` fixture."""

    def time(self) -> float:
        """Return the seconds since the test began. Only inside an async test."""
        return asyncio.get_running_loop().time()


@pytest.fixture
def clock() -> Clock:
    """Return the clock of an async test: `clock.time()`."""
    return Clock()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "duologue_virtual_clock", "run every async test under Duologue's virtual clock", "bool", default=False
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getini("duologue_virtual_clock") and _asyncio_mode(config) == "auto":
        config.issue_config_time_warning(
            pytest.PytestWarning(
                "duologue_virtual_clock has no effect: pytest-asyncio, in its mode auto, takes all async tests and "
                "runs them in real time. Set asyncio_mode = strict."
            ),
            2,
        )


def _asyncio_mode(config: pytest.Config) -> str:
    """Return the mode of pytest-asyncio, "" without it."""
    try:
        return str(config.getoption("asyncio_mode", None) or config.getini("asyncio_mode"))
    except (KeyError, ValueError):
        return ""


def _is_ours(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
        return False
    if "anyio_backend" in item.fixturenames or any(map(item.get_closest_marker, _OTHER_PLUGINS)):
        return False
    marked = any(map(item.get_closest_marker, ("virtual_clock", "seeds", "real_clock")))
    return marked or bool(item.config.getini("duologue_virtual_clock"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not _is_ours(item):
        return
    assert isinstance(item, pytest.Function)
    for name in item.fixturenames:
        for fixture in item._fixtureinfo.name2fixturedefs.get(name, ())[-1:]:
            if inspect.iscoroutinefunction(fixture.func) or inspect.isasyncgenfunction(fixture.func):
                pytest.fail(
                    f"{item.name} asks for {name!r}, an async fixture. An async test under Duologue's plugin may use "
                    "sync fixtures only, because its event loop lives no longer than the test: make it an async "
                    "context manager and enter it in the test.",
                    pytrace=False,
                )


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not _is_ours(pyfuncitem):
        return None
    __tracebackhide__ = True
    import anyio

    from .clock import DEFAULT_LIMIT_S, run, sweep

    test = partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames})
    virtual = pyfuncitem.get_closest_marker("virtual_clock")
    limit_s = (
        _limit_s(*virtual.args, **virtual.kwargs) if virtual and (virtual.args or virtual.kwargs) else DEFAULT_LIMIT_S
    )
    if pyfuncitem.get_closest_marker("real_clock"):
        anyio.run(_without_leaks, test, 1e-3)
    elif seeds := pyfuncitem.get_closest_marker("seeds"):
        sweep(partial(_without_leaks, test, 1e-9), _seeds(*seeds.args, **seeds.kwargs), limit_s=limit_s)
    else:
        run(_without_leaks, test, 1e-9, limit_s=limit_s)
    return True


def _limit_s(*, limit_s: float) -> float:
    return limit_s


def _seeds(n: int) -> range:
    if n < 1:
        raise ConfigurationError(f"@pytest.mark.seeds({n}) would run nothing")
    return range(n)


async def _without_leaks(test: Callable[[], Awaitable[None]], settle_s: float) -> None:
    """Run a test, then fail if a callback raised meanwhile or if a task is left.

    The shortest sleep of virtual time ends when nothing else is ready: tasks that were about to end have ended then.
    """
    from .schedule import describe

    errors: list[Exception] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if isinstance(error := context.get("exception"), Exception):
            errors.append(error)

    asyncio.get_running_loop().set_exception_handler(note)
    await test()
    await asyncio.sleep(settle_s)
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        raise IllegalState("the test has ended, its tasks have not: " + "; ".join(sorted(map(describe, left))))
    if errors:
        raise ExceptionGroup("errors in callbacks and forgotten tasks", errors)
