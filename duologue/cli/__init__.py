"""The `duologue` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. Exits with the extra to install if the libraries of the command line are missing."""
    try:
        import rich
        import typer
    except ImportError as error:
        sys.exit(f"the duologue command needs the extra 'cli' ({error.name} is missing): pip install 'duologue[cli]'")
    del rich, typer
    from .app import app

    app()
