"""`guarded`: runs a command, and turns this package's errors into one line and an exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

import typer

from ..errors import ConfigurationError, DuologueError

_OF_OUTPUT = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO})


def guarded(command: Callable[[], int]) -> NoReturn:
    """Run a command and exit with the status that it returns, or with 2 after an error.

    An output that takes no more, such as a closed pipe or a full disk, is an error as well: 1 has a meaning of its own.
    A terminal that cannot show a character shows "?".
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors="replace")
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OF_OUTPUT:
            raise
        if isinstance(sys.stdout, TextIOWrapper):  # what is left in its buffer has no place to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            typer.secho(f"the output cannot be written: {error.strerror}", fg="red", err=True)
        raise typer.Exit(2) from error
    except DuologueError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(code)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a folder, and write files there in the block. Raises ConfigurationError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
