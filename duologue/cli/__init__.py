"""The `duologue` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. Exits with the extra to install if the libraries of the command line are missing.

    `doctor` needs none of them.
    """
    try:
        import rich
        import typer
    except ImportError as error:
        if sys.argv[1:2] == ["doctor"]:
            from .doctor import run_doctor

            targets = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
            sys.exit(run_doctor(*targets[:1], as_json="--json" in sys.argv))
        sys.exit(f"the duologue command needs the extra 'cli' ({error.name} is missing): pip install 'duologue[cli]'")
    del rich, typer
    from .app import app

    app()
