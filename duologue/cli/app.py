"""The commands: demo, talk, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DuologueError

app = typer.Typer(
    help="Real-time voice agents: pipelines of typed frames.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.callback()
def _root() -> None:
    """Real-time voice agents: pipelines of typed frames."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for the recording, the conversation and the latencies.")] = Path(
        "demo"
    ),
    virtual: Annotated[bool, typer.Option(help="Run on a virtual clock: as fast as it can be computed.")] = False,
) -> None:
    """A spoken call with two agents, a tool, a hand-off and a barge-in. No key, no network."""
    from .demo import run_demo

    _guarded(lambda: run_demo(out, virtual=virtual))


@app.command()
def talk(
    input_device: Annotated[str, typer.Option(help="Microphone: a name or a number; see `duologue doctor`.")] = "",
    output_device: Annotated[str, typer.Option(help="Loudspeaker: a name or a number.")] = "",
) -> None:
    """Talk to the demo's agents with your microphone."""
    from .talk import run_talk

    _guarded(lambda: run_talk(input_device, output_device))


@app.command()
def doctor() -> None:
    """What is installed, which keys are set, and what is missing."""
    from .doctor import run_doctor

    raise typer.Exit(run_doctor())


def _guarded(command: object) -> None:
    assert callable(command)
    try:
        code = command()
    except DuologueError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(code)
