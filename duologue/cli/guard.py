"""`guarded`: runs a command, and turns this package's errors into one line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn

import typer

from ..errors import DuologueError


def guarded(command: Callable[[], int]) -> NoReturn:
    """Run a command and exit with the status that it returns, or with 2 after an error.

    A terminal that cannot show a character shows "?".
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors="replace")
    try:
        code = command()
    except DuologueError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(code)
